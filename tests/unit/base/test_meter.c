/* The rate of a counter, in simulated time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/clock.h"
#include "base/meter.h"

#define MS US_PER_MS
#define S US_PER_S

static void assert_rate(double is, double want)
{
	assert_float_equal(is, want, 0.01);
}

static void test_steady(void **state)
{
	struct meter m;
	int64_t t = 5 * S;

	(void)state;
	meter_init(&m, 1000, t);
	/* 7 a second, noted every second, for two minutes. */
	for (int i = 1; i <= 120; i++)
		meter_note(&m, 1000 + 7 * i, t + i * S);
	t += 120 * S;
	assert_rate(meter_rate(&m, 1840, t, 10 * S), 7);
	assert_rate(meter_rate(&m, 1840, t, 60 * S), 7);
}

static void test_windows_forget(void **state)
{
	struct meter m;
	int64_t n = 0, t = 0;

	(void)state;
	meter_init(&m, 0, 0);
	/* 100 a second for 30 s, then nothing. */
	for (int i = 1; i <= 30; i++)
		meter_note(&m, n += 100, t += S);
	for (int i = 1; i <= 9; i++)
		meter_note(&m, n, t += S);
	assert_rate(meter_rate(&m, n, t, 10 * S), 10);
	meter_note(&m, n, t += S);
	assert_rate(meter_rate(&m, n, t, 10 * S), 0);
	assert_rate(meter_rate(&m, n, t, 60 * S), 3000.0 / 40);
	for (int i = 1; i <= 60; i++)
		meter_note(&m, n, t += S);
	assert_rate(meter_rate(&m, n, t, 60 * S), 0);
}

static void test_what_came_since_the_last_note_counts(void **state)
{
	struct meter m;

	(void)state;
	meter_init(&m, 0, 0);
	meter_note(&m, 10, 10 * S);
	assert_rate(
	    meter_rate(&m, 10 + 50, 10 * S + 500 * MS, 10 * S), 60 / 10.5);
}

/* Each second has its own growth; before the first sample there was none. */
static void test_history(void **state)
{
	struct meter m;
	double rates[5];
	int64_t n = 0;

	(void)state;
	meter_init(&m, 0, 100 * S);
	for (int i = 1; i <= 4; i++)
		meter_note(&m, n += i * 10, (100 + i) * S);
	meter_history(&m, 104, 5, rates);
	for (int i = 0; i < 5; i++)
		assert_rate(rates[i], i * 10);
	/* What is not noted yet has not grown. */
	meter_history(&m, 106, 3, rates);
	assert_rate(rates[0], 40);
	assert_rate(rates[1], 0);
	assert_rate(rates[2], 0);
	/* A minute and more: the ring has gone round. */
	for (int i = 5; i <= 200; i++)
		meter_note(&m, n += 7, (100 + i) * S);
	meter_history(&m, 300, 5, rates);
	for (int i = 0; i < 5; i++)
		assert_rate(rates[i], 7);
}

/* A timer that is late every time leaves neither holes nor peaks. */
static void test_history_of_late_samples(void **state)
{
	struct meter m;
	double rates[30];
	int64_t t = 100 * S;

	(void)state;
	meter_init(&m, 0, t);
	for (int i = 1; i <= 40; i++)
		meter_note(&m, 13 * i, t += 1300 * MS);
	meter_history(&m, t / S, 30, rates);
	for (int i = 0; i < 30; i++)
		assert_rate(rates[i], 10);
}

static void test_young(void **state)
{
	struct meter m;

	(void)state;
	meter_init(&m, 500, 0);
	assert_rate(meter_rate(&m, 500, 0, 60 * S), 0);
	/* One message in the first millisecond is not a thousand a second. */
	assert_rate(meter_rate(&m, 501, MS, 60 * S), 1);
	meter_note(&m, 520, 4 * S);
	assert_rate(meter_rate(&m, 520, 4 * S, 60 * S), 5);
}

/* Fed by every turn of a busy loop, it still reaches back a minute. */
static void test_fed_too_often(void **state)
{
	struct meter m;
	int64_t t = 0;

	(void)state;
	meter_init(&m, 0, 0);
	for (int i = 1; i <= 12000; i++)
		meter_note(&m, i, t += 10 * MS);
	assert_rate(meter_rate(&m, 12000, t, 60 * S), 100);
	meter_note(&m, 12000, t += 20 * S);
	assert_rate(meter_rate(&m, 12000, t, 60 * S), 4000.0 / 60);
}

/* Of a window longer than the ring, as much as there is. */
static void test_longer_than_it_reaches(void **state)
{
	struct meter m;

	(void)state;
	meter_init(&m, 0, 0);
	for (int i = 1; i <= 100; i++)
		meter_note(&m, i >= 50 ? 630 : 0, i * S);
	assert_rate(meter_rate(&m, 630, 100 * S, 600 * S), 10);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_steady),
		cmocka_unit_test(test_windows_forget),
		cmocka_unit_test(test_what_came_since_the_last_note_counts),
		cmocka_unit_test(test_young),
		cmocka_unit_test(test_history),
		cmocka_unit_test(test_history_of_late_samples),
		cmocka_unit_test(test_fed_too_often),
		cmocka_unit_test(test_longer_than_it_reaches),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
