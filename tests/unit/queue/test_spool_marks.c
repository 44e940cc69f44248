/*
 * Messages that crashed the daemon: what the file says, when one is held or
 * not even decoded any more, and how its count ends.
 */
#include "spool_test.h"

#include "base/crash.h"
#include "queue/spool_marks.h"
#include "queue/spool_private.h"

#include <signal.h>
#include <sys/wait.h>

static void test_parse(void **state)
{
	static const char text[] =
	    "0000000000000005 send\n0000000000000005 send\n"
	    "0000000000000003 read\n"
	    "0000000000000005 load\n"
	    "0000000000000000 send\n" /* nobody */
	    "0000000000000005 sendx\n"
	    "0000000000000005 none\n"
	    "0000000000000005\n"
	    "garbage\n\n\0\n"
	    "0000000000000009 bury\n"
	    "0000000000000007 co"; /* torn */
	struct spool_marks marks = { 0 }, again = { 0 };
	const struct spool_mark *mark;
	size_t len;
	char *out;

	(void)state;
	marks_parse(&marks, slice_of(text, sizeof(text) - 1));
	assert_int_equal(marks.n, 3);
	assert_int_equal(marks.items[0].id, 3);
	assert_int_equal(marks.items[2].id, 9);
	mark = marks_find(&marks, 5);
	assert_int_equal(mark_total(mark), 3);
	assert_int_equal(mark->n[CRASH_SEND], 2);
	assert_int_equal(mark->n[CRASH_LOAD], 1);
	assert_string_equal(mark_words(mark), "sent");
	assert_string_equal(
	    mark_words(marks_find(&marks, 3)), "read at the start");
	assert_null(marks_find(&marks, 7));
	out = marks_format(&marks, &len);
	marks_parse(&again, slice_of(out, len));
	assert_int_equal(again.n, marks.n);
	for (size_t i = 0; i < marks.n; i++)
		assert_memory_equal(
		    &again.items[i], &marks.items[i], sizeof(again.items[i]));
	marks_remove(&again, 5);
	assert_null(marks_find(&again, 5));
	assert_non_null(marks_find(&again, 3));
	assert_non_null(marks_find(&again, 9));
	free(out);
	marks_fini(&marks);
	marks_fini(&again);
}

static void test_count_is_bounded(void **state)
{
	struct spool_marks marks = { 0 };
	char *out;
	size_t len;

	(void)state;
	for (unsigned i = 0; i < 5000; i++)
		marks_parse(&marks, slice_str("0000000000000005 copy\n"));
	out = marks_format(&marks, &len);
	assert_true(len < 4096);
	free(out);
	marks_fini(&marks);
}

/* --- the spool --- */

struct told {
	struct bench b; /* first: its callbacks get a bench */
	unsigned n_crashed;
	char words[64];
};

static void on_found_crashed(void *ctx, const struct spool_found *found)
{
	struct told *t = ctx;

	if (found->n_crashes > 0) {
		assert_true(found->held);
		t->n_crashed += found->n_crashes;
		snprintf(
		    t->words, sizeof(t->words), "%s", found->crashed_while);
	}
	on_found(ctx, found);
}

static const struct spool_events told_events = {
	.on_found = on_found_crashed,
	.on_scan_done = on_scan_done,
	.on_moved = on_moved,
	.on_health = on_health,
	.on_trouble = on_trouble,
};

static void told_reopen(struct told *t)
{
	struct bench *b = &t->b;

	if (b->spool != NULL)
		bench_close(b);
	bench_forget(b);
	t->n_crashed = 0;
	t->words[0] = '\0';
	b->port = work_port_new();
	b->spool = spool_open(&b->options, b->port, &told_events, t, NULL);
	assert_non_null(b->spool);
	bench_scan(b);
}

static void told_init(struct told *t, struct message **m, unsigned n)
{
	*t = (struct told){ .n_crashed = 0 };
	bench_init(&t->b);
	told_reopen(t);
	for (unsigned i = 0; i < n; i++) {
		m[i] = make_message(10 + i, 100, 2);
		assert_int_equal(bench_commit(&t->b, m[i]), 0);
	}
}

static void told_fini(struct told *t, struct message **m, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		message_free(m[i]);
	bench_fini(&t->b);
}

/* As the handler of a crash leaves it. */
static void crash(struct told *t, const char *lines)
{
	char *path = bench_path(&t->b, "crashed");
	int fd;

	if (t->b.spool != NULL)
		bench_close(&t->b);
	fd = open(path, O_WRONLY | O_APPEND);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, lines, strlen(lines)), strlen(lines));
	close(fd);
	free(path);
}

static char *marks_file(const struct told *t)
{
	char *path = bench_path(&t->b, "crashed"), *text;
	size_t len;

	text = read_file(path, &len);
	free(path);
	return text;
}

static void assert_marks(const struct told *t, const char *expected)
{
	char *text = marks_file(t);

	assert_string_equal(text, expected);
	free(text);
}

#define SEND_11 "000000000000000B send\n"

static void test_held_after_three(void **state)
{
	struct message *m[3];
	struct told t;

	(void)state;
	told_init(&t, m, 3);
	crash(&t, SEND_11 SEND_11);
	told_reopen(&t);
	assert_int_equal(t.n_crashed, 0);
	assert_false(bench_find(&t.b, 11)->held);
	crash(&t, "000000000000000B load\n");
	told_reopen(&t);
	assert_int_equal(t.n_crashed, 3);
	assert_string_equal(t.words, "sent");
	assert_int_equal(t.b.n_found, 3);
	assert_true(bench_find(&t.b, 11)->held);
	assert_false(bench_find(&t.b, 10)->held);
	assert_false(bench_find(&t.b, 12)->held);
	assert_int_equal(t.b.n_trouble, 0);
	/* It can be read all the same. */
	assert_loads(&t.b, 11, bench_find(&t.b, 11)->m->ref, 100);
	/* Held by its outcome, it is nothing new at the next start. */
	bench_settle(&t.b, m[1], SPOOL_HOLD, false, NULL, 0);
	told_reopen(&t);
	assert_true(bench_find(&t.b, 11)->held);
	assert_int_equal(t.n_crashed, 0);
	told_fini(&t, m, 3);
}

static void test_release_begins_anew(void **state)
{
	struct message *m[3];
	struct told t;

	(void)state;
	told_init(&t, m, 3);
	crash(&t, SEND_11 SEND_11 "000000000000000A send\n" SEND_11);
	told_reopen(&t);
	bench_settle(&t.b, m[1], SPOOL_HOLD, false, NULL, 0);
	bench_settle(&t.b, m[1], SPOOL_RELEASE, false, NULL, 0);
	told_reopen(&t);
	assert_false(bench_find(&t.b, 11)->held);
	assert_int_equal(t.n_crashed, 0);
	assert_marks(&t, "000000000000000A send\n");
	told_fini(&t, m, 3);
}

/* What is not there any more needs no mark; what is, keeps it. */
static void test_file_is_sifted(void **state)
{
	struct message *m[3];
	struct told t;

	(void)state;
	told_init(&t, m, 3);
	bench_settle(&t.b, m[0], SPOOL_SENT, true, NULL, 0);
	crash(&t,
	    "000000000000000A send\nFFFF send\n" SEND_11
	    "0000000000000FFF read\nwhat is this\n");
	told_reopen(&t);
	bench_close(&t.b);
	assert_marks(&t, SEND_11);
	told_reopen(&t);
	told_fini(&t, m, 3);
}

/* The start died three times of decoding it: that is not tried again. */
static void test_not_decoded_any_more(void **state)
{
	struct message *m[3];
	struct told t;

	(void)state;
	told_init(&t, m, 3);
	crash(&t,
	    "000000000000000B read\n000000000000000B read\n"
	    "000000000000000B read\n");
	for (unsigned i = 0; i < 2; i++) {
		told_reopen(&t);
		assert_int_equal(t.b.n_found, 2);
		assert_null(bench_find(&t.b, 11));
		assert_non_null(strstr(t.b.trouble,
		    "message 000000000000000B crashed the daemon 3 times "
		    "while it was being read at the start"));
		assert_int_equal(count_files(&t.b, "failed", "damaged-"), 1);
	}
	told_fini(&t, m, 3);
}

static bool nothing_is_left(struct bench *b)
{
	return count_files(b, "arrivals", "") <= 1;
}

/* A record that may not be read keeps no segment from going. */
static void test_segment_of_one_set_aside_goes(void **state)
{
	struct message *m[2];
	struct told t;

	(void)state;
	told_init(&t, m, 2);
	crash(&t,
	    "000000000000000B read\n000000000000000B read\n"
	    "000000000000000B read\n");
	told_reopen(&t);
	bench_settle(&t.b, m[0], SPOOL_SENT, true, NULL, 0);
	bench_tick_until(&t.b, nothing_is_left);
	bench_close(&t.b);
	assert_int_equal(count_files(&t.b, "arrivals", ""), 0);
	told_reopen(&t);
	assert_int_equal(t.b.n_found, 0);
	assert_int_equal(count_files(&t.b, "failed", "damaged-"), 1);
	told_fini(&t, m, 2);
}

static bool one_moved(struct bench *b)
{
	return b->n_moved == 1;
}

/* Compaction died three times of copying it: its segment stays as it is. */
static void test_not_copied_any_more(void **state)
{
	static const char copies[] = "0000000000000014 copy\n"
				     "0000000000000014 copy\n"
				     "0000000000000014 copy\n";
	struct message *m[12];
	struct told t;

	(void)state;
	for (unsigned marked = 0; marked < 2; marked++) {
		told_init(&t, m, 0);
		t.b.options.segment_bytes = 16384;
		told_reopen(&t);
		for (unsigned i = 0; i < 12; i++) {
			m[i] = make_message(10 + i, 700, 1);
			assert_int_equal(bench_commit(&t.b, m[i]), 0);
		}
		crash(&t, marked ? copies : "");
		told_reopen(&t);
		for (unsigned i = 0; i < 12; i++)
			if (i != 10)
				bench_settle(
				    &t.b, m[i], SPOOL_SENT, true, NULL, 0);
		if (!marked)
			bench_tick_until(&t.b, one_moved);
		for (unsigned i = 0; marked && i < 20; i++) {
			spool_tick(t.b.spool, 0);
			assert_false(t.b.spool->compaction.active);
			bench_turn(&t.b);
		}
		told_fini(&t, m, 12);
	}
}

/* The handler writes where the spool is, also after the file was replaced. */
static void test_crash_is_written(void **state)
{
	struct message *m[1];
	struct told t;
	pid_t pid;
	int status;

	(void)state;
	told_init(&t, m, 1);
	crash(&t, "0000000000000FFF send\n"); /* will be sifted */
	told_reopen(&t);
	/* Until the loop has handed the new file on. */
	while (t.b.spool->n_jobs > 0)
		bench_turn(&t.b);
	pid = fork();
	if (pid == 0) {
		signal(SIGABRT, SIG_DFL);
		crash_init();
		crash_enter(10, CRASH_SETTLE);
		abort();
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
	bench_close(&t.b);
	told_reopen(&t);
	assert_marks(&t, "000000000000000A settle\n");
	told_fini(&t, m, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parse),
		cmocka_unit_test(test_count_is_bounded),
		cmocka_unit_test(test_held_after_three),
		cmocka_unit_test(test_release_begins_anew),
		cmocka_unit_test(test_file_is_sifted),
		cmocka_unit_test(test_not_decoded_any_more),
		cmocka_unit_test(test_segment_of_one_set_aside_goes),
		cmocka_unit_test(test_not_copied_any_more),
		cmocka_unit_test(test_crash_is_written),
	};

	clock_update();
	return cmocka_run_group_tests_name("spool_marks", tests, NULL, NULL);
}
