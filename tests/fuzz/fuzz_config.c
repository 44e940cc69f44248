/*
 * The configuration on arbitrary text, libconfig included.
 *
 * Input: the file.  `@include "inc.conf"` is there to be included; other
 * directories are not to be looked into, so such inputs are passed over.
 * Properties: a refusal has words, one line a mistake, each with its place; what
 * is accepted, dumped as by -T and loaded again is equal in every key but
 * secrets, which the dump does not show; the dump of that is the same text;
 * what every key says of itself can be told.
 */
#include "fuzz.h"

#include "config.h"
#include "config_private.h"

#include "base/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define INCLUDES_MAX 2
#define SECRET "fuzzsecretfuzzsecret"

/* libconfig 1.5 forgets the string that it was reading at a syntax error. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
	return "leak:libconfig.so";
}

static char top[] = "/dev/shm/sesrelayd-fuzz-XXXXXX";
static char *input, *dump, *included;

static void clean_up(void)
{
	(void)unlink(input);
	(void)unlink(dump);
	(void)unlink(included);
	(void)rmdir(top);
	free(input);
	free(dump);
	free(included);
}

static void write_file(const char *path, struct slice text)
{
	FILE *f = fopen(path, "w");

	PROPERTY(f != NULL);
	PROPERTY(fwrite(text.ptr, 1, text.len, f) == text.len);
	PROPERTY(fclose(f) == 0);
	PROPERTY(chmod(path, 0600) == 0);
}

static void make_dir(void)
{
	if (input != NULL)
		return;
	PROPERTY(mkdtemp(top) != NULL);
	input = xasprintf("%s/a.conf", top);
	dump = xasprintf("%s/dump", top);
	included = xasprintf("%s/inc.conf", top);
	write_file(included, slice_str("log: { level = \"debug\"; };\n"));
	(void)atexit(clean_up);
}

/* Nothing outside, nothing that takes for ever. */
static bool may_run(struct slice text)
{
	unsigned n = 0;

	for (size_t i = 0; i + 8 <= text.len; i++)
		if (memcmp(text.ptr + i, "@include", 8) == 0)
			n++;
	if (n > INCLUDES_MAX)
		return false;
	return n == 0 || memchr(text.ptr, '/', text.len) == NULL;
}

/* It stands there as the password, and as nothing else. */
static bool is_secret(struct slice text)
{
	static const char key[] = "ses: { region = \"eu-west-1\"; username = "
				  "\"AKIAIOSFODNN7EXAMPLE\"; password = \"";
	char *copy = slice_dup(text);
	const char *hit = strstr(copy, SECRET);
	bool is = slice_has_prefix(text, key) &&
	    hit == copy + sizeof(key) - 1 && hit[strlen(SECRET)] == '"' &&
	    strstr(hit + 1, SECRET) == NULL;

	free(copy);
	return is;
}

static void check_message(const char *message, bool secret)
{
	struct slice rest = slice_str(message);

	PROPERTY(rest.len > 0);
	PROPERTY(!secret || strstr(message, SECRET) == NULL);
	while (rest.len > 0) {
		struct slice line = slice_split(&rest, '\n');

		PROPERTY(line.len > 0 && memchr(line.ptr, ':', line.len));
	}
}

static char *dump_text(const struct config *c, bool secret)
{
	char *text = NULL;
	size_t size;
	FILE *f = open_memstream(&text, &size);

	PROPERTY(f != NULL);
	config_dump(c, f);
	PROPERTY(fclose(f) == 0);
	PROPERTY(!secret || strstr(text, SECRET) == NULL);
	return text;
}

static void on_difference(
    void *ctx, const struct config_key *key, const char *from, const char *to)
{
	(void)ctx;
	if (key->flags & CONFIG_SECRET)
		return;
	fprintf(stderr, "%s: %s -> %s\n", key->name, from, to);
	PROPERTY(!"equal after a dump");
}

static void check_accepted(const struct config *c, bool secret)
{
	char *text = dump_text(c, secret), *again, *message;
	struct config *loaded;

	write_file(dump, slice_str(text));
	loaded = config_load(dump, &message);
	if (loaded == NULL)
		fprintf(stderr, "%s\n%s\n", message, text);
	PROPERTY(loaded != NULL);
	config_diff(c, loaded, NULL, on_difference, NULL);
	again = dump_text(loaded, secret);
	PROPERTY(strcmp(text, again) == 0);
	PROPERTY(c->endpoint != NULL && c->endpoint[0] != '\0');
	PROPERTY(c->options.inbound.max_sessions > 0);
	(void)config_allow_is_default(c);
	config_free(loaded);
	free(text);
	free(again);
	(void)unlink(dump);
}

/* Durations and sizes by themselves: the text of what was read reads so. */
static void check_units(struct slice text)
{
	char *word = slice_dup(text), buf[40];
	int64_t us, us_again;
	uint64_t bytes, bytes_again;

	if (config_parse_duration(word, &us) == 0 && us > 0) {
		config_format_duration(us, buf, sizeof(buf));
		buf[strlen(buf) - 1] = '\0'; /* its quotes */
		PROPERTY(config_parse_duration(buf + 1, &us_again) == 0);
		PROPERTY(us == us_again);
	}
	if (config_parse_size(word, &bytes) == 0) {
		const char *out = config_format_size(bytes, buf, sizeof(buf));

		/* Without quotes it is an integer of the file's syntax. */
		bytes_again = strtoull(out, NULL, 10);
		if (*out == '"') {
			buf[strlen(buf) - 1] = '\0';
			PROPERTY(config_parse_size(out + 1, &bytes_again) == 0);
		}
		PROPERTY(bytes == bytes_again);
	}
	free(word);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice text = slice_of((const char *)data, size);
	struct config *c;
	char *message;

	make_dir();
	if (size < 40)
		check_units(text);
	if (size == 0 || !may_run(text))
		return 0;
	write_file(input, text);
	c = config_load(input, &message);
	if (c == NULL) {
		check_message(message, is_secret(text));
		free(message);
		return 0;
	}
	check_accepted(c, is_secret(text));
	config_free(c);
	return 0;
}
