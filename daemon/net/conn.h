/*
 * One stream connection: bytes in, bytes out, in clear or inside TLS.
 *
 * Input is pulled: on_readable tells that there is more than before (or that
 * the end is there), the owner then takes lines or chunks until it gets none.
 * What it leaves stays buffered; with too much of it buffered the socket is not
 * read any more, which is the back-pressure.  Output is buffered and written
 * as the peer takes it.
 *
 * Ends are told once, by on_end, after every byte that came before was offered
 * by on_readable; the owner then calls conn_close().  At CONN_END_EOF and
 * CONN_END_TIMEOUT of an established connection it may first write its last
 * words, and close by conn_close_after_flush().  conn_close() is legal at
 * any time, also in any callback; no callback comes after it.  Memory is freed
 * at the end of the loop's turn; until then calls on a closed conn are
 * harmless: no input, output is dropped.
 *
 * What is written leaves at the end of the turn, as one write or one record.
 *
 * Deadlines: the owner keeps at most one, conn_deadline(); it is absolute and
 * not moved by traffic.  Progress time-outs are the owner's: it sets it anew
 * when it is satisfied.
 */
#ifndef NET_CONN_H
#define NET_CONN_H

#include "base/slice.h"
#include "net/loop.h"
#include "net/tls.h"

#include <sys/socket.h>

enum conn_end {
	CONN_END_EOF, /* the peer closed, in order */
	CONN_END_RESET, /* or another error of the socket */
	CONN_END_REFUSED, /* it never was connected */
	CONN_END_TLS, /* handshake or record failed; reason says why */
	CONN_END_TIMEOUT, /* the deadline passed */
};

struct conn_events {
	/* TCP is there (conn_connect() only). */
	void (*on_connected)(void *ctx);
	/* The handshake is done and the certificate is right. */
	void (*on_secured)(void *ctx);
	void (*on_readable)(void *ctx);
	/* Output was written and no more than conn_set_low_water() is left. */
	void (*on_writable)(void *ctx);
	void (*on_end)(void *ctx, enum conn_end end, const char *reason);
};

struct conn;

/* An accepted socket; takes fd. */
struct conn *conn_accept(
    struct loop *loop, int fd, const struct conn_events *events, void *ctx);

struct conn_target {
	struct sockaddr_storage addr;
	socklen_t addr_len;
	const struct sockaddr_storage *source; /* NULL: the system's choice */
	socklen_t source_len;
	int mss; /* TCP_MAXSEG; 0: the system's */
};
/* Starts to connect; every failure comes by on_end, in a later turn. */
struct conn *conn_connect(struct loop *loop, const struct conn_target *target,
    const struct conn_events *events, void *ctx);

/*
 * Starts the handshake as a client that accepts only `host`.  Nothing may be
 * buffered in either direction: for input that is conn_input_empty(), which
 * the caller must have checked (injected replies); else the connection ends
 * with CONN_END_TLS.  Any failure comes by on_end, in a later turn.
 */
void conn_start_tls(struct conn *c, struct tls_context *tls, const char *host);
bool conn_is_secure(const struct conn *c);

/*
 * A line that ends in CRLF or LF, without its end; *bare_lf (if not NULL) says
 * which.  1: *line is valid until the next conn_read_line() on this conn or the
 * end of a turn in which it was closed; 0: none is complete; -1: there are more
 * than `max` bytes without a line end; they were thrown away, and the rest of
 * that line will be, silently: *line has its first byte, at least.  max is at
 * most 32 KiB - 2.
 */
int conn_read_line(
    struct conn *c, size_t max, struct slice *line, bool *bare_lf);
/* Contiguous bytes at the head of the input, possibly none; then consume.
 * Valid until then, within this turn. */
struct slice conn_peek(struct conn *c);
void conn_consume(struct conn *c, size_t n);
bool conn_input_empty(const struct conn *c);
size_t conn_input_len(const struct conn *c);
void conn_discard_input(struct conn *c);
/* Stop and start reading from the socket, whose end is not noticed meanwhile;
 * input already here stays and is not offered again. */
void conn_pause(struct conn *c);
void conn_resume(struct conn *c);

/* Copies. */
void conn_write(struct conn *c, const void *data, size_t len);
/*
 * Without copying: `release(arg)` when the bytes are written or dropped, at
 * the latest in conn_close().  May be called during conn_write_ref() itself.
 * release() must not call conn_ functions.
 */
void conn_write_ref(struct conn *c, const void *data, size_t len,
    void (*release)(void *arg), void *arg);
/* As conn_write(), of what must not stay in memory: our copy is wiped when it
 * has left.  Nothing may be buffered before it, or it is copied once more. */
void conn_write_secret(struct conn *c, const void *data, size_t len);
size_t conn_output_len(const struct conn *c);
/*
 * The most plain text that goes into one TLS record from now on; 0: as much as
 * TLS allows, which is how it begins.  Nothing may be buffered.
 */
void conn_set_record_size(struct conn *c, size_t bytes);
/* At first 0: on_writable comes when all is written. */
void conn_set_low_water(struct conn *c, size_t bytes);
/* Bytes that have left towards the kernel since the connection began, as far
 * as the plain text of the owner is concerned. */
uint64_t conn_written(const struct conn *c);

/* on_end(CONN_END_TIMEOUT) at that long from now; < 0: none. */
void conn_deadline(struct conn *c, int64_t delay_us);

/*
 * Throws away what is unsent and closes; inside TLS a close_notify is sent if
 * the socket takes it.  NULL is legal.
 */
void conn_close(struct conn *c);
/*
 * Writes what is buffered, then says that nothing follows and waits until the
 * peer closes, so that no reset overtakes the last bytes; all that for at most
 * 2 s.  Input is thrown away and no callback comes any more.
 */
void conn_close_after_flush(struct conn *c);

/* "127.0.0.1" or "::1"; the peer's numeric address and port.  "unix" or
 * "unknown", and 0, when it has none. */
const char *conn_peer_ip(const struct conn *c);
int conn_peer_port(const struct conn *c);
int conn_fd(const struct conn *c);
/* In on_end: the errno value that a CONN_END_REFUSED came from. */
int conn_error(const struct conn *c);
/* What TCP knows of the way to the peer. */
struct conn_tcp {
	uint64_t acked, received; /* bytes, since the connection began */
	uint32_t unacked; /* bytes that the kernel holds for the peer */
	uint32_t in_flight; /* segments sent and not acknowledged */
	uint32_t retransmits; /* of the first of these, by time-out, in a row */
	uint32_t sacked; /* of these, that the peer has behind a gap */
	uint32_t mss; /* payload of a full segment */
	uint32_t window; /* the peer's */
	uint32_t out_of_order; /* segments that came behind a gap */
	uint32_t rtt_us; /* smoothed round trip */
};
/* false: there is no such socket (any more). */
bool conn_tcp_state(const struct conn *c, struct conn_tcp *out);
/* Of the TLS session, "" in clear. */
void conn_describe_tls(const struct conn *c, char *buf, size_t size);

#endif
