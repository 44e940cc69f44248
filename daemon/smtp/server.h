/*
 * The conversation with a local program, as a pure state machine (RFC 5321).
 *
 * The session feeds it command lines and tells it how content ended; out come
 * replies and effects.  It holds the envelope that is being built.  It knows no
 * socket and no clock.
 *
 *   GREETED  before MAIL            MAIL  sender is known
 *   RCPT     at least one recipient DATA  content is arriving (or is being
 *                                         made durable): no lines are fed
 *
 * The table of verbs and states is in server.c: every cell has its reply.
 */
#ifndef SMTP_SERVER_H
#define SMTP_SERVER_H

#include "smtp/rewrite.h"

#define SERVER_REPLY_MAX 1024
/* RFC 5321 4.5.3.1.4 asks for 512; parameters and legacy programs for more. */
#define SERVER_LINE_MAX 2048
/* Refused commands in a row before the session is cut off. */
#define SERVER_MAX_ERRORS 20
/*
 * Commands that bring no mail any further (NOOP, RSET, VRFY, HELP, EHLO, AUTH)
 * from one message to the next, before the session is cut off.
 */
#define SERVER_MAX_IDLE 100
/* Received: fields, beyond which mail is taken to run in a circle. */
#define SERVER_MAX_HOPS 50

struct server_options {
	const char *hostname;
	uint64_t max_message_size;
	unsigned max_recipients;
	bool reject_bare_newline;
	bool accept_any_auth;
	/* Of the envelope's addresses, and (by the session) of the header; NULL:
	 * they go on as they are, and those without a domain are refused. */
	struct rewrite_rules *rewrite;
};

/* Why a message may not come in now: what stands behind 452. */
struct server_refusal {
	const char *status, *text; /* "4.3.1"; text NULL: it may */
};
/* How the conversation asks that, at MAIL; `bytes` are SIZE=, 0: not told. */
struct server_intake {
	struct server_refusal (*ask)(void *ctx, uint64_t bytes);
	void *ctx;
};

enum server_state {
	SERVER_GREETED,
	SERVER_MAIL,
	SERVER_RCPT,
	SERVER_DATA,
	SERVER_N_STATES,
	/* Those in which lines are fed: the columns of the table. */
	SERVER_N_LINE_STATES = SERVER_DATA
};

enum server_effect {
	SERVER_REPLY, /* send the reply, go on */
	SERVER_START_DATA, /* send the 354; what follows is content */
	/* Send the reply, which refuses DATA.  Was more sent behind that without
	 * waiting, it is meant as content and must not be run as commands: then
	 * this is a SERVER_CUT. */
	SERVER_NO_DATA,
	SERVER_CLOSE, /* send the reply, close */
	SERVER_CUT, /* the same, and what is buffered is thrown away */
};

/* What became of content that has ended. */
enum server_content {
	SERVER_CONTENT_OK, /* durable: 250 2.0.0 Ok: queued as ID */
	SERVER_CONTENT_TOO_BIG, /* 552 5.3.4 */
	SERVER_CONTENT_BARE_LF, /* 550 5.5.2 (reject_bare_newline) */
	SERVER_CONTENT_BARE_CR, /* 550 5.5.2 */
	SERVER_CONTENT_NUL, /* 550 5.6.0 */
	SERVER_CONTENT_LOOP, /* 554 5.4.6 */
	SERVER_CONTENT_HEADER, /* 554, detail: "STATUS TEXT" of the rewriting */
	SERVER_CONTENT_NO_SPACE, /* 452 4.3.1 */
	SERVER_CONTENT_FAILED, /* 451 4.3.0: could not be made durable */
};

struct server_out {
	enum server_effect effect;
	/* Complete, with CRLF, one or more lines; to be written as one. */
	char reply[SERVER_REPLY_MAX];
	size_t reply_len;
	int code;
	bool rejected; /* refused with 4xx or 5xx: worth a log line */
	const char *stage; /* what it answers, for that line: "RCPT" */
};

struct server_rcpt {
	char *addr;
	char *orig; /* as it was given, when it is another now; else NULL */
};

struct server {
	const struct server_options *options;
	enum server_state state;
	bool greeted; /* HELO or EHLO came */
	bool esmtp;
	bool local; /* on this machine; the owner sets it, AUTH depends on it */
	bool auth_pending; /* private: inside the AUTH dialogue */
	uint8_t auth_step;
	unsigned n_errors; /* 5xx in a row; 4xx count neither way */
	unsigned n_idle; /* see SERVER_MAX_IDLE */
	char helo[256]; /* "" before HELO/EHLO */
	/* The envelope. */
	char *sender; /* NULL before MAIL, "" is the null sender */
	char *orig_sender; /* as struct server_rcpt has it */
	bool body_8bit;
	uint64_t declared_size; /* SIZE=, 0: not told */
	struct server_rcpt *rcpts;
	unsigned n_rcpts, rcpts_size;
};

void server_init(struct server *s, const struct server_options *options);
void server_fini(struct server *s);
/* "220 HOST ESMTP sesrelayd" */
void server_greeting(const struct server *s, struct server_out *out);
/*
 * A line without its line end, at most SERVER_LINE_MAX bytes.  `intake` may be
 * NULL: nothing is refused.
 */
void server_on_line(struct server *s, struct slice line,
    const struct server_intake *intake, struct server_out *out);
/*
 * The head of a line whose end has not come yet, or that is too long: true, and
 * a reply, if it can't be SMTP.  A TLS client waits for an answer to what has no
 * line end at all.
 */
bool server_on_line_head(
    struct server *s, struct slice head, struct server_out *out);
/* A line that ended in LF alone, where reject_bare_newline is set: 501 5.5.2 */
void server_on_bare_newline(
    struct server *s, struct slice line, struct server_out *out);
/* A line that is longer than SERVER_LINE_MAX: 500 5.5.2 (once a line). */
void server_on_long_line(struct server *s, struct server_out *out);
/*
 * Content is over; `detail` is the queue id for OK, or a reason.  The envelope
 * is gone afterwards.
 */
void server_on_content(struct server *s, enum server_content what,
    const char *detail, struct server_out *out);
/* 421 4.x.x HOST reason: for time-outs, shutdown, too many sessions. */
void server_on_close(const struct server *s, const char *enhanced,
    const char *reason, struct server_out *out);
const char *server_state_name(enum server_state state);

#endif
