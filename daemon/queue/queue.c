/*
 * The queue: lanes, the heap of due times, the index by id, the seconds of
 * arrival, and counts.
 *
 * It owns every stub.  A stub's state and its place change together, in
 * place_remove() and place_add() alone; every public function that moves a
 * stub asserts first that the edge is one of those in the header, so a stub is
 * on exactly one list at any time.  Pure memory, no clock: `now` is given.
 * Loop thread only.
 */
#include "queue/queue.h"

#include "base/clock.h"
#include "base/mem.h"
#include "queue/idmap.h"
#include "queue/reply.h"

#include <stdlib.h>

TAILQ_HEAD(stub_list, stub);

struct queue {
	struct stub_list lanes[STUB_N_STATES]; /* WAITING's stays empty */
	struct heap waiting;
	size_t counts[STUB_N_STATES];
	uint64_t bytes;
	struct idmap by_id; /* stub */
	/* By second: how many; [1] of those that are HELD. */
	struct idmap arrivals[2];
	struct reply_pool replies;
};

#define FROM(state) (1u << (state))
/* Seconds of a monotonic clock may be negative, keys may not. */
#define SECOND_BIAS (UINT64_C(1) << 62)

struct queue *queue_new(void)
{
	struct queue *q = xcalloc(1, sizeof(*q));

	for (int i = 0; i < STUB_N_STATES; i++)
		TAILQ_INIT(&q->lanes[i]);
	heap_init(&q->waiting);
	return q;
}

static struct stub *stub_of(uint64_t value)
{
	return (struct stub *)(uintptr_t)value;
}

void queue_free(struct queue *q)
{
	struct idmap_slot slot = { 0 };

	if (q == NULL)
		return;
	while (idmap_next(&q->by_id, slot.id, &slot))
		stub_free(stub_of(slot.value));
	idmap_fini(&q->by_id);
	idmap_fini(&q->arrivals[0]);
	idmap_fini(&q->arrivals[1]);
	reply_pool_fini(&q->replies);
	heap_fini(&q->waiting);
	free(q);
}

static void place_remove(struct queue *q, struct stub *s)
{
	if (s->state == STUB_WAITING)
		heap_remove(&q->waiting, &s->due);
	else if (s->state != STUB_NEW)
		TAILQ_REMOVE(&q->lanes[s->state], s, link);
	if (s->state != STUB_NEW)
		q->counts[s->state]--;
	s->state = STUB_NEW;
}

static void place_add(struct queue *q, struct stub *s, enum stub_state state)
{
	ASSERT(s->state == STUB_NEW && state != STUB_WAITING);
	TAILQ_INSERT_TAIL(&q->lanes[state], s, link);
	s->state = (uint8_t)state;
	q->counts[state]++;
}

static uint64_t second_of(int64_t arrival_us)
{
	int64_t second = arrival_us / US_PER_S;

	/* Down, also below 0. */
	if (second * US_PER_S > arrival_us)
		second--;
	return (uint64_t)second + SECOND_BIAS;
}

static void count_arrival(
    struct queue *q, const struct stub *s, bool held, int change)
{
	uint64_t second = second_of(s->arrival_us), n = 0;
	struct idmap *arrivals = &q->arrivals[held];

	(void)idmap_get(arrivals, second, &n);
	ASSERT(change > 0 || n > 0);
	n += (uint64_t)change;
	if (n > 0)
		idmap_put(arrivals, second, n);
	else
		(void)idmap_remove(arrivals, second, NULL);
}

static void move(
    struct queue *q, struct stub *s, unsigned from, enum stub_state to)
{
	bool was_held = s->state == STUB_HELD, held = to == STUB_HELD;

	ASSERT(FROM(s->state) & from);
	if (was_held != held) {
		count_arrival(q, s, was_held, -1);
		count_arrival(q, s, held, 1);
	}
	place_remove(q, s);
	place_add(q, s, to);
}

static void add(struct queue *q, struct stub *s, enum stub_state state)
{
	ASSERT(s->state == STUB_NEW && queue_find(q, s->id) == NULL);
	idmap_put(&q->by_id, s->id, (uint64_t)(uintptr_t)s);
	count_arrival(q, s, state == STUB_HELD, 1);
	q->bytes += s->size;
	place_add(q, s, state);
}

void queue_add_ready(struct queue *q, struct stub *s)
{
	add(q, s, STUB_READY);
}

void queue_add_held(struct queue *q, struct stub *s)
{
	add(q, s, STUB_HELD);
}

static struct stub *waiting_head(const struct queue *q)
{
	struct heap_item *it = heap_peek(&q->waiting);

	return it != NULL ? CONTAINER_OF(it, struct stub, due) : NULL;
}

/* A long pause may make them all due at once: the rest has time. */
static void wake_due(struct queue *q, int64_t now_us)
{
	struct stub *s;

	for (unsigned n = 0; n < QUEUE_WAKE_MAX; n++) {
		s = waiting_head(q);
		if (s == NULL || s->due.key > now_us)
			return;
		move(q, s, FROM(STUB_WAITING), STUB_READY);
	}
}

struct stub *queue_take(struct queue *q, int64_t now_us)
{
	struct stub *s;

	wake_due(q, now_us);
	s = TAILQ_FIRST(&q->lanes[STUB_READY]);
	if (s != NULL)
		move(q, s, FROM(STUB_READY), STUB_INFLIGHT);
	return s;
}

const struct stub *queue_peek(struct queue *q, int64_t now_us)
{
	wake_due(q, now_us);
	return TAILQ_FIRST(&q->lanes[STUB_READY]);
}

void queue_untake(struct queue *q, struct stub *s)
{
	ASSERT(s->state == STUB_INFLIGHT);
	place_remove(q, s);
	TAILQ_INSERT_HEAD(&q->lanes[STUB_READY], s, link);
	s->state = STUB_READY;
	q->counts[STUB_READY]++;
}

void queue_wait(struct queue *q, struct stub *s, int64_t due_us)
{
	ASSERT(FROM(s->state) & (FROM(STUB_INFLIGHT) | FROM(STUB_READY)));
	place_remove(q, s);
	heap_item_init(&s->due);
	heap_push(&q->waiting, &s->due, due_us);
	s->state = STUB_WAITING;
	q->counts[STUB_WAITING]++;
}

void queue_ready(struct queue *q, struct stub *s)
{
	move(q, s, FROM(STUB_WAITING) | FROM(STUB_INFLIGHT) | FROM(STUB_HELD),
	    STUB_READY);
}

void queue_hold(struct queue *q, struct stub *s)
{
	move(q, s, FROM(STUB_READY) | FROM(STUB_WAITING) | FROM(STUB_INFLIGHT),
	    STUB_HELD);
}

void queue_remove(struct queue *q, struct stub *s)
{
	ASSERT(s->state != STUB_NEW);
	count_arrival(q, s, s->state == STUB_HELD, -1);
	place_remove(q, s);
	(void)idmap_remove(&q->by_id, s->id, NULL);
	ASSERT(q->bytes >= s->size);
	q->bytes -= s->size;
	stub_free(s);
}

void queue_set_reply(struct queue *q, struct stub *s, const char *text)
{
	const char *old = s->last_reply;

	s->last_reply = text != NULL ? reply_share(&q->replies, text) : NULL;
	reply_drop(old);
}

struct stub *queue_find(struct queue *q, uint64_t id)
{
	uint64_t value;

	return idmap_get(&q->by_id, id, &value) ? stub_of(value) : NULL;
}

int64_t queue_next_due(const struct queue *q)
{
	const struct stub *s = waiting_head(q);

	return s != NULL ? s->due.key : INT64_MAX;
}

size_t queue_count(const struct queue *q, enum stub_state state)
{
	ASSERT(state < STUB_N_STATES);
	return q->counts[state];
}

size_t queue_total(const struct queue *q)
{
	return q->by_id.n;
}

uint64_t queue_bytes(const struct queue *q)
{
	return q->bytes;
}

static int64_t earliest(const struct idmap *arrivals)
{
	struct idmap_slot slot;

	if (!idmap_next(arrivals, 0, &slot))
		return INT64_MAX;
	return ((int64_t)slot.id - (int64_t)SECOND_BIAS) * US_PER_S;
}

int64_t queue_oldest_moving(const struct queue *q)
{
	return earliest(&q->arrivals[0]);
}

int64_t queue_oldest(const struct queue *q)
{
	int64_t held = earliest(&q->arrivals[1]);
	int64_t moving = queue_oldest_moving(q);

	return held < moving ? held : moving;
}

uint64_t queue_younger(const struct queue *q, int64_t since_us)
{
	uint64_t n = 0;

	for (size_t i = 0; i < ARRAY_LEN(q->arrivals); i++) {
		struct idmap_slot slot = { .id = second_of(since_us) - 1 };

		while (idmap_next(&q->arrivals[i], slot.id, &slot))
			n += slot.value;
	}
	return n;
}

bool queue_walk(struct queue *q, uint64_t *after, unsigned max,
    enum stub_state state, bool (*fn)(void *ctx, struct stub *s), void *ctx)
{
	struct idmap_slot slot;

	ASSERT(max > 0);
	while (idmap_next(&q->by_id, *after, &slot)) {
		struct stub *s = stub_of(slot.value);

		if (max-- == 0)
			return true;
		*after = slot.id;
		if ((state == STUB_N_STATES || s->state == state) &&
		    !fn(ctx, s))
			return true;
	}
	return false;
}

void queue_each(struct queue *q, enum stub_state state,
    bool (*fn)(void *ctx, struct stub *s), void *ctx)
{
	struct idmap_slot slot = { 0 };
	struct stub *s;

	if (state == STUB_N_STATES) {
		while (idmap_next(&q->by_id, slot.id, &slot))
			if (!fn(ctx, stub_of(slot.value)))
				return;
	} else if (state == STUB_WAITING) {
		for (size_t i = 0; i < q->waiting.n; i++) {
			struct heap_item *it = q->waiting.items[i];

			if (!fn(ctx, CONTAINER_OF(it, struct stub, due)))
				return;
		}
	} else {
		TAILQ_FOREACH (s, &q->lanes[state], link)
			if (!fn(ctx, s))
				return;
	}
}

const char *stub_state_name(enum stub_state state)
{
	static const char *const names[STUB_N_STATES] = {
		[STUB_NEW] = "new",
		[STUB_READY] = "ready",
		[STUB_WAITING] = "waiting",
		[STUB_INFLIGHT] = "active",
		[STUB_HELD] = "held",
	};

	ASSERT(state < STUB_N_STATES);
	return names[state];
}
