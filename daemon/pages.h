/*
 * What http.listen serves: /metrics, /healthz, /readyz, and / that lists them.
 */
#ifndef PAGES_H
#define PAGES_H

#include "base/base.h"

struct daemon;
struct pages;

/* Listens where http.listen says; nothing happens if that is nowhere. */
MUST_CHECK struct pages *pages_open(struct daemon *d, struct err *err);
/* http.allow may have changed. */
void pages_configure(struct pages *p);
void pages_close(struct pages *p); /* NULL is legal */

#endif
