/*
 * What SES's answers mean: one table, and the two functions that read it.
 *
 * The first row that matches decides.  Replies may echo what a local program
 * wrote (addresses, names of headers), and nobody shall close the queue by
 * sending to "sending paused"@example.com: rows of replies that echo stand
 * before those of the account, and texts that are known well are matched at
 * the head of the reply only.  A reply to the dot that is a complete refusal
 * means that SES did not take the message; anything less leaves it UNCERTAIN.
 *
 * Pure; owns nothing.
 */
#include "smtp/classify.h"

#include <stdio.h>
#include <string.h>

#define P(name) (1u << PHASE_##name)
#define ALL ((1u << PHASE_N) - 1)
#define BEFORE_MAIL (P(GREETING) | P(EHLO) | P(STARTTLS) | P(AUTH))
#define CONTENT (P(DATA) | P(BODY) | P(DOT))
#define TRANSACTION (P(MAIL) | P(RCPT) | CONTENT)
/* The steps that only a verified peer is led through: what is said there of
 * credentials and quotas may close the queue, what anybody on the way or
 * another server says before may not. */
#define LOGIN_ON (P(AUTH) | P(IDLE) | TRANSACTION | P(RSET))

/* The columns scope, charge, close as they go together most often. */
#define RECIPIENT SCOPE_RCPT, true, false
#define MESSAGE SCOPE_MESSAGE, true, false
#define MESSAGE_CLOSE SCOPE_MESSAGE, true, true
#define MESSAGE_FREE SCOPE_MESSAGE, false, false
#define CONNECTION SCOPE_CONNECTION, false, true
#define ACCOUNT SCOPE_ACCOUNT, false, false
#define ACCOUNT_CLOSE SCOPE_ACCOUNT, false, true
#define PROGRESS SCOPE_MESSAGE, false, false

/* clang-format off */
/* What more than one row has to say. */
#define ADVICE_DESYNC \
	"the reply does not belong to the command: the connection is " \
	"dropped and the message goes out on another; if this goes on, " \
	"check that ses.endpoint and ses.ports lead to SES"
#define ADVICE_CAP \
	"SES takes no more messages on this connection; the message " \
	"goes out on another: lower delivery.messages_per_connection if " \
	"this is seen often"
#define ADVICE_LIMIT \
	"the account has too many SMTP connections open: the relay uses " \
	"fewer for a while; lower delivery.connections, or look for " \
	"other programs that use the same account"
#define ADVICE_IDLE \
	"SES closed a connection that it found idle; the message goes " \
	"out on another: keep delivery.idle_timeout well below 10s"
#define ADVICE_ADDRESS \
	"SES refuses all recipients because of one malformed address, " \
	"in the envelope or in a header: correct it where the mail is " \
	"made"
#define ADVICE_DOMAIN \
	"SES refuses all recipients because of one malformed domain, in " \
	"the envelope or in a header: correct it where the mail is " \
	"made"
#define ADVICE_MAIL_FROM \
	"the DNS records of the custom MAIL FROM domain are not right: " \
	"see the identity in the SES console; the relay goes on trying " \
	"until delivery.expire"
#define ADVICE_PAUSED \
	"AWS has paused sending for the account; mail waits: read the " \
	"mail that AWS sent to the account's address, and the SES " \
	"console"
#define ADVICE_COMMAND \
	"the endpoint does not know the command: check that " \
	"ses.endpoint is an SMTP endpoint of SES"
#define ADVICE_DENIED \
	"the IAM user of the SMTP credentials may not send this; mail " \
	"waits: allow ses:SendRawEmail in its policy, for the identity " \
	"and the configuration set that the reply names"

static const struct classify_row table[] = {
	/* What is asked for. */
	{ P(GREETING), 220, NULL, NULL, VERDICT_NONE, PROGRESS, "2.0.0", NULL },
	{ P(EHLO), 250, NULL, NULL, VERDICT_NONE, PROGRESS, "2.0.0", NULL },
	{ P(STARTTLS), 220, NULL, NULL, VERDICT_NONE, PROGRESS, "2.0.0", NULL },
	{ P(AUTH), 235, NULL, NULL, VERDICT_NONE, PROGRESS, "2.7.0", NULL },
	{ P(AUTH), 334, NULL, NULL, VERDICT_NONE, PROGRESS, "2.0.0", NULL },
	{ P(MAIL) | P(RCPT) | P(RSET), 2, NULL, NULL, VERDICT_NONE, PROGRESS,
	  "2.0.0", NULL },
	{ P(DATA), 354, NULL, NULL, VERDICT_NONE, PROGRESS, "2.0.0", NULL },
	{ P(DOT), 2, NULL, NULL, VERDICT_DELIVERED, MESSAGE, "2.0.0", NULL },
	{ P(QUIT), 0, NULL, NULL, VERDICT_NONE, CONNECTION, "2.0.0", NULL },

	/* What can't be an answer to what was said. */
	{ P(DOT), 3, NULL, NULL, VERDICT_UNCERTAIN, MESSAGE_CLOSE, "4.5.0",
	  "the answer to the end of the message is neither yes nor no: SES may "
	  "have taken it, and a second attempt may deliver it twice; see "
	  "delivery.uncertain" },
	{ P(CONNECT) | P(TLS), 0, NULL, NULL, VERDICT_DESYNC, CONNECTION,
	  "4.5.0",
	  "an SMTP reply came where none is possible: check that the mode "
	  "(starttls or wrapper) in ses.ports is that of the port" },
	{ ALL, 2, NULL, NULL, VERDICT_DESYNC, CONNECTION, "4.5.0",
	  ADVICE_DESYNC },
	{ ALL, 3, NULL, NULL, VERDICT_DESYNC, CONNECTION, "4.5.0",
	  ADVICE_DESYNC },
	{ ALL, 503, NULL, NULL, VERDICT_DESYNC, CONNECTION, "4.5.1",
	  "SES and the relay disagree about the state of the session: the "
	  "connection is dropped and the message goes out on another" },

	/* The end of a connection, whatever it was busy with. */
	{ ALL, 421, NULL, "Maximum message count per session",
	  VERDICT_SESSION_CAP, CONNECTION, "4.3.2", ADVICE_CAP },
	{ ALL, 421, NULL, "Too many messages in one session",
	  VERDICT_SESSION_CAP, CONNECTION, "4.3.2", ADVICE_CAP },
	{ ALL, 421, NULL, "Too many concurrent", VERDICT_CONN_LIMIT, CONNECTION,
	  "4.3.2", ADVICE_LIMIT },
	{ ALL, 421, NULL, "Too many connections", VERDICT_CONN_LIMIT,
	  CONNECTION, "4.3.2", ADVICE_LIMIT },
	{ ALL, 421, NULL, "Timeout waiting for data", VERDICT_RETRY_FREE,
	  CONNECTION, "4.4.2", ADVICE_IDLE },
	{ ALL, 421, NULL, NULL, VERDICT_RETRY_FREE, CONNECTION, "4.3.2",
	  "SES closed the connection; the message goes out on another" },
	{ ALL, 451, "4.4.2", NULL, VERDICT_RETRY_FREE, CONNECTION, "4.4.2",
	  ADVICE_IDLE },
	{ ALL, 451, NULL, "^Timeout waiting for data", VERDICT_RETRY_FREE,
	  CONNECTION, "4.4.2", ADVICE_IDLE },

	/* Credentials: never the fault of a message. */
	{ P(AUTH), 5, NULL, "not subscribed", VERDICT_HOLD_AUTH,
	  ACCOUNT_CLOSE, "4.7.8",
	  "the AWS account is not signed up for SES in this region; nothing "
	  "is lost, mail waits: open the SES console for ses.region, or check "
	  "ses.region" },
	{ LOGIN_ON, 535, NULL, NULL, VERDICT_HOLD_AUTH, ACCOUNT_CLOSE, "4.7.8",
	  "SES refused the SMTP credentials: SMTP user name and password are "
	  "not the AWS access keys themselves and belong to one region; check "
	  "ses.username, ses.password_file and ses.region" },
	{ LOGIN_ON, 530, NULL, "STARTTLS", VERDICT_HOLD_AUTH, ACCOUNT_CLOSE, "4.7.0",
	  "the endpoint asks for STARTTLS: the mode of this port in ses.ports "
	  "is wrong, or something between here and SES takes TLS away" },
	{ LOGIN_ON, 530, NULL, NULL, VERDICT_HOLD_AUTH, ACCOUNT_CLOSE, "4.7.0",
	  "SES asks for a login before it takes mail: check ses.username and "
	  "ses.password_file" },
	{ P(AUTH), 504, NULL, NULL, VERDICT_HOLD_AUTH, ACCOUNT_CLOSE, "4.7.4",
	  "the endpoint knows neither AUTH PLAIN nor AUTH LOGIN: check that "
	  "ses.endpoint is an SMTP endpoint of SES" },
	{ ALL, 454, NULL, "Temporary authentication failure",
	  VERDICT_RETRY_FREE, CONNECTION, "4.7.0",
	  "SES could not check the credentials just now: the relay tries "
	  "again; if this goes on for minutes, check ses.username and "
	  "ses.password_file" },
	{ P(STARTTLS), 454, NULL, NULL, VERDICT_RETRY_FREE, CONNECTION, "4.7.0",
	  "the endpoint cannot start TLS now: the relay tries again, and never "
	  "sends mail or credentials without TLS" },

	/* Throttling: the account's, so all connections slow down. */
	{ LOGIN_ON, 454, NULL, "Daily message quota", VERDICT_DAILY, ACCOUNT,
	  "4.3.2",
	  "the account has used up its messages for 24 hours; mail waits and "
	  "goes out as the quota frees up: ask AWS for a higher sending quota "
	  "in the SES console" },
	{ LOGIN_ON, 454, NULL, "SigV2", VERDICT_RATE, ACCOUNT, "4.3.2",
	  "the SMTP credentials are of the kind made before 2019, which SES "
	  "slows down: create new SMTP credentials in the SES console and "
	  "put them into ses.username and ses.password_file" },
	{ LOGIN_ON, 454, NULL, "sending rate", VERDICT_RATE, ACCOUNT, "4.3.2",
	  "mail is sent faster than the account's maximum send rate: the "
	  "relay slows down by itself; to avoid it set delivery.rate a little "
	  "below that rate, or ask AWS for a higher one" },
	{ LOGIN_ON, 4, NULL, "^Throttling failure", VERDICT_RATE, ACCOUNT, "4.3.2",
	  "SES throttles the account: the relay slows down by itself" },

	/* Before MAIL nothing is known of any message. */
	{ P(AUTH), 5, NULL, "^Access denied", VERDICT_HOLD_ACCOUNT,
	  ACCOUNT_CLOSE, "4.7.1",
	  "the IAM user of the SMTP credentials may not send: allow "
	  "ses:SendRawEmail in its policy, for the identity and the "
	  "configuration set" },
	{ BEFORE_MAIL, 4, NULL, NULL, VERDICT_RETRY_FREE, CONNECTION, "4.3.2",
	  "SES refused the session for now: the relay tries again" },
	{ P(EHLO), 5, NULL, NULL, VERDICT_RETRY_FREE, CONNECTION, "4.5.0",
	  "the endpoint refused EHLO: check smtp.hostname, and that "
	  "ses.endpoint and ses.ports lead to SES" },
	{ P(STARTTLS), 5, NULL, NULL, VERDICT_RETRY_FREE, CONNECTION, "4.7.4",
	  "the endpoint refused STARTTLS: check that ses.endpoint and "
	  "ses.ports lead to SES; mail and credentials are never sent "
	  "without TLS" },
	{ BEFORE_MAIL, 5, NULL, NULL, VERDICT_RETRY_FREE, CONNECTION, "4.3.2",
	  "the endpoint refused the session: check that ses.endpoint and "
	  "ses.ports lead to SES" },
	{ P(IDLE) | P(RSET), 0, NULL, NULL, VERDICT_RETRY_FREE, CONNECTION,
	  "4.3.2",
	  "the endpoint gave up a connection between two messages: the next "
	  "message goes out on another" },

	/* Refusals at MAIL and RCPT; they echo the address. */
	{ P(MAIL), 501, NULL, "Invalid MAIL FROM", VERDICT_MSG_FAILED, MESSAGE,
	  "5.1.7",
	  "SES takes no such envelope sender (nor the empty one that bounces "
	  "have): use a full address of a verified domain, or give it one by "
	  "rewrite.senders or rewrite.default_domain" },
	{ P(MAIL), 553, NULL, NULL, VERDICT_MSG_FAILED, MESSAGE, "5.1.7",
	  "SES takes no such envelope sender: use a full address of a "
	  "verified domain, or give it one by rewrite.senders" },
	{ P(MAIL), 501, NULL, NULL, VERDICT_MSG_FAILED, MESSAGE, "5.1.7",
	  "SES found the envelope sender malformed: use a full address of a "
	  "verified domain, or give it one by rewrite.senders" },
	{ P(RCPT), 501, NULL, "Invalid RCPT TO", VERDICT_RCPT_FAILED, RECIPIENT,
	  "5.1.3",
	  "SES takes no such recipient address: it is malformed; other "
	  "recipients of the message are not affected" },
	{ P(RCPT), 553, NULL, NULL, VERDICT_RCPT_FAILED, RECIPIENT, "5.1.3",
	  "SES takes no such recipient address; other recipients of the "
	  "message are not affected" },
	{ P(RCPT), 452, NULL, "too many recipients", VERDICT_RETRY, RECIPIENT,
	  "4.5.3",
	  "SES takes no more recipients in one message; the others follow in "
	  "another: lower delivery.recipients_per_message" },
	/* RFC 5321 4.5.3.1.10: some say it so. */
	{ P(RCPT), 552, NULL, "too many recipients", VERDICT_RETRY, RECIPIENT,
	  "4.5.3",
	  "SES takes no more recipients in one message; the others follow in "
	  "another: lower delivery.recipients_per_message" },
	{ P(MAIL) | P(RCPT) | P(DATA), 500, NULL, NULL, VERDICT_RETRY,
	  MESSAGE_CLOSE, "4.5.2", ADVICE_COMMAND },
	{ P(MAIL) | P(RCPT) | P(DATA), 502, NULL, NULL, VERDICT_RETRY,
	  MESSAGE_CLOSE, "4.5.1", ADVICE_COMMAND },
	{ P(MAIL) | CONTENT, 552, NULL, NULL, VERDICT_MSG_FAILED, MESSAGE_CLOSE,
	  "5.3.4",
	  "the message is larger than SES takes (40 MB with attachments "
	  "encoded): make it smaller; smtp.max_message_size can refuse "
	  "such mail at once" },

	/* Refused as a whole because of one address, perhaps. */
	{ CONTENT, 5, NULL, "Recipient count exceeds", VERDICT_SPLIT,
	  MESSAGE_FREE, "5.5.3",
	  "more recipients than SES takes in one message: the relay sends "
	  "it in parts; keep delivery.recipients_per_message at 50 or less" },
	{ CONTENT, 5, NULL, "Address contains illegal characters",
	  VERDICT_SPLIT, MESSAGE_FREE, "5.1.3", ADVICE_ADDRESS },
	{ CONTENT, 5, NULL, "Invalid domain name", VERDICT_SPLIT, MESSAGE_FREE,
	  "5.1.2", ADVICE_DOMAIN },
	{ CONTENT, 5, NULL, "Local address contains", VERDICT_SPLIT,
	  MESSAGE_FREE, "5.1.3", ADVICE_ADDRESS },
	{ CONTENT, 5, NULL, "Domain contains", VERDICT_SPLIT, MESSAGE_FREE,
	  "5.1.2", ADVICE_DOMAIN },

	/* What SES has against this message. */
	{ CONTENT, 5, NULL, "Duplicate header", VERDICT_MSG_FAILED, MESSAGE,
	  "5.6.0",
	  "a header that may stand once stands twice: correct the program "
	  "that makes the mail, or set rewrite.duplicate_headers to first" },
	{ CONTENT, 5, NULL, "Missing final '@domain'", VERDICT_MSG_FAILED,
	  MESSAGE, "5.6.0",
	  "an address in a header (From, To, Cc, ...) has no domain: correct "
	  "the program that makes the mail, or set rewrite.default_domain" },
	{ CONTENT, 5, NULL, "Missing start boundary", VERDICT_MSG_FAILED,
	  MESSAGE, "5.6.0",
	  "the MIME parts of the message are broken: correct the program that "
	  "makes the mail" },
	{ CONTENT, 5, NULL, "Expected MIME type", VERDICT_MSG_FAILED, MESSAGE,
	  "5.6.0",
	  "the MIME headers of the message are broken: correct the program "
	  "that makes the mail" },
	{ CONTENT, 5, NULL, "Missing required header", VERDICT_MSG_FAILED,
	  MESSAGE, "5.6.0",
	  "a header that SES requires is missing: correct the program that "
	  "makes the mail, or set rewrite.add_headers to true" },
	{ CONTENT, 5, NULL, "Illegal header", VERDICT_MSG_FAILED, MESSAGE,
	  "5.6.0",
	  "a header of the message is malformed: correct the program that "
	  "makes the mail" },
	{ CONTENT, 5, NULL, "^Transaction failed", VERDICT_MSG_FAILED, MESSAGE,
	  "5.6.0",
	  "SES could not make sense of the message: correct the program that "
	  "makes the mail" },
	{ CONTENT, 5, NULL, "MAIL FROM domain not verified", VERDICT_RETRY,
	  MESSAGE, "4.7.1", ADVICE_MAIL_FROM },
	{ CONTENT, 5, NULL, "MAIL FROM domain is not verified", VERDICT_RETRY,
	  MESSAGE, "4.7.1", ADVICE_MAIL_FROM },
	{ CONTENT, 5, NULL, "address is not verified", VERDICT_MSG_FAILED,
	  MESSAGE, "5.7.1",
	  "the reply names the addresses that SES does not know in this "
	  "region: verify the sender's domain in the SES console (for "
	  "ses.region), change the sender by rewrite.senders, or, where the "
	  "account is still in the sandbox, verify the recipient too" },

	/* What SES has against the account. */
	{ TRANSACTION, 5, NULL, "^Access denied", VERDICT_HOLD_ACCOUNT, ACCOUNT,
	  "4.7.1", ADVICE_DENIED },
	{ TRANSACTION, 5, NULL, "^Sending paused", VERDICT_HOLD_ACCOUNT,
	  ACCOUNT, "4.7.1", ADVICE_PAUSED },
	{ TRANSACTION, 5, NULL, "^Message rejected: Sending paused",
	  VERDICT_HOLD_ACCOUNT, ACCOUNT, "4.7.1", ADVICE_PAUSED },
	{ CONTENT, 5, NULL, "Configuration Set does not exist",
	  VERDICT_HOLD_ACCOUNT, ACCOUNT, "4.7.1",
	  "the configuration set is not known in this region; mail waits: "
	  "check ses.configuration_set, or create it in the SES console" },
	{ CONTENT, 5, NULL, "Sending paused", VERDICT_HOLD_ACCOUNT, ACCOUNT,
	  "4.7.1", ADVICE_PAUSED },
	{ CONTENT, 5, NULL, "is paused", VERDICT_HOLD_ACCOUNT, ACCOUNT, "4.7.1",
	  "sending is paused for the configuration set or tenant that the "
	  "reply names; mail waits: see the SES console, "
	  "ses.configuration_set and ses.tenant" },
	{ CONTENT, 5, NULL, "Access denied", VERDICT_HOLD_ACCOUNT, ACCOUNT,
	  "4.7.1", ADVICE_DENIED },
	{ CONTENT, 5, NULL, "^Message rejected", VERDICT_MSG_FAILED, MESSAGE,
	  "5.7.1",
	  "SES refuses this message; the reply says why" },

	/* By class of code. */
	{ CONTENT, 4, NULL, "Temporary service failure", VERDICT_RETRY, MESSAGE,
	  "4.3.0",
	  "a passing failure at SES; if it is always the same message, "
	  "something in it may be the cause" },
	{ P(BODY), 0, NULL, NULL, VERDICT_RETRY, MESSAGE_CLOSE, "4.3.0",
	  "SES refused the message before all of it was sent: it is tried "
	  "again on another connection" },
	{ P(RCPT), 4, NULL, NULL, VERDICT_RETRY, RECIPIENT, "4.3.0",
	  "SES refused the recipient for now: it is tried again" },
	{ TRANSACTION, 4, NULL, NULL, VERDICT_RETRY, MESSAGE, "4.3.0",
	  "SES refused the message for now: it is tried again" },
	{ P(RCPT), 5, NULL, NULL, VERDICT_RCPT_FAILED, RECIPIENT, "5.1.0",
	  "SES refuses the recipient; other recipients of the message are "
	  "not affected" },
	{ TRANSACTION, 5, NULL, NULL, VERDICT_MSG_FAILED, MESSAGE, "5.0.0",
	  "SES refuses this message; the reply says why" },
};
/* clang-format on */

static const char *const phase_names[PHASE_N] = {
	[PHASE_CONNECT] = "connect",
	[PHASE_GREETING] = "initial greeting",
	[PHASE_EHLO] = "EHLO command",
	[PHASE_STARTTLS] = "STARTTLS command",
	[PHASE_TLS] = "TLS handshake",
	[PHASE_AUTH] = "AUTH command",
	[PHASE_IDLE] = "idle",
	[PHASE_MAIL] = "MAIL FROM command",
	[PHASE_RCPT] = "RCPT TO command",
	[PHASE_DATA] = "DATA command",
	[PHASE_BODY] = "message content",
	[PHASE_DOT] = "end of DATA command",
	[PHASE_RSET] = "RSET command",
	[PHASE_QUIT] = "QUIT command",
};

static const struct {
	const char *name;
	char dsn_class; /* first digit of the status that goes with it */
} classes[VERDICT_N] = {
	[VERDICT_NONE] = { "none", '2' },
	[VERDICT_DELIVERED] = { "delivered", '2' },
	[VERDICT_RCPT_FAILED] = { "rcpt-failed", '5' },
	[VERDICT_MSG_FAILED] = { "msg-failed", '5' },
	/* A failure, should there be one recipient only. */
	[VERDICT_SPLIT] = { "split", '5' },
	[VERDICT_RETRY] = { "retry", '4' },
	[VERDICT_RETRY_FREE] = { "retry-free", '4' },
	[VERDICT_RATE] = { "rate", '4' },
	[VERDICT_DAILY] = { "daily-quota", '4' },
	[VERDICT_HOLD_AUTH] = { "hold-auth", '4' },
	[VERDICT_HOLD_ACCOUNT] = { "hold-account", '4' },
	[VERDICT_CONN_LIMIT] = { "connection-limit", '4' },
	[VERDICT_SESSION_CAP] = { "session-cap", '4' },
	[VERDICT_UNCERTAIN] = { "uncertain", '4' },
	[VERDICT_DESYNC] = { "desync", '4' },
};

/* A connection that ended by itself; words for the log, status, advice. */
static const struct {
	const char *words;
	const char *dsn;
	const char *advice;
} losses[] = {
	[LOSS_RESOLVE] = { "no address", "4.4.3",
	    "the name of the endpoint has no address: check ses.region or "
	    "ses.endpoint, and the DNS of this machine" },
	[LOSS_CONNECT] = { "cannot connect", "4.4.1",
	    "the endpoint can't be reached: check ses.endpoint, ses.ports and "
	    "the firewalls on the way; many networks block port 25" },
	[LOSS_TIMEOUT] = { "timed out", "4.4.1",
	    "no answer in time: check the firewalls on the way; if small "
	    "messages pass and large ones do not, lower ses.mss" },
	[LOSS_EOF] = { "connection closed", "4.4.2",
	    "the endpoint closed the connection; the relay opens another" },
	[LOSS_RESET] = { "connection lost", "4.4.2",
	    "the connection broke; the relay opens another" },
	[LOSS_TLS] = { "TLS failed", "4.7.5",
	    "the certificate of the endpoint was not accepted, or no TLS "
	    "could be agreed on: check ses.endpoint, ses.ca_file, the clock of "
	    "this machine, and whether a TLS inspection proxy stands in the "
	    "way" },
	[LOSS_PROTOCOL] = { "protocol error", "4.5.0",
	    "what came is not SMTP: check that ses.endpoint and ses.ports "
	    "lead to SES, and that the mode (starttls or wrapper) is that of "
	    "the port" },
	[LOSS_SHUTDOWN] = { "given up", "4.3.2",
	    "the relay gave up the connection itself, to end or to renew it" },
};

static const char *const advice_uncertain =
    "the connection was lost after the whole message was sent and before the "
    "answer came: SES may have taken it, and a second attempt may deliver it "
    "twice; see delivery.uncertain";

const char *phase_name(enum phase phase)
{
	ASSERT((unsigned)phase < PHASE_N);
	return phase_names[phase];
}

const char *verdict_class_name(enum verdict_class class)
{
	ASSERT((unsigned)class < VERDICT_N);
	return classes[class].name;
}

const struct classify_row *classify_table(size_t *n)
{
	*n = ARRAY_LEN(table);
	return table;
}

static bool row_matches(
    const struct classify_row *row, enum phase phase, const struct reply *reply)
{
	struct slice text = slice_str(reply->text);

	if (!(row->phases & 1u << phase))
		return false;
	if (row->code != 0 && row->code != reply->code &&
	    row->code != reply->code / 100)
		return false;
	if (row->enhanced && strcmp(row->enhanced, reply->enhanced) != 0)
		return false;
	if (!row->text)
		return true;
	if (row->text[0] == '^')
		return slice_has_caseprefix(text, row->text + 1);
	return slice_casecontains(text, row->text);
}

const struct classify_row *classify_find(
    enum phase phase, const struct reply *reply)
{
	ASSERT((unsigned)phase < PHASE_N);
	ASSERT(reply->code >= 200 && reply->code < 600);
	for (size_t i = 0; i < ARRAY_LEN(table); i++)
		if (row_matches(&table[i], phase, reply))
			return &table[i];
	fatal("no row for reply %d in phase %d", reply->code, (int)phase);
}

static void set_dsn(struct verdict *v, const char *dsn)
{
	snprintf(v->dsn, sizeof(v->dsn), "%s", dsn);
	v->dsn[0] = classes[v->class].dsn_class;
}

static void set_reply(struct verdict *v, const struct reply *reply)
{
	v->code = reply->code;
	snprintf(v->text, sizeof(v->text), "%d%s%s%s%s", reply->code,
	    reply->enhanced[0] ? " " : "", reply->enhanced,
	    reply->text[0] ? " " : "", reply->text);
}

/* Outside a transaction there is nothing to go on with after a refusal. */
static bool usable_after(enum phase phase, enum verdict_class class)
{
	return class == VERDICT_NONE || phase == PHASE_MAIL ||
	    phase == PHASE_RCPT || phase == PHASE_DATA || phase == PHASE_DOT;
}

void classify_reply(
    enum phase phase, const struct reply *reply, struct verdict *out)
{
	const struct classify_row *row = classify_find(phase, reply);

	*out = (struct verdict){
		.class = row->class,
		.scope = row->scope,
		.charge = row->charge,
		.close = row->close || !usable_after(phase, row->class),
		.advice = row->advice,
	};
	set_dsn(out, reply->enhanced[0] ? reply->enhanced : row->dsn);
	set_reply(out, reply);
}

void classify_unexpected(
    enum phase phase, const struct reply *reply, struct verdict *out)
{
	classify_loss(phase, LOSS_PROTOCOL, NULL, out);
	if (out->class != VERDICT_UNCERTAIN)
		out->class = VERDICT_DESYNC;
	set_dsn(out, "4.5.0");
	set_reply(out, reply);
}

void classify_loss(
    enum phase phase, enum loss loss, const char *detail, struct verdict *out)
{
	char where[80];

	ASSERT((unsigned)loss < ARRAY_LEN(losses));
	*out = (struct verdict){
		.class = VERDICT_RETRY_FREE,
		.scope = SCOPE_CONNECTION,
		.close = true,
		.advice = losses[loss].advice,
	};
	if (phase == PHASE_DOT) {
		out->class = VERDICT_UNCERTAIN;
		out->scope = SCOPE_MESSAGE;
		out->charge = true;
		out->advice = advice_uncertain;
	} else if (phase == PHASE_QUIT) {
		/* Servers need not be polite about a farewell. */
		out->class = VERDICT_NONE;
		out->advice = NULL;
	}
	set_dsn(out, losses[loss].dsn);
	/* "cannot connect at connect" would say it twice. */
	if (phase == PHASE_CONNECT && loss == LOSS_CONNECT)
		snprintf(where, sizeof(where), "%s", losses[loss].words);
	else
		snprintf(where, sizeof(where), "%s at %s", losses[loss].words,
		    phase_name(phase));
	snprintf(out->text, sizeof(out->text), "%s%s%s", where,
	    detail && *detail ? ": " : "", detail ? detail : "");
}
