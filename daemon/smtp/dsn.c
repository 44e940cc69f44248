/*
 * Writing the notice: RFC 3462, 3464, 3834.
 *
 * Pure; owns nothing, allocates nothing.  Everything that others chose passes
 * put_text(), put_name() or put_headers(), which is where the promise of clean
 * lines is kept.  Invariant: `column` is the length of the line begun.
 */
#include "smtp/dsn.h"

#include <stdio.h>
#include <string.h>

/* Lines are folded here when a blank allows it, and there at all events. */
#define FOLD_COLUMN 76
#define LINE_MAX_LEN 900
/* The most of one value; replies are shorter. */
#define VALUE_MAX 2000
/* RFC 5322 2.1.1, without the CRLF. */
#define CONTENT_LINE_MAX 998
#define BOUNDARY_BUF 64

struct writer {
	dsn_emit emit;
	void *ctx;
	size_t column;
};

static void put_bytes(struct writer *w, const char *p, size_t len)
{
	w->emit(w->ctx, p, len);
	w->column += len;
}

static void put(struct writer *w, const char *s)
{
	put_bytes(w, s, strlen(s));
}

static void end_line(struct writer *w)
{
	put(w, "\r\n");
	w->column = 0;
}

static void line(struct writer *w, const char *s)
{
	put(w, s);
	end_line(w);
}

/* Of a host name and the like: what can end nothing. */
static void put_name(struct writer *w, const char *name)
{
	for (size_t i = 0; i < 255 && name[i] != '\0'; i++) {
		char c = name[i];
		bool ok = (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
		    (c >= '0' && c <= '9') || strchr(".-_:[]", c) != NULL;

		put_bytes(w, ok ? &c : "?", 1);
	}
}

/* One byte, visible; a line that is too long goes on in the next. */
static void put_byte(struct writer *w, char c, const char *indent)
{
	static const char digits[] = "0123456789ABCDEF";
	char hex[] = { '\\', 'x', digits[(unsigned char)c >> 4],
		digits[(unsigned char)c & 15] };

	if (w->column >= LINE_MAX_LEN) {
		end_line(w);
		put(w, indent);
	}
	if (c > ' ' && c <= '~')
		put_bytes(w, &c, 1);
	else
		put_bytes(w, hex, sizeof(hex));
}

/* Words, folded by `indent`; a blank before the first one. */
static void put_text(struct writer *w, const char *text, const char *indent)
{
	struct slice rest = slice_of(text, strnlen(text, VALUE_MAX)), word;

	while ((word = slice_word(&rest)).len > 0) {
		if (w->column + 1 + word.len > FOLD_COLUMN &&
		    w->column > strlen(indent)) {
			end_line(w);
			put(w, indent);
		} else if (w->column > 0 && w->column != strlen(indent)) {
			put(w, " ");
		}
		for (size_t i = 0; i < word.len; i++)
			put_byte(w, word.ptr[i], indent);
	}
}

/* As it is, blanks included: an address, an id. */
static void put_raw(struct writer *w, const char *text)
{
	for (size_t i = 0; i < VALUE_MAX / 4 && text[i] != '\0'; i++) {
		if (text[i] == ' ')
			put(w, " ");
		else
			put_byte(w, text[i], " ");
	}
}

static void field(struct writer *w, const char *name, const char *value)
{
	put(w, name);
	put_text(w, value, " ");
	end_line(w);
}

static void field_raw(struct writer *w, const char *name, const char *before,
    const char *value, const char *after)
{
	put(w, name);
	put(w, before);
	put_raw(w, value);
	put(w, after);
	end_line(w);
}

/* --- the header of the notice --- */

const char *dsn_message_id(const struct dsn *d, char *buf, size_t size)
{
	size_t n;

	n = (size_t)snprintf(
	    buf, size, "%.32s.notice@%.200s", d->id, d->hostname);
	for (size_t i = 0; i < n && i < size - 1; i++)
		if (buf[i] <= ' ' || buf[i] > '~' || strchr("<>()\"\\", buf[i]))
			buf[i] = '?';
	return buf;
}

/* One that can stand in <> without ending them. */
static bool is_clean_id(const char *id)
{
	size_t len = strlen(id);

	for (size_t i = 0; i < len; i++)
		if (id[i] <= ' ' || id[i] > '~' || strchr("<>()\"\\", id[i]))
			return false;
	return len > 0 && len < 256;
}

static void put_header(
    struct writer *w, const struct dsn *d, const char *boundary)
{
	char own_id[320];

	put(w, "From: \"Mail relay on ");
	put_name(w, d->hostname);
	field_raw(w, "\"\r\n", "\t<", d->from, ">");
	field_raw(w, "To: ", "<", d->to, ">");
	field_raw(
	    w, "Subject: Undelivered mail, ", "queue id ", d->failed_id, "");
	field(w, "Date:", d->date);
	field_raw(w, "Message-ID: ", "<",
	    dsn_message_id(d, own_id, sizeof(own_id)), ">");
	if (is_clean_id(d->message_id)) {
		field_raw(w, "In-Reply-To: ", "<", d->message_id, ">");
		field_raw(w, "References: ", "<", d->message_id, ">");
	}
	line(w, "Auto-Submitted: auto-replied");
	line(w, "MIME-Version: 1.0");
	line(w, "Content-Type: multipart/report; report-type=delivery-status;");
	field_raw(w, "\tboundary=", "\"", boundary, "\"");
	if (d->ses_headers != NULL)
		put(w, d->ses_headers);
	end_line(w);
	line(w, "This is a notice in MIME format (RFC 3464).");
}

static void begin_part(struct writer *w, const char *boundary, const char *type,
    const char *encoding, const char *description)
{
	end_line(w);
	field_raw(w, "--", "", boundary, "");
	field(w, "Content-Type:", type);
	if (encoding != NULL)
		field(w, "Content-Transfer-Encoding:", encoding);
	field(w, "Content-Description:", description);
	end_line(w);
}

/* --- for people --- */

static void put_recipients(struct writer *w, const struct dsn *d)
{
	for (unsigned i = 0; i < d->n_rcpts; i++) {
		const struct dsn_rcpt *r = &d->rcpts[i];
		const char *why = r->reply != NULL ? r->reply : r->reason;

		field_raw(w, "    ", "", r->addr, "");
		if (why != NULL) {
			put(w, "        ");
			put_text(w, why, "        ");
			end_line(w);
		}
	}
}

static void put_words(struct writer *w, const struct dsn *d)
{
	put(w, "The mail relay on ");
	put_name(w, d->hostname);
	line(w, " has given up this message:");
	end_line(w);
	field_raw(w, "    Queue id:    ", "", d->failed_id, "");
	field_raw(w, "    Message-ID:  ", "", d->message_id, "");
	field_raw(w, "    From:        ", "<", d->sender, ">");
	field_raw(w, "    Handed in:   ", "", d->arrival, "");
	end_line(w);
	line(w, "It was not delivered to:");
	end_line(w);
	put_recipients(w, d);
	end_line(w);
	line(w, "Why, and what to do:");
	end_line(w);
	put(w, "    ");
	put_text(w, d->reason, "    ");
	end_line(w);
	end_line(w);
	put(w, "The message is kept, as a dead letter of that queue id, on ");
	put_name(w, d->hostname);
	line(w, ".");
	line(w, "Once the cause is removed, this sends it again from there:");
	end_line(w);
	field_raw(w, "    sesrelayctl requeue ", "", d->failed_id, "");
	end_line(w);
	line(w, "and this shows it:");
	end_line(w);
	field_raw(w, "    sesrelayctl failed ", "", d->failed_id, "");
}

/* --- for programs --- */

/* RFC 3463: class 2, 4 or 5, and two numbers of up to three digits. */
static bool is_status(const char *s)
{
	unsigned a, b, c;
	int n = 0;
	bool ok = sscanf(s, "%1u.%3u.%3u%n", &a, &b, &c, &n) == 3;

	return ok && s[n] == '\0' && strspn(s, "0123456789.") == strlen(s) &&
	    (a == 4 || a == 5);
}

static void put_status(struct writer *w, const struct dsn *d)
{
	put(w, "Reporting-MTA: dns; ");
	put_name(w, d->hostname);
	end_line(w);
	field_raw(w, "X-Sesrelayd-Queue-ID: ", "", d->failed_id, "");
	field_raw(w, "X-Sesrelayd-Sender: ", "rfc822; ", d->sender, "");
	field(w, "Arrival-Date:", d->arrival);
	for (unsigned i = 0; i < d->n_rcpts; i++) {
		const struct dsn_rcpt *r = &d->rcpts[i];

		end_line(w);
		field_raw(w, "Final-Recipient: ", "rfc822; ", r->addr, "");
		line(w, "Action: failed");
		field(w, "Status:", is_status(r->status) ? r->status : "5.0.0");
		if (d->remote != NULL) {
			put(w, "Remote-MTA: dns; ");
			put_name(w, d->remote);
			end_line(w);
		}
		if (r->reply != NULL)
			field(w, "Diagnostic-Code: smtp;", r->reply);
		else if (r->reason != NULL)
			field(w, "Diagnostic-Code: X-Sesrelayd;", r->reason);
	}
}

/* --- the header of the message --- */

/* Fits into 7-bit MIME as it is. */
static bool is_clean(struct slice text)
{
	size_t column = 0;

	for (size_t i = 0; i < text.len; i++) {
		char c = text.ptr[i];

		if (c == '\r' && i + 1 < text.len && text.ptr[i + 1] == '\n') {
			column = 0;
			i++;
			continue;
		}
		if (c == '\r' || c == '\n' || c == '\0' || (c & 0x80) != 0 ||
		    ++column > CONTENT_LINE_MAX)
			return false;
	}
	return column == 0;
}

/* RFC 2045 6.7; `c` ends its line when `last`. */
static void put_quoted(struct writer *w, char c, bool last)
{
	static const char digits[] = "0123456789ABCDEF";
	char hex[] = { '=', digits[(unsigned char)c >> 4],
		digits[(unsigned char)c & 15] };
	bool is_blank = c == ' ' || c == '\t';
	bool plain = (c > ' ' && c <= '~' && c != '=') || (is_blank && !last);

	if (w->column + 4 > FOLD_COLUMN) {
		put(w, "=");
		end_line(w);
	}
	if (plain)
		put_bytes(w, &c, 1);
	else
		put_bytes(w, hex, sizeof(hex));
}

static void put_headers(struct writer *w, struct slice text, bool clean)
{
	if (clean) {
		put_bytes(w, text.ptr, text.len);
		w->column = 0;
		return;
	}
	while (text.len > 0) {
		struct slice row = slice_split(&text, '\n');

		if (row.len > 0 && row.ptr[row.len - 1] == '\r')
			row.len--;
		for (size_t i = 0; i < row.len; i++)
			put_quoted(w, row.ptr[i], i + 1 == row.len);
		end_line(w);
	}
}

/* --- the whole --- */

static bool contains(struct slice text, const char *s)
{
	return text.len > 0 && memmem(text.ptr, text.len, s, strlen(s)) != NULL;
}

/* One that the header block does not hold, whoever guessed it. */
static void make_boundary(const struct dsn *d, struct slice headers, char *buf)
{
	unsigned n = 0;

	do
		snprintf(buf, BOUNDARY_BUF, "=_%.32s.%u", d->id, n++);
	while (contains(headers, buf));
}

void dsn_write(const struct dsn *d, dsn_emit emit, void *ctx)
{
	struct writer w = { .emit = emit, .ctx = ctx };
	struct slice headers = d->headers;
	char boundary[BOUNDARY_BUF];
	bool clean;

	if (headers.len > DSN_HEADERS_MAX)
		headers.len = DSN_HEADERS_MAX;
	clean = is_clean(headers);
	make_boundary(d, headers, boundary);
	put_header(&w, d, boundary);
	begin_part(
	    &w, boundary, "text/plain; charset=us-ascii", NULL, "Notice");
	put_words(&w, d);
	begin_part(
	    &w, boundary, "message/delivery-status", NULL, "Delivery report");
	put_status(&w, d);
	begin_part(&w, boundary, "text/rfc822-headers",
	    clean ? NULL : "quoted-printable", "Header of the message");
	put_headers(&w, headers, clean);
	end_line(&w);
	field_raw(&w, "--", "", boundary, "--");
}
