/*
 * From message ids to numbers, in the order of the ids: 16 bytes an entry and
 * little more while ids come in their order, 64 at the worst.  Queue and spool
 * keep a million entries in it; no call takes longer than a few microseconds
 * then, as nothing is ever rehashed or copied as a whole.  Id 0 is never a key.
 */
#ifndef QUEUE_IDMAP_H
#define QUEUE_IDMAP_H

#include "base/base.h"

struct idmap_slot {
	uint64_t id;
	uint64_t value;
};

struct idmap_chunk;

/* Zeroed is empty. */
struct idmap {
	struct idmap_entry {
		uint64_t from; /* ids below are in an earlier chunk */
		struct idmap_chunk *chunk;
	} * entries;
	size_t n_chunks, n_entries; /* used, allocated */
	size_t n; /* ids */
};

void idmap_fini(struct idmap *m);
void idmap_put(struct idmap *m, uint64_t id, uint64_t value);
/* `value` may be NULL. */
bool idmap_get(const struct idmap *m, uint64_t id, uint64_t *value);
/* True if it was there; `value` may be NULL. */
bool idmap_remove(struct idmap *m, uint64_t id, uint64_t *value);
/*
 * The entry with the lowest id above `after`; false when there is none.  A walk
 * begins with 0 and goes on from the id it had last, whatever was put and
 * removed between two steps.
 */
bool idmap_next(const struct idmap *m, uint64_t after, struct idmap_slot *slot);

#endif
