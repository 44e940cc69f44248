/*
 * The loop's accounts: which segments there are, what lives in them.
 *
 * A live message is counted in exactly one arrivals segment, that of its
 * newest copy; a segment whose count is 0 may go once it is sealed.  Offsets
 * of finished records are remembered (4 bytes each, until the segment is
 * gone), so that compaction needs to ask nobody what is alive.  Loop thread.
 */
#include "queue/spool_private.h"

#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

/* Head, line and end of a usual record, roughly. */
#define RECORD_OVERHEAD 400
/* "rcpt p " and the line feed. */
#define RCPT_OVERHEAD 8

static size_t table_place(const struct spool_table *t, uint32_t number)
{
	size_t low = 0, high = t->n;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (t->items[middle]->number < number)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

struct spool_segment *table_add(struct spool_table *t, uint32_t number)
{
	struct spool_segment *g = xcalloc(1, sizeof(*g));

	ASSERT(t->n == 0 || t->items[t->n - 1]->number < number);
	if (t->n == t->size) {
		t->size = t->size > 0 ? 2 * t->size : 16;
		t->items = xrealloc(
		    t->items, t->size * sizeof(struct spool_segment *));
	}
	g->number = number;
	t->items[t->n++] = g;
	return g;
}

struct spool_segment *table_find(const struct spool_table *t, uint32_t number)
{
	size_t i = table_place(t, number);

	return i < t->n && t->items[i]->number == number ? t->items[i] : NULL;
}

static void table_segment_free(struct spool_segment *g)
{
	free(g->dead);
	free(g);
}

void table_remove(struct spool_table *t, uint32_t number)
{
	size_t i = table_place(t, number);

	ASSERT(i < t->n && t->items[i]->number == number);
	table_segment_free(t->items[i]);
	for (t->n--; i < t->n; i++)
		t->items[i] = t->items[i + 1];
}

void table_fini(struct spool_table *t)
{
	for (size_t i = 0; i < t->n; i++)
		table_segment_free(t->items[i]);
	free(t->items);
	*t = (struct spool_table){ 0 };
}

uint64_t table_bytes(const struct spool_table *t)
{
	uint64_t bytes = 0;

	for (size_t i = 0; i < t->n; i++)
		bytes += t->items[i]->bytes;
	return bytes;
}

bool segment_is_settled(const struct spool_segment *g)
{
	return g->sealed && g->n_seen == g->n_written && !g->keep &&
	    !g->removing;
}

void segment_add_dead(struct spool_segment *g, uint32_t offset)
{
	if (g->n_dead == g->dead_size) {
		g->dead_size = g->dead_size > 0 ? 2 * g->dead_size : 16;
		g->dead = xrealloc(g->dead, g->dead_size * sizeof(g->dead[0]));
	}
	g->dead[g->n_dead++] = offset;
}

uint64_t ref_pack(struct spool_ref ref)
{
	return (uint64_t)ref.segment << 32 | ref.offset;
}

struct spool_ref ref_unpack(uint64_t value)
{
	return (struct spool_ref){
		.segment = (uint32_t)(value >> 32),
		.offset = (uint32_t)value,
	};
}

/*
 * Bytes of a segment that a live message accounts for.  Were a long envelope
 * not counted, a segment full of live mail would look empty, and compaction
 * would copy it again and again.
 */
static uint64_t cost(
    const struct spool *s, uint64_t id, uint64_t size, bool large)
{
	uint64_t envelope = 0;

	(void)idmap_get(&s->wide, id, &envelope);
	return RECORD_OVERHEAD + envelope + (large ? 0 : size);
}

static void note_envelope(struct spool *s, const struct message *m)
{
	uint64_t bytes = 0;

	for (unsigned i = 0; i < m->n_rcpts; i++) {
		const struct rcpt *rcpt = &m->rcpts[i];

		bytes += strlen(rcpt->addr) + RCPT_OVERHEAD;
		if (rcpt->orig != NULL)
			bytes += strlen(rcpt->orig) + RCPT_OVERHEAD;
	}
	if (bytes > RECORD_OVERHEAD)
		idmap_put(&s->wide, m->id, bytes);
}

struct spool_ref spool_where(
    const struct spool *s, uint64_t id, struct spool_ref ref)
{
	uint64_t value;

	return idmap_get(&s->moved, id, &value) ? ref_unpack(value) : ref;
}

static void segment_live(struct spool *s, struct spool_ref ref, uint64_t cost)
{
	struct spool_segment *g = table_find(&s->arrivals, ref.segment);

	ASSERT(g != NULL);
	g->n_live++;
	g->live_bytes += cost;
}

static void segment_dead(struct spool *s, struct spool_ref ref, uint64_t cost)
{
	struct spool_segment *g = table_find(&s->arrivals, ref.segment);

	ASSERT(g != NULL && g->n_live > 0);
	g->n_live--;
	g->live_bytes -= cost < g->live_bytes ? cost : g->live_bytes;
	segment_add_dead(g, ref.offset);
}

static void count_live(struct spool *s)
{
	atomic_store(&s->journal.n_live, s->n_live);
}

void spool_account_live(struct spool *s, const struct message *m)
{
	note_envelope(s, m);
	segment_live(s, m->ref, cost(s, m->id, m->size, m->large));
	s->n_live++;
	s->live_bytes += m->size;
	if (m->large) {
		idmap_put(&s->large, m->id, m->size);
		s->large_bytes += m->size;
	}
	count_live(s);
}

void spool_account_dead(
    struct spool *s, uint64_t id, struct spool_ref ref, uint64_t size)
{
	uint64_t large_size = 0;
	bool large = idmap_remove(&s->large, id, &large_size);

	if (large) {
		size = large_size;
		s->large_bytes -= size;
		s->gone =
		    xrealloc(s->gone, (s->n_gone + 1) * sizeof(s->gone[0]));
		s->gone[s->n_gone++] = id;
	}
	segment_dead(s, spool_where(s, id, ref), cost(s, id, size, large));
	(void)idmap_remove(&s->wide, id, NULL);
	(void)idmap_remove(&s->moved, id, NULL);
	states_drop(&s->states, id);
	if (s->compaction.active)
		idmap_put(&s->ended, id, 0);
	ASSERT(s->n_live > 0);
	s->n_live--;
	s->live_bytes -= size < s->live_bytes ? size : s->live_bytes;
	count_live(s);
}

void spool_account_written(struct spool *s, struct spool_ref ref, uint64_t end)
{
	struct spool_segment *g = table_find(&s->arrivals, ref.segment);

	ASSERT(g != NULL);
	g->n_seen++;
	if (end > g->bytes)
		g->bytes = end;
}

bool spool_account_moved(struct spool *s, uint64_t id, struct spool_ref old,
    struct spool_ref ref, uint64_t size, bool large)
{
	struct spool_segment *to = table_find(&s->arrivals, ref.segment);

	ASSERT(to != NULL);
	if (idmap_get(&s->ended, id, NULL)) {
		/* Finished while the copy was made: that is dead, too. */
		segment_add_dead(to, ref.offset);
		return false;
	}
	segment_dead(s, old, cost(s, id, size, large));
	segment_live(s, ref, cost(s, id, size, large));
	idmap_put(&s->moved, id, ref_pack(ref));
	return true;
}
