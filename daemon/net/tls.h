/*
 * TLS towards SES: always verified.
 *
 * A context holds trust anchors and the session cache of one configuration.
 * TLS 1.2 or newer, server certificate required, chain and host name checked
 * (SSL_VERIFY_PEER, SSL_set1_host without partial wildcards; only the
 * alternative names count, never the common name), SNI sent.  There is no
 * switch that turns verification off: `ca_file` names other anchors.
 * Sessions are resumed where the server offers it.
 *
 * Contexts are reference-counted: connections keep theirs over a reload.
 */
#ifndef NET_TLS_H
#define NET_TLS_H

#include "base/base.h"

struct certificate; /* net/certificate.h */
struct tls_context;
struct ssl_st;

/*
 * Without ca_file: is there anything where the system's trust anchors are kept?
 * OpenSSL takes it silently when there is not.
 */
MUST_CHECK int tls_check_system_anchors(struct err *err);
/* ca_file NULL: the system's anchors. */
MUST_CHECK struct tls_context *tls_context_new(
    const char *ca_file, struct err *err);
struct tls_context *tls_context_ref(struct tls_context *t);
void tls_context_unref(struct tls_context *t); /* NULL is legal */
/*
 * From now on, `fn` gets what each handshake's check of a certificate found,
 * before the handshake goes on or fails by it.  It has no say.
 */
void tls_context_watch(struct tls_context *t,
    void (*fn)(void *ctx, const struct certificate *cert), void *ctx);
/* A client SSL that will accept only `host`; net/conn owns it. */
MUST_CHECK struct ssl_st *tls_client_new(
    struct tls_context *t, const char *host, struct err *err);
/*
 * Why a handshake failed, in words that help: for a certificate the reason of
 * the verification ("certificate has expired", "hostname mismatch"), else the
 * library's.  `error` is what ERR_get_error() gave.
 */
void tls_describe_failure(
    struct ssl_st *ssl, unsigned long error, char *buf, size_t size);
/* "TLSv1.3 with TLS_AES_256_GCM_SHA384" */
void tls_describe(struct ssl_st *ssl, char *buf, size_t size);

/* "OpenSSL 3.0.19 ..." */
const char *tls_library(void);

#endif
