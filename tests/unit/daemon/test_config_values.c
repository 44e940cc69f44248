/*
 * What may stand in a configuration and what may not: names and near misses,
 * values of every type, each mistake with its place.
 */
#include "config_files.h"

static void test_good_values(void **state)
{
	static const struct {
		const char *setting; /* "group: { ... };" */
		const char *key, *text;
	} rows[] = {
		{ "smtp: { timeout = 5; };", "smtp.timeout", "\"5s\"" },
		{ "smtp: { timeout = 5L; };", "smtp.timeout", "\"5s\"" },
		{ "smtp: { timeout = \"1ms\"; };", "smtp.timeout", "\"1ms\"" },
		{ "smtp: { timeout = \"1000ms\"; };", "smtp.timeout",
		    "\"1s\"" },
		{ "smtp: { timeout = \"1m\"; };", "smtp.timeout", "\"60s\"" },
		{ "smtp: { timeout = \"2m\"; };", "smtp.timeout", "\"2m\"" },
		{ "smtp: { timeout = \"90m\"; };", "smtp.timeout", "\"90m\"" },
		{ "smtp: { timeout = \"1h\"; };", "smtp.timeout", "\"1h\"" },
		{ "smtp: { timeout = \"24h\"; };", "smtp.timeout", "\"1d\"" },
		{ "delivery: { expire = \"7d\"; };", "delivery.expire",
		    "\"7d\"" },
		{ "delivery: { retry = 7; };", "delivery.retry", "[ \"7s\" ]" },
		{ "delivery: { retry = \"7m\"; };", "delivery.retry",
		    "[ \"7m\" ]" },
		{ "delivery: { retry = ( \"7m\", 8 ); };", "delivery.retry",
		    "[ \"7m\", \"8s\" ]" },
		{ "spool: { max_size = 65537; };", "spool.max_size", "65537" },
		{ "spool: { max_size = 5000000001L; };", "spool.max_size",
		    "5000000001L" },
		{ "spool: { max_size = \"64K\"; };", "spool.max_size",
		    "\"64K\"" },
		{ "spool: { max_size = \"64Ki\"; };", "spool.max_size",
		    "\"64Ki\"" },
		{ "spool: { max_size = \"1Mi\"; };", "spool.max_size",
		    "\"1Mi\"" },
		{ "spool: { max_size = \"3Gi\"; };", "spool.max_size",
		    "\"3Gi\"" },
		{ "spool: { max_size = \"2T\"; };", "spool.max_size",
		    "\"2T\"" },
		{ "spool: { max_size = \"1Ti\"; };", "spool.max_size",
		    "\"1Ti\"" },
		{ "spool: { max_size = \"0K\"; };", "spool.max_size", "0" },
		{ "smtp: { max_sessions = 100000; };", "smtp.max_sessions",
		    "100000" },
		{ "smtp: { max_sessions = 0x10; };", "smtp.max_sessions",
		    "16" },
		{ "spool: { max_messages = 2147483647; };",
		    "spool.max_messages", "2147483647" },
		{ "delivery: { rate = 5; };", "delivery.rate", "5.0" },
		{ "delivery: { rate = 13.7; };", "delivery.rate", "13.7" },
		{ "delivery: { rate = 1e3; };", "delivery.rate", "1000.0" },
		{ "smtp: { listen = \"[::1]:2525\"; };", "smtp.listen",
		    "[ \"[::1]:2525\" ]" },
		{ "smtp: { listen = ( \"127.0.0.1:0\", \"127.0.0.1:0\" ); };",
		    "smtp.listen", "[ \"127.0.0.1:0\", \"127.0.0.1:0\" ]" },
		{ "smtp: { hostname = \"\"; timeout = 1; };", "smtp.timeout",
		    "\"1s\"" },
		{ "rewrite: { default_domain = \"\"; };",
		    "rewrite.default_domain", "\"\"" },
		{ "log: { level = \"warning\"; };", "log.level",
		    "\"warning\"" },
		{ "bounce: { to = \"x@example.com\"; };", "bounce.to",
		    "\"x@example.com\"" },
		{ "# 5000000000\n// 5000000000\n/* 5000000000 */\n"
		  "control: { socket = \"/5000000000\"; };",
		    "control.socket", "\"/5000000000\"" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		char *text = xasprintf("%s%s", SES, rows[i].setting);
		struct config *c = must_load(text);

		assert_key(c, rows[i].key, rows[i].text);
		config_free(c);
		free(text);
	}
}

/* One mistake each; the setting stands on line 2. */
static void test_bad_values(void **state)
{
	static const struct {
		const char *setting;
		const char *message;
	} rows[] = {
		/* names */
		{ "smpt: { };", "unknown group 'smpt'; did you mean 'smtp'?" },
		{ "nonsense: { };", "unknown group 'nonsense'" },
		{ "smtp: { max_sesions = 1; };",
		    "unknown key 'smtp.max_sesions'; did you mean "
		    "'smtp.max_sessions'?" },
		{ "smtp: { tiemout = 1; };",
		    "unknown key 'smtp.tiemout'; did you mean "
		    "'smtp.timeout'?" },
		{ "delivery: { password_file = 1; };",
		    "unknown key 'delivery.password_file'; did you mean "
		    "'ses.password_file'?" },
		{ "delivery: { conn = 1; };",
		    "unknown key 'delivery.conn'; did you mean "
		    "'delivery.connections'?" },
		{ "delivery: { xeprie = 1; };",
		    "unknown key 'delivery.xeprie'; did you mean "
		    "'delivery.expire'?" },
		{ "smtp: { quux = 1; };", "unknown key 'smtp.quux'" },
		{ "timeout = 1;",
		    "unknown key 'timeout'; did you mean 'smtp.timeout'?" },
		{ "smtp: { timeout: { x = 1; }; };",
		    "'smtp.timeout' must be a duration" },
		{ "smtp = 1;", "'smtp' must be a group: smtp: { ... };" },
		{ "smtp = ( { timeout = 1; } );",
		    "'smtp' must be a group: smtp: { ... };" },
		/* types */
		{ "smtp: { timeout = true; };",
		    "'smtp.timeout' must be a duration" },
		{ "smtp: { timeout = 1.5; };",
		    "'smtp.timeout' must be a duration" },
		{ "smtp: { timeout = \"5\"; };",
		    "'smtp.timeout' must be a duration" },
		{ "smtp: { timeout = \"5 s\"; };",
		    "'smtp.timeout' must be a duration" },
		{ "smtp: { timeout = \"-5s\"; };",
		    "'smtp.timeout' must be a duration" },
		{ "smtp: { timeout = \"s\"; };",
		    "'smtp.timeout' must be a duration" },
		{ "smtp: { timeout = \"99999999999999999999s\"; };",
		    "'smtp.timeout' must be a duration" },
		{ "smtp: { timeout = \"999999999999999d\"; };",
		    "'smtp.timeout' must be a duration" },
		{ "spool: { max_size = \"40MB\"; };",
		    "'spool.max_size' must be a size" },
		{ "spool: { max_size = \"40m\"; };",
		    "'spool.max_size' must be a size" },
		{ "spool: { max_size = \"10000000T\"; };",
		    "'spool.max_size' must be a size" },
		{ "smtp: { max_sessions = \"1\"; };",
		    "'smtp.max_sessions' must be an integer, without quotes" },
		{ "smtp: { max_sessions = 1.0; };",
		    "'smtp.max_sessions' must be an integer" },
		{ "smtp: { accept_any_auth = 1; };",
		    "'smtp.accept_any_auth' must be true or false" },
		{ "smtp: { accept_any_auth = \"true\"; };",
		    "'smtp.accept_any_auth' must be true or false, without "
		    "quotes" },
		{ "log: { target = \"sylog\"; };",
		    "'log.target' must be one of \"auto\", \"stderr\", "
		    "\"journal\", \"syslog\", not \"sylog\"; did you mean "
		    "\"syslog\"?" },
		{ "log: { level = \"warn\"; };",
		    "'log.level' must be one of \"error\", \"warning\", "
		    "\"info\", \"debug\", not \"warn\"; did you mean "
		    "\"warning\"?" },
		{ "log: { level = \"INFO\"; };",
		    "'log.level' must be one of \"error\", \"warning\", "
		    "\"info\", \"debug\", not \"INFO\"; did you mean "
		    "\"info\"?" },
		{ "delivery: { rate = \"5\"; };",
		    "'delivery.rate' must be a number" },
		{ "spool: { directory = 5; };",
		    "'spool.directory' must be a string in quotes" },
		{ "smtp: { listen = 25; };",
		    "'smtp.listen' must be a list of strings" },
		{ "smtp: { listen = [ 25 ]; };",
		    "'smtp.listen' must be a list of strings" },
		{ "log: { level = 1; };",
		    "'log.level' must be a string in quotes" },
		{ "rewrite: { senders = \"x\"; };",
		    "'rewrite.senders' must be a list of rules" },
		{ "rewrite: { senders = ( \"x\" ); };",
		    "'rewrite.senders' must be a list of rules" },
		{ "delivery: { retry = ( ( 5 ) ); };",
		    "'delivery.retry' must be a list of durations" },
		/* ranges and choices */
		{ "smtp: { max_sessions = 0; };",
		    "'smtp.max_sessions' must be from 1 to 100000" },
		{ "smtp: { max_sessions = 100001; };",
		    "'smtp.max_sessions' must be from 1 to 100000" },
		{ "smtp: { max_sessions = 4294967297L; };",
		    "'smtp.max_sessions' must be from 1 to 100000" },
		{ "smtp: { timeout = 0; };",
		    "'smtp.timeout' must be from \"1ms\" to \"1d\"" },
		{ "smtp: { timeout = -1; };",
		    "'smtp.timeout' must be from \"1ms\" to \"1d\"" },
		{ "smtp: { timeout = 9000000000000000000L; };",
		    "'smtp.timeout' must be from \"1ms\" to \"1d\"" },
		{ "spool: { min_free = -1; };",
		    "'spool.min_free' must not be less than 0" },
		{ "delivery: { rate = -0.5; };",
		    "'delivery.rate' must be from 0 to 1000000" },
		{ "delivery: { rate = 1e99; };",
		    "'delivery.rate' must be from 0 to 1000000" },
		{ "delivery: { recipients_per_message = 51; };",
		    "'delivery.recipients_per_message' must be from 1 to 50" },
		{ "delivery: { retry = [ ]; };",
		    "'delivery.retry' must hold from 1 to 16 durations" },
		{ "delivery: { retry = [ 1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,"
		  "16,17 ]; };",
		    "'delivery.retry' must hold from 1 to 16 durations" },
		{ "delivery: { retry = [ \"2d\" ]; };",
		    "'delivery.retry' must be from \"1ms\" to \"1d\"" },
		{ "log: { level = \"INFO\"; };",
		    "'log.level' must be one of \"error\", \"warning\", "
		    "\"info\", \"debug\", not \"INFO\"" },
		/* strings */
		{ "spool: { directory = \"\"; };",
		    "'spool.directory' must not be empty" },
		{ "spool: { directory = \"spool\"; };",
		    "'spool.directory' must be a whole path" },
		{ "spool: { directory = \"/a\\n\"; };",
		    "'spool.directory' must not hold control characters" },
		{ "smtp: { hostname = \"a b\"; };",
		    "'smtp.hostname' must be a host name" },
		{ "smtp: { hostname = \"a..b\"; };",
		    "'smtp.hostname' must be a host name" },
		{ "smtp: { hostname = \"-a\"; };",
		    "'smtp.hostname' must be a host name" },
		{ "smtp: { hostname = \"a.\"; };",
		    "'smtp.hostname' must be a host name" },
		{ "smtp: { listen = [ \"localhost:25\" ]; };",
		    "'smtp.listen' must hold addresses: " },
		{ "smtp: { listen = [ \"\" ]; };",
		    "'smtp.listen' must not hold an empty string" },
		{ "smtp: { listen = [ ]; };",
		    "'smtp.listen' must hold an address such as" },
		{ "smtp: { listen = [ \"127.0.0.1:25\", \"127.0.0.1:25\" ]; };",
		    "'smtp.listen' names 127.0.0.1:25 twice" },
		{ "smtp: { allow = [ \"10.0.0.0/33\" ]; };",
		    "'smtp.allow' must hold networks: " },
		{ "smtp: { allow = [ ]; };",
		    "'smtp.allow' is empty, so that nobody" },
		{ "rewrite: { default_domain = \"a@b\"; };",
		    "'rewrite.default_domain' must be a host name" },
		{ "rewrite: { senders = ( { match = \"x\"; } ); };",
		    "'rewrite.senders' must have a match and an address" },
		{ "rewrite: { senders = ( { match = \"x\"; address = \"y\"; } "
		  "); };",
		    "'rewrite.senders' must be an address such as" },
		{ "rewrite: { senders = ( { match = \"x\"; address = "
		  "\"a@b.c\"; to = \"z\"; } ); };",
		    "'rewrite.senders' has rules of match and address, not "
		    "'to'" },
		{ "bounce: { to = \"me\"; };",
		    "'bounce.to' must be \"sender\" or an address" },
		{ "bounce: { from = \"<a@b.c>\"; };",
		    "'bounce.from' must be an address" },
		{ "bounce: { from = \"a@b.c x=1\"; };",
		    "'bounce.from' must be an address" },
		{ "log: { name = \"a/b\"; };", "'log.name' must be up to 32" },
		{ "control: { group = \"a b\"; };",
		    "'control.group' must be up to 32" },
		{ "control: { socket = \"/"
		  "0123456789012345678901234567890123456789012345678901234567"
		  "89012345678901234567890123456789012345678901234567\"; };",
		    "'control.socket' is longer than the 107 bytes" },
		/* syntax */
		{ "smtp: { timeout = \"5s };", "this string has no end" },
		{ "/* smtp: { };", "this comment has no end" },
		{ "smtp: { timeout = yes; };",
		    "syntax error: write true or false" },
		{ "smtp: { timeout = 1; timeout = 2; };",
		    "'smtp.timeout' is set already at " },
		{ "http: { listen = ( 1; };", "syntax error" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		char *text = xasprintf("%s%s", SES, rows[i].setting);
		char *message = must_fail(text);
		char *expected = xasprintf("c.conf:2: %s", rows[i].message);

		if (strncmp(message, expected, strlen(expected)) != 0 ||
		    n_lines(message) != 1)
			fail_msg("%s gives:\n%s\nnot:\n%s", rows[i].setting,
			    message, expected);
		free(expected);
		free(message);
		free(text);
	}
}

/* Mistakes in the group `ses`, which has to be whole otherwise. */
static void test_bad_ses(void **state)
{
	static const char user[] = "region = \"us-east-1\"; username = \"A\";";
	static const struct {
		const char *setting;
		const char *message;
	} rows[] = {
		{ "ports = [ ];", "'ses.ports' must hold from 1 to 16 ports" },
		{ "ports = [ 587, 587 ];", "'ses.ports' names port 587 twice" },
		{ "ports = [ \"587\", \"587:wrapper\" ];",
		    "'ses.ports' names port 587 twice" },
		{ "ports = 2525;",
		    "'ses.ports' does not say how TLS begins on port 2525: "
		    "write \"2525:starttls\", or \"2525:wrapper\"" },
		{ "ports = \"587:tls\";",
		    "'ses.ports' must have \"starttls\" or \"wrapper\"" },
		{ "ports = \"587:\";",
		    "'ses.ports' must have \"starttls\" or \"wrapper\"" },
		{ "ports = 0;", "'ses.ports' must hold ports such as" },
		{ "ports = 65536;", "'ses.ports' must hold ports such as" },
		{ "ports = \"smtp\";", "'ses.ports' must hold ports such as" },
		{ "endpoint = \"smtp://a.b\";",
		    "'ses.endpoint' must be a host name alone, without "
		    "\"smtp://\"" },
		{ "endpoint = \"a.b:587\";",
		    "'ses.endpoint' must be a host name alone; its port goes "
		    "into 'ses.ports'" },
		{ "endpoint = \"a b\";", "'ses.endpoint' must be a host name" },
		{ "source_address = \"eth0\";",
		    "'ses.source_address' must be an IP address" },
		{ "mss = 87;", "'ses.mss' must be 0 (the system's choice) or" },
		{ "mss = 32768;", "'ses.mss' must be from 0 to 32767" },
		{ "configuration_set = \"a b\";",
		    "'ses.configuration_set' must be up to 64" },
		{ "tags = [ \"a\" ];", "'ses.tags' must hold tags such as" },
		{ "tags = [ \"a=\" ];", "'ses.tags' must hold tags such as" },
		{ "tags = [ \"a=b=c\" ];", "'ses.tags' must hold tags" },
		{ "tags = [ \"a=b, c=d\" ];", "'ses.tags' must hold tags" },
		{ "source_arn = \"x\";", "'ses.source_arn' must be an ARN" },
		{ "from_arn = \"arn:a b\";", "'ses.from_arn' must be an ARN" },
		{ "tenant = \"a:b\";", "'ses.tenant' must be up to 64" },
		{ "client_headers = \"no\";",
		    "'ses.client_headers' must be one of \"strip\", "
		    "\"keep\"" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		char *text = xasprintf("ses: {\n%s password = \"p\";\n\n%s };",
		    user, rows[i].setting);
		char *message = must_fail(text);
		char *expected = xasprintf("c.conf:4: %s", rows[i].message);

		if (strncmp(message, expected, strlen(expected)) != 0 ||
		    n_lines(message) != 1)
			fail_msg("%s gives:\n%s", rows[i].setting, message);
		free(expected);
		free(message);
		free(text);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_good_values),
		TEST(test_bad_values),
		TEST(test_bad_ses),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
