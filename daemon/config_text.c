/*
 * Fields of struct config as they would stand in a file, and their end.
 *
 * What is written here reads back to the same value, so that the output of -T
 * is a configuration, and a value equals a default when their texts do.
 */
#include "config_private.h"

#include "base/mem.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const void *field_of(
    const struct config *c, const struct config_key *key)
{
	return (const char *)c + key->offset;
}

static void *own_field_of(struct config *c, const struct config_key *key)
{
	return (char *)c + key->offset;
}

/* In quotes; control characters don't get in, but what does is kept exact. */
static void put_string(FILE *f, const char *text)
{
	putc('"', f);
	for (; text && *text; text++) {
		if (*text == '"' || *text == '\\')
			putc('\\', f);
		putc(*text, f);
	}
	putc('"', f);
}

/* The shortest form that is exact; with a point, to be seen as a real. */
static void put_real(FILE *f, double value)
{
	char text[40];

	for (int digits = 15; digits <= 17; digits++) {
		snprintf(text, sizeof(text), "%.*g", digits, value);
		if (strtod(text, NULL) == value)
			break;
	}
	fprintf(f, "%s%s", text, strpbrk(text, ".e") ? "" : ".0");
}

static void put_strings(FILE *f, const struct config_strings *strings)
{
	putc('[', f);
	for (unsigned i = 0; i < strings->n; i++) {
		fputs(i ? ", " : " ", f);
		put_string(f, strings->items[i]);
	}
	fputs(" ]", f);
}

static void put_durations(FILE *f, const struct config_durations *durations)
{
	char text[32];

	putc('[', f);
	for (unsigned i = 0; i < durations->n; i++)
		fprintf(f, "%s%s", i ? ", " : " ",
		    config_format_duration(
			durations->us[i], text, sizeof(text)));
	fputs(" ]", f);
}

static void put_rules(FILE *f, const struct config_rules *rules)
{
	putc('(', f);
	for (unsigned i = 0; i < rules->n; i++) {
		fputs(i ? ", { match = " : " { match = ", f);
		put_string(f, rules->items[i].match);
		fputs("; address = ", f);
		put_string(f, rules->items[i].address);
		fputs("; }", f);
	}
	fputs(" )", f);
}

static void put_value(FILE *f, const struct config_key *key, const void *field)
{
	char text[32];

	switch (key->type) {
	case CONFIG_STRING:
		put_string(f, *(char *const *)field);
		break;
	case CONFIG_BOOL:
		fputs(*(const bool *)field ? "true" : "false", f);
		break;
	case CONFIG_INTEGER:
		fprintf(f, "%" PRId64, *(const int64_t *)field);
		break;
	case CONFIG_REAL:
		put_real(f, *(const double *)field);
		break;
	case CONFIG_DURATION:
		fputs(config_format_duration(
			  *(const int64_t *)field, text, sizeof(text)),
		    f);
		break;
	case CONFIG_SIZE:
		fputs(config_format_size(
			  *(const uint64_t *)field, text, sizeof(text)),
		    f);
		break;
	case CONFIG_ENUM:
		put_string(f, key->choices[*(const int *)field]);
		break;
	case CONFIG_STRINGS:
		put_strings(f, field);
		break;
	case CONFIG_DURATIONS:
		put_durations(f, field);
		break;
	case CONFIG_RULES:
		put_rules(f, field);
		break;
	}
}

char *config_value_text(const struct config *c, const struct config_key *key)
{
	char *text = NULL;
	size_t size;
	FILE *f;

	/* A copy would stay in the buffers of stdio. */
	ASSERT(!(key->flags & CONFIG_SECRET));
	f = open_memstream(&text, &size);
	if (!f)
		fatal("out of memory: text of a key");
	put_value(f, key, field_of(c, key));
	if (fclose(f) != 0)
		fatal("out of memory: text of a key");
	return text;
}

bool config_value_same(const struct config *a, const struct config *b,
    const struct config_key *key)
{
	char *x, *y;
	bool same;

	if (key->type == CONFIG_STRING) {
		const char *one = *(char *const *)field_of(a, key);
		const char *other = *(char *const *)field_of(b, key);

		return one && other ? strcmp(one, other) == 0 : one == other;
	}
	x = config_value_text(a, key);
	y = config_value_text(b, key);
	same = strcmp(x, y) == 0;
	free(x);
	free(y);
	return same;
}

bool config_value_unset(const struct config *c, const struct config_key *key)
{
	const void *field = field_of(c, key);

	if (key->fallback)
		return false;
	if (key->type == CONFIG_STRINGS)
		return ((const struct config_strings *)field)->n == 0;
	return key->type == CONFIG_STRING && !*(char *const *)field;
}

void config_free_strings(struct config_strings *strings)
{
	for (unsigned i = 0; i < strings->n; i++)
		free(strings->items[i]);
	free(strings->items);
	*strings = (struct config_strings){ 0 };
}

void config_free_rules(struct config_rules *rules)
{
	for (unsigned i = 0; i < rules->n; i++) {
		free(rules->items[i].match);
		free(rules->items[i].address);
	}
	free(rules->items);
	*rules = (struct config_rules){ 0 };
}

void config_value_free(struct config *c, const struct config_key *key)
{
	void *field = own_field_of(c, key);

	if (key->type == CONFIG_STRINGS) {
		config_free_strings(field);
	} else if (key->type == CONFIG_RULES) {
		config_free_rules(field);
	} else if (key->type == CONFIG_STRING) {
		char **text = field;

		if (*text && (key->flags & CONFIG_SECRET))
			explicit_bzero(*text, strlen(*text));
		free(*text);
		*text = NULL;
	}
}
