/* How many connections: single answers, and a pool in simulated time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "policy/sizing.h"

#define S INT64_C(1000000)
#define MS INT64_C(1000)

static void test_grows_with_the_backlog_only(void **state)
{
	static const struct {
		struct sizing_view
		    view; /* max connecting open idle backlog rate */
		unsigned want;
	} rows[] = {
		{ { 20, 0, 0, 0, 0, 0 }, 0 },
		{ { 20, 0, 0, 0, 1, 0 }, 1 },
		{ { 20, 0, 0, 0, 7, 0 }, 7 },
		{ { 20, 0, 0, 0, 100000, 0 }, 20 },
		/* Idle ones and those on the way will take theirs. */
		{ { 20, 0, 5, 5, 5, 0 }, 0 },
		{ { 20, 3, 0, 0, 3, 0 }, 0 },
		{ { 20, 3, 5, 2, 7, 0 }, 2 },
		{ { 20, 0, 5, 0, 2, 0 }, 2 },
		/* Never beyond the limit. */
		{ { 20, 10, 10, 0, 100, 0 }, 0 },
		{ { 20, 1, 18, 0, 100, 0 }, 1 },
		{ { 20, 5, 25, 0, 100, 0 }, 0 },
		{ { 1, 0, 0, 0, 100, 0 }, 1 },
		{ { 20, 0, 0, 0, SIZE_MAX, 0 }, 20 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct sizing s;

		sizing_init(&s);
		assert_int_equal(
		    sizing_want(&s, &rows[i].view, 5 * S), rows[i].want);
	}
}

/* Little's law, with a quarter to spare and one. */
static void test_a_pace_bounds_the_pool(void **state)
{
	struct sizing_view view = { .max = 20, .backlog = 1000, .rate = 14 };
	struct sizing s;

	(void)state;
	sizing_init(&s);
	/* Nothing is known of how long a message takes. */
	assert_int_equal(sizing_want(&s, &view, 5 * S), 20);
	for (int i = 0; i < 200; i++)
		sizing_on_transaction(&s, 400 * MS, 2);
	/* 14/s, 0.2 s each: 2.8 at a time. */
	assert_int_equal(sizing_useful(&s, 14), 5);
	assert_int_equal(sizing_want(&s, &view, 5 * S), 5);
	view.open = 4;
	assert_int_equal(sizing_want(&s, &view, 5 * S), 1);
	/* SES got slow: more at a time. */
	for (int i = 0; i < 200; i++)
		sizing_on_transaction(&s, 2000 * MS, 2);
	assert_in_range(sizing_useful(&s, 14), 18, 20);
	/* Without a pace, the backlog decides. */
	view.rate = 0;
	assert_int_equal(sizing_want(&s, &view, 5 * S), 16);
	/* The slowest pace still has one to send by. */
	assert_in_range(sizing_useful(&s, 0.001), 1, 2);
}

static void test_hold_off_doubles(void **state)
{
	static const int64_t waits_s[] = { 1, 2, 4, 8, 16, 32, 60, 60, 60 };
	struct sizing_view view = { .max = 20, .backlog = 100 };
	int64_t now = 100 * S;
	struct sizing s;

	(void)state;
	for (uint64_t jitter = 0; jitter < 2000; jitter++) {
		int64_t before = 0;

		sizing_init(&s);
		for (size_t i = 0; i < ARRAY_LEN(waits_s); i++) {
			int64_t wait;

			sizing_on_failed(&s, now, jitter * 7919);
			wait = sizing_next(&s, now) - now;
			assert_true(wait <= waits_s[i] * S);
			assert_true(wait >= waits_s[i] * S * 3 / 4);
			if (waits_s[i] < 60)
				assert_true(wait > before);
			before = wait;
			assert_int_equal(
			    sizing_want(&s, &view, now + wait - 1), 0);
			now += wait;
			assert_int_equal(sizing_want(&s, &view, now), 1);
			view.connecting = 1;
			assert_int_equal(sizing_want(&s, &view, now), 0);
			view.connecting = 0;
		}
	}
	sizing_on_connected(&s, now);
	assert_int_equal(sizing_want(&s, &view, now), 20);
	assert_int_equal(sizing_next(&s, now), INT64_MAX);
	/* And the next failure is a first one again. */
	sizing_on_failed(&s, now, 0);
	assert_int_equal(sizing_next(&s, now), now + S);
}

static void test_a_burst_of_failures_counts_once(void **state)
{
	int64_t now = 100 * S;
	struct sizing s;

	(void)state;
	sizing_init(&s);
	for (int i = 0; i < 20; i++)
		sizing_on_failed(&s, now + i * MS, 0);
	assert_int_equal(sizing_next(&s, now + 20 * MS), now + S);
	sizing_on_failed(&s, now + S, 0);
	assert_int_equal(sizing_next(&s, now + S), now + 3 * S);
}

static void test_asking_does_not_lengthen_the_wait(void **state)
{
	struct sizing_view view = { .max = 20, .backlog = 100 };
	struct sizing s;

	(void)state;
	sizing_init(&s);
	for (int i = 1; i <= 10; i++) {
		sizing_on_failed(&s, i * S, 0);
		sizing_try_now(&s);
		/* Connecting still fails: one at a time. */
		assert_int_equal(sizing_want(&s, &view, i * S), 1);
	}
	sizing_on_failed(&s, 20 * S, 0);
	assert_int_equal(sizing_next(&s, 20 * S), 22 * S);
}

/* A login is no success where SES throws out whom it has let in. */
static void test_logins_that_are_worth_nothing(void **state)
{
	struct sizing_view view = { .max = 20, .backlog = 100 };
	int64_t now = 1000 * S;
	unsigned logins = 0;
	struct sizing s;

	(void)state;
	sizing_init(&s);
	for (; now < 1300 * S; now += 10 * MS) {
		unsigned n = sizing_want(&s, &view, now);

		/* The first wave knows of nothing yet. */
		assert_true(n <= 1 || logins == 0);
		for (; n > 0; n--, logins++) {
			sizing_on_connected(&s, now);
			sizing_on_thrown_out(&s, now + 1 * MS, 0);
		}
	}
	/* 1, 2, 4, ... 32, then 60 s. */
	assert_in_range(logins, 20 + 7, 20 + 10);
	/* One that was there before works, which says nothing of new ones. */
	sizing_on_carried(&s, now - 5 * S - 60 * S);
	view.connecting = 1;
	assert_int_equal(sizing_want(&s, &view, now + 60 * S), 0);
	/* A new one works. */
	sizing_on_connected(&s, now + 60 * S);
	assert_int_equal(sizing_want(&s, &view, now + 60 * S), 0);
	sizing_on_carried(&s, now + 60 * S);
	assert_int_equal(sizing_want(&s, &view, now + 60 * S), 19);
	/* And a login is a success again. */
	sizing_on_failed(&s, now + 61 * S, 0);
	sizing_on_connected(&s, now + 62 * S);
	assert_int_equal(sizing_want(&s, &view, now + 62 * S), 19);
}

static void test_conn_limit_is_learned_and_forgotten(void **state)
{
	struct sizing_view view = { .max = 20, .open = 8, .backlog = 100 };
	int64_t now = 100 * S;
	struct sizing s;

	(void)state;
	sizing_init(&s);
	sizing_on_conn_limit(&s, 8, now);
	assert_int_equal(sizing_want(&s, &view, now), 0);
	view.open = 5;
	assert_int_equal(sizing_want(&s, &view, now), 2);
	assert_int_equal(sizing_next(&s, now), now + 30 * S);
	assert_int_equal(sizing_want(&s, &view, now + 30 * S - 1), 2);
	assert_int_equal(sizing_want(&s, &view, now + 30 * S), 3);
	assert_int_equal(sizing_next(&s, now + 30 * S), now + 60 * S);
	/* Nobody asked for a while: it grew all the same. */
	assert_int_equal(sizing_want(&s, &view, now + 95 * S), 5);
	assert_int_equal(sizing_want(&s, &view, now + 3600 * S), 15);
	assert_int_equal(sizing_next(&s, now + 3600 * S), INT64_MAX);
}

static void test_conn_limit_never_grows_by_a_second_answer(void **state)
{
	struct sizing_view view = { .max = 20, .open = 0, .backlog = 100 };
	int64_t now = 100 * S;
	struct sizing s;

	(void)state;
	sizing_init(&s);
	sizing_on_conn_limit(&s, 5, now);
	sizing_on_conn_limit(&s, 9, now + S);
	assert_int_equal(sizing_want(&s, &view, now + S), 4);
	/* But it puts off the growth. */
	assert_int_equal(sizing_next(&s, now + S), now + 31 * S);
	/* One connection always remains. */
	for (unsigned open = 0; open <= 2; open++) {
		sizing_on_conn_limit(&s, open, now + 2 * S);
		assert_int_equal(sizing_want(&s, &view, now + 2 * S), 1);
	}
}

/* --- a pool in simulated time ---------------------------------------- */

struct pool {
	struct sizing s;
	struct sizing_view view;
	unsigned upstream_cap; /* 421 beyond it; 0: nothing can be reached */
	unsigned connects, max_at_once;
};

static void pool_step(struct pool *p, int64_t now)
{
	unsigned want = sizing_want(&p->s, &p->view, now);

	/* What was under way ends within a step. */
	for (; p->view.connecting > 0; p->view.connecting--) {
		if (p->upstream_cap == 0) {
			sizing_on_failed(&p->s, now, (uint64_t)now * 31);
		} else if (p->view.open >= p->upstream_cap) {
			sizing_on_conn_limit(&p->s, p->view.open, now);
			sizing_on_failed(&p->s, now, (uint64_t)now * 31);
		} else {
			p->view.open++;
			sizing_on_connected(&p->s, now);
		}
	}
	if (p->s.failures > 0 && want > 1)
		fail_msg("%u wanted while failing", want);
	p->view.connecting = want;
	p->connects += want;
	if (want > p->max_at_once)
		p->max_at_once = want;
	assert_true(p->view.open + p->view.connecting <= p->view.max);
}

static void pool_run(struct pool *p, int64_t from_s, int64_t to_s)
{
	p->connects = p->max_at_once = 0;
	for (int64_t now = from_s * S; now < to_s * S; now += 100 * MS)
		pool_step(p, now);
}

static void test_outage_costs_few_connects(void **state)
{
	struct pool p = { .view = { .max = 20, .backlog = 5000 } };

	(void)state;
	sizing_init(&p.s);
	pool_run(&p, 1, 601);
	/* 20 at first; then 1 2 4 8 16 32 s apart, then once a minute. */
	assert_in_range(p.connects, 20 + 12, 20 + 22);
	p.upstream_cap = 100;
	pool_run(&p, 601, 601 + 65);
	assert_int_equal(p.view.open, 20);
}

static void test_concurrency_cap_is_found_and_kept_to(void **state)
{
	struct pool p = { .view = { .max = 20, .backlog = 5000 },
		.upstream_cap = 6 };

	(void)state;
	sizing_init(&p.s);
	pool_run(&p, 1, 10);
	assert_int_equal(p.view.open, 6);
	/* From then on it asks for one more now and then, no more. */
	pool_run(&p, 10, 3610);
	assert_int_equal(p.view.open, 6);
	assert_int_equal(p.max_at_once, 1);
	assert_in_range(p.connects, 20, 130);
	/* The cap is lifted: all are used again in time. */
	p.upstream_cap = 100;
	pool_run(&p, 3610, 3610 + 20 * 30);
	assert_int_equal(p.view.open, 20);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_grows_with_the_backlog_only),
		cmocka_unit_test(test_a_pace_bounds_the_pool),
		cmocka_unit_test(test_hold_off_doubles),
		cmocka_unit_test(test_a_burst_of_failures_counts_once),
		cmocka_unit_test(test_asking_does_not_lengthen_the_wait),
		cmocka_unit_test(test_logins_that_are_worth_nothing),
		cmocka_unit_test(test_conn_limit_is_learned_and_forgotten),
		cmocka_unit_test(
		    test_conn_limit_never_grows_by_a_second_answer),
		cmocka_unit_test(test_outage_costs_few_connects),
		cmocka_unit_test(test_concurrency_cap_is_found_and_kept_to),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
