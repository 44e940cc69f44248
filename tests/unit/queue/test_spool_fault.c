/*
 * The spool when system calls fail (fault_test.h) and when the process is
 * killed: the n-th call fails, once or from then on, until a run ends without
 * the fault having fired.
 */
#include "fault_test.h"

#include <signal.h>
#include <sys/wait.h>

/* --- order --- */

static void test_synced_before_answered(void **state)
{
	struct bench b;

	(void)state;
	bench_init(&b);
	b.options.segment_bytes = 20000;
	bench_reopen(&b);
	for (unsigned i = 0; i < 100; i++) {
		struct message *m = make_message(1 + i, 2000, 1);
		struct spool_large *l = NULL;
		struct answer a = { 0 };

		if (i % 5 == 0) {
			l = spool_large_new(b.spool, m->id);
			spool_large_append(l, &m->body, on_answer, &a);
			bench_wait(&b, &a);
			a = (struct answer){ 0 };
		}
		spool_commit(b.spool, m, l, on_answer, &a);
		bench_wait(&b, &a);
		assert_int_equal(a.rc, 0);
		assert_false(any_unsynced(WATCH_PROMISE));
		message_free(m);
	}
	bench_fini(&b);
}

static bool outcomes_synced(struct bench *b)
{
	(void)b;
	return !any_unsynced(WATCH_OUTCOMES);
}

/* A tick makes outcomes durable, and so does the end. */
static void test_outcomes_are_synced(void **state)
{
	struct message *m[2];
	struct bench b;

	(void)state;
	bench_init(&b);
	bench_reopen(&b);
	for (unsigned i = 0; i < 2; i++) {
		m[i] = make_message(1 + i, 100, 1);
		assert_int_equal(bench_commit(&b, m[i]), 0);
	}
	bench_settle(&b, m[0], SPOOL_SENT, true, NULL, 0);
	while (!any_unsynced(WATCH_OUTCOMES))
		bench_turn(&b);
	bench_tick_until(&b, outcomes_synced);
	bench_settle(&b, m[1], SPOOL_SENT, true, NULL, 0);
	bench_close(&b);
	assert_true(outcomes_synced(&b));
	for (unsigned i = 0; i < 2; i++)
		message_free(m[i]);
	bench_fini(&b);
}

/*
 * Lines that a killed process left in the page cache are taken for true, so
 * they have to last from then on.
 */
static void test_found_outcomes_are_synced(void **state)
{
	struct message *m = make_message(1, 100, 1);
	struct bench b;

	(void)state;
	bench_init(&b);
	bench_reopen(&b);
	assert_int_equal(bench_commit(&b, m), 0);
	bench_settle(&b, m, SPOOL_SENT, true, NULL, 0);
	bench_close(&b);
	wanted = "/outcomes/000000001";
	wanted_synced = false;
	bench_reopen(&b);
	assert_true(wanted_synced);
	/* Or not at all: a spool in memory. */
	wanted_synced = false;
	b.options.durable = false;
	bench_reopen(&b);
	assert_false(wanted_synced);
	wanted = "/none";
	message_free(m);
	bench_fini(&b);
}

static bool outcomes_removed(struct bench *b)
{
	return count_files(b, "outcomes", "000000001") == 0;
}

/*
 * Outcomes go when the arrivals that needed them are durably gone, and those
 * may have been removed by a process that did not live to sync that.
 */
static void test_removals_found_are_synced(void **state)
{
	struct bench b;

	(void)state;
	bench_init(&b);
	for (unsigned i = 0; i < 64; i++)
		bench_reopen(&b);
	bench_close(&b);
	wanted = "/arrivals";
	wanted_synced = false;
	bench_reopen(&b);
	bench_tick_until(&b, outcomes_removed);
	assert_true(wanted_synced);
	wanted = "/none";
	bench_fini(&b);
}

/* --- every n-th call --- */

enum { RUN_MESSAGES = 8, LARGE_ID = 5 };

struct run {
	struct bench b;
	struct message *m[RUN_MESSAGES];
	bool acked[RUN_MESSAGES], failed[RUN_MESSAGES], settled[RUN_MESSAGES];
};

static void on_large_appended(void *ctx, int rc, const struct err *err)
{
	on_answer(ctx, rc, err);
}

static int commit_large(struct run *r, struct message *m)
{
	struct spool_large *l = spool_large_new(r->b.spool, m->id);
	struct answer a = { 0 };

	spool_large_append(l, &m->body, on_large_appended, &a);
	bench_wait(&r->b, &a);
	if (a.rc < 0) {
		spool_large_drop(l);
		return -1;
	}
	a = (struct answer){ 0 };
	spool_commit(r->b.spool, m, l, on_answer, &a);
	bench_wait(&r->b, &a);
	return a.rc;
}

static void run_commit(struct run *r, unsigned i)
{
	struct message *m = make_message(1 + i, 3000, 2);

	r->m[i] = m;
	if (m->id == LARGE_ID)
		r->acked[i] = commit_large(r, m) == 0;
	else
		r->acked[i] = bench_commit(&r->b, m) == 0;
	r->failed[i] = !r->acked[i];
}

static void run_settle(struct run *r, unsigned i)
{
	if (!r->acked[i] || !spool_can_settle(r->b.spool))
		return;
	bench_settle(&r->b, r->m[i], SPOOL_SENT, true, NULL, 0);
	r->settled[i] = true;
}

static void run_tick(struct run *r)
{
	spool_tick(r->b.spool, 0);
	bench_turn(&r->b);
}

static void run_bury(struct run *r, unsigned i)
{
	struct spool_letter letter = {
		.id = r->m[i]->id, .ref = r->m[i]->ref, .reason = "test"
	};
	struct answer a = { 0 };

	if (!r->acked[i])
		return;
	spool_bury(r->b.spool, &letter, on_answer, &a);
	bench_wait(&r->b, &a);
	if (a.rc == 0)
		run_settle(r, i);
}

/* A short life of a spool.  Segments hold two or three messages. */
static void run_life(struct run *r)
{
	struct err err;

	r->b.port = work_port_new();
	r->b.spool =
	    spool_open(&r->b.options, r->b.port, &bench_events, &r->b, &err);
	if (r->b.spool == NULL) {
		work_port_free(r->b.port);
		r->b.port = NULL;
		return;
	}
	bench_scan(&r->b);
	for (unsigned i = 0; i < 5; i++)
		run_commit(r, i);
	run_settle(r, 0);
	run_settle(r, 4);
	run_tick(r);
	run_bury(r, 1);
	run_commit(r, 5);
	run_tick(r);
	run_settle(r, 5);
	run_tick(r);
	run_commit(r, 6);
	run_tick(r);
	run_commit(r, 7);
	bench_close(&r->b);
}

/* Faults are over: what does the next process find? */
static void run_judge(struct run *r, bool strict)
{
	bench_reopen(&r->b);
	for (unsigned i = 0; i < RUN_MESSAGES; i++) {
		struct known *k = bench_find(&r->b, 1 + i);

		if (r->acked[i] && !r->settled[i]) {
			assert_non_null(k);
			assert_same_envelope(k->m, r->m[i]);
			if (i + 1 != LARGE_ID)
				assert_loads(&r->b, k->m->id, k->m->ref, 3000);
		}
		if (strict && (r->failed[i] || r->settled[i]))
			assert_null(k);
	}
	/* Letters have their names when they are whole. */
	assert_int_equal(count_files(&r->b, "failed", "."), 0);
}

static void fail_every_call(
    unsigned calls, int code, bool lasting, bool strict, int *n_runs)
{
	for (int n = 1;; n++) {
		struct run r = { 0 };
		bool fired;

		bench_init(&r.b);
		r.b.options.segment_bytes = 8192;
		arm(calls, code, lasting, n);
		run_life(&r);
		disarm();
		fired = fault.fired;
		assert_false(fault.synced_again);
		run_judge(&r, strict);
		for (unsigned i = 0; i < RUN_MESSAGES; i++) {
			/* Without a fault everything works. */
			assert_true(fired || r.acked[i]);
			message_free(r.m[i]);
		}
		bench_fini(&r.b);
		++*n_runs;
		if (!fired)
			return;
	}
}

static void test_each_call_fails(void **state)
{
	static const struct {
		unsigned calls;
		int code;
		bool lasting, strict;
	} rows[] = {
		{ CALL_SYNC, EIO, false, true },
		{ CALL_SYNC, EIO, true, true },
		{ CALL_WRITE, EIO, false, true },
		{ CALL_WRITE, ENOSPC, false, true },
		{ CALL_WRITE, ENOSPC, true, false },
		{ CALL_WRITE, EDQUOT, false, true },
		{ CALL_OPEN, EMFILE, false, true },
		{ CALL_OPEN, ENOSPC, false, true },
		{ CALL_READ, EIO, false, true },
		{ CALL_OTHER, ENOSPC, false, true },
		{ CALL_OPEN, EIO, true, false },
		{ CALL_OTHER, EIO, false, true },
		{ CALL_OTHER, EIO, true, false },
		{ ALL_CHANGES, EIO, false, true },
		/* What cannot be voided may be found: nothing can be said. */
		{ ALL_CHANGES, EIO, true, false },
		{ ALL_CHANGES, EROFS, true, false },
	};
	int n_runs = 0;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		fail_every_call(rows[i].calls, rows[i].code, rows[i].lasting,
		    rows[i].strict, &n_runs);
	/* The faults did reach the code: there are many calls. */
	assert_true(n_runs > 200);
}

/* --- health --- */

static bool is_healthy(struct bench *b)
{
	return b->healthy;
}

static void test_failed_sync_and_recovery(void **state)
{
	struct message *m[3];
	struct answer a = { 0 };
	struct bench b;

	(void)state;
	bench_init(&b);
	bench_reopen(&b);
	for (unsigned i = 0; i < 3; i++)
		m[i] = make_message(1 + i, 100, 1);
	assert_int_equal(bench_commit(&b, m[0]), 0);
	arm(CALL_SYNC, EIO, false, 1);
	spool_commit(b.spool, m[1], NULL, on_answer, &a);
	bench_wait(&b, &a);
	disarm();
	assert_int_equal(a.rc, -1);
	assert_int_equal(a.err.code, EIO);
	assert_false(b.healthy);
	assert_true(spool_can_settle(b.spool));
	assert_non_null(spool_refusal(b.spool, 0));
	/* Refused without a try, whoever comes. */
	assert_int_equal(bench_commit(&b, m[2]), -1);
	bench_tick_until(&b, is_healthy);
	assert_null(spool_refusal(b.spool, 0));
	assert_int_equal(bench_commit(&b, m[2]), 0);
	/* The void one stays void; its id is not taken again. */
	assert_int_equal(bench_commit(&b, m[1]), -1);
	bench_reopen(&b);
	assert_int_equal(b.n_found, 2);
	assert_null(bench_find(&b, 2));
	for (unsigned i = 0; i < 3; i++)
		message_free(m[i]);
	bench_fini(&b);
}

static void test_outcomes_cannot_be_written(void **state)
{
	struct message *m[2];
	struct bench b;

	(void)state;
	bench_init(&b);
	bench_reopen(&b);
	for (unsigned i = 0; i < 2; i++) {
		m[i] = make_message(1 + i, 100, 1);
		assert_int_equal(bench_commit(&b, m[i]), 0);
	}
	arm(ALL_CHANGES, EROFS, true, 1);
	bench_settle(&b, m[0], SPOOL_SENT, true, NULL, 0);
	while (b.healthy)
		bench_turn(&b);
	assert_false(spool_can_settle(b.spool));
	for (unsigned i = 0; i < 3; i++) {
		spool_tick(b.spool, 0);
		bench_turn(&b);
		assert_false(b.healthy);
	}
	/* What came while nothing could be written is not forgotten. */
	bench_settle(&b, m[1], SPOOL_SENT, true, NULL, 0);
	disarm();
	bench_tick_until(&b, is_healthy);
	assert_true(spool_can_settle(b.spool));
	bench_reopen(&b);
	assert_int_equal(b.n_found, 0);
	for (unsigned i = 0; i < 2; i++)
		message_free(m[i]);
	bench_fini(&b);
}

/*
 * A void id is not given again either when the clock is behind it at the next
 * start and the line that made it void is not in the newest file.
 */
static void test_void_ids_are_known(void **state)
{
	struct message *failed = make_message(1000, 100, 1);
	struct bench b;

	(void)state;
	bench_init(&b);
	b.options.segment_bytes = 4096;
	bench_reopen(&b);
	arm(CALL_SYNC, EIO, false, 2);
	assert_int_equal(bench_commit(&b, failed), -1);
	disarm();
	bench_tick_until(&b, is_healthy);
	/* How many lines a file takes depends on how they come together. */
	for (unsigned i = 1; count_files(&b, "outcomes", "") <= 3; i++) {
		struct message *m = make_message(i, 100, 1);

		assert_true(i < 500);
		assert_int_equal(bench_commit(&b, m), 0);
		bench_settle(&b, m, SPOOL_SENT, true, NULL, 0);
		message_free(m);
	}
	bench_close(&b);
	id_init(0);
	bench_reopen(&b);
	assert_true(id_last() >= 1000);
	message_free(failed);
	bench_fini(&b);
}

/* No new segment can be made: that is told, and tried again. */
static void test_segment_cannot_be_made(void **state)
{
	struct message *m = make_message(1, 100, 1);
	struct bench b;

	(void)state;
	bench_init(&b);
	bench_reopen(&b);
	arm(CALL_OPEN, EIO, false, 1);
	assert_int_equal(bench_commit(&b, m), -1);
	assert_true(fault.fired);
	assert_false(b.healthy);
	assert_true(spool_can_settle(b.spool));
	assert_non_null(spool_refusal(b.spool, 0));
	/* Not even tried before a probe went well. */
	assert_int_equal(bench_commit(&b, m), -1);
	disarm();
	bench_tick_until(&b, is_healthy);
	assert_int_equal(bench_commit(&b, m), 0);
	/* For want of a descriptor nothing is ill: the next one may find one. */
	bench_reopen(&b);
	b.n_health = 0;
	m->id = 2;
	arm(CALL_OPEN, EMFILE, false, 1);
	assert_int_equal(bench_commit(&b, m), -1);
	assert_true(fault.fired);
	assert_null(spool_refusal(b.spool, 0));
	assert_int_equal(bench_commit(&b, m), 0);
	assert_int_equal(b.n_health, 0);
	disarm();
	message_free(m);
	bench_fini(&b);
}

/*
 * A sync fails, nothing works any more, and the process is killed before it can
 * say that the message is void: the segment was cut off before that.
 */
static void test_failed_sync_is_cut_off(void **state)
{
	struct message *m[2];
	char *path, *lost;
	struct bench b;
	int status;
	pid_t pid;

	(void)state;
	bench_init(&b);
	for (unsigned i = 0; i < 2; i++)
		m[i] = make_message(1 + i, 100, 1);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		bench_reopen(&b);
		if (bench_commit(&b, m[0]) < 0)
			_exit(1);
		arm(CALL_SYNC | CALL_OPEN, EIO, true, 1);
		if (bench_commit(&b, m[1]) == 0 || spool_can_settle(b.spool))
			_exit(2);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	/* What it wrote of outcomes was never on the disk. */
	path = bench_path(&b, "outcomes");
	lost = bench_path(&b, "lost");
	assert_int_equal(rename(path, lost), 0);
	free(path);
	free(lost);
	bench_reopen(&b);
	assert_non_null(bench_find(&b, 1));
	assert_null(bench_find(&b, 2));
	for (unsigned i = 0; i < 2; i++)
		message_free(m[i]);
	bench_fini(&b);
}

static int bury_for(
    struct bench *b, const struct message *m, const char *reason)
{
	struct spool_letter letter = {
		.id = m->id, .ref = m->ref, .reason = reason
	};
	struct answer a = { 0 };

	spool_bury(b->spool, &letter, on_answer, &a);
	bench_wait(b, &a);
	return a.rc;
}

static int bury(struct bench *b, const struct message *m)
{
	return bury_for(b, m, "test");
}

/* Whatever cannot be read: a second letter never takes the first one's name. */
static void test_letter_is_not_replaced(void **state)
{
	struct message *m = make_message(1, 100, 1);
	char *path, *second, text[4096];
	struct bench b;
	ssize_t len;
	int fd;

	(void)state;
	bench_init(&b);
	bench_reopen(&b);
	assert_int_equal(bench_commit(&b, m), 0);
	assert_int_equal(bury_for(&b, m, "the first"), 0);
	path = bench_path(&b, "failed/0000000000000001.eml");
	second = bench_path(&b, "failed/0000000000000001.2.eml");
	for (int n = 1; n == 1 || fault.fired; n++) {
		arm(CALL_READ, EIO, false, n);
		(void)!bury_for(&b, m, "a later one");
		fault.calls = 0;
		fd = open(path, O_RDONLY);
		assert_true(fd >= 0);
		len = pread(fd, text, sizeof(text) - 1, 0);
		close(fd);
		assert_true(len > 0);
		text[len] = '\0';
		assert_non_null(strstr(text, "the first"));
		unlink(second);
		assert_true(n < 200);
	}
	disarm();
	free(path);
	free(second);
	message_free(m);
	bench_fini(&b);
}

/* The outcome that follows a letter relies on it, and on its name. */
static void test_letters_are_synced(void **state)
{
	struct message *m = make_message(1, 5000, 1);
	struct bench b;

	(void)state;
	bench_init(&b);
	bench_reopen(&b);
	assert_int_equal(bench_commit(&b, m), 0);
	/* The name cannot be made durable: then it is not there. */
	arm(CALL_SYNC, EIO, false, 2);
	assert_int_equal(bury(&b, m), -1);
	assert_true(fault.fired);
	assert_int_equal(count_files(&b, "failed", ""), 0);
	disarm();
	assert_int_equal(bury(&b, m), 0);
	assert_false(any_unsynced(WATCH_FAILED));
	assert_int_equal(count_files(&b, "failed", ""), 1);
	message_free(m);
	bench_fini(&b);
}

/* Calls that do a part of their work, and calls that are interrupted. */
static void test_short_and_interrupted(void **state)
{
	struct run r = { 0 };

	(void)state;
	bench_init(&r.b);
	r.b.options.segment_bytes = 8192;
	fault.trickle = true;
	run_life(&r);
	assert_true(r.b.healthy);
	for (unsigned i = 0; i < RUN_MESSAGES; i++)
		assert_true(r.acked[i]);
	assert_int_equal(count_files(&r.b, "failed", "0"), 1);
	run_judge(&r, true);
	fault.trickle = false;
	for (unsigned i = 0; i < RUN_MESSAGES; i++)
		message_free(r.m[i]);
	bench_fini(&r.b);
}

/* A message that cannot be read now may be read later; nothing else suffers. */
static void test_read_fails(void **state)
{
	struct message *m[2];
	struct bench b;
	struct err err;

	(void)state;
	bench_init(&b);
	bench_reopen(&b);
	for (unsigned i = 0; i < 2; i++) {
		m[i] = make_message(1 + i, 100, 1);
		assert_int_equal(bench_commit(&b, m[i]), 0);
	}
	arm(CALL_OPEN, EMFILE, false, 1);
	assert_null(bench_load(&b, 1, m[0]->ref, &err));
	assert_int_equal(err.code, EMFILE);
	disarm();
	/* From a new descriptor, and from one that is kept and a new one. */
	for (unsigned i = 0; i < 3; i++) {
		arm(CALL_READ, EIO, true, 1);
		assert_null(bench_load(&b, 1, m[0]->ref, &err));
		assert_int_equal(err.code, EIO);
		disarm();
		if (i > 0)
			assert_loads(&b, 1, m[0]->ref, 100);
	}
	/* What the first read did not give is read by itself. */
	arm(CALL_READ, EIO, false, 1);
	assert_loads(&b, 1, m[0]->ref, 100);
	disarm();
	assert_int_equal(count_files(&b, "failed", ""), 0);
	assert_true(b.healthy);
	assert_loads(&b, 1, m[0]->ref, 100);
	assert_loads(&b, 2, m[1]->ref, 100);
	for (unsigned i = 0; i < 2; i++)
		message_free(m[i]);
	bench_fini(&b);
}

/*
 * The file system was made read-only, and we start on it: what is queued is
 * found, but nothing may be sent, as it could not be marked.
 */
static void test_read_only_at_start(void **state)
{
	struct message *m[3];
	struct bench b;

	(void)state;
	bench_init(&b);
	bench_reopen(&b);
	for (unsigned i = 0; i < 3; i++)
		m[i] = make_message(1 + i, 100, 1);
	assert_int_equal(bench_commit(&b, m[0]), 0);
	assert_int_equal(bench_commit(&b, m[1]), 0);
	bench_close(&b);
	fault.read_only = true;
	bench_reopen(&b);
	assert_int_equal(b.n_found, 2);
	assert_false(bench_find(&b, 1)->held);
	assert_false(b.healthy);
	assert_false(spool_can_settle(b.spool));
	assert_non_null(spool_refusal(b.spool, 0));
	assert_int_equal(bench_commit(&b, m[2]), -1);
	assert_int_equal(count_files(&b, "outcomes", ""), 1);
	fault.read_only = false;
	bench_tick_until(&b, is_healthy);
	assert_true(spool_can_settle(b.spool));
	m[2]->id = 4;
	assert_int_equal(bench_commit(&b, m[2]), 0);
	bench_settle(&b, bench_find(&b, 1)->m, SPOOL_SENT, true, NULL, 0);
	bench_reopen(&b);
	assert_int_equal(b.n_found, 2);
	assert_null(bench_find(&b, 1));
	for (unsigned i = 0; i < 3; i++)
		message_free(m[i]);
	bench_fini(&b);
}

/* For want of a descriptor the queue must not look empty, or uncertain. */
static void test_scan_tries_again(void **state)
{
	static const int codes[] = { EMFILE, EIO };
	struct message *m[20];
	struct bench b;

	(void)state;
	bench_init(&b);
	b.options.segment_bytes = 8192;
	bench_reopen(&b);
	for (unsigned i = 0; i < 20; i++) {
		m[i] = make_message(1 + i, 3000, 1);
		assert_int_equal(bench_commit(&b, m[i]), 0);
	}
	bench_settle(&b, m[0], SPOOL_SENT, true, NULL, 0);
	for (int n = 1; n <= 6; n++) {
		bench_close(&b);
		bench_open(&b);
		arm(CALL_OPEN, codes[n % 2], false, n);
		bench_scan(&b);
		assert_true(fault.fired);
		disarm();
		assert_int_equal(b.n_found, 19);
		assert_null(bench_find(&b, 1));
		for (struct known *k = b.found; k != NULL; k = k->next)
			assert_false(k->held);
		assert_int_equal(b.n_trouble, 0);
	}
	/* And it can be closed while it waits. */
	bench_close(&b);
	bench_open(&b);
	arm(CALL_OPEN, EIO, true, 3);
	spool_scan(b.spool);
	while (!fault.fired)
		bench_turn(&b);
	bench_glance(&b);
	bench_close(&b);
	disarm();
	for (unsigned i = 0; i < 20; i++)
		message_free(m[i]);
	bench_fini(&b);
}

/* --- kill -9 --- */

enum { KILLS = 40, WINDOW = 50 };

struct note {
	uint64_t id;
	char what; /* 'a' acknowledged, 's' about to be settled */
};

struct load {
	struct bench b;
	int fd;
	struct message *m[WINDOW];
	bool busy[WINDOW];
	uint64_t next_id;
};

struct slot {
	struct load *load;
	unsigned i;
};

static void tell(struct load *load, uint64_t id, char what)
{
	struct note note = { .id = id, .what = what };

	if (write(load->fd, &note, sizeof(note)) != sizeof(note))
		_exit(3);
}

static void on_load_commit(void *ctx, int rc, const struct err *err)
{
	struct slot *slot = ctx;
	struct load *load = slot->load;
	struct message *m = load->m[slot->i];

	(void)err;
	if (rc < 0)
		_exit(4);
	tell(load, m->id, 'a');
	if (m->id % 3 != 0) {
		tell(load, m->id, 's');
		bench_settle(&load->b, m, SPOOL_SENT, true, NULL, 0);
	}
	message_free(m);
	load->m[slot->i] = NULL;
}

/* Commits and settles until it is killed. */
static void load_main(struct load *load)
{
	struct slot slots[WINDOW];

	bench_reopen(&load->b);
	for (unsigned turn = 0;; turn++) {
		for (unsigned i = 0; i < WINDOW; i++) {
			if (load->m[i] != NULL)
				continue;
			slots[i] = (struct slot){ load, i };
			load->m[i] =
			    make_message(load->next_id++, 100 + i * 100, 2);
			spool_commit(load->b.spool, load->m[i], NULL,
			    on_load_commit, &slots[i]);
		}
		bench_turn(&load->b);
		if (turn % 5 == 0)
			spool_tick(load->b.spool, 0);
	}
}

/* Reads notes until there were n of them, kills, and reads the rest. */
static void watch(int fd, pid_t pid, unsigned n, char *what, uint64_t n_ids)
{
	struct note note;
	int status;

	for (unsigned i = 0; read(fd, &note, sizeof(note)) == sizeof(note);
	     i++) {
		assert_true(note.id < n_ids);
		what[note.id] = note.what;
		if (i == n)
			kill(pid, SIGKILL);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static void test_killed_at_any_moment(void **state)
{
	enum { IDS = 200000 };
	char *what = xcalloc(IDS, 1);
	struct load load = { .next_id = 1 };
	unsigned n_acked = 0;
	uint64_t x = 99;

	(void)state;
	bench_init(&load.b);
	load.b.options.segment_bytes = 100000;
	for (unsigned round = 0; round < KILLS; round++) {
		int fds[2];
		pid_t pid;

		assert_int_equal(pipe(fds), 0);
		pid = fork();
		assert_true(pid >= 0);
		if (pid == 0) {
			close(fds[0]);
			load.fd = fds[1];
			load_main(&load);
		}
		close(fds[1]);
		x = x * 6364136223846793005u + 1442695040888963407u;
		watch(fds[0], pid, (unsigned)(x >> 40) % 1000, what, IDS);
		close(fds[0]);
		bench_reopen(&load.b);
		for (uint64_t id = 1; id < IDS; id++) {
			struct known *k;

			if (what[id] != 'a')
				continue;
			n_acked++;
			k = bench_find(&load.b, id);
			assert_non_null(k);
			/* Its work is done: it makes room for others. */
			assert_loads(&load.b, id, k->m->ref, k->m->size);
			bench_settle(&load.b, k->m, SPOOL_SENT, true, NULL, 0);
			what[id] = 's';
		}
		bench_close(&load.b);
		load.next_id += 5000;
	}
	/* It was a test of something. */
	assert_true(n_acked > KILLS);
	free(what);
	bench_fini(&load.b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_synced_before_answered),
		cmocka_unit_test(test_outcomes_are_synced),
		cmocka_unit_test(test_found_outcomes_are_synced),
		cmocka_unit_test(test_removals_found_are_synced),
		cmocka_unit_test(test_each_call_fails),
		cmocka_unit_test(test_failed_sync_and_recovery),
		cmocka_unit_test(test_outcomes_cannot_be_written),
		cmocka_unit_test(test_void_ids_are_known),
		cmocka_unit_test(test_segment_cannot_be_made),
		cmocka_unit_test(test_failed_sync_is_cut_off),
		cmocka_unit_test(test_letters_are_synced),
		cmocka_unit_test(test_letter_is_not_replaced),
		cmocka_unit_test(test_short_and_interrupted),
		cmocka_unit_test(test_read_fails),
		cmocka_unit_test(test_read_only_at_start),
		cmocka_unit_test(test_scan_tries_again),
		cmocka_unit_test(test_killed_at_any_moment),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests_name("spool_fault", tests, NULL, NULL);
}
