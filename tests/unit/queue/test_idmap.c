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
		/* Neighbours, as ids are: long runs in the table. */
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

/* Growing with neighbours must not be quadratic. */
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
	assert_true(m.size <= 2097152);
	idmap_fini(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_against_array),
		cmocka_unit_test(test_many),
	};

	return cmocka_run_group_tests_name("idmap", tests, NULL, NULL);
}
