/*
 * A small HTTP server for pages that are made from memory: GET and HEAD, one
 * request a connection, no query, no body.
 *
 * It is made to cost nothing.  At most HTTP_MAX_CLIENTS connections are open,
 * and one more closes the oldest, so that who comes and asks at once is served
 * whoever else hangs around.  A request has 8 KB and 64 lines, and 5 s after the
 * accept the connection ends, however it drips and whatever it is at.  What
 * follows the request is thrown away.
 *
 * Everyone may connect who reaches the socket, but only peers in the networks
 * of http_allow() are answered, by what is allowed when they ask; others get
 * 403.  Who comes by a local socket is always allowed.
 *
 * evhttp is not used: that of libevent 2.1 has no bound on connections, nor a
 * deadline for a request as a whole, and its listener spins without
 * descriptors.
 */
#ifndef NET_HTTP_H
#define NET_HTTP_H

#include "net/listener.h"

#define HTTP_MAX_CLIENTS 32
#define HTTP_MAX_LISTENERS 8
#define HTTP_REQUEST_BYTES 8192
#define HTTP_REQUEST_LINES 64
#define HTTP_LINE_BYTES 4096
/* To ask, to take the answer and to close. */
#define HTTP_CLIENT_US (5 * US_PER_S)

struct http_answer {
	int status; /* 200, 503, ...; 200 unless it is set */
	const char *type; /* Content-Type; plain text unless it is set */
	char *body; /* malloc()ed; taken */
};

struct http_page {
	const char *path; /* "/metrics" */
	/* Called at once when it was asked for, also by HEAD. */
	void (*make)(void *ctx, struct http_answer *answer);
};

struct http;

/* The pages, ctx, and the loop must outlive it. */
struct http *http_new(struct loop *loop, const struct http_page *pages,
    unsigned n_pages, void *ctx);
/* As listener_open(); descriptors that mail needs are left: `spare`. */
MUST_CHECK int http_listen(
    struct http *h, const char *address, unsigned spare, struct err *err);
/* Of the listening socket `i`, from 0; NULL: there are no more. */
const char *http_address(const struct http *h, unsigned i);
/* Copied.  At first there are none. */
void http_allow(struct http *h, const struct network *networks, unsigned n);
unsigned http_n_clients(const struct http *h);
/* Closes everything at once; NULL is legal.  Freed at the end of the turn. */
void http_free(struct http *h);

#endif
