/*
 * A session with the daemon: blocking, one command at a time.
 *
 * Owns its socket.  Each wait has an end: a daemon that hangs is a failure for
 * now, and the caller hears of it.
 */
#include "cli/sendmail.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#define CONNECT_S 30
#define COMMAND_S 300

/* Local sockets and IP addresses; names are not looked up.  0: it is none. */
static socklen_t parse(const char *text, struct sockaddr_storage *addr)
{
	union {
		struct sockaddr_storage *any;
		struct sockaddr_in *in;
		struct sockaddr_in6 *in6;
		struct sockaddr_un *un;
	} a = { addr };
	struct slice host = slice_str(text);
	const char *colon = strrchr(text, ':');
	char ip[INET6_ADDRSTRLEN];
	uint64_t port;

	memset(addr, 0, sizeof *addr);
	if (slice_has_prefix(host, "unix:")) {
		if (host.len - 5 >= sizeof a.un->sun_path)
			return 0;
		a.un->sun_family = AF_UNIX;
		memcpy(a.un->sun_path, text + 5, host.len - 5);
		return sizeof *a.un;
	}
	if (colon == NULL || slice_parse_u64(slice_str(colon + 1), &port) != 0)
		return 0;
	host.len = (size_t)(colon - text);
	if (host.len > 2 && host.ptr[0] == '[')
		host = slice_of(host.ptr + 1, host.len - 2);
	(void)slice_copy(host, ip, sizeof ip);
	if (inet_pton(AF_INET, ip, &a.in->sin_addr) == 1) {
		a.in->sin_family = AF_INET;
		a.in->sin_port = htons((uint16_t)port);
		return sizeof *a.in;
	}
	memset(addr, 0, sizeof *addr);
	if (inet_pton(AF_INET6, ip, &a.in6->sin6_addr) != 1)
		return 0;
	a.in6->sin6_family = AF_INET6;
	a.in6->sin6_port = htons((uint16_t)port);
	return sizeof *a.in6;
}

static void set_patience(int fd, unsigned seconds)
{
	struct timeval patience = { .tv_sec = seconds };

	(void)setsockopt(
	    fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
	(void)setsockopt(
	    fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
}

static int try_server(const char *text)
{
	struct sockaddr_storage addr = { 0 };
	socklen_t len = parse(text, &addr);
	int fd, rc, saved, on = 1;

	if (len == 0) {
		errno = EINVAL;
		return -1;
	}
	fd = socket(addr.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -1;
	set_patience(fd, CONNECT_S);
	do
		rc = connect(fd, (const struct sockaddr *)&addr, len);
	while (rc != 0 && errno == EINTR);
	if (rc == 0 || errno == EISCONN) {
		(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
		return fd;
	}
	saved = errno;
	close(fd);
	errno = saved;
	return -1;
}

int sendmail_smtp_connect(struct sendmail_smtp *s,
    const struct sendmail_servers *servers, struct err *err)
{
	char tried[160] = "";

	*s = (struct sendmail_smtp){ .fd = -1 };
	reply_parser_init(&s->parser);
	for (size_t i = 0; i < servers->n; i++) {
		size_t len = strlen(tried);

		s->fd = try_server(servers->items[i]);
		s->server = servers->items[i];
		if (s->fd >= 0)
			return 0;
		/* A socket that is not offered says nothing. */
		if (errno == ENOENT && servers->n > 1)
			continue;
		snprintf(tried + len, sizeof tried - len, "%s%s: %s",
		    len > 0 ? ", " : "", servers->items[i],
		    errno == EINPROGRESS ? "no answer" : strerror(errno));
	}
	return err_set(err, errno,
	    "cannot reach sesrelayd (%s); is it running? see \"systemctl "
	    "status sesrelayd\"",
	    tried);
}

/* --- out --- */

static int flush(struct sendmail_smtp *s, struct err *err)
{
	size_t sent = 0;

	while (sent < s->out_len) {
		ssize_t n =
		    send(s->fd, s->out + sent, s->out_len - sent, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_sys(err, "lost sesrelayd at %s", s->server);
		sent += (size_t)n;
	}
	s->out_len = 0;
	return 0;
}

int sendmail_smtp_write(
    struct sendmail_smtp *s, const char *ptr, size_t len, struct err *err)
{
	while (len > 0) {
		size_t room = sizeof s->out - s->out_len;
		size_t n = len < room ? len : room;

		memcpy(s->out + s->out_len, ptr, n);
		s->out_len += n;
		ptr += n;
		len -= n;
		if (s->out_len == sizeof s->out && flush(s, err) != 0)
			return -1;
	}
	return 0;
}

/* --- in --- */

static void on_line(void *ctx, struct slice text)
{
	ehlo_line(&((struct sendmail_smtp *)ctx)->ehlo, text);
}

/* A line out of what was received: 1, 0 if there is none, -1 if it is no SMTP.
 */
static int take_line(struct sendmail_smtp *s, int *complete)
{
	const char *lf = memchr(s->in, '\n', s->in_len);
	size_t len, used;

	if (lf == NULL)
		return s->in_len == sizeof s->in ? -1 : 0;
	used = (size_t)(lf - s->in) + 1;
	len = used - 1;
	if (len > 0 && s->in[len - 1] == '\r')
		len--;
	*complete = reply_feed(&s->parser, slice_of(s->in, len), on_line, s);
	memmove(s->in, s->in + used, s->in_len - used);
	s->in_len -= used;
	return *complete < 0 ? -1 : 1;
}

static int receive(struct sendmail_smtp *s, struct err *err)
{
	ssize_t n;

	do
		n = recv(s->fd, s->in + s->in_len, sizeof s->in - s->in_len, 0);
	while (n < 0 && errno == EINTR);
	if (n > 0) {
		s->in_len += (size_t)n;
		return 0;
	}
	if (n == 0)
		return err_set(err, 0,
		    "sesrelayd at %s closed the connection; try again",
		    s->server);
	if (errno == EAGAIN)
		return err_set(err, EAGAIN,
		    "sesrelayd at %s does not answer; see \"systemctl status "
		    "sesrelayd\"",
		    s->server);
	return err_sys(err, "lost sesrelayd at %s", s->server);
}

int sendmail_smtp_wait(
    struct sendmail_smtp *s, unsigned seconds, struct err *err)
{
	int complete = 0, rc;

	if (flush(s, err) != 0)
		return -1;
	set_patience(s->fd, seconds);
	ehlo_init(&s->ehlo);
	for (;;) {
		while ((rc = take_line(s, &complete)) > 0) {
			if (complete > 0) {
				s->reply = s->parser.reply;
				return 0;
			}
		}
		if (rc < 0)
			return err_set(err, EPROTO,
			    "what answers at %s speaks no SMTP", s->server);
		if (receive(s, err) != 0)
			return -1;
	}
}

int sendmail_smtp_do(
    struct sendmail_smtp *s, struct err *err, const char *fmt, ...)
{
	char line[1024];
	va_list ap;
	int len;

	va_start(ap, fmt);
	len = vsnprintf(line, sizeof line - 2, fmt, ap);
	va_end(ap);
	ASSERT(len > 0 && (size_t)len < sizeof line - 2);
	memcpy(line + len, "\r\n", 2);
	if (sendmail_smtp_write(s, line, (size_t)len + 2, err) != 0)
		return -1;
	return sendmail_smtp_wait(s, COMMAND_S, err);
}

int sendmail_smtp_greet(struct sendmail_smtp *s, struct err *err)
{
	char said[SENDMAIL_SAID];

	/* A daemon that starts has the connection wait. */
	if (sendmail_smtp_wait(s, COMMAND_S, err) != 0)
		goto lost;
	if (s->reply.code == 220) {
		if (sendmail_smtp_do(s, err, "EHLO localhost") != 0)
			goto lost;
		if (s->reply.code == 250)
			return EX_OK;
	}
	err_set(err, 0, "sesrelayd at %s does not serve us now: %s", s->server,
	    sendmail_smtp_said(s, said));
	return sendmail_exit_code(SENDMAIL_AT_GREETING, &s->reply);
lost:
	return err != NULL && err->code == EPROTO ? EX_PROTOCOL : EX_TEMPFAIL;
}

void sendmail_smtp_close(struct sendmail_smtp *s)
{
	if (s->fd < 0)
		return;
	s->out_len = 0;
	(void)!sendmail_smtp_write(s, "QUIT\r\n", 6, NULL);
	(void)!flush(s, NULL);
	close(s->fd);
	s->fd = -1;
}

const char *sendmail_smtp_said(
    const struct sendmail_smtp *s, char buf[SENDMAIL_SAID])
{
	const struct reply *r = &s->reply;

	snprintf(buf, SENDMAIL_SAID, "%d %s%s%.120s", r->code, r->enhanced,
	    r->enhanced[0] != '\0' ? " " : "", r->text);
	return buf;
}

int sendmail_exit_code(enum sendmail_stage stage, const struct reply *reply)
{
	const char *detail =
	    reply->enhanced[0] != '\0' ? reply->enhanced + 2 : "";

	if (reply->code < 400)
		return EX_PROTOCOL;
	/* More recipients than smtp.max_recipients: no wait will help. */
	if (stage == SENDMAIL_AT_RECIPIENT && strcmp(detail, "5.3") == 0)
		return EX_UNAVAILABLE;
	if (reply->code < 500)
		return EX_TEMPFAIL;
	if (detail[0] == '7')
		return EX_NOPERM;
	switch (stage) {
	case SENDMAIL_AT_SENDER:
		return EX_DATAERR;
	case SENDMAIL_AT_RECIPIENT:
		return strcmp(detail, "1.2") == 0 ? EX_NOHOST : EX_NOUSER;
	case SENDMAIL_AT_CONTENT:
		return EX_DATAERR;
	case SENDMAIL_AT_GREETING:
		break;
	}
	return EX_UNAVAILABLE;
}
