/*
 * The queue: which message may go out when.  Pure memory: no files, no clock.
 *
 * It owns every stub; a stub is on exactly one list, and its state is that
 * membership:
 *   READY     FIFO lane, may go out now; a free retry returns to its head
 *   WAITING   heap by due time (monotonic us)
 *   INFLIGHT  given out by queue_take()
 *   HELD      no clock runs for it
 * With a million stubs no call takes long but queue_free() and queue_each().
 * Only the functions below move a stub; each ASSERTs the edge:
 *   NEW -> READY|WAITING|HELD; READY -> INFLIGHT|HELD|WAITING;
 *   WAITING -> READY|HELD; INFLIGHT -> READY|WAITING|HELD; HELD -> READY;
 *   any but NEW -> removed.
 */
#ifndef QUEUE_QUEUE_H
#define QUEUE_QUEUE_H

#include "queue/message.h"

struct queue;

#define QUEUE_WAKE_MAX 256

struct queue *queue_new(void);
void queue_free(struct queue *q); /* and every stub */

/* Takes the stub; its id must not be known yet. */
void queue_add_ready(struct queue *q, struct stub *s);
void queue_add_held(struct queue *q, struct stub *s);

/*
 * The head of the ready lane, now INFLIGHT; NULL when none is ready.  Stubs
 * that are due at now_us join the lane first, oldest due time first, and at
 * most QUEUE_WAKE_MAX a call.
 */
struct stub *queue_take(struct queue *q, int64_t now_us);
/* As queue_take() would choose, without taking. */
const struct stub *queue_peek(struct queue *q, int64_t now_us);
/* INFLIGHT back to the head of the lane: the attempt cost it nothing. */
void queue_untake(struct queue *q, struct stub *s);
/* INFLIGHT, READY -> WAITING until due_us. */
void queue_wait(struct queue *q, struct stub *s, int64_t due_us);
/* WAITING, INFLIGHT, HELD -> READY, at the tail. */
void queue_ready(struct queue *q, struct stub *s);
void queue_hold(struct queue *q, struct stub *s);
/* Off every list, forgotten and freed. */
void queue_remove(struct queue *q, struct stub *s);

/* Of the last attempt; cut and copied, NULL: there is none. */
void queue_set_reply(struct queue *q, struct stub *s, const char *text);

struct stub *queue_find(struct queue *q, uint64_t id);
/* Due time of the earliest WAITING stub; INT64_MAX when there is none. */
int64_t queue_next_due(const struct queue *q);
size_t queue_count(const struct queue *q, enum stub_state state);
size_t queue_total(const struct queue *q);
uint64_t queue_bytes(const struct queue *q);
/*
 * Earliest arrival_us among the stubs, rounded down to a second; INT64_MAX when
 * empty.
 */
int64_t queue_oldest(const struct queue *q);
/* The same among those that are not HELD. */
int64_t queue_oldest_moving(const struct queue *q);
/*
 * How many stubs arrived at since_us or later, to a second.  Takes as long as
 * there are seconds since then in which one did, however many stubs there are.
 */
uint64_t queue_younger(const struct queue *q, int64_t since_us);
/*
 * A piece of a walk over the stubs of one state, or of all (STUB_N_STATES), in
 * the order of their ids, which is that of arrival: looks at no more than `max`
 * stubs above *after, which is 0 at first and is moved on to the last one
 * looked at.  False when the walk is over.  `fn` may move and remove any stub,
 * and end the piece by returning false.  A stub that is in the queue all the
 * time is seen exactly once.
 */
bool queue_walk(struct queue *q, uint64_t *after, unsigned max,
    enum stub_state state, bool (*fn)(void *ctx, struct stub *s), void *ctx);
/*
 * Every stub of one state in the order of that list (WAITING: no order), or of
 * all states (STUB_N_STATES), at once; `fn` returning false ends it.  `fn` may
 * not move stubs.
 */
void queue_each(struct queue *q, enum stub_state state,
    bool (*fn)(void *ctx, struct stub *s), void *ctx);
const char *stub_state_name(enum stub_state state);

#endif
