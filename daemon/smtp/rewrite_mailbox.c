/*
 * Address lists of header fields (RFC 5322 3.4 and 4.4), read as tolerantly as
 * old programs write them.
 *
 * Pure; cuts the caller's field, copies nothing but one address at a time.
 * What is not understood is reported as MAILBOX_BAD with its whole extent, so
 * that the caller leaves it as it is; nothing is ever guessed.  Quotes,
 * comments and angle brackets that never end make the rest of the list one
 * such mailbox.
 */
#include "smtp/rewrite_private.h"

#include <string.h>

#define NOWHERE SIZE_MAX

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* atext (RFC 5322 3.2.3), the dot, and what is not ASCII. */
static bool is_atom(char c)
{
	static const bool others[128] = { ['.'] = true,
		['!'] = true,
		['#'] = true,
		['$'] = true,
		['%'] = true,
		['&'] = true,
		['\''] = true,
		['*'] = true,
		['+'] = true,
		['-'] = true,
		['/'] = true,
		['='] = true,
		['?'] = true,
		['^'] = true,
		['_'] = true,
		['`'] = true,
		['{'] = true,
		['|'] = true,
		['}'] = true,
		['~'] = true };

	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
	    (c >= '0' && c <= '9') || (unsigned char)c >= 0x80 ||
	    others[(unsigned char)c];
}

/* Behind the quoted string that begins at i; NOWHERE: it has no end. */
static size_t skip_quoted(struct slice s, size_t i)
{
	for (i++; i < s.len; i++) {
		if (s.ptr[i] == '"')
			return i + 1;
		if (s.ptr[i] == '\\')
			i++;
	}
	return NOWHERE;
}

static size_t skip_comment(struct slice s, size_t i)
{
	unsigned depth = 0;

	for (; i < s.len; i++) {
		if (s.ptr[i] == '(')
			depth++;
		else if (s.ptr[i] == ')' && --depth == 0)
			return i + 1;
		else if (s.ptr[i] == '\\')
			i++;
	}
	return NOWHERE;
}

static size_t skip_angle(struct slice s, size_t i)
{
	while (i < s.len && s.ptr[i] != '>') {
		i = s.ptr[i] == '"' ? skip_quoted(s, i) : i + 1;
		if (i == NOWHERE)
			return NOWHERE;
	}
	return i < s.len ? i + 1 : NOWHERE;
}

/* A domain literal, or a bracket in a name, which is one character then. */
static size_t skip_bracket(struct slice s, size_t i)
{
	for (size_t k = i + 1; k < s.len; k++) {
		if (s.ptr[k] == ']')
			return k + 1;
		/* One more bracket ends it too: time stays linear. */
		if (is_blank(s.ptr[k]) || strchr("<>,;\"([", s.ptr[k]))
			break;
	}
	return i + 1;
}

/* Behind what begins at i: one character, or a thing that is one. */
static size_t skip_token(struct slice s, size_t i)
{
	switch (s.ptr[i]) {
	case '(':
		return skip_comment(s, i);
	case '"':
		return skip_quoted(s, i);
	case '<':
		return skip_angle(s, i);
	case '[':
		return skip_bracket(s, i);
	default:
		return i + 1;
	}
}

/* Behind the atoms that begin at i; i when there are none. */
static size_t skip_atoms(struct slice s, size_t i)
{
	while (i < s.len && is_atom(s.ptr[i]))
		i++;
	return i;
}

/* Where the parts of one entry are; offsets into the list. */
struct entry {
	size_t words, words_end; /* what stands outside of <> and comments */
	size_t angle, angle_end; /* what stands between < and > */
	bool has_at; /* among the words */
	bool bad;
};

static void note_token(struct entry *e, struct slice s, size_t i, size_t end)
{
	char c = s.ptr[i];

	if (c == '<') {
		e->bad = e->bad || e->angle != NOWHERE;
		e->angle = i + 1;
		e->angle_end = end - 1;
	} else if (c == '>') {
		e->bad = true;
	} else if (c != '(' && !is_blank(c)) {
		if (e->words == NOWHERE)
			e->words = i;
		e->words_end = end;
		e->has_at = e->has_at || c == '@';
	}
}

/* Reads one entry; returns where the separator behind it is. */
static size_t read_entry(struct slice s, struct entry *e)
{
	size_t i = 0;

	*e = (struct entry){ .words = NOWHERE, .angle = NOWHERE };
	while (i < s.len && s.ptr[i] != ',' && s.ptr[i] != ';') {
		size_t end = skip_atoms(s, i);

		/* None of them means anything here. */
		if (end == i)
			end = skip_token(s, i);
		if (end == NOWHERE) {
			e->bad = true;
			return s.len;
		}
		if (s.ptr[i] == ':' && e->words != NOWHERE && !e->has_at &&
		    e->angle == NOWHERE && !e->bad)
			e->words = NOWHERE; /* that was the name of a group */
		else
			note_token(e, s, i, end);
		i = end;
	}
	return i;
}

/* Collects an address without what may stand between its parts. */
struct reader {
	struct rewrite_mailbox *m;
	size_t len; /* of m->text */
	size_t first, last; /* extent in the source */
	size_t at, n_at; /* where the @ is in m->text */
	bool gap; /* blanks or a comment were passed over */
	bool quoted; /* the last thing read was a quoted string */
};

/* May a part that begins with c follow what was read? */
static bool may_follow(const struct reader *r, char c)
{
	char last = r->len > 0 ? r->m->text[r->len - 1] : '.';
	bool joins = c == '.' || c == '@' || last == '.' || last == '@';

	if (r->gap || r->quoted || c == '"' || c == '[')
		return joins;
	return true;
}

static bool add_part(struct reader *r, struct slice part)
{
	char c = part.ptr[0];

	if (c != '"' && c != '@' && !(c == '[' && r->n_at == 1) && !is_atom(c))
		return false;
	if (!may_follow(r, c))
		return false;
	if (c == '@') {
		r->at = r->len;
		r->n_at++;
	}
	for (size_t i = 0; i < part.len; i++) {
		if (part.ptr[i] == '\r' || part.ptr[i] == '\n')
			continue; /* a fold in a quoted string */
		if (r->len == REWRITE_ADDR_MAX || part.ptr[i] == '\0')
			return false;
		if ((unsigned char)part.ptr[i] >= 0x80)
			r->m->is_ascii = false;
		r->m->text[r->len++] = part.ptr[i];
	}
	r->gap = false;
	r->quoted = c == '"';
	return true;
}

static bool is_encoded_word(struct slice text)
{
	return slice_has_prefix(text, "=?") && slice_has_suffix(text, "?=");
}

static enum rewrite_mailbox_kind judge(const struct reader *r)
{
	struct slice text = slice_of(r->m->text, r->len);
	struct slice domain = slice_of(text.ptr + r->at + 1, 0);

	if (r->n_at == 0)
		return is_encoded_word(text) ? MAILBOX_BAD : MAILBOX_BARE;
	domain.len = text.len - r->at - 1;
	if (r->n_at > 1 || r->at == 0 || domain.len == 0 ||
	    memchr(domain.ptr, '"', domain.len))
		return MAILBOX_BAD;
	return MAILBOX_WHOLE;
}

/* An addr-spec, or the local part of one, and nothing else. */
static void read_addr(struct slice s, struct rewrite_mailbox *m)
{
	struct reader r = { .m = m };
	size_t i = 0;

	m->kind = MAILBOX_BAD;
	m->addr = s;
	while (i < s.len) {
		size_t end = skip_atoms(s, i);

		/* What may stand behind an atom may stand before the next. */
		if (end == i)
			end = s.ptr[i] == '<' ? NOWHERE : skip_token(s, i);
		if (end == NOWHERE)
			return;
		if (s.ptr[i] == '(' || is_blank(s.ptr[i])) {
			r.gap = true;
		} else {
			if (r.len == 0)
				r.first = i;
			if (!add_part(&r, slice_of(s.ptr + i, end - i)))
				return;
			r.last = end;
		}
		i = end;
	}
	m->text[r.len] = '\0';
	m->kind = r.len > 0 ? judge(&r) : MAILBOX_EMPTY;
	m->addr = slice_of(s.ptr + r.first, r.last - r.first);
}

/* Without a source route: "@one,@two:" (RFC 5322 4.4). */
static struct slice drop_route(struct slice s)
{
	struct slice rest = s;

	while (s.len > 0 && is_blank(*s.ptr))
		s = slice_of(s.ptr + 1, s.len - 1);
	if (!slice_has_prefix(s, "@") || !memchr(s.ptr, ':', s.len))
		return s;
	slice_split(&rest, ':');
	return rest;
}

bool rewrite_mailbox_next(struct slice *rest, struct rewrite_mailbox *m)
{
	struct slice s;
	struct entry e;
	size_t end;

	do {
		s = *rest;
		if (s.len == 0)
			return false;
		end = read_entry(s, &e);
		*rest = slice_of(s.ptr + end, s.len - end);
		if (rest->len > 0) /* the separator */
			*rest = slice_of(rest->ptr + 1, rest->len - 1);
	} while (!e.bad && e.words == NOWHERE && e.angle == NOWHERE);
	m->is_ascii = true;
	m->text[0] = '\0';
	if (e.bad) {
		m->kind = MAILBOX_BAD;
		m->addr = slice_of(s.ptr, end);
	} else if (e.angle != NOWHERE) {
		read_addr(drop_route(
			      slice_of(s.ptr + e.angle, e.angle_end - e.angle)),
		    m);
	} else {
		read_addr(slice_of(s.ptr + e.words, e.words_end - e.words), m);
	}
	return true;
}
