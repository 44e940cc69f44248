/*
 * Groups in several pieces, and keys that are set twice, on the text that
 * config_source.c put together.
 *
 * libconfig takes no name twice and says so without saying which.  Here a group
 * may be written as often as people's files want it (one of conf.d adds to what
 * the main file says); its second and later pieces get names of their own
 * before libconfig sees them, by a mark behind the name that config_parse.c
 * takes off again.  A key that is set twice is a mistake, told with both
 * places, and gets such a mark too, so that what stands behind it is looked at.
 *
 * The text may hold a password: it is wiped where it is moved.
 */
#include "config_private.h"

#include "base/mem.h"
#include "base/slice.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* In the alphabet of libconfig's names, and in none of ours. */
#define MARK "***"
#define MARK_MAX 16 /* bytes of it with its number */

struct setting {
	char *name; /* of a group, or with it: "smtp.timeout" */
	unsigned line;
};

struct merge {
	struct config_reader *r;
	struct setting *seen;
	unsigned n_seen;
	size_t *marks; /* where they go, in order */
	unsigned n_marks;
	struct slice group; /* that p is in */
	unsigned depth, line;
};

size_t config_name_len(const char *name)
{
	const char *mark = strstr(name, MARK);

	return mark ? (size_t)(mark - name) : strlen(name);
}

static bool is_name(char c, bool first)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '*' ||
	    (!first && ((c >= '0' && c <= '9') || c == '-' || c == '_'));
}

/* Behind blanks and comments; at the end, NULL never comes up. */
static const char *skip_blanks(const char *p)
{
	for (;;) {
		const char *next = p + strspn(p, " \t\r\n\f\v");

		if (*next == '#' ||
		    (*next == '/' && (next[1] == '/' || next[1] == '*')))
			next = config_source_skip(next);
		if (!next)
			return p + strlen(p);
		if (next == p)
			return p;
		p = next;
	}
}

static void add_mark(struct merge *m, const char *end)
{
	m->marks = xrealloc(m->marks, (m->n_marks + 1) * sizeof(*m->marks));
	m->marks[m->n_marks++] = (size_t)(end - m->r->source.text);
}

/* A group, or a key in one: has there been one of that name? */
static void note(struct merge *m, struct slice name)
{
	const char *end = name.ptr + name.len;
	char *full = m->depth == 0 ? xstrndup(name.ptr, name.len)
				   : xasprintf("%.*s.%.*s", (int)m->group.len,
					 m->group.ptr, (int)name.len, name.ptr);
	char *place;

	if (m->depth == 0)
		m->group = name;
	for (unsigned i = 0; i < m->n_seen; i++) {
		if (strcmp(m->seen[i].name, full) != 0)
			continue;
		add_mark(m, end);
		if (m->depth > 0) {
			place =
			    config_source_place(&m->r->source, m->seen[i].line);
			config_error(m->r, m->line,
			    "'%s' is set already at %s; a key may be set once",
			    full, place);
			free(place);
		}
		free(full);
		return;
	}
	m->seen = xrealloc(m->seen, (m->n_seen + 1) * sizeof(*m->seen));
	m->seen[m->n_seen++] = (struct setting){ full, m->line };
}

static void walk(struct merge *m)
{
	const char *p = m->r->source.text, *next;

	for (; *p; p = next) {
		next = p + 1;
		if (is_name(*p, true)) {
			while (is_name(*next, false))
				next++;
			if (m->depth < 2 && strchr("=:", *skip_blanks(next)) &&
			    *skip_blanks(next))
				note(m, slice_of(p, (size_t)(next - p)));
			continue;
		}
		if (*p == '"' || *p == '#' || *p == '/')
			next = config_source_skip(p);
		if (!next)
			return;
		if (strchr("{([", *p))
			m->depth++;
		else if (strchr("})]", *p) && m->depth > 0)
			m->depth--;
		for (const char *q = p; q < next; q++)
			m->line += *q == '\n';
	}
}

/* Puts the marks in; lines stay what they are. */
static void mark(struct merge *m)
{
	struct config_source *s = &m->r->source;
	size_t size = s->len + m->n_marks * MARK_MAX + 1, from = 0, len = 0;
	char *text = xmalloc(size);

	for (unsigned i = 0; i < m->n_marks; i++) {
		memcpy(text + len, s->text + from, m->marks[i] - from);
		len += m->marks[i] - from;
		from = m->marks[i];
		len += (size_t)snprintf(
		    text + len, MARK_MAX, MARK "%u", i % 1000000);
	}
	memcpy(text + len, s->text + from, s->len - from + 1);
	len += s->len - from;
	explicit_bzero(s->text, s->len);
	free(s->text);
	s->text = text;
	s->len = len;
	s->size = size;
}

void config_source_merge(struct config_reader *r)
{
	struct merge m = { .r = r, .line = 1 };

	walk(&m);
	if (m.n_marks > 0)
		mark(&m);
	for (unsigned i = 0; i < m.n_seen; i++)
		free(m.seen[i].name);
	free(m.seen);
	free(m.marks);
}
