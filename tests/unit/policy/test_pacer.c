/*
 * The learned pace: single steps, and a simulation of senders that share one
 * account without talking to each other.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "policy/pacer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MS INT64_C(1000)
#define S INT64_C(1000000)
#define T0 (1000 * S)

static void assert_near(double value, double wanted)
{
	if (fabs(value - wanted) > 1e-3 * fmax(1, fabs(wanted)))
		fail_msg("%f is not %f", value, wanted);
}

static void test_no_pace_before_the_first_throttle(void **state)
{
	struct pacer p;

	(void)state;
	pacer_init(&p, 0, 0, T0);
	for (int i = 0; i < 10000; i++) {
		assert_int_equal(pacer_wait(&p, 50, T0), 0);
		pacer_take(&p, 50, T0);
		pacer_on_taken(&p, 50, T0);
	}
	assert_near(pacer_rate(&p), 0);
	assert_near(pacer_learned(&p), 0);
	assert_false(pacer_is_limiting(&p, T0));
}

static void test_cap_paces_in_recipients(void **state)
{
	struct pacer p;
	int64_t now = T0;
	unsigned sent = 0;

	(void)state;
	pacer_init(&p, 2.5, 0, T0);
	while (now < T0 + 40 * S) {
		int64_t wait = pacer_wait(&p, 1, now);

		if (wait == 0) {
			pacer_take(&p, 1, now);
			sent++;
		}
		now += wait;
	}
	/* 40 s at 2.5/s, and what the bucket held. */
	assert_in_range(sent, 100, 102);
	assert_near(pacer_rate(&p), 2.5);
}

static void test_many_recipients_are_owed(void **state)
{
	struct pacer p;
	int64_t wait;

	(void)state;
	/* Never more than fits is waited for: half a second's worth, 7. */
	pacer_init(&p, 14, 0, T0);
	wait = pacer_wait(&p, 50, T0 + 10 * S);
	assert_int_equal(wait, 0);
	pacer_take(&p, 50, T0 + 10 * S);
	/* 43 are owed, 1 is needed: 44 at 14/s. */
	wait = pacer_wait(&p, 1, T0 + 10 * S);
	assert_near((double)wait / S, 44.0 / 14);
	assert_int_equal(pacer_wait(&p, 1, T0 + 10 * S + wait), 0);
	pacer_give_back(&p, 50);
	assert_int_equal(pacer_wait(&p, 1, T0 + 10 * S), 0);
}

static void test_first_throttle_measures(void **state)
{
	struct pacer p;

	(void)state;
	pacer_init(&p, 0, 0, T0);
	/* 30 in the last second, and some that are older. */
	for (int i = 0; i < 90; i++)
		pacer_on_taken(&p, 1, T0 + i * S / 30);
	pacer_on_throttled(&p, 1, T0 + 3 * S - MS);
	assert_true(pacer_rate(&p) > 0.8 * 25 && pacer_rate(&p) < 0.8 * 33);
	/* No burst now. */
	assert_true(pacer_wait(&p, 1, T0 + 3 * S - MS) > 30 * MS);
}

static void test_falls_once_a_second(void **state)
{
	struct pacer p;
	double rate;

	(void)state;
	pacer_init(&p, 0, 125, T0);
	assert_near(pacer_rate(&p), 100);
	for (int i = 0; i < 96; i++)
		pacer_on_taken(&p, 1, T0 + i * 10 * MS);
	for (int i = 0; i < 5; i++)
		pacer_on_throttled(&p, 1, T0 + S);
	assert_near(pacer_rate(&p), 80);
	pacer_on_throttled(&p, 1, T0 + S + 999 * MS);
	assert_near(pacer_rate(&p), 80);
	pacer_on_throttled(&p, 1, T0 + 2 * S);
	rate = pacer_rate(&p);
	/* By what was refused in that second: 2 of 2 is no sample. */
	assert_near(rate, 64);
	/* 20 refused, none taken: as far as one step goes. */
	for (int i = 0; i < 20; i++)
		pacer_on_throttled(&p, 1, T0 + 3 * S - MS);
	pacer_on_throttled(&p, 1, T0 + 3 * S);
	assert_near(pacer_rate(&p), 64 * 0.3);
}

static void test_grows_only_while_it_holds_back(void **state)
{
	struct pacer p;
	double rate;

	(void)state;
	pacer_init(&p, 0, 125, T0);
	for (int i = 0; i < 1000; i++)
		pacer_on_taken(&p, 1, T0 + i * 20 * MS);
	assert_near(pacer_rate(&p), 100);
	for (int i = 1000; i < 2000; i++) {
		int64_t now = T0 + i * 20 * MS;

		while (pacer_wait(&p, 1, now) == 0)
			pacer_take(&p, 1, now);
		pacer_on_taken(&p, 1, now);
	}
	rate = pacer_rate(&p);
	assert_true(rate > 105 && rate < 300);
}

static void test_learned_is_capped(void **state)
{
	struct pacer p;

	(void)state;
	pacer_init(&p, 10, 125, T0);
	assert_near(pacer_rate(&p), 10);
	assert_near(pacer_learned(&p), 100);
	/* SES refuses even that: what was learned is of no use. */
	pacer_on_throttled(&p, 1, T0 + S);
	assert_near(pacer_rate(&p), 8);
	pacer_set_cap(&p, 0, T0 + S);
	assert_near(pacer_rate(&p), 8);
	pacer_set_cap(&p, 3, T0 + S);
	assert_near(pacer_rate(&p), 3);
}

static void test_never_stops(void **state)
{
	struct pacer p;

	(void)state;
	pacer_init(&p, 0, 1, T0);
	for (int i = 0; i < 1000; i++)
		pacer_on_throttled(&p, 1, T0 + i * 2 * S);
	assert_true(pacer_rate(&p) >= 0.05);
	assert_true(pacer_wait(&p, 50, T0 + 2000 * S) <= 300 * S);
}

/* The pace is what holds mail back all the time; nothing is refused. */
static int64_t time_to_reach(struct pacer *p, double rate, int64_t now)
{
	int64_t begun = now;

	while (pacer_rate(p) < rate && now < begun + 3600 * S) {
		while (pacer_wait(p, 1, now) == 0) {
			pacer_take(p, 1, now);
			pacer_on_taken(p, 1, now);
		}
		now += 10 * MS;
	}
	return now - begun;
}

/* The very first reply may be a throttle, by the doing of others. */
static void test_a_first_throttle_that_says_little(void **state)
{
	struct pacer p;

	(void)state;
	pacer_init(&p, 0, 0, T0);
	pacer_on_throttled(&p, 1, T0);
	assert_near(pacer_rate(&p), 0.5);
	assert_true(time_to_reach(&p, 50, T0) < 60 * S);
	/* The next one says where the limit is: no more leaps. */
	pacer_on_throttled(&p, 1, T0 + 60 * S);
	assert_true(pacer_rate(&p) >= 39 && pacer_rate(&p) < 60);
	assert_true(time_to_reach(&p, 80, T0 + 60 * S) > 20 * S);
}

/* Some seconds in which SES refuses everything are soon made good. */
static void test_an_incident_is_forgotten(void **state)
{
	struct pacer p;
	double low;

	(void)state;
	pacer_init(&p, 0, 125, T0);
	for (int i = 0; i < 400; i++)
		pacer_on_throttled(&p, 1, T0 + S + i * 10 * MS);
	low = pacer_rate(&p);
	assert_true(low < 5);
	assert_true(time_to_reach(&p, 60, T0 + 5 * S) < 60 * S);
	/* Beyond that, in small steps. */
	assert_true(time_to_reach(&p, 100, T0 + 60 * S) > 10 * S);
}

/* --- several senders, one account --- */

#define SENDERS_MAX 20
#define CONNECTIONS 20

/* SES's bucket: a second's worth. */
struct account {
	double limit, tokens;
	int64_t filled_us;
};

static bool account_takes(struct account *a, int64_t now_us)
{
	a->tokens = fmin(fmax(a->limit, 1),
	    a->tokens + a->limit * (double)(now_us - a->filled_us) / S);
	a->filled_us = now_us;
	if (a->tokens < 1)
		return false;
	a->tokens -= 1;
	return true;
}

struct fleet {
	unsigned n;
	double limit;
	int64_t begin_us[SENDERS_MAX]; /* of each, after the beginning */
	int64_t run_us;
	/* Results. */
	double used, throttled, jain;
	double rates[SENDERS_MAX];
};

/* A connection: idle, or waiting for the reply to its message. */
struct line {
	int64_t reply_us; /* 0: idle */
};

static uint64_t random_state;

static int64_t random_below(int64_t n)
{
	random_state = random_state * UINT64_C(6364136223846793005) + 1;
	return (int64_t)((random_state >> 33) % (uint64_t)n);
}

static void sender_step(struct pacer *p, struct line *lines, int64_t now,
    struct account *account, unsigned *taken, unsigned *refused)
{
	for (unsigned c = 0; c < CONNECTIONS; c++) {
		struct line *l = &lines[c];

		if (l->reply_us != 0 && l->reply_us <= now) {
			l->reply_us = 0;
			if (account_takes(account, now)) {
				pacer_on_taken(p, 1, now);
				++*taken;
			} else {
				pacer_on_throttled(p, 1, now);
				++*refused;
			}
		}
		if (l->reply_us == 0 && pacer_wait(p, 1, now) == 0) {
			pacer_take(p, 1, now);
			l->reply_us = now + 150 * MS + random_below(50 * MS);
		}
	}
}

static void run_fleet(struct fleet *f)
{
	static struct line lines[SENDERS_MAX][CONNECTIONS];
	struct pacer pacers[SENDERS_MAX];
	struct account account = { f->limit, fmax(f->limit, 1), T0 };
	unsigned taken[SENDERS_MAX] = { 0 }, refused = 0, total = 0;
	double squares = 0;

	memset(lines, 0, sizeof(lines));
	for (unsigned i = 0; i < f->n; i++)
		pacer_init(&pacers[i], 0, 0, T0);
	for (int64_t now = T0; now < T0 + f->run_us; now += MS) {
		/* Nobody is always first. */
		unsigned first = (unsigned)random_below(f->n);

		for (unsigned k = 0; k < f->n; k++) {
			unsigned i = (first + k) % f->n;

			if (now - T0 >= f->begin_us[i])
				sender_step(&pacers[i], lines[i], now, &account,
				    &taken[i], &refused);
		}
	}
	for (unsigned i = 0; i < f->n; i++) {
		total += taken[i];
		squares += (double)taken[i] * taken[i];
		f->rates[i] = pacer_rate(&pacers[i]);
	}
	f->used = total / (f->limit * (double)f->run_us / S);
	f->throttled = refused / (double)(total + refused);
	f->jain = (double)total * total / (f->n * squares);
	print_message("[   INFO   ] %u senders, limit %.0f/s: %.1f %% used, "
		      "%.2f %% throttled, fairness %.3f\n",
	    f->n, f->limit, 100 * f->used, 100 * f->throttled, f->jain);
}

static void test_eight_share_an_account(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 5; seed++) {
		struct fleet f = { .n = 8, .limit = 100, .run_us = 400 * S };

		random_state = seed;
		run_fleet(&f);
		assert_true(f.used >= 0.95);
		assert_true(f.throttled <= 0.02);
		assert_true(f.jain >= 0.9);
	}
}

static void test_one_uses_its_account(void **state)
{
	static const double limits[] = { 5, 14, 50, 100 };

	(void)state;
	for (unsigned i = 0; i < ARRAY_LEN(limits); i++) {
		struct fleet f = {
			.n = 1, .limit = limits[i], .run_us = 600 * S
		};

		random_state = 7;
		run_fleet(&f);
		assert_true(f.used >= 0.9);
		assert_true(f.throttled <= 0.03);
	}
}

/* One recipient a second, the limit of a new account: few are refused. */
static void test_sandbox(void **state)
{
	struct fleet f = { .n = 1, .limit = 1, .run_us = 1800 * S };

	(void)state;
	random_state = 3;
	run_fleet(&f);
	assert_true(f.used >= 0.75);
	assert_true(f.throttled <= 0.1);
}

/* Those that come later get their share, too. */
static void test_late_comers(void **state)
{
	struct fleet f = { .n = 4, .limit = 100, .run_us = 900 * S };

	(void)state;
	f.begin_us[2] = f.begin_us[3] = 60 * S;
	random_state = 5;
	run_fleet(&f);
	assert_true(f.used >= 0.95);
	assert_true(f.throttled <= 0.02);
	for (unsigned i = 0; i < f.n; i++)
		assert_true(f.rates[i] > 10);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_no_pace_before_the_first_throttle),
		cmocka_unit_test(test_cap_paces_in_recipients),
		cmocka_unit_test(test_many_recipients_are_owed),
		cmocka_unit_test(test_first_throttle_measures),
		cmocka_unit_test(test_falls_once_a_second),
		cmocka_unit_test(test_grows_only_while_it_holds_back),
		cmocka_unit_test(test_learned_is_capped),
		cmocka_unit_test(test_never_stops),
		cmocka_unit_test(test_a_first_throttle_that_says_little),
		cmocka_unit_test(test_an_incident_is_forgotten),
		cmocka_unit_test(test_eight_share_an_account),
		cmocka_unit_test(test_one_uses_its_account),
		cmocka_unit_test(test_sandbox),
		cmocka_unit_test(test_late_comers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
