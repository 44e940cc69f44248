/*
 * What input means at each stage: handshake, command lines, content, idle.
 *
 * Owns no memory; moves a session from state to state. Input is consumed
 * only while no reply is on its way, one command or one piece of content at
 * a time, so that every reply leaves alone and whatever the client sent
 * ahead of it is seen as what it is: pipelining that was never offered.
 */
#include "listener.h"
#include "session.h"

#include <string.h>

enum { COMMAND_OCTETS = 998 };

static void greet(struct session *s)
{
	struct rule *rule;
	struct answer a = { .text = "" };
	char token[21];

	s->state = SESSION_COMMAND;
	rule = answer_rule(s, PHASE_CONNECT);
	text_random(token, 20, false);
	if (answer_runs(rule, PHASE_CONNECT)) {
		if (s->counted) {
			answer_set(&a,
			    "220 email-smtp.amazonaws.com ESMTP "
			    "SimpleEmailService-d-%s %s",
			    s->server->software, token);
		} else {
			answer_reply(&a, "too-many-connections");
			a.after = AFTER_CLOSE;
			a.why = "too-many-connections";
		}
	}
	answer_send(s, PHASE_CONNECT, rule, &a);
}

void session_begin(struct session *s)
{
	if (s->mode == MODE_WRAPPER)
		session_start_tls(s);
	else
		greet(s);
}

void session_start_tls(struct session *s)
{
	const struct settings *set = &s->server->set;
	struct link_tls conf = { set->tls_min, set->tls_max, set->ciphers };
	SSL_CTX *own = s->listener->tls;
	SSL_CTX *ctx = own != NULL ? own : s->server->tls;

	s->state = SESSION_HANDSHAKE;
	s->was_starttls = s->mode != MODE_WRAPPER;
	if (!s->tls_ruled) {
		struct rule *rule = answer_rule(s, PHASE_TLS);
		struct answer a = { .after = AFTER_TLS };

		s->tls_ruled = true;
		if (rule != NULL || set->phase_latency_ms[PHASE_TLS] > 0) {
			answer_send(s, PHASE_TLS, rule, &a);
			return;
		}
	}
	if (s->paused)
		event_add(&s->readable, NULL);
	s->paused = false;
	if (s->abort_tls)
		return; /* until the first bytes of a ClientHello */
	session_pace(s);
	if (!link_start_tls(&s->io, ctx, &conf)) {
		session_end(s, "tls-failed", END_NOW);
		return;
	}
	session_handshake(s);
}

static void handshake_done(struct session *s)
{
	struct journal *j = &s->server->journal;
	const char *sni =
	    SSL_get_servername(s->io.ssl, TLSEXT_NAMETYPE_host_name);

	event_del(&s->writable);
	session_event(s, "tls");
	journal_text(j, "version", SSL_get_version(s->io.ssl));
	journal_text(j, "cipher", SSL_get_cipher_name(s->io.ssl));
	journal_text(j, "sni", sni);
	journal_end(j);
	s->active_us = clock_us();
	/* What was said in clear counts for nothing. */
	s->greeted = false;
	s->state = SESSION_COMMAND;
	if (s->mode == MODE_WRAPPER)
		greet(s);
	else
		server_wake(s->server);
	if (link_more(&s->io))
		event_active(&s->readable, EV_READ, 0);
}

void session_handshake(struct session *s)
{
	enum link_status st = link_handshake(&s->io);

	if (st == LINK_OK) {
		handshake_done(s);
		return;
	}
	if (st == LINK_BLOCKED) {
		if (SSL_want_write(s->io.ssl))
			session_await_room(s, 0);
		else
			event_del(&s->writable);
		return;
	}
	session_event(s, "tls-failed");
	journal_text(&s->server->journal, "error",
	    st == LINK_TLS_FAILED  ? s->io.error
		: st == LINK_RESET ? "reset"
				   : "connection closed");
	journal_end(&s->server->journal);
	session_end(s, "tls-failed", END_FIN);
}

void session_timed_out(struct session *s)
{
	struct rule *rule;
	struct answer a = { .after = AFTER_CLOSE, .why = "idle" };

	rule = answer_rule(s, PHASE_IDLE);
	if (s->state == SESSION_HANDSHAKE && rule == NULL) {
		session_end(s, "idle", END_FIN);
		return;
	}
	if (answer_runs(rule, PHASE_IDLE))
		answer_reply(&a, "idle");
	else
		a.after = AFTER_READ;
	answer_send(s, PHASE_IDLE, rule, &a);
}

static void refuse_line(
    struct session *s, enum violation v, const char *text, size_t at)
{
	struct answer a = { .after = AFTER_CLOSE, .why = "protocol" };

	session_violation(s, v, NULL);
	if (v == VIOLATION_LONG_COMMAND)
		answer_set(&a, "%s", text);
	else
		answer_set(&a,
		    "501 Syntax error at character position %zu. "
		    "CR and LF must be CRLF paired.  See RFC 2821 "
		    "#2.7.1.",
		    at);
	s->io.in_start = s->io.in_len;
	answer_send(s, PHASE_OTHER, NULL, &a);
}

/* What the client said; never what it logs in with. */
static void trace_line(struct session *s, const char *line)
{
	struct journal *j = &s->server->journal;
	bool secret = s->state != SESSION_COMMAND || text_prefix(line, "AUTH");

	if (!s->server->set.trace)
		return;
	session_event(s, "command");
	journal_text(j, "line", secret ? "AUTH ..." : line);
	journal_bool(j, "tls", s->io.ssl != NULL);
	journal_end(j);
}

/* Nobody listens any more, but somebody speaks. */
static void trace_ignored(struct session *s)
{
	struct journal *j = &s->server->journal;

	if (!s->server->set.trace)
		return;
	session_event(s, "ignored");
	journal_number(j, "bytes", (long)(s->io.in_len - s->io.in_start));
	journal_end(j);
}

/* True if a line was taken; false if it is not complete yet. */
static bool take_line(struct session *s)
{
	const char *p = s->io.in + s->io.in_start;
	size_t n = s->io.in_len - s->io.in_start, len;
	const char *nl = memchr(p, '\n', n), *cr;
	char line[COMMAND_OCTETS + 1];

	len = nl != NULL ? (size_t)(nl - p) : n;
	cr = memchr(p, '\r', len);
	if (nl != NULL && (cr == NULL || cr + 1 != nl)) {
		refuse_line(s, VIOLATION_BARE_LINE_END, NULL,
		    cr != NULL ? (size_t)(cr - p) : len);
		return true;
	}
	if (len > COMMAND_OCTETS + 1) {
		refuse_line(s, VIOLATION_LONG_COMMAND, "500 Line too long.", 0);
		return true;
	}
	if (nl == NULL)
		return false;
	len--;
	memcpy(line, p, len);
	line[len] = '\0';
	s->io.in_start += len + 2;
	if (s->io.in_start < s->io.in_len)
		session_violation(s,
		    s->state == SESSION_COMMAND && text_prefix(line, "STARTTLS")
			? VIOLATION_BEFORE_TLS
			: VIOLATION_PIPELINING,
		    line);
	if (strlen(line) != len)
		session_violation(s, VIOLATION_SYNTAX, "NUL in a command");
	trace_line(s, line);
	if (s->state == SESSION_COMMAND)
		command_line(s, line, len);
	else
		auth_line(s, line);
	return true;
}

static void body_end(struct session *s)
{
	s->body_done = false;
	s->state = SESSION_COMMAND;
	for (unsigned i = 0; i < VIOLATIONS - VIOLATION_BARE_CR; i++) {
		if (s->body.found & 1U << i)
			session_violation(s, VIOLATION_BARE_CR + i, NULL);
	}
	if (s->io.in_start < s->io.in_len)
		session_violation(s, VIOLATION_PIPELINING, "after the dot");
	verdict_dot(s);
}

/* True if a BODY rule acts now; its answer is on its way then. */
static bool body_rule(struct session *s)
{
	struct rule *rule = NULL;
	struct answer a = { .text = "" };

	if (s->server->rules.count[PHASE_BODY] > 0)
		rule = answer_rule(s, PHASE_BODY);
	if (rule == NULL)
		return false;
	answer_send(s, PHASE_BODY, rule, &a);
	return true;
}

/* True if there may be more to do with what is in the buffer. */
static bool take_body(struct session *s)
{
	size_t used;
	bool done;

	if (s->body_done) {
		body_end(s);
		return true;
	}
	done = body_feed(&s->body, s->io.in + s->io.in_start,
	    s->io.in_len - s->io.in_start, &used);
	s->io.in_start += used;
	if (body_rule(s)) {
		s->body_done = done;
		return false;
	}
	if (done)
		body_end(s);
	return done;
}

void session_pump(struct session *s)
{
	bool more = true;

	while (more && !s->busy && s->state < SESSION_FROZEN &&
	    (s->io.in_start < s->io.in_len || s->body_done)) {
		switch (s->state) {
		case SESSION_HANDSHAKE:
			if (s->abort_tls)
				session_end(s, "rule",
				    s->abort_reset ? END_RESET : END_FIN);
			return;
		case SESSION_SINK:
			trace_ignored(s);
			s->io.in_start = s->io.in_len;
			s->body_done = false;
			break;
		case SESSION_BODY:
			more = take_body(s);
			break;
		default:
			more = take_line(s);
			break;
		}
	}
}
