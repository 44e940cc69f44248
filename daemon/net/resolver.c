/*
 * Addresses of endpoints: one table of hosts, one thread that looks them up.
 *
 * Owns the hosts with their addresses and those who wait for them.  Loop
 * thread only, but lookup_run(), which touches nothing but its own job.
 * Invariants: at most one lookup a host is under way, whoever asks meanwhile
 * waits for it; `job->host` is NULL once the resolver is gone; an answer that
 * had an address is only ever replaced by another one.
 */
#include "net/resolver.h"

#include "base/clock.h"
#include "base/mem.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FRESH_US (30 * US_PER_S)
#define PENALTY_MIN_US (5 * US_PER_S)
#define PENALTY_MAX_US (300 * US_PER_S)

struct known {
	struct resolver_addr at;
	int64_t penalty_us; /* of the last failure; 0: it is good */
	int64_t avoid_until_us;
};

struct waiter {
	STAILQ_ENTRY(waiter) link;
	void (*done)(
	    void *ctx, const struct resolver_addr *addr, const char *reason);
	void *ctx;
	uint64_t lookup; /* the number of the one it waits for */
};

struct host {
	LIST_ENTRY(host) link;
	struct resolver *resolver;
	char *name;
	struct known *known;
	unsigned n_known;
	unsigned next; /* whose turn it is */
	int64_t fresh_until_us;
	struct lookup *lookup; /* under way, or NULL */
	uint64_t n_lookups;
	STAILQ_HEAD(, waiter) waiters;
};

struct resolver {
	struct worker *worker;
	LIST_HEAD(, host) hosts;
};

struct lookup {
	struct work_job job;
	struct host *host; /* the loop thread's; NULL: nobody wants it */
	char *name;
	struct addrinfo *found;
	int rc; /* of getaddrinfo() */
	int code; /* errno, for EAI_SYSTEM */
};

struct resolver *resolver_new(struct work_port *port)
{
	struct resolver *r = xcalloc(1, sizeof(*r));

	r->worker = work_new(port, "resolver", 1);
	LIST_INIT(&r->hosts);
	return r;
}

static void host_free(struct host *h)
{
	struct waiter *w;

	if (h->lookup)
		h->lookup->host = NULL;
	while ((w = STAILQ_FIRST(&h->waiters))) {
		STAILQ_REMOVE_HEAD(&h->waiters, link);
		free(w);
	}
	free(h->known);
	free(h->name);
	free(h);
}

/* Any thread. */
static void lookup_free(struct work_job *job)
{
	struct lookup *l = CONTAINER_OF(job, struct lookup, job);

	if (l->found)
		freeaddrinfo(l->found);
	free(l->name);
	free(l);
}

void resolver_free(struct resolver *r)
{
	struct host *h;

	if (!r)
		return;
	while ((h = LIST_FIRST(&r->hosts))) {
		LIST_REMOVE(h, link);
		host_free(h);
	}
	work_abandon(r->worker, lookup_free);
	free(r);
}

/* "127.0.0.1", "::1", "[::1]": nothing to look up. */
static bool parse_numeric(const char *name, struct resolver_addr *out)
{
	union {
		struct sockaddr_storage *any;
		struct sockaddr_in *in;
		struct sockaddr_in6 *in6;
	} a = { &out->addr };
	size_t len = strlen(name);
	char text[INET6_ADDRSTRLEN];

	memset(out, 0, sizeof(*out));
	if (len > 2 && name[0] == '[' && name[len - 1] == ']') {
		name++;
		len -= 2;
	}
	if (len >= sizeof(text))
		return false;
	memcpy(text, name, len);
	text[len] = '\0';
	if (inet_pton(AF_INET, text, &a.in->sin_addr) == 1) {
		a.in->sin_family = AF_INET;
		out->len = sizeof(*a.in);
	} else if (inet_pton(AF_INET6, text, &a.in6->sin6_addr) == 1) {
		a.in6->sin6_family = AF_INET6;
		out->len = sizeof(*a.in6);
	}
	return out->len > 0;
}

static struct host *host_find(const struct resolver *r, const char *name)
{
	struct host *h;

	LIST_FOREACH (h, &r->hosts, link) {
		if (strcmp(h->name, name) == 0)
			return h;
	}
	return NULL;
}

static struct host *host_get(struct resolver *r, const char *name)
{
	struct host *h = host_find(r, name);
	struct resolver_addr numeric;

	if (h)
		return h;
	h = xcalloc(1, sizeof(*h));
	h->resolver = r;
	h->name = xstrdup(name);
	h->fresh_until_us = INT64_MIN;
	STAILQ_INIT(&h->waiters);
	LIST_INSERT_HEAD(&r->hosts, h, link);
	if (parse_numeric(name, &numeric)) {
		h->known = xcalloc(1, sizeof(*h->known));
		h->known[0].at = numeric;
		h->n_known = 1;
		h->fresh_until_us = INT64_MAX;
	}
	return h;
}

static bool same_addr(
    const struct resolver_addr *a, const struct resolver_addr *b)
{
	union {
		const struct sockaddr_storage *any;
		const struct sockaddr_in *in;
		const struct sockaddr_in6 *in6;
	} x = { &a->addr }, y = { &b->addr };

	if (a->addr.ss_family != b->addr.ss_family)
		return false;
	if (a->addr.ss_family == AF_INET)
		return x.in->sin_addr.s_addr == y.in->sin_addr.s_addr;
	return memcmp(&x.in6->sin6_addr, &y.in6->sin6_addr,
		   sizeof(struct in6_addr)) == 0 &&
	    x.in6->sin6_scope_id == y.in6->sin6_scope_id;
}

static struct known *known_find(
    struct known *known, unsigned n, const struct resolver_addr *addr)
{
	for (unsigned i = 0; i < n; i++) {
		if (same_addr(&known[i].at, addr))
			return &known[i];
	}
	return NULL;
}

/*
 * The next in turn that is not avoided; when all are, the one whose time is
 * over first.
 */
static const struct resolver_addr *host_choose(struct host *h)
{
	int64_t now = clock_mono_us();
	unsigned best = h->next % h->n_known;

	for (unsigned i = 0; i < h->n_known; i++) {
		unsigned at = (h->next + i) % h->n_known;
		int64_t until = h->known[at].avoid_until_us;

		if (until <= now) {
			best = at;
			break;
		}
		if (until < h->known[best].avoid_until_us)
			best = at;
	}
	h->next = (best + 1) % h->n_known;
	return &h->known[best].at;
}

/* Worker thread. */
static void lookup_run(struct work_job *job)
{
	struct lookup *l = CONTAINER_OF(job, struct lookup, job);
	struct addrinfo hints = { .ai_family = AF_UNSPEC,
		.ai_socktype = SOCK_STREAM };

	errno = 0;
	l->rc = getaddrinfo(l->name, NULL, &hints, &l->found);
	l->code = errno;
}

/* Takes over what the lookup found; what is known of an address stays. */
static void host_update(struct host *h, const struct addrinfo *found)
{
	struct known *known;
	unsigned n = 0, max = 0;

	for (const struct addrinfo *ai = found; ai; ai = ai->ai_next)
		max++;
	known = xcalloc(max, sizeof(*known));
	for (const struct addrinfo *ai = found; ai; ai = ai->ai_next) {
		struct resolver_addr addr = { .len = ai->ai_addrlen };
		struct known *old;

		if ((ai->ai_family != AF_INET && ai->ai_family != AF_INET6) ||
		    ai->ai_addrlen > sizeof(addr.addr))
			continue;
		memcpy(&addr.addr, ai->ai_addr, ai->ai_addrlen);
		if (known_find(known, n, &addr))
			continue;
		old = known_find(h->known, h->n_known, &addr);
		known[n++] = old ? *old : (struct known){ .at = addr };
	}
	if (n == 0) {
		free(known);
		return;
	}
	free(h->known);
	h->known = known;
	h->n_known = n;
}

static void describe_failure(const struct lookup *l, char *buf, size_t size)
{
	const char *why = "no address";

	if (l->rc == EAI_SYSTEM)
		why = strerror(l->code);
	else if (l->rc != 0)
		why = gai_strerror(l->rc);
	snprintf(buf, size, "cannot resolve %s: %s", l->name, why);
}

/* The first that waits for that lookup or an older one, off the list. */
static struct waiter *waiter_take(struct host *h, uint64_t lookup)
{
	struct waiter *w = STAILQ_FIRST(&h->waiters);

	if (!w || w->lookup > lookup)
		return NULL;
	STAILQ_REMOVE_HEAD(&h->waiters, link);
	return w;
}

static void host_answer(struct host *h, uint64_t lookup, const char *reason)
{
	struct waiter *w;

	while ((w = waiter_take(h, lookup))) {
		if (h->n_known > 0)
			w->done(w->ctx, host_choose(h), NULL);
		else
			w->done(w->ctx, NULL, reason);
		free(w);
	}
}

static void lookup_done(struct work_job *job)
{
	struct lookup *l = CONTAINER_OF(job, struct lookup, job);
	struct host *h = l->host;
	char reason[300];

	if (h) {
		h->lookup = NULL;
		if (l->rc == 0)
			host_update(h, l->found);
		describe_failure(l, reason, sizeof(reason));
		/* Also after a failure: the last answer stays in use. */
		if (h->n_known > 0)
			h->fresh_until_us = clock_mono_us() + FRESH_US;
		host_answer(h, h->n_lookups, reason);
	}
	lookup_free(job);
}

static void host_look_up(struct host *h)
{
	struct lookup *l = xcalloc(1, sizeof(*l));

	l->job.run = lookup_run;
	l->job.done = lookup_done;
	l->host = h;
	l->name = xstrdup(h->name);
	h->lookup = l;
	h->n_lookups++;
	work_submit(h->resolver->worker, &l->job);
}

void resolver_next(struct resolver *r, const char *name,
    void (*done)(
	void *ctx, const struct resolver_addr *addr, const char *reason),
    void *ctx)
{
	struct host *h = host_get(r, name);
	struct waiter *w;

	if (clock_mono_us() < h->fresh_until_us) {
		done(ctx, host_choose(h), NULL);
		return;
	}
	if (!h->lookup)
		host_look_up(h);
	w = xcalloc(1, sizeof(*w));
	w->done = done;
	w->ctx = ctx;
	w->lookup = h->n_lookups;
	STAILQ_INSERT_TAIL(&h->waiters, w, link);
}

void resolver_cancel(struct resolver *r, void *ctx)
{
	struct host *h;
	struct waiter *w, *next;

	LIST_FOREACH (h, &r->hosts, link) {
		for (w = STAILQ_FIRST(&h->waiters); w; w = next) {
			next = STAILQ_NEXT(w, link);
			if (w->ctx == ctx) {
				STAILQ_REMOVE(&h->waiters, w, waiter, link);
				free(w);
			}
		}
	}
}

bool resolver_last(
    struct resolver *r, const char *name, struct resolver_addr *addr)
{
	struct host *h = host_find(r, name);

	if (!h || h->n_known == 0)
		return false;
	*addr = *host_choose(h);
	return true;
}

static void known_report(struct known *k, bool ok)
{
	if (ok) {
		k->penalty_us = k->avoid_until_us = 0;
		return;
	}
	k->penalty_us = k->penalty_us == 0 ? PENALTY_MIN_US : k->penalty_us * 2;
	if (k->penalty_us > PENALTY_MAX_US)
		k->penalty_us = PENALTY_MAX_US;
	k->avoid_until_us = clock_mono_us() + k->penalty_us;
}

void resolver_report(
    struct resolver *r, const struct resolver_addr *addr, bool ok)
{
	struct host *h;
	struct known *k;

	LIST_FOREACH (h, &r->hosts, link) {
		k = known_find(h->known, h->n_known, addr);
		if (k)
			known_report(k, ok);
	}
}

unsigned resolver_count(const struct resolver *r, const char *name)
{
	const struct host *h = host_find(r, name);

	return h ? h->n_known : 0;
}
