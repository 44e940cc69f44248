/*
 * Sockets that local programs connect to.  Bound here or handed in by the
 * service manager.  When descriptors run out, accepting pauses and starts again
 * when one was freed or a second has passed: it never spins.
 */
#ifndef NET_LISTENER_H
#define NET_LISTENER_H

#include "net/loop.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>

/* "127.0.0.1:25", "[::1]:25", "unix:/run/sesrelayd/smtp"; a port of 0 lets the
 * system choose.  Host names are not looked up. */
MUST_CHECK int listener_parse_address(const char *text,
    struct sockaddr_storage *addr, socklen_t *len, struct err *err);
/* 127.0.0.0/8, ::1, ::ffff:127.0.0.0/104, or not an IP socket. */
bool listener_is_loopback(const struct sockaddr *addr);
/* "127.0.0.1:25", "[::1]:25" */
void listener_format_address(
    const struct sockaddr *addr, char *buf, size_t size);

/* A network such as 127.0.0.0/8 or ::1/128; without a prefix, one address. */
struct network {
	int family;
	uint8_t bytes[16];
	unsigned prefix;
};
/* Bits set behind the prefix are a failure: 127.0.0.1/8 is a slip. */
MUST_CHECK int network_parse(
    const char *text, struct network *out, struct err *err);
/* IPv4-mapped IPv6 addresses match IPv4 networks. */
bool network_contains(const struct network *n, const struct sockaddr *addr);

/*
 * A local socket at `path` (listener_unix.c): makes its directory if only that
 * is missing, and replaces the file of a daemon that crashed, but not that of
 * one that answers.  The descriptor, which listens, or -1.
 */
MUST_CHECK int listener_bind_unix(
    const char *path, mode_t mode, struct err *err);

struct listener;
/* fd is the callee's, non-blocking and close-on-exec.  It may pause or close
 * the listener. */
typedef void (*listener_accept_fn)(
    void *ctx, int fd, const struct sockaddr *peer);

/*
 * Binds and listens; the descriptor is non-blocking.  A local socket is open to
 * every user of the host (mode 0666), and its file goes with the listener.
 */
MUST_CHECK struct listener *listener_open(struct loop *loop,
    const char *address, listener_accept_fn fn, void *ctx, struct err *err);
/* A socket that already listens; takes fd. */
MUST_CHECK struct listener *listener_adopt(struct loop *loop, int fd,
    listener_accept_fn fn, void *ctx, struct err *err);
/* The address it is bound to, as text. */
const char *listener_address(const struct listener *l);
const struct sockaddr *listener_sockaddr(const struct listener *l);
/* Where clients may be: a paused listener leaves them in the backlog. */
void listener_pause(struct listener *l);
void listener_resume(struct listener *l);
/* So many descriptors are left to others, though not more than half of those
 * that are allowed: clients who would need them wait.  At first 0. */
void listener_keep_spare(struct listener *l, unsigned n);
/* A descriptor was freed: accept again now, if out of them. */
void listener_fd_freed(struct listener *l);
void listener_close(struct listener *l); /* NULL is legal */

#endif
