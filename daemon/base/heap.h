/*
 * Binary min-heap of intrusive items, ordered by a 64-bit key (a due time).
 * An item knows its index, so it can leave from the middle in O(log n).  The
 * heap owns only its array of pointers.
 */
#ifndef BASE_HEAP_H
#define BASE_HEAP_H

#include "base/base.h"

#define HEAP_NOWHERE UINT32_MAX

struct heap_item {
	int64_t key;
	uint32_t index; /* HEAP_NOWHERE while on no heap */
};

struct heap {
	struct heap_item **items;
	size_t n, size;
};

void heap_init(struct heap *h);
void heap_fini(struct heap *h); /* the items are the caller's */
void heap_item_init(struct heap_item *it);
bool heap_item_queued(const struct heap_item *it);
/* The item must be on no heap. */
void heap_push(struct heap *h, struct heap_item *it, int64_t key);
struct heap_item *heap_peek(const struct heap *h); /* NULL when empty */
struct heap_item *heap_pop(struct heap *h); /* NULL when empty */
void heap_remove(struct heap *h, struct heap_item *it);

#endif
