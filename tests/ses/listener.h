#ifndef SES_LISTENER_H
#define SES_LISTENER_H

#include "server.h"

enum listener_state {
	LISTENER_OPEN,
	LISTENER_REFUSING, /* the kernel answers a connect with RST */
	LISTENER_BLOCKED, /* the queue is full: a connect gets no answer */
};

/* One port; kept for the whole run, whatever its state. */
struct listener {
	struct server *server;
	struct listener *next;
	struct event *readable;
	char where[80]; /* ADDR:PORT as given, later as bound */
	char addr[64];
	int port;
	enum mode mode;
	enum listener_state state;
	int fd;
	int filler_fd; /* our own connection that fills the queue, or -1 */
	int filler_port; /* its local port, also after it is closed */
	SSL_CTX *tls; /* a certificate of its own, or NULL: the server's */
};

const char *mode_name(enum mode mode);

/* ADDR:PORT:MODE; false after a line on stderr. */
bool listener_add(struct server *sv, const char *spec);
bool listener_start_all(struct server *sv);
void listener_free_all(struct server *sv);
/* True if no port needs a certificate. */
bool listener_all_plain(const struct server *sv);
/*
 * True if WHERE means this one: its ADDR:PORT, ADDR, PORT or MODE; or all of
 * them: "" or "all".
 */
bool listener_matches(const struct listener *l, const char *where);
/* True if WHERE means one at all. */
bool listener_any(const struct server *sv, const char *where);
/* NULL, or what is wrong. */
const char *listener_set_state(
    struct server *sv, const char *where, enum listener_state state);
/* Takes over ctx; for all of them, it becomes the server's. */
const char *listener_set_tls(
    struct server *sv, const char *where, SSL_CTX *ctx);
/* One "listen MODE ADDR PORT" line each, with its state if wanted. */
void listener_print(const struct server *sv, struct buf *out, bool with_state);
/* Splits "ADDR:PORT" and binds; the fd, or -1 after a line on stderr. */
int listener_bind(const char *addr_port, bool with_listen);
/* Address and port an fd is bound to. */
void listener_name(int fd, char *addr, size_t cap, int *port);

#endif
