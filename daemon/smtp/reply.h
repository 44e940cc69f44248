/*
 * Replies of the upstream (RFC 5321 4.2), put together line by line.  SES may
 * send a reply one byte a TLS record; the caller cuts lines, this adds them up.
 * Strict: three digits, first 2-5, second 0-5, then space, '-' or the end; all
 * lines of a reply with the same code; no NUL; bounded in lines and bytes.
 */
#ifndef SMTP_REPLY_H
#define SMTP_REPLY_H

#include "base/slice.h"

#define REPLY_TEXT_MAX 512
#define REPLY_MAX_LINES 128
/* A longer line is a protocol error; the session checks while it gathers. */
#define REPLY_LINE_MAX 2048

struct reply {
	int code; /* 200-599 */
	char enhanced[12]; /* "4.4.2", or "" (RFC 3463) */
	/* The text of all lines, joined by a space, control bytes as '?',
	 * without code and enhanced code. */
	char text[REPLY_TEXT_MAX + 1];
	bool truncated;
};

/* Keywords of an EHLO reply need the lines one by one. */
typedef void (*reply_line_fn)(void *ctx, struct slice text);

struct reply_parser {
	int code; /* of the lines so far, 0 before the first, -1: broken */
	unsigned n_lines;
	struct reply reply;
};

void reply_parser_init(struct reply_parser *p);
/*
 * A line without CRLF.  1: p->reply is complete (and the parser ready for the
 * next one); 0: more lines follow; -1: this is no SMTP, the connection can't be
 * trusted any more, and every further line gives -1.  `on_line` may be NULL; it
 * gets what follows code and separator, enhanced code included.
 */
int reply_feed(struct reply_parser *p, struct slice line, reply_line_fn on_line,
    void *ctx);

#endif
