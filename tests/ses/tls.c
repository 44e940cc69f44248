/*
 * The TLS of a link: contexts, versions and ciphers, and the way in.
 *
 * Owns nothing; the link owns its SSL. Reading and writing go through a BIO
 * of our own, because the pace of a link is that of its bytes on the wire,
 * records and handshake included. A context carries only a certificate; what
 * can be set while the emulator runs is set on each SSL.
 */
#include "link.h"

#include <errno.h>
#include <openssl/err.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

static int wire_write(BIO *bio, const char *p, int n)
{
	ssize_t done = link_send(BIO_get_data(bio), p, (size_t)n);

	BIO_clear_retry_flags(bio);
	if (done < 0 && (errno == EAGAIN || errno == EINTR))
		BIO_set_retry_write(bio);
	return (int)done;
}

static int wire_read(BIO *bio, char *p, int n)
{
	struct link *l = BIO_get_data(bio);
	ssize_t done = recv(l->fd, p, (size_t)n, 0);

	BIO_clear_retry_flags(bio);
	if (done < 0 && (errno == EAGAIN || errno == EINTR))
		BIO_set_retry_read(bio);
	l->wire_eof = done == 0;
	return (int)done;
}

static long wire_ctrl(BIO *bio, int what, long number, void *p)
{
	const struct link *l = BIO_get_data(bio);

	(void)number;
	(void)p;
	if (what == BIO_CTRL_EOF)
		return l->wire_eof;
	return what == BIO_CTRL_FLUSH;
}

static int wire_create(BIO *bio)
{
	BIO_set_init(bio, 1);
	return 1;
}

/* One for the program's life. */
static BIO_METHOD *wire_method(void)
{
	static BIO_METHOD *method;

	if (method != NULL)
		return method;
	method = BIO_meth_new(
	    BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "paced socket");
	if (method == NULL)
		return NULL;
	(void)BIO_meth_set_write(method, wire_write);
	(void)BIO_meth_set_read(method, wire_read);
	(void)BIO_meth_set_ctrl(method, wire_ctrl);
	(void)BIO_meth_set_create(method, wire_create);
	return method;
}

static int version_number(const char *name)
{
	static const int numbers[] = {
		TLS1_VERSION,
		TLS1_1_VERSION,
		TLS1_2_VERSION,
		TLS1_3_VERSION,
	};

	return numbers[name[2] - '0'];
}

/* Versions and ciphers; those of old need the lowest level of security. */
static bool configure(SSL *ssl, const struct link_tls *conf)
{
	int min = version_number(conf->min), max = version_number(conf->max);

	if (max < min)
		min = TLS1_VERSION;
	if (SSL_set_min_proto_version(ssl, min) != 1 ||
	    SSL_set_max_proto_version(ssl, max) != 1)
		return false;
	if (conf->ciphers[0] != '\0')
		return SSL_set_cipher_list(ssl, conf->ciphers) == 1;
	return max >= TLS1_2_VERSION ||
	    SSL_set_cipher_list(ssl, "DEFAULT:@SECLEVEL=0") == 1;
}

bool link_start_tls(struct link *l, SSL_CTX *ctx, const struct link_tls *conf)
{
	BIO_METHOD *method = wire_method();
	BIO *bio = method != NULL ? BIO_new(method) : NULL;

	l->in_start = 0;
	l->in_len = 0;
	l->ssl = bio != NULL ? SSL_new(ctx) : NULL;
	if (l->ssl == NULL) {
		BIO_free(bio);
		ERR_clear_error();
		return false;
	}
	BIO_set_data(bio, l);
	SSL_set_bio(l->ssl, bio, bio);
	alert_watch(l);
	SSL_set_accept_state(l->ssl);
	if (configure(l->ssl, conf))
		return true;
	ERR_clear_error();
	return false;
}

enum link_status link_rekey(struct link *l)
{
	ERR_clear_error();
	errno = 0;
	if (!l->rekeying) {
		bool good;

		if (SSL_version(l->ssl) == TLS1_3_VERSION) {
			good = SSL_key_update(
				   l->ssl, SSL_KEY_UPDATE_REQUESTED) == 1;
		} else {
			SSL_clear_options(l->ssl, SSL_OP_NO_RENEGOTIATION);
			good = SSL_renegotiate(l->ssl) == 1;
		}
		if (!good)
			return LINK_TLS_FAILED;
	}
	l->rekeying = true;
	switch (link_handshake(l)) {
	case LINK_OK:
		l->rekeying = false;
		return LINK_OK;
	case LINK_BLOCKED:
		return LINK_BLOCKED;
	default:
		return LINK_TLS_FAILED;
	}
}

bool link_ciphers_known(const char *list)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
	bool good = ctx != NULL && SSL_CTX_set_cipher_list(ctx, list) == 1;

	SSL_CTX_free(ctx);
	ERR_clear_error();
	return good;
}

SSL_CTX *link_context_new(void)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());

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
	alert_prepare(ctx);
	return ctx;
}

SSL_CTX *link_context(const char *cert, const char *key)
{
	SSL_CTX *ctx = link_context_new();

	if (ctx != NULL && SSL_CTX_use_certificate_chain_file(ctx, cert) == 1 &&
	    SSL_CTX_use_PrivateKey_file(ctx, key, SSL_FILETYPE_PEM) == 1 &&
	    SSL_CTX_check_private_key(ctx) == 1)
		return ctx;
	complain(
	    "%s, %s: %s", cert, key, ERR_reason_error_string(ERR_peek_error()));
	ERR_clear_error();
	SSL_CTX_free(ctx);
	return NULL;
}
