/* What was learned survives as text, and only for whom it was learned. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "policy/learned.h"

#define HEAD "sesrelayd-learned 1\nendpoint smtp.example.net\nusername AKIA1\n"

static const struct learned all = {
	.rate = 13.25,
	.session_messages = 35,
	.session_age_us = 18500000,
	.mss = 1220,
};

static bool parse(const char *text, struct learned *l)
{
	memset(l, 0xff, sizeof *l);
	return learned_parse(slice_str(text), "smtp.example.net", "AKIA1", l);
}

static void assert_nothing(const struct learned *l)
{
	assert_true(l->rate == 0);
	assert_int_equal(l->session_messages, 0);
	assert_int_equal(l->session_age_us, 0);
	assert_int_equal(l->mss, 0);
}

static void test_there_and_back(void **state)
{
	char *text = learned_format(&all, "smtp.example.net", "AKIA1");
	struct learned l;

	(void)state;
	assert_string_equal(text,
	    HEAD "rate 13.250000\nsession-messages 35\n"
		 "session-age 18.500000\nmss 1220\n");
	assert_true(parse(text, &l));
	assert_true(l.rate == 13.25);
	assert_int_equal(l.session_messages, 35);
	assert_int_equal(l.session_age_us, 18500000);
	assert_int_equal(l.mss, 1220);
	assert_false(learned_differs(&l, &all));
	free(text);

	l = (struct learned){ .rate = 0.4 };
	text = learned_format(&l, "smtp.example.net", "AKIA1");
	assert_string_equal(text, HEAD "rate 0.400000\n");
	assert_true(parse(text, &l));
	assert_true(l.rate > 0.39999 && l.rate < 0.40001);
	assert_int_equal(l.mss, 0);
	free(text);
}

static void test_of_another(void **state)
{
	static const char *const names[][2] = {
		{ "smtp.example.com", "AKIA1" },
		{ "smtp.example.net", "AKIA2" },
		{ "smtp.example.net", NULL },
		{ "smtp.example.ne", "AKIA1" },
		{ "smtp.example.net", "AKIA1x" },
	};
	struct learned l;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		char *text = learned_format(&all, names[i][0], names[i][1]);

		assert_false(parse(text, &l));
		assert_nothing(&l);
		free(text);
	}
}

/* Whatever stands in a user name, it stays on its line. */
static void test_odd_names(void **state)
{
	const char *user = "a b\nmss 100\n\x7f";
	char *text = learned_format(&all, "h", user);
	struct learned l;

	(void)state;
	assert_true(learned_parse(slice_str(text), "h", user, &l));
	assert_int_equal(l.mss, 1220);
	free(text);
	text = learned_format(&all, "h", NULL);
	assert_true(learned_parse(slice_str(text), "h", NULL, &l));
	assert_false(learned_parse(slice_str(text), "h", "AKIA1", &l));
	free(text);
}

static void test_cut_off(void **state)
{
	char *text = learned_format(&all, "smtp.example.net", "AKIA1");
	struct learned l;

	(void)state;
	for (size_t len = 0; len < strlen(text); len++) {
		bool ok = learned_parse(
		    slice_of(text, len), "smtp.example.net", "AKIA1", &l);

		/* At the end of a line it is a whole text. */
		assert_int_equal(
		    ok, len >= strlen(HEAD) && text[len - 1] == '\n');
		if (!ok)
			assert_nothing(&l);
	}
	free(text);
}

static void test_refused(void **state)
{
	static const char *const bad[] = {
		"",
		"sesrelayd-learned 2\nendpoint smtp.example.net\n"
		"username AKIA1\nmss 1220\n",
		"endpoint smtp.example.net\nusername AKIA1\nmss 1220\n",
		HEAD "mss 1220\n\n",
		HEAD "mss 1220\nrate\n",
		HEAD "mss 1220\nrate \n",
		HEAD "mss 1220\nrate -1\n",
		HEAD "mss 1220\nrate 0\n",
		HEAD "mss 1220\nrate nan\n",
		HEAD "mss 1220\nrate inf\n",
		HEAD "mss 1220\nrate 1e3\n",
		HEAD "mss 1220\nrate 0x10\n",
		HEAD "mss 1220\nrate 1.\n",
		HEAD "mss 1220\nrate .5\n",
		HEAD "mss 1220\nrate 1.1234567\n",
		HEAD "mss 1220\nrate 1000001\n",
		HEAD "mss 1220\nrate 99999999999999999999\n",
		HEAD "mss 1220\nsession-messages 0\n",
		HEAD "mss 1220\nsession-messages 1000001\n",
		HEAD "mss 1220\nsession-messages 4294967297\n",
		HEAD "mss 1220\nsession-messages 3 \n",
		HEAD "mss 1220\nsession-age 0.000000\n",
		HEAD "mss 1220\nsession-age 86400.000001\n",
		HEAD "mss 1220\nsession-age 18446744073709.6\n",
		HEAD "mss 87\n",
		HEAD "mss 65496\n",
		HEAD "mss -1220\n",
	};
	struct learned l;
	char *big;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		assert_false(parse(bad[i], &l));
		assert_nothing(&l);
	}
	big = malloc(LEARNED_TEXT_MAX + 2);
	memset(big, 'x', LEARNED_TEXT_MAX + 1);
	big[LEARNED_TEXT_MAX + 1] = '\0';
	memcpy(big, HEAD "x ", strlen(HEAD "x "));
	big[LEARNED_TEXT_MAX] = '\n';
	assert_false(parse(big, &l));
	big[LEARNED_TEXT_MAX - 1] = '\n';
	big[LEARNED_TEXT_MAX] = '\0';
	assert_true(parse(big, &l));
	free(big);
}

static void test_later_versions_may_know_more(void **state)
{
	struct learned l;

	(void)state;
	assert_true(parse(HEAD "colour dark blue\nmss 1220\n", &l));
	assert_int_equal(l.mss, 1220);
}

static void test_absurd_values_are_not_written(void **state)
{
	const struct learned absurd = {
		.rate = 1e300,
		.session_messages = UINT32_MAX,
		.session_age_us = -1,
		.mss = 1,
	};
	char *text = learned_format(&absurd, "smtp.example.net", "AKIA1");

	(void)state;
	assert_string_equal(text, HEAD);
	free(text);
}

static void test_differs(void **state)
{
	struct learned l = all;

	(void)state;
	l.rate = all.rate * 1.09;
	assert_false(learned_differs(&l, &all));
	assert_false(learned_differs(&all, &l));
	l.rate = all.rate * 1.11;
	assert_true(learned_differs(&l, &all));
	assert_true(learned_differs(&all, &l));
	l.rate = 0;
	assert_true(learned_differs(&l, &all));
	assert_true(learned_differs(&all, &l));
	l = all;
	l.session_messages++;
	assert_true(learned_differs(&l, &all));
	l = all;
	l.session_age_us--;
	assert_true(learned_differs(&l, &all));
	l = all;
	l.mss = 0;
	assert_true(learned_differs(&l, &all));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_there_and_back),
		cmocka_unit_test(test_of_another),
		cmocka_unit_test(test_odd_names),
		cmocka_unit_test(test_cut_off),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_later_versions_may_know_more),
		cmocka_unit_test(test_absurd_values_are_not_written),
		cmocka_unit_test(test_differs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
