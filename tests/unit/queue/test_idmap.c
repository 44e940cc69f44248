/*
 * The id map against a plain array.
 */
#include "spool_test.h"

#include "queue/idmap.h"

#define N 4096

static void test_against_array(void **state)
{
	static uint64_t model[N]; /* 0: absent */
	struct idmap m = { 0 };
	uint64_t x = 1, value;
	size_t n = 0;

	(void)state;
	assert_false(idmap_get(&m, 1, NULL));
	assert_false(idmap_remove(&m, 1, NULL));
	for (int round = 0; round < 300000; round++) {
		uint64_t id;

		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		/* Neighbours, as ids are. */
		id = 1 + (x >> 20) % (N - 1);
		if (x % 3 == 0) {
			assert_int_equal(
			    idmap_remove(&m, id, &value), model[id] != 0);
			if (model[id] != 0)
				assert_int_equal(value, model[id]);
			n -= model[id] != 0;
			model[id] = 0;
		} else {
			n += model[id] == 0;
			model[id] = (x >> 8) | 1;
			idmap_put(&m, id, model[id]);
		}
		assert_int_equal(m.n, n);
	}
	for (uint64_t id = 1; id < N; id++) {
		assert_int_equal(idmap_get(&m, id, &value), model[id] != 0);
		if (model[id] != 0)
			assert_int_equal(value, model[id]);
	}
	assert_false(idmap_get(&m, 0, NULL));
	idmap_fini(&m);
}

/* In order of ids, also while others come and go between two steps. */
static void test_walk(void **state)
{
	struct idmap_slot slot = { 0 };
	struct idmap m = { 0 };
	uint64_t n = 0;

	(void)state;
	assert_false(idmap_next(&m, 0, &slot));
	for (uint64_t i = 5000; i > 0; i--)
		idmap_put(&m, 10 * i, i);
	while (idmap_next(&m, slot.id, &slot)) {
		n++;
		assert_int_equal(slot.id, 10 * n);
		assert_int_equal(slot.value, n);
		/* Behind, and before what is next. */
		assert_true(idmap_remove(&m, slot.id, NULL));
		if (n > 2)
			idmap_put(&m, slot.id - 15, 1);
	}
	assert_int_equal(n, 5000);
	assert_false(idmap_next(&m, UINT64_MAX, &slot));
	idmap_fini(&m);
}

/* Memory follows what is in it, whatever order it came or went in. */
static void assert_compact(const struct idmap *m, size_t per_entry)
{
	size_t bytes = m->n_chunks * 4112 + m->n_entries * sizeof(*m->entries);

	assert_true(bytes <= 8192 + m->n * per_entry);
}

static void test_memory(void **state)
{
	struct idmap m = { 0 };
	uint64_t x = 1;

	(void)state;
	for (uint64_t i = 1; i <= 100000; i++)
		idmap_put(&m, i, i);
	assert_compact(&m, 17);
	/* One in every three hundred stays. */
	for (uint64_t i = 1; i <= 100000; i++)
		if (i % 300 != 0)
			assert_true(idmap_remove(&m, i, NULL));
	assert_int_equal(m.n, 333);
	assert_compact(&m, 64);
	for (uint64_t i = 1; i <= 100000; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		idmap_put(&m, 1 + (x >> 8), i);
	}
	assert_compact(&m, 34);
	idmap_fini(&m);
	assert_int_equal(m.n_chunks, 0);
}

static void test_many(void **state)
{
	struct idmap m = { 0 };
	uint64_t base = UINT64_C(1795341601123456), value;

	(void)state;
	for (uint64_t i = 0; i < 1000000; i++)
		idmap_put(&m, base + i, i);
	for (uint64_t i = 0; i < 1000000; i++) {
		assert_true(idmap_get(&m, base + i, &value));
		if (value != i)
			fail();
	}
	idmap_fini(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_against_array),
		cmocka_unit_test(test_walk),
		cmocka_unit_test(test_memory),
		cmocka_unit_test(test_many),
	};

	return cmocka_run_group_tests_name("idmap", tests, NULL, NULL);
}
