/* Replies put together line by line: what is one, and what ends the dialogue.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "smtp/reply.h"

#include <stdio.h>
#include <string.h>

static int feed(struct reply_parser *p, const char *line)
{
	return reply_feed(p, slice_str(line), NULL, NULL);
}

static void test_one_line(void **state)
{
	static const struct {
		const char *line;
		int code;
		const char *enhanced, *text;
	} rows[] = {
		{ "250 Ok 0100018f-11", 250, "", "Ok 0100018f-11" },
		{ "250", 250, "", "" },
		{ "250 ", 250, "", "" },
		{ "354 End data with <CR><LF>.<CR><LF>", 354, "",
		    "End data with <CR><LF>.<CR><LF>" },
		{ "451 4.4.2 Timeout waiting", 451, "4.4.2",
		    "Timeout waiting" },
		{ "550 5.1.1", 550, "5.1.1", "" },
		{ "550 5.123.456 x", 550, "5.123.456", "x" },
		/* These only look like an enhanced code. */
		{ "550 5.1234.1 x", 550, "", "5.1234.1 x" },
		{ "550 5.1 x", 550, "", "5.1 x" },
		{ "550 5. 1.1 x", 550, "", "5. 1.1 x" },
		{ "550 5.1.1x", 550, "", "5.1.1x" },
		{ "550 5.1.1.1 x", 550, "", "5.1.1.1 x" },
		{ "550 4.1.1 x", 550, "", "4.1.1 x" },
		{ "354 3.0.0 x", 354, "", "3.0.0 x" },
		{ "599 x", 0, NULL, NULL },
		{ "559 x\x01\r\ny\x7f", 559, "", "x???y?" },
		{ "250 Gr\xc3\xbc\xc3\x9f", 250, "", "Gr\xc3\xbc\xc3\x9f" },
		{ "200 x", 200, "", "x" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct reply_parser p;

		reply_parser_init(&p);
		assert_int_equal(feed(&p, rows[i].line), rows[i].code ? 1 : -1);
		if (rows[i].code == 0)
			continue;
		assert_int_equal(p.reply.code, rows[i].code);
		assert_string_equal(p.reply.enhanced, rows[i].enhanced);
		assert_string_equal(p.reply.text, rows[i].text);
		assert_false(p.reply.truncated);
	}
}

static void test_no_reply_breaks_for_good(void **state)
{
	static const char *const lines[] = { "", "2", "25", "25x", "x50 a",
		"199 a", "999 a", "000 a", "600 a", "260 a", "2500", "250x",
		"250\tOk", " 250 Ok", "HTTP/1.1 400 Bad Request",
		"\x15\x03\x01", "-50 a", "2:0 a", "25: a" };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
		struct reply_parser p;

		reply_parser_init(&p);
		assert_int_equal(feed(&p, lines[i]), -1);
		assert_int_equal(feed(&p, "250 Ok"), -1);
	}
}

static void test_nul_is_no_smtp(void **state)
{
	static const struct {
		const char *line;
		size_t len;
	} lines[] = { { "250\0Ok", 6 }, { "250 a\0b", 7 }, { "250 a\0", 6 },
		{ "\0"
		  "250 a",
		    6 } };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
		struct reply_parser p;

		reply_parser_init(&p);
		assert_int_equal(
		    reply_feed(
			&p, slice_of(lines[i].line, lines[i].len), NULL, NULL),
		    -1);
		assert_int_equal(feed(&p, "250 Ok"), -1);
	}
}

static void test_many_lines(void **state)
{
	struct reply_parser p;

	(void)state;
	reply_parser_init(&p);
	assert_int_equal(feed(&p, "553-5.1.3 <a>"), 0);
	assert_int_equal(feed(&p, "553-"), 0);
	assert_int_equal(feed(&p, "553-5.1.3  is no address "), 0);
	assert_int_equal(feed(&p, "553"), 1);
	assert_int_equal(p.reply.code, 553);
	assert_string_equal(p.reply.enhanced, "5.1.3");
	assert_string_equal(p.reply.text, "<a> is no address");
	/* Ready for the next one, with nothing left of this one. */
	assert_int_equal(feed(&p, "250 Ok"), 1);
	assert_int_equal(p.reply.code, 250);
	assert_string_equal(p.reply.enhanced, "");
	assert_string_equal(p.reply.text, "Ok");
}

static void test_codes_differ(void **state)
{
	struct reply_parser p;

	(void)state;
	reply_parser_init(&p);
	assert_int_equal(feed(&p, "250-a"), 0);
	assert_int_equal(feed(&p, "550 b"), -1);
	assert_int_equal(feed(&p, "250 c"), -1);
}

static void test_lines_are_bounded(void **state)
{
	char line[REPLY_LINE_MAX + 2];
	struct reply_parser p;

	(void)state;
	memset(line, 'x', sizeof(line));
	memcpy(line, "250 ", 4);
	reply_parser_init(&p);
	assert_int_equal(
	    reply_feed(&p, slice_of(line, REPLY_LINE_MAX), NULL, NULL), 1);
	assert_int_equal(
	    reply_feed(&p, slice_of(line, REPLY_LINE_MAX + 1), NULL, NULL), -1);

	for (int last = 0; last < 2; last++) {
		reply_parser_init(&p);
		for (int i = 0; i < REPLY_MAX_LINES - 1 + last; i++)
			assert_int_equal(feed(&p, "250-x"), 0);
		assert_int_equal(feed(&p, "250 x"), last ? -1 : 1);
	}
}

static void test_text_is_cut(void **state)
{
	for (size_t len = REPLY_TEXT_MAX - 2; len < REPLY_TEXT_MAX + 3; len++) {
		char line[REPLY_TEXT_MAX + 16] = "250-";
		struct reply_parser p;

		(void)state;
		memset(line + 4, 'x', len);
		reply_parser_init(&p);
		assert_int_equal(feed(&p, line), 0);
		assert_int_equal(feed(&p, "250 y"), 1);
		assert_int_equal(strlen(p.reply.text),
		    len == REPLY_TEXT_MAX - 2 ? len + 2 : REPLY_TEXT_MAX);
		assert_int_equal(p.reply.truncated, len > REPLY_TEXT_MAX - 2);
	}
}

static void collect(void *ctx, struct slice text)
{
	char *all = ctx;
	size_t len = strlen(all);

	len += slice_copy(text, all + len, 100);
	snprintf(all + len, 2, "|");
}

static void test_lines_are_handed_on(void **state)
{
	char all[500] = "";
	struct reply_parser p;

	(void)state;
	reply_parser_init(&p);
	reply_feed(&p, slice_str("250-SIZE 10"), collect, all);
	reply_feed(&p, slice_str("250-"), collect, all);
	reply_feed(&p, slice_str("250-2.0.0 AUTH PLAIN"), collect, all);
	reply_feed(&p, slice_str("250"), collect, all);
	reply_feed(&p, slice_str("25"), collect, all);
	assert_string_equal(all, "SIZE 10||2.0.0 AUTH PLAIN||");
}

/* Anything at all: bounded, terminated, no control byte in what is kept. */
static void test_random_lines(void **state)
{
	static const char alphabet[] = "2345 -.\r\n\x01x250-";
	uint32_t seed = 1;
	struct reply_parser p;

	(void)state;
	reply_parser_init(&p);
	for (int round = 0; round < 200000; round++) {
		char line[40];
		size_t len;

		seed = seed * 1664525 + 1013904223;
		len = (seed >> 24) % sizeof(line);
		for (size_t i = 0; i < len; i++) {
			seed = seed * 1664525 + 1013904223;
			line[i] =
			    alphabet[(seed >> 24) % (sizeof(alphabet) - 1)];
		}
		if (round % 2 && len > 4)
			memcpy(line, "450-", 4);
		if (reply_feed(&p, slice_of(line, len), NULL, NULL) < 0) {
			reply_parser_init(&p);
			continue;
		}
		assert_in_range(p.reply.code, 200, 599);
		assert_true(strlen(p.reply.text) <= REPLY_TEXT_MAX);
		for (const char *c = p.reply.text; *c; c++)
			assert_true((unsigned char)*c >= 0x20);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_one_line),
		cmocka_unit_test(test_no_reply_breaks_for_good),
		cmocka_unit_test(test_nul_is_no_smtp),
		cmocka_unit_test(test_many_lines),
		cmocka_unit_test(test_codes_differ),
		cmocka_unit_test(test_lines_are_bounded),
		cmocka_unit_test(test_text_is_cut),
		cmocka_unit_test(test_lines_are_handed_on),
		cmocka_unit_test(test_random_lines),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
