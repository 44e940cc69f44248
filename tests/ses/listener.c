/*
 * The listening sockets of the emulator.
 *
 * Owns the listeners, which keep their ports for the whole run: while
 * connects are to be refused a socket stays bound without listening, so that
 * nobody else gets the port and the kernel answers with RST. When no fd is
 * left a connection is taken and dropped at once; leaving it would make the
 * loop spin.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "session.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct listener {
	struct server *server;
	struct listener *next;
	struct event *readable;
	char where[80]; /* ADDR:PORT as given, later as bound */
	char addr[64];
	int port;
	enum mode mode;
	int fd;
};

enum { BACKLOG = 1024, ACCEPTS_A_WAKE = 64 };

static const char *const modes[] = { "starttls", "wrapper", "plain" };

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
		fprintf(
		    stderr, "sesd: %s: %s\n", addr_port, gai_strerror(wrong));
	} else {
		fd = bind_one(ai, with_listen);
		if (fd < 0)
			fprintf(stderr, "sesd: %s: %s\n", addr_port,
			    strerror(errno));
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
		memcpy(l->where, spec, (size_t)(colon - spec));
		*at = l;
		sv->listener_count++;
		return true;
	}
	fprintf(
	    stderr, "sesd: %s: not ADDR:PORT:starttls|wrapper|plain\n", spec);
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

static void on_connect(evutil_socket_t listen_fd, short what, void *arg)
{
	struct listener *l = arg;

	(void)what;
	for (int i = 0; i < ACCEPTS_A_WAKE; i++) {
		struct sockaddr_storage ss = { 0 };
		socklen_t len = sizeof(ss);
		char peer[64] = "";
		int fd = accept4(listen_fd, (struct sockaddr *)&ss, &len,
		    SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd < 0 && (errno == EMFILE || errno == ENFILE)) {
			shed(l->server, listen_fd);
			return;
		}
		if (fd < 0)
			return;
		(void)getnameinfo((struct sockaddr *)&ss, len, peer,
		    sizeof(peer), NULL, 0, NI_NUMERICHOST);
		session_new(l->server, fd, l->mode, l->port, peer);
	}
}

static void stop(struct listener *l)
{
	if (l->readable != NULL)
		event_free(l->readable);
	l->readable = NULL;
	if (l->fd >= 0)
		(void)close(l->fd);
	l->fd = -1;
}

static bool watch(struct listener *l)
{
	l->readable = event_new(
	    l->server->base, l->fd, EV_READ | EV_PERSIST, on_connect, l);
	return l->readable != NULL && event_add(l->readable, NULL) == 0;
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

bool listener_refuse(struct server *sv, bool refuse)
{
	bool good = true;

	if (sv->refusing == refuse)
		return true;
	sv->refusing = refuse;
	for (struct listener *l = sv->listeners; l != NULL; l = l->next) {
		if (refuse) {
			stop(l);
			l->fd = listener_bind(l->where, false);
			good = l->fd >= 0 && good;
		} else {
			good = l->fd >= 0 && listen(l->fd, BACKLOG) == 0 &&
			    watch(l) && good;
		}
	}
	return good;
}

void listener_free_all(struct server *sv)
{
	struct listener *l;

	while ((l = sv->listeners) != NULL) {
		sv->listeners = l->next;
		stop(l);
		free(l);
	}
}

void listener_print(const struct server *sv, struct buf *out)
{
	const struct listener *l;

	for (l = sv->listeners; l != NULL; l = l->next)
		buf_addf(
		    out, "listen %s %s %d\n", modes[l->mode], l->addr, l->port);
}
