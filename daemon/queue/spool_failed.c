/*
 * failed/: dead letters, and damaged bytes that were set aside.
 *
 * On disk threads.  A file gets its name only when it is whole and durable: it
 * is written as .NAME.tmp, synced, renamed, and the directory is synced; what
 * a crash leaves of that is removed at the next start.  Its time of change is
 * the spool clock's, for spool_expire.c.  Text from outside is
 * escaped before it becomes a header line.
 */
#include "queue/spool_private.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/stat.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define COPY_BYTES (256u * 1024)
#define NAME_BUF 64
#define TEMPORARY_BUF (NAME_BUF + 8)

struct bury_job {
	struct spool_job job; /* first */
	struct spool_letter letter; /* points to the copies below */
	uint16_t *rcpts;
	char *reason, *reply;
	void (*done)(void *ctx, int rc, const struct err *err);
	void *ctx;
	int rc;
	struct err err;
	struct spool_notes notes;
};

static void temporary_name(const char *name, char buf[TEMPORARY_BUF])
{
	snprintf(buf, TEMPORARY_BUF, ".%s.tmp", name);
}

bool failed_is_letter(const char *name)
{
	struct slice text = slice_str(name);

	return text.len > strlen(".eml") && slice_has_suffix(text, ".eml");
}

/* -1: nobody can say, and a guess could replace what is there. */
static int exists(
    const struct spool_dirs *dirs, const char *name, struct err *err)
{
	if (faccessat(dirs->failed, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
		return 1;
	return errno == ENOENT ? 0 : err_sys(err, "cannot look at %s", name);
}

/* It, or something that cannot be removed where it would be written. */
static int is_taken(
    const struct spool_dirs *dirs, const char *name, struct err *err)
{
	char temporary[TEMPORARY_BUF];
	int rc;

	temporary_name(name, temporary);
	if (exists(dirs, temporary, NULL) == 1)
		(void)!file_unlink(dirs->failed, temporary, NULL);
	rc = exists(dirs, name, err);
	return rc == 0 ? exists(dirs, temporary, err) : rc;
}

static int begin_file(
    const struct spool_dirs *dirs, const char *name, struct err *err)
{
	char temporary[TEMPORARY_BUF];

	temporary_name(name, temporary);
	(void)!file_unlink(dirs->failed, temporary, NULL);
	return file_create(dirs->failed, temporary, 0600, err);
}

/*
 * Closes fd.  `rc` tells whether the content could be written.  After a failure
 * no name is left: what is written again later must not stand there twice.
 */
static int end_file(const struct spool_dirs *dirs, const char *name, int fd,
    bool durable, int rc, struct err *err)
{
	int64_t now_us = atomic_load(&dirs->clock_us);
	struct timespec now = { .tv_sec = now_us / US_PER_S };
	struct timespec times[2] = { now, now };
	char temporary[TEMPORARY_BUF];

	temporary_name(name, temporary);
	/* At worst its age is by the wall clock. */
	(void)!futimens(fd, times);
	if (rc == 0 && durable)
		rc = file_datasync(fd, err);
	close(fd);
	if (rc == 0)
		rc = file_rename(dirs->failed, temporary, name, err);
	if (rc < 0) {
		(void)!file_unlink(dirs->failed, temporary, NULL);
		return -1;
	}
	if (durable && file_sync_dir(dirs->failed, err) < 0) {
		(void)!file_unlink(dirs->failed, name, NULL);
		return -1;
	}
	return 0;
}

/* Does the file hold these bytes of the segment, and no more? */
static bool holds(const struct spool_dirs *dirs, const char *name,
    struct segment_reader *r, uint64_t offset, uint64_t len)
{
	int fd = file_open_read(dirs->failed, name, NULL);
	char *buf = xmalloc(COPY_BYTES);
	struct stat st;
	bool same =
	    fd >= 0 && fstat(fd, &st) == 0 && (uint64_t)st.st_size == len;

	for (uint64_t at = 0; same && at < len;) {
		size_t n =
		    len - at < COPY_BYTES ? (size_t)(len - at) : COPY_BYTES;

		same = file_pread_all(fd, buf, n, (int64_t)at, NULL) == 0 &&
		    memcmp(buf, segment_peek(r, offset + at, n), n) == 0;
		at += n;
	}
	if (fd >= 0)
		close(fd);
	free(buf);
	return same;
}

int failed_set_aside(const struct spool_dirs *dirs, struct segment_reader *r,
    uint64_t offset, uint64_t len, struct spool_notes *notes)
{
	char name[NAME_BUF];
	struct err err;
	int rc, fd, stem;

	/* An earlier segment may have had the same number. */
	stem = snprintf(name, sizeof(name), "damaged-%09u-%llu", r->number,
	    (unsigned long long)offset);
	for (unsigned i = 2; (rc = exists(dirs, name, &err)) > 0; i++) {
		if (holds(dirs, name, r, offset, len))
			return 0;
		snprintf(name + stem, sizeof(name) - (size_t)stem, ".%u", i);
	}
	if (rc < 0)
		goto fail;
	fd = begin_file(dirs, name, &err);
	if (fd < 0)
		goto fail;
	for (uint64_t at = offset; at < offset + len && rc == 0;) {
		size_t n = offset + len - at < COPY_BYTES
		    ? (size_t)(offset + len - at)
		    : COPY_BYTES;

		rc = file_write_all(fd, segment_peek(r, at, n), n, &err);
		at += n;
	}
	rc = end_file(dirs, name, fd, true, rc, &err);
	if (rc < 0)
		goto fail;
	spool_notes_add(notes, "copied to failed/%s", name);
	return 0;
fail:
	spool_notes_add(notes, "failed/%s: %s", name, err.text);
	return -1;
}

void failed_set_aside_record(const struct spool_dirs *dirs,
    struct spool_ref ref, struct spool_notes *notes)
{
	struct segment_reader r;
	struct segment_item item;

	if (segment_open(
		&r, dirs->arrivals, RECORD_ARRIVALS, ref.segment, NULL) < 0)
		return;
	r.pos = ref.offset;
	segment_next(&r, true, &item);
	if (item.kind == SEGMENT_DAMAGE || item.kind == SEGMENT_TORN)
		(void)!failed_set_aside(dirs, &r, item.offset, item.len, notes);
	segment_close(&r);
}

/* --- dead letters --- */

static void add_header(
    struct record_buf *out, const char *key, const char *value)
{
	record_buf_append(out, "X-Sesrelayd-", strlen("X-Sesrelayd-"));
	record_buf_append(out, key, strlen(key));
	record_buf_append(out, ": ", 2);
	record_escape(out, slice_str(value), 0);
	record_buf_append(out, "\r\n", 2);
}

static void add_recipient(struct record_buf *out, const struct rcpt *rcpt)
{
	add_header(out, "Recipient", rcpt->addr);
	if (rcpt->orig != NULL)
		add_header(out, "Original-Recipient", rcpt->orig);
}

static void add_recipients(struct record_buf *out, const struct message *m,
    const struct spool_letter *letter)
{
	if (letter->n_rcpts == 0)
		for (unsigned i = 0; i < m->n_rcpts; i++)
			add_recipient(out, &m->rcpts[i]);
	for (unsigned i = 0; i < letter->n_rcpts; i++)
		if (letter->rcpts[i] < m->n_rcpts)
			add_recipient(out, &m->rcpts[letter->rcpts[i]]);
}

static void add_headers(struct record_buf *out, const struct message *m,
    const struct spool_letter *letter)
{
	char text[ID_BUF + RECORD_TIME_LEN];

	add_header(out, "Id", id_format(m->id, text));
	record_encode_time(letter->time_us, text);
	add_header(out, "Time", text);
	record_encode_time(m->arrival_us, text);
	add_header(out, "Arrival", text);
	add_header(out, "Sender", m->sender);
	add_recipients(out, m, letter);
	if (m->message_id != NULL && m->message_id[0] != '\0')
		add_header(out, "Message-Id", m->message_id);
	add_header(out, "Body", m->body_8bit ? "8BITMIME" : "7BIT");
	add_header(out, "Reason", letter->reason);
	if (letter->reply != NULL)
		add_header(out, "Reply", letter->reply);
}

static int write_large(const struct spool_dirs *dirs, int fd,
    const struct message *m, struct err *err)
{
	struct body piece;
	int rc = 0;

	body_init(&piece);
	for (uint64_t at = 0; at < m->size && rc == 0; at += piece.len) {
		uint64_t left = m->size - at;

		piece.len = 0;
		rc = load_large(dirs, m->id, at,
		    left < COPY_BYTES ? (size_t)left : COPY_BYTES, &piece, err);
		if (rc == 0)
			rc = file_write_all(fd, piece.data, piece.len, err);
	}
	body_fini(&piece);
	return rc;
}

static int write_letter(const struct spool_dirs *dirs, bool durable,
    const struct message *m, const struct spool_letter *letter, struct err *err)
{
	struct record_buf headers = { 0 };
	char name[NAME_BUF], id[ID_BUF];
	int fd, rc;

	id_format(m->id, id);
	snprintf(name, sizeof(name), "%s.eml", id);
	for (unsigned i = 2; (rc = is_taken(dirs, name, err)) > 0; i++)
		snprintf(name, sizeof(name), "%s.%u.eml", id, i);
	if (rc < 0)
		return -1;
	fd = begin_file(dirs, name, err);
	if (fd < 0)
		return -1;
	add_headers(&headers, m, letter);
	rc = file_write_all(fd, headers.data, headers.len, err);
	record_buf_fini(&headers);
	if (rc == 0 && m->large)
		rc = write_large(dirs, fd, m, err);
	else if (rc == 0)
		rc = file_write_all(fd, m->body.data, m->body.len, err);
	return end_file(dirs, name, fd, durable, rc, err);
}

static void bury_run(struct work_job *work)
{
	struct bury_job *job = CONTAINER_OF(work, struct bury_job, job.work);
	struct crash_mark before = crash_enter(job->letter.id, CRASH_BURY);
	const struct spool *s = job->job.spool;
	struct message *m;

	job->rc = -1;
	m = load_message(&s->dirs, job->letter.id, job->letter.ref, &job->err);
	if (m == NULL && job->err.code == EBADMSG)
		failed_set_aside_record(&s->dirs, job->letter.ref, &job->notes);
	if (m != NULL)
		job->rc = write_letter(
		    &s->dirs, s->durable, m, &job->letter, &job->err);
	message_free(m);
	crash_leave(before);
}

static void bury_done(struct work_job *work)
{
	struct bury_job *job = CONTAINER_OF(work, struct bury_job, job.work);
	struct spool *s = spool_job_end(&job->job);
	struct spool_ref ref = spool_where(s, job->letter.id, job->letter.ref);

	if (job->rc < 0 && ref_pack(ref) != ref_pack(job->letter.ref)) {
		job->letter.ref = ref;
		spool_submit(s, s->disk, &job->job);
		return;
	}
	if (job->rc < 0)
		stat_add(STAT_SPOOL_ERRORS, 1);
	else
		s->n_failed++;
	spool_report_notes(s, &job->notes);
	job->done(job->ctx, job->rc, &job->err);
	free(job->rcpts);
	free(job->reason);
	free(job->reply);
	free(job);
}

void spool_bury(struct spool *s, const struct spool_letter *letter,
    void (*done)(void *ctx, int rc, const struct err *err), void *ctx)
{
	struct bury_job *job = xcalloc(1, sizeof(*job));

	job->job.work.run = bury_run;
	job->job.work.done = bury_done;
	job->letter = *letter;
	job->letter.ref = spool_where(s, letter->id, letter->ref);
	if (letter->n_rcpts > 0)
		job->rcpts = xmemdup(
		    letter->rcpts, letter->n_rcpts * sizeof(letter->rcpts[0]));
	job->reason = xstrdup(letter->reason);
	if (letter->reply != NULL)
		job->reply = xstrdup(letter->reply);
	job->letter.rcpts = job->rcpts;
	job->letter.reason = job->reason;
	job->letter.reply = job->reply;
	job->done = done;
	job->ctx = ctx;
	spool_submit(s, s->disk, &job->job);
}
