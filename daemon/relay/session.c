/*
 * One local program's SMTP session.  Runs on the loop thread; owns its socket,
 * its conversation and the message that is arriving, until the spool has that.
 *
 * Invariants: in COMMITTING nothing is read from the input, so commands that
 * were pipelined behind the dot wait for the 250; a session whose socket is
 * gone lives on (CLOSED) while the disk holds something of it, and a message
 * that becomes durable then counts as accepted: the client got no 250 and may
 * send it again, which is the duplicate that nobody can avoid.
 */
#include "relay/session.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/stat.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Replies that a client does not read: stop serving it beyond this. */
#define OUTPUT_MAX (32u * 1024)
/* Content goes to the large file in chunks of this size. */
#define LARGE_CHUNK (256u * 1024)

static void serve(struct session *s);

static int64_t timeout_us(const struct session *s)
{
	return s->inbound->options.timeout_us;
}

/* --- the end --- */

static void session_free(void *ptr)
{
	struct session *s = ptr;

	TAILQ_REMOVE(&s->inbound->sessions, s, link);
	server_fini(&s->server);
	free(s);
}

static void drop_content(struct session *s)
{
	if (s->large != NULL)
		spool_large_drop(s->large);
	s->large = NULL;
	s->appending = false;
	message_free(s->m);
	s->m = NULL;
}

/* Nothing of it is with the disk any more. */
static void retire(struct session *s)
{
	ASSERT(s->conn == NULL);
	drop_content(s);
	s->inbound->n_sessions--;
	stat_add(STAT_SESSIONS, -1);
	for (unsigned i = 0; i < s->inbound->n_listeners; i++)
		listener_fd_freed(s->inbound->listeners[i]);
	loop_defer(s->inbound->relay->loop, session_free, s);
}

static void end(struct session *s, bool flush)
{
	bool committing = s->mode == SESSION_COMMITTING;

	if (s->mode == SESSION_CLOSED)
		return;
	if (flush)
		conn_close_after_flush(s->conn);
	else
		conn_close(s->conn);
	s->conn = NULL;
	s->mode = SESSION_CLOSED;
	if (!committing)
		retire(s);
}

void session_close(struct session *s)
{
	end(s, false);
}

/* --- talking --- */

static void log_reject(const struct session *s, const struct server_out *out)
{
	char reply[256];
	size_t len = out->reply_len;

	while (len > 0 &&
	    (out->reply[len - 1] == '\n' || out->reply[len - 1] == '\r'))
		len--;
	stat_add(out->code >= 500 ? STAT_MESSAGES_REJECTED_5XX
				  : STAT_MESSAGES_REJECTED_4XX,
	    1);
	log_msg(LOG_LEVEL_INFO, LOG_SMTPD, LOG_NO_ID,
	    "NOQUEUE: reject: %s from %s: %s; from=<%s> proto=%s helo=<%s>",
	    s->server.state == SERVER_GREETED    ? "command"
		: s->server.state == SERVER_MAIL ? "MAIL"
						 : "RCPT",
	    s->peer, log_escape(out->reply, len, reply, sizeof reply),
	    s->server.sender != NULL ? s->server.sender : "",
	    s->server.esmtp ? "ESMTP" : "SMTP", s->server.helo);
}

static void send_reply(struct session *s, const struct server_out *out)
{
	if (out->rejected)
		log_reject(s, out);
	conn_write(s->conn, out->reply, out->reply_len);
}

/* Say 421 and go. */
static void say_goodbye(
    struct session *s, const char *enhanced, const char *reason)
{
	struct server_out out;

	server_on_close(&s->server, enhanced, reason, &out);
	send_reply(s, &out);
	end(s, true);
}

void session_stop(struct session *s)
{
	s->stopping = true;
	if (s->mode == SESSION_LINES || s->mode == SESSION_CONTENT)
		say_goodbye(s, "4.3.2", "shutting down, try again later");
}

/* --- content --- */

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

static void start_content(struct session *s)
{
	const struct server *server = &s->server;

	s->m = message_new(id_new(clock_wall_us()));
	s->m->arrival_us = clock_wall_us();
	s->m->sender = xstrdup(server->sender);
	s->m->body_8bit = server->body_8bit;
	s->m->peer = xstrdup(s->peer);
	s->m->helo = xstrdup(server->helo);
	s->m->message_id = xstrdup("");
	for (unsigned i = 0; i < server->n_rcpts; i++)
		message_add_rcpt(s->m, server->rcpts[i]);
	dot_reader_init(&s->dot, s->lf_only);
	header_scan_init(&s->scan);
	s->content_len = 0;
	s->verdict = SERVER_CONTENT_OK;
	s->discard = false;
	s->ended = false;
	s->mode = SESSION_CONTENT;
	s->data_deadline_us =
	    clock_mono_us() + timeout_us(s) * INBOUND_MESSAGE_TIMEOUTS;
	add_received(s);
	struct log_field fields[] = {
		{ LOG_PLAIN, "client", s->peer },
		{ LOG_HIDDEN, "helo", server->helo },
		{ LOG_END, NULL, NULL },
	};
	log_event(LOG_LEVEL_INFO, LOG_SMTPD, "client", s->m->id, fields);
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
	s->m->body.len = 0;
}

static void log_accepted(const struct message *m)
{
	char size[24], nrcpt[16];
	struct log_field cleanup[] = {
		{ LOG_ANGLE, "message-id", m->message_id },
		{ LOG_END, NULL, NULL },
	};
	struct log_field qmgr[] = {
		{ LOG_ANGLE, "from", m->sender },
		{ LOG_NUMBER, "size", size },
		{ LOG_NUMBER, "nrcpt", nrcpt },
		{ LOG_NOTE, "queue", "queue active" },
		{ LOG_END, NULL, NULL },
	};

	snprintf(size, sizeof size, "%llu", (unsigned long long)m->size);
	snprintf(nrcpt, sizeof nrcpt, "%u", m->n_rcpts);
	log_event(LOG_LEVEL_INFO, LOG_CLEANUP, "message-id", m->id, cleanup);
	log_event(LOG_LEVEL_INFO, LOG_QMGR, "accepted", m->id, qmgr);
}

/* The 250, or why not; then what was pipelined behind the dot. */
static void answer_content(
    struct session *s, enum server_content what, const char *detail)
{
	struct server_out out;

	server_on_content(&s->server, what, detail, &out);
	send_reply(s, &out);
	s->mode = SESSION_LINES;
	conn_deadline(s->conn, timeout_us(s));
	if (s->stopping)
		say_goodbye(s, "4.3.2", "shutting down");
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
		log_accepted(m);
		relay_accepted(s->inbound->relay, m);
	} else {
		log_msg(LOG_LEVEL_ERROR, LOG_CLEANUP, m->id,
		    "not accepted, could not be made durable: %s", err->text);
		message_free(m);
	}
	if (s->mode == SESSION_CLOSED) {
		retire(s);
		return;
	}
	if (rc == 0)
		answer_content(s, SERVER_CONTENT_OK, id);
	else
		answer_content(s, SERVER_CONTENT_FAILED, err->text);
	if (s->mode != SESSION_CLOSED)
		serve(s);
}

static void commit(struct session *s)
{
	struct spool_large *large = s->large;

	free(s->m->message_id);
	s->m->message_id = xstrdup(s->scan.message_id);
	s->mode = SESSION_COMMITTING;
	conn_deadline(s->conn, -1);
	s->large = NULL;
	spool_commit(s->inbound->relay->spool, s->m, large, on_committed, s);
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
	refusal = spool_refusal(s->inbound->relay->spool, s->m->size);
	return refusal != NULL ? SERVER_CONTENT_NO_SPACE : SERVER_CONTENT_OK;
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
static void end_content(struct session *s)
{
	enum server_content what = judge(s);

	if (what != SERVER_CONTENT_OK) {
		drop_content(s);
		answer_content(
		    s, what, spool_refusal(s->inbound->relay->spool, 0));
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
		refuse_content(s, SERVER_CONTENT_FAILED);
	}
	if (s->ended)
		end_content(s);
	if (s->mode != SESSION_CLOSED)
		serve(s);
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

/* Takes what is there of the content; false: no more for now. */
static bool take_content(struct session *s)
{
	struct slice in = conn_peek(s->conn);
	struct body *body = &s->m->body;
	size_t used, n;
	char *out;

	if (in.len == 0 || s->appending)
		return false;
	out = body_reserve(body, DOT_READ_ROOM(in.len));
	s->ended = dot_read(&s->dot, in.ptr, in.len, &used, out, &n);
	if (!s->scan.done)
		header_scan_feed(&s->scan, out, n);
	s->content_len += n;
	if (!s->discard) {
		body->len += n;
		s->m->size += n;
	}
	conn_consume(s->conn, used);
	if (s->content_len > s->inbound->options.server.max_message_size)
		refuse_content(s, SERVER_CONTENT_TOO_BIG);
	if (should_stream(s))
		append_large(s);
	return true;
}

/* A deadline for the next chunk, but never past that of the message. */
static void set_content_deadline(struct session *s)
{
	int64_t left = s->data_deadline_us - clock_mono_us();
	int64_t chunk = timeout_us(s);

	conn_deadline(s->conn, left < chunk ? (left > 0 ? left : 0) : chunk);
}

/* --- commands --- */

static void take_line(struct session *s, struct slice line, bool bare_lf)
{
	struct server_out out;

	if (!s->any_line)
		s->lf_only = bare_lf;
	else if (!bare_lf)
		s->lf_only = false;
	s->any_line = true;
	if (bare_lf && s->inbound->options.server.reject_bare_newline)
		server_on_bare_newline(&s->server, &out);
	else
		server_on_line(&s->server, line,
		    spool_refusal(s->inbound->relay->spool, 0), &out);
	send_reply(s, &out);
	switch (out.effect) {
	case SERVER_REPLY:
		conn_deadline(s->conn, timeout_us(s));
		break;
	case SERVER_START_DATA:
		start_content(s);
		set_content_deadline(s);
		break;
	case SERVER_CUT:
		conn_discard_input(s->conn);
		end(s, true);
		break;
	case SERVER_CLOSE:
		end(s, true);
		break;
	}
}

/* Takes one command; false: none is complete, or the client must read. */
static bool take_command(struct session *s)
{
	struct slice line;
	bool bare_lf;
	int rc;

	if (conn_output_len(s->conn) > OUTPUT_MAX)
		return false; /* on_writable goes on */
	rc = conn_read_line(s->conn, SERVER_LINE_MAX, &line, &bare_lf);
	if (rc == 0)
		return false;
	if (rc < 0) {
		struct server_out out;

		server_on_long_line(&s->server, &out);
		send_reply(s, &out);
		if (out.effect != SERVER_REPLY)
			end(s, true);
		return s->mode != SESSION_CLOSED;
	}
	take_line(s, line, bare_lf);
	return true;
}

/* Everything that can be done with the input that is here. */
static void serve(struct session *s)
{
	bool progress = true;

	while (progress) {
		switch (s->mode) {
		case SESSION_LINES:
			progress = take_command(s);
			break;
		case SESSION_CONTENT:
			if (s->ended) {
				progress = false;
				break;
			}
			progress = take_content(s);
			if (progress)
				set_content_deadline(s);
			if (s->ended && !s->appending)
				end_content(s);
			break;
		case SESSION_COMMITTING:
		case SESSION_CLOSED:
			return;
		}
	}
	/* It has said all that it will, and everything of it is done. */
	if (s->eof && !s->appending)
		end(s, true);
}

/* --- the socket's events --- */

static void on_readable(void *ctx)
{
	serve(ctx);
}

static void on_end(void *ctx, enum conn_end why, const char *reason)
{
	struct session *s = ctx;

	if (why == CONN_END_TIMEOUT) {
		log_msg(LOG_LEVEL_INFO, LOG_SMTPD, LOG_NO_ID,
		    "timeout after %s from %s",
		    server_state_name(s->server.state), s->peer);
		say_goodbye(s, "4.4.2", "timeout exceeded");
		return;
	}
	if (why == CONN_END_EOF &&
	    (s->mode == SESSION_COMMITTING || s->appending)) {
		/* A client that closes its half early still gets its 250. */
		s->eof = true;
		return;
	}
	if (s->mode == SESSION_CONTENT)
		log_msg(LOG_LEVEL_INFO, LOG_SMTPD, LOG_NO_ID,
		    "lost connection after DATA (%llu bytes) from %s: %s",
		    (unsigned long long)s->content_len, s->peer, reason);
	end(s, why == CONN_END_EOF);
}

static const struct conn_events events = {
	.on_readable = on_readable,
	.on_writable = on_readable,
	.on_end = on_end,
};

static void format_peer(struct session *s, const struct sockaddr *peer)
{
	s->peer[0] = '\0';
	snprintf(s->peer, sizeof s->peer, "%s[%s]",
	    listener_is_loopback(peer) ? "localhost" : "unknown",
	    conn_peer_ip(s->conn));
}

static bool allowed(const struct inbound *in, const struct sockaddr *peer)
{
	for (unsigned i = 0; i < in->options.n_allow; i++)
		if (network_contains(&in->options.allow[i], peer))
			return true;
	return false;
}

/* Before the greeting: may this client be served at all? */
static bool admit(struct session *s, const struct sockaddr *peer)
{
	static const char denied[] =
	    "554 5.7.1 Access denied: your address is not in smtp.allow\r\n";
	struct inbound *in = s->inbound;

	if (!allowed(in, peer)) {
		log_msg(LOG_LEVEL_WARNING, LOG_SMTPD, LOG_NO_ID,
		    "NOQUEUE: reject: CONNECT from %s: 554 5.7.1 not in "
		    "smtp.allow",
		    s->peer);
		stat_add(STAT_MESSAGES_REJECTED_5XX, 1);
		conn_write(s->conn, denied, sizeof denied - 1);
		end(s, true);
		return false;
	}
	if (in->n_sessions > in->options.max_sessions) {
		say_goodbye(s, "4.3.2", "too many sessions, try again later");
		return false;
	}
	return true;
}

void session_start(struct inbound *in, int fd, const struct sockaddr *peer)
{
	struct session *s = xcalloc(1, sizeof *s);
	struct server_out out;

	s->inbound = in;
	server_init(&s->server, &in->options.server);
	s->conn = conn_accept(in->relay->loop, fd, &events, s);
	conn_set_low_water(s->conn, OUTPUT_MAX / 2);
	format_peer(s, peer);
	TAILQ_INSERT_TAIL(&in->sessions, s, link);
	in->n_sessions++;
	stat_add(STAT_SESSIONS, 1);
	stat_add(STAT_SESSIONS_TOTAL, 1);
	if (!admit(s, peer))
		return;
	server_greeting(&s->server, &out);
	conn_write(s->conn, out.reply, out.reply_len);
	conn_deadline(s->conn, timeout_us(s));
}
