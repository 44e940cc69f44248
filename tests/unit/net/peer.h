/*
 * The two ends of a test: a connection under test in a loop, with a record of
 * what its owner was told, and a peer on a thread that plays a script over a
 * blocking socket.  Real sockets on loopback, ports chosen by the system.
 */
#ifndef TESTS_UNIT_NET_PEER_H
#define TESTS_UNIT_NET_PEER_H

#include "base/clock.h"
#include "base/mem.h"
#include "net/conn.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* A test that hangs is a test that failed. */
#define TEST_SECONDS 60

/* What happened, in order: "connected readable end". */
struct probe {
	struct loop *loop;
	struct conn *conn;
	char told[256];
	char input[4096]; /* taken by on_readable, unless `keep` */
	size_t input_len;
	bool keep;
	bool stop_on_readable;
	bool in_call; /* a conn_ function runs: nobody may be told */
	enum conn_end end;
	char reason[256];
	void (*hook)(struct probe *p, const char *what);
	void *extra;
};

static inline void probe_told(struct probe *p, const char *what)
{
	size_t len = strlen(p->told);
	const char *last = strrchr(p->told, ' ');

	assert_false(p->in_call);
	last = last ? last + 1 : p->told;
	/* How often it was readable depends on the network. */
	if (strcmp(last, what) != 0)
		snprintf(p->told + len, sizeof(p->told) - len, "%s%s",
		    len ? " " : "", what);
	if (p->hook)
		p->hook(p, what);
}

static inline void probe_connected(void *ctx)
{
	probe_told(ctx, "connected");
}

static inline void probe_secured(void *ctx)
{
	struct probe *p = ctx;

	assert_true(conn_is_secure(p->conn));
	probe_told(ctx, "secured");
}

static inline void probe_readable(void *ctx)
{
	struct probe *p = ctx;

	while (!p->keep && !conn_input_empty(p->conn)) {
		struct slice s = conn_peek(p->conn);

		assert_true(s.len > 0);
		assert_true(p->input_len + s.len < sizeof(p->input));
		memcpy(p->input + p->input_len, s.ptr, s.len);
		p->input_len += s.len;
		conn_consume(p->conn, s.len);
	}
	p->input[p->input_len] = '\0';
	probe_told(p, "readable");
	if (p->stop_on_readable)
		loop_stop(p->loop);
}

static inline void probe_writable(void *ctx)
{
	struct probe *p = ctx;

	if (p->hook)
		p->hook(p, "writable");
}

static inline void probe_end(void *ctx, enum conn_end end, const char *reason)
{
	struct probe *p = ctx;

	p->end = end;
	snprintf(p->reason, sizeof(p->reason), "%s", reason);
	probe_told(p, "end");
	conn_close(p->conn);
	p->conn = NULL;
	loop_stop(p->loop);
}

static const struct conn_events probe_events = {
	.on_connected = probe_connected,
	.on_secured = probe_secured,
	.on_readable = probe_readable,
	.on_writable = probe_writable,
	.on_end = probe_end,
};

/* The other end. */
struct peer {
	pthread_t thread;
	int listen_fd;
	int fd; /* of the one connection it accepts */
	uint16_t port;
	void (*script)(struct peer *peer);
	void *extra;
	int rcvbuf, sndbuf;
	int done_fds[2]; /* readable when the script has ended */
};

static inline void peer_open(struct peer *peer)
{
	struct sockaddr_in in = { .sin_family = AF_INET,
		.sin_addr = { htonl(INADDR_LOOPBACK) } };
	socklen_t len = sizeof(in);

	alarm(TEST_SECONDS);
	peer->fd = -1;
	peer->listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_true(peer->listen_fd >= 0);
	assert_int_equal(bind(peer->listen_fd, (struct sockaddr *)&in, len), 0);
	assert_int_equal(
	    getsockname(peer->listen_fd, (struct sockaddr *)&in, &len), 0);
	peer->port = ntohs(in.sin_port);
}

static inline void *peer_main(void *arg)
{
	struct peer *peer = arg;
	int on = 1;

	peer->fd = accept(peer->listen_fd, NULL, NULL);
	/* A reset must not overtake what Nagle would have held back. */
	if (setsockopt(peer->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) ==
	    0)
		peer->script(peer);
	if (peer->fd >= 0)
		close(peer->fd);
	close(peer->done_fds[1]);
	return NULL;
}

static inline void peer_start(
    struct peer *peer, void (*script)(struct peer *peer), void *extra)
{
	peer_open(peer);
	peer->script = script;
	peer->extra = extra;
	assert_int_equal(pipe(peer->done_fds), 0);
	if (peer->rcvbuf)
		assert_int_equal(setsockopt(peer->listen_fd, SOL_SOCKET,
				     SO_RCVBUF, &peer->rcvbuf, sizeof(int)),
		    0);
	if (peer->sndbuf)
		assert_int_equal(setsockopt(peer->listen_fd, SOL_SOCKET,
				     SO_SNDBUF, &peer->sndbuf, sizeof(int)),
		    0);
	assert_int_equal(listen(peer->listen_fd, 8), 0);
	assert_int_equal(
	    pthread_create(&peer->thread, NULL, peer_main, peer), 0);
}

static inline void peer_finish(struct peer *peer)
{
	pthread_join(peer->thread, NULL);
	close(peer->listen_fd);
	close(peer->done_fds[0]);
}

static inline void peer_is_done(void *ctx)
{
	loop_stop(ctx);
}

/* Until the script has ended. */
static inline void run_until_done(struct loop *loop, struct peer *peer)
{
	struct loop_watch *w =
	    loop_watch(loop, peer->done_fds[0], peer_is_done, loop);

	loop_run(loop);
	loop_unwatch(w);
}

static inline void timer_stops(void *ctx)
{
	loop_stop(ctx);
}

static inline void run_for(struct loop *loop, int64_t delay_us)
{
	struct loop_timer timer;

	loop_timer_init(&timer, loop, timer_stops, loop);
	loop_timer_set(&timer, delay_us);
	loop_run(loop);
	loop_timer_fini(&timer);
}

/* For scripts; they abort, as cmocka's assertions are for its thread only. */
static inline void peer_send(struct peer *peer, const void *data, size_t len)
{
	const char *p = data;

	while (len > 0) {
		ssize_t n = send(peer->fd, p, len, MSG_NOSIGNAL);

		ASSERT(n > 0);
		p += n;
		len -= (size_t)n;
	}
}

static inline void peer_say(struct peer *peer, const char *text)
{
	peer_send(peer, text, strlen(text));
}

/* Until the other side closes; returns how much came, -1 after a reset. */
static inline ssize_t peer_read_all(struct peer *peer, char *buf, size_t size)
{
	size_t len = 0;
	char scratch[4096];

	for (;;) {
		ssize_t n = recv(peer->fd, scratch, sizeof(scratch), 0);

		if (n < 0)
			return -1;
		if (n == 0)
			break;
		for (ssize_t i = 0; i < n; i++, len++) {
			if (len + 1 < size)
				buf[len] = scratch[i];
		}
	}
	if (size > 0)
		buf[len < size ? len : size - 1] = '\0';
	return (ssize_t)len;
}

static inline void peer_reset(struct peer *peer)
{
	struct linger off = { .l_onoff = 1, .l_linger = 0 };

	ASSERT(setsockopt(peer->fd, SOL_SOCKET, SO_LINGER, &off, sizeof(off)) ==
	    0);
	close(peer->fd);
	peer->fd = -1;
}

static inline struct conn_target target_of(uint16_t port)
{
	struct conn_target t = { .addr_len = sizeof(struct sockaddr_in) };
	struct sockaddr_in in = { .sin_family = AF_INET,
		.sin_port = htons(port),
		.sin_addr = { htonl(INADDR_LOOPBACK) } };

	memcpy(&t.addr, &in, sizeof(in));
	return t;
}

static inline void probe_init(struct probe *p)
{
	alarm(TEST_SECONDS);
	memset(p, 0, sizeof(*p));
	p->loop = loop_new();
}

static inline void probe_connect(struct probe *p, uint16_t port)
{
	struct conn_target t = target_of(port);

	p->in_call = true;
	p->conn = conn_connect(p->loop, &t, &probe_events, p);
	p->in_call = false;
}

static inline void probe_fini(struct probe *p)
{
	conn_close(p->conn);
	loop_free(p->loop);
}

/* Records and pieces then leave in parts. */
static inline void limit_send_buffer(struct conn *c)
{
	int bytes = 8192;

	assert_int_equal(setsockopt(conn_fd(c), SOL_SOCKET, SO_SNDBUF, &bytes,
			     sizeof(bytes)),
	    0);
}

/* A pattern that shows when bytes are lost, doubled or swapped. */
static inline char pattern_at(uint64_t pos)
{
	return (char)((pos * UINT64_C(0x9e3779b97f4a7c15)) >> 56);
}

#endif
