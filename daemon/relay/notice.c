/*
 * Failure notices: whether one is due, what it says, and its way into the
 * spool.  Loop thread; a notice in the making is owned by the one callback
 * that is pending for it.
 */
#include "relay/notice.h"

#include "base/clock.h"
#include "base/crash.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/stat.h"
#include "smtp/dsn.h"
#include "smtp/header.h"

#include <stdlib.h>
#include <string.h>

/* One that is being made. */
struct making {
	struct relay *relay;
	struct notice notice;
	struct message *own; /* the notice, once it is written */
	struct body head; /* the beginning of large content */
	void (*done)(void *ctx);
	void *ctx;
};

static void finish(struct making *k)
{
	void (*done)(void *ctx) = k->done;
	void *ctx = k->ctx;

	message_free(k->notice.message);
	body_fini(&k->head);
	free(k);
	done(ctx);
}

static bool to_sender(const struct relay *r)
{
	return r->options.bounce_to == NULL;
}

/* As far as the envelope tells. */
static bool is_due(const struct relay *r, const struct message *m)
{
	if (r->options.bounce_from == NULL || m->notice)
		return false;
	return !to_sender(r) || m->sender[0] != '\0';
}

static bool is_answered(
    const struct relay *r, const struct message *m, struct slice headers)
{
	if (!header_is_automatic(headers))
		return true;
	return !to_sender(r) && strcmp(m->sender, r->options.bounce_from) != 0;
}

static void on_committed(void *ctx, int rc, const struct err *err)
{
	struct making *k = ctx;
	uint64_t failed_id = k->notice.message->id;
	char id[ID_BUF];

	if (rc == 0) {
		stat_add(STAT_NOTICES, 1);
		log_msg(LOG_LEVEL_INFO, LOG_BOUNCE, failed_id,
		    "%s non-delivery notification: %s",
		    to_sender(k->relay) ? "sender" : "postmaster",
		    id_format(k->own->id, id));
		relay_log_accepted(k->own);
		relay_accepted(k->relay, k->own);
	} else {
		log_msg(LOG_LEVEL_ERROR, LOG_BOUNCE, failed_id,
		    "the notice of its failure cannot be made (%s); the dead "
		    "letter has all of it",
		    err->text);
		message_free(k->own);
	}
	finish(k);
}

static void append(void *ctx, const char *ptr, size_t len)
{
	body_append(ctx, ptr, len);
}

/* "host[ip]:port": the host. */
static char *host_of(const char *via)
{
	return via != NULL ? xstrndup(via, strcspn(via, "[")) : NULL;
}

static struct message *new_message(const struct making *k)
{
	const struct relay *r = k->relay;
	struct message *m = message_new(id_new(clock_wall_us()));

	m->notice = true;
	m->arrival_us = clock_wall_us();
	m->sender = xstrdup(r->options.bounce_from);
	m->peer = xstrdup("sesrelayd");
	m->helo = xstrdup("");
	message_add_rcpt(
	    m, to_sender(r) ? k->notice.message->sender : r->options.bounce_to);
	return m;
}

static void write_notice(struct making *k, struct slice headers)
{
	const struct notice *n = &k->notice;
	const struct message *failed = n->message;
	struct message *m = k->own = new_message(k);
	struct dsn_rcpt *rcpts = xcalloc(n->n_failures, sizeof *rcpts);
	char id[ID_BUF], failed_id[ID_BUF], date[40], arrival[40], own_id[320];
	char *remote = host_of(n->via);
	struct dsn d = {
		.hostname = k->relay->options.hostname,
		.from = m->sender,
		.to = m->rcpts[0].addr,
		.id = id_format(m->id, id),
		.date = date,
		.ses_headers = k->relay->options.ses_headers,
		.failed_id = id_format(failed->id, failed_id),
		.arrival = arrival,
		.sender = failed->sender,
		.message_id = failed->message_id,
		.remote = remote,
		.reason = n->reason,
		.rcpts = rcpts,
		.n_rcpts = n->n_failures,
		.headers = headers,
	};

	clock_format_rfc5322(m->arrival_us, date, sizeof date);
	clock_format_rfc5322(failed->arrival_us, arrival, sizeof arrival);
	for (unsigned i = 0; i < n->n_failures; i++)
		rcpts[i] = (struct dsn_rcpt){
			.addr = failed->rcpts[n->failures[i].position].addr,
			.status = n->failures[i].dsn,
			.reply =
			    n->failures[i].replied ? n->failures[i].text : NULL,
			.reason = n->failures[i].text,
		};
	m->message_id = xstrdup(dsn_message_id(&d, own_id, sizeof own_id));
	dsn_write(&d, append, &m->body);
	m->size = m->body.len;
	free(rcpts);
	free(remote);
}

static void make(struct making *k, const struct body *content)
{
	struct slice headers = header_block(
	    slice_of(content->data, content->len), DSN_HEADERS_MAX);

	if (!is_answered(k->relay, k->notice.message, headers)) {
		finish(k);
		return;
	}
	write_notice(k, headers);
	spool_commit(k->relay->spool, k->own, NULL, on_committed, k);
}

static void on_head(void *ctx, int rc, const struct err *err)
{
	struct making *k = ctx;
	struct crash_mark before =
	    crash_enter(k->notice.message->id, CRASH_BURY);

	if (rc == 0) {
		make(k, &k->head);
	} else {
		log_msg(LOG_LEVEL_ERROR, LOG_BOUNCE, k->notice.message->id,
		    "no notice of its failure, its header cannot be read: %s",
		    err->text);
		finish(k);
	}
	crash_leave(before);
}

void notice_send(struct relay *r, const struct notice *notice,
    void (*done)(void *ctx), void *ctx)
{
	struct making *k = xcalloc(1, sizeof *k);
	const struct message *m = notice->message;

	k->relay = r;
	k->notice = *notice;
	k->done = done;
	k->ctx = ctx;
	body_init(&k->head);
	if (!is_due(r, m))
		finish(k);
	else if (m->large)
		spool_read_large(r->spool, m, 0,
		    m->size < DSN_HEADERS_MAX ? m->size : DSN_HEADERS_MAX,
		    &k->head, on_head, k);
	else
		make(k, &m->body);
}
