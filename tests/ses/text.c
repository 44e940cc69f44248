/*
 * Byte buffers, clocks, escapes, base64 and random names for the emulator.
 *
 * Owns nothing but a pseudo-random state seeded once from OpenSSL: ids have
 * to be distinct and to look right, they are no secret. Running out of
 * memory ends the program, since a judge that goes on with half its evidence
 * is worse than none. Everything runs on the one loop thread.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "text.h"

#include <errno.h>

#include <openssl/rand.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

void complain(const char *fmt, ...)
{
	va_list ap;

	fprintf(stderr, "%s: ", program_invocation_short_name);
	va_start(ap, fmt);
	(void)vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
}

static void out_of_memory(void)
{
	complain("out of memory");
	abort();
}

void *xcalloc(size_t n, size_t size)
{
	void *p = calloc(n, size);

	if (p == NULL)
		out_of_memory();
	return p;
}

char *xstrndup(const char *s, size_t n)
{
	char *p = strndup(s, n);

	if (p == NULL)
		out_of_memory();
	return p;
}

char *xstrdup(const char *s)
{
	return xstrndup(s, strlen(s));
}

void buf_reserve(struct buf *b, size_t more)
{
	size_t cap = b->cap > 0 ? b->cap : 256;
	char *data;

	if (b->len + more <= b->cap)
		return;
	while (cap < b->len + more)
		cap *= 2;
	data = realloc(b->data, cap);
	if (data == NULL)
		out_of_memory();
	b->data = data;
	b->cap = cap;
}

void buf_add(struct buf *b, const void *bytes, size_t n)
{
	if (n == 0)
		return;
	buf_reserve(b, n);
	memcpy(b->data + b->len, bytes, n);
	b->len += n;
}

void buf_adds(struct buf *b, const char *s)
{
	buf_add(b, s, strlen(s));
}

void buf_addf(struct buf *b, const char *fmt, ...)
{
	va_list ap;
	int n;

	buf_reserve(b, 128);
	va_start(ap, fmt);
	n = vsnprintf(b->data + b->len, b->cap - b->len, fmt, ap);
	va_end(ap);
	if (n < 0)
		return;
	if ((size_t)n >= b->cap - b->len) {
		buf_reserve(b, (size_t)n + 1);
		va_start(ap, fmt);
		(void)vsnprintf(b->data + b->len, b->cap - b->len, fmt, ap);
		va_end(ap);
	}
	b->len += (size_t)n;
}

void buf_add_json(struct buf *b, const char *s, size_t n)
{
	size_t from = 0;

	buf_reserve(b, n + 2);
	buf_add(b, "\"", 1);
	for (size_t i = 0; i < n; i++) {
		unsigned char c = (unsigned char)s[i];

		if (c >= 0x20 && c < 0x7f && c != '"' && c != '\\')
			continue;
		buf_add(b, s + from, i - from);
		from = i + 1;
		if (c == '"' || c == '\\')
			buf_addf(b, "\\%c", c);
		else
			buf_addf(b, "\\u%04x", c);
	}
	buf_add(b, s + from, n - from);
	buf_add(b, "\"", 1);
}

void buf_free(struct buf *b)
{
	free(b->data);
	b->data = NULL;
	b->len = 0;
	b->cap = 0;
}

uint64_t clock_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

double clock_wall(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

bool text_unescape(const char *src, size_t n, bool crlf, struct buf *out)
{
	static const char from[] = "rt0\\\"", to[] = "\r\t\0\\\"";

	for (size_t i = 0; i < n; i++) {
		const char *known;
		char c = src[i];

		if (c != '\\') {
			buf_add(out, &c, 1);
			continue;
		}
		if (++i == n)
			return false;
		if (src[i] == 'x') {
			int hi = i + 1 < n ? hex_digit(src[i + 1]) : -1;
			int lo = i + 2 < n ? hex_digit(src[i + 2]) : -1;

			if (hi < 0 || lo < 0)
				return false;
			c = (char)(hi * 16 + lo);
			i += 2;
		} else if (src[i] == 'n') {
			if (crlf)
				buf_add(out, "\r", 1);
			c = '\n';
		} else {
			known = memchr(from, src[i], sizeof(from) - 1);
			if (known == NULL)
				return false;
			c = to[known - from];
		}
		buf_add(out, &c, 1);
	}
	return true;
}

static int base64_digit(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	if (c == '+')
		return 62;
	return c == '/' ? 63 : -1;
}

long base64_decode(const char *src, size_t n, char *out, size_t cap)
{
	uint32_t acc = 0;
	size_t len = 0, pad = 0;

	if (n % 4 != 0 || n / 4 * 3 + 1 > cap)
		return -1;
	while (pad < 2 && pad < n && src[n - 1 - pad] == '=')
		pad++;
	for (size_t i = 0; i < n; i++) {
		int d = i < n - pad ? base64_digit(src[i]) : 0;

		if (d < 0)
			return -1;
		acc = acc << 6 | (uint32_t)d;
		if (i % 4 == 3) {
			out[len++] = (char)(acc >> 16 & 0xff);
			out[len++] = (char)(acc >> 8 & 0xff);
			out[len++] = (char)(acc & 0xff);
			acc = 0;
		}
	}
	len -= pad;
	out[len] = '\0';
	return (long)len;
}

/* xorshift64*; see the head comment for why this is enough. */
static uint64_t random_u64(void)
{
	static uint64_t state;

	while (state == 0) {
		if (RAND_bytes((unsigned char *)&state, sizeof(state)) != 1)
			state = clock_us() | 1;
	}
	state ^= state >> 12;
	state ^= state << 25;
	state ^= state >> 27;
	return state * 0x2545f4914f6cdd1dULL;
}

void text_random(char *out, size_t n, bool upper)
{
	static const char set[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
				  "abcdefghijklmnopqrstuvwxyz";

	for (size_t i = 0; i < n; i++)
		out[i] = set[random_u64() % (upper ? 36 : 62)];
	out[n] = '\0';
}

void text_message_id(char *out, size_t cap)
{
	uint64_t ms = (uint64_t)(clock_wall() * 1000.0);
	uint64_t a = random_u64(), b = random_u64();

	(void)snprintf(out, cap,
	    "0100%012llx-%08x-%04x-4%03x-%04x-%012llx-"
	    "000000",
	    (unsigned long long)(ms & 0xffffffffffffULL), (unsigned)(a >> 32),
	    (unsigned)(a >> 16 & 0xffff), (unsigned)(a & 0xfff),
	    (unsigned)(b >> 48 & 0x3fff) | 0x8000,
	    (unsigned long long)(b & 0xffffffffffffULL));
}

bool text_prefix(const char *s, const char *prefix)
{
	return strncasecmp(s, prefix, strlen(prefix)) == 0;
}

unsigned long text_random_upto(unsigned long n)
{
	return (unsigned long)(random_u64() % ((uint64_t)n + 1));
}

bool text_listed(const char *list, const char *word)
{
	for (const char *p = list; *p != '\0'; p += strspn(p, ", ")) {
		size_t n = strcspn(p, ", ");

		if (n > 0 && strlen(word) == n && strncasecmp(p, word, n) == 0)
			return true;
		p += n;
	}
	return false;
}
