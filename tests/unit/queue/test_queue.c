/*
 * The queue against a model: after any run of operations every stub is on
 * exactly the list that its state names, and every illegal edge aborts.
 */
#include "spool_test.h"

#include "queue/queue.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

static struct stub *make_stub(uint64_t id)
{
	struct message *m = make_message(id, id % 1000, 3);
	struct stub *s = stub_new(m, m->arrival_us);

	message_free(m);
	return s;
}

static void test_fifo_and_free_retry(void **state)
{
	struct queue *q = queue_new();
	struct stub *first;

	(void)state;
	assert_null(queue_take(q, 0));
	assert_int_equal(queue_next_due(q), INT64_MAX);
	assert_int_equal(queue_oldest(q), INT64_MAX);
	for (uint64_t id = 1; id <= 3; id++)
		queue_add_ready(q, make_stub(id));
	first = queue_take(q, 0);
	assert_int_equal(first->id, 1);
	assert_int_equal(first->state, STUB_INFLIGHT);
	assert_int_equal(queue_peek(q, 0)->id, 2);
	queue_untake(q, first);
	assert_int_equal(queue_take(q, 0)->id, 1);
	assert_int_equal(queue_take(q, 0)->id, 2);
	queue_ready(q, first);
	assert_int_equal(queue_take(q, 0)->id, 3);
	assert_int_equal(queue_take(q, 0)->id, 1);
	assert_null(queue_take(q, INT64_MAX));
	assert_int_equal(queue_count(q, STUB_INFLIGHT), 3);
	queue_free(q);
}

static void test_due_order(void **state)
{
	static const int64_t due[] = { 50, 10, 30, 20, 40 };
	struct queue *q = queue_new();

	(void)state;
	for (uint64_t id = 1; id <= 5; id++) {
		queue_add_ready(q, make_stub(id));
		queue_wait(q, queue_take(q, 0), due[id - 1]);
	}
	queue_add_ready(q, make_stub(6));
	assert_int_equal(queue_next_due(q), 10);
	/* What is ready already goes before what is due now. */
	assert_int_equal(queue_take(q, 30)->id, 6);
	assert_int_equal(queue_take(q, 30)->id, 2);
	assert_int_equal(queue_take(q, 30)->id, 4);
	assert_int_equal(queue_take(q, 30)->id, 3);
	assert_null(queue_take(q, 39));
	assert_int_equal(queue_next_due(q), 40);
	assert_int_equal(queue_peek(q, 1000)->id, 5);
	assert_int_equal(queue_count(q, STUB_WAITING), 0);
	queue_free(q);
}

/* What is due after a long pause joins the lane a piece at a time. */
static void test_waking_is_bounded(void **state)
{
	enum { N = 3 * QUEUE_WAKE_MAX };
	struct queue *q = queue_new();

	(void)state;
	for (uint64_t id = 1; id <= N; id++) {
		queue_add_ready(q, make_stub(id));
		queue_wait(q, queue_take(q, 0), (int64_t)(10 + N - id));
	}
	for (uint64_t id = N; id >= 1; id--) {
		assert_int_equal(queue_take(q, 10 + N)->id, id);
		if (id == N)
			assert_int_equal(
			    queue_count(q, STUB_READY), QUEUE_WAKE_MAX - 1);
	}
	assert_null(queue_take(q, 10 + N));
	queue_free(q);
}

/* To the second, whoever leaves; also before the clock's beginning. */
static struct stub *arrived(uint64_t id, int64_t arrival_us)
{
	struct stub *s = make_stub(id);

	s->arrival_us = arrival_us;
	return s;
}

/* Whichever way they become held, and stop to be. */
static void test_held_ones_are_not_late(void **state)
{
	struct queue *q = queue_new();
	struct stub *s;

	(void)state;
	queue_add_held(q, arrived(1, 1 * US_PER_S));
	assert_int_equal(queue_oldest(q), 1 * US_PER_S);
	assert_int_equal(queue_oldest_moving(q), INT64_MAX);
	queue_add_ready(q, arrived(2, 5 * US_PER_S));
	queue_add_ready(q, arrived(3, 9 * US_PER_S));
	assert_int_equal(queue_oldest_moving(q), 5 * US_PER_S);
	s = queue_take(q, 0);
	queue_hold(q, s);
	assert_int_equal(queue_oldest_moving(q), 9 * US_PER_S);
	queue_wait(q, queue_take(q, 0), 50);
	queue_hold(q, queue_find(q, 3));
	assert_int_equal(queue_oldest_moving(q), INT64_MAX);
	queue_ready(q, queue_find(q, 1));
	assert_int_equal(queue_oldest_moving(q), 1 * US_PER_S);
	queue_remove(q, queue_find(q, 1));
	queue_remove(q, queue_find(q, 2));
	assert_int_equal(queue_oldest_moving(q), INT64_MAX);
	assert_int_equal(queue_oldest(q), 9 * US_PER_S);
	queue_free(q);
}

static void test_younger(void **state)
{
	struct queue *q = queue_new();

	(void)state;
	assert_int_equal(queue_younger(q, 0), 0);
	for (uint64_t id = 1; id <= 10; id++)
		queue_add_ready(q, arrived(id, (int64_t)id * US_PER_S));
	queue_add_held(q, arrived(11, 10 * US_PER_S + 500000));
	queue_add_held(q, arrived(12, -7 * US_PER_S));
	assert_int_equal(queue_younger(q, INT64_C(-100) * US_PER_S), 12);
	assert_int_equal(queue_younger(q, -7 * US_PER_S), 12);
	assert_int_equal(queue_younger(q, 0), 11);
	/* To a second: one of 8.0 is no older than 8.9. */
	assert_int_equal(queue_younger(q, 8 * US_PER_S + 900000), 4);
	assert_int_equal(queue_younger(q, 11 * US_PER_S), 0);
	queue_free(q);
}

static void test_oldest(void **state)
{
	static const int64_t arrivals[] = { 7500000, -2500000, 7900000, 0,
		-2000001 };
	static const int64_t oldest[] = { 7000000, -3000000, -3000000, -3000000,
		-3000000 };
	struct message *m = make_message(1, 5, 1);
	struct queue *q = queue_new();

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(arrivals); i++) {
		m->id = i + 1;
		queue_add_ready(q, stub_new(m, arrivals[i]));
		assert_int_equal(queue_oldest(q), oldest[i]);
	}
	queue_remove(q, queue_find(q, 2));
	assert_int_equal(queue_oldest(q), -3000000);
	queue_remove(q, queue_find(q, 5));
	assert_int_equal(queue_oldest(q), 0);
	queue_remove(q, queue_find(q, 4));
	queue_remove(q, queue_find(q, 1));
	assert_int_equal(queue_oldest(q), 7000000);
	queue_remove(q, queue_find(q, 3));
	assert_int_equal(queue_oldest(q), INT64_MAX);
	message_free(m);
	queue_free(q);
}

struct walk {
	struct queue *q;
	uint64_t last;
	unsigned n, stop;
};

static bool walk_one(void *ctx, struct stub *s)
{
	struct walk *w = ctx;
	uint64_t id = s->id;

	assert_int_equal(s->state, STUB_READY);
	assert_true(id > w->last);
	w->last = id;
	w->n++;
	/* The one it has, and one that it would come to. */
	if (id % 7 == 0)
		queue_remove(w->q, s);
	else
		queue_hold(w->q, s);
	if (id % 7 == 3)
		queue_remove(w->q, queue_find(w->q, id + 1));
	return w->n % w->stop != 0;
}

/* In pieces, in order, each once, while stubs come, move and go. */
static void test_walk(void **state)
{
	struct walk w = { .q = queue_new(), .stop = 10 };
	unsigned pieces = 1;
	uint64_t after = 0;

	(void)state;
	assert_false(queue_walk(w.q, &after, 1, STUB_N_STATES, walk_one, &w));
	for (uint64_t id = 700; id >= 1; id--) {
		queue_add_ready(w.q, make_stub(id));
		if (id % 7 == 5)
			queue_hold(w.q, queue_find(w.q, id));
	}
	while (queue_walk(w.q, &after, 8, STUB_READY, walk_one, &w)) {
		/* Held and removed ones are looked at, or passed over. */
		assert_true(w.n <= 8 * pieces);
		assert_true(after <= 10 * pieces);
		pieces++;
	}
	/* Of seven, one is held from the start and one removed in time. */
	assert_int_equal(w.n, 500);
	assert_int_equal(queue_count(w.q, STUB_HELD), 500);
	assert_int_equal(queue_total(w.q), 500);
	/* fn ends a piece where it likes. */
	after = w.n = w.last = 0;
	for (uint64_t id = 1001; id <= 1025; id++)
		queue_add_ready(w.q, make_stub(id * 7 + 1));
	for (unsigned n = 10; n <= 20; n += 10) {
		assert_true(
		    queue_walk(w.q, &after, 10000, STUB_READY, walk_one, &w));
		assert_int_equal(w.n, n);
		assert_int_equal(after, w.last);
	}
	assert_false(queue_walk(w.q, &after, 10000, STUB_READY, walk_one, &w));
	assert_int_equal(w.n, 25);
	queue_free(w.q);
}

/* A million of them may wait: what each one takes is no matter of taste. */
static void test_memory(void **state)
{
	struct queue *q = queue_new();
	struct stub *a, *b;
	char text[1000];

	(void)state;
	assert_true(sizeof(struct stub) <= 88);
	for (uint64_t id = 1; id <= 2; id++)
		queue_add_ready(q, make_stub(id));
	a = queue_find(q, 1);
	b = queue_find(q, 2);
	/* Most wait for the same reason: one text for all. */
	queue_set_reply(q, a, "connection refused");
	strcpy(text, "connection refused");
	queue_set_reply(q, b, text);
	assert_ptr_equal(a->last_reply, b->last_reply);
	assert_ptr_not_equal(a->last_reply, text);
	/* What one holds stays, however many others come. */
	for (unsigned i = 0; i < 100; i++) {
		snprintf(text, sizeof(text), "reply %u", i);
		queue_set_reply(q, b, text);
		assert_string_equal(b->last_reply, text);
	}
	assert_string_equal(a->last_reply, "connection refused");
	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	queue_set_reply(q, b, text);
	assert_int_equal(strlen(b->last_reply), 300);
	queue_set_reply(q, a, NULL);
	assert_null(a->last_reply);
	queue_set_reply(q, a, b->last_reply);
	assert_ptr_equal(a->last_reply, b->last_reply);
	queue_free(q);
}

static void test_rcpt_states(void **state)
{
	struct message *m = make_message(1, 5, 3);
	struct stub *s = stub_new(m, m->arrival_us);

	(void)state;
	assert_null(s->rcpt_states);
	m->rcpts[1].state = RCPT_SENT;
	stub_keep_rcpts(s, m);
	assert_memory_equal(s->rcpt_states, "psp", 3);
	m->rcpts[1].state = RCPT_PENDING;
	m->rcpts[2].state = RCPT_FAILED;
	stub_apply_rcpts(s, m);
	assert_rcpt_states(m, "psp");
	assert_int_equal(message_n_pending(m), 2);
	m->rcpts[1].state = RCPT_PENDING;
	stub_keep_rcpts(s, m);
	assert_null(s->rcpt_states);
	stub_free(s);
	message_free(m);
}

static bool count_one(void *ctx, struct stub *s)
{
	(void)s;
	++*(size_t *)ctx;
	return true;
}

static bool stop_at_once(void *ctx, struct stub *s)
{
	(void)s;
	++*(size_t *)ctx;
	return false;
}

static void check_state(void *ctx, enum stub_state state)
{
	size_t n = 0;

	queue_each(ctx, state, count_one, &n);
	assert_int_equal(n, queue_count(ctx, state));
	n = 0;
	queue_each(ctx, state, stop_at_once, &n);
	assert_int_equal(n, queue_count(ctx, state) > 0);
}

static bool is_of_state(void *ctx, struct stub *s)
{
	assert_int_equal(s->state, *(enum stub_state *)ctx);
	return true;
}

/* Counts agree, and each list holds only what says that it is there. */
static void check(struct queue *q, size_t total)
{
	size_t sum = 0, n = 0;

	for (enum stub_state s = STUB_READY; s < STUB_N_STATES; s++) {
		check_state(q, s);
		queue_each(q, s, is_of_state, &s);
		sum += queue_count(q, s);
	}
	assert_int_equal(sum, total);
	assert_int_equal(queue_total(q), total);
	queue_each(q, STUB_N_STATES, count_one, &n);
	assert_int_equal(n, total);
}

static uint32_t noise(void)
{
	static uint64_t x = 88172645463325252u;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	return (uint32_t)(x >> 16);
}

static void operate(struct queue *q, struct stub *s, int64_t now)
{
	switch (noise() % 4) {
	case 0:
		if (s->state == STUB_INFLIGHT)
			queue_untake(q, s);
		else if (s->state != STUB_READY)
			queue_ready(q, s);
		break;
	case 1:
		if (s->state == STUB_INFLIGHT || s->state == STUB_READY)
			queue_wait(q, s, now + noise() % 1000);
		break;
	case 2:
		if (s->state != STUB_HELD)
			queue_hold(q, s);
		break;
	default:
		if (s->state != STUB_READY)
			queue_ready(q, s);
		break;
	}
}

static void test_random_operations(void **state)
{
	struct queue *q = queue_new();
	uint64_t bytes = 0, next_id = 1;
	size_t total = 0;

	(void)state;
	for (int64_t now = 0; now < 200000; now++) {
		struct stub *s = queue_find(q, 1 + noise() % next_id);

		if (s == NULL || noise() % 3 == 0) {
			s = make_stub(next_id++);
			bytes += s->size;
			total++;
			if (noise() % 8 == 0)
				queue_add_held(q, s);
			else
				queue_add_ready(q, s);
		} else if (noise() % 2 == 0) {
			bytes -= s->size;
			total--;
			queue_remove(q, s);
		} else {
			operate(q, s, now);
		}
		if (noise() % 2 == 0) {
			s = queue_take(q, now);
			assert_true(s == NULL || s->state == STUB_INFLIGHT);
		}
		assert_int_equal(queue_bytes(q), bytes);
		if (now % 1000 == 0)
			check(q, total);
	}
	check(q, total);
	queue_free(q);
}

static bool aborts(void (*fn)(void))
{
	int status;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		struct rlimit none = { 0, 0 };

		setrlimit(RLIMIT_CORE, &none);
		signal(SIGABRT, SIG_DFL);
		close(STDERR_FILENO);
		fn();
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}

static struct queue *with_one(void)
{
	struct queue *q = queue_new();

	queue_add_ready(q, make_stub(1));
	return q;
}

static void add_twice(void)
{
	queue_add_ready(with_one(), make_stub(1));
}

static void add_queued(void)
{
	struct queue *q = with_one();

	queue_add_held(q, queue_find(q, 1));
}

static void untake_ready(void)
{
	struct queue *q = with_one();

	queue_untake(q, queue_find(q, 1));
}

static void ready_ready(void)
{
	struct queue *q = with_one();

	queue_ready(q, queue_find(q, 1));
}

static void hold_held(void)
{
	struct queue *q = with_one();

	queue_hold(q, queue_find(q, 1));
	queue_hold(q, queue_find(q, 1));
}

static void wait_held(void)
{
	struct queue *q = with_one();

	queue_hold(q, queue_find(q, 1));
	queue_wait(q, queue_find(q, 1), 5);
}

static void wait_waiting(void)
{
	struct queue *q = with_one();

	queue_wait(q, queue_find(q, 1), 5);
	queue_wait(q, queue_find(q, 1), 6);
}

static void remove_new(void)
{
	queue_remove(with_one(), make_stub(2));
}

static void nothing(void)
{
	queue_free(with_one());
}

static void test_illegal_edges(void **state)
{
	static void (*const edges[])(void) = { add_twice, add_queued,
		untake_ready, ready_ready, hold_held, wait_held, wait_waiting,
		remove_new };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(edges); i++)
		assert_true(aborts(edges[i]));
	assert_false(aborts(nothing));
}

static void test_state_names(void **state)
{
	(void)state;
	for (enum stub_state i = STUB_NEW; i < STUB_N_STATES; i++)
		assert_non_null(stub_state_name(i));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fifo_and_free_retry),
		cmocka_unit_test(test_due_order),
		cmocka_unit_test(test_waking_is_bounded),
		cmocka_unit_test(test_oldest),
		cmocka_unit_test(test_held_ones_are_not_late),
		cmocka_unit_test(test_younger),
		cmocka_unit_test(test_walk),
		cmocka_unit_test(test_memory),
		cmocka_unit_test(test_rcpt_states),
		cmocka_unit_test(test_random_operations),
		cmocka_unit_test(test_illegal_edges),
		cmocka_unit_test(test_state_names),
	};

	return cmocka_run_group_tests_name("queue", tests, NULL, NULL);
}
