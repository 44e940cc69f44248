/*
 * A non-blocking socket with optional TLS, read and written directly.
 *
 * Owns the fd, the SSL and both buffers of a connection; knows nothing of
 * events and nothing of SMTP. SSL works on the fd itself, not on a libevent
 * filter, because the faults need control of every record, FIN and RST.
 * Invariants: the OpenSSL error queue is empty before each SSL call; one
 * call of link_write is one record unless bytewise; after a TLS failure
 * nothing is written, not even an alert of ours.
 */
#include "link.h"

#include <errno.h>
#include <openssl/err.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

void link_init(struct link *l, int fd)
{
	memset(l, 0, offsetof(struct link, in));
	l->fd = fd;
}

void link_fini(struct link *l)
{
	SSL_free(l->ssl);
	l->ssl = NULL;
	buf_free(&l->out);
}

/* What a failed SSL call means; errno must still be that call's. */
static enum link_status ssl_status(struct link *l, int ret)
{
	int saved = errno;
	unsigned long code;

	switch (SSL_get_error(l->ssl, ret)) {
	case SSL_ERROR_WANT_READ:
	case SSL_ERROR_WANT_WRITE:
		return LINK_BLOCKED;
	case SSL_ERROR_ZERO_RETURN:
		return LINK_EOF;
	case SSL_ERROR_SYSCALL:
		l->broken = true;
		(void)snprintf(l->error, sizeof(l->error), "errno %d", saved);
		return saved == 0 ? LINK_TRUNCATED : LINK_RESET;
	default:
		break;
	}
	l->broken = true;
	code = ERR_peek_error();
	ERR_error_string_n(code, l->error, sizeof(l->error));
	ERR_clear_error();
	if (ERR_GET_REASON(code) == SSL_R_UNEXPECTED_EOF_WHILE_READING)
		return LINK_TRUNCATED;
	return LINK_TLS_FAILED;
}

static enum link_status socket_status(void)
{
	if (errno == EAGAIN || errno == EINTR)
		return LINK_BLOCKED;
	return LINK_RESET;
}

enum link_status link_read(struct link *l)
{
	size_t room;
	ssize_t n;

	if (l->in_start > 0) {
		memmove(l->in, l->in + l->in_start, l->in_len - l->in_start);
		l->in_len -= l->in_start;
		l->in_start = 0;
	}
	room = LINK_IN_BYTES - l->in_len;
	if (room == 0)
		return LINK_FULL;
	if (l->ssl != NULL) {
		ERR_clear_error();
		errno = 0;
		n = SSL_read(l->ssl, l->in + l->in_len, (int)room);
		if (n <= 0)
			return ssl_status(l, (int)n);
	} else {
		n = recv(l->fd, l->in + l->in_len, room, 0);
		if (n == 0)
			return LINK_EOF;
		if (n < 0)
			return socket_status();
	}
	l->in_len += (size_t)n;
	return LINK_OK;
}

bool link_more(const struct link *l)
{
	return l->ssl != NULL && SSL_has_pending(l->ssl) == 1;
}

static enum link_status write_some(struct link *l, size_t n)
{
	const char *p = l->out.data + l->out_done;
	ssize_t done;

	if (l->ssl != NULL) {
		ERR_clear_error();
		errno = 0;
		done = SSL_write(l->ssl, p, n > 1 << 30 ? 1 << 30 : (int)n);
		if (done <= 0)
			return ssl_status(l, (int)done);
	} else {
		done = send(l->fd, p, n, MSG_NOSIGNAL);
		if (done < 0)
			return socket_status();
	}
	l->out_done += (size_t)done;
	return LINK_OK;
}

enum link_status link_write(struct link *l)
{
	while (l->out_done < l->out.len) {
		size_t left = l->out.len - l->out_done;
		enum link_status st;

		if (l->broken)
			return LINK_RESET;
		st = write_some(l, l->bytewise || l->single ? 1 : left);
		if (st != LINK_OK)
			return st;
		if (l->single && l->out_done < l->out.len)
			return LINK_BLOCKED;
	}
	l->out_done = 0;
	l->out.len = 0;
	if (l->out.cap > 65536)
		buf_free(&l->out);
	return LINK_OK;
}

bool link_start_tls(struct link *l, SSL_CTX *ctx)
{
	l->in_start = 0;
	l->in_len = 0;
	l->ssl = SSL_new(ctx);
	if (l->ssl == NULL || SSL_set_fd(l->ssl, l->fd) != 1) {
		ERR_clear_error();
		return false;
	}
	SSL_set_accept_state(l->ssl);
	return true;
}

enum link_status link_handshake(struct link *l)
{
	int n;

	ERR_clear_error();
	errno = 0;
	n = SSL_do_handshake(l->ssl);
	return n == 1 ? LINK_OK : ssl_status(l, n);
}

void link_finish(struct link *l, bool close_notify)
{
	if (l->fd < 0)
		return;
	if (l->ssl != NULL && close_notify && !l->broken &&
	    SSL_is_init_finished(l->ssl)) {
		ERR_clear_error();
		(void)SSL_shutdown(l->ssl);
		ERR_clear_error();
	}
	(void)shutdown(l->fd, SHUT_WR);
}

void link_close(struct link *l)
{
	if (l->fd >= 0)
		(void)close(l->fd);
	l->fd = -1;
}

void link_reset(struct link *l)
{
	struct linger now = { .l_onoff = 1, .l_linger = 0 };

	if (l->fd >= 0)
		(void)setsockopt(
		    l->fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	link_close(l);
}

SSL_CTX *link_context(const char *cert, const char *key, int max_version)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
	int min = max_version < TLS1_2_VERSION ? TLS1_VERSION : TLS1_2_VERSION;

	if (ctx == NULL)
		return NULL;
	SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION);
	SSL_CTX_set_mode(ctx,
	    SSL_MODE_ENABLE_PARTIAL_WRITE |
		SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	/* One read(2) a wake-up instead of one for header and body each. */
	SSL_CTX_set_read_ahead(ctx, 1);
	(void)SSL_CTX_set_session_id_context(
	    ctx, (const unsigned char *)"sesd", 4);
	/* TLS 1.1 signs with SHA-1, which only level 0 still permits. */
	if (max_version < TLS1_2_VERSION)
		(void)SSL_CTX_set_cipher_list(ctx, "DEFAULT:@SECLEVEL=0");
	if (SSL_CTX_set_min_proto_version(ctx, min) != 1 ||
	    SSL_CTX_set_max_proto_version(ctx, max_version) != 1 ||
	    SSL_CTX_use_certificate_chain_file(ctx, cert) != 1 ||
	    SSL_CTX_use_PrivateKey_file(ctx, key, SSL_FILETYPE_PEM) != 1 ||
	    SSL_CTX_check_private_key(ctx) != 1) {
		fprintf(stderr, "sesd: %s, %s: %s\n", cert, key,
		    ERR_reason_error_string(ERR_peek_error()));
		ERR_clear_error();
		SSL_CTX_free(ctx);
		return NULL;
	}
	return ctx;
}
