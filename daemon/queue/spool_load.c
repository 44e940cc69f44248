/*
 * Reading back: whole messages, and pieces of large content.
 *
 * On disk threads; messages that are wanted in one turn of the loop go there
 * and come back together.  Content is compared with the checksums of its
 * arrival before anybody gets it; large content is read once for that, which
 * also brings it into the page cache.  Compaction may remove the segment that a
 * waiting load was told to read: it is then sent to the copy.
 */
#include "queue/spool_private.h"

#include "base/file.h"
#include "base/mem.h"
#include "base/stat.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#define CHECK_BYTES (256u * 1024)
/* The last of them waits for all; with many, the threads share them. */
#define LOADS_MAX 16

/* One message. */
struct load {
	STAILQ_ENTRY(load) link;
	uint64_t id;
	struct spool_ref ref;
	struct spool_fd *lent; /* NULL: none; its fd was `fd` then */
	int fd; /* -1: to be opened */
	bool lent_failed;
	void (*done)(void *ctx, struct message *m, const struct err *err);
	void *ctx;
	struct message *message;
	struct err err;
	struct spool_notes notes;
};

struct load_batch {
	struct spool_job job; /* first */
	STAILQ_HEAD(, load) loads;
	unsigned n;
};

struct read_job {
	struct spool_job job; /* first */
	uint64_t id, offset;
	size_t len;
	struct body *out;
	void (*done)(void *ctx, int rc, const struct err *err);
	void *ctx;
	int rc;
	struct err err;
};

static int pread_large(
    int fd, uint64_t id, char *p, size_t len, uint64_t offset, struct err *err)
{
	struct err local;
	char text[ID_BUF];

	if (file_pread_all(fd, p, len, (int64_t)offset, &local) == 0)
		return 0;
	/* Too short is damaged for good; a failed read may work later. */
	return err_set(err, local.code == 0 ? EBADMSG : local.code,
	    "large/%s: %s", id_format(id, text), local.text);
}

static int open_large(
    const struct spool_dirs *dirs, uint64_t id, struct err *err)
{
	char name[ID_BUF];
	int fd = file_open_read(dirs->large, id_format(id, name), err);

	/* Gone, or something else stands there. */
	if (fd < 0 &&
	    (err->code == ENOENT || err->code == EINVAL || err->code == ELOOP))
		err->code = EBADMSG;
	return fd;
}

int load_large(const struct spool_dirs *dirs, uint64_t id, uint64_t offset,
    size_t len, struct body *out, struct err *err)
{
	int rc, fd = open_large(dirs, id, err);

	if (fd < 0)
		return -1;
	rc = pread_large(fd, id, body_reserve(out, len), len, offset, err);
	if (rc == 0)
		out->len += len;
	close(fd);
	return rc;
}

static int check_large(const struct spool_dirs *dirs, const struct message *m,
    uint64_t expected, struct err *err)
{
	struct record_summer *sum = record_sum_new();
	char *buf = xmalloc(CHECK_BYTES), id[ID_BUF];
	int rc = -1, fd = open_large(dirs, m->id, err);

	if (fd < 0)
		goto out;
	for (uint64_t at = 0; at < m->size;) {
		size_t n = m->size - at < CHECK_BYTES ? (size_t)(m->size - at)
						      : CHECK_BYTES;

		if (pread_large(fd, m->id, buf, n, at, err) < 0)
			goto out;
		record_sum_update(sum, buf, n);
		at += n;
	}
	if (record_sum_value(sum) == expected)
		rc = 0;
	else
		err_set(
		    err, EBADMSG, "large/%s is damaged", id_format(m->id, id));
out:
	if (fd >= 0)
		close(fd);
	free(buf);
	record_sum_free(sum);
	return rc;
}

static struct message *load_from(const struct spool_dirs *dirs, int fd,
    uint64_t id, struct spool_ref ref, struct err *err)
{
	struct record_extra extra;
	struct message *m = segment_load_fd(fd, id, ref, &extra, err);

	if (m != NULL && m->large &&
	    check_large(dirs, m, extra.large_sum, err) < 0) {
		message_free(m);
		return NULL;
	}
	return m;
}

static int open_segment(
    const struct spool_dirs *dirs, struct spool_ref ref, struct err *err)
{
	char name[SEGMENT_NAME_BUF];

	return file_open_read(
	    dirs->arrivals, segment_name(ref.segment, name), err);
}

struct message *load_message(const struct spool_dirs *dirs, uint64_t id,
    struct spool_ref ref, struct err *err)
{
	int fd = open_segment(dirs, ref, err);
	struct message *m;

	if (fd < 0)
		return NULL;
	m = load_from(dirs, fd, id, ref, err);
	close(fd);
	return m;
}

/* Also leaves the descriptor open, for who lends it to others. */
static struct message *load_and_keep(
    const struct spool_dirs *dirs, struct load *l)
{
	l->fd = open_segment(dirs, l->ref, &l->err);
	return l->fd < 0 ? NULL
			 : load_from(dirs, l->fd, l->id, l->ref, &l->err);
}

/* What an old descriptor cannot give, a new one has to refuse as well. */
static struct message *load(const struct spool_dirs *dirs, struct load *l)
{
	struct message *m;

	if (l->lent == NULL)
		return load_message(dirs, l->id, l->ref, &l->err);
	if (l->fd < 0)
		return load_and_keep(dirs, l);
	m = load_from(dirs, l->fd, l->id, l->ref, &l->err);
	if (m != NULL)
		return m;
	l->lent_failed = true;
	return load_message(dirs, l->id, l->ref, &l->err);
}

static void load_run(struct work_job *work)
{
	struct load_batch *batch =
	    CONTAINER_OF(work, struct load_batch, job.work);
	const struct spool_dirs *dirs = &batch->job.spool->dirs;
	struct crash_mark before;
	struct load *l;

	STAILQ_FOREACH (l, &batch->loads, link) {
		before = crash_enter(l->id, CRASH_LOAD);
		l->message = load(dirs, l);
		if (l->message == NULL && l->err.code == EBADMSG)
			failed_set_aside_record(dirs, l->ref, &l->notes);
		crash_leave(before);
	}
}

static void load_done(struct work_job *work);

/* One that can still be added to, or a new one. */
static struct load_batch *open_batch(struct spool *s)
{
	uint64_t round = work_port_round(s->port);
	struct load_batch *batch = s->loads;

	if (round != 0 && round == s->loads_round && batch->n < LOADS_MAX)
		return batch;
	batch = xcalloc(1, sizeof(*batch));
	STAILQ_INIT(&batch->loads);
	batch->job.work.run = load_run;
	batch->job.work.done = load_done;
	s->loads = batch;
	s->loads_round = round;
	return batch;
}

static void submit_load(struct spool *s, struct load *l)
{
	struct load_batch *batch = open_batch(s);

	l->lent = spool_fd_borrow(s, l->ref.segment);
	l->fd = l->lent != NULL ? l->lent->fd : -1;
	l->lent_failed = false;
	STAILQ_INSERT_TAIL(&batch->loads, l, link);
	if (batch->n++ == 0)
		spool_submit(s, s->disk, &batch->job);
}

static void give_back(struct spool *s, struct load *l)
{
	if (l->lent == NULL)
		return;
	if (l->lent_failed)
		spool_fd_forget(s, l->ref.segment);
	spool_fd_return(s, l->lent, l->fd);
}

static void end_load(struct spool *s, struct load *l)
{
	struct spool_ref ref = spool_where(s, l->id, l->ref);

	give_back(s, l);
	if (l->message == NULL && ref_pack(ref) != ref_pack(l->ref)) {
		l->ref = ref;
		submit_load(s, l);
		return;
	}
	if (l->message == NULL)
		stat_add(l->err.code == EBADMSG ? STAT_SPOOL_DAMAGED
						: STAT_SPOOL_ERRORS,
		    1);
	spool_report_notes(s, &l->notes);
	l->done(l->ctx, l->message, &l->err);
	free(l);
}

static void load_done(struct work_job *work)
{
	struct load_batch *batch =
	    CONTAINER_OF(work, struct load_batch, job.work);
	struct spool *s = spool_job_end(&batch->job);
	struct load *l;

	while ((l = STAILQ_FIRST(&batch->loads)) != NULL) {
		STAILQ_REMOVE_HEAD(&batch->loads, link);
		end_load(s, l);
	}
	free(batch);
}

void spool_load(struct spool *s, uint64_t id, struct spool_ref ref,
    void (*done)(void *ctx, struct message *m, const struct err *err),
    void *ctx)
{
	struct load *l = xcalloc(1, sizeof(*l));

	l->id = id;
	l->ref = spool_where(s, id, ref);
	l->done = done;
	l->ctx = ctx;
	submit_load(s, l);
}

static void read_run(struct work_job *work)
{
	struct read_job *job = CONTAINER_OF(work, struct read_job, job.work);
	struct crash_mark before = crash_enter(job->id, CRASH_LOAD);

	job->rc = load_large(&job->job.spool->dirs, job->id, job->offset,
	    job->len, job->out, &job->err);
	crash_leave(before);
}

static void read_done(struct work_job *work)
{
	struct read_job *job = CONTAINER_OF(work, struct read_job, job.work);

	spool_job_end(&job->job);
	if (job->rc < 0)
		stat_add(STAT_SPOOL_ERRORS, 1);
	job->done(job->ctx, job->rc, &job->err);
	free(job);
}

void spool_read_large(struct spool *s, const struct message *m, uint64_t offset,
    size_t len, struct body *out,
    void (*done)(void *ctx, int rc, const struct err *err), void *ctx)
{
	struct read_job *job = xcalloc(1, sizeof(*job));

	ASSERT(m->large && offset <= m->size && len <= m->size - offset);
	job->job.work.run = read_run;
	job->job.work.done = read_done;
	job->id = m->id;
	job->offset = offset;
	job->len = len;
	job->out = out;
	job->done = done;
	job->ctx = ctx;
	spool_submit(s, s->disk, &job->job);
}
