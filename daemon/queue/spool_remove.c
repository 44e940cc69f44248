/*
 * Removal of segments that nobody needs.
 *
 * An arrivals segment goes when it is sealed and no message lives in it; no
 * outcome is needed for that.  What an outcome says counts for every copy of
 * its message written before it, and a copy written after it carries it.  So
 * an outcomes segment may go when every arrivals segment that existed when it
 * was sealed is durably gone; some are kept longer, as history.
 *
 * Chosen on the loop, unlinked on disk threads.
 */
#include "queue/spool_private.h"

#include "base/file.h"
#include "base/mem.h"
#include "base/stat.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define RETRY_TICKS 60
#define HISTORY_SEGMENTS 64

struct remove_job {
	struct spool_job job; /* first */
	bool outcomes;
	uint32_t *numbers;
	bool *gone;
	size_t n;
	struct spool_notes notes;
};

static void remove_run(struct work_job *work)
{
	struct remove_job *job =
	    CONTAINER_OF(work, struct remove_job, job.work);
	const struct spool *s = job->job.spool;
	int dirfd = job->outcomes ? s->dirs.outcomes : s->dirs.arrivals;
	char name[SEGMENT_NAME_BUF];
	struct err err;

	/*
	 * The arrivals that needed them may have been removed by a process that
	 * was killed before it synced that.
	 */
	if (job->outcomes && s->durable &&
	    file_sync_dir(s->dirs.arrivals, &err) < 0) {
		spool_notes_add(&job->notes, "%s", err.text);
		return;
	}
	for (size_t i = 0; i < job->n; i++) {
		segment_name(job->numbers[i], name);
		job->gone[i] =
		    file_unlink(dirfd, name, &err) == 0 || err.code == ENOENT;
		if (!job->gone[i])
			spool_notes_add(&job->notes, "%s", err.text);
	}
	/* Until it is durable they may come back. */
	if (s->durable && file_sync_dir(dirfd, &err) < 0) {
		spool_notes_add(&job->notes, "%s", err.text);
		memset(job->gone, false, job->n * sizeof(job->gone[0]));
	}
}

static void remove_done(struct work_job *work)
{
	struct remove_job *job =
	    CONTAINER_OF(work, struct remove_job, job.work);
	struct spool *s = spool_job_end(&job->job);
	struct spool_table *t = job->outcomes ? &s->outcomes : &s->arrivals;

	for (size_t i = 0; i < job->n; i++) {
		if (job->gone[i])
			table_remove(t, job->numbers[i]);
		else
			table_find(t, job->numbers[i])->removing = false;
	}
	if (job->notes.n > 0) {
		stat_add(STAT_SPOOL_ERRORS, 1);
		s->remove_tick = s->ticks + RETRY_TICKS;
	}
	spool_report_notes(s, &job->notes);
	free(job->numbers);
	free(job->gone);
	free(job);
}

static bool arrivals_removable(
    const struct spool *s, const struct spool_segment *g)
{
	const struct spool_compaction *c = &s->compaction;

	return segment_is_settled(g) && g->n_live == 0 &&
	    !(c->active && c->victim == g->number);
}

static bool outcomes_removable(const struct spool *s,
    const struct spool_segment *g, uint64_t bytes, size_t n)
{
	if (!g->sealed || g->removing ||
	    (bytes <= SPOOL_HISTORY_BYTES && n <= HISTORY_SEGMENTS))
		return false;
	return s->arrivals.n == 0 || s->arrivals.items[0]->number > g->needs;
}

static void submit_removal(
    struct spool *s, bool outcomes, const struct spool_numbers *numbers)
{
	struct remove_job *job;

	if (numbers->n == 0) {
		free(numbers->items);
		return;
	}
	job = xcalloc(1, sizeof(*job));
	job->job.work.run = remove_run;
	job->job.work.done = remove_done;
	job->outcomes = outcomes;
	job->numbers = numbers->items;
	job->n = numbers->n;
	job->gone = xcalloc(job->n, sizeof(job->gone[0]));
	spool_submit(s, s->disk, &job->job);
}

void spool_remove_segments(struct spool *s)
{
	struct spool_numbers arrivals = { 0 }, outcomes = { 0 };
	uint64_t bytes = table_bytes(&s->outcomes);
	size_t n = s->outcomes.n;

	if (!s->scanned || s->ticks < s->remove_tick)
		return;
	arrivals.items = xcalloc(s->arrivals.n + 1, sizeof(uint32_t));
	outcomes.items = xcalloc(s->outcomes.n + 1, sizeof(uint32_t));
	for (size_t i = 0; i < s->arrivals.n; i++) {
		struct spool_segment *g = s->arrivals.items[i];

		if (!arrivals_removable(s, g))
			continue;
		g->removing = true;
		spool_fd_forget(s, g->number);
		arrivals.items[arrivals.n++] = g->number;
	}
	/* Oldest first: a later one never needs less. */
	for (size_t i = 0; i < s->outcomes.n; i++) {
		struct spool_segment *g = s->outcomes.items[i];

		if (!outcomes_removable(s, g, bytes, n))
			break;
		g->removing = true;
		bytes -= g->bytes;
		n--;
		outcomes.items[outcomes.n++] = g->number;
	}
	submit_removal(s, false, &arrivals);
	submit_removal(s, true, &outcomes);
}
