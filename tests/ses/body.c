/*
 * The receiver of DATA: end of data, unstuffing, and judging of line ends.
 *
 * Owns the content of the message in progress. Only CRLF . CRLF ends the
 * data; a dot after a bare LF is content, as at SES. The work is done by
 * memchr over whole lines. What is wrong with the content is collected in
 * `found` and never changes what is kept, so that the hash is that of the
 * bytes the client sent. Beyond `limit` bytes are counted, not kept.
 */
#include "body.h"

#include <string.h>

enum { LINE_MAX_OCTETS = 1000 };

void body_begin(struct body *b, size_t limit)
{
	/* A large message must not pin its memory to the connection. */
	if (b->data.cap > 262144)
		buf_free(&b->data);
	b->data.len = 0;
	buf_reserve(&b->data, 1); /* never NULL, even if empty */
	b->total = 0;
	b->limit = limit;
	b->line_len = 0;
	b->at_start = true;
	b->prev_cr = false;
	b->found = 0;
}

void body_free(struct body *b)
{
	buf_free(&b->data);
}

static void keep(struct body *b, const char *p, size_t n)
{
	size_t room = b->limit > b->data.len ? b->limit - b->data.len : 0;

	b->total += n;
	buf_add(&b->data, p, n < room ? n : room);
}

/* Takes up to and with the next LF, or everything; returns what follows. */
static const char *take_line(struct body *b, const char *p, const char *end)
{
	const char *nl = memchr(p, '\n', (size_t)(end - p));
	const char *stop = nl != NULL ? nl + 1 : end;
	const char *cr = memchr(p, '\r', (size_t)(stop - p));

	if (b->prev_cr && *p != '\n')
		b->found |= BODY_BARE_CR;
	for (; cr != NULL && cr + 1 < stop;
	     cr = memchr(cr + 1, '\r', (size_t)(stop - cr - 1))) {
		if (cr[1] != '\n') {
			b->found |= BODY_BARE_CR;
			break;
		}
	}
	b->line_len += (size_t)(stop - p);
	if (b->line_len > LINE_MAX_OCTETS)
		b->found |= BODY_LONG_LINE;
	b->at_start = false;
	if (nl != NULL) {
		b->at_start = nl > p ? nl[-1] == '\r' : b->prev_cr;
		if (!b->at_start)
			b->found |= BODY_BARE_LF;
		b->line_len = 0;
	}
	b->prev_cr = stop[-1] == '\r';
	keep(b, p, (size_t)(stop - p));
	return stop;
}

bool body_feed(struct body *b, const char *bytes, size_t n, size_t *used)
{
	const char *p = bytes, *end = bytes + n;
	bool done = false;

	while (p < end) {
		if (b->at_start && *p == '.') {
			size_t left = (size_t)(end - p);

			if (left == 1 || (left == 2 && p[1] == '\r'))
				break;
			if (p[1] == '\r' && p[2] == '\n') {
				p += 3;
				done = true;
				break;
			}
			if (p[1] != '.')
				b->found |= BODY_UNSTUFFED;
			p++;
		}
		p = take_line(b, p, end);
	}
	*used = (size_t)(p - bytes);
	if (memchr(bytes, '\0', *used) != NULL)
		b->found |= BODY_NUL;
	return done;
}
