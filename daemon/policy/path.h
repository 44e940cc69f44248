/*
 * MTU black holes: large segments vanish on the way, small ones pass, and
 * nobody is told.  Connecting and the first commands work; then the handshake
 * waits for a certificate that never arrives, or the content stays
 * unacknowledged.
 *
 * A path_watch judges one connection from samples of its TCP state that are
 * taken while it should move.  A path_mss keeps for all of them which segment
 * size is in force: that of the system until stalls speak against it, then
 * 1200, then 536.  What a smaller size was raised for must be seen to pass with
 * it before it is called a finding; when no size helps, it was something else.
 * A finding is put to the test again after 2 h, later less often.
 */
#ifndef POLICY_PATH_H
#define POLICY_PATH_H

#include "base/base.h"

/* Segments of this size or less pass everywhere. */
#define PATH_SMALL 536

/* --- one connection --- */

struct path_sample {
	int64_t now_us;
	uint64_t acked, received; /* bytes, since the connection began */
	uint32_t unacked; /* bytes that the kernel holds for the peer */
	uint32_t in_flight; /* segments sent and not acknowledged */
	uint32_t retransmits; /* of the first of these, by time-out, in a row */
	uint32_t sacked; /* of these, that the peer has behind a gap */
	uint32_t mss; /* payload of a full segment */
	uint32_t window; /* the peer's; 0: it does not read */
	uint32_t out_of_order; /* segments that came behind a gap */
};

enum path_stage {
	PATH_HANDSHAKE, /* either side may wait for the other's segments */
	PATH_BODY, /* we send */
};

enum path_judgement {
	PATH_GOES_ON,
	PATH_SUSPECT, /* as if large segments vanished; or the peer is dead */
	PATH_CERTAIN, /* others pass, this one does not */
};

struct path_watch {
	enum path_stage stage;
	uint64_t acked_at_first;
	int64_t still_since_us; /* nothing has moved since */
	struct path_sample last;
	bool inbound; /* whose segments are missing: those of the peer */
	uint32_t passed; /* the largest segment that was acknowledged */
};

/* Keeps what has passed before on this connection. */
void path_watch_begin(struct path_watch *w, enum path_stage stage,
    const struct path_sample *sample);
enum path_judgement path_watch_look(
    struct path_watch *w, const struct path_sample *sample);

/* --- all of them --- */

struct path_mss {
	unsigned level; /* of path_sizes, for new connections */
	bool confirmed; /* what vanished has passed at this level */
	bool inbound; /* whose large segments vanished */
	unsigned suspicions; /* at level 0, of different connections */
	int64_t idle_until_us; /* nothing has helped: let it be until then */
	int64_t retry_us, retry_wait_us; /* is the hole still there? */
	bool trying; /* a connection without a limit is out to see */
	/* What has passed at this level, and when. */
	uint32_t passed;
	int64_t passed_us;
};

enum path_news {
	PATH_NO_NEWS,
	PATH_FOUND, /* it is a black hole, and this size passes */
	PATH_CURED, /* it is none any more */
};

void path_mss_init(struct path_mss *m);
/* From the last run; 0: nothing. */
void path_mss_restore(struct path_mss *m, int mss, int64_t now_us);
/* For a new connection; 0: the system's.  One that is given 0 while another
 * size is in force is the trial, and must end in one of the calls below. */
int path_mss_choose(struct path_mss *m, int64_t now_us);
/* The size in force, as found; 0: the system's. */
int path_mss_found(const struct path_mss *m);
/* Is it worth judging connections now? */
bool path_mss_active(const struct path_mss *m, int64_t now_us);
/* Has a segment that large passed lately, on a connection like that? */
bool path_mss_vouches(
    const struct path_mss *m, int mss, uint32_t size, int64_t now_us);
/* A connection with `mss` was given up.  False: lower won't be tried. */
bool path_mss_on_stall(
    struct path_mss *m, int mss, bool inbound, bool certain, int64_t now_us);
/* A segment of that size was acknowledged; `full`: the largest it may have. */
enum path_news path_mss_on_passed(
    struct path_mss *m, int mss, uint32_t size, bool full, int64_t now_us);
/* The peer's side of the handshake has arrived. */
enum path_news path_mss_on_secured(struct path_mss *m, int mss, int64_t now_us);
/* Not even a connection was to be had: what stalled before may have been
 * the same trouble. */
void path_mss_on_no_connection(struct path_mss *m);
/* A connection with `mss` ended, whatever else it showed. */
void path_mss_on_closed(struct path_mss *m, int mss);

#endif
