/*
 * Messages that crashed the daemon, counted over restarts.
 *
 * The file SPOOL/crashed has a line for each crash:
 *
 *   ID WORD
 *
 * ID is the message that the crashing thread was working on (16 upper-case
 * hexadecimal digits), WORD what it did with it: read (by the start scan),
 * load, send, settle, bury or copy (by compaction).  The lines are appended by
 * the handler of the crash (base/crash.h), so nothing protects them; what is
 * not such a line is skipped.  When a start has read the spool, the file is
 * replaced by one without the messages that are not there any more, if there
 * are such; and so it is without a message that is released: that begins anew.
 *
 * With MARKS_ENOUGH lines a message is quarantined: held; if as many of them
 * say "read", its record is not decoded any more but set aside in failed/ like
 * damage; if as many say "copy", its segment is not compacted in this process.
 */
#ifndef QUEUE_SPOOL_MARKS_H
#define QUEUE_SPOOL_MARKS_H

#include "base/crash.h"
#include "base/slice.h"

#define MARKS_ENOUGH 3
/* More of the file is not looked at. */
#define MARKS_FILE_MAX (64u * 1024)

/* Of one message: how often, at what. */
struct spool_mark {
	uint64_t id;
	unsigned n[CRASH_N_WORKS];
	bool alive; /* met by the scan */
};

/* Ascending by id; zeroed is empty. */
struct spool_marks {
	struct spool_mark *items;
	size_t n;
};

void marks_fini(struct spool_marks *marks);
/* Counts the lines of a file. */
void marks_parse(struct spool_marks *marks, struct slice text);
void marks_copy(struct spool_marks *to, const struct spool_marks *from);
struct spool_mark *marks_find(const struct spool_marks *marks, uint64_t id);
void marks_remove(struct spool_marks *marks, uint64_t id);
/* The file anew; free(3). */
char *marks_format(const struct spool_marks *marks, size_t *len);
unsigned mark_total(const struct spool_mark *mark);
/* What it was done most often: "sent", "read at the start"; for a sentence. */
const char *mark_words(const struct spool_mark *mark);

#endif
