/*
 * Addresses of the endpoint, looked up by getaddrinfo() on a thread of its own
 * (it honours nsswitch, /etc/hosts, EDNS0 and TCP), never on the loop.
 *
 * Every new connection asks; an answer is used for 30 s.  A lookup that fails
 * leaves the last good answer in use.  Addresses are given out in turn; one
 * that failed is passed over while others are left, for 5 s, doubling to 5 min.
 */
#ifndef NET_RESOLVER_H
#define NET_RESOLVER_H

#include "base/work.h"
#include "net/loop.h"

#include <sys/socket.h>

struct resolver;

struct resolver_addr {
	struct sockaddr_storage addr; /* the port is 0 */
	socklen_t len;
};

struct resolver *resolver_new(struct work_port *port);
/* NULL is legal.  Never waits: a lookup that hangs is left to its thread. */
void resolver_free(struct resolver *r);
/*
 * Gives the next address for host, at once (before this returns) when a fresh
 * answer is known or host is numeric ("127.0.0.1", "::1", "[::1]"), later, by
 * the port, otherwise; NULL and the reason when there is none at all.  Both are
 * valid during the call only.  `done` is never called after
 * resolver_cancel(r, ctx), and must not free the resolver.
 */
void resolver_next(struct resolver *r, const char *host,
    void (*done)(
	void *ctx, const struct resolver_addr *addr, const char *reason),
    void *ctx);
void resolver_cancel(struct resolver *r, void *ctx);
/* The next address of the last good answer, however old, for whoever does not
 * want to wait for a lookup any longer; false: there never was one. */
bool resolver_last(
    struct resolver *r, const char *host, struct resolver_addr *addr);
/* What became of connecting to it. */
void resolver_report(
    struct resolver *r, const struct resolver_addr *addr, bool ok);
/* How many addresses are known for host. */
unsigned resolver_count(const struct resolver *r, const char *host);

#endif
