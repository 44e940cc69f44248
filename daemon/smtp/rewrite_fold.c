/*
 * Folding of header lines that are too long for SMTP (RFC 5322 2.2.3).
 *
 * Pure; owns nothing.  A line is cut in front of a blank, so that unfolding
 * gives back what was there; in address lists also behind a comma outside of
 * quotes and comments, where a blank more means nothing.  No line is made that
 * holds nothing but blanks: some readers would take it for the end.
 */
#include "smtp/rewrite_private.h"

#include <string.h>

#define LINE_MAX_OCTETS 998

/* What of a structured field we are in, from one line to the next. */
struct syntax {
	bool quoted;
	unsigned depth; /* of comments */
	bool escaped; /* the next character means itself */
};

static bool is_blank(char c)
{
	return c == ' ' || c == '\t';
}

static void read_syntax(struct syntax *s, char c)
{
	if (s->escaped)
		s->escaped = false;
	else if (c == '\\' && (s->quoted || s->depth > 0))
		s->escaped = true;
	else if (s->quoted)
		s->quoted = c != '"';
	else if (c == '"' && s->depth == 0)
		s->quoted = true;
	else if (c == '(')
		s->depth++;
	else if (c == ')' && s->depth > 0)
		s->depth--;
}

/* The next line of *rest without its end. */
static struct slice cut_line(struct slice *rest)
{
	struct slice line = slice_split(rest, '\n');

	if (line.len > 0 && line.ptr[line.len - 1] == '\r')
		line.len--;
	return line;
}

/* Where the line may be cut, and what of it is still to be written. */
struct folder {
	struct slice line;
	size_t start; /* of the line that is being made */
	size_t pad; /* 1: it gets a blank that was not there */
	bool has_text; /* there is more than blanks in it */
	size_t cut; /* the last place to cut it; 0: none yet */
	struct rewrite_text *out;
	bool ok;
};

static void end_line(struct folder *f, size_t end)
{
	if (f->pad + end - f->start > LINE_MAX_OCTETS)
		f->ok = false;
	if (f->pad)
		rewrite_text_add_str(f->out, " ");
	rewrite_text_add(
	    f->out, slice_of(f->line.ptr + f->start, end - f->start));
	rewrite_text_add_str(f->out, "\r\n");
}

static bool has_text(struct slice line, size_t from, size_t end)
{
	while (from < end && is_blank(line.ptr[from]))
		from++;
	return from < end;
}

static void cut_here(struct folder *f, size_t i)
{
	end_line(f, f->cut);
	f->start = f->cut;
	f->pad = is_blank(f->line.ptr[f->cut]) ? 0 : 1;
	f->has_text = has_text(f->line, f->cut, i);
	f->cut = 0;
}

static bool fold_line(struct slice line, bool after_comma,
    struct syntax *syntax, struct rewrite_text *out)
{
	struct folder f = { .line = line, .out = out, .ok = true };
	size_t end = line.len;

	while (end > 0 && is_blank(line.ptr[end - 1]))
		end--;
	for (size_t i = 0; i < line.len; i++) {
		char c = line.ptr[i], last = i > 0 ? line.ptr[i - 1] : '\0';
		bool at_blank = is_blank(c) && last != '\\';
		bool at_comma = after_comma && last == ',' && !is_blank(c) &&
		    !syntax->quoted && syntax->depth == 0;
		bool fits = f.pad + i - f.start <= LINE_MAX_OCTETS;

		if (f.has_text && i < end && (at_blank || at_comma) &&
		    (fits || f.cut == 0))
			f.cut = i;
		if (f.cut > 0 && f.pad + line.len - f.start > LINE_MAX_OCTETS &&
		    f.pad + i + 1 - f.start > LINE_MAX_OCTETS)
			cut_here(&f, i);
		f.has_text = f.has_text || !is_blank(c);
		read_syntax(syntax, c);
	}
	end_line(&f, line.len);
	return f.ok;
}

bool rewrite_fold(
    struct slice field, bool after_comma, struct rewrite_text *out)
{
	struct syntax syntax = { 0 };
	struct slice rest = field;
	size_t longest = 0;
	bool ok = true;

	while (rest.len > 0) {
		size_t len = cut_line(&rest).len;

		longest = len > longest ? len : longest;
	}
	if (longest <= LINE_MAX_OCTETS)
		return true;
	while (field.len > 0) {
		struct slice line = cut_line(&field);

		ok = fold_line(line, after_comma, &syntax, out) && ok;
	}
	return ok;
}
