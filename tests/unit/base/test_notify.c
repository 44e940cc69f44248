/*
 * The service manager's side of the two protocols, played by sockets of ours.
 * What is passed in is looked at in a child, where 3, 4 and 5 are free to use.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/notify.h"
#include "child.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>

struct manager {
	int fd;
	char dir[64];
	struct sockaddr_un addr;
};

/* Listens on a path, or on a name that the kernel picks when !path. */
static void manager_start(struct manager *m, bool path)
{
	socklen_t len = sizeof(sa_family_t);
	char env[sizeof(m->addr.sun_path) + 1] = "";

	m->addr = (struct sockaddr_un){ .sun_family = AF_UNIX };
	strcpy(m->dir, "/tmp/test_notify.XXXXXX");
	assert_non_null(mkdtemp(m->dir));
	m->fd = socket(AF_UNIX, SOCK_DGRAM, 0);
	if (path) {
		snprintf(
		    m->addr.sun_path, sizeof(m->addr.sun_path), "%s/s", m->dir);
		len = sizeof(m->addr);
	}
	assert_int_equal(
	    bind(m->fd, (const struct sockaddr *)&m->addr, len), 0);
	len = sizeof(m->addr);
	getsockname(m->fd, (struct sockaddr *)&m->addr, &len);
	memcpy(env, m->addr.sun_path,
	    path ? strlen(m->addr.sun_path)
		 : len - offsetof(struct sockaddr_un, sun_path));
	if (!path)
		env[0] = '@';
	setenv("NOTIFY_SOCKET", env, 1);
}

/* What has been said, or "" when nothing was. */
static const char *manager_heard(struct manager *m, char *buf, size_t size)
{
	ssize_t n = recv(m->fd, buf, size - 1, MSG_DONTWAIT);

	buf[n > 0 ? n : 0] = '\0';
	return buf;
}

static void manager_stop(struct manager *m)
{
	close(m->fd);
	unlink(m->addr.sun_path);
	rmdir(m->dir);
	unsetenv("NOTIFY_SOCKET");
}

static void test_state_reaches_the_manager(void **state)
{
	char buf[2000];

	(void)state;
	for (int path = 0; path < 2; path++) {
		struct manager m;

		manager_start(&m, path);
		notify_send("READY=1\nSTATUS=%d queued", 3);
		assert_string_equal(manager_heard(&m, buf, sizeof(buf)),
		    "READY=1\nSTATUS=3 queued");
		manager_stop(&m);
	}
}

static void test_reloading_carries_the_monotonic_time(void **state)
{
	uint64_t said_us = 0, now_us;
	struct timespec ts;
	struct manager m;
	char buf[200];

	(void)state;
	manager_start(&m, true);
	notify_reloading();
	manager_heard(&m, buf, sizeof(buf));
	assert_int_equal(
	    sscanf(buf, "RELOADING=1\nMONOTONIC_USEC=%" SCNu64, &said_us), 1);
	clock_gettime(CLOCK_MONOTONIC, &ts);
	now_us = (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
	assert_true(said_us <= now_us && now_us - said_us < 60000000);
	manager_stop(&m);
}

static void test_without_a_manager_nothing_happens(void **state)
{
	static const char *const values[] = { "", "/", "relative", "vsock:2",
		"/nonexistent/socket" };

	(void)state;
	unsetenv("NOTIFY_SOCKET");
	notify_send("READY=1");
	for (size_t i = 0; i < ARRAY_LEN(values); i++) {
		setenv("NOTIFY_SOCKET", values[i], 1);
		notify_send("READY=1");
	}
	unsetenv("NOTIFY_SOCKET");
}

/* Three descriptors at 3, 4, 5 and the environment that announces them. */
static void pass_fds(pid_t pid, const char *names)
{
	char number[16];
	int fd = open("/dev/null", O_RDWR);

	/* dup2() of a descriptor to itself would keep FD_CLOEXEC unset too. */
	for (int i = 3; i <= 5; i++)
		dup2(fd, i);
	snprintf(number, sizeof(number), "%d", pid);
	setenv("LISTEN_PID", number, 1);
	setenv("LISTEN_FDS", "3", 1);
	if (names)
		setenv("LISTEN_FDNAMES", names, 1);
	else
		unsetenv("LISTEN_FDNAMES");
}

static int listen_max = 8;
static const char *listen_names;
static pid_t listen_pid; /* 0: the child's own */

/* Tells on stderr what came in, and what is wrong with it. */
static void report_fds(void)
{
	int fds[8], n;
	struct err err;

	pass_fds(listen_pid ? listen_pid : getpid(), listen_names);
	n = notify_listen_fds("smtp", fds, listen_max, &err);
	if (n < 0)
		dprintf(STDERR_FILENO, "%s ", err.text);
	for (int i = 0; i < n; i++)
		dprintf(STDERR_FILENO, "%d ", fds[i]);
	if (!listen_pid && n >= 0)
		for (int fd = 3; fd <= 5; fd++)
			if (!(fcntl(fd, F_GETFD) & FD_CLOEXEC))
				dprintf(STDERR_FILENO, "inherited ");
	if (getenv("LISTEN_PID") || getenv("LISTEN_FDS") ||
	    getenv("LISTEN_FDNAMES"))
		dprintf(STDERR_FILENO, "environment ");
}

static void test_sockets_are_found_by_name(void **state)
{
	static const struct {
		const char *names;
		int max;
		pid_t pid;
		const char *report;
	} rows[] = {
		{ "smtp:smtp:smtp", 8, 0, "3 4 5 " },
		{ NULL, 8, 0, "3 4 5 " },
		{ "smtp:smtp:smtp", 8, 1, "" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct child_end end;

		listen_names = rows[i].names;
		listen_max = rows[i].max;
		listen_pid = rows[i].pid;
		end = child_run(report_fds);
		assert_true(WIFEXITED(end.status));
		assert_string_equal(end.text, rows[i].report);
	}
}

/* Who passes a socket counts on it: none is overlooked. */
static void test_a_socket_that_is_not_known_is_an_error(void **state)
{
	static const struct {
		const char *names;
		int max;
		const char *words;
	} rows[] = {
		{ "smtp:http:smtp", 8, "handed in as \"http\", and only" },
		{ "smtp:smtp:smtps", 8, "FileDescriptorName=smtp" },
		{ "smtp:smtp", 8, "handed in as \"\"" },
		{ "", 8, "handed in as \"\"" },
		{ "smtp:smtp:smtp", 2, "3 sockets were handed in, and 2 are" },
		{ NULL, 2, "3 sockets were handed in, and 2 are" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct child_end end;

		listen_names = rows[i].names;
		listen_max = rows[i].max;
		listen_pid = 0;
		end = child_run(report_fds);
		assert_true(WIFEXITED(end.status));
		assert_non_null(strstr(end.text, rows[i].words));
		assert_null(strstr(end.text, "environment"));
	}
}

static void announce_closed_fd(void)
{
	struct err err;
	int fds[8];

	pass_fds(getpid(), NULL);
	close(4);
	if (notify_listen_fds("smtp", fds, 8, &err) < 0)
		dprintf(STDERR_FILENO, "%s", err.text);
}

static void test_a_descriptor_that_is_none_is_an_error(void **state)
{
	struct child_end end = child_run(announce_closed_fd);

	(void)state;
	assert_string_equal(
	    end.text, "descriptor 4 that was handed in: Bad file descriptor");
}

static void test_the_watchdog_is_meant_for_a_pid(void **state)
{
	char mine[16];
	const struct {
		const char *usec, *pid;
		int64_t want;
	} rows[] = {
		{ "3000000", mine, 3000000 },
		{ "3000000", NULL, 3000000 },
		{ "3000000", "1", 0 },
		{ "3000000", "", 0 },
		{ "3000000", "x", 0 },
		{ NULL, mine, 0 },
		{ "", mine, 0 },
		{ "-5", mine, 0 },
		{ "soon", mine, 0 },
	};

	(void)state;
	snprintf(mine, sizeof(mine), "%d", getpid());
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		unsetenv("WATCHDOG_USEC");
		unsetenv("WATCHDOG_PID");
		if (rows[i].usec)
			setenv("WATCHDOG_USEC", rows[i].usec, 1);
		if (rows[i].pid)
			setenv("WATCHDOG_PID", rows[i].pid, 1);
		assert_int_equal(notify_watchdog_us(), rows[i].want);
	}
	unsetenv("WATCHDOG_USEC");
	unsetenv("WATCHDOG_PID");
}

/* A manager that does not read: what is said again and again is not waited
 * for, and the teller knows that it was not heard. */
static void test_trying_never_waits(void **state)
{
	struct timespec began, ended;
	struct manager m;
	char buf[200];
	int n = 0;

	(void)state;
	assert_false(notify_wanted());
	assert_false(notify_try("STATUS=x"));
	manager_start(&m, true);
	assert_true(notify_wanted());
	clock_gettime(CLOCK_MONOTONIC, &began);
	while (n < 100000 && notify_try("STATUS=%d", n))
		n++;
	for (int i = 0; i < 20; i++)
		assert_false(notify_try("STATUS=more"));
	clock_gettime(CLOCK_MONOTONIC, &ended);
	assert_in_range(n, 1, 99999);
	/* notify_send() would wait for a second each time. */
	assert_true(ended.tv_sec - began.tv_sec < 10);
	assert_string_equal(manager_heard(&m, buf, sizeof(buf)), "STATUS=0");
	manager_stop(&m);
}

static void test_nothing_passed_is_nothing_found(void **state)
{
	static const char *const counts[] = { NULL, "", "-1", "x", "0" };
	char pid[16];
	struct err err;
	int fd;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(counts); i++) {
		snprintf(pid, sizeof(pid), "%d", getpid());
		setenv("LISTEN_PID", pid, 1);
		if (counts[i])
			setenv("LISTEN_FDS", counts[i], 1);
		assert_int_equal(notify_listen_fds("smtp", &fd, 1, &err), 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_state_reaches_the_manager),
		cmocka_unit_test(test_reloading_carries_the_monotonic_time),
		cmocka_unit_test(test_without_a_manager_nothing_happens),
		cmocka_unit_test(test_sockets_are_found_by_name),
		cmocka_unit_test(test_nothing_passed_is_nothing_found),
		cmocka_unit_test(test_a_socket_that_is_not_known_is_an_error),
		cmocka_unit_test(test_a_descriptor_that_is_none_is_an_error),
		cmocka_unit_test(test_the_watchdog_is_meant_for_a_pid),
		cmocka_unit_test(test_trying_never_waits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
