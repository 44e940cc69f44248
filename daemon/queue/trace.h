/*
 * A search for messages in all that a spool holds: outcomes, dead letters,
 * arrivals.  Text is a queue id, a Message-ID (with or without <>) or the id
 * that SES gave.  Runs in steps of some 0.1 s, on a disk thread of the daemon
 * or in sesrelayctl; reads only.
 */
#ifndef QUEUE_TRACE_H
#define QUEUE_TRACE_H

#include "queue/inspect.h"
#include "queue/record.h"

/* Messages that one search finds at most. */
#define TRACE_MAX 1000

enum trace_kind { TRACE_OUTCOME, TRACE_LETTER };

struct trace_event {
	int64_t time_us;
	enum trace_kind kind;
	struct record_outcome outcome; /* its slices are escaped */
	const struct inspect_letter *letter;
};

/* One message and what is known of it. */
struct trace_found {
	uint64_t id;
	const struct message *message; /* envelope; NULL: not there any more */
};

struct trace;

struct trace *trace_new(const char *directory, const char *text);
void trace_free(struct trace *t); /* NULL is legal */
/* false: it is done. */
bool trace_step(struct trace *t);
/* After the last step; by id, which is by arrival. */
size_t trace_n_found(const struct trace *t);
struct trace_found trace_get(const struct trace *t, size_t i);
/* Outcomes and letters of message i, by time. */
void trace_each(struct trace *t, size_t i,
    void (*fn)(void *ctx, const struct trace_event *event), void *ctx);
/* A search that could not see everything says why; NULL: it could. */
const char *trace_problem(const struct trace *t);

#endif
