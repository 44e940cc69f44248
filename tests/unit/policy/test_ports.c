/* Which port connections take, in simulated time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "policy/ports.h"

#define S INT64_C(1000000)

static bool fails(struct ports *p, unsigned i, int64_t now)
{
	return ports_on_failed(p, i, "timed out", "open it", now);
}

static void test_first_good_one_in_order(void **state)
{
	struct ports p;

	(void)state;
	ports_init(&p, 4);
	assert_int_equal(ports_choose(&p, 0), 0);
	assert_true(fails(&p, 0, 1 * S));
	assert_int_equal(ports_choose(&p, 0), 1);
	assert_true(fails(&p, 1, 2 * S));
	assert_int_equal(ports_choose(&p, 0), 2);
	assert_int_equal(ports_first_good(&p), 2);
	/* Those that this connection has tried are not given again. */
	assert_int_equal(ports_choose(&p, 1u << 2), 3);
	assert_int_equal(ports_choose(&p, 0xf), -1);
}

static void test_time_alone_brings_no_port_back(void **state)
{
	struct ports p;

	(void)state;
	ports_init(&p, 3);
	fails(&p, 0, 1 * S);
	/* Mail goes by the known-good one, however long ago that was. */
	assert_int_equal(ports_choose(&p, 0), 1);
	assert_int_equal(ports_state(&p, 0, 1 * S), PORTS_PENALTY);
	assert_int_equal(ports_state(&p, 0, 31 * S), PORTS_DUE);
	assert_int_equal(ports_state(&p, 0, 100000 * S), PORTS_DUE);
	assert_int_equal(ports_choose(&p, 0), 1);
	assert_true(ports_on_ok(&p, 0));
	assert_false(ports_on_ok(&p, 0));
	assert_int_equal(ports_state(&p, 0, 0), PORTS_GOOD);
	assert_int_equal(ports_choose(&p, 0), 0);
}

static void test_none_is_good(void **state)
{
	struct ports p;

	(void)state;
	ports_init(&p, 3);
	fails(&p, 2, 1 * S);
	fails(&p, 0, 2 * S);
	fails(&p, 1, 3 * S);
	assert_int_equal(ports_first_good(&p), -1);
	assert_int_equal(ports_choose(&p, 0), 2);
	assert_int_equal(ports_choose(&p, 1u << 2), 0);
	/* Mail tries them itself, there is nothing for a scout. */
	assert_int_equal(ports_scout(&p, 1000 * S), -1);
	assert_true(ports_scout_next(&p, 2 * S) == INT64_MAX);
}

static void test_penalty_doubles_to_ten_minutes(void **state)
{
	static const int64_t waits_s[] = { 30, 60, 120, 240, 480, 600, 600 };
	int64_t now = 50 * S;
	struct ports p;

	(void)state;
	ports_init(&p, 2);
	for (size_t i = 0; i < ARRAY_LEN(waits_s); i++) {
		assert_int_equal(fails(&p, 0, now), i == 0);
		/* Others that were under way change nothing. */
		for (int j = 0; j < 20; j++)
			assert_false(fails(&p, 0, now + 1));
		assert_int_equal(p.entries[0].until_us, now + waits_s[i] * S);
		assert_int_equal(p.entries[0].since_us, 50 * S);
		assert_int_equal(ports_scout(&p, now + waits_s[i] * S - 1), -1);
		assert_int_equal(
		    ports_scout_next(&p, now + 1), now + waits_s[i] * S);
		now += waits_s[i] * S;
		assert_int_equal(ports_scout(&p, now), 0);
	}
	/* And begins anew after it has worked. */
	ports_on_ok(&p, 0);
	fails(&p, 0, now);
	assert_int_equal(p.entries[0].until_us, now + 30 * S);
	assert_int_equal(p.entries[0].since_us, now);
}

static void test_scouts_look_at_preferred_ports_only(void **state)
{
	struct ports p;

	(void)state;
	ports_init(&p, 4);
	fails(&p, 0, 1 * S);
	fails(&p, 1, 20 * S);
	fails(&p, 3, 2 * S); /* behind the one in use: nobody needs it */
	assert_int_equal(ports_scout(&p, 30 * S), -1);
	assert_int_equal(ports_scout(&p, 31 * S), 0);
	assert_int_equal(ports_scout_next(&p, 31 * S), 50 * S);
	/* One after the other: that one has failed again. */
	fails(&p, 0, 51 * S);
	assert_int_equal(ports_scout(&p, 51 * S), 1);
	/* 421 too many, 535: it tells nothing about the port. */
	ports_on_nothing(&p, 1, 52 * S);
	assert_int_equal(ports_scout(&p, 52 * S), -1);
	assert_int_equal(p.entries[1].penalty_us, 30 * S);
	assert_int_equal(p.entries[1].until_us, 82 * S);
	ports_on_ok(&p, 0);
	assert_int_equal(ports_scout(&p, 10000 * S), -1);
}

static void test_refused_for_now(void **state)
{
	struct ports p;

	(void)state;
	ports_init(&p, 2);
	/* Twenty connections of a burst, and one a second later. */
	for (int i = 0; i < 20; i++)
		assert_false(ports_on_doubt(&p, 0, S + i * 1000));
	assert_false(ports_on_doubt(&p, 1, S + S));
	assert_true(ports_on_doubt(&p, 0, S + S));
	/* A success between them clears it. */
	ports_on_ok(&p, 0);
	assert_false(ports_on_doubt(&p, 0, S + 2 * S));
	assert_int_equal(ports_first_good(&p), 0);
}

static void test_operator_is_impatient(void **state)
{
	struct ports p;

	(void)state;
	ports_init(&p, 3);
	fails(&p, 0, 1 * S);
	ports_try_now(&p, 2 * S);
	assert_int_equal(ports_choose(&p, 0), 1);
	assert_int_equal(ports_scout(&p, 2 * S), 0);
	assert_int_equal(ports_state(&p, 1, 2 * S), PORTS_GOOD);
	/* It counts as a failure of its own. */
	fails(&p, 0, 3 * S);
	assert_int_equal(p.entries[0].until_us, 63 * S);
	/* Whoever asks again and again makes it no longer. */
	for (int i = 0; i < 10; i++) {
		ports_try_now(&p, (4 + i) * S);
		fails(&p, 0, (4 + i) * S);
	}
	assert_int_equal(p.entries[0].until_us, (13 + 60) * S);
}

static void test_what_is_told(void **state)
{
	struct ports p;

	(void)state;
	ports_init(&p, 2);
	assert_false(p.entries[0].proven);
	ports_on_ok(&p, 0);
	assert_true(p.entries[0].proven);
	ports_on_failed(&p, 0, "refused", NULL, 5 * S);
	assert_false(p.entries[0].proven);
	assert_string_equal(p.entries[0].reason, "refused");
	assert_string_equal(p.entries[0].advice, "");
	/* The last reason is the one that is told. */
	fails(&p, 0, 6 * S);
	assert_string_equal(p.entries[0].reason, "timed out");
	assert_string_equal(p.entries[0].advice, "open it");
	ports_on_ok(&p, 0);
	assert_string_equal(p.entries[0].reason, "");
	for (int i = 0; i < PORTS_N_STATES; i++)
		assert_non_null(ports_state_name((enum ports_state)i));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_first_good_one_in_order),
		cmocka_unit_test(test_time_alone_brings_no_port_back),
		cmocka_unit_test(test_none_is_good),
		cmocka_unit_test(test_penalty_doubles_to_ten_minutes),
		cmocka_unit_test(test_scouts_look_at_preferred_ports_only),
		cmocka_unit_test(test_refused_for_now),
		cmocka_unit_test(test_operator_is_impatient),
		cmocka_unit_test(test_what_is_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
