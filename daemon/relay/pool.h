/*
 * The connections to SES: how many there are, which one is next, when one is
 * renewed.  A connection is on exactly one list, and its state is that
 * membership; only pool_move() in pool.c moves it:
 *
 *   CONNECTING  address, TCP, TLS, login         IDLE      wants work
 *   BUSY        carries a message                DRAINING  QUIT is out
 *
 * CONNECTING -> IDLE; IDLE -> BUSY -> IDLE; IDLE -> DRAINING; any -> closed.
 * Free connections pull work: pool_dispatch() runs once a turn of the loop.
 * The most recently used idle connection goes first, so the tail ages out.
 */
#ifndef RELAY_POOL_H
#define RELAY_POOL_H

#include "base/base.h"
#include "policy/ports.h"
#include "policy/rotate.h"
#include "smtp/classify.h"

#include <netinet/in.h>
#include <sys/socket.h>

#define POOL_MAX_PORTS PORTS_MAX

struct pool_port {
	uint16_t port;
	bool wrapper; /* TLS from the first byte; else STARTTLS */
};

struct pool_timeouts {
	int64_t connect_us, tls_us, greeting_us, command_us;
	int64_t data_us; /* progress while content is sent */
	int64_t final_us; /* for the reply to the final dot */
};

/* What a connection is made from. */
struct pool_options {
	const char *host; /* the endpoint; the certificate has to match */
	const char *hostname; /* ours, for EHLO */
	struct pool_port ports[POOL_MAX_PORTS]; /* in order of preference */
	unsigned n_ports;
	/* AUTH texts in base64, see credentials.h; NULL: no AUTH. */
	const char *auth_plain, *auth_user, *auth_pass;
	const char *ca_file; /* NULL: the system's anchors */
	int mss; /* 0: the system's, and what policy/path finds */
	struct sockaddr_storage source;
	socklen_t source_len; /* 0: the system's choice */
	unsigned max_connections;
	struct rotate_options rotate;
	struct pool_timeouts timeouts;
};

enum pool_state {
	POOL_CONNECTING,
	POOL_IDLE,
	POOL_BUSY,
	POOL_DRAINING,
	POOL_N_STATES
};

struct pool;
struct relay;
struct outbound;

/* Copies the options with everything they point to. */
MUST_CHECK struct pool *pool_new(
    struct relay *relay, const struct pool_options *options, struct err *err);
/*
 * New options are whole in force or (-1) not at all.  When endpoint, ports or
 * anchors changed, connections are renewed: idle ones at once, busy ones after
 * their message.
 *
 * New credentials are tried first, if the old ones work as far as is known: one
 * connection logs in with them, and nothing else of endpoint or ports changes
 * before it has; then the others are renewed.  While SES refuses them, the old
 * ones stay in force, and the trial is repeated after 1, 2, 5, then 15 minutes
 * and with each new call.  Limits are in force in any case.
 */
MUST_CHECK int pool_configure(
    struct pool *pool, const struct pool_options *options, struct err *err);
void pool_dispatch(struct pool *pool);
unsigned pool_count(const struct pool *pool, enum pool_state state);
const char *pool_state_name(enum pool_state state);
/* Nothing new starts; idle connections QUIT, busy ones after their message. */
void pool_shutdown(struct pool *pool);
/*
 * Renews every connection, make before break and not in one wave; returns how
 * many that are.
 */
unsigned pool_rotate(struct pool *pool);
/* No hold-off after failures: connect at once, if there is anything to send. */
void pool_try_now(struct pool *pool);
bool pool_empty(const struct pool *pool);
/* After pool_shutdown(): give up what is under way, except, unless `all`, where
 * content is through or nearly so: losing that means a duplicate. */
void pool_drop(struct pool *pool, bool all);
/* Drops every connection; messages under way settle as lost. */
void pool_free(struct pool *pool);

/* For `status`: the last trouble of connecting or logging in; "" if none
 * since the last success. */
const char *pool_last_error(const struct pool *pool);
/* New credentials that are not in force: "being tried", or why not; "" if there
 * are none. */
const char *pool_new_credentials(const struct pool *pool);
/* The port that connections use now; 0 before the first success. */
int pool_port(const struct pool *pool);

/*
 * Where SES was seen to end sessions, less a margin, whether acted on
 * (delivery.adaptive_rotation) or not; 0: nowhere.
 */
unsigned pool_learned_messages(const struct pool *pool);
int64_t pool_learned_age_us(const struct pool *pool);
/* What an earlier process learned; 0: nothing. */
void pool_set_learned(struct pool *pool, unsigned messages, int64_t age_us);
/* For `status`, in the order of ses.ports; valid until the next turn. */
struct pool_port_view {
	unsigned port;
	bool wrapper;
	bool in_use; /* this is the one that pool_port() tells */
	enum ports_state state;
	const char *reason; /* why it is passed over; "" */
	const char *advice; /* what to do about it; "" */
	int64_t since_us, next_try_us; /* monotonic; 0: in good standing */
};
/* How many; `out` has room for POOL_MAX_PORTS. */
unsigned pool_ports_view(const struct pool *pool, struct pool_port_view *out);

/*
 * The segment size that passes where larger ones vanish, as found; 0: all do,
 * or ses.mss decides.  What the last run found is set before anything is sent.
 */
int pool_learned_mss(const struct pool *pool);
void pool_set_learned_mss(struct pool *pool, int mss);

/* The endpoint that new connections go to. */
const char *pool_host(const struct pool *pool);
/* What one connection is like now; everything is a copy. */
struct pool_connection_view {
	unsigned number; /* conn= in the log */
	enum pool_state state;
	bool connected; /* TCP is there; ip and port are known before */
	char ip[INET6_ADDRSTRLEN]; /* "" while the name is looked up */
	uint16_t port;
	bool wrapper;
	char tls[96]; /* "TLSv1.3 with ..."; "" in clear */
	const char *step; /* "resolve", "connect", or as in smtp/client.h */
	const char *doing; /* the same in words */
	int64_t step_us; /* for how long */
	uint64_t message; /* queue id under way; 0: none */
	int64_t age_us; /* since it began to connect */
	unsigned n_messages, n_delivered;
	/* Renewed at so many messages, or in that time; 0 before the login. */
	unsigned max_messages;
	int64_t expires_in_us;
	/* What it is for, if not for mail; NULL: for mail. */
	const char *purpose;
	/* Given up when it is free, however young; NULL: it is not. */
	const char *replaced;
	int mss; /* 0: the system's */
};
void pool_each(const struct pool *pool,
    void (*fn)(void *ctx, const struct pool_connection_view *view), void *ctx);

/* What keeps the pool from being larger. */
struct pool_size_view {
	unsigned max; /* delivery.connections */
	unsigned limit; /* that SES has shown by 421; UINT_MAX: none */
	int64_t retry_us; /* none is opened for that long; 0: at once */
};
void pool_size(const struct pool *pool, struct pool_size_view *view);

/* What became of connecting to one port, up to a successful login. */
struct pool_connects {
	uint16_t port;
	uint64_t ok, failed;
};
/* Those of ses.ports and all that have ever been there. */
void pool_each_connects(struct pool *pool,
    void (*fn)(void *ctx, const struct pool_connects *connects), void *ctx);

/* --- for relay/outbound --- */

struct upstream; /* options, TLS context: what connections share */
void pool_on_ready(struct pool *pool, struct outbound *o);
/* Its message has been settled; it is ready for another one. */
void pool_on_free(struct pool *pool, struct outbound *o);
/* A message has gone through all of its dialogue, whatever came of it. */
void pool_on_transaction(struct pool *pool, int64_t took_us, unsigned n_rcpts);
/*
 * The connection is closed; `verdict` says why (VERDICT_NONE: in order).
 * `logged_in` tells trouble of connecting from the end of a session.
 */
void pool_on_closed(struct pool *pool, struct outbound *o, bool logged_in,
    const struct verdict *verdict);

#endif
