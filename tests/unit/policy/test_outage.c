/* When the account could not send: what is counted of a message's life. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "policy/outage.h"

static void test_none(void **state)
{
	struct outage o;

	(void)state;
	outage_init(&o);
	outage_note(&o, false, 5);
	assert_int_equal(outage_within(&o, 0, 1000), 0);
	assert_int_equal(outage_within(&o, -1000, 1000), 0);
}

static void test_parts_of_it(void **state)
{
	struct outage o;

	(void)state;
	outage_init(&o);
	outage_note(&o, true, 100);
	outage_note(&o, true, 150); /* told again */
	assert_int_equal(outage_within(&o, 0, 180), 80);
	assert_int_equal(outage_within(&o, 130, 180), 50);
	outage_note(&o, false, 200);
	outage_note(&o, false, 250);
	assert_int_equal(outage_within(&o, 0, 300), 100);
	assert_int_equal(outage_within(&o, 150, 300), 50);
	assert_int_equal(outage_within(&o, 200, 300), 0);
	assert_int_equal(outage_within(&o, 250, 300), 0);
	outage_note(&o, true, 400);
	assert_int_equal(outage_within(&o, -50, 500), 200);
	outage_note(&o, false, 600);
	assert_int_equal(outage_within(&o, 0, 1000), 300);
	assert_int_equal(outage_within(&o, 500, 1000), 100);
}

static void test_clock_that_stands_still(void **state)
{
	struct outage o;

	(void)state;
	outage_init(&o);
	outage_note(&o, true, 100);
	outage_note(&o, false, 100);
	outage_note(&o, true, 200);
	outage_note(&o, false, 150);
	assert_int_equal(outage_within(&o, 0, 1000), 0);
	outage_note(&o, true, 300);
	assert_int_equal(outage_within(&o, 0, 250), 0);
}

/* Many: the old ones are counted too long rather than forgotten. */
static void test_many(void **state)
{
	struct outage o;
	int64_t end = 0;

	(void)state;
	outage_init(&o);
	for (int i = 0; i < 1000; i++) {
		int64_t exact;

		outage_note(&o, true, i * 10);
		outage_note(&o, false, i * 10 + 4);
		end = i * 10 + 10;
		exact = (i + 1) * 4;
		assert_true(outage_within(&o, 0, end) >= exact);
		assert_true(outage_within(&o, 0, end) <= end);
		if (i < OUTAGE_KEPT)
			assert_int_equal(outage_within(&o, 0, end), exact);
	}
	assert_int_equal(outage_within(&o, end - 100, end), 40);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_none),
		cmocka_unit_test(test_parts_of_it),
		cmocka_unit_test(test_clock_that_stands_still),
		cmocka_unit_test(test_many),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
