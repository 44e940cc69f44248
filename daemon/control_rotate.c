/*
 * rotate: every connection to SES is renewed, each after its replacement is
 * there; on request, the answer waits until the old ones are closed.  Loop
 * thread.
 */
#include "control_private.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"

#include <stdlib.h>
#include <sysexits.h>

#define LOOK_US (50 * US_PER_MS)

struct rotation {
	struct control_client *client;
	int64_t deadline_us; /* monotonic; INT64_MAX: none */
	unsigned n; /* that are renewed */
	unsigned last; /* number of the youngest of them, or one younger */
};

struct old_ones {
	unsigned last, n;
};

static void find_last(void *ctx, const struct pool_connection_view *view)
{
	unsigned *last = ctx;

	if (view->number > *last)
		*last = view->number;
}

static void count_old(void *ctx, const struct pool_connection_view *view)
{
	struct old_ones *old = ctx;

	/* One that was connecting then was new enough. */
	if (view->number <= old->last && view->replaced != NULL)
		old->n++;
}

static unsigned n_left(const struct rotation *r)
{
	struct old_ones old = { .last = r->last };

	pool_each(r->client->daemon->relay->pool, count_old, &old);
	return old.n;
}

static void put_rotation(struct control_client *c, unsigned n, int left)
{
	json_t *o = json_pack("{s:i}", "connections", (int)n);

	if (left >= 0)
		json_object_set_new(o, "left", json_integer(left));
	control_put(c, o);
}

static void rotation_step(void *ctx)
{
	struct rotation *r = ctx;
	struct control_client *c = r->client;
	unsigned left = n_left(r);

	if (c->conn != NULL && left > 0 && clock_mono_us() < r->deadline_us) {
		control_progress(c, left);
		control_yield(c, LOOK_US, rotation_step);
		return;
	}
	put_rotation(c, r->n, (int)left);
	if (left > 0)
		control_error(
		    c, 1, "%u connections are still to be renewed", left);
	else
		control_ok(c);
	free(r);
	control_done(c);
}

/* rotate [wait [MILLISECONDS]] */
void control_rotate(struct control_client *c, struct slice args)
{
	struct pool *pool = c->daemon->relay->pool;
	bool wait = slice_eq_str(slice_word(&args), "wait");
	struct slice timeout = slice_trim(args);
	uint64_t timeout_ms = 0;
	struct rotation *r;
	unsigned last = 0, n;

	if (timeout.len > 0 &&
	    (!wait || slice_parse_u64(timeout, &timeout_ms) != 0 ||
		timeout_ms > INT64_MAX / US_PER_MS / 2)) {
		control_error(c, EX_USAGE, "rotate [wait [MILLISECONDS]]");
		return;
	}
	pool_each(pool, find_last, &last);
	n = pool_rotate(pool);
	log_msg(LOG_LEVEL_INFO, LOG_CONTROL, LOG_NO_ID,
	    "rotation of %u connections asked for by uid %u", n,
	    (unsigned)c->uid);
	if (!wait) {
		put_rotation(c, n, -1);
		control_ok(c);
		return;
	}
	r = xcalloc(1, sizeof *r);
	*r = (struct rotation){
		.client = c,
		.deadline_us = timeout.len > 0
		    ? clock_mono_us() + (int64_t)timeout_ms * US_PER_MS
		    : INT64_MAX,
		.n = n,
		.last = last,
	};
	c->answer = r;
	rotation_step(r);
}
