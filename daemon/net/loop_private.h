/*
 * What the loop does for its own directory only: work at the end of the turn
 * for objects that live in it, and things that must be gone before it is.
 */
#ifndef NET_LOOP_PRIVATE_H
#define NET_LOOP_PRIVATE_H

#include "net/loop.h"

#include <sys/queue.h>

/* Embedded; on at most one of the loop's lists at a time. */
struct loop_hook {
	TAILQ_ENTRY(loop_hook) link;
	void (*fn)(struct loop_hook *hook);
	bool queued;
};

/*
 * fn runs once, at the end of this turn or at the latest in the next one,
 * which then does not wait for events.  Nothing happens if it is queued.
 */
void loop_queue_flush(struct loop *loop, struct loop_hook *hook);
void loop_unqueue_flush(struct loop *loop, struct loop_hook *hook);
/* fn runs in loop_free(), and must take the hook off. */
void loop_add_orphan(struct loop *loop, struct loop_hook *hook);
void loop_remove_orphan(struct loop *loop, struct loop_hook *hook);

/*
 * Before owners are called from an event: the clock is right, and the turn has
 * had work, so that on_turn will have seen it before the loop sleeps.
 */
void loop_wake(struct loop *loop);

/* Room for one read or one record; nobody keeps anything there. */
#define LOOP_SCRATCH_BYTES 65536
char *loop_scratch(struct loop *loop);

#endif
