/*
 * Hash map from ids to numbers, linear probing, at most 3/4 full.
 *
 * Ids are microseconds that mostly follow each other, so a multiplication
 * spreads them well.  A removal moves later entries of the run back instead of
 * leaving a mark, so lookups never slow down with age.  Whoever owns the map
 * runs it; no locks.
 */
#include "queue/idmap.h"

#include "base/mem.h"

#include <stdlib.h>

#define SIZE_MIN 64

static size_t home_of(const struct idmap *m, uint64_t id)
{
	/* 2^64 divided by the golden ratio; the high bits are the best. */
	uint64_t h = id * UINT64_C(0x9e3779b97f4a7c15);

	return (size_t)(h >> 32) & (m->size - 1);
}

/* The slot of the id, or the free one where it would go. */
static size_t find(const struct idmap *m, uint64_t id)
{
	size_t i = home_of(m, id);

	while (m->slots[i].id != 0 && m->slots[i].id != id)
		i = (i + 1) & (m->size - 1);
	return i;
}

static void grow(struct idmap *m)
{
	struct idmap old = *m;

	m->size = old.size > 0 ? 2 * old.size : SIZE_MIN;
	m->slots = xcalloc(m->size, sizeof(*m->slots));
	for (size_t i = 0; i < old.size; i++)
		if (old.slots[i].id != 0)
			m->slots[find(m, old.slots[i].id)] = old.slots[i];
	free(old.slots);
}

void idmap_fini(struct idmap *m)
{
	free(m->slots);
	*m = (struct idmap){ 0 };
}

void idmap_put(struct idmap *m, uint64_t id, uint64_t value)
{
	size_t i;

	ASSERT(id != 0);
	if (4 * (m->n + 1) > 3 * m->size)
		grow(m);
	i = find(m, id);
	m->n += m->slots[i].id == 0;
	m->slots[i] = (struct idmap_slot){ .id = id, .value = value };
}

bool idmap_get(const struct idmap *m, uint64_t id, uint64_t *value)
{
	size_t i;

	if (m->n == 0 || id == 0)
		return false;
	i = find(m, id);
	if (m->slots[i].id == 0)
		return false;
	if (value != NULL)
		*value = m->slots[i].value;
	return true;
}

bool idmap_remove(struct idmap *m, uint64_t id, uint64_t *value)
{
	size_t hole, i;

	if (!idmap_get(m, id, value))
		return false;
	hole = find(m, id);
	for (i = hole;;) {
		i = (i + 1) & (m->size - 1);
		if (m->slots[i].id == 0)
			break;
		/* It may fill the hole unless it is at home behind it. */
		if (((i - home_of(m, m->slots[i].id)) & (m->size - 1)) <
		    ((i - hole) & (m->size - 1)))
			continue;
		m->slots[hole] = m->slots[i];
		hole = i;
	}
	m->slots[hole].id = 0;
	m->n--;
	return true;
}
