/*
 * What the loop asks disk threads to look at from time to time: free space,
 * and the age of what lies in failed/.
 *
 * A dead letter, or a piece of damage, is as old as its file says, and that was
 * set by the spool clock (spool_failed.c): a wall clock that jumps a month ahead
 * removes nothing, nor does one that was wrong when the file was made.
 */
#include "queue/spool_private.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

/*
 * Two for each kind of file that we make: segments of arrivals and outcomes,
 * large content, dead letters.  Small, as there are small file systems.
 */
#define FREE_INODES_MIN 8

struct space_job {
	struct spool_job job; /* first */
	int rc;
	struct statvfs vfs;
};

struct expire_job {
	struct spool_job job; /* first */
	int64_t before_us; /* INT64_MIN: none is too old */
	size_t n_letters;
	struct spool_notes notes;
};

static void space_run(struct work_job *work)
{
	struct space_job *job = CONTAINER_OF(work, struct space_job, job.work);

	job->rc = fstatvfs(job->job.spool->dirs.top, &job->vfs);
}

static void space_done(struct work_job *work)
{
	struct space_job *job = CONTAINER_OF(work, struct space_job, job.work);
	struct spool *s = spool_job_end(&job->job);

	s->counting = false;
	if (job->rc == 0) {
		s->space_known = true;
		s->streamed_counted = s->streamed_counting;
		s->free_bytes = (uint64_t)job->vfs.f_bavail * job->vfs.f_frsize;
		/* Some file systems have no fixed number of i-nodes: 0. */
		s->inodes_low =
		    job->vfs.f_files > 0 && job->vfs.f_favail < FREE_INODES_MIN;
	}
	free(job);
}

void spool_count_space(struct spool *s)
{
	struct space_job *job;

	if (s->counting)
		return;
	s->counting = true;
	s->streamed_counting = s->streamed_done;
	job = xcalloc(1, sizeof(*job));
	job->job.work.run = space_run;
	job->job.work.done = space_done;
	spool_submit(s, s->disk, &job->job);
}

static bool expire_name(void *ctx, const char *name)
{
	struct expire_job *job = ctx;
	int fd = job->job.spool->dirs.failed;
	bool letter = failed_is_letter(name);
	bool damaged = strncmp(name, "damaged-", 8) == 0;
	struct stat st;
	int64_t time_us;

	if (!letter && !damaged)
		return true;
	job->n_letters += letter;
	if (fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return true;
	time_us = (int64_t)st.st_mtim.tv_sec * US_PER_S;
	if (time_us < job->before_us && S_ISREG(st.st_mode) &&
	    file_unlink(fd, name, NULL) == 0)
		job->n_letters -= letter;
	return true;
}

static void expire_run(struct work_job *work)
{
	struct expire_job *job =
	    CONTAINER_OF(work, struct expire_job, job.work);
	struct err err;

	if (dirs_each(job->job.spool->dirs.failed, expire_name, job, &err) < 0)
		spool_notes_add(&job->notes, "failed: %s", err.text);
}

static void expire_done(struct work_job *work)
{
	struct expire_job *job =
	    CONTAINER_OF(work, struct expire_job, job.work);
	struct spool *s = spool_job_end(&job->job);

	s->expiring = false;
	/* Letters written meanwhile are counted at the next look. */
	s->n_failed = job->n_letters;
	spool_report_notes(s, &job->notes);
	free(job);
}

void spool_expire_failed(struct spool *s)
{
	struct expire_job *job;

	if (s->expiring)
		return;
	s->expiring = true;
	job = xcalloc(1, sizeof(*job));
	job->job.work.run = expire_run;
	job->job.work.done = expire_done;
	job->before_us = s->options.keep_failed_us > 0
	    ? spool_clock_now(s) - s->options.keep_failed_us
	    : INT64_MIN;
	spool_submit(s, s->disk, &job->job);
}
