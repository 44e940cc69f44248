/*
 * Listening and accepting, also without descriptors; addresses and networks.
 */
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "net/listener.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static void test_parse_and_format_addresses(void **state)
{
	static const struct {
		const char *text, *formatted; /* NULL: refused */
	} rows[] = {
		{ "127.0.0.1:25", "127.0.0.1:25" },
		{ "0.0.0.0:0", "0.0.0.0:0" },
		{ "[::1]:65535", "[::1]:65535" },
		{ "[0:0::1]:25", "[::1]:25" },
		{ "[::ffff:127.0.0.1]:25", "127.0.0.1:25" },
		{ "unix:/run/sesrelayd/smtp", "unix:/run/sesrelayd/smtp" },
		{ "unix:", NULL },
		{ "unix:smtp", NULL },
		{ "unix:/12345678901234567890123456789012345678901234567890"
		  "123456789012345678901234567890123456789012345678901234567",
		    NULL },
		{ "::1:25", NULL },
		{ "[::1]", NULL },
		{ "[::1]25", NULL },
		{ "[127.0.0.1]:25", NULL },
		{ "127.0.0.1", NULL },
		{ "127.0.0.1:", NULL },
		{ "127.0.0.1:65536", NULL },
		{ "127.0.0.1:-1", NULL },
		{ "127.0.0.1:25x", NULL },
		{ "127.1:25", NULL },
		{ "localhost:25", NULL },
		{ ":25", NULL },
		{ "[]:25", NULL },
		{ "", NULL },
		{ "[0000:0000:0000:0000:0000:0000:0000:0000:0000:0000]:25",
		    NULL },
	};
	struct sockaddr_storage addr;
	struct err err;
	socklen_t len;
	char text[80];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		int rc =
		    listener_parse_address(rows[i].text, &addr, &len, &err);

		assert_int_equal(rc, rows[i].formatted ? 0 : -1);
		if (rc < 0) {
			assert_non_null(strstr(err.text, "not an address"));
			continue;
		}
		assert_true(len == sizeof(struct sockaddr_in) ||
		    len == sizeof(struct sockaddr_in6) ||
		    len == sizeof(struct sockaddr_un));
		listener_format_address(
		    (struct sockaddr *)&addr, text, sizeof(text));
		assert_string_equal(text, rows[i].formatted);
	}
}

static struct sockaddr_storage address_of(const char *text)
{
	struct sockaddr_storage addr;
	struct err err;
	socklen_t len;

	assert_int_equal(listener_parse_address(text, &addr, &len, &err), 0);
	return addr;
}

static void test_loopback(void **state)
{
	static const struct {
		const char *text;
		bool loopback;
	} rows[] = {
		{ "127.0.0.1:1", true },
		{ "127.255.0.9:1", true },
		{ "128.0.0.1:1", false },
		{ "126.255.255.255:1", false },
		{ "0.0.0.0:1", false },
		{ "[::1]:1", true },
		{ "[::2]:1", false },
		{ "[::]:1", false },
		{ "[::ffff:127.0.0.1]:1", true },
		{ "[::ffff:10.0.0.1]:1", false },
		/* The deprecated compatible form is not loopback. */
		{ "[::127.0.0.1]:1", false },
	};
	struct sockaddr_un local = { .sun_family = AF_UNIX };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct sockaddr_storage addr = address_of(rows[i].text);

		assert_int_equal(listener_is_loopback((struct sockaddr *)&addr),
		    rows[i].loopback);
	}
	assert_true(listener_is_loopback((struct sockaddr *)&local));
}

static void test_parse_networks(void **state)
{
	static const char *const good[] = { "127.0.0.0/8", "0.0.0.0/0",
		"10.1.2.3", "10.1.2.3/32", "::1/128", "::1", "::/0",
		"fe80::/10", "::ffff:127.0.0.0/104" };
	static const char *const bad[] = { "127.0.0.1/8", "fe80::1/10",
		"127.0.0.0/33", "::/129", "127.0.0.0/", "127.0.0.0/8x",
		"127.0.0.0/-1", "[::1]/128", "localhost", "/8", "",
		"0000:0000:0000:0000:0000:0000:0000:0000:0000:0000/8" };
	struct network n;
	struct err err;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(good); i++)
		assert_int_equal(network_parse(good[i], &n, &err), 0);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		assert_int_equal(network_parse(bad[i], &n, &err), -1);
		assert_true(strlen(err.text) > 0);
	}
}

static void test_network_contains(void **state)
{
	static const struct {
		const char *network, *addr;
		bool contained;
	} rows[] = {
		{ "127.0.0.0/8", "127.1.2.3:1", true },
		{ "127.0.0.0/8", "128.0.0.0:1", false },
		{ "10.128.0.0/9", "10.255.0.1:1", true },
		{ "10.128.0.0/9", "10.127.255.255:1", false },
		{ "192.168.4.0/22", "192.168.7.255:1", true },
		{ "192.168.4.0/22", "192.168.8.0:1", false },
		{ "10.1.2.3", "10.1.2.3:1", true },
		{ "10.1.2.3", "10.1.2.2:1", false },
		{ "0.0.0.0/0", "255.255.255.255:1", true },
		{ "0.0.0.0/0", "[::1]:1", false },
		{ "::/0", "[2001:db8::1]:1", true },
		{ "::/0", "127.0.0.1:1", false },
		{ "::1/128", "[::1]:1", true },
		{ "::1/128", "[::2]:1", false },
		{ "2001:db8::/33", "[2001:db8:7fff::1]:1", true },
		{ "2001:db8::/33", "[2001:db8:8000::1]:1", false },
		{ "127.0.0.0/8", "[::ffff:127.0.0.1]:1", true },
		{ "127.0.0.0/8", "[::ffff:126.0.0.1]:1", false },
		{ "::ffff:127.0.0.0/104", "127.0.0.9:1", true },
		{ "::/0", "[::ffff:127.0.0.1]:1", false },
	};
	struct sockaddr_un local = { .sun_family = AF_UNIX };
	struct network n;
	struct err err;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct sockaddr_storage addr = address_of(rows[i].addr);

		assert_int_equal(network_parse(rows[i].network, &n, &err), 0);
		assert_int_equal(network_contains(&n, (struct sockaddr *)&addr),
		    rows[i].contained);
		assert_false(network_contains(&n, (struct sockaddr *)&local));
	}
}

struct test {
	struct loop *loop;
	struct listener *l;
	struct loop_timer timer;
	int accepted[256];
	int n_accepted, n_turns, stop_at;
	int max_a_turn, before;
	bool close_at_once, pause_at_once;
	char log[1024];
	int n_logged;
};

static void on_accept(void *ctx, int fd, const struct sockaddr *peer)
{
	struct test *t = ctx;

	assert_true(peer->sa_family == AF_INET || peer->sa_family == AF_INET6);
	assert_true(listener_is_loopback(peer));
	assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
	assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	t->accepted[t->n_accepted++] = fd;
	if (t->pause_at_once)
		listener_pause(t->l);
	if (t->close_at_once) {
		listener_close(t->l);
		t->l = NULL;
	}
	if (t->n_accepted == t->stop_at)
		loop_stop(t->loop);
}

static void on_turn(void *ctx)
{
	struct test *t = ctx;

	t->n_turns++;
	if (t->n_accepted - t->before > t->max_a_turn)
		t->max_a_turn = t->n_accepted - t->before;
	t->before = t->n_accepted;
}

static void timer_stops(void *ctx)
{
	loop_stop(ctx);
}

static void run_for(struct test *t, int64_t delay_us)
{
	loop_timer_set(&t->timer, delay_us);
	loop_run(t->loop);
	loop_timer_clear(&t->timer);
}

static void run_until(struct test *t, int n_accepted)
{
	t->stop_at = n_accepted;
	loop_run(t->loop);
	t->stop_at = 0;
}

static void on_log(void *ctx, const char *line)
{
	struct test *t = ctx;

	t->n_logged++;
	snprintf(t->log, sizeof(t->log), "%s", line);
}

static void test_init(struct test *t, const char *address)
{
	struct err err;

	alarm(60);
	memset(t, 0, sizeof(*t));
	t->loop = loop_new();
	loop_timer_init(&t->timer, t->loop, timer_stops, t->loop);
	loop_on_turn(t->loop, on_turn, t);
	log_capture(on_log, t);
	t->l = listener_open(t->loop, address, on_accept, t, &err);
	assert_non_null(t->l);
}

static void test_fini(struct test *t)
{
	for (int i = 0; i < t->n_accepted; i++)
		close(t->accepted[i]);
	listener_close(t->l);
	loop_timer_fini(&t->timer);
	loop_free(t->loop);
	log_capture(NULL, NULL);
}

static int dial(const struct test *t)
{
	const struct sockaddr *addr = listener_sockaddr(t->l);
	int fd = socket(addr->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_int_equal(
	    connect(fd, addr,
		addr->sa_family == AF_INET ? sizeof(struct sockaddr_in)
					   : sizeof(struct sockaddr_in6)),
	    0);
	return fd;
}

static void test_accept_both_families(void **state)
{
	static const char *const addresses[] = { "127.0.0.1:0", "[::1]:0" };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(addresses); i++) {
		struct test t;
		char text[80];
		int fd;

		test_init(&t, addresses[i]);
		/* The port that the system chose is told. */
		listener_format_address(
		    listener_sockaddr(t.l), text, sizeof(text));
		assert_string_equal(listener_address(t.l), text);
		assert_null(strstr(text, ":0"));
		fd = dial(&t);
		run_until(&t, 1);
		close(fd);
		test_fini(&t);
	}
	listener_close(NULL);
}

static void test_many_at_once_in_portions(void **state)
{
	struct test t;
	int fds[150];

	(void)state;
	test_init(&t, "127.0.0.1:0");
	for (size_t i = 0; i < ARRAY_LEN(fds); i++)
		fds[i] = dial(&t);
	run_until(&t, ARRAY_LEN(fds));
	assert_int_equal(t.max_a_turn, 64);
	for (size_t i = 0; i < ARRAY_LEN(fds); i++)
		close(fds[i]);
	test_fini(&t);
}

static void test_pause_leaves_clients_in_the_backlog(void **state)
{
	struct test t;
	int fds[3];

	(void)state;
	test_init(&t, "127.0.0.1:0");
	t.pause_at_once = true;
	for (size_t i = 0; i < ARRAY_LEN(fds); i++)
		fds[i] = dial(&t);
	run_for(&t, 20 * US_PER_MS);
	/* Also in the middle of a portion. */
	assert_int_equal(t.n_accepted, 1);
	t.pause_at_once = false;
	/* Out of descriptors is something else. */
	listener_fd_freed(t.l);
	run_for(&t, 5 * US_PER_MS);
	assert_int_equal(t.n_accepted, 1);
	listener_resume(t.l);
	listener_resume(t.l);
	run_until(&t, 3);
	for (size_t i = 0; i < ARRAY_LEN(fds); i++)
		close(fds[i]);
	test_fini(&t);
}

static void test_close_inside_the_callback(void **state)
{
	struct test t;
	int fds[2];

	(void)state;
	test_init(&t, "127.0.0.1:0");
	t.close_at_once = true;
	for (size_t i = 0; i < ARRAY_LEN(fds); i++)
		fds[i] = dial(&t);
	run_until(&t, 1);
	run_for(&t, 5 * US_PER_MS);
	assert_int_equal(t.n_accepted, 1);
	for (size_t i = 0; i < ARRAY_LEN(fds); i++)
		close(fds[i]);
	test_fini(&t);
}

static void set_descriptor_limit(int n)
{
	struct rlimit limit;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	limit.rlim_cur = (rlim_t)n;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

/* In a child: limits are for the whole process. */
static void starved_child(void)
{
	struct test t;
	int fds[4];
	int64_t start;

	test_init(&t, "127.0.0.1:0");
	for (size_t i = 0; i < ARRAY_LEN(fds); i++)
		fds[i] = dial(&t);
	/* Room for one more. */
	set_descriptor_limit(fds[3] + 2);
	run_for(&t, 300 * US_PER_MS);
	assert_int_equal(t.n_accepted, 1);
	assert_int_equal(t.n_logged, 1);
	assert_non_null(strstr(t.log, "Too many open files"));
	assert_non_null(strstr(t.log, listener_address(t.l)));
	/* It waits, it does not spin. */
	assert_true(t.n_turns < 10);
	/* In vain once more: said already. */
	listener_fd_freed(t.l);
	run_for(&t, 20 * US_PER_MS);
	assert_int_equal(t.n_accepted, 1);
	assert_int_equal(t.n_logged, 1);
	/* One is freed: at once, and then again none; the log stays quiet. */
	close(t.accepted[--t.n_accepted]);
	t.before = 0;
	listener_fd_freed(t.l);
	run_for(&t, 50 * US_PER_MS);
	assert_int_equal(t.n_accepted, 1);
	/* Nobody tells: a second later, by itself. */
	start = clock_mono_us();
	set_descriptor_limit(fds[3] + 20);
	run_until(&t, 3);
	clock_update();
	assert_in_range((clock_mono_us() - start) / US_PER_MS, 500, 1500);
	run_for(&t, 5 * US_PER_MS);
	assert_int_equal(t.n_accepted, 3);
	for (size_t i = 0; i < ARRAY_LEN(fds); i++)
		close(fds[i]);
	test_fini(&t);
}

static void spare_child(void)
{
	struct test t;
	int fds[6], others[4], first;

	test_init(&t, "127.0.0.1:0");
	for (size_t i = 0; i < ARRAY_LEN(fds); i++)
		fds[i] = dial(&t);
	/* Four for clients, of which the fourth shows that it is the last. */
	first = fds[5] + 1;
	listener_keep_spare(t.l, 5);
	set_descriptor_limit(first + 3 + 5);
	run_for(&t, 100 * US_PER_MS);
	assert_int_equal(t.n_accepted, 4);
	assert_int_equal(t.n_logged, 1);
	assert_true(t.n_turns < 10);
	/* What is left is for others, also after another look. */
	t.before = 0;
	listener_fd_freed(t.l);
	run_for(&t, 20 * US_PER_MS);
	assert_int_equal(t.n_accepted, 4);
	for (size_t i = 0; i < ARRAY_LEN(others); i++) {
		others[i] = dup(first);
		assert_true(others[i] >= 0);
	}
	assert_int_equal(dup(first), -1);
	/* Two of the clients go, so two may come. */
	close(t.accepted[1]);
	close(t.accepted[2]);
	listener_fd_freed(t.l);
	run_for(&t, 50 * US_PER_MS);
	assert_int_equal(t.n_accepted, 6);
	/* The spare is never more than half. */
	close(t.accepted[3]);
	listener_keep_spare(t.l, 100000);
	fds[0] = dial(&t);
	set_descriptor_limit(2 * (others[3] + 2));
	listener_fd_freed(t.l);
	run_until(&t, 7);
	_exit(77);
}

static void test_spare_descriptors(void **state)
{
	int status;
	pid_t pid;

	(void)state;
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
		spare_child();
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 77);
}

static void test_out_of_descriptors(void **state)
{
	int status;
	pid_t pid;

	(void)state;
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		starved_child();
		_exit(77); /* a failed assertion never gets here */
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 77);
}

static void test_open_failures(void **state)
{
	struct test t;
	struct err err;
	int fds[2];

	(void)state;
	test_init(&t, "127.0.0.1:0");
	assert_null(
	    listener_open(t.loop, listener_address(t.l), on_accept, &t, &err));
	assert_int_equal(err.code, EADDRINUSE);
	assert_non_null(strstr(err.text, listener_address(t.l)));
	assert_null(listener_open(t.loop, "192.0.2.1:25", on_accept, &t, &err));
	assert_int_equal(err.code, EADDRNOTAVAIL);
	assert_null(listener_open(t.loop, "nonsense", on_accept, &t, &err));
	/* Handed in, but not what was promised. */
	assert_int_equal(pipe(fds), 0);
	assert_null(listener_adopt(t.loop, fds[0], on_accept, &t, &err));
	assert_int_equal(fcntl(fds[0], F_GETFD), -1);
	close(fds[1]);
	fds[0] = socket(AF_INET, SOCK_STREAM, 0);
	assert_null(listener_adopt(t.loop, fds[0], on_accept, &t, &err));
	assert_non_null(strstr(err.text, "does not listen"));
	test_fini(&t);
}

/* Blocking and inherited: it must be made what we need. */
static void test_adopt(void **state)
{
	struct sockaddr_storage addr = address_of("127.0.0.1:0");
	int fd = socket(AF_INET, SOCK_STREAM, 0), client;
	struct test t;
	struct err err;

	(void)state;
	test_init(&t, "127.0.0.1:0");
	listener_close(t.l);
	assert_int_equal(
	    bind(fd, (struct sockaddr *)&addr, sizeof(struct sockaddr_in)), 0);
	assert_int_equal(listen(fd, 1), 0);
	t.l = listener_adopt(t.loop, fd, on_accept, &t, &err);
	assert_non_null(t.l);
	assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
	assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	client = dial(&t);
	run_until(&t, 1);
	close(client);
	test_fini(&t);
}

/* Both families on one port are two listeners. */
static void test_v6_only(void **state)
{
	struct test t;
	struct listener *other = NULL;
	struct err err;
	char text[80];

	(void)state;
	test_init(&t, "[::]:0");
	/* In the other family, somebody else may have that port. */
	for (int i = 0; i < 20 && !other; i++) {
		test_fini(&t);
		test_init(&t, "[::]:0");
		snprintf(text, sizeof(text), "0.0.0.0%s",
		    strrchr(listener_address(t.l), ':'));
		other = listener_open(t.loop, text, on_accept, &t, &err);
	}
	assert_non_null(other);
	listener_close(other);
	test_fini(&t);
}

static mode_t mode_of(const char *path)
{
	struct stat st;

	return lstat(path, &st) == 0 ? st.st_mode : 0;
}

/* A socket for every user; its file comes and goes with the listener. */
static void test_local_socket(void **state)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	char dir[] = "/tmp/test_listener.XXXXXX", text[128];
	struct test t;
	struct err err;
	int fd;

	(void)state;
	assert_non_null(mkdtemp(dir));
	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/run/smtp", dir);
	snprintf(text, sizeof(text), "unix:%s", addr.sun_path);
	umask(077);
	test_init(&t, text);
	assert_string_equal(listener_address(t.l), text);
	assert_int_equal(mode_of(addr.sun_path), S_IFSOCK | 0666);
	assert_null(listener_open(t.loop, text, on_accept, &t, &err));
	assert_non_null(strstr(err.text, "another sesrelayd answers"));
	test_fini(&t);
	assert_int_equal(mode_of(addr.sun_path), 0);

	/* Left behind: it is replaced.  No socket: it is somebody's. */
	fd = socket(AF_UNIX, SOCK_STREAM, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	close(fd);
	test_init(&t, text);
	test_fini(&t);
	close(open(addr.sun_path, O_CREAT | O_WRONLY, 0600));
	assert_int_equal(listener_bind_unix(addr.sun_path, 0666, &err), -1);
	assert_non_null(strstr(err.text, "is no socket"));
	assert_int_equal(unlink(addr.sun_path), 0);
	*strrchr(addr.sun_path, '/') = '\0';
	assert_int_equal(mode_of(addr.sun_path), S_IFDIR | 0755);
	assert_int_equal(rmdir(addr.sun_path), 0);
	assert_int_equal(rmdir(dir), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parse_and_format_addresses),
		cmocka_unit_test(test_loopback),
		cmocka_unit_test(test_parse_networks),
		cmocka_unit_test(test_network_contains),
		cmocka_unit_test(test_accept_both_families),
		cmocka_unit_test(test_many_at_once_in_portions),
		cmocka_unit_test(test_pause_leaves_clients_in_the_backlog),
		cmocka_unit_test(test_close_inside_the_callback),
		cmocka_unit_test(test_out_of_descriptors),
		cmocka_unit_test(test_spare_descriptors),
		cmocka_unit_test(test_open_failures),
		cmocka_unit_test(test_adopt),
		cmocka_unit_test(test_v6_only),
		cmocka_unit_test(test_local_socket),
	};

	return cmocka_run_group_tests_name("listener", tests, NULL, NULL);
}
