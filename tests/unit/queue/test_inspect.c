/*
 * Looking at a spool from outside: the same messages as the daemon finds,
 * whether it runs or not, and nothing is changed by it.
 */
#include "spool_test.h"

#include "queue/inspect.h"

struct seen {
	unsigned n, n_held;
	uint64_t last_id;
	struct message *first; /* copy of what matters */
	char states[16];
};

static bool see(void *ctx, const struct inspect_message *found)
{
	struct seen *seen = ctx;
	const struct message *m = found->message;

	seen->n++;
	seen->n_held += found->held;
	assert_true(m->id > seen->last_id);
	seen->last_id = m->id;
	if (m->id == 2)
		for (unsigned i = 0; i < m->n_rcpts; i++)
			seen->states[i] = (char)m->rcpts[i].state;
	if (seen->first == NULL) {
		seen->first = make_message(m->id, 0, m->n_rcpts);
		seen->first->ref = m->ref;
	}
	return true;
}

static bool see_one(void *ctx, const struct inspect_message *found)
{
	(void)found;
	((struct seen *)ctx)->n++;
	return false;
}

static void check(struct bench *b)
{
	struct seen seen = { 0 };
	struct message *m;
	struct err err;

	assert_int_equal(inspect_spool(b->dir, see, NULL, &seen, &err), 0);
	assert_int_equal(seen.n, 9);
	assert_int_equal(seen.n_held, 1);
	assert_string_equal(seen.states, "psp");
	m = inspect_load(b->dir, seen.first, &err);
	assert_non_null(m);
	assert_int_equal(m->body.len, 500);
	message_free(m);
	message_free(seen.first);
	seen.n = 0;
	assert_int_equal(inspect_spool(b->dir, see_one, NULL, &seen, &err), 0);
	assert_int_equal(seen.n, 1);
}

static void test_inspect(void **state)
{
	struct bench b;

	(void)state;
	bench_init(&b);
	bench_reopen(&b);
	for (uint64_t id = 1; id <= 10; id++) {
		struct message *m = make_message(id, 500, 3);

		assert_int_equal(bench_commit(&b, m), 0);
		if (id == 2)
			bench_settle(&b, m, SPOOL_SENT, false,
			    (const uint16_t[]){ 1 }, 1);
		if (id == 3)
			bench_settle(&b, m, SPOOL_HOLD, false, NULL, 0);
		if (id == 5)
			bench_settle(&b, m, SPOOL_SENT, true, NULL, 0);
		message_free(m);
	}
	/* Until the lines are written. */
	bench_reopen(&b);
	check(&b);
	bench_close(&b);
	check(&b);
	bench_reopen(&b);
	assert_int_equal(b.n_found, 9);
	bench_fini(&b);
}

static void trouble(void *ctx, const char *text)
{
	(void)text;
	++*(unsigned *)ctx;
}

static bool count(void *ctx, const struct inspect_message *found)
{
	(void)ctx;
	(void)found;
	return true;
}

static void test_changes_nothing(void **state)
{
	struct message *m = make_message(1, 500, 1);
	unsigned n_trouble = 0;
	struct bench b;
	struct err err;
	char *path, *bytes;
	size_t len;

	(void)state;
	bench_init(&b);
	assert_int_equal(
	    inspect_spool(b.dir, count, trouble, &n_trouble, &err), -1);
	assert_int_equal(count_files(&b, "", ""), 0);
	bench_reopen(&b);
	assert_int_equal(bench_commit(&b, m), 0);
	bench_close(&b);
	path = bench_path(&b, "arrivals/%09u", m->ref.segment);
	bytes = read_file(path, &len);
	bytes[len - 100] ^= 1;
	write_file(path, bytes, len);
	assert_int_equal(
	    inspect_spool(b.dir, count, trouble, &n_trouble, &err), 0);
	assert_true(n_trouble > 0);
	assert_int_equal(count_files(&b, "failed", ""), 0);
	free(path);
	free(bytes);
	message_free(m);
	bench_fini(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_inspect),
		cmocka_unit_test(test_changes_nothing),
	};

	return cmocka_run_group_tests_name("inspect", tests, NULL, NULL);
}
