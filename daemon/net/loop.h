/*
 * The event loop: the one thread that owns every socket, timer and structure.
 * A thin skin over libevent, which shows nowhere above this directory.
 *
 * At the end of each turn, in this order: what was handed to loop_defer() runs
 * (so nothing is freed under the feet of its own callback), on_turn runs (the
 * dispatcher), log lines are flushed.  Connections write their output before
 * and after on_turn.  clock_update() is called at the start of each turn's
 * callbacks.
 *
 * No wake-up is lost: whenever an owner is called after on_turn has run, in a
 * deferred call or by a connection that writes, another turn follows at once.
 */
#ifndef NET_LOOP_H
#define NET_LOOP_H

#include "base/base.h"

struct loop;
struct event_base;

struct loop *loop_new(void); /* SIGPIPE is ignored from here on */
/* Runs what is still deferred.  Connections that nobody owns any more (see
 * conn_close_after_flush()) are closed; all else must have been. */
void loop_free(struct loop *loop);
/* Until loop_stop(), which may also come before; that turn is finished. */
void loop_run(struct loop *loop);
void loop_stop(struct loop *loop);
/* Called once a turn, after the callbacks of that turn. */
void loop_on_turn(struct loop *loop, void (*fn)(void *ctx), void *ctx);
/* It will be, before the loop waits for events again. */
void loop_kick(struct loop *loop);
/* fn(ptr) at the end of this turn. */
void loop_defer(struct loop *loop, void (*fn)(void *ptr), void *ptr);
/* For this directory only. */
struct event_base *loop_base(struct loop *loop);

/* "libevent 2.1.12-stable" */
const char *loop_library(void);

/* Embedded; one shot. */
struct loop_timer {
	struct event *event;
	void (*fn)(void *ctx);
	void *ctx;
	struct loop *loop;
	bool armed;
	int64_t due_us, event_us; /* see loop.c */
};
void loop_timer_init(
    struct loop_timer *t, struct loop *loop, void (*fn)(void *ctx), void *ctx);
void loop_timer_fini(struct loop_timer *t);
/* (Re)starts it; 0 and below: at once, in the next turn.  By clock_mono_us(),
 * it is never early. */
void loop_timer_set(struct loop_timer *t, int64_t delay_us);
void loop_timer_clear(struct loop_timer *t);
bool loop_timer_pending(const struct loop_timer *t);

/* fn runs whenever fd is readable, until loop_unwatch(). */
struct loop_watch;
struct loop_watch *loop_watch(
    struct loop *loop, int fd, void (*fn)(void *ctx), void *ctx);
void loop_unwatch(struct loop_watch *w); /* NULL is legal; fd stays open */
/* fn runs in the loop, not in the signal handler. */
struct loop_watch *loop_signal(
    struct loop *loop, int signo, void (*fn)(void *ctx, int signo), void *ctx);

#endif
