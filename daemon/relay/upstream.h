/*
 * What all connections of one configuration share: endpoint, ports,
 * credentials, TLS context.  Immutable and reference-counted, so a connection
 * keeps what it was made from over a reload.
 */
#ifndef RELAY_UPSTREAM_H
#define RELAY_UPSTREAM_H

#include "net/tls.h"
#include "relay/pool.h"
#include "smtp/client.h"

struct upstream {
	unsigned refs;
	struct pool_options options; /* strings are our own copies */
	struct client_auth auth;
	struct tls_context *tls;
};

MUST_CHECK struct upstream *upstream_new(
    const struct pool_options *options, struct err *err);
struct upstream *upstream_ref(struct upstream *u);
void upstream_unref(struct upstream *u); /* wipes the credentials at last */
/* As `u`, with the limits of `options`: how many, how long, how patient. */
struct upstream *upstream_with_limits(
    const struct upstream *u, const struct pool_options *options);
/* A connection made from `a` would be as good as one made from `b`. */
bool upstream_same(const struct upstream *a, const struct upstream *b);
/* They lead to the same place, and by the same ports. */
bool upstream_same_place(const struct upstream *a, const struct upstream *b);
/* They log in alike. */
bool upstream_same_login(const struct upstream *a, const struct upstream *b);

#endif
