/* Slices: every function at its edges, and slices without a pointer. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/slice.h"

#include <stdlib.h>
#include <string.h>

static const struct slice nothing = { NULL, 0 };

static void assert_slice(struct slice a, const char *expected)
{
	char *s = slice_dup(a);

	assert_string_equal(s, expected);
	free(s);
}

static void test_equality(void **state)
{
	static const struct {
		const char *a, *b;
		bool eq, caseeq;
	} rows[] = {
		{ "", "", true, true },
		{ "mail", "mail", true, true },
		{ "mail", "MAIL", false, true },
		{ "MaIl", "mAiL", false, true },
		{ "mail", "mai", false, false },
		{ "mai", "mail", false, false },
		{ "mail", "nail", false, false },
		/* '@' and '`', '[' and '{' differ by the bit of the case. */
		{ "@[", "`{", false, false },
		{ "\xc4", "\xe4", false, false },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct slice a = slice_str(rows[i].a);

		assert_int_equal(slice_eq_str(a, rows[i].b), rows[i].eq);
		assert_int_equal(slice_eq(a, slice_str(rows[i].b)), rows[i].eq);
		assert_int_equal(
		    slice_caseeq_str(a, rows[i].b), rows[i].caseeq);
	}
	assert_true(slice_eq(nothing, slice_str("")));
	assert_true(slice_eq_str(nothing, ""));
	assert_true(slice_caseeq_str(nothing, ""));
	assert_false(slice_eq_str(nothing, "x"));
	assert_false(slice_eq_str(slice_of("a\0b", 3), "a"));
	assert_true(slice_eq(slice_of("a\0b", 3), slice_of("a\0b", 3)));
	assert_false(slice_eq(slice_of("a\0b", 3), slice_of("a\0c", 3)));
}

static void test_prefixes(void **state)
{
	static const struct {
		const char *a, *prefix;
		bool has, hascase;
	} rows[] = {
		{ "X-SES-Tag", "X-SES-", true, true },
		{ "x-ses-tag", "X-SES-", false, true },
		{ "X-SES", "X-SES-", false, false },
		{ "X-SES-", "X-SES-", true, true },
		{ "anything", "", true, true },
		{ "", "", true, true },
		{ "", "x", false, false },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct slice a = slice_str(rows[i].a);

		assert_int_equal(
		    slice_has_prefix(a, rows[i].prefix), rows[i].has);
		assert_int_equal(
		    slice_has_caseprefix(a, rows[i].prefix), rows[i].hascase);
	}
	assert_true(slice_has_prefix(nothing, ""));
	assert_false(slice_has_caseprefix(nothing, "x"));
}

static void test_search(void **state)
{
	static const struct {
		const char *a, *needle;
		bool found;
	} rows[] = {
		{ "Maximum sending rate exceeded", "RATE", true },
		{ "aab", "ab", true }, /* the search goes back */
		{ "rate", "rate", true },
		{ "rat", "rate", false },
		{ "xrat", "rate", false },
		{ "", "x", false },
		{ "x", "", true },
		{ "", "", true },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		assert_int_equal(
		    slice_casecontains(slice_str(rows[i].a), rows[i].needle),
		    rows[i].found);
	assert_false(slice_casecontains(nothing, "x"));
	/* Never beyond the end of the slice. */
	assert_false(slice_casecontains(slice_of("rates", 3), "rate"));
}

static void test_trim(void **state)
{
	static const char *const rows[][2] = {
		{ "  a b\t", "a b" },
		{ "a", "a" },
		{ " \t ", "" },
		{ "", "" },
		{ "\ra\n", "\ra\n" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		assert_slice(slice_trim(slice_str(rows[i][0])), rows[i][1]);
	assert_int_equal(slice_trim(nothing).len, 0);
}

static void test_split(void **state)
{
	struct slice rest = slice_str("a:bc::d");

	(void)state;
	assert_slice(slice_split(&rest, ':'), "a");
	assert_slice(rest, "bc::d");
	assert_slice(slice_split(&rest, ':'), "bc");
	assert_slice(slice_split(&rest, ':'), "");
	assert_slice(rest, "d");
	assert_slice(slice_split(&rest, ':'), "d");
	assert_int_equal(rest.len, 0);
	assert_slice(slice_split(&rest, ':'), "");

	rest = slice_str("end:");
	assert_slice(slice_split(&rest, ':'), "end");
	assert_int_equal(rest.len, 0);

	rest = nothing;
	assert_int_equal(slice_split(&rest, ':').len, 0);
	assert_int_equal(rest.len, 0);
}

static void test_words(void **state)
{
	struct slice rest = slice_str(" \tfrom  to\t");

	(void)state;
	assert_slice(slice_word(&rest), "from");
	assert_slice(slice_word(&rest), "to");
	assert_slice(slice_word(&rest), "");
	assert_int_equal(rest.len, 0);
	rest = nothing;
	assert_int_equal(slice_word(&rest).len, 0);
}

static void test_decimal(void **state)
{
	static const struct {
		const char *text;
		int rc;
		uint64_t value;
	} rows[] = {
		{ "0", 0, 0 },
		{ "007", 0, 7 },
		{ "40000000", 0, 40000000 },
		{ "18446744073709551615", 0, UINT64_MAX },
		{ "18446744073709551616", -1, 0 },
		{ "18446744073709551620", -1, 0 },
		{ "99999999999999999999", -1, 0 },
		{ "", -1, 0 },
		{ "-1", -1, 0 },
		{ "+1", -1, 0 },
		{ " 1", -1, 0 },
		{ "1 ", -1, 0 },
		{ "1a", -1, 0 },
		{ "0x1", -1, 0 },
		{ "/", -1, 0 }, /* neighbours of the digits */
		{ ":", -1, 0 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		uint64_t value = 99;

		assert_int_equal(
		    slice_parse_u64(slice_str(rows[i].text), &value),
		    rows[i].rc);
		/* What cannot be parsed leaves the value alone. */
		assert_int_equal(value, rows[i].rc ? 99 : rows[i].value);
	}
	assert_int_equal(slice_parse_u64(nothing, NULL), -1);
}

static void test_hexadecimal(void **state)
{
	static const struct {
		const char *text;
		int rc;
		uint64_t value;
	} rows[] = {
		{ "0", 0, 0 },
		{ "fF", 0, 255 },
		{ "0006543A1b2c3d4e", 0, UINT64_C(0x0006543a1b2c3d4e) },
		{ "ffffffffffffffff", 0, UINT64_MAX },
		{ "0ffffffffffffffff", -1, 0 },
		{ "", -1, 0 },
		{ "g", -1, 0 },
		{ "@", -1, 0 },
		{ "`", -1, 0 },
		{ "0x1", -1, 0 },
		{ "-1", -1, 0 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		uint64_t value = 99;

		assert_int_equal(
		    slice_parse_hex(slice_str(rows[i].text), &value),
		    rows[i].rc);
		assert_int_equal(value, rows[i].rc ? 99 : rows[i].value);
	}
	assert_int_equal(slice_parse_hex(nothing, NULL), -1);
}

static void test_copies(void **state)
{
	char buf[4] = "zzz";
	char *s;

	(void)state;
	assert_int_equal(slice_copy(slice_str("ab"), buf, sizeof(buf)), 2);
	assert_string_equal(buf, "ab");
	assert_int_equal(slice_copy(slice_str("abcdef"), buf, sizeof(buf)), 3);
	assert_string_equal(buf, "abc");
	assert_int_equal(slice_copy(slice_str("abc"), buf, 1), 0);
	assert_string_equal(buf, "");
	assert_int_equal(slice_copy(nothing, buf, sizeof(buf)), 0);
	s = slice_dup(slice_of("a\0b", 3));
	assert_memory_equal(s, "a\0b", 4);
	free(s);
	s = slice_dup(nothing);
	assert_string_equal(s, "");
	free(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_equality),
		cmocka_unit_test(test_prefixes),
		cmocka_unit_test(test_search),
		cmocka_unit_test(test_trim),
		cmocka_unit_test(test_split),
		cmocka_unit_test(test_words),
		cmocka_unit_test(test_decimal),
		cmocka_unit_test(test_hexadecimal),
		cmocka_unit_test(test_copies),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
