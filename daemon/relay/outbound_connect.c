/*
 * Getting a TCP connection to SES: the addresses of the name, port by port.
 * Runs on the loop thread, for relay/outbound.c.
 *
 * An address that refuses is followed by the next one on the same port; a port
 * that nobody answers on is left at once, because what filters it filters it
 * for all addresses.  What is learned goes to the resolver and to the pool.
 */
#include "relay/outbound.h"

#include "base/log.h"

#include <arpa/inet.h>
#include <stdio.h>

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

static void on_address(
    void *ctx, const struct resolver_addr *addr, const char *reason)
{
	struct outbound *o = ctx;
	const struct pool_options *options = &o->upstream->options;
	struct conn_target target = { .mss = options->mss };
	int index;

	o->resolving = false;
	if (addr == NULL) {
		char detail[400];

		snprintf(detail, sizeof detail, "address of %s: %s",
		    options->host, reason);
		classify_loss(
		    PHASE_CONNECT, LOSS_RESOLVE, detail, &o->client.verdict);
		outbound_finish(o, &o->client.verdict);
		return;
	}
	index = pool_choose_port(o->pool, o->upstream, o->ports_tried);
	ASSERT(index >= 0);
	o->port_index = (unsigned)index;
	o->addr = *addr;
	target.addr = addr->addr;
	target.addr_len = addr->len;
	set_port(&target.addr, options->ports[index].port);
	if (options->source_len > 0 &&
	    options->source.ss_family == addr->addr.ss_family) {
		target.source = &options->source;
		target.source_len = options->source_len;
	}
	describe_via(o, options->ports[index].port);
	o->conn = conn_connect(o->relay->loop, &target, &outbound_events, o);
	conn_set_low_water(o->conn, OUTBOUND_CHUNK / 2);
	conn_deadline(o->conn, options->timeouts.connect_us);
}

void outbound_try_connect(struct outbound *o)
{
	o->resolving = true;
	resolver_next(
	    o->relay->resolver, o->upstream->options.host, on_address, o);
}

void outbound_connect_failed(
    struct outbound *o, enum conn_end end, const char *reason)
{
	enum loss loss = end == CONN_END_TIMEOUT ? LOSS_TIMEOUT : LOSS_CONNECT;
	unsigned n_addrs =
	    resolver_count(o->relay->resolver, o->upstream->options.host);
	char detail[400];
	bool news = false;

	snprintf(detail, sizeof detail, "connect to %s: %s", o->via, reason);
	resolver_report(o->relay->resolver, &o->addr, false);
	conn_close(o->conn);
	o->conn = NULL;
	/* Nobody answers: the port is filtered, for all addresses alike. */
	if (++o->n_addrs_tried >= n_addrs || end == CONN_END_TIMEOUT) {
		news = pool_report_port(o->pool, o, false);
		o->ports_tried |= 1u << o->port_index;
		o->n_addrs_tried = 0;
	}
	log_msg(news ? LOG_LEVEL_INFO : LOG_LEVEL_DEBUG, LOG_SMTP, LOG_NO_ID,
	    "%s", detail);
	if (pool_choose_port(o->pool, o->upstream, o->ports_tried) >= 0) {
		outbound_try_connect(o);
		return;
	}
	classify_loss(PHASE_CONNECT, loss, detail, &o->client.verdict);
	outbound_finish(o, &o->client.verdict);
}
