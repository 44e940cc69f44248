/*
 * trace: the search of queue/trace.c, step by step on a disk thread, and then
 * the stories of what it found, with the queue's own word at the end.  Loop
 * thread but for run_step().
 */
#include "control_private.h"

#include "base/mem.h"

#include <stdlib.h>
#include <sysexits.h>

struct tracing {
	struct control_client *client;
	struct relay *relay;
	struct trace *trace;
	char *text;
	bool more;
	uint64_t n_steps;
	size_t next; /* story */
};

static void tracing_step(void *ctx);
static void story_step(void *ctx);

static void tracing_end(struct tracing *t)
{
	struct control_client *c = t->client;

	trace_free(t->trace);
	free(t->text);
	free(t);
	control_done(c);
}

static void put(void *ctx, json_t *object)
{
	control_put(ctx, object);
}

static void put_story(struct tracing *t, size_t i)
{
	uint64_t id = trace_get(t->trace, i).id;
	struct stub *stub = queue_find(t->relay->queue, id);
	struct report_queued queued;

	(void)report_trace(t->trace, i, put, t->client);
	if (stub == NULL)
		return;
	queued = control_queued(stub);
	control_put(t->client, report_in_queue(&queued));
}

static void story_step(void *ctx)
{
	struct tracing *t = ctx;

	while (t->client->conn != NULL && t->next < trace_n_found(t->trace)) {
		put_story(t, t->next++);
		if (!control_can_go_on(t->client, story_step))
			return;
	}
	if (trace_n_found(t->trace) == 0)
		control_error(t->client, EX_DATAERR,
		    "nothing is known of %s: it is no queue id, Message-ID or "
		    "SES message id of the queue, the dead letters or the "
		    "history",
		    t->text);
	else if (trace_problem(t->trace) != NULL)
		control_error(t->client, 1, "%s", trace_problem(t->trace));
	else
		control_ok(t->client);
	tracing_end(t);
}

static void run_step(void *ctx, const char *directory)
{
	struct tracing *t = ctx;

	if (t->trace == NULL)
		t->trace = trace_new(directory, t->text);
	t->more = trace_step(t->trace);
}

static void on_step(void *ctx)
{
	struct tracing *t = ctx;

	control_progress(t->client, ++t->n_steps);
	tracing_step(t);
}

static void tracing_step(void *ctx)
{
	struct tracing *t = ctx;

	if (t->client->conn == NULL)
		tracing_end(t);
	else if (t->more)
		spool_look(t->relay->spool, run_step, on_step, t);
	else
		story_step(t);
}

void control_trace(struct control_client *c, struct slice args)
{
	struct tracing *t;

	if (args.len == 0) {
		control_error(c, EX_USAGE, "trace TEXT");
		return;
	}
	t = xcalloc(1, sizeof *t);
	t->client = c;
	t->relay = c->daemon->relay;
	t->text = slice_dup(args);
	t->more = true;
	c->answer = t;
	tracing_step(t);
}
