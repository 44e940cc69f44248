/*
 * What was learned of SES: replaced whole, kept over restarts, and when it
 * cannot be, nothing else suffers.
 */
#include "fault_test.h"

static void learn(struct bench *b, const char *text)
{
	spool_learn(b->spool, text);
	while (b->spool->n_jobs > 0)
		bench_turn(b);
}

static void assert_kept(struct bench *b, const char *text)
{
	bench_reopen(b);
	if (text == NULL)
		assert_null(spool_learned(b->spool));
	else
		assert_string_equal(spool_learned(b->spool), text);
}

static void test_kept_over_restarts(void **state)
{
	struct bench b;

	(void)state;
	bench_init(&b);
	assert_kept(&b, NULL);
	learn(&b, "one\n");
	/* It is for the next process. */
	assert_null(spool_learned(b.spool));
	assert_kept(&b, "one\n");
	assert_kept(&b, "one\n");
	/* Faster than the disk: the last one counts, close waits for it. */
	spool_learn(b.spool, "two\n");
	spool_learn(b.spool, "three\n");
	spool_learn(b.spool, "four\n");
	assert_kept(&b, "four\n");
	assert_int_equal(b.n_trouble, 0);
	bench_fini(&b);
}

static void test_durable(void **state)
{
	struct bench b;

	(void)state;
	bench_init(&b);
	bench_reopen(&b);
	wanted = "/.learned.tmp";
	wanted_synced = false;
	learn(&b, "one\n");
	assert_true(wanted_synced);
	wanted = b.dir; /* the name, too */
	wanted_synced = false;
	learn(&b, "two\n");
	assert_true(wanted_synced);
	bench_close(&b);
	b.options.durable = false;
	bench_reopen(&b);
	wanted_synced = false;
	learn(&b, "three\n");
	assert_false(wanted_synced);
	wanted = "/none";
	assert_kept(&b, "three\n");
	bench_fini(&b);
}

/* Said once until it works again; what was there before stays. */
static void test_cannot_be_written(void **state)
{
	static const struct {
		unsigned calls;
		int code;
		int nth;
	} faults[] = {
		{ CALL_OPEN, ENOSPC, 1 },
		{ CALL_OPEN, EACCES, 1 },
		{ CALL_SYNC, EIO, 1 },
	};
	struct message *m = make_message(5, 10, 1);
	struct bench b;

	(void)state;
	bench_init(&b);
	bench_reopen(&b);
	learn(&b, "old\n");
	for (size_t i = 0; i < ARRAY_LEN(faults); i++) {
		for (unsigned again = 0; again < 3; again++) {
			arm(faults[i].calls, faults[i].code, false,
			    faults[i].nth);
			learn(&b, "new\n");
			assert_true(fault.fired);
			disarm();
		}
		assert_int_equal(b.n_trouble, 1);
		assert_non_null(strstr(b.trouble, "what was learned of SES"));
		assert_true(b.healthy);
		assert_null(spool_refusal(b.spool, 0));
		assert_kept(&b, "old\n");
	}
	/* Its name, not its content, is in doubt. */
	arm(CALL_SYNC, EIO, false, 2);
	learn(&b, "new\n");
	disarm();
	assert_int_equal(b.n_trouble, 1);
	learn(&b, "newer\n");
	arm(CALL_OPEN, ENOSPC, false, 1);
	learn(&b, "newest\n");
	disarm();
	assert_int_equal(b.n_trouble, 2);
	assert_int_equal(bench_commit(&b, m), 0);
	assert_kept(&b, "newer\n");
	message_free(m);
	bench_fini(&b);
}

static void test_what_is_no_text(void **state)
{
	static char big[SPOOL_LEARNED_MAX + 1];
	struct bench b;
	char *path;

	(void)state;
	memset(big, 'x', sizeof(big));
	bench_init(&b);
	bench_reopen(&b);
	bench_close(&b);
	path = bench_path(&b, "learned");
	write_file(path, big, SPOOL_LEARNED_MAX);
	bench_reopen(&b);
	assert_int_equal(strlen(spool_learned(b.spool)), SPOOL_LEARNED_MAX);
	write_file(path, big, SPOOL_LEARNED_MAX + 1);
	assert_kept(&b, NULL);
	write_file(path, "a\0b\n", 4);
	assert_kept(&b, NULL);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(symlink("clock", path), 0);
	assert_kept(&b, NULL);
	/* A link gives way to the file. */
	learn(&b, "one\n");
	assert_kept(&b, "one\n");
	assert_int_equal(unlink(path), 0);
	assert_int_equal(mkdir(path, 0700), 0);
	assert_kept(&b, NULL);
	learn(&b, "two\n");
	assert_int_equal(b.n_trouble, 1);
	assert_int_equal(rmdir(path), 0);
	free(path);
	bench_fini(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_kept_over_restarts),
		cmocka_unit_test(test_durable),
		cmocka_unit_test(test_cannot_be_written),
		cmocka_unit_test(test_what_is_no_text),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
