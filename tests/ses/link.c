/*
 * A non-blocking socket with optional TLS, read and written directly.
 *
 * Owns the fd, the SSL and both buffers of a connection; knows nothing of
 * events and nothing of SMTP. SSL works on the fd itself, not on a libevent
 * filter, because the faults need control of every byte, FIN and RST.
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

/* How many of n bytes may leave now; if none, wait_ms says for how long. */
static size_t allowed(struct link *l, size_t n)
{
	double rate = (double)l->write_rate, most = rate / 20;
	uint64_t now;

	l->wait_ms = 0;
	if (l->write_rate == 0)
		return n;
	now = clock_us();
	if (l->credit_us != 0)
		l->credit += rate * (double)(now - l->credit_us) / 1e6;
	else
		l->credit = 1;
	l->credit_us = now;
	if (l->credit > most)
		l->credit = most > 1 ? most : 1;
	if (l->credit < 1) {
		l->wait_ms = (long)((1 - l->credit) * 1000 / rate) + 1;
		return 0;
	}
	return n < (size_t)l->credit ? n : (size_t)l->credit;
}

ssize_t link_send(struct link *l, const char *p, size_t n)
{
	ssize_t done;

	n = allowed(l, n);
	if (n == 0) {
		errno = EAGAIN;
		return -1;
	}
	done = send(l->fd, p, n, MSG_NOSIGNAL);
	if (done > 0)
		l->credit -= (double)done;
	return done;
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
		done = link_send(l, p, n);
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

enum link_status link_handshake(struct link *l)
{
	int n;

	ERR_clear_error();
	errno = 0;
	n = SSL_do_handshake(l->ssl);
	return n == 1 ? LINK_OK : ssl_status(l, n);
}

void link_finish(struct link *l, enum link_end how)
{
	if (l->fd < 0)
		return;
	l->write_rate = 0;
	if (l->ssl != NULL && how != LINK_END_BARE && !l->broken &&
	    SSL_is_init_finished(l->ssl) &&
	    !(how == LINK_END_CANCELED && alert_user_canceled(l))) {
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
