/*
 * What the spool's files say: text, version 1.  Pure: bytes in, bytes out.
 *
 * Every file begins with a header line (all fixed-width):
 *
 *   sesrelayd-arrivals 1 NONCE FLOOR CHECK
 *
 * NONCE is random for each file, FLOOR the highest id given before it was
 * made.  A record of an arrivals segment is
 *
 *   message 1 NONCE SEGMENT OFFSET ID HEADLEN BODYLEN HEADSUM BODYSUM CHECK
 *   time 2026-11-21T10:00:01.123456Z       the head: one `key value` a line,
 *   clock 00001795257601123456             values escaped (record_escape)
 *   peer localhost[127.0.0.1]
 *   helo app
 *   from user@example.com
 *   8bit                                   the client said BODY=8BITMIME
 *   message-id a@b
 *   held                                   when it was copied while held
 *   notice                                 of a failure, and ours
 *   large SIZE SUM                         the content is in large/ID
 *   rcpt p you@example.com                 state as enum rcpt_state
 *   orig root                              what that was to the client
 *   ...content, exactly as it will be sent...
 *   end ID
 *
 * The line that begins it names the file's nonce and its own place, so text
 * that quotes a record is never taken for one.  `time` is the wall clock's,
 * `clock` the spool clock's in microseconds (spool_clock.h; heads of earlier
 * versions have none, their age is by `time`).  Sums are XXH3-64; CHECK is
 * that of the line before it.  Keys that a reader does not know are skipped.
 *
 * An outcome is one line, closed by its checksum:
 *
 *   TIME ID EVENT RCPTS end|- DSN <MESSAGE-ID> REPLY... CHECK
 *
 * RCPTS are positions in the envelope ("0-3,7"), "*" for all; "end" says that
 * nothing of the message is pending any more.  A line whose event a reader
 * does not know is skipped.
 *
 * Decoders treat their input as hostile: any bytes, any length.
 */
#ifndef QUEUE_RECORD_H
#define QUEUE_RECORD_H

#include "base/slice.h"
#include "queue/message.h"

#define RECORD_HEADER_LEN 72
#define RECORD_LINE_LEN 139
#define RECORD_END_LEN 21
#define RECORD_HEAD_MAX (4u * 1024 * 1024)
#define RECORD_BODY_MAX (16u * 1024 * 1024)

/* A growing buffer of text; zeroed is empty. */
struct record_buf {
	char *data;
	size_t len, size;
};

void record_buf_fini(struct record_buf *b);
char *record_buf_reserve(struct record_buf *b, size_t more);
void record_buf_append(struct record_buf *b, const void *data, size_t len);

uint64_t record_sum(const void *data, size_t len);
/* The same in parts: opaque, from record_sum_new(), freed by the last call. */
struct record_summer;
struct record_summer *record_sum_new(void);
void record_sum_update(struct record_summer *s, const void *data, size_t len);
uint64_t record_sum_value(const struct record_summer *s);
void record_sum_free(struct record_summer *s);

/*
 * Control bytes, DEL and backslash as \xNN; bytes above 0x7f stay.  With
 * `max`, at most so many bytes of the input are used.  A word has its blanks
 * and angle brackets escaped too.
 */
void record_escape(struct record_buf *out, struct slice in, size_t max);
void record_escape_word(struct record_buf *out, struct slice in, size_t max);
/* NULL when the text is not what these make; free(3) it. */
char *record_unescape(struct slice in);

/* "2026-11-21T10:00:01.123456Z", 27 bytes. */
#define RECORD_TIME_LEN 27
void record_encode_time(int64_t time_us, char buf[RECORD_TIME_LEN + 1]);
MUST_CHECK int record_decode_time(struct slice text, int64_t *time_us);

/* --- the first line of a file --- */

enum record_kind { RECORD_ARRIVALS, RECORD_OUTCOMES };

struct record_header {
	uint64_t nonce, floor;
};

enum record_verdict {
	RECORD_OK,
	RECORD_BAD,
	RECORD_NEWER, /* of a version that we do not know */
};

void record_encode_header(enum record_kind kind,
    const struct record_header *header, char buf[RECORD_HEADER_LEN]);
enum record_verdict record_decode_header(
    enum record_kind kind, struct slice text, struct record_header *header);

/* --- arrivals --- */

struct record_line {
	uint64_t nonce;
	struct spool_ref ref;
	uint64_t id;
	uint32_t head_len, body_len;
	uint64_t head_sum, body_sum;
};

void record_encode_line(
    const struct record_line *line, char buf[RECORD_LINE_LEN]);
/* Text may be longer than a line.  Only the exact form passes. */
MUST_CHECK int record_decode_line(struct slice text, struct record_line *line);
/* How every record line of a file with this nonce begins. */
#define RECORD_MAGIC_LEN 27
void record_encode_magic(uint64_t nonce, char buf[RECORD_MAGIC_LEN]);
void record_encode_end(uint64_t id, char buf[RECORD_END_LEN]);
/* Line, head, body and closing line. */
size_t record_total(const struct record_line *line);

/* What a head says beyond struct message. */
struct record_extra {
	bool held;
	uint64_t large_sum; /* of large/ID, when the message is large */
};

/* Appends the head; -1 when it is longer than RECORD_HEAD_MAX. */
MUST_CHECK int record_encode_head(const struct message *m,
    const struct record_extra *extra, struct record_buf *out, struct err *err);
/*
 * Fills the envelope of a new message of that id; size is set for a large one.
 * NULL when the text is not a head.
 */
struct message *record_decode_head(
    struct slice head, uint64_t id, struct record_extra *extra);

/* --- outcomes --- */

enum record_event {
	RECORD_SENT,
	RECORD_FAILED,
	RECORD_HOLD,
	RECORD_RELEASE,
	RECORD_DELETE,
	RECORD_VOID, /* its commit failed: it was never accepted */
	RECORD_OTHER, /* of a later version: skip it */
};

#define RECORD_OUTCOME_RCPTS 512 /* in one line */
#define RECORD_OUTCOME_MAX 9216 /* bytes of a line */

struct record_outcome {
	int64_t time_us;
	uint64_t id;
	enum record_event event;
	bool last;
	unsigned n_rcpts; /* 0: all */
	uint16_t rcpts[RECORD_OUTCOME_RCPTS];
	/*
	 * Empty: none.  Raw when encoded (and cut to 16, 512 and 512 bytes);
	 * escaped when decoded, for record_unescape().
	 */
	struct slice dsn, message_id, reply;
};

/* Appends the line with its LF. */
void record_encode_outcome(
    const struct record_outcome *outcome, struct record_buf *out);
/* A line without its LF; the slices point into it. */
MUST_CHECK int record_decode_outcome(
    struct slice line, struct record_outcome *outcome);

#endif
