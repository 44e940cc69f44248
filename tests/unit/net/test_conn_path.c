/*
 * What a connection is made with: segment size and source address, over IPv4
 * and IPv6; and what TCP tells of the way.
 */
#include "peer.h"

#include <arpa/inet.h>
#include <netinet/tcp.h>

/* A listener whose connections are accepted by the kernel alone. */
static int listen_on(const char *ip, struct conn_target *target)
{
	struct sockaddr_in6 in6 = { .sin6_family = AF_INET6,
		.sin6_addr = IN6ADDR_LOOPBACK_INIT };
	struct sockaddr_in in = { .sin_family = AF_INET };
	bool six = strchr(ip, ':') != NULL;
	int fd = socket(six ? AF_INET6 : AF_INET, SOCK_STREAM, 0);

	*target = (struct conn_target){ 0 };
	target->addr_len = six ? sizeof(in6) : sizeof(in);
	assert_int_equal(
	    inet_pton(AF_INET, six ? "127.0.0.1" : ip, &in.sin_addr), 1);
	if (six)
		memcpy(&target->addr, &in6, sizeof(in6));
	else
		memcpy(&target->addr, &in, sizeof(in));
	assert_int_equal(
	    bind(fd, (struct sockaddr *)&target->addr, target->addr_len), 0);
	assert_int_equal(listen(fd, 5), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&target->addr,
			     &target->addr_len),
	    0);
	return fd;
}

static void stop_when_connected(struct probe *p, const char *what)
{
	(void)what;
	loop_stop(p->loop);
}

static void connect_to(struct probe *p, const struct conn_target *target)
{
	probe_init(p);
	p->keep = true;
	p->hook = stop_when_connected;
	p->conn = conn_connect(p->loop, target, &probe_events, p);
	loop_run(p->loop);
	assert_string_equal(p->told, "connected");
}

static void segment_size(const char *ip)
{
	struct conn_target target;
	struct conn_tcp before, tcp;
	struct probe p;
	int fd = listen_on(ip, &target);

	target.mss = 700;
	connect_to(&p, &target);
	assert_true(conn_tcp_state(p.conn, &before));
	/* Less the timestamps that each segment carries. */
	assert_in_range(before.mss, 600, 700);
	assert_true(before.window > 0);
	conn_write(p.conn, "0123456789", 10);
	/* It is the peer's kernel that acknowledges. */
	do {
		run_for(p.loop, 1000);
		assert_true(conn_tcp_state(p.conn, &tcp));
	} while (tcp.unacked > 0 || tcp.acked == before.acked);
	assert_int_equal(tcp.acked - before.acked, 10);
	assert_int_equal(tcp.in_flight, 0);
	assert_int_equal(tcp.received, 0);
	assert_true(tcp.rtt_us > 0);
	conn_close(p.conn);
	assert_false(conn_tcp_state(p.conn, &tcp));
	probe_fini(&p);

	/* The system's own: what the loopback takes. */
	target.mss = 0;
	connect_to(&p, &target);
	assert_true(conn_tcp_state(p.conn, &tcp));
	assert_true(tcp.mss > 1000);
	probe_fini(&p);
	close(fd);
}

static void test_segment_size(void **state)
{
	(void)state;
	segment_size("127.0.0.1");
	segment_size("::1");
}

static void test_source_address(void **state)
{
	static const char *const ips[] = { "127.0.0.1", "::1" };
	struct sockaddr_storage source = { 0 }, seen;
	socklen_t len;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(ips); i++) {
		struct conn_target target;
		struct probe p;
		int fd = listen_on(ips[i], &target), peer;

		memset(&source, 0, sizeof(source));
		source.ss_family = target.addr.ss_family;
		if (i == 0)
			((struct sockaddr_in *)(void *)&source)
			    ->sin_addr.s_addr = htonl(0x7f000007);
		else
			((struct sockaddr_in6 *)(void *)&source)->sin6_addr =
			    in6addr_loopback;
		target.source = &source;
		target.source_len = target.addr_len;
		connect_to(&p, &target);
		len = sizeof(seen);
		peer = accept(fd, (struct sockaddr *)&seen, &len);
		assert_true(peer >= 0);
		assert_int_equal(seen.ss_family, source.ss_family);
		if (i == 0)
			assert_int_equal(((struct sockaddr_in *)(void *)&seen)
					     ->sin_addr.s_addr,
			    htonl(0x7f000007));
		close(peer);
		probe_fini(&p);
		close(fd);
	}
}

/* A peer that is gone is noticed by the kernel, too. */
static void test_options_that_find_dead_peers(void **state)
{
	struct conn_target target;
	struct probe p;
	int fd = listen_on("127.0.0.1", &target), value = 0;
	socklen_t len = sizeof(value);

	(void)state;
	connect_to(&p, &target);
	assert_int_equal(getsockopt(conn_fd(p.conn), IPPROTO_TCP,
			     TCP_USER_TIMEOUT, &value, &len),
	    0);
	assert_int_equal(value, 60000);
	assert_int_equal(
	    getsockopt(conn_fd(p.conn), SOL_SOCKET, SO_KEEPALIVE, &value, &len),
	    0);
	assert_int_equal(value, 1);
	probe_fini(&p);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_segment_size),
		cmocka_unit_test(test_source_address),
		cmocka_unit_test(test_options_that_find_dead_peers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
