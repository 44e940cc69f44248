/*
 * Credentials: the derivation against published vectors, the order of sources,
 * what is refused, and the AUTH arguments.
 */
#include "credentials.h"

#include "base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#define USER "AKIAIOSFODNN7EXAMPLE"
#define PASSWORD "BMXhUYlu5Z3gSXVQORxlVa7XPaz91aGWdfHxvkOZdWZ2"
#define LEGACY "AnkqhOiWEcszZZzTMCQbOY1sPGoLFgMH9zhp4eNgSjo4"
#define AWS_SECRET "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"

static char directory[64];

static int setup(void **state)
{
	(void)state;
	unsetenv("CREDENTIALS_DIRECTORY");
	strcpy(directory, "/tmp/sesrelayd-credentials.XXXXXX");
	return mkdtemp(directory) ? 0 : -1;
}

static int teardown(void **state)
{
	char *command = xasprintf("rm -rf '%s'", directory);
	int rc = system(command);

	(void)state;
	free(command);
	unsetenv("CREDENTIALS_DIRECTORY");
	return rc;
}

/* A file of that name, content and mode in the test's directory. */
static const char *put_bytes(
    const char *name, const char *data, size_t len, mode_t mode)
{
	static char path[128];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", directory, name);
	unlink(path);
	f = fopen(path, "w");
	assert_non_null(f);
	assert_int_equal(fwrite(data, 1, len, f), len);
	assert_int_equal(fclose(f), 0);
	assert_int_equal(chmod(path, mode), 0);
	return path;
}

static const char *put(const char *name, const char *text, mode_t mode)
{
	return put_bytes(name, text, strlen(text), mode);
}

static struct credentials *must_load(const struct credentials_options *options)
{
	struct err err = { 0 };
	struct credentials *c = credentials_load(options, &err);

	if (!c)
		fail_msg("%s", err.text);
	return c;
}

static void must_fail(
    const struct credentials_options *options, const char *reason)
{
	struct err err = { 0 };

	assert_null(credentials_load(options, &err));
	if (!strstr(err.text, reason))
		fail_msg("\"%s\" has no \"%s\"", err.text, reason);
	assert_null(strstr(err.text, PASSWORD));
}

static void test_derivation(void **state)
{
	static const struct {
		const char *region, *secret, *password;
	} vectors[] = {
		{ "eu-central-1", "some+secret+key", PASSWORD },
		{ "eu-central-1", "another+secret+key",
		    "BBbphbrQmrKMx42d1N6+C7VINYEBGI5v9VsZeTxwskfh" },
		{ "us-west-1", "some+secret+key",
		    "BH+jbMzper5WwlwUar9E1ySBqHa9whi0GPo+sJ0mVYJj" },
		{ "us-west-1", "another+secret+key",
		    "BKVmjjMDFk/qqw8EROW99bjCS65PF8WKvK5bSr4Y6EqF" },
		{ "us-east-1", AWS_SECRET,
		    "BLBM/9hSUELfq8Gw+rU1YcBjkOxGbhT2XG763xVLGWL9" },
		{ "us-west-2", AWS_SECRET,
		    "BF2PynzbSCAjX08zhZZnP/kW+T9P5zs/1Er0pi5vTEmd" },
		{ "eu-west-1", AWS_SECRET,
		    "BMW5RDrXmmVs0lV7GpI4oLkHXpZ4stDsk6q91z1g38Pk" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(vectors); i++) {
		char out[45];

		credentials_derive(vectors[i].secret, vectors[i].region, out);
		assert_string_equal(out, vectors[i].password);
	}
}

/* The texts were made with Python's base64. */
static void test_auth_arguments(void **state)
{
	struct credentials_options options = { .username = USER,
		.password = PASSWORD };
	struct credentials *c = must_load(&options);

	(void)state;
	assert_string_equal(c->username, USER);
	assert_string_equal(c->plain,
	    "AEFLSUFJT1NGT0ROTjdFWEFNUExFAEJNWGhVWWx1NVozZ1NYVlFPUnhsVmE3WFBh"
	    "ejkxYUdXZGZIeHZrT1pkV1oy");
	assert_string_equal(c->login_user, "QUtJQUlPU0ZPRE5ON0VYQU1QTEU=");
	assert_string_equal(c->login_pass,
	    "Qk1YaFVZbHU1WjNnU1hWUU9SeGxWYTdYUGF6OTFhR1dkZkh4dmtPWmRXWjI=");
	credentials_free(c);
}

static void test_line_ends(void **state)
{
	static const char *const good[] = { PASSWORD, PASSWORD "\n",
		PASSWORD "\r\n" };
	struct credentials_options inline_options = { .username = USER,
		.password = PASSWORD };
	struct credentials *expected = must_load(&inline_options);

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(good); i++) {
		struct credentials_options options = { .username = USER,
			.password_file = put("pw", good[i], 0600) };
		struct credentials *c = must_load(&options);

		assert_true(credentials_equal(c, expected));
		assert_string_equal(c->warning, "");
		assert_non_null(strstr(c->source, options.password_file));
		credentials_free(c);
	}
	credentials_free(expected);
}

static void test_bad_files(void **state)
{
	static const struct {
		const char *text;
		size_t len; /* 0: up to the NUL */
		const char *reason;
	} rows[] = {
		{ "", 0, "is empty" },
		{ "\n", 0, "is empty" },
		{ "\r\n", 0, "is empty" },
		{ PASSWORD "\nmore\n", 0, "more than one line" },
		{ PASSWORD "\n\n", 0, "more than one line" },
		{ "\n" PASSWORD "\n", 0, "more than one line" },
		{ PASSWORD "\r", 0, NULL },
		{ " " PASSWORD "\n", 0, "holds blanks" },
		{ PASSWORD " \n", 0, "holds blanks" },
		{ "\xef\xbb\xbf" PASSWORD "\n", 0, "not visible" },
		{ "ab\0cd\n", 6, "NUL" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		size_t len = rows[i].len ? rows[i].len : strlen(rows[i].text);
		struct credentials_options options = { .username = USER,
			.password_file =
			    put_bytes("pw", rows[i].text, len, 0600) };

		if (rows[i].reason)
			must_fail(&options, rows[i].reason);
		else
			credentials_free(must_load(&options));
	}
}

static void test_modes(void **state)
{
	static const struct {
		mode_t mode;
		bool ok;
	} rows[] = { { 0600, true }, { 0400, true }, { 0640, false },
		{ 0604, false }, { 0620, false }, { 0666, false } };
	struct credentials_options options = { .username = USER,
		.region = "us-east-1" };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		const char *path = put("pw", PASSWORD "\n", rows[i].mode);

		for (int derived = 0; derived < 2; derived++) {
			options.password_file = derived ? NULL : path;
			options.secret_key_file = derived ? path : NULL;
			if (rows[i].ok)
				credentials_free(must_load(&options));
			else
				must_fail(&options, "chmod 600");
		}
	}
}

static void test_missing_file(void **state)
{
	struct credentials_options options = { .username = USER,
		.password_file = "/nonexistent/ses-password",
		.password = PASSWORD };

	(void)state;
	/* Named and missing: not a reason to go on to the next source. */
	must_fail(&options, "No such file");
	must_fail(&options, "a file of mode 600");
	options.region = "us-east-1";
	options.secret_key_file = options.password_file;
	options.password_file = NULL;
	must_fail(&options, "a file of mode 600");
}

static void test_order(void **state)
{
	char *file = xstrdup(put("pw", "from-file\n", 0600));
	char *secret = xstrdup(put("key", AWS_SECRET "\n", 0600));
	struct credentials_options options = { .username = USER,
		.password_file = file,
		.secret_key_file = secret,
		.password = "inline",
		.region = "us-east-1" };
	struct credentials *c;

	(void)state;
	put("ses-password", "from-systemd\n", 0440);
	/* 0440 is how systemd makes it, and nobody else can get there. */
	setenv("CREDENTIALS_DIRECTORY", directory, 1);
	c = must_load(&options);
	assert_string_equal(c->login_pass, "ZnJvbS1zeXN0ZW1k");
	assert_non_null(strstr(c->source, "systemd credential"));
	credentials_free(c);

	/* A credential that is there and wrong is not passed over. */
	put("ses-password", "", 0440);
	must_fail(&options, "is empty");

	/* The directory may hold credentials of others only. */
	assert_int_equal(unlink(put("ses-password", "x", 0440)), 0);
	c = must_load(&options);
	assert_string_equal(c->login_pass, "ZnJvbS1maWxl");
	credentials_free(c);

	options.password_file = NULL;
	c = must_load(&options);
	assert_non_null(strstr(c->source, "ses.secret_key_file"));
	assert_string_equal(c->login_pass,
	    "QkxCTS85aFNVRUxmcThHdytyVTFZY0Jqa094R2JoVDJYRzc2M3hWTEdXTDk=");
	assert_string_equal(c->warning, "");
	credentials_free(c);

	options.region = NULL;
	must_fail(&options, "'ses.region'");

	options.secret_key_file = NULL;
	c = must_load(&options);
	assert_string_equal(c->login_pass, "aW5saW5l");
	assert_non_null(strstr(c->warning, "'ses.password_file'"));
	credentials_free(c);

	options.password = NULL;
	must_fail(&options, "gave us no \"ses-password\")");
	unsetenv("CREDENTIALS_DIRECTORY");
	must_fail(&options, "there is no SMTP password: put it into a file");
	free(file);
	free(secret);
}

static void test_usernames(void **state)
{
	struct credentials_options options = { .password = PASSWORD };

	(void)state;
	must_fail(&options, "'ses.username' must not be empty");
	options.username = "";
	must_fail(&options, "'ses.username' must not be empty");
	options.username = "ASIAIOSFODNN7EXAMPLE";
	must_fail(&options, "temporary credentials");
	options.username = "AKIA IOSF";
	must_fail(&options, "without blanks");
	options.username = "AKIA\nIOSF";
	must_fail(&options, "without blanks");
	options.username = "smtp-user@example.com";
	credentials_free(must_load(&options));
}

static void test_warnings(void **state)
{
	static const struct {
		const char *text, *warning;
		enum credentials_kind kind;
	} rows[] = {
		{ PASSWORD, "", CREDENTIALS_SMTP },
		{ LEGACY, "before 2019", CREDENTIALS_LEGACY },
		/* As long, and begins with A, but the version is not 2. */
		{ "AAkqhOiWEcszZZzTMCQbOY1sPGoLFgMH9zhp4eNgSjo4", "",
		    CREDENTIALS_STRANGE },
		{ AWS_SECRET, "'ses.secret_key_file'", CREDENTIALS_SECRET_KEY },
		{ "something-else", "", CREDENTIALS_STRANGE },
		{ USER, "is an access key id", CREDENTIALS_STRANGE },
	};
	struct credentials_options options = { .username = USER };
	struct credentials *c;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		options.password_file = put("pw", rows[i].text, 0600);
		c = must_load(&options);
		if (rows[i].warning[0])
			assert_non_null(strstr(c->warning, rows[i].warning));
		else
			assert_string_equal(c->warning, "");
		assert_int_equal(c->kind, rows[i].kind);
		credentials_free(c);
	}
	options.password_file = NULL;
	options.password = LEGACY;
	c = must_load(&options);
	assert_non_null(strstr(c->warning, "'ses.password_file'"));
	assert_non_null(strstr(c->warning, "before 2019"));
	credentials_free(c);

	options.password = NULL;
	options.region = "us-east-1";
	options.secret_key_file = put("pw", PASSWORD, 0600);
	c = must_load(&options);
	assert_non_null(strstr(c->warning, "'ses.password_file'"));
	assert_int_equal(c->kind, CREDENTIALS_DERIVED);
	credentials_free(c);
}

/* Those that cannot be right, and all warnings beside each other. */
static void test_foreign_usernames(void **state)
{
	static const struct {
		const char *username, *warning;
	} rows[] = {
		{ "inp-1a2b3c4d5e6f", "Mail Manager" },
		{ "ses-smtp-user.20200101-101010", "name of an IAM user" },
		{ USER, "" },
	};
	struct credentials_options options = { .password = LEGACY };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct credentials *c;

		options.username = rows[i].username;
		c = must_load(&options);
		assert_non_null(strstr(c->warning, rows[i].warning));
		assert_non_null(strstr(c->warning,
		    "; the SMTP password is of "
		    "the kind from before"));
		credentials_free(c);
	}
}

static void test_doubtful_keys(void **state)
{
	static const struct {
		const char *key, *doubt;
	} rows[] = {
		{ AWS_SECRET, NULL },
		{ USER, "access key id" },
		{ "ASIAIOSFODNN7EXAMPLE", "access key id" },
		{ PASSWORD, "SMTP password already" },
		{ LEGACY, "SMTP password already" },
		{ "some+secret+key", "does not look like" },
		{ "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKE\"",
		    "does not look like" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		const char *doubt = credentials_doubt_key(rows[i].key);

		if (rows[i].doubt)
			assert_non_null(strstr(doubt, rows[i].doubt));
		else
			assert_null(doubt);
	}
	assert_int_equal(credentials_check_key("two words", NULL), -1);
	assert_int_equal(credentials_check_key("", NULL), -1);
	assert_int_equal(credentials_check_key("short", NULL), 0);
}

static void test_equal(void **state)
{
	struct credentials_options options = { .username = "a",
		.password = "bc" };
	struct credentials *a = must_load(&options), *b = must_load(&options);
	struct credentials *other;

	(void)state;
	assert_true(credentials_equal(a, b));
	/* The same letters, cut elsewhere. */
	options.username = "ab";
	options.password = "c";
	other = must_load(&options);
	assert_false(credentials_equal(a, other));
	assert_false(credentials_equal(a, NULL));
	assert_true(credentials_equal(NULL, NULL));
	credentials_free(a);
	credentials_free(b);
	credentials_free(other);
	credentials_free(NULL);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_derivation),
		TEST(test_auth_arguments),
		TEST(test_line_ends),
		TEST(test_bad_files),
		TEST(test_modes),
		TEST(test_missing_file),
		TEST(test_order),
		TEST(test_usernames),
		TEST(test_warnings),
		TEST(test_foreign_usernames),
		TEST(test_doubtful_keys),
		TEST(test_equal),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
