/*
 * Sorted map from ids to numbers: a list of chunks, each a sorted array of at
 * most CHUNK entries, and a directory to find the chunk.
 *
 * Ids are times, so most are put at the end: a full last chunk is left full
 * and a new one begun, any other full one is split.  A chunk that runs empty
 * is joined with a neighbour.  What a call moves is one chunk and, once in many
 * calls, the directory (16 bytes for every CHUNK entries): that is why there is
 * no bad moment, however many entries there are.  Whoever owns the map runs it;
 * no locks.
 *
 * Invariants: ids ascend within a chunk and from chunk to chunk; every id of
 * chunk i is in [entries[i].from, entries[i + 1].from); no chunk is empty.
 */
#include "queue/idmap.h"

#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

#define CHUNK 256u

struct idmap_chunk {
	unsigned n;
	struct idmap_slot slots[CHUNK];
};

void idmap_fini(struct idmap *m)
{
	for (size_t i = 0; i < m->n_chunks; i++)
		free(m->entries[i].chunk);
	free(m->entries);
	*m = (struct idmap){ 0 };
}

/* Index of the chunk where the id is or would go; there must be one. */
static size_t chunk_of(const struct idmap *m, uint64_t id)
{
	size_t low = 0, high = m->n_chunks;

	while (high - low > 1) {
		size_t middle = low + (high - low) / 2;

		if (m->entries[middle].from <= id)
			low = middle;
		else
			high = middle;
	}
	return low;
}

/* The first slot whose id is not below; c->n when there is none. */
static unsigned slot_of(const struct idmap_chunk *c, uint64_t id)
{
	unsigned low = 0, high = c->n;

	/* Mostly it is the newest of all. */
	if (c->n > 0 && c->slots[c->n - 1].id < id)
		return c->n;
	while (low < high) {
		unsigned middle = (low + high) / 2;

		if (c->slots[middle].id < id)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static struct idmap_chunk *add_chunk(struct idmap *m, size_t at, uint64_t from)
{
	struct idmap_chunk *c = xmalloc(sizeof(*c));

	if (m->n_chunks == m->n_entries) {
		m->n_entries = m->n_entries > 0 ? 2 * m->n_entries : 4;
		m->entries =
		    xrealloc(m->entries, m->n_entries * sizeof(m->entries[0]));
	}
	memmove(m->entries + at + 1, m->entries + at,
	    (m->n_chunks - at) * sizeof(m->entries[0]));
	m->entries[at] = (struct idmap_entry){ .from = from, .chunk = c };
	m->n_chunks++;
	c->n = 0;
	return c;
}

static void drop_chunk(struct idmap *m, size_t at)
{
	free(m->entries[at].chunk);
	m->n_chunks--;
	memmove(m->entries + at, m->entries + at + 1,
	    (m->n_chunks - at) * sizeof(m->entries[0]));
}

/* Chunk `at` is full: where to put the id instead? */
static size_t make_room(struct idmap *m, size_t at, uint64_t id)
{
	struct idmap_chunk *c = m->entries[at].chunk, *upper;

	if (at + 1 == m->n_chunks && c->slots[CHUNK - 1].id < id) {
		add_chunk(m, at + 1, id);
		return at + 1;
	}
	upper = add_chunk(m, at + 1, c->slots[CHUNK / 2].id);
	upper->n = CHUNK - CHUNK / 2;
	memcpy(
	    upper->slots, c->slots + CHUNK / 2, upper->n * sizeof(c->slots[0]));
	c->n = CHUNK / 2;
	return id < m->entries[at + 1].from ? at : at + 1;
}

void idmap_put(struct idmap *m, uint64_t id, uint64_t value)
{
	struct idmap_chunk *c;
	unsigned i;
	size_t at;

	ASSERT(id != 0);
	if (m->n_chunks == 0)
		add_chunk(m, 0, id);
	at = chunk_of(m, id);
	c = m->entries[at].chunk;
	i = slot_of(c, id);
	if (i < c->n && c->slots[i].id == id) {
		c->slots[i].value = value;
		return;
	}
	if (c->n == CHUNK) {
		at = make_room(m, at, id);
		c = m->entries[at].chunk;
		i = slot_of(c, id);
	}
	memmove(
	    c->slots + i + 1, c->slots + i, (c->n - i) * sizeof(c->slots[0]));
	c->slots[i] = (struct idmap_slot){ .id = id, .value = value };
	c->n++;
	m->n++;
	if (id < m->entries[at].from)
		m->entries[at].from = id;
}

bool idmap_get(const struct idmap *m, uint64_t id, uint64_t *value)
{
	const struct idmap_chunk *c;
	unsigned i;

	if (m->n_chunks == 0)
		return false;
	c = m->entries[chunk_of(m, id)].chunk;
	i = slot_of(c, id);
	if (i == c->n || c->slots[i].id != id)
		return false;
	if (value != NULL)
		*value = c->slots[i].value;
	return true;
}

/* The chunk behind `at` moves into it, when both leave room for more. */
static void join(struct idmap *m, size_t at)
{
	struct idmap_chunk *c, *next;

	if (at + 1 >= m->n_chunks)
		return;
	c = m->entries[at].chunk;
	next = m->entries[at + 1].chunk;
	if (c->n + next->n > CHUNK / 2)
		return;
	memcpy(c->slots + c->n, next->slots, next->n * sizeof(c->slots[0]));
	c->n += next->n;
	drop_chunk(m, at + 1);
}

bool idmap_remove(struct idmap *m, uint64_t id, uint64_t *value)
{
	struct idmap_chunk *c;
	unsigned i;
	size_t at;

	if (!idmap_get(m, id, value))
		return false;
	at = chunk_of(m, id);
	c = m->entries[at].chunk;
	i = slot_of(c, id);
	c->n--;
	memmove(
	    c->slots + i, c->slots + i + 1, (c->n - i) * sizeof(c->slots[0]));
	m->n--;
	if (c->n == 0) {
		drop_chunk(m, at);
	} else if (c->n < CHUNK / 4) {
		join(m, at);
		if (at > 0)
			join(m, at - 1);
	}
	return true;
}

bool idmap_next(const struct idmap *m, uint64_t after, struct idmap_slot *slot)
{
	const struct idmap_chunk *c;
	unsigned i;
	size_t at;

	if (m->n_chunks == 0 || after == UINT64_MAX)
		return false;
	at = chunk_of(m, after + 1);
	c = m->entries[at].chunk;
	i = slot_of(c, after + 1);
	if (i == c->n) {
		if (++at == m->n_chunks)
			return false;
		c = m->entries[at].chunk;
		i = 0;
	}
	*slot = c->slots[i];
	return true;
}
