/*
 * Outcomes: lines for the journal, and what they change in the accounts.
 *
 * Loop thread.  The accounts change at once, in the order of the calls, which
 * is the order of the lines in the file.  Large content is unlinked only when
 * the line that ends its message is durable: an arrival without its content
 * would be a message that cannot be read.
 */
#include "queue/spool_private.h"

#include "base/file.h"
#include "base/mem.h"

#include <errno.h>
#include <stdlib.h>

static const enum record_event record_events[] = {
	[SPOOL_SENT] = RECORD_SENT,
	[SPOOL_FAILED] = RECORD_FAILED,
	[SPOOL_HOLD] = RECORD_HOLD,
	[SPOOL_RELEASE] = RECORD_RELEASE,
	[SPOOL_DELETE] = RECORD_DELETE,
};

struct lines_job {
	struct journal_job journal; /* first */
	void (*written)(void *ctx);
	void *ctx;
};

static void lines_done(struct work_job *work)
{
	struct lines_job *job =
	    CONTAINER_OF(work, struct lines_job, journal.job.work);

	journal_job_end(&job->journal);
	if (job->written != NULL)
		job->written(job->ctx);
	journal_job_free(&job->journal);
}

static struct slice slice_or_none(const char *text)
{
	return text != NULL ? slice_str(text) : slice_of("", 0);
}

/* As many lines as the positions need; the last one ends the message. */
static void encode_lines(
    const struct spool_outcome *outcome, struct record_buf *out)
{
	struct record_outcome line = {
		.time_us = outcome->time_us,
		.id = outcome->id,
		.event = record_events[outcome->event],
		.dsn = slice_or_none(outcome->dsn),
		.message_id = slice_or_none(outcome->message_id),
		.reply = slice_or_none(outcome->reply),
	};
	unsigned at = 0;

	do {
		unsigned n = outcome->n_rcpts - at;

		if (n > RECORD_OUTCOME_RCPTS)
			n = RECORD_OUTCOME_RCPTS;
		for (unsigned i = 0; i < n; i++)
			line.rcpts[i] = outcome->rcpts[at + i];
		line.n_rcpts = n;
		at += n;
		line.last = outcome->last && at == outcome->n_rcpts;
		record_encode_outcome(&line, out);
	} while (at < outcome->n_rcpts);
}

void spool_settle(struct spool *s, const struct spool_outcome *outcome)
{
	struct lines_job *job = xcalloc(1, sizeof(*job));
	bool ends = outcome->last || outcome->event == SPOOL_DELETE;

	ASSERT(outcome->event < ARRAY_LEN(record_events));
	/* "All recipients" and "not the end" would contradict each other. */
	ASSERT(outcome->n_rcpts > 0 || ends || outcome->event == SPOOL_HOLD ||
	    outcome->event == SPOOL_RELEASE);
	journal_job_init(&job->journal, JOURNAL_LINES);
	job->written = outcome->written;
	job->ctx = outcome->ctx;
	encode_lines(outcome, &job->journal.lines);
	spool_submit_journal(s, &job->journal, lines_done);
	s->lines_dirty = true;
	if (outcome->event == SPOOL_RELEASE)
		spool_forget_mark(s, outcome->id);
	if (ends)
		spool_account_dead(s, outcome->id, outcome->ref, outcome->size);
	else
		states_note(&s->states, outcome->id,
		    record_events[outcome->event], outcome->rcpts,
		    outcome->n_rcpts);
}

struct unlink_job {
	struct spool_job job; /* first */
	uint64_t *ids;
	size_t n;
	struct spool_notes notes;
};

static void unlink_run(struct work_job *work)
{
	struct unlink_job *job =
	    CONTAINER_OF(work, struct unlink_job, job.work);
	char name[ID_BUF];
	struct err err;

	for (size_t i = 0; i < job->n; i++)
		if (file_unlink(job->job.spool->dirs.large,
			id_format(job->ids[i], name), &err) < 0 &&
		    err.code != ENOENT)
			spool_notes_add(&job->notes, "large/%s", err.text);
}

static void unlink_done(struct work_job *work)
{
	struct unlink_job *job =
	    CONTAINER_OF(work, struct unlink_job, job.work);
	struct spool *s = spool_job_end(&job->job);

	spool_report_notes(s, &job->notes);
	free(job->ids);
	free(job);
}

void spool_unlink_large(struct spool *s, uint64_t *ids, size_t n)
{
	struct unlink_job *job;

	if (n == 0) {
		free(ids);
		return;
	}
	job = xcalloc(1, sizeof(*job));
	job->job.work.run = unlink_run;
	job->job.work.done = unlink_done;
	job->ids = ids;
	job->n = n;
	spool_submit(s, s->disk, &job->job);
}

static void sync_done(struct work_job *work)
{
	struct journal_job *job =
	    CONTAINER_OF(work, struct journal_job, job.work);
	struct spool *s = journal_job_end(job);
	struct spool_segment *g;

	s->syncing = false;
	if (job->rc == 0) {
		spool_unlink_large(s, s->gone_syncing, s->n_gone_syncing);
		g = s->outcomes.n > 0 ? s->outcomes.items[s->outcomes.n - 1]
				      : NULL;
		if (g != NULL && !g->sealed && job->end > g->bytes)
			g->bytes = job->end;
	} else {
		/* Still to be done, with those that came meanwhile. */
		for (size_t i = 0; i < s->n_gone_syncing; i++) {
			s->gone = xrealloc(
			    s->gone, (s->n_gone + 1) * sizeof(s->gone[0]));
			s->gone[s->n_gone++] = s->gone_syncing[i];
		}
		free(s->gone_syncing);
		s->lines_dirty = true;
	}
	s->gone_syncing = NULL;
	s->n_gone_syncing = 0;
	journal_job_free(job);
}

void spool_sync_lines(struct spool *s)
{
	if (!s->lines_dirty || s->syncing)
		return;
	s->syncing = true;
	s->lines_dirty = false;
	s->gone_syncing = s->gone;
	s->n_gone_syncing = s->n_gone;
	s->gone = NULL;
	s->n_gone = 0;
	spool_submit_journal(s, journal_job_new(JOURNAL_SYNC), sync_done);
}
