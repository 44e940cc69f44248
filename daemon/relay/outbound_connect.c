/*
 * Getting a TCP connection to SES: the addresses of the name, port by port.
 * Runs on the loop thread, for relay/outbound.c.
 *
 * An address that refuses is followed by the next one on the same port, at
 * once.  Silence costs the whole time of a connect: on a port that has worked
 * another address is heard, too; any other port is left at once.  What is
 * learned goes to the resolver and to the pool.
 */
#include "relay/outbound.h"

#include "base/clock.h"
#include "base/log.h"
#include "policy/diagnosis.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>

/* With an older answer at hand, nobody waits longer for a new one. */
#define DNS_PATIENCE_US (2 * US_PER_S)

static void set_port(struct sockaddr_storage *addr, uint16_t port)
{
	if (addr->ss_family == AF_INET6)
		((struct sockaddr_in6 *)(void *)addr)->sin6_port = htons(port);
	else
		((struct sockaddr_in *)(void *)addr)->sin_port = htons(port);
}

static void describe_via(struct outbound *o, uint16_t port)
{
	const struct sockaddr_storage *ss = &o->addr.addr;
	const void *ip = ss->ss_family == AF_INET6
	    ? (const void *)&((const struct sockaddr_in6 *)(const void *)ss)
		  ->sin6_addr
	    : (const void *)&((const struct sockaddr_in *)(const void *)ss)
		  ->sin_addr;
	char text[INET6_ADDRSTRLEN] = "";

	inet_ntop(ss->ss_family, ip, text, sizeof text);
	snprintf(o->via, sizeof o->via, "%.250s[%s]:%u",
	    o->upstream->options.host, text, port);
}

/* ses.source_address is an address, so it has one family. */
static bool fits_source(const struct outbound *o, const struct resolver_addr *a)
{
	const struct pool_options *options = &o->upstream->options;

	return options->source_len == 0 ||
	    options->source.ss_family == a->addr.ss_family;
}

static void give_up(struct outbound *o, enum loss loss, const char *detail)
{
	classify_loss(PHASE_CONNECT, loss, detail, &o->client.verdict);
	outbound_finish(o, &o->client.verdict);
}

/* A name may have addresses that cannot be reached from where we must be. */
static void pass_over(struct outbound *o, const struct resolver_addr *addr)
{
	const char *host = o->upstream->options.host;
	char detail[400];

	resolver_report(o->relay->resolver, addr, false);
	/* Each time it is passed over for longer, until another one comes. */
	if (++o->n_addrs_unusable <
	    8 * resolver_count(o->relay->resolver, host)) {
		outbound_try_connect(o);
		return;
	}
	snprintf(detail, sizeof detail,
	    "%s has no %s address, and ses.source_address is one", host,
	    o->upstream->options.source.ss_family == AF_INET6 ? "IPv6"
							      : "IPv4");
	give_up(o, LOSS_CONNECT, detail);
}

static void connect_to(struct outbound *o, const struct resolver_addr *addr)
{
	const struct pool_options *options = &o->upstream->options;
	struct conn_target target = {
		.addr = addr->addr,
		.addr_len = addr->len,
	};
	uint16_t port;

	/* The next address is tried on the same port. */
	if (!o->scout && o->n_addrs_tried == 0) {
		int index =
		    pool_choose_port(o->pool, o->upstream, o->ports_tried);

		ASSERT(index >= 0);
		o->port_index = (unsigned)index;
	}
	port = options->ports[o->port_index].port;
	o->addr = *addr;
	/* Once: a trial of full segments is given to one connection, and ends
	 * with it. */
	if (!o->mss_chosen)
		o->mss = pool_choose_mss(o->pool, o->upstream);
	o->mss_chosen = true;
	target.mss = o->mss;
	set_port(&target.addr, port);
	if (options->source_len > 0) {
		target.source = &options->source;
		target.source_len = options->source_len;
	}
	describe_via(o, port);
	o->conn = conn_connect(o->relay->loop, &target, &outbound_events, o);
	conn_set_low_water(o->conn, OUTBOUND_CHUNK / 2);
	conn_deadline(o->conn, options->timeouts.connect_us);
}

static void take_address(struct outbound *o, const struct resolver_addr *addr)
{
	o->resolving = false;
	loop_timer_clear(&o->timer);
	if (fits_source(o, addr))
		connect_to(o, addr);
	else
		pass_over(o, addr);
}

static void on_address(
    void *ctx, const struct resolver_addr *addr, const char *reason)
{
	struct outbound *o = ctx;
	char detail[400];

	if (addr != NULL) {
		take_address(o, addr);
		return;
	}
	o->resolving = false;
	loop_timer_clear(&o->timer);
	snprintf(detail, sizeof detail, "address of %s: %s",
	    o->upstream->options.host, reason);
	give_up(o, LOSS_RESOLVE, detail);
}

void outbound_try_connect(struct outbound *o)
{
	o->resolving = true;
	loop_timer_set(&o->timer, DNS_PATIENCE_US);
	/* An answer that is known comes before this returns. */
	resolver_next(
	    o->relay->resolver, o->upstream->options.host, on_address, o);
}

void outbound_on_impatience(struct outbound *o)
{
	struct resolver_addr addr;

	if (!resolver_last(
		o->relay->resolver, o->upstream->options.host, &addr))
		return; /* nothing to do but wait */
	log_msg(LOG_LEVEL_DEBUG, LOG_SMTP, LOG_NO_ID,
	    "conn=%u: DNS does not answer, the last known address will do",
	    o->number);
	resolver_cancel(o->relay->resolver, o);
	take_address(o, &addr);
}

/* --- failures --- */

static void explain(const struct outbound *o, enum conn_end end,
    const char *reason, char *buf, size_t size)
{
	const struct diagnosis_facts facts = {
		.host = o->upstream->options.host,
		.port = o->upstream->options.ports[o->port_index].port,
		.detail = reason,
	};
	int error = conn_error(o->conn);
	enum diagnosis_outcome outcome = OUTCOME_REFUSED;
	struct diagnosis d;

	if (end == CONN_END_TIMEOUT)
		outcome = OUTCOME_TIMEOUT;
	else if (error == EHOSTUNREACH || error == ENETUNREACH)
		outcome = OUTCOME_UNREACHABLE;
	else if (error != ECONNREFUSED)
		outcome = OUTCOME_FAILED;
	diagnosis_explain(DIAGNOSIS_CONNECT, outcome, &facts, &d);
	snprintf(buf, size, "%.160s: %.500s", d.meaning, d.remedy);
}

/*
 * Is it the port?  When all addresses refuse, or two keep silent.  One that
 * keeps silent is enough where nothing is known to speak for the port: what
 * filters it filters it for all addresses.
 */
static bool port_is_to_blame(struct outbound *o, bool silent)
{
	unsigned n_addrs =
	    resolver_count(o->relay->resolver, o->upstream->options.host);

	o->n_addrs_silent += silent;
	if (++o->n_addrs_tried >= n_addrs)
		return true;
	return silent &&
	    (o->n_addrs_silent > 1 || !pool_port_is_proven(o->pool, o));
}

/* The next address or port, if there is one. */
static bool go_on(struct outbound *o, bool port_failed)
{
	if (port_failed) {
		if (o->scout)
			return false;
		o->ports_tried |= 1u << o->port_index;
		o->n_addrs_tried = o->n_addrs_silent = 0;
		if (pool_choose_port(o->pool, o->upstream, o->ports_tried) < 0)
			return false;
	}
	outbound_try_connect(o);
	return true;
}

void outbound_connect_failed(
    struct outbound *o, enum conn_end end, const char *reason)
{
	bool silent = end == CONN_END_TIMEOUT, port_failed;
	const char *words = silent ? "connection timed out" : reason;
	char detail[400], advice[700];

	snprintf(detail, sizeof detail, "connect to %s: %s", o->via, words);
	log_msg(LOG_LEVEL_DEBUG, LOG_SMTP, LOG_NO_ID, "conn=%u: %s", o->number,
	    detail);
	if (conn_error(o->conn) == EADDRNOTAVAIL) {
		/* ses.source_address is not ours, whatever the port. */
		give_up(o, LOSS_CONNECT, detail);
		return;
	}
	pool_count_connect(o->pool, o, false);
	/* A scout that hears nothing blames the port that was silent before. */
	if (!(silent && o->scout))
		resolver_report(o->relay->resolver, &o->addr, false);
	port_failed = port_is_to_blame(o, silent);
	if (port_failed) {
		explain(o, end, reason, advice, sizeof advice);
		pool_port_failed(o->pool, o, false, words, advice);
	}
	conn_close(o->conn);
	o->conn = NULL;
	if (go_on(o, port_failed))
		return;
	if (!o->scout)
		pool_path_no_connection(o->pool);
	give_up(o, silent ? LOSS_TIMEOUT : LOSS_CONNECT, detail);
}
