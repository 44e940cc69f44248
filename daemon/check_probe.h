/*
 * Between check_probe.c, which connects and decides what is tried next, and
 * check_session.c, which holds one session and takes its steps.
 */
#ifndef CHECK_PROBE_H
#define CHECK_PROBE_H

#include "check_private.h"

#include "net/conn.h"
#include "net/tls.h"
#include "smtp/client.h"

enum attempt {
	FIRST,
	SMALL_SEGMENTS,
	OTHER_MODE,
};

struct candidate {
	struct probe *probe;
	struct conn *conn; /* NULL: closed */
};

struct probe {
	const struct check_target *target;
	struct check_port *result;
	struct tls_context *tls;
	struct loop_timer end_timer;

	enum attempt attempt;
	int64_t attempt_end_us;
	/* What a second session is to tell apart, and whether it has: until
	 * then, nothing that it meets goes into the result. */
	enum diagnosis_step doubt;
	bool silent;

	struct candidate candidates[CHECK_MAX_ADDRESSES];
	unsigned n_connecting;
	struct candidate *chosen; /* NULL: none yet */
	struct client client;
	struct client_options client_options;
	struct client_auth auth;
	struct reply_parser parser;
	enum diagnosis_step step;
	int64_t step_us; /* since when */
	char note[300]; /* the step's detail */
	bool certificate_seen;
	struct large_test large;
	bool ended; /* `done` is told, or about to be */
};

/* --- check_session.c --- */

PRINTF(2, 3) void session_note(struct probe *p, const char *fmt, ...);
void session_step_begin(struct probe *p, enum diagnosis_step step);
/* The step that is under way failed; the probe goes on or ends. */
void session_step_failed(struct probe *p, enum diagnosis_outcome outcome);
void session_step_end(struct probe *p, enum diagnosis_outcome outcome);
/* p->chosen is connected. */
void session_begin(struct probe *p);
/* Of the connection of p->chosen. */
void session_on_secured(struct probe *p);
void session_on_readable(struct probe *p);
void session_on_writable(struct probe *p);
void session_on_end(struct probe *p, enum conn_end end, const char *reason);

/* --- check_probe.c --- */

void probe_attempt(struct probe *p, enum attempt attempt);
/* The session is over; addresses that still connect are waited for. */
void probe_finish(struct probe *p);
/* The second session has shown that the port is of the other kind. */
void probe_is_other_mode(struct probe *p);

#endif
