/* Allocation: copies, amounts of nothing, and the end of memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/mem.h"
#include "child.h"

#include <signal.h>
#include <string.h>

static void test_nothing_is_something(void **state)
{
	void *p;

	(void)state;
	p = xmalloc(0);
	assert_non_null(p);
	p = xrealloc(p, 0);
	assert_non_null(p);
	free(p);
	p = xcalloc(0, 8);
	assert_non_null(p);
	free(p);
	p = xmemdup(NULL, 0);
	assert_non_null(p);
	free(p);
}

static void test_calloc_zeroes(void **state)
{
	static const char zero[512];
	char *p = xmalloc(sizeof(zero));

	(void)state;
	/* Leave something behind where the next one is likely to be. */
	memset(p, 'x', sizeof(zero));
	free(p);
	p = xcalloc(64, 8);
	assert_memory_equal(p, zero, sizeof(zero));
	free(p);
}

static void test_realloc_keeps_content(void **state)
{
	char *p = xstrdup("content");

	(void)state;
	p = xrealloc(p, 100000);
	assert_string_equal(p, "content");
	free(p);
}

static void test_strndup_cuts_and_terminates(void **state)
{
	static const char unterminated[3] = { 'a', 'b', 'c' };
	static const struct {
		const char *in;
		size_t n;
		const char *out;
	} rows[] = {
		{ "hello", 3, "hel" },
		{ "hello", 5, "hello" },
		{ "hello", 50, "hello" },
		{ "hello", 0, "" },
		{ unterminated, 3, "abc" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char *s = xstrndup(rows[i].in, rows[i].n);

		assert_string_equal(s, rows[i].out);
		free(s);
	}
}

static void test_memdup_copies_any_byte(void **state)
{
	char *p = xmemdup("a\0b", 3);

	(void)state;
	assert_memory_equal(p, "a\0b", 3);
	free(p);
}

static void test_asprintf_formats(void **state)
{
	char *s = xasprintf("%s-%d", "x", 5);

	(void)state;
	assert_string_equal(s, "x-5");
	free(s);
}

/* Volatile: the compiler knows that these cannot be had. */
static volatile size_t too_much = SIZE_MAX / 2;

static void exhaust_malloc(void)
{
	free(xmalloc(too_much));
}

static void exhaust_calloc(void)
{
	free(xcalloc(too_much, 8));
}

static void exhaust_realloc(void)
{
	free(xrealloc(NULL, too_much));
}

static void test_out_of_memory_aborts(void **state)
{
	static void (*const fns[])(void) = {
		exhaust_malloc,
		exhaust_calloc,
		exhaust_realloc,
	};

	(void)state;
	for (size_t i = 0; i < sizeof(fns) / sizeof(fns[0]); i++) {
		struct child_end end = child_run(fns[i]);

		/* A sanitizer ends the process in its own way. */
		assert_false(
		    WIFEXITED(end.status) && WEXITSTATUS(end.status) == 0);
		if (WIFSIGNALED(end.status)) {
			assert_int_equal(WTERMSIG(end.status), SIGABRT);
			assert_non_null(strstr(end.text, "out of memory"));
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nothing_is_something),
		cmocka_unit_test(test_calloc_zeroes),
		cmocka_unit_test(test_realloc_keeps_content),
		cmocka_unit_test(test_strndup_cuts_and_terminates),
		cmocka_unit_test(test_memdup_copies_any_byte),
		cmocka_unit_test(test_asprintf_formats),
		cmocka_unit_test(test_out_of_memory_aborts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
