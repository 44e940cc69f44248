/* Stalls judged from simulated samples, and the ladder of segment sizes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "policy/path.h"

#define S INT64_C(1000000)
#define MS INT64_C(1000)
#define HOUR (3600 * S)

/* --- one connection --- */

/* Content was just written: 20 kB wait, ten segments are out. */
static const struct path_sample begun = {
	.now_us = 100 * S,
	.acked = 900,
	.received = 5000,
	.unacked = 20000,
	.in_flight = 10,
	.mss = 1448,
	.window = 65000,
};

struct seen {
	enum path_judgement judgement;
	int64_t after_us;
};

/*
 * Looks every 250 ms for a minute, while `change` makes each sample from the
 * one before; the first judgement that ends the connection, if any.
 */
static struct seen watch(enum path_stage stage, struct path_sample first,
    void (*change)(struct path_sample *s, int64_t elapsed))
{
	struct path_watch w = { 0 };
	struct path_sample s = first;

	path_watch_begin(&w, stage, &s);
	while (s.now_us < first.now_us + 60 * S) {
		enum path_judgement j;

		s.now_us += 250 * MS;
		change(&s, s.now_us - first.now_us);
		j = path_watch_look(&w, &s);
		if (j != PATH_GOES_ON)
			return (struct seen){ j, s.now_us - first.now_us };
	}
	return (struct seen){ PATH_GOES_ON, 60 * S };
}

/* The kernel's timer: 0.2 s, doubling. */
static uint32_t retransmits_after(int64_t elapsed, int64_t rto)
{
	uint32_t n = 0;

	for (int64_t at = rto; at <= elapsed; at += rto << n)
		n++;
	return n;
}

static void in_hole(struct path_sample *s, int64_t elapsed)
{
	s->retransmits = retransmits_after(elapsed, 200 * MS);
}

static void in_hole_far_away(struct path_sample *s, int64_t elapsed)
{
	s->retransmits = retransmits_after(elapsed, 900 * MS);
}

/* The small end of the content gets through, and is acknowledged as such. */
static void in_hole_but_for_the_tail(struct path_sample *s, int64_t elapsed)
{
	in_hole(s, elapsed);
	s->sacked = 1;
}

static void test_hole_towards_ses(void **state)
{
	struct seen seen = watch(PATH_BODY, begun, in_hole);

	(void)state;
	assert_int_equal(seen.judgement, PATH_SUSPECT);
	assert_int_equal(seen.after_us, 4 * S);
	seen = watch(PATH_BODY, begun, in_hole_but_for_the_tail);
	assert_int_equal(seen.judgement, PATH_CERTAIN);
	assert_int_equal(seen.after_us, 4 * S);
	/* With a long round trip, three attempts take longer than that. */
	seen = watch(PATH_BODY, begun, in_hole_far_away);
	assert_int_equal(seen.judgement, PATH_SUSPECT);
	assert_true(seen.after_us >= 6 * S && seen.after_us <= 7 * S);
}

/* 200 kbit/s, or much loss: something arrives every few seconds. */
static void slowly(struct path_sample *s, int64_t elapsed)
{
	s->retransmits = (uint32_t)(elapsed / S % 4);
	if (elapsed % (3500 * MS) == 0)
		s->acked += 100;
}

/* The peer does not read: its window is closed and opened a crack. */
static void not_reading(struct path_sample *s, int64_t elapsed)
{
	s->window = 0;
	s->retransmits = retransmits_after(elapsed, 200 * MS);
}

/* Nothing but the end of a command is out: a hole takes no small ones. */
static void small(struct path_sample *s, int64_t elapsed)
{
	s->unacked = 300;
	s->in_flight = 1;
	s->retransmits = retransmits_after(elapsed, 200 * MS);
}

static void no_retransmission(struct path_sample *s, int64_t elapsed)
{
	(void)elapsed;
	s->retransmits = 2;
}

/* It went well and then it did not: not a matter of size. */
static void dies_later(struct path_sample *s, int64_t elapsed)
{
	if (elapsed <= 1 * S)
		s->acked += 3000;
	else
		in_hole(s, elapsed - S);
}

static void test_no_hole(void **state)
{
	static void (*const others[])(struct path_sample *, int64_t) = {
		slowly,
		not_reading,
		small,
		no_retransmission,
		dies_later,
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(others); i++)
		assert_int_equal(
		    watch(PATH_BODY, begun, others[i]).judgement, PATH_GOES_ON);
}

/* net.ipv4.tcp_mtu_probing=1: after 3 s it tries by itself. */
static void kernel_probes(struct path_sample *s, int64_t elapsed)
{
	in_hole(s, elapsed);
	if (elapsed >= 3200 * MS)
		s->mss = 1012;
	if (elapsed >= 6400 * MS) {
		s->acked += 1012;
		s->retransmits = 0;
	}
}

static void test_the_kernel_is_left_its_own_attempt(void **state)
{
	(void)state;
	assert_int_equal(
	    watch(PATH_BODY, begun, kernel_probes).judgement, PATH_GOES_ON);
}

/* ClientHello is acknowledged, the certificate does not come. */
static const struct path_sample greeted = {
	.now_us = 100 * S,
	.acked = 600,
	.received = 300,
	.mss = 1448,
	.window = 65000,
};

static void silence(struct path_sample *s, int64_t elapsed)
{
	(void)s;
	(void)elapsed;
}

static void its_tail_only(struct path_sample *s, int64_t elapsed)
{
	s->out_of_order = elapsed > 500 * MS ? 1 : 0;
}

static void loses_and_gets_there(struct path_sample *s, int64_t elapsed)
{
	s->out_of_order = 3;
	if (elapsed == 3750 * MS || elapsed == 7 * S || elapsed > 9 * S)
		s->received += 1448;
}

/* The peer's acknowledgement of our first words is in what gets lost. */
static void not_even_acknowledged(struct path_sample *s, int64_t elapsed)
{
	s->unacked = 330;
	s->in_flight = 1;
	in_hole(s, elapsed);
}

static void test_hole_from_ses(void **state)
{
	struct seen seen = watch(PATH_HANDSHAKE, greeted, its_tail_only);

	(void)state;
	assert_int_equal(seen.judgement, PATH_CERTAIN);
	assert_int_equal(seen.after_us, 4 * S);
	seen = watch(PATH_HANDSHAKE, greeted, silence);
	assert_int_equal(seen.judgement, PATH_SUSPECT);
	assert_int_equal(seen.after_us, 6 * S);
	assert_int_equal(
	    watch(PATH_HANDSHAKE, greeted, loses_and_gets_there).judgement,
	    PATH_GOES_ON);
	seen = watch(PATH_HANDSHAKE, greeted, not_even_acknowledged);
	assert_int_equal(seen.judgement, PATH_SUSPECT);
	assert_int_equal(seen.after_us, 6 * S);
	/* In the content it is we who send: waiting is no fault. */
	assert_int_equal(
	    watch(PATH_BODY, greeted, silence).judgement, PATH_GOES_ON);
}

static void test_what_has_passed(void **state)
{
	struct path_watch w = { 0 };
	struct path_sample s = begun;

	(void)state;
	/* What was acknowledged before the content was small. */
	path_watch_begin(&w, PATH_BODY, &s);
	path_watch_look(&w, &s);
	assert_int_equal(w.passed, 0);
	s.acked += 1000;
	path_watch_look(&w, &s);
	assert_int_equal(w.passed, 1000);
	s.acked += 4000;
	path_watch_look(&w, &s);
	assert_int_equal(w.passed, 1448);
	/* The next message on the same connection. */
	path_watch_begin(&w, PATH_BODY, &s);
	s.acked += 10;
	path_watch_look(&w, &s);
	assert_int_equal(w.passed, 1448);
}

/* --- all of them --- */

static struct path_mss fresh(void)
{
	struct path_mss m;

	path_mss_init(&m);
	return m;
}

static void test_the_ladder(void **state)
{
	struct path_mss m = fresh();

	(void)state;
	assert_int_equal(path_mss_choose(&m, 0), 0);
	/* One stall may be a dead peer, two connections speak of the path. */
	assert_true(path_mss_on_stall(&m, 0, false, false, 1 * S));
	assert_int_equal(path_mss_choose(&m, 1 * S), 0);
	assert_true(path_mss_on_stall(&m, 0, false, false, 2 * S));
	assert_int_equal(path_mss_choose(&m, 2 * S), 1200);
	/* Others that were under way with the old size change nothing. */
	for (int i = 0; i < 20; i++)
		path_mss_on_stall(&m, 0, false, true, 3 * S);
	assert_int_equal(path_mss_choose(&m, 3 * S), 1200);
	assert_int_equal(path_mss_found(&m), 0);
	path_mss_on_stall(&m, 1200, false, false, 4 * S);
	assert_int_equal(path_mss_choose(&m, 4 * S), 536);
	/* The handshake says nothing about our own large segments ... */
	assert_int_equal(path_mss_on_secured(&m, 536, 5 * S), PATH_NO_NEWS);
	/* ... nor do small ones, nor those of another size. */
	assert_int_equal(
	    path_mss_on_passed(&m, 536, 400, false, 5 * S), PATH_NO_NEWS);
	assert_int_equal(
	    path_mss_on_passed(&m, 1200, 1188, true, 5 * S), PATH_NO_NEWS);
	assert_int_equal(
	    path_mss_on_passed(&m, 536, 524, true, 6 * S), PATH_FOUND);
	assert_int_equal(
	    path_mss_on_passed(&m, 536, 524, true, 6 * S), PATH_NO_NEWS);
	assert_int_equal(path_mss_found(&m), 536);
}

static void test_certainty_needs_no_second_look(void **state)
{
	struct path_mss m = fresh();

	(void)state;
	path_mss_on_stall(&m, 0, true, true, 1 * S);
	assert_int_equal(path_mss_choose(&m, 1 * S), 1200);
	/* It is the peer's segments that vanished: the handshake shows. */
	assert_int_equal(path_mss_on_secured(&m, 1200, 2 * S), PATH_FOUND);
	assert_int_equal(path_mss_on_secured(&m, 1200, 2 * S), PATH_NO_NEWS);
	/* Towards the peer the hole is smaller still. */
	path_mss_on_stall(&m, 1200, false, false, 3 * S);
	assert_int_equal(path_mss_choose(&m, 3 * S), 536);
	assert_int_equal(
	    path_mss_on_passed(&m, 536, 524, true, 4 * S), PATH_FOUND);
}

static void test_suspicions_go_when_it_works(void **state)
{
	struct path_mss m = fresh();

	(void)state;
	path_mss_on_stall(&m, 0, false, false, 1 * S);
	path_mss_on_passed(&m, 0, 1448, true, 2 * S);
	path_mss_on_stall(&m, 0, false, false, 3 * S);
	assert_int_equal(path_mss_choose(&m, 3 * S), 0);
	path_mss_on_stall(&m, 0, true, false, 4 * S);
	assert_int_equal(path_mss_choose(&m, 4 * S), 0);
	path_mss_on_secured(&m, 0, 5 * S);
	path_mss_on_stall(&m, 0, true, false, 6 * S);
	assert_int_equal(path_mss_choose(&m, 6 * S), 0);
	/* The whole network is gone. */
	path_mss_on_no_connection(&m);
	path_mss_on_stall(&m, 0, true, false, 7 * S);
	assert_int_equal(path_mss_choose(&m, 7 * S), 0);
	path_mss_on_stall(&m, 0, true, false, 8 * S);
	assert_int_equal(path_mss_choose(&m, 8 * S), 1200);
	path_mss_on_no_connection(&m);
	assert_int_equal(path_mss_choose(&m, 9 * S), 0);
}

static void test_no_size_helps(void **state)
{
	struct path_mss m = fresh();

	(void)state;
	assert_true(path_mss_active(&m, 0));
	assert_true(path_mss_on_stall(&m, 0, true, true, 1 * S));
	assert_true(path_mss_on_stall(&m, 1200, true, false, 2 * S));
	assert_false(path_mss_on_stall(&m, 536, true, false, 3 * S));
	assert_int_equal(path_mss_choose(&m, 3 * S), 0);
	assert_false(path_mss_active(&m, 3 * S));
	assert_false(path_mss_active(&m, 602 * S));
	assert_true(path_mss_active(&m, 603 * S));
}

static struct path_mss found(int64_t now)
{
	struct path_mss m = fresh();

	path_mss_on_stall(&m, 0, false, true, now);
	assert_int_equal(
	    path_mss_on_passed(&m, 1200, 1188, true, now), PATH_FOUND);
	return m;
}

static void test_a_finding_is_tried_again(void **state)
{
	static const int waits_h[] = { 2, 4, 8, 16, 24, 24 };
	struct path_mss m = found(0);
	int64_t now = 0;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(waits_h); i++) {
		assert_int_equal(
		    path_mss_choose(&m, now + waits_h[i] * HOUR - 1), 1200);
		now += waits_h[i] * HOUR;
		/* One connection only; it may end without having shown it. */
		assert_int_equal(path_mss_choose(&m, now), 0);
		assert_int_equal(path_mss_choose(&m, now), 1200);
		path_mss_on_closed(&m, 1200);
		assert_int_equal(path_mss_choose(&m, now), 1200);
		path_mss_on_closed(&m, 0);
		assert_int_equal(path_mss_choose(&m, now), 0);
		path_mss_on_stall(&m, 0, false, false, now);
		path_mss_on_closed(&m, 0);
		assert_int_equal(path_mss_found(&m), 1200);
	}
	now += 24 * HOUR;
	assert_int_equal(path_mss_choose(&m, now), 0);
	assert_int_equal(
	    path_mss_on_passed(&m, 0, 1448, true, now), PATH_CURED);
	path_mss_on_closed(&m, 0);
	assert_int_equal(path_mss_found(&m), 0);
	assert_int_equal(path_mss_choose(&m, now), 0);
}

static void test_after_a_restart(void **state)
{
	static const struct {
		int kept, mss;
	} rows[] = { { 0, 0 }, { 1200, 1200 }, { 536, 536 }, { 700, 536 },
		{ 1460, 1200 }, { -5, 0 } };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct path_mss m;

		path_mss_restore(&m, rows[i].kept, 50 * S);
		assert_int_equal(path_mss_found(&m), rows[i].mss);
		assert_int_equal(path_mss_choose(&m, 51 * S), rows[i].mss);
		assert_int_equal(path_mss_choose(&m, 50 * S + 2 * HOUR), 0);
	}
}

static void test_vouching(void **state)
{
	struct path_mss m = fresh();

	(void)state;
	assert_true(path_mss_vouches(&m, 0, PATH_SMALL, 1 * S));
	assert_false(path_mss_vouches(&m, 0, PATH_SMALL + 1, 1 * S));
	path_mss_on_passed(&m, 0, 1448, true, 1 * S);
	assert_true(path_mss_vouches(&m, 0, 1448, 2 * S));
	/* Smaller ones neither take it back nor make it last. */
	path_mss_on_passed(&m, 0, 600, false, 500 * S);
	assert_true(path_mss_vouches(&m, 0, 1448, 600 * S));
	assert_false(path_mss_vouches(&m, 0, 1448, 601 * S));
	path_mss_on_passed(&m, 0, 600, false, 601 * S);
	assert_true(path_mss_vouches(&m, 0, 600, 602 * S));
	assert_false(path_mss_vouches(&m, 0, 1448, 602 * S));
	assert_false(path_mss_vouches(&m, 1200, 600, 602 * S));
	/* With another size in force, it has to be shown anew. */
	path_mss_on_stall(&m, 0, false, true, 603 * S);
	assert_false(path_mss_vouches(&m, 0, 600, 603 * S));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_hole_towards_ses),
		cmocka_unit_test(test_no_hole),
		cmocka_unit_test(test_the_kernel_is_left_its_own_attempt),
		cmocka_unit_test(test_hole_from_ses),
		cmocka_unit_test(test_what_has_passed),
		cmocka_unit_test(test_the_ladder),
		cmocka_unit_test(test_certainty_needs_no_second_look),
		cmocka_unit_test(test_suspicions_go_when_it_works),
		cmocka_unit_test(test_no_size_helps),
		cmocka_unit_test(test_a_finding_is_tried_again),
		cmocka_unit_test(test_after_a_restart),
		cmocka_unit_test(test_vouching),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
