/*
 * The spool: what makes an accepted message survive us.
 *
 *   lock               flock: one daemon a spool
 *   arrivals/000000001 messages as they came, append-only, sealed at 64 MiB,
 *                      unlinked when no live message is left in it
 *   outcomes/000000001 one text line for each end of a message or recipient,
 *                      for hold, release and void; append-only
 *   large/ID           content over 1 MiB, referred to by its arrival
 *   failed/ID.eml      dead letter: content, with envelope, reason and last
 *                      reply in X-Sesrelayd-* header lines at its top
 *   clock              the spool clock: see queue/spool_clock.h
 *   crashed            messages that crashed us: see queue/spool_marks.h
 *   learned            what was learned of SES: see policy/learned.h
 *   failed/damaged-SEGMENT-OFFSET
 *                      bytes of arrivals/SEGMENT that could not be read as
 *                      records
 *
 * All calls are made on the loop thread and return at once; files are touched
 * by the journal thread (one: group commit) and by disk threads, and what came
 * of it is reported by callbacks on the loop thread, from
 * work_port_dispatch().  A callback may call any function of this header.
 *
 * Promises: spool_commit() reports success only when record, segment's
 * directory entry and, for large content, file and its directory entry are
 * durable.  A commit that was reported as failed is never found by a later
 * scan.  Outcomes are durable at latest one spool_tick() later.  Nothing here
 * is ever delivered in part: a record that does not match its checksum is set
 * aside in failed/ and reported.
 *
 * One hole is known.  When the sync of a commit fails and neither the segment
 * can be cut off nor an outcome be written, the message, though refused, is
 * still in the file.  This process does not deliver it, and whatever can be
 * written later makes it void first; only if the process ends before that may
 * the next one find it.  Its client was told to try again, so it may be
 * delivered twice.
 *
 * Space: arrivals take at most 4 times the records of what is queued and 80
 * MiB (one segment of 64 MiB and a quarter of one that is not worth the work),
 * wherever in the segments the queued messages stand; outcomes at most a
 * quarter of the content of what is queued, 256 bytes for each message, and
 * 114 MiB, of which 32 are history; large content takes what it is; failed/ is
 * bounded by keep_failed_us alone.  Segments are given back one a second.
 */
#ifndef QUEUE_SPOOL_H
#define QUEUE_SPOOL_H

#include "base/work.h"
#include "queue/message.h"

struct spool_options {
	const char *directory;
	bool durable; /* spool.durability: "none" leaves out every sync */
	uint64_t min_free_bytes;
	uint64_t max_bytes; /* 0: no limit */
	uint64_t max_messages; /* 0: no limit */
	int64_t keep_failed_us; /* 0: for ever */
	uint32_t segment_bytes; /* 0: 64 MiB; tests make it small */
};

/* A message that the start scan found alive. */
struct spool_found {
	struct message *message; /* envelope only; the callback's from now on */
	/*
	 * How long it has waited, by the spool clock (queue/spool_clock.h);
	 * never negative.
	 */
	int64_t age_us;
	bool held;
	/*
	 * Set when it is held because it crashed the daemon so often, and that
	 * is new: what it was being ("sent"); the callback records the hold.
	 */
	unsigned n_crashes;
	const char *crashed_while;
	const char *held_reason; /* for the time of the call; NULL: not known */
};

struct spool_events {
	void (*on_found)(void *ctx, const struct spool_found *found);
	/* Every arrival has been reported. */
	void (*on_scan_done)(void *ctx);
	/*
	 * Compaction copied the message.  The old ref stays good for every
	 * call; the new one saves the spool a lookup.
	 */
	void (*on_moved)(void *ctx, uint64_t id, struct spool_ref ref);
	/*
	 * The spool became unable (ok == false) or able again to take mail, or
	 * spool_can_settle() changed.
	 */
	void (*on_health)(void *ctx, bool ok, const char *reason);
	/* Something for the log: damage, failed operations; a sentence. */
	void (*on_trouble)(void *ctx, const char *text);
};

struct spool;

/*
 * Makes what is missing of the directory tree (mode 0700), takes the lock,
 * tells id_init() the highest id present.  Refuses (with what to do about it)
 * a directory that others may write to, and a spool that another daemon holds.
 * The events pointer and ctx must outlive the spool.
 */
MUST_CHECK struct spool *spool_open(const struct spool_options *options,
    struct work_port *port, const struct spool_events *events, void *ctx,
    struct err *err);
/*
 * Reads outcomes, then arrivals in file order; calls on_found as it goes.
 * Messages that this process commits meanwhile are not reported.  When
 * outcomes cannot be read, so that it is not known what SES has already, every
 * message is reported as held.
 */
void spool_scan(struct spool *s);
/* Applies the keys that may change at run time; directory is not one. */
void spool_configure(struct spool *s, const struct spool_options *options);
/*
 * Finishes what was submitted, syncs, seals, releases the lock and frees.
 * Callbacks of pending calls run before it returns.
 */
void spool_close(struct spool *s);
/*
 * Once a second: syncs outcomes that are not synced, seals and removes what
 * can go, starts compaction, looks at free space, probes an unhealthy spool,
 * expires dead letters, keeps the spool clock.
 */
void spool_tick(struct spool *s, int64_t now_wall_us);

/*
 * Ticks since the journal thread last answered; 0 or 1 when all is well.  For
 * the watchdog: a disk that hangs must not look alive.
 */
unsigned spool_stalled(const struct spool *s);
/*
 * Can outcomes be recorded?  While false, nothing may be sent: what SES takes
 * could not be marked as done.  on_health tells about every change.
 */
bool spool_can_settle(const struct spool *s);
/*
 * May a message of about `bytes` come in?  NULL, or the reason for 452:
 * "Insufficient system storage", "queue is full", ...
 */
const char *spool_refusal(const struct spool *s, uint64_t bytes);
/* The same for one of which `on_disk` bytes have been streamed already. */
const char *spool_refusal_of(
    const struct spool *s, uint64_t bytes, uint64_t on_disk);

/* Seconds after which a disk that does not answer counts as one that hangs: a
 * sync that a busy disk draws out is none. */
#define SPOOL_HANGS_S 10
bool spool_hangs(const struct spool *s);
/*
 * Why no mail comes in, for people: that the disk hangs, what failed, or the
 * reason of spool_refusal(); NULL: it does.
 */
const char *spool_intake_trouble(const struct spool *s);

/* --- large content, streamed while it arrives --- */

struct spool_large;
/* The file is made by the first append. */
struct spool_large *spool_large_new(struct spool *s, uint64_t id);
/*
 * Takes the bytes out of *chunk; one call at a time.  `done` tells 0 or -1;
 * after a failure only spool_large_drop() is allowed.
 */
void spool_large_append(struct spool_large *l, struct body *chunk,
    void (*done)(void *ctx, int rc, const struct err *err), void *ctx);
/* Throw it away, at any time, also while an append runs (its `done` is not
 * called then). */
void spool_large_drop(struct spool_large *l);

/* --- commit --- */

/*
 * Make a message durable: m->body holds the content, or `large` (taken, else
 * NULL) does.  m stays the caller's and may not be changed until `done`, which
 * gets rc 0 and has m->ref, m->size and m->large set, or rc -1 with the reason:
 * then nothing of the message is left, and its id may not be used again.
 */
void spool_commit(struct spool *s, struct message *m, struct spool_large *large,
    void (*done)(void *ctx, int rc, const struct err *err), void *ctx);

/* --- reading back --- */

/*
 * Envelope and, unless it is large, content.  `done` gets a new message that
 * is its own, with the recipient states of its record (stub_apply_rcpts() has
 * later ones), or NULL with the reason.  With err->code EBADMSG it is damaged
 * for good: its record has been set aside in failed/, and all that is left to
 * do is to settle it as SPOOL_FAILED.  Other codes may pass.
 */
void spool_load(struct spool *s, uint64_t id, struct spool_ref ref,
    void (*done)(void *ctx, struct message *m, const struct err *err),
    void *ctx);
/*
 * `len` bytes of the content of a large message at `offset`, appended to *out,
 * which may not be touched until `done`.
 */
void spool_read_large(struct spool *s, const struct message *m, uint64_t offset,
    size_t len, struct body *out,
    void (*done)(void *ctx, int rc, const struct err *err), void *ctx);

/* --- outcomes --- */

enum spool_event {
	SPOOL_SENT, /* the recipients named are delivered */
	SPOOL_FAILED, /* the recipients named are given up */
	SPOOL_HOLD,
	SPOOL_RELEASE,
	SPOOL_DELETE, /* by the operator */
};

struct spool_outcome {
	uint64_t id;
	struct spool_ref ref;
	uint64_t size; /* of the content, for the accounts */
	enum spool_event event;
	int64_t time_us; /* wall */
	/*
	 * Positions of recipients in the envelope; n == 0: all of them, which
	 * for SENT and FAILED is only right with `last`.
	 */
	const uint16_t *rcpts;
	unsigned n_rcpts;
	bool last; /* the message is finished: nothing of it is pending */
	const char *dsn; /* "2.0.0" */
	const char *reply; /* SES's reply or our reason; NULL: none */
	const char *message_id; /* kept for trace; NULL: none */
	/*
	 * Called when the line is with the kernel, so that kill -9 does not
	 * lose it any more (a power cut may, until the next tick).  NULL: no
	 * need to know.
	 */
	void (*written)(void *ctx);
	void *ctx;
};
/*
 * Writes the line; everything is copied.  With `last`, the segment of `ref`
 * has one live message less, and large/ID is unlinked once the line is
 * durable.  A line that cannot be written is kept in memory and tried again at
 * every tick; the caller has nothing to do.
 */
void spool_settle(struct spool *s, const struct spool_outcome *outcome);

/*
 * Dead letter: failed/ID.eml is written and synced with the header lines
 * X-Sesrelayd-{Id,Time,Arrival,Sender,Recipient...,Message-Id,Body,Reason,
 * Reply} before the content, for the recipients at `rcpts` (n == 0: all); then `done`, with
 * codes as for spool_load().  The outcome line
 * is the caller's next step.  A second letter of the same id is ID.2.eml, ...
 */
struct spool_letter {
	uint64_t id;
	struct spool_ref ref;
	int64_t time_us;
	const uint16_t *rcpts;
	unsigned n_rcpts;
	const char *reason; /* "SES refused it: 554 ..." */
	const char *reply; /* the last one of SES; NULL: none */
};
void spool_bury(struct spool *s, const struct spool_letter *letter,
    void (*done)(void *ctx, int rc, const struct err *err), void *ctx);

/* --- what was learned of SES, a text of its own --- */

#define SPOOL_LEARNED_MAX 4096
/* As the last process left it; NULL: there is none.  Good until close. */
const char *spool_learned(const struct spool *s);
/*
 * Replaces it for the next process.  A text that cannot be written is reported
 * once and forgotten; it harms nothing else.
 */
void spool_learn(struct spool *s, const char *text);

/* --- for the operator --- */

/*
 * For who looks at the files by queue/inspect.h: run() on a disk thread, with
 * spool.directory, then done() on the loop.
 */
void spool_look(struct spool *s, void (*run)(void *ctx, const char *directory),
    void (*done)(void *ctx), void *ctx);
/* A dead letter whose mail is in the queue again; `name` as in inspect.h. */
void spool_remove_letter(struct spool *s, const char *name,
    void (*done)(void *ctx, int rc, const struct err *err), void *ctx);

struct spool_usage {
	bool healthy;
	const char *reason; /* when not */
	uint64_t free_bytes;
	uint64_t bytes; /* of all files, as last counted */
	uint64_t live_bytes; /* of the content of live messages */
	unsigned n_arrivals, n_outcomes; /* segments */
	size_t n_failed; /* dead letters */
	bool scanning;
};
void spool_usage(const struct spool *s, struct spool_usage *usage);

#endif
