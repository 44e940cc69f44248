/*
 * Any text as canonical lines.
 *
 * Pure; works byte by byte in constant memory.  Invariant: what comes out has
 * no CR, LF or NUL but in its line ends, so that the header which is read from
 * it, and the one that the daemon reads, are the same.
 */
#include "cli/sendmail.h"

void sendmail_lines_init(struct sendmail_lines *l, bool dot_ends)
{
	*l = (struct sendmail_lines){ .dot_ends = dot_ends, .after_lf = true };
}

static char *put_line_end(struct sendmail_lines *l, char *out)
{
	*out++ = '\r';
	*out++ = '\n';
	l->line_len = 0;
	return out;
}

/* A CR that no LF followed; it counts once, however many there were. */
static char *put_bare_cr(struct sendmail_lines *l, char *out)
{
	l->cr = false;
	if (l->in_body)
		return l->line_len > 0 ? put_line_end(l, out) : out;
	*out++ = ' ';
	l->line_len++;
	return out;
}

static char *put_dot(struct sendmail_lines *l, char *out)
{
	l->dot = false;
	l->line_len++;
	*out++ = '.';
	return out;
}

static char *on_lf(struct sendmail_lines *l, char *out)
{
	l->cr = false;
	if (l->dot) {
		l->ended = true;
		return out;
	}
	if (l->line_len == 0)
		l->in_body = true;
	l->after_lf = true;
	return put_line_end(l, out);
}

static char *on_byte(struct sendmail_lines *l, char c, char *out)
{
	if (l->dot)
		out = put_dot(l, out);
	if (l->cr)
		out = put_bare_cr(l, out);
	if (c == '.' && l->after_lf && l->line_len == 0 && l->dot_ends) {
		l->dot = true;
	} else {
		*out++ = c == '\0' ? ' ' : c;
		l->line_len++;
		l->eight_bit |= (unsigned char)c >= 0x80;
	}
	l->after_lf = false;
	return out;
}

size_t sendmail_lines_feed(
    struct sendmail_lines *l, const char *in, size_t len, char *out)
{
	char *begin = out;

	for (size_t i = 0; i < len && !l->ended; i++) {
		if (in[i] == '\n')
			out = on_lf(l, out);
		else if (in[i] == '\r')
			l->cr = true;
		else
			out = on_byte(l, in[i], out);
	}
	return (size_t)(out - begin);
}

size_t sendmail_lines_end(struct sendmail_lines *l, char *out)
{
	char *begin = out;

	/* A dot is the end with or without a line end behind it. */
	if (l->line_len > 0 && !l->ended && !l->dot)
		out = put_line_end(l, out);
	return (size_t)(out - begin);
}
