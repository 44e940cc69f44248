/*
 * Certificates of tests, right and wrong, made on the spot; and a peer that
 * speaks TLS with them.
 */
#ifndef TESTS_UNIT_NET_CERTS_H
#define TESTS_UNIT_NET_CERTS_H

#include "peer.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#define DAY_S 86400L

struct cert {
	X509 *x509;
	EVP_PKEY *key;
};

static inline void cert_extend(X509 *x509, int nid, const char *value)
{
	X509_EXTENSION *ext = X509V3_EXT_conf_nid(NULL, NULL, nid, value);

	assert_non_null(ext);
	assert_int_equal(X509_add_ext(x509, ext, -1), 1);
	X509_EXTENSION_free(ext);
}

/*
 * Valid from `from` to `to` seconds from now; issuer NULL: self-signed; san
 * such as "DNS:a.example" or NULL; "CA" as cn makes it an authority.
 */
static inline struct cert cert_new(const struct cert *issuer, const char *cn,
    const char *san, long from, long to)
{
	static long serial;
	struct cert c = { X509_new(), EVP_EC_gen("P-256") };
	X509_NAME *name = X509_get_subject_name(c.x509);

	assert_non_null(c.key);
	X509_set_version(c.x509, X509_VERSION_3);
	ASN1_INTEGER_set(X509_get_serialNumber(c.x509), ++serial);
	X509_gmtime_adj(X509_getm_notBefore(c.x509), from);
	X509_gmtime_adj(X509_getm_notAfter(c.x509), to);
	X509_NAME_add_entry_by_txt(
	    name, "CN", MBSTRING_ASC, (const unsigned char *)cn, -1, -1, 0);
	X509_set_issuer_name(
	    c.x509, issuer ? X509_get_subject_name(issuer->x509) : name);
	X509_set_pubkey(c.x509, c.key);
	if (strcmp(cn, "CA") == 0)
		cert_extend(c.x509, NID_basic_constraints, "critical,CA:TRUE");
	if (san)
		cert_extend(c.x509, NID_subject_alt_name, san);
	assert_true(
	    X509_sign(c.x509, issuer ? issuer->key : c.key, EVP_sha256()) > 0);
	return c;
}

static inline void cert_free(struct cert *c)
{
	X509_free(c->x509);
	EVP_PKEY_free(c->key);
}

/* The certificate in a file that tls_context_new() reads. */
static inline void cert_save(const struct cert *c, char path[32])
{
	FILE *f;
	int fd;

	strcpy(path, "/tmp/test_netXXXXXX");
	fd = mkstemp(path);
	assert_true(fd >= 0);
	f = fdopen(fd, "w");
	assert_int_equal(PEM_write_X509(f, c->x509), 1);
	fclose(f);
}

/* TLS of the peer's side. */
struct tls_peer {
	struct peer peer;
	SSL_CTX *ctx;
	SSL *ssl;
	void (*script)(struct tls_peer *tp);
	void *extra;
	bool fails; /* the handshake must not succeed */
	bool resumed;
	char server_name[64];
};

static inline SSL_CTX *server_context(const struct cert *c)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());

	assert_non_null(ctx);
	assert_int_equal(SSL_CTX_use_certificate(ctx, c->x509), 1);
	assert_int_equal(SSL_CTX_use_PrivateKey(ctx, c->key), 1);
	SSL_CTX_set_session_id_context(ctx, (const unsigned char *)"t", 1);
	return ctx;
}

/* For scripts: the server's half of a handshake on the accepted socket. */
static inline bool tls_peer_accept(struct tls_peer *tp)
{
	const char *name;
	bool ok;

	tp->ssl = SSL_new(tp->ctx);
	SSL_set_fd(tp->ssl, tp->peer.fd);
	ok = SSL_accept(tp->ssl) == 1;
	name = SSL_get_servername(tp->ssl, TLSEXT_NAMETYPE_host_name);
	snprintf(
	    tp->server_name, sizeof(tp->server_name), "%s", name ? name : "");
	tp->resumed = SSL_session_reused(tp->ssl);
	return ok;
}

static inline void tls_peer_say(struct tls_peer *tp, const char *text)
{
	ASSERT(
	    SSL_write(tp->ssl, text, (int)strlen(text)) == (int)strlen(text));
}

static inline void tls_peer_main(struct peer *peer)
{
	struct tls_peer *tp = CONTAINER_OF(peer, struct tls_peer, peer);
	bool ok = tls_peer_accept(tp);

	/* In TLS 1.3 a server is done before the client has judged. */
	if (tp->fails && ok) {
		char byte;

		ASSERT(SSL_read(tp->ssl, &byte, 1) <= 0);
	}
	if (!tp->fails) {
		ASSERT(ok);
		tp->script(tp);
	}
	ERR_clear_error();
}

static inline void tls_peer_start(
    struct tls_peer *tp, void (*script)(struct tls_peer *tp))
{
	tp->script = script;
	peer_start(&tp->peer, tls_peer_main, NULL);
}

static inline void tls_peer_finish(struct tls_peer *tp)
{
	peer_finish(&tp->peer);
	SSL_free(tp->ssl);
	tp->ssl = NULL;
}

#endif
