/*
 * What server.c and server_mail.c share; for nobody else.
 */
#ifndef SMTP_SERVER_PRIVATE_H
#define SMTP_SERVER_PRIVATE_H

#include "smtp/command.h"
#include "smtp/server.h"

/* What a handler is given of one command, and where it answers. */
struct server_turn {
	struct command command;
	const struct server_intake *intake;
	struct server_out *out;
};

/* A reply of one line, without its code and line end in `fmt`. */
PRINTF(4, 5)
void server_reply(struct server_out *out, enum server_effect effect, int code,
    const char *fmt, ...);
/* Back to GREETED. */
void server_forget_envelope(struct server *s);

/* The same recipient by way of two names gets one copy. */
void server_unique_rcpts(struct server *s);

void server_on_mail(struct server *s, const struct server_turn *t);
void server_on_rcpt(struct server *s, const struct server_turn *t);

#endif
