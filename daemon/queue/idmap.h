/*
 * From message ids to numbers: open addressing, 16 bytes a slot.  The spool
 * keeps sets of a million ids in it while it scans.  Id 0 is never a key.
 */
#ifndef QUEUE_IDMAP_H
#define QUEUE_IDMAP_H

#include "base/base.h"

struct idmap_slot {
	uint64_t id; /* 0: free */
	uint64_t value;
};

/* Zeroed is empty.  To walk over it, look at all `size` slots. */
struct idmap {
	struct idmap_slot *slots;
	size_t n, size;
};

void idmap_fini(struct idmap *m);
void idmap_put(struct idmap *m, uint64_t id, uint64_t value);
/* `value` may be NULL. */
bool idmap_get(const struct idmap *m, uint64_t id, uint64_t *value);
/* True if it was there; `value` may be NULL. */
bool idmap_remove(struct idmap *m, uint64_t id, uint64_t *value);

#endif
