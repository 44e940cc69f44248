/*
 * How the spool's parts fit together; for daemon/queue/spool*.c alone.
 *
 *   spool.c          close, tick, jobs, health and space: the loop's side
 *   spool_open.c     open, and what there is then
 *   spool_dirs.c     the directory tree, its lock, what stands in it
 *   spool_table.c    the loop's accounts: segments, live messages
 *   spool_states.c   what outcomes say of messages that are not finished
 *   spool_journal.c  the journal thread: batches, group commit, failures
 *   spool_outcomes.c its outcomes
 *   spool_commit.c   commit and large content
 *   spool_settle.c   outcome lines
 *   spool_load.c     reading back
 *   spool_fds.c      descriptors of segments, kept open for that
 *   spool_failed.c   dead letters and what is set aside
 *   spool_look.c     looks at the files for the operator
 *   spool_expire.c   free space, age of dead letters
 *   spool_scan.c     reading the whole spool (scan.c) for the daemon
 *   spool_compact.c  copying the last live messages of a segment
 *   spool_remove.c   removing segments
 *   spool_start.c    what is kept from start to start: the spool clock, marks
 *                    of messages that crashed us, what was learned of SES
 *   spool_clock.c    the clock itself, spool_marks.c the marks; both pure
 *
 * Who owns what: `struct journal` is the journal thread's while that runs;
 * everything else in `struct spool` is the loop thread's.  Jobs carry copies;
 * the directory fds are constant from open to close and shared by all.
 */
#ifndef QUEUE_SPOOL_PRIVATE_H
#define QUEUE_SPOOL_PRIVATE_H

#include "queue/idmap.h"
#include "queue/segment.h"
#include "queue/spool.h"
#include "queue/spool_clock.h"
#include "queue/spool_marks.h"

#include <stdatomic.h>

/* --- directories (spool_dirs.c) --- */

struct spool_dirs {
	int top, lock, arrivals, outcomes, large, failed; /* -1: not open */
	/* The spool clock at the last tick: the age of what is put in failed/.
	 * The loop's to set. */
	_Atomic int64_t clock_us;
};

/* Numbers of segments, ascending. */
struct spool_numbers {
	uint32_t *items;
	size_t n;
};

/* Sentences for on_trouble(). */
struct spool_notes {
	char **items;
	size_t n;
};

PRINTF(2, 3) void spool_notes_add(struct spool_notes *n, const char *fmt, ...);
void spool_notes_fini(struct spool_notes *n);

void dirs_init(struct spool_dirs *d);
/* Makes and checks the tree, and takes the lock. */
MUST_CHECK int dirs_open(struct spool_dirs *d, const char *path, bool durable,
    struct spool_notes *notes, struct err *err);
/* Of an existing spool, to look at; no lock. */
MUST_CHECK int dirs_open_read(
    struct spool_dirs *d, const char *path, struct err *err);
void dirs_close(struct spool_dirs *d);
/* Calls fn for every name but "." and ".."; false from fn ends it. */
MUST_CHECK int dirs_each(int dirfd, bool (*fn)(void *ctx, const char *name),
    void *ctx, struct err *err);
/*
 * A small file of the spool's own, whole or as it was: written beside it and
 * renamed.  The descriptor, open for appending, or -1.
 */
MUST_CHECK int dirs_replace(const struct spool_dirs *d, const char *name,
    const void *data, size_t len, bool durable, struct err *err);
/* At most `max` bytes of a file; NULL when it is not there or not readable. */
char *dirs_read(int dirfd, const char *name, size_t max, size_t *len);
/* Segments in a directory; other names are noted. */
MUST_CHECK int dirs_segments(int dirfd, const char *what,
    struct spool_numbers *numbers, struct spool_notes *notes, struct err *err);

/* --- accounts (spool_table.c) --- */

struct spool_segment {
	uint32_t number;
	bool sealed;
	bool keep; /* holds what we could not read or save */
	bool removing;
	uint64_t bytes;
	/*
	 * Records written by this process (known once it is sealed), and those
	 * whose completion has been seen: while they differ, n_live is not the
	 * whole truth.
	 */
	size_t n_written, n_seen;
	size_t n_live;
	uint64_t live_bytes;
	/* Arrivals: offsets of finished records, in order of their end. */
	uint32_t *dead;
	size_t n_dead, dead_size;
	/* Outcomes: arrivals up to this number may need it. */
	uint32_t needs;
};

/* In ascending order of numbers. */
struct spool_table {
	struct spool_segment **items;
	size_t n, size;
};

struct spool_segment *table_add(struct spool_table *t, uint32_t number);
struct spool_segment *table_find(const struct spool_table *t, uint32_t number);
void table_remove(struct spool_table *t, uint32_t number);
void table_fini(struct spool_table *t);
uint64_t table_bytes(const struct spool_table *t);
/* Nothing changes in it any more but by outcomes, and we may touch it. */
bool segment_is_settled(const struct spool_segment *g);
void segment_add_dead(struct spool_segment *g, uint32_t offset);

/* --- states of unfinished messages (spool_states.c) --- */

/* Maps an id to what its outcomes said; absent: nothing yet. */
struct spool_states {
	struct idmap map;
};

void states_note(struct spool_states *s, uint64_t id, enum record_event event,
    const uint16_t *rcpts, unsigned n_rcpts);
/* From the states that a message has now. */
void states_keep(struct spool_states *s, const struct message *m, bool held);
void states_apply(const struct spool_states *s, struct message *m, bool *held);
/* Why it is held, escaped; kept for as long as the hold. */
void states_note_reason(
    struct spool_states *s, uint64_t id, struct slice reason);
const char *states_reason(const struct spool_states *s, uint64_t id);
void states_drop(struct spool_states *s, uint64_t id);
void states_fini(struct spool_states *s);

/* --- jobs --- */

struct spool_job {
	struct work_job work; /* first */
	struct spool *spool;
};

void spool_submit(struct spool *s, struct worker *w, struct spool_job *job);
/* First thing in every done(): the job has come back. */
struct spool *spool_job_end(struct spool_job *job);

/* --- the journal thread (spool_journal.c) --- */

enum journal_kind {
	JOURNAL_COMMIT, /* a new message */
	JOURNAL_COPY, /* compaction: a message that is durable elsewhere */
	JOURNAL_LINES, /* outcome lines */
	JOURNAL_SYNC, /* make the lines durable */
	JOURNAL_SEAL, /* begin a new arrivals segment with the next commit */
	JOURNAL_PROBE, /* unhealthy: try again */
	JOURNAL_CLOSE,
	JOURNAL_NOTHING, /* a sign of life; a commit that is refused */
};

/* News for the loop's tables; they come with the first job of a batch. */
enum journal_note_kind {
	NOTE_ARRIVALS_NEW,
	NOTE_ARRIVALS_SEALED,
	NOTE_OUTCOMES_NEW,
	NOTE_OUTCOMES_SEALED,
	NOTE_HEALTH,
};

struct journal_note {
	STAILQ_ENTRY(journal_note) link;
	enum journal_note_kind kind;
	uint32_t number, needs;
	uint64_t bytes;
	size_t n_written;
	bool can_commit, can_settle;
	struct err err; /* why not */
};
STAILQ_HEAD(journal_notes, journal_note);

struct journal_job {
	struct spool_job job; /* first */
	enum journal_kind kind;
	/* COMMIT, COPY: the message is not changed here. */
	const struct message *message;
	struct record_extra extra;
	struct record_buf lines; /* LINES */
	/* What came of it. */
	int rc;
	struct err err;
	struct spool_ref ref;
	bool voided; /* COMMIT failed: the id may not be used again */
	uint64_t end; /* of the segment written to: bytes */
	/* The journal thread's own. */
	size_t text_at, text_len;
	struct record_line line;
	struct journal_notes notes;
};

struct journal {
	int arrivals_fd, outcomes_fd; /* the directories */
	bool durable;
	uint32_t segment_bytes;
	_Atomic size_t n_live; /* the loop's, to reserve space for outcomes */

	uint32_t next_arrivals, next_outcomes;
	uint64_t highest; /* id */
	struct segment arrivals, outcomes; /* fd -1: none */
	size_t n_written; /* records, in arrivals */
	/* Lines not known to be durable; `written` bytes are in outcomes. */
	struct record_buf pending;
	size_t written;
	bool arrivals_ok, outcomes_ok;
	uint32_t attempt; /* outcomes segment that could not be synced; or 0 */

	struct journal_notes notes;
	struct journal_job **jobs; /* records of this batch */
	size_t n_jobs, jobs_size;
	struct record_buf text;
	struct iovec *iov;
	size_t iov_size;
};

void journal_init(struct journal *j, const struct spool_dirs *dirs,
    bool durable, uint32_t segment_bytes);
void journal_fini(struct journal *j);
/* Begins the outcomes segment; before the thread runs. */
void journal_start(struct journal *j);
void journal_run(void *ctx, struct work_list *batch);

/* Its outcomes (spool_outcomes.c). */
void journal_note_segment(
    struct journal *j, enum journal_note_kind kind, const struct segment *g);
void journal_note_health(struct journal *j, const struct err *err);
/* Space in g for the outcomes of all that is queued, and `more` messages. */
MUST_CHECK int journal_reserve_outcomes(
    struct journal *j, struct segment *g, size_t more, struct err *err);
MUST_CHECK int journal_renew_outcomes(struct journal *j, struct err *err);
MUST_CHECK int journal_sync_lines(struct journal *j, struct err *err);
void journal_flush_lines(struct journal *j);
void journal_roll_outcomes(struct journal *j);
void journal_close_outcomes(struct journal *j);

struct journal_job *journal_job_new(enum journal_kind kind);
/* For one that is part of something larger, which begins with it. */
void journal_job_init(struct journal_job *job, enum journal_kind kind);
void journal_job_free(struct journal_job *job);
void spool_submit_journal(struct spool *s, struct journal_job *job,
    void (*done)(struct work_job *work));
/* As spool_job_end(), and takes over the notes. */
struct spool *journal_job_end(struct journal_job *job);
void spool_take_notes(struct spool *s, struct journal_notes *notes);

/* --- reading everything (scan.c) --- */

#define SCAN_CHUNK 512

struct scan_entry {
	struct message *message; /* NULL: the record at `dead` is */
	bool held;
	char *held_reason; /* NULL: not known */
	struct spool_ref dead;
	bool crashed; /* quarantined now, see spool_marks.h */
};

/* What one step found. */
struct scan_chunk {
	struct scan_entry entries[SCAN_CHUNK];
	size_t n;
	uint32_t keep; /* a segment that may not be removed; 0: none */
	struct spool_notes notes;
	bool done;
	bool again; /* something could not be opened just now: a step later */
};

struct scan {
	const struct spool_dirs *dirs;
	bool set_aside; /* copy damage to failed/; else only look */
	bool durable; /* make sure that outcomes found are on the disk */
	struct spool_numbers arrivals, outcomes; /* as they were at the start */
	uint64_t highest; /* ids of large files up to this are old */

	bool outcomes_read;
	unsigned tries; /* to open the next segment, in vain */
	size_t next; /* arrivals segment */
	struct segment_reader reader;
	struct idmap finished, seen; /* sets of ids */
	struct idmap large; /* ids of live large messages */
	struct spool_states states;
	struct spool_marks marks; /* its own; `alive` is its news */
	bool doubtful; /* something may be hidden: keep large files */
	bool blind; /* outcomes are missing: what is found is held */
};

void scan_init(struct scan *scan, const struct spool_dirs *dirs);
void scan_step(struct scan *scan, struct scan_chunk *chunk);
void scan_fini(struct scan *scan);
void scan_chunk_fini(struct scan_chunk *chunk);

uint64_t ref_pack(struct spool_ref ref);
struct spool_ref ref_unpack(uint64_t value);

/* --- dead letters and damage (spool_failed.c) --- */

/* By its name in failed/. */
bool failed_is_letter(const char *name);

/*
 * Copies bytes of an arrivals segment to failed/damaged-SEGMENT-OFFSET, once;
 * ....2 and so on when other bytes lie there.
 * Notes what it did.  -1 when they could not be saved.
 */
MUST_CHECK int failed_set_aside(const struct spool_dirs *dirs,
    struct segment_reader *r, uint64_t offset, uint64_t len,
    struct spool_notes *notes);
/* The same for the record at `ref`, when it turned out to be damaged. */
void failed_set_aside_record(const struct spool_dirs *dirs,
    struct spool_ref ref, struct spool_notes *notes);

/* --- reading back (spool_load.c) --- */

/* segment_load(), and is large content what the arrival says? */
struct message *load_message(const struct spool_dirs *dirs, uint64_t id,
    struct spool_ref ref, struct err *err);
/* `len` bytes of large/ID at `offset`, appended to *out. */
MUST_CHECK int load_large(const struct spool_dirs *dirs, uint64_t id,
    uint64_t offset, size_t len, struct body *out, struct err *err);

/* --- descriptors of segments (spool_fds.c) --- */

struct spool_fd {
	uint32_t number; /* 0: free */
	int fd; /* -1: the job that has borrowed it is to open it */
	unsigned n_users; /* jobs */
	bool gone; /* to be closed with the last of them */
	uint64_t used; /* when, in borrowings */
};

void spool_fds_init(struct spool *s);
void spool_fds_fini(struct spool *s);
/*
 * For a job that will read that segment; NULL: there is none to be had, and it
 * shall open and close the segment itself.
 */
struct spool_fd *spool_fd_borrow(struct spool *s, uint32_t number);
/* The job is back; `fd`: lent to it, or opened by it, or -1 if it could not. */
void spool_fd_return(struct spool *s, struct spool_fd *e, int fd);
/* That segment is about to be removed, or its descriptor is of no use. */
void spool_fd_forget(struct spool *s, uint32_t number);

/* --- heads without content (inspect_heads.c) --- */

/*
 * The line of the record at `ref`, with as much of what follows as fits into
 * buf; -1 when no record of that segment begins there.
 */
MUST_CHECK int head_read_line(int fd, struct spool_ref ref,
    struct record_line *line, char *buf, size_t size, size_t *len,
    struct err *err);
/* The message without its content, from that. */
struct message *head_decode(int fd, const struct record_line *line,
    const char *buf, size_t len, struct err *err);

/* --- the whole --- */

/* Outcomes that nothing needs any more, kept for sesrelayctl trace. */
#define SPOOL_HISTORY_BYTES (32u * 1024 * 1024)

struct spool_large {
	struct spool *spool;
	uint64_t id;
	int fd;
	uint64_t size;
	struct record_summer *sum;
	bool made, busy, dropped, failed;
};

struct spool_compaction {
	bool active, failed;
	uint32_t victim;
	uint64_t pos;
	bool at_end;
	size_t n_copying;
	uint64_t retry_tick;
};

struct spool {
	struct spool_options options; /* .directory is our copy */
	char *directory;
	bool durable; /* .durable at the start; disk threads look at it */
	struct work_port *port;
	const struct spool_events *events;
	void *ctx;
	struct spool_dirs dirs;
	struct worker *journal_worker, *disk;
	struct journal journal;
	size_t n_jobs;
	bool opened, closing;

	struct spool_table arrivals, outcomes;
	size_t n_live;
	uint64_t live_bytes; /* content of live messages */
	uint64_t large_bytes;
	struct idmap moved; /* live messages that compaction copied: ref */
	struct idmap large; /* live messages with large content: size */
	struct idmap wide; /* live messages with a long envelope: its bytes */
	struct idmap voided; /* ids whose commit failed */
	/* Finished while a compaction runs: its copies are dead. */
	struct idmap ended;
	struct spool_states states;

	/* Kept from start to start (spool_start.c). */
	struct spool_clock clock; /* as it was at the start */
	struct spool_marks marks;
	int marks_fd; /* for the handler of crashes */
	bool saving_clock, saving_marks, marks_dirty;
	char *learned; /* as it was at the start */
	char *learn_next; /* to be written */
	bool saving_learned, learned_failing;

	/* Loads that go to the disk together, in this round of the port. */
	struct load_batch *loads;
	uint64_t loads_round;
	struct spool_fd fds[4]; /* a drain goes through one after the other */
	uint64_t fds_used;

	struct scan *scan; /* while it runs */
	struct spool_job *scan_paused; /* until the next tick */
	bool scanned;
	struct spool_notes early; /* trouble met by spool_open() */
	struct spool_compaction compaction;

	uint64_t ticks;
	bool lines_dirty, syncing, probing, pinging;
	uint64_t ping_tick;
	unsigned idle_ticks; /* without a commit */
	/* Large files whose message is finished: now, and once synced. */
	uint64_t *gone, *gone_syncing;
	size_t n_gone, n_gone_syncing;

	bool can_commit, can_settle;
	char reason[160];
	bool space_known, inodes_low, counting, expiring;
	uint64_t remove_tick; /* not before */
	/* As last counted; less what streamed to large files since then. */
	uint64_t free_bytes;
	/* Bytes of large content: handed over, written, and written for sure
	 * before the present and the last count of free space. */
	uint64_t streamed, streamed_done, streamed_counting, streamed_counted;
	size_t n_failed;
};

void spool_free(struct spool *s);
PRINTF(2, 3) void spool_trouble(struct spool *s, const char *fmt, ...);
void spool_report_notes(struct spool *s, struct spool_notes *notes);

/* A message is live at its ref, is not any more, or lives elsewhere. */
void spool_account_live(struct spool *s, const struct message *m);
void spool_account_dead(
    struct spool *s, uint64_t id, struct spool_ref ref, uint64_t size);
bool spool_account_moved(struct spool *s, uint64_t id, struct spool_ref old,
    struct spool_ref ref, uint64_t size, bool large);
/* A record was written: its completion is here. */
void spool_account_written(struct spool *s, struct spool_ref ref, uint64_t end);
/* Where the newest copy of a live message is. */
struct spool_ref spool_where(
    const struct spool *s, uint64_t id, struct spool_ref ref);

void spool_resume_scan(struct spool *s);
/* What is kept from start to start (spool_start.c). */
void spool_begin_clock(struct spool *s);
int64_t spool_clock_now(const struct spool *s);
void spool_save_clock(struct spool *s, int64_t wall_us);
/* Reads the marks of earlier crashes, and opens the file for those to come. */
void spool_begin_marks(struct spool *s);
/* After the scan: those that it did not meet are not needed any more. */
void spool_sift_marks(struct spool *s, const struct spool_marks *met);
/* The operator says that it may go. */
void spool_forget_mark(struct spool *s, uint64_t id);
void spool_end_marks(struct spool *s);
void spool_begin_learned(struct spool *s);
void spool_end_learned(struct spool *s);

void spool_sync_lines(struct spool *s);
void spool_compact(struct spool *s);
void spool_remove_segments(struct spool *s);
void spool_count_space(struct spool *s);
void spool_expire_failed(struct spool *s);
void spool_unlink_large(struct spool *s, uint64_t *ids, size_t n);

#endif
