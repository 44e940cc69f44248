/*
 * Rules between keys, and what is made from several of them: the account,
 * listeners and whom they are open to, ports; and warnings.
 */
#include "config_files.h"

#include "smtp/aliases.h"

static void test_account(void **state)
{
	static const struct {
		const char *text;
		const char *message; /* whole, or with "..." its beginning */
	} rows[] = {
		{ "",
		    "c.conf:1: 'ses.region' is missing: ...\n"
		    "c.conf:1: 'ses.username' is missing: ..." },
		{ "\nses: {\n region = \"\"; };",
		    "c.conf:3: 'ses.region' is missing: ...\n"
		    "c.conf:3: 'ses.username' is missing: ..." },
		{ "ses: {\n region = \"eu-west-1\"; };",
		    "c.conf:2: 'ses.username' is missing: ..." },
		{ "ses: { region = \"eu-west-1\";\n username = \"A\"; };",
		    "c.conf:2: there is no SMTP password: put it into ..." },
		{ "ses: { username = \"A\";\n password_file = \"%D/pw\"; };",
		    "c.conf:1: 'ses.region' is missing: ..." },
		{ "ses: { region = \"EU West\"; username = \"A\";\n"
		  " password_file = \"%D/pw\"; };",
		    "c.conf:1: 'ses.region' must be the name of a region ..." },
		{ "ses: { region = \"email-smtp.eu-west-1.amazonaws.com\";\n"
		  "username = \"A\"; password_file = \"%D/pw\"; };",
		    "c.conf:1: 'ses.region' must be the name of a region such "
		    "as \"eu-west-1\"; a host name goes into ..." },
		{ "ses: { region = \"eu-west-1\";\n"
		  "username = \"ASIAIOSFODNN7EXAMPLE\";\n"
		  " password_file = \"%D/pw\"; };",
		    "c.conf:2: 'ses.username' must not be that of temporary "
		    "credentials (ASIA...), ..." },
		{ "ses: { region = \"eu-west-1\"; username = \"A\";\n"
		  " password_file = \"%D/none\"; };",
		    "c.conf:2: cannot open ..." },
		{ "ses: { endpoint = \"localhost\"; username = \"A\";\n"
		  " secret_key_file = \"%D/pw\"; };",
		    "c.conf:2: 'ses.secret_key_file' needs 'ses.region': "
		    "..." },
		/* Not a second complaint about what is wrong already. */
		{ "ses: { region = 5; username = \"A\";\n"
		  " secret_key_file = \"%D/pw\"; };",
		    "c.conf:1: 'ses.region' must be a string in quotes" },
		{ "ses: { region = \"r\"; username = \"A\";\n"
		  " password_file = \"BSECRET/+\"; };",
		    "c.conf:2: 'ses.password_file' must be a whole path that "
		    "begins with \"/\"" },
		{ "ses: { region = \"r\"; username = \"A\";\n"
		  " password = \"x y\"; };",
		    "c.conf:2: 'ses.password' must be of visible ASCII "
		    "characters, without blanks" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		char *message = must_fail(rows[i].text), *rest = message;
		char *all = xstrdup(rows[i].message), *expected = all, *want;

		while ((want = strsep(&expected, "\n"))) {
			char *line = strsep(&rest, "\n");
			size_t len = strlen(want);
			bool dots =
			    len > 3 && strcmp(want + len - 3, "...") == 0;

			if (dots)
				want[len - 3] = '\0';
			if (!line)
				fail_msg("not said: %s", want);
			if (strncmp(line, want, strlen(want)) != 0 ||
			    (!dots && strlen(line) != strlen(want)))
				fail_msg("\"%s\", not \"%s\"", line, want);
		}
		if (rest)
			fail_msg("said as well: %s", rest);
		free(all);
		free(message);
	}
}

static void test_aliases_file(void **state)
{
	static const char with_file[] =
	    SES "rewrite: { default_domain = \"example.com\";\n"
		" aliases_file = \"%D/aliases\"; };";
	struct config *c = must_load(with_file);
	struct rewrite_rules *before;
	char *message, *want;

	(void)state;
	assert_int_equal(aliases_count(c->rewrite_rules->aliases), 1);
	/* Who holds the rules has them when the configuration is gone. */
	before = rewrite_rules_ref(c->rewrite_rules);
	config_free(c);
	assert_string_equal(before->default_domain, "example.com");
	assert_int_equal(aliases_count(before->aliases), 1);
	rewrite_rules_unref(before);

	put("aliases", "# programs\nroot: |/bin/false\n");
	message = must_fail(with_file);
	want = fill("c.conf:3: 'rewrite.aliases_file': %D/aliases:2: "
		    "\"|/bin/false\" is a program; ");
	assert_has(message, want);
	free(want);
	free(message);

	assert_int_equal(unlink(put("aliases", "")), 0);
	message = must_fail(with_file);
	assert_has(message, "c.conf:3: 'rewrite.aliases_file': ");
	free(message);

	/* Not more than is kept in memory. */
	assert_int_equal(truncate(put("aliases", ""), 1000001), 0);
	message = must_fail(with_file);
	assert_has(message, "is too large: more than 1000000 bytes");
	free(message);
}

static void test_rules_that_nothing_reaches(void **state)
{
	struct config *c =
	    must_load(SES "rewrite: { senders = (\n"
			  " { match = \"*\"; address = \"a@b.c\"; },\n"
			  " { match = \"x@*\"; address = \"d@e.f\"; } ); };");

	(void)state;
	assert_has(c->warnings, "'rewrite.senders': the first rule");
	config_free(c);
	c = must_load(SES "rewrite: { senders = (\n"
			  " { match = \"x@*\"; address = \"d@e.f\"; },\n"
			  " { match = \"*\"; address = \"a@b.c\"; } ); };");
	assert_string_equal(c->warnings, "");
	config_free(c);
}

/* No line beyond the 998 octets of RFC 5322, and each begins with a blank. */
static void test_many_tags(void **state)
{
	char *tags = xstrdup(""), *text, *longer;
	struct config *c;
	unsigned n = 0, equals = 0;

	(void)state;
	for (int i = 0; i < 90; i++) {
		longer = xasprintf("%s%s\"name-of-tag-%d=value-of-tag\"", tags,
		    i ? ", " : "", i);
		free(tags);
		tags = longer;
	}
	text = xasprintf("%s%s ]; };", "ses: { " SES_KEYS "tags = [ ", tags);
	c = must_load(text);
	for (const char *p = c->rewrite_rules->ses_headers; *p; n++) {
		size_t len = strcspn(p, "\n") + 1;

		assert_in_range(len, 1, 998);
		assert_memory_equal(p + len - 2, "\r\n", 2);
		assert_true(n == 0 || *p == '\t');
		for (size_t i = 0; i < len; i++)
			equals += p[i] == '=';
		p += len;
	}
	assert_in_range(n, 3, 4);
	assert_int_equal(equals, 90);
	config_free(c);
	free(text);
	free(tags);
}

static void test_regions(void **state)
{
	/* Any that looks like one: AWS makes new ones. */
	static const char *const good[] = { "us-gov-west-1", "mx-central-1",
		"x" };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(good); i++) {
		char *text = xasprintf("ses: { region = \"%s\"; username = "
				       "\"A\"; password = \"p\"; };",
		    good[i]);
		struct config *c = must_load(text);
		char *host = xasprintf("email-smtp.%s.amazonaws.com", good[i]);

		assert_string_equal(c->endpoint, host);
		config_free(c);
		free(host);
		free(text);
	}
}

static void test_open_listeners(void **state)
{
	static const struct {
		const char *smtp;
		bool ok;
	} rows[] = {
		{ "listen = \"0.0.0.0:2525\";", false },
		{ "listen = \"[::]:2525\";", false },
		{ "listen = [ \"127.0.0.1:25\", \"10.1.2.3:25\" ];", false },
		{ "listen = \"10.1.2.3:25\"; "
		  "allow = [ \"127.0.0.0/8\", \"::1/128\" ];",
		    false },
		{ "listen = \"10.1.2.3:25\"; allow = \"10.0.0.0/8\";", true },
		{ "listen = \"127.9.9.9:25\";", true },
		{ "listen = \"[::1]:25\";", true },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		char *text = xasprintf("%ssmtp: { %s };", SES, rows[i].smtp);

		if (rows[i].ok) {
			config_free(must_load(text));
		} else {
			char *message = must_fail(text);

			assert_has(message, "c.conf:2: 'smtp.listen': ");
			assert_has(message, "set it to the networks that may");
			assert_int_equal(n_lines(message), 1);
			free(message);
		}
		free(text);
	}
}

static void test_ports(void **state)
{
	static const struct {
		const char *text;
		unsigned port;
		bool wrapper;
	} rows[] = {
		{ "25", 25, false },
		{ "587", 587, false },
		{ "2587", 2587, false },
		{ "465", 465, true },
		{ "2465", 2465, true },
		{ "10587:starttls", 10587, false },
		{ "10465:wrapper", 10465, true },
		/* The operator's word counts. */
		{ "465:starttls", 465, false },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct pool_port port;
		struct err err;

		assert_int_equal(
		    config_parse_port(rows[i].text, &port, &err), 0);
		assert_int_equal(port.port, rows[i].port);
		assert_int_equal(port.wrapper, rows[i].wrapper);
	}
}

static void test_warnings(void **state)
{
	static const struct {
		const char *text, *warning;
	} rows[] = {
		{ SES, "" },
		{ "ses: { " SES_KEYS "\nendpoint = "
		  "\"abc.fips.xyz.mail-manager-smtp.amazonaws.com\"; };",
		    "c.conf:2: 'ses.endpoint': abc." },
		{ "ses: { " SES_KEYS "\nendpoint = "
		  "\"inbound-smtp.eu-west-1.amazonaws.com\"; };",
		    "c.conf:2: 'ses.endpoint': inbound-smtp." },
		{ "ses: { " SES_KEYS "\nendpoint = "
		  "\"email.eu-west-1.amazonaws.com\"; };",
		    "c.conf:2: 'ses.endpoint': email.eu-west-1" },
		{ "ses: { region = \"r\"; username = \"A\";\n"
		  "password = \"p\"; };",
		    "c.conf:2: 'ses.password' stands in the configuration" },
		{ "ses: { " SES_KEYS "\nsecret_key_file = \"/x\"; };",
		    "c.conf:1: more than one of 'ses.password_file'" },
		{ SES "smtp: { max_message_size = \"40Mi\"; };",
		    "c.conf:2: 'smtp.max_message_size' is above the 40 MB" },
		{ SES "delivery: { idle_timeout = \"10s\"; };",
		    "c.conf:2: 'delivery.idle_timeout': SES itself" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct config *c = must_load(rows[i].text);

		assert_has(c->warnings, rows[i].warning);
		assert_int_equal(
		    n_lines(c->warnings), rows[i].warning[0] != '\0');
		config_free(c);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_account),
		TEST(test_aliases_file),
		TEST(test_rules_that_nothing_reaches),
		TEST(test_many_tags),
		TEST(test_regions),
		TEST(test_open_listeners),
		TEST(test_ports),
		TEST(test_warnings),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
