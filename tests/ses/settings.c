/*
 * The run-time settings: one table with name, type and default for the
 * parser, the printer and the defaults themselves.
 *
 * Owns the strings inside struct settings. A value is checked before it
 * replaces the old one, so a refused `set` changes nothing. Durations take
 * ms, s or m; a bare number is seconds for `idle` and milliseconds for the
 * latencies. What a setting means is decided where it is used.
 */
#include "link.h"
#include "settings.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

enum setting_type {
	S_RATE,
	S_COUNT,
	S_SECONDS,
	S_MILLIS,
	S_BOOL,
	S_TEXT, /* from here on: the struct owns a string */
	S_USERS,
	S_CIPHERS,
};

struct setting {
	const char *name;
	enum setting_type type;
	size_t offset;
	const char *initial;
	const char *choices; /* of a text: " a b c ", NULL = anything */
};

#define AT(field) offsetof(struct settings, field)
#define LATENCY(name, phase)                                                   \
	{                                                                      \
		name, S_MILLIS, AT(phase_latency_ms[phase]), "0", NULL         \
	}

static const struct setting table[] = {
	{ "rate", S_RATE, AT(rate), "0", NULL },
	{ "rate_burst", S_SECONDS, AT(rate_burst_ms), "1s", NULL },
	{ "daily", S_COUNT, AT(daily), "0", NULL },
	{ "session_cap", S_COUNT, AT(session_cap), "0", NULL },
	{ "session_cap_phase", S_TEXT, AT(session_cap_phase), "mail",
	    " mail data dot " },
	{ "max_connections", S_COUNT, AT(max_connections), "0", NULL },
	{ "idle", S_SECONDS, AT(idle_ms), "10s", NULL },
	{ "max_recipients", S_COUNT, AT(max_recipients), "50", NULL },
	{ "max_size", S_COUNT, AT(max_size), "41943040", NULL },
	{ "latency", S_MILLIS, AT(latency_ms), "0", NULL },
	LATENCY("connect_latency", PHASE_CONNECT),
	LATENCY("tls_latency", PHASE_TLS),
	LATENCY("ehlo_latency", PHASE_EHLO),
	LATENCY("starttls_latency", PHASE_STARTTLS),
	LATENCY("auth_latency", PHASE_AUTH),
	LATENCY("mail_latency", PHASE_MAIL),
	LATENCY("rcpt_latency", PHASE_RCPT),
	LATENCY("data_latency", PHASE_DATA),
	LATENCY("dot_latency", PHASE_DOT),
	LATENCY("rset_latency", PHASE_RSET),
	LATENCY("noop_latency", PHASE_NOOP),
	LATENCY("quit_latency", PHASE_QUIT),
	{ "jitter", S_MILLIS, AT(jitter_ms), "0", NULL },
	{ "write_rate", S_COUNT, AT(write_rate), "0", NULL },
	{ "read_rate", S_COUNT, AT(read_rate), "0", NULL },
	{ "receive_buffer", S_COUNT, AT(receive_buffer), "0", NULL },
	{ "bytewise", S_BOOL, AT(bytewise), "0", NULL },
	{ "starttls_after_tls", S_BOOL, AT(starttls_after_tls), "0", NULL },
	{ "size_advertised", S_COUNT, AT(size_advertised), "0", NULL },
	{ "auth", S_TEXT, AT(auth), "PLAIN LOGIN", NULL },
	{ "user", S_TEXT, AT(user), "AKIAIOSFODNN7EXAMPLE", NULL },
	{ "password", S_TEXT, AT(password), "secret", NULL },
	{ "users", S_USERS, AT(users), "", NULL },
	{ "account", S_TEXT, AT(account), "ok",
	    " ok invalid unsubscribed auth-temporary paused denied "
	    "unverified mailfrom-unverified configset-missing "
	    "configset-paused configset-denied tenant-paused " },
	{ "verified", S_TEXT, AT(verified), "", NULL },
	{ "sandbox", S_BOOL, AT(sandbox), "0", NULL },
	{ "configuration_sets", S_TEXT, AT(configuration_sets), "", NULL },
	{ "region", S_TEXT, AT(region), "us-east-1", NULL },
	{ "strict_headers", S_BOOL, AT(strict_headers), "1", NULL },
	{ "trace", S_BOOL, AT(trace), "0", NULL },
	{ "no_close_notify", S_BOOL, AT(no_close_notify), "0", NULL },
	{ "user_canceled", S_BOOL, AT(user_canceled), "0", NULL },
	{ "tls_min", S_TEXT, AT(tls_min), "1.2", " 1.0 1.1 1.2 1.3 " },
	{ "tls_max", S_TEXT, AT(tls_max), "1.3", " 1.0 1.1 1.2 1.3 " },
	{ "ciphers", S_CIPHERS, AT(ciphers), "", NULL },
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

static void replace(char **text, const char *value)
{
	free(*text);
	*text = xstrdup(value);
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
	replace(out, value);
	return NULL;
}

/* NAME:PASSWORD, any number of times. */
static const char *set_users(char **out, const char *value)
{
	for (const char *p = value + strspn(value, " "); *p != '\0';
	     p += strspn(p, " ")) {
		size_t n = strcspn(p, " ");
		const char *colon = memchr(p, ':', n);

		if (colon == NULL || colon == p)
			return "not NAME:PASSWORD with spaces between";
		p += n;
	}
	replace(out, value);
	return NULL;
}

static const char *set_ciphers(char **out, const char *value)
{
	if (value[0] != '\0' && !link_ciphers_known(value))
		return "not a list of ciphers to OpenSSL";
	replace(out, value);
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
		case S_USERS:
			return set_users(field(s, t), value);
		case S_CIPHERS:
			return set_ciphers(field(s, t), value);
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
		if (table[i].type >= S_TEXT) {
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
		case S_USERS:
		case S_CIPHERS:
			buf_adds(out, *(char *const *)p);
			break;
		}
		buf_add(out, "\n", 1);
	}
}

void settings_print_words(struct buf *out)
{
	for (size_t i = 0; i < SETTINGS; i++) {
		const char *p = table[i].choices;

		buf_addf(out, "setting %s\n", table[i].name);
		if (p == NULL || strcmp(table[i].name, "account") != 0)
			continue;
		while (*(p += strspn(p, " ")) != '\0') {
			size_t n = strcspn(p, " ");

			buf_addf(out, "account %.*s\n", (int)n, p);
			p += n;
		}
	}
}
