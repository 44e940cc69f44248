/*
 * Between pool.c (lists, dispatch, life), pool_ports.c (which port is tried),
 * pool_path.c (which segment size), pool_events.c (what a connection's beginning
 * and end teach), pool_renew.c (which connections are renewed) and pool_trial.c
 * (new options, and credentials that have to prove themselves).
 */
#ifndef RELAY_POOL_PRIVATE_H
#define RELAY_POOL_PRIVATE_H

#include "policy/path.h"
#include "policy/ports.h"
#include "policy/sizing.h"
#include "relay/outbound.h"
#include "relay/pool.h"

struct pool {
	struct relay *relay;
	struct upstream *upstream;
	struct sizing sizing;
	struct rotate_learned learned;
	/* Told by SES last: a session ended after so many; 0: none. */
	unsigned cap_messages;
	int64_t cap_us;
	int64_t renewal_us; /* what QUIT and a login take, smoothed */
	int64_t sent_us; /* when a message was last given to a connection */
	int64_t surveyed_us; /* when renewals were last looked for */
	TAILQ_HEAD(pool_list, outbound) lists[POOL_N_STATES];
	unsigned counts[POOL_N_STATES];
	struct ports ports; /* of `upstream` */
	struct path_mss path;
	int port_in_use; /* its number; 0: none has worked yet */
	struct outbound *scout; /* CONNECTING, see pool_ports.c; or NULL */
	struct pool_connects connects[2 * POOL_MAX_PORTS];
	unsigned n_connects;
	unsigned last_number;
	bool stopping;
	struct loop_timer timer;
	char last_error[1400];
	/* New options whose credentials SES has not accepted yet, or NULL. */
	struct upstream *candidate;
	struct outbound *trial; /* the connection that tries them, or NULL */
	struct gate trial_gate; /* closed while they wait after a refusal */
	struct loop_timer trial_timer;
	char trial_error[1400]; /* why they are not in force yet */
};

/* The only mover; checks that the edge is legal. */
void pool_move(struct pool *pool, struct outbound *o, enum pool_state state);
/* How many there may be: what is configured, or less, as SES has shown. */
unsigned pool_limit(const struct pool *pool);
/* A new connection, CONNECTING. */
struct outbound *pool_open(struct pool *pool, struct upstream *u);

/* --- pool_renew.c --- */

/* Once a turn, before messages are given out. */
void pool_renew(struct pool *pool, int64_t now);
/* A connection that was opened to replace another is IDLE. */
void pool_on_replacement(struct pool *pool, struct outbound *o, int64_t now);
/*
 * A connection that has carried nothing yet is wanted although others are idle;
 * false: none can be had.
 */
bool pool_await_fresh(struct pool *pool);
/* When an idle connection is next due. */
int64_t pool_renew_next(const struct pool *pool, int64_t now);
/* The limits that hold by what is known now. */
void pool_plan(struct pool *pool, struct outbound *o);
void pool_plan_all(struct pool *pool);

/* --- pool_ports.c --- */

/* Other ports, another endpoint: nothing is known. */
void pool_ports_reset(struct pool *pool);
/* Sends a scout if one is due and may go; when to look again, INT64_MAX: not by
 * time alone. */
int64_t pool_ports_scout(struct pool *pool, size_t backlog, int64_t now_us);
/* Connections CONNECTING that no mail waits for. */
unsigned pool_scout_count(const struct pool *pool);
/* The scout is logged in: from now on it is like any other. */
void pool_scout_arrived(struct pool *pool, struct outbound *o);
/* It is closed, and on no list any more. */
void pool_scout_lost(
    struct pool *pool, struct outbound *o, const struct verdict *v);

/* --- pool_trial.c --- */

void pool_trial_init(struct pool *pool);
void pool_trial_stop(struct pool *pool);
void pool_trial_fini(struct pool *pool);
/* Connections CONNECTING that are not there to carry mail. */
unsigned pool_trial_count(const struct pool *pool);
/* The trial's connection is logged in: what it was made from is in force. */
void pool_trial_accepted(struct pool *pool, struct outbound *o);
/* A connection with o->trial set is closed, and is on no list any more. */
void pool_trial_closed(
    struct pool *pool, struct outbound *o, const struct verdict *v);
/*
 * SES has refused what is in force, or does so for the time being: what else
 * is there?  New credentials that waited for a trial, or those that are in
 * their sources by now, are in force at once.
 */
void pool_seek_credentials(struct pool *pool);

#endif
