/*
 * Mail as JSON objects: the lines of control.h's protocol, made by the daemon
 * and, when that is down, by sesrelayctl from the spool's files.  No state.
 */
#ifndef REPORT_H
#define REPORT_H

#include "queue/inspect.h"
#include "queue/trace.h"

#include <jansson.h>

/* Byte XX becomes U+00XX, so any content survives the way through JSON. */
json_t *report_bytes(const char *data, size_t len);
/* As it is when it is UTF-8, else as report_bytes(); NULL is "". */
json_t *report_text(const char *s);
json_t *report_time(int64_t wall_us);
/* So many a second, to the hundredth. */
json_t *report_rate(double per_second);

/* What a queued message is like besides its envelope. */
struct report_queued {
	uint64_t id;
	const char *state; /* "ready", "waiting", "active", "held" */
	const char *rcpt_states; /* NULL: as the message has them */
	unsigned attempts;
	int64_t next_attempt_us; /* wall; 0: none is set */
	const char *last_reply; /* NULL: none */
	/* For when the message cannot be read. */
	uint64_t size;
	int64_t arrival_us; /* wall */
};
json_t *report_message(
    const struct report_queued *queued, const struct message *m);
/* "damaged" says what is wrong; the rest is what memory has. */
json_t *report_damaged(const struct report_queued *queued, const char *why);
/* With "error" when it is damaged. */
json_t *report_letter(const struct inspect_letter *letter);
/* {"content": ...} */
json_t *report_content(const char *data, size_t len);
/* {"id", "error", "code"}; `code` as in sysexits(3). */
json_t *report_error(const char *id, int code, const char *why);

/*
 * The story of one message; `put` takes the reference.  Says what it comes to:
 * is the message in the queue, and is it held there?
 */
struct report_fate {
	bool queued, held;
};
struct report_fate report_trace(struct trace *t, size_t i,
    void (*put)(void *ctx, json_t *object), void *ctx);
/* The last line of the story of one that is in the queue. */
json_t *report_in_queue(const struct report_queued *queued);

#endif
