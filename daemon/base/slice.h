/*
 * A run of bytes that somebody else owns.  Protocol parsers cut their input
 * into slices instead of copying it; a slice is valid as long as the buffer
 * that it was cut from.  Not terminated by NUL; may hold any byte.
 */
#ifndef BASE_SLICE_H
#define BASE_SLICE_H

#include "base/base.h"

#include <string.h>

struct slice {
	const char *ptr;
	size_t len;
};

static inline struct slice slice_of(const char *ptr, size_t len)
{
	return (struct slice){ ptr, len };
}

/* Of a literal, as an initializer. */
#define SLICE_INIT(s)                                                          \
	{                                                                      \
		(s), sizeof(s) - 1                                             \
	}

/* Of a C string; inline, for the length of a literal is known. */
static inline struct slice slice_str(const char *s)
{
	return slice_of(s, strlen(s));
}

bool slice_eq(struct slice a, struct slice b);
bool slice_eq_str(struct slice a, const char *s);
/* ASCII case folding; the locale has no say in a protocol. */
bool slice_caseeq_bytes(const char *a, const char *b, size_t len);
/* Inline, for headers are full of names that are not the one looked for, and
 * most differ in length or in their first letter. */
static inline bool slice_caseeq(struct slice a, struct slice b)
{
	return a.len == b.len &&
	    (a.len == 0 || ((a.ptr[0] ^ b.ptr[0]) & ~0x20) == 0) &&
	    slice_caseeq_bytes(a.ptr, b.ptr, a.len);
}

static inline bool slice_caseeq_str(struct slice a, const char *s)
{
	return slice_caseeq(a, slice_str(s));
}

bool slice_has_prefix(struct slice a, const char *prefix);
bool slice_has_suffix(struct slice a, const char *suffix);
bool slice_has_caseprefix(struct slice a, const char *prefix);
/* Case-insensitive search for a C string; false if absent. */
bool slice_casecontains(struct slice a, const char *needle);
/* Without leading and trailing spaces and tabs. */
struct slice slice_trim(struct slice a);
/*
 * Cut *rest at the first `sep`: returns what stood before it and leaves what
 * follows in *rest.  Without a `sep`, all of it is returned and *rest is empty.
 */
struct slice slice_split(struct slice *rest, char sep);
/* Next run of non-blanks (space, tab); empty when there is none left. */
struct slice slice_word(struct slice *rest);
/* Decimal digits only, nothing else, no overflow; else -1. */
MUST_CHECK int slice_parse_u64(struct slice a, uint64_t *value);
/* 16 hexadecimal digits and the like: 1 to 16 of them; else -1. */
MUST_CHECK int slice_parse_hex(struct slice a, uint64_t *value);
/* A terminated copy; free(3). */
char *slice_dup(struct slice a);
/* Copies at most size - 1 bytes and terminates; returns the bytes copied. */
size_t slice_copy(struct slice a, char *buf, size_t size);

#endif
