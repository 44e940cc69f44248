/*
 * The conversation with SES: a table [state][class of reply] of handlers.
 *
 * Each handler takes one reply and says what the session has to do next.  The
 * rules that hold whatever the peer says, and where they are kept:
 *   - nothing but EHLO, STARTTLS and QUIT leaves outside TLS: enter() knows for
 *     each state whether it needs TLS, and all commands go through it;
 *   - a message is delivered in on_dot_ok() alone, which only a complete 2xx
 *     reply in CLIENT_DOT leads to;
 *   - a transaction is settled once: settle() forgets it;
 *   - a reply that does not fit closes the connection; it is never skipped.
 *
 * Pure; the transaction stays its caller's.
 */
#include "smtp/client.h"

#include "smtp/addr.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* "AUTH PLAIN " and CRLF besides. */
#define AUTH_ARGUMENT_MAX (CLIENT_COMMAND_MAX - 32)

typedef void (*reply_fn)(
    struct client *c, const struct reply *reply, struct client_out *out);

struct step {
	const char *name;
	enum phase phase;
	bool secure; /* may be entered inside TLS only */
	int code; /* the one 2xx or 3xx that fits; 0: any of its class */
	reply_fn on[4]; /* 2xx, 3xx, 4xx, 5xx */
};

static const struct step steps[CLIENT_N_STATES];

/* What the client finds out by itself, without a reply that says so. */
static const struct verdict no_starttls = {
	.class = VERDICT_RETRY_FREE,
	.scope = SCOPE_CONNECTION,
	.close = true,
	.dsn = "4.7.4",
	.text = "STARTTLS is not offered",
	.advice = "the endpoint offers no TLS on this port: check that "
		  "ses.endpoint and ses.ports lead to SES and that nothing on "
		  "the way takes STARTTLS away; mail and credentials are never "
		  "sent without TLS",
};
static const struct verdict no_mechanism = {
	.class = VERDICT_HOLD_AUTH,
	.scope = SCOPE_ACCOUNT,
	.close = true,
	.dsn = "4.7.4",
	.text = "neither AUTH PLAIN nor AUTH LOGIN is offered",
	.advice = "the endpoint offers no way to log in that the relay knows: "
		  "check that ses.endpoint is an SMTP endpoint of SES",
};
static const struct verdict auth_too_long = {
	.class = VERDICT_HOLD_AUTH,
	.scope = SCOPE_ACCOUNT,
	.close = true,
	.dsn = "4.7.8",
	.text = "SMTP user name or password is too long to be sent",
	.advice = "an SMTP password of SES has 44 characters: check "
		  "ses.username and ses.password_file",
};
static const struct verdict bad_sender = {
	.class = VERDICT_MSG_FAILED,
	.scope = SCOPE_MESSAGE,
	.charge = true,
	.dsn = "5.1.7",
	.text = "the sender address can't be sent in a command",
	.advice = "the address holds bytes that SMTP does not allow, or is too "
		  "long; such mail is refused when it is handed in, so the "
		  "spool may have been damaged",
};
static const struct verdict bad_rcpt = {
	.class = VERDICT_RCPT_FAILED,
	.scope = SCOPE_RCPT,
	.charge = true,
	.dsn = "5.1.3",
	.text = "the recipient address can't be sent in a command",
	.advice = "the address holds bytes that SMTP does not allow, or is too "
		  "long; such mail is refused when it is handed in, so the "
		  "spool may have been damaged",
};

static void enter(struct client *c, enum client_state next)
{
	ASSERT(c->secure || !steps[next].secure);
	c->state = next;
}

/* Send a command (CRLF is added) and wait for the reply in state `next`. */
PRINTF(4, 5)
static void say(struct client *c, struct client_out *out,
    enum client_state next, const char *fmt, ...)
{
	size_t room = sizeof(out->command) - 2;
	va_list ap;
	int n;

	enter(c, next);
	va_start(ap, fmt);
	n = vsnprintf(out->command, room, fmt, ap);
	va_end(ap);
	ASSERT(n > 0 && (size_t)n < room);
	memcpy(out->command + n, "\r\n", 3);
	out->command_len = (size_t)n + 2;
}

static void settle(struct client *c, struct client_out *out)
{
	out->settle = c->mail != NULL;
	c->mail = NULL;
}

/* c->verdict says why; it is that of the transaction, if there is one. */
static void give_up(struct client *c, struct client_out *out)
{
	settle(c, out);
	enter(c, CLIENT_CLOSED);
	out->close = true;
}

static void give_up_as(
    struct client *c, const struct verdict *why, struct client_out *out)
{
	c->verdict = *why;
	give_up(c, out);
}

static void become_ready(struct client *c, struct client_out *out)
{
	enter(c, CLIENT_IDLE);
	out->ready = true;
}

/* Any reply that ends the connection. */
static void stop(
    struct client *c, const struct reply *reply, struct client_out *out)
{
	enum phase phase = client_phase(c);

	classify_reply(phase, reply, &c->verdict);
	if (c->verdict.class == VERDICT_NONE)
		classify_unexpected(phase, reply, &c->verdict);
	give_up(c, out);
}

/* The transaction is refused; the connection may live on. */
static void refuse(
    struct client *c, const struct reply *reply, struct client_out *out)
{
	classify_reply(client_phase(c), reply, &c->verdict);
	if (c->verdict.close) {
		give_up(c, out);
		return;
	}
	settle(c, out);
	say(c, out, CLIENT_RSET, "RSET");
}

static void on_greeting_ok(
    struct client *c, const struct reply *reply, struct client_out *out)
{
	(void)reply;
	say(c, out, c->secure ? CLIENT_EHLO_TLS : CLIENT_EHLO, "EHLO %s",
	    c->options->hostname);
}

static void on_ehlo_ok(
    struct client *c, const struct reply *reply, struct client_out *out)
{
	(void)reply;
	if (c->ehlo.starttls)
		say(c, out, CLIENT_STARTTLS, "STARTTLS");
	else
		give_up_as(c, &no_starttls, out);
}

static void on_starttls_ok(
    struct client *c, const struct reply *reply, struct client_out *out)
{
	(void)reply;
	ehlo_init(&c->ehlo);
	enter(c, CLIENT_TLS);
	out->start_tls = true;
}

static bool argument_fits(const char *text)
{
	return !text || strlen(text) <= AUTH_ARGUMENT_MAX;
}

static bool can_login(const struct client *c)
{
	return c->ehlo.auth_login && c->options->auth->login_user &&
	    c->options->auth->login_pass;
}

static void on_ehlo_tls_ok(
    struct client *c, const struct reply *reply, struct client_out *out)
{
	const struct client_auth *auth = c->options->auth;

	(void)reply;
	if (!auth || !auth->plain) {
		become_ready(c, out);
	} else if (!argument_fits(auth->plain) ||
	    !argument_fits(auth->login_user) ||
	    !argument_fits(auth->login_pass)) {
		give_up_as(c, &auth_too_long, out);
	} else if (c->ehlo.auth_plain) {
		out->secret = true;
		say(c, out, CLIENT_AUTH_PLAIN, "AUTH PLAIN %s", auth->plain);
	} else if (can_login(c)) {
		say(c, out, CLIENT_AUTH_LOGIN, "AUTH LOGIN");
	} else {
		give_up_as(c, &no_mechanism, out);
	}
}

/* 504: the mechanism is offered and yet not known. */
static void on_plain_refused(
    struct client *c, const struct reply *reply, struct client_out *out)
{
	if (reply->code == 504 && can_login(c))
		say(c, out, CLIENT_AUTH_LOGIN, "AUTH LOGIN");
	else
		stop(c, reply, out);
}

static void on_ask_user(
    struct client *c, const struct reply *reply, struct client_out *out)
{
	(void)reply;
	out->secret = true;
	say(c, out, CLIENT_AUTH_USER, "%s", c->options->auth->login_user);
}

static void on_ask_pass(
    struct client *c, const struct reply *reply, struct client_out *out)
{
	(void)reply;
	out->secret = true;
	say(c, out, CLIENT_AUTH_PASS, "%s", c->options->auth->login_pass);
}

static void on_logged_in(
    struct client *c, const struct reply *reply, struct client_out *out)
{
	(void)reply;
	become_ready(c, out);
}

/*
 * Intake lets no such address pass, but the spool is read back from a disk
 * that others may have written to: one byte too many is a command too many.
 * Inside a quoted local part '>' ends no path.
 */
static bool address_fits(const char *addr)
{
	bool quoted = false, escaped = false;
	size_t len = strlen(addr);

	if (len > ADDR_MAX)
		return false;
	for (size_t i = 0; i < len; i++) {
		char c = addr[i];

		if (c < 0x20 || c > 0x7e || (c == '>' && !quoted))
			return false;
		if (c == '"' && !escaped)
			quoted = !quoted;
		escaped = quoted && c == '\\' && !escaped;
	}
	return !quoted;
}

/* RCPT for the next recipient, or what follows the last one. */
static void ask_next_rcpt(struct client *c, struct client_out *out)
{
	struct client_mail *m = c->mail;

	for (; c->rcpt < m->n_rcpts; c->rcpt++) {
		const char *addr = m->rcpts[c->rcpt];

		if (*addr && address_fits(addr)) {
			say(c, out, CLIENT_RCPT, "RCPT TO:<%s>", addr);
			return;
		}
		m->rcpt_verdicts[c->rcpt] = bad_rcpt;
	}
	if (c->n_accepted > 0) {
		say(c, out, CLIENT_DATA, "DATA");
		return;
	}
	c->verdict = (struct verdict){ .class = VERDICT_NONE };
	settle(c, out);
	say(c, out, CLIENT_RSET, "RSET");
}

static void on_mail_ok(
    struct client *c, const struct reply *reply, struct client_out *out)
{
	(void)reply;
	ask_next_rcpt(c, out);
}

static void on_rcpt_ok(
    struct client *c, const struct reply *reply, struct client_out *out)
{
	(void)reply;
	c->n_accepted++;
	c->rcpt++;
	ask_next_rcpt(c, out);
}

/* One recipient is refused, unless the reply is about more than that. */
static void on_rcpt_refused(
    struct client *c, const struct reply *reply, struct client_out *out)
{
	struct verdict *v = &c->mail->rcpt_verdicts[c->rcpt];

	classify_reply(PHASE_RCPT, reply, v);
	if (v->scope == SCOPE_RCPT) {
		c->rcpt++;
		ask_next_rcpt(c, out);
	} else {
		*v = (struct verdict){ .class = VERDICT_NONE };
		refuse(c, reply, out);
	}
}

static void on_data_ok(
    struct client *c, const struct reply *reply, struct client_out *out)
{
	(void)reply;
	enter(c, CLIENT_BODY);
	out->send_body = true;
}

static void on_dot_ok(
    struct client *c, const struct reply *reply, struct client_out *out)
{
	classify_reply(PHASE_DOT, reply, &c->verdict);
	ASSERT(c->verdict.class == VERDICT_DELIVERED);
	settle(c, out);
	become_ready(c, out);
}

static void on_rset_ok(
    struct client *c, const struct reply *reply, struct client_out *out)
{
	(void)reply;
	become_ready(c, out);
}

static void on_quit(
    struct client *c, const struct reply *reply, struct client_out *out)
{
	classify_reply(PHASE_QUIT, reply, &c->verdict);
	give_up(c, out);
}

/* Too late: the verdict that closed the connection stays. */
static void on_closed(
    struct client *c, const struct reply *reply, struct client_out *out)
{
	(void)c;
	(void)reply;
	out->close = true;
}

/* clang-format off */
static const struct step steps[CLIENT_N_STATES] = {
	[CLIENT_TLS_WRAP] = { "tls", PHASE_TLS, false, 0,
	    { stop, stop, stop, stop } },
	[CLIENT_GREETING] = { "greeting", PHASE_GREETING, false, 220,
	    { on_greeting_ok, stop, stop, stop } },
	[CLIENT_EHLO] = { "ehlo", PHASE_EHLO, false, 250,
	    { on_ehlo_ok, stop, stop, stop } },
	[CLIENT_STARTTLS] = { "starttls", PHASE_STARTTLS, false, 220,
	    { on_starttls_ok, stop, stop, stop } },
	[CLIENT_TLS] = { "tls", PHASE_TLS, false, 0,
	    { stop, stop, stop, stop } },
	[CLIENT_EHLO_TLS] = { "ehlo", PHASE_EHLO, true, 250,
	    { on_ehlo_tls_ok, stop, stop, stop } },
	[CLIENT_AUTH_PLAIN] = { "auth", PHASE_AUTH, true, 235,
	    { on_logged_in, stop, stop, on_plain_refused } },
	[CLIENT_AUTH_LOGIN] = { "auth", PHASE_AUTH, true, 334,
	    { stop, on_ask_user, stop, stop } },
	[CLIENT_AUTH_USER] = { "auth", PHASE_AUTH, true, 334,
	    { stop, on_ask_pass, stop, stop } },
	[CLIENT_AUTH_PASS] = { "auth", PHASE_AUTH, true, 235,
	    { on_logged_in, stop, stop, stop } },
	[CLIENT_IDLE] = { "idle", PHASE_IDLE, true, 0,
	    { stop, stop, stop, stop } },
	[CLIENT_MAIL] = { "mail", PHASE_MAIL, true, 250,
	    { on_mail_ok, stop, refuse, refuse } },
	[CLIENT_RCPT] = { "rcpt", PHASE_RCPT, true, 0,
	    { on_rcpt_ok, stop, on_rcpt_refused, on_rcpt_refused } },
	[CLIENT_DATA] = { "data", PHASE_DATA, true, 354,
	    { stop, on_data_ok, refuse, refuse } },
	[CLIENT_BODY] = { "body", PHASE_BODY, true, 0,
	    { stop, stop, stop, stop } },
	[CLIENT_DOT] = { "dot", PHASE_DOT, true, 0,
	    { on_dot_ok, stop, refuse, refuse } },
	[CLIENT_RSET] = { "rset", PHASE_RSET, true, 250,
	    { on_rset_ok, stop, stop, stop } },
	[CLIENT_QUIT] = { "quit", PHASE_QUIT, true, 0,
	    { on_quit, on_quit, on_quit, on_quit } },
	[CLIENT_CLOSED] = { "closed", PHASE_QUIT, false, 0,
	    { on_closed, on_closed, on_closed, on_closed } },
};
/* clang-format on */

void client_init(struct client *c, const struct client_options *options,
    struct client_out *out)
{
	*out = (struct client_out){ .start_tls = options->wrapper };
	*c = (struct client){
		.options = options,
		.state = options->wrapper ? CLIENT_TLS_WRAP : CLIENT_GREETING,
	};
}

void client_on_line(void *client, struct slice text)
{
	struct client *c = client;

	if (c->state == CLIENT_EHLO || c->state == CLIENT_EHLO_TLS)
		ehlo_line(&c->ehlo, text);
}

void client_on_reply(
    struct client *c, const struct reply *reply, struct client_out *out)
{
	const struct step *step = &steps[c->state];
	int class = reply->code / 100;

	ASSERT(class >= 2 && class <= 5);
	*out = (struct client_out){ 0 };
	if (class < 4 && step->code != 0 && step->code != reply->code)
		stop(c, reply, out);
	else
		step->on[class - 2](c, reply, out);
}

void client_on_secured(struct client *c, struct client_out *out)
{
	*out = (struct client_out){ 0 };
	ASSERT(c->state == CLIENT_TLS || c->state == CLIENT_TLS_WRAP);
	c->secure = true;
	if (c->state == CLIENT_TLS_WRAP)
		enter(c, CLIENT_GREETING);
	else
		say(c, out, CLIENT_EHLO_TLS, "EHLO %s", c->options->hostname);
}

void client_on_body_sent(struct client *c)
{
	ASSERT(c->state == CLIENT_BODY);
	enter(c, CLIENT_DOT);
}

void client_on_loss(struct client *c, enum loss loss, bool dot_sent,
    const char *detail, struct client_out *out)
{
	enum phase phase = client_phase(c);

	*out = (struct client_out){ .close = true };
	if (c->state == CLIENT_CLOSED)
		return;
	if (c->state == CLIENT_BODY && dot_sent)
		phase = PHASE_DOT;
	classify_loss(phase, loss, detail, &c->verdict);
	give_up(c, out);
}

void client_send(
    struct client *c, struct client_mail *mail, struct client_out *out)
{
	char size[32] = "";

	*out = (struct client_out){ 0 };
	ASSERT(c->state == CLIENT_IDLE && c->secure && mail->n_rcpts > 0);
	c->mail = mail;
	c->rcpt = c->n_accepted = 0;
	for (unsigned i = 0; i < mail->n_rcpts; i++)
		mail->rcpt_verdicts[i] =
		    (struct verdict){ .class = VERDICT_NONE };
	if (!address_fits(mail->sender)) {
		c->verdict = bad_sender;
		settle(c, out);
		become_ready(c, out);
		return;
	}
	if (c->ehlo.size)
		snprintf(size, sizeof(size), " SIZE=%" PRIu64, mail->size);
	say(c, out, CLIENT_MAIL, "MAIL FROM:<%s>%s%s", mail->sender, size,
	    c->ehlo.eight_bit && mail->body_8bit ? " BODY=8BITMIME" : "");
}

void client_quit(struct client *c, struct client_out *out)
{
	*out = (struct client_out){ 0 };
	ASSERT(c->state == CLIENT_IDLE);
	say(c, out, CLIENT_QUIT, "QUIT");
}

enum phase client_phase(const struct client *c)
{
	return steps[c->state].phase;
}

const char *client_state_name(enum client_state state)
{
	ASSERT((unsigned)state < CLIENT_N_STATES);
	return steps[state].name;
}
