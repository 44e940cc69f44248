/*
 * The content of DATA: dot stuffing, line ends, and the one end of data.
 *
 * Pure; owns nothing.  Both directions are state machines that look at single
 * bytes only around line ends and dots; what lies between is found with
 * memchr(3) and copied or handed on in one piece.
 *
 * The reader tells a line start behind CRLF from one behind a bare LF.  Only
 * at the former does "." CRLF end the data and is a single dot taken away.  At
 * the latter it is anybody's guess whether the client stuffs such lines: ".."
 * loses one dot, "." before anything else is kept.
 */
#include "smtp/dot.h"

#include <string.h>

/*
 * How far is looked ahead at a time.  A window, because the rest of the buffer
 * would be searched again for each byte of a run of stray CRs.
 */
#define WINDOW 256

enum reader_state {
	READER_START, /* at a line start: of the content, or behind CRLF */
	READER_LF_START, /* at a line start behind a bare LF */
	READER_DOT, /* behind a dot at READER_START */
	READER_DOT_CR, /* and a CR */
	READER_LF_DOT, /* behind a dot at READER_LF_START */
	READER_TEXT, /* inside a line */
	READER_CR, /* behind a CR that has not been written */
};

enum writer_state {
	WRITER_START, /* at a line start */
	WRITER_TEXT, /* inside a line */
	WRITER_CR, /* behind a CR that has not been handed on */
};

/* How many bytes are neither CR nor LF nor NUL, looking at one window. */
static size_t plain_run(const char *p, size_t len)
{
	const char *hit;

	if (len > WINDOW)
		len = WINDOW;
	hit = memchr(p, '\n', len);
	if (hit)
		len = (size_t)(hit - p);
	hit = memchr(p, '\r', len);
	if (hit)
		len = (size_t)(hit - p);
	hit = memchr(p, '\0', len);
	if (hit)
		len = (size_t)(hit - p);
	return len;
}

struct read_cursor {
	const char *in, *in_end;
	char *out;
};

void dot_reader_init(struct dot_reader *r, bool lf_session)
{
	*r = (struct dot_reader){ .state = READER_START,
		.lf_session = lf_session };
}

static void put_text(
    struct dot_reader *r, struct read_cursor *c, const char *p, size_t len)
{
	memcpy(c->out, p, len);
	c->out += len;
	r->line_len += (uint32_t)len;
	if (r->line_len > DOT_LINE_MAX)
		r->line_too_long = true;
	if (r->in_body && r->line_len > r->longest_body_line)
		r->longest_body_line = r->line_len;
}

static void put_line_end(struct dot_reader *r, struct read_cursor *c)
{
	*c->out++ = '\r';
	*c->out++ = '\n';
	if (r->line_len == 0)
		r->in_body = true;
	r->line_len = 0;
}

static void read_text(struct dot_reader *r, struct read_cursor *c)
{
	size_t run = plain_run(c->in, (size_t)(c->in_end - c->in));

	put_text(r, c, c->in, run);
	c->in += run;
	if (c->in == c->in_end)
		return;
	switch (*c->in) {
	case '\r':
		r->cr_seen = true;
		r->state = READER_CR;
		break;
	case '\n':
		r->bare_lf = true;
		put_line_end(r, c);
		r->state = READER_LF_START;
		break;
	case '\0':
		r->nul = true;
		break;
	default:
		return; /* the window was full */
	}
	c->in++;
}

/* A line of one dot that ends in LF alone, which has just been consumed. */
static bool read_dot_lf(struct dot_reader *r, struct read_cursor *c)
{
	r->bare_lf = true;
	if (r->lf_session && !r->cr_seen)
		return true;
	put_text(r, c, ".", 1);
	put_line_end(r, c);
	r->state = READER_LF_START;
	return false;
}

/*
 * One byte around a line end or a dot, or none: then the state has changed.
 * True at the end of data.
 */
static bool read_edge(struct dot_reader *r, struct read_cursor *c)
{
	char byte = *c->in++;

	switch ((enum reader_state)r->state) {
	case READER_START:
	case READER_LF_START:
		if (byte == '.') {
			r->state = r->state == READER_START ? READER_DOT
							    : READER_LF_DOT;
			return false;
		}
		break;
	case READER_DOT:
		if (byte == '\n')
			return read_dot_lf(r, c);
		if (byte == '\r') {
			r->cr_seen = true;
			r->state = READER_DOT_CR;
			return false;
		}
		break;
	case READER_DOT_CR:
		if (byte == '\n')
			return true;
		r->state = READER_CR;
		c->in--;
		return false;
	case READER_LF_DOT:
		if (byte == '\n')
			return read_dot_lf(r, c);
		if (byte != '.')
			put_text(r, c, ".", 1);
		break;
	case READER_CR:
		if (byte == '\n') {
			put_line_end(r, c);
			r->state = READER_START;
			return false;
		}
		r->bare_cr = true;
		break;
	case READER_TEXT:
		break;
	}
	c->in--;
	r->state = READER_TEXT;
	return false;
}

bool dot_read(struct dot_reader *r, const char *in, size_t len, size_t *used,
    char *out, size_t *out_len)
{
	struct read_cursor c = { in, in + len, out };
	bool end = false;

	while (c.in < c.in_end && !end) {
		if (r->state == READER_TEXT)
			read_text(r, &c);
		else
			end = read_edge(r, &c);
	}
	*used = (size_t)(c.in - in);
	*out_len = (size_t)(c.out - out);
	return end;
}

struct write_cursor {
	const char *from; /* not handed on yet: from here to `in` */
	const char *in, *in_end;
	dot_emit emit;
	void *ctx;
};

void dot_writer_init(struct dot_writer *w)
{
	w->state = WRITER_START;
}

static void flush(struct write_cursor *c)
{
	if (c->in > c->from)
		c->emit(c->ctx, c->from, (size_t)(c->in - c->from));
	c->from = c->in;
}

/* Hands on `text` in place of the next `skip` bytes. */
static void replace(struct write_cursor *c, size_t skip, const char *text)
{
	flush(c);
	c->emit(c->ctx, text, strlen(text));
	c->in += skip;
	c->from = c->in;
}

static void write_text(struct dot_writer *w, struct write_cursor *c)
{
	c->in += plain_run(c->in, (size_t)(c->in_end - c->in));
	if (c->in == c->in_end)
		return;
	switch (*c->in) {
	case '\r':
		if (c->in + 1 == c->in_end) {
			flush(c);
			c->from = ++c->in;
			w->state = WRITER_CR;
		} else if (c->in[1] == '\n') {
			c->in += 2;
			w->state = WRITER_START;
		} else {
			replace(c, 1, " ");
		}
		break;
	case '\n':
		replace(c, 1, "\r\n");
		w->state = WRITER_START;
		break;
	case '\0':
		replace(c, 1, " ");
		break;
	default:
		break; /* the window was full */
	}
}

void dot_write(
    struct dot_writer *w, const char *in, size_t len, dot_emit emit, void *ctx)
{
	struct write_cursor c = { in, in, in + len, emit, ctx };

	while (c.in < c.in_end) {
		switch ((enum writer_state)w->state) {
		case WRITER_START:
			if (*c.in == '.')
				replace(&c, 0, ".");
			w->state = WRITER_TEXT;
			break;
		case WRITER_CR:
			if (*c.in == '\n') {
				replace(&c, 1, "\r\n");
				w->state = WRITER_START;
			} else {
				replace(&c, 0, " ");
				w->state = WRITER_TEXT;
			}
			break;
		case WRITER_TEXT:
			write_text(w, &c);
			break;
		}
	}
	flush(&c);
}

void dot_write_end(struct dot_writer *w, dot_emit emit, void *ctx)
{
	if (w->state == WRITER_START)
		emit(ctx, ".\r\n", 3);
	else
		emit(ctx, "\r\n.\r\n", 5);
	w->state = WRITER_START;
}
