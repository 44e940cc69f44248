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

#include "base/log.h"
#include "base/mem.h"
#include "base/stat.h"
#include "relay/operate.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* Replies that a client does not read: stop serving it beyond this. */
#define OUTPUT_MAX (32u * 1024)

/* --- the end --- */

static void session_free(void *ptr)
{
	struct session *s = ptr;

	TAILQ_REMOVE(&s->inbound->sessions, s, link);
	server_fini(&s->server);
	free(s);
}

/* Nothing of it is with the disk any more. */
void session_retire(struct session *s)
{
	ASSERT(s->conn == NULL);
	session_drop_content(s);
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
	session_log_repeats(s);
	if (flush)
		conn_close_after_flush(s->conn);
	else
		conn_close(s->conn);
	s->conn = NULL;
	s->mode = SESSION_CLOSED;
	if (!committing)
		session_retire(s);
}

void session_close(struct session *s)
{
	end(s, false);
}

/* --- talking --- */

#define REPEATS_LOGGED 20

void session_log_repeats(struct session *s)
{
	if (s->reject.n_repeats > REPEATS_LOGGED)
		log_msg(LOG_LEVEL_INFO, LOG_SMTPD, LOG_NO_ID,
		    "NOQUEUE: %u times more, what %s was told last",
		    s->reject.n_repeats - REPEATS_LOGGED, s->peer);
	s->reject = (struct session_reject){ .code = 0 };
}

/*
 * A client that asks for the same again and again must not fill the log.  Who
 * has a list of bad addresses is no such client: parsers of logs count lines.
 */
static bool is_repeat(struct session *s, const struct server_out *out)
{
	struct session_reject *last = &s->reject;

	if (last->code == out->code && last->state == s->server.state &&
	    last->reply_len == out->reply_len) {
		return ++last->n_repeats > REPEATS_LOGGED;
	}
	session_log_repeats(s);
	*last = (struct session_reject){ s->server.state, out->code,
		out->reply_len, 0 };
	return false;
}

static void log_reject(struct session *s, const struct server_out *out)
{
	char reply[256];
	size_t len = out->reply_len;

	while (len > 0 &&
	    (out->reply[len - 1] == '\n' || out->reply[len - 1] == '\r'))
		len--;
	stat_add_rejected(out->code);
	if (is_repeat(s, out))
		return;
	log_msg(LOG_LEVEL_INFO, LOG_SMTPD, LOG_NO_ID,
	    "NOQUEUE: reject: %s from %s: %s; from=<%s> proto=%s helo=<%s>",
	    out->stage, s->peer,
	    log_escape(out->reply, len, reply, sizeof reply),
	    s->server.sender != NULL ? s->server.sender : "",
	    s->server.esmtp ? "ESMTP" : "SMTP", s->server.helo);
}

void session_reply(struct session *s, const struct server_out *out)
{
	if (out->rejected)
		log_reject(s, out);
	conn_write(s->conn, out->reply, out->reply_len);
}

/* Say 421 and go. */
void session_goodbye(
    struct session *s, const char *enhanced, const char *reason)
{
	struct server_out out;

	server_on_close(&s->server, enhanced, reason, &out);
	session_reply(s, &out);
	end(s, true);
}

void session_stop(struct session *s)
{
	s->stopping = true;
	if (s->mode == SESSION_LINES || s->mode == SESSION_CONTENT)
		session_goodbye(s, "4.3.2", "shutting down, try again later");
}

/* --- commands --- */

static struct server_refusal ask_refusal(void *ctx, uint64_t bytes)
{
	return relay_refusal(ctx, bytes);
}

static void take_line(struct session *s, struct slice line, bool bare_lf)
{
	struct server_intake intake = { ask_refusal, s->inbound->relay };
	struct server_out out;

	if (!s->any_line)
		s->lf_only = bare_lf;
	else if (!bare_lf)
		s->lf_only = false;
	s->any_line = true;
	/* What is no SMTP is so whatever its line ends in, and its head may
	 * have been all that was here. */
	if (bare_lf && s->inbound->options.server.reject_bare_newline) {
		if (!server_on_line_head(&s->server, line, &out))
			server_on_bare_newline(&s->server, line, &out);
	} else
		server_on_line(&s->server, line, &intake, &out);
	session_reply(s, &out);
	switch (out.effect) {
	case SERVER_REPLY:
		conn_deadline(s->conn, session_timeout_us(s));
		break;
	case SERVER_NO_DATA:
		if (conn_input_empty(s->conn))
			conn_deadline(s->conn, session_timeout_us(s));
		else
			end(s, true);
		break;
	case SERVER_START_DATA:
		session_start_content(s);
		session_set_content_deadline(s);
		break;
	case SERVER_CUT: /* end() throws the input away */
	case SERVER_CLOSE:
		end(s, true);
		break;
	}
}

/* No line is complete.  Is it worth waiting for?  False, in any case. */
static bool take_line_head(struct session *s)
{
	struct slice head = conn_peek(s->conn);
	struct server_out out;

	if (head.len > 0 && server_on_line_head(&s->server, head, &out)) {
		session_reply(s, &out);
		end(s, true);
	}
	return false;
}

/* Takes one command; false: none is complete, or the client must read. */
static bool take_command(struct session *s)
{
	struct slice line;
	bool bare_lf;
	int rc;

	/* on_writable goes on; of one that says no more there is little left. */
	if (conn_output_len(s->conn) > OUTPUT_MAX && !s->eof)
		return false;
	rc = conn_read_line(s->conn, SERVER_LINE_MAX, &line, &bare_lf);
	if (rc == 0)
		return take_line_head(s);
	if (rc < 0) {
		struct server_out out;

		/* As if it had come byte by byte. */
		if (!server_on_line_head(&s->server, line, &out))
			server_on_long_line(&s->server, &out);
		session_reply(s, &out);
		if (out.effect != SERVER_REPLY)
			end(s, true);
		return s->mode != SESSION_CLOSED;
	}
	take_line(s, line, bare_lf);
	return true;
}

/* Everything that can be done with the input that is here. */
void session_serve(struct session *s)
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
			progress = session_take_content(s);
			if (progress)
				session_set_content_deadline(s);
			if (s->ended && !s->appending)
				session_end_content(s);
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
	session_serve(ctx);
}

static void on_end(void *ctx, enum conn_end why, const char *reason)
{
	struct session *s = ctx;

	if (why == CONN_END_TIMEOUT) {
		log_msg(LOG_LEVEL_INFO, LOG_SMTPD, LOG_NO_ID,
		    "timeout after %s from %s",
		    server_state_name(s->server.state), s->peer);
		session_goodbye(s, "4.4.2", "timeout exceeded");
		return;
	}
	if (why == CONN_END_EOF &&
	    (s->mode == SESSION_COMMITTING || s->appending)) {
		/* A client that closes its half early still gets its 250. */
		s->eof = true;
		return;
	}
	/* Commands may have waited for the client to read. */
	if (why == CONN_END_EOF && s->mode == SESSION_LINES) {
		s->eof = true;
		session_serve(s);
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

/* Of a local socket, the user at the other end is told by the kernel. */
static void format_peer(struct session *s, int fd, const struct sockaddr *peer)
{
	struct ucred cred = { .uid = (uid_t)-1 };
	socklen_t len = sizeof cred;

	s->peer[0] = '\0';
	if (peer->sa_family == AF_UNIX) {
		(void)getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len);
		snprintf(
		    s->peer, sizeof s->peer, "local[%u]", (unsigned)cred.uid);
		return;
	}
	snprintf(s->peer, sizeof s->peer, "%s[%s]",
	    listener_is_loopback(peer) ? "localhost" : "unknown",
	    conn_peer_ip(s->conn));
}

static bool allowed(const struct inbound *in, const struct sockaddr *peer)
{
	/* No network: whoever may open the socket. */
	if (peer->sa_family == AF_UNIX)
		return true;
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
		stat_add_rejected(554);
		conn_write(s->conn, denied, sizeof denied - 1);
		end(s, true);
		return false;
	}
	if (in->n_sessions > in->options.max_sessions) {
		session_goodbye(
		    s, "4.3.2", "too many sessions, try again later");
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
	s->server.local = listener_is_loopback(peer);
	s->conn = conn_accept(in->relay->loop, fd, &events, s);
	conn_set_low_water(s->conn, OUTPUT_MAX / 2);
	format_peer(s, fd, peer);
	TAILQ_INSERT_TAIL(&in->sessions, s, link);
	in->n_sessions++;
	stat_add(STAT_SESSIONS, 1);
	stat_add(STAT_SESSIONS_TOTAL, 1);
	if (!admit(s, peer))
		return;
	server_greeting(&s->server, &out);
	conn_write(s->conn, out.reply, out.reply_len);
	conn_deadline(s->conn, session_timeout_us(s));
}
