/*
 * requeue: a dead letter becomes a new message, for the recipients that it
 * names, with its content as it is.
 *
 * One letter at a time: read, commit as any message, and only when that is
 * durable the letter is removed.  A crash between leaves both.  Loop thread
 * but for the functions run_*.  Owns the message until the spool has it.
 */
#include "control_private.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/stat.h"
#include "relay/attempt.h"
#include "smtp/header.h"

#include <errno.h>
#include <stdlib.h>
#include <sysexits.h>

#define CHUNK (256u * 1024)

struct requeue {
	struct control_client *client;
	struct relay *relay;
	struct control_ids ids;
	struct inspect_names names;
	size_t next; /* name */
	uint64_t n_done;

	/* The letter in hand. */
	struct inspect_letter letter;
	struct message *m;
	struct spool_large *large;
	struct header_scan scan;
	struct body chunk;
	uint64_t offset;
	char new_id[ID_BUF];
	int rc;
	struct err err;
};

static void requeue_step(void *ctx);
static void take_content(struct requeue *q);

static void drop_letter(struct requeue *q)
{
	if (q->large != NULL)
		spool_large_drop(q->large);
	q->large = NULL;
	message_free(q->m);
	q->m = NULL;
	body_fini(&q->chunk);
	inspect_letter_fini(&q->letter);
}

static void requeue_end(struct requeue *q)
{
	struct control_client *c = q->client;

	drop_letter(q);
	inspect_names_fini(&q->names);
	control_ids_fini(&q->ids);
	free(q);
	control_done(c);
}

/* Nothing was changed. */
static void refuse(struct requeue *q, const char *why)
{
	json_t *o = report_letter(&q->letter);

	json_object_set_new(o, "error", report_text(why));
	json_object_set_new(o, "code", json_integer(1));
	control_put(q->client, o);
	drop_letter(q);
	if (control_can_go_on(q->client, requeue_step))
		requeue_step(q);
}

/* --- the end of one --- */

static void on_removed(void *ctx, int rc, const struct err *err)
{
	struct requeue *q = ctx;
	json_t *o = json_object();
	char id[ID_BUF];

	id_format(q->letter.message->id, id);
	json_object_set_new(o, "id", json_string(id));
	json_object_set_new(o, "file", report_text(q->letter.name));
	json_object_set_new(o, "new_id", json_string(q->new_id));
	if (rc != 0) {
		char *text = xasprintf(
		    "it is queued again as %s, but the dead letter is still "
		    "there: %s",
		    q->new_id, err->text);

		json_object_set_new(o, "error", report_text(text));
		json_object_set_new(o, "code", json_integer(1));
		free(text);
	}
	control_put(q->client, o);
	q->n_done++;
	drop_letter(q);
	if (control_can_go_on(q->client, requeue_step))
		requeue_step(q);
}

static void on_committed(void *ctx, int rc, const struct err *err)
{
	struct requeue *q = ctx;
	struct message *m = q->m;

	q->large = NULL; /* the spool has it, or threw it away */
	if (rc != 0) {
		refuse(q, err->text);
		return;
	}
	log_msg(LOG_LEVEL_INFO, LOG_CONTROL, m->id,
	    "requeued from failed/%s by uid %u", q->letter.name,
	    (unsigned)q->client->uid);
	relay_log_accepted(m);
	stat_add(STAT_MESSAGES_ACCEPTED, 1);
	stat_add(STAT_RCPT_ACCEPTED, m->n_rcpts);
	q->m = NULL;
	relay_accepted(q->relay, m);
	spool_remove_letter(q->relay->spool, q->letter.name, on_removed, q);
}

/* --- content --- */

static void commit(struct requeue *q)
{
	struct spool_large *large = q->large;

	q->large = NULL;
	free(q->m->message_id);
	q->m->message_id = xstrdup(q->scan.message_id);
	spool_commit(q->relay->spool, q->m, large, on_committed, q);
}

static void on_appended(void *ctx, int rc, const struct err *err)
{
	struct requeue *q = ctx;

	if (rc != 0)
		refuse(q, err->text);
	else
		take_content(q);
}

static void run_content(void *ctx, const char *directory)
{
	struct requeue *q = ctx;
	uint64_t left = q->letter.message->size - q->offset;

	q->rc = inspect_letter_content(directory, &q->letter, q->offset,
	    left < CHUNK ? (size_t)left : CHUNK, &q->chunk, &q->err);
}

static void on_content(void *ctx)
{
	struct requeue *q = ctx;

	if (q->rc != 0) {
		refuse(q, q->err.text);
		return;
	}
	q->offset += q->chunk.len;
	if (!q->scan.done)
		header_scan_feed(&q->scan, q->chunk.data, q->chunk.len);
	if (q->large != NULL) {
		spool_large_append(q->large, &q->chunk, on_appended, q);
		return;
	}
	body_append(&q->m->body, q->chunk.data, q->chunk.len);
	q->chunk.len = 0;
	take_content(q);
}

static void take_content(struct requeue *q)
{
	if (q->offset == q->letter.message->size)
		commit(q);
	else if (q->client->conn == NULL)
		refuse(q, "the client has gone");
	else
		spool_look(q->relay->spool, run_content, on_content, q);
}

/* --- one letter after the other --- */

static struct message *new_message(const struct requeue *q)
{
	const struct message *old = q->letter.message;
	struct message *m = message_new(id_new(clock_wall_us()));

	m->arrival_us = clock_wall_us();
	m->sender = xstrdup(old->sender);
	m->body_8bit = old->body_8bit;
	m->peer = xasprintf("sesrelayctl[uid %u]", (unsigned)q->client->uid);
	m->helo = xstrdup("requeue");
	m->message_id = xstrdup("");
	m->size = old->size;
	for (unsigned i = 0; i < old->n_rcpts; i++) {
		message_add_rcpt(m, old->rcpts[i].addr);
		message_set_orig(m, old->rcpts[i].orig);
	}
	return m;
}

static void run_letter(void *ctx, const char *directory)
{
	struct requeue *q = ctx;

	inspect_letter_read(directory, q->names.items[q->next++], &q->letter);
}

static void on_letter(void *ctx)
{
	struct requeue *q = ctx;
	const char *refusal;

	if (q->letter.message == NULL) {
		refuse(q, q->letter.err.text);
		return;
	}
	refusal = spool_refusal(q->relay->spool, q->letter.message->size);
	if (refusal != NULL) {
		refuse(q, refusal);
		return;
	}
	q->m = new_message(q);
	id_format(q->m->id, q->new_id);
	if (q->m->size > MESSAGE_BODY_MAX)
		q->large = spool_large_new(q->relay->spool, q->m->id);
	header_scan_init(&q->scan);
	q->offset = 0;
	take_content(q);
}

static bool wanted(struct requeue *q, const char *name)
{
	bool found = q->ids.all;
	uint64_t id;

	if (inspect_letter_id(name, &id) != 0)
		return false;
	for (size_t i = 0; i < q->ids.n; i++)
		if (q->ids.items[i].id == id)
			found = q->ids.items[i].found = true;
	return found;
}

static void finish(struct requeue *q)
{
	for (size_t i = 0; i < q->ids.n; i++)
		if (!q->ids.items[i].found)
			control_put(q->client,
			    report_error(q->ids.items[i].word, EX_DATAERR,
				"there is no dead letter of that id"));
	control_ok(q->client);
	requeue_end(q);
}

static void requeue_step(void *ctx)
{
	struct requeue *q = ctx;

	while (q->next < q->names.n && !wanted(q, q->names.items[q->next]))
		q->next++;
	if (q->client->conn == NULL || q->next == q->names.n) {
		finish(q);
		return;
	}
	control_progress(q->client, q->n_done);
	spool_look(q->relay->spool, run_letter, on_letter, q);
}

static void run_names(void *ctx, const char *directory)
{
	struct requeue *q = ctx;

	q->rc = inspect_letter_names(directory, &q->names, &q->err);
}

static void on_names(void *ctx)
{
	struct requeue *q = ctx;

	if (q->rc == 0) {
		requeue_step(q);
		return;
	}
	control_error(q->client, 1, "%s", q->err.text);
	requeue_end(q);
}

void control_requeue(struct control_client *c, struct slice args)
{
	struct control_ids ids;
	struct requeue *q;

	if (!control_ids_read(&ids, c, args))
		return;
	q = xcalloc(1, sizeof *q);
	q->client = c;
	q->relay = c->daemon->relay;
	q->ids = ids;
	body_init(&q->chunk);
	c->answer = q;
	spool_look(q->relay->spool, run_names, on_names, q);
}
