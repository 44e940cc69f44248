/*
 * queue and show.  Envelopes are on the disk: they are read in batches of
 * heads, without content, and the answer goes on from the completion.  What
 * leaves the queue meanwhile is passed over; what compaction moved is read
 * again from its new place.  Loop thread but for the functions run_*.
 */
#include "control_private.h"

#include "base/clock.h"
#include "base/mem.h"

#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#define BATCH 256
/* Stubs that are looked at in one turn of the loop. */
#define LOOK_AT 10000
#define CHUNK 65536

struct report_queued control_queued(const struct stub *stub)
{
	int64_t ahead = clock_wall_us() - clock_mono_us();
	bool waits = stub->state == STUB_WAITING;

	return (struct report_queued){
		.id = stub->id,
		.state = stub_state_name((enum stub_state)stub->state),
		.rcpt_states = stub->rcpt_states,
		.attempts = stub->attempts,
		.next_attempt_us = waits ? ahead + stub->due.key : 0,
		.last_reply = stub->last_reply,
		.size = stub->size,
		.arrival_us = ahead + stub->arrival_us,
	};
}

/* --- queue --- */

struct listing {
	struct control_client *client;
	struct relay *relay;
	enum stub_state state; /* STUB_N_STATES: all */
	uint64_t after; /* of the walk */
	bool walked; /* to the end */
	struct inspect_head heads[BATCH];
	size_t n;
};

static void listing_step(void *ctx);

static void listing_end(struct listing *l)
{
	struct control_client *c = l->client;

	free(l);
	control_ok(c);
	control_done(c);
}

static bool listed(const struct listing *l, const struct stub *stub)
{
	return l->state == STUB_N_STATES || stub->state == l->state;
}

static void run_heads(void *ctx, const char *directory)
{
	struct listing *l = ctx;

	inspect_heads(directory, l->heads, l->n);
}

/* True: it has to be read again. */
static bool put_row(struct listing *l, struct inspect_head *head)
{
	struct stub *stub = queue_find(l->relay->queue, head->id);
	struct report_queued queued;

	if (stub == NULL || !listed(l, stub))
		return false;
	if (head->message == NULL &&
	    (stub->ref.segment != head->ref.segment ||
		stub->ref.offset != head->ref.offset)) {
		head->ref = stub->ref;
		return true;
	}
	queued = control_queued(stub);
	if (head->message != NULL && head->message->n_rcpts == stub->n_rcpts)
		control_put(l->client, report_message(&queued, head->message));
	else
		control_put(l->client, report_damaged(&queued, head->err.text));
	return false;
}

static void on_heads(void *ctx)
{
	struct listing *l = ctx;
	size_t again = 0;

	for (size_t i = 0; i < l->n; i++) {
		struct inspect_head head = l->heads[i];

		if (put_row(l, &head))
			l->heads[again++] = (struct inspect_head){
				.id = head.id,
				.ref = head.ref,
			};
		message_free(head.message);
	}
	l->n = again;
	if (control_can_go_on(l->client, listing_step))
		listing_step(l);
}

static bool add_head(void *ctx, struct stub *stub)
{
	struct listing *l = ctx;

	l->heads[l->n++] = (struct inspect_head){
		.id = stub->id,
		.ref = stub->ref,
	};
	return l->n < BATCH;
}

static void listing_step(void *ctx)
{
	struct listing *l = ctx;

	if (l->client->conn == NULL) {
		listing_end(l);
		return;
	}
	if (!l->walked && l->n < BATCH)
		l->walked = !queue_walk(
		    l->relay->queue, &l->after, LOOK_AT, l->state, add_head, l);
	if (l->n > 0)
		spool_look(l->relay->spool, run_heads, on_heads, l);
	else if (l->walked)
		listing_end(l);
	else
		control_yield(l->client, 0, listing_step);
}

void control_queue(struct control_client *c, struct slice args)
{
	enum stub_state state = STUB_N_STATES;
	struct listing *l;

	for (int i = STUB_READY; i < STUB_N_STATES; i++)
		if (slice_eq_str(args, stub_state_name((enum stub_state)i)))
			state = (enum stub_state)i;
	if (args.len > 0 && state == STUB_N_STATES) {
		control_error(
		    c, EX_USAGE, "states are: ready, waiting, active, held");
		return;
	}
	l = xcalloc(1, sizeof *l);
	l->client = c;
	l->relay = c->daemon->relay;
	l->state = state;
	c->answer = l;
	listing_step(l);
}

/* --- show --- */

struct shown {
	struct control_client *client;
	struct relay *relay;
	uint64_t id;
	struct message *m;
	uint64_t offset;
	struct body chunk;
};

static void next_content(void *ctx);

static void shown_end(struct shown *s)
{
	struct control_client *c = s->client;

	message_free(s->m);
	body_fini(&s->chunk);
	free(s);
	control_done(c);
}

static void put_chunk(struct shown *s, const char *data, size_t len)
{
	control_put(s->client, report_content(data, len));
	s->offset += len;
}

static void on_chunk(void *ctx, int rc, const struct err *err)
{
	struct shown *s = ctx;

	if (rc != 0) {
		control_error(s->client, 1, "%s", err->text);
		shown_end(s);
		return;
	}
	put_chunk(s, s->chunk.data, s->chunk.len);
	s->chunk.len = 0;
	next_content(s);
}

static void next_content(void *ctx)
{
	struct shown *s = ctx;
	const struct message *m = s->m;

	while (s->client->conn != NULL && s->offset < m->size) {
		uint64_t left = m->size - s->offset;
		size_t n = left < CHUNK ? (size_t)left : CHUNK;

		if (!control_can_go_on(s->client, next_content))
			return;
		if (m->large) {
			spool_read_large(s->relay->spool, m, s->offset, n,
			    &s->chunk, on_chunk, s);
			return;
		}
		put_chunk(s, m->body.data + s->offset, n);
	}
	control_ok(s->client);
	shown_end(s);
}

static void on_shown(void *ctx, struct message *m, const struct err *err)
{
	struct shown *s = ctx;
	struct stub *stub = queue_find(s->relay->queue, s->id);
	struct report_queued queued;
	char id[ID_BUF];

	s->m = m;
	if (m == NULL || stub == NULL) {
		control_put(s->client,
		    report_error(id_format(s->id, id),
			stub == NULL ? EX_DATAERR : 1,
			stub == NULL ? "it has left the queue" : err->text));
		control_ok(s->client);
		shown_end(s);
		return;
	}
	queued = control_queued(stub);
	control_put(s->client, report_message(&queued, m));
	next_content(s);
}

void control_show(struct control_client *c, struct slice args)
{
	struct slice word = slice_word(&args);
	struct relay *relay = c->daemon->relay;
	struct stub *stub;
	struct shown *s;
	uint64_t id;

	if (id_parse(word, &id) != 0) {
		control_error(c, EX_USAGE, "a queue id has 16 hex digits");
		return;
	}
	stub = queue_find(relay->queue, id);
	if (stub == NULL) {
		control_error(c, EX_DATAERR, "no such message in the queue");
		return;
	}
	s = xcalloc(1, sizeof *s);
	s->client = c;
	s->relay = relay;
	s->id = id;
	if (!slice_eq_str(slice_trim(args), "content"))
		s->offset = UINT64_MAX; /* the envelope alone */
	body_init(&s->chunk);
	c->answer = s;
	spool_load(relay->spool, id, stub->ref, on_shown, s);
}
