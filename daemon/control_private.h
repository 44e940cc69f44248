/*
 * Between control.c (socket, clients, short verbs) and the verbs:
 *
 *   control_report.c   status, metrics; with control_upstream.c
 *   control_top.c      top
 *   control_connections.c  connections
 *   control_queue.c    queue, show
 *   control_operate.c  retry, hold, release, delete, pause, resume
 *   control_drain.c    drain
 *   control_failed.c   failed
 *   control_requeue.c  requeue
 *   control_rotate.c   rotate
 *   control_trace.c    trace
 *
 * A verb that is not done at once keeps its state in `answer` and goes on by
 * completions of the spool, or by control_yield(); it ends by control_done().
 * When the client goes, `resume` is called, if it is set: conn is NULL then.
 */
#ifndef CONTROL_PRIVATE_H
#define CONTROL_PRIVATE_H

#include "daemon.h"
#include "net/conn.h"
#include "net/loop.h"
#include "report.h"

#include <jansson.h>
#include <sys/queue.h>
#include <sys/types.h>

struct control_client {
	TAILQ_ENTRY(control_client) link;
	struct control *control;
	struct daemon *daemon;
	struct conn *conn; /* NULL: gone, an answer is still under way */
	uid_t uid;
	bool busy; /* an answer is under way */
	/* Goes on with the answer; NULL: something else will. */
	void (*resume)(void *ctx);
	void *answer;
	struct loop_timer turn; /* calls it */
	int64_t told_us; /* of the last sign of life */
};

/* One line of JSON; takes the reference. */
void control_put(struct control_client *c, json_t *object);
/* The end of an answer, within the verb's own call... */
void control_ok(struct control_client *c);
PRINTF(3, 4)
void control_error(struct control_client *c, int code, const char *fmt, ...);
/* ...and after it, when it ended later: the next request is served. */
void control_done(struct control_client *c);
/* false: `resume` is called with c->answer when the client has read. */
bool control_can_go_on(struct control_client *c, void (*resume)(void *ctx));

/* `resume` is called in another turn, after delay_us, or when the client goes. */
void control_yield(
    struct control_client *c, int64_t delay_us, void (*resume)(void *ctx));
/* A sign of life, twice a second at most: {"progress": n}. */
void control_progress(struct control_client *c, uint64_t n);

void control_status(struct control_client *c, struct slice args);
void control_connections(struct control_client *c, struct slice args);
void control_top(struct control_client *c, struct slice args);
void control_metrics(struct control_client *c, struct slice args);
void control_queue(struct control_client *c, struct slice args);
void control_show(struct control_client *c, struct slice args);
void control_retry(struct control_client *c, struct slice args);
void control_hold(struct control_client *c, struct slice args);
void control_release(struct control_client *c, struct slice args);
void control_delete(struct control_client *c, struct slice args);
void control_pause(struct control_client *c, struct slice args);
void control_resume(struct control_client *c, struct slice args);
void control_drain(struct control_client *c, struct slice args);
void control_failed(struct control_client *c, struct slice args);
void control_requeue(struct control_client *c, struct slice args);
void control_rotate(struct control_client *c, struct slice args);
void control_trace(struct control_client *c, struct slice args);

/* What `status` says (control_report.c). */
json_t *control_state(struct daemon *d);
/* One object for each connection, in order (control_connections.c). */
json_t *control_connection_list(struct daemon *d);
/* What `status` says of SES (control_upstream.c). */
json_t *control_upstream(const struct daemon *d);
/* The memory's side of a queued message (control_queue.c). */
struct report_queued control_queued(const struct stub *stub);

/* Ids of a request (control_operate.c). */
struct control_ids {
	struct control_id {
		char *word;
		uint64_t id; /* 0: the word is none */
		bool found;
	} * items;
	size_t n;
	bool all; /* --all */
};
/* false: there was none, and the request has been answered so. */
bool control_ids_read(
    struct control_ids *ids, struct control_client *c, struct slice args);
void control_ids_fini(struct control_ids *ids);

#endif
