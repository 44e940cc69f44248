/*
 * Files and places: the order in which mistakes are told, numbers that
 * libconfig would truncate, includes, files that cannot be read.
 */
#include "config_files.h"

static void test_all_mistakes_in_order(void **state)
{
	char *message = must_fail("smtp: { timeout = true;\n"
				  " listen = [ \"127.0.0.1:25\",\n"
				  "  \"nowhere\" ];\n"
				  " foo = 1;\n"
				  "};\n" SES "bar = 2;\n"
				  "spool: { max_messages = 5000000000; };\n"
				  "delivery: { expire = 0; rate = 0; };\n");
	static const char *const places[] = { "c.conf:1: 'smtp.timeout'",
		"c.conf:3: 'smtp.listen'", "c.conf:4: unknown key 'smtp.foo'",
		"c.conf:7: unknown key 'bar'", "c.conf:8: 'spool.max_messages'",
		"c.conf:9: 'delivery.expire'" };
	char *rest = message;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(places); i++) {
		char *line = strsep(&rest, "\n");

		assert_non_null(line);
		assert_has(line, places[i]);
	}
	assert_null(rest);
	free(message);
}

/* Taken out of the text before libconfig sees it, or left to it; the same. */
static void test_passwords(void **state)
{
	static const struct {
		const char *text, *password;
	} rows[] = {
		{ "password = \"" PASSWORD "\";", PASSWORD },
		{ "password=\"" PASSWORD "\"", PASSWORD },
		{ "password :\n\t\"" PASSWORD "\"\n;", PASSWORD },
		{ "password = \"********\";", "********" },
		{ "password = \"one\" \"two\";", "onetwo" },
		{ "password = \"one\"\n # and\n \"two\";", "onetwo" },
		{ "password = \"one\" /* and */ \"t\" \"wo\";", "onetwo" },
		{ "password = \"a\\\"b\\\\c\\x41\";", "a\"b\\cA" },
		{ "password = \"a\\\\b\" # \"no\"\n;", "a\\b" },
		{ "password = \"a#b//c/*d*/\";", "a#b//c/*d*/" },
		{ "tags = [ \"a=b\" ]; password = \"x{y}\"; tenant = \"t\";",
		    "x{y}" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		char *text = xasprintf("ses: { region = \"eu-west-1\"; "
				       "username = \"AKIA\"; %s };\n",
		    rows[i].text);
		struct config *c = must_load(text);

		assert_string_equal(c->ses.password, rows[i].password);
		config_free(c);
		free(text);
	}
}

/* Set twice, neither is left for libconfig to see. */
static void test_second_password(void **state)
{
	struct config_reader r = { .config = xcalloc(1, sizeof(*r.config)) };
	const char *file = put("c.conf",
	    "ses: { password = \"quagga\"; };\n"
	    "ses: { password = \"numbat\"; };\n");
	char *message = must_fail("ses: { password = \"quagga\"; };\n"
				  "ses: { password = \"numbat\"; };\n");

	(void)state;
	assert_has(message, "c.conf:2: 'ses.password' is set already at ");
	assert_null(strstr(message, "quagga"));
	assert_null(strstr(message, "numbat"));
	free(message);
	r.spots = xcalloc(config_n_keys, sizeof(*r.spots));
	assert_int_equal(config_source_read(&r, file), 0);
	config_source_hide_secrets(&r);
	assert_null(strstr(r.source.text, "quagga"));
	assert_null(strstr(r.source.text, "numbat"));
	assert_string_equal(
	    r.spots[config_key_index("ses.password")].hidden, "quagga");
	free(r.spots[config_key_index("ses.password")].hidden);
	config_source_fini(&r.source);
	free(r.spots);
	free(r.config);
}

static void test_lines_behind_a_password(void **state)
{
	char *message = must_fail("ses: { region = \"eu-west-1\"; "
				  "username = \"AKIA\"; password = \"a\nb\";"
				  "\n};\n"
				  "spool: { max_size = 5000000000; };\n");

	(void)state;
	assert_has(message, "c.conf:4: 'spool.max_size'");
	assert_has(message, "'ses.password' must not hold control");
	free(message);
}

static void test_truncated_numbers(void **state)
{
	static const struct {
		const char *text; /* after SES, which is line 1 */
		const char *message;
	} rows[] = {
		{ "spool: { max_size = 5000000000; };",
		    "c.conf:2: 'spool.max_size': 5000000000 does not fit into "
		    "32 bits; write it with its unit" },
		{ "spool: { max_size = 2147483648; };",
		    "c.conf:2: 'spool.max_size': 2147483648 does" },
		{ "spool: { max_messages = -2147483649; };",
		    "c.conf:2: 'spool.max_messages': -2147483649 does" },
		{ "spool: { max_messages =\n\n  +99999999999999999999; };",
		    "c.conf:4: 'spool.max_messages': +99999999999999999999" },
		{ "spool: { max_messages = 0x80000000; };",
		    "c.conf:2: 'spool.max_messages': 0x80000000 does" },
		{ "spool: { max_messages = 0XFFFFFFFFFFFFFFFFFF; };",
		    "c.conf:2: 'spool.max_messages': 0XFF" },
		{ "spool: { max_size = 9223372036854775808L; };",
		    "c.conf:2: 'spool.max_size': 9223372036854775808L does "
		    "not fit into 64 bits" },
		{ "spool: { max_size = 0xFFFFFFFFFFFFFFFFLL; };",
		    "c.conf:2: 'spool.max_size': 0xFFFFFFFFFFFFFFFFLL does" },
		{ "delivery: { retry = [ 5,\n 5000000000 ]; };",
		    "c.conf:3: 'delivery.retry': 5000000000 does" },
		{ "delivery: { rate = 5000000000; };",
		    "c.conf:2: 'delivery.rate': 5000000000 does" },
		{ "http: { x = \"a\nb\"; /* \n */ }; "
		  "spool: { min_free = 5000000000; };",
		    "c.conf:2: unknown key 'http.x'\n"
		    "c.conf:4: 'spool.min_free': 5000000000 does" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		char *text = xasprintf("%s%s", SES, rows[i].text);
		char *message = must_fail(text);

		if (strncmp(message, rows[i].message,
			strlen(rows[i].message)) != 0 ||
		    n_lines(message) != n_lines(rows[i].message))
			fail_msg("%s gives:\n%s", rows[i].text, message);
		free(message);
		free(text);
	}
	/* The largest that fit, and reals, which may be longer. */
	config_free(must_load(
	    SES "spool: { max_messages = 2147483647;"
		" max_size = 9223372036854775807L; min_free = 0x7fffffff; };"
		"delivery: { rate = 0.00000000000000001; };"));
}

static void test_includes(void **state)
{
	char *path = fill("%D/sub");
	struct config *c;

	(void)state;
	assert_int_equal(mkdir(path, 0700), 0);
	free(path);
	/* Relative to the file that names it; inside a group, too. */
	put("sub/ses.inc", SES_KEYS "\n  @include \"more.inc\"\n");
	put("sub/more.inc", "mss = 1300;");
	put("sub/20-log.conf", "log: { level = \"debug\"; };");
	put("sub/10-spool.conf", "spool: { max_messages = 9; }");
	put("empty", "");
	/* What stands in a comment includes nothing. */
	c = must_load("ses: {\n@include \"sub/ses.inc\"\n};\n"
		      "@include \"%D/empty\"\n"
		      "@include \"sub/*.conf\" /*\n@include \"none\"\n*/\n"
		      "@include \"none/*.conf\"\n"
		      "# @include \"none\"\n"
		      "// @include \"none\"\n");
	assert_int_equal(c->ses.mss, 1300);
	assert_int_equal(c->spool.max_messages, 9);
	assert_int_equal(c->log.level, LOG_LEVEL_DEBUG);
	config_free(c);
}

/* Mistakes in included files are told there, and lines after them count on. */
static void test_places_in_includes(void **state)
{
	char *message, *path;

	(void)state;
	put("a.inc", "\nsmtp: { foo = 1; };\n/* x\n */ log: { bar = 2; };");
	put("b.inc", "control: { baz = 5000000000; };\n");
	message = must_fail(
	    "  @include \"a.inc\" quux = 1;\n" SES "@include \"%D/b.inc\"\n"
	    "xyzzy = 1;");
	assert_string_equal(message,
	    "a.inc:2: unknown key 'smtp.foo'\n"
	    "a.inc:4: unknown key 'log.bar'\n"
	    "c.conf:1: unknown key 'quux'\n"
	    "b.inc:1: 'control.baz': 5000000000 does not fit into 32 bits\n"
	    "b.inc:1: unknown key 'control.baz'\n"
	    "c.conf:4: unknown key 'xyzzy'");
	free(message);

	put("b.inc", "@include \"none.inc\"\n");
	message = must_fail("@include \"a.inc\"\n@include \"b.inc\"\n"
			    "@include \"b.*\"\n");
	assert_has(message, "b.inc:1: cannot read ");
	assert_has(message, "none.inc: No such file or directory");
	assert_int_equal(n_lines(message), 2);
	free(message);

	/* One of several cannot be read: told where they are asked for. */
	path = fill("%D/many-2");
	put("many-1", "# fine\n# too\n");
	assert_int_equal(mkdir(path, 0700), 0);
	free(path);
	message = must_fail("\n@include \"many-*\"\n");
	assert_has(message, "c.conf:2: cannot read ");
	assert_has(message, "many-2: Is a directory");
	free(message);

	/* A directory: what to write instead. */
	message = must_fail("\n\n@include \"many-2\"\n");
	assert_has(message, "c.conf:3: cannot read ");
	assert_has(message, "many-2: Is a directory; write \"");
	assert_has(message, "many-2/*.conf\" for the files in it");
	free(message);

	put("b.inc", "log: { level = \"info };");
	message = must_fail("\n@include \"b.inc\"\nspool: { };\n");
	assert_string_equal(message, "b.inc:1: this string has no end");
	free(message);

	put("b.inc", "log: { level = };");
	message = must_fail("\n@include \"b.inc\"\n");
	assert_has(message, "b.inc:1: syntax error");
	free(message);
}

static void test_loops(void **state)
{
	char *message, *path, name[32], text[64];

	(void)state;
	put("b.inc", "\n@include \"b.inc\"\n");
	message = must_fail("@include \"b.inc\"\n");
	assert_has(message, "b.inc:2: ");
	assert_has(message, "/b.inc is included by itself");
	assert_int_equal(n_lines(message), 1);
	free(message);

	/* By way of another, and by another name. */
	put("b.inc", "@include \"d.inc\"\n");
	path = fill("%D/d.inc");
	put("e.inc", "log: { level = \"info\"; };\n@include \"b.inc\"\n");
	message = fill("%D/e.inc");
	assert_int_equal(symlink(message, path), 0);
	free(message);
	free(path);
	message = must_fail("@include \"b.inc\"\n");
	assert_has(message, "d.inc:2: ");
	assert_has(message, "/b.inc is included by itself");
	assert_int_equal(n_lines(message), 1);
	free(message);

	/* Twenty of a directory that include each other would be 20! files. */
	path = fill("%D/conf.d");
	assert_int_equal(mkdir(path, 0700), 0);
	free(path);
	for (int i = 0; i < 20; i++) {
		snprintf(name, sizeof(name), "conf.d/%02d.conf", i);
		put(name, "@include \"*.conf\"\n");
	}
	message = must_fail("@include \"conf.d/*.conf\"\n");
	assert_has(message, "conf.d/00.conf is included by itself");
	assert_int_equal(n_lines(message), 1);
	free(message);
	path = fill("%D/many.d");
	assert_int_equal(mkdir(path, 0700), 0);
	free(path);
	for (int i = 0; i < 1001; i++) {
		snprintf(name, sizeof(name), "many.d/%d.conf", i);
		put(name, "");
	}
	message = must_fail("@include \"many.d/*.conf\"\n");
	assert_has(message, "c.conf:1: ");
	assert_has(message, ": more than 1000 files are included");
	assert_int_equal(n_lines(message), 1);
	free(message);

	/* Ten deep are fine. */
	for (int i = 0; i < 10; i++) {
		snprintf(name, sizeof(name), "deep%d", i);
		snprintf(text, sizeof(text), "@include \"deep%d\"\n", i + 1);
		put(name, i < 9 ? text : SES);
	}
	config_free(must_load("@include \"deep0\"\n"));
	put("deep9", "@include \"deep10\"\n");
	put("deep10", SES);
	message = must_fail("@include \"deep0\"\n");
	assert_has(message, "deep10: includes nest deeper than 10");
	free(message);
}

/* Pieces of a group add up, in one file and in several. */
static void test_groups_in_pieces(void **state)
{
	struct config *c;
	char *message;

	(void)state;
	put("one", "log: { name = \"one\"; };\nspool: { max_messages = 9; };");
	put("two", "log : # {\n { level = \"debug\" }");
	c = must_load(
	    SES "log = { format = \"json\"; };\n"
		"ses: { password = \"a\\\"b\"; tags = [ \"t=1\" ]; };\n"
		"@include \"one\"\n@include \"two\"\n"
		"rewrite: { senders = ( { match = \"a\"; address = "
		"\"b@c.de\" }, { match = \"d\"; address = \"e@f.gh\" }"
		" ); }; rewrite: { default_domain = \"i.jk\" };\n");
	assert_string_equal(c->log.name, "one");
	assert_int_equal(c->log.level, LOG_LEVEL_DEBUG);
	assert_int_equal(c->log.format, LOG_FORMAT_JSON);
	assert_int_equal(c->spool.max_messages, 9);
	assert_string_equal(c->ses.password, "a\"b");
	assert_int_equal(c->ses.tags.n, 1);
	assert_int_equal(c->rewrite.senders.n, 2);
	assert_string_equal(c->rewrite.default_domain, "i.jk");
	config_free(c);

	/* Set twice: both places; and the rest is looked at all the same. */
	put("two", "\nlog /* { */ : { name = \"two\"; nam = \"x\"; };\n");
	message = must_fail("log: { level = \"info\";\n"
			    "  level = \"debug\"; };\n" SES
			    "@include \"one\"\n@include \"two\"\n"
			    "spool: { max_size = true; }; spool: {\n\n"
			    "max_size = 5000000000; };\n");
	assert_has(message, "c.conf:2: 'log.level' is set already at ");
	assert_has(message, "/c.conf:1; a key may be set once\n");
	assert_has(message, "two:2: 'log.name' is set already at ");
	assert_has(message, "/one:1; a key");
	assert_has(message,
	    "two:2: unknown key 'log.nam'; did you mean "
	    "'log.name'?");
	assert_has(message, "c.conf:8: 'spool.max_size': 5000000000");
	assert_has(message, "c.conf:8: 'spool.max_size' is set already at");
	assert_int_equal(n_lines(message), 5);
	free(message);

	/* Nobody can write the mark. */
	message = must_fail(SES "log***7: { };\nbar = 1;\nbar = 2;\n");
	assert_has(message,
	    "c.conf:3: unknown key 'bar'\nc.conf:4: unknown key"
	    " 'bar'");
	free(message);
}

static void test_unreadable_directory(void **state)
{
	char *path = fill("%D/closed"), *message;

	(void)state;
	assert_int_equal(mkdir(path, 0700), 0);
	put("closed/a.conf", "log: { level = \"debug\"; };");
	put("not-a-directory", "");
	/* What is not there is no mistake, what cannot be looked at is. */
	config_free(must_load(SES "@include \"none/*.conf\"\n"));
	if (geteuid() == 0) {
		/* Root may read all: a name that no directory can have. */
		char *name = xmalloc(5000);

		memset(name, 'x', 4999);
		name[4999] = '\0';
		free(path);
		path = xasprintf("%s@include \"%s/*.conf\"\n", SES, name);
		message = must_fail(path);
		assert_has(message, "c.conf:2: cannot look for ");
		assert_has(message, ": File name too long");
		free(name);
	} else {
		assert_int_equal(chmod(path, 0), 0);
		message = must_fail(SES "@include \"closed/*.conf\"\n");
		assert_has(message, "c.conf:2: cannot look for ");
		assert_has(message, "closed/*.conf: Permission denied");
		assert_int_equal(chmod(path, 0700), 0);
	}
	free(message);
	free(path);
}

/* libconfig would shorten the string and say nothing. */
static void test_nul_in_strings(void **state)
{
	char *message = must_fail(SES "rewrite: { default_domain = "
				      "\"example\\x00.com\"; };\n");

	(void)state;
	assert_string_equal(message,
	    "c.conf:2: 'rewrite.default_domain': \\x00 cannot be part of a "
	    "string; write \\\\ for a backslash");
	free(message);
	/* A backslash, and then x00. */
	message = must_fail(SES "log: { name = \"a\\\\x00\"; };\n");
	assert_has(message, "'log.name' must be up to 32 letters");
	free(message);
}

static void test_syntax_hints(void **state)
{
	static const struct {
		const char *text, *hint;
	} rows[] = {
		{ "smtp: { accept_any_auth = yes; };", "write true or false" },
		{ "smtp: { accept_any_auth: Off }", "write true or false" },
		{ "smtp: { timeout = 5m; };",
		    "a value with a unit stands in "
		    "double quotes" },
		{ "smtp: { listen = 127.0.0.1:25; };",
		    "a string stands in double quotes" },
		{ "log: { level = debug; };", "a string stands in double" },
		{ "log: { level = 'debug'; };", "not in single ones" },
		{ "log: { level = \xe2\x80\x9c"
		  "debug\xe2\x80\x9d; };",
		    "typographic" },
		{ "spool: { directory = /var/spool/x; };",
		    "a string stands in double quotes" },
		{ "[smtp]\ntimeout = 5", "not \"[name]\"" },
		{ "smtp.timeout = 5;", "in its group without a dot" },
		{ "smtp: { timeout = ; };", "look here and at the line" },
		{ "smtp: {\n timeout \"5m\";\n};",
		    "a = between key and value" },
		{ "log: { }; @include \"x\"\n", "look here and at" },
		{ "  @include x.conf\n", "@include \"FILE\"" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		char *text = xasprintf("%s%s", SES, rows[i].text);
		char *message = must_fail(text);

		if (!strstr(message, rows[i].hint) ||
		    !strstr(message, ": syntax error: "))
			fail_msg("%s gives:\n%s", rows[i].text, message);
		assert_true(strncmp(message, "c.conf:2", 8) == 0 ||
		    strncmp(message, "c.conf:3", 8) == 0);
		free(message);
		free(text);
	}
}

static void test_unreadable(void **state)
{
	static const char nul[] = "log: { };\0";
	char *message = NULL, *path = fill("%D");
	FILE *f;

	(void)state;
	assert_null(config_load("/nonexistent/sesrelayd.conf", &message));
	assert_string_equal(message,
	    "/nonexistent/sesrelayd.conf:1: cannot read "
	    "/nonexistent/sesrelayd.conf: No such file or directory");
	free(message);
	assert_null(config_load(path, &message));
	assert_has(message, ": Is a directory");
	free(message);
	free(path);
	f = fopen(put("c.conf", ""), "w");
	assert_int_equal(fwrite(nul, 1, sizeof(nul), f), sizeof(nul));
	assert_int_equal(fclose(f), 0);
	path = fill("%D/c.conf");
	assert_null(config_load(path, &message));
	assert_has(message, "has a NUL byte");
	free(message);
	free(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_all_mistakes_in_order),
		TEST(test_passwords),
		TEST(test_second_password),
		TEST(test_lines_behind_a_password),
		TEST(test_truncated_numbers),
		TEST(test_includes),
		TEST(test_places_in_includes),
		TEST(test_loops),
		TEST(test_groups_in_pieces),
		TEST(test_unreadable_directory),
		TEST(test_nul_in_strings),
		TEST(test_syntax_hints),
		TEST(test_unreadable),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
