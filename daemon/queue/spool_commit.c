/*
 * Commit, and large content that streams to a file of its own before it.
 *
 * The loop's side; files are touched in run functions on disk threads and on
 * the journal thread.  A spool_large is used by one job at a time (`busy`) and
 * is freed on the loop.  Its file becomes durable, entry included, before the
 * arrival that refers to it is written; what a crash leaves without an arrival
 * is removed by the next scan.
 */
#include "queue/spool_private.h"

#include "base/file.h"
#include "base/mem.h"
#include "base/stat.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

enum large_step { LARGE_APPEND, LARGE_SYNC, LARGE_DROP };

struct large_job {
	struct spool_job job; /* first */
	enum large_step step;
	struct spool_large *large;
	struct body chunk;
	void (*done)(void *ctx, int rc, const struct err *err);
	void *ctx;
	struct journal_job *commit; /* SYNC: what comes next */
	int rc;
	struct err err;
};

struct commit_job {
	struct journal_job journal; /* first */
	struct message *message;
	struct spool_large *large;
	void (*done)(void *ctx, int rc, const struct err *err);
	void *ctx;
};

/* --- on disk threads --- */

static int large_append(
    struct spool_large *l, const struct body *chunk, struct err *err)
{
	char name[ID_BUF];

	if (!l->made) {
		l->fd = file_create(
		    l->spool->dirs.large, id_format(l->id, name), 0600, err);
		if (l->fd < 0)
			return -1;
		l->made = true;
	}
	if (file_pwrite_all(
		l->fd, chunk->data, chunk->len, (int64_t)l->size, err) < 0)
		return -1;
	record_sum_update(l->sum, chunk->data, chunk->len);
	l->size += chunk->len;
	return 0;
}

static int large_sync(struct spool_large *l, struct err *err)
{
	int rc = 0;

	if (l->spool->durable) {
		rc = file_datasync(l->fd, err);
		if (rc == 0)
			rc = file_sync_dir(l->spool->dirs.large, err);
	}
	close(l->fd);
	l->fd = -1;
	return rc;
}

static void large_drop(struct spool_large *l)
{
	char name[ID_BUF];

	if (!l->made)
		return;
	if (l->fd >= 0)
		close(l->fd);
	l->fd = -1;
	/* At worst the next scan finds it without an arrival. */
	(void)!file_unlink(l->spool->dirs.large, id_format(l->id, name), NULL);
}

static void large_run(struct work_job *work)
{
	struct large_job *job = CONTAINER_OF(work, struct large_job, job.work);

	switch (job->step) {
	case LARGE_APPEND:
		job->rc = large_append(job->large, &job->chunk, &job->err);
		break;
	case LARGE_SYNC:
		job->rc = large_sync(job->large, &job->err);
		break;
	case LARGE_DROP:
		large_drop(job->large);
		break;
	}
}

/* --- on the loop --- */

static void large_free(struct spool_large *l)
{
	ASSERT(l->fd < 0);
	record_sum_free(l->sum);
	free(l);
}

static void large_done(struct work_job *work);

static void large_submit(struct large_job *job)
{
	job->job.work.run = large_run;
	job->job.work.done = large_done;
	job->large->busy = true;
	spool_submit(job->large->spool, job->large->spool->disk, &job->job);
}

static void large_submit_drop(struct spool_large *l)
{
	struct large_job *job = xcalloc(1, sizeof(*job));

	job->step = LARGE_DROP;
	job->large = l;
	large_submit(job);
}

static void submit_commit(struct spool *s, struct journal_job *job);
static void commit_fail(struct spool *s, struct commit_job *commit);

static void large_done(struct work_job *work)
{
	struct large_job *job = CONTAINER_OF(work, struct large_job, job.work);
	struct spool *s = spool_job_end(&job->job);
	struct spool_large *l = job->large;

	l->busy = false;
	s->streamed_done += job->chunk.len;
	body_fini(&job->chunk);
	if (job->rc < 0) {
		stat_add(STAT_SPOOL_ERRORS, 1);
		l->failed = true;
	}
	if (job->step == LARGE_DROP) {
		large_free(l);
	} else if (job->step == LARGE_SYNC && job->rc == 0) {
		submit_commit(s, job->commit);
	} else if (job->step == LARGE_SYNC) {
		job->commit->rc = -1;
		job->commit->err = job->err;
		commit_fail(
		    s, CONTAINER_OF(job->commit, struct commit_job, journal));
	} else if (l->dropped) {
		large_submit_drop(l);
	} else {
		job->done(job->ctx, job->rc, &job->err);
	}
	free(job);
}

struct spool_large *spool_large_new(struct spool *s, uint64_t id)
{
	struct spool_large *l = xcalloc(1, sizeof(*l));

	l->spool = s;
	l->id = id;
	l->fd = -1;
	l->sum = record_sum_new();
	return l;
}

void spool_large_append(struct spool_large *l, struct body *chunk,
    void (*done)(void *ctx, int rc, const struct err *err), void *ctx)
{
	struct large_job *job;

	ASSERT(!l->busy && !l->dropped && !l->failed);
	job = xcalloc(1, sizeof(*job));
	job->step = LARGE_APPEND;
	job->large = l;
	body_move(&job->chunk, chunk);
	l->spool->streamed += job->chunk.len;
	job->done = done;
	job->ctx = ctx;
	large_submit(job);
}

void spool_large_drop(struct spool_large *l)
{
	ASSERT(!l->dropped);
	l->dropped = true;
	if (!l->busy)
		large_submit_drop(l);
}

static void commit_end(struct commit_job *commit)
{
	struct spool_large *l = commit->large;

	commit->done(commit->ctx, commit->journal.rc, &commit->journal.err);
	if (l != NULL && commit->journal.rc == 0)
		large_free(l);
	else if (l != NULL)
		spool_large_drop(l);
	journal_job_free(&commit->journal);
}

static void commit_fail(struct spool *s, struct commit_job *commit)
{
	if (commit->journal.voided)
		idmap_put(&s->voided, commit->message->id, 0);
	commit_end(commit);
}

static void commit_done(struct work_job *work)
{
	struct commit_job *commit =
	    CONTAINER_OF(work, struct commit_job, journal.job.work);
	struct spool *s = journal_job_end(&commit->journal);
	struct message *m = commit->message;

	if (commit->journal.rc < 0) {
		commit_fail(s, commit);
		return;
	}
	m->ref = commit->journal.ref;
	s->idle_ticks = 0;
	spool_account_written(s, m->ref, commit->journal.end);
	spool_account_live(s, m);
	commit_end(commit);
}

static void submit_commit(struct spool *s, struct journal_job *job)
{
	spool_submit_journal(s, job, commit_done);
}

void spool_commit(struct spool *s, struct message *m, struct spool_large *large,
    void (*done)(void *ctx, int rc, const struct err *err), void *ctx)
{
	struct commit_job *commit = xcalloc(1, sizeof(*commit));
	struct journal_job *job = &commit->journal;
	struct large_job *sync;

	ASSERT(m->id != 0 && m->n_rcpts > 0 && m->n_rcpts <= UINT16_MAX);
	m->large = large != NULL;
	m->size = large != NULL ? large->size : m->body.len;
	m->clock_us = spool_clock_now(s);
	journal_job_init(job, JOURNAL_COMMIT);
	job->message = m;
	commit->message = m;
	commit->large = large;
	commit->done = done;
	commit->ctx = ctx;
	if (idmap_get(&s->voided, m->id, NULL)) {
		/* The next scan would take it for void again. */
		job->kind = JOURNAL_NOTHING;
		job->rc = err_set(&job->err, EINVAL, "the id is void");
	}
	if (large == NULL || job->kind == JOURNAL_NOTHING) {
		submit_commit(s, job);
		return;
	}
	ASSERT(!large->busy && !large->dropped && !large->failed);
	ASSERT(large->fd >= 0 && large->id == m->id && m->body.len == 0);
	job->extra.large_sum = record_sum_value(large->sum);
	sync = xcalloc(1, sizeof(*sync));
	sync->step = LARGE_SYNC;
	sync->large = large;
	sync->commit = job;
	large_submit(sync);
}
