/*
 * The text of what was learned of the upstream: written and read.
 *
 * Pure but for memory.  Numbers with a fraction are in millionths, written with
 * six digits behind the point and read without the help of a locale.
 */
#include "policy/learned.h"

#include "base/clock.h"
#include "base/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAGIC "sesrelayd-learned 1"
#define MILLION 1000000u
#define FRACTION_DIGITS 6

/* What nothing can have taught. */
#define RATE_MAX 1e6
#define MESSAGES_MAX 1000000
#define AGE_MAX_US (86400 * US_PER_S)
/* Below IPv4's smallest datagram less headers, and beyond the largest. */
#define MSS_MIN 88
#define MSS_MAX 65495

static bool rate_ok(double rate)
{
	return rate > 0 && rate <= RATE_MAX && rate * MILLION >= 1;
}

static bool age_ok(int64_t us)
{
	return us > 0 && us <= AGE_MAX_US;
}

/* A name as it stands in the file: one line of visible characters. */
static char *visible(const char *name)
{
	char *text = xstrdup(name != NULL ? name : "");

	for (char *p = text; *p != '\0'; p++)
		if ((unsigned char)*p <= ' ' || *p == 0x7f)
			*p = '?';
	return text;
}

char *learned_format(
    const struct learned *l, const char *endpoint, const char *username)
{
	char *host = visible(endpoint), *user = visible(username);
	char *text = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&text, &len);

	if (f == NULL)
		fatal("out of memory");
	fprintf(f, MAGIC "\nendpoint %s\nusername %s\n", host, user);
	if (rate_ok(l->rate)) {
		uint64_t rate = (uint64_t)(l->rate * MILLION);

		fprintf(f, "rate %llu.%06llu\n",
		    (unsigned long long)(rate / MILLION),
		    (unsigned long long)(rate % MILLION));
	}
	if (l->session_messages > 0 && l->session_messages <= MESSAGES_MAX)
		fprintf(f, "session-messages %u\n", l->session_messages);
	if (age_ok(l->session_age_us))
		fprintf(f, "session-age %lld.%06lld\n",
		    (long long)(l->session_age_us / US_PER_S),
		    (long long)(l->session_age_us % US_PER_S));
	if (l->mss >= MSS_MIN && l->mss <= MSS_MAX)
		fprintf(f, "mss %d\n", l->mss);
	if (fclose(f) != 0)
		fatal("out of memory");
	free(host);
	free(user);
	return text;
}

/* "12", "12.5": millionths; at most six digits behind the point. */
static int parse_millionths(struct slice value, uint64_t *out)
{
	bool point = memchr(value.ptr, '.', value.len) != NULL;
	struct slice fraction = value;
	struct slice whole = slice_split(&fraction, '.');
	uint64_t n, part = 0;

	if (slice_parse_u64(whole, &n) < 0 || n > UINT32_MAX)
		return -1;
	if (point &&
	    (fraction.len > FRACTION_DIGITS ||
		slice_parse_u64(fraction, &part) < 0))
		return -1;
	for (size_t i = fraction.len; point && i < FRACTION_DIGITS; i++)
		part *= 10;
	*out = n * MILLION + part;
	return 0;
}

/* A line behind the first three; false: the text is not to be trusted. */
static bool take_line(struct slice key, struct slice value, struct learned *l)
{
	uint64_t n;

	if (slice_eq_str(key, "rate")) {
		if (parse_millionths(value, &n) < 0)
			return false;
		l->rate = (double)n / MILLION;
		return rate_ok(l->rate);
	}
	if (slice_eq_str(key, "session-messages")) {
		if (slice_parse_u64(value, &n) < 0 || n == 0 ||
		    n > MESSAGES_MAX)
			return false;
		l->session_messages = (unsigned)n;
		return true;
	}
	if (slice_eq_str(key, "session-age")) {
		if (parse_millionths(value, &n) < 0)
			return false;
		l->session_age_us = (int64_t)n;
		return age_ok(l->session_age_us);
	}
	if (slice_eq_str(key, "mss")) {
		if (slice_parse_u64(value, &n) < 0 || n < MSS_MIN ||
		    n > MSS_MAX)
			return false;
		l->mss = (int)n;
	}
	return true; /* a key that we don't know */
}

/* The next line without its end; false: there is none that is whole. */
static bool next_line(struct slice *rest, struct slice *line)
{
	if (rest->len == 0 || memchr(rest->ptr, '\n', rest->len) == NULL)
		return false;
	*line = slice_split(rest, '\n');
	return true;
}

static bool is_named(struct slice line, const char *key, const char *name)
{
	char *text = visible(name);
	struct slice word = slice_split(&line, ' ');
	bool same = slice_eq_str(word, key) && slice_eq_str(line, text);

	free(text);
	return same;
}

bool learned_parse(struct slice text, const char *endpoint,
    const char *username, struct learned *l)
{
	struct slice line, key;

	*l = (struct learned){ 0 };
	if (text.len > LEARNED_TEXT_MAX)
		return false;
	if (!next_line(&text, &line) || !slice_eq_str(line, MAGIC) ||
	    !next_line(&text, &line) || !is_named(line, "endpoint", endpoint) ||
	    !next_line(&text, &line) || !is_named(line, "username", username))
		return false;
	while (next_line(&text, &line)) {
		key = slice_split(&line, ' ');
		if (key.len == 0 || line.len == 0 || !take_line(key, line, l))
			goto refuse;
	}
	if (text.len == 0)
		return true;
refuse:
	*l = (struct learned){ 0 };
	return false;
}

bool learned_differs(const struct learned *a, const struct learned *b)
{
	double less = a->rate < b->rate ? a->rate : b->rate;
	double more = a->rate < b->rate ? b->rate : a->rate;

	return more > less * 1.1 ||
	    a->session_messages != b->session_messages ||
	    a->session_age_us != b->session_age_us || a->mss != b->mss;
}
