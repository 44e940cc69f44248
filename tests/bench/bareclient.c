/*
 * bareclient.c - the limit of a relay: a client of SES without a queue.
 *
 * C connections over TLS with AUTH hand in N messages as fast as a dialogue in
 * lock step lets them: the next command goes out when the reply to the last
 * one is there, a message is one write, nothing is stored, parsed or logged.
 * What it reaches in a run is what a relay with as many connections could
 * reach there at best. One thread on epoll; a connection that fails ends the
 * program, for a limit measured with failures is none. The clock runs from
 * the first connect() to the last 250, so opening connections is included;
 * the rate of the second half of the messages is given as well.
 */
#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define HEAD_MAX 512
#define REPLY_MAX 2048
#define EVENTS_MAX 256

/* What the connection waits for. */
enum stage {
	ST_CONNECT,
	ST_GREETING,
	ST_PLAIN_EHLO,
	ST_STARTTLS,
	ST_TLS,
	ST_TLS_GREETING, /* with the wrapper the greeting comes in TLS */
	ST_EHLO,
	ST_AUTH,
	ST_MAIL,
	ST_RCPT,
	ST_DATA,
	ST_DOT,
	ST_QUIT,
	ST_DONE
};

struct connection {
	int fd;
	SSL *ssl;
	enum stage stage;
	bool want_out;
	uint64_t dot_ns;
	char *out;
	size_t out_used, out_size;
	char in[REPLY_MAX];
	size_t in_size;
};

static struct {
	struct sockaddr_in address;
	uint64_t messages;
	unsigned int connections;
	size_t size;
	bool wrapper;
	const char *user, *password, *prefix;
	char auth[1200];
} opt = { .messages = 1000, .connections = 50, .size = 4096, .prefix = "bare" };

static SSL_CTX *tls;
static int epoll;
static char *body; /* the same for all: lines and the final dot */
static size_t body_size;
static uint64_t next, done, half_ns, start_ns, end_ns;
static unsigned int living;

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static void watch(struct connection *c, bool out)
{
	struct epoll_event event = { .events = EPOLLIN | (out ? EPOLLOUT : 0u),
		.data.ptr = c };

	if (c->want_out == out)
		return;
	c->want_out = out;
	if (epoll_ctl(epoll, EPOLL_CTL_MOD, c->fd, &event) != 0)
		err(2, "epoll_ctl");
}

/* >0 bytes moved, 0 wait; all else ends the program. */
static size_t moved(struct connection *c, int n)
{
	if (n > 0)
		return (size_t)n;
	if (c->ssl == NULL) {
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return 0;
		errx(1, "connection lost in stage %d", (int)c->stage);
	}
	switch (SSL_get_error(c->ssl, n)) {
	case SSL_ERROR_WANT_READ:
	case SSL_ERROR_WANT_WRITE:
		return 0;
	default:
		errx(1, "TLS connection lost in stage %d", (int)c->stage);
	}
}

static void flush_out(struct connection *c)
{
	size_t left, n;

	while ((left = c->out_size - c->out_used) > 0) {
		if (left > 1 << 20)
			left = 1 << 20;
		n = moved(c,
		    c->ssl != NULL
			? SSL_write(c->ssl, c->out + c->out_used, (int)left)
			: (int)send(
			      c->fd, c->out + c->out_used, left, MSG_NOSIGNAL));
		if (n == 0)
			break;
		c->out_used += n;
	}
	watch(c, left > 0);
}

static void say(struct connection *c, enum stage stage, const char *text)
{
	c->stage = stage;
	c->out_used = 0;
	c->out_size = strlen(text);
	memcpy(c->out, text, c->out_size);
	flush_out(c);
}

static void say_content(struct connection *c)
{
	unsigned long long n = next++;
	int head;

	head = snprintf(c->out, HEAD_MAX,
	    "From: <app@example.com>\r\nTo: <user@example.net>\r\n"
	    "Subject: bare %llu\r\n"
	    "Date: Sat, 21 Nov 2026 10:00:00 +0000\r\n"
	    "Message-ID: <%s.%llu@bare.test>\r\n\r\n",
	    n, opt.prefix, n);
	memcpy(c->out + head, body, body_size);
	c->stage = ST_DOT;
	c->out_used = 0;
	c->out_size = (size_t)head + body_size;
	flush_out(c);
}

static void next_message(struct connection *c)
{
	/* `next` is drawn at DATA: others may be on their way to it. */
	static uint64_t begun;

	if (begun < opt.messages) {
		begun++;
		say(c, ST_MAIL, "MAIL FROM:<app@example.com>\r\n");
	} else {
		say(c, ST_QUIT, "QUIT\r\n");
	}
}

static void start_tls(struct connection *c)
{
	c->ssl = SSL_new(tls);
	if (c->ssl == NULL || SSL_set_fd(c->ssl, c->fd) != 1)
		errx(2, "SSL_new");
	SSL_set_connect_state(c->ssl);
	c->stage = ST_TLS;
}

static void go_on(struct connection *c)
{
	int n;

	if (c->stage == ST_CONNECT) {
		if (opt.wrapper)
			start_tls(c);
		else
			c->stage = ST_GREETING;
		watch(c, false);
	}
	if (c->stage == ST_TLS) {
		n = SSL_do_handshake(c->ssl);
		if (n != 1) {
			moved(c, n);
			return;
		}
		if (opt.wrapper)
			c->stage = ST_TLS_GREETING;
		else
			say(c, ST_EHLO, "EHLO bare.test\r\n");
	}
}

static void finish(struct connection *c)
{
	SSL_free(c->ssl);
	close(c->fd);
	c->fd = -1;
	c->stage = ST_DONE;
	living--;
}

static void on_accepted(void)
{
	end_ns = now_ns();
	if (++done == opt.messages / 2)
		half_ns = end_ns;
}

static void on_reply(struct connection *c)
{
	switch (c->stage) {
	case ST_GREETING:
		say(c, ST_PLAIN_EHLO, "EHLO bare.test\r\n");
		break;
	case ST_PLAIN_EHLO:
		say(c, ST_STARTTLS, "STARTTLS\r\n");
		break;
	case ST_STARTTLS:
		start_tls(c);
		go_on(c);
		break;
	case ST_TLS_GREETING:
		say(c, ST_EHLO, "EHLO bare.test\r\n");
		break;
	case ST_EHLO:
		say(c, ST_AUTH, opt.auth);
		break;
	case ST_MAIL:
		say(c, ST_RCPT, "RCPT TO:<user@example.net>\r\n");
		break;
	case ST_RCPT:
		say(c, ST_DATA, "DATA\r\n");
		break;
	case ST_DATA:
		say_content(c);
		break;
	case ST_DOT:
		on_accepted();
		next_message(c);
		break;
	case ST_AUTH:
		next_message(c);
		break;
	default:
		finish(c);
	}
}

/* Whole replies in the buffer; there is never more than one due. */
static void take_replies(struct connection *c)
{
	char *line = c->in, *end;
	size_t left = c->in_size;

	while (left > 0 && (end = memchr(line, '\n', left)) != NULL) {
		if (end - line < 4 || line[0] > '3')
			errx(1, "stage %d refused: %.*s", (int)c->stage,
			    (int)(end - line), line);
		left -= (size_t)(end + 1 - line);
		if (line[3] != '-') {
			if (left > 0)
				errx(1, "a reply that nobody asked for");
			c->in_size = 0;
			on_reply(c);
			return;
		}
		line = end + 1;
	}
	memmove(c->in, line, left);
	c->in_size = left;
}

static void read_in(struct connection *c)
{
	char *at;
	size_t room, n;

	while (c->stage != ST_DONE && c->stage != ST_TLS) {
		at = c->in + c->in_size;
		room = sizeof(c->in) - c->in_size;
		if (room == 0)
			errx(1, "reply too long");
		n = moved(c,
		    c->ssl != NULL ? SSL_read(c->ssl, at, (int)room)
				   : (int)recv(c->fd, at, room, 0));
		if (n == 0)
			return;
		c->in_size += n;
		take_replies(c);
	}
}

static void open_connection(struct connection *c)
{
	struct epoll_event event = { .events = EPOLLIN | EPOLLOUT,
		.data.ptr = c };
	int one = 1;

	c->out = malloc(HEAD_MAX + 2048 + body_size);
	if (c->out == NULL)
		err(2, "malloc");
	c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	if (c->fd < 0)
		err(2, "socket");
	setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (connect(c->fd, (struct sockaddr *)&opt.address,
		sizeof(opt.address)) != 0 &&
	    errno != EINPROGRESS)
		err(1, "connect");
	c->want_out = true;
	if (epoll_ctl(epoll, EPOLL_CTL_ADD, c->fd, &event) != 0)
		err(2, "epoll_ctl");
	living++;
}

static void make_body(void)
{
	static const char line[] = "The quick brown fox jumps over the lazy "
				   "dog and the relay after it, twice.\r\n";
	size_t length = sizeof(line) - 1, i;

	body = malloc(opt.size + length + 8);
	if (body == NULL)
		err(2, "malloc");
	/* The headers have about 180 bytes of a message. */
	for (i = 180; i < opt.size; i += length, body_size += length)
		memcpy(body + body_size, line, length);
	memcpy(body + body_size, ".\r\n", 4);
	body_size += 3;
}

static void make_auth(void)
{
	unsigned char raw[512], text[sizeof(raw) * 2];
	int n;

	n = snprintf(
	    (char *)raw, sizeof(raw), "%c%s%c%s", 0, opt.user, 0, opt.password);
	if (n < 0 || (size_t)n >= sizeof(raw))
		errx(2, "user or password too long");
	EVP_EncodeBlock(text, raw, n);
	snprintf(opt.auth, sizeof(opt.auth), "AUTH PLAIN %s\r\n", text);
}

static void set_address(char *text)
{
	char *colon = strrchr(text, ':');

	if (colon == NULL)
		errx(2, "-a: ADDRESS:PORT is wanted");
	*colon = '\0';
	opt.address.sin_family = AF_INET;
	opt.address.sin_port = htons((uint16_t)atoi(colon + 1));
	if (inet_pton(AF_INET, text, &opt.address.sin_addr) != 1)
		errx(2, "%s: not an IPv4 address", text);
}

static void get_options(int argc, char **argv)
{
	int o;

	while ((o = getopt(argc, argv, "a:n:c:s:u:p:x:w")) != -1) {
		if (o == 'a')
			set_address(optarg);
		else if (o == 'n')
			opt.messages = strtoull(optarg, NULL, 10);
		else if (o == 'c')
			opt.connections = (unsigned int)atoi(optarg);
		else if (o == 's')
			opt.size = strtoull(optarg, NULL, 10);
		else if (o == 'u')
			opt.user = optarg;
		else if (o == 'p')
			opt.password = optarg;
		else if (o == 'x')
			opt.prefix = optarg;
		else if (o == 'w')
			opt.wrapper = true;
		else
			exit(2);
	}
	if (opt.address.sin_port == 0 || opt.user == NULL ||
	    opt.password == NULL || opt.messages == 0 || opt.connections == 0)
		errx(2,
		    "usage: bareclient -a ADDRESS:PORT -u USER -p PASSWORD"
		    " [-w] [-n MESSAGES] [-c CONNECTIONS] [-s BYTES]"
		    " [-x PREFIX]; -w: TLS wrapper");
}

static void report(void)
{
	double wall = (double)(end_ns - start_ns) / 1e9;
	double late = (double)(end_ns - half_ns) / 1e9;
	uint64_t rest = done - opt.messages / 2;
	struct rusage use;

	getrusage(RUSAGE_SELF, &use);
	printf("{\"messages\":%llu,\"connections\":%u,\"size\":%zu,"
	       "\"wall_s\":%.6f,\"msgs_per_s\":%.1f,"
	       "\"second_half_msgs_per_s\":%.1f,\"mib_per_s\":%.2f,"
	       "\"cpu_s\":%.3f}\n",
	    (unsigned long long)done, opt.connections, opt.size, wall,
	    (double)done / wall, late > 0 ? (double)rest / late : 0,
	    (double)done * (double)opt.size / 1048576 / wall,
	    (double)(use.ru_utime.tv_sec + use.ru_stime.tv_sec) +
		(double)(use.ru_utime.tv_usec + use.ru_stime.tv_usec) / 1e6);
}

static void run(struct connection *all)
{
	struct epoll_event events[EVENTS_MAX];
	struct connection *c;
	int i, n;

	start_ns = now_ns();
	for (i = 0; i < (int)opt.connections; i++)
		open_connection(&all[i]);
	while (living > 0 && done < opt.messages) {
		n = epoll_wait(epoll, events, EVENTS_MAX, 60000);
		if (n == 0)
			errx(1, "nothing happened for a minute");
		for (i = 0; i < n; i++) {
			c = events[i].data.ptr;
			if (c->stage == ST_CONNECT || c->stage == ST_TLS)
				go_on(c);
			else if (c->want_out)
				flush_out(c);
			if (c->stage != ST_CONNECT)
				read_in(c);
		}
	}
}

int main(int argc, char **argv)
{
	struct connection *all;
	unsigned int i;

	get_options(argc, argv);
	make_body();
	make_auth();
	tls = SSL_CTX_new(TLS_client_method());
	epoll = epoll_create1(EPOLL_CLOEXEC);
	all = calloc(opt.connections, sizeof(*all));
	if (tls == NULL || epoll < 0 || all == NULL)
		errx(2, "no memory");
	SSL_CTX_set_mode(tls,
	    SSL_MODE_ENABLE_PARTIAL_WRITE |
		SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	run(all);
	report();
	for (i = 0; i < opt.connections; i++) {
		if (all[i].fd >= 0) {
			SSL_free(all[i].ssl);
			close(all[i].fd);
		}
		free(all[i].out);
	}
	free(all);
	free(body);
	SSL_CTX_free(tls);
	close(epoll);
	return done == opt.messages ? 0 : 1;
}
