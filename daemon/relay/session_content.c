/*
 * The content of a session's message: from the 354 to the answer to its dot.
 * Runs on the loop thread; owns the message until the spool has it.
 *
 * What is refused is read on to its true end all the same, with nothing kept.
 * Content that is too long for memory, or arrives while all sessions together
 * hold too much, goes to the disk chunk by chunk; while one is on its way no
 * more is taken from the socket.
 */
#include "relay/session.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/stat.h"
#include "relay/attempt.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* Content goes to the large file in chunks of this size. */
#define LARGE_CHUNK (256u * 1024)
/* A header goes through the rewriting in pieces of this size. */
#define HEADER_CHUNK (16u * 1024)

void session_drop_content(struct session *s)
{
	if (s->large != NULL)
		spool_large_drop(s->large);
	s->large = NULL;
	s->appending = false;
	session_drop_header(s);
	message_free(s->m);
	s->m = NULL;
}

static void add_received(struct session *s)
{
	char date[40], id[ID_BUF], field[1024];
	size_t len;

	clock_format_rfc5322(s->m->arrival_us, date, sizeof date);
	len = header_format_received(field, sizeof field,
	    s->server.helo[0] != '\0' ? s->server.helo : "unknown", s->peer,
	    s->inbound->options.server.hostname, s->server.esmtp,
	    id_format(s->m->id, id), date);
	body_append(&s->m->body, field, len);
	s->m->size = len;
}

void session_start_content(struct session *s)
{
	const struct server *server = &s->server;

	session_log_repeats(s);
	s->m = message_new(id_new(clock_wall_us()));
	s->m->arrival_us = clock_wall_us();
	s->m->sender = xstrdup(server->sender);
	s->m->body_8bit = server->body_8bit;
	s->m->peer = xstrdup(s->peer);
	s->m->helo = xstrdup(server->helo);
	s->m->message_id = xstrdup("");
	for (unsigned i = 0; i < server->n_rcpts; i++) {
		message_add_rcpt(s->m, server->rcpts[i].addr);
		message_set_orig(s->m, server->rcpts[i].orig);
	}
	dot_reader_init(&s->dot, s->lf_only);
	header_scan_init(&s->scan);
	s->content_len = 0;
	s->verdict = SERVER_CONTENT_OK;
	s->discard = false;
	s->ended = false;
	s->mode = SESSION_CONTENT;
	s->data_deadline_us =
	    clock_mono_us() + session_timeout_us(s) * INBOUND_MESSAGE_TIMEOUTS;
	add_received(s);
	session_start_header(s);
}

/* It will not be accepted; keep nothing of it but read to its end. */
static void refuse_content(struct session *s, enum server_content why)
{
	if (s->discard)
		return;
	s->verdict = why;
	s->discard = true;
	if (s->large != NULL)
		spool_large_drop(s->large);
	s->large = NULL;
	s->appending = false;
	session_drop_header(s);
	s->m->body.len = 0;
}

/* The 250, or why not; then what was pipelined behind the dot. */
static void answer_content(
    struct session *s, enum server_content what, const char *detail)
{
	struct server_out out;

	server_on_content(&s->server, what, detail, &out);
	session_reply(s, &out);
	s->mode = SESSION_LINES;
	conn_deadline(s->conn, session_timeout_us(s));
	if (s->stopping)
		session_goodbye(s, "4.3.2", "shutting down");
}

/* What to say when the spool could not take it. */
static enum server_content spool_failure(const struct err *err)
{
	return file_no_space(err->code) ? SERVER_CONTENT_NO_SPACE
					: SERVER_CONTENT_FAILED;
}

/* SES's answer may be long in coming, and then not name the cause. */
static void log_long_line(const struct session *s, const struct message *m)
{
	if (s->dot.longest_body_line > DOT_LINE_MAX)
		log_msg(LOG_LEVEL_WARNING, LOG_CLEANUP, m->id,
		    "a line of %u octets in the body goes on as it "
		    "is: Amazon SES may refuse or break those over %u; let the "
		    "sender use quoted-printable or base64",
		    s->dot.longest_body_line, DOT_LINE_MAX);
}

static void on_committed(void *ctx, int rc, const struct err *err)
{
	struct session *s = ctx;
	struct message *m = s->m;
	char id[ID_BUF];

	s->m = NULL;
	s->large = NULL;
	id_format(m->id, id);
	if (rc == 0) {
		stat_add(STAT_MESSAGES_ACCEPTED, 1);
		stat_add(STAT_RCPT_ACCEPTED, m->n_rcpts);
		relay_log_accepted(m);
		log_long_line(s, m);
		relay_accepted(s->inbound->relay, m);
	} else {
		log_msg(LOG_LEVEL_ERROR, LOG_CLEANUP, m->id,
		    "not accepted, could not be made durable: %s", err->text);
		message_free(m);
	}
	if (s->mode == SESSION_CLOSED) {
		session_retire(s);
		return;
	}
	if (rc == 0)
		answer_content(s, SERVER_CONTENT_OK, id);
	else
		answer_content(s, spool_failure(err), err->text);
	if (s->mode != SESSION_CLOSED)
		session_serve(s);
}

static void commit(struct session *s)
{
	struct spool_large *large = s->large;

	session_log_rewritten(s);
	free(s->m->message_id);
	s->m->message_id = xstrdup(s->scan.message_id);
	s->mode = SESSION_COMMITTING;
	conn_deadline(s->conn, -1);
	s->large = NULL;
	spool_commit(s->inbound->relay->spool, s->m, large, on_committed, s);
}

/* Does what has come of it fit into the spool? */
static const char *refusal_of(const struct session *s)
{
	uint64_t on_disk = s->large != NULL ? s->m->size - s->m->body.len : 0;

	return spool_refusal_of(s->inbound->relay->spool, s->m->size, on_disk);
}

static enum server_content judge(const struct session *s)
{
	const char *refusal;

	if (s->discard)
		return s->verdict;
	if (s->dot.nul)
		return SERVER_CONTENT_NUL;
	if (s->dot.bare_cr)
		return SERVER_CONTENT_BARE_CR;
	if (s->dot.bare_lf && s->inbound->options.server.reject_bare_newline)
		return SERVER_CONTENT_BARE_LF;
	if (s->scan.n_received > SERVER_MAX_HOPS)
		return SERVER_CONTENT_LOOP;
	refusal = refusal_of(s);
	return refusal != NULL ? SERVER_CONTENT_NO_SPACE : SERVER_CONTENT_OK;
}

/* What the reply adds to the reason, in `buf` or elsewhere; NULL: nothing. */
static const char *detail_of(
    const struct session *s, enum server_content what, char *buf, size_t size)
{
	switch (what) {
	case SERVER_CONTENT_HEADER:
		return s->refusal;
	case SERVER_CONTENT_TOO_BIG:
		snprintf(buf, size, "smtp.max_message_size is %" PRIu64,
		    s->inbound->options.server.max_message_size);
		return buf;
	case SERVER_CONTENT_NO_SPACE:
		return spool_refusal(s->inbound->relay->spool, 0);
	default:
		return NULL;
	}
}

static void on_appended(void *ctx, int rc, const struct err *err);

/* Hand the gathered chunk to the disk. */
static void append_large(struct session *s)
{
	if (s->large == NULL)
		s->large = spool_large_new(s->inbound->relay->spool, s->m->id);
	s->appending = true;
	spool_large_append(s->large, &s->m->body, on_appended, s);
}

/* The final dot has come and nothing is under way with the disk. */
void session_end_content(struct session *s)
{
	enum server_content what = judge(s);
	char detail[80];

	if (what != SERVER_CONTENT_OK) {
		session_drop_content(s);
		answer_content(
		    s, what, detail_of(s, what, detail, sizeof detail));
		return;
	}
	if (s->large != NULL && s->m->body.len > 0) {
		append_large(s);
		return;
	}
	commit(s);
}

static void on_appended(void *ctx, int rc, const struct err *err)
{
	struct session *s = ctx;

	s->appending = false;
	if (rc != 0) {
		log_msg(LOG_LEVEL_ERROR, LOG_CLEANUP, s->m->id,
		    "content cannot be written: %s", err->text);
		refuse_content(s, spool_failure(err));
	}
	if (s->ended)
		session_end_content(s);
	if (s->mode != SESSION_CLOSED)
		session_serve(s);
}

/* More in memory than a message may have there? */
static bool should_stream(const struct session *s)
{
	if (s->discard)
		return false;
	return s->m->body.len > MESSAGE_BODY_MAX ||
	    (s->large != NULL && s->m->body.len >= LARGE_CHUNK) ||
	    (s->m->body.len >= LARGE_CHUNK / 4 &&
		stat_get(STAT_BODY_BYTES) > INBOUND_MEMORY_MAX);
}

/* Through the rewriting of the header, in pieces that fit on the stack. */
static size_t take_header(struct session *s, struct slice in)
{
	/* Large, and not needed twice; on the stack the compiler would clear
	 * it each time. */
	static char out[DOT_READ_ROOM(HEADER_CHUNK)];
	size_t used, n, len = in.len < HEADER_CHUNK ? in.len : HEADER_CHUNK;

	s->ended = dot_read(&s->dot, in.ptr, len, &used, out, &n);
	s->content_len += n;
	if (!session_feed_header(s, out, n))
		refuse_content(s, SERVER_CONTENT_HEADER);
	else if (s->rewrite != NULL && s->ended && !session_end_header(s))
		refuse_content(s, SERVER_CONTENT_HEADER);
	else if (s->rewrite != NULL &&
	    stat_get(STAT_BODY_BYTES) > 2 * (int64_t)INBOUND_MEMORY_MAX)
		refuse_content(s, SERVER_CONTENT_NO_SPACE);
	return used;
}

/* Straight into the body. */
static size_t take_body(struct session *s, struct slice in)
{
	struct body *body = &s->m->body;
	char *out = body_reserve(body, DOT_READ_ROOM(in.len));
	size_t used, n;

	s->ended = dot_read(&s->dot, in.ptr, in.len, &used, out, &n);
	if (!s->scan.done)
		header_scan_feed(&s->scan, out, n);
	s->content_len += n;
	if (!s->discard) {
		body->len += n;
		s->m->size += n;
	}
	return used;
}

/* Takes what is there of the content; false: no more for now. */
bool session_take_content(struct session *s)
{
	struct slice in = conn_peek(s->conn);

	if (in.len == 0 || s->appending)
		return false;
	conn_consume(s->conn,
	    s->rewrite != NULL ? take_header(s, in) : take_body(s, in));
	if (s->content_len > s->inbound->options.server.max_message_size)
		refuse_content(s, SERVER_CONTENT_TOO_BIG);
	if (should_stream(s) && refusal_of(s) != NULL)
		refuse_content(s, SERVER_CONTENT_NO_SPACE);
	if (should_stream(s))
		append_large(s);
	return true;
}

/* A deadline for the next chunk, but never past that of the message. */
void session_set_content_deadline(struct session *s)
{
	int64_t left = s->data_deadline_us - clock_mono_us();
	int64_t chunk = session_timeout_us(s);

	conn_deadline(s->conn, left < chunk ? (left > 0 ? left : 0) : chunk);
}
