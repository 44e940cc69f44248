/*
 * A connection to SES from resolver to close.  Runs on the loop thread.
 *
 * Invariants: `conn` is NULL before TCP is tried and after the end; a message
 * (`attempt`) is held from outbound_send() until the client machine settles
 * it, and is settled exactly once; after told_closed nothing is called any
 * more.  What the machine (smtp/client) says is done in follow(), in one place
 * and in one order.
 */
#include "relay/outbound.h"

#include "base/clock.h"
#include "base/crash.h"
#include "base/log.h"
#include "base/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void follow(struct outbound *o, struct client_out *out);

/* Outlives the connection when that closes first. */
struct outbound_record {
	struct outbound *outbound;
};

/* The message that a crash would be the doing of. */
struct crash_mark outbound_enter(const struct outbound *o)
{
	return crash_enter(
	    o->attempt != NULL ? o->attempt->stub->id : 0, CRASH_SEND);
}

static const struct pool_timeouts *timeouts(const struct outbound *o)
{
	return &o->upstream->options.timeouts;
}

void outbound_free(void *ptr)
{
	struct outbound *o = ptr;

	body_fini(&o->large);
	loop_timer_fini(&o->timer);
	upstream_unref(o->upstream);
	free(o);
}

/*
 * TCP was there, but not what belongs on it: no SMTP, no STARTTLS, a wrong
 * certificate.  What SES says of account and load is the same on every port,
 * and so may be a 4xx, but in reply to STARTTLS.
 */
static void judge_port(struct outbound *o, const struct verdict *v)
{
	bool is_passing = v->code / 100 == 4 && o->phase != PHASE_STARTTLS;

	if (o->logged_in || o->dropped || o->path_stalled ||
	    o->client.options == NULL || v->scope != SCOPE_CONNECTION ||
	    v->class == VERDICT_NONE || v->class == VERDICT_CONN_LIMIT)
		return;
	if (is_passing && o->phase == PHASE_AUTH)
		return;
	pool_port_failed(o->pool, o, is_passing, v->text, v->advice);
}

/* The only way out. */
void outbound_finish(struct outbound *o, const struct verdict *verdict)
{
	if (o->told_closed)
		return;
	o->told_closed = true;
	ASSERT(o->attempt == NULL);
	if (!o->logged_in && !o->dropped && o->client.options != NULL)
		pool_count_connect(o->pool, o, false);
	judge_port(o, verdict);
	if (o->unrecorded != NULL)
		o->unrecorded->outbound = NULL;
	o->unrecorded = NULL;
	if (o->resolving)
		resolver_cancel(o->relay->resolver, o);
	o->resolving = false;
	loop_timer_clear(&o->timer);
	conn_close(o->conn);
	o->conn = NULL;
	pool_on_closed(o->pool, o, o->logged_in, verdict);
	if (o->reading)
		o->orphan = true; /* the disk still writes into o->large */
	else
		loop_defer(o->relay->loop, outbound_free, o);
}

static void on_recorded(void *ctx)
{
	struct outbound_record *record = ctx;
	struct outbound *o = record->outbound;
	struct crash_mark before;

	free(record);
	if (o == NULL)
		return;
	o->unrecorded = NULL;
	before = outbound_enter(o);
	if (o->client.state == CLIENT_BODY && !o->body_queued)
		outbound_feed(o);
	crash_leave(before);
}

static void settle(struct outbound *o)
{
	struct attempt *a = o->attempt;

	ASSERT(a != NULL);
	o->attempt = NULL;
	if (o->client.verdict.class == VERDICT_DELIVERED) {
		o->n_delivered++;
		ASSERT(o->unrecorded == NULL);
		o->unrecorded = xcalloc(1, sizeof *o->unrecorded);
		o->unrecorded->outbound = o;
		a->recorded = on_recorded;
		a->recorded_ctx = o->unrecorded;
	}
	pool_on_transaction(
	    o->pool, clock_mono_us() - a->sending_us, a->mail.n_rcpts);
	relay_settle(o->relay, a, &o->client.verdict, o->via, o->number);
	crash_enter(0, CRASH_NONE); /* what follows is not its doing */
}

/* The connection is lost or unusable, by its own or the network's doing. */
void outbound_lose(struct outbound *o, enum loss loss, const char *detail)
{
	struct client_out out;
	bool dot_sent = o->body_queued && o->conn != NULL &&
	    conn_written(o->conn) > o->dot_position;

	if (o->told_closed)
		return;
	o->lost = true;
	o->loss = loss;
	o->phase = client_phase(&o->client);
	client_on_loss(&o->client, loss, dot_sent, detail, &out);
	follow(o, &out);
}

static int64_t state_timeout(const struct outbound *o)
{
	switch (o->client.state) {
	case CLIENT_TLS_WRAP:
	case CLIENT_TLS:
		return timeouts(o)->tls_us;
	case CLIENT_GREETING:
		return timeouts(o)->greeting_us;
	case CLIENT_BODY:
		return timeouts(o)->data_us;
	case CLIENT_DOT:
		return timeouts(o)->final_us;
	case CLIENT_IDLE:
		return -1; /* the pool closes idle connections */
	case CLIENT_QUIT:
		return 2 * US_PER_S;
	default:
		return timeouts(o)->command_us;
	}
}

void outbound_set_deadline(struct outbound *o)
{
	conn_deadline(o->conn, state_timeout(o));
}

/* For the operator, who asks what a connection does, and for how long. */
void outbound_note_step(struct outbound *o)
{
	if (o->step == o->client.state)
		return;
	o->step = o->client.state;
	o->step_since_us = clock_mono_us();
}

/* Do what the machine says. */
static void follow(struct outbound *o, struct client_out *out)
{
	outbound_note_step(o);
	if (out->settle)
		settle(o);
	if (out->close) {
		outbound_finish(o, &o->client.verdict);
		return;
	}
	if (out->secret) {
		conn_write_secret(o->conn, out->command, out->command_len);
		explicit_bzero(out->command, sizeof out->command);
	} else if (out->command_len > 0) {
		conn_write(o->conn, out->command, out->command_len);
	}
	outbound_set_deadline(o);
	if (out->start_tls) {
		if (!conn_input_empty(o->conn)) {
			outbound_lose(o, LOSS_PROTOCOL,
			    "bytes followed the reply to STARTTLS in clear "
			    "(somebody tampers with the connection)");
			return;
		}
		conn_start_tls(
		    o->conn, o->upstream->tls, o->upstream->options.host);
	}
	if (out->start_tls)
		outbound_path_begin(o, PATH_HANDSHAKE);
	if (out->send_body) {
		dot_writer_init(&o->dot);
		o->body_offset = 0;
		o->body_queued = o->begun_early = false;
		outbound_path_begin(o, PATH_BODY);
		outbound_feed(o);
	}
	if (out->ready) {
		if (!o->logged_in) {
			o->logged_in = true;
			pool_count_connect(o->pool, o, true);
			o->opened_us = clock_mono_us();
			pool_port_works(o->pool, o);
			pool_on_ready(o->pool, o);
		} else {
			pool_on_free(o->pool, o);
		}
	}
}

/* --- the socket's events --- */

static void on_connected(void *ctx)
{
	struct outbound *o = ctx;
	struct client_out out;

	resolver_report(o->relay->resolver, &o->addr, true);
	o->client_options.hostname = o->upstream->options.hostname;
	o->client_options.wrapper =
	    o->upstream->options.ports[o->port_index].wrapper;
	o->client_options.auth = &o->upstream->auth;
	reply_parser_init(&o->parser);
	client_init(&o->client, &o->client_options, &out);
	o->step_since_us = clock_mono_us();
	follow(o, &out);
}

static void on_secured(void *ctx)
{
	struct outbound *o = ctx;
	struct client_out out;

	outbound_path_secured(o);
	client_on_secured(&o->client, &out);
	follow(o, &out);
}

/*
 * In lock step a reply can only follow its command.  One that is here while
 * the command has not left yet answers something else: the dialogue is out of
 * step, and taking it would shift every reply that follows.
 */
static bool reply_is_early(const struct outbound *o)
{
	return o->client.state != CLIENT_BODY && conn_output_len(o->conn) > 0;
}

/* One line of SES; false when the connection is gone. */
static bool take_line(struct outbound *o, struct slice line)
{
	struct client_out out;

	if (reply_is_early(o)) {
		outbound_lose(
		    o, LOSS_PROTOCOL, "a reply that nothing was asked for");
		return false;
	}
	switch (reply_feed(&o->parser, line, client_on_line, &o->client)) {
	case 0:
		if (o->client.state != CLIENT_IDLE)
			return true;
		outbound_lose(o, LOSS_PROTOCOL, "unsolicited bytes");
		return false;
	case 1:
		if (log_enabled(LOG_LEVEL_DEBUG))
			log_msg(LOG_LEVEL_DEBUG, LOG_SMTP, LOG_NO_ID,
			    "conn=%u %s: %d %s", o->number,
			    client_state_name(o->client.state),
			    o->parser.reply.code, o->parser.reply.text);
		o->phase = client_phase(&o->client);
		if (o->phase == PHASE_DOT)
			outbound_path_answered(o);
		client_on_reply(&o->client, &o->parser.reply, &out);
		follow(o, &out);
		return !o->told_closed;
	default:
		outbound_lose(o, LOSS_PROTOCOL, "what came is no SMTP reply");
		return false;
	}
}

static void read_replies(struct outbound *o)
{
	struct slice line;
	bool bare_lf;
	int rc;

	outbound_check_sent(o);
	if (o->told_closed)
		return;
	while ((rc = conn_read_line(
		    o->conn, REPLY_LINE_MAX, &line, &bare_lf)) == 1) {
		if (bare_lf) {
			outbound_lose(
			    o, LOSS_PROTOCOL, "a line that ends in LF alone");
			return;
		}
		if (!take_line(o, line))
			return;
	}
	o->begun_early =
	    o->client.state == CLIENT_BODY && !conn_input_empty(o->conn);
	if (rc < 0)
		outbound_lose(
		    o, LOSS_PROTOCOL, "an endless line instead of a reply");
	else if (o->client.state == CLIENT_IDLE && !conn_input_empty(o->conn))
		outbound_lose(o, LOSS_PROTOCOL, "unsolicited bytes");
}

static void on_readable(void *ctx)
{
	struct crash_mark before = outbound_enter(ctx);

	read_replies(ctx);
	crash_leave(before);
}

static void on_writable(void *ctx)
{
	struct outbound *o = ctx;
	struct crash_mark before = outbound_enter(o);

	if (o->client.state == CLIENT_BODY && !o->body_queued)
		outbound_feed(o);
	outbound_check_sent(o);
	crash_leave(before);
}

static void on_end(void *ctx, enum conn_end end, const char *reason)
{
	static const enum loss losses[] = {
		[CONN_END_EOF] = LOSS_EOF,
		[CONN_END_RESET] = LOSS_RESET,
		[CONN_END_REFUSED] = LOSS_CONNECT,
		[CONN_END_TLS] = LOSS_TLS,
		[CONN_END_TIMEOUT] = LOSS_TIMEOUT,
	};
	struct outbound *o = ctx;
	struct crash_mark before = outbound_enter(o);

	if (o->client.options == NULL)
		outbound_connect_failed(o, end, reason);
	else
		outbound_lose(
		    o, losses[end], end == CONN_END_TIMEOUT ? NULL : reason);
	crash_leave(before);
}

const struct conn_events outbound_events = {
	.on_connected = on_connected,
	.on_secured = on_secured,
	.on_readable = on_readable,
	.on_writable = on_writable,
	.on_end = on_end,
};

/* --- life --- */

static void start(void *ptr)
{
	struct outbound *o = ptr;

	if (!o->told_closed)
		outbound_try_connect(o);
}

struct outbound *outbound_open(
    struct pool *pool, struct relay *relay, struct upstream *u, unsigned number)
{
	struct outbound *o = xcalloc(1, sizeof *o);

	o->pool = pool;
	o->relay = relay;
	o->upstream = upstream_ref(u);
	o->number = number;
	o->connect_started_us = clock_mono_us();
	body_init(&o->large);
	loop_timer_init(&o->timer, relay->loop, outbound_on_timer, o);
	snprintf(o->via, sizeof o->via, "%.250s", u->options.host);
	/* The pool has to have it on its list before anything can end. */
	loop_defer(relay->loop, start, o);
	return o;
}

void outbound_send(struct outbound *o, struct attempt *a)
{
	struct crash_mark before = crash_enter(a->stub->id, CRASH_SEND);
	struct client_out out;

	ASSERT(o->attempt == NULL && o->client.state == CLIENT_IDLE);
	o->attempt = a;
	o->n_messages++;
	o->body_queued = false;
	o->large.len = 0;
	a->sending_us = clock_mono_us();
	/* The first one had to wait for this connection. */
	a->setup_us =
	    o->n_messages == 1 ? o->opened_us - o->connect_started_us : 0;
	client_send(&o->client, &a->mail, &out);
	follow(o, &out);
	if (o->attempt != NULL && o->attempt->m->large)
		outbound_read_ahead(o); /* there by the time of the 354 */
	crash_leave(before);
}

void outbound_quit(struct outbound *o)
{
	struct client_out out;

	client_quit(&o->client, &out);
	follow(o, &out);
}

void outbound_drop(struct outbound *o, const char *reason)
{
	o->dropped = true;
	if (o->conn != NULL && o->client.options != NULL) {
		outbound_lose(o, LOSS_SHUTDOWN, reason);
		return;
	}
	classify_loss(PHASE_CONNECT, LOSS_SHUTDOWN, reason, &o->client.verdict);
	outbound_finish(o, &o->client.verdict);
}

bool outbound_at_dot(const struct outbound *o)
{
	return o->attempt != NULL &&
	    (o->client.state == CLIENT_BODY || o->client.state == CLIENT_DOT);
}
