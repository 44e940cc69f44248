/*
 * Reads a whole spool: outcomes first, then arrivals in file order, and says
 * which messages are alive.  For the daemon's start (spool_scan.c), in steps
 * on a disk thread, and for sesrelayctl (inspect.c), read-only.
 *
 * A message may stand in two segments when a crash came between compaction's
 * copy and the removal of the original: `seen` has the live ids, and the first
 * copy counts.  It is durable, and the outcomes that it needs are there as long
 * as it is; the later one may have been written by a process that was killed
 * before it synced it.  Owned by whoever runs the step; nothing is shared but
 * the directory fds.
 */
#include "queue/spool_private.h"

#include "base/file.h"
#include "base/mem.h"
#include "base/stat.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Tries, one a tick, before a segment is given up. */
#define TRIES_MAX 60

/* Is it a failure that may pass?  Then the step is to be done again. */
static bool try_again(
    struct scan *scan, const struct err *err, struct scan_chunk *chunk)
{
	bool passing = err->code == EMFILE || err->code == ENFILE ||
	    err->code == ENOMEM || err->code == EIO;

	if (!scan->set_aside || !passing || scan->tries >= TRIES_MAX) {
		scan->tries = 0;
		return false;
	}
	scan->tries++;
	chunk->again = true;
	return true;
}

void scan_init(struct scan *scan, const struct spool_dirs *dirs)
{
	*scan = (struct scan){ .dirs = dirs, .reader = { .fd = -1 } };
}

void scan_fini(struct scan *scan)
{
	segment_close(&scan->reader);
	free(scan->arrivals.items);
	free(scan->outcomes.items);
	idmap_fini(&scan->finished);
	idmap_fini(&scan->seen);
	idmap_fini(&scan->large);
	states_fini(&scan->states);
	marks_fini(&scan->marks);
}

void scan_chunk_fini(struct scan_chunk *chunk)
{
	for (size_t i = 0; i < chunk->n; i++) {
		message_free(chunk->entries[i].message);
		free(chunk->entries[i].held_reason);
	}
	spool_notes_fini(&chunk->notes);
}

static void apply_outcome(struct scan *scan, const struct record_outcome *o)
{
	bool ends =
	    o->last || o->event == RECORD_DELETE || o->event == RECORD_VOID;

	if (o->id == 0 || idmap_get(&scan->finished, o->id, NULL))
		return;
	if (!ends) {
		states_note(
		    &scan->states, o->id, o->event, o->rcpts, o->n_rcpts);
		if (o->event == RECORD_HOLD || o->event == RECORD_RELEASE)
			states_note_reason(&scan->states, o->id, o->reply);
		return;
	}
	states_drop(&scan->states, o->id);
	idmap_put(&scan->finished, o->id, 0);
}

static void read_outcomes_of(
    struct scan *scan, uint32_t number, struct scan_chunk *chunk)
{
	struct record_outcome o;
	struct segment_item item;
	struct segment_reader r;
	size_t n_damaged = 0;
	struct err err;

	if (segment_open(
		&r, scan->dirs->outcomes, RECORD_OUTCOMES, number, &err) < 0) {
		if ((err.code == ENOENT && !scan->set_aside) ||
		    try_again(scan, &err, chunk))
			return;
		scan->blind = true;
		if (scan->set_aside)
			stat_add(STAT_SPOOL_DAMAGED, 1);
		spool_notes_add(
		    &chunk->notes, "outcomes/%09u: %s", number, err.text);
		return;
	}
	for (;;) {
		segment_next_line(&r, &item);
		if (item.kind == SEGMENT_END || item.kind == SEGMENT_TORN)
			break;
		if (item.kind == SEGMENT_LINE &&
		    record_decode_outcome(item.text, &o) == 0) {
			if (o.event != RECORD_OTHER)
				apply_outcome(scan, &o);
		} else {
			n_damaged++;
		}
	}
	if (item.kind == SEGMENT_TORN && scan->set_aside)
		stat_add(STAT_SPOOL_TORN, 1);
	if (r.unreadable)
		scan->blind = true;
	/* A process that was killed may not have come to it. */
	if (scan->durable && file_datasync(r.fd, &err) < 0)
		spool_notes_add(
		    &chunk->notes, "outcomes/%09u: %s", number, err.text);
	if (n_damaged > 0) {
		if (scan->set_aside)
			stat_add(STAT_SPOOL_DAMAGED, (int64_t)n_damaged);
		spool_notes_add(&chunk->notes,
		    "outcomes/%09u: %zu damaged lines skipped; what they "
		    "ended may be sent again",
		    number, n_damaged);
	}
	segment_close(&r);
}

static void read_outcomes(struct scan *scan, struct scan_chunk *chunk)
{
	/* From the first one again: to read a line twice changes nothing. */
	for (size_t i = 0; i < scan->outcomes.n && !chunk->again; i++)
		read_outcomes_of(scan, scan->outcomes.items[i], chunk);
	scan->outcomes_read = !chunk->again;
	if (scan->blind && scan->outcomes_read)
		spool_notes_add(&chunk->notes,
		    "outcomes are missing, so what was sent already is not "
		    "known: every message found is held; release them when "
		    "that is clear");
}

static void add_dead(struct scan_chunk *chunk, struct spool_ref ref)
{
	chunk->entries[chunk->n++] = (struct scan_entry){ .dead = ref };
}

static void damaged(struct scan *scan, const struct segment_item *item,
    struct scan_chunk *chunk)
{
	struct segment_reader *r = &scan->reader;
	char id[ID_BUF];

	/* Nobody misses what is finished. */
	if (item->line.id != 0 && item->len == record_total(&item->line) &&
	    idmap_get(&scan->finished, item->line.id, NULL))
		return;
	scan->doubtful = true;
	spool_notes_add(&chunk->notes,
	    "arrivals/%09u: %llu bytes at %llu are damaged%s%s", r->number,
	    (unsigned long long)item->len, (unsigned long long)item->offset,
	    item->line.id != 0 ? ", among them message " : "",
	    item->line.id != 0 ? id_format(item->line.id, id) : "");
	if (!scan->set_aside)
		return;
	stat_add(STAT_SPOOL_DAMAGED, 1);
	if (r->unreadable ||
	    failed_set_aside(
		scan->dirs, r, item->offset, item->len, &chunk->notes) < 0)
		chunk->keep = r->number;
}

static struct message *decode(
    const struct segment_item *item, struct record_extra *extra)
{
	struct crash_mark before = crash_enter(item->line.id, CRASH_SCAN);
	struct message *m =
	    record_decode_head(item->text, item->line.id, extra);

	crash_leave(before);
	return m;
}

/* Has crashed us before; true when it may not even be decoded. */
static bool marked(struct scan *scan, const struct segment_item *item,
    struct scan_chunk *chunk, struct scan_entry *entry)
{
	struct spool_mark *mark = marks_find(&scan->marks, item->line.id);
	char id[ID_BUF];

	if (mark == NULL)
		return false;
	mark->alive = true;
	entry->crashed = mark_total(mark) >= MARKS_ENOUGH;
	if (mark->n[CRASH_COPY] >= MARKS_ENOUGH)
		chunk->keep = scan->reader.number;
	if (mark->n[CRASH_SCAN] < MARKS_ENOUGH)
		return false;
	spool_notes_add(&chunk->notes,
	    "message %s crashed the daemon %u times while it was being %s: it "
	    "is treated as damage",
	    id_format(mark->id, id), mark->n[CRASH_SCAN], mark_words(mark));
	stat_add(STAT_MESSAGES_QUARANTINED, 1);
	damaged(scan, item, chunk);
	add_dead(chunk, item->line.ref); /* compaction may not touch it */
	return true;
}

static char *held_reason(const struct scan *scan, uint64_t id)
{
	const char *escaped = states_reason(&scan->states, id);

	return escaped != NULL ? record_unescape(slice_str(escaped)) : NULL;
}

static void record(struct scan *scan, const struct segment_item *item,
    struct scan_chunk *chunk)
{
	const struct record_line *line = &item->line;
	struct scan_entry entry = { 0 };
	struct record_extra extra;

	if (idmap_get(&scan->finished, line->id, NULL) ||
	    idmap_get(&scan->seen, line->id, NULL)) {
		add_dead(chunk, line->ref);
		return;
	}
	if (marked(scan, item, chunk, &entry))
		return;
	entry.message = decode(item, &extra);
	if (entry.message == NULL) {
		damaged(scan, item, chunk);
		return;
	}
	entry.message->ref = line->ref;
	if (!entry.message->large)
		entry.message->size = line->body_len;
	else
		idmap_put(&scan->large, line->id, 0);
	entry.held = extra.held;
	states_apply(&scan->states, entry.message, &entry.held);
	if (entry.held)
		entry.held_reason = held_reason(scan, line->id);
	entry.held = entry.held || scan->blind;
	/* Once it is held, it was told. */
	entry.crashed = entry.crashed && !entry.held;
	entry.held = entry.held || entry.crashed;
	idmap_put(&scan->seen, line->id, 0);
	chunk->entries[chunk->n++] = entry;
}

static void open_next(struct scan *scan, struct scan_chunk *chunk)
{
	uint32_t number = scan->arrivals.items[scan->next];
	struct err err;

	if (segment_open(&scan->reader, scan->dirs->arrivals, RECORD_ARRIVALS,
		number, &err) == 0) {
		scan->tries = 0;
		return;
	}
	if (try_again(scan, &err, chunk))
		return;
	scan->next++;
	if (err.code == ENOENT && !scan->set_aside)
		return;
	scan->doubtful = true;
	chunk->keep = number;
	if (scan->set_aside)
		stat_add(STAT_SPOOL_DAMAGED, 1);
	spool_notes_add(
	    &chunk->notes, "arrivals/%09u is left alone: %s", number, err.text);
}

/* Content whose arrival never became durable, or is finished. */
static bool sweep_large(void *ctx, const char *name)
{
	struct scan *scan = ctx;
	uint64_t id;

	if (id_parse(slice_str(name), &id) == 0 && id <= scan->highest &&
	    !idmap_get(&scan->large, id, NULL))
		(void)!file_unlink(scan->dirs->large, name, NULL);
	return true;
}

/* Its content may be wanted for as long as what was set aside is. */
static bool find_damage(void *ctx, const char *name)
{
	struct scan *scan = ctx;

	scan->doubtful = scan->doubtful || strncmp(name, "damaged-", 8) == 0;
	return !scan->doubtful;
}

static void finish(struct scan *scan, struct scan_chunk *chunk)
{
	struct err err;

	chunk->done = true;
	idmap_fini(&scan->finished);
	idmap_fini(&scan->seen);
	if (!scan->set_aside)
		return;
	if (dirs_each(scan->dirs->failed, find_damage, scan, &err) < 0 ||
	    (!scan->doubtful &&
		dirs_each(scan->dirs->large, sweep_large, scan, &err) < 0))
		spool_notes_add(&chunk->notes, "%s", err.text);
}

void scan_step(struct scan *scan, struct scan_chunk *chunk)
{
	struct segment_reader *r = &scan->reader;
	struct segment_item item;

	memset(chunk, 0, sizeof(*chunk));
	if (!scan->outcomes_read)
		read_outcomes(scan, chunk);
	/* The newest one may have been cut short in any way. */
	while (chunk->n < SCAN_CHUNK && chunk->keep == 0 && !chunk->again) {
		if (r->fd < 0 && scan->next == scan->arrivals.n) {
			finish(scan, chunk);
			return;
		}
		if (r->fd < 0) {
			open_next(scan, chunk);
			continue;
		}
		segment_next(r, scan->next + 1 == scan->arrivals.n, &item);
		if (item.kind == SEGMENT_RECORD) {
			record(scan, &item, chunk);
		} else if (item.kind == SEGMENT_DAMAGE) {
			damaged(scan, &item, chunk);
		} else {
			if (item.kind == SEGMENT_TORN && scan->set_aside)
				stat_add(STAT_SPOOL_TORN, 1);
			if (r->unreadable)
				chunk->keep = r->number;
			segment_close(r);
			scan->next++;
		}
	}
}
