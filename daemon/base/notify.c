/*
 * The service manager's protocols: one datagram out, a row of sockets in.
 *
 * Owns nothing; loop thread and start-up.  A manager that does not read its
 * socket may hold us up for a second, not for good; what it then misses it
 * asks for by its own timeouts.
 */
#include "base/notify.h"

#include "base/clock.h"
#include "base/slice.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define FIRST_FD 3 /* SD_LISTEN_FDS_START */

/* A path, or "@name" in the abstract namespace; 0 when it is neither. */
static socklen_t manager_address(struct sockaddr_un *addr)
{
	const char *path = getenv("NOTIFY_SOCKET");
	size_t len = path ? strlen(path) : 0;

	if (len < 2 || len >= sizeof(addr->sun_path) ||
	    (path[0] != '/' && path[0] != '@'))
		return 0;
	*addr = (struct sockaddr_un){ .sun_family = AF_UNIX };
	memcpy(addr->sun_path, path, len);
	if (path[0] == '@')
		addr->sun_path[0] = '\0';
	return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
}

/* `patience_us` 0: not at all. */
PRINTF(2, 0)
static bool send_text(int64_t patience_us, const char *fmt, va_list ap)
{
	struct timeval patience = { .tv_sec = patience_us / US_PER_S };
	int flags = MSG_NOSIGNAL | (patience_us > 0 ? 0 : MSG_DONTWAIT);
	struct sockaddr_un addr;
	socklen_t addr_len = manager_address(&addr);
	char text[1024];
	ssize_t n;
	int fd;

	if (addr_len == 0)
		return false;
	vsnprintf(text, sizeof(text), fmt, ap);
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return false;
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	n = sendto(fd, text, strlen(text), flags,
	    (const struct sockaddr *)&addr, addr_len);
	close(fd);
	return n >= 0;
}

void notify_send(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	/* Nobody here could do better than the manager's own timeouts. */
	(void)send_text(US_PER_S, fmt, ap);
	va_end(ap);
}

bool notify_try(const char *fmt, ...)
{
	va_list ap;
	bool sent;

	va_start(ap, fmt);
	sent = send_text(0, fmt, ap);
	va_end(ap);
	return sent;
}

bool notify_wanted(void)
{
	struct sockaddr_un addr;

	return manager_address(&addr) != 0;
}

void notify_reloading(void)
{
	struct timespec ts;
	int64_t now_us;

	/* Of this very moment, not of the turn of the loop. */
	ASSERT(clock_gettime(CLOCK_MONOTONIC, &ts) == 0);
	now_us = ts.tv_sec * US_PER_S + ts.tv_nsec / 1000;
	notify_send("RELOADING=1\nMONOTONIC_USEC=%jd", (intmax_t)now_us);
}

/* A whole number of at most `max` in the environment, else 0. */
static uint64_t env_number(const char *variable, uint64_t max)
{
	const char *text = getenv(variable);
	uint64_t value;

	if (!text || slice_parse_u64(slice_str(text), &value) < 0)
		return 0;
	return value <= max ? value : 0;
}

int64_t notify_watchdog_us(void)
{
	/* Without a pid, whoever has the variable is meant. */
	if (getenv("WATCHDOG_PID") &&
	    env_number("WATCHDOG_PID", INT32_MAX) != (uint64_t)getpid())
		return 0;
	return (int64_t)env_number("WATCHDOG_USEC", INT64_MAX);
}

/* The sockets, of which the first is FIRST_FD; names may be NULL. */
static int take_fds(const char *name, const char *names, int passed, int *fds,
    int max, struct err *err)
{
	struct slice rest = names ? slice_str(names) : slice_of(NULL, 0);

	if (passed > max)
		return err_set(err, 0,
		    "%d sockets were handed in, and %d are the most", passed,
		    max);
	for (int i = 0; i < passed; i++) {
		struct slice its_name = slice_split(&rest, ':');
		int fd = FIRST_FD + i, flags = fcntl(fd, F_GETFD);

		if (flags < 0)
			return err_sys(
			    err, "descriptor %d that was handed in", fd);
		fcntl(fd, F_SETFD, flags | FD_CLOEXEC);
		if (names && !slice_eq_str(its_name, name))
			return err_set(err, 0,
			    "a socket was handed in as \"%.*s\", and only "
			    "\"%s\" is known: set FileDescriptorName=%s in "
			    "its socket unit",
			    (int)(its_name.len < 80 ? its_name.len : 80),
			    its_name.ptr, name, name);
		fds[i] = fd;
	}
	return passed;
}

int notify_listen_fds(const char *name, int *fds, int max, struct err *err)
{
	int passed = 0, n;

	/* Meant for another process when the pid is not ours. */
	if (env_number("LISTEN_PID", INT32_MAX) == (uint64_t)getpid())
		passed = (int)env_number("LISTEN_FDS", 4096);
	n = take_fds(name, getenv("LISTEN_FDNAMES"), passed, fds, max, err);
	/* After the last look at what it holds. */
	unsetenv("LISTEN_PID");
	unsetenv("LISTEN_FDS");
	unsetenv("LISTEN_FDNAMES");
	return n;
}
