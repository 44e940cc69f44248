/*
 * Connections in clear: connecting, the ends, deadlines, back-pressure, large
 * transfers, and closing wherever the owner may close.
 */
#include "peer.h"

#include <sys/resource.h>

#define MIB (1024 * 1024)

static void test_connect_is_refused(void **state)
{
	struct peer nobody = { 0 };
	struct probe p;

	(void)state;
	/* Bound, but nobody listens: the port stays ours. */
	peer_open(&nobody);
	probe_init(&p);
	probe_connect(&p, nobody.port);
	conn_write(p.conn, "x", 1);
	loop_run(p.loop);
	assert_string_equal(p.told, "end");
	assert_int_equal(p.end, CONN_END_REFUSED);
	assert_string_equal(p.reason, "Connection refused");
	probe_fini(&p);
	close(nobody.listen_fd);
}

/* What fails in the call itself is told later, like all the rest. */
static void test_connect_fails_at_once(void **state)
{
	struct conn_target t = target_of(1);
	struct sockaddr_in source = { .sin_family = AF_INET,
		.sin_addr = { htonl(0xc0000201) } }; /* 192.0.2.1 */
	struct sockaddr_storage any = { 0 };
	struct probe p;

	(void)state;
	probe_init(&p);
	memcpy(&any, &source, sizeof(source));
	t.source = &any;
	t.source_len = sizeof(source);
	p.in_call = true;
	p.conn = conn_connect(p.loop, &t, &probe_events, &p);
	conn_write(p.conn, "x", 1);
	conn_deadline(p.conn, 3600 * US_PER_S);
	p.in_call = false;
	loop_run(p.loop);
	assert_string_equal(p.told, "end");
	assert_int_equal(p.end, CONN_END_REFUSED);
	assert_string_equal(p.reason,
	    "bind to the source address: Cannot assign requested address");
	probe_fini(&p);
}

static void test_connect_without_descriptors(void **state)
{
	struct conn_target t = target_of(1);
	struct rlimit old, none;
	struct probe p;

	(void)state;
	probe_init(&p);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	none = old;
	none.rlim_cur = 0;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	p.conn = conn_connect(p.loop, &t, &probe_events, &p);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
	assert_int_equal(conn_fd(p.conn), -1);
	loop_run(p.loop);
	assert_int_equal(p.end, CONN_END_REFUSED);
	assert_string_equal(p.reason, "socket: Too many open files");
	probe_fini(&p);
}

static void script_send_and_close(struct peer *peer)
{
	peer_say(peer, "220 hello\r\nunfinished");
}

static void test_eof_comes_after_the_data(void **state)
{
	struct peer peer = { 0 };
	struct probe p;

	(void)state;
	peer_start(&peer, script_send_and_close, NULL);
	probe_init(&p);
	probe_connect(&p, peer.port);
	assert_string_equal(conn_peer_ip(p.conn), "127.0.0.1");
	assert_int_equal(conn_peer_port(p.conn), peer.port);
	loop_run(p.loop);
	assert_string_equal(p.told, "connected readable end");
	assert_int_equal(p.end, CONN_END_EOF);
	assert_string_equal(p.input, "220 hello\r\nunfinished");
	probe_fini(&p);
	peer_finish(&peer);
}

static void count_offers(struct probe *p, const char *what)
{
	int *n = p->extra;

	if (strcmp(what, "end") == 0) {
		/* It was offered anew, and is still there. */
		assert_int_equal(conn_input_len(p->conn), 21);
		assert_true(*n >= 2);
	} else if (strcmp(what, "readable") == 0) {
		++*n;
	}
}

static void test_eof_with_unread_input(void **state)
{
	struct peer peer = { 0 };
	struct probe p;
	int n = 0;

	(void)state;
	peer_start(&peer, script_send_and_close, NULL);
	probe_init(&p);
	p.keep = true;
	p.hook = count_offers;
	p.extra = &n;
	probe_connect(&p, peer.port);
	loop_run(p.loop);
	assert_int_equal(p.end, CONN_END_EOF);
	assert_string_equal(p.told, "connected readable end");
	probe_fini(&p);
	peer_finish(&peer);
}

static void script_send_and_reset(struct peer *peer)
{
	peer_say(peer, "421 go away\r\n");
	peer_reset(peer);
}

static void test_reset(void **state)
{
	struct peer peer = { 0 };
	struct probe p;

	(void)state;
	peer_start(&peer, script_send_and_reset, NULL);
	probe_init(&p);
	probe_connect(&p, peer.port);
	loop_run(p.loop);
	assert_int_equal(p.end, CONN_END_RESET);
	assert_string_equal(p.reason, "Connection reset by peer");
	assert_string_equal(p.input, "421 go away\r\n");
	probe_fini(&p);
	peer_finish(&peer);
}

/* The peer says why and is gone while we still write. */
static void write_on(struct probe *p, const char *what)
{
	static const char zeros[MIB];

	if (strcmp(what, "connected") == 0)
		conn_write(p->conn, zeros, sizeof(zeros));
}

static void script_421_while_written_to(struct peer *peer)
{
	char byte;

	ASSERT(recv(peer->fd, &byte, 1, 0) == 1);
	peer_say(peer, "421 go away\r\n");
	/* Unread input makes it a reset. */
	close(peer->fd);
	peer->fd = -1;
}

static void test_last_words_before_a_failed_write(void **state)
{
	struct probe p;

	(void)state;
	for (int i = 0; i < 20; i++) {
		struct peer peer = { .rcvbuf = 4096 };

		peer_start(&peer, script_421_while_written_to, NULL);
		probe_init(&p);
		p.hook = write_on;
		probe_connect(&p, peer.port);
		loop_run(p.loop);
		assert_int_equal(p.end, CONN_END_RESET);
		assert_string_equal(p.input, "421 go away\r\n");
		assert_string_equal(p.told, "connected readable end");
		probe_fini(&p);
		peer_finish(&peer);
	}
}

static void set_deadline(struct probe *p, const char *what)
{
	int64_t *due_us = p->extra;

	if (strcmp(what, "connected") == 0) {
		conn_deadline(p->conn, 1000);
		conn_deadline(p->conn, -1);
		conn_deadline(p->conn, 30 * US_PER_MS);
		*due_us = clock_mono_us() + 30 * US_PER_MS;
	} else if (strcmp(what, "end") == 0) {
		assert_true(clock_mono_us() >= *due_us);
	}
}

static void script_drip(struct peer *peer)
{
	/* Traffic does not move the deadline; ends when we are closed. */
	while (send(peer->fd, ".", 1, MSG_NOSIGNAL) == 1)
		usleep(1000);
}

static void test_deadline(void **state)
{
	struct peer peer = { 0 };
	struct probe p;
	int64_t due_us = 0;

	(void)state;
	peer_start(&peer, script_drip, NULL);
	probe_init(&p);
	p.hook = set_deadline;
	p.extra = &due_us;
	probe_connect(&p, peer.port);
	loop_run(p.loop);
	assert_int_equal(p.end, CONN_END_TIMEOUT);
	assert_string_equal(p.told, "connected readable end");
	probe_fini(&p);
	peer_finish(&peer);
}

static void clear_deadline(struct probe *p, const char *what)
{
	if (strcmp(what, "connected") != 0)
		return;
	conn_deadline(p->conn, 1000);
	conn_deadline(p->conn, -1);
}

static void script_silent(struct peer *peer)
{
	peer_read_all(peer, NULL, 0);
}

static void test_deadline_is_cleared(void **state)
{
	struct peer peer = { 0 };
	struct probe p;

	(void)state;
	peer_start(&peer, script_silent, NULL);
	probe_init(&p);
	p.hook = clear_deadline;
	probe_connect(&p, peer.port);
	run_for(p.loop, 20 * US_PER_MS);
	assert_string_equal(p.told, "connected");
	probe_fini(&p);
	peer_finish(&peer);
}

static void script_connected_too_late(struct peer *peer)
{
	(void)peer;
}

static void test_deadline_of_the_connect(void **state)
{
	/* Full backlog: the connect hangs, as with a firewall. */
	struct peer peer = { .script = script_connected_too_late };
	struct probe p;
	static const struct conn_events no_events;
	struct conn *others[4] = { 0 };
	struct conn_target t;

	(void)state;
	peer_open(&peer);
	assert_int_equal(listen(peer.listen_fd, 0), 0);
	probe_init(&p);
	t = target_of(peer.port);
	for (size_t i = 0; i < ARRAY_LEN(others); i++)
		others[i] = conn_connect(p.loop, &t, &no_events, NULL);
	probe_connect(&p, peer.port);
	conn_deadline(p.conn, 100 * US_PER_MS);
	loop_run(p.loop);
	assert_string_equal(p.told, "end");
	assert_int_equal(p.end, CONN_END_TIMEOUT);
	for (size_t i = 0; i < ARRAY_LEN(others); i++)
		conn_close(others[i]);
	probe_fini(&p);
	close(peer.listen_fd);
}

/* Sends `total` of the pattern and checks that the same comes back. */
struct echo {
	struct probe *p;
	uint64_t total, sent, seen;
	int n_refs, n_released;
	bool bad;
};

static void release_block(void *arg)
{
	struct echo **owner = arg;

	(*owner)->n_released++;
	free(owner);
}

/* Pieces of all sizes; every other one by reference, from its own memory. */
static void echo_feed(struct echo *e)
{
	while (e->sent < e->total && conn_output_len(e->p->conn) < 200000) {
		size_t len = 1 + (e->sent * 7919) % 50000;
		struct echo **block;
		char *data;

		if (len > e->total - e->sent)
			len = e->total - e->sent;
		block = xmalloc(sizeof(*block) + len);
		*block = e;
		data = (char *)(block + 1);
		for (size_t i = 0; i < len; i++)
			data[i] = pattern_at(e->sent + i);
		e->n_refs++;
		if (len % 2) {
			conn_write_ref(
			    e->p->conn, data, len, release_block, block);
		} else {
			conn_write(e->p->conn, data, len);
			release_block(block);
		}
		e->sent += len;
	}
}

static void echo_check(struct echo *e)
{
	struct slice s;

	while ((s = conn_peek(e->p->conn)).len > 0) {
		for (size_t i = 0; i < s.len; i++) {
			if (s.ptr[i] != pattern_at(e->seen + i))
				e->bad = true;
		}
		e->seen += s.len;
		conn_consume(e->p->conn, s.len);
	}
	if (e->seen == e->total)
		loop_stop(e->p->loop);
}

static void echo_hook(struct probe *p, const char *what)
{
	struct echo *e = p->extra;

	if (strcmp(what, "connected") == 0) {
		conn_set_low_water(p->conn, 100000);
		limit_send_buffer(p->conn);
	}
	if (strcmp(what, "readable") == 0)
		echo_check(e);
	else if (strcmp(what, "end") != 0)
		echo_feed(e);
}

static void script_echo(struct peer *peer)
{
	char buf[10000];
	ssize_t n;

	while ((n = recv(peer->fd, buf, sizeof(buf), 0)) > 0)
		peer_send(peer, buf, (size_t)n);
}

static void test_large_transfer_both_ways(void **state)
{
	struct peer peer = { .rcvbuf = 8192, .sndbuf = 8192 };
	struct probe p;
	struct echo e = { .p = &p, .total = 10 * MIB };

	(void)state;
	peer_start(&peer, script_echo, NULL);
	probe_init(&p);
	p.keep = true;
	p.hook = echo_hook;
	p.extra = &e;
	probe_connect(&p, peer.port);
	loop_run(p.loop);
	assert_string_equal(p.told, "connected readable");
	assert_int_equal(e.seen, e.total);
	assert_false(e.bad);
	assert_int_equal(conn_written(p.conn), e.total);
	assert_int_equal(conn_output_len(p.conn), 0);
	assert_int_equal(e.n_released, e.n_refs);
	probe_fini(&p);
	peer_finish(&peer);
}

/* References are given back when the bytes are dropped, too. */
static void test_references_are_released_on_close(void **state)
{
	struct peer peer = { 0 };
	struct probe p;
	struct echo e = { .p = &p };

	(void)state;
	peer_open(&peer);
	probe_init(&p);
	probe_connect(&p, peer.port);
	for (int i = 0; i < 3; i++) {
		struct echo **block = xmalloc(sizeof(*block));

		*block = &e;
		if (i == 2) {
			conn_close(p.conn);
			assert_int_equal(e.n_released, 2);
		}
		conn_write_ref(p.conn, "data", 4, release_block, block);
	}
	assert_int_equal(e.n_released, 3);
	p.conn = NULL;
	probe_fini(&p);
	close(peer.listen_fd);
}

#define FLOOD_BYTES (8 * MIB)

static void script_flood(struct peer *peer)
{
	char buf[4096];

	for (uint64_t at = 0; at < FLOOD_BYTES; at += sizeof(buf)) {
		for (size_t i = 0; i < sizeof(buf); i++)
			buf[i] = pattern_at(at + i);
		peer_send(peer, buf, sizeof(buf));
	}
}

struct flood {
	struct echo e;
	struct loop_timer timer;
	int n_stalls;
};

static void flood_timer(void *ctx)
{
	struct flood *f = ctx;

	/* Since the last look not one byte more was taken from the socket. */
	assert_int_equal(conn_input_len(f->e.p->conn), 65536);
	f->n_stalls++;
	/* Not enough to go on; then enough. */
	conn_consume(f->e.p->conn, 100);
	assert_int_equal(conn_input_len(f->e.p->conn), 65536 - 100);
	f->e.seen += 100;
	echo_check(&f->e);
}

static void flood_hook(struct probe *p, const char *what)
{
	struct flood *f = p->extra;

	assert_true(
	    strcmp(what, "end") == 0 || conn_input_len(p->conn) <= 65536);
	if (strcmp(what, "readable") != 0)
		return;
	if (f->n_stalls == 5)
		echo_check(&f->e);
	else if (conn_input_len(p->conn) == 65536)
		loop_timer_set(&f->timer, 10 * US_PER_MS);
}

static void test_unread_input_stops_reading(void **state)
{
	struct peer peer = { 0 };
	struct probe p;
	struct flood f = { .e = { .p = &p, .total = FLOOD_BYTES } };

	(void)state;
	peer_start(&peer, script_flood, NULL);
	probe_init(&p);
	loop_timer_init(&f.timer, p.loop, flood_timer, &f);
	p.keep = true;
	p.hook = flood_hook;
	p.extra = &f;
	probe_connect(&p, peer.port);
	loop_run(p.loop);
	assert_int_equal(f.n_stalls, 5);
	assert_int_equal(f.e.seen, FLOOD_BYTES);
	assert_false(f.e.bad);
	loop_timer_fini(&f.timer);
	probe_fini(&p);
	peer_finish(&peer);
}

static void stop_on(struct probe *p, const char *what)
{
	if (strcmp(p->extra, what) == 0)
		loop_stop(p->loop);
}

/* While it is paused, neither input nor the end is noticed. */
static void test_pause_and_resume(void **state)
{
	struct peer peer = { 0 };
	struct probe p;

	(void)state;
	peer_start(&peer, script_send_and_close, NULL);
	probe_init(&p);
	p.hook = stop_on;
	p.extra = (void *)(uintptr_t) "connected";
	probe_connect(&p, peer.port);
	conn_pause(p.conn);
	loop_run(p.loop);
	peer_finish(&peer); /* all is said and closed */
	run_for(p.loop, 20 * US_PER_MS);
	assert_string_equal(p.told, "connected");
	conn_resume(p.conn);
	loop_run(p.loop);
	assert_string_equal(p.told, "connected readable end");
	assert_int_equal(p.end, CONN_END_EOF);
	assert_string_equal(p.input, "220 hello\r\nunfinished");
	probe_fini(&p);
}

/* On a socket that keeps packets apart, one write is one packet. */
static void test_a_turn_is_one_write(void **state)
{
	struct probe p;
	char buf[64];
	int fds[2];

	(void)state;
	probe_init(&p);
	assert_int_equal(
	    socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds), 0);
	p.conn = conn_accept(p.loop, fds[0], &probe_events, &p);
	assert_string_equal(conn_peer_ip(p.conn), "unix");
	assert_int_equal(conn_fd(p.conn), fds[0]);
	conn_write(p.conn, "one ", 4);
	conn_write_ref(p.conn, "two ", 4, free, NULL);
	conn_write(p.conn, "three", 5);
	assert_int_equal(conn_output_len(p.conn), 13);
	assert_int_equal(conn_written(p.conn), 0);
	run_for(p.loop, 0);
	assert_int_equal(conn_written(p.conn), 13);
	assert_int_equal(recv(fds[1], buf, sizeof(buf), MSG_DONTWAIT), 13);
	assert_memory_equal(buf, "one two three", 13);
	close(fds[1]);
	probe_fini(&p);
}

/* The reply that on_turn gives leaves before the loop sleeps. */
static void has_left(void *ptr)
{
	struct probe *p = ptr;

	assert_int_equal(conn_written(p->conn), 4);
}

static void turn_writes(void *ctx)
{
	struct probe *p = ctx;

	if (p->conn && p->input_len == 0 && strcmp(p->told, "connected") == 0) {
		conn_write(p->conn, "echo", 4);
		p->hook = NULL;
		strcat(p->told, " turn");
		/* In this very turn. */
		loop_defer(p->loop, has_left, p);
	}
}

static void test_output_of_on_turn_is_flushed(void **state)
{
	struct peer peer = { 0 };
	struct probe p;

	(void)state;
	peer_start(&peer, script_echo, NULL);
	probe_init(&p);
	p.stop_on_readable = true;
	loop_on_turn(p.loop, turn_writes, &p);
	probe_connect(&p, peer.port);
	loop_run(p.loop);
	assert_string_equal(p.told, "connected turn readable");
	assert_string_equal(p.input, "echo");
	probe_fini(&p);
	peer_finish(&peer);
}

struct closing {
	const char *where;
	bool after_flush;
};

static void close_hook(struct probe *p, const char *what)
{
	const struct closing *how = p->extra;
	struct conn *c = p->conn;

	if (strcmp(what, "connected") == 0)
		conn_write(c, "hello\r\nthere\r\n", 14);
	if (strcmp(how->where, what) != 0)
		return;
	if (how->after_flush) {
		conn_close_after_flush(c);
		conn_close_after_flush(c);
	} else {
		conn_close(c);
		conn_close(c);
	}
	p->conn = NULL;
	loop_stop(p->loop);
}

static void script_greet_echo_reset(struct peer *peer)
{
	char buf[100];

	peer_say(peer, "greeting\r\n");
	if (recv(peer->fd, buf, sizeof(buf), 0) > 0)
		(void)!send(peer->fd, buf, 5, MSG_NOSIGNAL);
	peer_reset(peer);
}

/* Under the address sanitizer: nothing is touched that is gone. */
static void test_close_in_every_callback(void **state)
{
	static const struct closing how[] = {
		{ "connected", false },
		{ "connected", true },
		{ "readable", false },
		{ "readable", true },
		{ "writable", false },
		{ "writable", true },
		{ "end", false },
		{ "end", true },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(how); i++) {
		struct peer peer = { 0 };
		struct probe p;

		peer_start(&peer, script_greet_echo_reset, NULL);
		probe_init(&p);
		p.hook = close_hook;
		p.extra = (void *)(uintptr_t)&how[i];
		probe_connect(&p, peer.port);
		loop_run(p.loop);
		assert_null(p.conn);
		/* Nothing is told after it, whatever else arrives. */
		run_for(p.loop, 5 * US_PER_MS);
		if (strcmp(how[i].where, "writable") != 0)
			assert_string_equal(strrchr(p.told, ' ')
				? strrchr(p.told, ' ') + 1
				: p.told,
			    how[i].where);
		probe_fini(&p);
		peer_finish(&peer);
	}
}

static void on_read_closed(void *ctx)
{
	struct probe *p = ctx;
	struct slice line;
	bool bare;

	assert_int_equal(conn_read_line(p->conn, 100, &line, &bare), 1);
	assert_int_equal(line.len, 3);
	conn_close(p->conn);
	/* The line stays, the rest is gone, all calls are harmless. */
	assert_memory_equal(line.ptr, "one", 3);
	assert_int_equal(conn_read_line(p->conn, 100, &line, &bare), 0);
	assert_int_equal(conn_peek(p->conn).len, 0);
	conn_consume(p->conn, 1);
	conn_discard_input(p->conn);
	assert_true(conn_input_empty(p->conn));
	conn_write(p->conn, "x", 1);
	assert_int_equal(conn_output_len(p->conn), 0);
	conn_pause(p->conn);
	conn_resume(p->conn);
	conn_deadline(p->conn, 0);
	conn_close_after_flush(p->conn);
	p->conn = NULL;
	loop_stop(p->loop);
}

static void test_a_closed_conn_is_harmless(void **state)
{
	struct conn_events events = probe_events;
	struct probe p;
	int fds[2];

	(void)state;
	probe_init(&p);
	events.on_readable = on_read_closed;
	assert_int_equal(
	    socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	p.conn = conn_accept(p.loop, fds[0], &events, &p);
	assert_int_equal(write(fds[1], "one\r\ntwo\r\n", 10), 10);
	loop_run(p.loop);
	close(fds[1]);
	probe_fini(&p);
	conn_close(NULL);
	conn_close_after_flush(NULL);
}

struct talk {
	char reply[100];
	ssize_t len;
	size_t flood_bytes;
};

/* Talks on and on, and only then looks at what it was told. */
static void script_talk_first(struct peer *peer)
{
	struct talk *talk = peer->extra;
	char buf[1000] = { 0 };

	for (size_t i = 0; i < talk->flood_bytes; i += sizeof(buf))
		peer_send(peer, buf, sizeof(buf));
	shutdown(peer->fd, SHUT_WR);
	talk->len = peer_read_all(peer, talk->reply, sizeof(talk->reply));
}

static void say_421_and_close(struct probe *p, const char *what)
{
	if (strcmp(what, "readable") != 0)
		return;
	conn_pause(p->conn);
	conn_write(p->conn, "421 too many\r\n", 14);
	conn_close_after_flush(p->conn);
	p->conn = NULL;
	loop_stop(p->loop);
}

/* What we say last arrives though the peer has not stopped talking: no reset
 * overtakes it. */
static void test_last_words_arrive(void **state)
{
	struct peer peer = { 0 };
	struct probe p;
	struct talk talk = { .flood_bytes = 4 * MIB };

	(void)state;
	peer_start(&peer, script_talk_first, &talk);
	probe_init(&p);
	p.keep = true;
	p.hook = say_421_and_close;
	probe_connect(&p, peer.port);
	loop_run(p.loop);
	run_until_done(p.loop, &peer);
	peer_finish(&peer);
	assert_int_equal(talk.len, 14);
	assert_string_equal(talk.reply, "421 too many\r\n");
	probe_fini(&p);
}

static void release_nothing(void *arg)
{
	(void)arg;
}

static void say_much_and_close(struct probe *p, const char *what)
{
	static const char zeros[16384];

	if (strcmp(what, "connected") != 0)
		return;
	for (int i = 0; i < 8 * MIB / 16384; i++)
		conn_write_ref(
		    p->conn, zeros, sizeof(zeros), release_nothing, NULL);
	conn_close_after_flush(p->conn);
	p->conn = NULL;
	loop_stop(p->loop);
}

/* More than one turn may write, and more than the kernel takes. */
static void test_much_output_before_closing(void **state)
{
	struct peer peer = { 0 };
	struct probe p;
	struct talk talk = { .flood_bytes = 0 };

	(void)state;
	peer_start(&peer, script_talk_first, &talk);
	probe_init(&p);
	p.hook = say_much_and_close;
	probe_connect(&p, peer.port);
	loop_run(p.loop);
	run_until_done(p.loop, &peer);
	peer_finish(&peer);
	assert_int_equal(talk.len, 8 * MIB);
	probe_fini(&p);
}

static void script_never_close(struct peer *peer)
{
	char buf[100];

	/* Our end of file comes at once, the reset after two seconds. */
	while (recv(peer->fd, buf, sizeof(buf), 0) > 0)
		;
	while (send(peer->fd, "x", 1, MSG_NOSIGNAL) == 1)
		usleep(10000);
}

static void test_lingering_is_limited(void **state)
{
	struct peer peer = { 0 };
	struct probe p;
	int64_t start;

	(void)state;
	peer_start(&peer, script_never_close, NULL);
	probe_init(&p);
	p.hook = close_hook;
	p.extra = &(struct closing){ "connected", true };
	probe_connect(&p, peer.port);
	loop_run(p.loop);
	start = clock_mono_us();
	run_until_done(p.loop, &peer);
	clock_update();
	assert_in_range((clock_mono_us() - start) / US_PER_MS, 1500, 3000);
	probe_fini(&p);
	peer_finish(&peer);
}

static void script_never_read(struct peer *peer)
{
	char byte;

	ASSERT(read(*(int *)peer->extra, &byte, 1) == 0);
}

/* A loop that ends takes those with it that still had output. */
static void test_loop_free_closes_orphans(void **state)
{
	struct peer peer = { .rcvbuf = 4096 };
	struct probe p;
	struct echo e = { .p = &p };
	struct echo **block = xmalloc(sizeof(*block) + 8 * MIB);
	int fds[2];

	(void)state;
	assert_int_equal(pipe(fds), 0);
	peer_start(&peer, script_never_read, &fds[0]);
	probe_init(&p);
	p.hook = stop_on;
	p.extra = (void *)(uintptr_t) "connected";
	probe_connect(&p, peer.port);
	loop_run(p.loop);
	*block = &e;
	memset(block + 1, 'x', 8 * MIB);
	conn_write_ref(p.conn, block + 1, 8 * MIB, release_block, block);
	conn_close_after_flush(p.conn);
	p.conn = NULL;
	run_for(p.loop, 0);
	assert_int_equal(e.n_released, 0);
	probe_fini(&p);
	assert_int_equal(e.n_released, 1);
	close(fds[1]);
	peer_finish(&peer);
	close(fds[0]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_connect_is_refused),
		cmocka_unit_test(test_connect_fails_at_once),
		cmocka_unit_test(test_connect_without_descriptors),
		cmocka_unit_test(test_eof_comes_after_the_data),
		cmocka_unit_test(test_eof_with_unread_input),
		cmocka_unit_test(test_reset),
		cmocka_unit_test(test_last_words_before_a_failed_write),
		cmocka_unit_test(test_deadline),
		cmocka_unit_test(test_deadline_is_cleared),
		cmocka_unit_test(test_deadline_of_the_connect),
		cmocka_unit_test(test_large_transfer_both_ways),
		cmocka_unit_test(test_references_are_released_on_close),
		cmocka_unit_test(test_unread_input_stops_reading),
		cmocka_unit_test(test_pause_and_resume),
		cmocka_unit_test(test_a_turn_is_one_write),
		cmocka_unit_test(test_output_of_on_turn_is_flushed),
		cmocka_unit_test(test_close_in_every_callback),
		cmocka_unit_test(test_a_closed_conn_is_harmless),
		cmocka_unit_test(test_last_words_arrive),
		cmocka_unit_test(test_much_output_before_closing),
		cmocka_unit_test(test_lingering_is_limited),
		cmocka_unit_test(test_loop_free_closes_orphans),
	};

	return cmocka_run_group_tests_name("conn", tests, NULL, NULL);
}
