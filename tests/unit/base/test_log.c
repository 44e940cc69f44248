/*
 * Text lines: Postfix's shapes, escaping, and what a level lets through.  JSON
 * is test_log_json's subject, where lines go test_log_target's.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "capture.h"

#include <string.h>
#include <unistd.h>

#define ID UINT64_C(0x0006543A1B2C3D4E)

/* The line must be NAME/COMPONENT[our pid]: and then `body`. */
static void assert_line(const char *ident, const char *body)
{
	char expected[LOG_LINE_MAX];

	snprintf(
	    expected, sizeof(expected), "%s[%d]: %s", ident, getpid(), body);
	assert_string_equal(captured, expected);
}

/* Lines that parsers of mail logs know; each row is one of theirs. */
static void test_events_have_postfix_shapes(void **state)
{
	static const struct {
		enum log_component component;
		const char *ident, *event;
		uint64_t id;
		struct log_field fields[12];
		const char *body;
	} rows[] = {
		{ LOG_SMTPD, "sesrelayd/smtpd", "accepted", ID,
		    { { LOG_PLAIN, "client", "localhost[127.0.0.1]" },
			{ LOG_END, NULL, NULL } },
		    "0006543A1B2C3D4E: client=localhost[127.0.0.1]" },
		{ LOG_CLEANUP, "sesrelayd/cleanup", "durable", ID,
		    { { LOG_ANGLE, "message-id", "a1@host" },
			{ LOG_END, NULL, NULL } },
		    "0006543A1B2C3D4E: message-id=<a1@host>" },
		{ LOG_QMGR, "sesrelayd/qmgr", "queued", ID,
		    { { LOG_ANGLE, "from", "" }, { LOG_NUMBER, "size", "1234" },
			{ LOG_NUMBER, "nrcpt", "2" },
			{ LOG_NOTE, "state", "queue active" },
			{ LOG_END, NULL, NULL } },
		    "0006543A1B2C3D4E: from=<>, size=1234, nrcpt=2 "
		    "(queue active)" },
		{ LOG_SMTP, "sesrelayd/smtp", "sent", ID,
		    { { LOG_ANGLE, "to", "u@example.net" },
			{ LOG_ANGLE, "orig_to", NULL },
			{ LOG_PLAIN, "relay", "ses.example[192.0.2.1]:587" },
			{ LOG_NUMBER, "delay", "0.42" },
			{ LOG_PLAIN, "delays", "0.01/0/0.21/0.2" },
			{ LOG_HIDDEN, "ses_id", "0100018f" },
			{ LOG_PLAIN, "dsn", "2.0.0" },
			{ LOG_PLAIN, "status", "sent" },
			{ LOG_NOTE, "reply", "250 Ok 0100018f" },
			{ LOG_END, NULL, NULL } },
		    "0006543A1B2C3D4E: to=<u@example.net>, "
		    "relay=ses.example[192.0.2.1]:587, delay=0.42, "
		    "delays=0.01/0/0.21/0.2, dsn=2.0.0, status=sent "
		    "(250 Ok 0100018f)" },
		{ LOG_CONTROL, "sesrelayd/control", "paused", LOG_NO_ID,
		    { { LOG_NUMBER, "uid", "0" }, { LOG_END, NULL, NULL } },
		    "uid=0" },
		{ LOG_QMGR, "sesrelayd/qmgr", "removed", ID,
		    { { LOG_END, NULL, NULL } }, "0006543A1B2C3D4E: removed" },
		{ LOG_QMGR, "sesrelayd/qmgr", "removed", ID,
		    { { LOG_HIDDEN, "age", "1" }, { LOG_END, NULL, NULL } },
		    "0006543A1B2C3D4E: removed" },
		{ LOG_MASTER, "sesrelayd/master", "x", LOG_NO_ID,
		    { { LOG_NOTE, "n", "alone" }, { LOG_PLAIN, "k", "v" },
			{ LOG_END, NULL, NULL } },
		    "(alone), k=v" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		log_event(LOG_LEVEL_INFO, rows[i].component, rows[i].event,
		    rows[i].id, rows[i].fields);
		assert_line(rows[i].ident, rows[i].body);
	}
	log_event(LOG_LEVEL_INFO, LOG_QMGR, "removed", ID, NULL);
	assert_line("sesrelayd/qmgr", "0006543A1B2C3D4E: removed");
}

static void test_sentences(void **state)
{
	(void)state;
	log_msg(LOG_LEVEL_INFO, LOG_MASTER, LOG_NO_ID, "%d of %s", 3, "x");
	assert_line("sesrelayd/master", "3 of x");
	log_msg(LOG_LEVEL_WARNING, LOG_SMTP, ID, "odd");
	assert_line("sesrelayd/smtp", "warning: 0006543A1B2C3D4E: odd");
	log_msg(LOG_LEVEL_ERROR, LOG_SMTP, LOG_NO_ID, "bad");
	assert_line("sesrelayd/smtp", "error: bad");
}

static void test_name_is_the_configured_one(void **state)
{
	char name[] = "postfix";

	(void)state;
	capture_init(LOG_FORMAT_TEXT, LOG_LEVEL_INFO, name);
	memset(name, 'x', sizeof(name) - 1); /* it was copied */
	log_msg(LOG_LEVEL_INFO, LOG_SMTPD, LOG_NO_ID, "hello");
	assert_line("postfix/smtpd", "hello");
}

static void test_levels_filter(void **state)
{
	static const enum log_level levels[] = { LOG_LEVEL_ERROR,
		LOG_LEVEL_WARNING, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

	(void)state;
	for (size_t set = 0; set < ARRAY_LEN(levels); set++) {
		log_set_level(levels[set]);
		for (size_t i = 0; i < ARRAY_LEN(levels); i++) {
			n_captured = 0;
			log_msg(levels[i], LOG_SMTP, LOG_NO_ID, "x");
			log_event(levels[i], LOG_SMTP, "x", LOG_NO_ID, NULL);
			assert_int_equal(n_captured, i <= set ? 2 : 0);
			assert_int_equal(log_enabled(levels[i]), i <= set);
		}
	}
}

static void test_escape(void **state)
{
	static const struct {
		const char *in;
		size_t len, size;
		const char *out;
	} rows[] = {
		{ "plain ~", 7, 100, "plain ~" },
		{ "a\r\nb\0c", 6, 100, "a\\x0d\\x0ab\\x00c" },
		{ "\x1b\x7f\x80\xff", 4, 100, "\\x1b\\x7f\\x80\\xff" },
		{ "\\x0a", 4, 100, "\\x5cx0a" },
		{ "", 0, 100, "" },
		{ "abcdef", 6, 4, "abc" },
		{ "ab\ncd", 5, 7, "ab\\x0a" },
		{ "ab\ncd", 5, 6, "ab" }, /* never half an escape */
		{ "ab\ncd", 5, 3, "ab" },
		{ "x", 1, 1, "" },
	};
	char buf[100];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		memset(buf, 'z', sizeof(buf));
		assert_ptr_equal(
		    log_escape(rows[i].in, rows[i].len, buf, rows[i].size),
		    buf);
		assert_string_equal(buf, rows[i].out);
	}
}

/* A peer can neither start a line of its own nor confuse a terminal. */
static void test_peers_cannot_forge_lines(void **state)
{
	const struct log_field fields[] = {
		{ LOG_ANGLE, "to", "a\nsesrelayd/smtp[1]: X: to=<b>" },
		{ LOG_NOTE, "reply", "\x1b[2J\xc3\xa4\\" },
		{ LOG_END, NULL, NULL },
	};

	(void)state;
	log_event(LOG_LEVEL_INFO, LOG_SMTP, "sent", ID, fields);
	assert_line("sesrelayd/smtp",
	    "0006543A1B2C3D4E: to=<a\\x0asesrelayd/smtp[1]: X: to=<b>> "
	    "(\\x1b[2J\\xc3\\xa4\\x5c)");
	/* In a sentence an argument may have been escaped before. */
	log_msg(
	    LOG_LEVEL_INFO, LOG_SMTP, LOG_NO_ID, "%s %s", "a\r\nb", "\\x0d");
	assert_line("sesrelayd/smtp", "a\\x0d\\x0ab \\x0d");
}

static void test_values_and_lines_are_bounded(void **state)
{
	struct log_field fields[12];
	char value[3000];
	size_t len;

	(void)state;
	memset(value, 'v', sizeof(value) - 1);
	value[sizeof(value) - 1] = '\0';
	fields[0] = (struct log_field){ LOG_PLAIN, "k", value };
	fields[1] = (struct log_field){ LOG_END, NULL, NULL };
	log_event(LOG_LEVEL_INFO, LOG_SMTP, "x", LOG_NO_ID, fields);
	assert_int_equal(strlen(strchr(captured, '=') + 1), 1024);

	memset(value, '\n', sizeof(value) - 1);
	for (size_t i = 0; i < 11; i++)
		fields[i] = fields[0];
	fields[11].style = LOG_END;
	log_event(LOG_LEVEL_INFO, LOG_SMTP, "x", LOG_NO_ID, fields);
	len = strlen(captured);
	assert_in_range(len, LOG_LINE_MAX - 8, LOG_LINE_MAX - 1);
	log_msg(LOG_LEVEL_INFO, LOG_SMTP, LOG_NO_ID, "%s", value);
	assert_true(strlen(captured) < LOG_LINE_MAX);
}

#define TEST(fn)                                                               \
	cmocka_unit_test_setup_teardown(fn, capture_setup, capture_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_events_have_postfix_shapes),
		TEST(test_sentences),
		TEST(test_name_is_the_configured_one),
		TEST(test_levels_filter),
		TEST(test_escape),
		TEST(test_peers_cannot_forge_lines),
		TEST(test_values_and_lines_are_bounded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
