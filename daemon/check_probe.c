/*
 * One port: its addresses, its sessions, its end.
 *
 * A probe connects to every address at once; the first that answers has the
 * session.  What may have two causes is told apart by a second session: a
 * stall by one with small segments (MTU), silence or nonsense where a port
 * begins by one in the other mode.
 *
 * Owns its connections, its TLS context and, until it ends, *result.  Loop
 * thread only.  Invariant: after a session has ended, nothing keeps the probe
 * but addresses that still connect, and these for a few seconds only.
 */
#include "check_probe.h"

#include "base/clock.h"
#include "base/mem.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* From the start of the whole check, look-up included. */
#define FIRST_END_US (12500 * US_PER_MS)
#define SECOND_END_US (18500 * US_PER_MS)
#define CONNECT_LIMIT_US (4 * US_PER_S) /* two SYNs lost are forgiven */

/* --- the end --- */

static void close_all(struct probe *p)
{
	for (unsigned i = 0; i < CHECK_MAX_ADDRESSES; i++) {
		conn_close(p->candidates[i].conn);
		p->candidates[i].conn = NULL;
	}
	p->n_connecting = 0;
	p->chosen = NULL;
}

static void on_end_timer(void *ctx)
{
	struct probe *p = ctx;

	p->target->done(p->target->ctx);
}

void probe_finish(struct probe *p)
{
	if (p->chosen) {
		conn_close(p->chosen->conn);
		p->chosen->conn = NULL;
	}
	p->silent = true; /* nothing is to be added */
	if (p->ended || (p->n_connecting > 0 && p->attempt == FIRST))
		return;
	p->ended = true;
	p->result->us = clock_mono_us() - p->target->begun_us;
	close_all(p);
	loop_timer_set(&p->end_timer, 0);
}

void probe_is_other_mode(struct probe *p)
{
	p->result->steps[p->doubt].outcome = OUTCOME_OTHER_MODE;
	probe_finish(p);
}

/* --- events --- */

static void on_connected(void *ctx)
{
	struct candidate *a = ctx;
	struct probe *p = a->probe;
	unsigned i = (unsigned)(a - p->candidates);

	p->n_connecting--;
	if (p->attempt == FIRST)
		p->result->addresses[i].outcome = OUTCOME_OK;
	if (p->chosen) {
		conn_close(a->conn);
		a->conn = NULL;
		if (!p->chosen->conn)
			probe_finish(p); /* it was this that was waited for */
		return;
	}
	p->chosen = a;
	if (p->attempt == FIRST)
		p->result->ip = p->result->addresses[i].ip;
	session_begin(p);
}

static enum diagnosis_outcome connect_outcome(
    const struct candidate *a, enum conn_end end)
{
	if (end == CONN_END_TIMEOUT)
		return OUTCOME_TIMEOUT;
	switch (conn_error(a->conn)) {
	case ECONNREFUSED:
		return OUTCOME_REFUSED;
	case ECONNRESET:
		return OUTCOME_RESET; /* after it was there */
	case ETIMEDOUT:
		return OUTCOME_TIMEOUT;
	case ENETUNREACH:
	case EHOSTUNREACH:
	case ENETDOWN:
	case EHOSTDOWN:
		return OUTCOME_UNREACHABLE;
	case EADDRNOTAVAIL:
		return OUTCOME_NO_SOURCE;
	default:
		return OUTCOME_FAILED;
	}
}

/*
 * None connects: what the first one met stands for all, but no route, which
 * is normal for the addresses of one family.
 */
static enum diagnosis_outcome common_outcome(const struct check_port *result)
{
	for (unsigned i = 0; i < result->n_addresses; i++)
		if (result->addresses[i].outcome != OUTCOME_UNREACHABLE)
			return result->addresses[i].outcome;
	return OUTCOME_UNREACHABLE;
}

static void on_not_connected(
    struct candidate *a, enum conn_end end, const char *reason)
{
	struct probe *p = a->probe;
	unsigned i = (unsigned)(a - p->candidates);

	if (p->attempt == FIRST)
		p->result->addresses[i].outcome = connect_outcome(a, end);
	if (!p->chosen)
		session_note(p, "%s", reason);
	conn_close(a->conn);
	a->conn = NULL;
	p->n_connecting--;
	if (p->chosen && !p->chosen->conn)
		probe_finish(p);
	else if (!p->chosen && p->n_connecting == 0)
		session_step_failed(p, common_outcome(p->result));
}

/* Only the chosen one gets so far as to be told these. */
static void on_secured(void *ctx)
{
	session_on_secured(((struct candidate *)ctx)->probe);
}

static void on_readable(void *ctx)
{
	session_on_readable(((struct candidate *)ctx)->probe);
}

static void on_writable(void *ctx)
{
	session_on_writable(((struct candidate *)ctx)->probe);
}

static void on_end(void *ctx, enum conn_end end, const char *reason)
{
	struct candidate *a = ctx;

	if (a->probe->chosen == a)
		session_on_end(a->probe, end, reason);
	else
		on_not_connected(a, end, reason);
}

static const struct conn_events events = {
	.on_connected = on_connected,
	.on_secured = on_secured,
	.on_readable = on_readable,
	.on_writable = on_writable,
	.on_end = on_end,
};

/* --- attempts --- */

static void set_port(struct sockaddr_storage *addr, uint16_t port)
{
	if (addr->ss_family == AF_INET6)
		((struct sockaddr_in6 *)(void *)addr)->sin6_port = htons(port);
	else
		((struct sockaddr_in *)(void *)addr)->sin_port = htons(port);
}

static void connect_to(struct probe *p, unsigned i)
{
	const struct pool_options *o = p->target->options;
	const struct resolver_addr *address = &p->target->addresses[i];
	struct conn_target target = { .mss = o->mss };

	target.addr = address->addr;
	target.addr_len = address->len;
	set_port(&target.addr, p->result->port);
	if (p->attempt == SMALL_SEGMENTS)
		target.mss = CHECK_SMALL_MSS;
	if (o->source_len > 0 &&
	    o->source.ss_family == address->addr.ss_family) {
		target.source = &o->source;
		target.source_len = o->source_len;
	}
	p->candidates[i].conn =
	    conn_connect(p->target->loop, &target, &events, &p->candidates[i]);
	p->n_connecting++;
	conn_deadline(p->candidates[i].conn, CONNECT_LIMIT_US);
	if (p->attempt == FIRST)
		snprintf(p->result->addresses[i].ip,
		    sizeof(p->result->addresses[i].ip), "%s",
		    conn_peer_ip(p->candidates[i].conn));
}

void probe_attempt(struct probe *p, enum attempt attempt)
{
	unsigned chosen = p->chosen ? (unsigned)(p->chosen - p->candidates) : 0;

	close_all(p);
	p->attempt = attempt;
	p->silent = attempt != FIRST;
	p->certificate_seen = false;
	p->attempt_end_us = p->target->begun_us +
	    (attempt == FIRST ? FIRST_END_US : SECOND_END_US);
	p->client_options.wrapper =
	    p->result->wrapper != (attempt == OTHER_MODE);
	session_step_begin(p, DIAGNOSIS_CONNECT);
	if (attempt != FIRST) {
		connect_to(p, chosen);
		return;
	}
	p->result->n_addresses = p->target->n_addresses;
	for (unsigned i = 0; i < p->target->n_addresses; i++)
		connect_to(p, i);
}

static void on_certificate(void *ctx, const struct certificate *cert)
{
	struct probe *p = ctx;

	p->certificate_seen = true;
	p->result->has_certificate = true;
	p->result->certificate = *cert;
}

struct probe *probe_new(const struct check_target *target,
    struct check_port *result, struct err *err)
{
	const struct pool_options *o = target->options;
	struct tls_context *tls = tls_context_new(o->ca_file, err);
	struct probe *p;

	if (!tls)
		return NULL;
	p = xcalloc(1, sizeof(*p));
	p->target = target;
	p->result = result;
	p->tls = tls;
	tls_context_watch(tls, on_certificate, p);
	loop_timer_init(&p->end_timer, target->loop, on_end_timer, p);
	p->auth = (struct client_auth){
		.plain = o->auth_plain,
		.login_user = o->auth_user,
		.login_pass = o->auth_pass,
	};
	p->client_options.hostname = o->hostname;
	p->client_options.auth = &p->auth;
	for (unsigned i = 0; i < CHECK_MAX_ADDRESSES; i++)
		p->candidates[i].probe = p;
	return p;
}

void probe_start(struct probe *p)
{
	probe_attempt(p, FIRST);
}

void probe_stop(struct probe *p)
{
	if (p->ended)
		return;
	p->ended = true;
	session_note(p, "not done in time");
	session_step_end(p, OUTCOME_TIMEOUT);
	p->result->us = clock_mono_us() - p->target->begun_us;
	close_all(p);
}

void probe_free(struct probe *p)
{
	if (!p)
		return;
	close_all(p);
	loop_timer_fini(&p->end_timer);
	tls_context_unref(p->tls);
	free(p);
}
