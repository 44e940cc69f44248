/*
 * The control port: one command a line, an answer that ends in OK or ERR.
 *
 * Owns the listening socket and one buffered client each. A command has
 * taken effect when its answer is written, and the journal is flushed before
 * that, so a test needs no waiting after it. Meant for the loopback of a
 * test machine: there is no authentication.
 */
#include "listener.h"

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/listener.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { LINE_LIMIT = 65536 };

struct client {
	struct client *next;
	struct control *control;
	struct bufferevent *bev;
};

struct control {
	struct server *server;
	struct evconnlistener *listener;
	struct client *clients;
};

static void obey(struct client *c, const char *line)
{
	struct server *sv = c->control->server;
	struct buf out = { 0 };
	const char *wrong = order_run(sv, line, &out);

	if (wrong != NULL)
		buf_addf(&out, "ERR %s\n", wrong);
	else
		buf_adds(&out, "OK\n");
	journal_flush(&sv->journal);
	/* After quit the loop turns no more that would write the answer. */
	if (sv->quitting)
		(void)send(
		    bufferevent_getfd(c->bev), out.data, out.len, MSG_NOSIGNAL);
	else
		bufferevent_write(c->bev, out.data, out.len);
	buf_free(&out);
}

static void client_free(struct client *c)
{
	struct client **at = &c->control->clients;

	while (*at != c)
		at = &(*at)->next;
	*at = c->next;
	bufferevent_free(c->bev);
	free(c);
}

static void on_read(struct bufferevent *bev, void *arg)
{
	struct evbuffer *in = bufferevent_get_input(bev);
	char *line;

	while ((line = evbuffer_readln(in, NULL, EVBUFFER_EOL_CRLF)) != NULL) {
		obey(arg, line);
		free(line);
	}
	if (evbuffer_get_length(in) > LINE_LIMIT)
		client_free(arg);
}

static void on_event(struct bufferevent *bev, short what, void *arg)
{
	(void)bev;
	if (what & (BEV_EVENT_EOF | BEV_EVENT_ERROR))
		client_free(arg);
}

static void on_client(struct evconnlistener *listener, evutil_socket_t fd,
    struct sockaddr *sa, int len, void *arg)
{
	struct control *control = arg;
	struct client *c = xcalloc(1, sizeof(*c));

	(void)listener;
	(void)sa;
	(void)len;
	c->control = control;
	c->bev = bufferevent_socket_new(
	    control->server->base, fd, BEV_OPT_CLOSE_ON_FREE);
	if (c->bev == NULL) {
		(void)close(fd);
		free(c);
		return;
	}
	c->next = control->clients;
	control->clients = c;
	bufferevent_setcb(c->bev, on_read, NULL, on_event, c);
	bufferevent_enable(c->bev, EV_READ | EV_WRITE);
}

struct control *control_new(struct server *sv, const char *addr_port)
{
	struct control *c;
	int fd = listener_bind(addr_port, false);

	if (fd < 0)
		return NULL;
	c = xcalloc(1, sizeof(*c));
	c->server = sv;
	c->listener = evconnlistener_new(sv->base, on_client, c,
	    LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC, 64, fd);
	if (c->listener == NULL) {
		(void)close(fd);
		free(c);
		return NULL;
	}
	return c;
}

void control_free(struct control *c)
{
	struct client *client;

	if (c == NULL)
		return;
	while ((client = c->clients) != NULL) {
		c->clients = client->next;
		bufferevent_free(client->bev);
		free(client);
	}
	evconnlistener_free(c->listener);
	free(c);
}

void control_print(const struct control *c, struct buf *out)
{
	char addr[64];
	int port;

	if (c == NULL)
		return;
	listener_name(
	    evconnlistener_get_fd(c->listener), addr, sizeof(addr), &port);
	buf_addf(out, "control %s %d\n", addr, port);
}
