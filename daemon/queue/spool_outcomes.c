/*
 * The journal thread's outcomes: pending lines, their segment, and what to do
 * when it fails.
 *
 * Lines that are not known to be durable stay in `pending`, so whatever fails
 * they can be written again, to a fresh file: doubled lines say the same.
 * outcomes_ok is false while outcomes cannot be made durable: then nothing can
 * be promised or settled.  Invariant: while it is true, `outcomes` is open,
 * holds the first `written` bytes of `pending` at its end, and has room for
 * what may be in flight.
 */
#include "queue/spool_private.h"

#include "base/mem.h"
#include "base/stat.h"

#include <errno.h>

/* Delivery needs no free space: room for the outcomes of all that is queued. */
#define RESERVE_BYTES (1024u * 1024)
#define RESERVE_PER_MESSAGE 256u
/* On a full disk, after a restart, that much has to do: some 60 lines. */
#define RESERVE_LEAST (16u * 1024)

static struct journal_note *add_note(
    struct journal *j, enum journal_note_kind kind)
{
	struct journal_note *note = xcalloc(1, sizeof(*note));

	note->kind = kind;
	STAILQ_INSERT_TAIL(&j->notes, note, link);
	return note;
}

void journal_note_segment(
    struct journal *j, enum journal_note_kind kind, const struct segment *g)
{
	struct journal_note *note = add_note(j, kind);

	note->number = g->number;
	note->bytes = g->end;
	note->needs = j->next_arrivals - 1;
	note->n_written = j->n_written;
}

void journal_note_health(struct journal *j, const struct err *err)
{
	struct journal_note *note = add_note(j, NOTE_HEALTH);

	note->can_commit = j->arrivals_ok && j->outcomes_ok;
	note->can_settle = j->outcomes_ok;
	if (err != NULL)
		note->err = *err;
}

int journal_reserve_outcomes(
    struct journal *j, struct segment *g, size_t more, struct err *err)
{
	uint64_t need = g->end + j->pending.len + RESERVE_BYTES +
	    RESERVE_PER_MESSAGE * (atomic_load(&j->n_live) + more);

	if (g->reserved >= need)
		return 0;
	/* In steps, or it would be a system call for every batch. */
	if (segment_reserve(g, need + RESERVE_BYTES, NULL) == 0)
		return 0;
	return segment_reserve(g, need, err);
}

/* Room to go on delivering, if not to take mail. */
static int reserve_some(struct journal *j, struct segment *g, struct err *err)
{
	if (journal_reserve_outcomes(j, g, 0, NULL) == 0)
		return 0;
	return segment_reserve(
	    g, g->end + j->pending.len - j->written + RESERVE_LEAST, err);
}

void journal_close_outcomes(struct journal *j)
{
	if (j->outcomes.fd < 0)
		return;
	journal_note_segment(j, NOTE_OUTCOMES_SEALED, &j->outcomes);
	segment_seal(&j->outcomes);
}

static int write_lines(struct journal *j, struct segment *g, struct err *err)
{
	struct iovec iov = { .iov_len = j->pending.len - j->written };

	/* Before the first line there is no data, nor a place in it. */
	if (iov.iov_len == 0)
		return 0;
	iov.iov_base = j->pending.data + j->written;
	if (segment_append(g, &iov, 1, iov.iov_len, err) < 0)
		return -1;
	j->written = j->pending.len;
	return 0;
}

static void forget_lines(struct journal *j)
{
	j->pending.len = 0;
	j->written = 0;
}

/* The next attempt holds all that this one does. */
static void drop_attempt(struct journal *j)
{
	if (j->attempt != 0)
		segment_unlink(j->outcomes_fd, j->attempt);
	j->attempt = 0;
}

/*
 * Go on in a fresh segment, with every pending line in it and synced.  After a
 * failure the present one, if there is one, stays; so does the last attempt:
 * what cannot be synced may still be there when only we end.
 */
int journal_renew_outcomes(struct journal *j, struct err *err)
{
	struct segment g = { .fd = -1 };
	size_t written = j->written;

	if (segment_create(&g, j->outcomes_fd, RECORD_OUTCOMES,
		j->next_outcomes++, j->highest, j->durable, err) < 0)
		return -1;
	j->written = 0;
	if (reserve_some(j, &g, err) < 0 || write_lines(j, &g, err) < 0 ||
	    segment_sync(&g, err) < 0) {
		drop_attempt(j);
		j->attempt = g.number;
		j->written = written;
		segment_seal(&g);
		return -1;
	}
	drop_attempt(j);
	forget_lines(j);
	journal_close_outcomes(j);
	j->outcomes = g;
	journal_note_segment(j, NOTE_OUTCOMES_NEW, &j->outcomes);
	return 0;
}

/* The present segment failed: try a fresh one, or say that nothing works. */
static int replace_outcomes(struct journal *j, struct err *err)
{
	stat_add(STAT_SPOOL_ERRORS, 1);
	journal_close_outcomes(j);
	j->written = 0;
	if (journal_renew_outcomes(j, err) == 0)
		return 0;
	j->outcomes_ok = false;
	journal_note_health(j, err);
	return -1;
}

int journal_sync_lines(struct journal *j, struct err *err)
{
	if (j->pending.len == 0)
		return 0;
	if (!j->outcomes_ok)
		return err_set(err, EIO, "outcomes cannot be written");
	if (write_lines(j, &j->outcomes, err) < 0 ||
	    segment_sync(&j->outcomes, err) < 0)
		return replace_outcomes(j, err);
	forget_lines(j);
	return 0;
}

static bool has_room(const struct segment *g)
{
	return g->reserved >= g->end + RESERVE_LEAST / 2;
}

/* Before there is no room for a line, and not when: SES has it by then. */
static void keep_room(struct journal *j)
{
	struct err err;

	if (has_room(&j->outcomes) || reserve_some(j, &j->outcomes, &err) == 0)
		return;
	stat_add(STAT_SPOOL_ERRORS, 1);
	/* It may take long until the next sync, and find another segment. */
	if (journal_sync_lines(j, NULL) < 0 || has_room(&j->outcomes))
		return;
	j->outcomes_ok = false;
	journal_note_health(j, &err);
}

void journal_flush_lines(struct journal *j)
{
	struct err err;

	if (!j->outcomes_ok || j->written == j->pending.len)
		return;
	if (write_lines(j, &j->outcomes, &err) < 0) {
		(void)!replace_outcomes(j, &err);
		return;
	}
	if (!j->durable)
		forget_lines(j);
	keep_room(j);
}

/* Outcomes have segments, too, so that old ones can go. */
void journal_roll_outcomes(struct journal *j)
{
	struct err err;

	if (!j->outcomes_ok || j->outcomes.end < j->segment_bytes / 4)
		return;
	/* No space for a new one: then this one grows. */
	if (journal_sync_lines(j, &err) == 0 && j->outcomes_ok &&
	    j->outcomes.end >= j->segment_bytes / 4)
		(void)!journal_renew_outcomes(j, &err);
}

void journal_start(struct journal *j)
{
	struct err err;

	if (journal_renew_outcomes(j, &err) == 0)
		return;
	stat_add(STAT_SPOOL_ERRORS, 1);
	j->outcomes_ok = false;
	journal_note_health(j, &err);
}
