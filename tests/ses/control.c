/*
 * The control port: one command a line, an answer that ends in OK or ERR.
 *
 * Owns the listening socket and one buffered client each. A command has
 * taken effect when its answer is written, and the journal is flushed before
 * that, so a test needs no waiting after it. Meant for the loopback of a
 * test machine: there is no authentication.
 */
#include "session.h"

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

/* Writes what it has to say to out; NULL, or what was wrong. */
typedef const char *control_command(
    struct server *sv, const char *args, struct buf *out);

static const char *do_set(struct server *sv, const char *args, struct buf *out)
{
	const char *wrong = settings_assign(&sv->set, args);

	(void)out;
	server_settings_changed(sv);
	return wrong;
}

static const char *do_get(struct server *sv, const char *args, struct buf *out)
{
	(void)args;
	settings_print(&sv->set, out);
	return NULL;
}

static const char *do_stats(
    struct server *sv, const char *args, struct buf *out)
{
	const struct stats *st = &sv->stats;
	const char *comma = "";

	(void)args;
	buf_addf(out,
	    "{\"accepted\":%lu,\"recipients\":%lu,\"rejected\":%lu,"
	    "\"throttled\":%lu,\"connections\":{\"now\":%lu,\"peak\":%lu,"
	    "\"total\":%lu},\"max_messages_per_connection\":%lu,"
	    "\"violations\":%lu,\"violation_kinds\":{",
	    st->accepted, st->recipients, st->rejected, st->throttled,
	    st->connections_now, st->connections_peak, st->connections_total,
	    st->max_messages, st->violations_total);
	for (int i = 0; i < VIOLATIONS; i++) {
		if (st->violations[i] == 0)
			continue;
		buf_addf(out, "%s\"%s\":%lu", comma,
		    violation_name((enum violation)i), st->violations[i]);
		comma = ",";
	}
	buf_adds(out, "}}\n");
	return NULL;
}

static const char *do_rule(struct server *sv, const char *args, struct buf *out)
{
	(void)out;
	return rules_add(&sv->rules, args);
}

static const char *do_rules(
    struct server *sv, const char *args, struct buf *out)
{
	(void)args;
	rules_print(&sv->rules, out);
	return NULL;
}

static const char *do_clear(
    struct server *sv, const char *args, struct buf *out)
{
	(void)args;
	(void)out;
	rules_clear(&sv->rules);
	return NULL;
}

static const char *do_drop(struct server *sv, const char *args, struct buf *out)
{
	(void)out;
	if (*args != '\0' && strcmp(args, "rst") != 0)
		return "neither nothing nor rst";
	server_drop_connections(sv, *args != '\0');
	return NULL;
}

static const char *do_refuse(
    struct server *sv, const char *args, struct buf *out)
{
	(void)out;
	if (strcmp(args, "on") != 0 && strcmp(args, "off") != 0)
		return "neither on nor off";
	return listener_refuse(sv, args[1] == 'n') ? NULL : "cannot bind again";
}

static const char *do_cert(struct server *sv, const char *args, struct buf *out)
{
	size_t n = strcspn(args, " ");
	const char *key = args + n + strspn(args + n, " ");
	char *cert = xstrndup(args, n);
	SSL_CTX *ctx = link_context(cert, key, sv->tls_max);

	(void)out;
	free(cert);
	if (ctx == NULL)
		return "these are no certificate and key";
	SSL_CTX_free(sv->tls);
	sv->tls = ctx;
	return NULL;
}

static const char *do_quit(struct server *sv, const char *args, struct buf *out)
{
	(void)args;
	(void)out;
	sv->quitting = true;
	event_base_loopexit(sv->base, NULL);
	return NULL;
}

static const struct {
	const char *name;
	control_command *run;
} commands[] = {
	{ "set", do_set },
	{ "get", do_get },
	{ "stats", do_stats },
	{ "rule", do_rule },
	{ "rules", do_rules },
	{ "clear", do_clear },
	{ "cert", do_cert },
	{ "drop-connections", do_drop },
	{ "refuse", do_refuse },
	{ "quit", do_quit },
};

static void obey(struct client *c, char *line)
{
	struct server *sv = c->control->server;
	const char *wrong = "no such command";
	struct buf out = { 0 };
	size_t n;

	line += strspn(line, " \t");
	n = strcspn(line, " ");
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
		if (strlen(commands[i].name) != n ||
		    strncmp(line, commands[i].name, n) != 0)
			continue;
		wrong =
		    commands[i].run(sv, line + n + strspn(line + n, " "), &out);
		break;
	}
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
