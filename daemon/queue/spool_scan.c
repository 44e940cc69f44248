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

#include "base/clock.h"
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
	struct spool_found found = { .message = m, .held = entry->held };
	int64_t now_us = clock_wall_us();

	if (m == NULL) {
		segment_add_dead(table_find(&s->arrivals, entry->dead.segment),
		    entry->dead.offset);
		return;
	}
	entry->message = NULL;
	if (m->arrival_us < now_us)
		found.age_us = now_us - m->arrival_us;
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
	for (size_t i = 0; i < chunk->n && !s->closing; i++)
		scan_entry(s, &chunk->entries[i]);
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
