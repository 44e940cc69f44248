/*
 * A socket that is not there, for targets that drive relay/session and
 * relay/outbound as they are: the functions of net/conn.h and the few of
 * net/loop.h that these use, over bytes in memory.  For targets alone that are
 * linked without net/.
 *
 * It keeps the promises of net/conn.h that matter here: input is offered by
 * on_readable and left until it is taken; output stays until the kernel takes
 * it (fake_conn_flush), and on_writable comes when no more than the low water
 * is left; after conn_close() nothing comes any more.  And it remembers: every
 * byte that came and went stays, for the target to judge.
 */
#ifndef FAKE_CONN_H
#define FAKE_CONN_H

#include "fuzz.h"

#include "net/conn.h"

struct conn {
	const struct conn_events *events;
	void *ctx;
	struct fuzz_text in; /* all that came */
	size_t in_at; /* taken so far */
	size_t line_at; /* where the last line began */
	bool skipping;
	char *line;
	struct fuzz_text out; /* all that was written */
	size_t written; /* the kernel has that much of it */
	size_t asked_at; /* in.len when it last had all of it */
	size_t low_water;
	bool handshake, secure;
	size_t secure_at; /* out.len then */
	bool closed, flushing;
	/* Of the target, before what is written is added; may be NULL. */
	void (*on_write)(struct conn *c, const char *ptr, size_t len);
	int64_t deadline_us;
};

struct conn *fake_conn_new(const struct conn_events *events, void *ctx);
void fake_conn_free(struct conn *c);
/* The peer sends. */
void fake_conn_input(struct conn *c, const char *ptr, size_t len);
/* The kernel takes at most `max` bytes of the output. */
void fake_conn_flush(struct conn *c, size_t max);
void fake_conn_secured(struct conn *c);
void fake_conn_end(struct conn *c, enum conn_end end);

/* What was deferred runs, and what that defers. */
void fake_loop_turn(void);

#endif
