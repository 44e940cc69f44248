/*
 * SMTP on standard input and output (-bs): bytes to and from the daemon, which
 * does all the talking.  One buffer each way; whoever is slow is waited for.
 */
#include "cli/sendmail.h"

#include "base/file.h"
#include "base/mem.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* 1: there is more; 0: it has ended; -1. */
static int move(int from, int to, bool *wrote, struct err *err)
{
	char buf[SENDMAIL_BUF];
	ssize_t n = read(from, buf, sizeof buf);

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return 1;
	if (n < 0 && errno != ECONNRESET)
		return err_sys(err, "-bs: cannot read");
	if (n <= 0)
		return 0;
	*wrote = true;
	return file_write_all(to, buf, (size_t)n, err) == 0 ? 1 : -1;
}

/* Until the daemon ends it, as it does after QUIT and at the client's end. */
static int relay(struct sendmail_smtp *s, struct err *err)
{
	struct pollfd fds[2] = {
		{ .fd = s->fd, .events = POLLIN },
		{ .fd = STDIN_FILENO, .events = POLLIN },
	};
	bool answered = false, asked = false;
	struct err lost;
	int rc;

	for (;;) {
		if (poll(fds, 2, -1) < 0 && errno != EINTR) {
			err_sys(err, "poll");
			return EX_OSERR;
		}
		if (fds[0].revents != 0) {
			rc = move(s->fd, STDOUT_FILENO, &answered, err);
			if (rc < 0)
				return EX_IOERR;
			if (rc == 0)
				break;
		}
		/* A daemon that has gone says so on its own side. */
		if (fds[1].revents != 0 &&
		    move(STDIN_FILENO, s->fd, &asked, &lost) <= 0) {
			(void)shutdown(s->fd, SHUT_WR);
			fds[1].fd = -1;
		}
		fds[0].revents = fds[1].revents = 0;
	}
	if (answered)
		return EX_OK;
	err_set(err, 0, "sesrelayd at %s closed the connection; try again",
	    s->server);
	return EX_TEMPFAIL;
}

int sendmail_pipe(const struct sendmail_servers *servers, struct err *err)
{
	static const char sorry[] =
	    "421 4.3.2 sesrelayd cannot be reached, try again later\r\n";
	struct sendmail_smtp *s = xmalloc(sizeof *s);
	int rc = EX_TEMPFAIL;

	if (sendmail_smtp_connect(s, servers, err) == 0)
		rc = relay(s, err);
	else
		(void)!file_write_all(
		    STDOUT_FILENO, sorry, sizeof sorry - 1, NULL);
	if (s->fd >= 0)
		close(s->fd);
	free(s);
	return rc;
}
