/*
 * The start scan: steps on a disk thread, results on the loop.
 *
 * One step at a time: the next one is submitted when the loop has taken what
 * the last one found, so memory stays bounded and nothing else waits for long.
 * What this process commits meanwhile lies in segments that are not on the
 * scan's list, and is not reported.  What cannot be opened for want of a
 * descriptor, or by a bad disk, is tried again with every tick for a minute: a
 * queue must not look empty for a moment's trouble.  Nothing is removed or compacted before
 * the end, as counts of live messages are not complete.
 */
#include "queue/spool_private.h"

#include "base/mem.h"

#include <stdlib.h>

struct scan_job {
	struct spool_job job; /* first */
	struct scan *scan;
	struct scan_chunk chunk;
};

static void scan_run(struct work_job *work)
{
	struct scan_job *job = CONTAINER_OF(work, struct scan_job, job.work);

	scan_step(job->scan, &job->chunk);
}

static void scan_entry(struct spool *s, struct scan_entry *entry)
{
	struct message *m = entry->message;
	struct spool_found found = {
		.message = m,
		.held = entry->held,
		.held_reason = entry->held_reason,
	};
	int64_t now_us = spool_clock_now(s), since_us;
	struct spool_mark *mark;

	if (m == NULL) {
		segment_add_dead(table_find(&s->arrivals, entry->dead.segment),
		    entry->dead.offset);
		return;
	}
	entry->message = NULL;
	since_us = m->clock_us > 0 ? m->clock_us : m->arrival_us;
	if (since_us < now_us)
		found.age_us = now_us - since_us;
	mark = marks_find(&s->marks, m->id);
	if (entry->crashed && mark != NULL) {
		found.n_crashes = mark_total(mark);
		found.crashed_while = mark_words(mark);
	}
	states_keep(&s->states, m, entry->held);
	spool_account_live(s, m);
	s->events->on_found(s->ctx, &found);
}

static void scan_done(struct work_job *work)
{
	struct scan_job *job = CONTAINER_OF(work, struct scan_job, job.work);
	struct scan_chunk *chunk = &job->chunk;
	struct spool *s = spool_job_end(&job->job);

	spool_report_notes(s, &chunk->notes);
	for (size_t i = 0; i < chunk->n && !s->closing; i++) {
		const struct message *m = chunk->entries[i].message;
		struct crash_mark before =
		    crash_enter(m != NULL ? m->id : 0, CRASH_SCAN);

		scan_entry(s, &chunk->entries[i]);
		crash_leave(before);
	}
	if (chunk->keep != 0)
		table_find(&s->arrivals, chunk->keep)->keep = true;
	if (!chunk->done && !s->closing) {
		bool again = chunk->again;

		scan_chunk_fini(chunk);
		if (again)
			s->scan_paused = &job->job;
		else
			spool_submit(s, s->disk, &job->job);
		return;
	}
	/* What was not taken is not counted: nothing may be removed. */
	s->scanned = chunk->done && !s->closing;
	s->scan = NULL;
	if (s->scanned)
		spool_sift_marks(s, &job->scan->marks);
	scan_fini(job->scan);
	free(job->scan);
	scan_chunk_fini(chunk);
	free(job);
	if (s->scanned)
		s->events->on_scan_done(s->ctx);
}

void spool_resume_scan(struct spool *s)
{
	struct spool_job *job = s->scan_paused;

	s->scan_paused = NULL;
	if (job != NULL)
		spool_submit(s, s->disk, job);
}

void spool_scan(struct spool *s)
{
	struct scan_job *job;

	ASSERT(s->scan != NULL && !s->scanned);
	job = xcalloc(1, sizeof(*job));
	job->job.work.run = scan_run;
	job->job.work.done = scan_done;
	job->scan = s->scan;
	spool_report_notes(s, &s->early);
	if (!s->can_commit || !s->can_settle)
		s->events->on_health(s->ctx, false, s->reason);
	spool_submit(s, s->disk, &job->job);
}
