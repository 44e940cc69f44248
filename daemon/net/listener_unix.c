/*
 * Local sockets with a name in the file system.
 *
 * Owns nothing: the descriptor is the caller's, and so is the file.  Start-up
 * only, as umask(2) is the whole process's.
 */
#include "net/listener.h"

#include "base/mem.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#define BACKLOG 4096

/* A socket file that nobody listens on is left from a crash: remove it. */
static int clear_path(const struct sockaddr_un *addr, struct err *err)
{
	struct stat st;
	int fd, rc;

	if (lstat(addr->sun_path, &st) != 0)
		return 0;
	if (!S_ISSOCK(st.st_mode))
		return err_set(
		    err, EEXIST, "%s exists and is no socket", addr->sun_path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return err_sys(err, "socket");
	rc = connect(fd, (const struct sockaddr *)addr, sizeof *addr);
	/* A full backlog is somebody's, too. */
	if (rc != 0 && errno == EAGAIN)
		rc = 0;
	close(fd);
	if (rc == 0)
		return err_set(err, EADDRINUSE,
		    "another sesrelayd answers on %s", addr->sun_path);
	if (unlink(addr->sun_path) != 0)
		return err_sys(err, "remove stale %s", addr->sun_path);
	return 0;
}

/* The runtime directory is systemd's to make; without it, ours. */
static void make_directory(const char *path)
{
	char *dir = xstrdup(path), *slash = strrchr(dir, '/');
	mode_t old = umask(022);

	if (slash != NULL && slash != dir) {
		*slash = '\0';
		(void)mkdir(dir, 0755);
	}
	umask(old);
	free(dir);
}

int listener_bind_unix(const char *path, mode_t mode, struct err *err)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	mode_t old;
	int fd, rc;

	if (strlen(path) >= sizeof addr.sun_path)
		return err_set(err, 0, "%s is too long for a socket (%zu)",
		    path, sizeof addr.sun_path - 1);
	memcpy(addr.sun_path, path, strlen(path) + 1);
	make_directory(path);
	if (clear_path(&addr, err) != 0)
		return -1;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return err_sys(err, "socket");
	old = umask(0777 & ~mode);
	rc = bind(fd, (struct sockaddr *)&addr, sizeof addr);
	umask(old);
	if (rc != 0 || listen(fd, BACKLOG) != 0) {
		err_sys(err, "cannot listen on %s", path);
		close(fd);
		return -1;
	}
	return fd;
}
