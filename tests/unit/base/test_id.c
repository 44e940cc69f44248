/* Queue ids: always greater, one form. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/id.h"

static void test_ids_follow_the_clock(void **state)
{
	(void)state;
	id_init(0);
	assert_int_equal(id_new(1795255201123456), 1795255201123456);
	assert_int_equal(id_new(1795255201123999), 1795255201123999);
	assert_int_equal(id_last(), 1795255201123999);
}

static void test_ids_grow_whatever_the_clock_does(void **state)
{
	static const int64_t walls[] = { 1000, 1000, 1000, 999, 0, -7,
		INT64_MIN, 1001, 1006, 1007, 1007, 5000 };
	uint64_t before = 0;

	(void)state;
	id_init(0);
	for (size_t i = 0; i < ARRAY_LEN(walls); i++) {
		uint64_t id = id_new(walls[i]);

		assert_true(id > before);
		assert_int_equal(id, id_last());
		before = id;
	}
	assert_int_equal(before, 5000); /* caught up */
}

static void test_ids_are_above_the_floor(void **state)
{
	(void)state;
	id_init(9000);
	assert_int_equal(id_last(), 9000);
	assert_int_equal(id_new(1000), 9001);
	assert_int_equal(id_new(9002), 9002);
}

static void test_zero_is_never_given(void **state)
{
	(void)state;
	id_init(0);
	assert_int_equal(id_new(0), 1);
}

static void test_format_and_parse_are_inverse(void **state)
{
	static const struct {
		uint64_t id;
		const char *text;
	} rows[] = {
		{ 0, "0000000000000000" },
		{ UINT64_C(0x0006543a1b2c3d4e), "0006543A1B2C3D4E" },
		{ UINT64_MAX, "FFFFFFFFFFFFFFFF" },
		{ UINT64_C(0x0123456789abcdef), "0123456789ABCDEF" },
	};
	char buf[ID_BUF];
	uint64_t id;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		assert_ptr_equal(id_format(rows[i].id, buf), buf);
		assert_string_equal(buf, rows[i].text);
		id = 99;
		assert_int_equal(id_parse(slice_str(buf), &id), 0);
		assert_int_equal(id, rows[i].id);
	}
	assert_int_equal(id_parse(slice_str("0006543a1b2c3d4e"), &id), 0);
	assert_int_equal(id, UINT64_C(0x0006543a1b2c3d4e));
}

static void test_what_is_no_id_is_refused(void **state)
{
	static const char *const rows[] = {
		"",
		"0006543A1B2C3D4",
		"0006543A1B2C3D4E0",
		"0006543A1B2C3D4G",
		" 006543A1B2C3D4E",
		"0x06543A1B2C3D4E",
		"../../etc/passwd",
	};
	uint64_t id = 99;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		assert_int_equal(id_parse(slice_str(rows[i]), &id), -1);
	assert_int_equal(id_parse(slice_of("0006543A1B2C3D4\0", 16), &id), -1);
	assert_int_equal(id, 99);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ids_follow_the_clock),
		cmocka_unit_test(test_ids_grow_whatever_the_clock_does),
		cmocka_unit_test(test_ids_are_above_the_floor),
		cmocka_unit_test(test_zero_is_never_given),
		cmocka_unit_test(test_format_and_parse_are_inverse),
		cmocka_unit_test(test_what_is_no_id_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
