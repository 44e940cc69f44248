/*
 * The spool clock: its line, how it goes on over restarts, boots and jumps of
 * the wall clock, and the ages that are measured on it.
 */
#include "spool_test.h"

#include "queue/record.h"
#include "queue/spool_clock.h"

#define DAY (86400 * US_PER_S)
#define BOOT "04f6e381-49c4-4f3b-a92e-d462765b9fc8"
#define OTHER "14f6e381-49c4-4f3b-a92e-d462765b9fc8"
#define NOW INT64_C(1795257601123456)
/* The kernel, who knows no fake clock, stamps files much later. */
#define PAST INT64_C(978307200123456)

static struct spool_clock moment(
    int64_t wall_us, int64_t boot_us, const char *boot_id, int64_t spool_us)
{
	struct spool_clock c = { wall_us, boot_us, spool_us, "" };

	spool_clock_set_boot(&c, slice_str(boot_id));
	return c;
}

static void test_line(void **state)
{
	struct spool_clock c = moment(NOW, 77, BOOT, NOW - 5), again;
	char line[SPOOL_CLOCK_LEN + 1];

	(void)state;
	spool_clock_encode(&c, line);
	assert_int_equal(strlen(line), SPOOL_CLOCK_LEN);
	assert_int_equal(
	    strncmp(line,
		"sesrelayd-clock 1 00001795257601123456 "
		"00000000000000000077 " BOOT " 00001795257601123451 ",
		SPOOL_CLOCK_LEN - 17),
	    0);
	assert_int_equal(
	    spool_clock_decode(slice_of(line, SPOOL_CLOCK_LEN), &again), 0);
	assert_int_equal(again.wall_us, NOW);
	assert_int_equal(again.boot_us, 77);
	assert_int_equal(again.spool_us, NOW - 5);
	assert_string_equal(again.boot_id, BOOT);
	/* Nothing else is one. */
	for (size_t len = 0; len < SPOOL_CLOCK_LEN; len++)
		assert_int_equal(
		    spool_clock_decode(slice_of(line, len), &again), -1);
	for (size_t i = 0; i < 8 * SPOOL_CLOCK_LEN; i++) {
		line[i / 8] ^= (char)(1 << i % 8);
		assert_int_equal(
		    spool_clock_decode(slice_of(line, SPOOL_CLOCK_LEN), &again),
		    -1);
		line[i / 8] ^= (char)(1 << i % 8);
	}
}

static int64_t go_on(struct spool_clock last, struct spool_clock now)
{
	spool_clock_go_on(&last, &now);
	return now.spool_us;
}

static void test_go_on(void **state)
{
	struct spool_clock last = moment(NOW, 50 * US_PER_S, BOOT, 7 * DAY);
	struct spool_clock now;

	(void)state;
	/* The same boot: nothing else counts, wherever the wall clock is. */
	for (int64_t jump = -400 * DAY; jump <= 400 * DAY; jump += 40 * DAY)
		assert_int_equal(
		    go_on(last, moment(NOW + jump, 60 * US_PER_S, BOOT, 0)),
		    7 * DAY + 10 * US_PER_S);
	assert_int_equal(
	    go_on(last, moment(0, 60 * US_PER_S, BOOT, 0)) - 7 * DAY,
	    10 * US_PER_S);
	/* Another one: the wall clocks, within reason. */
	assert_int_equal(go_on(last, moment(NOW + DAY, 1, OTHER, 0)), 8 * DAY);
	assert_int_equal(
	    go_on(last, moment(NOW + 30 * DAY, 1, OTHER, 0)), 37 * DAY);
	assert_int_equal(
	    go_on(last, moment(NOW + 31 * DAY, 1, OTHER, 0)), 7 * DAY);
	assert_int_equal(go_on(last, moment(NOW - 1, 1, OTHER, 0)), 7 * DAY);
	assert_int_equal(go_on(last, moment(0, 1, OTHER, 0)), 7 * DAY);
	/* A boot that cannot be told is another one. */
	last = moment(NOW, 50, "", 7 * DAY);
	assert_int_equal(go_on(last, moment(NOW + DAY, 60, "", 0)), 8 * DAY);
	/* So is one whose time ran backwards (a time namespace). */
	last = moment(NOW, 50, BOOT, 7 * DAY);
	assert_int_equal(go_on(last, moment(NOW + DAY, 40, BOOT, 0)), 8 * DAY);
	/* Nothing is known: the wall clock, and never 0. */
	now = moment(NOW, 1, BOOT, 0);
	spool_clock_go_on(NULL, &now);
	assert_int_equal(now.spool_us, NOW);
	now = moment(-5, 1, BOOT, 0);
	spool_clock_go_on(NULL, &now);
	assert_int_equal(now.spool_us, 1);
}

static void test_at(void **state)
{
	struct spool_clock c = moment(NOW, 50, BOOT, 1000);

	(void)state;
	assert_int_equal(spool_clock_at(&c, 50), 1000);
	assert_int_equal(spool_clock_at(&c, 60), 1010);
	assert_int_equal(spool_clock_at(&c, 40), 1000);
}

/* --- the spool --- */

static int64_t found_age;

static void on_found_age(void *ctx, const struct spool_found *found)
{
	(void)ctx;
	found_age = found->age_us;
	message_free(found->message);
}

static void on_done(void *ctx)
{
	*(bool *)ctx = true;
}

/* The age of the one message in it, as a new process has it. */
static int64_t age_at(struct bench *b, int64_t boot_us, int64_t wall_us)
{
	struct spool_events events = {
		.on_found = on_found_age,
		.on_scan_done = on_done,
		.on_trouble = on_trouble,
		.on_health = on_health,
	};
	bool done = false;

	clock_set_fake(boot_us, wall_us);
	found_age = -1;
	b->port = work_port_new();
	b->spool = spool_open(&b->options, b->port, &events, &done, NULL);
	assert_non_null(b->spool);
	spool_scan(b->spool);
	while (!done)
		bench_turn(b);
	bench_close(b);
	return found_age;
}

static void test_age_over_restarts(void **state)
{
	struct message *m = make_message(5, 10, 1);
	struct bench b;

	(void)state;
	bench_init(&b);
	clock_set_fake(1000 * US_PER_S, NOW);
	bench_reopen(&b);
	m->arrival_us = NOW;
	assert_int_equal(bench_commit(&b, m), 0);
	assert_int_equal(m->clock_us, NOW);
	bench_close(&b);
	/* Whatever the wall clock does, with and without a stop between. */
	assert_int_equal(
	    age_at(&b, 1010 * US_PER_S, NOW + 10 * US_PER_S), 10 * US_PER_S);
	assert_int_equal(age_at(&b, 1020 * US_PER_S, NOW + DAY), 20 * US_PER_S);
	assert_int_equal(age_at(&b, 1030 * US_PER_S, NOW - DAY), 30 * US_PER_S);
	assert_int_equal(age_at(&b, 1040 * US_PER_S, 0), 40 * US_PER_S);
	assert_int_equal(
	    age_at(&b, 1050 * US_PER_S, NOW + 400 * DAY), 50 * US_PER_S);
	message_free(m);
	bench_fini(&b);
	clock_set_real();
}

/* In run, a jump is not seen at all; the copies of compaction keep it. */
static void test_commit_after_a_jump(void **state)
{
	struct message *m = make_message(5, 10, 1), *again;
	struct bench b;

	(void)state;
	bench_init(&b);
	clock_set_fake(1000 * US_PER_S, NOW);
	bench_reopen(&b);
	clock_set_fake(1060 * US_PER_S, NOW - 400 * DAY);
	assert_int_equal(bench_commit(&b, m), 0);
	assert_int_equal(m->clock_us, NOW + 60 * US_PER_S);
	again = bench_load(&b, m->id, m->ref, NULL);
	assert_int_equal(again->clock_us, m->clock_us);
	message_free(again);
	message_free(m);
	bench_fini(&b);
	clock_set_real();
}

/* The file is lost, or is none: ages are by the wall clock, never negative. */
static void test_lost_clock(void **state)
{
	struct message *m = make_message(5, 10, 1);
	char *path;
	struct bench b;

	(void)state;
	bench_init(&b);
	path = bench_path(&b, "clock");
	clock_set_fake(1000 * US_PER_S, NOW);
	bench_reopen(&b);
	assert_int_equal(bench_commit(&b, m), 0);
	bench_close(&b);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(age_at(&b, 2000 * US_PER_S, NOW + DAY), DAY);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(age_at(&b, 2000 * US_PER_S, NOW - DAY), 0);
	write_file(path, "sesrelayd-clock 1 garbage", 25);
	assert_int_equal(age_at(&b, 3000 * US_PER_S, NOW + DAY), DAY);
	unlink(path);
	assert_int_equal(mkdir(path, 0700), 0);
	assert_int_equal(age_at(&b, 4000 * US_PER_S, NOW + DAY), DAY);
	free(path);
	message_free(m);
	bench_fini(&b);
	clock_set_real();
}

/* A head of an earlier version has no such time: its wall time counts. */
static void test_head_without_clock(void **state)
{
	struct message *m = make_message(5, 10, 1), *again;
	struct record_extra extra = { 0 };
	struct record_buf head = { 0 };

	(void)state;
	assert_int_equal(record_encode_head(m, &extra, &head, NULL), 0);
	assert_null(memmem(head.data, head.len, "clock", 5));
	again =
	    record_decode_head(slice_of(head.data, head.len), m->id, &extra);
	assert_non_null(again);
	assert_int_equal(again->clock_us, 0);
	message_free(again);
	message_free(m);
	record_buf_fini(&head);
}

/* --- dead letters --- */

/* Looks at failed/ once: that is what the first tick of a process does. */
static unsigned letters_at(struct bench *b, int64_t boot_us, int64_t wall_us)
{
	clock_set_fake(boot_us, wall_us);
	bench_reopen(b);
	spool_tick(b->spool, wall_us);
	bench_close(b);
	return count_files(b, "failed", "");
}

static void test_letters_do_not_follow_the_wall_clock(void **state)
{
	struct message *m = make_message(5, 10, 1);
	struct spool_letter letter = { .id = 5, .reason = "no" };
	struct answer a = { 0 };
	struct bench b;

	(void)state;
	bench_init(&b);
	b.options.keep_failed_us = 14 * DAY;
	clock_set_fake(1000 * US_PER_S, PAST);
	bench_reopen(&b);
	assert_int_equal(bench_commit(&b, m), 0);
	letter.ref = m->ref;
	spool_bury(b.spool, &letter, on_answer, &a);
	bench_wait(&b, &a);
	assert_int_equal(a.rc, 0);
	bench_close(&b);
	assert_int_equal(letters_at(&b, 1001 * US_PER_S, PAST + 60 * DAY), 1);
	assert_int_equal(letters_at(&b, 1002 * US_PER_S, 0), 1);
	assert_int_equal(letters_at(&b, 1003 * US_PER_S, PAST), 1);
	/* It goes when its time has really passed. */
	assert_int_equal(letters_at(&b, 13 * DAY, 0), 1);
	assert_int_equal(letters_at(&b, 15 * DAY, 0), 0);
	message_free(m);
	bench_fini(&b);
	clock_set_real();
}

/* Made while the wall clock was in 1970. */
static void test_letter_of_a_wrong_time(void **state)
{
	struct message *m = make_message(5, 10, 1);
	struct spool_letter letter = { .id = 5, .reason = "no" };
	struct answer a = { 0 };
	struct bench b;

	(void)state;
	bench_init(&b);
	b.options.keep_failed_us = 14 * DAY;
	clock_set_fake(1000 * US_PER_S, PAST);
	bench_reopen(&b);
	clock_set_fake(1001 * US_PER_S, 5);
	assert_int_equal(bench_commit(&b, m), 0);
	letter.ref = m->ref;
	spool_bury(b.spool, &letter, on_answer, &a);
	bench_wait(&b, &a);
	bench_close(&b);
	assert_int_equal(letters_at(&b, 1003 * US_PER_S, PAST), 1);
	message_free(m);
	bench_fini(&b);
	clock_set_real();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_line),
		cmocka_unit_test(test_go_on),
		cmocka_unit_test(test_at),
		cmocka_unit_test(test_age_over_restarts),
		cmocka_unit_test(test_commit_after_a_jump),
		cmocka_unit_test(test_lost_clock),
		cmocka_unit_test(test_head_without_clock),
		cmocka_unit_test(test_letters_do_not_follow_the_wall_clock),
		cmocka_unit_test(test_letter_of_a_wrong_time),
	};

	return cmocka_run_group_tests_name("spool_clock", tests, NULL, NULL);
}
