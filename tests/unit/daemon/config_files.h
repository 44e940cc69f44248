/*
 * Configuration files for the tests: each test has a directory of its own, with
 * a password file, and writes what it needs there.
 */
#ifndef TEST_CONFIG_FILES_H
#define TEST_CONFIG_FILES_H

#include "config_private.h"

#include "base/file.h"
#include "base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#define PASSWORD "BMXhUYlu5Z3gSXVQORxlVa7XPaz91aGWdfHxvkOZdWZ2"
/* What it takes to be loaded; %D is the test's directory. */
#define SES_KEYS                                                               \
	"region = \"eu-west-1\"; username = \"AKIAIOSFODNN7EXAMPLE\"; "        \
	"password_file = \"%D/pw\"; "
#define SES "ses: { " SES_KEYS "};\n"

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

/*
 * libconfig 1.5 loses a string token at which it finds a syntax error; that is
 * all that a leak checker may overlook.
 */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
	return "leak:libconfig.so";
}

static char directory[64];

/* `text` with %D replaced; free(3). */
static inline char *fill(const char *text)
{
	char *out = xstrdup("");
	const char *p;

	for (; (p = strstr(text, "%D")); text = p + 2) {
		char *longer = xasprintf(
		    "%s%.*s%s", out, (int)(p - text), text, directory);

		free(out);
		out = longer;
	}
	p = xasprintf("%s%s", out, text);
	free(out);
	return (char *)(uintptr_t)p;
}

/* Returns the path; it lives until the next call. */
static inline const char *put(const char *name, const char *text)
{
	static char path[128];
	char *filled = fill(text);
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", directory, name);
	f = fopen(path, "w");
	assert_non_null(f);
	assert_true(fputs(filled, f) >= 0);
	assert_int_equal(fclose(f), 0);
	free(filled);
	return path;
}

static inline int setup(void **state)
{
	(void)state;
	unsetenv("CREDENTIALS_DIRECTORY");
	unsetenv("LISTEN_FDS");
	strcpy(directory, "/tmp/sesrelayd-config.XXXXXX");
	if (!mkdtemp(directory))
		return -1;
	/* What hosts with ca-certificates have, as far as -t looks at it. */
	setenv("SSL_CERT_FILE", put("system.pem", "anchors\n"), 1);
	put("aliases", "root: ops@example.com\n");
	return chmod(put("pw", PASSWORD "\n"), 0600);
}

static inline int teardown(void **state)
{
	char *command = xasprintf("rm -rf '%s'", directory);
	int rc = system(command);

	(void)state;
	free(command);
	return rc;
}

static inline struct config *must_load_file(const char *path)
{
	char *message = NULL;
	struct config *c = config_load(path, &message);

	if (!c)
		fail_msg("%s", message);
	assert_null(message);
	return c;
}

static inline struct config *must_load(const char *text)
{
	return must_load_file(put("c.conf", text));
}

/* The message, with the directory taken out of the places; free(3). */
static inline char *must_fail(const char *text)
{
	char *message = NULL, *short_message = xstrdup(""), *p, *end;
	char *prefix = fill("%D/");
	struct config *c = config_load(put("c.conf", text), &message);

	if (c)
		fail_msg("loaded: %s", text);
	assert_non_null(message);
	for (p = message; p; p = end ? end + 1 : NULL) {
		char *longer;

		end = strchr(p, '\n');
		if (strncmp(p, prefix, strlen(prefix)) == 0)
			p += strlen(prefix);
		longer = xasprintf("%s%s%.*s", short_message,
		    *short_message ? "\n" : "",
		    end ? (int)(end - p) : (int)strlen(p), p);
		free(short_message);
		short_message = longer;
	}
	free(prefix);
	free(message);
	return short_message;
}

static inline void assert_has(const char *text, const char *part)
{
	if (!strstr(text, part))
		fail_msg("\"%s\" has no \"%s\"", text, part);
}

static inline unsigned n_lines(const char *text)
{
	unsigned n = *text != '\0';

	for (; *text; text++)
		n += *text == '\n';
	return n;
}

/* The text of one key's value; free(3). */
static inline char *text_of(const struct config *c, const char *name)
{
	return config_value_text(c, &config_keys[config_key_index(name)]);
}

static inline void assert_key(
    const struct config *c, const char *name, const char *expected)
{
	char *text = text_of(c, name);

	if (strcmp(text, expected) != 0)
		fail_msg("%s is %s, not %s", name, text, expected);
	free(text);
}

/* What -T prints; free(3). */
static inline char *dump_of(const struct config *c)
{
	char *text = NULL;
	size_t size;
	FILE *f = open_memstream(&text, &size);

	assert_non_null(f);
	config_dump(c, f);
	assert_int_equal(fclose(f), 0);
	return text;
}

/* A file of the source tree, where tests run; free(3). */
static inline char *read_source(const char *path)
{
	struct err err;
	size_t len;
	char *text = file_read_small(path, 1 << 20, false, &len, &err);

	if (!text)
		fail_msg("%s: run in the top directory", err.text);
	return text;
}

#endif
