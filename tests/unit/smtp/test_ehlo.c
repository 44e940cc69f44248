/* Keywords of an EHLO reply. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "smtp/ehlo.h"

static struct ehlo read_lines(const char *const *lines)
{
	struct ehlo e;

	ehlo_init(&e);
	for (; *lines; lines++)
		ehlo_line(&e, slice_str(*lines));
	return e;
}

static void test_ses_in_clear(void **state)
{
	static const char *const lines[] = { "email-smtp.amazonaws.com",
		"8BITMIME", "STARTTLS", "AUTH PLAIN LOGIN", "Ok", NULL };
	struct ehlo e = read_lines(lines);

	(void)state;
	assert_true(e.starttls);
	assert_true(e.eight_bit);
	assert_true(e.auth_plain);
	assert_true(e.auth_login);
	assert_false(e.size);
	assert_int_equal(e.max_size, 0);
}

static void test_ses_of_old_with_size(void **state)
{
	static const char *const lines[] = { "email-smtp.amazonaws.com",
		"SIZE 10485760", "AUTH LOGIN", "Ok", NULL };
	struct ehlo e = read_lines(lines);

	(void)state;
	assert_false(e.starttls);
	assert_false(e.eight_bit);
	assert_false(e.auth_plain);
	assert_true(e.auth_login);
	assert_true(e.size);
	assert_int_equal(e.max_size, 10485760);
}

static void test_letters_and_blanks(void **state)
{
	static const char *const lines[] = { "StartTls", " auth\tlogin  Plain ",
		"8bitmime junk", "size", NULL };
	struct ehlo e = read_lines(lines);

	(void)state;
	assert_true(e.starttls);
	assert_true(e.eight_bit);
	assert_true(e.auth_plain);
	assert_true(e.auth_login);
	assert_true(e.size);
	assert_int_equal(e.max_size, 0);
}

static void test_strange_words_offer_nothing(void **state)
{
	static const char *const lines[] = { "", "XSTARTTLS", "STARTTLSX",
		"AUTH", "AUTH PLAINX XLOGIN LOGIN-2 CRAM-MD5",
		"AUTHPLAIN PLAIN", "8BIT", "PIPELINING", "XSIZE 1", "Ok",
		NULL };
	struct ehlo e = read_lines(lines);

	(void)state;
	assert_false(e.starttls);
	assert_false(e.auth_plain);
	assert_false(e.auth_login);
	assert_false(e.eight_bit);
	assert_false(e.size);
}

static void test_strange_sizes_are_no_limit(void **state)
{
	static const char *const sizes[] = { "SIZE -1", "SIZE x", "SIZE 1e9",
		"SIZE 99999999999999999999999" };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
		const char *const lines[] = { "SIZE 5", sizes[i], NULL };
		struct ehlo e = read_lines(lines);

		assert_true(e.size);
		assert_int_equal(e.max_size, 0);
	}
}

static void test_init_forgets(void **state)
{
	static const char *const lines[] = { "STARTTLS", "AUTH PLAIN LOGIN",
		"SIZE 1", "8BITMIME", NULL };
	struct ehlo e = read_lines(lines);

	(void)state;
	ehlo_init(&e);
	assert_false(e.starttls || e.auth_plain || e.auth_login ||
	    e.eight_bit || e.size || e.max_size);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ses_in_clear),
		cmocka_unit_test(test_ses_of_old_with_size),
		cmocka_unit_test(test_letters_and_blanks),
		cmocka_unit_test(test_strange_words_offer_nothing),
		cmocka_unit_test(test_strange_sizes_are_no_limit),
		cmocka_unit_test(test_init_forgets),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
