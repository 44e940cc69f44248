/*
 * The journal thread: what waits becomes one write and one fdatasync.
 *
 * journal_run() takes everything that was submitted while the last batch ran:
 * outcome lines go to the outcomes segment in one write, records to the
 * arrivals segment in one write and, as each of them is a promise, one
 * fdatasync (one more for each segment that the batch fills).
 *
 * A failed write or sync of arrivals fails all records of that write.  The
 * segment is closed, never synced again.  Where the attempt cannot be undone
 * for certain, the ids are voided by outcome lines, made durable before anyone
 * is told, and arrivals_ok is false until a probe has synced a fresh segment.
 * Outcomes: spool_outcomes.c.  This thread owns struct journal but for n_live.
 */
#include "queue/spool_private.h"

#include "base/file.h"
#include "base/mem.h"
#include "base/stat.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

void journal_init(struct journal *j, const struct spool_dirs *dirs,
    bool durable, uint32_t segment_bytes)
{
	*j = (struct journal){
		.arrivals_fd = dirs->arrivals,
		.outcomes_fd = dirs->outcomes,
		.durable = durable,
		.segment_bytes = segment_bytes,
		.next_arrivals = 1,
		.next_outcomes = 1,
		.arrivals = { .fd = -1 },
		.outcomes = { .fd = -1 },
		.arrivals_ok = true,
		.outcomes_ok = true,
	};
	STAILQ_INIT(&j->notes);
}

void journal_fini(struct journal *j)
{
	segment_seal(&j->arrivals);
	segment_seal(&j->outcomes);
	record_buf_fini(&j->pending);
	record_buf_fini(&j->text);
	free(j->jobs);
	free(j->iov);
}

/* A lack that goes away by itself and has harmed nothing. */
static bool is_lack(int code)
{
	return file_no_space(code) || code == EMFILE || code == ENFILE ||
	    code == ENOMEM;
}

/* --- arrivals --- */

static int open_arrivals(struct journal *j, struct err *err)
{
	if (segment_create(&j->arrivals, j->arrivals_fd, RECORD_ARRIVALS,
		j->next_arrivals++, j->highest, j->durable, err) < 0) {
		j->arrivals.fd = -1;
		return -1;
	}
	/* Without it a write that finds no space says so itself. */
	(void)!segment_reserve(&j->arrivals, j->segment_bytes, NULL);
	journal_note_segment(j, NOTE_ARRIVALS_NEW, &j->arrivals);
	j->n_written = 0;
	return 0;
}

static void close_arrivals(struct journal *j)
{
	if (j->arrivals.fd < 0)
		return;
	journal_note_segment(j, NOTE_ARRIVALS_SEALED, &j->arrivals);
	segment_seal(&j->arrivals);
}

static void arrivals_failed(struct journal *j, const struct err *err)
{
	stat_add(STAT_SPOOL_ERRORS, 1);
	j->arrivals_ok = false;
	journal_note_health(j, err);
}

static int ready_for_records(struct journal *j, size_t n, struct err *err)
{
	if (!j->arrivals_ok || !j->outcomes_ok)
		return err_set(err, EIO, "the spool cannot be written to");
	if (journal_reserve_outcomes(j, &j->outcomes, n, err) < 0)
		return -1;
	if (j->arrivals.fd >= 0)
		return 0;
	if (open_arrivals(j, err) < 0) {
		if (!is_lack(err->code))
			arrivals_failed(j, err);
		return -1;
	}
	return 0;
}

/* Text of the record that will stand at `at`: line, head, closing line. */
static int encode_record(
    struct journal *j, struct journal_job *job, uint64_t at)
{
	const struct message *m = job->message;
	struct record_line *line = &job->line;
	size_t start = j->text.len, head = start + RECORD_LINE_LEN;

	job->text_at = start;
	job->text_len = 0;
	if (m->body.len > RECORD_BODY_MAX)
		return err_set(&job->err, EMSGSIZE, "the content is too long");
	record_buf_reserve(&j->text, RECORD_LINE_LEN);
	j->text.len = head;
	if (record_encode_head(m, &job->extra, &j->text, &job->err) < 0) {
		j->text.len = start;
		return -1;
	}
	*line = (struct record_line){
		.nonce = j->arrivals.nonce,
		.ref = { .segment = j->arrivals.number,
		    .offset = (uint32_t)at },
		.id = m->id,
		.head_len = (uint32_t)(j->text.len - head),
		.body_len = m->large ? 0 : (uint32_t)m->body.len,
	};
	line->head_sum = record_sum(j->text.data + head, line->head_len);
	line->body_sum = record_sum(m->body.data, line->body_len);
	record_encode_line(line, j->text.data + start);
	record_buf_reserve(&j->text, RECORD_END_LEN);
	record_encode_end(m->id, j->text.data + j->text.len);
	j->text.len += RECORD_END_LEN;
	job->text_len = j->text.len - start;
	return 0;
}

/* iovecs of the encoded jobs; the text does not move any more. */
static int gather(
    struct journal *j, size_t first, size_t n, int *n_iov, size_t *bytes)
{
	size_t want = 3 * (n - first);

	if (want > j->iov_size) {
		j->iov_size = 2 * want;
		free(j->iov);
		j->iov = xmalloc(j->iov_size * sizeof(*j->iov));
	}
	*n_iov = 0;
	*bytes = 0;
	for (size_t i = first; i < n; i++) {
		struct journal_job *job = j->jobs[i];
		char *text = j->text.data + job->text_at;

		if (job->text_len == 0)
			continue;
		j->iov[(*n_iov)++] = (struct iovec){ .iov_base = text,
			.iov_len = job->text_len - RECORD_END_LEN };
		j->iov[(*n_iov)++] =
		    (struct iovec){ .iov_base = job->message->body.data,
			    .iov_len = job->line.body_len };
		j->iov[(*n_iov)++] = (struct iovec){ .iov_base = text +
			    job->text_len - RECORD_END_LEN,
			.iov_len = RECORD_END_LEN };
		*bytes += record_total(&job->line);
	}
	return *n_iov > 0 ? 0 : -1;
}

/* Nothing of these may ever be found: say so where it lasts. */
static void void_records(struct journal *j, size_t first, size_t n)
{
	struct err err;

	for (size_t i = first; i < n; i++) {
		struct journal_job *job = j->jobs[i];
		struct record_outcome o = {
			.time_us = job->message->arrival_us,
			.id = job->message->id,
			.event = RECORD_VOID,
			.last = true,
			.reply = slice_str(job->err.text),
		};

		if (job->kind != JOURNAL_COMMIT || job->text_len == 0)
			continue;
		job->voided = true;
		/* Nor may a later message get that id, whatever the clock. */
		if (o.id > j->highest)
			j->highest = o.id;
		record_encode_outcome(&o, &j->pending);
	}
	/* If that fails they stay pending, and nothing goes on before. */
	(void)!journal_sync_lines(j, &err);
}

static void group_failed(struct journal *j, size_t first, size_t n, bool undone,
    const struct err *err)
{
	for (size_t i = first; i < n; i++)
		if (j->jobs[i]->text_len > 0) {
			j->jobs[i]->rc = -1;
			j->jobs[i]->err = *err;
		}
	if (!undone) {
		void_records(j, first, n);
		arrivals_failed(j, err);
	}
	close_arrivals(j);
}

static void write_group(struct journal *j, size_t first, size_t n)
{
	uint64_t start = j->arrivals.end;
	struct err err;
	size_t bytes;
	int n_iov;

	if (gather(j, first, n, &n_iov, &bytes) < 0)
		return;
	if (segment_append(&j->arrivals, j->iov, n_iov, bytes, &err) < 0) {
		bool undone = file_no_space(err.code) &&
		    segment_rewind(&j->arrivals, NULL) == 0;

		group_failed(j, first, n, undone, &err);
		return;
	}
	stat_add(STAT_SPOOL_SYNCS, 1);
	if (segment_sync(&j->arrivals, &err) < 0) {
		j->arrivals.end = start;
		group_failed(j, first, n, false, &err);
		return;
	}
	for (size_t i = first; i < n; i++) {
		struct journal_job *job = j->jobs[i];

		if (job->text_len == 0)
			continue;
		job->rc = 0;
		j->n_written++;
		job->ref = job->line.ref;
		job->end = job->line.ref.offset + record_total(&job->line);
		if (job->message->id > j->highest)
			j->highest = job->message->id;
	}
}

static void fail_rest(struct journal *j, size_t first, const struct err *err)
{
	for (; first < j->n_jobs; first++) {
		j->jobs[first]->rc = -1;
		j->jobs[first]->err = *err;
	}
}

/* As many as fit into the segment; a lone record always fits. */
static void write_records(struct journal *j)
{
	size_t first = 0, n;
	struct err err;
	uint64_t at;

	while (first < j->n_jobs) {
		if (ready_for_records(j, j->n_jobs - first, &err) < 0) {
			fail_rest(j, first, &err);
			return;
		}
		at = j->arrivals.end;
		j->text.len = 0;
		for (n = first; n < j->n_jobs; n++) {
			struct journal_job *job = j->jobs[n];

			job->rc = -1;
			if (encode_record(j, job, at) < 0)
				continue;
			at += record_total(&job->line);
			if (at > j->segment_bytes &&
			    job->line.ref.offset > RECORD_HEADER_LEN)
				break;
		}
		write_group(j, first, n);
		if (n < j->n_jobs)
			close_arrivals(j);
		first = n;
	}
	if (j->arrivals.fd >= 0 && j->arrivals.end >= j->segment_bytes)
		close_arrivals(j);
}

/* --- health --- */

static void probe(struct journal *j)
{
	bool was_ok = j->arrivals_ok && j->outcomes_ok;
	struct err err;

	if (was_ok)
		return;
	if (!j->outcomes_ok) {
		if (journal_renew_outcomes(j, &err) < 0)
			return;
		j->outcomes_ok = true;
	}
	if (!j->arrivals_ok) {
		if (open_arrivals(j, &err) < 0)
			goto out;
		if (segment_sync(&j->arrivals, &err) < 0) {
			close_arrivals(j);
			goto out;
		}
		j->arrivals_ok = true;
	}
out:
	journal_note_health(j, j->arrivals_ok ? NULL : &err);
}

/* --- batches --- */

static void add_record(struct journal *j, struct journal_job *job)
{
	if (j->n_jobs == j->jobs_size) {
		j->jobs_size = j->jobs_size > 0 ? 2 * j->jobs_size : 64;
		j->jobs = xrealloc(
		    j->jobs, j->jobs_size * sizeof(struct journal_job *));
	}
	j->jobs[j->n_jobs++] = job;
}

static void finish(struct journal *j, struct journal_job *job)
{
	if (job->kind == JOURNAL_SYNC || job->kind == JOURNAL_CLOSE)
		job->rc = journal_sync_lines(j, &job->err);
	if (job->kind == JOURNAL_SEAL || job->kind == JOURNAL_CLOSE)
		close_arrivals(j);
	/* Once a tick, for what the scan has found. */
	if (job->kind == JOURNAL_NOTHING && j->outcomes_ok)
		(void)!journal_reserve_outcomes(j, &j->outcomes, 0, NULL);
	if (job->kind == JOURNAL_CLOSE)
		journal_close_outcomes(j);
	job->end = job->kind == JOURNAL_SYNC ? j->outcomes.end : job->end;
}

void journal_run(void *ctx, struct work_list *batch)
{
	struct journal *j = ctx;
	struct work_job *work;
	struct journal_job *job;

	j->n_jobs = 0;
	STAILQ_FOREACH (work, batch, link) {
		job = CONTAINER_OF(work, struct journal_job, job.work);
		if (job->kind == JOURNAL_LINES)
			record_buf_append(
			    &j->pending, job->lines.data, job->lines.len);
		else if (job->kind <= JOURNAL_COPY)
			add_record(j, job);
		else if (job->kind == JOURNAL_PROBE ||
		    job->kind == JOURNAL_CLOSE)
			probe(j);
	}
	journal_flush_lines(j);
	write_records(j);
	journal_roll_outcomes(j);
	STAILQ_FOREACH (work, batch, link)
		finish(j, CONTAINER_OF(work, struct journal_job, job.work));
	/* News first: the tables must know a segment before its records. */
	work = STAILQ_FIRST(batch);
	job = CONTAINER_OF(work, struct journal_job, job.work);
	STAILQ_CONCAT(&job->notes, &j->notes);
	record_buf_fini(&j->text);
}
