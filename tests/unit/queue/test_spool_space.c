/*
 * Space: bounded by what is queued, wherever that stands; and nothing lost or
 * doubled when compaction and removal fail, or are cut off, at any call.
 */
#include "fault_test.h"

#include "queue/spool_private.h"

#include <sched.h>
#include <sys/wait.h>

enum { SEGMENT = 8192 };

static void open_small(struct bench *b, bool durable)
{
	bench_init(b);
	b->options.segment_bytes = SEGMENT;
	b->options.durable = durable;
	bench_reopen(b);
}

/* All at once: a batch. */
static void commit_all(struct bench *b, struct message **m, unsigned n)
{
	struct answer *answers = xcalloc(n, sizeof(*answers));

	for (unsigned i = 0; i < n; i++)
		spool_commit(b->spool, m[i], NULL, on_answer, &answers[i]);
	for (unsigned i = 0; i < n; i++) {
		bench_wait(b, &answers[i]);
		assert_int_equal(answers[i].rc, 0);
	}
	free(answers);
}

static void end(struct bench *b, struct message **m)
{
	bench_settle(b, *m, SPOOL_SENT, true, NULL, 0);
	message_free(*m);
	*m = NULL;
}

/* Ticks, each with all that it asks for. */
static void tick(struct bench *b, unsigned n)
{
	while (n-- > 0) {
		spool_tick(b->spool, 0);
		while (b->spool->n_jobs > 0)
			bench_turn(b);
	}
}

static uint64_t record_bytes(const struct message *m)
{
	struct record_extra extra = { 0 };
	struct record_buf head = { 0 };
	struct record_line line = { .body_len = (uint32_t)m->size };

	assert_int_equal(record_encode_head(m, &extra, &head, NULL), 0);
	line.head_len = (uint32_t)head.len;
	record_buf_fini(&head);
	return record_total(&line);
}

static uint64_t live_bytes(struct message **m, unsigned n)
{
	uint64_t bytes = 0;

	for (unsigned i = 0; i < n; i++)
		bytes += m[i] != NULL ? record_bytes(m[i]) : 0;
	return bytes;
}

static bool add_size(void *ctx, const char *name)
{
	const struct bench *b = ((void **)ctx)[0];
	char *path = bench_path(b, "arrivals/%s", name);
	struct stat st;

	assert_int_equal(stat(path, &st), 0);
	*(uint64_t *)((void **)ctx)[1] += (uint64_t)st.st_size;
	free(path);
	return true;
}

static uint64_t disk_bytes(struct bench *b)
{
	uint64_t bytes = 0;
	void *ctx[] = { b, &bytes };

	assert_int_equal(
	    dirs_each(b->spool->dirs.arrivals, add_size, ctx, NULL), 0);
	return bytes;
}

/* What the header promises, for arrivals. */
static void assert_bounded(struct bench *b, struct message **m, unsigned n)
{
	uint64_t live = live_bytes(m, n), disk = disk_bytes(b);

	assert_true(disk >= live);
	assert_true(disk <= 4 * live + SEGMENT + SEGMENT / 4);
}

static void assert_found(struct bench *b, struct message **m, unsigned n)
{
	unsigned alive = 0;

	bench_reopen(b);
	for (unsigned i = 0; i < n; i++) {
		struct known *k;

		if (m[i] == NULL)
			continue;
		alive++;
		k = bench_find(b, m[i]->id);
		assert_non_null(k);
		/* Another process may have taken it: at a time of its own. */
		m[i]->clock_us = k->m->clock_us;
		assert_same_envelope(k->m, m[i]);
		assert_loads(b, k->m->id, k->m->ref, (size_t)m[i]->size);
	}
	assert_int_equal(b->n_found, alive);
}

static void free_all(struct message **m, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		message_free(m[i]);
}

/* One message stays in every segment, then fewer and fewer. */
static void test_stuck_in_every_segment(void **state)
{
	enum { N = 600 };
	static struct message *m[N];
	uint32_t segment = 0;
	struct bench b;

	(void)state;
	open_small(&b, false);
	for (unsigned i = 0; i < N; i++)
		m[i] = make_message(1 + i, 500 + i % 7 * 200, 2);
	commit_all(&b, m, N);
	assert_true(disk_bytes(&b) > 60 * SEGMENT);
	for (unsigned i = 0; i < N; i++) {
		if (m[i]->ref.segment != segment)
			segment = m[i]->ref.segment;
		else
			end(&b, &m[i]);
	}
	tick(&b, 200);
	assert_true(b.n_moved > 0);
	assert_bounded(&b, m, N);
	for (unsigned keep = 2; keep <= 32; keep *= 2) {
		for (unsigned i = 0, k = 0; i < N; i++)
			if (m[i] != NULL && k++ % keep != 0)
				end(&b, &m[i]);
		tick(&b, 100);
		assert_bounded(&b, m, N);
	}
	assert_found(&b, m, N);
	tick(&b, 100);
	assert_bounded(&b, m, N);
	free_all(m, N);
	bench_fini(&b);
}

/* Envelopes may be longer than contents: that is no waste. */
static void test_long_heads_are_no_waste(void **state)
{
	enum { N = 60 };
	struct message *m[N];
	struct bench b;

	(void)state;
	open_small(&b, false);
	for (unsigned i = 0; i < N; i++)
		m[i] = make_message(1 + i, 10, 100);
	commit_all(&b, m, N);
	for (unsigned round = 0; round < 2; round++) {
		tick(&b, 20);
		assert_int_equal(b.n_moved, 0);
		assert_bounded(&b, m, N);
		assert_found(&b, m, N);
	}
	/* And is taken back when they end. */
	for (unsigned i = 0; i < N; i++)
		if (i % 10 != 0)
			end(&b, &m[i]);
	tick(&b, 100);
	assert_bounded(&b, m, N);
	assert_found(&b, m, N);
	free_all(m, N);
	bench_fini(&b);
}

/* When all has ended, nothing of it is kept in memory. */
static void test_nothing_is_kept_of_the_ended(void **state)
{
	enum { N = 100 };
	struct message *m[N];
	struct bench b;

	(void)state;
	open_small(&b, false);
	for (unsigned i = 0; i < N; i++)
		m[i] = make_message(1 + i, 1000, 2);
	commit_all(&b, m, N);
	for (unsigned i = 0; i < N; i++)
		if (i % 10 != 0)
			end(&b, &m[i]);
		else
			bench_settle(&b, m[i], SPOOL_SENT, false,
			    (const uint16_t[]){ 1 }, 1);
	tick(&b, 100);
	assert_true(b.spool->moved.n > 0);
	assert_true(b.spool->states.map.n > 0);
	for (unsigned i = 0; i < N; i += 10)
		end(&b, &m[i]);
	tick(&b, 100);
	assert_int_equal(b.spool->moved.n, 0);
	assert_int_equal(b.spool->states.map.n, 0);
	assert_int_equal(b.spool->ended.n, 0);
	assert_int_equal(b.spool->n_live, 0);
	assert_int_equal(b.spool->arrivals.n, 0);
	bench_fini(&b);
}

/* Our descriptors that lead to a path with that in it. */
static unsigned count_fds(const char *what)
{
	char path[64], to[PATH_MAX];
	unsigned n = 0;

	for (int fd = 0; fd < 200; fd++) {
		ssize_t len;

		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		len = readlink(path, to, sizeof(to) - 1);
		if (len < 0)
			continue;
		to[len] = '\0';
		n += strstr(to, what) != NULL;
	}
	return n;
}

/* Segments that are read stay open: a few, and none that was removed. */
static void test_few_segments_stay_open(void **state)
{
	enum { N = 100 };
	struct message *m[N];
	struct bench b;

	(void)state;
	open_small(&b, false);
	for (unsigned i = 0; i < N; i++)
		m[i] = make_message(1 + i, 1000, 1);
	commit_all(&b, m, N);
	assert_true(b.spool->arrivals.n > 6);
	for (unsigned round = 0; round < 2; round++)
		for (unsigned i = 0; i < N; i++)
			assert_loads(&b, 1 + i, m[i]->ref, 1000);
	/* And the one that is written to. */
	assert_in_range(count_fds("/arrivals/0"), 4, 5);
	for (unsigned i = 0; i < N; i++)
		end(&b, &m[i]);
	tick(&b, 100);
	assert_int_equal(b.spool->arrivals.n, 0);
	assert_int_equal(count_fds("/arrivals/0"), 0);
	bench_fini(&b);
}

static void await_gate(const char *name)
{
	gate.open = gate.waiting = false;
	gate.name = name;
}

static void pass_gate(struct bench *b, const char *name)
{
	time_t end = time(NULL) + 60;

	while (!gate_is_waited_for())
		sched_yield();
	while (count_files(b, "arrivals", name) > 0) {
		assert_true(time(NULL) < end);
		spool_tick(b->spool, 0);
		bench_turn(b);
	}
	gate_open();
}

/* A read is on its way to a segment that compaction removes: it is sent on. */
static void test_load_and_bury_race_with_compaction(void **state)
{
	enum { N = 40 };
	struct spool_letter letter = { .reason = "test" };
	struct answer a;
	struct message *m[N];
	struct bench b;

	(void)state;
	for (unsigned round = 0; round < 2; round++) {
		open_small(&b, false);
		for (unsigned i = 0; i < N; i++)
			m[i] = make_message(1 + i, 1000, 1);
		commit_all(&b, m, N);
		assert_int_equal(m[0]->ref.segment, 1);
		a = (struct answer){ 0 };
		letter.id = m[0]->id;
		letter.ref = m[0]->ref;
		await_gate("000000001");
		if (round == 0)
			spool_load(b.spool, 1, m[0]->ref, on_loaded, &a);
		else
			spool_bury(b.spool, &letter, on_answer, &a);
		for (unsigned i = 1; i < N; i++)
			end(&b, &m[i]);
		pass_gate(&b, "000000001");
		bench_wait(&b, &a);
		assert_int_equal(a.rc, 0);
		if (round == 0)
			assert_int_equal(a.m->body.len, 1000);
		message_free(a.m);
		message_free(m[0]);
		bench_fini(&b);
	}
}

enum { RUN = 18 };

static struct message *run_message(unsigned i)
{
	return make_message(1 + i, i % 6 == 0 ? 500 : 2500, 2);
}

/*
 * A sixth of the messages stays, each in a segment of its own.  The fault comes while segments are compacted
 * and removed; with `crash`, the process ends with it.
 */
static void run_faulty(struct bench *b, struct message **m, unsigned calls,
    int code, bool lasting, int n, bool crash)
{
	open_small(b, true);
	for (unsigned i = 0; i < RUN; i++)
		m[i] = run_message(i);
	commit_all(b, m, RUN);
	for (unsigned i = 0; i < RUN; i++)
		if (i % 6 != 0)
			end(b, &m[i]);
	/* Their outcomes are durable; nothing has been moved yet. */
	bench_reopen(b);
	arm(calls, code, lasting, n);
	for (unsigned i = 0; i < 12 && !(crash && fault.fired); i++)
		tick(b, 1);
}

static void judge(struct bench *b, struct message **m)
{
	assert_found(b, m, RUN);
	tick(b, 80);
	assert_bounded(b, m, RUN);
	assert_found(b, m, RUN);
	free_all(m, RUN);
	bench_fini(b);
}

static void fail_each(unsigned calls, int code, bool lasting, int *n_runs)
{
	bool fired = true;

	for (int n = 1; fired; n++) {
		struct message *m[RUN];
		struct bench b;

		run_faulty(&b, m, calls, code, lasting, n, false);
		fired = fault.fired;
		disarm();
		assert_false(fault.synced_again);
		tick(&b, 80);
		assert_true(b.healthy);
		assert_bounded(&b, m, RUN);
		judge(&b, m);
		++*n_runs;
	}
}

static void test_each_call_fails(void **state)
{
	static const struct {
		unsigned calls;
		int code;
		bool lasting;
	} rows[] = {
		{ ALL_CHANGES | CALL_READ, EIO, false },
		{ ALL_CHANGES, EROFS, true },
		{ CALL_WRITE | CALL_OPEN, ENOSPC, true },
		{ CALL_SYNC, EIO, true },
		{ CALL_OTHER, EIO, true },
	};
	int n_runs = 0;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		fail_each(
		    rows[i].calls, rows[i].code, rows[i].lasting, &n_runs);
	assert_true(n_runs > 60);
}

/* The same, and the process ends there: the next one finds each once. */
static void test_cut_off_at_each_call(void **state)
{
	bool fired = true;

	(void)state;
	for (int n = 1; fired; n++) {
		struct message *m[RUN];
		struct bench b;
		int status;
		pid_t pid;

		bench_init(&b);
		pid = fork();
		assert_true(pid >= 0);
		if (pid == 0) {
			struct bench c;

			run_faulty(&c, m, ALL_CHANGES, EIO, true, n, true);
			if (rename(c.dir, b.dir) < 0)
				_exit(1);
			_exit(fault.fired ? 0 : 2);
		}
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFEXITED(status) && WEXITSTATUS(status) != 1);
		fired = WEXITSTATUS(status) == 0;
		b.options.segment_bytes = SEGMENT;
		for (unsigned i = 0; i < RUN; i++)
			m[i] = i % 6 == 0 ? run_message(i) : NULL;
		judge(&b, m);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_stuck_in_every_segment),
		cmocka_unit_test(test_long_heads_are_no_waste),
		cmocka_unit_test(test_nothing_is_kept_of_the_ended),
		cmocka_unit_test(test_few_segments_stay_open),
		cmocka_unit_test(test_load_and_bury_race_with_compaction),
		cmocka_unit_test(test_each_call_fails),
		cmocka_unit_test(test_cut_off_at_each_call),
	};

	return cmocka_run_group_tests_name("spool_space", tests, NULL, NULL);
}
