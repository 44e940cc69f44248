/*
 * The end of mail that can't be delivered: a dead letter is written and
 * synced, and only then is the outcome recorded.  While that runs, the stub
 * stays INFLIGHT, so nothing else can happen to the message.
 *
 * If the disk refuses the letter, the message keeps its place in the queue: it
 * is tried again later and refused again, but it is not lost.
 */
#include "relay/attempt.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/stat.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* How long until a message is tried again whose letter can't be written. */
#define BURY_RETRY_US (60 * US_PER_S)

struct burial {
	struct relay *relay;
	struct stub *stub;
	uint16_t *positions;
	unsigned n;
	char *dsn, *reason;
	enum relay_next next;
	int64_t due_us;
};

static void burial_free(struct burial *b)
{
	free(b->positions);
	free(b->dsn);
	free(b->reason);
	free(b);
}

static void record(const struct burial *b)
{
	struct spool_outcome outcome = relay_outcome(b->stub, SPOOL_FAILED);

	outcome.rcpts = b->positions;
	outcome.n_rcpts = b->n;
	outcome.last = b->next == RELAY_NEXT_DONE;
	outcome.dsn = b->dsn;
	outcome.reply = b->reason;
	spool_settle(b->relay->spool, &outcome);
	stat_add(STAT_RCPT_FAILED, b->n);
}

static void on_buried(void *ctx, int rc, const struct err *err)
{
	struct burial *b = ctx;

	if (rc != 0) {
		log_msg(LOG_LEVEL_ERROR, LOG_QMGR, b->stub->id,
		    "its dead letter cannot be written (%s): the message stays "
		    "in the queue",
		    err->text);
		/* The letter is not there, so they are still to be decided. */
		for (unsigned i = 0; i < b->n; i++)
			b->stub->rcpt_states[b->positions[i]] = RCPT_PENDING;
		/* Damaged content stays damaged: for the operator to look at.
		 * So is what was to be held: it may not go out again. */
		if (err->code == EBADMSG || b->next == RELAY_NEXT_HOLD)
			queue_hold(b->relay->queue, b->stub);
		else
			queue_wait(b->relay->queue, b->stub,
			    clock_mono_us() + BURY_RETRY_US);
		relay_kick(b->relay);
	} else {
		record(b);
		relay_move(b->relay, b->stub, b->next, b->due_us);
	}
	burial_free(b);
}

void relay_bury(struct relay *r, struct stub *stub, const uint16_t *positions,
    unsigned n, const char *dsn, const char *reason, enum relay_next next,
    int64_t due_us)
{
	struct burial *b = xcalloc(1, sizeof *b);
	struct spool_letter letter = {
		.id = stub->id,
		.ref = stub->ref,
		.time_us = clock_wall_us(),
	};

	b->relay = r;
	b->stub = stub;
	b->positions = xmemdup(positions, n * sizeof *positions);
	b->n = n;
	b->dsn = xstrdup(dsn);
	b->reason = xstrdup(reason);
	b->next = next;
	b->due_us = due_us;
	letter.rcpts = b->positions;
	letter.n_rcpts = n;
	letter.reason = b->reason;
	spool_bury(r->spool, &letter, on_buried, b);
}
