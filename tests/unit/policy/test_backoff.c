/* Slots of retries: exact without jitter, and what jitter may not break. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "policy/backoff.h"

#define S INT64_C(1000000)
#define ARRIVAL (INT64_C(1764000000) * S)
#define N_IDS 500

static const struct backoff_options usual = {
	.waits_us = { 5 * S, 10 * S, 30 * S, 300 * S, 1200 * S },
	.n_waits = 5,
	.expire_us = 4 * 86400 * S,
};

/* The slot before jitter, by the rule of the header, one at a time. */
static int64_t slot_after(
    const struct backoff_options *o, int64_t age, int64_t *wait)
{
	int64_t slot = 0;

	for (unsigned n = 0;; n++) {
		*wait = o->waits_us[n < o->n_waits ? n : o->n_waits - 1];
		slot += *wait;
		if (slot > age)
			return slot;
	}
}

static void test_slots(void **state)
{
	static const struct {
		int64_t age_s, slot_s, wait_s;
	} rows[] = {
		{ 0, 5, 5 },
		{ 4, 5, 5 },
		{ 5, 15, 10 },
		{ 14, 15, 10 },
		{ 15, 45, 30 },
		{ 45, 345, 300 },
		{ 345, 1545, 1200 },
		{ 1545, 2745, 1200 },
		{ 2744, 2745, 1200 },
		{ 2745, 3945, 1200 },
		{ 345 + 1200 * 100, 345 + 1200 * 101, 1200 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		for (uint64_t id = 0; id < N_IDS; id++) {
			int64_t next = backoff_next(
			    &usual, ARRIVAL, ARRIVAL + rows[i].age_s * S, id);
			int64_t late = next - ARRIVAL - rows[i].slot_s * S;

			assert_true(late >= 0);
			assert_true(late <= rows[i].wait_s * S / 10);
		}
}

static void test_jitter_spreads_a_burst(void **state)
{
	unsigned tenths[10] = { 0 };

	(void)state;
	/* Ids of a burst differ by little. */
	for (uint64_t id = 0; id < 10000; id++) {
		int64_t late =
		    backoff_next(&usual, ARRIVAL, ARRIVAL, 0x64000000 + id) -
		    ARRIVAL - 5 * S;

		tenths[late * 10 / (S / 2 + 1)]++;
	}
	for (int i = 0; i < 10; i++)
		assert_in_range(tenths[i], 800, 1200);
}

static void test_same_question_same_answer(void **state)
{
	(void)state;
	for (uint64_t id = 0; id < N_IDS; id++)
		assert_int_equal(
		    backoff_next(&usual, ARRIVAL, ARRIVAL + 20 * S, id),
		    backoff_next(&usual, ARRIVAL, ARRIVAL + 20 * S, id));
}

static uint64_t seed = 3;

static uint64_t dice(uint64_t sides)
{
	seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407;
	return (seed >> 16) % sides;
}

static struct backoff_options random_options(void)
{
	struct backoff_options o = { .expire_us = 86400 * S };

	o.n_waits = 1 + (unsigned)dice(BACKOFF_MAX_STEPS);
	for (unsigned i = 0; i < o.n_waits; i++)
		o.waits_us[i] = 1 + (int64_t)dice(dice(2) ? 50 : 5000 * S);
	return o;
}

/* For any schedule, growing or not. */
static void test_after_now_bounded_and_never_back(void **state)
{
	(void)state;
	for (int round = 0; round < 2000; round++) {
		struct backoff_options o = random_options();
		uint64_t id = dice(UINT64_MAX);
		int64_t now = ARRIVAL, before = 0;

		for (int i = 0; i < 40; i++) {
			int64_t next = backoff_next(&o, ARRIVAL, now, id);
			int64_t wait, slot;

			assert_true(next > now);
			assert_true(next >= before);
			if (now - ARRIVAL < 1000 * o.waits_us[o.n_waits - 1]) {
				slot = slot_after(&o, now - ARRIVAL, &wait);
				assert_true(next >= ARRIVAL + slot);
				assert_true(next <= ARRIVAL + slot + wait / 10);
			}
			before = next;
			now += (int64_t)dice((uint64_t)(next - now) * 2);
		}
	}
}

/* Tried at each slot it was given, a message goes through all of them. */
static void test_attempts_follow_the_waits(void **state)
{
	(void)state;
	for (uint64_t id = 0; id < N_IDS; id++) {
		int64_t now = ARRIVAL;

		for (unsigned n = 0; n < 20; n++) {
			int64_t wait = usual.waits_us[n < 5 ? n : 4];
			int64_t next = backoff_next(&usual, ARRIVAL, now, id);

			/* Each wait, less the jitter before it at most. */
			assert_true(next - now >= wait - wait / 10);
			assert_true(next - now <= wait + wait / 10);
			now = next;
		}
	}
}

static void test_clock_set_back(void **state)
{
	(void)state;
	for (uint64_t id = 0; id < N_IDS; id++) {
		int64_t now = ARRIVAL - 3600 * S;
		int64_t wait = backoff_next(&usual, ARRIVAL, now, id) - now;

		assert_true(wait >= 5 * S && wait <= 5 * S + S / 2);
	}
	assert_false(backoff_expired(&usual, ARRIVAL, ARRIVAL - 3600 * S));
}

/* Arrival times come from the disk. */
static void test_absurd_times(void **state)
{
	static const int64_t arrivals[] = { INT64_MIN, -1, 0, INT64_MAX };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(arrivals); i++) {
		int64_t next = backoff_next(&usual, arrivals[i], ARRIVAL, 1);

		assert_true(next > ARRIVAL);
		assert_true(next <= ARRIVAL + 1320 * S);
	}
	assert_true(backoff_expired(&usual, INT64_MIN, ARRIVAL));
	assert_false(backoff_expired(&usual, INT64_MAX, ARRIVAL));
}

static void test_expiry(void **state)
{
	int64_t end = ARRIVAL + usual.expire_us;

	(void)state;
	assert_false(backoff_expired(&usual, ARRIVAL, ARRIVAL));
	assert_false(backoff_expired(&usual, ARRIVAL, end - 1));
	assert_true(backoff_expired(&usual, ARRIVAL, end));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_slots),
		cmocka_unit_test(test_jitter_spreads_a_burst),
		cmocka_unit_test(test_same_question_same_answer),
		cmocka_unit_test(test_after_now_bounded_and_never_back),
		cmocka_unit_test(test_attempts_follow_the_waits),
		cmocka_unit_test(test_clock_set_back),
		cmocka_unit_test(test_absurd_times),
		cmocka_unit_test(test_expiry),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
