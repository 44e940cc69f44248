/*
 * Every row of the table by a reply that SES (or software like it) gives, and
 * the rules that stand above the rows.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "smtp/classify.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#define PHASE(name) (1u << PHASE_##name)
#define ANY ((1u << PHASE_N) - 1)
#define LOGIN (PHASE(GREETING) | PHASE(EHLO) | PHASE(STARTTLS) | PHASE(AUTH))
#define CONTENT (PHASE(DATA) | PHASE(BODY) | PHASE(DOT))
#define MAIL_TO_DOT (PHASE(MAIL) | PHASE(RCPT) | CONTENT)
/* Behind the handshake and its certificate. */
#define VERIFIED (PHASE(AUTH) | PHASE(IDLE) | MAIL_TO_DOT | PHASE(RSET))
/* A reply can be read there, and it is not a farewell. */
#define TALK (ANY & ~(PHASE(CONNECT) | PHASE(TLS) | PHASE(QUIT)))

struct example {
	uint32_t phases;
	const char *reply;
	enum verdict_class class;
	const char *flags; /* $: charged, x: the connection has to go */
	enum verdict_scope scope;
	const char *dsn;
};

/* clang-format off */
static const struct example examples[] = {
	{ PHASE(GREETING), "220 email-smtp.amazonaws.com ESMTP "
	  "SimpleEmailService-d-PFJZ5UQMO MPOOIZsZ18ictWi0fWIA",
	  VERDICT_NONE, "", SCOPE_MESSAGE, "2.0.0" },
	{ PHASE(STARTTLS), "220 Ready to start TLS",
	  VERDICT_NONE, "", SCOPE_MESSAGE, "2.0.0" },
	{ PHASE(EHLO) | PHASE(MAIL) | PHASE(RCPT) | PHASE(RSET), "250 Ok",
	  VERDICT_NONE, "", SCOPE_MESSAGE, "2.0.0" },
	{ PHASE(RCPT), "251 will forward",
	  VERDICT_NONE, "", SCOPE_MESSAGE, "2.0.0" },
	{ PHASE(AUTH), "334 VXNlcm5hbWU6",
	  VERDICT_NONE, "", SCOPE_MESSAGE, "2.0.0" },
	{ PHASE(AUTH), "235 Authentication successful.",
	  VERDICT_NONE, "", SCOPE_MESSAGE, "2.7.0" },
	{ PHASE(DATA), "354 End data with <CR><LF>.<CR><LF>",
	  VERDICT_NONE, "", SCOPE_MESSAGE, "2.0.0" },
	{ PHASE(DOT), "250 Ok 01000170d10e6a6c-71c65177-ce88-4135-9258-"
	  "48c0e8bf916d-000000",
	  VERDICT_DELIVERED, "$", SCOPE_MESSAGE, "2.0.0" },
	{ PHASE(DOT), "250 Ok",
	  VERDICT_DELIVERED, "$", SCOPE_MESSAGE, "2.0.0" },
	{ PHASE(DOT), "252", VERDICT_DELIVERED, "$", SCOPE_MESSAGE, "2.0.0" },
	{ PHASE(QUIT), "221 Bye",
	  VERDICT_NONE, "x", SCOPE_CONNECTION, "2.0.0" },
	{ PHASE(QUIT), "554 no", VERDICT_NONE, "x", SCOPE_CONNECTION, "2.0.0" },

	/* Out of step. */
	{ PHASE(DOT), "354 go on",
	  VERDICT_UNCERTAIN, "$x", SCOPE_MESSAGE, "4.5.0" },
	{ PHASE(CONNECT) | PHASE(TLS), "220 hello",
	  VERDICT_DESYNC, "x", SCOPE_CONNECTION, "4.5.0" },
	{ PHASE(CONNECT) | PHASE(TLS), "550 hello",
	  VERDICT_DESYNC, "x", SCOPE_CONNECTION, "4.5.0" },
	{ PHASE(GREETING) | PHASE(STARTTLS) | PHASE(AUTH) | PHASE(IDLE) |
	  PHASE(DATA) | PHASE(BODY), "250 Ok",
	  VERDICT_DESYNC, "x", SCOPE_CONNECTION, "4.5.0" },
	{ PHASE(EHLO), "220 late",
	  VERDICT_DESYNC, "x", SCOPE_CONNECTION, "4.5.0" },
	{ TALK & ~(PHASE(DATA) | PHASE(DOT)), "354 End data",
	  VERDICT_DESYNC, "x", SCOPE_CONNECTION, "4.5.0" },
	{ PHASE(DATA), "334 x",
	  VERDICT_DESYNC, "x", SCOPE_CONNECTION, "4.5.0" },
	{ TALK, "503 5.5.1 Sender already specified.",
	  VERDICT_DESYNC, "x", SCOPE_CONNECTION, "4.5.1" },
	{ PHASE(AUTH), "503 Refusing any other AUTH command.",
	  VERDICT_DESYNC, "x", SCOPE_CONNECTION, "4.5.1" },

	/* The connection ends, the dot included: a complete 421 says no. */
	{ TALK, "421 Too many concurrent SMTP connections",
	  VERDICT_CONN_LIMIT, "x", SCOPE_CONNECTION, "4.3.2" },
	{ TALK, "421 Too many connections, try again later",
	  VERDICT_CONN_LIMIT, "x", SCOPE_CONNECTION, "4.3.2" },
	{ TALK, "421 Connection closed by server. Maximum message count per "
	  "session reached.",
	  VERDICT_SESSION_CAP, "x", SCOPE_CONNECTION, "4.3.2" },
	{ TALK, "421 Connection closed by server. Too many messages in one "
	  "session",
	  VERDICT_SESSION_CAP, "x", SCOPE_CONNECTION, "4.3.2" },
	{ TALK, "421 Service not available, closing transmission channel.",
	  VERDICT_RETRY_FREE, "x", SCOPE_CONNECTION, "4.3.2" },
	{ TALK, "421 4.4.0 Problem attempting to execute commands",
	  VERDICT_RETRY_FREE, "x", SCOPE_CONNECTION, "4.4.0" },
	{ TALK, "421 Timeout waiting for data from client.",
	  VERDICT_RETRY_FREE, "x", SCOPE_CONNECTION, "4.4.2" },
	{ TALK, "451 Timeout waiting for data from client",
	  VERDICT_RETRY_FREE, "x", SCOPE_CONNECTION, "4.4.2" },
	{ TALK, "451 4.4.2 Timeout waiting for data from client.",
	  VERDICT_RETRY_FREE, "x", SCOPE_CONNECTION, "4.4.2" },
	{ TALK, "451 4.4.2 Bad connection",
	  VERDICT_RETRY_FREE, "x", SCOPE_CONNECTION, "4.4.2" },

	/* Credentials. */
	{ VERIFIED, "535 Authentication Credentials Invalid",
	  VERDICT_HOLD_AUTH, "x", SCOPE_ACCOUNT, "4.7.8" },
	{ PHASE(AUTH), "535 5.7.8 Account not subscribed to SES",
	  VERDICT_HOLD_AUTH, "x", SCOPE_ACCOUNT, "4.7.8" },
	{ PHASE(AUTH), "554 Account not subscribed to SES",
	  VERDICT_HOLD_AUTH, "x", SCOPE_ACCOUNT, "4.7.8" },
	{ VERIFIED, "530 Authentication required",
	  VERDICT_HOLD_AUTH, "x", SCOPE_ACCOUNT, "4.7.0" },
	{ VERIFIED, "530 Must issue a STARTTLS command first",
	  VERDICT_HOLD_AUTH, "x", SCOPE_ACCOUNT, "4.7.0" },
	{ PHASE(AUTH), "504 The requested authentication mechanism is not "
	  "supported",
	  VERDICT_HOLD_AUTH, "x", SCOPE_ACCOUNT, "4.7.4" },
	{ TALK, "454 Temporary authentication failure",
	  VERDICT_RETRY_FREE, "x", SCOPE_CONNECTION, "4.7.0" },
	{ PHASE(STARTTLS), "454 TLS not available",
	  VERDICT_RETRY_FREE, "x", SCOPE_CONNECTION, "4.7.0" },

	/* Before the login they tell of the port or of the way to it. */
	{ LOGIN & ~PHASE(AUTH), "535 Authentication Credentials Invalid",
	  VERDICT_RETRY_FREE, "x", SCOPE_CONNECTION, NULL },
	{ LOGIN & ~PHASE(AUTH), "530 Must issue a STARTTLS command first",
	  VERDICT_RETRY_FREE, "x", SCOPE_CONNECTION, NULL },
	{ LOGIN & ~PHASE(AUTH), "530 5.7.0 Authentication required",
	  VERDICT_RETRY_FREE, "x", SCOPE_CONNECTION, NULL },
	{ LOGIN & ~PHASE(AUTH), "554 Account not subscribed to SES",
	  VERDICT_RETRY_FREE, "x", SCOPE_CONNECTION, NULL },
	{ LOGIN & ~PHASE(AUTH), "454 Throttling failure: Daily message quota "
	  "exceeded.",
	  VERDICT_RETRY_FREE, "x", SCOPE_CONNECTION, NULL },
	{ LOGIN & ~PHASE(AUTH), "454 Throttling failure: Maximum sending rate "
	  "exceeded.",
	  VERDICT_RETRY_FREE, "x", SCOPE_CONNECTION, NULL },

	/* Throttling. */
	{ PHASE(DOT), "454 Throttling failure: Maximum sending rate exceeded.",
	  VERDICT_RATE, "", SCOPE_ACCOUNT, "4.3.2" },
	{ PHASE(AUTH), "454 Throttling failure: Maximum sending rate exceeded.",
	  VERDICT_RATE, "x", SCOPE_ACCOUNT, "4.3.2" },
	{ PHASE(DOT), "454 Throttling failure: Maximum SigV2 SMTP sending rate "
	  "exceeded.",
	  VERDICT_RATE, "", SCOPE_ACCOUNT, "4.3.2" },
	{ PHASE(DOT), "454 4.7.0 throttling failure: something new",
	  VERDICT_RATE, "", SCOPE_ACCOUNT, "4.7.0" },
	{ PHASE(DOT), "454 Throttling failure: Daily message quota exceeded.",
	  VERDICT_DAILY, "", SCOPE_ACCOUNT, "4.3.2" },

	/* Before MAIL. */
	{ PHASE(AUTH), "554 Access denied: User `arn:aws:iam::1:user/x' is not "
	  "authorized",
	  VERDICT_HOLD_ACCOUNT, "x", SCOPE_ACCOUNT, "4.7.1" },
	{ LOGIN, "454 Temporary service failure",
	  VERDICT_RETRY_FREE, "x", SCOPE_CONNECTION, NULL },
	{ PHASE(EHLO), "502 Error: command not implemented",
	  VERDICT_RETRY_FREE, "x", SCOPE_CONNECTION, "4.5.0" },
	{ PHASE(STARTTLS), "502 Error: command not implemented",
	  VERDICT_RETRY_FREE, "x", SCOPE_CONNECTION, "4.7.4" },
	{ PHASE(GREETING), "554 No SMTP service here",
	  VERDICT_RETRY_FREE, "x", SCOPE_CONNECTION, "4.3.2" },
	{ PHASE(IDLE) | PHASE(RSET), "550 5.3.0 whatever",
	  VERDICT_RETRY_FREE, "x", SCOPE_CONNECTION, "4.3.0" },

	/* MAIL and RCPT. */
	{ PHASE(MAIL), "501 Invalid MAIL FROM address provided",
	  VERDICT_MSG_FAILED, "$", SCOPE_MESSAGE, "5.1.7" },
	{ PHASE(MAIL), "501 Syntax error",
	  VERDICT_MSG_FAILED, "$", SCOPE_MESSAGE, "5.1.7" },
	{ PHASE(MAIL), "553 <x> Invalid email address",
	  VERDICT_MSG_FAILED, "$", SCOPE_MESSAGE, "5.1.7" },
	{ PHASE(MAIL), "552 5.3.4 Message size exceeds fixed limit",
	  VERDICT_MSG_FAILED, "$x", SCOPE_MESSAGE, "5.3.4" },
	{ PHASE(RCPT), "501 Invalid RCPT TO address provided",
	  VERDICT_RCPT_FAILED, "$", SCOPE_RCPT, "5.1.3" },
	{ PHASE(RCPT), "553 <x> address unknown",
	  VERDICT_RCPT_FAILED, "$", SCOPE_RCPT, "5.1.3" },
	{ PHASE(RCPT), "554 5.7.1 <x@y>: Relay access denied",
	  VERDICT_RCPT_FAILED, "$", SCOPE_RCPT, "5.7.1" },
	{ PHASE(RCPT), "550 <\"sending paused\"@x> unknown",
	  VERDICT_RCPT_FAILED, "$", SCOPE_RCPT, "5.1.0" },
	{ PHASE(RCPT), "452 Error: too many recipients",
	  VERDICT_RETRY, "$", SCOPE_RCPT, "4.5.3" },
	{ PHASE(RCPT), "552 5.5.3 Too many recipients",
	  VERDICT_RETRY, "$", SCOPE_RCPT, "4.5.3" },
	{ PHASE(RCPT), "552 <x@y> mailbox full",
	  VERDICT_RCPT_FAILED, "$", SCOPE_RCPT, "5.1.0" },
	{ PHASE(RCPT), "450 later", VERDICT_RETRY, "$", SCOPE_RCPT, "4.3.0" },
	{ PHASE(MAIL) | PHASE(RCPT) | PHASE(DATA), "500 what?",
	  VERDICT_RETRY, "$x", SCOPE_MESSAGE, "4.5.2" },
	{ PHASE(MAIL) | PHASE(RCPT) | PHASE(DATA),
	  "502 Error: command not implemented",
	  VERDICT_RETRY, "$x", SCOPE_MESSAGE, "4.5.1" },

	/* One recipient may be the fault of it. */
	{ PHASE(DOT), "554 Transaction failed: Recipient count exceeds 50.",
	  VERDICT_SPLIT, "", SCOPE_MESSAGE, "5.5.3" },
	{ PHASE(DOT), "554 Transaction failed: Address contains illegal "
	  "characters in user name: '<\"re:ceiver\"@d>'.",
	  VERDICT_SPLIT, "", SCOPE_MESSAGE, "5.1.3" },
	{ PHASE(DOT), "554 Transaction failed: Address contains illegal "
	  "characters in user name: '<\"sending paused\"@d>'.",
	  VERDICT_SPLIT, "", SCOPE_MESSAGE, "5.1.3" },
	{ PHASE(DOT), "554 Transaction failed: Invalid domain name: 'a_b.c'.",
	  VERDICT_SPLIT, "", SCOPE_MESSAGE, "5.1.2" },
	{ PHASE(DOT), "554 Local address contains control or whitespace",
	  VERDICT_SPLIT, "", SCOPE_MESSAGE, "5.1.3" },
	{ PHASE(DOT), "554 Domain contains dot-dot",
	  VERDICT_SPLIT, "", SCOPE_MESSAGE, "5.1.2" },

	/* The message. */
	{ PHASE(DOT), "554 Transaction failed: Duplicate header 'DKIM-"
	  "Signature'.",
	  VERDICT_MSG_FAILED, "$", SCOPE_MESSAGE, "5.6.0" },
	{ PHASE(DOT), "554 Transaction failed: Missing final '@domain'",
	  VERDICT_MSG_FAILED, "$", SCOPE_MESSAGE, "5.6.0" },
	{ PHASE(DOT), "554 Transaction failed: Missing start boundary",
	  VERDICT_MSG_FAILED, "$", SCOPE_MESSAGE, "5.6.0" },
	{ PHASE(DOT), "554 Transaction failed: Expected MIME type, got ;",
	  VERDICT_MSG_FAILED, "$", SCOPE_MESSAGE, "5.6.0" },
	{ PHASE(DOT), "554 Transaction failed: Missing required header 'From'.",
	  VERDICT_MSG_FAILED, "$", SCOPE_MESSAGE, "5.6.0" },
	{ PHASE(DOT), "554 Transaction failed: Illegal header 'X'.",
	  VERDICT_MSG_FAILED, "$", SCOPE_MESSAGE, "5.6.0" },
	{ PHASE(DOT), "554 Transaction failed: access denied is paused",
	  VERDICT_MSG_FAILED, "$", SCOPE_MESSAGE, "5.6.0" },
	{ PHASE(DOT), "554 MAIL FROM domain not verified: DNS setup for MAIL "
	  "FROM domain is invalid.",
	  VERDICT_RETRY, "$", SCOPE_MESSAGE, "4.7.1" },
	{ PHASE(DOT), "554 Mail FROM domain is not verified",
	  VERDICT_RETRY, "$", SCOPE_MESSAGE, "4.7.1" },
	{ PHASE(DOT), "554 Message rejected: Email address is not verified. "
	  "The following identities failed the check in region US-EAST-1: "
	  "\"sending paused\"@a, b...",
	  VERDICT_MSG_FAILED, "$", SCOPE_MESSAGE, "5.7.1" },
	{ PHASE(DATA) | PHASE(DOT), "552 Message is too long.",
	  VERDICT_MSG_FAILED, "$x", SCOPE_MESSAGE, "5.3.4" },
	{ PHASE(DOT), "554 Message rejected: no reason",
	  VERDICT_MSG_FAILED, "$", SCOPE_MESSAGE, "5.7.1" },

	/* The account. */
	{ PHASE(DOT), "554 Message rejected: Sending paused for this account. "
	  "For more information, please check the inbox of the email address "
	  "associated with your AWS account.",
	  VERDICT_HOLD_ACCOUNT, "", SCOPE_ACCOUNT, "4.7.1" },
	{ PHASE(MAIL) | PHASE(DOT), "554 Sending paused for this account.",
	  VERDICT_HOLD_ACCOUNT, "", SCOPE_ACCOUNT, "4.7.1" },
	{ PHASE(DOT), "554 Tenant: sending paused",
	  VERDICT_HOLD_ACCOUNT, "", SCOPE_ACCOUNT, "4.7.1" },
	{ PHASE(DOT), "554 Email sending for the configuration set x is paused",
	  VERDICT_HOLD_ACCOUNT, "", SCOPE_ACCOUNT, "4.7.1" },
	{ PHASE(RCPT) | PHASE(DOT), "554 Access denied: User `arn:aws:iam::1:"
	  "user/x' is not authorized to perform `ses:SendRawEmail' on resource "
	  "`arn:aws:ses:eu-west-1:1:identity/e.com'",
	  VERDICT_HOLD_ACCOUNT, "", SCOPE_ACCOUNT, "4.7.1" },
	{ PHASE(DOT), "554 5.7.1 The account: access denied",
	  VERDICT_HOLD_ACCOUNT, "", SCOPE_ACCOUNT, "4.7.1" },
	{ PHASE(DOT), "554 Configuration Set does not exist: Configuration set "
	  "<x> does not exist.",
	  VERDICT_HOLD_ACCOUNT, "", SCOPE_ACCOUNT, "4.7.1" },

	/* By class. */
	{ PHASE(DOT), "451 Temporary service failure",
	  VERDICT_RETRY, "$", SCOPE_MESSAGE, "4.3.0" },
	{ PHASE(DATA) | PHASE(DOT), "454 Temporary service failure",
	  VERDICT_RETRY, "$", SCOPE_MESSAGE, "4.3.0" },
	{ PHASE(MAIL) | PHASE(DATA) | PHASE(DOT), "450 4.2.1 later",
	  VERDICT_RETRY, "$", SCOPE_MESSAGE, "4.2.1" },
	{ PHASE(MAIL) | PHASE(DATA) | PHASE(DOT), "554 something new",
	  VERDICT_MSG_FAILED, "$", SCOPE_MESSAGE, "5.0.0" },
	{ PHASE(BODY), "554 something new",
	  VERDICT_RETRY, "$x", SCOPE_MESSAGE, "4.3.0" },
	{ PHASE(BODY), "450 something new",
	  VERDICT_RETRY, "$x", SCOPE_MESSAGE, "4.3.0" },
};
/* clang-format on */

static struct reply reply_of(const char *line)
{
	struct reply_parser p;

	reply_parser_init(&p);
	assert_int_equal(reply_feed(&p, slice_str(line), NULL, NULL), 1);
	return p.reply;
}

static bool shaped_as_dsn(const char *dsn)
{
	int a, b, c, n = 0;

	return sscanf(dsn, "%1d.%3d.%3d%n", &a, &b, &c, &n) == 3 &&
	    dsn[n] == '\0';
}

static void check_example(const struct example *e, enum phase phase)
{
	struct reply r = reply_of(e->reply);
	struct verdict v;

	classify_reply(phase, &r, &v);
	if (v.class != e->class)
		fail_msg("%s in %s: %s, not %s", e->reply, phase_name(phase),
		    verdict_class_name(v.class), verdict_class_name(e->class));
	assert_int_equal(v.scope, e->scope);
	assert_int_equal(v.charge, strchr(e->flags, '$') != NULL);
	assert_int_equal(v.close, strchr(e->flags, 'x') != NULL);
	assert_int_equal(v.code, r.code);
	assert_string_equal(v.text, e->reply);
	if (e->dsn)
		assert_string_equal(v.dsn, e->dsn);
	assert_int_equal(v.advice == NULL,
	    v.class == VERDICT_NONE || v.class == VERDICT_DELIVERED);
}

/* The connection-wide rows leave no phase out, whether it can go on or not. */
static void test_examples(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(examples); i++)
		for (int phase = 0; phase < PHASE_N; phase++)
			if (examples[i].phases & 1u << phase)
				check_example(&examples[i], phase);
}

static void test_every_row_decides_an_example(void **state)
{
	size_t n;
	const struct classify_row *table = classify_table(&n);

	(void)state;
	for (size_t row = 0; row < n; row++) {
		bool used = false;

		for (size_t i = 0; i < ARRAY_LEN(examples) && !used; i++) {
			struct reply r = reply_of(examples[i].reply);

			for (int phase = 0; phase < PHASE_N; phase++)
				if (examples[i].phases & 1u << phase &&
				    classify_find(phase, &r) == &table[row])
					used = true;
		}
		if (!used)
			fail_msg("row %zu (%d %s) decides nothing", row,
			    table[row].code,
			    table[row].text ? table[row].text : "");
	}
}

static void test_rows_are_filled(void **state)
{
	size_t n;
	const struct classify_row *row = classify_table(&n);

	(void)state;
	for (; n > 0; n--, row++) {
		assert_true(row->phases != 0);
		assert_true(shaped_as_dsn(row->dsn));
		if (row->class == VERDICT_NONE ||
		    row->class == VERDICT_DELIVERED) {
			assert_null(row->advice);
			assert_int_equal(row->dsn[0], '2');
			continue;
		}
		assert_true(strlen(row->advice) > 20);
		/* Goes behind a colon, has no end of its own. */
		assert_true(row->advice[strlen(row->advice) - 1] != '.');
		assert_null(strstr(row->advice, "  "));
		assert_int_equal(row->dsn[0],
		    row->class == VERDICT_RCPT_FAILED ||
			    row->class == VERDICT_MSG_FAILED ||
			    row->class == VERDICT_SPLIT
			? '5'
			: '4');
	}
}

static const char *const texts[] = { "", "Ok",
	"Temporary authentication failure",
	"Throttling failure: Maximum sending rate exceeded.",
	"Throttling failure: Daily message quota exceeded.",
	"Message rejected: Email address is not verified.",
	"Sending paused for this account", "Access denied: User",
	"Transaction failed: Invalid domain name", "Message is too long.",
	"Too many concurrent SMTP connections", "4.4.2 Timeout", "5.1.1 x" };

static void each_reply(void (*fn)(
    enum phase phase, const struct reply *r, const struct verdict *v))
{
	for (int phase = 0; phase < PHASE_N; phase++)
		for (int code = 200; code < 560; code++)
			for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
				char line[200];
				struct reply r;
				struct verdict v;

				snprintf(line, sizeof(line), "%d %s", code,
				    texts[i]);
				if (code / 10 % 10 > 5)
					continue;
				r = reply_of(line);
				classify_reply(phase, &r, &v);
				fn(phase, &r, &v);
			}
}

static bool fails_mail(enum verdict_class class)
{
	return class == VERDICT_MSG_FAILED || class == VERDICT_RCPT_FAILED ||
	    class == VERDICT_SPLIT;
}

static void check_rules(
    enum phase phase, const struct reply *r, const struct verdict *v)
{
	bool transaction = MAIL_TO_DOT & 1u << phase;

	/* Delivered is 2xx to the dot, and nothing else. */
	assert_int_equal(v->class == VERDICT_DELIVERED,
	    phase == PHASE_DOT && r->code / 100 == 2);
	/* Only 5xx inside a transaction fails mail, 530 and 535 never. */
	if (fails_mail(v->class))
		assert_true(transaction && r->code / 100 == 5 &&
		    r->code != 530 && r->code != 535);
	if (v->class == VERDICT_RCPT_FAILED)
		assert_int_equal(phase, PHASE_RCPT);
	/* Only who has shown a certificate may close the queue. */
	if (v->scope == SCOPE_ACCOUNT)
		assert_true(VERIFIED & 1u << phase);
	/* What costs an attempt has to do with the message. */
	if (v->charge)
		assert_true(transaction);
	if (!transaction)
		assert_true(v->close || v->class == VERDICT_NONE);
	if (phase == PHASE_BODY)
		assert_true(v->close);
	if (v->class == VERDICT_UNCERTAIN)
		assert_true(phase == PHASE_DOT && r->code / 100 == 3);
	assert_true(shaped_as_dsn(v->dsn));
	if (r->code / 100 == 4)
		assert_true(v->dsn[0] == '4' || phase == PHASE_QUIT);
	assert_true(v->code == r->code && isdigit(v->text[0]));
}

static void test_rules_for_all_codes(void **state)
{
	(void)state;
	each_reply(check_rules);
}

static void test_long_text_fits(void **state)
{
	struct reply r = { .code = 554, .enhanced = "5.123.123" };
	struct verdict v;

	(void)state;
	memset(r.text, 'x', REPLY_TEXT_MAX);
	classify_reply(PHASE_DOT, &r, &v);
	assert_int_equal(strlen(v.text), 4 + 10 + REPLY_TEXT_MAX);
	assert_string_equal(v.dsn, "5.123.123");
}

static void test_advice_names_the_settings(void **state)
{
	static const struct {
		enum phase phase;
		const char *reply, *words;
	} rows[] = {
		{ PHASE_AUTH, "535 Authentication Credentials Invalid",
		    "ses.username, ses.password_file and ses.region" },
		{ PHASE_DOT, "454 Throttling failure: Maximum SigV2 SMTP rate",
		    "create new SMTP credentials" },
		{ PHASE_DOT, "554 Configuration Set does not exist: x",
		    "ses.configuration_set" },
		{ PHASE_MAIL, "501 Invalid MAIL FROM address provided",
		    "rewrite.senders" },
		{ PHASE_DOT,
		    "554 Message rejected: Email address is not "
		    "verified.",
		    "sandbox" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct reply r = reply_of(rows[i].reply);
		struct verdict v;

		classify_reply(rows[i].phase, &r, &v);
		assert_non_null(strstr(v.advice, rows[i].words));
	}
}

static void test_unexpected_is_never_positive(void **state)
{
	struct reply r = reply_of("334 Ok");
	struct verdict v;

	(void)state;
	classify_unexpected(PHASE_AUTH, &r, &v);
	assert_int_equal(v.class, VERDICT_DESYNC);
	assert_int_equal(v.scope, SCOPE_CONNECTION);
	assert_true(v.close && !v.charge);
	assert_string_equal(v.text, "334 Ok");
	assert_string_equal(v.dsn, "4.5.0");
	classify_unexpected(PHASE_DOT, &r, &v);
	assert_int_equal(v.class, VERDICT_UNCERTAIN);
	assert_true(v.close && v.charge);
}

static void test_losses(void **state)
{
	(void)state;
	for (int phase = 0; phase < PHASE_N; phase++)
		for (int loss = LOSS_RESOLVE; loss <= LOSS_SHUTDOWN; loss++) {
			struct verdict v;

			classify_loss(phase, loss, "the reason", &v);
			assert_int_equal(v.class,
			    phase == PHASE_DOT        ? VERDICT_UNCERTAIN
				: phase == PHASE_QUIT ? VERDICT_NONE
						      : VERDICT_RETRY_FREE);
			assert_int_equal(v.charge, phase == PHASE_DOT);
			assert_int_equal(v.scope,
			    phase == PHASE_DOT ? SCOPE_MESSAGE
					       : SCOPE_CONNECTION);
			assert_true(v.close);
			assert_int_equal(v.code, 0);
			assert_true(shaped_as_dsn(v.dsn));
			assert_int_equal(
			    v.dsn[0], phase == PHASE_QUIT ? '2' : '4');
			assert_non_null(strstr(v.text, ": the reason"));
			assert_non_null(strstr(v.text, phase_name(phase)));
			assert_int_equal(v.advice == NULL, phase == PHASE_QUIT);
		}
}

static void test_loss_words(void **state)
{
	struct verdict v;

	(void)state;
	classify_loss(PHASE_TLS, LOSS_TLS, "expired", &v);
	assert_string_equal(v.text, "TLS failed at TLS handshake: expired");
	assert_string_equal(v.dsn, "4.7.5");
	assert_non_null(strstr(v.advice, "certificate"));
	assert_non_null(strstr(v.advice, "ses.ca_file"));
	assert_non_null(strstr(v.advice, "clock"));
	classify_loss(PHASE_DOT, LOSS_EOF, NULL, &v);
	assert_string_equal(v.text, "connection closed at end of DATA command");
	assert_non_null(strstr(v.advice, "delivery.uncertain"));
}

static void test_names(void **state)
{
	(void)state;
	assert_string_equal(phase_name(PHASE_RCPT), "RCPT TO command");
	assert_string_equal(phase_name(PHASE_DOT), "end of DATA command");
	for (int i = 0; i < PHASE_N; i++)
		assert_non_null(phase_name(i));
	for (int i = 0; i < VERDICT_N; i++)
		for (int j = 0; j < i; j++)
			assert_string_not_equal(
			    verdict_class_name(i), verdict_class_name(j));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_examples),
		cmocka_unit_test(test_every_row_decides_an_example),
		cmocka_unit_test(test_rows_are_filled),
		cmocka_unit_test(test_rules_for_all_codes),
		cmocka_unit_test(test_long_text_fits),
		cmocka_unit_test(test_advice_names_the_settings),
		cmocka_unit_test(test_unexpected_is_never_positive),
		cmocka_unit_test(test_losses),
		cmocka_unit_test(test_loss_words),
		cmocka_unit_test(test_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
