/*
 * Opening a spool: what stands in it, the highest id, the threads.
 *
 * The one part of the spool that touches files on the loop thread, before
 * anything else runs.  Contents are read later, by the scan.
 */
#include "queue/spool_private.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/mem.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define SEGMENT_BYTES (64u * 1024 * 1024)
#define SEGMENT_BYTES_MAX (1024u * 1024 * 1024)
#define DISK_THREADS 4
/* An id this high was not given by a clock; do not follow it. */
#define ID_FLOOR_MAX (UINT64_C(1) << 62)

/* The highest id of a segment; what is not ours does not count. */
static uint64_t highest_id(
    const struct spool_dirs *dirs, enum record_kind kind, uint32_t number)
{
	struct record_outcome outcome;
	struct segment_item item = { .kind = SEGMENT_LINE };
	struct segment_reader r;
	uint64_t highest, id;

	if (segment_open(&r,
		kind == RECORD_ARRIVALS ? dirs->arrivals : dirs->outcomes, kind,
		number, NULL) < 0)
		return 0;
	highest = r.has_nonce ? r.header.floor : 0;
	while (item.kind != SEGMENT_END) {
		id = 0;
		if (kind == RECORD_ARRIVALS)
			segment_next(&r, false, &item);
		else
			segment_next_line(&r, &item);
		if (item.kind == SEGMENT_RECORD)
			id = item.line.id;
		else if (item.kind == SEGMENT_LINE &&
		    record_decode_outcome(item.text, &outcome) == 0)
			id = outcome.id;
		if (id > highest && id < ID_FLOOR_MAX)
			highest = id;
	}
	segment_close(&r);
	return highest < ID_FLOOR_MAX ? highest : 0;
}

static void add_found(struct spool_table *t, int dirfd,
    const struct spool_numbers *numbers, uint32_t needs)
{
	char name[SEGMENT_NAME_BUF];
	struct spool_segment *g;
	struct stat st;

	for (size_t i = 0; i < numbers->n; i++) {
		segment_name(numbers->items[i], name);
		segment_trim(dirfd, name);
		g = table_add(t, numbers->items[i]);
		g->sealed = true;
		g->needs = needs;
		if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
		    S_ISREG(st.st_mode))
			g->bytes = (uint64_t)st.st_size;
		else
			g->keep = true;
	}
}

static uint32_t last_number(const struct spool_numbers *numbers)
{
	return numbers->n > 0 ? numbers->items[numbers->n - 1] : 0;
}

static bool sweep_name(void *ctx, const char *name)
{
	struct spool *s = ctx;
	size_t len = strlen(name);

	if (len > 5 && name[0] == '.' &&
	    slice_has_suffix(slice_of(name, len), ".tmp"))
		(void)!file_unlink(s->dirs.failed, name, NULL);
	else if (failed_is_letter(name))
		s->n_failed++;
	return true;
}

/* What a crash cut off while it arrived has an id that no record knows. */
static bool note_large(void *ctx, const char *name)
{
	struct spool *s = ctx;
	uint64_t id;

	if (id_parse(slice_str(name), &id) == 0 && id < ID_FLOOR_MAX &&
	    id > s->journal.highest)
		s->journal.highest = id;
	return true;
}

/* Everything that is there, before anything is added. */
static int survey(struct spool *s, struct err *err)
{
	struct spool_dirs *d = &s->dirs;
	struct journal *j = &s->journal;
	struct scan *scan = s->scan;
	uint32_t newest;
	uint64_t id;

	if (dirs_segments(
		d->arrivals, "arrivals", &scan->arrivals, &s->early, err) < 0 ||
	    dirs_segments(
		d->outcomes, "outcomes", &scan->outcomes, &s->early, err) < 0 ||
	    dirs_each(d->failed, sweep_name, s, err) < 0)
		return -1;
	newest = last_number(&scan->arrivals);
	add_found(&s->arrivals, d->arrivals, &scan->arrivals, 0);
	add_found(&s->outcomes, d->outcomes, &scan->outcomes, newest);
	j->next_arrivals = newest + 1;
	j->next_outcomes = last_number(&scan->outcomes) + 1;
	if (newest > 0)
		j->highest = highest_id(d, RECORD_ARRIVALS, newest);
	if (scan->outcomes.n > 0) {
		id = highest_id(
		    d, RECORD_OUTCOMES, last_number(&scan->outcomes));
		j->highest = id > j->highest ? id : j->highest;
	}
	return dirs_each(d->large, note_large, s, err);
}

struct spool *spool_open(const struct spool_options *options,
    struct work_port *port, const struct spool_events *events, void *ctx,
    struct err *err)
{
	struct spool *s = xcalloc(1, sizeof(*s));

	spool_fds_init(s);
	s->directory = xstrdup(options->directory);
	s->options = *options;
	s->options.directory = s->directory;
	s->durable = options->durable;
	if (s->options.segment_bytes == 0)
		s->options.segment_bytes = SEGMENT_BYTES;
	if (s->options.segment_bytes > SEGMENT_BYTES_MAX)
		s->options.segment_bytes = SEGMENT_BYTES_MAX;
	s->port = port;
	s->events = events;
	s->ctx = ctx;
	s->can_commit = s->can_settle = true;
	s->marks_fd = -1;
	s->scan = xcalloc(1, sizeof(*s->scan));
	scan_init(s->scan, &s->dirs);
	s->scan->set_aside = true;
	s->scan->durable = s->durable;
	if (dirs_open(&s->dirs, s->directory, s->durable, &s->early, err) < 0) {
		journal_init(&s->journal, &s->dirs, false, 0);
		spool_free(s);
		return NULL;
	}
	journal_init(
	    &s->journal, &s->dirs, s->durable, s->options.segment_bytes);
	if (survey(s, err) < 0) {
		spool_free(s);
		return NULL;
	}
	if (s->journal.highest > id_last())
		id_init(s->journal.highest);
	s->journal.highest = id_last();
	s->scan->highest = id_last();
	spool_begin_clock(s);
	spool_begin_marks(s);
	spool_begin_learned(s);
	marks_copy(&s->scan->marks, &s->marks);
	journal_start(&s->journal);
	spool_take_notes(s, &s->journal.notes);
	s->journal_worker =
	    work_new_batch(port, "journal", journal_run, &s->journal);
	s->disk = work_new(port, "disk", DISK_THREADS);
	spool_count_space(s);
	spool_save_clock(s, clock_wall_us());
	s->opened = true;
	return s;
}
