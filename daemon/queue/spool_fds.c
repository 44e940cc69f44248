/*
 * Descriptors of the segments that messages were loaded from last.
 *
 * The loop thread's, like all accounts: a job on a disk thread gets a
 * descriptor lent, and it stays open until the job is back; one that had to
 * open its segment itself may leave it here.  What is in a segment at a place
 * where a record was never changes, so that an old descriptor reads what a new
 * one would; whatever it cannot give is looked for again by name.
 *
 * A descriptor is closed on a disk thread: with the last one of a file that
 * was unlinked, the file system frees its blocks.
 */
#include "queue/spool_private.h"

#include "base/mem.h"

#include <stdlib.h>
#include <unistd.h>

struct close_job {
	struct spool_job job; /* first */
	int fd;
};

static void close_run(struct work_job *work)
{
	close(CONTAINER_OF(work, struct close_job, job.work)->fd);
}

static void close_done(struct work_job *work)
{
	struct close_job *job = CONTAINER_OF(work, struct close_job, job.work);

	spool_job_end(&job->job);
	free(job);
}

static void close_entry(struct spool *s, struct spool_fd *e)
{
	struct close_job *job;

	if (e->fd >= 0) {
		job = xcalloc(1, sizeof(*job));
		job->job.work.run = close_run;
		job->job.work.done = close_done;
		job->fd = e->fd;
		spool_submit(s, s->disk, &job->job);
	}
	*e = (struct spool_fd){ .fd = -1 };
}

void spool_fds_init(struct spool *s)
{
	for (size_t i = 0; i < ARRAY_LEN(s->fds); i++)
		s->fds[i].fd = -1;
}

void spool_fds_fini(struct spool *s)
{
	for (size_t i = 0; i < ARRAY_LEN(s->fds); i++) {
		ASSERT(s->fds[i].n_users == 0);
		if (s->fds[i].fd >= 0)
			close(s->fds[i].fd);
	}
}

static struct spool_fd *find(struct spool *s, uint32_t number)
{
	for (size_t i = 0; i < ARRAY_LEN(s->fds); i++)
		if (s->fds[i].number == number && !s->fds[i].gone)
			return &s->fds[i];
	return NULL;
}

/* The one that nobody has used for longest; NULL: all are in use. */
static struct spool_fd *oldest(struct spool *s)
{
	struct spool_fd *found = NULL;

	for (size_t i = 0; i < ARRAY_LEN(s->fds); i++)
		if (s->fds[i].n_users == 0 &&
		    (found == NULL || s->fds[i].used < found->used))
			found = &s->fds[i];
	return found;
}

struct spool_fd *spool_fd_borrow(struct spool *s, uint32_t number)
{
	struct spool_fd *e = find(s, number);

	if (e == NULL) {
		e = oldest(s);
		if (e == NULL)
			return NULL;
		close_entry(s, e);
		e->number = number;
	} else if (e->fd < 0) {
		return NULL; /* another job is about to open it */
	}
	e->n_users++;
	e->used = ++s->fds_used;
	return e;
}

void spool_fd_return(struct spool *s, struct spool_fd *e, int fd)
{
	ASSERT(e->n_users > 0 && (e->fd < 0 || fd == e->fd));
	e->fd = fd;
	e->n_users--;
	if (e->n_users == 0 && (e->gone || e->fd < 0))
		close_entry(s, e);
}

void spool_fd_forget(struct spool *s, uint32_t number)
{
	struct spool_fd *e = find(s, number);

	if (e == NULL)
		return;
	e->gone = true;
	if (e->n_users == 0)
		close_entry(s, e);
}
