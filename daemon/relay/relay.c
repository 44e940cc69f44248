/*
 * The life of a message between its 250 and its end, and the root of the
 * relay: creates the parts, connects them, stops them.  Runs on the loop
 * thread; owns queue, spool, resolver, pool, inbound and the worker port.
 *
 * A message to be sent is first loaded, then given to a connection: no
 * connection waits for the disk.  As many loads run ahead as there are
 * connections that could take them.
 */
#include "relay/relay.h"

#include "base/clock.h"
#include "base/crash.h"
#include "base/decimal.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/stat.h"
#include "relay/attempt.h"
#include "relay/operate.h"
#include "relay/pace.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TICK_US US_PER_S
/* One in so many is loaded beyond what connections could take. */
#define LOAD_AHEAD 4

/* --- queue to attempt --- */

static void unkeep(struct relay *r, struct stub *stub)
{
	if (stub->loaded == NULL)
		return;
	r->kept_bytes -= stub->loaded->body.len;
	message_free(stub->loaded);
	stub->loaded = NULL;
}

void relay_move(
    struct relay *r, struct stub *stub, enum relay_next next, int64_t due_us)
{
	if (next != RELAY_NEXT_DONE && relay_grant_wish(r, stub))
		return;
	switch (next) {
	case RELAY_NEXT_DONE:
		unkeep(r, stub);
		log_event(LOG_LEVEL_INFO, LOG_QMGR, "removed", stub->id, NULL);
		queue_remove(r->queue, stub);
		break;
	case RELAY_NEXT_READY:
		queue_ready(r->queue, stub);
		break;
	case RELAY_NEXT_WAIT:
		unkeep(r, stub);
		queue_wait(r->queue, stub, due_us);
		break;
	case RELAY_NEXT_HOLD:
		unkeep(r, stub);
		queue_hold(r->queue, stub);
		break;
	}
}

void relay_log_accepted(const struct message *m)
{
	char size[DECIMAL_BUF], nrcpt[DECIMAL_BUF];
	struct log_field smtpd[] = {
		{ LOG_PLAIN, "client", m->peer },
		{ LOG_HIDDEN, "helo", m->helo },
		{ LOG_END, NULL, NULL },
	};
	struct log_field cleanup[] = {
		{ LOG_ANGLE, "message-id", m->message_id },
		{ LOG_END, NULL, NULL },
	};
	struct log_field qmgr[] = {
		{ LOG_ANGLE, "from", m->sender },
		{ LOG_NUMBER, "size", decimal_format(m->size, size) },
		{ LOG_NUMBER, "nrcpt", decimal_format(m->n_rcpts, nrcpt) },
		{ LOG_NOTE, "queue", "queue active" },
		{ LOG_END, NULL, NULL },
	};

	/* Who counts received mail by these lines counts accepted mail. */
	if (m->peer != NULL && m->peer[0] != '\0')
		log_event(LOG_LEVEL_INFO, LOG_SMTPD, "client", m->id, smtpd);
	log_event(LOG_LEVEL_INFO, LOG_CLEANUP, "message-id", m->id, cleanup);
	log_event(LOG_LEVEL_INFO, LOG_QMGR, "accepted", m->id, qmgr);
}

void relay_accepted(struct relay *r, struct message *m)
{
	struct stub *stub = stub_new(m, clock_mono_us());

	if (!m->large && r->kept_bytes + m->body.len <= RELAY_MEMORY_MAX) {
		r->kept_bytes += m->body.len;
		stub->loaded = m;
	} else {
		message_free(m);
	}
	queue_add_ready(r->queue, stub);
	relay_kick(r);
}

/* A loaded message joins those that connections may take. */
static void attempt_ready(struct relay *r, struct stub *stub, struct message *m)
{
	struct attempt *a;

	stub_apply_rcpts(stub, m);
	a = attempt_new(stub, m, r->options.recipients_per_message);
	if (a == NULL) {
		/* Every recipient has its outcome, only the end of the message
		 * was not recorded: a crash between two lines. */
		struct spool_outcome outcome =
		    relay_outcome(stub, SPOOL_DELETE);

		outcome.last = true;
		spool_settle(r->spool, &outcome);
		relay_move(r, stub, RELAY_NEXT_DONE, 0);
		return;
	}
	TAILQ_INSERT_TAIL(&r->loaded, a, link);
	r->n_loaded++;
}

static void unload(struct relay *r, struct attempt *a)
{
	TAILQ_REMOVE(&r->loaded, a, link);
	r->n_loaded--;
}

struct relay_load {
	LIST_ENTRY(relay_load) link;
	struct relay *relay;
	struct stub *stub; /* NULL: it was taken back */
};

/*
 * What the disk cannot give is for a person to look at; a lack of file
 * descriptors, say, passes, and so may all else.
 */
static void cannot_load(
    struct relay *r, struct stub *stub, const struct err *err)
{
	bool held = err->code == EBADMSG || err->code == EIO;

	log_msg(held ? LOG_LEVEL_ERROR : LOG_LEVEL_WARNING, LOG_QMGR, stub->id,
	    "cannot be read from the spool, %s: %s",
	    held ? "held" : "tried again later", err->text);
	queue_set_reply(r->queue, stub, err->text);
	if (held)
		queue_hold(r->queue, stub);
	else
		queue_wait(r->queue, stub,
		    backoff_next(&r->options.backoff, stub->arrival_us,
			clock_mono_us(), stub->id));
}

static void on_loaded(void *ctx, struct message *m, const struct err *err)
{
	struct relay_load *load = ctx;
	struct relay *r = load->relay;
	struct stub *stub = load->stub;
	struct crash_mark before;

	LIST_REMOVE(load, link);
	free(load);
	r->n_loading--;
	if (stub == NULL) {
		message_free(m);
		relay_kick(r);
		return;
	}
	before = crash_enter(stub->id, CRASH_LOAD);
	if (m != NULL) {
		attempt_ready(r, stub, m);
	} else {
		cannot_load(r, stub, err);
	}
	crash_leave(before);
	relay_kick(r);
}

bool relay_take_back(struct relay *r, struct stub *stub)
{
	struct relay_load *load;
	struct attempt *a;

	TAILQ_FOREACH (a, &r->loaded, link)
		if (a->stub == stub) {
			unload(r, a);
			attempt_free(a);
			return true;
		}
	LIST_FOREACH (load, &r->loading, link)
		if (load->stub == stub) {
			load->stub = NULL;
			return true;
		}
	return false;
}

static unsigned n_connections(const struct relay *r)
{
	return pool_count(r->pool, POOL_CONNECTING) +
	    pool_count(r->pool, POOL_IDLE) + pool_count(r->pool, POOL_BUSY);
}

/*
 * Keep as many messages loaded, or on their way, as connections could take,
 * and get them by the dozen: to wake a thread, and to be woken by it, costs
 * more than to read a message.
 */
static void load_ahead(struct relay *r)
{
	unsigned need = n_connections(r) + 1;
	unsigned want = need + need / LOAD_AHEAD;
	unsigned have = r->n_loading + r->n_loaded;
	struct stub *stub;

	if (have >= need)
		return;
	while (have < want &&
	    (stub = queue_take(r->queue, clock_mono_us())) != NULL) {
		have++;
		if (stub->loaded != NULL) {
			struct message *m = stub->loaded;

			r->kept_bytes -= m->body.len;
			stub->loaded = NULL;
			m->ref = stub->ref;
			attempt_ready(r, stub, m);
			continue;
		}
		struct relay_load *load = xcalloc(1, sizeof *load);

		load->relay = r;
		load->stub = stub;
		LIST_INSERT_HEAD(&r->loading, load, link);
		r->n_loading++;
		spool_load(r->spool, stub->id, stub->ref, on_loaded, load);
	}
}

/*
 * Nothing is sent that could not be marked as done: it would be sent again
 * after the next start.
 */
static bool may_send(const struct relay *r)
{
	return !r->stopping && !r->delivery_paused &&
	    spool_can_settle(r->spool) &&
	    gate_would_pass(&r->gate, clock_mono_us());
}

size_t relay_backlog(struct relay *r)
{
	size_t n;

	if (!may_send(r))
		return 0;
	n = queue_peek(r->queue, clock_mono_us()) == NULL
	    ? 0
	    : queue_count(r->queue, STUB_READY);
	n += r->n_loaded;
	if (n > 0) {
		size_t room = relay_pace_room(r);

		n = n < room ? n : room;
	}
	if (r->gate.state == GATE_OPEN || n == 0)
		return n;
	/* A probe: one message, on a connection that is there or one new. */
	return n_connections(r) == 0 ? 1 : 0;
}

const struct attempt *relay_peek(struct relay *r)
{
	if (!may_send(r))
		return NULL;
	load_ahead(r);
	return TAILQ_FIRST(&r->loaded);
}

struct attempt *relay_take(struct relay *r)
{
	struct attempt *a;

	if (!may_send(r))
		return NULL;
	load_ahead(r);
	a = TAILQ_FIRST(&r->loaded);
	if (a == NULL || !relay_pace_take(r, a))
		return NULL;
	unload(r, a);
	if (!gate_pass(&r->gate, clock_mono_us()))
		ASSERT(!"the gate closed between two looks");
	a->probe = r->gate.state == GATE_PROBING;
	return a;
}

/* --- the spool's events --- */

/* It crashed us so often that it is better not to touch it again. */
static void quarantine(
    struct relay *r, struct stub *stub, const struct spool_found *found)
{
	struct spool_outcome outcome = relay_outcome(stub, SPOOL_HOLD);
	char id[ID_BUF], reason[96];

	id_format(stub->id, id);
	snprintf(reason, sizeof reason,
	    "crashed the daemon %u times while it was being %s",
	    found->n_crashes, found->crashed_while);
	log_msg(LOG_LEVEL_ERROR, LOG_QMGR, stub->id,
	    "%s: held; look at it with sesrelayctl show %s, release it with "
	    "sesrelayctl release %s",
	    reason, id, id);
	stat_add(STAT_MESSAGES_QUARANTINED, 1);
	queue_set_reply(r->queue, stub, reason);
	outcome.reply = reason;
	spool_settle(r->spool, &outcome);
}

static void on_found(void *ctx, const struct spool_found *found)
{
	struct relay *r = ctx;
	struct message *m = found->message;
	struct stub *stub = stub_new(m, clock_mono_us() - found->age_us);

	stub_keep_rcpts(stub, m);
	message_free(m);
	if (found->held_reason != NULL)
		queue_set_reply(r->queue, stub, found->held_reason);
	if (found->held)
		queue_add_held(r->queue, stub);
	else
		queue_add_ready(r->queue, stub);
	if (found->n_crashes > 0)
		quarantine(r, stub, found);
	relay_kick(r);
}

static void on_scan_done(void *ctx)
{
	struct relay *r = ctx;

	log_msg(LOG_LEVEL_INFO, LOG_QMGR, LOG_NO_ID,
	    "spool read: %zu messages in the queue", queue_total(r->queue));
}

static void on_moved(void *ctx, uint64_t id, struct spool_ref ref)
{
	struct relay *r = ctx;
	struct stub *stub = queue_find(r->queue, id);
	struct attempt *a;

	if (stub == NULL)
		return;
	stub->ref = ref;
	if (stub->loaded != NULL)
		stub->loaded->ref = ref;
	TAILQ_FOREACH (a, &r->loaded, link)
		if (a->stub == stub)
			a->m->ref = ref;
}

static void on_health(void *ctx, bool ok, const char *reason)
{
	(void)ctx;
	if (ok)
		log_msg(LOG_LEVEL_INFO, LOG_MASTER, LOG_NO_ID,
		    "the spool is well again, mail is accepted");
	else
		log_msg(LOG_LEVEL_ERROR, LOG_MASTER, LOG_NO_ID,
		    "the spool cannot take mail: %s; local programs get 4xx "
		    "until it can",
		    reason);
}

static void on_trouble(void *ctx, const char *text)
{
	(void)ctx;
	log_msg(LOG_LEVEL_WARNING, LOG_MASTER, LOG_NO_ID, "spool: %s", text);
}

static const struct spool_events spool_events = {
	.on_found = on_found,
	.on_scan_done = on_scan_done,
	.on_moved = on_moved,
	.on_health = on_health,
	.on_trouble = on_trouble,
};

/* --- the loop's turn --- */

static void set_wake(struct relay *r)
{
	int64_t now = clock_mono_us(), next = gate_next(&r->gate), due;

	due = queue_next_due(r->queue);
	if (due < next)
		next = due;
	if (r->pace_until_us > now && r->pace_until_us < next)
		next = r->pace_until_us;
	if (next == INT64_MAX)
		loop_timer_clear(&r->wake);
	else if (next > now)
		loop_timer_set(&r->wake, next - now);
}

static void on_turn(void *ctx)
{
	struct relay *r = ctx;

	pool_dispatch(r->pool);
	relay_note_outage(r);
	set_wake(r);
	work_port_flush(r->port);
}

static void on_wake(void *ctx)
{
	(void)ctx; /* a turn of the loop is all that is wanted */
}

void relay_kick(struct relay *r)
{
	loop_kick(r->loop);
}

static void on_tick(void *ctx)
{
	struct relay *r = ctx;

	spool_tick(r->spool, clock_wall_us());
	learn_tick(r);
	loop_timer_set(&r->tick, TICK_US);
}

static void on_port(void *ctx)
{
	work_port_dispatch(ctx);
}

/* --- life --- */

struct relay *relay_new(
    struct loop *loop, const struct relay_config *config, struct err *err)
{
	struct relay *r = xcalloc(1, sizeof *r);

	r->loop = loop;
	r->options = config->relay;
	r->started_us = clock_mono_us();
	TAILQ_INIT(&r->loaded);
	LIST_INIT(&r->loading);
	gate_init(&r->gate);
	outage_init(&r->outage);
	loop_timer_init(&r->wake, loop, on_wake, r);
	loop_timer_init(&r->tick, loop, on_tick, r);
	r->port = work_port_new();
	r->port_watch =
	    loop_watch(loop, work_port_fd(r->port), on_port, r->port);
	r->queue = queue_new();
	r->resolver = resolver_new(r->port);
	r->spool = spool_open(&config->spool, r->port, &spool_events, r, err);
	if (r->spool == NULL)
		goto fail;
	r->pool = pool_new(r, &config->pool, err);
	if (r->pool == NULL)
		goto fail;
	learn_begin(r);
	r->inbound = inbound_new(r, &config->inbound);
	loop_on_turn(loop, on_turn, r);
	work_port_gather(r->port, true);
	return r;
fail:
	relay_free(r);
	return NULL;
}

int relay_configure(
    struct relay *r, const struct relay_config *config, struct err *err)
{
	/* The pool is the only part that can fail, so it comes first. */
	if (pool_configure(r->pool, &config->pool, err) != 0)
		return -1;
	r->options = config->relay;
	pacer_set_cap(&r->pacer, r->options.rate, clock_mono_us());
	learn_configure(r);
	inbound_configure(r->inbound, &config->inbound);
	spool_configure(r->spool, &config->spool);
	relay_kick(r);
	return 0;
}

void relay_set_credentials_source(
    struct relay *r, void (*reread)(void *ctx), void *ctx)
{
	r->reread_credentials = reread;
	r->reread_ctx = ctx;
}

void relay_start(struct relay *r)
{
	spool_scan(r->spool);
	loop_timer_set(&r->tick, TICK_US);
}

void relay_stop(struct relay *r)
{
	r->stopping = true;
	inbound_shutdown(r->inbound);
	pool_shutdown(r->pool);
	relay_kick(r);
}

bool relay_stopped(const struct relay *r)
{
	return inbound_idle(r->inbound) && pool_empty(r->pool);
}

void relay_free(struct relay *r)
{
	struct attempt *a;

	if (r == NULL)
		return;
	r->stopping = true;
	loop_on_turn(r->loop, NULL, NULL);
	work_port_gather(r->port, false);
	learn_end(r);
	pool_free(r->pool);
	if (r->spool != NULL)
		spool_close(r->spool); /* commits complete here */
	if (r->inbound != NULL)
		inbound_free(r->inbound);
	resolver_free(r->resolver);
	while ((a = TAILQ_FIRST(&r->loaded)) != NULL) {
		unload(r, a);
		attempt_free(a);
	}
	queue_free(r->queue);
	loop_unwatch(r->port_watch);
	work_port_free(r->port);
	loop_timer_fini(&r->wake);
	loop_timer_fini(&r->tick);
	free(r);
}
