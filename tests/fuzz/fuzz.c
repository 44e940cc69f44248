/*
 * Helpers of the fuzz targets: eating the input, gathering output, cutting
 * streams.  Nothing here is under test; it is kept simpler than what is.
 */
#include "fuzz.h"

#include "base/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void fuzz_broken(const char *property, const char *file, int line)
{
	fprintf(stderr, "%s:%d: does not hold: %s\n", file, line, property);
	abort();
}

uint8_t fuzz_byte(struct fuzz_in *in)
{
	if (in->len == 0)
		return 0;
	in->len--;
	return *in->ptr++;
}

struct slice fuzz_bytes(struct fuzz_in *in, size_t n)
{
	struct slice out;

	if (n > in->len)
		n = in->len;
	out = slice_of((const char *)in->ptr, n);
	if (n > 0)
		in->ptr += n;
	in->len -= n;
	return out;
}

struct slice fuzz_until(struct fuzz_in *in, char end)
{
	const uint8_t *hit = in->len > 0 ? memchr(in->ptr, end, in->len) : NULL;
	struct slice out =
	    fuzz_bytes(in, hit != NULL ? (size_t)(hit - in->ptr) : in->len);

	if (hit != NULL)
		(void)fuzz_byte(in);
	return out;
}

char *fuzz_string(struct fuzz_in *in, char end)
{
	struct slice text = fuzz_until(in, end);

	return xstrndup(text.len > 0 ? text.ptr : "", text.len);
}

void fuzz_text_add(struct fuzz_text *t, const char *ptr, size_t len)
{
	if (t->len + len + 1 > t->size) {
		t->size = 2 * (t->len + len + 1);
		t->ptr = xrealloc(t->ptr, t->size);
	}
	if (len > 0)
		memcpy(t->ptr + t->len, ptr, len);
	t->len += len;
	t->ptr[t->len] = '\0';
}

void fuzz_text_add_str(struct fuzz_text *t, const char *s)
{
	fuzz_text_add(t, s, strlen(s));
}

void fuzz_text_emit(void *text, const char *ptr, size_t len)
{
	fuzz_text_add(text, ptr, len);
}

bool fuzz_text_same(const struct fuzz_text *a, const struct fuzz_text *b)
{
	return a->len == b->len &&
	    (a->len == 0 || memcmp(a->ptr, b->ptr, a->len) == 0);
}

void fuzz_text_fini(struct fuzz_text *t)
{
	free(t->ptr);
	*t = (struct fuzz_text){ 0 };
}

struct fuzz_cuts fuzz_cuts(uint8_t seed)
{
	return (struct fuzz_cuts){ seed, seed * 2654435761u + 1 };
}

size_t fuzz_cut(struct fuzz_cuts *cuts, size_t left)
{
	size_t n;

	if (cuts->seed <= 1)
		return cuts->seed == 0 ? left : 1;
	cuts->state = cuts->state * 1664525u + 1013904223u;
	/* Some seeds cut finely, others coarsely. */
	n = 1 + (cuts->state >> 16) % (2u << cuts->seed % 8);
	return n < left ? n : left;
}

void fuzz_feed(struct slice text, uint8_t seed,
    bool (*fn)(void *ctx, const char *ptr, size_t len), void *ctx)
{
	struct fuzz_cuts cuts = fuzz_cuts(seed);
	bool more = true;

	for (size_t at = 0, n; more && at < text.len; at += n) {
		char *piece;

		n = fuzz_cut(&cuts, text.len - at);
		piece = xmemdup(text.ptr + at, n);
		more = fn(ctx, piece, n);
		free(piece);
	}
}

bool fuzz_is_canonical(const char *ptr, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (ptr[i] == '\0' || ptr[i] == '\n')
			return false;
		if (ptr[i] == '\r' && (++i == len || ptr[i] != '\n'))
			return false;
	}
	return true;
}

bool fuzz_is_printable(const char *ptr, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (ptr[i] < ' ' || ptr[i] > '~')
			return false;
	return true;
}
