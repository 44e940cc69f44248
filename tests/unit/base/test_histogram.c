/* Histograms as Prometheus wants them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "base/clock.h"
#include "base/histogram.h"

static char text[65536];

static void take_line(void *ctx, const char *line)
{
	size_t len = strlen(text);

	(void)ctx;
	assert_null(strchr(line, '\n'));
	snprintf(text + len, sizeof text - len, "%s\n", line);
}

static const char *exposition(void)
{
	text[0] = '\0';
	histogram_each(take_line, NULL);
	return text;
}

#define AGE(reason, us)                                                        \
	histogram_observe(HISTOGRAM_CONNECTION_AGE, CLOSE_##reason, us)

static void test_buckets(void **state)
{
	struct histogram_values v;

	(void)state;
	histogram_reset();
	AGE(AGE, 0);
	AGE(AGE, US_PER_S / 10); /* a bound belongs to its bucket */
	AGE(AGE, US_PER_S / 10 + 1);
	AGE(AGE, 3600 * US_PER_S);
	AGE(AGE, 3600 * US_PER_S + 1);
	AGE(AGE, -5);
	AGE(COUNT, 7);
	histogram_read(HISTOGRAM_CONNECTION_AGE, CLOSE_AGE, &v);
	assert_int_equal(v.buckets[0], 3);
	assert_int_equal(v.buckets[1], 1);
	assert_int_equal(v.buckets[12], 1);
	assert_int_equal(v.buckets[13], 1);
	assert_int_equal(v.count, 6);
	assert_int_equal(v.sum, 7200 * US_PER_S + US_PER_S / 5 + 2);
	histogram_read(HISTOGRAM_CONNECTION_MESSAGES, CLOSE_AGE, &v);
	assert_int_equal(v.count, 0);
}

static void test_exposition(void **state)
{
	const char *all;

	(void)state;
	histogram_reset();
	AGE(SESSION_CAP, US_PER_S / 2);
	AGE(SESSION_CAP, 15 * US_PER_S + 250000);
	histogram_observe(HISTOGRAM_CONNECTION_MESSAGES, CLOSE_SESSION_CAP, 37);
	all = exposition();
	assert_non_null(strstr(all,
	    "# HELP sesrelayd_connection_age_seconds Age of connections to SES "
	    "when they ended, from the login on\n"
	    "# TYPE sesrelayd_connection_age_seconds histogram\n"
	    "sesrelayd_connection_age_seconds_bucket{reason=\"session_cap\","
	    "le=\"0.1\"} 0\n"
	    "sesrelayd_connection_age_seconds_bucket{reason=\"session_cap\","
	    "le=\"1\"} 1\n"));
	assert_non_null(strstr(
	    all, "_age_seconds_bucket{reason=\"session_cap\",le=\"20\"} 2\n"));
	assert_non_null(strstr(all,
	    "_age_seconds_bucket{reason=\"session_cap\",le=\"+Inf\"} 2\n"
	    "sesrelayd_connection_age_seconds_sum{reason=\"session_cap\"} "
	    "15.75\n"
	    "sesrelayd_connection_age_seconds_count{reason=\"session_cap\"} "
	    "2\n"));
	assert_non_null(strstr(all,
	    "sesrelayd_connection_messages_bucket{reason=\"session_cap\","
	    "le=\"35\"} 0\n"
	    "sesrelayd_connection_messages_bucket{reason=\"session_cap\","
	    "le=\"40\"} 1\n"));
	assert_non_null(strstr(
	    all, "connection_messages_sum{reason=\"session_cap\"} 37\n"));
	/* What never happened takes no lines. */
	assert_null(strstr(all, "reason=\"idle\""));
}

static void test_rows_are_whole(void **state)
{
	(void)state;
	for (int id = 0; id < HISTOGRAM_N; id++) {
		const struct histogram_info *info =
		    histogram_info((enum histogram_id)id);

		assert_non_null(info->name);
		assert_in_range(info->n_bounds, 1, HISTOGRAM_BOUNDS);
		for (unsigned i = 1; i < info->n_bounds; i++)
			assert_true(info->bounds[i - 1] < info->bounds[i]);
		for (unsigned i = 0; i < info->n_labels; i++)
			assert_non_null(info->labels[i]);
	}
	for (int i = 0; i < CLOSE_N; i++)
		for (int j = 0; j < i; j++)
			assert_string_not_equal(
			    histogram_close_name((enum histogram_close)i),
			    histogram_close_name((enum histogram_close)j));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_buckets),
		cmocka_unit_test(test_exposition),
		cmocka_unit_test(test_rows_are_whole),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
