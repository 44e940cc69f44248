/*
 * Small parts of the spool's text: buffers, sums, escapes, times.
 *
 * Pure; any thread.
 */
#include "queue/record.h"

#include "base/clock.h"
#include "base/mem.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

void record_buf_fini(struct record_buf *b)
{
	free(b->data);
	*b = (struct record_buf){ 0 };
}

char *record_buf_reserve(struct record_buf *b, size_t more)
{
	size_t size = b->size;

	while (size - b->len < more)
		size = size > 0 ? 2 * size : 1024;
	if (size != b->size) {
		b->data = xrealloc(b->data, size);
		b->size = size;
	}
	return b->data + b->len;
}

void record_buf_append(struct record_buf *b, const void *data, size_t len)
{
	if (len == 0)
		return;
	memcpy(record_buf_reserve(b, len), data, len);
	b->len += len;
}

uint64_t record_sum(const void *data, size_t len)
{
	return XXH3_64bits(len > 0 ? data : "", len);
}

/* XXH3's state is large and wants 64-byte alignment: its own allocator. */
struct record_summer {
	XXH3_state_t *state;
};

struct record_summer *record_sum_new(void)
{
	struct record_summer *s = xmalloc(sizeof(*s));

	s->state = XXH3_createState();
	ASSERT(s->state != NULL);
	XXH3_64bits_reset(s->state);
	return s;
}

void record_sum_update(struct record_summer *s, const void *data, size_t len)
{
	if (len > 0)
		XXH3_64bits_update(s->state, data, len);
}

uint64_t record_sum_value(const struct record_summer *s)
{
	return XXH3_64bits_digest(s->state);
}

void record_sum_free(struct record_summer *s)
{
	if (s == NULL)
		return;
	XXH3_freeState(s->state);
	free(s);
}

static bool is_control(unsigned char c)
{
	return c < 0x20 || c == 0x7f;
}

/* `also`: further bytes that are escaped. */
static void escape(
    struct record_buf *out, struct slice in, size_t max, const char *also)
{
	static const char digits[] = "0123456789abcdef";
	size_t n = max > 0 && in.len > max ? max : in.len;
	char *p = record_buf_reserve(out, 4 * n + 1), *start = p;

	for (size_t i = 0; i < n; i++) {
		unsigned char c = (unsigned char)in.ptr[i];

		if (is_control(c) || strchr(also, c) != NULL) {
			*p++ = '\\';
			*p++ = 'x';
			*p++ = digits[c >> 4];
			*p++ = digits[c & 15];
		} else {
			*p++ = (char)c;
		}
	}
	out->len += (size_t)(p - start);
}

void record_escape(struct record_buf *out, struct slice in, size_t max)
{
	escape(out, in, max, "\\");
}

void record_escape_word(struct record_buf *out, struct slice in, size_t max)
{
	escape(out, in, max, "\\ <>");
}

char *record_unescape(struct slice in)
{
	char *text = xmalloc(in.len + 1), *p = text;

	for (size_t i = 0; i < in.len; i++) {
		unsigned char c = (unsigned char)in.ptr[i];
		uint64_t value = c;

		if (c == '\\') {
			if (in.len - i < 4 || in.ptr[i + 1] != 'x' ||
			    slice_parse_hex(
				slice_of(in.ptr + i + 2, 2), &value) < 0 ||
			    value == 0)
				goto bad;
			i += 3;
		} else if (is_control(c)) {
			goto bad;
		}
		*p++ = (char)value;
	}
	*p = '\0';
	return text;
bad:
	free(text);
	return NULL;
}

/* Bounds of what four digits of a year can say. */
#define TIME_MIN INT64_C(-62135596800000000) /* year 1 */
#define TIME_MAX INT64_C(253402300799999999) /* year 9999 */

void record_encode_time(int64_t time_us, char buf[RECORD_TIME_LEN + 1])
{
	char text[64];

	if (time_us < TIME_MIN)
		time_us = TIME_MIN;
	if (time_us > TIME_MAX)
		time_us = TIME_MAX;
	clock_format_rfc3339(time_us, text, sizeof(text));
	ASSERT(strlen(text) == RECORD_TIME_LEN);
	memcpy(buf, text, RECORD_TIME_LEN + 1);
}

/* Days from 1970-01-01 in the proleptic Gregorian calendar. */
static int64_t days_of(int64_t year, int64_t month, int64_t day)
{
	/* Years that begin in March put the leap day at their end. */
	int64_t y = year - (month <= 2);
	int64_t day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;

	return 365 * y + y / 4 - y / 100 + y / 400 + day_of_year - 719468;
}

int record_decode_time(struct slice text, int64_t *time_us)
{
	/* Places of year, month, day, hour, minute, second, microsecond. */
	static const struct {
		unsigned char at, len;
	} fields[7] = { { 0, 4 }, { 5, 2 }, { 8, 2 }, { 11, 2 }, { 14, 2 },
		{ 17, 2 }, { 20, 6 } };
	char again[RECORD_TIME_LEN + 1];
	uint64_t v[7];

	if (text.len != RECORD_TIME_LEN)
		return -1;
	for (int i = 0; i < 7; i++)
		if (slice_parse_u64(
			slice_of(text.ptr + fields[i].at, fields[i].len),
			&v[i]) < 0)
			return -1;
	*time_us =
	    (days_of((int64_t)v[0], (int64_t)v[1], (int64_t)v[2]) * 86400 +
		(int64_t)(v[3] * 3600 + v[4] * 60 + v[5])) *
		US_PER_S +
	    (int64_t)v[6];
	/* Separators and ranges are right if it comes out the same. */
	record_encode_time(*time_us, again);
	return memcmp(again, text.ptr, RECORD_TIME_LEN) == 0 ? 0 : -1;
}
