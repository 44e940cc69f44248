/*
 * Removal and compaction, with tiny segments: what is gone gives its space
 * back, what lives survives every move with its states.
 */
#include "spool_test.h"

#include "queue/record.h"

#define SEGMENT 8192

static void open_small(struct bench *b)
{
	bench_init(b);
	b->options.segment_bytes = SEGMENT;
	b->options.durable = false;
	bench_reopen(b);
}

static void commit_many(
    struct bench *b, struct message **m, unsigned n, size_t len)
{
	for (unsigned i = 0; i < n; i++) {
		m[i] = make_message(1 + i, len, 3);
		assert_int_equal(bench_commit(b, m[i]), 0);
	}
}

static unsigned n_arrivals(struct bench *b)
{
	struct spool_usage usage;

	spool_usage(b->spool, &usage);
	return usage.n_arrivals;
}

static bool no_segment(struct bench *b)
{
	return n_arrivals(b) == 0;
}

static bool few_segments(struct bench *b)
{
	return n_arrivals(b) <= 12;
}

static void test_dead_segments_go(void **state)
{
	struct message *m[100];
	struct bench b;

	(void)state;
	open_small(&b);
	commit_many(&b, m, 100, 1000);
	assert_true(n_arrivals(&b) > 10);
	for (unsigned i = 0; i < 100; i++)
		bench_settle(&b, m[i], SPOOL_SENT, true, NULL, 0);
	bench_tick_until(&b, no_segment);
	assert_int_equal(count_files(&b, "arrivals", ""), 0);
	bench_reopen(&b);
	assert_int_equal(b.n_found, 0);
	for (unsigned i = 0; i < 100; i++)
		message_free(m[i]);
	bench_fini(&b);
}

/* The present segment, too, when nothing lives in it and nothing comes. */
static void test_idle_segment_goes(void **state)
{
	struct message *m[1];
	struct bench b;

	(void)state;
	open_small(&b);
	commit_many(&b, m, 1, 10);
	bench_settle(&b, m[0], SPOOL_SENT, true, NULL, 0);
	bench_tick_until(&b, no_segment);
	assert_int_equal(count_files(&b, "arrivals", ""), 0);
	message_free(m[0]);
	bench_fini(&b);
}

/* Every tenth lives: one or none a segment. */
static void test_few_live_are_moved(void **state)
{
	static const uint16_t second[] = { 1 };
	struct message *m[200];
	struct bench b;

	(void)state;
	open_small(&b);
	commit_many(&b, m, 200, 1000);
	bench_settle(&b, m[10], SPOOL_SENT, false, second, 1);
	bench_settle(&b, m[20], SPOOL_HOLD, false, NULL, 0);
	bench_settle(&b, m[30], SPOOL_HOLD, false, NULL, 0);
	bench_settle(&b, m[30], SPOOL_RELEASE, false, NULL, 0);
	for (unsigned i = 0; i < 200; i++)
		if (i % 10 != 0)
			bench_settle(&b, m[i], SPOOL_SENT, true, NULL, 0);
	bench_tick_until(&b, few_segments);
	assert_true(b.n_moved > 0);
	/* Content is found by the old ref. */
	for (unsigned i = 0; i < 200; i += 10)
		assert_loads(&b, m[i]->id, m[i]->ref, 1000);
	for (int round = 0; round < 2; round++) {
		bench_reopen(&b);
		assert_int_equal(b.n_found, 20);
		for (unsigned i = 0; i < 200; i += 10) {
			struct known *k = bench_find(&b, m[i]->id);

			assert_non_null(k);
			assert_same_envelope(k->m, m[i]);
			assert_loads(&b, k->m->id, k->m->ref, 1000);
			assert_rcpt_states(k->m, i == 10 ? "psp" : "ppp");
			assert_int_equal(k->held, i == 20);
		}
	}
	/* And can be settled by a ref that is long out of date. */
	for (unsigned i = 0; i < 200; i += 10) {
		bench_settle(
		    &b, bench_find(&b, m[i]->id)->m, SPOOL_SENT, true, NULL, 0);
		message_free(m[i]);
		m[i] = NULL;
	}
	bench_reopen(&b);
	assert_int_equal(b.n_found, 0);
	for (unsigned i = 0; i < 200; i++)
		message_free(m[i]);
	bench_fini(&b);
}

static bool has_moved(struct bench *b)
{
	return b->n_moved > 0;
}

/* Messages that come and go in the segments where the first one lives. */
static void crowd(struct bench *b, uint64_t from, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		struct message *m = make_message(from + i, 1000, 1);

		assert_int_equal(bench_commit(b, m), 0);
		bench_settle(b, m, SPOOL_SENT, true, NULL, 0);
		message_free(m);
	}
}

/*
 * Copied while it was held, then released: after a start, with the copy as it
 * stands, it is copied again, and outlives the line that released it.
 */
static void test_release_outlives_its_line(void **state)
{
	struct message *m = make_message(1, 100, 1);
	struct bench b;
	char *path;

	(void)state;
	open_small(&b);
	assert_int_equal(bench_commit(&b, m), 0);
	bench_settle(&b, m, SPOOL_HOLD, false, NULL, 0);
	crowd(&b, 100, 20);
	bench_tick_until(&b, has_moved);
	bench_settle(&b, m, SPOOL_RELEASE, false, NULL, 0);
	crowd(&b, 200, 20);
	bench_reopen(&b);
	assert_int_equal(b.n_found, 1);
	assert_false(b.found->held);
	crowd(&b, 300, 20);
	bench_tick_until(&b, has_moved);
	bench_close(&b);
	for (unsigned i = 1; i < 100; i++) {
		path = bench_path(&b, "outcomes/%09u", i);
		unlink(path);
		free(path);
	}
	bench_reopen(&b);
	assert_false(bench_find(&b, 1)->held);
	message_free(m);
	bench_fini(&b);
}

/*
 * A failed write whose remains could not be cut off either: what stands behind
 * the end is no message, and is not copied as one.
 */
static void test_remains_are_not_copied(void **state)
{
	struct message *m = make_message(1, 100, 1);
	struct record_line line;
	struct bench b;
	char *path, *text, *record;
	size_t len, total;
	int fd;

	(void)state;
	open_small(&b);
	assert_int_equal(bench_commit(&b, m), 0);
	path = bench_path(&b, "arrivals/000000001");
	crowd(&b, 100, 20);
	/* The same record once more, as of another message. */
	text = read_file(path, &len);
	assert_int_equal(
	    record_decode_line(slice_of(text + m->ref.offset, len), &line), 0);
	total = record_total(&line);
	record = xmemdup(text + m->ref.offset, total);
	line.id = 2;
	line.ref.offset = (uint32_t)len;
	record_encode_line(&line, record);
	record_encode_end(2, record + total - RECORD_END_LEN);
	fd = open(path, O_WRONLY | O_APPEND);
	assert_int_equal(write(fd, record, total), total);
	close(fd);
	bench_tick_until(&b, has_moved);
	while (count_files(&b, "arrivals", "000000001") > 0) {
		spool_tick(b.spool, 0);
		bench_turn(&b);
	}
	assert_int_equal(b.n_moved, 1);
	bench_reopen(&b);
	assert_int_equal(b.n_found, 1);
	free(path);
	free(text);
	free(record);
	message_free(m);
	bench_fini(&b);
}

/* Copies are made while messages end, by refs from before the copies. */
static void test_settle_while_moving(void **state)
{
	struct message *m[400];
	bool alive[400];
	struct bench b;
	unsigned n;

	(void)state;
	for (unsigned round = 0; round < 10; round++) {
		open_small(&b);
		commit_many(&b, m, 400, 300);
		for (unsigned i = 0; i < 400; i++) {
			alive[i] = i % 13 == 0;
			if (!alive[i])
				bench_settle(
				    &b, m[i], SPOOL_SENT, true, NULL, 0);
		}
		/* One ends with each thing that completes. */
		for (unsigned i = 0; i < 400; i += 13) {
			spool_tick(b.spool, 0);
			bench_turn(&b);
			for (unsigned k = 0; k < round; k++)
				bench_glance(&b);
			if (i % 2 == 0)
				continue;
			alive[i] = false;
			bench_settle(&b, m[i], SPOOL_SENT, true, NULL, 0);
		}
		bench_reopen(&b);
		n = 0;
		for (unsigned i = 0; i < 400; i++) {
			assert_int_equal(
			    bench_find(&b, m[i]->id) != NULL, alive[i]);
			n += alive[i];
		}
		assert_int_equal(b.n_found, n);
		for (unsigned i = 0; i < 400; i++)
			message_free(m[i]);
		bench_fini(&b);
	}
}

static bool two_moved(struct bench *b)
{
	return b->n_moved >= 2;
}

/* A crash between the copies and the removal of the original leaves both. */
static void test_both_copies_on_disk(void **state)
{
	struct message *m[200];
	char *path, *bytes;
	struct bench b;
	size_t len;

	(void)state;
	open_small(&b);
	commit_many(&b, m, 200, 100);
	path = bench_path(&b, "arrivals/%09u", m[0]->ref.segment);
	bytes = read_file(path, &len);
	/* What is in that file: two live, one of them partly sent. */
	for (unsigned i = 2; i < 200; i++)
		bench_settle(&b, m[i], SPOOL_SENT, true, NULL, 0);
	bench_settle(&b, m[1], SPOOL_SENT, false, (const uint16_t[]){ 2 }, 1);
	bench_settle(&b, m[0], SPOOL_HOLD, false, NULL, 0);
	bench_tick_until(&b, two_moved);
	bench_close(&b);
	write_file(path, bytes, len);
	for (int round = 0; round < 3; round++) {
		bench_reopen(&b);
		assert_int_equal(b.n_found, 2);
		/*
		 * The original counts: the copy may never have been synced, and
		 * nobody knows.
		 */
		for (unsigned i = 0; i < 2 && round == 0; i++)
			assert_int_equal(
			    bench_find(&b, m[i]->id)->m->ref.segment,
			    m[i]->ref.segment);
		assert_rcpt_states(bench_find(&b, 2)->m, "pps");
		assert_true(bench_find(&b, 1)->held);
		assert_loads(&b, 1, bench_find(&b, 1)->m->ref, m[0]->size);
		for (unsigned i = 0; i < 5; i++) {
			spool_tick(b.spool, 0);
			bench_turn(&b);
		}
	}
	/* Ended by either, both are dead. */
	bench_settle(&b, bench_find(&b, 1)->m, SPOOL_DELETE, true, NULL, 0);
	bench_close(&b);
	write_file(path, bytes, len);
	bench_reopen(&b);
	assert_null(bench_find(&b, 1));
	free(path);
	free(bytes);
	for (unsigned i = 0; i < 200; i++)
		message_free(m[i]);
	bench_fini(&b);
}

static struct bench *ticking;

static void tick_and_answer(void *ctx, int rc, const struct err *err)
{
	spool_tick(ticking->spool, 0);
	on_answer(ctx, rc, err);
}

/*
 * A batch fills several segments.  When its first answer comes they are all
 * sealed, and the others' messages are not yet counted: they must not go.
 */
static void test_tick_between_answers(void **state)
{
	struct answer answers[100] = { 0 };
	struct message *m[100];
	struct bench b;

	(void)state;
	open_small(&b);
	ticking = &b;
	for (unsigned round = 0; round < 20; round++) {
		for (unsigned i = 0; i < 100; i++) {
			answers[i] = (struct answer){ 0 };
			m[i] = make_message(1 + 100 * round + i, 1000, 1);
			spool_commit(
			    b.spool, m[i], NULL, tick_and_answer, &answers[i]);
		}
		for (unsigned i = 0; i < 100; i++)
			bench_wait(&b, &answers[i]);
		for (unsigned i = 0; i < 100; i++) {
			if (i % 10 != 0)
				bench_settle(
				    &b, m[i], SPOOL_SENT, true, NULL, 0);
			message_free(m[i]);
		}
	}
	bench_reopen(&b);
	assert_int_equal(b.n_found, 20 * 10);
	for (struct known *k = b.found; k != NULL; k = k->next)
		assert_loads(&b, k->m->id, k->m->ref, 1000);
	bench_fini(&b);
}

/* Envelopes far longer than the content: all of it lives, nothing moves. */
static void test_long_envelopes_stay(void **state)
{
	struct message *m;
	struct bench b;

	(void)state;
	open_small(&b);
	for (unsigned round = 0; round < 2; round++) {
		for (unsigned i = 0; i < 30; i++) {
			m = make_message(1 + 100 * round + i, 10, 100);
			assert_int_equal(bench_commit(&b, m), 0);
			message_free(m);
		}
		for (unsigned i = 0; i < 50; i++) {
			spool_tick(b.spool, 0);
			bench_turn(&b);
		}
		assert_int_equal(b.n_moved, 0);
		/* Nor when the start scan counted them. */
		bench_reopen(&b);
		assert_int_equal(b.n_found, 30 * (round + 1));
	}
	bench_fini(&b);
}

/* Many starts with a message each: the files are put together. */
static void test_small_segments_are_put_together(void **state)
{
	struct message *m[30];
	struct bench b;

	(void)state;
	open_small(&b);
	for (unsigned i = 0; i < 30; i++) {
		m[i] = make_message(1 + i, 10, 1);
		assert_int_equal(bench_commit(&b, m[i]), 0);
		bench_reopen(&b);
	}
	bench_tick_until(&b, few_segments);
	bench_reopen(&b);
	assert_int_equal(b.n_found, 30);
	for (unsigned i = 0; i < 30; i++)
		message_free(m[i]);
	bench_fini(&b);
}

static unsigned n_outcomes(struct bench *b)
{
	struct spool_usage usage;

	spool_usage(b->spool, &usage);
	return usage.n_outcomes;
}

static bool few_outcomes(struct bench *b)
{
	return n_outcomes(b) <= 64;
}

/* History is bounded; what a message that lives still needs is kept. */
static void test_outcomes_are_bounded(void **state)
{
	struct message *stuck = make_message(1, 10, 2);
	struct bench b;

	(void)state;
	open_small(&b);
	assert_int_equal(bench_commit(&b, stuck), 0);
	bench_settle(&b, stuck, SPOOL_SENT, false, (const uint16_t[]){ 0 }, 1);
	for (unsigned i = 0; i < 3000; i++) {
		struct message *m = make_message(10 + i, 100, 1);

		assert_int_equal(bench_commit(&b, m), 0);
		bench_settle(&b, m, SPOOL_SENT, true, NULL, 0);
		message_free(m);
	}
	assert_true(n_outcomes(&b) > 80);
	bench_tick_until(&b, few_outcomes);
	bench_reopen(&b);
	assert_int_equal(b.n_found, 1);
	assert_rcpt_states(b.found->m, "sp");
	message_free(stuck);
	bench_fini(&b);
}

static uint64_t noise(void)
{
	static uint64_t x = 1181783497276652981u;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	return x >> 11;
}

enum { MODEL = 300, RCPTS = 4 };

struct model {
	struct message *m[MODEL]; /* as it should be found; NULL: not */
	bool held[MODEL];
	uint64_t next_id;
};

static void model_commit(struct bench *b, struct model *model, unsigned i)
{
	struct message *m =
	    make_message(model->next_id++, noise() % 3000, RCPTS);

	assert_int_equal(bench_commit(b, m), 0);
	model->m[i] = m;
	model->held[i] = false;
}

static void model_event(struct bench *b, struct model *model, unsigned i)
{
	struct message *m = model->m[i];
	uint16_t at = (uint16_t)(noise() % RCPTS);
	uint64_t what = noise() % 8;

	if (what < 4) {
		bool sent = what % 2 == 0;

		if (m->rcpts[at].state != RCPT_PENDING)
			return;
		m->rcpts[at].state = sent ? RCPT_SENT : RCPT_FAILED;
		bench_settle(b, m, sent ? SPOOL_SENT : SPOOL_FAILED,
		    message_n_pending(m) == 0, &at, 1);
		if (message_n_pending(m) > 0)
			return;
	} else if (what < 6) {
		model->held[i] = what == 4;
		bench_settle(b, m, what == 4 ? SPOOL_HOLD : SPOOL_RELEASE,
		    false, NULL, 0);
		return;
	} else {
		bench_settle(b, m, SPOOL_DELETE, true, NULL, 0);
	}
	message_free(m);
	model->m[i] = NULL;
}

static void model_check(struct bench *b, const struct model *model)
{
	unsigned n = 0;

	for (unsigned i = 0; i < MODEL; i++) {
		const struct message *m = model->m[i];
		struct known *k;

		if (m == NULL)
			continue;
		n++;
		k = bench_find(b, m->id);
		assert_non_null(k);
		assert_same_envelope(k->m, m);
		for (unsigned r = 0; r < RCPTS; r++)
			assert_int_equal(
			    k->m->rcpts[r].state, m->rcpts[r].state);
		assert_int_equal(k->held, model->held[i]);
		model->m[i]->ref = k->m->ref;
		if (noise() % 4 == 0)
			assert_loads(b, m->id, m->ref, m->size);
	}
	assert_int_equal(b->n_found, n);
}

/* Anything in any order, with ticks and restarts between, against a model. */
static void test_random_operations(void **state)
{
	struct model model = { .next_id = 1 };
	struct bench b;

	(void)state;
	open_small(&b);
	for (unsigned round = 0; round < 20000; round++) {
		unsigned i = (unsigned)(noise() % MODEL);

		if (model.m[i] == NULL)
			model_commit(&b, &model, i);
		else
			model_event(&b, &model, i);
		if (noise() % 8 == 0) {
			spool_tick(b.spool, 0);
			bench_turn(&b);
		}
		if (noise() % 1000 == 0) {
			bench_reopen(&b);
			model_check(&b, &model);
		}
	}
	bench_reopen(&b);
	model_check(&b, &model);
	/* A bounded multiple of what lives: 300 messages of about 2 KB. */
	for (unsigned i = 0; i < 50; i++) {
		spool_tick(b.spool, 0);
		bench_turn(&b);
	}
	bench_reopen(&b);
	assert_in_range(n_arrivals(&b), 1, 4 * MODEL * 2000 / SEGMENT);
	for (unsigned i = 0; i < MODEL; i++)
		message_free(model.m[i]);
	bench_fini(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_dead_segments_go),
		cmocka_unit_test(test_idle_segment_goes),
		cmocka_unit_test(test_few_live_are_moved),
		cmocka_unit_test(test_release_outlives_its_line),
		cmocka_unit_test(test_remains_are_not_copied),
		cmocka_unit_test(test_settle_while_moving),
		cmocka_unit_test(test_both_copies_on_disk),
		cmocka_unit_test(test_tick_between_answers),
		cmocka_unit_test(test_long_envelopes_stay),
		cmocka_unit_test(test_small_segments_are_put_together),
		cmocka_unit_test(test_outcomes_are_bounded),
		cmocka_unit_test(test_random_operations),
	};

	return cmocka_run_group_tests_name("spool_compact", tests, NULL, NULL);
}
