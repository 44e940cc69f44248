/*
 * Lack of space, of i-nodes, of size of a file: mail is refused before harm is
 * done, what is queued can be settled, and all is well within a tick of the
 * end of the lack.
 *
 * On a tmpfs of our own where we may mount one, in a mount namespace; else
 * what is missing there is played by the calls of fault_test.h.
 */
#include "fault_test.h"

#include "base/file.h"
#include "queue/spool_private.h"

#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <sys/wait.h>

static void write_text(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY);

	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		fprintf(stderr, "%s: %s\n", path, strerror(errno));
	if (fd >= 0)
		close(fd);
}

static bool may_mount(void)
{
	uid_t uid = getuid();
	gid_t gid = getgid();
	char map[32];

	if (unshare(CLONE_NEWNS) == 0)
		return true;
	if (unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0)
		return false;
	snprintf(map, sizeof(map), "0 %u 1", (unsigned)uid);
	write_text("/proc/self/uid_map", map);
	write_text("/proc/self/setgroups", "deny");
	snprintf(map, sizeof(map), "0 %u 1", (unsigned)gid);
	write_text("/proc/self/gid_map", map);
	return true;
}

struct tiny {
	struct bench b;
	bool real; /* a file system of our own */
	unsigned n_fillers;
};

/* In a process of its own, as the mount is; what it finds wrong ends it. */
static void on_tiny(const char *size, void (*fn)(struct tiny *t))
{
	struct tiny t = { 0 };
	int status;
	pid_t pid;

	bench_init(&t.b);
	t.b.options.segment_bytes = 65536;
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		t.real = may_mount() &&
		    mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
		    mount("tiny", t.b.dir, "tmpfs", 0, size) == 0 &&
		    chmod(t.b.dir, 0700) == 0;
		fn(&t);
		if (t.b.spool != NULL)
			bench_close(&t.b);
		bench_forget(&t.b);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	bench_fini(&t.b);
}

#define CHECK(cond)                                                            \
	do {                                                                   \
		if (!(cond)) {                                                 \
			fprintf(                                               \
			    stderr, "%s:%d: %s\n", __FILE__, __LINE__, #cond); \
			_exit(1);                                              \
		}                                                              \
	} while (0)

static void take_inodes(struct tiny *t)
{
	int fd = -1;

	if (!t->real) {
		fault.no_inodes = true;
		return;
	}
	do {
		char *path = bench_path(&t->b, "filler-%u", t->n_fillers++);

		if (fd >= 0)
			close(fd);
		fd = open(path, O_WRONLY | O_CREAT, 0600);
		free(path);
	} while (fd >= 0);
}

/* All but about `leave` bytes. */
static void take_space(struct tiny *t, size_t leave)
{
	char *path = bench_path(&t->b, "filler-%u", t->n_fillers++);
	struct statvfs vfs;
	int fd;

	if (!t->real) {
		fault.full = true;
		free(path);
		return;
	}
	fd = open(path, O_WRONLY | O_CREAT, 0600);
	CHECK(fd >= 0 && fstatvfs(fd, &vfs) == 0);
	CHECK(vfs.f_bavail * vfs.f_frsize >= leave);
	CHECK(posix_fallocate(
		  fd, 0, (off_t)(vfs.f_bavail * vfs.f_frsize - leave)) == 0);
	close(fd);
	free(path);
}

static void give_back(struct tiny *t)
{
	fault.no_inodes = fault.full = false;
	while (t->n_fillers > 0) {
		char *path = bench_path(&t->b, "filler-%u", --t->n_fillers);

		unlink(path);
		free(path);
	}
}

/* One tick, with all that it asks for. */
static void tick(struct tiny *t)
{
	spool_tick(t->b.spool, 0);
	while (t->b.spool->n_jobs > 0)
		bench_turn(&t->b);
}

static struct message *commit_new(struct tiny *t, uint64_t id, size_t len)
{
	struct message *m = make_message(id, len, 1);

	CHECK(bench_commit(&t->b, m) == 0);
	return m;
}

static struct err commit_fails(struct tiny *t, uint64_t id, size_t len)
{
	struct message *m = make_message(id, len, 1);
	struct answer a = { 0 };

	spool_commit(t->b.spool, m, NULL, on_answer, &a);
	bench_wait(&t->b, &a);
	CHECK(a.rc < 0);
	message_free(m);
	return a.err;
}

/* What is queued goes out, durably, and is not found any more. */
static void settle_all(struct tiny *t, struct message **m, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		CHECK(spool_can_settle(t->b.spool));
		bench_settle(&t->b, m[i], SPOOL_SENT, true, NULL, 0);
		tick(t);
		message_free(m[i]);
	}
	CHECK(spool_can_settle(t->b.spool));
}

static void no_inodes(struct tiny *t)
{
	struct message *m[10];

	bench_reopen(&t->b);
	for (unsigned i = 0; i < 10; i++)
		m[i] = commit_new(t, 1 + i, 1000);
	tick(t);
	CHECK(spool_refusal(t->b.spool, 1000) == NULL);
	take_inodes(t);
	tick(t);
	CHECK(!t->real || spool_refusal(t->b.spool, 1000) != NULL);
	/* It needs a new segment. */
	while (m[9] != NULL && m[9]->ref.segment == m[0]->ref.segment) {
		struct message *more = make_message(m[9]->id + 1, 30000, 1);
		int rc = bench_commit(&t->b, more);

		bench_settle(&t->b, m[9], SPOOL_SENT, true, NULL, 0);
		message_free(m[9]);
		m[9] = rc == 0 ? more : NULL;
		if (rc < 0)
			message_free(more);
	}
	CHECK(m[9] == NULL);
	CHECK(file_no_space(commit_fails(t, 100, 1000).code));
	CHECK(t->b.healthy);
	settle_all(t, m, 9);
	give_back(t);
	tick(t);
	CHECK(spool_refusal(t->b.spool, 1000) == NULL);
	message_free(commit_new(t, 101, 1000));
	bench_reopen(&t->b);
	CHECK(t->b.n_found == 1);
}

static void test_no_inodes(void **state)
{
	(void)state;
	on_tiny("size=16m,nr_inodes=20", no_inodes);
}

/* Some give all that they have before they say that it is not enough. */
static void not_more_than_there_is(struct tiny *t)
{
	t->b.options.segment_bytes = 0;
	bench_reopen(&t->b);
	message_free(commit_new(t, 1, 1000));
	CHECK(!t->real || fault.asked <= 8 << 20);
}

static void test_preallocation(void **state)
{
	(void)state;
	on_tiny("size=8m", not_more_than_there_is);
}

/* A file system may be small and have few i-nodes, and work. */
static void few_inodes(struct tiny *t)
{
	bench_reopen(&t->b);
	tick(t);
	CHECK(spool_refusal(t->b.spool, 1000) == NULL);
	message_free(commit_new(t, 1, 1000));
	tick(t);
	CHECK(spool_refusal(t->b.spool, 1000) == NULL);
}

static void test_few_inodes(void **state)
{
	(void)state;
	on_tiny("size=16m,nr_inodes=20", few_inodes);
}

static void no_space_left(struct tiny *t)
{
	struct message *m[10];

	bench_reopen(&t->b);
	for (unsigned i = 0; i < 10; i++)
		m[i] = commit_new(t, 1 + i, 1000);
	take_space(t, 0);
	tick(t);
	CHECK(!t->real || spool_refusal(t->b.spool, 1000) != NULL);
	CHECK(file_no_space(commit_fails(t, 100, 200000).code));
	CHECK(t->b.healthy);
	settle_all(t, m, 10);
	give_back(t);
	tick(t);
	CHECK(spool_refusal(t->b.spool, 1000) == NULL);
	message_free(commit_new(t, 101, 200000));
	bench_reopen(&t->b);
	CHECK(t->b.n_found == 1);
}

static void test_no_space(void **state)
{
	(void)state;
	on_tiny("size=8m", no_space_left);
}

/* A start with little space: no mail is taken, what is queued goes out. */
static void little_space_at_start(struct tiny *t)
{
	struct message *m[10];

	bench_reopen(&t->b);
	for (unsigned i = 0; i < 10; i++)
		m[i] = commit_new(t, 1 + i, 1000);
	bench_close(&t->b);
	take_space(t, 100000);
	fault.full = false;
	bench_reopen(&t->b);
	CHECK(t->b.healthy && t->b.n_found == 10);
	if (t->real)
		CHECK(file_no_space(commit_fails(t, 100, 1000).code));
	settle_all(t, m, 10);
	give_back(t);
	message_free(commit_new(t, 101, 1000));
	bench_reopen(&t->b);
	CHECK(t->b.n_found == 1);
}

/* And with next to none: nothing is sent that could not be marked. */
static void full_at_start(struct tiny *t)
{
	bench_reopen(&t->b);
	message_free(commit_new(t, 1, 1000));
	bench_close(&t->b);
	/* Enough to begin a segment, not for what it would have to hold. */
	take_space(t, 8192);
	bench_reopen(&t->b);
	CHECK(t->b.n_found == 1);
	CHECK(!t->b.healthy && !spool_can_settle(t->b.spool));
	tick(t);
	CHECK(!spool_can_settle(t->b.spool));
	give_back(t);
	tick(t);
	CHECK(t->b.healthy && spool_can_settle(t->b.spool));
	message_free(commit_new(t, 101, 1000));
}

static void test_no_space_at_start(void **state)
{
	(void)state;
	on_tiny("size=8m", little_space_at_start);
	on_tiny("size=8m", full_at_start);
}

/*
 * Little space, and what there is was not reserved for all: delivery stops
 * before there is no room for a line, not when SES has the message already.
 */
static void settle_until_it_stops(struct tiny *t)
{
	int n;

	bench_reopen(&t->b);
	for (n = 0; spool_can_settle(t->b.spool) && n < 250; n++) {
		bench_settle(&t->b, bench_find(&t->b, 1 + (uint64_t)n)->m,
		    SPOOL_SENT, true, NULL, 0);
		bench_turn(&t->b);
	}
	/* As if it were killed. */
	_exit(n);
}

static void room_runs_out(struct tiny *t)
{
	int status, n;
	pid_t pid;

	bench_reopen(&t->b);
	for (uint64_t id = 1; id <= 250; id++)
		message_free(commit_new(t, id, 10));
	bench_close(&t->b);
	take_space(t, 40000);
	fault.full = false;
	pid = fork();
	CHECK(pid >= 0);
	if (pid == 0)
		settle_until_it_stops(t);
	CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status));
	n = WEXITSTATUS(status);
	CHECK(!t->real || (n > 60 && n < 250));
	/* All that was sent is marked. */
	give_back(t);
	bench_reopen(&t->b);
	CHECK(t->b.n_found == 250 - (unsigned)n);
}

static void test_room_runs_out(void **state)
{
	(void)state;
	on_tiny("size=8m", room_runs_out);
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_no_inodes),
		cmocka_unit_test(test_few_inodes),
		cmocka_unit_test(test_preallocation),
		cmocka_unit_test(test_no_space),
		cmocka_unit_test(test_no_space_at_start),
		cmocka_unit_test(test_room_runs_out),
		cmocka_unit_test(test_full_disk),
		cmocka_unit_test(test_file_size_limit),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests_name("spool_lack", tests, NULL, NULL);
}
