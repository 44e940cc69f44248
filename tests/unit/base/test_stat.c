/* The registry: values, threads, and what Prometheus asks of the names. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/stat.h"
#include "base/work.h"

#include <string.h>

static void test_values_are_separate(void **state)
{
	static const int64_t expected[STAT_N] = {
		[STAT_RCPT_SENT] = 7,
		[STAT_SESSIONS] = 1,
		[STAT_BODY_BYTES] = INT64_C(5000000000),
	};

	(void)state;
	stat_reset();
	stat_add(STAT_RCPT_SENT, 3);
	stat_add(STAT_RCPT_SENT, 4);
	stat_add(STAT_SESSIONS, 2);
	stat_add(STAT_SESSIONS, -1);
	stat_set(STAT_BODY_BYTES, INT64_C(5000000000));
	for (int i = 0; i < STAT_N; i++)
		assert_int_equal(stat_get((enum stat_id)i), expected[i]);
	stat_reset();
	for (int i = 0; i < STAT_N; i++)
		assert_int_equal(stat_get((enum stat_id)i), 0);
}

static void add_many(struct work_job *job)
{
	(void)job;
	for (int i = 0; i < 200000; i++)
		stat_add(STAT_SPOOL_SYNCS, 1);
}

static void ignore(struct work_job *job)
{
	(void)job;
}

static void test_no_addition_of_any_thread_is_lost(void **state)
{
	struct work_port *port = work_port_new();
	struct worker *w = work_new(port, "adder", 4);
	struct work_job jobs[8];

	(void)state;
	stat_reset();
	for (size_t i = 0; i < ARRAY_LEN(jobs); i++) {
		jobs[i] = (struct work_job){ .run = add_many, .done = ignore };
		work_submit(w, &jobs[i]);
	}
	work_free(w);
	work_port_free(port);
	assert_int_equal(stat_get(STAT_SPOOL_SYNCS), 8 * 200000);
}

static bool ends_with(const char *s, const char *end)
{
	size_t len = strlen(s), end_len = strlen(end);

	return len > end_len && strcmp(s + len - end_len, end) == 0;
}

/* Series of one name stand together, as an exporter must print them. */
static void test_names_are_fit_for_export(void **state)
{
	(void)state;
	for (int i = 0; i < STAT_N; i++) {
		const struct stat_info *info = stat_info((enum stat_id)i);

		assert_int_equal(
		    strspn(info->name, "abcdefghijklmnopqrstuvwxyz_"),
		    strlen(info->name));
		assert_int_equal(ends_with(info->name, "_total"),
		    info->kind == STAT_COUNTER);
		assert_true(strlen(info->help) > 10);
		for (int j = 0; j < i; j++) {
			const struct stat_info *other =
			    stat_info((enum stat_id)j);

			if (strcmp(info->name, other->name) != 0)
				continue;
			assert_string_not_equal(info->labels, other->labels);
			assert_string_equal(info->help, other->help);
			assert_int_equal(info->kind, other->kind);
			assert_string_equal(
			    stat_info((enum stat_id)(i - 1))->name, info->name);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_values_are_separate),
		cmocka_unit_test(test_no_addition_of_any_thread_is_lost),
		cmocka_unit_test(test_names_are_fit_for_export),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
