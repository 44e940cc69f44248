#ifndef SES_MAKECERT_H
#define SES_MAKECERT_H

#include "text.h"

#include <openssl/ssl.h>
#include <stdbool.h>

/* A certificate authority in memory, and another that nobody trusts. */
struct authority;

/* Certificates will be for hostname, too, if not NULL. Never NULL. */
struct authority *authority_new(const char *hostname);
void authority_free(struct authority *a);
/* A context with a new certificate of this kind; NULL if there is no such. */
SSL_CTX *authority_context(struct authority *a, const char *kind);
/* The authority's own certificate in PEM. */
void authority_print(const struct authority *a, struct buf *out);
/* True if a is the name of a kind. */
bool certificate_kind(const char *kind);
/* One "certificate KIND" a line. */
void certificate_print(struct buf *out);

#endif
