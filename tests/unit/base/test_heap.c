/* The heap against a plain array, over many random operations. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/heap.h"
#include "child.h"

#include <signal.h>

#define N_ITEMS 500
#define N_STEPS 50000

static uint64_t random_next(uint64_t *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 7;
	*seed ^= *seed << 17;
	return *seed;
}

static void assert_consistent(const struct heap *h)
{
	for (size_t i = 0; i < h->n; i++) {
		assert_int_equal(h->items[i]->index, i);
		if (i > 0)
			assert_true(
			    h->items[(i - 1) / 2]->key <= h->items[i]->key);
	}
}

static size_t count_queued(const struct heap_item *items, int64_t *least_key)
{
	size_t n = 0;

	for (size_t i = 0; i < N_ITEMS; i++) {
		if (!heap_item_queued(&items[i]))
			continue;
		if (n++ == 0 || items[i].key < *least_key)
			*least_key = items[i].key;
	}
	return n;
}

static void test_random_operations(void **state)
{
	static struct heap_item items[N_ITEMS];
	uint64_t seed = 88172645463325252;
	size_t most = 0;
	struct heap h;

	(void)state;
	heap_init(&h);
	for (size_t i = 0; i < N_ITEMS; i++)
		heap_item_init(&items[i]);
	for (int step = 0; step < N_STEPS; step++) {
		uint64_t r = random_next(&seed);
		struct heap_item *it = &items[r / 8 % N_ITEMS];
		int64_t least = 0;
		size_t n;

		if (r % 8 == 0) {
			count_queued(items, &least);
			it = heap_pop(&h);
			if (it)
				assert_int_equal(it->key, least);
		} else if (heap_item_queued(it)) {
			heap_remove(&h, it);
		} else {
			/* Few keys, some negative: many are equal. */
			heap_push(&h, it, (int64_t)(r >> 32) % 100 - 50);
		}
		n = count_queued(items, &least);
		assert_int_equal(h.n, n);
		assert_int_equal(heap_peek(&h) != NULL, n > 0);
		if (n > 0)
			assert_int_equal(heap_peek(&h)->key, least);
		if (step % 50 == 0)
			assert_consistent(&h);
		most = n > most ? n : most;
	}
	assert_true(most > 64); /* it grew */
	heap_fini(&h);
}

static void test_pops_in_order_of_keys(void **state)
{
	static const int64_t keys[] = { 5, INT64_MAX, -1, 0, INT64_MIN, 5, 4 };
	static const int64_t sorted[] = { INT64_MIN, -1, 0, 4, 5, 5,
		INT64_MAX };
	struct heap_item items[ARRAY_LEN(keys)];
	struct heap h;

	(void)state;
	heap_init(&h);
	assert_null(heap_peek(&h));
	assert_null(heap_pop(&h));
	for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
		heap_item_init(&items[i]);
		heap_push(&h, &items[i], keys[i]);
	}
	for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
		struct heap_item *it = heap_pop(&h);

		assert_non_null(it);
		assert_int_equal(it->key, sorted[i]);
		assert_false(heap_item_queued(it));
	}
	assert_null(heap_pop(&h));
	heap_fini(&h);
}

/* The last item moves to the hole, and from there it has to rise. */
static void test_removal_from_the_middle_lets_rise(void **state)
{
	static const int64_t keys[] = { 0, 10, 1, 20, 21, 2, 3 };
	struct heap_item items[ARRAY_LEN(keys)];
	struct heap h;

	(void)state;
	heap_init(&h);
	for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
		heap_item_init(&items[i]);
		heap_push(&h, &items[i], keys[i]);
	}
	heap_remove(&h, &items[3]);
	assert_consistent(&h);
	heap_fini(&h);
}

static void push_twice(void)
{
	struct heap_item it;
	struct heap h;

	heap_init(&h);
	heap_item_init(&it);
	heap_push(&h, &it, 1);
	heap_push(&h, &it, 2);
}

static void remove_stranger(void)
{
	struct heap_item it, stranger = { .index = 0 };
	struct heap h;

	heap_init(&h);
	heap_item_init(&it);
	heap_push(&h, &it, 1);
	heap_remove(&h, &stranger);
}

static void test_misuse_aborts(void **state)
{
	struct child_end end;

	(void)state;
	end = child_run(push_twice);
	assert_true(WIFSIGNALED(end.status));
	assert_int_equal(WTERMSIG(end.status), SIGABRT);
	end = child_run(remove_stranger);
	assert_true(WIFSIGNALED(end.status));
	assert_int_equal(WTERMSIG(end.status), SIGABRT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_random_operations),
		cmocka_unit_test(test_pops_in_order_of_keys),
		cmocka_unit_test(test_removal_from_the_middle_lets_rise),
		cmocka_unit_test(test_misuse_aborts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
