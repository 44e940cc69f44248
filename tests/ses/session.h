#ifndef SES_SESSION_H
#define SES_SESSION_H

#include "body.h"
#include "link.h"
#include "server.h"

#include <event2/event_struct.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

enum session_state {
	SESSION_HANDSHAKE,
	SESSION_COMMAND,
	SESSION_AUTH_PLAIN, /* `334 Ok` was sent */
	SESSION_AUTH_USER,
	SESSION_AUTH_PASSWORD,
	SESSION_BODY,
	SESSION_SINK, /* reads on, never answers again */
	SESSION_FROZEN, /* does not even read */
	SESSION_LEAVING, /* FIN sent, waits for theirs */
	SESSION_DEAD,
};

/* What happens once a reply has left. */
enum after {
	AFTER_READ, /* the next command */
	AFTER_CLOSE,
	AFTER_RESET,
	AFTER_STALL,
	AFTER_HALFCLOSE,
	AFTER_TLS,
	AFTER_ABORT_TLS, /* waits for the ClientHello, then closes */
};

enum session_end { END_FIN, END_RESET, END_NOW };

/* A reply in the making. */
struct answer {
	char text[1024]; /* lines joined by CRLF, without the last */
	enum after after;
	const char *why; /* reason of the close that follows */
	bool throttled;
	char id[64]; /* of the message just accepted, or "" */
};

struct session {
	TAILQ_ENTRY(session) link; /* in live, leaving or dead */
	TAILQ_ENTRY(session) turn; /* in dirty, when .dirty */
	struct server *server;
	struct link io;
	struct event readable, writable, delay, idle, resume;
	struct listener *listener; /* it came by; outlives us */
	enum mode mode;
	enum session_state state;
	long number; /* of the connection */
	int port;
	char peer[64];
	struct peer *client; /* its account of figures; never NULL */
	uint64_t began_us;
	bool counted; /* in connections_now */

	/* The reply on its way. */
	bool dirty;
	bool busy; /* no input is taken meanwhile */
	bool early; /* early bytes were already noted */
	bool paused; /* readable is not watched */
	bool slowed; /* paused by read_rate, until .resume */
	double read_credit; /* bytes; what was read too soon is negative */
	uint64_t credit_us;
	bool eof; /* they sent FIN */
	const char *eof_reason;
	enum phase phase; /* that the reply belongs to */
	enum after after;
	const char *why;
	long drip_ms;
	long write_rate, read_rate; /* by a rule; 0: as set */
	long rekey; /* new keys still to be sent before the reply */
	bool silent, cancels; /* by a rule: how TLS ends */
	uint64_t active_us; /* last byte from or to the client */

	/* The dialogue. */
	char helo[256];
	bool greeted; /* EHLO or HELO since TLS */
	bool was_starttls;
	bool authenticated;
	bool hide_starttls;
	bool tls_ruled; /* phase TLS was asked about */
	bool abort_tls;
	bool abort_reset;
	char user[256]; /* of AUTH LOGIN in progress */
	long messages;

	/* The transaction. */
	char *from; /* NULL before MAIL */
	char **rcpts;
	size_t rcpt_count, rcpt_cap;
	unsigned long txn;
	struct body body;
	bool body_done; /* dot seen, a BODY rule goes first */
	const char *fact_from, *fact_rcpt; /* being judged */
	const char *fact_id;
};

/* session.c: life, events, timers. */

/* Takes over a connected fd. */
void session_new(struct listener *l, int fd, const char *peer);
void session_free(struct session *s);
/* The one way out. */
void session_end(struct session *s, const char *reason, enum session_end how);
void session_arm_idle(struct session *s);
void session_violation(struct session *s, enum violation v, const char *detail);
/* Begins a journal line about this session. */
void session_event(struct session *s, const char *event);

/* output.c: how replies leave. */

/* Hands output over to the turn's end, delay_ms from now. */
void session_send(struct session *s, long delay_ms);
/* Writes what is queued and goes on as s->after says. */
void session_flush(struct session *s);
/* Neither reads nor answers any more, but notices when they are gone. */
void session_freeze(struct session *s);
/* Puts the write_rate that holds for this connection into effect. */
void session_pace(struct session *s);
/* Comes back when more may be written, in drip_ms at the earliest. */
void session_await_room(struct session *s, long drip_ms);
/* How TLS is to end. */
enum link_end session_farewell(const struct session *s);
void session_timer(struct event *ev, long ms);

/* stage.c: what input means in each state. */

/* Consumes input as long as no reply is on its way. */
void session_pump(struct session *s);
/* Begins TLS (rules of phase TLS apply), or the greeting. */
void session_begin(struct session *s);
void session_start_tls(struct session *s);
/* A step of the handshake; what follows when it is done. */
void session_handshake(struct session *s);
void session_timed_out(struct session *s);

/* answer.c: replies under the rules. */

/* The rule that acts here, or NULL. */
struct rule *answer_rule(struct session *s, enum phase phase);
/* False if the rule takes the place of the normal course. */
bool answer_runs(const struct rule *rule, enum phase phase);
/* Sends a->text, or what the rule makes of it. */
void answer_send(
    struct session *s, enum phase phase, struct rule *rule, struct answer *a);
/* One of SES's replies by its name. */
void answer_reply(struct answer *a, const char *name);
void answer_set(struct answer *a, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/* command.c, auth.c, verdict.c: the dialect. */

void command_line(struct session *s, const char *line, size_t len);
void command_reset(struct session *s);
void auth_begin(struct session *s, const char *args);
void auth_line(struct session *s, const char *line);
/* The end of DATA: judges, records, answers. */
void verdict_dot(struct session *s);
/* Puts the 421 of the session cap into the answer if it strikes here. */
bool verdict_capped(
    const struct session *s, const char *phase, struct answer *a);

#endif
