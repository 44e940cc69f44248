/*
 * What a reply, or the loss of a connection, means for the mail: the one table
 * of Amazon SES's answers.
 *
 * SES answers one code with several meanings (454 three, 554 at least eight),
 * so rows match phase, code and text; the first row that matches decides, and
 * the last rows go by class of code.  Two rules stand above all rows: nothing
 * before MAIL ever fails a message, and credentials or account trouble (530,
 * 535, sending paused, access denied) never fails one either.
 *
 * https://docs.aws.amazon.com/ses/latest/dg/troubleshoot-smtp.html
 */
#ifndef SMTP_CLASSIFY_H
#define SMTP_CLASSIFY_H

#include "smtp/reply.h"

/* Where in the conversation; also the words for "in reply to ...". */
enum phase {
	PHASE_CONNECT, /* DNS, TCP */
	PHASE_GREETING, /* the 220 */
	PHASE_EHLO,
	PHASE_STARTTLS,
	PHASE_TLS, /* handshake and certificate */
	PHASE_AUTH,
	PHASE_IDLE, /* logged in, no transaction */
	PHASE_MAIL,
	PHASE_RCPT,
	PHASE_DATA,
	PHASE_BODY, /* content is being sent, the dot is not */
	PHASE_DOT, /* the final dot is sent (at least in part) */
	PHASE_RSET,
	PHASE_QUIT,
	PHASE_N
};
const char *phase_name(enum phase phase); /* "RCPT TO command", ... */

enum verdict_class {
	VERDICT_NONE, /* nothing to decide: a positive reply, no end */
	VERDICT_DELIVERED, /* SES has it */
	VERDICT_RCPT_FAILED, /* this recipient, for good */
	VERDICT_MSG_FAILED, /* this message, for good */
	VERDICT_SPLIT, /* one recipient may be the fault of it: send singly */
	VERDICT_RETRY, /* later, by delivery.retry */
	VERDICT_RETRY_FREE, /* at once on another connection */
	VERDICT_RATE, /* sending rate exceeded: slow down, all of us */
	VERDICT_DAILY, /* daily quota: hold the queue, probe */
	VERDICT_HOLD_AUTH, /* credentials: hold the queue, alarm, probe */
	VERDICT_HOLD_ACCOUNT, /* paused, access denied, config: the same */
	VERDICT_CONN_LIMIT, /* too many connections: fewer */
	VERDICT_SESSION_CAP, /* this connection has had its share */
	VERDICT_UNCERTAIN, /* lost after the dot: SES may have it */
	VERDICT_DESYNC, /* the dialogue is out of step: drop, retry free */
	VERDICT_N
};

enum verdict_scope {
	SCOPE_RCPT,
	SCOPE_MESSAGE,
	SCOPE_CONNECTION,
	SCOPE_ACCOUNT,
};

struct verdict {
	enum verdict_class class;
	enum verdict_scope scope;
	bool charge; /* uses up one of the message's attempts */
	bool close; /* this connection may not be used again */
	int code; /* of the reply; 0: there was none */
	/* Enhanced status, always filled: that of the reply or of the row, with
	 * the first digit of the outcome (a held message is 4.x.x though SES
	 * said 5.x.x). */
	char dsn[12];
	char text[REPLY_TEXT_MAX + 80]; /* "454 Throttling failure: ..." */
	/* For a person: what it means and what to do; NULL when it needs no
	 * words. */
	const char *advice;
};

/* How a connection or attempt ended without a reply. */
enum loss {
	LOSS_RESOLVE, /* no address */
	LOSS_CONNECT, /* refused, unreachable */
	LOSS_TIMEOUT,
	LOSS_EOF,
	LOSS_RESET, /* or another error of the socket */
	LOSS_TLS, /* handshake failed, certificate not accepted */
	LOSS_PROTOCOL, /* no SMTP, unsolicited bytes, too long */
	LOSS_SHUTDOWN, /* we close it ourselves */
};

void classify_reply(
    enum phase phase, const struct reply *reply, struct verdict *out);
/*
 * A reply that would be right in its phase, but not at this step of it (334
 * where 235 has to come): VERDICT_DESYNC, after the dot VERDICT_UNCERTAIN.
 */
void classify_unexpected(
    enum phase phase, const struct reply *reply, struct verdict *out);
/* `detail` is the reason in words, for verdict.text. */
void classify_loss(
    enum phase phase, enum loss loss, const char *detail, struct verdict *out);
const char *verdict_class_name(enum verdict_class class);

struct classify_row {
	uint32_t phases; /* bits 1 << enum phase */
	int code; /* exact; 0: any; 2 to 5: the class */
	const char *enhanced; /* exact; NULL: any or none */
	/* Contained in the text, ASCII case folded; "^..." at the head of it;
	 * NULL: any. */
	const char *text;
	enum verdict_class class;
	enum verdict_scope scope;
	bool charge, close;
	const char *dsn; /* when the reply has no enhanced code */
	const char *advice;
};
/* For the test that walks every row of the table. */
const struct classify_row *classify_table(size_t *n);
/* The row that decides; there always is one. */
const struct classify_row *classify_find(
    enum phase phase, const struct reply *reply);

#endif
