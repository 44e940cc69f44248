/*
 * One append-only file of the spool, of either kind: written by the journal
 * thread, read by disk threads.
 *
 * Writing: `end` is where the next append goes; everything before it was
 * written whole.  Space is preallocated behind the end of the file
 * (FALLOC_FL_KEEP_SIZE), so a file always ends where its data ends.  A process
 * never appends to a segment that an earlier process wrote.
 *
 * Reading trusts nothing.  What is damaged is skipped up to the next line that
 * begins a record of this very file at this very place; pages that cannot be
 * read count as damage.
 */
#ifndef QUEUE_SEGMENT_H
#define QUEUE_SEGMENT_H

#include "queue/record.h"

#include <sys/uio.h>

#define SEGMENT_NAME_BUF 16
/* Nine digits: at one a second that would be 31 years. */
#define SEGMENT_NUMBER_MAX 999999999u

/* "000000001"; returns buf. */
const char *segment_name(uint32_t number, char buf[SEGMENT_NAME_BUF]);
/* Only what segment_name() makes, from 1 to SEGMENT_NUMBER_MAX. */
MUST_CHECK int segment_parse_name(const char *name, uint32_t *number);

/* --- writing --- */

struct segment {
	enum record_kind kind;
	int fd; /* -1: none */
	uint32_t number;
	uint64_t nonce;
	uint64_t end; /* bytes of data */
	uint64_t reserved; /* bytes preallocated, from the beginning */
	bool durable; /* false: syncs are left out */
};

/*
 * A new file with its header line; its directory entry is durable on return,
 * its content at the next segment_sync().  After a failure nothing is left.
 */
MUST_CHECK int segment_create(struct segment *g, int dirfd,
    enum record_kind kind, uint32_t number, uint64_t floor, bool durable,
    struct err *err);
/*
 * Preallocate up to `size` bytes in all.  File systems that cannot do it are
 * no failure; no space is.
 */
MUST_CHECK int segment_reserve(
    struct segment *g, uint64_t size, struct err *err);
/* Uses up the iovecs.  After a failure `end` is as before. */
MUST_CHECK int segment_append(
    struct segment *g, struct iovec *iov, int n, size_t len, struct err *err);
/* After a failure the file may be closed, never synced again. */
MUST_CHECK int segment_sync(struct segment *g, struct err *err);
/* Cut off, durably, what a failed append left behind `end`. */
MUST_CHECK int segment_rewind(struct segment *g, struct err *err);
/*
 * Cut off what stands behind `end`, give preallocated space back, and close;
 * fd is -1 then.
 */
void segment_seal(struct segment *g);
/* Remove one that is not needed, if that is possible. */
void segment_unlink(int dirfd, uint32_t number);
/* Give back the space that a crashed process had preallocated. */
void segment_trim(int dirfd, const char *name);

/* --- reading --- */

struct segment_reader {
	enum record_kind kind;
	int fd;
	uint32_t number;
	struct record_header header;
	bool has_nonce; /* the header, or a record, told it */
	bool unreadable; /* some page could not be read: never remove it */
	uint64_t size, pos;
	char *buf; /* holds [buf_pos, buf_pos + buf_len) of the file */
	size_t buf_size, buf_len;
	uint64_t buf_pos;
};

/*
 * -1 with err->code EPROTONOSUPPORT when a newer version wrote it, EINVAL when
 * it is not a regular file; nothing to close then.  A damaged header is no
 * failure.
 */
MUST_CHECK int segment_open(struct segment_reader *r, int dirfd,
    enum record_kind kind, uint32_t number, struct err *err);
void segment_close(struct segment_reader *r);

enum segment_item_kind {
	SEGMENT_RECORD, /* line and head are right, and the body if checked */
	SEGMENT_LINE, /* an outcome: text without its LF, not yet judged */
	SEGMENT_DAMAGE, /* offset and len are set */
	SEGMENT_TORN, /* unfinished, at the end; offset and len are set */
	SEGMENT_END,
};

struct segment_item {
	enum segment_item_kind kind;
	uint64_t offset, len;
	struct record_line line; /* id 0: none, in what is damaged */
	struct slice text; /* head, or outcome; until the next call */
};

/* Bodies above this length are checked only when asked for. */
#define SEGMENT_CHECK_BYTES (64u * 1024)

/* Arrivals: the next record, damage or end. */
void segment_next(
    struct segment_reader *r, bool check_bodies, struct segment_item *item);
/* Outcomes: the next line. */
void segment_next_line(struct segment_reader *r, struct segment_item *item);
/* `len` bytes at `pos`, within the file; unreadable pages are zeros. */
const char *segment_peek(struct segment_reader *r, uint64_t pos, size_t len);

/*
 * One whole record.  NULL with err->code EBADMSG when it is not what was
 * written (for good), else with the code of the failed call.
 */
struct message *segment_load(int dirfd, uint64_t id, struct spool_ref ref,
    struct record_extra *extra, struct err *err);
/* The same from a descriptor of its segment. */
struct message *segment_load_fd(int fd, uint64_t id, struct spool_ref ref,
    struct record_extra *extra, struct err *err);

#endif
