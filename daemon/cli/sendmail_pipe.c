/*
 * SMTP on standard input and output (-bs): bytes to and from the daemon, which
 * does all the talking.
 *
 * Owns one buffer for what goes to the daemon.  Invariant: it never waits for
 * the daemon to read while the daemon may wait for us to; for our own output it
 * does wait, and so has the daemon wait.
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

struct pipe {
	int fd; /* to the daemon */
	bool input_ended, shut, answered;
	size_t begin, end; /* of what the daemon has still to take */
	char out[SENDMAIL_BUF], in[SENDMAIL_BUF];
};

/* 1: there is more; 0: the daemon has ended it; -1. */
static int from_daemon(struct pipe *p, struct err *err)
{
	ssize_t n = recv(p->fd, p->in, sizeof p->in, MSG_DONTWAIT);

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return 1;
	if (n <= 0)
		return 0;
	p->answered = true;
	return file_write_all(STDOUT_FILENO, p->in, (size_t)n, err) == 0 ? 1
									 : -1;
}

static void from_input(struct pipe *p)
{
	ssize_t n = read(STDIN_FILENO, p->out, sizeof p->out);

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	p->begin = 0;
	p->end = n > 0 ? (size_t)n : 0;
	p->input_ended = n <= 0;
}

/* A daemon that has gone says so on its own side. */
static void to_daemon(struct pipe *p)
{
	ssize_t n = send(p->fd, p->out + p->begin, p->end - p->begin,
	    MSG_DONTWAIT | MSG_NOSIGNAL);

	if (n >= 0)
		p->begin += (size_t)n;
	else if (errno != EINTR && errno != EAGAIN)
		p->begin = p->end;
}

/* Until the daemon ends it, as it does after QUIT and at the client's end. */
static int relay(struct pipe *p, const char *server, struct err *err)
{
	struct pollfd fds[2] = { { .fd = p->fd } };
	int rc = 1;

	while (rc > 0) {
		bool pending = p->begin < p->end;

		fds[0].events = (short)(POLLIN | (pending ? POLLOUT : 0));
		fds[1].fd = pending || p->input_ended ? -1 : STDIN_FILENO;
		fds[1].events = POLLIN;
		if (poll(fds, 2, -1) < 0) {
			if (errno == EINTR)
				continue;
			err_sys(err, "poll");
			return EX_OSERR;
		}
		if (fds[0].revents & ~POLLOUT)
			rc = from_daemon(p, err);
		if (fds[0].revents & POLLOUT)
			to_daemon(p);
		if (fds[1].revents != 0)
			from_input(p);
		if (p->input_ended && p->begin == p->end && !p->shut) {
			p->shut = true;
			(void)shutdown(p->fd, SHUT_WR);
		}
	}
	if (rc < 0)
		return EX_IOERR;
	if (p->answered)
		return EX_OK;
	err_set(
	    err, 0, "sesrelayd at %s closed the connection; try again", server);
	return EX_TEMPFAIL;
}

int sendmail_pipe(const struct sendmail_servers *servers, struct err *err)
{
	static const char sorry[] =
	    "421 4.3.2 sesrelayd cannot be reached, try again later\r\n";
	struct sendmail_smtp *s = xmalloc(sizeof *s);
	struct pipe *p = xcalloc(1, sizeof *p);
	int rc = EX_TEMPFAIL;

	if (sendmail_smtp_connect(s, servers, err) == 0) {
		p->fd = s->fd;
		rc = relay(p, s->server, err);
	} else {
		(void)!file_write_all(
		    STDOUT_FILENO, sorry, sizeof sorry - 1, NULL);
	}
	if (s->fd >= 0)
		close(s->fd);
	free(s);
	free(p);
	return rc;
}
