/*
 * Looking at a spool without being its daemon: for sesrelayctl, when that is
 * down.  Reads only, takes no lock, and may run while a daemon works: what
 * comes and goes meanwhile is seen or not, damage that is being written is
 * passed over.
 */
#ifndef QUEUE_INSPECT_H
#define QUEUE_INSPECT_H

#include "queue/message.h"

struct inspect_message {
	const struct message *message; /* envelope, size, arrival, ref */
	bool held;
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
 * Calls fn for every outcome line of an id, or of all (id 0), oldest first:
 * the history that trace searches.  The line is as in queue/record.h, without
 * its checksum; it is not terminated by NUL.
 */
MUST_CHECK int inspect_outcomes(const char *directory, uint64_t id,
    bool (*fn)(void *ctx, const char *line, size_t len), void *ctx,
    struct err *err);

#endif
