/*
 * What is kept from one start to the next beside the mail itself: the spool
 * clock, the marks of messages that crashed us, and what was learned of SES.
 *
 * On the loop thread; files are written by disk threads, each by one job at a
 * time, after open, where they are read.  None of the files is worth a failure:
 * what cannot be read is as if it were not there, what cannot be written is
 * tried again a minute later, or with the next change.
 */
#include "queue/spool_private.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/mem.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BOOT_ID_FILE "/proc/sys/kernel/random/boot_id"

struct save_job {
	struct spool_job job; /* first */
	const char *name;
	char *text;
	size_t len;
	bool sync_dir;
	int fd; /* what came of it; with the reason when -1 */
	struct err err;
};

static void save_run(struct work_job *work)
{
	struct save_job *job = CONTAINER_OF(work, struct save_job, job.work);
	const struct spool *s = job->job.spool;

	job->fd = dirs_replace(
	    &s->dirs, job->name, job->text, job->len, s->durable, &job->err);
	if (job->fd >= 0 && job->sync_dir && s->durable &&
	    file_sync_dir(s->dirs.top, &job->err) < 0) {
		close(job->fd);
		job->fd = -1;
	}
}

/* Takes the text; the name is a constant. */
static void save(struct spool *s, const char *name, char *text, size_t len,
    bool sync_dir, void (*done)(struct work_job *work))
{
	struct save_job *job = xcalloc(1, sizeof(*job));

	job->job.work.run = save_run;
	job->job.work.done = done;
	job->name = name;
	job->text = text;
	job->len = len;
	job->sync_dir = sync_dir;
	spool_submit(s, s->disk, &job->job);
}

static struct spool *save_end(struct save_job *job)
{
	struct spool *s = spool_job_end(&job->job);

	if (job->fd >= 0)
		close(job->fd);
	free(job->text);
	free(job);
	return s;
}

/* --- the spool clock --- */

static void read_boot_id(struct spool_clock *c)
{
	size_t len = 0;
	char *text = dirs_read(AT_FDCWD, BOOT_ID_FILE, 64, &len);

	if (len > 0 && text[len - 1] == '\n')
		len--;
	spool_clock_set_boot(c, slice_of(text, len));
	free(text);
}

void spool_begin_clock(struct spool *s)
{
	struct spool_clock last;
	size_t len = 0;
	char *text = dirs_read(s->dirs.top, "clock", SPOOL_CLOCK_LEN + 1, &len);
	bool known =
	    text != NULL && spool_clock_decode(slice_of(text, len), &last) == 0;

	s->clock.wall_us = clock_wall_us();
	s->clock.boot_us = clock_boot_us();
	read_boot_id(&s->clock);
	spool_clock_go_on(known ? &last : NULL, &s->clock);
	atomic_store(&s->dirs.clock_us, s->clock.spool_us);
	free(text);
}

int64_t spool_clock_now(const struct spool *s)
{
	return spool_clock_at(&s->clock, clock_boot_us());
}

static void clock_saved(struct work_job *work)
{
	struct save_job *job = CONTAINER_OF(work, struct save_job, job.work);

	save_end(job)->saving_clock = false;
}

void spool_save_clock(struct spool *s, int64_t wall_us)
{
	struct spool_clock now = s->clock;
	char *line;

	if (s->saving_clock)
		return;
	s->saving_clock = true;
	now.wall_us = wall_us;
	now.boot_us = clock_boot_us();
	now.spool_us = spool_clock_now(s);
	line = xmalloc(SPOOL_CLOCK_LEN + 1);
	spool_clock_encode(&now, line);
	save(s, "clock", line, SPOOL_CLOCK_LEN, false, clock_saved);
}

/* --- marks --- */

void spool_begin_marks(struct spool *s)
{
	size_t len = 0;
	char *text = dirs_read(s->dirs.top, "crashed", MARKS_FILE_MAX, &len);

	if (text != NULL)
		marks_parse(&s->marks, slice_of(text, len));
	/* While it is replaced, a mark may be lost: not without need. */
	s->marks_dirty = len > MARKS_FILE_MAX / 2;
	free(text);
	s->marks_fd = openat(s->dirs.top, "crashed",
	    O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC,
	    0600);
	crash_set_fd(s->marks_fd);
}

void spool_end_marks(struct spool *s)
{
	if (s->marks_fd >= 0) {
		crash_set_fd(-1);
		close(s->marks_fd);
	}
	s->marks_fd = -1;
	marks_fini(&s->marks);
}

static void save_marks(struct spool *s);

static void marks_saved(struct work_job *work)
{
	struct save_job *job = CONTAINER_OF(work, struct save_job, job.work);
	int marks_fd = job->job.spool->marks_fd;
	struct spool *s;

	/* The handler's descriptor keeps its number: it may run any time. */
	if (job->fd >= 0 && marks_fd >= 0)
		(void)dup3(job->fd, marks_fd, O_CLOEXEC);
	s = save_end(job);
	s->saving_marks = false;
	save_marks(s);
}

static void save_marks(struct spool *s)
{
	size_t len;
	char *text;

	if (s->saving_marks || !s->marks_dirty || s->marks_fd < 0)
		return;
	s->saving_marks = true;
	s->marks_dirty = false;
	text = marks_format(&s->marks, &len);
	save(s, "crashed", text, len, false, marks_saved);
}

void spool_sift_marks(struct spool *s, const struct spool_marks *met)
{
	const struct spool_mark *mark;

	for (size_t i = s->marks.n; i-- > 0;) {
		mark = marks_find(met, s->marks.items[i].id);
		if (mark == NULL || !mark->alive) {
			marks_remove(&s->marks, s->marks.items[i].id);
			s->marks_dirty = true;
		}
	}
	save_marks(s);
}

void spool_forget_mark(struct spool *s, uint64_t id)
{
	if (marks_find(&s->marks, id) == NULL)
		return;
	marks_remove(&s->marks, id);
	s->marks_dirty = true;
	save_marks(s);
}

/* --- what was learned of SES --- */

void spool_begin_learned(struct spool *s)
{
	size_t len = 0;

	s->learned =
	    dirs_read(s->dirs.top, "learned", SPOOL_LEARNED_MAX + 1, &len);
	if (s->learned != NULL &&
	    (len > SPOOL_LEARNED_MAX || strlen(s->learned) != len)) {
		free(s->learned);
		s->learned = NULL;
	}
}

const char *spool_learned(const struct spool *s)
{
	return s->learned;
}

static void save_learned(struct spool *s);

static void learned_saved(struct work_job *work)
{
	struct save_job *job = CONTAINER_OF(work, struct save_job, job.work);
	struct spool *s = job->job.spool;
	bool failed = job->fd < 0;

	if (failed && !s->learned_failing)
		spool_trouble(s,
		    "what was learned of SES cannot be kept, the next start "
		    "learns it anew: %s",
		    job->err.text);
	s->learned_failing = failed;
	save_end(job);
	s->saving_learned = false;
	save_learned(s);
}

static void save_learned(struct spool *s)
{
	char *text = s->learn_next;

	if (s->saving_learned || text == NULL)
		return;
	s->saving_learned = true;
	s->learn_next = NULL;
	save(s, "learned", text, strlen(text), true, learned_saved);
}

void spool_learn(struct spool *s, const char *text)
{
	ASSERT(strlen(text) <= SPOOL_LEARNED_MAX);
	free(s->learn_next);
	s->learn_next = xstrdup(text);
	save_learned(s);
}

void spool_end_learned(struct spool *s)
{
	free(s->learned);
	free(s->learn_next);
}
