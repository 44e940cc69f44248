/*
 * Replies of the upstream, put together line by line.
 *
 * What comes in was written by a peer and is not trusted: a line that is no
 * reply, a code that changes within one reply, too many lines or too long ones
 * end the dialogue for good (the parser stays broken).  The text is cut to a
 * fixed size and holds no control byte, so that nothing of it can break a line
 * of a log, a spool record or a notice.
 *
 * Pure; owns nothing but its struct.
 */
#include "smtp/reply.h"

#include <string.h>

#define BROKEN (-1)

static bool digit_between(char c, char low, char high)
{
	return c >= low && c <= high;
}

/* The code at the head of a line, followed as it has to be; -1: no reply. */
static int line_code(struct slice line)
{
	const char *c = line.ptr;

	if (line.len < 3 || line.len > REPLY_LINE_MAX ||
	    memchr(c, '\0', line.len))
		return -1;
	if (!digit_between(c[0], '2', '5') || !digit_between(c[1], '0', '5') ||
	    !digit_between(c[2], '0', '9'))
		return -1;
	if (line.len > 3 && c[3] != ' ' && c[3] != '-')
		return -1;
	return (c[0] - '0') * 100 + (c[1] - '0') * 10 + (c[2] - '0');
}

/*
 * Length of an enhanced code ("4.4.2") at the head of the text; 0: none.  Its
 * class has to be that of the reply (RFC 2034 4), which leaves out 3xx.
 */
static size_t enhanced_len(struct slice text, int code)
{
	size_t at = 1;

	if (text.len == 0 || code / 100 == 3 || text.ptr[0] != '0' + code / 100)
		return 0;
	for (int part = 0; part < 2; part++) {
		size_t first = at + 1;

		if (at >= text.len || text.ptr[at] != '.')
			return 0;
		for (at = first; at < text.len; at++)
			if (!digit_between(text.ptr[at], '0', '9'))
				break;
		if (at == first || at - first > 3)
			return 0;
	}
	return at == text.len || text.ptr[at] == ' ' ? at : 0;
}

static void add_char(struct reply *r, size_t *len, char c)
{
	unsigned char byte = (unsigned char)c;

	if (*len == REPLY_TEXT_MAX) {
		r->truncated = true;
		return;
	}
	r->text[(*len)++] = byte < 0x20 || byte == 0x7f ? '?' : c;
}

static void add_text(struct reply *r, struct slice text)
{
	size_t len = strlen(r->text);

	text = slice_trim(text);
	if (text.len > 0 && len > 0)
		add_char(r, &len, ' ');
	for (size_t i = 0; i < text.len; i++)
		add_char(r, &len, text.ptr[i]);
	r->text[len] = '\0';
}

void reply_parser_init(struct reply_parser *p)
{
	memset(p, 0, sizeof(*p));
}

int reply_feed(
    struct reply_parser *p, struct slice line, reply_line_fn on_line, void *ctx)
{
	int code = line_code(line);
	struct slice text;
	size_t skip;

	if (code < 0 || p->n_lines == REPLY_MAX_LINES ||
	    (p->code != 0 && p->code != code)) {
		p->code = BROKEN;
		return -1;
	}
	if (p->n_lines++ == 0) {
		memset(&p->reply, 0, sizeof(p->reply));
		p->code = p->reply.code = code;
	}
	skip = line.len > 4 ? 4 : line.len;
	text = slice_of(line.ptr + skip, line.len - skip);
	if (on_line)
		on_line(ctx, text);
	skip = enhanced_len(text, code);
	if (skip > 0 && p->reply.enhanced[0] == '\0')
		slice_copy(slice_of(text.ptr, skip), p->reply.enhanced,
		    sizeof(p->reply.enhanced));
	add_text(&p->reply, slice_of(text.ptr + skip, text.len - skip));
	if (line.len > 3 && line.ptr[3] == '-')
		return 0;
	p->code = 0;
	p->n_lines = 0;
	return 1;
}
