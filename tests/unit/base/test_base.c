/* The ends of a process and the reasons of failures. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/base.h"
#include "child.h"

#include <errno.h>
#include <signal.h>
#include <string.h>

static void fail_assertion(void)
{
	int one = 1;

	ASSERT(one == 2);
}

static void fail_for_good(void)
{
	fatal("no %s left", "threads");
}

static void fail_at_length(void)
{
	char word[2000];

	memset(word, 'x', sizeof(word) - 1);
	word[sizeof(word) - 1] = '\0';
	fatal("%s", word);
}

static void assert_aborted(const struct child_end *end)
{
	assert_true(WIFSIGNALED(end->status));
	assert_int_equal(WTERMSIG(end->status), SIGABRT);
}

static void test_assertion_names_condition_and_place(void **state)
{
	struct child_end end = child_run(fail_assertion);

	(void)state;
	assert_aborted(&end);
	assert_non_null(strstr(end.text, "assertion failed: one == 2\n"));
	assert_non_null(strstr(end.text, "test_base.c:"));
}

static void test_true_assertion_is_silent_and_evaluated_once(void **state)
{
	int n = 0;

	(void)state;
	ASSERT(++n == 1);
	assert_int_equal(n, 1);
}

static void test_fatal_says_why_and_aborts(void **state)
{
	struct child_end end = child_run(fail_for_good);

	(void)state;
	assert_aborted(&end);
	assert_string_equal(end.text, "no threads left\n");
}

static void test_fatal_cuts_what_is_too_long(void **state)
{
	struct child_end end = child_run(fail_at_length);
	size_t len = strlen(end.text);

	(void)state;
	assert_aborted(&end);
	assert_in_range(len, 100, 512);
	assert_int_equal(end.text[len - 1], '\n');
}

static void test_err_set_fills_and_returns_minus_one(void **state)
{
	struct err err;

	(void)state;
	assert_int_equal(err_set(&err, EPERM, "no %d", 7), -1);
	assert_int_equal(err.code, EPERM);
	assert_string_equal(err.text, "no 7");
	assert_int_equal(err_set(NULL, 0, "nobody asks"), -1);
}

static void test_err_sys_appends_errno_and_keeps_it(void **state)
{
	struct err err;

	(void)state;
	errno = ENOENT;
	assert_int_equal(err_sys(&err, "cannot open %s", "x"), -1);
	assert_int_equal(err.code, ENOENT);
	assert_string_equal(
	    err.text, "cannot open x: No such file or directory");
	assert_int_equal(errno, ENOENT);
	assert_int_equal(err_sys(NULL, "nobody asks"), -1);
}

static void test_err_cuts_what_is_too_long(void **state)
{
	char word[1000];
	struct err err;

	(void)state;
	memset(word, 'x', sizeof(word) - 1);
	word[sizeof(word) - 1] = '\0';
	errno = EIO;
	err_sys(&err, "%s", word);
	assert_int_equal(strlen(err.text), sizeof(err.text) - 1);
	err_set(&err, 0, "%s", word);
	assert_int_equal(strlen(err.text), sizeof(err.text) - 1);
}

static void test_container_of_finds_the_struct(void **state)
{
	struct outer {
		char before[3];
		int member;
	} outer;

	(void)state;
	assert_ptr_equal(
	    CONTAINER_OF(&outer.member, struct outer, member), &outer);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_assertion_names_condition_and_place),
		cmocka_unit_test(
		    test_true_assertion_is_silent_and_evaluated_once),
		cmocka_unit_test(test_fatal_says_why_and_aborts),
		cmocka_unit_test(test_fatal_cuts_what_is_too_long),
		cmocka_unit_test(test_err_set_fills_and_returns_minus_one),
		cmocka_unit_test(test_err_sys_appends_errno_and_keeps_it),
		cmocka_unit_test(test_err_cuts_what_is_too_long),
		cmocka_unit_test(test_container_of_finds_the_struct),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
