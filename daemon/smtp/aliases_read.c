/*
 * The text of aliases(5): lines that begin with a name, a colon and a list of
 * addresses; lines that begin with a blank go on with the list; empty lines
 * and comments count for nothing.
 *
 * Pure.  Strict where it matters: what a mail system would hand to a program or
 * a file cannot be done here, and mail for it would be lost without a word, so
 * the file is refused with the line and what to do.  The first mistake counts.
 */
#include "smtp/aliases_private.h"

#include "base/mem.h"
#include "smtp/addr.h"

#include <stdlib.h>
#include <string.h>

/* As much of somebody's text as goes into a message. */
#define SHOWN_MAX 60

struct reader {
	struct aliases *a;
	struct slice in; /* what is left of the line */
	unsigned line;
	bool in_list; /* an alias has begun: more of its list may come */
	bool has_item; /* behind the last comma */
	struct err *err;
};

/* Printable, and not too long. */
static const char *shown(struct slice s, char buf[SHOWN_MAX + 1])
{
	size_t n = slice_copy(s, buf, SHOWN_MAX + 1);

	for (size_t i = 0; i < n; i++)
		if (buf[i] < ' ' || buf[i] > '~')
			buf[i] = '?';
	return buf;
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t';
}

static void skip(struct reader *r, size_t n)
{
	r->in = slice_of(r->in.ptr + n, r->in.len - n);
}

static void skip_blanks(struct reader *r)
{
	while (r->in.len > 0 && is_blank(r->in.ptr[0]))
		skip(r, 1);
}

/* Up to one of `ends` outside of quotes; 0 with err: a quote has no end. */
static int cut_word(struct reader *r, const char *ends, struct slice *word)
{
	bool quoted = false;
	size_t n = 0;

	for (; n < r->in.len; n++) {
		char c = r->in.ptr[n];

		if (quoted && c == '\\' && n + 1 < r->in.len)
			n++;
		else if (c == '"')
			quoted = !quoted;
		else if (!quoted && c != '\0' && strchr(ends, c))
			break;
	}
	if (quoted)
		return err_set(r->err, 0, "%u: a quote has no end", r->line);
	*word = slice_of(r->in.ptr, n);
	skip(r, n);
	return 0;
}

/*
 * `word` as address or bare name; what is neither is refused, and so are the
 * brackets and routes of a path: "@host:|program" would hide what it names.
 */
static int read_name(struct reader *r, struct slice word, struct addr *out)
{
	struct slice rest = word;
	enum addr_error error = addr_parse_path(&rest, false, NULL, out);
	char buf[SHOWN_MAX + 1];

	if ((error == ADDR_OK || error == ADDR_UNQUALIFIED) && rest.len == 0 &&
	    !slice_has_prefix(word, "<") && !slice_has_prefix(word, "@"))
		return 0;
	return err_set(r->err, 0,
	    "%u: \"%s\" is no name or address as Amazon SES takes it", r->line,
	    shown(word, buf));
}

/* --- the left side --- */

static int add_alias(struct reader *r, const struct addr *name)
{
	struct slice domain, local = aliases_local_part(name->text, &domain);
	struct aliases *a = r->a;

	if (domain.ptr != NULL &&
	    (a->default_domain == NULL ||
		!slice_caseeq_str(domain, a->default_domain)))
		return err_set(r->err, 0,
		    "%u: %.*s has a domain, and aliases are of local names; "
		    "use rewrite.recipients for it",
		    r->line, SHOWN_MAX, name->text);
	if (a->n == a->size) {
		a->size = a->size ? 2 * a->size : 16;
		a->items = xrealloc(a->items, a->size * sizeof(*a->items));
	}
	a->items[a->n++] = (struct alias){
		.key = aliases_key(local),
		.line = r->line,
		.first = a->n_targets,
	};
	return 0;
}

/* "name:" */
static int read_left(struct reader *r)
{
	char buf[SHOWN_MAX + 1];
	struct slice word = { NULL, 0 };
	struct addr name;

	if (slice_has_prefix(r->in, ":include:") ||
	    slice_has_prefix(r->in, "+"))
		return err_set(r->err, 0,
		    "%u: \"%s\": only \"name: address, ...\" is understood",
		    r->line, shown(r->in, buf));
	if (cut_word(r, ":", &word) < 0)
		return -1;
	if (r->in.len == 0)
		return err_set(r->err, 0,
		    "%u: a colon is missing behind \"%s\": write "
		    "\"name: address\"",
		    r->line, shown(word, buf));
	skip(r, 1);
	if (read_name(r, slice_trim(word), &name) < 0)
		return -1;
	r->in_list = true;
	r->has_item = false;
	return add_alias(r, &name);
}

/* --- the list --- */

/* What mail systems do with such targets, and we don't. */
static int refuse_special(struct reader *r, struct slice word)
{
	char buf[SHOWN_MAX + 1];

	if (slice_has_prefix(word, "\""))
		word = slice_of(word.ptr + 1, word.len - 1);
	if (slice_has_prefix(word, "|"))
		return err_set(r->err, 0,
		    "%u: \"%s\" is a program; sesrelayd runs none: name an "
		    "address",
		    r->line, shown(word, buf));
	if (slice_has_prefix(word, "/"))
		return err_set(r->err, 0,
		    "%u: \"%s\" is a file; sesrelayd writes to none: name an "
		    "address",
		    r->line, shown(word, buf));
	if (slice_has_caseprefix(word, ":include:"))
		return err_set(r->err, 0,
		    "%u: \"%s\" is not followed: put its addresses into this "
		    "list",
		    r->line, shown(word, buf));
	return 0;
}

static void add_target(struct reader *r, const struct addr *addr, bool final)
{
	struct aliases *a = r->a;

	if (a->n_targets == a->targets_size) {
		a->targets_size = a->targets_size ? 2 * a->targets_size : 16;
		a->targets =
		    xrealloc(a->targets, a->targets_size * sizeof(*a->targets));
	}
	a->targets[a->n_targets++] = (struct alias_target){
		.addr = xstrdup(addr->text),
		.line = r->line,
		.final = final,
		.alias = -1,
	};
	a->items[a->n - 1].n_targets++;
}

/* "user@example.com" in quotes, as some write it, is that address. */
static struct slice without_quotes(struct slice word)
{
	struct slice inner;

	if (word.len < 3 || word.ptr[0] != '"' || word.ptr[word.len - 1] != '"')
		return word;
	inner = slice_of(word.ptr + 1, word.len - 2);
	for (size_t i = 0; i < inner.len; i++)
		if (is_blank(inner.ptr[i]) || inner.ptr[i] == '"' ||
		    inner.ptr[i] == '\\' || inner.ptr[i] == '<')
			return word;
	return inner;
}

static int read_target(struct reader *r)
{
	bool final = slice_has_prefix(r->in, "\\");
	struct slice word;
	struct addr addr;

	if (final)
		skip(r, 1);
	if (refuse_special(r, r->in) < 0 || cut_word(r, ", \t", &word) < 0 ||
	    read_name(r, without_quotes(word), &addr) < 0)
		return -1;
	add_target(r, &addr, final);
	return 0;
}

static int read_list(struct reader *r)
{
	char buf[SHOWN_MAX + 1];

	for (;;) {
		skip_blanks(r);
		if (r->in.len == 0)
			return 0;
		if (r->in.ptr[0] == ',') {
			r->has_item = false;
			skip(r, 1);
		} else if (r->has_item) {
			return err_set(r->err, 0,
			    "%u: a comma is missing before \"%s\" (comments "
			    "have lines of their own)",
			    r->line, shown(r->in, buf));
		} else if (read_target(r) < 0) {
			return -1;
		} else {
			r->has_item = true;
		}
	}
}

/* An alias without an address would lose mail. */
static int end_list(struct reader *r)
{
	const struct aliases *a = r->a;

	if (a->n == 0 || a->items[a->n - 1].n_targets > 0)
		return 0;
	return err_set(r->err, 0, "%u: %.*s has no address",
	    a->items[a->n - 1].line, SHOWN_MAX, a->items[a->n - 1].key);
}

static int read_line(struct reader *r, struct slice line)
{
	bool goes_on = line.len > 0 && is_blank(line.ptr[0]);
	char buf[SHOWN_MAX + 1];

	if (line.len > 0 && line.ptr[line.len - 1] == '\r')
		line.len--;
	r->in = slice_trim(line);
	if (r->in.len == 0 || r->in.ptr[0] == '#')
		return 0;
	if (goes_on && !r->in_list)
		return err_set(r->err, 0,
		    "%u: begins with a blank, and there is no alias before "
		    "it that \"%s\" could belong to",
		    r->line, shown(r->in, buf));
	if (!goes_on && (end_list(r) < 0 || read_left(r) < 0))
		return -1;
	return read_list(r);
}

/* --- the whole --- */

static int compare_aliases(const void *a, const void *b)
{
	const struct alias *x = a, *y = b;
	int order = strcmp(x->key, y->key);

	return order != 0 ? order : (x->line > y->line) - (x->line < y->line);
}

static int sort(struct aliases *a, struct err *err)
{
	if (a->n > 0)
		qsort(a->items, a->n, sizeof(*a->items), compare_aliases);
	for (unsigned i = 1; i < a->n; i++)
		if (strcmp(a->items[i - 1].key, a->items[i].key) == 0)
			return err_set(err, 0,
			    "%u: %.*s is there already, in line %u: make one "
			    "list of both",
			    a->items[i].line, SHOWN_MAX, a->items[i].key,
			    a->items[i - 1].line);
	return 0;
}

/* A bare name that is no alias is a mailbox of the default domain. */
static int complete(
    const struct aliases *a, struct alias_target *t, struct err *err)
{
	struct slice rest = slice_str(t->addr);
	struct addr whole;
	enum addr_error error =
	    addr_parse_path(&rest, false, a->default_domain, &whole);

	if (error == ADDR_UNQUALIFIED)
		return err_set(err, 0,
		    "%u: %.*s is no alias and has no domain: write a whole "
		    "address, or set rewrite.default_domain",
		    t->line, SHOWN_MAX, t->addr);
	if (error != ADDR_OK)
		return err_set(err, 0,
		    "%u: %.*s is too long with the domain %.*s", t->line,
		    SHOWN_MAX, t->addr, SHOWN_MAX, a->default_domain);
	free(t->addr);
	t->addr = xstrdup(whole.text);
	return 0;
}

/* Which targets are aliases, and which are addresses? */
static int resolve(struct aliases *a, struct err *err)
{
	for (unsigned i = 0; i < a->n; i++) {
		for (unsigned k = 0; k < a->items[i].n_targets; k++) {
			struct alias_target *t =
			    &a->targets[a->items[i].first + k];

			if (!t->final)
				t->alias = aliases_find(a, t->addr);
			if (t->alias == (int)i)
				t->alias = -1; /* a copy for its own mailbox */
			if (t->alias < 0 && complete(a, t, err) < 0)
				return -1;
		}
	}
	return 0;
}

static int compare_addrs(const void *a, const void *b)
{
	const struct alias_target *const *x = a, *const *y = b;

	return strcmp((*x)->addr, (*y)->addr);
}

static void number_addrs(struct aliases *a)
{
	struct alias_target **sorted =
	    xcalloc((size_t)a->n_targets + 1, sizeof(struct alias_target *));

	for (unsigned i = 0; i < a->n_targets; i++)
		sorted[i] = &a->targets[i];
	qsort(sorted, a->n_targets, sizeof(*sorted), compare_addrs);
	for (unsigned i = 0; i < a->n_targets; i++) {
		if (i == 0 || strcmp(sorted[i - 1]->addr, sorted[i]->addr) != 0)
			a->n_addrs++;
		sorted[i]->number = a->n_addrs - 1;
	}
	free(sorted);
}

static int refuse_loop(
    const struct alias_walk *w, const struct alias_target *t, struct err *err)
{
	const struct alias *items = w->aliases->items;
	const struct alias *last = &items[w->stack[w->depth - 1].alias];

	return err_set(err, 0,
	    "%u: %.*s leads to %.*s, which leads back to it: a loop; take it "
	    "out of one of them",
	    t->line, SHOWN_MAX, last->key, SHOWN_MAX, items[t->alias].key);
}

static int find_loops(const struct aliases *a, struct err *err)
{
	const struct alias_target *t;
	struct alias_walk w;
	int rc = 0;

	alias_walk_init(&w, a);
	for (unsigned i = 0; i < a->n && rc == 0; i++) {
		if (w.marks[i] == ALIAS_NEW)
			alias_walk_enter(&w, i);
		while (rc == 0 && (t = alias_walk_next(&w)) != NULL) {
			if (t->alias < 0)
				continue;
			if (w.marks[t->alias] == ALIAS_OPEN)
				rc = refuse_loop(&w, t, err);
			else if (w.marks[t->alias] == ALIAS_NEW)
				alias_walk_enter(&w, (unsigned)t->alias);
		}
	}
	alias_walk_fini(&w);
	return rc;
}

struct aliases *aliases_parse(
    struct slice text, const char *default_domain, struct err *err)
{
	struct aliases *a = xcalloc(1, sizeof(*a));
	struct reader r = { .a = a, .err = err };

	if (default_domain != NULL)
		a->default_domain = xstrdup(default_domain);
	while (text.len > 0) {
		struct slice line = slice_split(&text, '\n');

		r.line++;
		if (read_line(&r, line) < 0)
			goto fail;
	}
	if (end_list(&r) < 0 || sort(a, err) < 0 || resolve(a, err) < 0)
		goto fail;
	number_addrs(a);
	if (find_loops(a, err) < 0)
		goto fail;
	return a;
fail:
	aliases_free(a);
	return NULL;
}
