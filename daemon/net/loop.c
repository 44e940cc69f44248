/*
 * The event loop: turns of libevent, and what belongs at the end of a turn.
 *
 * Owns the event_base, the deferred calls and the list of connections that
 * have output.  Loop thread only.
 *
 * A turn polls, runs the callbacks of what it found, then deferred calls,
 * flushes, on_turn, flushes and deferred calls again, the log.  Invariant: the
 * loop waits in the kernel only when nothing is deferred, nothing is to be
 * flushed and no owner was called since on_turn ran last.
 */
#include "net/loop.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "net/loop_private.h"

#include <event2/event.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TIMER_MAX_US (INT64_C(100) * 365 * 86400 * US_PER_S)

struct deferred {
	void (*fn)(void *ptr);
	void *ptr;
};

TAILQ_HEAD(hook_list, loop_hook);

struct loop {
	struct event_base *base;
	void (*on_turn)(void *ctx);
	void *on_turn_ctx;
	struct deferred *deferred; /* in order; n_deferred of them */
	size_t n_deferred, deferred_size;
	struct hook_list to_flush; /* connections with output */
	struct hook_list orphans; /* connections that nobody owns any more */
	bool stopping;
	bool clock_read; /* in this turn */
	bool busy; /* the next turn must not wait */
	char scratch[LOOP_SCRATCH_BYTES];
};

struct loop_watch {
	struct loop *loop;
	struct event *event;
	void (*fn)(void *ctx); /* or on_signal */
	void (*on_signal)(void *ctx, int signo);
	void *ctx;
};

/*
 * Exact timers that never fire early by clock_mono_us(): no cached time, and
 * not the coarse clock, whose steps are some milliseconds.
 */
static struct event_base *base_new(void)
{
	struct event_config *config = event_config_new();
	struct event_base *base = NULL;

	if (config) {
		event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK);
		event_config_set_flag(config, EVENT_BASE_FLAG_PRECISE_TIMER);
		event_config_set_flag(config, EVENT_BASE_FLAG_NO_CACHE_TIME);
		base = event_base_new_with_config(config);
		event_config_free(config);
	}
	if (!base)
		fatal("cannot create the event loop");
	return base;
}

struct loop *loop_new(void)
{
	struct loop *loop = xcalloc(1, sizeof(*loop));

	/* OpenSSL writes by write(2), which has no MSG_NOSIGNAL. */
	signal(SIGPIPE, SIG_IGN);
	loop->base = base_new();
	TAILQ_INIT(&loop->to_flush);
	TAILQ_INIT(&loop->orphans);
	return loop;
}

/* Those that were there at the start; what they defer comes next time. */
static void run_deferred(struct loop *loop)
{
	size_t n = loop->n_deferred;

	if (n == 0)
		return;
	loop_wake(loop);
	for (size_t i = 0; i < n; i++) {
		struct deferred d = loop->deferred[i];

		d.fn(d.ptr);
	}
	loop->n_deferred -= n;
	memmove(loop->deferred, loop->deferred + n,
	    loop->n_deferred * sizeof(loop->deferred[0]));
}

/* Each at most once: a fast peer cannot keep the loop here. */
static void run_flushes(struct loop *loop)
{
	struct loop_hook *hook;
	size_t n = 0;

	TAILQ_FOREACH (hook, &loop->to_flush, link)
		n++;
	while (n-- > 0 && (hook = TAILQ_FIRST(&loop->to_flush))) {
		loop_unqueue_flush(loop, hook);
		hook->fn(hook);
	}
}

void loop_free(struct loop *loop)
{
	struct loop_hook *hook;

	if (!loop)
		return;
	while ((hook = TAILQ_FIRST(&loop->orphans))) {
		hook->fn(hook);
		ASSERT(hook != TAILQ_FIRST(&loop->orphans));
	}
	while (loop->n_deferred > 0)
		run_deferred(loop);
	ASSERT(TAILQ_EMPTY(&loop->to_flush));
	event_base_free(loop->base);
	free(loop->deferred);
	free(loop);
}

static void run_turn(struct loop *loop)
{
	int flags = EVLOOP_ONCE | EVLOOP_NO_EXIT_ON_EMPTY;

	if (loop->busy)
		flags |= EVLOOP_NONBLOCK;
	loop->clock_read = false;
	if (event_base_loop(loop->base, flags) < 0)
		fatal("the event loop failed");
	loop_wake(loop);
	run_deferred(loop);
	run_flushes(loop);
	/* From here on, calls of owners are news to on_turn. */
	loop->busy = false;
	if (loop->on_turn)
		loop->on_turn(loop->on_turn_ctx);
	run_flushes(loop);
	run_deferred(loop);
	if (loop->n_deferred > 0 || !TAILQ_EMPTY(&loop->to_flush))
		loop->busy = true;
	log_flush();
}

void loop_run(struct loop *loop)
{
	/* Whoever filled lists before was in no turn. */
	loop->busy = true;
	while (!loop->stopping)
		run_turn(loop);
	loop->stopping = false;
}

void loop_stop(struct loop *loop)
{
	loop->stopping = true;
	loop->busy = true;
}

void loop_on_turn(struct loop *loop, void (*fn)(void *ctx), void *ctx)
{
	loop->on_turn = fn;
	loop->on_turn_ctx = ctx;
}

void loop_defer(struct loop *loop, void (*fn)(void *ptr), void *ptr)
{
	if (loop->n_deferred == loop->deferred_size) {
		loop->deferred_size = loop->deferred_size * 2 + 64;
		loop->deferred = xrealloc(loop->deferred,
		    loop->deferred_size * sizeof(loop->deferred[0]));
	}
	loop->deferred[loop->n_deferred++] = (struct deferred){ fn, ptr };
}

struct event_base *loop_base(struct loop *loop)
{
	return loop->base;
}

void loop_wake(struct loop *loop)
{
	loop->busy = true;
	if (!loop->clock_read) {
		clock_update();
		loop->clock_read = true;
	}
}

void loop_kick(struct loop *loop)
{
	loop_wake(loop);
}

char *loop_scratch(struct loop *loop)
{
	return loop->scratch;
}

static void hook_add(struct hook_list *list, struct loop_hook *hook)
{
	if (hook->queued)
		return;
	hook->queued = true;
	TAILQ_INSERT_TAIL(list, hook, link);
}

static void hook_remove(struct hook_list *list, struct loop_hook *hook)
{
	if (!hook->queued)
		return;
	hook->queued = false;
	TAILQ_REMOVE(list, hook, link);
}

void loop_queue_flush(struct loop *loop, struct loop_hook *hook)
{
	hook_add(&loop->to_flush, hook);
}

void loop_unqueue_flush(struct loop *loop, struct loop_hook *hook)
{
	hook_remove(&loop->to_flush, hook);
}

void loop_add_orphan(struct loop *loop, struct loop_hook *hook)
{
	hook_add(&loop->orphans, hook);
}

void loop_remove_orphan(struct loop *loop, struct loop_hook *hook)
{
	hook_remove(&loop->orphans, hook);
}

static struct event *new_event(struct loop *loop, evutil_socket_t fd,
    short what, event_callback_fn fn, void *arg)
{
	struct event *event = event_new(loop->base, fd, what, fn, arg);

	if (!event)
		fatal("cannot create an event");
	return event;
}

static void add_event(struct event *event, const struct timeval *delay)
{
	if (event_add(event, delay) < 0)
		fatal("cannot add an event to the loop");
}

/* --- timers --- */

/*
 * Deadlines are put off with every command of every session, and hardly ever
 * met.  So the event stays where it is when a timer is set to a later time,
 * and when it fires too early, is set to what is left: event_us <= due_us.
 */
static void arm_timer(struct loop_timer *t, int64_t delay_us)
{
	struct timeval delay = {
		.tv_sec = delay_us / US_PER_S,
		.tv_usec = delay_us % US_PER_S,
	};

	t->armed = true;
	t->event_us = clock_mono_us() + delay_us;
	add_event(t->event, &delay);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct loop_timer *t = arg;
	int64_t left;

	(void)fd;
	(void)what;
	loop_wake(t->loop);
	t->armed = false;
	left = t->due_us - clock_mono_us();
	if (left > 0)
		arm_timer(t, left);
	else
		t->fn(t->ctx);
}

void loop_timer_init(
    struct loop_timer *t, struct loop *loop, void (*fn)(void *ctx), void *ctx)
{
	t->loop = loop;
	t->fn = fn;
	t->ctx = ctx;
	t->armed = false;
	t->event = new_event(loop, -1, 0, on_timer, t);
}

void loop_timer_fini(struct loop_timer *t)
{
	if (t->event)
		event_free(t->event);
	t->event = NULL;
}

void loop_timer_set(struct loop_timer *t, int64_t delay_us)
{
	if (delay_us < 0)
		delay_us = 0;
	else if (delay_us > TIMER_MAX_US)
		delay_us = TIMER_MAX_US;
	t->due_us = clock_mono_us() + delay_us;
	/* An event that is due already would fire in this turn. */
	if (!t->armed || delay_us == 0 || t->event_us > t->due_us)
		arm_timer(t, delay_us);
}

void loop_timer_clear(struct loop_timer *t)
{
	if (t->armed)
		event_del(t->event);
	t->armed = false;
}

bool loop_timer_pending(const struct loop_timer *t)
{
	return t->armed;
}

static void on_watch(evutil_socket_t fd, short what, void *arg)
{
	struct loop_watch *w = arg;

	(void)fd;
	(void)what;
	loop_wake(w->loop);
	w->fn(w->ctx);
}

static void on_signal(evutil_socket_t signo, short what, void *arg)
{
	struct loop_watch *w = arg;

	(void)what;
	loop_wake(w->loop);
	w->on_signal(w->ctx, signo);
}

static struct loop_watch *watch_new(struct loop *loop, evutil_socket_t fd,
    short what, event_callback_fn fn, void *ctx)
{
	struct loop_watch *w = xcalloc(1, sizeof(*w));

	w->loop = loop;
	w->ctx = ctx;
	w->event = new_event(loop, fd, what | EV_PERSIST, fn, w);
	add_event(w->event, NULL);
	return w;
}

struct loop_watch *loop_watch(
    struct loop *loop, int fd, void (*fn)(void *ctx), void *ctx)
{
	struct loop_watch *w = watch_new(loop, fd, EV_READ, on_watch, ctx);

	w->fn = fn;
	return w;
}

struct loop_watch *loop_signal(
    struct loop *loop, int signo, void (*fn)(void *ctx, int signo), void *ctx)
{
	struct loop_watch *w =
	    watch_new(loop, signo, EV_SIGNAL, on_signal, ctx);

	w->on_signal = fn;
	return w;
}

void loop_unwatch(struct loop_watch *w)
{
	if (!w)
		return;
	event_free(w->event);
	free(w);
}

const char *loop_library(void)
{
	static char text[64];

	snprintf(text, sizeof(text), "libevent %s", event_get_version());
	return text;
}
