/*
 * The spool's side on the loop thread: jobs, tick, health, space, close.
 *
 * No file is touched here; everything goes through jobs, counted in n_jobs so
 * that spool_close() knows when it may free what they point to.  Parts and
 * ownership: spool_private.h.
 */
#include "queue/spool_private.h"

#include "base/clock.h"
#include "base/mem.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define MINUTE_TICKS 60
/* A segment without a live message is closed after so long without a commit. */
#define IDLE_TICKS 10

void spool_trouble(struct spool *s, const char *fmt, ...)
{
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	s->events->on_trouble(s->ctx, text);
}

void spool_report_notes(struct spool *s, struct spool_notes *notes)
{
	for (size_t i = 0; i < notes->n; i++)
		s->events->on_trouble(s->ctx, notes->items[i]);
	spool_notes_fini(notes);
}

/* --- jobs --- */

void spool_submit(struct spool *s, struct worker *w, struct spool_job *job)
{
	job->spool = s;
	s->n_jobs++;
	work_submit(w, &job->work);
}

struct spool *spool_job_end(struct spool_job *job)
{
	ASSERT(job->spool->n_jobs > 0);
	job->spool->n_jobs--;
	return job->spool;
}

void journal_job_init(struct journal_job *job, enum journal_kind kind)
{
	job->kind = kind;
	STAILQ_INIT(&job->notes);
}

struct journal_job *journal_job_new(enum journal_kind kind)
{
	struct journal_job *job = xcalloc(1, sizeof(*job));

	journal_job_init(job, kind);
	return job;
}

void journal_job_free(struct journal_job *job)
{
	record_buf_fini(&job->lines);
	free(job);
}

void spool_submit_journal(struct spool *s, struct journal_job *job,
    void (*done)(struct work_job *work))
{
	job->job.work.done = done;
	spool_submit(s, s->journal_worker, &job->job);
}

struct spool *journal_job_end(struct journal_job *job)
{
	struct spool *s = spool_job_end(&job->job);

	spool_take_notes(s, &job->notes);
	return s;
}

/* --- health --- */

static bool is_healthy(const struct spool *s)
{
	return s->can_commit && s->can_settle;
}

static void take_health(struct spool *s, const struct journal_note *note)
{
	bool changed = s->can_commit != note->can_commit ||
	    s->can_settle != note->can_settle;

	s->can_commit = note->can_commit;
	s->can_settle = note->can_settle;
	snprintf(s->reason, sizeof(s->reason), "%.150s", note->err.text);
	if (changed && s->opened)
		s->events->on_health(s->ctx, is_healthy(s), s->reason);
}

static void take_note(struct spool *s, const struct journal_note *note)
{
	bool outcomes = note->kind == NOTE_OUTCOMES_NEW ||
	    note->kind == NOTE_OUTCOMES_SEALED;
	struct spool_table *t = outcomes ? &s->outcomes : &s->arrivals;
	struct spool_segment *g;

	switch (note->kind) {
	case NOTE_ARRIVALS_NEW:
	case NOTE_OUTCOMES_NEW:
		g = table_add(t, note->number);
		g->bytes = note->bytes;
		break;
	case NOTE_ARRIVALS_SEALED:
	case NOTE_OUTCOMES_SEALED:
		g = table_find(t, note->number);
		ASSERT(g != NULL);
		g->sealed = true;
		g->bytes = note->bytes;
		g->needs = note->needs;
		g->n_written = outcomes ? 0 : note->n_written;
		break;
	case NOTE_HEALTH:
		take_health(s, note);
		break;
	}
}

void spool_take_notes(struct spool *s, struct journal_notes *notes)
{
	struct journal_note *note;

	while ((note = STAILQ_FIRST(notes)) != NULL) {
		STAILQ_REMOVE_HEAD(notes, link);
		take_note(s, note);
		free(note);
	}
}

bool spool_can_settle(const struct spool *s)
{
	return s->can_settle;
}

const char *spool_refusal(const struct spool *s, uint64_t bytes)
{
	return spool_refusal_of(s, bytes, 0);
}

const char *spool_refusal_of(
    const struct spool *s, uint64_t bytes, uint64_t on_disk)
{
	/* What is on the disk already is not free any more. */
	uint64_t more = bytes - on_disk + (s->streamed - s->streamed_counted);

	if (!is_healthy(s))
		return "Mail storage is not available";
	if (s->options.max_messages > 0 && s->n_live >= s->options.max_messages)
		return "Mail queue is full";
	if (s->options.max_bytes > 0 &&
	    (bytes > s->options.max_bytes ||
		s->live_bytes > s->options.max_bytes - bytes))
		return "Mail queue is full";
	if (s->space_known &&
	    (s->inodes_low || s->free_bytes < more ||
		s->free_bytes - more < s->options.min_free_bytes))
		return "Insufficient system storage";
	return NULL;
}

const char *spool_intake_trouble(const struct spool *s)
{
	if (spool_hangs(s))
		return "the disk of the spool does not answer";
	return is_healthy(s) ? spool_refusal(s, 1) : s->reason;
}

void spool_configure(struct spool *s, const struct spool_options *options)
{
	uint32_t segment_bytes = s->options.segment_bytes;

	s->options = *options;
	s->options.directory = s->directory;
	s->options.durable = s->durable;
	s->options.segment_bytes = segment_bytes;
}

void spool_free(struct spool *s)
{
	spool_end_marks(s);
	spool_end_learned(s);
	if (s->scan != NULL)
		scan_fini(s->scan);
	free(s->scan);
	free(s->scan_paused);
	spool_fds_fini(s);
	journal_fini(&s->journal);
	table_fini(&s->arrivals);
	table_fini(&s->outcomes);
	idmap_fini(&s->moved);
	idmap_fini(&s->large);
	idmap_fini(&s->wide);
	idmap_fini(&s->voided);
	idmap_fini(&s->ended);
	states_fini(&s->states);
	spool_notes_fini(&s->early);
	free(s->gone);
	free(s->gone_syncing);
	dirs_close(&s->dirs);
	free(s->directory);
	free(s);
}

/* --- tick --- */

static void job_done(struct work_job *work)
{
	struct journal_job *job =
	    CONTAINER_OF(work, struct journal_job, job.work);
	struct spool *s = journal_job_end(job);

	if (job->kind == JOURNAL_PROBE)
		s->probing = false;
	if (job->kind == JOURNAL_NOTHING)
		s->pinging = false;
	/* Their messages may come back; the next scan will see. */
	if (job->kind == JOURNAL_CLOSE && job->rc < 0)
		s->n_gone = 0;
	journal_job_free(job);
}

static void probe_health(struct spool *s)
{
	if (is_healthy(s) || s->probing)
		return;
	s->probing = true;
	spool_submit_journal(s, journal_job_new(JOURNAL_PROBE), job_done);
}

static void ping_journal(struct spool *s)
{
	if (s->pinging)
		return;
	s->pinging = true;
	s->ping_tick = s->ticks;
	spool_submit_journal(s, journal_job_new(JOURNAL_NOTHING), job_done);
}

unsigned spool_stalled(const struct spool *s)
{
	return s->pinging ? (unsigned)(s->ticks - s->ping_tick) : 0;
}

bool spool_hangs(const struct spool *s)
{
	return spool_stalled(s) > SPOOL_HANGS_S;
}

/* The present segment, once nothing lives in it and nothing comes. */
static void seal_idle(struct spool *s)
{
	const struct spool_segment *g =
	    s->arrivals.n > 0 ? s->arrivals.items[s->arrivals.n - 1] : NULL;

	if (g == NULL || g->sealed || g->n_live > 0 ||
	    ++s->idle_ticks < IDLE_TICKS)
		return;
	s->idle_ticks = 0;
	spool_submit_journal(s, journal_job_new(JOURNAL_SEAL), job_done);
}

void spool_tick(struct spool *s, int64_t now_wall_us)
{
	ping_journal(s);
	spool_resume_scan(s);
	spool_sync_lines(s);
	probe_health(s);
	spool_count_space(s);
	seal_idle(s);
	spool_remove_segments(s);
	spool_compact(s);
	atomic_store(&s->dirs.clock_us, spool_clock_now(s));
	if (s->ticks % MINUTE_TICKS == 0) {
		spool_expire_failed(s);
		spool_save_clock(s, now_wall_us);
	}
	s->ticks++;
}

/* --- close --- */

static void pump(struct spool *s)
{
	struct pollfd p = { .fd = work_port_fd(s->port), .events = POLLIN };

	while (s->n_jobs > 0) {
		if (poll(&p, 1, -1) < 0)
			ASSERT(errno == EINTR);
		work_port_dispatch(s->port);
	}
}

void spool_close(struct spool *s)
{
	if (s == NULL)
		return;
	s->closing = true;
	pump(s);
	spool_submit_journal(s, journal_job_new(JOURNAL_CLOSE), job_done);
	pump(s);
	s->remove_tick = 0;
	spool_remove_segments(s);
	spool_unlink_large(s, s->gone, s->n_gone);
	s->gone = NULL;
	s->n_gone = 0;
	spool_save_clock(s, clock_wall_us());
	pump(s);
	work_free(s->journal_worker);
	work_free(s->disk);
	spool_free(s);
}

void spool_usage(const struct spool *s, struct spool_usage *usage)
{
	*usage = (struct spool_usage){
		.healthy = is_healthy(s),
		.reason = s->reason,
		.free_bytes = s->free_bytes,
		.bytes = table_bytes(&s->arrivals) + table_bytes(&s->outcomes) +
		    s->large_bytes,
		.live_bytes = s->live_bytes,
		.n_arrivals = (unsigned)s->arrivals.n,
		.n_outcomes = (unsigned)s->outcomes.n,
		.n_failed = s->n_failed,
		.scanning = !s->scanned,
	};
}
