/*
 * Verbs that change messages: retry, hold, release, delete; and pause, resume.
 *
 * An answer comes when the outcome lines are written, so that what it says
 * lasts.  "--all" walks over the queue in pieces, one each turn of the loop,
 * with a bounded number of lines on their way to the disk.  Loop thread; an
 * operation lives until its last line is written, also when its client has
 * gone: what was begun is finished, no more is begun.
 */
#include "control_private.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "relay/operate.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

/* Messages in one turn of the loop, and lines not written yet. */
#define PIECE 250
#define ON_THEIR_WAY 2000

/* --- ids --- */

bool control_ids_read(
    struct control_ids *ids, struct control_client *c, struct slice args)
{
	struct slice word;

	*ids = (struct control_ids){ 0 };
	while ((word = slice_word(&args)).len > 0) {
		struct control_id *item;

		if (slice_eq_str(word, "--all")) {
			ids->all = true;
			continue;
		}
		ids->items =
		    xrealloc(ids->items, (ids->n + 1) * sizeof *ids->items);
		item = &ids->items[ids->n++];
		*item = (struct control_id){ .word = slice_dup(word) };
		if (id_parse(word, &item->id) != 0)
			item->id = 0;
	}
	if (ids->all == (ids->n > 0)) {
		control_ids_fini(ids);
		control_error(c, EX_USAGE, "either queue ids, or --all");
		return false;
	}
	return true;
}

void control_ids_fini(struct control_ids *ids)
{
	for (size_t i = 0; i < ids->n; i++)
		free(ids->items[i].word);
	free(ids->items);
	*ids = (struct control_ids){ 0 };
}

/* --- operations --- */

struct operation {
	struct control_client *client;
	struct relay *relay;
	struct operate_order order;
	struct control_ids ids;
	const char **results; /* of ids; NULL: it failed */
	const char *problem; /* of what failed */
	uint64_t after; /* of the walk, for --all */
	bool begun; /* everything has been, but lines may not be written */
	size_t n_unwritten;
	uint64_t n_done, n_later, n_not, n_failed;
};

static void operation_step(void *ctx);

static void put_result(struct operation *op, size_t i)
{
	const struct control_id *item = &op->ids.items[i];
	struct spool_usage usage;

	if (op->results[i] != NULL) {
		control_put(op->client,
		    json_pack("{s:s,s:s}", "id", item->word, "result",
			op->results[i]));
	} else if (item->found) {
		control_put(
		    op->client, report_error(item->word, 1, op->problem));
	} else {
		spool_usage(op->relay->spool, &usage);
		control_put(op->client,
		    report_error(item->word, EX_DATAERR,
			usage.scanning
			    ? "no such message in the queue, which is still "
			      "being read after the start"
			    : "no such message in the queue"));
	}
}

static void operation_end(struct operation *op)
{
	struct control_client *c = op->client;

	if (op->ids.all)
		control_put(c,
		    json_pack("{s:I,s:I,s:I}", "done", (json_int_t)op->n_done,
			"later", (json_int_t)op->n_later, "left_alone",
			(json_int_t)op->n_not));
	for (size_t i = 0; i < op->ids.n; i++)
		put_result(op, i);
	if (op->n_failed > 0)
		control_error(c, 1,
		    "the spool cannot record it now: it would be undone by a "
		    "restart");
	else
		control_ok(c);
	control_ids_fini(&op->ids);
	free(op->results);
	free(op);
	control_done(c);
}

static void end_if_done(struct operation *op)
{
	if (op->begun && op->n_unwritten == 0)
		operation_end(op);
}

static void on_written(void *ctx)
{
	struct operation *op = ctx;

	op->n_unwritten--;
	if (!spool_can_settle(op->relay->spool))
		op->n_failed++;
	end_if_done(op);
}

/* In words what became of it; NULL: it failed, see op->problem. */
static const char *operate(struct operation *op, struct stub *stub)
{
	static const char *const done[] = {
		[OPERATE_RETRY] = "ready",
		[OPERATE_HOLD] = "held",
		[OPERATE_RELEASE] = "released",
		[OPERATE_DELETE] = "deleted",
	};
	bool active = stub->state == STUB_INFLIGHT;
	enum operate_verb verb = op->order.verb;
	enum operate_result result;

	/* Counted first: the completion may only come from the loop, though. */
	op->n_unwritten += verb != OPERATE_RETRY;
	result = relay_operate(op->relay, stub, &op->order);
	if (result != OPERATE_DONE)
		op->n_unwritten -= verb != OPERATE_RETRY;
	op->n_done += result == OPERATE_DONE;
	op->n_later += result == OPERATE_LATER;
	op->n_not += result == OPERATE_NOT;
	if (result == OPERATE_LATER)
		return "later";
	if (result == OPERATE_DONE)
		return verb == OPERATE_RETRY && active ? "active" : done[verb];
	if (verb == OPERATE_RELEASE)
		return "not held";
	if (verb == OPERATE_HOLD)
		return "held";
	op->problem = "it is held, and stays so: release it";
	return NULL;
}

static void operate_ids(struct operation *op)
{
	for (size_t i = 0; i < op->ids.n; i++) {
		struct control_id *item = &op->ids.items[i];
		struct stub *stub = item->id != 0
		    ? queue_find(op->relay->queue, item->id)
		    : NULL;

		item->found = stub != NULL;
		if (stub != NULL)
			op->results[i] = operate(op, stub);
	}
	op->begun = true;
}

static bool operate_next(void *ctx, struct stub *stub)
{
	struct operation *op = ctx;

	(void)operate(op, stub);
	return op->n_unwritten < ON_THEIR_WAY;
}

static void operation_step(void *ctx)
{
	struct operation *op = ctx;

	if (op->client->conn == NULL)
		op->begun = true;
	else if (op->n_unwritten < ON_THEIR_WAY)
		op->begun = !queue_walk(op->relay->queue, &op->after, PIECE,
		    STUB_N_STATES, operate_next, op);
	if (op->begun) {
		end_if_done(op);
		return;
	}
	control_progress(op->client, op->n_done);
	control_yield(op->client,
	    op->n_unwritten < ON_THEIR_WAY ? 0 : US_PER_MS, operation_step);
}

static void operation_start(
    struct control_client *c, struct slice args, enum operate_verb verb)
{
	struct relay *r = c->daemon->relay;
	struct operation *op;
	struct control_ids ids;

	if (!control_ids_read(&ids, c, args))
		return;
	if (verb != OPERATE_RETRY && !spool_can_settle(r->spool)) {
		control_ids_fini(&ids);
		control_error(c, 1,
		    "the spool cannot record it now, so nothing was changed; "
		    "\"sesrelayctl status\" says what is wrong");
		return;
	}
	op = xcalloc(1, sizeof *op);
	op->client = c;
	op->relay = r;
	op->ids = ids;
	op->order = (struct operate_order){
		.verb = verb,
		.uid = c->uid,
		.written = on_written,
		.ctx = op,
	};
	c->answer = op;
	if (verb == OPERATE_RETRY)
		relay_try_now(r);
	if (!ids.all) {
		op->results = xcalloc(ids.n, sizeof *op->results);
		operate_ids(op);
		end_if_done(op);
		return;
	}
	operation_step(op);
}

void control_retry(struct control_client *c, struct slice args)
{
	operation_start(c, args, OPERATE_RETRY);
}

void control_hold(struct control_client *c, struct slice args)
{
	operation_start(c, args, OPERATE_HOLD);
}

void control_release(struct control_client *c, struct slice args)
{
	operation_start(c, args, OPERATE_RELEASE);
}

void control_delete(struct control_client *c, struct slice args)
{
	operation_start(c, args, OPERATE_DELETE);
}

/* --- pause and resume --- */

static void set_pause(struct control_client *c, struct slice args, bool paused)
{
	struct relay *r = c->daemon->relay;
	bool intake = slice_eq_str(args, "intake");

	if (!intake && args.len > 0 && !slice_eq_str(args, "delivery")) {
		control_error(c, EX_USAGE, "delivery, or intake");
		return;
	}
	log_msg(LOG_LEVEL_INFO, LOG_CONTROL, LOG_NO_ID, "%s %s by uid %u",
	    intake ? "intake" : "delivery", paused ? "paused" : "resumed",
	    (unsigned)c->uid);
	if (intake)
		relay_pause_intake(r, paused);
	else
		relay_pause_delivery(r, paused);
	control_put(c,
	    json_pack("{s:b,s:b}", "delivery_paused", r->delivery_paused,
		"intake_paused", r->intake_paused));
	control_ok(c);
}

void control_pause(struct control_client *c, struct slice args)
{
	set_pause(c, args, true);
}

void control_resume(struct control_client *c, struct slice args)
{
	set_pause(c, args, false);
}
