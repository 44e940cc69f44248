/*
 * Binary min-heap with back-pointers.
 *
 * Owns the array of pointers; the thread that owns the heap runs it.
 * Invariants: items[i]->index == i for every i < n, and no item's key is less
 * than its parent's.  Both are restored by place() and the two sifts, the only
 * writers of the array.
 */
#include "base/heap.h"

#include "base/mem.h"

#include <stdlib.h>

static void place(struct heap *h, struct heap_item *it, size_t i)
{
	h->items[i] = it;
	it->index = (uint32_t)i;
}

/* Both sifts find the place of `it`, starting from the hole at i. */
static void sift_up(struct heap *h, struct heap_item *it, size_t i)
{
	while (i > 0) {
		size_t parent = (i - 1) / 2;

		if (h->items[parent]->key <= it->key)
			break;
		place(h, h->items[parent], i);
		i = parent;
	}
	place(h, it, i);
}

static void sift_down(struct heap *h, struct heap_item *it, size_t i)
{
	for (;;) {
		size_t child = 2 * i + 1;

		if (child >= h->n)
			break;
		if (child + 1 < h->n &&
		    h->items[child + 1]->key < h->items[child]->key)
			child++;
		if (h->items[child]->key >= it->key)
			break;
		place(h, h->items[child], i);
		i = child;
	}
	place(h, it, i);
}

void heap_init(struct heap *h)
{
	*h = (struct heap){ 0 };
}

void heap_fini(struct heap *h)
{
	free(h->items);
	heap_init(h);
}

void heap_item_init(struct heap_item *it)
{
	it->key = 0;
	it->index = HEAP_NOWHERE;
}

bool heap_item_queued(const struct heap_item *it)
{
	return it->index != HEAP_NOWHERE;
}

void heap_push(struct heap *h, struct heap_item *it, int64_t key)
{
	ASSERT(!heap_item_queued(it));
	ASSERT(h->n < HEAP_NOWHERE);
	if (h->n == h->size) {
		h->size = h->size ? 2 * h->size : 64;
		h->items = xrealloc(h->items, h->size * sizeof(*h->items));
	}
	it->key = key;
	sift_up(h, it, h->n++);
}

struct heap_item *heap_peek(const struct heap *h)
{
	return h->n ? h->items[0] : NULL;
}

struct heap_item *heap_pop(struct heap *h)
{
	struct heap_item *it = heap_peek(h);

	if (it)
		heap_remove(h, it);
	return it;
}

void heap_remove(struct heap *h, struct heap_item *it)
{
	size_t i = it->index;
	struct heap_item *last;

	ASSERT(i < h->n && h->items[i] == it);
	it->index = HEAP_NOWHERE;
	last = h->items[--h->n];
	if (last == it)
		return;
	/* The last item comes from another branch: it may have to rise. */
	if (i > 0 && last->key < h->items[(i - 1) / 2]->key)
		sift_up(h, last, i);
	else
		sift_down(h, last, i);
}
