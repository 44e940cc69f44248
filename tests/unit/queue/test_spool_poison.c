/*
 * Poison: every truncation and every flipped bit of what the spool wrote, and
 * other things in the places of its files.  The start never fails or hangs, the
 * rest is found, nothing is delivered in part.
 */
#include "spool_test.h"

#include "queue/record.h"
#include "queue/segment.h"

#define LEN 40

/*
 * Three messages and their outcomes: the first is done, the second was sent to
 * its first recipient, the third is as it came.
 */
struct three {
	struct bench b;
	struct message *m[3];
	struct file {
		char *path, *bytes;
		size_t len;
	} arrivals, outcomes;
};

static void file_read(struct three *t, struct file *f, const char *part)
{
	f->path = bench_path(&t->b, "%s/000000001", part);
	f->bytes = read_file(f->path, &f->len);
}

static void three_init(struct three *t)
{
	alarm(240);
	bench_init(&t->b);
	t->b.options.durable = false;
	bench_reopen(&t->b);
	for (unsigned i = 0; i < 3; i++) {
		t->m[i] = make_message(101 + i, LEN, 2);
		assert_int_equal(bench_commit(&t->b, t->m[i]), 0);
	}
	bench_settle(&t->b, t->m[0], SPOOL_SENT, true, NULL, 0);
	bench_settle(
	    &t->b, t->m[1], SPOOL_SENT, false, (const uint16_t[]){ 0 }, 1);
	bench_close(&t->b);
	file_read(t, &t->arrivals, "arrivals");
	file_read(t, &t->outcomes, "outcomes");
}

static void three_fini(struct three *t)
{
	for (unsigned i = 0; i < 3; i++)
		message_free(t->m[i]);
	free(t->arrivals.path);
	free(t->arrivals.bytes);
	free(t->outcomes.path);
	free(t->outcomes.bytes);
	bench_fini(&t->b);
}

static void remove_files(struct three *t, const char *part, const char *prefix)
{
	char *path = bench_path(&t->b, "%s", part);
	DIR *dir = opendir(path);
	struct dirent *entry;

	assert_non_null(dir);
	while ((entry = readdir(dir)) != NULL)
		if (strncmp(entry->d_name, prefix, strlen(prefix)) == 0)
			unlinkat(dirfd(dir), entry->d_name, 0);
	closedir(dir);
	free(path);
}

/* A start, with what is good: all of it, and nothing of anybody else. */
static void start(struct three *t)
{
	bench_reopen(&t->b);
	for (struct known *k = t->b.found; k != NULL; k = k->next) {
		assert_in_range(k->m->id, 101, 103);
		assert_same_envelope(k->m, t->m[k->m->id - 101]);
		assert_loads(&t->b, k->m->id, k->m->ref, LEN);
	}
}

/* As it was left at first, but for these bytes of one file. */
static void start_with(struct three *t, const struct file *f, size_t len)
{
	if (t->b.spool != NULL)
		bench_close(&t->b);
	remove_files(t, "arrivals", "0");
	remove_files(t, "outcomes", "0");
	remove_files(t, "failed", "damaged-");
	write_file(t->arrivals.path, t->arrivals.bytes,
	    f == &t->arrivals ? len : t->arrivals.len);
	write_file(t->outcomes.path, t->outcomes.bytes,
	    f == &t->outcomes ? len : t->outcomes.len);
	start(t);
}

static bool found(struct three *t, unsigned i)
{
	return bench_find(&t->b, t->m[i]->id) != NULL;
}

static size_t end_of(const struct three *t, unsigned i)
{
	return i < 2 ? t->m[i + 1]->ref.offset : t->arrivals.len;
}

static void test_arrivals_truncated(void **state)
{
	struct three t;

	(void)state;
	three_init(&t);
	for (size_t len = 0; len < t.arrivals.len; len++) {
		start_with(&t, &t.arrivals, len);
		assert_false(found(&t, 0));
		assert_int_equal(found(&t, 1), len >= end_of(&t, 1));
		assert_false(found(&t, 2));
		/* That is how a crash leaves a file: nothing to tell. */
		assert_int_equal(t.b.n_trouble, 0);
	}
	three_fini(&t);
}

static void test_arrivals_flipped(void **state)
{
	struct three t;

	(void)state;
	three_init(&t);
	for (size_t at = 0; at < t.arrivals.len; at++) {
		int64_t before =
		    stat_get(STAT_SPOOL_DAMAGED) + stat_get(STAT_SPOOL_TORN);
		bool newer = at == strlen("sesrelayd-arrivals ");
		bool good[3];

		t.arrivals.bytes[at] ^= (char)(1 << at % 8);
		start_with(&t, NULL, 0);
		for (unsigned i = 0; i < 3; i++)
			good[i] =
			    at < t.m[i]->ref.offset || at >= end_of(&t, i);
		/* Only '1' that becomes another digit says "newer". */
		newer = newer && t.b.n_found == 0;
		assert_false(found(&t, 0));
		assert_int_equal(found(&t, 1), good[1] && !newer);
		assert_int_equal(found(&t, 2), good[2] && !newer);
		/* Damage is counted, but not of what is finished. */
		assert_int_equal(stat_get(STAT_SPOOL_DAMAGED) +
			stat_get(STAT_SPOOL_TORN) - before,
		    !good[1] || !good[2] || newer || t.b.n_trouble > 0);
		assert_true(t.b.n_trouble <= 2);
		t.arrivals.bytes[at] ^= (char)(1 << at % 8);
	}
	three_fini(&t);
}

/* Whatever becomes of them: no message but theirs is touched by it. */
static void test_outcomes_damaged(void **state)
{
	struct three t;

	(void)state;
	three_init(&t);
	for (size_t len = 0; len < t.outcomes.len; len++) {
		start_with(&t, &t.outcomes, len);
		assert_true(found(&t, 1) && found(&t, 2));
		assert_rcpt_states(bench_find(&t.b, 102)->m, "pp");
		assert_rcpt_states(bench_find(&t.b, 103)->m, "pp");
		assert_false(bench_find(&t.b, 103)->held);
		assert_int_equal(t.b.n_trouble, 0);
	}
	for (size_t at = 0; at < t.outcomes.len; at++) {
		const char *states;
		bool blind;

		t.outcomes.bytes[at] ^= (char)(1 << at % 8);
		start_with(&t, NULL, 0);
		assert_true(found(&t, 1) && found(&t, 2));
		assert_rcpt_states(bench_find(&t.b, 103)->m, "pp");
		blind = bench_find(&t.b, 103)->held;
		assert_true(!blind || at == strlen("sesrelayd-outcomes "));
		/* Of two lines, one is damaged at most (or made longer). */
		states = bench_find(&t.b, 102)->m->rcpts[0].state == RCPT_SENT
		    ? "sp"
		    : "pp";
		assert_rcpt_states(bench_find(&t.b, 102)->m, states);
		assert_true(at < RECORD_HEADER_LEN || t.b.n_trouble == 1 ||
		    at + 1 == t.outcomes.len);
		t.outcomes.bytes[at] ^= (char)(1 << at % 8);
	}
	three_fini(&t);
}

/* --- other things in the places of files --- */

enum thing {
	A_DIRECTORY,
	A_FIFO,
	A_LINK,
	NEWER,
	EMPTY,
	GARBAGE,
	N_THINGS,
};

static const char target_text[] = "somebody's file\n";

static void put(struct bench *b, enum thing thing, const char *name)
{
	static const char *const newer[] = {
		"sesrelayd-arrivals 2 what may be\n",
		"sesrelayd-outcomes 2 what may be\n",
	};
	char *path = bench_path(b, "%s", name);
	char *target = bench_path(b, "target");

	write_file(target, target_text, strlen(target_text));
	(void)!remove(path);
	switch (thing) {
	case A_DIRECTORY:
		assert_int_equal(mkdir(path, 0700), 0);
		break;
	case A_FIFO:
		assert_int_equal(mkfifo(path, 0600), 0);
		break;
	case A_LINK:
		assert_int_equal(symlink(target, path), 0);
		break;
	case NEWER:
		write_file(path, newer[name[0] == 'o'], strlen(newer[0]));
		break;
	case EMPTY:
		write_file(path, "", 0);
		break;
	case GARBAGE:
	default:
		write_file(path, "\0\xffgarbage\n", 10);
		break;
	}
	free(target);
	free(path);
}

static void assert_target_untouched(struct bench *b)
{
	char *path = bench_path(b, "target");
	size_t len;
	char *text = read_file(path, &len);

	assert_string_equal(text, target_text);
	free(text);
	free(path);
}

static int bury(struct bench *b, uint64_t id, struct spool_ref ref)
{
	struct spool_letter letter = { .id = id, .ref = ref, .reason = "x" };
	struct answer a = { 0 };

	spool_bury(b->spool, &letter, on_answer, &a);
	bench_wait(b, &a);
	return a.rc;
}

/* The daemon does all its work beside it. */
static void assert_works(struct three *t, uint64_t id)
{
	struct message *m = make_message(id, LEN, 1);

	assert_int_equal(bench_commit(&t->b, m), 0);
	assert_loads(&t->b, id, m->ref, LEN);
	assert_int_equal(bury(&t->b, id, m->ref), 0);
	bench_settle(&t->b, m, SPOOL_FAILED, true, NULL, 0);
	for (unsigned i = 0; i < 3; i++) {
		spool_tick(t->b.spool, 0);
		bench_turn(&t->b);
	}
	assert_true(t->b.healthy);
	assert_target_untouched(&t->b);
	message_free(m);
}

static void test_things_among_segments(void **state)
{
	struct three t;

	(void)state;
	for (enum thing thing = 0; thing < N_THINGS; thing++) {
		int64_t before;

		three_init(&t);
		put(&t.b, thing, "arrivals/000000007");
		before = stat_get(STAT_SPOOL_DAMAGED);
		start(&t);
		assert_int_equal(t.b.n_found, 2);
		assert_false(bench_find(&t.b, 103)->held);
		/* One line; an empty one, or a line cut short, a crash leaves. */
		assert_int_equal(t.b.n_trouble, thing <= NEWER);
		assert_int_equal(
		    stat_get(STAT_SPOOL_DAMAGED) - before, thing <= NEWER);
		assert_works(&t, 1000);
		bench_reopen(&t.b);
		assert_int_equal(t.b.n_found, 2);
		/* What may be of use to somebody is there. */
		assert_int_equal(
		    count_files(&t.b, "arrivals", "000000007"), thing <= NEWER);
		three_fini(&t);
	}
}

/* It is not known what it said: nothing goes out by itself. */
static void test_things_among_outcomes(void **state)
{
	struct three t;

	(void)state;
	for (enum thing thing = 0; thing < N_THINGS; thing++) {
		int64_t before;

		three_init(&t);
		put(&t.b, thing, "outcomes/000000007");
		before = stat_get(STAT_SPOOL_DAMAGED);
		start(&t);
		assert_int_equal(t.b.n_found, 2);
		for (struct known *k = t.b.found; k != NULL; k = k->next)
			assert_int_equal(k->held, thing <= NEWER);
		if (thing <= NEWER)
			assert_non_null(strstr(t.b.trouble, "held"));
		assert_int_equal(stat_get(STAT_SPOOL_DAMAGED) - before,
		    thing <= NEWER || thing == GARBAGE);
		assert_works(&t, 1000);
		three_fini(&t);
	}
}

static void commit_large(struct three *t, struct message *m)
{
	struct spool_large *l = spool_large_new(t->b.spool, m->id);
	struct answer a = { 0 };
	struct body chunk;

	body_init(&chunk);
	fill_body(&chunk, m->id, 5000);
	spool_large_append(l, &chunk, on_answer, &a);
	bench_wait(&t->b, &a);
	a = (struct answer){ 0 };
	spool_commit(t->b.spool, m, l, on_answer, &a);
	bench_wait(&t->b, &a);
	assert_int_equal(a.rc, 0);
}

static void test_things_among_large(void **state)
{
	struct three t;
	struct err err;

	(void)state;
	for (enum thing thing = 0; thing < N_THINGS; thing++) {
		struct message *m = make_message(500, 0, 1);
		struct known *k;

		three_init(&t);
		bench_reopen(&t.b);
		commit_large(&t, m);
		bench_close(&t.b);
		put(&t.b, thing, "large/00000000000001F4");
		put(&t.b, thing, "large/0000000000000010");
		put(&t.b, thing, "large/readme");
		bench_reopen(&t.b);
		assert_int_equal(t.b.n_found, 3);
		k = bench_find(&t.b, 500);
		assert_non_null(k);
		assert_null(bench_load(&t.b, 500, k->m->ref, &err));
		assert_int_equal(err.code, EBADMSG);
		assert_int_equal(bury(&t.b, 500, k->m->ref), -1);
		assert_int_equal(count_files(&t.b, "failed", "0"), 0);
		bench_settle(&t.b, k->m, SPOOL_FAILED, true, NULL, 0);
		assert_works(&t, 1000);
		assert_int_equal(count_files(&t.b, "large", "readme"), 1);
		message_free(m);
		three_fini(&t);
	}
}

static void test_things_among_letters(void **state)
{
	struct three t;

	(void)state;
	for (enum thing thing = 0; thing < N_THINGS; thing++) {
		three_init(&t);
		put(&t.b, thing, "failed/0000000000000067.eml");
		put(&t.b, thing, "failed/.0000000000000067.2.eml.tmp");
		put(&t.b, thing, "failed/damaged-x");
		bench_reopen(&t.b);
		t.b.options.keep_failed_us = 1;
		spool_configure(t.b.spool, &t.b.options);
		assert_int_equal(bury(&t.b, 103, t.m[2]->ref), 0);
		/* A directory cannot be written over. */
		assert_int_equal(
		    count_files(&t.b, "failed",
			thing == A_DIRECTORY ? "0000000000000067.3.eml"
					     : "0000000000000067.2.eml"),
		    1);
		assert_works(&t, 1000);
		three_fini(&t);
	}
}

static void test_things_for_the_lock(void **state)
{
	struct three t;

	(void)state;
	for (enum thing thing = 0; thing < N_THINGS; thing++) {
		bool moved = thing <= A_LINK;
		struct err err;

		three_init(&t);
		for (unsigned i = 0; i < 2; i++) {
			struct work_port *port = work_port_new();

			put(&t.b, thing, "lock");
			start(&t);
			assert_int_equal(t.b.n_found, 2);
			assert_int_equal(t.b.n_trouble, moved);
			assert_int_equal(count_files(&t.b, "", "lock.foreign-"),
			    moved ? i + 1 : 0);
			assert_works(&t, 1000 + i);
			/* And it is a lock. */
			assert_null(spool_open(
			    &t.b.options, port, &bench_events, &t.b, &err));
			assert_int_equal(err.code, EWOULDBLOCK);
			work_port_free(port);
			bench_close(&t.b);
		}
		three_fini(&t);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_arrivals_truncated),
		cmocka_unit_test(test_arrivals_flipped),
		cmocka_unit_test(test_outcomes_damaged),
		cmocka_unit_test(test_things_among_segments),
		cmocka_unit_test(test_things_among_outcomes),
		cmocka_unit_test(test_things_among_large),
		cmocka_unit_test(test_things_among_letters),
		cmocka_unit_test(test_things_for_the_lock),
	};

	return cmocka_run_group_tests_name("spool_poison", tests, NULL, NULL);
}
