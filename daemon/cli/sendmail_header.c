/*
 * The header of a message that is handed in: whom it is for, what it lacks.
 *
 * Pure.  Fields are kept byte for byte, folding included; only Bcc and
 * Resent-Bcc go, which are nobody's business (RFC 5322 3.6.3), and the "From "
 * line of an mbox.  What is missing is added behind the fields that are there.
 */
#include "cli/sendmail.h"

#include "base/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ENCODED_WORD_MAX 75

static struct slice from(struct slice a, size_t n)
{
	return slice_of(n > 0 ? a.ptr + n : a.ptr, a.len - n);
}

/* The line at the head of a, with its line end. */
static size_t line_len(struct slice a)
{
	const char *lf = a.len > 0 ? memchr(a.ptr, '\n', a.len) : NULL;

	return lf != NULL ? (size_t)(lf - a.ptr) + 1 : a.len;
}

static bool is_fold(struct slice a)
{
	return a.len > 0 && (a.ptr[0] == ' ' || a.ptr[0] == '\t');
}

/* The length of the field's name, 0 if the line is no field. */
static size_t name_len(struct slice line)
{
	size_t n = 0, blanks = 0;

	while (n < line.len && line.ptr[n] > ' ' && line.ptr[n] < 0x7f &&
	    line.ptr[n] != ':')
		n++;
	while (is_fold(from(line, n + blanks)))
		blanks++;
	return n + blanks < line.len && line.ptr[n + blanks] == ':' ? n : 0;
}

/* With the lines that continue it. */
static size_t field_len(struct slice a)
{
	size_t n = line_len(a);

	while (is_fold(from(a, n)))
		n += line_len(from(a, n));
	return n;
}

static bool is_one_of(struct slice name, const char *const *names)
{
	for (; *names != NULL; names++)
		if (slice_caseeq_str(name, *names))
			return true;
	return false;
}

static const char *const to_names[] = { "To", "Cc", "Bcc", NULL };
static const char *const resent_names[] = { "Resent-To", "Resent-Cc",
	"Resent-Bcc", NULL };
static const char *const dropped_names[] = { "Bcc", "Resent-Bcc", NULL };

static void note_field(struct sendmail_header *h, struct slice name)
{
	if (slice_caseeq_str(name, "Date"))
		h->has_date = true;
	else if (slice_caseeq_str(name, "From"))
		h->has_from = true;
	else if (slice_caseeq_str(name, "Message-ID"))
		h->has_message_id = true;
	else if (is_one_of(name, resent_names))
		h->resent = true;
}

static void keep(struct sendmail_header *h, struct slice field)
{
	h->kept = xrealloc(h->kept, h->kept_len + field.len + 1);
	memcpy(h->kept + h->kept_len, field.ptr, field.len);
	h->kept_len += field.len;
}

/* "From : a@b" is none: a blank may stand before the colon of a field. */
static bool is_mbox_line(struct slice line)
{
	return name_len(line) == 0 &&
	    (slice_has_prefix(line, "From ") ||
		slice_has_prefix(line, ">From "));
}

/* Fields up to what is none; the empty line belongs to the block. */
static void read_fields(struct sendmail_header *h, struct slice content)
{
	if (is_mbox_line(slice_of(content.ptr, line_len(content))))
		h->len = line_len(content);
	for (;;) {
		struct slice rest = from(content, h->len), field;
		size_t name = name_len(slice_of(rest.ptr, line_len(rest)));

		if (name == 0)
			break;
		field = slice_of(rest.ptr, field_len(rest));
		note_field(h, slice_of(field.ptr, name));
		if (!is_one_of(slice_of(field.ptr, name), dropped_names))
			keep(h, field);
		h->len += field.len;
	}
	if (slice_has_prefix(from(content, h->len), "\r\n"))
		h->len += 2;
}

static int read_rcpts(const struct sendmail_header *h, struct slice content,
    struct sendmail_rcpts *rcpts, struct err *err)
{
	const char *const *names = h->resent ? resent_names : to_names;
	size_t at = 0;

	while (at < h->len) {
		struct slice rest = slice_of(content.ptr + at, h->len - at);
		struct slice field = slice_of(rest.ptr, field_len(rest));
		struct slice value = field, name;

		name = slice_of(field.ptr, name_len(field));
		(void)slice_split(&value, ':');
		at += field.len;
		if (name.len > 0 && is_one_of(name, names) &&
		    sendmail_rcpts_add(rcpts, value, err) != 0)
			return -1;
	}
	return 0;
}

int sendmail_header_read(struct sendmail_header *h, struct slice content,
    struct sendmail_rcpts *rcpts, struct err *err)
{
	*h = (struct sendmail_header){ 0 };
	read_fields(h, content);
	return rcpts != NULL ? read_rcpts(h, content, rcpts, err) : 0;
}

/* --- what is added --- */

static bool is_phrase_byte(char c)
{
	return c >= ' ' && c < 0x7f;
}

/* Words that need no quotes; a dot does. */
static bool is_plain(const char *name)
{
	static const char alphabet[] =
	    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
	    "!#$%&'*+-/?^_`{|}~ ";

	return name[strspn(name, alphabet)] == '\0';
}

static char *quoted(const char *name)
{
	char *text = xmalloc(2 * strlen(name) + 3), *p = text;

	*p++ = '"';
	for (; *name != '\0'; name++) {
		if (*name == '"' || *name == '\\')
			*p++ = '\\';
		*p++ = *name;
	}
	*p++ = '"';
	*p = '\0';
	return text;
}

/* The bytes of the UTF-8 sequence at p; of what is none, one. */
static size_t sequence_len(const char *p)
{
	unsigned char c = (unsigned char)*p;
	size_t n = c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : c >= 0xc0 ? 2 : 1;

	for (size_t i = 1; i < n; i++)
		if (((unsigned char)p[i] & 0xc0) != 0x80)
			return 1;
	return n;
}

/* Encoded words, none of them ending inside a character. */
static char *encoded(const char *name)
{
	static const char begin[] = "=?utf-8?q?", end[] = "?=";
	char *text = xmalloc(8 * strlen(name) + 64), *p = text, *word = p;

	p = stpcpy(p, begin);
	while (*name != '\0') {
		size_t n = sequence_len(name);

		if ((size_t)(p - word) + 3 * n + 2 > ENCODED_WORD_MAX) {
			p = stpcpy(stpcpy(p, end), "\r\n ");
			word = p;
			p = stpcpy(p, begin);
		}
		for (; n > 0; n--, name++) {
			char c = *name;

			if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
			    (c >= '0' && c <= '9'))
				*p++ = c;
			else
				p += sprintf(p, "=%02X", (unsigned char)c);
		}
	}
	*stpcpy(p, end) = '\0';
	return text;
}

char *sendmail_phrase(const char *name)
{
	for (const char *p = name; *p != '\0'; p++)
		if (!is_phrase_byte(*p))
			return encoded(name);
	return is_plain(name) ? xstrdup(name) : quoted(name);
}

static char *make_from(const struct sendmail_defaults *d)
{
	const char *address = d->sender[0] != '\0' ? d->sender : d->user;
	char *phrase, *text;

	if (d->full_name == NULL || d->full_name[0] == '\0')
		return xasprintf("From: %s\r\n", address);
	phrase = sendmail_phrase(d->full_name);
	text = xasprintf("From: %s <%s>\r\n", phrase, address);
	free(phrase);
	return text;
}

char *sendmail_header_make(const struct sendmail_header *h,
    const struct sendmail_defaults *d, size_t *len)
{
	char *author = h->has_from ? xstrdup("") : make_from(d);
	char *added = xasprintf("%s%s%s%s%s%s%s\r\n", author,
	    h->has_date ? "" : "Date: ", h->has_date ? "" : d->date,
	    h->has_date ? "" : "\r\n", h->has_message_id ? "" : "Message-ID: ",
	    h->has_message_id ? "" : d->message_id,
	    h->has_message_id ? "" : "\r\n");
	char *text;

	*len = h->kept_len + strlen(added);
	text = xmalloc(*len + 1);
	if (h->kept_len > 0)
		memcpy(text, h->kept, h->kept_len);
	memcpy(text + h->kept_len, added, strlen(added) + 1);
	free(author);
	free(added);
	return text;
}

void sendmail_header_free(struct sendmail_header *h)
{
	free(h->kept);
	h->kept = NULL;
}
