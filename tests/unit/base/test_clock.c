/* The clocks, real and fake, and the three formats of a time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/clock.h"

#include <stdlib.h>
#include <time.h>

/* Runs first: nobody has called clock_update() yet. */
static void test_unread_clock_is_read(void **state)
{
	int64_t now_us = (int64_t)time(NULL) * US_PER_S;

	(void)state;
	assert_true(llabs(clock_wall_us() - now_us) < 60 * US_PER_S);
	assert_true(clock_mono_us() > 0);
	assert_true(clock_boot_us() >= clock_mono_us());
}

static void test_time_stands_still_within_a_turn(void **state)
{
	int64_t mono = clock_mono_us(), wall = clock_wall_us();
	struct timespec start, now;

	(void)state;
	clock_gettime(CLOCK_MONOTONIC, &start);
	do
		clock_gettime(CLOCK_MONOTONIC, &now);
	while (now.tv_sec == start.tv_sec &&
	    now.tv_nsec - start.tv_nsec < 2000000);
	assert_int_equal(clock_mono_us(), mono);
	assert_int_equal(clock_wall_us(), wall);
	clock_update();
	assert_true(clock_mono_us() >= mono + 1000);
	assert_true(clock_wall_us() != wall);
}

static void test_fake_clock_stays_until_real(void **state)
{
	(void)state;
	clock_set_fake(7, -5);
	clock_update();
	assert_int_equal(clock_mono_us(), 7);
	assert_int_equal(clock_wall_us(), -5);
	assert_int_equal(clock_boot_us(), 7);
	clock_set_real();
	assert_true(clock_mono_us() > 7);
	assert_true(clock_wall_us() > 0);
}

static void test_formats(void **state)
{
	static const struct {
		int64_t wall_us;
		const char *rfc5322, *rfc3339, *syslog;
	} rows[] = {
		{ 0, "Thu, 1 Jan 1970 00:00:00 +0000",
		    "1970-01-01T00:00:00.000000Z", "Jan  1 00:00:00" },
		{ 1795255201123456, "Sat, 21 Nov 2026 10:00:01 +0000",
		    "2026-11-21T10:00:01.123456Z", "Nov 21 10:00:01" },
		{ 1709251199999999, "Thu, 29 Feb 2024 23:59:59 +0000",
		    "2024-02-29T23:59:59.999999Z", "Feb 29 23:59:59" },
		{ 2147483648000001, "Tue, 19 Jan 2038 03:14:08 +0000",
		    "2038-01-19T03:14:08.000001Z", "Jan 19 03:14:08" },
		{ -1, "Wed, 31 Dec 1969 23:59:59 +0000",
		    "1969-12-31T23:59:59.999999Z", "Dec 31 23:59:59" },
	};
	char buf[40];

	(void)state;
	setenv("TZ", "UTC0", 1);
	tzset();
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		clock_format_rfc5322(rows[i].wall_us, buf, sizeof(buf));
		assert_string_equal(buf, rows[i].rfc5322);
		clock_format_rfc3339(rows[i].wall_us, buf, 32);
		assert_string_equal(buf, rows[i].rfc3339);
		clock_format_syslog(rows[i].wall_us, buf, 24);
		assert_string_equal(buf, rows[i].syslog);
	}
}

static void test_only_syslog_is_local(void **state)
{
	char buf[40];

	(void)state;
	setenv("TZ", "XXX-3", 1); /* three hours east */
	tzset();
	clock_format_rfc5322(0, buf, sizeof(buf));
	assert_string_equal(buf, "Thu, 1 Jan 1970 00:00:00 +0000");
	clock_format_rfc3339(0, buf, sizeof(buf));
	assert_string_equal(buf, "1970-01-01T00:00:00.000000Z");
	clock_format_syslog(0, buf, sizeof(buf));
	assert_string_equal(buf, "Jan  1 03:00:00");
}

/* One that was asked for before is kept: it must be the same second. */
static void test_seconds_in_any_order(void **state)
{
	static const struct {
		int64_t us;
		const char *rfc5322, *syslog;
	} rows[] = {
		{ -1, "Wed, 31 Dec 1969 23:59:59 +0000", "Dec 31 23:59:59" },
		{ 1, "Thu, 1 Jan 1970 00:00:00 +0000", "Jan  1 00:00:00" },
		{ 999999, "Thu, 1 Jan 1970 00:00:00 +0000", "Jan  1 00:00:00" },
		{ 1000000, "Thu, 1 Jan 1970 00:00:01 +0000",
		    "Jan  1 00:00:01" },
		{ 999999, "Thu, 1 Jan 1970 00:00:00 +0000", "Jan  1 00:00:00" },
		{ 86400999999, "Fri, 2 Jan 1970 00:00:00 +0000",
		    "Jan  2 00:00:00" },
	};
	char buf[64];

	(void)state;
	setenv("TZ", "UTC0", 1);
	tzset();
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		clock_format_rfc5322(rows[i].us, buf, sizeof(buf));
		assert_string_equal(buf, rows[i].rfc5322);
		clock_format_syslog(rows[i].us, buf, 24);
		assert_string_equal(buf, rows[i].syslog);
	}
}

static void test_time_beyond_the_calendar_is_survived(void **state)
{
	static const int64_t extremes[] = { INT64_MAX, INT64_MIN };
	char buf[40];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(extremes); i++) {
		clock_format_rfc5322(extremes[i], buf, sizeof(buf));
		assert_true(buf[0] != '\0');
		clock_format_rfc3339(extremes[i], buf, 32);
		assert_true(buf[0] != '\0');
		clock_format_syslog(extremes[i], buf, 24);
		assert_true(buf[0] != '\0');
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_unread_clock_is_read),
		cmocka_unit_test(test_time_stands_still_within_a_turn),
		cmocka_unit_test(test_fake_clock_stays_until_real),
		cmocka_unit_test(test_formats),
		cmocka_unit_test(test_only_syslog_is_local),
		cmocka_unit_test(test_seconds_in_any_order),
		cmocka_unit_test(test_time_beyond_the_calendar_is_survived),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
