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
#include "net/conn.h"
#include "net/resolver.h"
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
	unsigned n_addrs_tried; /* on this port */
	bool resolving;
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

	/* The message under way; NULL between. */
	struct attempt *attempt;
	struct dot_writer dot;
	uint64_t body_offset; /* content given to the socket so far */
	uint64_t dot_position; /* conn_written() beyond it: the dot has left */
	uint64_t body_end; /* conn_written() at it: all is handed over */
	bool body_queued; /* content and dot are in the output buffer */
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

/* --- pool.c, for outbound.c --- */

/* The port to try now, of those not in `tried`; -1 when all were tried. */
int pool_choose_port(
    struct pool *pool, const struct upstream *u, uint32_t tried);
/* Whether connecting and logging in by that port worked; true: that is news. */
bool pool_report_port(struct pool *pool, const struct outbound *o, bool ok);

/* --- between outbound.c and outbound_connect.c --- */

extern const struct conn_events outbound_events;
/* Ask for an address and connect to it; ends in on_connected or on_end. */
void outbound_try_connect(struct outbound *o);
/* TCP was not to be had: the next address, the next port, or give up. */
void outbound_connect_failed(
    struct outbound *o, enum conn_end end, const char *reason);
/* The only way out. */
void outbound_finish(struct outbound *o, const struct verdict *verdict);

#endif
