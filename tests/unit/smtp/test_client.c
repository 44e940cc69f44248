/*
 * The conversation with SES: whole dialogues, every cell of the table, and
 * what holds whatever a peer says.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "smtp/client.h"

#include "../base/child.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

#define MAX_RCPTS 4

static const struct client_auth auth = {
	.plain = "AHVzZXIAcGFzcw==",
	.login_user = "dXNlcg==",
	.login_pass = "cGFzcw==",
};
static const struct client_options starttls_options = {
	.hostname = "host.example",
	.auth = &auth,
};
static const struct client_options wrapper_options = {
	.hostname = "host.example",
	.wrapper = true,
	.auth = &auth,
};

struct peer {
	struct client c;
	struct client_out out;
	struct reply_parser parser;
	struct client_mail mail;
	const char *rcpts[MAX_RCPTS];
	struct verdict rcpt_verdicts[MAX_RCPTS];
};

static void start(struct peer *p, const struct client_options *options)
{
	memset(p, 0, sizeof(*p));
	p->rcpts[0] = "a@x.example";
	p->rcpts[1] = "b@x.example";
	p->rcpts[2] = "c@x.example";
	p->mail = (struct client_mail){
		.sender = "s@y.example",
		.body_8bit = true,
		.size = 1234,
		.rcpts = p->rcpts,
		.n_rcpts = 1,
		.rcpt_verdicts = p->rcpt_verdicts,
	};
	reply_parser_init(&p->parser);
	client_init(&p->c, options, &p->out);
}

/* Lines parted by '\n', as the session would feed them. */
static void hear(struct peer *p, const char *lines)
{
	struct slice rest = slice_str(lines);
	bool complete = false;

	while (rest.len > 0) {
		int r = reply_feed(&p->parser, slice_split(&rest, '\n'),
		    client_on_line, &p->c);

		assert_true(r >= 0);
		assert_false(complete);
		complete = r == 1;
	}
	assert_true(complete);
	client_on_reply(&p->c, &p->parser.reply, &p->out);
}

#define assert_says(p, line)                                                   \
	do {                                                                   \
		assert_string_equal((p)->out.command, line "\r\n");            \
		assert_int_equal((p)->out.command_len, strlen(line "\r\n"));   \
	} while (0)

#define assert_silent(p)                                                       \
	do {                                                                   \
		assert_int_equal((p)->out.command_len, 0);                     \
		assert_string_equal((p)->out.command, "");                     \
	} while (0)

static void assert_closed(const struct peer *p, enum verdict_class class)
{
	assert_true(p->out.close);
	assert_false(p->out.ready);
	assert_silent(p);
	assert_int_equal(p->c.state, CLIENT_CLOSED);
	assert_null(p->c.mail);
	assert_int_equal(p->c.verdict.class, class);
	assert_true(p->c.verdict.close);
}

static const char ehlo_tls[] =
    "250-email-smtp.amazonaws.com\n250-8BITMIME\n250-AUTH PLAIN LOGIN\n250 Ok";

/* Logged in by the shortest way. */
static void login(struct peer *p)
{
	start(p, &wrapper_options);
	client_on_secured(&p->c, &p->out);
	hear(p, "220 email-smtp.amazonaws.com ESMTP");
	hear(p, ehlo_tls);
	hear(p, "235 Authentication successful.");
	assert_true(p->out.ready);
}

static void send_mail(struct peer *p)
{
	client_send(&p->c, &p->mail, &p->out);
}

static void test_starttls_dialogue(void **state)
{
	struct peer p;

	(void)state;
	start(&p, &starttls_options);
	assert_false(p.out.start_tls);
	assert_silent(&p);
	hear(&p, "220 email-smtp.amazonaws.com ESMTP SimpleEmailService-d-P");
	assert_says(&p, "EHLO host.example");
	hear(&p,
	    "250-email-smtp.amazonaws.com\n250-8BITMIME\n250-STARTTLS\n"
	    "250-AUTH PLAIN LOGIN\n250 Ok");
	assert_says(&p, "STARTTLS");
	assert_false(p.out.start_tls);
	hear(&p, "220 Ready to start TLS");
	assert_silent(&p);
	assert_true(p.out.start_tls);
	assert_false(p.c.secure);
	/* What was offered in clear is forgotten. */
	assert_false(p.c.ehlo.auth_plain || p.c.ehlo.eight_bit);
	client_on_secured(&p.c, &p.out);
	assert_false(p.out.start_tls);
	assert_says(&p, "EHLO host.example");
	assert_false(p.out.secret);
	hear(&p, ehlo_tls);
	assert_says(&p, "AUTH PLAIN AHVzZXIAcGFzcw==");
	assert_true(p.out.secret);
	hear(&p, "235 Authentication successful.");
	assert_silent(&p);
	assert_true(p.out.ready);
	assert_int_equal(p.c.state, CLIENT_IDLE);
	client_quit(&p.c, &p.out);
	assert_says(&p, "QUIT");
	hear(&p, "221 Bye");
	assert_closed(&p, VERDICT_NONE);
}

static void test_wrapper_dialogue(void **state)
{
	struct peer p;

	(void)state;
	start(&p, &wrapper_options);
	assert_true(p.out.start_tls);
	assert_silent(&p);
	assert_int_equal(client_phase(&p.c), PHASE_TLS);
	client_on_secured(&p.c, &p.out);
	assert_silent(&p);
	assert_false(p.out.start_tls);
	assert_int_equal(client_phase(&p.c), PHASE_GREETING);
	hear(&p, "220 email-smtp.amazonaws.com ESMTP");
	assert_says(&p, "EHLO host.example");
	/* STARTTLS inside TLS is offered by some, and of no use. */
	hear(&p, "250-x\n250-STARTTLS\n250-AUTH PLAIN\n250 Ok");
	assert_says(&p, "AUTH PLAIN AHVzZXIAcGFzcw==");
}

static void test_login_when_plain_is_not_offered(void **state)
{
	struct peer p;

	(void)state;
	start(&p, &wrapper_options);
	client_on_secured(&p.c, &p.out);
	hear(&p, "220 x");
	hear(&p, "250-x\n250 AUTH LOGIN");
	assert_says(&p, "AUTH LOGIN");
	assert_false(p.out.secret);
	hear(&p, "334 VXNlcm5hbWU6");
	assert_says(&p, "dXNlcg==");
	assert_true(p.out.secret);
	hear(&p, "334 UGFzc3dvcmQ6");
	assert_says(&p, "cGFzcw==");
	assert_true(p.out.secret);
	hear(&p, "235 Authentication successful.");
	assert_true(p.out.ready);
	assert_false(p.out.secret);
}

static void to_auth(
    struct peer *p, const struct client_options *options, const char *ehlo)
{
	start(p, options);
	client_on_secured(&p->c, &p->out);
	hear(p, "220 x");
	hear(p, ehlo);
}

static void test_login_when_plain_is_not_known(void **state)
{
	struct peer p;

	(void)state;
	to_auth(&p, &wrapper_options, ehlo_tls);
	hear(&p, "504 The requested authentication mechanism is not supported");
	assert_says(&p, "AUTH LOGIN");
	hear(&p, "504 The requested authentication mechanism is not supported");
	assert_closed(&p, VERDICT_HOLD_AUTH);
	to_auth(&p, &wrapper_options, "250 AUTH PLAIN");
	hear(&p, "504 no");
	assert_closed(&p, VERDICT_HOLD_AUTH);
}

static void test_no_way_to_log_in(void **state)
{
	static const struct client_auth plain_only = { .plain = "AAAA" };
	static char long_text[CLIENT_COMMAND_MAX];
	const struct client_auth too_long = { .plain = long_text };
	struct client_options options = wrapper_options;
	struct peer p;

	(void)state;
	to_auth(&p, &wrapper_options, "250-AUTH CRAM-MD5\n250 Ok");
	assert_closed(&p, VERDICT_HOLD_AUTH);
	assert_non_null(p.c.verdict.advice);
	options.auth = &plain_only;
	to_auth(&p, &options, "250-AUTH LOGIN\n250 Ok");
	assert_closed(&p, VERDICT_HOLD_AUTH);
	memset(long_text, 'A', sizeof(long_text) - 1);
	options.auth = &too_long;
	to_auth(&p, &options, ehlo_tls);
	assert_closed(&p, VERDICT_HOLD_AUTH);
}

static void test_without_credentials(void **state)
{
	static const struct client_auth none = { .plain = NULL };
	struct client_options options = wrapper_options;
	struct peer p;

	(void)state;
	options.auth = NULL;
	to_auth(&p, &options, ehlo_tls);
	assert_true(p.out.ready);
	assert_silent(&p);
	options.auth = &none;
	to_auth(&p, &options, ehlo_tls);
	assert_true(p.out.ready);
}

static void test_prompt_after_initial_response(void **state)
{
	struct peer p;

	(void)state;
	to_auth(&p, &wrapper_options, ehlo_tls);
	hear(&p, "334 Ok");
	assert_closed(&p, VERDICT_DESYNC);
}

/* RFC 3207 5: what is refused is not got round in clear. */
static void test_starttls_not_to_be_had(void **state)
{
	struct peer p;

	(void)state;
	start(&p, &starttls_options);
	hear(&p, "220 x");
	hear(&p, "250-x\n250-AUTH PLAIN LOGIN\n250 Ok");
	assert_closed(&p, VERDICT_RETRY_FREE);
	assert_int_equal(p.c.verdict.scope, SCOPE_CONNECTION);
	assert_false(p.c.verdict.charge);
	assert_non_null(strstr(p.c.verdict.advice, "STARTTLS"));

	static const char *const ehlo_replies[] = { "502 what?", "500 what?",
		"550 no", "421 x", "221 Bye", "220 x", "354 x", "454 x" };
	static const char *const starttls_replies[] = { "454 no", "502 no",
		"354 x", "221 Bye", "250 Ok", "421 x", "530 x" };

	for (size_t i = 0; i < ARRAY_LEN(ehlo_replies); i++) {
		start(&p, &starttls_options);
		hear(&p, "220 x");
		hear(&p, ehlo_replies[i]);
		assert_true(p.out.close);
		assert_silent(&p);
	}
	for (size_t i = 0; i < ARRAY_LEN(starttls_replies); i++) {
		start(&p, &starttls_options);
		hear(&p, "220 x");
		hear(&p, "250 STARTTLS");
		hear(&p, starttls_replies[i]);
		assert_true(p.out.close);
		assert_false(p.out.start_tls);
		assert_silent(&p);
	}
}

/* Lines that come at another time offer nothing. */
static void test_keywords_count_in_ehlo_only(void **state)
{
	struct peer p;

	(void)state;
	start(&p, &starttls_options);
	hear(&p, "220-STARTTLS\n220 x");
	assert_says(&p, "EHLO host.example");
	hear(&p, "250 Ok");
	assert_closed(&p, VERDICT_RETRY_FREE);

	start(&p, &starttls_options);
	hear(&p, "220 x");
	hear(&p, "250 STARTTLS");
	hear(&p, "220-AUTH PLAIN\n220-8BITMIME\n220 go");
	client_on_line(&p.c, slice_str("AUTH PLAIN"));
	client_on_secured(&p.c, &p.out);
	hear(&p, "250 Ok");
	assert_closed(&p, VERDICT_HOLD_AUTH);
}

static void test_mail_goes_out(void **state)
{
	struct peer p;

	(void)state;
	login(&p);
	p.mail.n_rcpts = 2;
	for (int round = 0; round < 3; round++) {
		send_mail(&p);
		assert_says(&p, "MAIL FROM:<s@y.example> BODY=8BITMIME");
		hear(&p, "250 Ok");
		assert_says(&p, "RCPT TO:<a@x.example>");
		hear(&p, "250 Ok");
		assert_says(&p, "RCPT TO:<b@x.example>");
		hear(&p, "250 Ok");
		assert_says(&p, "DATA");
		assert_false(p.out.send_body);
		hear(&p, "354 End data with <CR><LF>.<CR><LF>");
		assert_silent(&p);
		assert_true(p.out.send_body);
		assert_int_equal(client_phase(&p.c), PHASE_BODY);
		client_on_body_sent(&p.c);
		assert_int_equal(client_phase(&p.c), PHASE_DOT);
		hear(&p, "250 Ok 01000170d10e6a6c-71c65177");
		/* The next MAIL needs no round trip before it. */
		assert_true(p.out.settle);
		assert_true(p.out.ready);
		assert_silent(&p);
		assert_int_equal(p.c.verdict.class, VERDICT_DELIVERED);
		assert_string_equal(
		    p.c.verdict.text, "250 Ok 01000170d10e6a6c-71c65177");
		assert_int_equal(p.rcpt_verdicts[0].class, VERDICT_NONE);
		assert_int_equal(p.rcpt_verdicts[1].class, VERDICT_NONE);
	}
}

static void test_mail_parameters(void **state)
{
	static const struct {
		const char *ehlo;
		bool body_8bit;
		const char *command;
	} rows[] = {
		{ "250 Ok", true, "MAIL FROM:<s@y.example>\r\n" },
		{ "250 8BITMIME", false, "MAIL FROM:<s@y.example>\r\n" },
		{ "250 SIZE", true, "MAIL FROM:<s@y.example> SIZE=1234\r\n" },
		{ "250-8BITMIME\n250 SIZE 99", true,
		    "MAIL FROM:<s@y.example> SIZE=1234 BODY=8BITMIME\r\n" },
	};
	struct client_options options = wrapper_options;
	struct peer p;

	(void)state;
	options.auth = NULL;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		to_auth(&p, &options, rows[i].ehlo);
		p.mail.body_8bit = rows[i].body_8bit;
		send_mail(&p);
		assert_string_equal(p.out.command, rows[i].command);
	}
	to_auth(&p, &options, "250 Ok");
	p.mail.sender = "";
	send_mail(&p);
	assert_says(&p, "MAIL FROM:<>");
}

static void test_one_recipient_refused(void **state)
{
	struct peer p;

	(void)state;
	login(&p);
	p.mail.n_rcpts = 3;
	send_mail(&p);
	hear(&p, "250 Ok");
	hear(&p, "501 Invalid RCPT TO address provided");
	assert_false(p.out.settle);
	assert_says(&p, "RCPT TO:<b@x.example>");
	hear(&p, "250 Ok");
	hear(&p, "450 later");
	assert_says(&p, "DATA");
	hear(&p, "354 go");
	client_on_body_sent(&p.c);
	hear(&p, "250 Ok id");
	assert_true(p.out.settle && p.out.ready);
	assert_int_equal(p.c.verdict.class, VERDICT_DELIVERED);
	assert_int_equal(p.rcpt_verdicts[0].class, VERDICT_RCPT_FAILED);
	assert_string_equal(
	    p.rcpt_verdicts[0].text, "501 Invalid RCPT TO address provided");
	assert_int_equal(p.rcpt_verdicts[1].class, VERDICT_NONE);
	assert_int_equal(p.rcpt_verdicts[2].class, VERDICT_RETRY);
	/* The next transaction starts with clean verdicts. */
	send_mail(&p);
	assert_int_equal(p.rcpt_verdicts[0].class, VERDICT_NONE);
	assert_int_equal(p.rcpt_verdicts[2].class, VERDICT_NONE);
}

static void test_all_recipients_refused(void **state)
{
	struct peer p;

	(void)state;
	login(&p);
	p.mail.n_rcpts = 2;
	send_mail(&p);
	hear(&p, "250 Ok");
	hear(&p, "553 <a> address unknown");
	hear(&p, "450 later");
	assert_true(p.out.settle);
	assert_false(p.out.ready);
	assert_says(&p, "RSET");
	assert_int_equal(p.c.verdict.class, VERDICT_NONE);
	assert_int_equal(p.rcpt_verdicts[0].class, VERDICT_RCPT_FAILED);
	assert_int_equal(p.rcpt_verdicts[1].class, VERDICT_RETRY);
	hear(&p, "250 Ok");
	assert_true(p.out.ready);
	assert_false(p.out.settle);
	send_mail(&p);
	assert_says(&p, "MAIL FROM:<s@y.example> BODY=8BITMIME");
}

/* A reply to RCPT that is about more than the recipient. */
static void test_rcpt_ends_the_transaction(void **state)
{
	struct peer p;

	(void)state;
	login(&p);
	p.mail.n_rcpts = 3;
	send_mail(&p);
	hear(&p, "250 Ok");
	hear(&p, "553 <a> address unknown");
	hear(&p, "454 Throttling failure: Maximum sending rate exceeded.");
	assert_true(p.out.settle);
	assert_says(&p, "RSET");
	assert_int_equal(p.c.verdict.class, VERDICT_RATE);
	assert_int_equal(p.rcpt_verdicts[0].class, VERDICT_RCPT_FAILED);
	assert_int_equal(p.rcpt_verdicts[1].class, VERDICT_NONE);
	assert_int_equal(p.rcpt_verdicts[2].class, VERDICT_NONE);
	hear(&p, "250 Ok");

	send_mail(&p);
	hear(&p, "250 Ok");
	hear(&p, "250 Ok");
	hear(&p, "421 Service not available");
	assert_true(p.out.settle);
	assert_closed(&p, VERDICT_RETRY_FREE);
	assert_int_equal(p.rcpt_verdicts[1].class, VERDICT_NONE);
}

static void test_refused_at_the_dot(void **state)
{
	struct peer p;

	(void)state;
	login(&p);
	send_mail(&p);
	hear(&p, "250 Ok");
	hear(&p, "250 Ok");
	hear(&p, "354 go");
	client_on_body_sent(&p.c);
	hear(&p, "554 Transaction failed: Duplicate header 'X'.");
	assert_true(p.out.settle);
	assert_false(p.out.ready);
	assert_says(&p, "RSET");
	assert_int_equal(p.c.verdict.class, VERDICT_MSG_FAILED);
	/* A connection that can't even do this is none. */
	hear(&p, "503 no");
	assert_closed(&p, VERDICT_DESYNC);
	assert_false(p.out.settle);
}

/* Intake takes it: here '>' ends nothing, nor does an escaped quote. */
static void test_quoted_address(void **state)
{
	struct peer p;

	(void)state;
	login(&p);
	p.mail.sender = "\"a>b\"@x.example";
	p.mail.n_rcpts = 1;
	p.rcpts[0] = "\"a\\\">b\"@x.example";
	send_mail(&p);
	assert_says(&p, "MAIL FROM:<\"a>b\"@x.example> BODY=8BITMIME");
	hear(&p, "250 Ok");
	assert_says(&p, "RCPT TO:<\"a\\\">b\"@x.example>");
}

static void test_hostile_addresses(void **state)
{
	static const char *const bad[] = { "a@x>\r\nRCPT TO:<evil@x", "a\n@x",
		"a\r@x", "a>@x", "a\x01@x", "a\x7f@x", "\xc3\xa4@x", "\t@x",
		"\"a>@x", "\"a\\\">@x", "\"a\"b>@x", "\"\\\x7f\"@x", "\"a\">@x",
		"\"a\\\"@x", "\"a\\\\\">b\"@x", "\"a@x", "\"a\\\r\"@x",
		"\"a\n\"@x" };
	char long_address[256];
	struct peer p;

	(void)state;
	memset(long_address, 'a', sizeof(long_address) - 1);
	long_address[sizeof(long_address) - 1] = '\0';
	login(&p);
	for (size_t i = 0; i <= ARRAY_LEN(bad); i++) {
		const char *address =
		    i < ARRAY_LEN(bad) ? bad[i] : long_address;

		p.mail.sender = address;
		p.mail.n_rcpts = 1;
		send_mail(&p);
		assert_true(p.out.settle && p.out.ready);
		assert_silent(&p);
		assert_int_equal(p.c.verdict.class, VERDICT_MSG_FAILED);
		assert_string_equal(p.c.verdict.dsn, "5.1.7");

		p.mail.sender = "s@y.example";
		p.mail.n_rcpts = 3;
		p.rcpts[1] = address;
		send_mail(&p);
		hear(&p, "250 Ok");
		assert_says(&p, "RCPT TO:<a@x.example>");
		hear(&p, "250 Ok");
		assert_says(&p, "RCPT TO:<c@x.example>");
		assert_int_equal(p.rcpt_verdicts[1].class, VERDICT_RCPT_FAILED);
		hear(&p, "550 no");
		assert_says(&p, "DATA");
		hear(&p, "554 no");
		hear(&p, "250 Ok");
	}
	/* Inside quotes it ends nothing. */
	p.mail.sender = "\"a>\\\"b>\\\\\"@x.example";
	p.mail.n_rcpts = 1;
	send_mail(&p);
	assert_says(&p, "MAIL FROM:<\"a>\\\"b>\\\\\"@x.example> BODY=8BITMIME");
	hear(&p, "554 no");
	assert_says(&p, "RSET");
	hear(&p, "250 Ok");
	p.mail.sender = "s@y.example";
	p.rcpts[0] = "";
	p.mail.n_rcpts = 2;
	send_mail(&p);
	hear(&p, "250 Ok");
	assert_true(p.out.settle);
	assert_says(&p, "RSET");
	assert_int_equal(p.rcpt_verdicts[0].class, VERDICT_RCPT_FAILED);
	assert_int_equal(p.rcpt_verdicts[1].class, VERDICT_RCPT_FAILED);
}

static void test_longest_addresses_fit(void **state)
{
	char longest[255];
	struct client_options options = wrapper_options;
	struct peer p;

	(void)state;
	memset(longest, 'a', 254);
	longest[254] = '\0';
	options.auth = NULL;
	to_auth(&p, &options, "250-8BITMIME\n250 SIZE");
	p.mail.sender = p.rcpts[0] = longest;
	p.mail.size = UINT64_MAX;
	send_mail(&p);
	assert_false(p.out.settle);
	assert_int_equal(p.out.command_len,
	    strlen("MAIL FROM:<> SIZE= BODY=8BITMIME\r\n") + 254 + 20);
	hear(&p, "250 Ok");
	assert_int_equal(p.out.command_len, strlen("RCPT TO:<>\r\n") + 254);
}

/* --- every cell ------------------------------------------------------- */

static bool needs_tls(enum client_state state)
{
	return state >= CLIENT_EHLO_TLS && state <= CLIENT_QUIT;
}

/* A client in any state, as if it had come there the usual way. */
static void force(struct peer *p, enum client_state state, bool secure)
{
	start(p, &starttls_options);
	p->mail.n_rcpts = 2;
	p->c.state = state;
	p->c.secure = secure;
	p->c.ehlo.starttls = true;
	p->c.ehlo.auth_plain = p->c.ehlo.auth_login = true;
	if (state >= CLIENT_MAIL && state <= CLIENT_DOT)
		p->c.mail = &p->mail;
	if (state == CLIENT_DATA || state == CLIENT_BODY || state == CLIENT_DOT)
		p->c.rcpt = p->c.n_accepted = 2;
}

/* One for each flag of client_out, in its order; C is close. */
static const char *flags_of(const struct client_out *out)
{
	static char flags[8];

	snprintf(flags, sizeof(flags), "%s%s%s%s%s%s", out->settle ? "S" : "",
	    out->secret ? "X" : "", out->start_tls ? "T" : "",
	    out->send_body ? "B" : "", out->ready ? "R" : "",
	    out->close ? "C" : "");
	return flags;
}

#define NO VERDICT_NONE
#define FREE VERDICT_RETRY_FREE
#define STEP VERDICT_DESYNC

static const struct cell {
	enum client_state state;
	const char *reply;
	enum client_state next;
	const char *command, *flags;
	enum verdict_class class;
} cells[] = {
	{ CLIENT_TLS_WRAP, "220 x", CLIENT_CLOSED, "", "C", STEP },
	{ CLIENT_TLS_WRAP, "334 x", CLIENT_CLOSED, "", "C", STEP },
	{ CLIENT_TLS_WRAP, "450 x", CLIENT_CLOSED, "", "C", STEP },
	{ CLIENT_TLS_WRAP, "550 x", CLIENT_CLOSED, "", "C", STEP },

	{ CLIENT_GREETING, "220 x", CLIENT_EHLO, "EHLO", "", NO },
	{ CLIENT_GREETING, "221 x", CLIENT_CLOSED, "", "C", STEP },
	{ CLIENT_GREETING, "250 x", CLIENT_CLOSED, "", "C", STEP },
	{ CLIENT_GREETING, "354 x", CLIENT_CLOSED, "", "C", STEP },
	{ CLIENT_GREETING, "421 Too many concurrent SMTP connections",
	    CLIENT_CLOSED, "", "C", VERDICT_CONN_LIMIT },
	{ CLIENT_GREETING, "450 x", CLIENT_CLOSED, "", "C", FREE },
	{ CLIENT_GREETING, "554 x", CLIENT_CLOSED, "", "C", FREE },

	{ CLIENT_EHLO, "250 x", CLIENT_STARTTLS, "STARTTLS", "", NO },
	{ CLIENT_EHLO, "220 x", CLIENT_CLOSED, "", "C", STEP },
	{ CLIENT_EHLO, "354 x", CLIENT_CLOSED, "", "C", STEP },
	{ CLIENT_EHLO, "450 x", CLIENT_CLOSED, "", "C", FREE },
	{ CLIENT_EHLO, "502 x", CLIENT_CLOSED, "", "C", FREE },

	{ CLIENT_STARTTLS, "220 x", CLIENT_TLS, "", "T", NO },
	{ CLIENT_STARTTLS, "250 x", CLIENT_CLOSED, "", "C", STEP },
	{ CLIENT_STARTTLS, "354 x", CLIENT_CLOSED, "", "C", STEP },
	{ CLIENT_STARTTLS, "454 x", CLIENT_CLOSED, "", "C", FREE },
	{ CLIENT_STARTTLS, "502 x", CLIENT_CLOSED, "", "C", FREE },

	{ CLIENT_TLS, "220 x", CLIENT_CLOSED, "", "C", STEP },
	{ CLIENT_TLS, "354 x", CLIENT_CLOSED, "", "C", STEP },
	{ CLIENT_TLS, "450 x", CLIENT_CLOSED, "", "C", STEP },
	{ CLIENT_TLS, "550 x", CLIENT_CLOSED, "", "C", STEP },

	{ CLIENT_EHLO_TLS, "250 x", CLIENT_AUTH_PLAIN, "AUTH PLAIN", "X", NO },
	{ CLIENT_EHLO_TLS, "235 x", CLIENT_CLOSED, "", "C", STEP },
	{ CLIENT_EHLO_TLS, "354 x", CLIENT_CLOSED, "", "C", STEP },
	{ CLIENT_EHLO_TLS, "450 x", CLIENT_CLOSED, "", "C", FREE },
	{ CLIENT_EHLO_TLS, "550 x", CLIENT_CLOSED, "", "C", FREE },

	{ CLIENT_AUTH_PLAIN, "235 x", CLIENT_IDLE, "", "R", NO },
	{ CLIENT_AUTH_PLAIN, "250 x", CLIENT_CLOSED, "", "C", STEP },
	{ CLIENT_AUTH_PLAIN, "334 x", CLIENT_CLOSED, "", "C", STEP },
	{ CLIENT_AUTH_PLAIN, "454 x", CLIENT_CLOSED, "", "C", FREE },
	{ CLIENT_AUTH_PLAIN, "535 x", CLIENT_CLOSED, "", "C",
	    VERDICT_HOLD_AUTH },
	{ CLIENT_AUTH_PLAIN, "504 x", CLIENT_AUTH_LOGIN, "AUTH LOGIN", "", NO },

	{ CLIENT_AUTH_LOGIN, "235 x", CLIENT_CLOSED, "", "C", STEP },
	{ CLIENT_AUTH_LOGIN, "334 x", CLIENT_AUTH_USER, "dXNlcg==", "X", NO },
	{ CLIENT_AUTH_LOGIN, "354 x", CLIENT_CLOSED, "", "C", STEP },
	{ CLIENT_AUTH_LOGIN, "454 x", CLIENT_CLOSED, "", "C", FREE },
	{ CLIENT_AUTH_LOGIN, "535 x", CLIENT_CLOSED, "", "C",
	    VERDICT_HOLD_AUTH },

	{ CLIENT_AUTH_USER, "235 x", CLIENT_CLOSED, "", "C", STEP },
	{ CLIENT_AUTH_USER, "334 x", CLIENT_AUTH_PASS, "cGFzcw==", "X", NO },
	{ CLIENT_AUTH_USER, "454 x", CLIENT_CLOSED, "", "C", FREE },
	{ CLIENT_AUTH_USER, "535 x", CLIENT_CLOSED, "", "C",
	    VERDICT_HOLD_AUTH },

	{ CLIENT_AUTH_PASS, "235 x", CLIENT_IDLE, "", "R", NO },
	{ CLIENT_AUTH_PASS, "250 x", CLIENT_CLOSED, "", "C", STEP },
	{ CLIENT_AUTH_PASS, "334 x", CLIENT_CLOSED, "", "C", STEP },
	{ CLIENT_AUTH_PASS, "454 x", CLIENT_CLOSED, "", "C", FREE },
	{ CLIENT_AUTH_PASS, "535 x", CLIENT_CLOSED, "", "C",
	    VERDICT_HOLD_AUTH },

	{ CLIENT_IDLE, "250 x", CLIENT_CLOSED, "", "C", STEP },
	{ CLIENT_IDLE, "354 x", CLIENT_CLOSED, "", "C", STEP },
	{ CLIENT_IDLE, "451 4.4.2 Timeout waiting for data from client.",
	    CLIENT_CLOSED, "", "C", FREE },
	{ CLIENT_IDLE, "550 x", CLIENT_CLOSED, "", "C", FREE },

	{ CLIENT_MAIL, "250 x", CLIENT_RCPT, "RCPT TO:<a@x.example>", "", NO },
	{ CLIENT_MAIL, "354 x", CLIENT_CLOSED, "", "SC", STEP },
	{ CLIENT_MAIL, "421 x", CLIENT_CLOSED, "", "SC", FREE },
	{ CLIENT_MAIL, "450 x", CLIENT_RSET, "RSET", "S", VERDICT_RETRY },
	{ CLIENT_MAIL, "501 x", CLIENT_RSET, "RSET", "S", VERDICT_MSG_FAILED },
	{ CLIENT_MAIL, "530 x", CLIENT_CLOSED, "", "SC", VERDICT_HOLD_AUTH },

	{ CLIENT_RCPT, "250 x", CLIENT_RCPT, "RCPT TO:<b@x.example>", "", NO },
	{ CLIENT_RCPT, "354 x", CLIENT_CLOSED, "", "SC", STEP },
	{ CLIENT_RCPT, "421 x", CLIENT_CLOSED, "", "SC", FREE },
	{ CLIENT_RCPT, "450 x", CLIENT_RCPT, "RCPT TO:<b@x.example>", "", NO },
	{ CLIENT_RCPT, "550 x", CLIENT_RCPT, "RCPT TO:<b@x.example>", "", NO },
	{ CLIENT_RCPT, "503 x", CLIENT_CLOSED, "", "SC", STEP },

	{ CLIENT_DATA, "250 x", CLIENT_CLOSED, "", "SC", STEP },
	{ CLIENT_DATA, "354 x", CLIENT_BODY, "", "B", NO },
	{ CLIENT_DATA, "334 x", CLIENT_CLOSED, "", "SC", STEP },
	{ CLIENT_DATA, "421 x", CLIENT_CLOSED, "", "SC", FREE },
	{ CLIENT_DATA, "450 x", CLIENT_RSET, "RSET", "S", VERDICT_RETRY },
	{ CLIENT_DATA, "554 x", CLIENT_RSET, "RSET", "S", VERDICT_MSG_FAILED },

	{ CLIENT_BODY, "250 x", CLIENT_CLOSED, "", "SC", STEP },
	{ CLIENT_BODY, "354 x", CLIENT_CLOSED, "", "SC", STEP },
	{ CLIENT_BODY, "421 x", CLIENT_CLOSED, "", "SC", FREE },
	{ CLIENT_BODY, "450 x", CLIENT_CLOSED, "", "SC", VERDICT_RETRY },
	{ CLIENT_BODY, "552 x", CLIENT_CLOSED, "", "SC", VERDICT_MSG_FAILED },

	{ CLIENT_DOT, "250 x", CLIENT_IDLE, "", "SR", VERDICT_DELIVERED },
	{ CLIENT_DOT, "354 x", CLIENT_CLOSED, "", "SC", VERDICT_UNCERTAIN },
	{ CLIENT_DOT, "421 x", CLIENT_CLOSED, "", "SC", FREE },
	{ CLIENT_DOT, "450 x", CLIENT_RSET, "RSET", "S", VERDICT_RETRY },
	{ CLIENT_DOT, "554 x", CLIENT_RSET, "RSET", "S", VERDICT_MSG_FAILED },

	{ CLIENT_RSET, "250 x", CLIENT_IDLE, "", "R", NO },
	{ CLIENT_RSET, "354 x", CLIENT_CLOSED, "", "C", STEP },
	{ CLIENT_RSET, "450 x", CLIENT_CLOSED, "", "C", FREE },
	{ CLIENT_RSET, "550 x", CLIENT_CLOSED, "", "C", FREE },

	{ CLIENT_QUIT, "221 x", CLIENT_CLOSED, "", "C", NO },
	{ CLIENT_QUIT, "354 x", CLIENT_CLOSED, "", "C", NO },
	{ CLIENT_QUIT, "421 x", CLIENT_CLOSED, "", "C", NO },
	{ CLIENT_QUIT, "550 x", CLIENT_CLOSED, "", "C", NO },

	{ CLIENT_CLOSED, "250 x", CLIENT_CLOSED, "", "C", NO },
	{ CLIENT_CLOSED, "354 x", CLIENT_CLOSED, "", "C", NO },
	{ CLIENT_CLOSED, "450 x", CLIENT_CLOSED, "", "C", NO },
	{ CLIENT_CLOSED, "550 x", CLIENT_CLOSED, "", "C", NO },
};

static void test_every_cell(void **state)
{
	bool seen[CLIENT_N_STATES][4] = { { false } };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cells); i++) {
		const struct cell *cell = &cells[i];
		struct peer p;

		force(&p, cell->state, needs_tls(cell->state));
		hear(&p, cell->reply);
		if (p.c.state != cell->next ||
		    p.c.verdict.class != cell->class ||
		    strcmp(flags_of(&p.out), cell->flags) != 0 ||
		    strncmp(p.out.command, cell->command,
			strlen(cell->command)) != 0 ||
		    (*cell->command == '\0') != (p.out.command_len == 0))
			fail_msg("%s, %s: %s \"%s\" %s %s",
			    client_state_name(cell->state), cell->reply,
			    client_state_name(p.c.state), p.out.command,
			    flags_of(&p.out),
			    verdict_class_name(p.c.verdict.class));
		seen[cell->state][cell->reply[0] - '2'] = true;
	}
	for (int s = 0; s < CLIENT_N_STATES; s++)
		for (int class = 0; class < 4; class ++)
			if (!seen[s][class])
				fail_msg("no cell for state %d, class %d", s,
				    class + 2);
}

/* 421 closes from wherever it comes, and costs the message nothing. */
static void test_421_in_every_state(void **state)
{
	(void)state;
	for (int s = 0; s < CLIENT_N_STATES; s++) {
		struct peer p;

		force(&p, s, needs_tls(s));
		hear(&p, "421 Service not available");
		assert_true(p.out.close);
		assert_silent(&p);
		assert_int_equal(p.c.state, CLIENT_CLOSED);
		assert_int_equal(
		    p.out.settle, s >= CLIENT_MAIL && s <= CLIENT_DOT);
		if (p.out.settle) {
			assert_int_equal(p.c.verdict.class, VERDICT_RETRY_FREE);
			assert_false(p.c.verdict.charge);
		}
	}
}

static enum client_state forced_state;
static const char *forced_reply;

static void answer_in_clear(void)
{
	struct peer p;

	force(&p, forced_state, false);
	reply_feed(&p.parser, slice_str(forced_reply), NULL, NULL);
	client_on_reply(&p.c, &p.parser.reply, &p.out);
	if (p.out.command_len > 0 && memcmp(p.out.command, "EHLO", 4) != 0 &&
	    memcmp(p.out.command, "STARTTLS", 8) != 0)
		_exit(1);
	if (p.out.ready || p.out.send_body)
		_exit(2);
}

/*
 * Outside TLS nothing but EHLO and STARTTLS is ever said, whatever state the
 * client is put into: it says something harmless, or aborts.
 */
static void test_nothing_leaves_in_clear(void **state)
{
	static const char *const replies[] = { "220 x", "235 x", "250 x",
		"334 x", "354 x", "450 x", "504 x", "550 x" };
	unsigned n_aborts = 0;

	(void)state;
	for (int s = 0; s < CLIENT_N_STATES; s++)
		for (size_t i = 0; i < ARRAY_LEN(replies); i++) {
			struct child_end end;

			forced_state = s;
			forced_reply = replies[i];
			end = child_run(answer_in_clear);
			if (WIFSIGNALED(end.status)) {
				assert_int_equal(WTERMSIG(end.status), SIGABRT);
				assert_true(needs_tls(s));
				n_aborts++;
			} else {
				assert_int_equal(WEXITSTATUS(end.status), 0);
			}
		}
	/* EHLO, three of AUTH, MAIL, RCPT, DATA, DOT, RSET at the least. */
	assert_true(n_aborts >= 9);
}

static void send_in_clear(void)
{
	struct peer p;

	force(&p, CLIENT_IDLE, false);
	client_send(&p.c, &p.mail, &p.out);
}

static void secure_twice(void)
{
	struct peer p;

	force(&p, CLIENT_EHLO, false);
	client_on_secured(&p.c, &p.out);
}

static void test_misuse_aborts(void **state)
{
	struct child_end end = child_run(send_in_clear);

	(void)state;
	assert_true(WIFSIGNALED(end.status));
	end = child_run(secure_twice);
	assert_true(WIFSIGNALED(end.status));
}

/* --- losses ----------------------------------------------------------- */

static void test_loss_in_every_state(void **state)
{
	(void)state;
	for (int s = 0; s < CLIENT_N_STATES; s++)
		for (int dot_sent = 0; dot_sent < 2; dot_sent++) {
			bool busy = s >= CLIENT_MAIL && s <= CLIENT_DOT;
			bool uncertain =
			    s == CLIENT_DOT || (s == CLIENT_BODY && dot_sent);
			struct peer p;

			force(&p, s, needs_tls(s));
			client_on_loss(
			    &p.c, LOSS_EOF, dot_sent, "gone", &p.out);
			assert_int_equal(p.out.settle, busy);
			assert_true(p.out.close);
			assert_silent(&p);
			assert_int_equal(p.c.state, CLIENT_CLOSED);
			assert_null(p.c.mail);
			if (s == CLIENT_QUIT || s == CLIENT_CLOSED)
				assert_int_equal(
				    p.c.verdict.class, VERDICT_NONE);
			else
				assert_int_equal(p.c.verdict.class,
				    uncertain ? VERDICT_UNCERTAIN
					      : VERDICT_RETRY_FREE);
			assert_int_equal(p.c.verdict.charge, uncertain);
			/* A second one changes nothing. */
			strcpy(p.c.verdict.text, "first");
			client_on_loss(&p.c, LOSS_RESET, true, "", &p.out);
			assert_false(p.out.settle);
			assert_string_equal(p.c.verdict.text, "first");
			assert_true(p.out.close);
		}
}

static void test_late_reply_changes_nothing(void **state)
{
	struct peer p;

	(void)state;
	force(&p, CLIENT_DOT, true);
	client_on_loss(&p.c, LOSS_TIMEOUT, true, "no reply for 600s", &p.out);
	assert_true(p.out.settle);
	assert_string_equal(p.c.verdict.text,
	    "timed out at end of DATA command: no reply for 600s");
	hear(&p, "250 Ok id");
	assert_false(p.out.settle);
	assert_true(p.out.close);
	assert_int_equal(p.c.verdict.class, VERDICT_UNCERTAIN);
}

/* --- random scripts --------------------------------------------------- */

static uint32_t seed = 7;

static uint32_t dice(uint32_t sides)
{
	seed = seed * 1664525 + 1013904223;
	return (seed >> 8) % sides;
}

/* Mostly what is right in the state, so that scripts get far. */
static const char *random_reply(const struct client *c)
{
	static const char *const any[] = { "220 x", "221 x", "235 x", "250 Ok",
		"251 x", "334 x", "354 x", "421 x", "450 x", "451 4.4.2 x",
		"454 Throttling failure: x", "500 x", "501 x", "503 x", "504 x",
		"530 x", "535 x", "552 x", "553 x",
		"554 Transaction failed: Recipient count exceeds 50.",
		"554 Access denied" };

	if (dice(100) < 12)
		return any[dice(ARRAY_LEN(any))];
	switch (c->state) {
	case CLIENT_GREETING:
	case CLIENT_STARTTLS:
		return "220 x";
	case CLIENT_AUTH_LOGIN:
	case CLIENT_AUTH_USER:
		return "334 x";
	case CLIENT_AUTH_PLAIN:
	case CLIENT_AUTH_PASS:
		return "235 x";
	case CLIENT_EHLO:
		return "250-8BITMIME\n250-STARTTLS\n250 AUTH LOGIN";
	case CLIENT_EHLO_TLS:
		return dice(2) ? "250-SIZE 1\n250 AUTH LOGIN" : ehlo_tls;
	case CLIENT_DATA:
		return "354 x";
	default:
		return "250 Ok";
	}
}

struct script {
	struct peer p;
	unsigned n_sent, n_settled, n_delivered;
	bool closed;
};

/* What a session may count on, after each step. */
static void check_step(struct script *s, enum client_state before,
    enum verdict_class *class, bool positive_dot)
{
	struct client_out *out = &s->p.out;
	const char *command = out->command;

	*class = VERDICT_NONE;
	if (out->settle) {
		*class = s->p.c.verdict.class;
		s->n_settled++;
		assert_null(s->p.c.mail);
	}
	assert_int_equal(out->settle && *class == VERDICT_DELIVERED,
	    before == CLIENT_DOT && positive_dot);
	assert_int_equal(out->ready, s->p.c.state == CLIENT_IDLE);
	assert_int_equal(out->close, s->p.c.state == CLIENT_CLOSED);
	assert_true(s->n_sent - s->n_settled == (s->p.c.mail ? 1u : 0u));
	if (out->command_len == 0)
		return;
	assert_false(
	    out->close || out->ready || out->send_body || out->start_tls);
	assert_int_equal(strlen(command), out->command_len);
	assert_ptr_equal(
	    strstr(command, "\r\n"), command + out->command_len - 2);
	if (strncmp(command, "EHLO ", 5) != 0 &&
	    strcmp(command, "STARTTLS\r\n") != 0)
		assert_true(s->p.c.secure);
	assert_int_equal(out->secret,
	    strstr(command, auth.plain) || strstr(command, auth.login_user) ||
		strstr(command, auth.login_pass));
}

static void run_script(struct script *s)
{
	struct client *c = &s->p.c;
	enum verdict_class class;

	memset(s, 0, sizeof(*s));
	start(&s->p, dice(2) ? &starttls_options : &wrapper_options);
	for (int step = 0; step < 60 && c->state != CLIENT_CLOSED; step++) {
		enum client_state before = c->state;
		bool ok = false;

		if (dice(150) == 0) {
			client_on_loss(
			    c, dice(8), dice(2), "by chance", &s->p.out);
		} else if ((before == CLIENT_TLS ||
			       before == CLIENT_TLS_WRAP) &&
		    dice(20) > 0) {
			client_on_secured(c, &s->p.out);
		} else if (before == CLIENT_IDLE && dice(20) > 0) {
			s->p.mail.n_rcpts = 1 + dice(3);
			s->n_sent++;
			client_send(c, &s->p.mail, &s->p.out);
		} else if (before == CLIENT_BODY && dice(10) > 0) {
			client_on_body_sent(c);
			continue;
		} else {
			hear(&s->p, random_reply(c));
			ok = s->p.parser.reply.code / 100 == 2;
		}
		check_step(s, before, &class, ok);
		s->n_delivered += class == VERDICT_DELIVERED;
	}
}

static void test_random_scripts(void **state)
{
	unsigned delivered = 0, settled = 0;

	(void)state;
	for (int round = 0; round < 50000; round++) {
		struct script s;

		run_script(&s);
		delivered += s.n_delivered;
		settled += s.n_settled;
	}
	/* The scripts did get somewhere, and met failures too. */
	assert_true(delivered > 10000);
	assert_true(settled - delivered > 10000);
}

static void test_names(void **state)
{
	(void)state;
	for (int s = 0; s < CLIENT_N_STATES; s++)
		assert_true(strlen(client_state_name(s)) > 1);
	assert_string_equal(client_state_name(CLIENT_DOT), "dot");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_starttls_dialogue),
		cmocka_unit_test(test_wrapper_dialogue),
		cmocka_unit_test(test_login_when_plain_is_not_offered),
		cmocka_unit_test(test_login_when_plain_is_not_known),
		cmocka_unit_test(test_no_way_to_log_in),
		cmocka_unit_test(test_without_credentials),
		cmocka_unit_test(test_prompt_after_initial_response),
		cmocka_unit_test(test_starttls_not_to_be_had),
		cmocka_unit_test(test_keywords_count_in_ehlo_only),
		cmocka_unit_test(test_mail_goes_out),
		cmocka_unit_test(test_mail_parameters),
		cmocka_unit_test(test_one_recipient_refused),
		cmocka_unit_test(test_all_recipients_refused),
		cmocka_unit_test(test_rcpt_ends_the_transaction),
		cmocka_unit_test(test_refused_at_the_dot),
		cmocka_unit_test(test_quoted_address),
		cmocka_unit_test(test_hostile_addresses),
		cmocka_unit_test(test_longest_addresses_fit),
		cmocka_unit_test(test_every_cell),
		cmocka_unit_test(test_421_in_every_state),
		cmocka_unit_test(test_nothing_leaves_in_clear),
		cmocka_unit_test(test_misuse_aborts),
		cmocka_unit_test(test_loss_in_every_state),
		cmocka_unit_test(test_late_reply_changes_nothing),
		cmocka_unit_test(test_random_scripts),
		cmocka_unit_test(test_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
