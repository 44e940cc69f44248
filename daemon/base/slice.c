/*
 * Looking at and cutting bytes that somebody else owns.
 *
 * Pure; any thread.  A slice of length 0 may have any pointer, NULL included,
 * so no pointer is handed to libc before the length is known to be positive.
 */
#include "base/slice.h"

#include "base/mem.h"

#include <string.h>

static char lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

static bool blank(char c)
{
	return c == ' ' || c == '\t';
}

bool slice_caseeq_bytes(const char *a, const char *b, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (lower(a[i]) != lower(b[i]))
			return false;
	return true;
}

static struct slice after(struct slice a, size_t n)
{
	return slice_of(n ? a.ptr + n : a.ptr, a.len - n);
}

bool slice_eq(struct slice a, struct slice b)
{
	return a.len == b.len &&
	    (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}

bool slice_eq_str(struct slice a, const char *s)
{
	return slice_eq(a, slice_str(s));
}

bool slice_has_prefix(struct slice a, const char *prefix)
{
	size_t len = strlen(prefix);

	return a.len >= len && slice_eq_str(slice_of(a.ptr, len), prefix);
}

bool slice_has_suffix(struct slice a, const char *suffix)
{
	size_t len = strlen(suffix);

	return a.len >= len &&
	    slice_eq_str(slice_of(a.ptr + a.len - len, len), suffix);
}

bool slice_has_caseprefix(struct slice a, const char *prefix)
{
	size_t len = strlen(prefix);

	return a.len >= len && slice_caseeq_bytes(a.ptr, prefix, len);
}

bool slice_casecontains(struct slice a, const char *needle)
{
	size_t len = strlen(needle);

	if (len == 0)
		return true;
	for (size_t i = 0; i + len <= a.len; i++)
		if (slice_caseeq_bytes(a.ptr + i, needle, len))
			return true;
	return false;
}

struct slice slice_trim(struct slice a)
{
	size_t lead = 0;

	while (lead < a.len && blank(a.ptr[lead]))
		lead++;
	a = after(a, lead);
	while (a.len > 0 && blank(a.ptr[a.len - 1]))
		a.len--;
	return a;
}

struct slice slice_split(struct slice *rest, char sep)
{
	struct slice head = *rest;

	for (size_t i = 0; i < rest->len; i++) {
		if (rest->ptr[i] != sep)
			continue;
		head.len = i;
		*rest = after(*rest, i + 1);
		return head;
	}
	*rest = after(*rest, rest->len);
	return head;
}

struct slice slice_word(struct slice *rest)
{
	struct slice word;
	size_t n = 0;

	while (n < rest->len && blank(rest->ptr[n]))
		n++;
	word = after(*rest, n);
	n = 0;
	while (n < word.len && !blank(word.ptr[n]))
		n++;
	*rest = after(word, n);
	word.len = n;
	return word;
}

int slice_parse_u64(struct slice a, uint64_t *value)
{
	uint64_t sum = 0;

	if (a.len == 0)
		return -1;
	for (size_t i = 0; i < a.len; i++) {
		if (a.ptr[i] < '0' || a.ptr[i] > '9')
			return -1;
		if (__builtin_mul_overflow(sum, 10, &sum) ||
		    __builtin_add_overflow(sum, a.ptr[i] - '0', &sum))
			return -1;
	}
	*value = sum;
	return 0;
}

static int hex_digit(char c)
{
	c = lower(c);
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return -1;
}

int slice_parse_hex(struct slice a, uint64_t *value)
{
	uint64_t sum = 0;

	if (a.len == 0 || a.len > 16)
		return -1;
	for (size_t i = 0; i < a.len; i++) {
		int digit = hex_digit(a.ptr[i]);

		if (digit < 0)
			return -1;
		sum = sum << 4 | (uint64_t)digit;
	}
	*value = sum;
	return 0;
}

char *slice_dup(struct slice a)
{
	char *copy = xmalloc(a.len + 1);

	slice_copy(a, copy, a.len + 1);
	return copy;
}

size_t slice_copy(struct slice a, char *buf, size_t size)
{
	ASSERT(size > 0);
	if (a.len > size - 1)
		a.len = size - 1;
	if (a.len > 0)
		memcpy(buf, a.ptr, a.len);
	buf[a.len] = '\0';
	return a.len;
}
