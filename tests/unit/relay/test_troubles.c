/* The last few errors: newest first, each once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "relay/troubles.h"

#include <stdio.h>
#include <string.h>

static void assert_item(
    const struct troubles *t, unsigned i, const char *text, uint64_t n)
{
	assert_string_equal(t->items[i].text, text);
	assert_int_equal(t->items[i].n, n);
}

static void test_newest_first(void **state)
{
	struct troubles t = { 0 };

	(void)state;
	troubles_note(&t, 1, "a");
	troubles_note(&t, 2, "b");
	assert_int_equal(t.n, 2);
	assert_item(&t, 0, "b", 1);
	assert_item(&t, 1, "a", 1);
	assert_int_equal(t.items[0].wall_us, 2);
}

static void test_what_comes_again_is_counted(void **state)
{
	struct troubles t = { 0 };

	(void)state;
	troubles_note(&t, 1, "a");
	troubles_note(&t, 2, "b");
	troubles_note(&t, 3, "c");
	troubles_note(&t, 4, "a");
	troubles_note(&t, 5, "a");
	assert_int_equal(t.n, 3);
	assert_item(&t, 0, "a", 3);
	assert_item(&t, 1, "c", 1);
	assert_item(&t, 2, "b", 1);
	assert_int_equal(t.items[0].wall_us, 5);
}

static void test_the_oldest_goes(void **state)
{
	struct troubles t = { 0 };
	char text[8];

	(void)state;
	for (int i = 0; i < TROUBLES_MAX + 3; i++) {
		snprintf(text, sizeof text, "%d", i);
		troubles_note(&t, i, text);
	}
	assert_int_equal(t.n, TROUBLES_MAX);
	assert_item(&t, 0, "10", 1);
	assert_item(&t, TROUBLES_MAX - 1, "3", 1);
}

/* One reply in two lengths is one: both are cut. */
static void test_long_ones_are_cut(void **state)
{
	struct troubles t = { 0 };
	char text[400];

	(void)state;
	memset(text, 'x', sizeof text);
	text[399] = '\0';
	troubles_note(&t, 1, text);
	text[350] = '\0';
	troubles_note(&t, 2, text);
	assert_int_equal(t.n, 1);
	assert_int_equal(strlen(t.items[0].text), 255);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_newest_first),
		cmocka_unit_test(test_what_comes_again_is_counted),
		cmocka_unit_test(test_the_oldest_goes),
		cmocka_unit_test(test_long_ones_are_cut),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
