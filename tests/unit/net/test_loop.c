/*
 * The turn: its order, that no wake-up is lost, timers, watches, signals.
 */
#include "base/clock.h"
#include "base/mem.h"
#include "net/loop.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

struct test {
	struct loop *loop;
	char order[256];
	int n_turns;
	int n_left;
	struct loop_timer timer;
	struct loop_watch *watch;
	int fds[2];
	int64_t due_us;
};

static int setup(void **state)
{
	struct test *t = xcalloc(1, sizeof(*t));

	alarm(60);
	t->loop = loop_new();
	if (pipe(t->fds) < 0)
		return -1;
	*state = t;
	return 0;
}

static int teardown(void **state)
{
	struct test *t = *state;

	loop_unwatch(t->watch);
	if (t->timer.loop)
		loop_timer_fini(&t->timer);
	loop_free(t->loop);
	close(t->fds[0]);
	close(t->fds[1]);
	free(t);
	return 0;
}

static void note(struct test *t, const char *what)
{
	size_t len = strlen(t->order);

	snprintf(t->order + len, sizeof(t->order) - len, "%s%s", len ? " " : "",
	    what);
}

static void deferred_second(void *ptr)
{
	note(ptr, "deferred2");
}

static void deferred_first(void *ptr)
{
	struct test *t = ptr;

	note(t, "deferred1");
	loop_defer(t->loop, deferred_second, t);
}

static void timer_defers(void *ctx)
{
	struct test *t = ctx;

	note(t, "timer");
	loop_defer(t->loop, deferred_first, t);
}

static void turn_notes(void *ctx)
{
	struct test *t = ctx;

	if (!*t->order)
		return;
	note(t, "turn");
	if (strstr(t->order, "deferred2"))
		loop_stop(t->loop);
}

/* Callbacks, deferred calls, on_turn; what was deferred by a deferred call
 * comes behind on_turn, and then on_turn sees that as well. */
static void test_order_of_a_turn(void **state)
{
	struct test *t = *state;

	loop_on_turn(t->loop, turn_notes, t);
	loop_timer_init(&t->timer, t->loop, timer_defers, t);
	loop_timer_set(&t->timer, 0);
	loop_run(t->loop);
	assert_string_equal(t->order, "timer deferred1 turn deferred2 turn");
}

static void make_work(void *ptr)
{
	struct test *t = ptr;

	t->n_left--;
}

/* The dispatcher defers; what that call makes due must wake it again, though
 * no event will ever come. */
static void turn_dispatches(void *ctx)
{
	struct test *t = ctx;

	t->n_turns++;
	if (t->n_left == 0)
		loop_stop(t->loop);
	else
		loop_defer(t->loop, make_work, t);
}

static void test_no_wakeup_is_lost(void **state)
{
	struct test *t = *state;

	t->n_left = 5;
	loop_on_turn(t->loop, turn_dispatches, t);
	loop_run(t->loop);
	assert_int_equal(t->n_turns, 6);
}

static void timer_stops(void *ctx)
{
	struct test *t = ctx;

	loop_stop(t->loop);
}

static void turn_counts(void *ctx)
{
	struct test *t = ctx;

	t->n_turns++;
}

static void test_an_idle_loop_sleeps(void **state)
{
	struct test *t = *state;

	loop_on_turn(t->loop, turn_counts, t);
	loop_timer_init(&t->timer, t->loop, timer_stops, t);
	loop_timer_set(&t->timer, 50 * US_PER_MS);
	loop_run(t->loop);
	/* The first one looks once without waiting. */
	assert_in_range(t->n_turns, 1, 3);
}

static void test_stop_before_run(void **state)
{
	struct test *t = *state;

	loop_on_turn(t->loop, turn_counts, t);
	loop_stop(t->loop);
	loop_run(t->loop);
	assert_int_equal(t->n_turns, 0);
	loop_timer_init(&t->timer, t->loop, timer_stops, t);
	loop_timer_set(&t->timer, 0);
	loop_run(t->loop);
	assert_true(t->n_turns > 0);
}

static void spin(int64_t us)
{
	struct timespec ts;
	int64_t now, until = 0;

	do {
		clock_gettime(CLOCK_MONOTONIC, &ts);
		now = ts.tv_sec * US_PER_S + ts.tv_nsec / 1000;
		if (until == 0)
			until = now + us;
	} while (now < until);
}

static void timer_is_not_early(void *ctx)
{
	struct test *t = ctx;

	assert_true(clock_mono_us() >= t->due_us);
	if (--t->n_left == 0) {
		loop_stop(t->loop);
		return;
	}
	/* A coarse clock stands and then jumps meanwhile, and takes it for
	 * more time than it was. */
	spin(2 * US_PER_MS + t->n_left * 100);
	clock_update();
	t->due_us = clock_mono_us() + 5 * US_PER_MS;
	loop_timer_set(&t->timer, 5 * US_PER_MS);
	spin(3 * US_PER_MS);
}

/* A due time that is a little too early makes the owner set it again, and
 * again: it must be right by the clock that the owner reads. */
static void test_timers_are_never_early(void **state)
{
	struct test *t = *state;

	t->n_left = 30;
	loop_timer_init(&t->timer, t->loop, timer_is_not_early, t);
	loop_timer_set(&t->timer, -1);
	loop_run(t->loop);
	assert_int_equal(t->n_left, 0);
}

static void test_timer_pending(void **state)
{
	struct test *t = *state;

	loop_timer_init(&t->timer, t->loop, timer_stops, t);
	assert_false(loop_timer_pending(&t->timer));
	loop_timer_set(&t->timer, 3600 * US_PER_S);
	assert_true(loop_timer_pending(&t->timer));
	loop_timer_clear(&t->timer);
	assert_false(loop_timer_pending(&t->timer));
	loop_timer_set(&t->timer, 3600 * US_PER_S);
	loop_timer_set(&t->timer, 0);
	loop_run(t->loop);
	assert_false(loop_timer_pending(&t->timer));
}

static void count_timer(void *ctx)
{
	struct test *t = ctx;

	assert_true(clock_mono_us() >= t->due_us);
	t->n_left--;
	loop_stop(t->loop);
}

static void put_it_off(void *ctx)
{
	struct test *t = ctx;

	t->due_us = clock_mono_us() + 30 * US_PER_MS;
	loop_timer_set(&t->timer, 30 * US_PER_MS);
}

static void stop(void *ctx)
{
	loop_stop(ctx);
}

/* A timer that was put off fires once, and not before its last due time. */
static void test_timer_put_off(void **state)
{
	struct test *t = *state;
	struct loop_timer other, last;

	t->n_left = 1;
	loop_timer_init(&t->timer, t->loop, count_timer, t);
	loop_timer_init(&other, t->loop, put_it_off, t);
	loop_timer_set(&t->timer, 10 * US_PER_MS);
	loop_timer_set(&other, 5 * US_PER_MS);
	loop_run(t->loop);
	assert_int_equal(t->n_left, 0);
	assert_false(loop_timer_pending(&t->timer));
	/* To an earlier time, or cleared where it was put off. */
	t->n_left = 1;
	t->due_us = 0;
	loop_timer_set(&t->timer, 3600 * US_PER_S);
	loop_timer_set(&t->timer, 1);
	loop_run(t->loop);
	assert_int_equal(t->n_left, 0);
	loop_timer_set(&t->timer, 1);
	loop_timer_set(&t->timer, 5 * US_PER_MS);
	loop_timer_clear(&t->timer);
	loop_timer_init(&last, t->loop, stop, t->loop);
	loop_timer_set(&last, 10 * US_PER_MS);
	loop_run(t->loop);
	assert_int_equal(t->n_left, 0);
	loop_timer_fini(&other);
	loop_timer_fini(&last);
}

static void spin_2ms(void *ctx)
{
	struct test *t = ctx;
	int64_t start = clock_mono_us();

	spin(2 * US_PER_MS);
	/* One time a turn, whatever it takes. */
	assert_int_equal(clock_mono_us(), start);
	t->due_us = start;
	if (t->n_left-- > 0)
		loop_timer_set(&t->timer, 0);
	else
		loop_stop(t->loop);
}

static void turn_sees_new_time(void *ctx)
{
	struct test *t = ctx;

	if (t->due_us && t->n_left >= 0)
		assert_true(clock_mono_us() >= t->due_us);
}

static void test_the_clock_is_read_once_a_turn(void **state)
{
	struct test *t = *state;
	int64_t before = clock_mono_us();

	t->n_left = 3;
	loop_on_turn(t->loop, turn_sees_new_time, t);
	loop_timer_init(&t->timer, t->loop, spin_2ms, t);
	loop_timer_set(&t->timer, 0);
	loop_run(t->loop);
	assert_true(clock_mono_us() >= before + 6 * US_PER_MS);
}

static void watch_once(void *ctx)
{
	struct test *t = ctx;

	/* Not read: it would be called again, if it were still watched. */
	t->n_turns++;
	loop_unwatch(t->watch);
	t->watch = NULL;
	loop_timer_set(&t->timer, 10 * US_PER_MS);
}

static void test_unwatch_inside_the_callback(void **state)
{
	struct test *t = *state;

	loop_timer_init(&t->timer, t->loop, timer_stops, t);
	t->watch = loop_watch(t->loop, t->fds[0], watch_once, t);
	assert_int_equal(write(t->fds[1], "x", 1), 1);
	loop_run(t->loop);
	assert_int_equal(t->n_turns, 1);
	loop_unwatch(NULL);
}

static void signal_stops(void *ctx, int signo)
{
	struct test *t = ctx;

	assert_int_equal(signo, SIGUSR1);
	t->n_left++;
	loop_stop(t->loop);
}

static void test_signals(void **state)
{
	struct test *t = *state;

	t->watch = loop_signal(t->loop, SIGUSR1, signal_stops, t);
	raise(SIGUSR1);
	assert_int_equal(t->n_left, 0);
	loop_run(t->loop);
	assert_int_equal(t->n_left, 1);
}

static void test_sigpipe_is_ignored(void **state)
{
	struct test *t = *state;
	int fds[2];

	(void)t;
	assert_int_equal(pipe(fds), 0);
	close(fds[0]);
	assert_int_equal(write(fds[1], "x", 1), -1);
	close(fds[1]);
}

static void test_free_runs_what_is_deferred(void **state)
{
	struct test *t = *state;
	struct loop *loop = t->loop;

	t->loop = loop_new();
	loop_defer(loop, deferred_second, t);
	loop_free(loop);
	assert_string_equal(t->order, "deferred2");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
		TEST(test_order_of_a_turn),
		TEST(test_no_wakeup_is_lost),
		TEST(test_an_idle_loop_sleeps),
		TEST(test_stop_before_run),
		TEST(test_timers_are_never_early),
		TEST(test_timer_pending),
		TEST(test_timer_put_off),
		TEST(test_the_clock_is_read_once_a_turn),
		TEST(test_unwatch_inside_the_callback),
		TEST(test_signals),
		TEST(test_sigpipe_is_ignored),
		TEST(test_free_runs_what_is_deferred),
	};

	return cmocka_run_group_tests_name("loop", tests, NULL, NULL);
}
