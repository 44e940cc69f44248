/*
 * Command lines: which verb is seen, what is cut off, what counts as no SMTP
 * at all.
 */
#include "smtp/command.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#define ABSENT "(absent)"

struct line_case {
	const char *line;
	enum command_verb verb;
	const char *args; /* NULL: not looked at */
};

static const struct line_case line_cases[] = {
	{ "HELO host", COMMAND_HELO, "host" },
	{ "ehlo [127.0.0.1]", COMMAND_EHLO, "[127.0.0.1]" },
	{ "EHLO", COMMAND_EHLO, "" },
	{ "HELO \t two words  ", COMMAND_HELO, "two words" },
	{ "MAIL FROM:<a@b>", COMMAND_MAIL, "<a@b>" },
	{ "mail from:<a@b> size=17", COMMAND_MAIL, "<a@b> size=17" },
	{ "Mail From: <a@b>  ", COMMAND_MAIL, "<a@b>" },
	{ "MAIL  FROM :  a@b", COMMAND_MAIL, "a@b" },
	{ "MAIL FROM:", COMMAND_MAIL, "" },
	{ "MAIL", COMMAND_MAIL, ABSENT },
	{ "MAIL FROM", COMMAND_MAIL, ABSENT },
	{ "MAIL FROM<a@b>", COMMAND_MAIL, ABSENT },
	{ "MAIL TO:<a@b>", COMMAND_MAIL, ABSENT },
	{ "MAIL FROMAGE:<a@b>", COMMAND_MAIL, ABSENT },
	{ "RCPT TO:<a@b>", COMMAND_RCPT, "<a@b>" },
	{ "rcpt to: a@b ", COMMAND_RCPT, "a@b" },
	{ "RCPT FROM:<a@b>", COMMAND_RCPT, ABSENT },
	{ "RCPT T:<a@b>", COMMAND_RCPT, ABSENT },
	{ "DATA", COMMAND_DATA, "" },
	{ "DATA   ", COMMAND_DATA, "" },
	{ "data now", COMMAND_DATA, "now" },
	{ "RSET", COMMAND_RSET, "" },
	{ "NOOP ignored words", COMMAND_NOOP, "ignored words" },
	{ "NOOP x HTTP/1.1", COMMAND_NOOP, NULL },
	{ "VRFY root", COMMAND_VRFY, "root" },
	{ "HELP", COMMAND_HELP, "" },
	{ "QUIT ", COMMAND_QUIT, "" },
	{ "AUTH PLAIN AGEAYg==", COMMAND_AUTH, "PLAIN AGEAYg==" },

	{ "", COMMAND_UNKNOWN, "" },
	{ " \t ", COMMAND_UNKNOWN, "" },
	{ "STARTTLS", COMMAND_NOT_OFFERED, NULL },
	{ "BDAT 10 LAST", COMMAND_NOT_OFFERED, NULL },
	{ "XCLIENT ADDR=1.2.3.4", COMMAND_NOT_OFFERED, NULL },
	{ "EXPN list", COMMAND_NOT_OFFERED, NULL },
	{ "DATAX", COMMAND_UNKNOWN, NULL },
	{ "MAI", COMMAND_UNKNOWN, NULL },
	{ "GETTING somewhere", COMMAND_UNKNOWN, NULL },
	{ "WIZ", COMMAND_UNKNOWN, NULL },

	{ "GET / HTTP/1.1", COMMAND_FOREIGN, NULL },
	{ "POST / HTTP/1.1", COMMAND_FOREIGN, NULL },
	{ "HEAD", COMMAND_FOREIGN, NULL },
	{ "put /x HTTP/1.0", COMMAND_FOREIGN, NULL },
	{ "DELETE /x", COMMAND_FOREIGN, NULL },
	{ "OPTIONS *", COMMAND_FOREIGN, NULL },
	{ "TRACE /", COMMAND_FOREIGN, NULL },
	{ "PATCH /", COMMAND_FOREIGN, NULL },
	{ "CONNECT a:25 HTTP/1.1", COMMAND_FOREIGN, NULL },
	{ "PRI * HTTP/2.0", COMMAND_FOREIGN, NULL },
	{ "PROPFIND / HTTP/1.1", COMMAND_FOREIGN, NULL },
	{ "USER anonymous", COMMAND_FOREIGN, NULL },
	{ "PORT 127,0,0,1,0,25", COMMAND_FOREIGN, NULL },
	{ "SSH-2.0-OpenSSH_9.2", COMMAND_FOREIGN, NULL },
	{ "SETUP rtsp://x/ RTSP/1.0", COMMAND_FOREIGN, NULL },
	{ "INVITE sip:a@b SIP/2.0", COMMAND_FOREIGN, NULL },
	{ "Host: localhost:25", COMMAND_FOREIGN, NULL },
	{ "User-Agent: x", COMMAND_FOREIGN, NULL },
	{ "X_y:", COMMAND_FOREIGN, NULL },
	{ "MAILFROM:<a@b>", COMMAND_FOREIGN, NULL },
	{ "QUIT: x", COMMAND_FOREIGN, NULL },
	{ " MAIL FROM:<a@b>", COMMAND_FOREIGN, NULL },
	{ "\tQUIT", COMMAND_FOREIGN, NULL },
	{ "_gopher", COMMAND_FOREIGN, NULL },
	{ "{\"json\":1}", COMMAND_FOREIGN, NULL },
	{ "<xml>", COMMAND_FOREIGN, NULL },
	{ "250 Ok", COMMAND_FOREIGN, NULL },
	{ ".", COMMAND_FOREIGN, NULL },
	{ "\x16\x03\x01\x02", COMMAND_FOREIGN, NULL },
	{ "\x80\x2e\x01", COMMAND_FOREIGN, NULL },
	{ "\xc3\xa9hlo", COMMAND_FOREIGN, NULL },
};

static void test_lines(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(line_cases); i++) {
		const struct line_case *c = &line_cases[i];
		struct command command;

		command_parse(slice_str(c->line), &command);
		if (command.verb != c->verb)
			fail_msg("\"%s\": verb %d", c->line, command.verb);
		if (!c->args)
			continue;
		if (strcmp(c->args, ABSENT) == 0) {
			if (command.args.ptr)
				fail_msg("\"%s\": has arguments", c->line);
		} else if (!command.args.ptr ||
		    !slice_eq_str(command.args, c->args)) {
			fail_msg("\"%s\": arguments \"%.*s\"", c->line,
			    (int)command.args.len, command.args.ptr);
		}
	}
}

static void test_line_with_nul_is_not_cut_there(void **state)
{
	struct command command;

	(void)state;
	command_parse(slice_of("QUIT\0X", 6), &command);
	assert_int_equal(command.verb, COMMAND_UNKNOWN);
	command_parse(slice_of("\0QUIT", 5), &command);
	assert_int_equal(command.verb, COMMAND_FOREIGN);
}

static void test_empty_line_without_memory(void **state)
{
	struct command command;

	(void)state;
	command_parse(slice_of(NULL, 0), &command);
	assert_int_equal(command.verb, COMMAND_UNKNOWN);
	assert_int_equal(command.args.len, 0);
}

static void test_params(void **state)
{
	struct command_param p[COMMAND_MAX_PARAMS];

	(void)state;
	assert_int_equal(command_params(slice_of(NULL, 0), p), 0);
	assert_int_equal(command_params(slice_str("  "), p), 0);
	assert_int_equal(
	    command_params(slice_str(" SIZE=17  x-Y9\tAUTH=<>"), p), 3);
	assert_true(slice_eq_str(p[0].key, "SIZE"));
	assert_true(slice_eq_str(p[0].value, "17"));
	assert_true(slice_eq_str(p[1].key, "x-Y9"));
	assert_null(p[1].value.ptr);
	assert_true(slice_eq_str(p[2].key, "AUTH"));
	assert_true(slice_eq_str(p[2].value, "<>"));
}

static void test_malformed_params(void **state)
{
	static const char *const bad[] = { "=1", "SIZE=", "SIZE= 1", "A=b=c",
		"-A=1", "A_B=1", "<a@b>", "A=\xc3\xa9", "\xc3\xa9=1", "A=\x7f",
		"A=\x01", "A=1\r", "A\n=1", "A=1 =" };
	struct command_param p[COMMAND_MAX_PARAMS];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		if (command_params(slice_str(bad[i]), p) != -1)
			fail_msg("\"%s\" is accepted", bad[i]);
	assert_int_equal(command_params(slice_of("A=\0", 3), p), -1);
}

static void test_number_of_params(void **state)
{
	struct command_param p[COMMAND_MAX_PARAMS];
	char text[4 * (COMMAND_MAX_PARAMS + 1) + 1];
	size_t len = 0;

	(void)state;
	for (int i = 0; i < COMMAND_MAX_PARAMS + 1; i++)
		len += (size_t)sprintf(text + len, "A=1 ");
	assert_int_equal(
	    command_params(slice_of(text, len - 4), p), COMMAND_MAX_PARAMS);
	assert_int_equal(command_params(slice_of(text, len), p), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lines),
		cmocka_unit_test(test_line_with_nul_is_not_cut_there),
		cmocka_unit_test(test_empty_line_without_memory),
		cmocka_unit_test(test_params),
		cmocka_unit_test(test_malformed_params),
		cmocka_unit_test(test_number_of_params),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
