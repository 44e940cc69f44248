/*
 * What the operator is shown of the connections.  Part of the pool, which it
 * only reads; loop thread.
 */
#include "relay/pool_private.h"

#include "base/clock.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

/* The states of the conversation, as somebody would say it who watches. */
static const char *const doing[CLIENT_N_STATES] = {
	[CLIENT_TLS_WRAP] = "TLS handshake",
	[CLIENT_GREETING] = "waiting for the greeting",
	[CLIENT_EHLO] = "waiting for the reply to EHLO",
	[CLIENT_STARTTLS] = "waiting for the reply to STARTTLS",
	[CLIENT_TLS] = "TLS handshake",
	[CLIENT_EHLO_TLS] = "waiting for the reply to EHLO inside TLS",
	[CLIENT_AUTH_PLAIN] = "logging in",
	[CLIENT_AUTH_LOGIN] = "logging in",
	[CLIENT_AUTH_USER] = "logging in",
	[CLIENT_AUTH_PASS] = "logging in",
	[CLIENT_IDLE] = "idle",
	[CLIENT_MAIL] = "waiting for the reply to MAIL",
	[CLIENT_RCPT] = "waiting for the reply to RCPT",
	[CLIENT_DATA] = "waiting for the reply to DATA",
	[CLIENT_BODY] = "sending the content",
	[CLIENT_DOT] = "waiting for the reply to the final dot",
	[CLIENT_RSET] = "waiting for the reply to RSET",
	[CLIENT_QUIT] = "waiting for the reply to QUIT",
	[CLIENT_CLOSED] = "closed",
};

static void view_address(
    struct pool_connection_view *view, const struct outbound *o)
{
	const struct sockaddr_storage *ss = &o->addr.addr;
	const void *ip = ss->ss_family == AF_INET6
	    ? (const void *)&((const struct sockaddr_in6 *)(const void *)ss)
		  ->sin6_addr
	    : (const void *)&((const struct sockaddr_in *)(const void *)ss)
		  ->sin_addr;
	const struct pool_port *port;

	if (o->addr.len == 0 ||
	    inet_ntop(ss->ss_family, ip, view->ip, sizeof view->ip) == NULL)
		return;
	port = &o->upstream->options.ports[o->port_index];
	view->port = port->port;
	view->wrapper = port->wrapper;
}

static void view_step(
    struct pool_connection_view *view, const struct outbound *o, int64_t now_us)
{
	int64_t since = o->step_since_us;

	if (view->connected) {
		view->step = client_state_name(o->client.state);
		view->doing = doing[o->client.state];
	} else {
		view->step = o->conn != NULL ? "connect" : "resolve";
		view->doing =
		    o->conn != NULL ? "connecting" : "looking up the address";
		since = o->connect_started_us;
	}
	view->step_us = now_us - since;
	if (o->attempt != NULL)
		view->message = o->attempt->stub->id;
}

static void view_connection(
    struct pool_connection_view *view, const struct outbound *o, int64_t now_us)
{
	*view = (struct pool_connection_view){
		.number = o->number,
		.state = o->state,
		.connected = o->conn != NULL && o->client.options != NULL,
		.age_us = now_us - o->connect_started_us,
		.n_messages = o->n_messages,
		.n_delivered = o->n_delivered,
		.purpose = o->trial  ? "tries the new credentials"
		    : o->scout       ? "looks whether the port works again"
		    : o->replacement ? "is to replace another one"
				     : NULL,
		.replaced = o->stale ? "the configuration changed"
		    : o->rotate      ? "rotation was asked for"
		    : o->leaving     ? "its replacement is there"
				     : NULL,
		.mss = o->mss,
	};
	view_address(view, o);
	view_step(view, o, now_us);
	if (view->connected)
		conn_describe_tls(o->conn, view->tls, sizeof view->tls);
	if (o->logged_in) {
		view->max_messages = o->limits.max_messages;
		view->expires_in_us = o->limits.expires_us > now_us
		    ? o->limits.expires_us - now_us
		    : 0;
	}
}

void pool_each(const struct pool *pool,
    void (*fn)(void *ctx, const struct pool_connection_view *view), void *ctx)
{
	int64_t now = clock_mono_us();
	struct pool_connection_view view;
	const struct outbound *o;

	for (int i = 0; i < POOL_N_STATES; i++)
		TAILQ_FOREACH (o, &pool->lists[i], link) {
			view_connection(&view, o, now);
			fn(ctx, &view);
		}
}

static int64_t until(int64_t when_us, int64_t now_us)
{
	return when_us > now_us ? when_us - now_us : 0;
}

void pool_size(const struct pool *pool, struct pool_size_view *view)
{
	*view = (struct pool_size_view){
		.max = pool->upstream->options.max_connections,
		.limit = pool->sizing.limit,
		.retry_us = until(pool->sizing.retry_us, clock_mono_us()),
	};
}
