/*
 * Lines out of a stream: what is a line does not depend on how the bytes were
 * cut into packets.
 */
#include "peer.h"

#define MAX 8

struct reader {
	struct loop *loop;
	struct conn *conn;
	char seen[256]; /* lines, each with its sign behind */
	size_t len;
};

static void put(struct reader *r, const char *data, size_t len)
{
	assert_true(r->len + len < sizeof(r->seen));
	memcpy(r->seen + r->len, data, len);
	r->len += len;
	r->seen[r->len] = '\0';
}

/* "|" after CRLF, "/" after LF alone, "!" for a line too long. */
static void on_readable(void *ctx)
{
	struct reader *r = ctx;
	struct slice line;
	bool bare_lf;
	int rc;

	while ((rc = conn_read_line(r->conn, MAX, &line, &bare_lf)) != 0) {
		if (rc > 0) {
			assert_true(line.len <= MAX);
			put(r, line.ptr, line.len);
			put(r, bare_lf ? "/" : "|", 1);
		} else {
			put(r, "!", 1);
		}
	}
	loop_stop(r->loop);
}

static const struct conn_events events = { .on_readable = on_readable };

struct row {
	const char *in;
	const char *expected;
};

static const struct row rows[] = {
	{ "ab\r\ncd\r\n", "ab|cd|" },
	{ "ab\ncd\r\nef", "ab/cd|" },
	{ "\r\n\n\r\n", "|/|" },
	{ "a\rb\r\n", "a\rb|" },
	{ "a\r\r\n", "a\r|" },
	{ "12345678\r\nx\r\n", "12345678|x|" },
	{ "12345678\nx\r\n", "12345678/x|" },
	{ "123456789\r\nx\r\n", "!x|" },
	{ "123456789\nx\r\n", "!x|" },
	{ "12345678\rx\r\ny\r\n", "!y|" },
	{ "12345678\r\r\ny\r\n", "!y|" },
	{ "12345678\r", "" },
	{ "123456789", "!" },
	{ "1234567890123456789012345678901234567890\r\nok\r\n", "!ok|" },
	{ "1234567890123456789\n1234567890123456789\nok\n", "!!ok/" },
	{ "1234567890123456789\n\nok\r\n1234567890", "!/ok|!" },
};

static void feed(struct reader *r, int fd, const char *data, size_t len)
{
	if (len == 0)
		return;
	assert_int_equal(write(fd, data, len), len);
	loop_run(r->loop);
}

/* Cut behind the bytes `a` and `b`. */
static void check(const struct row *row, size_t a, size_t b)
{
	struct reader r = { .loop = loop_new() };
	size_t len = strlen(row->in);
	int fds[2];

	assert_int_equal(
	    socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	r.conn = conn_accept(r.loop, fds[0], &events, &r);
	feed(&r, fds[1], row->in, a);
	feed(&r, fds[1], row->in + a, b - a);
	feed(&r, fds[1], row->in + b, len - b);
	assert_string_equal(r.seen, row->expected);
	conn_close(r.conn);
	loop_free(r.loop);
	close(fds[1]);
}

static void test_lines_split_everywhere(void **state)
{
	(void)state;
	alarm(TEST_SECONDS);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		size_t len = strlen(rows[i].in);

		for (size_t a = 0; a <= len; a++) {
			for (size_t b = a; b <= len; b++)
				check(&rows[i], a, b);
		}
	}
}

static void test_lines_byte_by_byte(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct reader r = { .loop = loop_new() };
		int fds[2];

		assert_int_equal(
		    socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
		r.conn = conn_accept(r.loop, fds[0], &events, &r);
		for (const char *p = rows[i].in; *p; p++)
			feed(&r, fds[1], p, 1);
		assert_string_equal(r.seen, rows[i].expected);
		conn_close(r.conn);
		loop_free(r.loop);
		close(fds[1]);
	}
}

static void on_nul(void *ctx)
{
	struct reader *r = ctx;
	struct slice line;

	assert_int_equal(conn_read_line(r->conn, MAX, &line, NULL), 1);
	assert_int_equal(line.len, 3);
	assert_memory_equal(line.ptr, "a\0b", 3);
	/* Lines and chunks from one buffer. */
	line = conn_peek(r->conn);
	assert_int_equal(line.len, 4);
	conn_consume(r->conn, 2);
	assert_int_equal(conn_read_line(r->conn, MAX, &line, NULL), 1);
	assert_int_equal(line.len, 1);
	assert_memory_equal(line.ptr, "z", 1);
	loop_stop(r->loop);
}

static void test_nul_and_chunks(void **state)
{
	static const struct conn_events nul_events = { .on_readable = on_nul };
	struct reader r = { .loop = loop_new() };
	int fds[2];

	(void)state;
	assert_int_equal(
	    socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	r.conn = conn_accept(r.loop, fds[0], &nul_events, &r);
	feed(&r, fds[1], "a\0b\r\nxyz\n", 9);
	conn_close(r.conn);
	loop_free(r.loop);
	close(fds[1]);
}

static void on_drip(void *ctx)
{
	struct reader *r = ctx;
	struct slice line;

	while (conn_read_line(r->conn, 32000, &line, NULL) == 1) {
		assert_int_equal(line.len, 31999);
		r->len++;
	}
	loop_stop(r->loop);
}

/* A full input buffer never hides the end of a line from its reader. */
static void test_long_lines_in_a_full_buffer(void **state)
{
	static const struct conn_events drip = { .on_readable = on_drip };
	struct reader r = { .loop = loop_new() };
	char *data = xmalloc(320000);
	size_t sent = 0;
	int fds[2];

	(void)state;
	memset(data, 'x', 320000);
	for (size_t i = 0; i < 10; i++)
		data[i * 32000 + 31999] = '\n';
	assert_int_equal(
	    socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	r.conn = conn_accept(r.loop, fds[0], &drip, &r);
	while (r.len < 10) {
		ssize_t n =
		    send(fds[1], data + sent, 320000 - sent, MSG_DONTWAIT);

		if (n > 0)
			sent += (size_t)n;
		loop_run(r.loop);
	}
	assert_int_equal(sent, 320000);
	conn_close(r.conn);
	loop_free(r.loop);
	close(fds[1]);
	free(data);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lines_split_everywhere),
		cmocka_unit_test(test_lines_byte_by_byte),
		cmocka_unit_test(test_nul_and_chunks),
		cmocka_unit_test(test_long_lines_in_a_full_buffer),
	};

	return cmocka_run_group_tests_name("conn_lines", tests, NULL, NULL);
}
