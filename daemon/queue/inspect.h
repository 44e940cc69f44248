/*
 * Looking at a spool's files: for sesrelayctl, when the daemon is down, and for
 * the daemon's disk threads (spool_look()) when it lists mail for the operator.
 * Reads only, takes no lock, and may run while a daemon works: what comes and
 * goes meanwhile is seen or not, damage that is being written is passed over.
 */
#ifndef QUEUE_INSPECT_H
#define QUEUE_INSPECT_H

#include "queue/message.h"

struct inspect_message {
	const struct message *message; /* envelope, size, arrival, ref */
	bool held;
	const char *held_reason; /* NULL: not known */
};

/*
 * Calls fn for every live message, in the order of arrival; false from fn ends
 * it.  `fn` may keep nothing.  trouble (may be NULL) gets a sentence for
 * everything that was damaged or not readable.
 */
MUST_CHECK int inspect_spool(const char *directory,
    bool (*fn)(void *ctx, const struct inspect_message *found),
    void (*trouble)(void *ctx, const char *text), void *ctx, struct err *err);

/*
 * One message with its content, unless that is large; NULL with the reason.
 * Its recipients have the states of `found`.
 */
struct message *inspect_load(
    const char *directory, const struct message *found, struct err *err);
/* `len` bytes of large content at `offset`, appended to *out. */
MUST_CHECK int inspect_read_large(const char *directory,
    const struct message *m, uint64_t offset, size_t len, struct body *out,
    struct err *err);

/*
 * Envelopes of many messages, without a look at their content.  `message` is
 * set for each, the caller's from then on, or NULL with the reason in `err`.
 */
struct inspect_head {
	uint64_t id;
	struct spool_ref ref;
	struct message *message;
	struct err err;
};
void inspect_heads(const char *directory, struct inspect_head *heads, size_t n);

/*
 * A dead letter: failed/NAME.  The message's recipients are those who were
 * given up, its size that of the content, which begins at content_at.
 */
struct inspect_letter {
	char *name; /* "0006543A1B2C3D4E.eml", "....2.eml" */
	int64_t time_us; /* when they were given up */
	char *reason, *reply; /* NULL: none */
	struct message *message; /* NULL: see `err` */
	uint64_t content_at;
	struct err err;
};
/* Names of all dead letters, in the order of their ids. */
struct inspect_names {
	char **items;
	size_t n, size;
};
MUST_CHECK int inspect_letter_names(
    const char *directory, struct inspect_names *names, struct err *err);
void inspect_names_fini(struct inspect_names *names);
/* The id that a name begins with; -1: it is no name of a letter. */
MUST_CHECK int inspect_letter_id(const char *name, uint64_t *id);
/* Takes no part of `name`; what is damaged has message NULL and err set. */
void inspect_letter_read(
    const char *directory, const char *name, struct inspect_letter *letter);
void inspect_letter_fini(struct inspect_letter *letter);
/* `len` bytes of the content at `offset`, appended to *out. */
MUST_CHECK int inspect_letter_content(const char *directory,
    const struct inspect_letter *letter, uint64_t offset, size_t len,
    struct body *out, struct err *err);

#endif
