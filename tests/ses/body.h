#ifndef SES_BODY_H
#define SES_BODY_H

#include "text.h"

#include <stdbool.h>
#include <stddef.h>

/* What a client may do wrong in the content; bits of body.found. */
enum {
	BODY_BARE_CR = 1,
	BODY_BARE_LF = 2,
	BODY_NUL = 4,
	BODY_LONG_LINE = 8,
	BODY_UNSTUFFED = 16,
};

/* The content of one message while it arrives. */
struct body {
	struct buf data; /* after unstuffing, up to limit bytes */
	size_t total; /* bytes after unstuffing, all of them */
	size_t limit;
	size_t line_len; /* of the line in progress */
	bool at_start; /* right after a CRLF (or after DATA) */
	bool prev_cr; /* the last byte taken was a CR */
	unsigned found;
};

void body_begin(struct body *b, size_t limit);
/*
 * Takes bytes; *used says how many. True when CRLF.CRLF was seen. Up to two
 * bytes may be left unused: they wait for what follows.
 */
bool body_feed(struct body *b, const char *bytes, size_t n, size_t *used);
void body_free(struct body *b);

#endif
