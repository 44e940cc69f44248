/*
 * One line of the screen: text in styles, counted in columns.
 *
 * Pure.  No byte of a peer reaches the terminal as it is: text is escaped as
 * ctl_put() does.  What is too long ends in an ellipsis.
 */
#include "cli/top.h"

#include "base/mem.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

static void append(struct top_line *l, const char *bytes, size_t n)
{
	if (l->len + n + 1 > l->size) {
		l->size = 2 * l->size + n + 64;
		l->text = xrealloc(l->text, l->size);
	}
	memcpy(l->text + l->len, bytes, n);
	l->len += n;
	l->text[l->len] = '\0';
}

void top_line_begin(struct top_line *l, unsigned width, bool color, bool utf8)
{
	*l = (struct top_line){ .width = width, .color = color, .utf8 = utf8 };
	append(l, "", 0);
}

static void style_on(struct top_line *l, enum top_style style)
{
	static const char *const codes[] = {
		[TOP_PLAIN] = "",
		[TOP_BOLD] = "\x1b[1m",
		[TOP_DIM] = "\x1b[2m",
		[TOP_GOOD] = "\x1b[32m",
		[TOP_BAD] = "\x1b[1;31m",
		[TOP_SENT] = "\x1b[32m",
		[TOP_ACCEPTED] = "\x1b[36m",
		[TOP_TITLE] = "\x1b[7m",
	};

	if (l->color)
		append(l, codes[style], strlen(codes[style]));
}

static void style_off(struct top_line *l, enum top_style style)
{
	if (l->color && style != TOP_PLAIN)
		append(l, "\x1b[m", 3);
}

/* The last column of a text that goes on. */
static void put_ellipsis(struct top_line *l)
{
	append(l, l->utf8 ? "\xe2\x80\xa6" : ">", l->utf8 ? 3 : 1);
	l->columns++;
}

static void put_byte(struct top_line *l, unsigned char c)
{
	char escaped[8];

	if (c >= 0x20 && c <= 0x7e) {
		append(l, (const char *)&c, 1);
		l->columns++;
		return;
	}
	snprintf(escaped, sizeof escaped, "\\x%02x", c);
	append(l, escaped, 4);
	l->columns += 4;
}

void top_put(struct top_line *l, enum top_style style, const char *text)
{
	unsigned room = l->width > l->columns ? l->width - l->columns : 0;
	size_t width = ctl_width(text);
	unsigned end = l->columns + room - (width > room ? 1 : 0);

	if (room == 0 || text[0] == '\0')
		return;
	style_on(l, style);
	for (; *text != '\0'; text++) {
		char one[2] = { *text, '\0' };

		if (l->columns + ctl_width(one) > end)
			break;
		put_byte(l, (unsigned char)*text);
	}
	if (width > room) {
		put_ellipsis(l);
		l->columns = l->width;
	}
	style_off(l, style);
}

void top_putf(struct top_line *l, enum top_style style, const char *fmt, ...)
{
	char *text;
	va_list args;

	va_start(args, fmt);
	text = xvasprintf(fmt, args);
	va_end(args);
	top_put(l, style, text);
	free(text);
}

void top_put_glyphs(struct top_line *l, enum top_style style,
    const char *glyphs, unsigned columns)
{
	if (l->columns + columns > l->width)
		return;
	style_on(l, style);
	append(l, glyphs, strlen(glyphs));
	style_off(l, style);
	l->columns += columns;
}

void top_pad(struct top_line *l, unsigned column)
{
	if (column > l->width)
		column = l->width;
	while (l->columns < column) {
		append(l, " ", 1);
		l->columns++;
	}
}
