/*
 * What -T prints, of random configurations: it loads, to the same values, and
 * prints the same again.
 *
 * Values are made by the table: each key by its type, within its range, from
 * the bounds more often than from between; strings by samples of what their
 * check takes.  What was meant is kept beside the text, in the form that the
 * field has, so that a value that is lost in printing or reading is missed.
 */
#include "config_files.h"

#include <inttypes.h>

#define ROUNDS 400

static uint64_t seed;

static uint64_t next_random(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed;
}

static uint64_t below(uint64_t n)
{
	return next_random() % n;
}

/* A bound, near one, or in between on a logarithmic scale. */
static int64_t amount(int64_t min, int64_t max)
{
	uint64_t span = (uint64_t)max - (uint64_t)min;
	uint64_t part;

	switch (below(6)) {
	case 0:
		return min;
	case 1:
		return max;
	case 2:
		return max - (int64_t)below(span < 1000 ? span + 1 : 1000);
	default:
		part = span >> below(64);
		return min + (int64_t)(part > 0 ? below(part) : 0);
	}
}

struct sample {
	int (*check)(const char *text, struct err *err);
	const char *texts[8];
};

static const struct sample samples[] = {
	{ config_check_address,
	    { "127.0.0.1:25", "[::1]:2525", "127.9.8.7:0",
		"unix:/run/x \"y\"\\z" } },
	{ config_check_network, { "10.0.0.0/8", "::1/128", "192.0.2.1" } },
	{ config_check_hostname,
	    { "a", "relay.example.com", "x_y-z.1.example" } },
	{ config_check_endpoint, { "localhost", "smtp.example.com" } },
	{ config_check_port, { "587", "465", "10587:starttls", "1:wrapper" } },
	{ config_check_ip, { "192.0.2.7", "2001:db8::7" } },
	{ config_check_path,
	    { "/", "/s p", "/a\"b\\c/'d'", "/\xc3\xa4\xff", "/#//*x*/" } },
	{ config_check_socket, { "/run/x", "/t m p/\"x\"" } },
	{ config_check_name, { "set-1", "_" } },
	{ config_check_tag, { "a=b", "team=x_1" } },
	{ config_check_arn, { "arn:a", "arn:x\"\\y" } },
	{ config_check_mailbox,
	    { "a@example.com", "\"x \\\" y\"@example.com" } },
	{ config_check_bounce_to, { "sender", "a@example.com" } },
	{ config_check_ident, { "postfix", "a.b_c-d" } },
	{ config_check_visible, { "pass\"w\\rd", "x" } },
};

static const char *sample(const struct config_key *key)
{
	for (size_t i = 0; i < ARRAY_LEN(samples); i++) {
		size_t n = 0;

		if (samples[i].check != key->check)
			continue;
		while (n < ARRAY_LEN(samples[i].texts) && samples[i].texts[n])
			n++;
		return samples[i].texts[below(n)];
	}
	/* Of credentials.c; these are not tried. */
	return NULL;
}

/* Made values, of one key. */
struct made {
	bool set;
	int64_t number;
	double real;
	const char *strings[2 * BACKOFF_MAX_STEPS];
	int64_t numbers[BACKOFF_MAX_STEPS];
	unsigned n;
};

static void put_quoted(FILE *f, const char *text)
{
	putc('"', f);
	for (; *text; text++) {
		if (*text == '"' || *text == '\\')
			putc('\\', f);
		putc(*text, f);
	}
	putc('"', f);
}

/* In one of the ways in which it may be written. */
static void put_amount(FILE *f, const struct config_key *key, int64_t value)
{
	bool size = key->type == CONFIG_SIZE;
	char text[32];

	if (size && value <= INT32_MAX && below(2))
		fprintf(f, "%" PRId64, value);
	else if (size && below(2))
		fprintf(f, "%" PRId64 "L", value);
	else if (size)
		fputs(
		    config_format_size((uint64_t)value, text, sizeof(text)), f);
	else if (value % 1000000 == 0 && below(2))
		fprintf(f, "\"%" PRId64 "s\"", value / 1000000);
	else
		fprintf(f, "\"%" PRId64 "ms\"", value / 1000);
}

static void make_list(FILE *f, const struct config_key *key, struct made *m)
{
	bool rules = key->type == CONFIG_RULES;
	unsigned n = 1 + (unsigned)below(4);

	/* Some must not be empty, nor hold the same twice. */
	if (strcmp(key->name, "smtp.listen") == 0 ||
	    strcmp(key->name, "ses.ports") == 0)
		n = 1;
	fputs(rules ? "( " : "[ ", f);
	for (unsigned i = 0; i < n; i++) {
		fputs(i ? ", " : "", f);
		if (rules) {
			m->strings[m->n++] = below(2) ? "*@*" : "a\"\\b";
			fputs("{ match = ", f);
			put_quoted(f, m->strings[m->n - 1]);
			fputs("; address = ", f);
		}
		m->strings[m->n++] = sample(key);
		put_quoted(f, m->strings[m->n - 1]);
		fputs(rules ? "; }" : "", f);
	}
	fputs(rules ? " )" : " ]", f);
}

static void make_durations(
    FILE *f, const struct config_key *key, struct made *m)
{
	m->n = 1 + (unsigned)below(BACKOFF_MAX_STEPS);
	fputs("[ ", f);
	for (unsigned i = 0; i < m->n; i++) {
		m->numbers[i] = amount(key->min, key->max) / 1000 * 1000;
		fputs(i ? ", " : "", f);
		put_amount(f, key, m->numbers[i]);
	}
	fputs(" ]", f);
}

static unsigned n_choices(const struct config_key *key)
{
	unsigned n = 0;

	while (key->choices[n])
		n++;
	return n;
}

static void make(FILE *f, const struct config_key *key, struct made *m)
{
	switch (key->type) {
	case CONFIG_STRING:
		m->strings[0] = sample(key);
		put_quoted(f, m->strings[0]);
		break;
	case CONFIG_BOOL:
		m->number = (int64_t)below(2);
		fputs(m->number ? "true" : "false", f);
		break;
	case CONFIG_INTEGER:
		m->number = amount(key->min, key->max);
		if (strcmp(key->name, "ses.mss") == 0 && m->number < 88)
			m->number = 88;
		fprintf(f, "%" PRId64 "%s", m->number,
		    m->number > INT32_MAX ? "L" : "");
		break;
	case CONFIG_REAL:
		m->real = (double)amount(key->min, key->max) /
		    (double)(1 + below(1000000));
		fprintf(f, "%.17g%s", m->real,
		    m->real == (double)(int64_t)m->real ? ".0" : "");
		break;
	case CONFIG_DURATION:
		m->number = amount(key->min, key->max) / 1000 * 1000;
		put_amount(f, key, m->number);
		break;
	case CONFIG_SIZE:
		m->number = amount(key->min, key->max);
		put_amount(f, key, m->number);
		break;
	case CONFIG_ENUM:
		m->number = (int64_t)below(n_choices(key));
		put_quoted(f, key->choices[m->number]);
		break;
	case CONFIG_STRINGS:
	case CONFIG_RULES:
		make_list(f, key, m);
		break;
	case CONFIG_DURATIONS:
		make_durations(f, key, m);
		break;
	}
}

static bool string_is(const char *field, const char *made)
{
	return field && strcmp(field, made) == 0;
}

static bool is_as_made(
    const struct config *c, const struct config_key *key, const struct made *m)
{
	const void *field = (const char *)c + key->offset;
	const struct config_strings *strings = field;
	const struct config_durations *durations = field;
	const struct config_rules *rules = field;
	bool same = true;

	switch (key->type) {
	case CONFIG_STRING:
		return string_is(*(char *const *)field, m->strings[0]);
	case CONFIG_BOOL:
		return *(const bool *)field == (m->number != 0);
	case CONFIG_INTEGER:
	case CONFIG_DURATION:
	case CONFIG_SIZE:
		return *(const int64_t *)field == m->number;
	case CONFIG_REAL:
		return memcmp(field, &m->real, sizeof(m->real)) == 0;
	case CONFIG_ENUM:
		return *(const int *)field == m->number;
	case CONFIG_STRINGS:
		for (unsigned i = 0; i < m->n && same; i++)
			same = i < strings->n &&
			    string_is(strings->items[i], m->strings[i]);
		return same && strings->n == m->n;
	case CONFIG_DURATIONS:
		return durations->n == m->n &&
		    memcmp(durations->us, m->numbers,
			m->n * sizeof(m->numbers[0])) == 0;
	case CONFIG_RULES:
		for (unsigned i = 0; 2 * i < m->n && same; i++)
			same = i < rules->n &&
			    string_is(
				rules->items[i].match, m->strings[2 * i]) &&
			    string_is(
				rules->items[i].address, m->strings[2 * i + 1]);
		return same && 2 * rules->n == m->n;
	}
	return false;
}

/* These name files that are read, or depend on each other: fixed here. */
static bool is_made(const struct config_key *key)
{
	static const char *const fixed[] = { "ses.region", "ses.username",
		"ses.password_file", "ses.secret_key_file",
		"rewrite.aliases_file" };

	for (size_t i = 0; i < ARRAY_LEN(fixed); i++)
		if (strcmp(key->name, fixed[i]) == 0)
			return false;
	return true;
}

/* Keys in a random part of their groups' pieces, some of them left out. */
static char *make_file(struct made *made)
{
	char *text = NULL;
	size_t size;
	FILE *f = open_memstream(&text, &size);

	assert_non_null(f);
	fputs("ses: { region = \"eu-west-1\"; username = \"AKIA\"; "
	      "password_file = \"%D/pw\"; };\n",
	    f);
	for (size_t i = 0; i < config_n_keys; i++) {
		const struct config_key *key = &config_keys[i];
		size_t group = strcspn(key->name, ".");

		made[i] = (struct made){ .set = is_made(key) && below(4) };
		if (!made[i].set)
			continue;
		fprintf(f, "%.*s: { %s = ", (int)group, key->name,
		    key->name + group + 1);
		make(f, key, &made[i]);
		fputs("; };\n", f);
	}
	assert_int_equal(fclose(f), 0);
	return text;
}

static void check_round(uint64_t round)
{
	struct made *made = xcalloc(config_n_keys, sizeof(*made));
	struct config *c, *again;
	char *text, *first, *second;

	seed = (round + 1) * UINT64_C(0x9e3779b97f4a7c15);
	text = make_file(made);
	c = must_load(text);
	first = dump_of(c);
	again = must_load(first);
	second = dump_of(again);
	assert_string_equal(first, second);
	for (size_t i = 0; i < config_n_keys; i++) {
		const struct config_key *key = &config_keys[i];
		bool secret = key->flags & CONFIG_SECRET;

		if (made[i].set &&
		    (!is_as_made(c, key, &made[i]) ||
			(!secret && !is_as_made(again, key, &made[i]))))
			fail_msg("round %" PRIu64 ": %s is not what was made "
				 "in:\n%s",
			    round, key->name, text);
		if (!secret && !config_value_same(c, again, key))
			fail_msg("round %" PRIu64 ": %s is lost in:\n%s", round,
			    key->name, first);
	}
	free(first);
	free(second);
	free(text);
	free(made);
	config_free(c);
	config_free(again);
}

static void test_random(void **state)
{
	(void)state;
	for (uint64_t i = 0; i < ROUNDS; i++)
		check_round(i);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_random),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
