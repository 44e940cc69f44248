/*
 * What is added to a header block, behind the fields that came.
 *
 * Works on struct rewrite_header, whose `seen` says what is there.  In this
 * order: From, Reply-To, To, Date, Message-ID, our own X-SES-*; so a second
 * pass over the result finds everything in its place.
 */
#include "smtp/rewrite_private.h"

#include "base/mem.h"

#include <stdarg.h>
#include <stdlib.h>

static bool has_seen(const struct rewrite_header *h, const char *name)
{
	return h->seen[rewrite_single_use(slice_str(name))];
}

/* `value` begins with its blank; folded where it is too long. */
static void add_field(struct rewrite_header *h, const char *name,
    const char *value, const char *what)
{
	bool has_end = slice_has_suffix(slice_str(value), "\r\n");
	struct slice text, none = slice_of("", 0);

	h->made.len = h->folded.len = 0;
	rewrite_text_add_str(&h->made, name);
	rewrite_text_add_str(&h->made, ":");
	rewrite_text_add_str(&h->made, value);
	if (!has_end)
		rewrite_text_add_str(&h->made, "\r\n");
	text = rewrite_text_slice(&h->made);
	(void)rewrite_fold(text, true, &h->folded);
	if (h->folded.len > 0)
		text = rewrite_text_slice(&h->folded);
	rewrite_flush(h);
	rewrite_emit(h, text);
	rewrite_note(h, name, what, none, text);
	rewrite_altered(h, name);
}

PRINTF(4, 5)
static void add_made(struct rewrite_header *h, const char *name,
    const char *what, const char *fmt, ...)
{
	va_list ap;
	char *value;

	va_start(ap, fmt);
	value = xvasprintf(fmt, ap);
	va_end(ap);
	add_field(h, name, value, what);
	free(value);
}

void rewrite_add_missing(struct rewrite_header *h)
{
	bool add = h->rules->add_headers;

	if (!has_seen(h, "From")) {
		if (add && h->from)
			add_made(h, "From", "added: the sender of the envelope",
			    " %s", h->from);
		else
			rewrite_refuse(h, "5.6.0",
			    "There is no From field with an address and a "
			    "domain, which Amazon SES requires; add one%s",
			    add ? "" : ", or set rewrite.add_headers");
	}
	if (h->old_from && !has_seen(h, "Reply-To"))
		add_field(h, "Reply-To", h->old_from,
		    "added: the From before it was replaced");
	if (h->hid_rcpt && !h->names_rcpt)
		add_field(h, "To", " undisclosed-recipients:;",
		    "added: no other field names a recipient");
	if (add && !has_seen(h, "Date") && *h->date)
		add_made(h, "Date", "added", " %s", h->date);
	if (add && !has_seen(h, "Message-ID") && *h->id && h->rules->hostname)
		add_made(h, "Message-ID", "added", " <%s@%s>", h->id,
		    h->rules->hostname);
}

static bool has_field(struct slice block, const char *name)
{
	struct slice field;

	while ((field = header_next_field(block)).len > 0) {
		block = slice_of(block.ptr + field.len, block.len - field.len);
		if (slice_caseeq_str(header_field_name(field), name))
			return true;
	}
	return false;
}

/* SES takes the first of a name: a client's own, where it may have them. */
void rewrite_add_ses_headers(struct rewrite_header *h, struct slice block)
{
	struct slice field, none = slice_of("", 0);
	struct slice ours = slice_str(h->rules->ses_headers);

	while ((field = header_next_field(ours)).len > 0) {
		char *name = slice_dup(header_field_name(field));

		ours = slice_of(ours.ptr + field.len, ours.len - field.len);
		if (!h->rules->keep_ses_headers || !has_field(block, name)) {
			rewrite_flush(h);
			rewrite_emit(h, field);
			rewrite_note(h, name, "added: ours", none, field);
			rewrite_altered(h, name);
		}
		free(name);
	}
}
