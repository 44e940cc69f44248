/*
 * Sockets that local programs connect to, and accepting from them.
 *
 * Owns the listening descriptor; an accepted one is given to the callback.
 * Loop thread only.  Invariant: the descriptor is watched exactly while the
 * owner has not paused it and those descriptors have not run out that clients
 * may have; a wake accepts at most ACCEPTS_PER_WAKE, so that sessions are served
 * in between.
 */
#include "net/listener.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define BACKLOG 4096
#define ACCEPTS_PER_WAKE 64
#define STARVED_RETRY_US US_PER_S

struct listener {
	struct loop *loop;
	struct loop_watch *watch; /* NULL: not watched */
	struct loop_timer retry; /* while starved */
	listener_accept_fn fn;
	void *ctx;
	int fd;
	bool paused; /* by the owner */
	bool starved; /* of descriptors or memory */
	bool starved_logged; /* since there were enough last */
	bool crowded; /* the last one accepted had a descriptor of the spare */
	unsigned spare; /* descriptors that are not for clients */
	bool closed; /* freed at the end of the turn */
	struct sockaddr_storage addr;
	char text[128];
	bool own_file; /* it is removed with the listener */
};

static void on_connections(void *ctx);

static void listener_arm(struct listener *l)
{
	bool wanted = !l->paused && !l->starved && !l->closed;

	if (wanted && !l->watch) {
		l->watch = loop_watch(l->loop, l->fd, on_connections, l);
	} else if (!wanted) {
		loop_unwatch(l->watch);
		l->watch = NULL;
	}
}

static void starve(struct listener *l, int code)
{
	if (!l->starved_logged)
		log_msg(LOG_LEVEL_WARNING, LOG_SMTPD, LOG_NO_ID,
		    "cannot accept connections on %s: %s; they wait", l->text,
		    strerror(code));
	l->starved_logged = true;
	l->starved = true;
	loop_timer_set(&l->retry, STARVED_RETRY_US);
	listener_arm(l);
}

void listener_fd_freed(struct listener *l)
{
	if (!l->starved || l->closed)
		return;
	l->starved = false;
	loop_timer_clear(&l->retry);
	listener_arm(l);
}

static void on_retry(void *ctx)
{
	listener_fd_freed(ctx);
}

/* 0: go on; -1: not in this wake. */
static int accept_failed(struct listener *l, int code)
{
	switch (code) {
	case EAGAIN:
		return -1;
	/* That client has gone, or its network has (accept(2)). */
	case EINTR:
	case ECONNABORTED:
	case ENETDOWN:
	case EPROTO:
	case ENOPROTOOPT:
	case EHOSTDOWN:
	case ENONET:
	case EHOSTUNREACH:
	case EOPNOTSUPP:
	case ENETUNREACH:
	case EPERM:
		return 0;
	/* EMFILE, ENFILE, ENOBUFS, ENOMEM; the others must not spin either. */
	default:
		starve(l, code);
		return -1;
	}
}

void listener_keep_spare(struct listener *l, unsigned n)
{
	l->spare = n;
}

/* The system gives away the lowest number: from this on, it is of the spare. */
static int first_spare(const struct listener *l)
{
	struct rlimit limit;
	rlim_t spare = l->spare;

	if (l->spare == 0 || getrlimit(RLIMIT_NOFILE, &limit) < 0 ||
	    limit.rlim_cur > INT_MAX)
		return INT_MAX;
	if (spare > limit.rlim_cur / 2)
		spare = limit.rlim_cur / 2;
	return (int)(limit.rlim_cur - spare);
}

/* Would the next client get one of the spare?  Only asked when the last did. */
static bool is_crowded(const struct listener *l)
{
	int next = l->crowded ? fcntl(l->fd, F_DUPFD_CLOEXEC, 0) : -1;

	if (next >= 0)
		close(next);
	return next >= first_spare(l);
}

static void on_connections(void *ctx)
{
	struct listener *l = ctx;
	struct sockaddr_storage peer;
	socklen_t len;
	int fd;

	for (int i = 0; i < ACCEPTS_PER_WAKE && l->watch; i++) {
		if (is_crowded(l)) {
			starve(l, EMFILE);
			return;
		}
		memset(&peer, 0, sizeof(peer));
		len = sizeof(peer);
		fd = accept4(l->fd, (struct sockaddr *)&peer, &len,
		    SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd < 0) {
			if (accept_failed(l, errno) < 0)
				return;
			continue;
		}
		l->crowded = fd >= first_spare(l);
		l->starved_logged &= l->crowded;
		/* It may pause us, or close us. */
		l->fn(l->ctx, fd, (struct sockaddr *)&peer);
	}
}

static int open_socket(const char *address, struct err *err)
{
	struct sockaddr_storage addr;
	socklen_t len;
	int fd = -1, rc = -1, on = 1;

	if (listener_parse_address(address, &addr, &len, err) < 0)
		goto out;
	fd = socket(
	    addr.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0) {
		err_sys(err, "socket for %s", address);
		goto out;
	}
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
	    (addr.ss_family == AF_INET6 &&
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)) <
		    0) ||
	    bind(fd, (struct sockaddr *)&addr, len) < 0 ||
	    listen(fd, BACKLOG) < 0) {
		err_sys(err, "cannot listen on %s", address);
		goto out;
	}
	rc = 0;
out:
	if (rc < 0 && fd >= 0)
		close(fd);
	return rc < 0 ? -1 : fd;
}

/* A descriptor from outside: is it what it should be? */
static int check_socket(int fd, struct sockaddr_storage *addr, struct err *err)
{
	int listening = 0, flags;
	socklen_t len = sizeof(listening), addr_len = sizeof(*addr);

	memset(addr, 0, sizeof(*addr));
	if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &len) < 0)
		return err_sys(err, "descriptor %d", fd);
	if (!listening)
		return err_set(err, 0, "socket %d does not listen", fd);
	flags = fcntl(fd, F_GETFL);
	if (getsockname(fd, (struct sockaddr *)addr, &addr_len) < 0 ||
	    flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ||
	    fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
		return err_sys(err, "socket %d", fd);
	return 0;
}

struct listener *listener_adopt(struct loop *loop, int fd,
    listener_accept_fn fn, void *ctx, struct err *err)
{
	struct listener *l;
	struct sockaddr_storage addr;

	if (check_socket(fd, &addr, err) < 0) {
		close(fd);
		return NULL;
	}
	l = xcalloc(1, sizeof(*l));
	l->loop = loop;
	l->fn = fn;
	l->ctx = ctx;
	l->fd = fd;
	l->addr = addr;
	listener_format_address(listener_sockaddr(l), l->text, sizeof(l->text));
	loop_timer_init(&l->retry, loop, on_retry, l);
	listener_arm(l);
	return l;
}

struct listener *listener_open(struct loop *loop, const char *address,
    listener_accept_fn fn, void *ctx, struct err *err)
{
	bool local = strncmp(address, "unix:", 5) == 0;
	int fd = local ? listener_bind_unix(address + 5, 0666, err)
		       : open_socket(address, err);
	struct listener *l = NULL;

	if (fd >= 0)
		l = listener_adopt(loop, fd, fn, ctx, err);
	if (l)
		l->own_file = local;
	return l;
}

const char *listener_address(const struct listener *l)
{
	return l->text;
}

const struct sockaddr *listener_sockaddr(const struct listener *l)
{
	return (const struct sockaddr *)&l->addr;
}

void listener_pause(struct listener *l)
{
	l->paused = true;
	listener_arm(l);
}

void listener_resume(struct listener *l)
{
	l->paused = false;
	listener_arm(l);
}

static void listener_free(void *ptr)
{
	struct listener *l = ptr;

	loop_timer_fini(&l->retry);
	free(l);
}

void listener_close(struct listener *l)
{
	if (!l || l->closed)
		return;
	l->closed = true;
	listener_arm(l);
	loop_timer_clear(&l->retry);
	close(l->fd);
	if (l->own_file)
		(void)unlink(l->text + strlen("unix:"));
	loop_defer(l->loop, listener_free, l);
}
