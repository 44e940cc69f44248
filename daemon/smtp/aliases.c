/*
 * aliases(5) in memory: what was read, and looking names up.  The text is read
 * by aliases_read.c.
 *
 * Pure; immutable once it is made, so that any number of sessions may look at
 * it.  Invariants: the aliases are sorted by key; a target is either an alias,
 * by its place, or an address with a domain, by its number; aliases that lead
 * to each other make no loop.  Every walk marks where it has been, so that
 * lists of lists cost no more than the file is long, and has its stack on the
 * heap: a chain of names may be as long as the file.
 */
#include "smtp/aliases_private.h"

#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

/* --- names --- */

struct slice aliases_local_part(const char *addr, struct slice *domain)
{
	size_t n = 0, len = strlen(addr);
	bool quoted = false;

	for (; n < len; n++) {
		if (quoted && addr[n] == '\\' && n + 1 < len)
			n++;
		else if (addr[n] == '"')
			quoted = !quoted;
		else if (!quoted && addr[n] == '@')
			break;
	}
	*domain =
	    n < len ? slice_of(addr + n + 1, len - n - 1) : slice_of(NULL, 0);
	return slice_of(addr, n);
}

char *aliases_key(struct slice local)
{
	char *key = xmalloc(local.len + 1);
	size_t n = 0;
	bool quoted = local.len >= 2 && local.ptr[0] == '"';

	if (quoted)
		local = slice_of(local.ptr + 1, local.len - 2);
	for (size_t i = 0; i < local.len; i++) {
		char c = local.ptr[i];

		if (quoted && c == '\\' && i + 1 < local.len)
			c = local.ptr[++i];
		key[n++] = c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
	}
	key[n] = '\0';
	return key;
}

static int compare_key(const void *key, const void *element)
{
	return strcmp(key, ((const struct alias *)element)->key);
}

int aliases_find(const struct aliases *a, const char *addr)
{
	struct slice domain, local = aliases_local_part(addr, &domain);
	const struct alias *found;
	char *key;

	if (a->n == 0 ||
	    (domain.ptr != NULL &&
		(a->default_domain == NULL ||
		    !slice_caseeq_str(domain, a->default_domain))))
		return -1;
	key = aliases_key(local);
	found = bsearch(key, a->items, a->n, sizeof(*a->items), compare_key);
	free(key);
	return found != NULL ? (int)(found - a->items) : -1;
}

unsigned aliases_count(const struct aliases *a)
{
	return a->n;
}

void aliases_free(struct aliases *a)
{
	if (a == NULL)
		return;
	for (unsigned i = 0; i < a->n; i++)
		free(a->items[i].key);
	for (unsigned i = 0; i < a->n_targets; i++)
		free(a->targets[i].addr);
	free(a->items);
	free(a->targets);
	free(a->default_domain);
	free(a);
}

/* --- walks --- */

void alias_walk_init(struct alias_walk *w, const struct aliases *a)
{
	*w = (struct alias_walk){
		.aliases = a,
		.marks = xcalloc((size_t)a->n + a->n_addrs + 1, 1),
	};
}

void alias_walk_fini(struct alias_walk *w)
{
	free(w->marks);
	free(w->stack);
}

void alias_walk_enter(struct alias_walk *w, unsigned alias)
{
	if (w->depth == w->size) {
		w->size = w->size ? 2 * w->size : 16;
		w->stack = xrealloc(w->stack, w->size * sizeof(*w->stack));
	}
	w->marks[alias] = ALIAS_OPEN;
	w->stack[w->depth++] = (struct alias_frame){ alias, 0 };
}

const struct alias_target *alias_walk_next(struct alias_walk *w)
{
	while (w->depth > 0) {
		struct alias_frame *f = &w->stack[w->depth - 1];
		const struct alias *alias = &w->aliases->items[f->alias];

		if (f->next < alias->n_targets)
			return &w->aliases->targets[alias->first + f->next++];
		w->marks[f->alias] = ALIAS_DONE;
		w->depth--;
	}
	return NULL;
}

unsigned aliases_expand(const struct aliases *a, const char *name,
    void (*emit)(void *ctx, const char *addr), void *ctx)
{
	int start = aliases_find(a, name);
	const struct alias_target *t;
	struct alias_walk w;
	unsigned n = 0;

	if (start < 0)
		return 0;
	alias_walk_init(&w, a);
	alias_walk_enter(&w, (unsigned)start);
	while ((t = alias_walk_next(&w)) != NULL) {
		char *mark = t->alias >= 0 ? &w.marks[t->alias]
					   : &w.marks[a->n + t->number];

		if (*mark != ALIAS_NEW)
			continue;
		*mark = ALIAS_DONE;
		if (t->alias >= 0) {
			alias_walk_enter(&w, (unsigned)t->alias);
			continue;
		}
		emit(ctx, t->addr);
		n++;
	}
	alias_walk_fini(&w);
	return n;
}
