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

void notify_send(const char *fmt, ...)
{
	struct timeval patience = { .tv_sec = 1 };
	struct sockaddr_un addr;
	socklen_t addr_len = manager_address(&addr);
	char text[1024];
	va_list ap;
	int fd;

	if (addr_len == 0)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return;
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	/* Nobody here could do better than the manager's own timeouts. */
	sendto(fd, text, strlen(text), MSG_NOSIGNAL,
	    (const struct sockaddr *)&addr, addr_len);
	close(fd);
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

int notify_listen_fds(const char *name, int *fds, int max)
{
	const char *names = getenv("LISTEN_FDNAMES");
	struct slice rest = names ? slice_str(names) : slice_of(NULL, 0);
	int passed = 0, n = 0;

	/* Meant for another process when the pid is not ours. */
	if (env_number("LISTEN_PID", INT32_MAX) == (uint64_t)getpid())
		passed = (int)env_number("LISTEN_FDS", 4096);
	for (int i = 0; i < passed; i++) {
		struct slice its_name = slice_split(&rest, ':');
		int fd = FIRST_FD + i, flags = fcntl(fd, F_GETFD);

		if (flags < 0)
			continue;
		fcntl(fd, F_SETFD, flags | FD_CLOEXEC);
		if (n < max && (!names || slice_eq_str(its_name, name)))
			fds[n++] = fd;
	}
	/* After the last look at what it holds. */
	unsetenv("LISTEN_PID");
	unsetenv("LISTEN_FDS");
	unsetenv("LISTEN_FDNAMES");
	return n;
}
