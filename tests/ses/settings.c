/*
 * The run-time settings: one table with name, type and default for the
 * parser, the printer and the defaults themselves.
 *
 * Owns the strings inside struct settings. A value is checked before it
 * replaces the old one, so a refused `set` changes nothing. Durations take
 * ms, s or m; a bare number is seconds for `idle` and milliseconds for the
 * latencies. What a setting means is decided where it is used.
 */
#include "settings.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

enum setting_type { S_RATE, S_COUNT, S_SECONDS, S_MILLIS, S_BOOL, S_TEXT };

struct setting {
	const char *name;
	enum setting_type type;
	size_t offset;
	const char *initial;
	const char *choices; /* of a text: " a b c ", NULL = anything */
};

#define AT(field) offsetof(struct settings, field)

static const struct setting table[] = {
	{ "rate", S_RATE, AT(rate), "0", NULL },
	{ "daily", S_COUNT, AT(daily), "0", NULL },
	{ "session_cap", S_COUNT, AT(session_cap), "0", NULL },
	{ "session_cap_phase", S_TEXT, AT(session_cap_phase), "mail",
	    " mail data dot " },
	{ "max_connections", S_COUNT, AT(max_connections), "0", NULL },
	{ "idle", S_SECONDS, AT(idle_ms), "10s", NULL },
	{ "max_recipients", S_COUNT, AT(max_recipients), "50", NULL },
	{ "max_size", S_COUNT, AT(max_size), "41943040", NULL },
	{ "latency", S_MILLIS, AT(latency_ms), "0", NULL },
	{ "dot_latency", S_MILLIS, AT(dot_latency_ms), "0", NULL },
	{ "bytewise", S_BOOL, AT(bytewise), "0", NULL },
	{ "starttls_after_tls", S_BOOL, AT(starttls_after_tls), "0", NULL },
	{ "size_advertised", S_COUNT, AT(size_advertised), "0", NULL },
	{ "auth", S_TEXT, AT(auth), "PLAIN LOGIN", NULL },
	{ "user", S_TEXT, AT(user), "AKIAIOSFODNN7EXAMPLE", NULL },
	{ "password", S_TEXT, AT(password), "secret", NULL },
	{ "account", S_TEXT, AT(account), "ok",
	    " ok paused unsubscribed denied " },
	{ "verified", S_TEXT, AT(verified), "", NULL },
	{ "region", S_TEXT, AT(region), "us-east-1", NULL },
	{ "strict_headers", S_BOOL, AT(strict_headers), "1", NULL },
	{ "trace", S_BOOL, AT(trace), "0", NULL },
	{ "no_close_notify", S_BOOL, AT(no_close_notify), "0", NULL },
};

#define SETTINGS (sizeof(table) / sizeof(table[0]))

static void *field(struct settings *s, const struct setting *t)
{
	return (char *)s + t->offset;
}

static const void *const_field(
    const struct settings *s, const struct setting *t)
{
	return (const char *)s + t->offset;
}

static const char *set_number(long *out, const char *value)
{
	char *end;
	long n;

	errno = 0;
	n = strtol(value, &end, 10);
	if (end == value || *end != '\0' || errno != 0 || n < 0)
		return "not a whole number";
	*out = n;
	return NULL;
}

static const char *set_duration(long *out, const char *value, double unit)
{
	char *end;
	double n = strtod(value, &end);

	if (strcmp(end, "ms") == 0)
		unit = 1;
	else if (strcmp(end, "s") == 0)
		unit = 1000;
	else if (strcmp(end, "m") == 0)
		unit = 60000;
	else if (*end != '\0')
		return "not a duration (ms, s, m)";
	if (end == value || !(n >= 0 && n * unit < 1e9))
		return "not a duration (ms, s, m)";
	*out = (long)(n * unit + 0.5);
	return NULL;
}

static const char *set_rate(double *out, const char *value)
{
	char *end;
	double n = strtod(value, &end);

	if (end == value || *end != '\0' || !(n >= 0 && n < 1e9))
		return "not a number";
	*out = n;
	return NULL;
}

static const char *set_bool(bool *out, const char *value)
{
	if (strcmp(value, "1") == 0 || strcmp(value, "on") == 0)
		*out = true;
	else if (strcmp(value, "0") == 0 || strcmp(value, "off") == 0)
		*out = false;
	else
		return "neither 0 nor 1";
	return NULL;
}

static const char *set_text(char **out, const char *value, const char *choices)
{
	if (choices != NULL) {
		struct buf word = { 0 };
		bool known;

		buf_addf(&word, " %s ", value);
		buf_add(&word, "", 1);
		known = strchr(value, ' ') == NULL &&
		    strstr(choices, word.data) != NULL;
		buf_free(&word);
		if (!known)
			return "not one of the possible values";
	}
	free(*out);
	*out = xstrdup(value);
	return NULL;
}

const char *settings_set(struct settings *s, const char *key, const char *value)
{
	for (size_t i = 0; i < SETTINGS; i++) {
		const struct setting *t = &table[i];

		if (strcmp(t->name, key) != 0)
			continue;
		switch (t->type) {
		case S_RATE:
			return set_rate(field(s, t), value);
		case S_COUNT:
			return set_number(field(s, t), value);
		case S_SECONDS:
			return set_duration(field(s, t), value, 1000);
		case S_MILLIS:
			return set_duration(field(s, t), value, 1);
		case S_BOOL:
			return set_bool(field(s, t), value);
		case S_TEXT:
			return set_text(field(s, t), value, t->choices);
		}
	}
	return "no such setting";
}

const char *settings_assign(struct settings *s, const char *text)
{
	size_t n = strcspn(text, "= ");
	const char *value = text + n, *wrong;
	char *key = xstrndup(text, n);

	if (*value != '\0')
		value++;
	wrong = settings_set(s, key, value);
	free(key);
	return wrong;
}

void settings_init(struct settings *s)
{
	memset(s, 0, sizeof(*s));
	for (size_t i = 0; i < SETTINGS; i++)
		(void)settings_set(s, table[i].name, table[i].initial);
}

void settings_free(struct settings *s)
{
	for (size_t i = 0; i < SETTINGS; i++) {
		if (table[i].type == S_TEXT) {
			char **text = field(s, &table[i]);

			free(*text);
			*text = NULL;
		}
	}
}

void settings_print(const struct settings *s, struct buf *out)
{
	for (size_t i = 0; i < SETTINGS; i++) {
		const struct setting *t = &table[i];
		const void *p = const_field(s, t);

		buf_addf(out, "%s=", t->name);
		switch (t->type) {
		case S_RATE:
			buf_addf(out, "%g", *(const double *)p);
			break;
		case S_COUNT:
			buf_addf(out, "%ld", *(const long *)p);
			break;
		case S_SECONDS:
		case S_MILLIS:
			buf_addf(out, "%ldms", *(const long *)p);
			break;
		case S_BOOL:
			buf_addf(out, "%d", *(const bool *)p);
			break;
		case S_TEXT:
			buf_adds(out, *(char *const *)p);
			break;
		}
		buf_add(out, "\n", 1);
	}
}
