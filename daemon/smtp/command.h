/*
 * One command line of a local client, cut into verb and arguments (RFC 5321
 * 4.1.1).  Nothing is copied: the slices point into the line.
 */
#ifndef SMTP_COMMAND_H
#define SMTP_COMMAND_H

#include "base/slice.h"

#define COMMAND_MAX_PARAMS 16

enum command_verb {
	COMMAND_HELO,
	COMMAND_EHLO,
	COMMAND_MAIL,
	COMMAND_RCPT,
	COMMAND_DATA,
	COMMAND_RSET,
	COMMAND_NOOP,
	COMMAND_VRFY,
	COMMAND_HELP,
	COMMAND_QUIT,
	COMMAND_AUTH,
	COMMAND_NOT_OFFERED, /* one of SMTP, but EHLO does not have it */
	COMMAND_UNKNOWN, /* a word that is no command */
	COMMAND_FOREIGN, /* HTTP, TLS, binary: not SMTP at all; hang up */
	COMMAND_N
};

struct command {
	enum command_verb verb;
	struct slice name; /* as the client wrote it */
	/*
	 * Behind the verb, or behind "FROM:" and "TO:", without blanks around;
	 * ptr is NULL when MAIL lacks its "FROM:" or RCPT its "TO:".
	 */
	struct slice args;
};

struct command_param {
	struct slice key, value; /* value.ptr NULL: there was no '=' */
};

/* `line` is without its line end. */
void command_parse(struct slice line, struct command *out);
/* The head of a line whose end has not come, at least one byte: will it be
 * FOREIGN, whatever follows? */
bool command_is_foreign_head(struct slice head);
/*
 * ESMTP parameters "KEY=value KEY"; returns how many, -1 when malformed or
 * more than COMMAND_MAX_PARAMS.
 */
int command_params(
    struct slice args, struct command_param params[COMMAND_MAX_PARAMS]);

#endif
