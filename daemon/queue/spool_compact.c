/*
 * Compaction: keeps the space used within a small multiple of what is queued.
 *
 * It copies the live records of one sealed segment, a chunk at a time, to the
 * present one under the same ids and with their present recipient states.  The
 * original is dead when its copy is durable, so the victim then goes the way
 * of every segment without a live message (spool_remove.c).
 *
 * Choice and accounts on the loop, reading on disk threads.
 */
#include "queue/spool_private.h"

#include "base/mem.h"

#include <errno.h>
#include <stdlib.h>

#define CHUNK_MESSAGES 256
#define CHUNK_BYTES (4u * 1024 * 1024)
#define RETRY_TICKS 60
/* More sealed segments than this with little in them are put together. */
#define SMALL_SEGMENTS 8

struct compact_job {
	struct spool_job job; /* first */
	uint32_t number;
	uint64_t pos;
	/* What a failed write left behind the end is nobody's. */
	uint64_t end;
	uint32_t *dead; /* sorted */
	size_t n_dead;
	/* Found. */
	struct message *messages[CHUNK_MESSAGES];
	struct record_extra extras[CHUNK_MESSAGES];
	size_t n;
	bool at_end;
	int rc;
	struct err err;
};

struct copy_job {
	struct journal_job journal; /* first */
	struct message *message;
	struct spool_ref old;
};

/* --- compaction: reading --- */

static int compare_offsets(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

static bool is_dead(const struct compact_job *job, uint32_t offset)
{
	return job->n_dead > 0 &&
	    bsearch(&offset, job->dead, job->n_dead, sizeof(uint32_t),
		compare_offsets) != NULL;
}

static int read_live(
    struct compact_job *job, int fd, const struct segment_item *item)
{
	struct crash_mark before = crash_enter(item->line.id, CRASH_COPY);
	struct message *m = segment_load_fd(
	    fd, item->line.id, item->line.ref, &job->extras[job->n], &job->err);

	crash_leave(before);
	/* Damage stays where it is; spool_load() will tell. */
	if (m == NULL)
		return job->err.code == EBADMSG ? 0 : -1;
	job->messages[job->n++] = m;
	return 0;
}

static void compact_run(struct work_job *work)
{
	struct compact_job *job =
	    CONTAINER_OF(work, struct compact_job, job.work);
	struct segment_reader r;
	struct segment_item item;
	uint64_t bytes = 0;

	job->rc = segment_open(&r, job->job.spool->dirs.arrivals,
	    RECORD_ARRIVALS, job->number, &job->err);
	if (job->rc < 0)
		return;
	if (job->n_dead > 0)
		qsort(
		    job->dead, job->n_dead, sizeof(uint32_t), compare_offsets);
	if (job->pos > r.pos)
		r.pos = job->pos;
	while (job->n < CHUNK_MESSAGES && bytes < CHUNK_BYTES &&
	    r.pos < job->end && job->rc == 0) {
		segment_next(&r, false, &item);
		if (item.kind == SEGMENT_END)
			break;
		if (item.kind != SEGMENT_RECORD ||
		    is_dead(job, item.line.ref.offset))
			continue;
		bytes += item.len;
		job->rc = read_live(job, r.fd, &item);
	}
	job->at_end = r.pos >= r.size || r.pos >= job->end;
	job->pos = r.pos;
	segment_close(&r);
}

/* --- compaction: copying --- */

static void compact_read(struct spool *s);

static void compact_end(struct spool *s)
{
	struct spool_compaction *c = &s->compaction;
	struct spool_segment *g = table_find(&s->arrivals, c->victim);

	c->active = false;
	idmap_fini(&s->ended);
	if (c->failed)
		c->retry_tick = s->ticks + RETRY_TICKS;
	if (c->failed || !c->at_end)
		return;
	/* What is still alive there could not be read. */
	if (g->n_live > 0) {
		g->keep = true;
		spool_trouble(s,
		    "arrivals/%09u is kept: %zu messages in it are damaged",
		    g->number, g->n_live);
	}
	spool_remove_segments(s);
}

static void compact_next(struct spool *s)
{
	struct spool_compaction *c = &s->compaction;

	if (c->n_copying > 0)
		return;
	if (c->failed || c->at_end || s->closing)
		compact_end(s);
	else
		compact_read(s);
}

static void copy_done(struct work_job *work)
{
	struct copy_job *copy =
	    CONTAINER_OF(work, struct copy_job, journal.job.work);
	struct spool *s = journal_job_end(&copy->journal);
	struct message *m = copy->message;

	if (copy->journal.rc < 0) {
		s->compaction.failed = true;
	} else {
		spool_account_written(s, copy->journal.ref, copy->journal.end);
		if (spool_account_moved(s, m->id, copy->old, copy->journal.ref,
			m->size, m->large))
			s->events->on_moved(s->ctx, m->id, copy->journal.ref);
	}
	message_free(m);
	journal_job_free(&copy->journal);
	s->compaction.n_copying--;
	compact_next(s);
}

static void copy_message(
    struct spool *s, struct message *m, const struct record_extra *extra)
{
	struct copy_job *copy = xcalloc(1, sizeof(*copy));

	journal_job_init(&copy->journal, JOURNAL_COPY);
	copy->message = m;
	copy->old = m->ref;
	copy->journal.message = m;
	copy->journal.extra = *extra;
	/* Who is held stands in the states; the record may be out of date. */
	copy->journal.extra.held = false;
	states_apply(&s->states, m, &copy->journal.extra.held);
	s->compaction.n_copying++;
	spool_submit_journal(s, &copy->journal, copy_done);
}

static void compact_done(struct work_job *work)
{
	struct compact_job *job =
	    CONTAINER_OF(work, struct compact_job, job.work);
	struct spool *s = spool_job_end(&job->job);
	struct spool_compaction *c = &s->compaction;

	c->pos = job->pos;
	c->at_end = job->at_end;
	if (job->rc < 0) {
		c->failed = true;
		spool_trouble(s, "compaction: %s", job->err.text);
	}
	for (size_t i = 0; i < job->n; i++) {
		struct message *m = job->messages[i];

		/* It may have ended since. */
		if (idmap_get(&s->ended, m->id, NULL))
			message_free(m);
		else
			copy_message(s, m, &job->extras[i]);
	}
	free(job->dead);
	free(job);
	compact_next(s);
}

static void compact_read(struct spool *s)
{
	struct spool_compaction *c = &s->compaction;
	struct spool_segment *g = table_find(&s->arrivals, c->victim);
	struct compact_job *job = xcalloc(1, sizeof(*job));

	job->job.work.run = compact_run;
	job->job.work.done = compact_done;
	job->number = c->victim;
	job->pos = c->pos;
	job->end = g->bytes;
	job->n_dead = g->n_dead;
	if (g->n_dead > 0)
		job->dead = xmemdup(g->dead, g->n_dead * sizeof(g->dead[0]));
	spool_submit(s, s->disk, &job->job);
}

/* --- compaction: choice --- */

static bool is_candidate(const struct spool_segment *g)
{
	return segment_is_settled(g) && g->n_live > 0;
}

/* Do outcomes take more than a fair part, for that segment's sake? */
static bool outcomes_swell(
    const struct spool *s, const struct spool_segment *oldest)
{
	uint64_t fair = (uint64_t)s->options.segment_bytes + s->live_bytes / 4 +
	    SPOOL_HISTORY_BYTES;

	return table_bytes(&s->outcomes) > fair &&
	    s->outcomes.items[0]->sealed &&
	    s->outcomes.items[0]->needs >= oldest->number;
}

static const struct spool_segment *choose(const struct spool *s)
{
	uint64_t full = s->options.segment_bytes, waste = 0;
	const struct spool_segment *dead = NULL, *small = NULL, *oldest = NULL;
	size_t n_small = 0;

	for (size_t i = s->arrivals.n; i-- > 0;) {
		const struct spool_segment *g = s->arrivals.items[i];

		if (!is_candidate(g))
			continue;
		oldest = g;
		waste +=
		    g->bytes > g->live_bytes ? g->bytes - g->live_bytes : 0;
		if (g->live_bytes * 4 < g->bytes)
			dead = g;
		if (g->live_bytes * 4 < full) {
			small = g;
			n_small++;
		}
	}
	if (dead != NULL && waste >= full / 4)
		return dead;
	if (n_small > SMALL_SEGMENTS)
		return small;
	return oldest != NULL && outcomes_swell(s, oldest) ? oldest : NULL;
}

void spool_compact(struct spool *s)
{
	struct spool_compaction *c = &s->compaction;
	const struct spool_segment *g;

	if (!s->scanned || s->closing || c->active || !s->can_commit ||
	    s->ticks < c->retry_tick)
		return;
	g = choose(s);
	if (g == NULL)
		return;
	*c = (struct spool_compaction){
		.active = true,
		.victim = g->number,
		.retry_tick = c->retry_tick,
	};
	compact_read(s);
}
