/*
 * The sockets of connections: their options, who is at the other end, and the
 * start and the result of connecting.
 *
 * Owns nothing: descriptors belong to the connection.  Loop thread only; no
 * call here waits.
 */
#include "net/conn_private.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

/* A peer that is gone is noticed by the kernel, too. */
#define USER_TIMEOUT_MS 60000
#define KEEPALIVE_IDLE_S 30
#define KEEPALIVE_INTERVAL_S 10
#define KEEPALIVE_PROBES 3

static void set_int_option(int fd, int level, int name, int value)
{
	/* For speed and for earlier notice only; not every socket has it. */
	(void)!setsockopt(fd, level, name, &value, sizeof(value));
}

void conn_socket_set_peer(struct conn *c, const struct sockaddr_storage *addr)
{
	union {
		const struct sockaddr_storage *any;
		const struct sockaddr_in *in;
		const struct sockaddr_in6 *in6;
	} a = { addr };
	const char *text = "unknown";

	if (addr->ss_family == AF_INET) {
		text = inet_ntop(
		    AF_INET, &a.in->sin_addr, c->peer_ip, sizeof(c->peer_ip));
		c->peer_port = ntohs(a.in->sin_port);
	} else if (addr->ss_family == AF_INET6) {
		bool mapped = IN6_IS_ADDR_V4MAPPED(&a.in6->sin6_addr);
		const uint8_t *bytes = a.in6->sin6_addr.s6_addr;

		text = inet_ntop(mapped ? AF_INET : AF_INET6,
		    mapped ? bytes + 12 : bytes, c->peer_ip,
		    sizeof(c->peer_ip));
		c->peer_port = ntohs(a.in6->sin6_port);
	} else if (addr->ss_family == AF_UNIX) {
		text = "unix";
	}
	ASSERT(text);
	if (text != c->peer_ip)
		snprintf(c->peer_ip, sizeof(c->peer_ip), "%s", text);
}

void conn_socket_accepted(struct conn *c)
{
	struct sockaddr_storage peer = { .ss_family = AF_UNSPEC };
	socklen_t len = sizeof(peer);

	if (getpeername(c->fd, (struct sockaddr *)&peer, &len) < 0)
		peer.ss_family = AF_UNSPEC; /* it has gone already */
	conn_socket_set_peer(c, &peer);
	evutil_make_socket_nonblocking(c->fd);
	set_int_option(c->fd, IPPROTO_TCP, TCP_NODELAY, 1);
}

static void set_outgoing_options(int fd, const struct conn_target *target)
{
	set_int_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
	set_int_option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, USER_TIMEOUT_MS);
	set_int_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
	set_int_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, KEEPALIVE_IDLE_S);
	set_int_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S);
	set_int_option(fd, IPPROTO_TCP, TCP_KEEPCNT, KEEPALIVE_PROBES);
	if (target->mss > 0)
		set_int_option(fd, IPPROTO_TCP, TCP_MAXSEG, target->mss);
	/* The port is chosen with the destination known. */
	if (target->source)
		set_int_option(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1);
}

int conn_socket_connect(
    int *fd, const struct conn_target *target, struct err *err)
{
	const struct sockaddr *addr = (const struct sockaddr *)&target->addr;
	const struct sockaddr *source = (const struct sockaddr *)target->source;

	*fd = socket(
	    addr->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (*fd < 0)
		return err_sys(err, "socket");
	set_outgoing_options(*fd, target);
	if (source && bind(*fd, source, target->source_len) < 0)
		return err_sys(err, "bind to the source address");
	if (connect(*fd, addr, target->addr_len) < 0 && errno != EINPROGRESS &&
	    errno != EINTR)
		return err_set(err, errno, "%s", strerror(errno));
	return 0;
}

int conn_socket_connected(struct conn *c)
{
	struct sockaddr_storage peer;
	socklen_t len = sizeof(peer), error_len = sizeof(c->error);
	char byte;

	/*
	 * SO_ERROR would call a peer that spoke and was gone a failure to
	 * connect, and its words would be lost.
	 */
	if (recv(c->fd, &byte, 1, MSG_PEEK) >= 0)
		return 1;
	c->error = errno;
	if (c->error == EAGAIN || c->error == EINTR) {
		if (getpeername(c->fd, (struct sockaddr *)&peer, &len) == 0)
			return 1;
		/* Woken by ICMP, which the kernel itself would ignore. */
		if (getsockopt(
			c->fd, SOL_SOCKET, SO_ERROR, &c->error, &error_len) < 0)
			c->error = errno;
		if (c->error == 0)
			return 0;
	}
	c->end = CONN_END_REFUSED;
	snprintf(c->reason, sizeof(c->reason), "%s", strerror(c->error));
	return -1;
}

bool conn_tcp_state(const struct conn *c, struct conn_tcp *out)
{
	/* An older kernel fills in less: the rest stays 0. */
	struct tcp_info info = { 0 };
	socklen_t len = sizeof(info);
	int unacked = 0;

	if (c->fd < 0 ||
	    getsockopt(c->fd, IPPROTO_TCP, TCP_INFO, &info, &len) < 0 ||
	    ioctl(c->fd, SIOCOUTQ, &unacked) < 0)
		return false;
	*out = (struct conn_tcp){
		.acked = info.tcpi_bytes_acked,
		.received = info.tcpi_bytes_received,
		.unacked = (uint32_t)unacked,
		.in_flight = info.tcpi_unacked,
		.retransmits = info.tcpi_retransmits,
		.sacked = info.tcpi_sacked,
		.mss = info.tcpi_snd_mss,
		.window = info.tcpi_snd_wnd,
		.out_of_order = info.tcpi_rcv_ooopack,
		.rtt_us = info.tcpi_rtt,
	};
	return true;
}
