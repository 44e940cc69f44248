/*
 * The configuration as a whole: defaults, what is derived, printing, comparing,
 * the shipped file, the examples of the manual, and damage.
 */
#include "config_files.h"

#include "base/clock.h"
#include "credentials.h"
#include "smtp/aliases.h"

#include <arpa/inet.h>
#include <netinet/in.h>

static void test_defaults(void **state)
{
	struct config *c = must_load(SES);

	(void)state;
	for (size_t i = 0; i < config_n_keys; i++) {
		const struct config_key *key = &config_keys[i];

		if (key->fallback)
			assert_key(c, key->name, key->fallback);
		else if (strncmp(key->name, "ses.", 4) != 0 &&
		    strcmp(key->name, "smtp.hostname") != 0)
			assert_true(config_value_unset(c, key));
	}
	assert_string_equal(c->warnings, "");
	assert_true(config_allow_is_default(c));
	config_free(c);
	config_free(NULL);
}

/* Groups stand together, names are unique and well-formed. */
static void test_table(void **state)
{
	(void)state;
	for (size_t i = 0; i < config_n_keys; i++) {
		const struct config_key *key = &config_keys[i];
		size_t group = strcspn(key->name, ".");

		assert_int_equal(
		    strspn(key->name, "abcdefghijklmnopqrstuvwxyz_."),
		    strlen(key->name));
		assert_true(key->name[group] == '.');
		assert_true(key->help && *key->help);
		assert_int_equal(config_find_key(key->name), i);
		assert_true((key->type == CONFIG_ENUM) == !!key->choices);
		assert_true(key->min <= key->max);
		for (size_t j = i + 2; j < config_n_keys; j++)
			if (strncmp(
				key->name, config_keys[j].name, group + 1) == 0)
				assert_memory_equal(key->name,
				    config_keys[j - 1].name, group + 1);
	}
	assert_int_equal(config_find_key("smtp"), -1);
}

static void test_options_of_defaults(void **state)
{
	struct config *c = must_load(SES);
	const struct relay_config *o = &c->options;
	static const int64_t waits_s[] = { 5, 10, 30, 300, 1200 };

	(void)state;
	assert_string_equal(c->endpoint, "email-smtp.eu-west-1.amazonaws.com");
	assert_ptr_equal(o->pool.host, c->endpoint);
	assert_ptr_equal(o->pool.hostname, c->smtp.hostname);
	assert_ptr_equal(o->pool.auth_plain, c->credentials->plain);
	assert_ptr_equal(o->pool.auth_user, c->credentials->login_user);
	assert_ptr_equal(o->pool.auth_pass, c->credentials->login_pass);
	assert_null(o->pool.ca_file);
	assert_int_equal(o->pool.mss, 0);
	assert_int_equal(o->pool.source_len, 0);
	assert_int_equal(o->pool.max_connections, 20);
	assert_int_equal(o->pool.rotate.messages_per_connection, 50);
	assert_int_equal(o->pool.rotate.lifetime_us, 60 * US_PER_S);
	assert_int_equal(o->pool.rotate.idle_timeout_us, 4 * US_PER_S);
	assert_int_equal(o->pool.timeouts.connect_us, 10 * US_PER_S);
	assert_int_equal(o->pool.timeouts.tls_us, 15 * US_PER_S);
	assert_int_equal(o->pool.timeouts.greeting_us, 30 * US_PER_S);
	assert_int_equal(o->pool.timeouts.command_us, 60 * US_PER_S);
	assert_int_equal(o->pool.timeouts.data_us, 180 * US_PER_S);
	assert_int_equal(o->pool.timeouts.final_us, 600 * US_PER_S);

	assert_ptr_equal(o->inbound.server.hostname, c->smtp.hostname);
	assert_int_equal(o->inbound.server.max_message_size, 40000000);
	assert_int_equal(o->inbound.server.max_recipients, 1000);
	assert_false(o->inbound.server.reject_bare_newline);
	assert_false(o->inbound.server.accept_any_auth);
	assert_ptr_equal(o->inbound.server.rewrite, c->rewrite_rules);
	assert_null(c->rewrite_rules->default_domain);
	assert_string_equal(c->rewrite_rules->hostname, c->smtp.hostname);
	assert_null(c->rewrite_rules->aliases);
	assert_int_equal(c->rewrite_rules->n_senders, 0);
	assert_int_equal(c->rewrite_rules->n_recipients, 0);
	assert_true(c->rewrite_rules->add_headers);
	assert_false(c->rewrite_rules->reject_duplicates);
	assert_false(c->rewrite_rules->keep_ses_headers);
	assert_string_equal(c->rewrite_rules->ses_headers, "");
	assert_int_equal(o->inbound.n_allow, 2);
	assert_int_equal(o->inbound.allow[0].family, AF_INET);
	assert_int_equal(o->inbound.allow[0].prefix, 8);
	assert_int_equal(o->inbound.allow[1].family, AF_INET6);
	assert_int_equal(o->inbound.max_sessions, 1000);
	assert_int_equal(o->inbound.timeout_us, 300 * US_PER_S);

	assert_string_equal(o->spool.directory, "/var/spool/sesrelayd");
	assert_true(o->spool.durable);
	assert_int_equal(o->spool.min_free_bytes, 64000000);
	assert_int_equal(o->spool.max_bytes, 0);
	assert_int_equal(o->spool.max_messages, 0);
	assert_int_equal(o->spool.keep_failed_us, 14 * 86400 * US_PER_S);

	assert_int_equal(o->relay.backoff.n_waits, ARRAY_LEN(waits_s));
	for (size_t i = 0; i < ARRAY_LEN(waits_s); i++)
		assert_int_equal(
		    o->relay.backoff.waits_us[i], waits_s[i] * US_PER_S);
	assert_int_equal(o->relay.backoff.expire_us, 4 * 86400 * US_PER_S);
	assert_int_equal(o->relay.recipients_per_message, 50);
	assert_false(o->relay.hold_uncertain);
	assert_null(o->relay.bounce_from);
	assert_null(o->relay.bounce_to);
	assert_int_equal(c->log_options.target, LOG_TARGET_AUTO);
	assert_int_equal(c->log_options.format, LOG_FORMAT_TEXT);
	assert_int_equal(c->log_options.level, LOG_LEVEL_INFO);
	assert_string_equal(c->log_options.name, "sesrelayd");
	config_free(c);
}

/* Every key at something else than its default. */
static const char unusual[] =
    "smtp: { listen = [ \"127.0.0.1:0\", \"10.0.0.1:2525\" ];\n"
    " allow = \"10.0.0.0/8\"; hostname = \"relay.example.com\";\n"
    " max_sessions = 7; max_message_size = 1025; max_recipients = 8;\n"
    " timeout = \"1500ms\"; bare_newline = \"reject\";\n"
    " accept_any_auth = TRUE; };\n"
    "ses: { " SES_KEYS "\n"
    " endpoint = \"localhost\"; ports = ( 587, \"10465:wrapper\" );\n"
    " secret_key_file = \"/s\"; password = \"quite\\\"secret\\\\\";\n"
    " ca_file = \"/ca \\\"1\\\".pem\"; configuration_set = \"set-1\";\n"
    " tags = [ \"a=b\", \"team=x_1\" ]; source_arn = \"arn:a\";\n"
    " from_arn = \"arn:b\"; return_path_arn = \"arn:c\"; tenant = \"t\";\n"
    " client_headers = \"keep\"; mss = 1200;\n"
    " source_address = \"192.0.2.7\"; };\n"
    "delivery: { connections = 3; messages_per_connection = 4;\n"
    " connection_lifetime = 90; idle_timeout = \"250ms\";\n"
    " adaptive_rotation = false; rate = 0.1; retry = ( 1, \"2m\" );\n"
    " expire = \"36h\"; recipients_per_message = 1; uncertain = \"hold\";\n"
    " timeout_connect = 1; timeout_tls = 2; timeout_greeting = 3;\n"
    " timeout_command = 4; timeout_data = 5; timeout_final = 6; };\n"
    "spool: { directory = \"/s p\"; durability = \"none\";\n"
    " min_free = 0; max_messages = 2147483647; max_size = \"5G\";\n"
    " keep_failed = \"1d\"; };\n"
    "rewrite: { default_domain = \"example.com\";\n"
    " senders = ( { match = \"*@*\"; address = \"a@example.com\"; },\n"
    "  { address = \"b@example.com\"; match = \"x\"; } );\n"
    " aliases_file = \"%D/aliases\";\n"
    " recipients = ( { match = \"root\"; address = \"ops@e.com\"; } );\n"
    " add_headers = false; duplicate_headers = \"reject\"; };\n"
    "bounce: { from = \"a@b.com\"; to = \"c@d.com\"; };\n"
    "log: { target = \"syslog\"; format = \"json\"; level = \"debug\";\n"
    " name = \"postfix\"; };\n"
    "http: { listen = \"127.0.0.1:9125\"; allow = [ ]; };\n"
    "control: { socket = \"/tmp/c\"; group = \"adm\"; };\n";

static void check_unusual_rules(const struct rewrite_rules *r)
{
	assert_string_equal(r->default_domain, "example.com");
	assert_string_equal(r->hostname, "relay.example.com");
	assert_int_equal(r->n_senders, 2);
	assert_string_equal(r->senders[0].match, "*@*");
	assert_string_equal(r->senders[0].address, "a@example.com");
	assert_string_equal(r->senders[1].match, "x");
	assert_int_equal(r->n_recipients, 1);
	assert_string_equal(r->recipients[0].address, "ops@e.com");
	assert_int_equal(aliases_count(r->aliases), 1);
	assert_false(r->add_headers);
	assert_true(r->reject_duplicates);
	assert_true(r->keep_ses_headers);
	assert_string_equal(r->ses_headers,
	    "X-SES-CONFIGURATION-SET: set-1\r\n"
	    "X-SES-MESSAGE-TAGS: a=b, team=x_1\r\n"
	    "X-SES-SOURCE-ARN: arn:a\r\n"
	    "X-SES-FROM-ARN: arn:b\r\n"
	    "X-SES-RETURN-PATH-ARN: arn:c\r\n"
	    "X-SES-TENANT: t\r\n");
}

static void test_options_of_the_unusual(void **state)
{
	struct config *c = must_load(unusual);
	const struct relay_config *o = &c->options;
	struct sockaddr_in source;

	(void)state;
	assert_string_equal(c->endpoint, "localhost");
	assert_int_equal(o->pool.n_ports, 2);
	assert_int_equal(o->pool.ports[0].port, 587);
	assert_false(o->pool.ports[0].wrapper);
	assert_int_equal(o->pool.ports[1].port, 10465);
	assert_true(o->pool.ports[1].wrapper);
	assert_string_equal(o->pool.ca_file, "/ca \"1\".pem");
	assert_int_equal(o->pool.mss, 1200);
	assert_int_equal(o->pool.source_len, sizeof(source));
	memcpy(&source, &o->pool.source, sizeof(source));
	assert_int_equal(source.sin_family, AF_INET);
	assert_int_equal(source.sin_addr.s_addr, inet_addr("192.0.2.7"));
	assert_true(o->inbound.server.reject_bare_newline);
	assert_true(o->inbound.server.accept_any_auth);
	check_unusual_rules(o->inbound.server.rewrite);
	assert_int_equal(o->inbound.n_allow, 1);
	assert_false(config_allow_is_default(c));
	assert_false(o->spool.durable);
	assert_int_equal(o->spool.max_messages, INT32_MAX);
	assert_int_equal(o->spool.max_bytes, UINT64_C(5000000000));
	assert_true(o->relay.hold_uncertain);
	assert_string_equal(o->relay.bounce_from, "a@b.com");
	assert_string_equal(o->relay.bounce_to, "c@d.com");
	assert_string_equal(o->relay.hostname, "relay.example.com");
	assert_int_equal(o->relay.backoff.n_waits, 2);
	assert_int_equal(o->relay.backoff.waits_us[1], 120 * US_PER_S);
	assert_int_equal(c->log_options.target, LOG_TARGET_SYSLOG);
	assert_int_equal(c->log_options.format, LOG_FORMAT_JSON);
	assert_int_equal(c->log_options.level, LOG_LEVEL_DEBUG);
	/* The first source of the password in use is the file. */
	assert_has(c->credentials->source, "ses.password_file");
	assert_has(c->warnings, "more than one of 'ses.password_file'");
	for (size_t i = 0; i < config_n_keys; i++) {
		char *text;

		assert_false(config_value_unset(c, &config_keys[i]));
		if (config_keys[i].flags & CONFIG_SECRET)
			continue;
		text = config_value_text(c, &config_keys[i]);
		if (config_keys[i].fallback)
			assert_string_not_equal(text, config_keys[i].fallback);
		free(text);
	}
	config_free(c);
}

static void test_source_address_v6(void **state)
{
	struct config *c = must_load(
	    "ses: { " SES_KEYS "source_address = \"2001:db8::7\"; };");
	struct sockaddr_in6 source;
	struct in6_addr expected;

	(void)state;
	assert_int_equal(inet_pton(AF_INET6, "2001:db8::7", &expected), 1);
	assert_int_equal(c->options.pool.source_len, sizeof(source));
	memcpy(&source, &c->options.pool.source, sizeof(source));
	assert_int_equal(source.sin6_family, AF_INET6);
	assert_memory_equal(&source.sin6_addr, &expected, sizeof(expected));
	config_free(c);
}

static void test_dump_loads_to_the_same(void **state)
{
	const char *const texts[] = { SES, unusual };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		struct config *c = must_load(texts[i]);
		char *first = dump_of(c), *second;
		struct config *again = must_load(first);

		second = dump_of(again);
		assert_string_equal(first, second);
		for (size_t k = 0; k < config_n_keys; k++) {
			const struct config_key *key = &config_keys[k];

			if (!(key->flags & CONFIG_SECRET))
				assert_true(config_value_same(c, again, key));
			else if (c->ses.password)
				assert_string_equal(
				    again->ses.password, "********");
		}
		assert_null(strstr(first, "secret\\\""));
		assert_int_equal(
		    !strstr(first, "password = "), !c->ses.password);
		free(first);
		free(second);
		config_free(c);
		config_free(again);
	}
}

struct changes {
	char *text;
	unsigned n;
};

static void note_change(
    void *ctx, const struct config_key *key, const char *from, const char *to)
{
	struct changes *changes = ctx;
	char *longer =
	    xasprintf("%s%s: %s -> %s\n", changes->text, key->name, from, to);

	free(changes->text);
	changes->text = longer;
	changes->n++;
}

static void test_diff(void **state)
{
	struct config *a = must_load("ses: { region = \"us-east-1\"; "
				     "username = \"A\"; password = \"old\"; };"
				     "log: { level = \"info\"; };");
	struct config *b =
	    must_load("ses: { region = \"us-east-1\"; username = \"A\"; "
		      "password = \"new\"; endpoint = \"smtp.example.com\"; };"
		      "log: { level = \"debug\"; }; smtp: { timeout = 300; };");
	struct changes changes = { xstrdup(""), 0 };

	(void)state;
	config_diff(a, a, NULL, note_change, &changes);
	assert_int_equal(changes.n, 0);
	config_diff(a, b, NULL, note_change, &changes);
	/* smtp.timeout is written otherwise, and the same. */
	assert_string_equal(changes.text,
	    "ses.endpoint: none -> \"smtp.example.com\"\n"
	    "ses.password: \"********\" -> \"********\"\n"
	    "log.level: \"info\" -> \"debug\"\n");
	free(changes.text);
	config_free(a);
	config_free(b);
}

static void test_schema(void **state)
{
	char *text = NULL, *line, *rest;
	size_t size, n = 0;
	FILE *f = open_memstream(&text, &size);

	(void)state;
	config_print_schema(f);
	assert_int_equal(fclose(f), 0);
	assert_has(
	    text, "smtp.timeout\tduration\t\"5m\"\tR\tfor a command line");
	assert_has(text,
	    "\nspool.directory\tstring\t"
	    "\"/var/spool/sesrelayd\"\t-\t");
	assert_has(text, "\nbounce.from\tstring\tnone\tR\t");
	assert_has(text, "\nses.tenant\tstring\tnone\tR\t");
	for (rest = text; (line = strsep(&rest, "\n")) && *line; n++) {
		unsigned tabs = 0;

		for (; *line; line++)
			tabs += *line == '\t';
		assert_int_equal(tabs, 4);
	}
	assert_int_equal(n, config_n_keys);
	free(text);
}

/* Is there a line `\tLEAF = ` in the group of `name`? */
static bool shows(const char *conf, const char *name)
{
	char *group = xasprintf("\n%.*s: {\n", (int)strcspn(name, "."), name);
	char *setting = xasprintf("\n\t%s = ", strchr(name, '.') + 1);
	const char *from = strstr(conf, group);
	const char *found = from ? strstr(from, setting) : NULL;
	const char *end = from ? strstr(from, "\n};") : NULL;

	free(group);
	free(setting);
	return found && end && found < end;
}

/* conf/sesrelayd.conf, whole: what is commented out there is the default. */
static void test_shipped_file(void **state)
{
	static const char password_file[] = "/etc/sesrelayd/ses-password";
	char *text = read_source("conf/sesrelayd.conf"), *to = text, *path;
	struct config *shipped, *plain;
	struct changes changes = { xstrdup(""), 0 };

	(void)state;
	for (char *from = text; *from; from++)
		if (from == text || from[-1] != '\t' || *from != '#' ||
		    from[1] == ' ')
			*to++ = *from;
	*to = '\0';
	assert_has(text, "\tdirectory = ");
	for (size_t i = 0; i < config_n_keys; i++) {
		const struct config_key *key = &config_keys[i];
		bool wanted = !(key->flags & CONFIG_SECRET);

		if (shows(text, key->name) != wanted)
			fail_msg("conf/sesrelayd.conf should%s show %s",
			    wanted ? "" : " not", key->name);
	}
	path = strstr(text, password_file);
	assert_non_null(path);
	*path = '\0';
	to = xasprintf("%s%%D/pw%s", text, path + strlen(password_file));
	shipped = must_load(to);
	plain = must_load(SES);
	config_diff(plain, shipped, NULL, note_change, &changes);
	assert_string_equal(changes.text, "");
	assert_string_equal(shipped->warnings, "");
	free(to);
	free(text);
	free(changes.text);
	config_free(shipped);
	config_free(plain);
}

/* Each literal block of the manual is a configuration. */
static void test_examples_of_the_manual(void **state)
{
	static const char begin[] = ".Bd -literal -offset indent\n";
	char *text = read_source("man/sesrelayd.conf.5"), *p, *q;
	unsigned n = 0;

	(void)state;
	assert_int_equal(chmod(put("key", "some+secret+key\n"), 0600), 0);
	for (p = strstr(text, begin); p; p = strstr(q + 1, begin), n++) {
		char *block, *file, *conf;

		p += strlen(begin);
		q = strstr(p, ".Ed\n");
		assert_non_null(q);
		*q = '\0';
		block = xstrdup(p);
		file = strstr(block, "/etc/sesrelayd/");
		assert_non_null(file);
		*file = '\0';
		conf = xasprintf("%s%%D/%s%s", block,
		    strstr(block, "secret_key_file") ? "key" : "pw",
		    strchr(file + 1, '"'));
		config_free(must_load(conf));
		free(conf);
		free(block);
	}
	assert_int_equal(n, 4);
	free(text);
}

/* Damage of any kind is told, never crashes; what loads, prints and reloads. */
static void test_damage(void **state)
{
	static const char bytes[] = "\"{}[]();=:#/*@,.-\\\n 09aLx\xff\x01";
	char *whole = fill(unusual);
	size_t len = strlen(whole);
	uint32_t random = 1;
	unsigned loaded = 0;

	(void)state;
	for (unsigned round = 0; round < 3000; round++) {
		char *text = xstrdup(whole), *message = NULL;
		struct config *c;

		for (unsigned i = 0; i < 1 + round % 3; i++) {
			random = random * 1664525 + 1013904223;
			text[(random >> 8) % len] =
			    bytes[(random >> 3) % (sizeof(bytes) - 1)];
		}
		c = config_load(put("c.conf", text), &message);
		assert_true(!c == !!message);
		if (c) {
			char *dump = dump_of(c);

			config_free(must_load(dump));
			free(dump);
			loaded++;
		} else {
			assert_true(*message);
		}
		free(message);
		free(text);
		config_free(c);
	}
	assert_in_range(loaded, 1, 2000);
	free(whole);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_defaults),
		TEST(test_table),
		TEST(test_options_of_defaults),
		TEST(test_options_of_the_unusual),
		TEST(test_source_address_v6),
		TEST(test_dump_loads_to_the_same),
		TEST(test_diff),
		TEST(test_schema),
		TEST(test_shipped_file),
		TEST(test_examples_of_the_manual),
		TEST(test_damage),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
