/*
 * Arguments of sendmail(1): every list that a known caller uses is understood,
 * and means what its caller means; exit codes by the daemon's replies.
 */
#include "base/mem.h"
#include "cli/sendmail.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

struct args_case {
	const char *line; /* words, "" as '' */
	enum sendmail_mode mode;
	bool from_header, ignore_dots;
	const char *sender, *full_name, *config;
	const char *rcpts; /* with a blank between them */
};

#define SEND SENDMAIL_SEND

static const struct args_case good[] = {
	{ "sendmail a@b", SEND, false, false, NULL, NULL, NULL, "a@b" },
	{ "sendmail -FCronDaemon -i -B8BITMIME -oem a@b", SEND, false, true,
	    NULL, "CronDaemon", NULL, "a@b" },
	{ "sendmail -t -i -fbounce@b", SEND, true, true, "bounce@b", NULL, NULL,
	    "" },
	{ "sendmail -oem -oi -f b@c -N failure,delay -R hdrs -- a@b", SEND,
	    false, true, "b@c", NULL, NULL, "a@b" },
	{ "sendmail -f a@b -t", SEND, true, false, "a@b", NULL, NULL, "" },
	{ "sendmail -FCronDaemon -i -odi -oem -oi -t -f root", SEND, true, true,
	    "root", "CronDaemon", NULL, "" },
	{ "sendmail a@b -i -r '' c@d -t", SEND, true, true, "", NULL, NULL,
	    "a@b c@d" },
	{ "sendmail -ti", SEND, true, true, NULL, NULL, NULL, "" },
	{ "sendmail -toi", SEND, true, true, NULL, NULL, NULL, "" },
	{ "sendmail -tfa@b c@d", SEND, true, false, "a@b", NULL, NULL, "c@d" },
	{ "sendmail -f -t -t", SEND, true, false, "-t", NULL, NULL, "" },
	{ "sendmail -- -a@b --", SEND, false, false, NULL, NULL, NULL,
	    "-a@b --" },
	{ "sendmail - a", SEND, false, false, NULL, NULL, NULL, "- a" },
	{ "sendmail -oitem a", SEND, false, false, NULL, NULL, NULL, "a" },
	{ "sendmail -o i a", SEND, false, true, NULL, NULL, NULL, "a" },
	{ "sendmail -OIgnoreDots=True a", SEND, false, true, NULL, NULL, NULL,
	    "a" },
	{ "sendmail -i -O ignoredots=false a", SEND, false, false, NULL, NULL,
	    NULL, "a" },
	{ "sendmail -B 8BITMIME -bm -V id -O a=b -L tag -h 3 -n -m -G -U -Am "
	  "-Ac -X /x -C /c -N never -R full -d0-99.1 -em -e -pESMTP -D x a",
	    SEND, false, false, NULL, NULL, "/c", "x a" },
	{ "sendmail -bs", SENDMAIL_SMTP, false, false, NULL, NULL, NULL, "" },
	{ "sendmail -bv a", SENDMAIL_VERIFY, false, false, NULL, NULL, NULL,
	    "a" },
	{ "sendmail -bp", SENDMAIL_QUEUE, false, false, NULL, NULL, NULL, "" },
	{ "sendmail -bp -q", SENDMAIL_QUEUE, false, false, NULL, NULL, NULL,
	    "" },
	{ "sendmail -bi", SENDMAIL_ALIASES, false, false, NULL, NULL, NULL,
	    "" },
	{ "sendmail -I", SENDMAIL_ALIASES, false, false, NULL, NULL, NULL, "" },
	{ "sendmail -q", SENDMAIL_RETRY, false, false, NULL, NULL, NULL, "" },
	{ "sendmail -q15m", SENDMAIL_RETRY, false, false, NULL, NULL, NULL,
	    "" },
	{ "sendmail -q -t", SEND, true, false, NULL, NULL, NULL, "" },
	{ "/usr/bin/mailq -v", SENDMAIL_QUEUE, false, false, NULL, NULL, NULL,
	    "" },
	{ "newaliases", SENDMAIL_ALIASES, false, false, NULL, NULL, NULL, "" },
	{ "mailq/sendmail a", SEND, false, false, NULL, NULL, NULL, "a" },
	{ "sendmail --help", SENDMAIL_HELP, false, false, NULL, NULL, NULL,
	    "" },
	{ "sendmail --version", SENDMAIL_VERSION, false, false, NULL, NULL,
	    NULL, "" },
};

static const struct {
	const char *line, *says;
} bad[] = {
	{ "sendmail -z a", "unknown option \"-z\"" },
	{ "sendmail -tz", "unknown option \"-tz\"" },
	{ "sendmail --foo", "unknown option \"--foo\"" },
	{ "sendmail -f", "-f needs a value" },
	{ "sendmail -tF", "-F needs a value" },
	{ "sendmail -bd -q15m", "systemctl start sesrelayd" },
	{ "sendmail -bD", "systemctl start sesrelayd" },
	{ "sendmail -bt", "-bv" },
	{ "sendmail -bh", "no mode" },
	{ "sendmail -b ''", "no mode" },
};

struct words {
	char *text;
	char *argv[64];
	int argc;
};

static struct words words_of(const char *line)
{
	struct words w = { .text = xstrdup(line) };

	for (char *p = strtok(w.text, " "); p != NULL; p = strtok(NULL, " ")) {
		if (strcmp(p, "''") == 0)
			p[0] = '\0';
		w.argv[w.argc++] = p;
	}
	return w;
}

static void same(const char *got, const char *want)
{
	if (want == NULL || got == NULL)
		assert_true(got == want);
	else
		assert_string_equal(got, want);
}

static void test_good(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(good); i++) {
		const struct args_case *c = &good[i];
		struct words w = words_of(c->line);
		char rcpts[256] = "";
		struct sendmail_args a;
		struct err err;

		if (sendmail_args_parse(&a, w.argc, w.argv, &err) != 0)
			fail_msg("%s: %s", c->line, err.text);
		if (a.mode != c->mode || a.from_header != c->from_header ||
		    a.ignore_dots != c->ignore_dots)
			fail_msg("%s: mode %d -t %d -i %d", c->line, a.mode,
			    a.from_header, a.ignore_dots);
		same(a.sender, c->sender);
		same(a.full_name, c->full_name);
		same(a.config, c->config);
		for (size_t k = 0; k < a.n_rcpts; k++) {
			strcat(rcpts, k > 0 ? " " : "");
			strcat(rcpts, a.rcpts[k]);
		}
		assert_string_equal(rcpts, c->rcpts);
		free(a.rcpts);
		free(w.text);
	}
}

static void test_bad(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct words w = words_of(bad[i].line);
		struct sendmail_args a;
		struct err err = { 0 };

		assert_int_equal(
		    sendmail_args_parse(&a, w.argc, w.argv, &err), -1);
		if (strstr(err.text, bad[i].says) == NULL)
			fail_msg("%s: %s", bad[i].line, err.text);
		free(a.rcpts);
		free(w.text);
	}
}

static void test_no_arguments_at_all(void **state)
{
	struct sendmail_args a;
	struct err err;

	(void)state;
	assert_int_equal(sendmail_args_parse(&a, 0, NULL, &err), 0);
	assert_int_equal(a.mode, SENDMAIL_SEND);
	assert_int_equal(a.n_rcpts, 0);
	free(a.rcpts);
}

static void test_exit_codes(void **state)
{
	static const struct {
		enum sendmail_stage stage;
		struct reply reply;
		int code;
	} rows[] = {
		{ SENDMAIL_AT_GREETING, { .code = 421, .enhanced = "4.3.2" },
		    EX_TEMPFAIL },
		{ SENDMAIL_AT_GREETING, { .code = 554, .enhanced = "5.7.1" },
		    EX_NOPERM },
		{ SENDMAIL_AT_GREETING, { .code = 554 }, EX_UNAVAILABLE },
		{ SENDMAIL_AT_SENDER, { .code = 553, .enhanced = "5.1.7" },
		    EX_DATAERR },
		{ SENDMAIL_AT_SENDER, { .code = 452, .enhanced = "4.3.1" },
		    EX_TEMPFAIL },
		{ SENDMAIL_AT_RECIPIENT, { .code = 550, .enhanced = "5.1.1" },
		    EX_NOUSER },
		{ SENDMAIL_AT_RECIPIENT, { .code = 550 }, EX_NOUSER },
		{ SENDMAIL_AT_RECIPIENT, { .code = 550, .enhanced = "5.1.2" },
		    EX_NOHOST },
		{ SENDMAIL_AT_RECIPIENT, { .code = 550, .enhanced = "5.7.1" },
		    EX_NOPERM },
		{ SENDMAIL_AT_RECIPIENT, { .code = 452, .enhanced = "4.5.3" },
		    EX_UNAVAILABLE },
		{ SENDMAIL_AT_RECIPIENT, { .code = 452, .enhanced = "4.3.1" },
		    EX_TEMPFAIL },
		{ SENDMAIL_AT_CONTENT, { .code = 552, .enhanced = "5.3.4" },
		    EX_DATAERR },
		{ SENDMAIL_AT_CONTENT, { .code = 451 }, EX_TEMPFAIL },
		{ SENDMAIL_AT_CONTENT, { .code = 354 }, EX_PROTOCOL },
		{ SENDMAIL_AT_CONTENT, { .code = 221 }, EX_PROTOCOL },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		assert_int_equal(
		    sendmail_exit_code(rows[i].stage, &rows[i].reply),
		    rows[i].code);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good),
		cmocka_unit_test(test_bad),
		cmocka_unit_test(test_no_arguments_at_all),
		cmocka_unit_test(test_exit_codes),
	};

	return cmocka_run_group_tests_name("sendmail_args", tests, NULL, NULL);
}
