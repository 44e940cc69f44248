/*
 * A test message, and how it is handed in: by SMTP, the way local programs do
 * it, without pipelining or extensions.
 *
 * Owns its socket, and waits for nothing longer than PATIENCE_S.
 */
#include "cli/ctl.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/slice.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#define PATIENCE_S 30
#define REPLY_MAX 4096

struct submission {
	int fd;
	char reply[REPLY_MAX]; /* all its lines */
	size_t len;
};

/* "127.0.0.1:25", "[::1]:25", as the daemon writes them. */
static socklen_t parse(const char *address, struct sockaddr_storage *addr)
{
	struct slice host = slice_str(address);
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)(void *)addr;
	struct sockaddr_in *v4 = (struct sockaddr_in *)(void *)addr;
	const char *colon = strrchr(address, ':');
	char text[INET6_ADDRSTRLEN];
	uint64_t port;

	*addr = (struct sockaddr_storage){ 0 };
	if (colon == NULL ||
	    slice_parse_u64(slice_str(colon + 1), &port) != 0 ||
	    port > UINT16_MAX)
		return 0;
	host.len = (size_t)(colon - address);
	if (host.len > 2 && host.ptr[0] == '[')
		host = slice_of(host.ptr + 1, host.len - 2);
	(void)slice_copy(host, text, sizeof text);
	if (inet_pton(AF_INET, text, &v4->sin_addr) == 1) {
		v4->sin_family = AF_INET;
		v4->sin_port = htons((uint16_t)port);
		return sizeof *v4;
	}
	if (inet_pton(AF_INET6, text, &v6->sin6_addr) != 1)
		return 0;
	v6->sin6_family = AF_INET6;
	v6->sin6_port = htons((uint16_t)port);
	return sizeof *v6;
}

static int connect_to(
    struct submission *s, const char *address, struct err *err)
{
	struct timeval patience = { .tv_sec = PATIENCE_S };
	struct sockaddr_storage addr;
	socklen_t len = parse(address, &addr);

	if (len == 0)
		return err_set(err, 0, "%s is no address", address);
	s->fd = socket(addr.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (s->fd < 0)
		return err_sys(err, "socket");
	setsockopt(s->fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
	setsockopt(s->fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
	if (connect(s->fd, (const struct sockaddr *)&addr, len) != 0)
		return err_sys(err, "connect to the relay at %s", address);
	return 0;
}

/* Is the last line of the reply here?  It has a blank behind its code. */
static bool is_complete(const struct submission *s)
{
	size_t begin;

	if (s->len < 5 || s->reply[s->len - 1] != '\n')
		return false;
	for (begin = s->len - 1; begin > 0 && s->reply[begin - 1] != '\n';)
		begin--;
	return s->len - begin >= 5 && s->reply[begin + 3] != '-';
}

/* A reply, which has to begin with `want`. */
static int expect(struct submission *s, const char *want, struct err *err)
{
	ssize_t n;

	s->len = 0;
	while (!is_complete(s)) {
		if (s->len == sizeof s->reply - 1)
			return err_set(err, 0, "an endless reply");
		n = recv(
		    s->fd, s->reply + s->len, sizeof s->reply - 1 - s->len, 0);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_sys(err, "reply of the relay");
		if (n == 0)
			return err_set(
			    err, 0, "the relay closed the connection");
		s->len += (size_t)n;
	}
	while (s->len > 0 && strchr("\r\n", s->reply[s->len - 1]) != NULL)
		s->len--;
	s->reply[s->len] = '\0';
	if (strncmp(s->reply, want, strlen(want)) != 0)
		return err_set(err, 0, "%.220s", s->reply);
	return 0;
}

PRINTF(3, 4)
static int say(struct submission *s, struct err *err, const char *fmt, ...)
{
	char text[4096];
	size_t sent = 0;
	va_list ap;
	int len;

	va_start(ap, fmt);
	len = vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	ASSERT(len > 0 && (size_t)len < sizeof text);
	while (sent < (size_t)len) {
		ssize_t n =
		    send(s->fd, text + sent, (size_t)len - sent, MSG_NOSIGNAL);

		if (n < 0 && errno != EINTR)
			return err_sys(err, "to the relay");
		if (n > 0)
			sent += (size_t)n;
	}
	return 0;
}

/* "250 2.0.0 Ok: queued as ID" */
static int take_id(
    const struct submission *s, char id[CTL_BUF], struct err *err)
{
	const char *as = strstr(s->reply, "queued as ");

	if (as == NULL)
		return err_set(err, 0,
		    "%.150s: this is no sesrelayd, which names the queue id",
		    s->reply);
	snprintf(id, CTL_BUF, "%s", as + strlen("queued as "));
	return 0;
}

static char *make_message(const char *sender, const char *rcpt)
{
	int64_t now = clock_wall_us();
	char host[256] = "localhost", date[64];

	(void)gethostname(host, sizeof host - 1);
	if (host[0] == '\0' ||
	    host[strspn(host,
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
		"0123456789-.")] != '\0')
		strcpy(host, "localhost");
	clock_format_rfc5322(now, date, sizeof date);
	return xasprintf("From: <%s>\r\n"
			 "To: <%s>\r\n"
			 "Subject: Test of the mail relay on %s\r\n"
			 "Date: %s\r\n"
			 "Message-ID: <send-test.%lld.%ld@%s>\r\n"
			 "Auto-Submitted: auto-generated\r\n"
			 "MIME-Version: 1.0\r\n"
			 "Content-Type: text/plain; charset=us-ascii\r\n"
			 "\r\n"
			 "This message was sent by \"sesrelayctl send-test\", "
			 "through sesrelayd %s\r\n"
			 "on %s and Amazon SES.\r\n",
	    sender, rcpt, host, date, (long long)now, (long)getpid(), host,
	    SESRELAYD_VERSION, host);
}

int ctl_submit(const char *address, const char *sender, const char *rcpt,
    char id[CTL_BUF], struct err *err)
{
	char *content = make_message(sender, rcpt);
	struct submission s = { .fd = -1 };
	int rc = -1;

	if (connect_to(&s, address, err) != 0 || expect(&s, "220", err) != 0 ||
	    say(&s, err, "EHLO localhost\r\n") != 0 ||
	    expect(&s, "250", err) != 0 ||
	    say(&s, err, "MAIL FROM:<%s>\r\n", sender) != 0 ||
	    expect(&s, "250", err) != 0 ||
	    say(&s, err, "RCPT TO:<%s>\r\n", rcpt) != 0 ||
	    expect(&s, "250", err) != 0 || say(&s, err, "DATA\r\n") != 0 ||
	    expect(&s, "354", err) != 0 ||
	    say(&s, err, "%s.\r\n", content) != 0 ||
	    expect(&s, "250", err) != 0 || take_id(&s, id, err) != 0)
		goto out;
	rc = 0;
	(void)say(&s, NULL, "QUIT\r\n");
out:
	if (s.fd >= 0)
		close(s.fd);
	free(content);
	return rc;
}
