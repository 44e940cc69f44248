/*
 * drain: no new mail, everything that waits is tried at once, and the answer
 * comes when the queue is empty of all but held messages, or at the timeout.
 *
 * When it is empty, the intake stays paused: whoever drains is about to take
 * the machine away.  At the timeout, and when the client goes, mail is taken
 * again.  Loop thread; one drain at a time.
 */
#include "control_private.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "relay/operate.h"

#include <inttypes.h>
#include <stdlib.h>
#include <sysexits.h>

#define LOOK_US (50 * US_PER_MS)
#define PIECE 2000

struct drain {
	struct control_client *client;
	struct relay *relay;
	int64_t deadline_us; /* monotonic; INT64_MAX: none */
	uint64_t after; /* of the walk over those that wait */
	bool walking;
};

static void drain_step(void *ctx);

static size_t n_left(const struct relay *r)
{
	return queue_total(r->queue) - queue_count(r->queue, STUB_HELD);
}

static void drain_end(struct drain *d)
{
	struct control_client *c = d->client;

	relay_drain(d->relay, false);
	free(d);
	control_done(c);
}

static void put_left(struct drain *d)
{
	control_put(d->client,
	    json_pack("{s:I,s:I}", "left", (json_int_t)n_left(d->relay), "held",
		(json_int_t)queue_count(d->relay->queue, STUB_HELD)));
}

static bool is_empty(const struct drain *d)
{
	struct spool_usage usage;

	spool_usage(d->relay->spool, &usage);
	return n_left(d->relay) == 0 && !usage.scanning &&
	    !inbound_is_receiving(d->relay->inbound);
}

static bool retry_next(void *ctx, struct stub *stub)
{
	static const struct operate_order retry = { .verb = OPERATE_RETRY };

	(void)relay_operate(ctx, stub, &retry);
	return true;
}

static void drain_step(void *ctx)
{
	struct drain *d = ctx;
	struct relay *r = d->relay;

	if (d->client->conn == NULL) {
		log_msg(LOG_LEVEL_INFO, LOG_CONTROL, LOG_NO_ID,
		    "drain given up, mail is taken again");
		drain_end(d);
	} else if (is_empty(d)) {
		relay_pause_intake(r, true);
		put_left(d);
		control_ok(d->client);
		log_msg(LOG_LEVEL_INFO, LOG_CONTROL, LOG_NO_ID,
		    "drained; the intake stays paused");
		drain_end(d);
	} else if (clock_mono_us() >= d->deadline_us) {
		log_msg(LOG_LEVEL_WARNING, LOG_CONTROL, LOG_NO_ID,
		    "not drained in time, %zu messages are left; mail is taken "
		    "again",
		    n_left(r));
		put_left(d);
		control_error(d->client, 1, "%zu messages are left", n_left(r));
		drain_end(d);
	} else {
		if (d->walking)
			d->walking = queue_walk(r->queue, &d->after, PIECE,
			    STUB_WAITING, retry_next, r);
		control_progress(d->client, n_left(r));
		control_yield(d->client, d->walking ? 0 : LOOK_US, drain_step);
	}
}

/* drain [MILLISECONDS] */
void control_drain(struct control_client *c, struct slice args)
{
	struct relay *r = c->daemon->relay;
	uint64_t timeout_ms = 0;
	struct drain *d;

	if (args.len > 0 &&
	    (slice_parse_u64(args, &timeout_ms) != 0 ||
		timeout_ms > INT64_MAX / US_PER_MS / 2)) {
		control_error(c, EX_USAGE, "drain [MILLISECONDS]");
		return;
	}
	if (r->draining || r->delivery_paused) {
		control_error(c, 1, "%s",
		    r->draining
			? "a drain is running already"
			: "delivery is paused: \"sesrelayctl resume\" first");
		return;
	}
	d = xcalloc(1, sizeof *d);
	d->client = c;
	d->relay = r;
	d->deadline_us = args.len > 0
	    ? clock_mono_us() + (int64_t)timeout_ms * US_PER_MS
	    : INT64_MAX;
	d->walking = true;
	c->answer = d;
	log_msg(LOG_LEVEL_INFO, LOG_CONTROL, LOG_NO_ID,
	    "drain asked for by uid %u: no new mail", (unsigned)c->uid);
	relay_drain(r, true);
	relay_try_now(r);
	drain_step(d);
}
