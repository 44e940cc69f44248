/*
 * Envelope addresses: rules, completion, aliases, and what is refused with
 * which words.
 */
#include "smtp/rewrite.h"

#include "smtp/aliases.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static const struct rewrite_rule senders[] = {
	{ "root@db*.internal", "dba@example.com" },
	{ "*@*.INTERNAL", "noreply@example.com" },
	{ "cron", "cron-jobs@example.com" },
	{ "a*b*c@x.y", "abc@example.com" },
	{ "news@example.com", "News@Example.org" },
};
static const struct rewrite_rule recipients[] = {
	{ "*@old.example", "new@example.net" },
	{ "dev", "list@example.com" },
	{ "boss@example.net", "root@example.net" },
};
static const char alias_text[] = "root: ops@example.org, dba\n"
				 "list: one@example.org, two@example.org\n"
				 "dba: \"d b\"@example.org\n";

static struct rewrite_rules rules;

static int set_up(void **state)
{
	struct err err;

	rules = (struct rewrite_rules){
		.default_domain = "example.com",
		.hostname = "Web1.internal",
		.senders = senders,
		.n_senders = ARRAY_LEN(senders),
		.recipients = recipients,
		.n_recipients = ARRAY_LEN(recipients),
		.ses_headers = "",
	};
	rules.aliases =
	    aliases_parse(slice_str(alias_text), rules.default_domain, &err);
	assert_non_null(rules.aliases);
	*state = NULL;
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	aliases_free((struct aliases *)(uintptr_t)rules.aliases);
	return 0;
}

static void check_sender(const char *addr, const char *want)
{
	struct rewrite_refusal why = { "", "" };
	char *got = rewrite_sender(&rules, addr, &why);

	if (got == NULL || strcmp(got, want) != 0)
		fail_msg("%s is %s (%s %s), not %s", addr, got ? got : "-",
		    why.status, why.text, want);
	free(got);
}

static void append(void *ctx, const char *addr)
{
	strcat(ctx, addr);
	strcat(ctx, " ");
}

static void check_rcpt(const char *addr, const char *want)
{
	char got[1024] = "";
	struct rewrite_refusal why = { "", "" };
	int rc = rewrite_rcpt(&rules, addr, append, got, &why);

	if (rc != 0 || strcmp(got, want) != 0)
		fail_msg("%s is %s (%s %s), not %s", addr, got, why.status,
		    why.text, want);
}

static void test_senders(void **state)
{
	(void)state;
	check_sender("", "");
	check_sender("app@example.net", "app@example.net");
	check_sender("root", "root@example.com");
	check_sender("root@db7.internal", "dba@example.com");
	check_sender("root@web1.internal", "noreply@example.com");
	check_sender("Root@DB.Internal", "dba@example.com");
	/* A bare name, by either form of it; the rule's result is final. */
	check_sender("CRON", "cron-jobs@example.com");
	check_sender("cron@example.com", "cron@example.com");
	check_sender("news", "News@Example.org");
	check_sender("news@example.com", "News@Example.org");
	check_sender("\"a b\"@x.y", "\"a b\"@x.y");
}

static void test_globs(void **state)
{
	(void)state;
	check_sender("abc@x.y", "abc@example.com");
	check_sender("aXbbXbc@x.y", "abc@example.com");
	check_sender("aXbbXb@x.y", "aXbbXb@x.y");
	check_sender("abcabcabcabcabcab@x.y", "abcabcabcabcabcab@x.y");
	check_sender("xabc@x.y", "xabc@x.y");
	check_sender("abc@x.yz", "abc@x.yz");
	check_sender("root@internal", "root@internal");
}

static void test_recipients(void **state)
{
	(void)state;
	check_rcpt("user@example.net", "user@example.net ");
	check_rcpt("user", "user@example.com ");
	check_rcpt("X@Old.Example", "new@example.net ");
	/* Rules first, then aliases. */
	check_rcpt("dev", "one@example.org two@example.org ");
	check_rcpt("root", "ops@example.org \"d b\"@example.org ");
	check_rcpt("root@example.com", "ops@example.org \"d b\"@example.org ");
	check_rcpt("boss@example.net", "root@example.net ");
	/* The host's own names are local. */
	check_rcpt("root@localhost", "ops@example.org \"d b\"@example.org ");
	check_rcpt(
	    "ROOT@web1.INTERNAL", "ops@example.org \"d b\"@example.org ");
	check_rcpt("user@localhost", "user@localhost ");
	check_rcpt("root@web2.internal", "root@web2.internal ");
}

static void check_refused(const char *addr, bool sender, const char *want)
{
	char emitted[1024] = "", got[300];
	struct rewrite_refusal why;

	if (sender)
		assert_null(rewrite_sender(&rules, addr, &why));
	else
		assert_int_equal(
		    rewrite_rcpt(&rules, addr, append, emitted, &why), -1);
	assert_string_equal(emitted, "");
	snprintf(got, sizeof(got), "%s %s", why.status, why.text);
	assert_string_equal(got, want);
}

static void test_refusals(void **state)
{
	static const char no_domain[] =
	    " Address has no domain; set rewrite.default_domain in "
	    "sesrelayd.conf";
	char want[200];

	(void)state;
	check_refused("a b@c", true, "5.1.7 Bad address syntax");
	check_refused("a@b\r\n", false, "5.1.3 Bad address syntax");
	check_refused("", false, "5.1.3 Bad address syntax");
	check_refused("a@b x", false, "5.1.3 Bad address syntax");
	check_refused("j\xc3\xb6@b", false,
	    "5.6.7 Amazon SES takes no address beyond ASCII");
	check_refused("a@m\xc3\xbcll.de", true,
	    "5.6.7 Amazon SES takes no domain beyond ASCII; write it in "
	    "punycode (xn--...)");
	rules.default_domain = NULL;
	snprintf(want, sizeof(want), "5.1.7%s", no_domain);
	check_refused("app", true, want);
	snprintf(want, sizeof(want), "5.1.3%s", no_domain);
	check_refused("user", false, want);
	/* What rules and aliases know needs no domain. */
	check_sender("cron", "cron-jobs@example.com");
	check_rcpt("root", "ops@example.org \"d b\"@example.org ");
}

/* A message that is arriving keeps its rules over a reload. */
static void test_rules_live_as_long_as_they_are_held(void **state)
{
	char domain[] = "example.com";
	struct err err;
	struct rewrite_rules from = rules, *copy;

	(void)state;
	from.default_domain = domain;
	copy = rewrite_rules_new(
	    &from, aliases_parse(slice_str("x: y@z.z"), domain, &err));
	assert_ptr_equal(rewrite_rules_ref(copy), copy);
	rewrite_rules_unref(copy);
	memset(domain, 'x', sizeof(domain) - 1);
	assert_string_equal(copy->default_domain, "example.com");
	assert_string_equal(copy->senders[1].match, "*@*.INTERNAL");
	assert_int_equal(aliases_count(copy->aliases), 1);
	rewrite_rules_unref(copy);
	rewrite_rules_unref(NULL);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_senders),
		TEST(test_globs),
		TEST(test_recipients),
		TEST(test_refusals),
		TEST(test_rules_live_as_long_as_they_are_held),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
