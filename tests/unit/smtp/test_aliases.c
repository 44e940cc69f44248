/*
 * aliases(5): what is understood, what is refused with which line and words,
 * and what a name stands for in the end.
 */
#include "smtp/aliases.h"

#include "base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define HOME "example.com"

static struct aliases *must_parse(const char *text, const char *domain)
{
	struct err err;
	struct aliases *a = aliases_parse(slice_str(text), domain, &err);

	if (a == NULL)
		fail_msg("\"%s\": %s", text, err.text);
	return a;
}

/* What was emitted, with blanks between. */
struct list {
	char text[4096];
	unsigned n;
};

static void append(void *ctx, const char *addr)
{
	struct list *list = ctx;
	size_t used = strlen(list->text);

	snprintf(list->text + used, sizeof(list->text) - used, "%s%s",
	    used > 0 ? " " : "", addr);
	list->n++;
}

static void check(const struct aliases *a, const char *name, const char *want)
{
	struct list list = { 0 };
	unsigned n = aliases_expand(a, name, append, &list);

	assert_int_equal(n, list.n);
	if (strcmp(list.text, want) != 0)
		fail_msg("%s is \"%s\", not \"%s\"", name, list.text, want);
}

static void test_understood(void **state)
{
	static const struct {
		const char *text, *name, *addresses;
	} rows[] = {
		{ "", "root", "" },
		{ "# nothing\n\n  \n\t# either", "root", "" },
		{ "root: a@b.c", "root", "a@b.c" },
		{ "root: a@b.c\n", "postmaster", "" },
		{ "root:a@b.c,d@e.f\r\n", "root", "a@b.c d@e.f" },
		{ "root : a@b.c ,\td@e.f , \n", "root", "a@b.c d@e.f" },
		{ "root:\n a@b.c,\n# a comment\n\n\td@e.f\nx: y@z.z", "root",
		    "a@b.c d@e.f" },
		{ "Root: a@b.c", "rOOT", "a@b.c" },
		{ "root: a@b.c", "root@Example.COM", "a@b.c" },
		{ "root@example.com: a@b.c", "root", "a@b.c" },
		{ "root: a@b.c", "root@example.net", "" },
		{ "root: ops", "root", "ops@" HOME },
		{ "root: Ops\nOPS: a@b.c", "root", "a@b.c" },
		{ "root: ops@EXAMPLE.com\nops: a@b.c", "root", "a@b.c" },
		{ "root: ops@example.net\nops: a@b.c", "root",
		    "ops@example.net" },
		/* Behind a backslash, or in its own list: the mailbox. */
		{ "root: \\ops\nops: a@b.c", "root", "ops@" HOME },
		{ "root: \\root, a@b.c", "root", "root@" HOME " a@b.c" },
		{ "root: ROOT, a@b.c", "root", "ROOT@" HOME " a@b.c" },
		/* Each once, where it came first. */
		{ "a: b, c, d@e.f\nb: d@e.f, g@h.i\nc: b, j@k.l", "a",
		    "d@e.f g@h.i j@k.l" },
		/* Quotes. */
		{ "\"c d\": a@b.c", "\"C D\"", "a@b.c" },
		{ "\"c d\": a@b.c", "\"c d\"@" HOME, "a@b.c" },
		{ "\"root\": a@b.c", "root", "a@b.c" },
		{ "root: \"c d\"@e.f", "root", "\"c d\"@e.f" },
		{ "root: \"c, d\", a@b.c", "root", "\"c, d\"@" HOME " a@b.c" },
		{ "root: \"a@b.c\"", "root", "a@b.c" },
		{ "\"a:b\": a@b.c", "\"a:b\"", "a@b.c" },
		{ "\"x@y\": a@b.c", "\"x@y\"", "a@b.c" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct aliases *a = must_parse(rows[i].text, HOME);

		check(a, rows[i].name, rows[i].addresses);
		aliases_free(a);
	}
}

static void test_refused(void **state)
{
	static const struct {
		const char *text, *message; /* its beginning */
	} rows[] = {
		{ "a: b@c.d\nx: |/bin/vacation",
		    "2: \"|/bin/vacation\" is a program; sesrelayd runs none: "
		    "name an address" },
		{ "x: \"|/bin/vacation me\", a@b.c",
		    "1: \"|/bin/vacation me\", a@b.c\" is a program" },
		{ "x: /var/mail/x", "1: \"/var/mail/x\" is a file" },
		{ "x: \"/var/mail/x\"", "1: \"/var/mail/x\"\" is a file" },
		{ "x: a@b.c,\n :include:/etc/list",
		    "2: \":include:/etc/list\" is not followed" },
		{ ":include:/etc/more", "1: \":include:/etc/more\": only" },
		{ "+nis", "1: \"+nis\": only \"name: address" },
		{ "root", "1: a colon is missing behind \"root\"" },
		{ "  root: a@b.c", "1: begins with a blank" },
		{ "root:\nx: a@b.c", "1: root has no address" },
		{ "root: , ,", "1: root has no address" },
		{ "root: a b", "1: a comma is missing before \"b\"" },
		{ "root: a@b.c # me", "1: a comma is missing before \"# me\"" },
		{ "root: a@b.c\n d@e.f", "2: a comma is missing" },
		{ "root: \"a", "1: a quote has no end" },
		{ "\"root: a", "1: a quote has no end" },
		{ "root: a@", "1: \"a@\" is no name or address" },
		{ "root: @b.c:|cmd", "1: \"@b.c:|cmd\" is no name" },
		{ "root: \"@b.c:/dev/null\"", "1: \"@b.c:/dev/null\" is no" },
		{ "root: <a@b.c>", "1: \"<a@b.c>\" is no name" },
		{ "root: j\xc3\xb6@b.c", "1: \"j??@b.c\" is no name" },
		{ "root: a\x01@b.c", "1: \"a?@b.c\" is no name" },
		{ "ro ot: a@b.c", "1: \"ro ot\" is no name" },
		{ ": a@b.c", "1: \"\" is no name" },
		{ "root@example.net: a@b.c",
		    "1: root@example.net has a domain, and aliases are of "
		    "local names; use rewrite.recipients" },
		{ "a: b@c.d\n\nROOT: x@y.z\nroot: x@y.z",
		    "4: root is there already, in line 3" },
		{ "a: b\nb: c\nc: x@y.z, a",
		    "3: c leads to a, which leads back to it: a loop" },
		{ "a: b\nb: a@example.com", "2: b leads to a" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct err err = { 0 };

		assert_null(aliases_parse(slice_str(rows[i].text), HOME, &err));
		if (strncmp(err.text, rows[i].message,
			strlen(rows[i].message)) != 0)
			fail_msg(
			    "\"%s\", not \"%s\"", err.text, rows[i].message);
	}
}

static void test_without_default_domain(void **state)
{
	struct aliases *a = must_parse("root: ops\nops: a@b.c", NULL);
	struct err err = { 0 };

	(void)state;
	check(a, "root", "a@b.c");
	check(a, "root@" HOME, "");
	aliases_free(a);
	assert_null(aliases_parse(slice_str("root: ops"), NULL, &err));
	assert_string_equal(err.text,
	    "1: ops is no alias and has no domain: write a whole address, or "
	    "set rewrite.default_domain");
	/* Its own mailbox has none, either. */
	assert_null(aliases_parse(slice_str("root: root"), NULL, &err));
}

/* As deep as a file can be, and as wide; a stack would not do. */
static void test_long_chains_and_lists_of_lists(void **state)
{
	enum { N = 50000, WIDTH = 30 };
	char *text = xmalloc(N * 32), *p = text;
	struct list list = { 0 };
	struct aliases *a;

	(void)state;
	for (int i = 0; i < N; i++)
		p += sprintf(p, "n%d: n%d\n", i, i + 1);
	sprintf(p, "n%d: a@b.c\n", N);
	a = must_parse(text, HOME);
	assert_int_equal(aliases_count(a), N + 1);
	check(a, "n0", "a@b.c");
	aliases_free(a);
	sprintf(p, "n%d: n0\n", N);
	assert_null(aliases_parse(slice_str(text), HOME, NULL));

	/* 2^30 ways lead to the one address. */
	p = text;
	for (int i = 0; i < WIDTH; i++)
		p += sprintf(
		    p, "l%d: l%d, r%d\nr%d: l%d\n", i, i + 1, i, i, i + 1);
	sprintf(p, "l%d: a@b.c\n", WIDTH);
	a = must_parse(text, HOME);
	assert_int_equal(aliases_expand(a, "l0", append, &list), 1);
	assert_string_equal(list.text, "a@b.c");
	aliases_free(a);
	free(text);
}

/* Whatever the bytes: a verdict, and addresses with a domain. */
static void must_be_address(void *ctx, const char *addr)
{
	(void)ctx;
	assert_non_null(strrchr(addr, '@'));
	for (const char *p = addr; *p; p++)
		assert_in_range((unsigned char)*p, ' ', '~');
}

static void test_any_bytes(void **state)
{
	static const char alphabet[] = "ab:,@\"\\ \n\t#|/.<\0\x80";
	unsigned seed = 4711, good = 0;

	(void)state;
	for (int i = 0; i < 300000; i++) {
		char text[24];
		size_t len = (size_t)rand_r(&seed) % sizeof(text);
		struct aliases *a;

		for (size_t k = 0; k < len; k++)
			text[k] = alphabet[(size_t)rand_r(&seed) %
			    (sizeof(alphabet) - 1)];
		a = aliases_parse(slice_of(text, len), HOME, NULL);
		if (a == NULL)
			continue;
		good += aliases_count(a) > 0;
		aliases_expand(a, "a", must_be_address, NULL);
		aliases_expand(a, "b", must_be_address, NULL);
		aliases_free(a);
	}
	assert_in_range(good, 100, 300000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_understood),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_without_default_domain),
		cmocka_unit_test(test_long_chains_and_lists_of_lists),
		cmocka_unit_test(test_any_bytes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
