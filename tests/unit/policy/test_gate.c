/* The gate before deliveries: sequences of trouble, probes and success. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "policy/gate.h"

#define S INT64_C(1000000)
#define MIN (60 * S)
#define T0 (1000 * S)

static void assert_open(struct gate *g, int64_t now)
{
	assert_int_equal(g->state, GATE_OPEN);
	assert_int_equal(g->cause, GATE_NONE);
	assert_int_equal(gate_next(g), INT64_MAX);
	/* Any number may pass. */
	for (int i = 0; i < 10; i++) {
		assert_true(gate_would_pass(g, now));
		assert_true(gate_pass(g, now));
	}
}

static void test_open_at_first(void **state)
{
	struct gate g;

	(void)state;
	gate_init(&g);
	assert_open(&g, 0);
}

static void test_one_probe_after_the_wait(void **state)
{
	struct gate g;
	int64_t until;

	(void)state;
	gate_init(&g);
	assert_true(gate_on_trouble(&g, GATE_DAILY, T0, 0));
	until = gate_next(&g);
	assert_int_equal(until, T0 + 10 * MIN);
	assert_false(gate_pass(&g, T0));
	assert_false(gate_pass(&g, until - 1));
	assert_true(gate_would_pass(&g, until));
	assert_true(gate_would_pass(&g, until));
	assert_true(gate_pass(&g, until));
	assert_false(gate_would_pass(&g, until));
	assert_false(gate_pass(&g, until + 3600 * S));
	assert_int_equal(gate_next(&g), INT64_MAX);
	/* It told nothing: another may try. */
	gate_probe_lost(&g);
	assert_true(gate_next(&g) <= until);
	assert_true(gate_pass(&g, until));
	assert_false(gate_pass(&g, until));
	gate_on_success(&g);
	assert_open(&g, until);
}

static void test_waits_grow_until_a_success(void **state)
{
	static const struct {
		enum gate_cause cause;
		int64_t low[6], high[6];
	} rows[] = {
		{ GATE_DAILY,
		    { 10 * MIN, 10 * MIN, 10 * MIN, 10 * MIN, 10 * MIN,
			10 * MIN },
		    { 20 * MIN, 20 * MIN, 20 * MIN, 20 * MIN, 20 * MIN,
			20 * MIN } },
		{ GATE_AUTH,
		    { 1 * MIN, 2 * MIN, 5 * MIN, 15 * MIN, 15 * MIN, 15 * MIN },
		    { 66 * S, 132 * S, 330 * S, 990 * S, 990 * S, 990 * S } },
		{ GATE_ACCOUNT,
		    { 1 * MIN, 2 * MIN, 5 * MIN, 15 * MIN, 15 * MIN, 15 * MIN },
		    { 66 * S, 132 * S, 330 * S, 990 * S, 990 * S, 990 * S } },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		for (uint64_t jitter = 1; jitter < 300; jitter++) {
			uint64_t any =
			    jitter * UINT64_C(0x9e3779b97f4a7c15) >> 16;
			int64_t now = T0;
			struct gate g;

			gate_init(&g);
			for (int n = 0; n < 6; n++) {
				int64_t wait;

				assert_int_equal(gate_on_trouble(&g,
						     rows[i].cause, now, any),
				    n == 0);
				assert_int_equal(g.since_us, T0);
				wait = gate_next(&g) - now;
				assert_true(wait >= rows[i].low[n]);
				assert_true(wait <= rows[i].high[n]);
				now += wait;
				assert_true(gate_pass(&g, now));
			}
			gate_on_success(&g);
			assert_true(
			    gate_on_trouble(&g, rows[i].cause, now, any));
			assert_true(gate_next(&g) - now <= rows[i].high[0]);
		}
}

static void test_jitter_uses_the_whole_range(void **state)
{
	bool early = false, late = false;

	(void)state;
	for (uint64_t i = 0; i < 1000; i++) {
		struct gate g;
		int64_t wait;

		gate_init(&g);
		gate_on_trouble(
		    &g, GATE_DAILY, T0, i * UINT64_C(0x9e3779b97f4a7c15) >> 8);
		wait = gate_next(&g) - T0;
		early |= wait < 11 * MIN;
		late |= wait > 19 * MIN;
	}
	assert_true(early && late);
}

/* Twenty connections hear the same; it counts once. */
static void test_those_under_way_count_once(void **state)
{
	struct gate g;

	(void)state;
	gate_init(&g);
	assert_true(gate_on_trouble(&g, GATE_ACCOUNT, T0, 0));
	for (int i = 1; i < 20; i++)
		assert_false(gate_on_trouble(&g, GATE_ACCOUNT, T0 + i, 0));
	assert_int_equal(g.times, 1);
	assert_int_equal(gate_next(&g), T0 + MIN);
}

static void test_the_longer_wait_wins(void **state)
{
	struct gate g;

	(void)state;
	gate_init(&g);
	gate_on_trouble(&g, GATE_ACCOUNT, T0, 0);
	assert_false(gate_on_trouble(&g, GATE_DAILY, T0 + 1, 0));
	assert_int_equal(g.cause, GATE_DAILY);
	assert_int_equal(g.since_us, T0);
	assert_int_equal(gate_next(&g), T0 + 1 + 10 * MIN);
	assert_false(gate_on_trouble(&g, GATE_ACCOUNT, T0 + 2, 0));
	assert_int_equal(g.cause, GATE_DAILY);
	assert_int_equal(gate_next(&g), T0 + 1 + 10 * MIN);
	/* Another cause met by the probe begins anew, with its own waits. */
	assert_true(gate_pass(&g, T0 + 11 * MIN));
	assert_false(gate_on_trouble(&g, GATE_ACCOUNT, T0 + 11 * MIN, 0));
	assert_int_equal(g.cause, GATE_ACCOUNT);
	assert_int_equal(gate_next(&g), T0 + 12 * MIN);
}

static void test_login_opens_what_credentials_closed(void **state)
{
	static const enum gate_cause others[] = { GATE_DAILY, GATE_ACCOUNT };
	struct gate g;

	(void)state;
	gate_init(&g);
	gate_on_login(&g);
	assert_open(&g, T0);
	gate_on_trouble(&g, GATE_AUTH, T0, 0);
	assert_true(gate_pass(&g, T0 + MIN));
	gate_on_login(&g);
	assert_open(&g, T0 + MIN);
	for (size_t i = 0; i < ARRAY_LEN(others); i++) {
		gate_init(&g);
		gate_on_trouble(&g, others[i], T0, 0);
		gate_on_login(&g);
		assert_int_equal(g.state, GATE_CLOSED);
		assert_false(gate_pass(&g, T0));
	}
}

static void test_success_opens_at_any_time(void **state)
{
	struct gate g;

	(void)state;
	gate_init(&g);
	gate_on_trouble(&g, GATE_ACCOUNT, T0, 0);
	gate_on_success(&g);
	assert_open(&g, T0);
}

static void test_operator_lets_one_try(void **state)
{
	struct gate g;

	(void)state;
	gate_init(&g);
	gate_reopen(&g);
	assert_open(&g, T0);
	/* However long it had become. */
	for (int i = 0; i < 6; i++)
		gate_on_trouble(&g, GATE_AUTH, T0 + i * 3600 * S, 0);
	gate_reopen(&g);
	assert_true(gate_next(&g) <= T0 + 5 * 3600 * S);
	assert_true(gate_pass(&g, T0 + 5 * 3600 * S));
	assert_false(gate_pass(&g, T0 + 5 * 3600 * S));
	/* In vain: waits begin with the first again, no new alarm. */
	assert_false(gate_on_trouble(&g, GATE_AUTH, T0 + 6 * 3600 * S, 0));
	assert_int_equal(gate_next(&g), T0 + 6 * 3600 * S + MIN);
}

static void test_probes_are_few(void **state)
{
	struct gate g;
	unsigned passed = 0;

	(void)state;
	/* The answer to each probe comes late; nobody else passes till then. */
	gate_init(&g);
	gate_on_trouble(&g, GATE_ACCOUNT, T0, 0);
	for (int64_t now = T0; now < T0 + 60 * MIN; now += 6 * S) {
		bool pass = gate_pass(&g, now);

		passed += pass;
		if ((now - T0) % (5 * MIN) == 0 && now > T0)
			gate_on_trouble(&g, GATE_ACCOUNT, now, 0);
	}
	assert_in_range(passed, 4, 12);
}

static void test_names(void **state)
{
	(void)state;
	assert_string_equal(gate_cause_name(GATE_NONE), "ok");
	for (int i = 0; i < GATE_N; i++)
		for (int j = 0; j < i; j++)
			assert_string_not_equal(
			    gate_cause_name(i), gate_cause_name(j));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_open_at_first),
		cmocka_unit_test(test_one_probe_after_the_wait),
		cmocka_unit_test(test_waits_grow_until_a_success),
		cmocka_unit_test(test_jitter_uses_the_whole_range),
		cmocka_unit_test(test_those_under_way_count_once),
		cmocka_unit_test(test_the_longer_wait_wins),
		cmocka_unit_test(test_login_opens_what_credentials_closed),
		cmocka_unit_test(test_success_opens_at_any_time),
		cmocka_unit_test(test_operator_lets_one_try),
		cmocka_unit_test(test_probes_are_few),
		cmocka_unit_test(test_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
