/*
 * aliases(5): local names to addresses.  Pure; the text is the caller's.
 * Lists are taken, `:include:', pipes, files and programs are refused with the
 * line that has them, loops are found when the file is read.  Names match
 * without regard to case, with or without the default domain.
 *
 * A name among its own addresses, and one behind a backslash, is no alias any
 * more but a mailbox.
 */
#ifndef SMTP_ALIASES_H
#define SMTP_ALIASES_H

#include "base/slice.h"

struct aliases;

/* NULL: err->text is "LINE: what is wrong and what to do". */
MUST_CHECK struct aliases *aliases_parse(
    struct slice text, const char *default_domain, struct err *err);
void aliases_free(struct aliases *a); /* NULL is legal */
/* How many names there are. */
unsigned aliases_count(const struct aliases *a);
/*
 * All addresses that the local name stands for, in the end, each once; 0: it
 * is no alias.  Names without a domain that are no alias get the default one.
 */
unsigned aliases_expand(const struct aliases *a, const char *name,
    void (*emit)(void *ctx, const char *addr), void *ctx);

#endif
