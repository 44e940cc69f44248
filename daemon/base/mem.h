/*
 * Allocation that never fails.
 *
 * The daemon is crash-only: disk is the truth, so the right answer to an
 * exhausted heap is to abort and be started again.  What a peer can make
 * large is bounded before it is allocated, so these are never asked for an
 * amount that a peer chose.  Free with free(3).
 */
#ifndef BASE_MEM_H
#define BASE_MEM_H

#include <stddef.h>
#include <stdarg.h>

void *xmalloc(size_t size);
void *xcalloc(size_t n, size_t size);
void *xrealloc(void *p, size_t size);
char *xstrdup(const char *s);
/* At most n bytes of s, always terminated. */
char *xstrndup(const char *s, size_t n);
void *xmemdup(const void *p, size_t n);
__attribute__((format(printf, 1, 2))) char *xasprintf(const char *fmt, ...);
__attribute__((format(printf, 1, 0))) char *xvasprintf(
    const char *fmt, va_list ap);

#endif
