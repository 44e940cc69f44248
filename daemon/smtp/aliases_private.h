/*
 * What aliases.c and aliases_read.c share; for nobody else.
 */
#ifndef SMTP_ALIASES_PRIVATE_H
#define SMTP_ALIASES_PRIVATE_H

#include "smtp/aliases.h"

struct alias {
	char *key; /* without quotes, in small letters */
	unsigned line;
	unsigned first, n_targets; /* in the list of all targets */
};

struct alias_target {
	char *addr; /* as it was read; in the end, with a domain */
	unsigned line;
	bool final; /* is not looked up: a backslash stood before it */
	int alias; /* what it names; -1: addr is an address */
	unsigned number; /* of the address; equal ones share it */
};

struct aliases {
	char *default_domain; /* NULL: none */
	struct alias *items;
	unsigned n, size;
	struct alias_target *targets;
	unsigned n_targets, targets_size;
	unsigned n_addrs; /* numbers in use */
};

/* Of an address or a bare name; *domain has ptr NULL if there is none. */
struct slice aliases_local_part(const char *addr, struct slice *domain);
/* Under which a local part is known; free(3). */
char *aliases_key(struct slice local);
/* The place of what an address or bare name is an alias of, or -1. */
int aliases_find(const struct aliases *a, const char *addr);

/* --- a walk from alias to alias, depth first --- */

enum alias_mark { ALIAS_NEW, ALIAS_OPEN, ALIAS_DONE };

struct alias_walk {
	const struct aliases *aliases;
	char *marks; /* of each alias, then of each address */
	struct alias_frame {
		unsigned alias, next;
	} * stack;
	unsigned depth, size;
};

void alias_walk_init(struct alias_walk *w, const struct aliases *a);
void alias_walk_fini(struct alias_walk *w);
/* Its targets come next; it is OPEN until they are through. */
void alias_walk_enter(struct alias_walk *w, unsigned alias);
/* NULL: all that was entered is through. */
const struct alias_target *alias_walk_next(struct alias_walk *w);

#endif
