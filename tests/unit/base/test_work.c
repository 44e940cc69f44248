/*
 * Workers and their port: order, batches, threads, and nothing lost.
 *
 * Jobs are held up by gates (pipes), never by sleeping; a hang is ended by
 * SIGALRM.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/work.h"

#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#define MAX_JOBS 2200

struct test_job {
	struct work_job job;
	int number;
	int runs; /* how often each was called */
	int dones;
	pid_t run_tid, done_tid;
	struct worker *again; /* done() submits it there once more */
};

static struct work_port *port;
static struct test_job jobs[MAX_JOBS];
static int done_order[MAX_JOBS], n_done;
static int gate[2]; /* run_gated() takes a byte from it */
static int started[2]; /* and puts one here before that */

static void run_plain(struct work_job *job)
{
	struct test_job *t = CONTAINER_OF(job, struct test_job, job);

	t->runs++;
	t->run_tid = gettid();
}

static void run_gated(struct work_job *job)
{
	char c = 0;

	ASSERT(write(started[1], &c, 1) == 1);
	ASSERT(read(gate[0], &c, 1) == 1);
	run_plain(job);
}

static void on_done(struct work_job *job)
{
	struct test_job *t = CONTAINER_OF(job, struct test_job, job);
	struct worker *again = t->again;

	t->dones++;
	t->done_tid = gettid();
	done_order[n_done++] = t->number;
	t->again = NULL;
	if (again)
		work_submit(again, job);
}

static void open_gate(int n)
{
	while (n-- > 0)
		assert_int_equal(write(gate[1], "", 1), 1);
}

static void await_started(int n)
{
	char c;

	while (n-- > 0)
		assert_int_equal(read(started[0], &c, 1), 1);
}

static bool port_readable(int timeout_ms)
{
	struct pollfd p = { .fd = work_port_fd(port), .events = POLLIN };

	return poll(&p, 1, timeout_ms) == 1;
}

/* What the loop does, until n jobs are done. */
static void await_done(int n)
{
	while (n_done < n) {
		assert_true(port_readable(-1));
		work_port_dispatch(port);
	}
	assert_int_equal(n_done, n);
}

static int setup(void **state)
{
	(void)state;
	alarm(60);
	memset(jobs, 0, sizeof(jobs));
	n_done = 0;
	for (int i = 0; i < MAX_JOBS; i++) {
		jobs[i].number = i;
		jobs[i].job.run = run_plain;
		jobs[i].job.done = on_done;
	}
	port = work_port_new();
	return pipe(gate) | pipe(started);
}

static int teardown(void **state)
{
	(void)state;
	work_port_free(port);
	for (int i = 0; i < 2; i++) {
		close(gate[i]);
		close(started[i]);
	}
	return 0;
}

static void assert_done_once_in_order(int n)
{
	assert_int_equal(n_done, n);
	for (int i = 0; i < n; i++) {
		assert_int_equal(done_order[i], i);
		assert_int_equal(jobs[i].dones, 1);
	}
}

static void test_run_elsewhere_and_done_here(void **state)
{
	struct worker *w = work_new(port, "worker", 1);

	(void)state;
	work_submit(w, &jobs[0].job);
	await_done(1);
	assert_int_equal(jobs[0].runs, 1);
	assert_int_equal(jobs[0].dones, 1);
	assert_int_not_equal(jobs[0].run_tid, gettid());
	assert_int_equal(jobs[0].done_tid, gettid());
	work_free(w);
}

static void test_one_thread_keeps_order(void **state)
{
	struct worker *w = work_new(port, "worker", 1);

	(void)state;
	for (int i = 0; i < MAX_JOBS; i++)
		work_submit(w, &jobs[i].job);
	await_done(MAX_JOBS);
	assert_done_once_in_order(MAX_JOBS);
	work_free(w);
}

static void test_threads_run_side_by_side(void **state)
{
	struct worker *w = work_new(port, "worker", 3);

	(void)state;
	for (int i = 0; i < 5; i++) {
		jobs[i].job.run = run_gated;
		work_submit(w, &jobs[i].job);
	}
	await_started(3); /* hangs if they wait for each other */
	open_gate(5);
	await_done(5);
	work_free(w);
}

struct batch_log {
	int sizes[MAX_JOBS], n;
};

static void run_batch(void *ctx, struct work_list *batch)
{
	struct batch_log *log = ctx;
	struct work_job *job;
	int size = 0;
	char c = 0;

	STAILQ_FOREACH (job, batch, link)
		size++;
	log->sizes[log->n++] = size;
	ASSERT(write(started[1], &c, 1) == 1);
	ASSERT(read(gate[0], &c, 1) == 1);
}

static void test_batch_gathers_while_the_last_one_runs(void **state)
{
	struct batch_log log = { .n = 0 };
	struct worker *w = work_new_batch(port, "batch", run_batch, &log);

	(void)state;
	for (int i = 0; i < MAX_JOBS; i++)
		jobs[i].job.run = NULL; /* not used */
	work_submit(w, &jobs[0].job);
	await_started(1);
	for (int i = 1; i < 6; i++)
		work_submit(w, &jobs[i].job);
	assert_int_equal(work_pending(w), 6);
	open_gate(1);
	await_started(1);
	/* The first has completed as a whole, the second not at all. */
	assert_int_equal(work_pending(w), 5);
	await_done(1);
	open_gate(1);
	await_done(6);
	assert_int_equal(work_pending(w), 0);
	assert_done_once_in_order(6);
	work_free(w);
	assert_int_equal(log.n, 2);
	assert_int_equal(log.sizes[0], 1);
	assert_int_equal(log.sizes[1], 5);
}

/* What waits for a flush goes as one batch, behind what went before. */
static void test_gathered_jobs_go_together(void **state)
{
	struct batch_log log = { .n = 0 };
	struct worker *w = work_new_batch(port, "batch", run_batch, &log);

	(void)state;
	for (int i = 0; i < MAX_JOBS; i++)
		jobs[i].job.run = NULL;
	work_port_gather(port, true);
	for (int i = 0; i < 5; i++)
		work_submit(w, &jobs[i].job);
	assert_int_equal(work_pending(w), 5);
	assert_false(port_readable(50)); /* nobody was told */
	assert_int_equal(log.n, 0);
	work_port_flush(port);
	await_started(1);
	open_gate(1);
	await_done(5);
	/* And so does the next lot; the end of gathering is a flush. */
	for (int i = 5; i < 8; i++)
		work_submit(w, &jobs[i].job);
	work_port_gather(port, false);
	await_started(1);
	open_gate(1);
	await_done(8);
	assert_done_once_in_order(8);
	work_submit(w, &jobs[8].job);
	await_started(1); /* hangs if it is still gathered */
	open_gate(1);
	await_done(9);
	work_free(w);
	assert_int_equal(log.n, 3);
	assert_int_equal(log.sizes[0], 5);
	assert_int_equal(log.sizes[1], 3);
}

/* Each of them is woken; one would leave the others waiting behind it. */
static void test_a_flush_wakes_as_many_as_needed(void **state)
{
	struct worker *w = work_new(port, "worker", 3);

	(void)state;
	work_port_gather(port, true);
	for (int round = 0; round < 2; round++) {
		for (int i = 0; i < 3; i++) {
			jobs[3 * round + i].job.run = run_gated;
			work_submit(w, &jobs[3 * round + i].job);
		}
		work_port_flush(port);
		await_started(3);
		open_gate(3);
		await_done(3 * round + 3);
	}
	work_free(w);
}

static void test_the_end_of_a_worker_takes_what_was_gathered(void **state)
{
	struct worker *w = work_new(port, "worker", 1);

	(void)state;
	work_port_gather(port, true);
	for (int i = 0; i < 4; i++)
		work_submit(w, &jobs[i].job);
	work_free(w);
	work_port_dispatch(port);
	assert_done_once_in_order(4);
}

static void test_done_may_submit_again(void **state)
{
	struct worker *w = work_new(port, "worker", 1);

	(void)state;
	jobs[0].again = w;
	work_submit(w, &jobs[0].job);
	work_submit(w, &jobs[1].job);
	await_done(3);
	assert_int_equal(jobs[0].runs, 2);
	assert_int_equal(jobs[0].dones, 2);
	assert_int_equal(jobs[1].dones, 1);
	work_free(w);
}

static void free_job(struct work_job *job)
{
	n_done++;
	free(CONTAINER_OF(job, struct test_job, job));
}

static void test_done_may_free_the_job(void **state)
{
	struct worker *w = work_new(port, "worker", 2);

	(void)state;
	for (int i = 0; i < 10; i++) {
		struct test_job *t = calloc(1, sizeof(*t));

		assert_non_null(t);
		t->job.run = run_plain;
		t->job.done = free_job;
		work_submit(w, &t->job);
	}
	await_done(10);
	work_free(w);
}

static void test_one_port_serves_many_workers(void **state)
{
	struct worker *w[3];

	(void)state;
	for (int i = 0; i < 3; i++)
		w[i] = work_new(port, "worker", 1);
	for (int i = 0; i < 30; i++)
		work_submit(w[i % 3], &jobs[i].job);
	await_done(30);
	for (int i = 0; i < 30; i++)
		assert_int_equal(jobs[i].dones, 1);
	for (int i = 0; i < 3; i++)
		work_free(w[i]);
}

static void test_completions_wake_the_loop_once(void **state)
{
	struct worker *w = work_new(port, "worker", 1);

	(void)state;
	assert_false(port_readable(0));
	work_port_dispatch(port); /* with nothing to do */
	for (int i = 0; i < 8; i++)
		work_submit(w, &jobs[i].job);
	work_free(w);
	assert_true(port_readable(0));
	assert_int_equal(n_done, 0);
	work_port_dispatch(port);
	assert_done_once_in_order(8);
	assert_false(port_readable(0));
}

/* A flood of completions is spread over turns of the loop, in order. */
static void test_a_turn_is_bounded(void **state)
{
	enum { N = 2 * WORK_DISPATCH_MAX + 10 };
	struct worker *w = work_new(port, "worker", 1);

	(void)state;
	for (int i = 0; i < N; i++)
		work_submit(w, &jobs[i].job);
	work_free(w);
	for (int n = WORK_DISPATCH_MAX; n < N; n += WORK_DISPATCH_MAX) {
		assert_true(port_readable(0));
		work_port_dispatch(port);
		assert_int_equal(n_done, n);
	}
	assert_true(port_readable(0));
	work_port_dispatch(port);
	assert_false(port_readable(0));
	assert_done_once_in_order(N);
}

static void test_end_of_worker_lets_everything_run(void **state)
{
	struct worker *w = work_new(port, "worker", 2);

	(void)state;
	for (int i = 0; i < 20; i++) {
		jobs[i].job.run = run_gated;
		work_submit(w, &jobs[i].job);
	}
	await_started(2);
	open_gate(20);
	work_free(w);
	for (int i = 0; i < 20; i++)
		assert_int_equal(jobs[i].runs, 1);
	/* And the end of the port runs every done(). */
	work_port_free(port);
	port = NULL;
	assert_int_equal(n_done, 20);
}

static void test_pending_counts_waiting_and_running(void **state)
{
	struct worker *w = work_new(port, "worker", 1);

	(void)state;
	assert_int_equal(work_pending(w), 0);
	for (int i = 0; i < 3; i++) {
		jobs[i].job.run = run_gated;
		work_submit(w, &jobs[i].job);
	}
	await_started(1);
	assert_int_equal(work_pending(w), 3);
	open_gate(1);
	await_started(1);
	assert_int_equal(work_pending(w), 2);
	open_gate(2);
	await_done(3);
	assert_int_equal(work_pending(w), 0);
	work_free(w);
}

static sigset_t thread_mask;
static char thread_name[16];
static int thread_policy;

static void run_look_around(struct work_job *job)
{
	(void)job;
	sigprocmask(SIG_BLOCK, NULL, &thread_mask);
	prctl(PR_GET_NAME, thread_name);
	thread_policy = sched_getscheduler(0);
}

static void test_threads_have_a_name_and_no_signals(void **state)
{
	static const int signals[] = { SIGTERM, SIGINT, SIGHUP, SIGALRM,
		SIGCHLD, SIGUSR1, SIGPIPE };
	struct worker *w = work_new(port, "fifteen-letters", 1);
	sigset_t here;

	(void)state;
	jobs[0].job.run = run_look_around;
	work_submit(w, &jobs[0].job);
	await_done(1);
	sigprocmask(SIG_BLOCK, NULL, &here);
	for (size_t i = 0; i < ARRAY_LEN(signals); i++) {
		assert_true(sigismember(&thread_mask, signals[i]));
		assert_false(sigismember(&here, signals[i]));
	}
	assert_string_equal(thread_name, "fifteen-letters");
	/* And one that doesn't interrupt us, unless we were told to be else. */
	assert_int_equal(thread_policy,
	    sched_getscheduler(0) == SCHED_OTHER ? SCHED_BATCH
						 : sched_getscheduler(0));
	work_free(w);
}

static int stress_left;

static void stress_done(struct work_job *job)
{
	struct test_job *t = CONTAINER_OF(job, struct test_job, job);

	t->dones++;
	if (--stress_left >= MAX_JOBS)
		work_submit(t->again, job);
}

static void stress_batch(void *ctx, struct work_list *batch)
{
	struct work_job *job;

	(void)ctx;
	STAILQ_FOREACH (job, batch, link)
		run_plain(job);
}

/* Jobs that go round and round on a pool and on a batch worker. */
static void test_nothing_is_lost_under_load(void **state)
{
	struct worker *pool = work_new(port, "pool", 4);
	struct worker *batch =
	    work_new_batch(port, "batch", stress_batch, NULL);
	int sum = 0;

	(void)state;
	stress_left = 20000;
	for (int i = 0; i < MAX_JOBS; i++) {
		jobs[i].again = i % 2 ? pool : batch;
		jobs[i].job.done = stress_done;
		work_submit(jobs[i].again, &jobs[i].job);
	}
	while (stress_left > 0) {
		assert_true(port_readable(-1));
		work_port_dispatch(port);
	}
	for (int i = 0; i < MAX_JOBS; i++) {
		assert_int_equal(jobs[i].runs, jobs[i].dones);
		sum += jobs[i].runs;
	}
	assert_int_equal(sum, 20000);
	assert_int_equal(work_pending(pool), 0);
	assert_int_equal(work_pending(batch), 0);
	work_free(pool);
	work_free(batch);
}

static void drop_it(struct work_job *job)
{
	struct test_job *t = CONTAINER_OF(job, struct test_job, job);

	ASSERT(write(started[1], t->number == 0 ? "0" : "w", 1) == 1);
}

/* Nobody waits for a job that hangs, and nobody hears of it any more. */
static void test_abandoned_jobs_are_dropped(void **state)
{
	struct worker *w = work_new(port, "worker", 1);
	char c = 0;

	(void)state;
	jobs[0].job.run = run_gated;
	for (int i = 0; i < 3; i++)
		work_submit(w, &jobs[i].job);
	await_started(1);
	work_port_gather(port, true);
	work_submit(w, &jobs[3].job);
	work_abandon(w, drop_it); /* hangs if it waits */
	for (int i = 0; i < 3; i++) {
		assert_int_equal(read(started[0], &c, 1), 1);
		assert_int_equal(c, 'w'); /* those that waited, at once */
	}
	/* Its port need not be there when it ends. */
	work_port_free(port);
	port = NULL;
	open_gate(1);
	assert_int_equal(read(started[0], &c, 1), 1);
	assert_int_equal(c, '0');
	assert_int_equal(n_done, 0);
	assert_int_equal(jobs[1].runs + jobs[2].runs + jobs[3].runs, 0);
}

static void test_what_completed_before_is_told(void **state)
{
	struct worker *w = work_new(port, "worker", 2);

	(void)state;
	work_submit(w, &jobs[0].job);
	assert_true(port_readable(-1));
	work_abandon(w, drop_it);
	work_port_dispatch(port);
	assert_done_once_in_order(1);
}

static void test_nothing_to_free_is_fine(void **state)
{
	(void)state;
	work_abandon(NULL, drop_it);
	work_free(NULL);
	work_port_free(NULL);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_run_elsewhere_and_done_here),
		TEST(test_one_thread_keeps_order),
		TEST(test_threads_run_side_by_side),
		TEST(test_batch_gathers_while_the_last_one_runs),
		TEST(test_gathered_jobs_go_together),
		TEST(test_a_flush_wakes_as_many_as_needed),
		TEST(test_the_end_of_a_worker_takes_what_was_gathered),
		TEST(test_done_may_submit_again),
		TEST(test_done_may_free_the_job),
		TEST(test_one_port_serves_many_workers),
		TEST(test_completions_wake_the_loop_once),
		TEST(test_a_turn_is_bounded),
		TEST(test_end_of_worker_lets_everything_run),
		TEST(test_pending_counts_waiting_and_running),
		TEST(test_threads_have_a_name_and_no_signals),
		TEST(test_nothing_is_lost_under_load),
		TEST(test_abandoned_jobs_are_dropped),
		TEST(test_what_completed_before_is_told),
		TEST(test_nothing_to_free_is_fine),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
