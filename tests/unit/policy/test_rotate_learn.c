/*
 * What is learned of servers that end sessions: by simulation of a pool against
 * servers with a cap, a cut by age, both, or only bad luck; and step by step.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "policy/rotate.h"

#define MS INT64_C(1000)
#define S INT64_C(1000000)
#define MINUTE (60 * S)
#define MAX_CONNECTIONS 20

static const struct rotate_options usual = {
	.messages_per_connection = 50,
	.lifetime_us = 60 * S,
	.idle_timeout_us = 4 * S,
	.adaptive = true,
};

/* --- a pool and a server --- */

struct sim_conn {
	unsigned number; /* 0: closed */
	int64_t opened_us, next_us; /* its next message begins or it logs in */
	int64_t last_us; /* the last one that it carried began */
	unsigned messages;
	struct rotate_limits limits;
};

struct sim {
	struct rotate_options options;
	struct rotate_learned learned;
	unsigned n_conns;
	int64_t message_us; /* on average; 0.5 to 1.5 of it */
	int64_t now_us;
	struct sim_conn conns[MAX_CONNECTIONS];
	unsigned last_number;
	uint64_t random;
	/* The server. */
	unsigned cap; /* messages of a session; 0: none */
	bool tells; /* by 421, or just closes */
	int64_t cut_us; /* by age; 0: none */
	double loss; /* of messages */
	/* What happened. */
	unsigned n_messages, n_capped, n_lost;
};

static uint64_t sim_random(struct sim *s, uint64_t n)
{
	s->random =
	    s->random * UINT64_C(6364136223846793005) + 1442695040888963407;
	return (s->random >> 33) % n;
}

static struct sim sim_new(unsigned n_conns, int64_t message_us)
{
	struct sim s = {
		.options = usual,
		.n_conns = n_conns,
		.message_us = message_us,
		.now_us = 1000 * S,
		.random = 42,
		.tells = true,
	};

	rotate_learn_init(&s.learned, 0, 0, s.now_us);
	return s;
}

static void sim_open(struct sim *s, struct sim_conn *c)
{
	*c = (struct sim_conn){
		.number = ++s->last_number,
		.opened_us = s->now_us,
		.next_us = s->now_us,
		.last_us = s->now_us,
	};
	rotate_learn_opened(&s->learned, &s->options, c->number, s->now_us);
	c->limits =
	    rotate_plan(&s->options, &s->learned, c->opened_us, c->number);
}

static void sim_end(struct sim *s, struct sim_conn *c, enum rotate_end end)
{
	struct rotate_ended ended = {
		.end = end,
		.number = c->number,
		.messages = c->messages,
		.age_us = (end == ROTATE_END_LOST ? s->now_us : c->last_us) -
		    c->opened_us,
	};

	c->number = 0;
	c->next_us = s->now_us + 100 * MS;
	for (unsigned i = 0; i < s->n_conns; i++) {
		const struct sim_conn *o = &s->conns[i];

		if (o->number == 0)
			continue;
		if (o->messages > ended.open_messages)
			ended.open_messages = o->messages;
		if (o->last_us - o->opened_us > ended.open_age_us)
			ended.open_age_us = o->last_us - o->opened_us;
	}
	if (!rotate_learn_ended(&s->learned, &s->options, &ended, s->now_us))
		return;
	for (unsigned i = 0; i < s->n_conns; i++)
		s->conns[i].limits = rotate_plan(&s->options, &s->learned,
		    s->conns[i].opened_us, s->conns[i].number);
}

static void sim_message(struct sim *s, struct sim_conn *c)
{
	if (s->cap > 0 && c->messages >= s->cap) {
		s->n_capped++;
		sim_end(s, c, s->tells ? ROTATE_END_CAP : ROTATE_END_LOST);
		return;
	}
	if ((s->cut_us > 0 && s->now_us - c->opened_us >= s->cut_us) ||
	    (double)sim_random(s, 1000000) < s->loss * 1e6) {
		s->n_lost++;
		sim_end(s, c, ROTATE_END_LOST);
		return;
	}
	c->messages++;
	c->last_us = s->now_us;
	s->n_messages++;
	c->next_us = s->now_us + s->message_us / 2 +
	    (int64_t)sim_random(s, (uint64_t)s->message_us);
}

static void sim_run(struct sim *s, int64_t for_us)
{
	int64_t end = s->now_us + for_us;

	s->n_messages = s->n_capped = s->n_lost = 0;
	for (; s->now_us < end; s->now_us += 10 * MS)
		for (unsigned i = 0; i < s->n_conns; i++) {
			struct sim_conn *c = &s->conns[i];

			if (s->now_us < c->next_us)
				continue;
			if (c->number == 0)
				sim_open(s, c);
			else if (rotate_due(&s->options, &c->limits,
				     c->messages, 0, s->now_us) != ROTATE_NOT ||
			    rotate_soon(&c->limits, c->messages, s->now_us) !=
				ROTATE_NOT)
				sim_end(s, c, ROTATE_END_CLOSED);
			else
				sim_message(s, c);
		}
}

static void assert_thresholds(
    const struct sim *s, unsigned messages, int64_t low_us, int64_t high_us)
{
	assert_int_equal(rotate_learned_messages(&s->learned), messages);
	assert_in_range(rotate_learned_age_us(&s->learned), low_us, high_us);
}

/* --- the servers --- */

static void test_session_cap(void **state)
{
	struct sim s = sim_new(20, 200 * MS);

	(void)state;
	s.cap = 37;
	sim_run(&s, MINUTE);
	/* At most the first wave met it. */
	assert_in_range(s.n_capped, 1, 20);
	assert_thresholds(&s, 35, 0, 0);
	sim_run(&s, 8 * MINUTE);
	assert_int_equal(s.n_capped, 0);
	assert_true(s.n_messages > 40000);
	/* Scouts: after 10, 20, 40, 80, 160 minutes. */
	sim_run(&s, 360 * MINUTE);
	assert_in_range(s.n_capped, 4, 6);
	assert_thresholds(&s, 35, 0, 0);
}

/* The server closes after 37 messages and says nothing. */
static void test_silent_cap(void **state)
{
	struct sim s = sim_new(10, 100 * MS);

	(void)state;
	s.cap = 37;
	s.tells = false;
	sim_run(&s, MINUTE);
	assert_in_range(s.n_capped, 3, 60);
	assert_thresholds(&s, 35, 0, 0);
	sim_run(&s, 8 * MINUTE);
	assert_int_equal(s.n_capped, 0);
	sim_run(&s, 360 * MINUTE);
	assert_in_range(s.n_capped, 4, 6);
}

static void test_age_cut(void **state)
{
	struct sim s = sim_new(20, 1000 * MS);

	(void)state;
	s.cut_us = 20 * S;
	sim_run(&s, 2 * MINUTE);
	assert_thresholds(&s, 0, 16 * S, 19 * S);
	sim_run(&s, 8 * MINUTE);
	assert_int_equal(s.n_lost, 0);
	sim_run(&s, 360 * MINUTE);
	assert_in_range(s.n_lost, 4, 7);
	assert_thresholds(&s, 0, 16 * S, 19 * S);
}

/* At one pace neither the one nor the other shows alone; both are met. */
static void test_both(void **state)
{
	struct sim s = sim_new(10, 200 * MS);

	(void)state;
	s.cap = 37;
	s.cut_us = 20 * S;
	sim_run(&s, 3 * MINUTE);
	assert_thresholds(&s, 35, 0, 0);
	s.message_us = 2 * S;
	sim_run(&s, 3 * MINUTE);
	assert_thresholds(&s, 35, 14 * S, 19 * S);
	sim_run(&s, 3 * MINUTE);
	assert_int_equal(s.n_lost + s.n_capped, 0);
	s.message_us = 200 * MS;
	sim_run(&s, 3 * MINUTE);
	/* A scout may be sent meanwhile. */
	assert_in_range(s.n_lost + s.n_capped, 0, 1);
}

static void test_cap_goes_away(void **state)
{
	struct sim s = sim_new(10, 200 * MS);

	(void)state;
	s.cap = 37;
	sim_run(&s, MINUTE);
	assert_thresholds(&s, 35, 0, 0);
	s.cap = 0;
	sim_run(&s, 8 * MINUTE);
	assert_thresholds(&s, 35, 0, 0); /* slowly */
	sim_run(&s, 8 * MINUTE);
	assert_in_range(rotate_learned_messages(&s.learned), 36, 49);
	sim_run(&s, 60 * MINUTE);
	assert_thresholds(&s, 0, 0, 0);
	assert_int_equal(s.n_capped, 0);
}

static void test_age_cut_goes_away(void **state)
{
	struct sim s = sim_new(10, 2 * S);

	(void)state;
	s.cut_us = 20 * S;
	sim_run(&s, 5 * MINUTE);
	assert_thresholds(&s, 0, 16 * S, 19 * S);
	s.cut_us = 0;
	sim_run(&s, 4 * 60 * MINUTE);
	assert_thresholds(&s, 0, 0, 0);
}

/* A cap becomes another one, stricter. */
static void test_cap_falls(void **state)
{
	struct sim s = sim_new(10, 200 * MS);

	(void)state;
	s.cap = 37;
	sim_run(&s, MINUTE);
	s.cap = 10;
	sim_run(&s, MINUTE);
	assert_thresholds(&s, 9, 0, 0);
	sim_run(&s, 5 * MINUTE);
	assert_int_equal(s.n_capped, 0);
	s.cap = 1; /* below the floor: each second message, for ever */
	sim_run(&s, MINUTE);
	assert_thresholds(&s, ROTATE_FLOOR_MESSAGES, 0, 0);
}

/* One message in a hundred loses its connection: that is no cap. */
static void test_random_losses(void **state)
{
	static const int64_t paces[] = { 50 * MS, 200 * MS, S, 3 * S };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(paces); i++)
		for (unsigned n = 1; n <= MAX_CONNECTIONS; n += 19) {
			struct sim s = sim_new(n, paces[i]);
			unsigned low = 50;
			int64_t low_us = 60 * S;

			s.loss = 0.01;
			for (unsigned k = 0; k < 120; k++) {
				struct rotate_learned *l = &s.learned;
				unsigned m;
				int64_t a;

				sim_run(&s, MINUTE);
				m = rotate_learned_messages(l);
				a = rotate_learned_age_us(l);
				low = m > 0 && m < low ? m : low;
				low_us = a > 0 && a < low_us ? a : low_us;
			}
			assert_in_range(low, 40, 50);
			assert_in_range(low_us, 48 * S, 60 * S);
		}
}

static void test_restart(void **state)
{
	struct sim s = sim_new(20, 200 * MS);
	unsigned messages;

	(void)state;
	s.cap = 37;
	sim_run(&s, MINUTE);
	messages = rotate_learned_messages(&s.learned);
	s = sim_new(20, 200 * MS);
	s.cap = 37;
	rotate_learn_init(&s.learned, messages, 0, s.now_us);
	sim_run(&s, 9 * MINUTE);
	assert_int_equal(s.n_capped, 0);
	assert_thresholds(&s, 35, 0, 0);
	/* What no floor lets through is raised to it. */
	rotate_learn_init(&s.learned, 1, 1, s.now_us);
	assert_thresholds(
	    &s, ROTATE_FLOOR_MESSAGES, ROTATE_FLOOR_US, ROTATE_FLOOR_US);
}

/* Recorded, but not acted on: each session meets the cap. */
static void test_not_adaptive(void **state)
{
	struct sim s = sim_new(10, 200 * MS);

	(void)state;
	s.options.adaptive = false;
	s.cap = 37;
	sim_run(&s, 20 * MINUTE);
	assert_true(s.n_capped > 1000);
	assert_thresholds(&s, 35, 0, 0);
	s.cap = 0;
	sim_run(&s, MINUTE);
	assert_thresholds(&s, 0, 0, 0);
}

/* --- step by step --- */

static struct rotate_learned fresh(void)
{
	struct rotate_learned l;

	rotate_learn_init(&l, 0, 0, 0);
	return l;
}

static bool end(struct rotate_learned *l, enum rotate_end how,
    unsigned messages, int64_t age_us, int64_t now_us)
{
	struct rotate_ended ended = {
		.end = how,
		.number = 1,
		.messages = messages,
		.age_us = age_us,
	};

	return rotate_learn_ended(l, &usual, &ended, now_us);
}

/* Idle connections closed after 10 s, a thousand times. */
static void test_idle_closes(void **state)
{
	struct rotate_learned l = fresh();

	(void)state;
	for (int i = 0; i < 1000; i++)
		assert_false(end(&l, ROTATE_END_CLOSED, 1, 10 * S, i * 10 * S));
	assert_int_equal(rotate_learned_age_us(&l), 0);
	assert_int_equal(rotate_learned_messages(&l), 0);
}

/* The network goes away again and again: all are lost at once. */
static void test_network_trouble(void **state)
{
	struct rotate_learned l = fresh();

	(void)state;
	for (int trouble = 0; trouble < 3; trouble++)
		for (int i = 0; i < 20; i++)
			assert_false(end(&l, ROTATE_END_LOST,
			    (unsigned)(2 + 2 * i), 3 * S + i * 2 * S,
			    trouble * 300 * S + i * 20 * MS));
	/* As old as each other, too. */
	l = fresh();
	for (int trouble = 0; trouble < 3; trouble++)
		for (int i = 0; i < 20; i++)
			assert_false(end(&l, ROTATE_END_LOST, 20, 30 * S,
			    trouble * 300 * S + i * 20 * MS));
	assert_int_equal(rotate_learned_age_us(&l), 0);
	assert_int_equal(rotate_learned_messages(&l), 0);
	/* Three moments, but four losses that are like the last one. */
	l = fresh();
	for (int trouble = 0; trouble < 2; trouble++) {
		assert_false(
		    end(&l, ROTATE_END_LOST, 20, 31 * S, trouble * 100 * S));
		assert_false(
		    end(&l, ROTATE_END_LOST, 10, 28 * S, trouble * 100 * S));
	}
	assert_false(end(&l, ROTATE_END_LOST, 30, 29500 * MS, 200 * S));
}

/* The same four losses: with and without one that came past them. */
static void test_past_the_place(void **state)
{
	struct rotate_ended ended = {
		.end = ROTATE_END_LOST,
		.number = 9,
		.messages = 5,
		.age_us = 20 * S,
	};
	struct rotate_learned l = fresh();

	(void)state;
	for (int i = 0; i < 3; i++)
		assert_false(end(&l, ROTATE_END_LOST, (unsigned)(5 + 9 * i),
		    20 * S, i * 20 * S));
	assert_true(rotate_learn_ended(&l, &usual, &ended, 80 * S));
	assert_int_equal(rotate_learned_age_us(&l), 18 * S);
	assert_int_equal(rotate_learned_messages(&l), 0);
	/* What comes now is judged by itself: it may be chance again. */
	assert_false(end(&l, ROTATE_END_LOST, 3, 19 * S, 100 * S));

	l = fresh();
	for (int i = 0; i < 3; i++)
		assert_false(end(&l, ROTATE_END_LOST, (unsigned)(5 + 9 * i),
		    20 * S, i * 20 * S));
	assert_false(end(&l, ROTATE_END_CLOSED, 3, 21 * S, 70 * S));
	assert_false(rotate_learn_ended(&l, &usual, &ended, 80 * S));

	/* Or is still open. */
	l = fresh();
	for (int i = 0; i < 3; i++)
		assert_false(end(&l, ROTATE_END_LOST, (unsigned)(5 + 9 * i),
		    20 * S, i * 20 * S));
	ended.open_age_us = 21 * S;
	assert_false(rotate_learn_ended(&l, &usual, &ended, 80 * S));
}

static void test_scouts(void **state)
{
	struct rotate_learned l = fresh();
	struct rotate_limits limits;

	(void)state;
	assert_true(end(&l, ROTATE_END_CAP, 37, S, 0));
	rotate_learn_opened(&l, &usual, 2, 599 * S);
	assert_false(rotate_is_scout(&l, 2));
	rotate_learn_opened(&l, &usual, 3, 600 * S);
	rotate_learn_opened(&l, &usual, 4, 601 * S);
	assert_true(rotate_is_scout(&l, 3));
	assert_false(rotate_is_scout(&l, 4)); /* one at a time */
	limits = rotate_plan(&usual, &l, 0, 3);
	assert_int_equal(limits.max_messages, 41);
	assert_int_equal(limits.soft_messages, 41);
	assert_int_equal(rotate_plan(&usual, &l, 0, 4).max_messages, 35);
	/* It ended before it knew: another one goes. */
	struct rotate_ended ended = { ROTATE_END_CLOSED, 3, 30, S, 0, 0 };

	assert_false(rotate_learn_ended(&l, &usual, &ended, 610 * S));
	rotate_learn_opened(&l, &usual, 5, 611 * S);
	assert_true(rotate_is_scout(&l, 5));
	/* It is cut, without a word: that is enough, and the wait doubles. */
	ended = (struct rotate_ended){ ROTATE_END_LOST, 5, 37, S, 0, 0 };
	assert_false(rotate_learn_ended(&l, &usual, &ended, 620 * S));
	assert_int_equal(rotate_learned_messages(&l), 35);
	rotate_learn_opened(&l, &usual, 6, 620 * S + 1199 * S);
	assert_false(rotate_is_scout(&l, 6));
	rotate_learn_opened(&l, &usual, 7, 620 * S + 1200 * S);
	assert_true(rotate_is_scout(&l, 7));
	/* It comes through: so far all may go. */
	ended = (struct rotate_ended){ ROTATE_END_CLOSED, 7, 41, S, 0, 0 };
	assert_true(rotate_learn_ended(&l, &usual, &ended, 2000 * S));
	assert_int_equal(rotate_plan(&usual, &l, 0, 8).max_messages, 41);
}

/* Other settings than when it was learned. */
static void test_configured_limits_hold(void **state)
{
	struct rotate_options o = usual;
	struct rotate_learned l = fresh();

	(void)state;
	assert_true(end(&l, ROTATE_END_CAP, 37, S, 0));
	o.messages_per_connection = 20;
	assert_int_equal(rotate_plan(&o, &l, 0, 1).max_messages, 20);
	rotate_learn_opened(&l, &o, 2, 10000 * S);
	assert_int_equal(rotate_plan(&o, &l, 0, 2).max_messages, 20);
	o.messages_per_connection = 38;
	rotate_learn_opened(&l, &o, 3, 10000 * S);
	assert_true(rotate_is_scout(&l, 3));
	assert_int_equal(rotate_plan(&o, &l, 0, 3).max_messages, 38);
	/* No session at all is not a session that had enough. */
	l = fresh();
	assert_false(end(&l, ROTATE_END_CAP, 0, S, 0));
	assert_int_equal(rotate_learned_messages(&l), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_session_cap),
		cmocka_unit_test(test_silent_cap),
		cmocka_unit_test(test_age_cut),
		cmocka_unit_test(test_both),
		cmocka_unit_test(test_cap_goes_away),
		cmocka_unit_test(test_age_cut_goes_away),
		cmocka_unit_test(test_cap_falls),
		cmocka_unit_test(test_random_losses),
		cmocka_unit_test(test_restart),
		cmocka_unit_test(test_not_adaptive),
		cmocka_unit_test(test_idle_closes),
		cmocka_unit_test(test_network_trouble),
		cmocka_unit_test(test_past_the_place),
		cmocka_unit_test(test_scouts),
		cmocka_unit_test(test_configured_limits_hold),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
