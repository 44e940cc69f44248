/*
 * HTTP/1.x for a handful of pages: reading a request, answering, leaving.
 *
 * Owns its listeners and clients; loop thread only.  A client is READING until
 * its request is whole (or wrong), ANSWERING while the answer is written, when
 * its socket is not read, and LEAVING until it closes, so that no reset
 * overtakes the answer.  Invariant: it is on the list, oldest first, exactly
 * while its connection is open, and n_clients is their number; the connection
 * has one deadline for all three.
 *
 * Of a request, only its first line matters: which page.  Header fields are
 * read over; they can change nothing.
 */
#include "net/http.h"

#include "base/clock.h"
#include "base/mem.h"
#include "net/conn.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <time.h>

#define TEXT_PLAIN "text/plain; charset=utf-8"

enum client_state { READING, ANSWERING, LEAVING };

struct client {
	TAILQ_ENTRY(client) link;
	struct http *http;
	struct conn *conn;
	enum client_state state;
	size_t n_bytes, n_lines; /* of the request */
	char *request; /* its first line */
};
TAILQ_HEAD(client_list, client);

struct http {
	struct loop *loop;
	const struct http_page *pages;
	unsigned n_pages;
	void *ctx;
	struct listener *listeners[HTTP_MAX_LISTENERS];
	unsigned n_listeners;
	struct network *allow;
	unsigned n_allow;
	struct client_list clients;
	unsigned n_clients;
};

static void client_free(void *ptr)
{
	struct client *c = ptr;

	free(c->request);
	free(c);
}

static void client_close(struct client *c)
{
	struct http *h = c->http;

	conn_close(c->conn);
	TAILQ_REMOVE(&h->clients, c, link);
	h->n_clients--;
	loop_defer(h->loop, client_free, c);
	for (unsigned i = 0; i < h->n_listeners; i++)
		listener_fd_freed(h->listeners[i]);
}

/* --- answers --- */

static const char *status_text(int status)
{
	switch (status) {
	case 200:
		return "OK";
	case 400:
		return "Bad Request";
	case 403:
		return "Forbidden";
	case 404:
		return "Not Found";
	case 405:
		return "Method Not Allowed";
	case 414:
		return "URI Too Long";
	case 431:
		return "Request Header Fields Too Large";
	case 503:
		return "Service Unavailable";
	case 505:
		return "HTTP Version Not Supported";
	default:
		return "Unknown";
	}
}

/* RFC 9110 5.6.7; the process has the C locale. */
static void format_date(char *buf, size_t size)
{
	time_t now = (time_t)(clock_wall_us() / US_PER_S);
	struct tm tm;

	gmtime_r(&now, &tm);
	strftime(buf, size, "%a, %d %b %Y %H:%M:%S GMT", &tm);
}

static void answer(
    struct client *c, const struct http_answer *a, bool with_body)
{
	char date[40];
	char *head;

	format_date(date, sizeof(date));
	head = xasprintf("HTTP/1.1 %d %s\r\n"
			 "Date: %s\r\n"
			 "Content-Type: %s\r\n"
			 "Content-Length: %zu\r\n"
			 "Cache-Control: no-store\r\n"
			 "%s"
			 "Connection: close\r\n\r\n",
	    a->status, status_text(a->status), date, a->type, strlen(a->body),
	    a->status == 405 ? "Allow: GET, HEAD\r\n" : "");
	conn_write(c->conn, head, strlen(head));
	if (with_body)
		conn_write(c->conn, a->body, strlen(a->body));
	free(head);
	c->state = ANSWERING;
	conn_discard_input(c->conn);
	/* An end of its input does not end its answer. */
	conn_pause(c->conn);
}

static void answer_text(struct client *c, int status, const char *text)
{
	struct http_answer a = { status, TEXT_PLAIN, xasprintf("%s\n", text) };

	answer(c, &a, true);
	free(a.body);
}

static bool is_allowed(const struct client *c)
{
	const struct http *h = c->http;
	struct sockaddr_storage peer = { 0 };
	socklen_t len = sizeof(peer);

	if (getpeername(conn_fd(c->conn), (struct sockaddr *)&peer, &len) < 0)
		return false;
	if (peer.ss_family == AF_UNIX)
		return true;
	for (unsigned i = 0; i < h->n_allow; i++)
		if (network_contains(
			&h->allow[i], (const struct sockaddr *)&peer))
			return true;
	return false;
}

static void answer_page(
    struct client *c, const struct http_page *page, bool with_body)
{
	struct http_answer a = { 200, TEXT_PLAIN, NULL };

	page->make(c->http->ctx, &a);
	ASSERT(a.body);
	answer(c, &a, with_body);
	free(a.body);
}

/* "GET /metrics HTTP/1.1"; a query is nothing to us. */
static void answer_request(struct client *c)
{
	struct slice rest = slice_str(c->request);
	struct slice method = slice_split(&rest, ' ');
	struct slice target = slice_split(&rest, ' ');
	struct slice path = slice_split(&target, '?');
	const struct http *h = c->http;
	bool head = slice_eq_str(method, "HEAD");

	if (!is_allowed(c)) {
		answer_text(c, 403,
		    "your address is not in http.allow of sesrelayd.conf");
		return;
	}
	if (!slice_has_prefix(rest, "HTTP/")) {
		answer_text(c, 400, "this is no request of HTTP/1");
		return;
	}
	if (!slice_has_prefix(rest, "HTTP/1.")) {
		answer_text(c, 505, "HTTP/1.1 or HTTP/1.0 only");
		return;
	}
	if (!head && !slice_eq_str(method, "GET")) {
		answer_text(c, 405, "GET and HEAD only");
		return;
	}
	for (unsigned i = 0; i < h->n_pages; i++)
		if (slice_eq_str(path, h->pages[i].path)) {
			answer_page(c, &h->pages[i], !head);
			return;
		}
	answer_text(c, 404, "no such page; / lists those that there are");
}

/* --- requests --- */

/* false: that was the last line to be read. */
static bool take_line(struct client *c, struct slice line)
{
	c->n_bytes += line.len + 2;
	if (++c->n_lines > HTTP_REQUEST_LINES ||
	    c->n_bytes > HTTP_REQUEST_BYTES) {
		answer_text(c, 431, "the request's header is too large");
		return false;
	}
	if (line.len == 0 && c->request) {
		answer_request(c);
		return false;
	}
	/* Empty lines before a request are passed over (RFC 9112 2.2). */
	if (line.len > 0 && !c->request)
		c->request = xstrndup(line.ptr, line.len);
	return true;
}

static void on_readable(void *ctx)
{
	struct client *c = ctx;
	struct slice line;
	int rc = 1;

	while (c->state == READING && rc > 0) {
		rc = conn_read_line(c->conn, HTTP_LINE_BYTES, &line, NULL);
		if (rc > 0 && !take_line(c, line))
			return;
	}
	if (rc < 0)
		answer_text(c, c->request ? 431 : 414, "that line is too long");
	if (c->state != READING)
		conn_discard_input(c->conn);
}

/* All of the answer is with the kernel. */
static void on_writable(void *ctx)
{
	struct client *c = ctx;

	if (c->state != ANSWERING)
		return;
	c->state = LEAVING;
	(void)shutdown(conn_fd(c->conn), SHUT_WR);
	conn_resume(c->conn);
}

static void on_end(void *ctx, enum conn_end end, const char *reason)
{
	(void)end;
	(void)reason;
	client_close(ctx);
}

static const struct conn_events client_events = {
	.on_readable = on_readable,
	.on_writable = on_writable,
	.on_end = on_end,
};

static void on_accept(void *ctx, int fd, const struct sockaddr *peer)
{
	struct http *h = ctx;
	struct client *c;

	(void)peer;
	if (h->n_clients == HTTP_MAX_CLIENTS)
		client_close(TAILQ_FIRST(&h->clients));
	c = xcalloc(1, sizeof(*c));
	c->http = h;
	c->conn = conn_accept(h->loop, fd, &client_events, c);
	conn_deadline(c->conn, HTTP_CLIENT_US);
	TAILQ_INSERT_TAIL(&h->clients, c, link);
	h->n_clients++;
}

/* --- the server --- */

struct http *http_new(struct loop *loop, const struct http_page *pages,
    unsigned n_pages, void *ctx)
{
	struct http *h = xcalloc(1, sizeof(*h));

	h->loop = loop;
	h->pages = pages;
	h->n_pages = n_pages;
	h->ctx = ctx;
	TAILQ_INIT(&h->clients);
	return h;
}

int http_listen(
    struct http *h, const char *address, unsigned spare, struct err *err)
{
	struct listener *l;

	if (h->n_listeners == HTTP_MAX_LISTENERS)
		return err_set(err, 0, "more than %d addresses for HTTP",
		    HTTP_MAX_LISTENERS);
	l = listener_open(h->loop, address, on_accept, h, err);
	if (!l)
		return -1;
	listener_keep_spare(l, spare);
	h->listeners[h->n_listeners++] = l;
	return 0;
}

const char *http_address(const struct http *h, unsigned i)
{
	return i < h->n_listeners ? listener_address(h->listeners[i]) : NULL;
}

void http_allow(struct http *h, const struct network *networks, unsigned n)
{
	free(h->allow);
	h->allow = n > 0 ? xmemdup(networks, n * sizeof(*h->allow)) : NULL;
	h->n_allow = n;
}

unsigned http_n_clients(const struct http *h)
{
	return h->n_clients;
}

static void http_free_now(void *ptr)
{
	struct http *h = ptr;

	free(h->allow);
	free(h);
}

void http_free(struct http *h)
{
	if (!h)
		return;
	for (unsigned i = 0; i < h->n_listeners; i++)
		listener_close(h->listeners[i]);
	h->n_listeners = 0;
	while (!TAILQ_EMPTY(&h->clients))
		client_close(TAILQ_FIRST(&h->clients));
	loop_defer(h->loop, http_free_now, h);
}
