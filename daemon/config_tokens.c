/*
 * What has to be done to numbers and strings before libconfig sees them, on the
 * text that config_source.c put together.
 *
 * Integers are looked at because libconfig 1.5 truncates them silently:
 * 5000000000 would arrive as 705032704.  It drops \x00 from strings as
 * silently.
 *
 * A password in the file is taken out of the text and kept with its key: the
 * scanner, the tree and the string buffers of libconfig are freed as they are.
 * One with a backslash, or in several pieces, is left to libconfig, which alone
 * knows what that means.
 */
#include "config_private.h"

#include "base/mem.h"
#include "base/slice.h"

#include <stdlib.h>
#include <string.h>

#define MAX_GROUPS 8 /* inside each other; we have two */

/* Over the numbers and strings of the text, and the keys that they are for. */
struct walk {
	const char *next;
	struct slice names[MAX_GROUPS];
	unsigned depth;
	unsigned line; /* of the token */
	struct slice token; /* a string with its quotes */
	char name[128]; /* of the key; see key_of() */
};

/* The key that is being set: "smtp.max_sessions". */
static void join(
    char *buf, size_t size, const struct slice *names, unsigned depth)
{
	size_t len = 0;

	buf[0] = '\0';
	for (unsigned i = 0; i <= depth; i++) {
		if (len > 0 && len < size - 1)
			buf[len++] = '.';
		len += slice_copy(names[i], buf + len, size - len);
	}
}

/* Position of the key in the table, or -1; w->name has its name anyway. */
static int key_of(struct walk *w)
{
	join(w->name, sizeof(w->name), w->names, w->depth);
	return config_find_key(w->name);
}

static bool is_number(char c)
{
	return (c >= '0' && c <= '9') || c == '-' || c == '+' || c == '.';
}

/* The next number or string; false: there is none. */
static bool walk_on(struct walk *w)
{
	static const char name_chars[] = "abcdefghijklmnopqrstuvwxyz"
					 "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
					 "0123456789-_*";

	/* Strings may have several lines, which count behind them. */
	for (size_t i = 0; i < w->token.len; i++)
		w->line += w->token.ptr[i] == '\n';
	for (const char *p = w->next; *p; p = w->next) {
		size_t run = strspn(p, name_chars);

		if (is_number(*p))
			run = 1 + strspn(p + 1, "0123456789+-.xXabcdefABCDEFL");
		w->next =
		    is_number(*p) || run > 0 ? p + run : config_source_skip(p);
		w->token = slice_of(p, (size_t)(w->next - p));
		if (is_number(*p) || *p == '"')
			return true;
		if (run > 0) {
			w->names[w->depth] = w->token;
			continue;
		}
		if (*p == '{' && ++w->depth == MAX_GROUPS)
			return false; /* far from anything that we know */
		if (*p == '{')
			w->names[w->depth] = slice_of(p, 0);
		if (*p == '}' && w->depth > 0)
			w->depth--;
		for (size_t i = 0; i < w->token.len; i++)
			w->line += p[i] == '\n';
	}
	return false;
}

/* Would libconfig 1.5 truncate this token?  Sets *bits to what it has. */
static bool truncated(struct slice token, int *bits)
{
	bool negative = token.ptr[0] == '-';
	uint64_t value, max;
	bool hex;

	if (negative || token.ptr[0] == '+')
		token = slice_of(token.ptr + 1, token.len - 1);
	*bits = 32;
	for (int i = 0; i < 2 && token.len > 0; i++) {
		if (token.ptr[token.len - 1] != 'L')
			break;
		token.len--;
		*bits = 64;
	}
	hex = slice_has_caseprefix(token, "0x");
	if (hex)
		token = slice_of(token.ptr + 2, token.len - 2);
	if (token.len == 0)
		return false;
	for (size_t i = 0; i < token.len; i++)
		if (!strchr(hex ? "0123456789abcdefABCDEF" : "0123456789",
			token.ptr[i]))
			return false; /* a float, or a mistake */
	max = *bits == 32 ? INT32_MAX : INT64_MAX;
	if ((hex ? slice_parse_hex : slice_parse_u64)(token, &value) < 0)
		return true;
	return value > max + negative;
}

static bool has_unit(int key)
{
	enum config_type type;

	if (key < 0)
		return false;
	type = config_keys[key].type;
	return type == CONFIG_SIZE || type == CONFIG_DURATION ||
	    type == CONFIG_DURATIONS;
}

static void report_number(struct config_reader *r, struct walk *w, int bits)
{
	int key = key_of(w);

	config_error(r, w->line, "'%s': %.*s does not fit into %d bits%s",
	    w->name, (int)w->token.len, w->token.ptr, bits,
	    has_unit(key)
		? "; write it with its unit, such as \"5G\" or \"90d\""
		: "");
	if (key >= 0)
		r->spots[key].bad = true;
}

/* Is there a \x00 in the string, outside of an escaped backslash? */
static bool has_nul(struct slice token)
{
	for (size_t i = 0; i + 3 < token.len; i++) {
		if (token.ptr[i] != '\\')
			continue;
		if (memcmp(token.ptr + i + 1, "x00", 3) == 0)
			return true;
		i++;
	}
	return false;
}

static void report_nul(struct config_reader *r, struct walk *w)
{
	int key = key_of(w);

	config_error(r, w->line,
	    "'%s': \\x00 cannot be part of a string; write \\\\ for a "
	    "backslash",
	    w->name);
	if (key >= 0)
		r->spots[key].bad = true;
}

void config_source_check_tokens(struct config_reader *r)
{
	struct walk w = { .next = r->source.text, .line = 1 };
	int bits;

	while (walk_on(&w)) {
		if (w.token.ptr[0] == '"') {
			if (has_nul(w.token))
				report_nul(r, &w);
		} else if (truncated(w.token, &bits)) {
			report_number(r, &w, bits);
		}
	}
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* One piece, without anything that has to be interpreted. */
static bool is_plain(const struct walk *w, const char *text)
{
	const char *before = w->token.ptr, *behind = w->next;

	while (before > text && is_blank(before[-1]))
		before--;
	while (is_blank(*behind))
		behind++;
	return before > text && (before[-1] == '=' || before[-1] == ':') &&
	    !strchr("\"/#", *behind) &&
	    !memchr(w->token.ptr, '\\', w->token.len);
}

void config_source_hide_secrets(struct config_reader *r)
{
	struct walk w = { .next = r->source.text, .line = 1 };

	while (walk_on(&w)) {
		size_t len = w.token.len - 2; /* quotes */
		int key = w.token.ptr[0] == '"' ? key_of(&w) : -1;
		char *inside;

		if (key < 0 || !(config_keys[key].flags & CONFIG_SECRET) ||
		    !is_plain(&w, r->source.text))
			continue;
		inside = r->source.text + (w.token.ptr + 1 - r->source.text);
		/* Set twice is a mistake, and no less a secret. */
		if (!r->spots[key].hidden)
			r->spots[key].hidden = xstrndup(inside, len);
		for (size_t i = 0; i < len; i++)
			if (inside[i] != '\n')
				inside[i] = '*';
	}
}
