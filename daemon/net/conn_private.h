/*
 * Between conn.c, which decides when bytes are moved and what the owner is
 * told, conn_buffer.c, which is the owner's side of the buffers, conn_io.c,
 * which moves bytes through the socket, in clear or inside TLS, and
 * conn_socket.c, which makes sockets what we want them to be.
 */
#ifndef NET_CONN_PRIVATE_H
#define NET_CONN_PRIVATE_H

#include "net/conn.h"
#include "net/loop_private.h"

#include <event2/event.h>
#include <event2/event_struct.h>
#include <netinet/in.h>

/* Unread input at which the socket is left alone, and at which not any more. */
#define CONN_INPUT_FULL_BYTES 65536
#define CONN_INPUT_LOW_BYTES 32768
#define CONN_RECORD_BYTES 16384 /* the most that TLS allows */

enum conn_state {
	CONN_CONNECTING,
	CONN_CLEAR,
	CONN_HANDSHAKE,
	CONN_SECURE,
	CONN_DOOMED, /* on_end follows in the next turn: end, reason */
	CONN_ENDED, /* on_end was called */
	CONN_CLOSED, /* freed at the end of the turn */
};

struct conn {
	struct loop *loop;
	const struct conn_events *events;
	void *ctx;
	int fd; /* -1: there never was one */
	enum conn_state state;

	struct event read_event, write_event;
	bool read_armed, write_armed;
	/* EV_READ or EV_WRITE: what must happen before it is tried again. */
	short read_wants;
	short write_wants; /* 0: may be tried now */

	bool paused; /* by the owner */
	bool full; /* too much input is unread */
	bool eof; /* of an orphan's input */
	bool told; /* on_end was called; at EOF and time-outs, output goes on */
	bool read_again; /* TLS holds input that the kernel knows not of */
	bool orphan; /* the owner has left, output remains */
	bool lingering; /* an orphan that waits for the peer to close */
	size_t record_size; /* plain text in one TLS record, at most */
	bool ssl_broken; /* no close_notify any more */

	struct evbuffer *in, *out;
	size_t scanned; /* no LF in that much of the input */
	bool skipping; /* the rest of an over-long line */
	char *line; /* the last one given to the owner */
	size_t line_size;
	uint64_t written;
	size_t low_water;

	struct loop_timer timer; /* deadline, or what ends a doomed one */
	struct loop_hook flush_hook, orphan_hook;
	struct ssl_st *ssl; /* NULL in clear */
	struct tls_context *tls;

	enum conn_end end; /* why it failed, with `reason` */
	int error; /* errno of a failure to connect */
	char reason[256];
	char peer_ip[INET6_ADDRSTRLEN];
	int peer_port;
};

/* conn.c: input was taken, or output was added. */
void conn_input_taken(struct conn *c);
void conn_output_added(struct conn *c);

enum conn_io {
	CONN_IO_OK,
	CONN_IO_AGAIN, /* read_wants or write_wants says after what */
	CONN_IO_EOF,
	CONN_IO_FAILED, /* c->end and c->reason say why */
};

/* 1 to `size` bytes. */
enum conn_io conn_io_read(struct conn *c, char *buf, size_t size, size_t *n);
/* Some of c->out, which must not be empty. */
enum conn_io conn_io_write(struct conn *c, size_t *n);
/* Input that is in TLS's buffers and not in the kernel's. */
bool conn_io_has_pending(const struct conn *c);
/* Fills c->ssl, or -1 and the reason. */
MUST_CHECK int conn_io_start_tls(
    struct conn *c, struct tls_context *tls, const char *host, struct err *err);
enum conn_io conn_io_handshake(struct conn *c);
/* We shall not write any more: close_notify inside TLS. */
void conn_io_say_goodbye(struct conn *c);
void conn_io_free(struct conn *c);

/* conn_socket.c: options and peer of an accepted socket. */
void conn_socket_accepted(struct conn *c);
void conn_socket_set_peer(struct conn *c, const struct sockaddr_storage *addr);
/*
 * A socket that connects, or -1 and the reason; *fd is the caller's in both
 * cases, and -1 when there is none.
 */
MUST_CHECK int conn_socket_connect(
    int *fd, const struct conn_target *target, struct err *err);
/* What became of it: 1; 0, nothing yet; or -1 and c->end and c->reason. */
MUST_CHECK int conn_socket_connected(struct conn *c);

#endif
