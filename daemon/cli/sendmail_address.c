/*
 * Addresses as they stand in headers and arguments.
 *
 * Pure.  The text is cut into mailboxes; of each, comments and names go, and
 * what remains is checked by smtp/addr, so that no byte of an argument can be
 * more than an address in the command to the daemon.  Between two separators
 * there is either one <path>, or words: one mailbox, or, when each of several
 * has an '@', as many.
 */
#include "cli/sendmail.h"

#include "base/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void sendmail_rcpts_free(struct sendmail_rcpts *r)
{
	for (size_t i = 0; i < r->n; i++)
		free(r->items[i]);
	free(r->items);
	*r = (struct sendmail_rcpts){ 0 };
}

static void add(struct sendmail_rcpts *r, const char *text)
{
	for (size_t i = 0; i < r->n; i++)
		if (strcmp(r->items[i], text) == 0)
			return;
	if ((r->n & (r->n - 1)) == 0)
		r->items = xrealloc(
		    r->items, (r->n ? r->n * 2 : 1) * sizeof *r->items);
	r->items[r->n++] = xstrdup(text);
}

/* --- tokens --- */

/*
 * One mailbox on its way: the words in front, which are its name or itself,
 * and the path in brackets.
 */
struct mailbox {
	char words[2 * ADDR_MAX + 2]; /* blanks between them are one blank */
	size_t len;
	bool overflow;
	struct slice path; /* ptr NULL: there are no brackets */
};

static void append(struct mailbox *m, const char *ptr, size_t len)
{
	if (len > sizeof m->words - m->len) {
		m->overflow = true;
		return;
	}
	memcpy(m->words + m->len, ptr, len);
	m->len += len;
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* Behind the quoted string that begins at i; its end if it has none. */
static size_t skip_quoted(struct slice s, size_t i)
{
	for (i++; i < s.len; i++) {
		if (s.ptr[i] == '\\')
			i++;
		else if (s.ptr[i] == '"')
			return i + 1;
	}
	return s.len;
}

static size_t skip_comment(struct slice s, size_t i)
{
	unsigned depth = 0;

	for (; i < s.len; i++) {
		if (s.ptr[i] == '\\')
			i++;
		else if (s.ptr[i] == '(')
			depth++;
		else if (s.ptr[i] == ')' && --depth == 0)
			return i + 1;
	}
	return s.len;
}

/* Behind the '>' of the path that begins at i. */
static size_t skip_path(struct slice s, size_t i)
{
	while (i < s.len) {
		if (s.ptr[i] == '"')
			i = skip_quoted(s, i);
		else if (s.ptr[i++] == '>')
			return i;
	}
	return s.len;
}

/* A token of the mailbox at i, which is no separator; returns what is behind.
 */
static size_t take_token(struct mailbox *m, struct slice s, size_t i)
{
	size_t end = i + 1;

	switch (s.ptr[i]) {
	case '(':
		return skip_comment(s, i);
	case '<':
		end = skip_path(s, i);
		m->path = slice_of(s.ptr + i, end - i);
		return end;
	case '"':
		end = skip_quoted(s, i);
		break;
	case '\\': /* "\root": not to be aliased again, of old */
		return end;
	default:
		break;
	}
	if (is_blank(s.ptr[i])) {
		if (m->len > 0 && m->words[m->len - 1] != ' ')
			append(m, " ", 1);
	} else {
		append(m, s.ptr + i, end - i);
	}
	return end;
}

/* --- mailboxes --- */

static int bad(struct slice text, const char *why, struct err *err)
{
	char shown[101];
	size_t n = slice_copy(text, shown, sizeof shown);

	for (size_t i = 0; i < n; i++)
		if (shown[i] < ' ' || shown[i] > '~')
			shown[i] = '?';
	return err_set(err, 0, "\"%s\" %s", shown, why);
}

/* Is it an address that may stand between the brackets of a command? */
static int check_path(struct slice path, struct addr *out, struct err *err)
{
	char text[ADDR_MAX + 16];
	enum addr_error error;
	struct slice args;
	int n;

	path = slice_trim(path);
	if (path.len > ADDR_MAX)
		return bad(path, "is too long for an address", err);
	n = snprintf(text, sizeof text, "<%.*s>", (int)path.len, path.ptr);
	args = slice_of(text, (size_t)n);
	error = addr_parse_path(&args, true, NULL, out);
	if (error == ADDR_UNQUALIFIED) {
		/* Bare it stays: the daemon completes it. */
		args = slice_of(text, (size_t)n);
		error = addr_parse_path(&args, true, "x", out);
		if (error == ADDR_OK)
			*strrchr(out->text, '@') = '\0';
	}
	/* A bracket of its own ends a path before its end. */
	if (error == ADDR_OK && args.len > 0)
		error = ADDR_SYNTAX;
	switch (error) {
	case ADDR_OK:
		return 0;
	case ADDR_NON_ASCII:
		return bad(path,
		    "is no address that SES takes: there may be ASCII only",
		    err);
	case ADDR_NON_ASCII_DOMAIN:
		return bad(path,
		    "has a domain that SES does not take as it is: write it in "
		    "punycode (xn--...)",
		    err);
	case ADDR_TOO_LONG:
		return bad(path, "is too long for an address", err);
	case ADDR_SYNTAX:
	case ADDR_UNQUALIFIED:
		break;
	}
	return bad(path, "is no mail address", err);
}

static struct slice words_of(const struct mailbox *m)
{
	return slice_trim(slice_of(m->words, m->len));
}

/* Blanks around '@' and '.' may stand there (RFC 5322 4.4); out with them. */
static void join_words(struct mailbox *m)
{
	size_t n = 0;

	for (size_t i = 0; i < m->len; i++) {
		char c = m->words[i];

		if (c == '"') {
			size_t end = skip_quoted(words_of(m), i);

			memmove(m->words + n, m->words + i, end - i);
			n += end - i;
			i = end - 1;
			continue;
		}
		if (c == ' ' &&
		    (i + 1 == m->len || n == 0 ||
			strchr("@.", m->words[i + 1]) != NULL ||
			strchr("@.", m->words[n - 1]) != NULL))
			continue;
		m->words[n++] = c;
	}
	m->len = n;
}

static int add_path(
    struct sendmail_rcpts *r, struct slice path, struct err *err)
{
	struct addr addr = { 0 };

	if (check_path(path, &addr, err) != 0)
		return -1;
	if (addr.text[0] == '\0')
		return bad(path, "is no recipient", err);
	add(r, addr.text);
	return 0;
}

/* "a@b c@d": each word is one, or all of them are none. */
static int add_words(
    struct sendmail_rcpts *r, struct slice words, struct err *err)
{
	struct slice rest = words, word;

	while ((word = slice_word(&rest)).len > 0)
		if (memchr(word.ptr, '@', word.len) == NULL)
			return bad(words, "is no mail address", err);
	while ((word = slice_word(&words)).len > 0)
		if (add_path(r, word, err) != 0)
			return -1;
	return 0;
}

static int add_mailbox(
    struct sendmail_rcpts *r, struct mailbox *m, struct err *err)
{
	struct slice words;

	if (m->path.ptr != NULL) {
		bool closed =
		    m->path.len > 1 && m->path.ptr[m->path.len - 1] == '>';

		if (!closed)
			return bad(m->path, "lacks its \">\"", err);
		return add_path(
		    r, slice_of(m->path.ptr + 1, m->path.len - 2), err);
	}
	if (m->overflow)
		return bad(words_of(m), "is too long for an address", err);
	join_words(m);
	words = words_of(m);
	if (words.len == 0)
		return 0; /* ", ," and comments alone */
	if (words.ptr[0] != '"' && memchr(words.ptr, ' ', words.len) != NULL)
		return add_words(r, words, err);
	return add_path(r, words, err);
}

int sendmail_rcpts_add(
    struct sendmail_rcpts *r, struct slice list, struct err *err)
{
	struct mailbox m = { 0 };

	for (size_t i = 0; i < list.len;) {
		char c = list.ptr[i];

		if (c == ',' || c == ';') {
			if (add_mailbox(r, &m, err) != 0)
				return -1;
			m = (struct mailbox){ 0 };
			i++;
		} else if (c == ':' && m.path.ptr == NULL &&
		    memchr(m.words, '@', m.len) == NULL) {
			m = (struct mailbox){ 0 }; /* the name of a group */
			i++;
		} else {
			i = take_token(&m, list, i);
		}
	}
	return add_mailbox(r, &m, err);
}

int sendmail_address_parse(struct slice text, struct addr *out, struct err *err)
{
	struct sendmail_rcpts r = { 0 };
	int rc = -1;

	text = slice_trim(text);
	out->text[0] = '\0';
	if (text.len == 0 || slice_eq_str(text, "<>"))
		return 0;
	if (sendmail_rcpts_add(&r, text, err) == 0) {
		if (r.n == 1) {
			slice_copy(
			    slice_str(r.items[0]), out->text, sizeof out->text);
			rc = 0;
		} else {
			bad(text, "is not one address", err);
		}
	}
	sendmail_rcpts_free(&r);
	return rc;
}
