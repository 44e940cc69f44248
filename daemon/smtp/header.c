/*
 * A look at the header block as it streams by, and our own trace field.
 *
 * Pure; owns nothing.  The scan is a state machine over bytes that keeps the
 * name of the field it is in, and of the values only the Message-ID; the rest
 * of each line is skipped with memchr(3).  Nothing here depends on how the
 * content is cut.
 */
#include "smtp/header.h"

#include <string.h>

/* RFC 5322 2.1.1 recommends 78 columns for a line. */
#define FOLD_COLUMN 78
/* The most of any name that goes into our trace field. */
#define TRACE_NAME_MAX 255

enum scan_state {
	SCAN_LINE, /* at the start of a line */
	SCAN_NAME, /* in the name of a field */
	SCAN_VALUE, /* behind the colon, or in a folded line */
	SCAN_EMPTY, /* behind a CR at the start of a line */
};

enum scan_field {
	FIELD_NONE, /* no field has begun */
	FIELD_OTHER,
	FIELD_MESSAGE_ID,
};

enum id_state {
	ID_BEFORE,
	ID_ANGLE, /* inside <> */
	ID_BARE, /* a word without <> */
	ID_DONE,
};

void header_scan_init(struct header_scan *h)
{
	*h = (struct header_scan){ .state = SCAN_LINE };
}

/* The name is complete: what does it tell us? */
static void begin_field(struct header_scan *h)
{
	struct slice name = slice_trim(slice_of(h->name, h->name_len));

	h->field = FIELD_OTHER;
	if (slice_caseeq_str(name, "Received")) {
		h->n_received++;
	} else if (slice_caseeq_str(name, "Date")) {
		h->has_date = true;
	} else if (slice_caseeq_str(name, "From")) {
		h->has_from = true;
	} else if (slice_caseeq_str(name, "Message-ID")) {
		h->has_message_id = true;
		h->field = FIELD_MESSAGE_ID;
	}
}

/*
 * One byte of a name; false if it shows that the line is no field.  Blanks may
 * stand before the colon (RFC 5322 4.5.8) and nowhere else.
 */
static bool add_to_name(struct header_scan *h, char c)
{
	bool is_blank = c == ' ' || c == '\t';
	bool after_blank = h->name_len > 0 && h->name[h->name_len - 1] == ' ';

	if (!is_blank && (after_blank || c < '!' || c > '~'))
		return false;
	if (is_blank)
		c = ' ';
	/* A name that is too long is none of ours; its last byte is kept. */
	if (h->name_len == HEADER_NAME_MAX)
		h->name[HEADER_NAME_MAX - 1] = c;
	else
		h->name[h->name_len++] = c;
	return true;
}

static void add_to_id(struct header_scan *h, char c)
{
	if (h->message_id_len == HEADER_MESSAGE_ID_MAX)
		return;
	h->message_id[h->message_id_len++] = c < '!' || c > '~' ? '?' : c;
	h->message_id[h->message_id_len] = '\0';
}

/* One byte of the value of Message-ID; line ends of folding are blanks. */
static void read_id(struct header_scan *h, char c)
{
	bool is_blank = c == ' ' || c == '\t' || c == '\r' || c == '\n';

	switch ((enum id_state)h->id_state) {
	case ID_BEFORE:
		if (is_blank)
			return;
		h->id_state = c == '<' ? ID_ANGLE : ID_BARE;
		if (c != '<')
			add_to_id(h, c);
		return;
	case ID_ANGLE:
		if (c == '>')
			h->id_state = ID_DONE;
		else if (!is_blank)
			add_to_id(h, c);
		return;
	case ID_BARE:
		if (is_blank)
			h->id_state = ID_DONE;
		else
			add_to_id(h, c);
		return;
	case ID_DONE:
		return;
	}
}

/* As much of a value as is there; returns how many bytes were taken. */
static size_t read_value(struct header_scan *h, const char *in, size_t len)
{
	const char *end = memchr(in, '\n', len);
	size_t n = end ? (size_t)(end - in) + 1 : len;

	if (h->field == FIELD_MESSAGE_ID)
		for (size_t i = 0; i < n; i++)
			read_id(h, in[i]);
	if (end)
		h->state = SCAN_LINE;
	return n;
}

static void start_line(struct header_scan *h, char c)
{
	if (c == ' ' || c == '\t') {
		if (h->field == FIELD_NONE)
			h->done = true;
		h->state = SCAN_VALUE;
		return;
	}
	/* Only the first Message-ID counts, and it has had its say. */
	if (h->field == FIELD_MESSAGE_ID)
		h->id_state = ID_DONE;
	if (c == '\r') {
		h->state = SCAN_EMPTY;
		return;
	}
	h->name_len = 0;
	h->state = SCAN_NAME;
	if (c == ':' || !add_to_name(h, c))
		h->done = true;
}

void header_scan_feed(struct header_scan *h, const char *in, size_t len)
{
	size_t i = 0;

	while (i < len && !h->done) {
		switch ((enum scan_state)h->state) {
		case SCAN_LINE:
			start_line(h, in[i++]);
			break;
		case SCAN_NAME:
			if (in[i] == ':') {
				begin_field(h);
				h->state = SCAN_VALUE;
			} else if (!add_to_name(h, in[i])) {
				h->done = true;
			}
			i++;
			break;
		case SCAN_VALUE:
			i += read_value(h, in + i, len - i);
			break;
		case SCAN_EMPTY:
			h->done = true;
			break;
		}
	}
}

/* A copy of `in` in which nothing can end a word, a comment or a line. */
static const char *harmless(const char *in, const char *also, char *buf)
{
	size_t n = 0;

	for (; n < TRACE_NAME_MAX && in[n] != '\0'; n++) {
		char c = in[n];
		bool ok = (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
		    (c >= '0' && c <= '9') || strchr(".-_:[]+=", c) ||
		    strchr(also, c);

		buf[n] = ok ? c : '?';
	}
	buf[n] = '\0';
	return n > 0 ? buf : "unknown";
}

size_t header_format_received(char *buf, size_t size, const char *helo,
    const char *peer, const char *hostname, bool esmtp, const char *id,
    const char *date)
{
	char helo_buf[TRACE_NAME_MAX + 1], peer_buf[TRACE_NAME_MAX + 1];
	char host_buf[TRACE_NAME_MAX + 1];
	const char *with = esmtp ? "ESMTP" : "SMTP";
	bool fold_from, fold_by;
	char *p = buf;

	_Static_assert(3 * TRACE_NAME_MAX + 200 < 1024, "they all fit");
	ASSERT(size >= 1024);
	helo = harmless(helo, "", helo_buf);
	peer = harmless(peer, " ", peer_buf);
	hostname = harmless(hostname, "", host_buf);
	fold_from = strlen("Received: from  ()") + strlen(helo) + strlen(peer) >
	    FOLD_COLUMN;
	fold_by = strlen("\tby  (sesrelayd) with ESMTP id ;") +
		strlen(hostname) + strlen(id) >
	    FOLD_COLUMN;
	p = stpcpy(stpcpy(p, "Received: from "), helo);
	p = stpcpy(stpcpy(p, fold_from ? "\r\n\t(" : " ("), peer);
	p = stpcpy(stpcpy(p, ")\r\n\tby "), hostname);
	p = stpcpy(stpcpy(p, " (sesrelayd)"), fold_by ? "\r\n\t" : " ");
	p = stpcpy(stpcpy(stpcpy(p, "with "), with), " id ");
	p += slice_copy(slice_str(id), p, 32 + 1);
	p = stpcpy(p, ";\r\n\t");
	p += slice_copy(slice_str(date), p, 64 + 1);
	p = stpcpy(p, "\r\n");
	return (size_t)(p - buf);
}
