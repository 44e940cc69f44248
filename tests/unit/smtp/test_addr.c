/*
 * Paths: what is taken, what is refused and why, and that whatever is taken
 * can be sent on as it stands.
 */
#include "smtp/addr.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define HOME "example.com"

struct path_case {
	const char *args;
	enum addr_error error;
	const char *text; /* with HOME as default domain */
	const char *rest;
};

static const struct path_case path_cases[] = {
	{ "<a@b>", ADDR_OK, "a@b", "" },
	{ " <a@b>", ADDR_OK, "a@b", "" },
	{ "< a@b >", ADDR_OK, "a@b", "" },
	{ "<a@b> SIZE=1", ADDR_OK, "a@b", " SIZE=1" },
	{ "a@b", ADDR_OK, "a@b", "" },
	{ "a@b SIZE=1 X", ADDR_OK, "a@b", " SIZE=1 X" },
	{ "<Some.One+tag=x@Mail.Example-1.COM>", ADDR_OK,
	    "Some.One+tag=x@Mail.Example-1.COM", "" },
	{ "<!#$%&'*+-/=?^_`{|}~@b>", ADDR_OK, "!#$%&'*+-/=?^_`{|}~@b", "" },
	{ "<-a@b>", ADDR_OK, "-a@b", "" },
	{ "<.a..b.@c>", ADDR_OK, ".a..b.@c", "" },
	{ "<a@my_host.internal>", ADDR_OK, "a@my_host.internal", "" },
	{ "<a@[127.0.0.1]>", ADDR_OK, "a@[127.0.0.1]", "" },
	{ "<a@[IPv6:2001:db8::1]>", ADDR_OK, "a@[IPv6:2001:db8::1]", "" },
	{ "<\"a b\"@c>", ADDR_OK, "\"a b\"@c", "" },
	{ "\"a b\"@c X=1", ADDR_OK, "\"a b\"@c", " X=1" },
	{ "<\"a>b\"@c> X", ADDR_OK, "\"a>b\"@c", " X" },
	{ "<\"a\\\"> b\"@c>", ADDR_OK, "\"a\\\"> b\"@c", "" },
	{ "<\"a@b\"@c>", ADDR_OK, "\"a@b\"@c", "" },
	{ "<@x,@y.z:a@b>", ADDR_OK, "a@b", "" },
	{ "<@x:a>", ADDR_OK, "a@" HOME, "" },
	{ "root", ADDR_OK, "root@" HOME, "" },
	{ "<root> SIZE=1", ADDR_OK, "root@" HOME, " SIZE=1" },
	{ "<\"my root\">", ADDR_OK, "\"my root\"@" HOME, "" },
	{ "<> SIZE=1", ADDR_OK, "", " SIZE=1" },
	{ "< >", ADDR_OK, "", "" },

	{ "", ADDR_SYNTAX, NULL, NULL },
	{ " ", ADDR_SYNTAX, NULL, NULL },
	{ "<", ADDR_SYNTAX, NULL, NULL },
	{ ">", ADDR_SYNTAX, NULL, NULL },
	{ "<a@b", ADDR_SYNTAX, NULL, NULL },
	{ "a@b>", ADDR_SYNTAX, NULL, NULL },
	{ "<<a@b>>", ADDR_SYNTAX, NULL, NULL },
	{ "<a@b>>", ADDR_SYNTAX, NULL, NULL },
	{ "<a@b>SIZE=1", ADDR_SYNTAX, NULL, NULL },
	{ "<a@b><c@d>", ADDR_SYNTAX, NULL, NULL },
	{ "<a@b,c@d>", ADDR_SYNTAX, NULL, NULL },
	{ "a@b,c@d", ADDR_SYNTAX, NULL, NULL },
	{ "<a b@c>", ADDR_SYNTAX, NULL, NULL },
	{ "<a@b c>", ADDR_SYNTAX, NULL, NULL },
	{ "<@>", ADDR_SYNTAX, NULL, NULL },
	{ "<a@>", ADDR_SYNTAX, NULL, NULL },
	{ "<@b>", ADDR_SYNTAX, NULL, NULL },
	{ "<a@@b>", ADDR_SYNTAX, NULL, NULL },
	{ "<a@b@c>", ADDR_SYNTAX, NULL, NULL },
	{ "<a@.b>", ADDR_SYNTAX, NULL, NULL },
	{ "<a@b.>", ADDR_SYNTAX, NULL, NULL },
	{ "<a@b..c>", ADDR_SYNTAX, NULL, NULL },
	{ "<a@-b>", ADDR_SYNTAX, NULL, NULL },
	{ "<a@b-.c>", ADDR_SYNTAX, NULL, NULL },
	{ "<a@b;c>", ADDR_SYNTAX, NULL, NULL },
	{ "<a@[]>", ADDR_SYNTAX, NULL, NULL },
	{ "<a@[127.0.0]>", ADDR_SYNTAX, NULL, NULL },
	{ "<a@[127.0.0.256]>", ADDR_SYNTAX, NULL, NULL },
	{ "<a@[127.0.0.1>", ADDR_SYNTAX, NULL, NULL },
	{ "<a@[IPv6:::g]>", ADDR_SYNTAX, NULL, NULL },
	{ "<a@[::1]>", ADDR_SYNTAX, NULL, NULL },
	{ "<a@[x:y]>", ADDR_SYNTAX, NULL, NULL },
	{ "<;cmd;>", ADDR_SYNTAX, NULL, NULL },
	{ "<;cmd;@>", ADDR_SYNTAX, NULL, NULL },
	{ "<a;b@c>", ADDR_SYNTAX, NULL, NULL },
	{ "<a(c)@b>", ADDR_SYNTAX, NULL, NULL },
	{ "<a\\@b@c>", ADDR_SYNTAX, NULL, NULL },
	{ "<a\\>", ADDR_SYNTAX, NULL, NULL },
	{ "<\"a@b>", ADDR_SYNTAX, NULL, NULL },
	{ "<\"a\\\"@b>", ADDR_SYNTAX, NULL, NULL },
	{ "<\"a\\", ADDR_SYNTAX, NULL, NULL },
	{ "<\"\"@b>", ADDR_SYNTAX, NULL, NULL },
	{ "<\"a\"b@c>", ADDR_SYNTAX, NULL, NULL },
	{ "<a\"b\"@c>", ADDR_SYNTAX, NULL, NULL },
	{ "<@x>", ADDR_SYNTAX, NULL, NULL },
	{ "<@x:>", ADDR_SYNTAX, NULL, NULL },
	{ "<@:a@b>", ADDR_SYNTAX, NULL, NULL },
	{ "<@x,:a@b>", ADDR_SYNTAX, NULL, NULL },
	{ "<@x,y:a@b>", ADDR_SYNTAX, NULL, NULL },
	{ "<@x y:a@b>", ADDR_SYNTAX, NULL, NULL },

	/* Injection: whatever a line end may be to somebody. */
	{ "<a@b>\r\nRCPT TO:<x@y>", ADDR_SYNTAX, NULL, NULL },
	{ "<a@b\r\nRCPT TO:<x@y>", ADDR_SYNTAX, NULL, NULL },
	{ "<a@b\n>", ADDR_SYNTAX, NULL, NULL },
	{ "<a@b\r>", ADDR_SYNTAX, NULL, NULL },
	{ "<a\r\n @b>", ADDR_SYNTAX, NULL, NULL },
	{ "<\"a\r\nb\"@c>", ADDR_SYNTAX, NULL, NULL },
	{ "<\"a\\\nb\"@c>", ADDR_SYNTAX, NULL, NULL },
	{ "<\"a\tb\"@c>", ADDR_SYNTAX, NULL, NULL },
	{ "<a\x01@b>", ADDR_SYNTAX, NULL, NULL },
	{ "<a\x1f@b>", ADDR_SYNTAX, NULL, NULL },
	{ "<a\x7f@b>", ADDR_SYNTAX, NULL, NULL },
	{ "<a@b\x0b>", ADDR_SYNTAX, NULL, NULL },
	{ "<a%0d%0a@b%0d%0a>", ADDR_SYNTAX, NULL, NULL },
	{ "<a\xc2\x85@b>", ADDR_NON_ASCII, NULL, NULL },
	{ "<a@b\xe2\x80\xa8>", ADDR_NON_ASCII_DOMAIN, NULL, NULL },
	{ "<a\xe2\x80\xa9@b>", ADDR_NON_ASCII, NULL, NULL },
	{ "<j\xc3\xb6@b>", ADDR_NON_ASCII, NULL, NULL },
	{ "j\xc3\xb6@b", ADDR_NON_ASCII, NULL, NULL },
	{ "<a@m\xc3\xbcll.de> SMTPUTF8", ADDR_NON_ASCII_DOMAIN, NULL, NULL },
	{ "<j\xc3\xb6@m\xc3\xbcll.de>", ADDR_NON_ASCII, NULL, NULL },
	{ "<\"j\xc3\xb6\"@b>", ADDR_NON_ASCII, NULL, NULL },
	{ "<j\xf6@b>", ADDR_NON_ASCII, NULL, NULL },
	{ "<\x80>", ADDR_NON_ASCII, NULL, NULL },
	{ "<j\xf6@b", ADDR_NON_ASCII, NULL, NULL },
};

static void test_paths(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(path_cases); i++) {
		const struct path_case *c = &path_cases[i];
		struct slice args = slice_str(c->args);
		struct addr addr;
		enum addr_error error =
		    addr_parse_path(&args, true, HOME, &addr);

		if (error != c->error)
			fail_msg("\"%s\": error %d", c->args, error);
		if (error != ADDR_OK)
			continue;
		if (strcmp(addr.text, c->text) != 0)
			fail_msg("\"%s\": \"%s\"", c->args, addr.text);
		if (!slice_eq_str(args, c->rest))
			fail_msg("\"%s\": rest \"%.*s\"", c->args,
			    (int)args.len, args.ptr);
	}
}

static enum addr_error parse(
    const char *ptr, size_t len, bool null_ok, const char *home)
{
	struct slice args = slice_of(ptr, len);
	struct addr addr;

	return addr_parse_path(&args, null_ok, home, &addr);
}

static void test_nul_is_refused_everywhere(void **state)
{
	static const char path[] = "<ab@c.d>";
	size_t len = sizeof(path) - 1;

	(void)state;
	for (size_t i = 0; i <= len; i++) {
		char with[sizeof(path) + 1];

		memcpy(with, path, i);
		with[i] = '\0';
		memcpy(with + i + 1, path + i, len - i);
		assert_int_equal(parse(with, len + 1, true, HOME), ADDR_SYNTAX);
	}
	assert_int_equal(
	    parse("<a@[127.0.0.1\0]>", 16, true, HOME), ADDR_SYNTAX);
	assert_int_equal(parse("<\"a\0\"@b>", 8, true, HOME), ADDR_SYNTAX);
	assert_int_equal(parse(NULL, 0, true, HOME), ADDR_SYNTAX);
}

static void test_null_path_and_bare_names(void **state)
{
	(void)state;
	assert_int_equal(parse("<>", 2, true, NULL), ADDR_OK);
	assert_int_equal(parse("<>", 2, false, NULL), ADDR_SYNTAX);
	assert_int_equal(parse("<root>", 6, true, NULL), ADDR_UNQUALIFIED);
	assert_int_equal(parse("root", 4, false, NULL), ADDR_UNQUALIFIED);
	assert_int_equal(parse("<root@>", 7, false, HOME), ADDR_SYNTAX);
}

/* A path of `local` and `domain` octets; the domain has labels of up to 49. */
static enum addr_error parse_sized(size_t local, size_t domain, bool quoted)
{
	char text[2048];
	size_t n = 0;

	text[n++] = '<';
	for (size_t i = 0; i < local; i++)
		text[n++] = quoted && (i == 0 || i == local - 1) ? '"' : 'l';
	if (domain > 0)
		text[n++] = '@';
	for (size_t i = 0; i < domain; i++)
		text[n++] = i % 50 == 49 && i < domain - 1 ? '.' : 'd';
	text[n++] = '>';
	return parse(text, n, false, "0123456789.com");
}

static void test_lengths(void **state)
{
	(void)state;
	assert_int_equal(parse_sized(64, 10, false), ADDR_OK);
	assert_int_equal(parse_sized(65, 10, false), ADDR_TOO_LONG);
	assert_int_equal(parse_sized(64, 10, true), ADDR_OK);
	assert_int_equal(parse_sized(65, 10, true), ADDR_TOO_LONG);
	assert_int_equal(parse_sized(64, 189, false), ADDR_OK);
	assert_int_equal(parse_sized(64, 190, false), ADDR_TOO_LONG);
	assert_int_equal(parse_sized(3, 250, false), ADDR_OK);
	assert_int_equal(parse_sized(4, 250, false), ADDR_TOO_LONG);
	assert_int_equal(parse_sized(1, 1000, false), ADDR_TOO_LONG);
	assert_int_equal(parse_sized(1000, 1, false), ADDR_TOO_LONG);
	assert_int_equal(parse_sized(64, 0, false), ADDR_OK);
	assert_int_equal(parse_sized(65, 0, false), ADDR_TOO_LONG);
}

static void test_completion_is_bounded(void **state)
{
	char home[ADDR_MAX + 1];

	(void)state;
	memset(home, 'h', sizeof(home));
	home[ADDR_MAX - 2] = '\0';
	assert_int_equal(parse("a", 1, false, home), ADDR_OK);
	assert_int_equal(parse("ab", 2, false, home), ADDR_TOO_LONG);
}

static void test_label_lengths(void **state)
{
	char text[80] = "<a@";

	(void)state;
	memset(text + 3, 'd', 64);
	text[3 + 63] = '>';
	assert_int_equal(parse(text, 67, false, NULL), ADDR_OK);
	text[3 + 63] = 'd';
	text[3 + 64] = '>';
	assert_int_equal(parse(text, 68, false, NULL), ADDR_SYNTAX);
}

/* What is accepted is printable and is read again as the same address. */
static void check_round_trip(const char *ptr, size_t len)
{
	struct slice args = slice_of(ptr, len);
	struct addr first, second;
	char again[ADDR_MAX + 3];
	int n;

	if (addr_parse_path(&args, true, HOME, &first) != ADDR_OK)
		return;
	for (const char *p = first.text; *p; p++)
		assert_in_range((unsigned char)*p, ' ', '~');
	n = snprintf(again, sizeof(again), "<%s>", first.text);
	args = slice_of(again, (size_t)n);
	assert_int_equal(addr_parse_path(&args, true, NULL, &second), ADDR_OK);
	assert_int_equal(args.len, 0);
	assert_string_equal(first.text, second.text);
}

static void test_whatever_is_accepted_reads_back(void **state)
{
	static const char alphabet[] = "<>@\"\\ a.,:[]-1\r\n\0\t\x80;";
	const size_t n_letters = sizeof(alphabet) - 1;
	unsigned seed = 4711;

	(void)state;
	for (int i = 0; i < 400000; i++) {
		char text[16];
		size_t len = (size_t)(rand_r(&seed) % 15);

		for (size_t k = 0; k < len; k++)
			text[k] = alphabet[(size_t)rand_r(&seed) % n_letters];
		check_round_trip(text, len);
	}
	/* And near misses: one byte of something good is changed. */
	for (size_t i = 0; i < ARRAY_LEN(path_cases); i++) {
		char text[128];
		size_t len = strlen(path_cases[i].args);

		for (size_t k = 0; k < len; k++) {
			memcpy(text, path_cases[i].args, len);
			for (int byte = 0; byte < 256; byte++) {
				text[k] = (char)byte;
				check_round_trip(text, len);
			}
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_paths),
		cmocka_unit_test(test_nul_is_refused_everywhere),
		cmocka_unit_test(test_null_path_and_bare_names),
		cmocka_unit_test(test_lengths),
		cmocka_unit_test(test_completion_is_bounded),
		cmocka_unit_test(test_label_lengths),
		cmocka_unit_test(test_whatever_is_accepted_reads_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
