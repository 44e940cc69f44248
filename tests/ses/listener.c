/*
 * The listening sockets of the emulator.
 *
 * Owns the listeners, which keep their ports for the whole run: while
 * connects are to be refused a socket stays bound without listening, so that
 * nobody else gets the port and the kernel answers with RST. A blocked port
 * has a queue for nobody, and a connection of our own in it: the kernel drops
 * every SYN, as if a firewall had. When no fd is left a connection is taken
 * and dropped at once; leaving it would make the loop spin.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "listener.h"
#include "session.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BACKLOG = 1024, ACCEPTS_A_WAKE = 64, FILL_MS = 1000 };

static const char *const modes[] = { "starttls", "wrapper", "plain" };
static const char *const states[] = { "open", "refusing", "blocked" };

const char *mode_name(enum mode mode)
{
	return modes[mode];
}

void listener_name(int fd, char *addr, size_t cap, int *port)
{
	struct sockaddr_storage ss = { 0 };
	socklen_t len = sizeof(ss);
	char service[16] = "0";

	addr[0] = '\0';
	if (getsockname(fd, (struct sockaddr *)&ss, &len) == 0)
		(void)getnameinfo((struct sockaddr *)&ss, len, addr,
		    (socklen_t)cap, service, sizeof(service),
		    NI_NUMERICHOST | NI_NUMERICSERV);
	*port = (int)strtol(service, NULL, 10);
}

static int bind_one(const struct addrinfo *ai, bool with_listen)
{
	int fd = socket(
	    ai->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int on = 1, saved;

	if (fd < 0)
		return -1;
	(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (ai->ai_family == AF_INET6)
		(void)setsockopt(
		    fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
	if (bind(fd, ai->ai_addr, ai->ai_addrlen) == 0 &&
	    (!with_listen || listen(fd, BACKLOG) == 0))
		return fd;
	saved = errno;
	(void)close(fd);
	errno = saved;
	return -1;
}

int listener_bind(const char *addr_port, bool with_listen)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *ai = NULL;
	char *host = xstrdup(addr_port), *colon = strrchr(host, ':');
	char *name = host;
	int fd = -1, wrong;

	hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE;
	if (colon != NULL) {
		*colon = '\0';
		if (*name == '[' && colon[-1] == ']') {
			colon[-1] = '\0';
			name++;
		}
	}
	wrong = colon == NULL ? EAI_NONAME
			      : getaddrinfo(name, colon + 1, &hints, &ai);
	if (wrong != 0) {
		complain("%s: %s", addr_port, gai_strerror(wrong));
	} else {
		fd = bind_one(ai, with_listen);
		if (fd < 0)
			complain("%s: %s", addr_port, strerror(errno));
		freeaddrinfo(ai);
	}
	free(host);
	return fd;
}

bool listener_add(struct server *sv, const char *spec)
{
	const char *colon = strrchr(spec, ':');
	struct listener *l;

	for (int i = 0; colon != NULL && i < 3; i++) {
		struct listener **at = &sv->listeners;

		if (strcmp(colon + 1, modes[i]) != 0 ||
		    (size_t)(colon - spec) >= sizeof(l->where))
			continue;
		while (*at != NULL)
			at = &(*at)->next;
		l = xcalloc(1, sizeof(*l));
		l->server = sv;
		l->mode = (enum mode)i;
		l->fd = -1;
		l->filler_fd = -1;
		memcpy(l->where, spec, (size_t)(colon - spec));
		*at = l;
		sv->listener_count++;
		return true;
	}
	complain("%s: not ADDR:PORT:starttls|wrapper|plain", spec);
	return false;
}

/* No fd is left: take the connection with the spare one and drop it. */
static void shed(struct server *sv, int listen_fd)
{
	int fd;

	if (sv->spare_fd >= 0)
		(void)close(sv->spare_fd);
	fd = accept(listen_fd, NULL, NULL);
	if (fd >= 0)
		(void)close(fd);
	sv->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
}

/* What the kernel may take of a client before the session has read it. */
static void limit_buffer(int fd, long bytes)
{
	int size = bytes > INT_MAX ? INT_MAX : (int)bytes;

	if (size > 0)
		(void)setsockopt(
		    fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
}

static void on_connect(evutil_socket_t listen_fd, short what, void *arg)
{
	struct listener *l = arg;

	(void)what;
	for (int i = 0; i < ACCEPTS_A_WAKE; i++) {
		struct sockaddr_storage ss = { 0 };
		socklen_t len = sizeof(ss);
		char peer[64] = "", service[16] = "0";
		int fd = accept4(listen_fd, (struct sockaddr *)&ss, &len,
		    SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd < 0 && (errno == EMFILE || errno == ENFILE)) {
			shed(l->server, listen_fd);
			return;
		}
		if (fd < 0)
			return;
		(void)getnameinfo((struct sockaddr *)&ss, len, peer,
		    sizeof(peer), service, sizeof(service),
		    NI_NUMERICHOST | NI_NUMERICSERV);
		if (l->filler_port != 0 &&
		    strtol(service, NULL, 10) == l->filler_port) {
			l->filler_port = 0;
			(void)close(fd);
			continue;
		}
		limit_buffer(fd, l->server->set.receive_buffer);
		session_new(l, fd, peer);
	}
}

static void unwatch(struct listener *l)
{
	if (l->readable != NULL)
		event_free(l->readable);
	l->readable = NULL;
	if (l->filler_fd >= 0)
		(void)close(l->filler_fd);
	l->filler_fd = -1;
}

static void stop(struct listener *l)
{
	unwatch(l);
	if (l->fd >= 0)
		(void)close(l->fd);
	l->fd = -1;
	l->filler_port = 0;
}

static bool watch(struct listener *l)
{
	l->readable = event_new(
	    l->server->base, l->fd, EV_READ | EV_PERSIST, on_connect, l);
	return l->readable != NULL && event_add(l->readable, NULL) == 0;
}

/* Takes the one place in the queue of a socket that listens with none. */
static bool fill(struct listener *l)
{
	struct sockaddr_storage ss = { 0 };
	socklen_t len = sizeof(ss);
	struct pollfd p = { .events = POLLOUT };
	char addr[64];

	if (getsockname(l->fd, (struct sockaddr *)&ss, &len) != 0)
		return false;
	p.fd =
	    socket(ss.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (p.fd < 0)
		return false;
	l->filler_fd = p.fd;
	/* Where it is never connected, others fill the queue already. */
	if (connect(p.fd, (struct sockaddr *)&ss, len) != 0 &&
	    errno == EINPROGRESS)
		(void)poll(&p, 1, FILL_MS);
	listener_name(p.fd, addr, sizeof(addr), &l->filler_port);
	return true;
}

static bool start(struct listener *l)
{
	l->fd = listener_bind(l->where, true);
	if (l->fd < 0)
		return false;
	listener_name(l->fd, l->addr, sizeof(l->addr), &l->port);
	if (strchr(l->addr, ':') != NULL)
		(void)snprintf(
		    l->where, sizeof(l->where), "[%s]:%d", l->addr, l->port);
	else
		(void)snprintf(
		    l->where, sizeof(l->where), "%s:%d", l->addr, l->port);
	return watch(l);
}

bool listener_all_plain(const struct server *sv)
{
	for (const struct listener *l = sv->listeners; l != NULL; l = l->next) {
		if (l->mode != MODE_PLAIN)
			return false;
	}
	return true;
}

bool listener_start_all(struct server *sv)
{
	for (struct listener *l = sv->listeners; l != NULL; l = l->next) {
		if (!start(l))
			return false;
	}
	return true;
}

bool listener_matches(const struct listener *l, const char *where)
{
	char port[16];

	(void)snprintf(port, sizeof(port), "%d", l->port);
	return *where == '\0' || strcmp(where, "all") == 0 ||
	    strcmp(where, l->where) == 0 || strcmp(where, l->addr) == 0 ||
	    strcmp(where, port) == 0 || strcmp(where, modes[l->mode]) == 0;
}

bool listener_any(const struct server *sv, const char *where)
{
	for (const struct listener *l = sv->listeners; l != NULL; l = l->next) {
		if (listener_matches(l, where))
			return true;
	}
	return false;
}

static bool change_state(struct listener *l, enum listener_state state)
{
	if (l->state == state)
		return true;
	l->state = state;
	if (state == LISTENER_REFUSING) {
		stop(l);
		l->fd = listener_bind(l->where, false);
		return l->fd >= 0;
	}
	unwatch(l);
	if (state == LISTENER_BLOCKED)
		return l->fd >= 0 && listen(l->fd, 0) == 0 && fill(l);
	return l->fd >= 0 && listen(l->fd, BACKLOG) == 0 && watch(l);
}

const char *listener_set_state(
    struct server *sv, const char *where, enum listener_state state)
{
	bool found = false, good = true;

	for (struct listener *l = sv->listeners; l != NULL; l = l->next) {
		if (!listener_matches(l, where))
			continue;
		found = true;
		good = change_state(l, state) && good;
	}
	if (!found)
		return "no such listener";
	return good ? NULL : "cannot bind or listen again";
}

const char *listener_set_tls(struct server *sv, const char *where, SSL_CTX *ctx)
{
	bool all = *where == '\0' || strcmp(where, "all") == 0, found = all;

	for (struct listener *l = sv->listeners; l != NULL; l = l->next) {
		if (!listener_matches(l, where))
			continue;
		found = true;
		SSL_CTX_free(l->tls);
		l->tls = all ? NULL : ctx;
		if (!all)
			SSL_CTX_up_ref(ctx);
	}
	if (all) {
		SSL_CTX_free(sv->tls);
		sv->tls = ctx;
	} else {
		SSL_CTX_free(ctx);
	}
	return found ? NULL : "no such listener";
}

void listener_free_all(struct server *sv)
{
	struct listener *l;

	while ((l = sv->listeners) != NULL) {
		sv->listeners = l->next;
		stop(l);
		SSL_CTX_free(l->tls);
		free(l);
	}
}

void listener_print(const struct server *sv, struct buf *out, bool with_state)
{
	const struct listener *l;

	for (l = sv->listeners; l != NULL; l = l->next)
		buf_addf(out, "listen %s %s %d%s%s\n", modes[l->mode], l->addr,
		    l->port, with_state ? " " : "",
		    with_state ? states[l->state] : "");
}
