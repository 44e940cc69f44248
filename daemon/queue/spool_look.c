/*
 * Disk work on behalf of the operator: looks at the files, and the removal of
 * a dead letter that was put back.  Loop thread but for the run functions.
 */
#include "queue/spool_private.h"

#include "base/file.h"
#include "base/mem.h"

#include <errno.h>
#include <stdlib.h>

struct look_job {
	struct spool_job job; /* first */
	void (*run)(void *ctx, const char *directory);
	void (*done)(void *ctx);
	void *ctx;
};

struct remove_job {
	struct spool_job job; /* first */
	char *name;
	void (*done)(void *ctx, int rc, const struct err *err);
	void *ctx;
	int rc;
	struct err err;
};

static void look_run(struct work_job *work)
{
	struct look_job *job = CONTAINER_OF(work, struct look_job, job.work);

	job->run(job->ctx, job->job.spool->directory);
}

static void look_done(struct work_job *work)
{
	struct look_job *job = CONTAINER_OF(work, struct look_job, job.work);

	spool_job_end(&job->job);
	job->done(job->ctx);
	free(job);
}

void spool_look(struct spool *s, void (*run)(void *ctx, const char *directory),
    void (*done)(void *ctx), void *ctx)
{
	struct look_job *job = xcalloc(1, sizeof(*job));

	job->job.work.run = look_run;
	job->job.work.done = look_done;
	job->run = run;
	job->done = done;
	job->ctx = ctx;
	spool_submit(s, s->disk, &job->job);
}

static void remove_run(struct work_job *work)
{
	struct remove_job *job =
	    CONTAINER_OF(work, struct remove_job, job.work);

	job->rc =
	    file_unlink(job->job.spool->dirs.failed, job->name, &job->err);
}

static void remove_done(struct work_job *work)
{
	struct remove_job *job =
	    CONTAINER_OF(work, struct remove_job, job.work);
	struct spool *s = spool_job_end(&job->job);

	if (job->rc == 0 && s->n_failed > 0)
		s->n_failed--;
	job->done(job->ctx, job->rc, &job->err);
	free(job->name);
	free(job);
}

void spool_remove_letter(struct spool *s, const char *name,
    void (*done)(void *ctx, int rc, const struct err *err), void *ctx)
{
	struct remove_job *job = xcalloc(1, sizeof(*job));

	job->job.work.run = remove_run;
	job->job.work.done = remove_done;
	job->name = xstrdup(name);
	job->done = done;
	job->ctx = ctx;
	spool_submit(s, s->disk, &job->job);
}
