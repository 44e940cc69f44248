/*
 * The content of DATA, in and out (RFC 5321 4.5.2, 2.3.8).
 *
 * Reader: takes the bytes of a client, however they are cut, removes dot
 * stuffing and finds the end of data.  Out comes canonical content: each line
 * ends in CRLF, and the last one too.  The end is CRLF.CRLF and nothing else,
 * in every mode, with one exception: in a session that has used LF alone from
 * its first command on (`lf_session`), LF.LF ends it, as long as no CR has
 * been seen in the content either.  A bare LF is normalised and noted; a bare
 * CR or a NUL is noted and left out (the message will be refused, after its
 * true end).  So no message can be smuggled inside another (CVE-2023-51764 and
 * its kin).  A line of a single dot that is not the end is a line of text.
 *
 * Writer: takes canonical content, however it is cut, and stuffs it.  It keeps
 * the CRLF law by itself, too: no bare CR, LF or NUL leaves it, whatever it is
 * given (a bare LF becomes CRLF, the others a space).
 *
 * reader(writer(x)) == x for canonical x and any cuts.
 */
#ifndef SMTP_DOT_H
#define SMTP_DOT_H

#include "base/base.h"

/* The octets of a line, without its end (RFC 5321 4.5.3.1.6). */
#define DOT_LINE_MAX 998

struct dot_reader {
	uint8_t state; /* private */
	bool lf_session;
	bool bare_lf, bare_cr, nul; /* seen so far */
	bool line_too_long; /* over 998 octets, without CRLF */
	/* The longest line behind the first empty one, without its end. */
	uint32_t longest_body_line;
	/* private */
	bool in_body;
	bool cr_seen;
	uint32_t line_len;
};

void dot_reader_init(struct dot_reader *r, bool lf_session);
/* The most that dot_read() writes for `len` bytes of input. */
#define DOT_READ_ROOM(len) (2 * (len) + 4)
/*
 * Consumes bytes until the end of data or of the input: *used says how many.
 * Writes to `out`, which has DOT_READ_ROOM(len), *out_len bytes.  Returns true
 * when the end of data was reached; what follows *used is the next command.
 */
bool dot_read(struct dot_reader *r, const char *in, size_t len, size_t *used,
    char *out, size_t *out_len);

struct dot_writer {
	uint8_t state; /* private */
};

typedef void (*dot_emit)(void *ctx, const char *ptr, size_t len);

void dot_writer_init(struct dot_writer *w);
/* Hands on runs of the input and, between them, what had to be added. */
void dot_write(
    struct dot_writer *w, const char *in, size_t len, dot_emit emit, void *ctx);
/* The line end, if the content lacks it, and ".\r\n". */
void dot_write_end(struct dot_writer *w, dot_emit emit, void *ctx);

#endif
