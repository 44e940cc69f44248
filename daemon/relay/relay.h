/*
 * The life of a message, and the root that holds the parts together.
 *
 *   accepted -> queue -> attempt -> relay_settle() -> done, retry, held, dead
 *
 * relay_settle() is the only place that decides a message's fate.  An outcome
 * is written from nowhere else.
 */
#ifndef RELAY_RELAY_H
#define RELAY_RELAY_H

#include "base/work.h"
#include "net/loop.h"
#include "net/resolver.h"
#include "policy/backoff.h"
#include "policy/gate.h"
#include "policy/outage.h"
#include "policy/pacer.h"
#include "queue/queue.h"
#include "queue/spool.h"
#include "relay/inbound.h"
#include "relay/learn.h"
#include "relay/pool.h"
#include "relay/troubles.h"
#include "smtp/client.h"

/* Content kept in memory between its 250 and its first attempt. */
#define RELAY_MEMORY_MAX (8u * 1024 * 1024)
/* Attempts in a row that a connection may lose without any being charged. */
#define RELAY_MAX_FREE_RETRIES 5

struct relay_options {
	struct backoff_options backoff;
	unsigned recipients_per_message;
	double rate; /* recipients/s at the most; 0: SES's throttling alone */
	bool hold_uncertain; /* delivery.uncertain = "hold" */
	const char *hostname; /* in notices */
	const char *username; /* at SES; NULL: none */
	const char *bounce_from; /* NULL: no notices */
	const char *bounce_to; /* NULL: the sender */
	const char *ses_headers; /* of notices, as struct dsn has it */
};

/* One transaction: a message and those of its recipients that it is for. */
struct attempt {
	TAILQ_ENTRY(attempt) link; /* relay's list of loaded ones */
	struct stub *stub;
	struct message *m;
	struct client_mail mail;
	uint16_t *positions; /* of mail.rcpts in m->rcpts */
	/* For `delays=`: begun to be sent (monotonic), and how long getting
	 * the connection took. */
	int64_t sending_us, setup_us;
	/* Called when the outcome of what SES took is written, see
	 * outbound.h; NULL: nobody waits for it. */
	void (*recorded)(void *ctx);
	void *recorded_ctx;
	bool probe; /* the gate let this one through as its probe */
};

struct relay {
	struct loop *loop;
	struct work_port *port;
	struct queue *queue;
	struct spool *spool;
	struct resolver *resolver;
	struct inbound *inbound;
	struct pool *pool;
	struct gate gate;
	struct outage outage; /* of the account; ages no message */
	bool account_well; /* SES took mail after it last refused for it */
	struct pacer pacer;
	/* Monotonic; 0: nothing waits for the pace, SES never throttled. */
	int64_t pace_until_us, throttled_us;
	struct learn learn;
	struct relay_options options;
	bool stopping;
	/* See relay/operate.h. */
	bool delivery_paused, intake_paused, draining;
	LIST_HEAD(, relay_load) loading;
	unsigned n_loading;
	size_t kept_bytes; /* content kept in memory for queued messages */
	TAILQ_HEAD(attempt_list, attempt) loaded;
	unsigned n_loaded; /* on that list */
	struct loop_timer wake;
	struct loop_timer tick;
	struct loop_watch *port_watch;
	int64_t started_us; /* monotonic */
	/* See relay_set_credentials_source(). */
	void (*reread_credentials)(void *ctx);
	void *reread_ctx;
	char last_reply[256]; /* last trouble that SES told, for status */
	int64_t last_reply_us; /* wall */
	struct troubles troubles; /* and those before it */
	const char *last_advice; /* what it means; NULL: no words needed */
};

struct relay_config {
	struct relay_options relay;
	struct inbound_options inbound;
	struct pool_options pool;
	struct spool_options spool;
};

/* Opens the spool, starts threads; listening is the caller's next step. */
MUST_CHECK struct relay *relay_new(
    struct loop *loop, const struct relay_config *config, struct err *err);
/* Whole or not at all. */
MUST_CHECK int relay_configure(
    struct relay *r, const struct relay_config *config, struct err *err);
/*
 * `reread` is called when SES has refused the credentials, and before they are
 * tried again: it looks whether there are others by now and, if so, calls
 * pool_configure() with them.
 */
void relay_set_credentials_source(
    struct relay *r, void (*reread)(void *ctx), void *ctx);
/* relay_new() does not: the start scan, which feeds the queue. */
void relay_start(struct relay *r);
/* Begin to stop; relay_stopped() tells when nothing is under way any more. */
void relay_stop(struct relay *r);
bool relay_stopped(const struct relay *r);
void relay_free(struct relay *r);

/* A message was made durable; takes it. */
void relay_accepted(struct relay *r, struct message *m);
/* What relay_take() would give, unless the pace holds it back. */
const struct attempt *relay_peek(struct relay *r);
/*
 * The next message that may go out, with its envelope and content in memory
 * (or large), or NULL; then loads of what will be next have been started, and
 * pool_dispatch() is called again when one is there.
 */
struct attempt *relay_take(struct relay *r);
/* How many messages could go out now: ready or loaded, behind an open gate. */
size_t relay_backlog(struct relay *r);
/*
 * Takes the attempt.  `verdict` is the message's; a->mail.rcpt_verdicts may
 * have one for each recipient.  `relayed_via` is "host[ip]:port", `conn` the
 * number of the connection; NULL and 0 when there was none.
 */
void relay_settle(struct relay *r, struct attempt *a,
    const struct verdict *verdict, const char *relayed_via, unsigned conn);
/* The connection told something about the account (login refused, ...). */
void relay_on_account(struct relay *r, const struct verdict *verdict);
/* For status: the last trouble that SES told. */
void relay_note_reply(struct relay *r, const struct verdict *verdict);
/* Whether the account can send at all, as the gate knows it. */
void relay_note_outage(struct relay *r);
/* Look at the queue again before the loop sleeps. */
void relay_kick(struct relay *r);

#endif
