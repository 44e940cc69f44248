/*
 * The conversation with SES, as a pure state machine: [state][class of reply]
 * gives the next state and what is to be done.  It knows no socket, no TLS and
 * no clock; the session (relay/outbound) does what it says.
 *
 *   GREETING -> EHLO -> STARTTLS -> TLS -> EHLO_TLS -> AUTH -> IDLE  (starttls)
 *   TLS -> GREETING -> EHLO_TLS -> AUTH -> IDLE                      (wrapper)
 *   IDLE -> MAIL -> RCPT (one each) -> DATA -> BODY -> DOT -> IDLE
 *   anything refused between MAIL and DOT -> RSET -> IDLE
 *   IDLE -> QUIT -> CLOSED;  whatever can't be trusted -> CLOSED
 *
 * Lock step: one command, one reply (SES offers no PIPELINING and nothing is
 * ever sent behind the dot).  AUTH and MAIL are never sent outside TLS: the
 * states for them can't be reached.  Capabilities are forgotten at STARTTLS.
 */
#ifndef SMTP_CLIENT_H
#define SMTP_CLIENT_H

#include "smtp/classify.h"
#include "smtp/ehlo.h"

#define CLIENT_COMMAND_MAX 1024

enum client_state {
	CLIENT_TLS_WRAP, /* wrapper mode: handshake before the greeting */
	CLIENT_GREETING,
	CLIENT_EHLO, /* in clear; only to be told of STARTTLS */
	CLIENT_STARTTLS,
	CLIENT_TLS, /* handshake after STARTTLS */
	CLIENT_EHLO_TLS,
	CLIENT_AUTH_PLAIN,
	CLIENT_AUTH_LOGIN, /* AUTH LOGIN sent, 334 expected */
	CLIENT_AUTH_USER, /* user name sent, 334 expected */
	CLIENT_AUTH_PASS, /* password sent, 235 expected */
	CLIENT_IDLE,
	CLIENT_MAIL,
	CLIENT_RCPT,
	CLIENT_DATA,
	CLIENT_BODY, /* the session sends content; no reply may come */
	CLIENT_DOT,
	CLIENT_RSET,
	CLIENT_QUIT,
	CLIENT_CLOSED,
	CLIENT_N_STATES
};

/* All base64 text made ready by daemon/credentials; without `plain`: no AUTH
 * (a server that asks for none; never SES). */
struct client_auth {
	const char *plain; /* initial response of AUTH PLAIN */
	const char *login_user; /* AUTH LOGIN */
	const char *login_pass;
};

struct client_options {
	const char *hostname; /* EHLO argument */
	bool wrapper; /* else STARTTLS */
	const struct client_auth *auth;
};

/* The transaction; everything stays the caller's until settled. */
struct client_mail {
	const char *sender;
	bool body_8bit;
	uint64_t size; /* of what will be sent, for SIZE= where offered */
	const char *const *rcpts;
	unsigned n_rcpts;
	/* One for each recipient, written by the client: VERDICT_NONE means
	 * that it shares the verdict of the message.  When every recipient has
	 * its own, the verdict of the message is VERDICT_NONE. */
	struct verdict *rcpt_verdicts;
};

/* What the session has to do now, in this order. */
struct client_out {
	bool settle; /* the transaction is decided: verdict, rcpt_verdicts */
	char
	    command[CLIENT_COMMAND_MAX]; /* to be sent, with CRLF, if len > 0 */
	size_t command_len;
	bool secret; /* the command holds credentials: not for any log */
	bool start_tls; /* input must be empty; then handshake */
	bool send_body; /* content, then client_on_body_sent() */
	bool ready; /* IDLE: the next message may come */
	bool close; /* give the connection up; c->verdict says why */
};

struct client {
	const struct client_options *options;
	enum client_state state;
	bool secure; /* inside TLS */
	struct ehlo ehlo;
	struct client_mail *mail; /* NULL outside a transaction */
	unsigned rcpt; /* the one that is being asked */
	unsigned n_accepted; /* recipients that got 2xx */
	struct verdict verdict; /* of the message, or of the connection */
};

/* out->start_tls at once in wrapper mode. */
void client_init(struct client *c, const struct client_options *options,
    struct client_out *out);
/*
 * A reply_line_fn, with the client as `ctx`: keywords are taken from replies to
 * EHLO, the lines of all other replies are ignored.
 */
void client_on_line(void *client, struct slice text);
/* A complete reply, after its lines went to client_on_line(). */
void client_on_reply(
    struct client *c, const struct reply *reply, struct client_out *out);
/* The handshake succeeded and the certificate is right. */
void client_on_secured(struct client *c, struct client_out *out);
/* Content and dot are handed to the kernel: BODY -> DOT. */
void client_on_body_sent(struct client *c);
/*
 * The connection is gone or has to go (time-out, EOF, protocol error).
 * `dot_sent`: at least the first byte of the final dot has left; it counts in
 * BODY (in DOT it is taken for granted, elsewhere it means nothing).
 */
void client_on_loss(struct client *c, enum loss loss, bool dot_sent,
    const char *detail, struct client_out *out);
/*
 * IDLE only: start a transaction.  A sender that can't be put into a command
 * (the spool is not trusted) settles it at once: settle and ready, nothing to
 * be sent.
 */
void client_send(
    struct client *c, struct client_mail *mail, struct client_out *out);
/* IDLE only: QUIT. */
void client_quit(struct client *c, struct client_out *out);
enum phase client_phase(const struct client *c);
const char *client_state_name(enum client_state state);

#endif
