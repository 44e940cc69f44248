/*
 * The spool when system calls fail and when the process is killed.
 *
 * The calls that change files are defined here, over those of the C library,
 * and can be told to fail: the n-th one, once or from then on, until a run
 * ends without the fault having fired.
 */
#include "spool_test.h"

#include <signal.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>

enum { CALL_WRITE = 1, CALL_SYNC = 2, CALL_OPEN = 4, CALL_OTHER = 8 };
enum { ALL_CALLS = 15, FDS = 1024 };

static struct fault {
	atomic_uint calls; /* which kinds count; 0: none */
	int code;
	bool lasting;
	atomic_int left; /* until it fires */
	atomic_bool fired;
	atomic_bool full; /* no space but what was reserved */
	atomic_bool synced_again; /* an fd, after it had failed to */
} fault;

static atomic_bool sync_failed[FDS];
static _Atomic off_t reserved[FDS];

/*
 * What a promise depends on: files of arrivals and large that were written to
 * and not synced, directories of them with new entries and not synced.
 */
enum { WATCH_PROMISE = 1, WATCH_OUTCOMES = 2 };
static atomic_int watched[FDS];
static atomic_bool unsynced[FDS];

static int watch_dir(int dirfd)
{
	char link[32], path[256];
	ssize_t n;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", dirfd);
	n = readlink(link, path, sizeof(path) - 1);
	path[n > 0 ? n : 0] = '\0';
	if (strstr(path, "/arrivals") != NULL || strstr(path, "/large") != NULL)
		return WATCH_PROMISE;
	return strstr(path, "/outcomes") != NULL ? WATCH_OUTCOMES : 0;
}

static bool any_unsynced(int kind)
{
	for (int fd = 0; fd < FDS; fd++)
		if (watched[fd] == kind && unsynced[fd])
			return true;
	return false;
}

static void note_open(int dirfd, int fd, int flags)
{
	if (fd < 0)
		return;
	sync_failed[fd % FDS] = false;
	reserved[fd % FDS] = 0;
	unsynced[fd % FDS] = false;
	watched[fd % FDS] = flags & O_CREAT ? watch_dir(dirfd) : 0;
	if (watched[fd % FDS] == 0)
		return;
	watched[dirfd % FDS] = watched[fd % FDS];
	unsynced[dirfd % FDS] = true;
}

static void note_write(int fd)
{
	if (watched[fd % FDS])
		unsynced[fd % FDS] = true;
}

static bool fails(unsigned kind)
{
	if ((fault.calls & kind) == 0)
		return false;
	if (atomic_fetch_sub(&fault.left, 1) > 1)
		return false;
	if (atomic_exchange(&fault.fired, true) && !fault.lasting)
		return false;
	errno = fault.code;
	return true;
}

static bool no_space(int fd, off_t end)
{
	if (!fault.full || end <= reserved[fd % FDS])
		return false;
	errno = ENOSPC;
	return true;
}

ssize_t pwritev(int fd, const struct iovec *iov, int n, off_t offset)
{
	off_t end = offset;

	for (int i = 0; i < n; i++)
		end += (off_t)iov[i].iov_len;
	if (no_space(fd, end))
		return -1;
	/* A write that fails may have done a part of its work. */
	if (fails(CALL_WRITE)) {
		int code = errno;

		syscall(SYS_pwrite64, fd, iov[0].iov_base, iov[0].iov_len / 2,
		    offset);
		errno = code;
		return -1;
	}
	note_write(fd);
	return syscall(SYS_pwritev, fd, iov, n, offset, 0);
}

ssize_t pwrite(int fd, const void *data, size_t len, off_t offset)
{
	if (fails(CALL_WRITE) || no_space(fd, offset + (off_t)len))
		return -1;
	note_write(fd);
	return syscall(SYS_pwrite64, fd, data, len, offset);
}

/* The end of a path, and whether such a file was synced. */
static const char *wanted = "/none";
static atomic_bool wanted_synced;

static void note_sync(int fd)
{
	char link[32], path[256];
	ssize_t n;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, path, sizeof(path) - 1);
	path[n > 0 ? n : 0] = '\0';
	if (n >= (ssize_t)strlen(wanted) &&
	    strcmp(path + n - strlen(wanted), wanted) == 0)
		wanted_synced = true;
}

static int sync_call(int fd, long number)
{
	note_sync(fd);
	if (sync_failed[fd % FDS])
		fault.synced_again = true;
	if (fails(CALL_SYNC)) {
		/* Directories are another matter: nothing is lost there. */
		sync_failed[fd % FDS] = number == SYS_fdatasync;
		return -1;
	}
	unsynced[fd % FDS] = false;
	return (int)syscall(number, fd);
}

int fdatasync(int fd)
{
	return sync_call(fd, SYS_fdatasync);
}

int fsync(int fd)
{
	return sync_call(fd, SYS_fsync);
}

int ftruncate(int fd, off_t len)
{
	if (fails(CALL_OTHER))
		return -1;
	reserved[fd % FDS] = 0;
	return (int)syscall(SYS_ftruncate, fd, len);
}

int fallocate(int fd, int mode, off_t offset, off_t len)
{
	if (fails(CALL_OTHER))
		return -1;
	if (no_space(fd, offset + len))
		return -1;
	if (syscall(SYS_fallocate, fd, mode, offset, len) < 0)
		return -1;
	reserved[fd % FDS] = offset + len;
	return 0;
}

int openat(int dirfd, const char *name, int flags, ...)
{
	mode_t mode = 0;
	va_list ap;
	long fd;

	va_start(ap, flags);
	if (flags & O_CREAT)
		mode = va_arg(ap, mode_t);
	va_end(ap);
	if (fails(CALL_OPEN))
		return -1;
	fd = syscall(SYS_openat, dirfd, name, flags, mode);
	note_open(dirfd, (int)fd, flags);
	return (int)fd;
}

int unlinkat(int dirfd, const char *name, int flags)
{
	return fails(CALL_OTHER)
	    ? -1
	    : (int)syscall(SYS_unlinkat, dirfd, name, flags);
}

int renameat(int from, const char *name, int to, const char *new_name)
{
	return fails(CALL_OTHER)
	    ? -1
	    : (int)syscall(SYS_renameat, from, name, to, new_name);
}

int mkdirat(int dirfd, const char *name, mode_t mode)
{
	return fails(CALL_OTHER) ? -1
				 : (int)syscall(SYS_mkdirat, dirfd, name, mode);
}

static void arm(unsigned calls, int code, bool lasting, int n)
{
	fault.calls = 0;
	fault.code = code;
	fault.lasting = lasting;
	fault.left = n;
	fault.fired = false;
	fault.synced_again = false;
	fault.calls = calls;
}

static void disarm(void)
{
	fault.calls = 0;
}

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
	spool_scan(r->b.spool);
	while (!r->b.scan_done)
		bench_turn(&r->b);
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
		{ CALL_OPEN, EMFILE, false, true },
		{ CALL_OPEN, EIO, true, false },
		{ CALL_OTHER, EIO, false, true },
		{ CALL_OTHER, EIO, true, false },
		{ ALL_CALLS, EIO, false, true },
		/* What cannot be voided may be found: nothing can be said. */
		{ ALL_CALLS, EIO, true, false },
		{ ALL_CALLS, EROFS, true, false },
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
	for (unsigned i = 0; i < 20; i++) {
		struct message *m = make_message(1 + i, 100, 1);

		assert_int_equal(bench_commit(&b, m), 0);
		bench_settle(&b, m, SPOOL_SENT, true, NULL, 0);
		message_free(m);
	}
	bench_close(&b);
	assert_true(count_files(&b, "outcomes", "") > 2);
	id_init(0);
	bench_reopen(&b);
	assert_true(id_last() >= 1000);
	message_free(failed);
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
	arm(ALL_CALLS, EROFS, true, 1);
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

/* A full disk takes no mail, but everything queued can be settled. */
static void test_full_disk(void **state)
{
	struct message *m[50], *more = make_message(100, 9000, 1);
	struct bench b;

	(void)state;
	bench_init(&b);
	b.options.segment_bytes = 8192;
	bench_reopen(&b);
	for (unsigned i = 0; i < 50; i++) {
		m[i] = make_message(1 + i, 1000, 1);
		assert_int_equal(bench_commit(&b, m[i]), 0);
	}
	fault.full = true;
	assert_int_equal(bench_commit(&b, more), -1);
	for (unsigned i = 0; i < 50; i++)
		bench_settle(&b, m[i], SPOOL_SENT, true, NULL, 0);
	spool_tick(b.spool, 0);
	bench_turn(&b);
	assert_true(spool_can_settle(b.spool));
	/* By itself, as soon as there is space. */
	fault.full = false;
	assert_int_equal(bench_commit(&b, more), 0);
	bench_reopen(&b);
	assert_int_equal(b.n_found, 1);
	assert_loads(&b, 100, b.found->m->ref, 9000);
	for (unsigned i = 0; i < 50; i++)
		message_free(m[i]);
	message_free(more);
	bench_fini(&b);
}

/* The kernel's own word for it: a limit on the size of files. */
static void test_file_size_limit(void **state)
{
	struct bench b;
	int status;
	pid_t pid;

	(void)state;
	bench_init(&b);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		struct rlimit limit = { 100000, 100000 };

		setrlimit(RLIMIT_FSIZE, &limit);
		bench_reopen(&b);
		for (unsigned i = 0; i < 20; i++) {
			size_t len = i % 4 == 3 ? 200000 : 30000;
			struct message *m = make_message(1 + i, len, 1);
			int expected = len > 100000 ? -1 : 0;

			/* The last of a file may fail, not the next one. */
			if (bench_commit(&b, m) != expected &&
			    (expected < 0 ||
				(m->id += 100, bench_commit(&b, m)) != 0))
				_exit(1);
		}
		bench_close(&b);
		_exit(b.healthy ? 0 : 2);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	bench_reopen(&b);
	assert_int_equal(b.n_found, 15);
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
		cmocka_unit_test(test_void_ids_are_known),
		cmocka_unit_test(test_outcomes_cannot_be_written),
		cmocka_unit_test(test_full_disk),
		cmocka_unit_test(test_file_size_limit),
		cmocka_unit_test(test_killed_at_any_moment),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests_name("spool_fault", tests, NULL, NULL);
}
