/*
 * Between control.c (socket, clients, short verbs) and control_report.c (the
 * verbs that report on mail).
 */
#ifndef CONTROL_PRIVATE_H
#define CONTROL_PRIVATE_H

#include "daemon.h"
#include "net/conn.h"

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
	/* Goes on with the answer when the client has read; NULL: no need. */
	void (*resume)(void *ctx);
	void *answer;
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

void control_status(struct control_client *c, struct slice args);
void control_queue(struct control_client *c, struct slice args);
void control_show(struct control_client *c, struct slice args);

#endif
