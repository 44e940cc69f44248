/*
 * What is to be done with a header field, by its name, and the rewriting of
 * its addresses.
 *
 * Pure; owns nothing.  Only the addresses that change are made anew: names,
 * comments, folding and blanks around them are copied byte for byte.
 */
#include "smtp/rewrite_private.h"

#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

static const struct rewrite_field_kind kinds[] = {
	/* name, has_addresses, is_sender, is_sent, drop_empty */
	{ SLICE_INIT("From"), true, true, true, true },
	{ SLICE_INIT("Sender"), true, true, true, true },
	{ SLICE_INIT("Return-Path"), true, true, true, true },
	{ SLICE_INIT("Reply-To"), true, false, true, true },
	{ SLICE_INIT("To"), true, false, true, true },
	{ SLICE_INIT("Cc"), true, false, true, true },
	{ SLICE_INIT("Resent-From"), true, false, false, false },
	{ SLICE_INIT("Resent-Sender"), true, false, false, false },
	{ SLICE_INIT("Resent-Reply-To"), true, false, false, false },
	{ SLICE_INIT("Resent-To"), true, false, false, false },
	{ SLICE_INIT("Resent-Cc"), true, false, false, false },
	{ SLICE_INIT("Date"), false, false, false, true },
	{ SLICE_INIT("Message-ID"), false, false, false, true },
};

static char lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

const struct rewrite_field_kind *rewrite_field_kind(struct slice name)
{
	for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
		if (slice_caseeq(name, kinds[i].name))
			return &kinds[i];
	return NULL;
}

/* '*' is any run; on a mismatch, the last star takes one character more. */
static bool is_match(const char *pattern, const char *text)
{
	const char *star = NULL, *from = NULL;

	while (*text != '\0') {
		if (*pattern == '*') {
			star = ++pattern;
			from = text;
		} else if (lower(*pattern) == lower(*text)) {
			pattern++;
			text++;
		} else if (star != NULL) {
			pattern = star;
			text = ++from;
		} else {
			return false;
		}
	}
	while (*pattern == '*')
		pattern++;
	return *pattern == '\0';
}

const char *rewrite_rules_find(const struct rewrite_rule *rules,
    unsigned n_rules, const char *addr, const char *bare)
{
	for (unsigned i = 0; i < n_rules; i++)
		if (is_match(rules[i].match, addr) ||
		    (bare && is_match(rules[i].match, bare)))
			return rules[i].address;
	return NULL;
}

void rewrite_text_add(struct rewrite_text *t, struct slice more)
{
	if (more.len == 0)
		return;
	if (t->cap - t->len < more.len) {
		t->cap = 2 * t->cap + more.len + 256;
		t->ptr = xrealloc(t->ptr, t->cap);
	}
	memcpy(t->ptr + t->len, more.ptr, more.len);
	t->len += more.len;
}

void rewrite_text_add_str(struct rewrite_text *t, const char *more)
{
	rewrite_text_add(t, slice_str(more));
}

struct slice rewrite_text_slice(const struct rewrite_text *t)
{
	return slice_of(t->ptr, t->len);
}

/* How a rule would have it; NULL: as it is. */
static const char *by_rule(
    const struct rewrite_rules *rules, const char *addr, const char *bare)
{
	const char *to =
	    rewrite_rules_find(rules->senders, rules->n_senders, addr, bare);

	return to && !slice_caseeq_str(slice_str(to), addr) ? to : NULL;
}

/* The address of one mailbox as it shall be, and what was done to it. */
static void add_mailbox(const struct rewrite_rules *rules,
    const struct rewrite_mailbox *m, bool senders, const char *fallback,
    struct rewrite_text *out, struct rewrite_field_result *result)
{
	bool is_addr = m->kind == MAILBOX_WHOLE || m->kind == MAILBOX_BARE;
	bool complete = m->kind == MAILBOX_BARE && rules->default_domain;
	const char *to = NULL;
	char *whole = NULL;

	if (complete)
		whole = xasprintf("%s@%s", m->text, rules->default_domain);
	if (senders && is_addr)
		to = by_rule(rules, whole ? whole : m->text, m->text);
	free(whole);
	if (to) {
		result->n_replaced++;
	} else if (m->kind != MAILBOX_WHOLE && m->kind != MAILBOX_BAD &&
	    !complete && fallback) {
		to = fallback;
		result->n_filled++;
	}
	if (to || m->kind == MAILBOX_WHOLE || complete)
		result->n_whole++;
	else
		result->n_unusable++;
	if (to) {
		rewrite_text_add_str(out, to);
		return;
	}
	rewrite_text_add(out, m->addr);
	if (is_addr && !m->is_ascii)
		result->is_ascii = false;
	if (complete) {
		result->n_completed++;
		rewrite_text_add_str(out, "@");
		rewrite_text_add_str(out, rules->default_domain);
	}
}

void rewrite_field_addresses(const struct rewrite_rules *rules,
    struct slice value, bool senders, const char *fallback,
    struct rewrite_text *out, struct rewrite_field_result *result)
{
	struct slice rest = value;
	const char *done = value.ptr, *end = value.ptr + value.len;
	struct rewrite_mailbox m;

	*result = (struct rewrite_field_result){ .is_ascii = true };
	while (
	    out->len < REWRITE_FIELD_MAX && rewrite_mailbox_next(&rest, &m)) {
		rewrite_text_add(
		    out, slice_of(done, (size_t)(m.addr.ptr - done)));
		add_mailbox(rules, &m, senders, fallback, out, result);
		done = m.addr.ptr + m.addr.len;
	}
	rewrite_text_add(out, slice_of(done, (size_t)(end - done)));
}
