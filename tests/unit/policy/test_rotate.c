/* When connections are renewed, and that a pool does not do it in one wave. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "policy/rotate.h"

#define S INT64_C(1000000)
#define OPENED (1000 * S)

static const struct rotate_options usual = {
	.messages_per_connection = 50,
	.lifetime_us = 60 * S,
	.idle_timeout_us = 4 * S,
	.adaptive = true,
};

static const struct rotate_learned nothing;

static void test_limits_are_in_the_last_tenth(void **state)
{
	(void)state;
	for (uint64_t seed = 0; seed < 5000; seed++) {
		struct rotate_limits l =
		    rotate_plan(&usual, &nothing, OPENED, seed);

		assert_in_range(l.soft_messages, 45, 48);
		assert_true(l.soft_us >= OPENED + 54 * S);
		assert_true(l.soft_us <= OPENED + 60 * S - 6 * S / 10);
		assert_int_equal(l.max_messages, 50);
		assert_int_equal(l.expires_us, OPENED + 60 * S);
	}
}

static void test_small_and_large_settings(void **state)
{
	struct rotate_options o = usual;

	(void)state;
	for (uint64_t seed = 0; seed < 500; seed++) {
		struct rotate_limits l;

		o.messages_per_connection = 1;
		o.lifetime_us = 0;
		l = rotate_plan(&o, &nothing, OPENED, seed);
		assert_int_equal(l.soft_messages, 1);
		assert_int_equal(l.soft_us, OPENED);

		o.messages_per_connection = UINT32_MAX;
		o.lifetime_us = 365 * 86400 * S;
		l = rotate_plan(&o, &nothing, OPENED, seed);
		assert_true(l.soft_messages >= UINT32_MAX / 10 * 9);
		assert_true(l.soft_us <= OPENED + o.lifetime_us);
		assert_true(l.soft_us >= OPENED + o.lifetime_us / 10 * 9);
	}
}

/* 20 connections opened at once, wherever their numbers begin. */
static void test_a_pool_spreads_out(void **state)
{
	(void)state;
	for (uint64_t first = 0; first < 2000; first += 20) {
		unsigned per_second[7] = { 0 }, counts[51] = { 0 };

		for (uint64_t seed = first; seed < first + 20; seed++) {
			struct rotate_limits l =
			    rotate_plan(&usual, &nothing, OPENED, seed);

			per_second[(l.soft_us - OPENED) / S - 54]++;
			counts[l.soft_messages]++;
		}
		for (int i = 0; i < 5; i++)
			assert_in_range(per_second[i], 2, 5);
		for (int i = 45; i <= 48; i++)
			assert_in_range(counts[i], 3, 7);
	}
}

static void test_due(void **state)
{
	static const struct rotate_limits limits = {
		.max_messages = 48,
		.expires_us = OPENED + 57 * S,
	};
	static const struct {
		unsigned messages;
		int64_t idle_since_us, now_us;
		enum rotate_reason reason;
	} rows[] = {
		{ 0, 0, OPENED, ROTATE_NOT },
		{ 47, 0, OPENED + 57 * S - 1, ROTATE_NOT },
		{ 48, 0, OPENED, ROTATE_COUNT },
		{ 49, 0, OPENED, ROTATE_COUNT },
		{ 0, 0, OPENED + 57 * S, ROTATE_AGE },
		{ 1, OPENED, OPENED + 4 * S - 1, ROTATE_NOT },
		{ 1, OPENED, OPENED + 4 * S, ROTATE_IDLE },
		/* Busy for long is not idle. */
		{ 1, 0, OPENED + 50 * S, ROTATE_NOT },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		assert_int_equal(rotate_due(&usual, &limits, rows[i].messages,
				     rows[i].idle_since_us, rows[i].now_us),
		    rows[i].reason);
}

static void test_soon(void **state)
{
	static const struct rotate_limits limits = {
		.soft_messages = 46,
		.max_messages = 50,
		.soft_us = OPENED + 55 * S,
		.expires_us = OPENED + 60 * S,
	};

	(void)state;
	assert_int_equal(rotate_soon(&limits, 45, OPENED + 54 * S), ROTATE_NOT);
	assert_int_equal(
	    rotate_soon(&limits, 46, OPENED + 54 * S), ROTATE_COUNT);
	assert_int_equal(rotate_soon(&limits, 1, OPENED + 55 * S), ROTATE_AGE);
	assert_int_equal(
	    rotate_due(&usual, &limits, 46, 0, OPENED + 55 * S), ROTATE_NOT);
}

static void test_slots_left(void **state)
{
	static const struct rotate_limits limits = {
		.max_messages = 50,
		.expires_us = OPENED + 60 * S,
	};

	(void)state;
	assert_int_equal(rotate_slots_left(&limits, 0, S, OPENED), 25);
	assert_int_equal(rotate_slots_left(&limits, 40, S, OPENED), 5);
	assert_int_equal(rotate_slots_left(&limits, 40, S, OPENED + 57 * S), 3);
	assert_int_equal(rotate_slots_left(&limits, 50, S, OPENED), 0);
	assert_int_equal(rotate_slots_left(&limits, 60, S, OPENED), 0);
	assert_int_equal(rotate_slots_left(&limits, 0, S, OPENED + 61 * S), 0);
}

/* Ten connections as old as each other: the first goes while there is time for
 * all of them, and none before. */
static void test_a_crowd_begins_early(void **state)
{
	unsigned parallel = rotate_parallel(&usual, &nothing, 10, S / 10);
	struct rotate_limits l = { .max_messages = 50,
		.expires_us = INT64_MAX };
	unsigned first = 0;

	(void)state;
	assert_int_equal(parallel, 1);
	for (unsigned messages = 0; messages < 50; messages++) {
		struct rotate_crowd crowd = { 0 };

		for (unsigned i = 0; i < 10; i++)
			rotate_crowd_add(&crowd,
			    rotate_slots_left(&l, messages, S / 10, OPENED));
		if (rotate_crowd_is_dense(&crowd, parallel)) {
			first = messages;
			break;
		}
	}
	assert_in_range(first, 31, 35);
	/* Spread out, they have time. */
	struct rotate_crowd crowd = { 0 };

	for (unsigned i = 0; i < 10; i++)
		rotate_crowd_add(
		    &crowd, rotate_slots_left(&l, 5 * i, S / 10, OPENED));
	assert_false(rotate_crowd_is_dense(&crowd, parallel));
	/* By age, too. */
	l.max_messages = UINT32_MAX;
	l.expires_us = OPENED + 9 * S;
	for (unsigned i = 0; i < 10; i++)
		rotate_crowd_add(&crowd, rotate_slots_left(&l, 0, S, OPENED));
	assert_true(rotate_crowd_is_dense(&crowd, parallel));
}

/* A pool can keep its limits from the first message on, whatever they are. */
static void test_parallel(void **state)
{
	static const unsigned sizes[] = { 1, 2, 10, 20, 100, 1000 };
	struct rotate_options o = usual;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(sizes); i++)
		for (unsigned max = 1; max <= 200; max++) {
			struct rotate_crowd crowd = { 0 };
			struct rotate_limits l;
			unsigned parallel;

			o.messages_per_connection = max;
			o.lifetime_us = max * S;
			l = rotate_plan(&o, &nothing, OPENED, 1);
			parallel =
			    rotate_parallel(&o, &nothing, sizes[i], S / 10);
			assert_in_range(parallel, 1, sizes[i]);
			for (unsigned k = 0; k < sizes[i]; k++)
				rotate_crowd_add(&crowd,
				    rotate_slots_left(&l, 0, S / 10, OPENED));
			assert_false(rotate_crowd_is_dense(&crowd, parallel));
		}
	assert_int_equal(rotate_parallel(&usual, &nothing, 20, S / 10), 1);
	assert_int_equal(rotate_parallel(&usual, &nothing, 0, S / 10), 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_limits_are_in_the_last_tenth),
		cmocka_unit_test(test_small_and_large_settings),
		cmocka_unit_test(test_a_pool_spreads_out),
		cmocka_unit_test(test_due),
		cmocka_unit_test(test_soon),
		cmocka_unit_test(test_slots_left),
		cmocka_unit_test(test_a_crowd_begins_early),
		cmocka_unit_test(test_parallel),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
