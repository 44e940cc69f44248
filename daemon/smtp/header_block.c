/*
 * The header block as one piece: where it ends, and what it says of who wrote
 * the message.  Pure; owns nothing.  By the same rule as the scan: the block
 * ends at the empty line, or at a line that is no field.
 */
#include "smtp/header.h"

#include <string.h>

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* The next line with its end; what has none is no line. */
static struct slice next_line(struct slice text)
{
	const char *lf = text.len > 0 ? memchr(text.ptr, '\n', text.len) : NULL;

	return slice_of(text.ptr, lf != NULL ? (size_t)(lf - text.ptr) + 1 : 0);
}

struct slice header_field_name(struct slice line)
{
	size_t n = 0;

	while (n < line.len && line.ptr[n] > ' ' && line.ptr[n] <= '~' &&
	    line.ptr[n] != ':')
		n++;
	for (size_t i = n; i < line.len; i++) {
		if (line.ptr[i] == ':')
			return slice_of(line.ptr, n);
		if (line.ptr[i] != ' ' && line.ptr[i] != '\t')
			break;
	}
	return slice_of(line.ptr, 0);
}

static bool is_folded(struct slice line)
{
	return line.len > 0 && (line.ptr[0] == ' ' || line.ptr[0] == '\t');
}

struct slice header_next_field(struct slice text)
{
	struct slice line = next_line(text);
	size_t len = line.len;

	if (header_field_name(line).len == 0)
		return slice_of(text.ptr, 0);
	while (is_folded(
	    line = next_line(slice_of(text.ptr + len, text.len - len))))
		len += line.len;
	return slice_of(text.ptr, len);
}

struct slice header_block(struct slice content, size_t max)
{
	size_t len = 0;

	if (content.len > max)
		content.len = max;
	for (;;) {
		struct slice field = header_next_field(
		    slice_of(content.ptr + len, content.len - len));

		if (field.len == 0)
			return slice_of(content.ptr, len);
		len += field.len;
	}
}

/* The word behind comments: "(by us) auto-replied; x=y" has "auto-replied". */
static struct slice first_word(struct slice value)
{
	unsigned depth = 0;
	size_t i = 0, n = 0;

	for (; i < value.len; i++) {
		char c = value.ptr[i];

		if (c == '(')
			depth++;
		else if (c == ')' && depth > 0)
			depth--;
		else if (depth == 0 && !is_blank(c))
			break;
	}
	while (i + n < value.len && !is_blank(value.ptr[i + n]) &&
	    value.ptr[i + n] != ';' && value.ptr[i + n] != '(')
		n++;
	return slice_of(value.ptr + i, n);
}

bool header_is_automatic(struct slice block)
{
	struct slice field;

	while ((field = header_next_field(block)).len > 0) {
		struct slice value = field;

		block = slice_of(block.ptr + field.len, block.len - field.len);
		if (!slice_caseeq_str(
			header_field_name(field), "Auto-Submitted"))
			continue;
		slice_split(&value, ':');
		if (!slice_caseeq_str(first_word(value), "no"))
			return true;
	}
	return false;
}
