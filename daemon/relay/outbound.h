/*
 * One connection to SES: the pure conversation (smtp/client) glued to a socket
 * (net/conn), and the content of the message it carries fed to it.  The pool
 * owns it; it tells the pool when it is ready, free and closed.
 *
 * It tries addresses and ports until one takes the connection or none is left;
 * what it learns of them goes to the resolver and the pool.
 */
#ifndef RELAY_OUTBOUND_H
#define RELAY_OUTBOUND_H

#include "base/histogram.h"
#include "base/crash.h"
#include "net/conn.h"
#include "net/resolver.h"
#include "policy/path.h"
#include "policy/rotate.h"
#include "relay/relay.h"
#include "relay/upstream.h"
#include "smtp/client.h"
#include "smtp/dot.h"

/* Content is handed to the socket in pieces of this size. */
#define OUTBOUND_CHUNK (128u * 1024)

struct outbound {
	/* The pool's. */
	TAILQ_ENTRY(outbound) link;
	enum pool_state state;
	struct rotate_limits limits;
	unsigned n_messages; /* that were begun on it */
	unsigned n_delivered; /* that SES took */
	int64_t opened_us; /* logged in */
	int64_t idle_since_us;
	bool stale; /* made from an old configuration: renew */
	bool rotate; /* the operator wants it renewed */
	bool replacement; /* CONNECTING: when it is logged in, another leaves */
	bool leaving; /* BUSY: QUIT when its message is done */
	enum histogram_close closing; /* why it leaves or is DRAINING */
	unsigned n_carried; /* that went through, whatever SES made of them */
	int64_t carried_us; /* when the last of them began; 0: none */
	int64_t sent_us; /* when the one under way, or the last, began */
	int64_t gap_us; /* how long the connection had been idle before it */
	bool lost; /* it did not end by a reply or by our QUIT... */
	enum loss loss; /* ...but by this */
	bool trial; /* of credentials that are not in force */

	struct pool *pool;
	struct relay *relay;
	struct upstream *upstream;
	unsigned number; /* conn= in the log */

	/* Getting connected. */
	struct resolver_addr addr;
	unsigned port_index;
	uint32_t ports_tried; /* bits by index */
	unsigned n_addrs_tried, n_addrs_silent; /* on this port */
	unsigned n_addrs_unusable; /* not of ses.source_address's family */
	bool resolving;
	/* Sent to see whether its port works again: no other will do. */
	bool scout;
	enum phase phase; /* where the last reply or loss met it */
	bool dropped; /* by us: it tells nothing of the port */
	int mss; /* TCP_MAXSEG; 0: the system's */
	bool mss_chosen; /* for all addresses that it tries */
	int64_t connect_started_us;
	char via[320]; /* "host[ip]:port" */

	struct conn *conn;
	struct client client;
	struct client_options client_options;
	struct reply_parser parser;
	enum client_state step; /* that it is in... */
	int64_t step_since_us; /* ...since then */
	bool logged_in;
	bool told_closed;

	/*
	 * The outcome of the message before, while it is not written yet.  The
	 * next one may begin, but its final dot waits: so a crash can cost one
	 * duplicate a connection, and never more.
	 */
	struct outbound_record *unrecorded;

	/* Large segments, see outbound_path.c. */
	struct loop_timer timer; /* the next look; before that, DNS */
	struct path_watch watch;
	bool watching; /* it was begun for this handshake or message */
	int64_t watch_since_us;
	bool dot_waits; /* until a segment of this size has passed: */
	uint32_t must_pass;
	bool path_stalled; /* given up, the next one has smaller segments */

	/* The message under way; NULL between. */
	struct attempt *attempt;
	struct dot_writer dot;
	uint64_t body_offset; /* content given to the socket so far */
	uint64_t dot_position; /* conn_written() beyond it: the dot has left */
	uint64_t body_end; /* conn_written() at it: all is handed over */
	bool body_queued; /* content and dot are in the output buffer */
	bool begun_early; /* BODY: a line has begun that is no reply to it */
	struct body large; /* chunk that is being read, or is next */
	bool reading; /* spool_read_large() is under way */
	uint64_t reading_id; /* for which message */
	bool orphan; /* closed while reading: free when it ends */
};

/* Starts to connect; ends in pool_on_ready() or pool_on_closed(). */
struct outbound *outbound_open(struct pool *pool, struct relay *relay,
    struct upstream *u, unsigned number);
/* IDLE only; takes the attempt, which ends in relay_settle(). */
void outbound_send(struct outbound *o, struct attempt *a);
/* IDLE only: QUIT; ends in pool_on_closed() within 2 s. */
void outbound_quit(struct outbound *o);
/* Now; a message under way is settled as lost. */
void outbound_drop(struct outbound *o, const char *reason);
/* The final dot is on its way or its reply awaited. */
bool outbound_at_dot(const struct outbound *o);

/* --- pool_ports.c, for outbound --- */

/* The port to try now, of those not in `tried`; -1 when all were tried. */
int pool_choose_port(
    struct pool *pool, const struct upstream *u, uint32_t tried);
/* It has worked and not failed since: one silent address is no proof. */
bool pool_port_is_proven(const struct pool *pool, const struct outbound *o);
void pool_port_works(struct pool *pool, const struct outbound *o);
/*
 * `may_pass`: it refused the session for now, which has to come twice to count
 * against the port.  `advice` may be NULL.
 */
void pool_port_failed(struct pool *pool, const struct outbound *o,
    bool may_pass, const char *reason, const char *advice);

/* pool_connects.c: an address was tried, and that is what became of it. */
void pool_count_connect(struct pool *pool, const struct outbound *o, bool ok);

/* --- pool_path.c, for outbound --- */

/* TCP_MAXSEG for a new connection; 0: the system's. */
int pool_choose_mss(struct pool *pool, const struct upstream *u);
/* Is it worth watching this connection? */
bool pool_path_is_judged(const struct pool *pool, const struct outbound *o);
bool pool_path_vouches(
    const struct pool *pool, const struct outbound *o, uint32_t size);
void pool_path_passed(
    struct pool *pool, const struct outbound *o, uint32_t size, bool full);
void pool_path_secured(struct pool *pool, const struct outbound *o);
/* It is given up; false: not to be helped by smaller segments. */
bool pool_path_stalled(
    struct pool *pool, const struct outbound *o, bool inbound, bool certain);
/* Not even TCP was to be had. */
void pool_path_no_connection(struct pool *pool);

/* --- between outbound.c, outbound_connect.c and outbound_path.c --- */

extern const struct conn_events outbound_events;
/* Ask for an address and connect to it; ends in on_connected or on_end. */
void outbound_try_connect(struct outbound *o);
/* DNS keeps silent: the last good answer will do. */
void outbound_on_impatience(struct outbound *o);
/* TCP was not to be had: the next address, the next port, or give up. */
void outbound_connect_failed(
    struct outbound *o, enum conn_end end, const char *reason);
/* Large segments may be lost from here on. */
void outbound_path_begin(struct outbound *o, enum path_stage stage);
/* The handshake is done. */
void outbound_path_secured(struct outbound *o);
/* SES has answered the dot: all of the content has passed. */
void outbound_path_answered(struct outbound *o);
/* Of o->timer. */
void outbound_on_timer(void *outbound);
/* The message that a crash would be the doing of. */
struct crash_mark outbound_enter(const struct outbound *o);
/* The deadline of the step that the dialogue is at, from now on. */
void outbound_set_deadline(struct outbound *o);
void outbound_note_step(struct outbound *o);
void outbound_free(void *outbound); /* a deferred call; nothing is under way */

/* --- outbound_content.c --- */

/* Hand more content to the socket, and the dot if it may go. */
void outbound_feed(struct outbound *o);
/* A large one: so that its head is there by the time of the 354. */
void outbound_read_ahead(struct outbound *o);
/* BODY becomes DOT when the kernel has all of it. */
void outbound_check_sent(struct outbound *o);

/* The connection is lost or unusable. */
void outbound_lose(struct outbound *o, enum loss loss, const char *detail);
/* The only way out. */
void outbound_finish(struct outbound *o, const struct verdict *verdict);

#endif
