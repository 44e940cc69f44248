/*
 * Bytes through a socket, in clear or inside TLS; one attempt a call.
 *
 * Owns the SSL of a connection, never its buffers or its socket.  Loop thread
 * only.  TLS runs directly on the socket: SSL_read() and SSL_write() with
 * SSL_set_fd(), no BIO of ours.  Invariants: the error queue of OpenSSL is
 * empty after each call; bytes that TLS was given once are given
 * again, and as many or more, until it has taken them; after a fatal error the
 * SSL is not used for writing any more.
 */
#include "net/conn_private.h"

#include <errno.h>
#include <event2/buffer.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define WRITE_PIECES 32 /* of the output, in one system call */

static enum conn_io fail_errno(struct conn *c, int code)
{
	c->end = CONN_END_RESET;
	snprintf(c->reason, sizeof(c->reason), "%s", strerror(code));
	return CONN_IO_FAILED;
}

/* SSL_get_error() looks at what others left there; mostly nothing. */
static void begin_tls(void)
{
	if (ERR_peek_error() != 0)
		ERR_clear_error();
	errno = 0;
}

/* Empties the queue; the first error of TLS itself says most. */
static unsigned long take_error(void)
{
	unsigned long error = 0, next;

	while ((next = ERR_get_error()) != 0) {
		if (error == 0 ||
		    (ERR_GET_LIB(error) != ERR_LIB_SSL &&
			ERR_GET_LIB(next) == ERR_LIB_SSL))
			error = next;
	}
	return error;
}

/* What SSL_read() and its like meant by `rc`; *wants is set for AGAIN. */
static enum conn_io tls_outcome(struct conn *c, int rc, short *wants)
{
	int code = errno;
	int what = SSL_get_error(c->ssl, rc); /* reads the queue */
	unsigned long error = take_error();

	switch (what) {
	case SSL_ERROR_WANT_READ:
		*wants = EV_READ;
		return CONN_IO_AGAIN;
	case SSL_ERROR_WANT_WRITE:
		*wants = EV_WRITE;
		return CONN_IO_AGAIN;
	case SSL_ERROR_ZERO_RETURN:
		return CONN_IO_EOF;
	case SSL_ERROR_SYSCALL:
		c->ssl_broken = true;
		return code ? fail_errno(c, code) : CONN_IO_EOF;
	default:
		c->ssl_broken = true;
		c->end = CONN_END_TLS;
		tls_describe_failure(
		    c->ssl, error, c->reason, sizeof(c->reason));
		return CONN_IO_FAILED;
	}
}

static enum conn_io read_clear(
    struct conn *c, char *buf, size_t size, size_t *n)
{
	ssize_t len;

	do {
		len = recv(c->fd, buf, size, 0);
	} while (len < 0 && errno == EINTR);
	if (len > 0) {
		*n = (size_t)len;
		return CONN_IO_OK;
	}
	if (len == 0)
		return CONN_IO_EOF;
	if (errno != EAGAIN)
		return fail_errno(c, errno);
	c->read_wants = EV_READ;
	return CONN_IO_AGAIN;
}

enum conn_io conn_io_read(struct conn *c, char *buf, size_t size, size_t *n)
{
	int rc;

	/* When we only wait for the peer to close, records do not matter. */
	if (!c->ssl || c->lingering)
		return read_clear(c, buf, size, n);
	begin_tls();
	rc = SSL_read_ex(c->ssl, buf, size, n);
	if (rc != 1)
		return tls_outcome(c, rc, &c->read_wants);
	c->read_wants = EV_READ;
	return CONN_IO_OK;
}

bool conn_io_has_pending(const struct conn *c)
{
	return c->ssl && !c->lingering && SSL_has_pending(c->ssl) == 1;
}

static enum conn_io write_clear(struct conn *c, size_t *n)
{
	struct evbuffer_iovec pieces[WRITE_PIECES];
	struct msghdr msg = { .msg_iov = pieces };
	size_t offered = 0;
	ssize_t len;
	int n_pieces =
	    evbuffer_peek(c->out, -1, NULL, pieces, ARRAY_LEN(pieces));

	if (n_pieces > (int)ARRAY_LEN(pieces))
		n_pieces = ARRAY_LEN(pieces);
	for (int i = 0; i < n_pieces; i++)
		offered += pieces[i].iov_len;
	msg.msg_iovlen = (size_t)n_pieces;
	do {
		/* A reply is one piece, and the simpler call is cheaper. */
		len = n_pieces == 1
		    ? send(c->fd, pieces[0].iov_base, offered, MSG_NOSIGNAL)
		    : sendmsg(c->fd, &msg, MSG_NOSIGNAL);
	} while (len < 0 && errno == EINTR);
	if (len < 0 && errno != EAGAIN)
		return fail_errno(c, errno);
	/* Less than it was offered: the kernel has no room for more. */
	if (len < 0 || (size_t)len < offered)
		c->write_wants = EV_WRITE;
	if (len < 0)
		return CONN_IO_AGAIN;
	*n = (size_t)len;
	return CONN_IO_OK;
}

/*
 * The head of the output as one record, also when it lies in pieces.  While
 * the output grows and nothing is taken off, so does the record: this is what
 * SSL_write() demands of a repeated call.
 */
static const void *next_record(struct conn *c, size_t *len)
{
	size_t total = evbuffer_get_length(c->out);
	struct evbuffer_iovec head;

	*len = total < c->record_size ? total : c->record_size;
	if (evbuffer_peek(c->out, 1, NULL, &head, 1) == 1 &&
	    head.iov_len >= *len)
		return head.iov_base;
	evbuffer_copyout(c->out, loop_scratch(c->loop), *len);
	return loop_scratch(c->loop);
}

enum conn_io conn_io_write(struct conn *c, size_t *n)
{
	enum conn_io io;
	const void *data;
	size_t len;
	int rc;

	if (!c->ssl) {
		io = write_clear(c, n);
	} else {
		data = next_record(c, &len);
		begin_tls();
		rc = SSL_write_ex(c->ssl, data, len, n);
		io = rc == 1 ? CONN_IO_OK : tls_outcome(c, rc, &c->write_wants);
	}
	if (io == CONN_IO_OK)
		evbuffer_drain(c->out, *n);
	return io;
}

int conn_io_start_tls(
    struct conn *c, struct tls_context *tls, const char *host, struct err *err)
{
	c->ssl = tls_client_new(tls, host, err);
	if (!c->ssl)
		return -1;
	/* It points into the context. */
	c->tls = tls_context_ref(tls);
	if (SSL_set_fd(c->ssl, c->fd) != 1) {
		ERR_clear_error();
		return err_set(err, 0, "TLS cannot use the socket");
	}
	return 0;
}

/* SSL_VERIFY_PEER has done this already; the price of asking is nothing. */
static bool verified(SSL *ssl)
{
	return SSL_get_verify_result(ssl) == X509_V_OK &&
	    SSL_get0_peer_certificate(ssl) != NULL;
}

enum conn_io conn_io_handshake(struct conn *c)
{
	enum conn_io io;
	int rc;

	begin_tls();
	rc = SSL_do_handshake(c->ssl);
	if (rc == 1 && verified(c->ssl)) {
		c->read_wants = EV_READ;
		return CONN_IO_OK;
	}
	if (rc == 1) {
		c->ssl_broken = true;
		c->end = CONN_END_TLS;
		snprintf(c->reason, sizeof(c->reason),
		    "certificate refused: not verified");
		return CONN_IO_FAILED;
	}
	io = tls_outcome(c, rc, &c->read_wants);
	if (io == CONN_IO_EOF) {
		c->ssl_broken = true;
		c->end = CONN_END_TLS;
		snprintf(c->reason, sizeof(c->reason),
		    "TLS: the peer closed the connection in the handshake");
		io = CONN_IO_FAILED;
	}
	return io;
}

void conn_io_say_goodbye(struct conn *c)
{
	/* A record that is half in the kernel must not be followed by it. */
	if (!c->ssl || c->ssl_broken || c->write_wants ||
	    !SSL_is_init_finished(c->ssl))
		return;
	SSL_shutdown(c->ssl);
	ERR_clear_error();
}

void conn_io_free(struct conn *c)
{
	SSL_free(c->ssl);
	tls_context_unref(c->tls);
	c->ssl = NULL;
	c->tls = NULL;
}
