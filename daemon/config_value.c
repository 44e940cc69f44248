/*
 * One setting of libconfig's tree into one field of struct config.
 *
 * A field changes only when its setting is right in everything: type, range,
 * choice, syntax.  Strings are copied; the empty string leaves a key without
 * value, if its default is to have none.
 */
#include "config_private.h"

#include "base/mem.h"

#include <inttypes.h>
#include <libconfig.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *field_of(struct config *c, const struct config_key *key)
{
	return (char *)c + key->offset;
}

/* Reports "'key' ..."; the rest of the setting is read for more. */
void config_value_bad(struct config_reading *in, const char *fmt, ...)
{
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	config_error(in->r, in->line, "'%s' %s", in->key->name, text);
	in->failed = true;
}

static bool takes_string(enum config_type type)
{
	return type != CONFIG_BOOL && type != CONFIG_INTEGER &&
	    type != CONFIG_REAL;
}

void config_value_bad_type(struct config_reading *in)
{
	static const char *const wanted[] = {
		[CONFIG_STRING] = "a string in quotes",
		[CONFIG_BOOL] = "true or false",
		[CONFIG_INTEGER] = "an integer",
		[CONFIG_REAL] = "a number",
		[CONFIG_DURATION] = "a duration such as \"500ms\", \"5s\", "
				    "\"10m\", \"4h\" or \"7d\", or an "
				    "integer of seconds",
		[CONFIG_SIZE] = "a size such as \"64K\", \"40M\", \"2G\", "
				"\"64Ki\" or \"1Mi\", or an integer of bytes",
		[CONFIG_ENUM] = "a string in quotes",
		[CONFIG_STRINGS] = "a list of strings: [ \"...\", \"...\" ]",
		[CONFIG_DURATIONS] = "a list of durations: [ \"5s\", \"10m\" ]",
		[CONFIG_RULES] = "a list of rules: "
				 "( { match = \"...\"; address = \"...\"; } )",
	};

	config_value_bad(in, "must be %s%s", wanted[in->key->type],
	    in->quoted && !takes_string(in->key->type) ? ", without quotes"
						       : "");
}

static void format_amount(
    enum config_type type, int64_t amount, char *buf, size_t size)
{
	if (type == CONFIG_DURATION || type == CONFIG_DURATIONS)
		config_format_duration(amount, buf, size);
	else if (type == CONFIG_SIZE)
		config_format_size((uint64_t)amount, buf, size);
	else
		snprintf(buf, size, "%" PRId64, amount);
}

static bool in_range(struct config_reading *in, double value, int64_t exact)
{
	const struct config_key *key = in->key;
	char from[32], to[32];

	if (key->min == 0 && key->max == 0)
		return true;
	if (key->type == CONFIG_REAL
		? value >= (double)key->min && value <= (double)key->max
		: exact >= key->min && exact <= key->max)
		return true;
	format_amount(key->type, key->min, from, sizeof(from));
	format_amount(key->type, key->max, to, sizeof(to));
	if (key->max == INT64_MAX)
		config_value_bad(in, "must not be less than %s", from);
	else
		config_value_bad(in, "must be from %s to %s", from, to);
	return false;
}

static bool is_integer(const config_setting_t *s)
{
	int type = config_setting_type(s);

	return type == CONFIG_TYPE_INT || type == CONFIG_TYPE_INT64;
}

static int64_t integer_of(const config_setting_t *s)
{
	return config_setting_type(s) == CONFIG_TYPE_INT
	    ? config_setting_get_int(s)
	    : config_setting_get_int64(s);
}

static void read_integer(
    struct config_reading *in, const config_setting_t *s, int64_t *field)
{
	int64_t value;

	if (!is_integer(s)) {
		config_value_bad_type(in);
		return;
	}
	value = integer_of(s);
	if (in_range(in, 0, value))
		*field = value;
}

static void read_real(
    struct config_reading *in, const config_setting_t *s, double *field)
{
	double value;

	if (is_integer(s)) {
		value = (double)integer_of(s);
	} else if (config_setting_type(s) == CONFIG_TYPE_FLOAT) {
		value = config_setting_get_float(s);
	} else {
		config_value_bad_type(in);
		return;
	}
	if (in_range(in, value, 0))
		*field = value;
}

/* Durations in us and sizes in bytes: a string with a unit, or an integer. */
void config_read_amount(
    struct config_reading *in, const config_setting_t *s, int64_t *field)
{
	bool size = in->key->type == CONFIG_SIZE;
	int64_t value = 0;
	uint64_t bytes;

	if (is_integer(s)) {
		value = integer_of(s);
		if (!size && __builtin_mul_overflow(value, 1000000, &value))
			value = value < 0 ? INT64_MIN : INT64_MAX;
	} else if (config_setting_type(s) == CONFIG_TYPE_STRING && size) {
		if (config_parse_size(config_setting_get_string(s), &bytes) <
		    0) {
			config_value_bad_type(in);
			return;
		}
		value = (int64_t)bytes;
	} else if (config_setting_type(s) != CONFIG_TYPE_STRING ||
	    config_parse_duration(config_setting_get_string(s), &value) < 0) {
		config_value_bad_type(in);
		return;
	}
	if (in_range(in, 0, value))
		*field = value;
}

static void read_enum(
    struct config_reading *in, const config_setting_t *s, int *field)
{
	char list[128] = "";
	const char *text, *near = NULL;
	unsigned best = 3; /* letters; more is another word */
	size_t len = 0;

	if (config_setting_type(s) != CONFIG_TYPE_STRING) {
		config_value_bad_type(in);
		return;
	}
	text = config_setting_get_string(s);
	for (int i = 0; in->key->choices[i]; i++) {
		const char *choice = in->key->choices[i];
		unsigned d = config_distance(choice, text);

		if (d == 0) {
			*field = i;
			return;
		}
		/* "warn", "INFO" */
		if (*text && strncasecmp(choice, text, strlen(text)) == 0)
			d = 1;
		if (d < best && d < strlen(choice)) {
			best = d;
			near = choice;
		}
		len += (size_t)snprintf(list + len, sizeof(list) - len,
		    "%s\"%s\"", i ? ", " : "", choice);
		ASSERT(len < sizeof(list));
	}
	config_value_bad(in, "must be one of %s, not \"%.80s\"%s%s%s", list,
	    text, near ? "; did you mean \"" : "", near ? near : "",
	    near ? "\"?" : "");
}

/* A copy of the string that s is, or NULL after telling what is wrong. */
char *config_read_text(struct config_reading *in, const config_setting_t *s)
{
	struct err why;
	const char *text;

	if ((in->key->flags & CONFIG_NUMBERS) && is_integer(s)) {
		char number[32];

		snprintf(number, sizeof(number), "%" PRId64, integer_of(s));
		if (in->key->check(number, &why) == 0)
			return xstrdup(number);
		config_value_bad(in, "%s", why.text);
		return NULL;
	}
	if (config_setting_type(s) != CONFIG_TYPE_STRING) {
		config_value_bad_type(in);
		return NULL;
	}
	text = config_setting_get_string(s);
	if ((in->key->flags & CONFIG_SECRET) &&
	    in->r->spots[in->key - config_keys].hidden)
		text = in->r->spots[in->key - config_keys].hidden;
	for (const char *p = text; *p; p++) {
		if ((unsigned char)*p >= ' ' && *p != 0x7f)
			continue;
		config_value_bad(in, "must not hold control characters");
		return NULL;
	}
	if (in->key->check && *text && in->key->check(text, &why) < 0) {
		config_value_bad(in, "%s", why.text);
		return NULL;
	}
	return xstrdup(text);
}

static void read_string(
    struct config_reading *in, const config_setting_t *s, char **field)
{
	char *text = config_read_text(in, s);

	if (!text)
		return;
	if (!*text && in->key->fallback) {
		config_value_bad(in, "must not be empty");
		free(text);
		return;
	}
	config_value_free(in->r->config, in->key);
	if (*text)
		*field = text;
	else
		free(text);
}

void config_value_read(struct config_reader *r, const struct config_key *key,
    const config_setting_t *s)
{
	size_t index = (size_t)(key - config_keys);
	struct config_reading in = {
		.r = r,
		.key = key,
		.line = r->spots[index].line,
		.quoted = config_setting_type(s) == CONFIG_TYPE_STRING,
	};
	void *field = field_of(r->config, key);

	switch (key->type) {
	case CONFIG_STRING:
		read_string(&in, s, field);
		break;
	case CONFIG_BOOL:
		if (config_setting_type(s) == CONFIG_TYPE_BOOL)
			*(bool *)field = config_setting_get_bool(s);
		else
			config_value_bad_type(&in);
		break;
	case CONFIG_INTEGER:
		read_integer(&in, s, field);
		break;
	case CONFIG_REAL:
		read_real(&in, s, field);
		break;
	case CONFIG_DURATION:
	case CONFIG_SIZE:
		config_read_amount(&in, s, field);
		break;
	case CONFIG_ENUM:
		read_enum(&in, s, field);
		break;
	case CONFIG_STRINGS:
		config_read_strings(&in, s, field);
		break;
	case CONFIG_DURATIONS:
		config_read_durations(&in, s, field);
		break;
	case CONFIG_RULES:
		config_read_rules(&in, s, field);
		break;
	}
	r->spots[index].bad |= in.failed;
}
