/*
 * The HTTP server on real sockets: how many clients it keeps, in which order
 * they go, and that nothing is left of them whatever they were at.
 */
#include "base/clock.h"
#include "base/mem.h"
#include "net/http.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

struct stage {
	struct loop *loop;
	struct http *http;
	struct loop_timer tick; /* the loop never sleeps for long */
	bool (*until)(struct stage *s);
	int made; /* pages */
	int fd; /* of the client that a predicate is about */
	char got[4096]; /* the head of it */
	size_t n_got;
	bool closed;
	unsigned n_clients;
};

static void make_page(void *ctx, struct http_answer *a)
{
	struct stage *s = ctx;

	s->made++;
	a->body = xstrdup("page\n");
}

static void make_trouble(void *ctx, struct http_answer *a)
{
	(void)ctx;
	a->status = 503;
	a->type = "text/x-trouble";
	a->body = xstrdup("trouble\n");
}

/* More than any socket takes at once. */
#define LARGE_BYTES (16u * 1024 * 1024)

static void make_large(void *ctx, struct http_answer *a)
{
	(void)ctx;
	a->body = xmalloc(LARGE_BYTES + 1);
	memset(a->body, 'x', LARGE_BYTES);
	a->body[LARGE_BYTES] = '\0';
}

static const struct http_page pages[] = {
	{ "/large", make_large },
	{ "/page", make_page },
	{ "/trouble", make_trouble },
};

static void on_tick(void *ctx)
{
	struct stage *s = ctx;

	loop_timer_set(&s->tick, US_PER_MS);
}

static void on_turn(void *ctx)
{
	struct stage *s = ctx;

	if (s->until(s))
		loop_stop(s->loop);
}

static void run_until(struct stage *s, bool (*until)(struct stage *s))
{
	s->until = until;
	loop_run(s->loop);
}

static int set_up(void **state)
{
	struct stage *s = xcalloc(1, sizeof(*s));
	struct network loopback;
	struct err err;

	alarm(60); /* a test that hangs is a test that failed */
	s->loop = loop_new();
	loop_on_turn(s->loop, on_turn, s);
	loop_timer_init(&s->tick, s->loop, on_tick, s);
	loop_timer_set(&s->tick, 0);
	s->http = http_new(s->loop, pages, ARRAY_LEN(pages), s);
	assert_int_equal(network_parse("127.0.0.1", &loopback, &err), 0);
	http_allow(s->http, &loopback, 1);
	assert_int_equal(http_listen(s->http, "127.0.0.1:0", 0, &err), 0);
	*state = s;
	return 0;
}

static int tear_down(void **state)
{
	struct stage *s = *state;

	http_free(s->http);
	loop_timer_fini(&s->tick);
	loop_free(s->loop);
	free(s);
	alarm(0);
	return 0;
}

static int connect_to(struct stage *s, const char *request)
{
	struct sockaddr_storage addr;
	struct err err;
	socklen_t len;
	int fd;

	assert_int_equal(
	    listener_parse_address(http_address(s->http, 0), &addr, &len, &err),
	    0);
	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_true(fd >= 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&addr, len), 0);
	assert_int_equal(write(fd, request, strlen(request)), strlen(request));
	return fd;
}

/* All that came, until the server closed. */
static bool has_closed(struct stage *s)
{
	static char buf[65536];
	ssize_t n = recv(s->fd, buf, sizeof(buf), MSG_DONTWAIT);
	size_t room = sizeof(s->got) - 1;

	if (n > 0 && s->n_got < room) {
		size_t part = room - s->n_got;

		part = part < (size_t)n ? part : (size_t)n;
		memcpy(s->got + s->n_got, buf, part);
		s->got[s->n_got + part] = '\0';
	}
	if (n > 0)
		s->n_got += (size_t)n;
	s->closed = n == 0 || (n < 0 && errno != EAGAIN);
	return s->closed;
}

static const char *read_answer(struct stage *s, int fd)
{
	s->fd = fd;
	s->n_got = 0;
	s->got[0] = '\0';
	run_until(s, has_closed);
	return s->got;
}

static bool has_clients(struct stage *s)
{
	return http_n_clients(s->http) == s->n_clients;
}

static void wait_clients(struct stage *s, unsigned n)
{
	s->n_clients = n;
	run_until(s, has_clients);
}

static void test_answers(void **state)
{
	struct stage *s = *state;
	int fd = connect_to(s, "GET /page HTTP/1.1\r\n\r\n");
	const char *got = read_answer(s, fd);

	assert_int_equal(strncmp(got, "HTTP/1.1 200 OK\r\n", 17), 0);
	assert_non_null(strstr(got, "\r\nContent-Length: 5\r\n"));
	assert_non_null(strstr(got, "\r\n\r\npage\n"));
	close(fd);
	fd = connect_to(s, "HEAD /trouble HTTP/1.0\nX: y\n\n");
	got = read_answer(s, fd);
	assert_int_equal(
	    strncmp(got, "HTTP/1.1 503 Service Unavailable\r\n", 34), 0);
	assert_non_null(strstr(got, "\r\nContent-Type: text/x-trouble\r\n"));
	assert_non_null(strstr(got, "\r\nContent-Length: 8\r\n"));
	assert_null(strstr(got, "trouble\n"));
	close(fd);
	wait_clients(s, 0);
	assert_int_equal(s->made, 1);
}

/* We end the connection in order, and wait until the client has, too. */
static void test_leaves_in_order(void **state)
{
	struct stage *s = *state;
	int fd = connect_to(s, "GET /page HTTP/1.1\r\n\r\n");

	assert_non_null(strstr(read_answer(s, fd), "page\n"));
	assert_int_equal(http_n_clients(s->http), 1);
	/* What comes after it is thrown away, and does not reset it. */
	for (int i = 0; i < 100; i++)
		assert_int_equal(
		    write(fd, "GET /page HTTP/1.1\r\n\r\n", 22), 22);
	close(fd);
	wait_clients(s, 0);
	assert_int_equal(s->made, 1);
}

/* A client that stays is not kept for long. */
static void test_a_client_that_stays(void **state)
{
	struct stage *s = *state;
	int fd = connect_to(s, "GET /page HTTP/1.1\r\n\r\n");

	(void)read_answer(s, fd);
	wait_clients(s, 0);
	close(fd);
	/* Nor is one that asks and does not read. */
	fd = connect_to(s, "GET /large HTTP/1.1\r\n\r\n");
	wait_clients(s, 1);
	wait_clients(s, 0);
	close(fd);
}

/* The end of the request's direction is not the end of the answer's. */
static void test_half_closed(void **state)
{
	struct stage *s = *state;
	int fd = connect_to(s, "GET /large HTTP/1.0\r\n\r\n");
	const char *got;

	assert_int_equal(shutdown(fd, SHUT_WR), 0);
	got = read_answer(s, fd);
	assert_int_equal(s->n_got,
	    (size_t)(strstr(got, "\r\n\r\n") - got) + 4 + LARGE_BYTES);
	close(fd);
}

static void test_others_are_refused_unread(void **state)
{
	struct stage *s = *state;
	struct network other;
	struct err err;
	int fd;

	assert_int_equal(network_parse("10.0.0.0/8", &other, &err), 0);
	http_allow(s->http, &other, 1);
	fd = connect_to(s, "GET /page HTTP/1.1\r\n\r\n");
	assert_int_equal(strncmp(read_answer(s, fd), "HTTP/1.1 403 ", 13), 0);
	close(fd);
	http_allow(s->http, NULL, 0);
	fd = connect_to(s, "GET /page HTTP/1.1\r\n\r\n");
	assert_int_equal(strncmp(read_answer(s, fd), "HTTP/1.1 403 ", 13), 0);
	close(fd);
	assert_int_equal(s->made, 0);
}

/* One more than there may be: the oldest goes, and only that. */
static void test_the_oldest_makes_room(void **state)
{
	struct stage *s = *state;
	int fds[HTTP_MAX_CLIENTS + 1];

	for (unsigned i = 0; i < HTTP_MAX_CLIENTS; i++) {
		fds[i] = connect_to(s, "GET /page HTTP/1.1\r\n");
		wait_clients(s, i + 1);
	}
	fds[HTTP_MAX_CLIENTS] = connect_to(s, "GET /page HTTP/1.1\r\n\r\n");
	assert_non_null(
	    strstr(read_answer(s, fds[HTTP_MAX_CLIENTS]), "page\n"));
	assert_true(http_n_clients(s->http) <= HTTP_MAX_CLIENTS);
	assert_string_equal(read_answer(s, fds[0]), "");
	/* The second is there, and may still ask. */
	assert_int_equal(write(fds[1], "\r\n", 2), 2);
	assert_non_null(strstr(read_answer(s, fds[1]), "page\n"));
	for (unsigned i = 0; i < ARRAY_LEN(fds); i++)
		close(fds[i]);
	wait_clients(s, 0);
	assert_int_equal(s->made, 2);
}

static bool has_answered(struct stage *s)
{
	return s->made == 1;
}

/* The end of the server, with a client in each state; the sanitizer looks. */
static void test_freed_with_clients(void **state)
{
	struct stage *s = *state;
	int idle = connect_to(s, ""), reading, leaving;

	reading = connect_to(s, "GET /page HTTP/1.1\r\nHost:");
	wait_clients(s, 2);
	leaving = connect_to(s, "GET /page HTTP/1.1\r\n\r\nmore");
	run_until(s, has_answered);
	assert_int_equal(http_n_clients(s->http), 3);
	http_free(s->http);
	s->http = NULL;
	assert_string_equal(read_answer(s, idle), "");
	close(idle);
	close(reading);
	close(leaving);
}

static void test_listeners_are_bounded(void **state)
{
	struct stage *s = *state;
	struct err err;

	for (int i = 1; i < HTTP_MAX_LISTENERS; i++)
		assert_int_equal(
		    http_listen(s->http, "127.0.0.1:0", 0, &err), 0);
	assert_int_equal(http_listen(s->http, "127.0.0.1:0", 0, &err), -1);
	assert_string_equal(err.text, "more than 8 addresses for HTTP");
	assert_null(http_address(s->http, HTTP_MAX_LISTENERS));
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
	static const struct CMUnitTest tests[] = {
		TEST(test_answers),
		TEST(test_leaves_in_order),
		TEST(test_a_client_that_stays),
		TEST(test_half_closed),
		TEST(test_others_are_refused_unread),
		TEST(test_the_oldest_makes_room),
		TEST(test_freed_with_clients),
		TEST(test_listeners_are_bounded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
