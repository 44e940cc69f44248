/*
 * One session of a probe, driven by the same parts as the daemon's, net/conn
 * and smtp/client, so that what is found is what the daemon meets.  The client
 * has a state for each reply that it waits for; the steps of the report are
 * these states, and the two that it does not know: the test with large
 * segments, and a QUIT that is also said after a refused login.
 *
 * Owns the session's part of struct probe (step, client, parser, note).  Loop
 * thread only.  Invariants: `step` is the one under way, and comes to its end
 * in session_step_end(), once a session; no deadline lies behind attempt_end;
 * after session_step_failed() and probe_finish(), p->chosen is another one,
 * NULL, or closed.
 */
#include "check_probe.h"

#include "base/clock.h"
#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const int64_t limits_us[DIAGNOSIS_N_STEPS] = {
	[DIAGNOSIS_GREETING] = 5 * US_PER_S,
	[DIAGNOSIS_STARTTLS] = 4 * US_PER_S,
	[DIAGNOSIS_TLS] = 5 * US_PER_S,
	[DIAGNOSIS_CERTIFICATE] = 5 * US_PER_S,
	[DIAGNOSIS_EHLO] = 4 * US_PER_S,
	[DIAGNOSIS_AUTH] = 5 * US_PER_S,
	[DIAGNOSIS_LARGE] = 3 * US_PER_S,
	[DIAGNOSIS_QUIT] = 1 * US_PER_S,
};

/* --- steps --- */

static void note_bytes(struct probe *p, struct slice bytes)
{
	log_escape(bytes.ptr, bytes.len, p->note, sizeof(p->note));
}

void session_note(struct probe *p, const char *fmt, ...)
{
	char text[sizeof(p->note)];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	note_bytes(p, slice_str(text));
}

/* Until the step or the attempt has used its time up. */
static void rearm(struct probe *p)
{
	int64_t limit = limits_us[p->step];
	int64_t left = p->attempt_end_us - clock_mono_us();

	conn_deadline(
	    p->chosen->conn, left < limit ? (left > 0 ? left : 0) : limit);
}

void session_step_begin(struct probe *p, enum diagnosis_step step)
{
	p->step = step;
	p->step_us = clock_mono_us();
	p->note[0] = '\0';
}

void session_step_end(struct probe *p, enum diagnosis_outcome outcome)
{
	struct check_step *s = &p->result->steps[p->step];

	if (p->silent && p->attempt == SMALL_SEGMENTS && p->step == p->doubt &&
	    outcome == OUTCOME_OK) {
		/* It was the size of the segments; the rest is news. */
		s->outcome = OUTCOME_MTU;
		p->silent = false;
		return;
	}
	if (p->silent)
		return;
	s->outcome = outcome;
	s->us = clock_mono_us() - p->step_us;
	memcpy(s->detail, p->note, sizeof(s->detail));
}

static enum diagnosis_step step_of(enum client_state state)
{
	switch (state) {
	case CLIENT_TLS_WRAP:
	case CLIENT_TLS:
		return DIAGNOSIS_TLS;
	case CLIENT_GREETING:
		return DIAGNOSIS_GREETING;
	case CLIENT_EHLO:
	case CLIENT_STARTTLS:
		return DIAGNOSIS_STARTTLS;
	case CLIENT_EHLO_TLS:
		return DIAGNOSIS_EHLO;
	case CLIENT_AUTH_PLAIN:
	case CLIENT_AUTH_LOGIN:
	case CLIENT_AUTH_USER:
	case CLIENT_AUTH_PASS:
		return DIAGNOSIS_AUTH;
	default:
		return DIAGNOSIS_LARGE;
	}
}

/* The second session that tells what it was, or FIRST: no need. */
static enum attempt what_tells(
    const struct probe *p, enum diagnosis_outcome outcome)
{
	bool silence = outcome == OUTCOME_TIMEOUT || outcome == OUTCOME_UNACKED;
	int mss = p->target->options->mss;

	if (p->attempt != FIRST)
		return FIRST;
	if (silence &&
	    (p->step == DIAGNOSIS_TLS || p->step == DIAGNOSIS_LARGE) &&
	    (mss == 0 || mss > CHECK_SMALL_MSS))
		return SMALL_SEGMENTS;
	if (silence && p->step == DIAGNOSIS_GREETING && !p->result->wrapper)
		return OTHER_MODE;
	if (!silence && p->step == DIAGNOSIS_TLS && p->result->wrapper)
		return OTHER_MODE;
	return FIRST;
}

void session_step_failed(struct probe *p, enum diagnosis_outcome outcome)
{
	enum attempt next = what_tells(p, outcome);

	session_step_end(p, outcome);
	if (next == FIRST) {
		probe_finish(p);
		return;
	}
	p->doubt = p->step;
	probe_attempt(p, next);
}

/* --- the test with large segments, and QUIT --- */

static void quit(struct probe *p)
{
	static const char command[] = "QUIT\r\n";

	session_step_begin(p, DIAGNOSIS_QUIT);
	conn_write(p->chosen->conn, command, sizeof(command) - 1);
	rearm(p);
}

static void begin_large(struct probe *p)
{
	session_step_begin(p, DIAGNOSIS_LARGE);
	large_begin(&p->large, p->chosen->conn);
	rearm(p);
}

/* Whatever it says: the bytes have arrived. */
static void on_large_reply(struct probe *p)
{
	large_describe(&p->large, p->chosen->conn, p->note, sizeof(p->note));
	session_step_end(p, OUTCOME_OK);
	quit(p);
}

/* --- the conversation --- */

static void follow(struct probe *p, struct client_out *out)
{
	struct conn *c = p->chosen->conn;
	enum diagnosis_step step = step_of(p->client.state);

	if (step != p->step) {
		session_step_end(p, OUTCOME_OK);
		session_step_begin(p, step);
	}
	if (p->attempt == OTHER_MODE && step == DIAGNOSIS_STARTTLS) {
		probe_is_other_mode(p);
		return;
	}
	rearm(p);
	if (out->command_len > 0)
		conn_write(c, out->command, out->command_len);
	if (out->secret)
		explicit_bzero(out->command, sizeof(out->command));
	if (out->start_tls && !conn_input_empty(c)) {
		session_step_begin(p, DIAGNOSIS_STARTTLS);
		note_bytes(p, conn_peek(c));
		session_step_failed(p, OUTCOME_INJECTED);
	} else if (out->start_tls) {
		conn_start_tls(c, p->tls, p->target->options->host);
	} else if (out->ready) {
		begin_large(p);
	}
}

static enum diagnosis_outcome judge_login(const struct reply *reply)
{
	if (reply->code == 535)
		return strcasestr(reply->text, "not subscribed")
		    ? OUTCOME_SUBSCRIPTION
		    : OUTCOME_CREDENTIALS;
	return reply->code / 100 == 4 ? OUTCOME_BUSY
	    : reply->code / 100 == 5  ? OUTCOME_REFUSED
				      : OUTCOME_OUT_OF_STEP;
}

/* A reply that ends the session; `from` is the state that it met. */
static void on_refusal(struct probe *p, enum client_state from, int code)
{
	bool positive = code < 400;

	if (positive && code == 250 && from == CLIENT_EHLO) {
		session_step_failed(p, OUTCOME_NOT_OFFERED);
	} else if (positive && code == 250 && from == CLIENT_EHLO_TLS) {
		/* What is missing, or does not fit, is the login. */
		session_step_end(p, OUTCOME_OK);
		session_step_begin(p, DIAGNOSIS_AUTH);
		session_note(p, "%s", p->client.verdict.text);
		session_step_failed(p,
		    p->client.ehlo.auth_plain || p->client.ehlo.auth_login
			? OUTCOME_FAILED
			: OUTCOME_NOT_OFFERED);
	} else {
		session_step_failed(p,
		    positive              ? OUTCOME_OUT_OF_STEP
			: code / 100 == 4 ? OUTCOME_BUSY
					  : OUTCOME_REFUSED);
	}
}

static void on_reply(struct probe *p, const struct reply *reply)
{
	enum client_state from = p->client.state;
	struct client_out out;

	if (p->step == DIAGNOSIS_LARGE) {
		on_large_reply(p);
		return;
	}
	if (p->step == DIAGNOSIS_QUIT) {
		session_step_end(p, OUTCOME_OK);
		probe_finish(p);
		return;
	}
	session_note(p, "%d %s%s%s", reply->code, reply->enhanced,
	    reply->enhanced[0] ? " " : "", reply->text);
	client_on_reply(&p->client, reply, &out);
	if (!out.close) {
		follow(p, &out);
	} else if (p->step == DIAGNOSIS_AUTH) {
		/* The network can be judged all the same. */
		session_step_end(p, judge_login(reply));
		begin_large(p);
	} else {
		on_refusal(p, from, reply->code);
	}
}

void session_begin(struct probe *p)
{
	struct client_out out;

	session_note(p, "%s", conn_peer_ip(p->chosen->conn));
	client_init(&p->client, &p->client_options, &out);
	reply_parser_init(&p->parser);
	follow(p, &out);
}

/* --- events --- */

void session_on_secured(struct probe *p)
{
	struct client_out out;

	if (p->attempt == OTHER_MODE) {
		probe_is_other_mode(p);
		return;
	}
	conn_describe_tls(p->chosen->conn, p->note, sizeof(p->note));
	session_step_end(p, OUTCOME_OK);
	session_step_begin(p, DIAGNOSIS_CERTIFICATE);
	client_on_secured(&p->client, &out);
	follow(p, &out);
}

void session_on_readable(struct probe *p)
{
	struct candidate *a = p->chosen;
	struct slice line;
	int rc;

	while (p->chosen == a && a->conn &&
	    (rc = conn_read_line(a->conn, REPLY_LINE_MAX, &line, NULL)) != 0) {
		if (rc < 0) {
			session_note(
			    p, "a line of more than %d bytes", REPLY_LINE_MAX);
			session_step_failed(p, OUTCOME_NOT_SMTP);
			return;
		}
		rc = reply_feed(&p->parser, line, client_on_line, &p->client);
		if (rc < 0) {
			note_bytes(p, line);
			session_step_failed(p, OUTCOME_NOT_SMTP);
			return;
		}
		if (rc > 0)
			on_reply(p, &p->parser.reply);
	}
}

void session_on_writable(struct probe *p)
{
	if (p->step != DIAGNOSIS_LARGE)
		return;
	large_written(p->chosen->conn);
	rearm(p);
}

/* The handshake has failed, maybe for the certificate. */
static void on_tls_failed(struct probe *p, const char *reason)
{
	static const enum diagnosis_outcome outcomes[] = {
		[CERTIFICATE_GOOD] = OUTCOME_OK,
		[CERTIFICATE_EXPIRED] = OUTCOME_EXPIRED,
		[CERTIFICATE_NOT_YET] = OUTCOME_NOT_YET,
		[CERTIFICATE_NAME] = OUTCOME_NAME,
		[CERTIFICATE_SELF_SIGNED] = OUTCOME_SELF_SIGNED,
		[CERTIFICATE_UNKNOWN_CA] = OUTCOME_UNKNOWN_CA,
		[CERTIFICATE_OTHER] = OUTCOME_FAILED,
	};
	const struct certificate *cert = &p->result->certificate;

	session_note(p, "%s", reason);
	if (!p->certificate_seen || cert->fault == CERTIFICATE_GOOD) {
		session_step_failed(p, OUTCOME_FAILED);
	} else if (p->attempt == OTHER_MODE) {
		probe_is_other_mode(p);
	} else {
		p->note[0] = '\0';
		session_step_end(p, OUTCOME_OK);
		session_step_begin(p, DIAGNOSIS_CERTIFICATE);
		session_note(p, "%s", cert->reason);
		session_step_failed(p, outcomes[cert->fault]);
	}
}

void session_on_end(struct probe *p, enum conn_end end, const char *reason)
{
	struct candidate *a = p->chosen;
	struct slice rest = conn_peek(a->conn);

	if (end == CONN_END_TLS) {
		on_tls_failed(p, reason);
	} else if (p->step == DIAGNOSIS_GREETING && rest.len > 0) {
		note_bytes(p, rest); /* not even a line */
		session_step_failed(p, OUTCOME_NOT_SMTP);
	} else if (p->step == DIAGNOSIS_LARGE && end != CONN_END_TIMEOUT &&
	    p->result->steps[DIAGNOSIS_AUTH].outcome != OUTCOME_OK) {
		/* It was the refused login that ended it. */
		session_step_failed(p, OUTCOME_UNTESTED);
	} else if (end == CONN_END_TIMEOUT) {
		bool unacked = large_unacked(a->conn, p->note, sizeof(p->note));

		if (!unacked)
			session_note(p, "no answer in %.0f s",
			    (double)(clock_mono_us() - p->step_us) / US_PER_S);
		session_step_failed(
		    p, unacked ? OUTCOME_UNACKED : OUTCOME_TIMEOUT);
	} else {
		session_note(p, "%s", reason);
		session_step_failed(
		    p, end == CONN_END_EOF ? OUTCOME_CLOSED : OUTCOME_RESET);
	}
}
