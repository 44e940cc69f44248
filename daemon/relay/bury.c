/*
 * The end of mail that can't be delivered: a dead letter is written and
 * synced, the notice of it is committed, and only then is the outcome recorded.
 * While that runs, the stub stays INFLIGHT, so nothing else can happen to the
 * message.  A crash in between leaves a second letter and a second notice at
 * worst, never none.
 *
 * If the disk refuses the letter, the message keeps its place in the queue: it
 * is tried again later and refused again, but it is not lost.
 */
#include "relay/notice.h"
#include "relay/operate.h"

#include "base/clock.h"
#include "base/crash.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/stat.h"
#include "smtp/dsn.h"
#include "smtp/header.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* How long until a message is tried again whose letter can't be written. */
#define BURY_RETRY_US (60 * US_PER_S)

/* One that is under way: copies of what struct relay_burial points to. */
struct burial {
	struct relay *relay;
	struct stub *stub;
	struct message *message;
	struct relay_failure *failures;
	uint16_t *positions; /* of the failures */
	unsigned n;
	char *reason, *via, *message_id;
	enum relay_next next;
	int64_t due_us;
};

static void burial_free(struct burial *b)
{
	for (unsigned i = 0; i < b->n; i++)
		free((void *)(uintptr_t)b->failures[i].text);
	message_free(b->message);
	free(b->failures);
	free(b->positions);
	free(b->reason);
	free(b->via);
	free(b->message_id);
	free(b);
}

/* The letter is there, and so is the notice if there is to be one. */
static void on_told(void *ctx)
{
	struct burial *b = ctx;
	struct crash_mark before = crash_enter(b->stub->id, CRASH_BURY);
	struct spool_outcome outcome = relay_outcome(b->stub, SPOOL_FAILED);

	outcome.rcpts = b->positions;
	outcome.n_rcpts = b->n;
	outcome.last = b->next == RELAY_NEXT_DONE;
	outcome.dsn = b->failures[b->n - 1].dsn;
	outcome.reply = b->reason;
	outcome.message_id = b->message_id;
	spool_settle(b->relay->spool, &outcome);
	stat_add(STAT_RCPT_FAILED, b->n);
	relay_move(b->relay, b->stub, b->next, b->due_us);
	burial_free(b);
	crash_leave(before);
}

static void tell(struct burial *b)
{
	struct notice notice = {
		.message = b->message,
		.failures = b->failures,
		.n_failures = b->n,
		.reason = b->reason,
		.via = b->via,
	};

	b->message = NULL;
	notice_send(b->relay, &notice, on_told, b);
}

/* It stays in the queue. */
static void keep(struct burial *b, const struct err *err)
{
	log_msg(LOG_LEVEL_ERROR, LOG_QMGR, b->stub->id,
	    "its dead letter cannot be written (%s): the message stays "
	    "in the queue",
	    err->text);
	/* The letter is not there, so they are still to be decided. */
	for (unsigned i = 0; i < b->n; i++)
		b->stub->rcpt_states[b->positions[i]] = RCPT_PENDING;
	/* Damaged content stays damaged: for the operator to look at.
	 * So is what was to be held: it may not go out again. */
	if (relay_grant_wish(b->relay, b->stub))
		;
	else if (err->code == EBADMSG || b->next == RELAY_NEXT_HOLD)
		queue_hold(b->relay->queue, b->stub);
	else
		queue_wait(
		    b->relay->queue, b->stub, clock_mono_us() + BURY_RETRY_US);
	relay_kick(b->relay);
	burial_free(b);
}

static void on_buried(void *ctx, int rc, const struct err *err)
{
	struct burial *b = ctx;
	struct crash_mark before = crash_enter(b->stub->id, CRASH_BURY);

	if (rc == 0)
		tell(b);
	else
		keep(b, err);
	crash_leave(before);
}

/* The last reply of SES; NULL when none of them was given up for a reply. */
static const char *last_reply(const struct burial *b)
{
	for (unsigned i = b->n; i-- > 0;)
		if (b->failures[i].replied)
			return b->failures[i].text;
	return NULL;
}

/* A notice needs the header of it, and burials may be many. */
static struct message *only_headers(struct message *m)
{
	struct slice block;
	struct body headers;

	if (m->large)
		return m;
	block =
	    header_block(slice_of(m->body.data, m->body.len), DSN_HEADERS_MAX);
	body_init(&headers);
	body_append(&headers, block.ptr, block.len);
	body_fini(&m->body);
	body_move(&m->body, &headers);
	return m;
}

void relay_bury(struct relay *r, const struct relay_burial *burial)
{
	struct burial *b = xcalloc(1, sizeof *b);
	struct spool_letter letter = {
		.id = burial->stub->id,
		.ref = burial->stub->ref,
		.time_us = clock_wall_us(),
	};

	b->relay = r;
	b->stub = burial->stub;
	b->message = only_headers(burial->message);
	b->message_id = xstrdup(b->message->message_id);
	b->n = burial->n_failures;
	b->failures = xmemdup(burial->failures, b->n * sizeof *b->failures);
	b->positions = xcalloc(b->n, sizeof *b->positions);
	for (unsigned i = 0; i < b->n; i++) {
		b->positions[i] = b->failures[i].position;
		b->failures[i].text = xstrdup(b->failures[i].text);
	}
	b->reason = xstrdup(burial->reason);
	b->via = burial->via != NULL ? xstrdup(burial->via) : NULL;
	b->next = burial->next;
	b->due_us = burial->due_us;
	letter.rcpts = b->positions;
	letter.n_rcpts = b->n;
	letter.reason = b->reason;
	letter.reply = last_reply(b);
	spool_bury(r->spool, &letter, on_buried, b);
}
