/*
 * Trust anchors, the rules of verification, and sessions to be resumed.
 *
 * Owns the SSL_CTX and, for each host name, the newest sessions that a server
 * gave; tickets of TLS 1.3 arrive after the handshake, so OpenSSL tells of
 * them by callback.  Such a ticket serves once (RFC 8446, C.4, and OpenSSL sees
 * to it), and a pool opens connections side by side: so there are several.  Loop thread only.  Invariants: every SSL made here
 * verifies chain and name; a session is kept only from a verified connection
 * and is not offered when its certificate has run out since.
 */
#include "net/tls.h"

#include "base/mem.h"
#include "net/certificate.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/stat.h>

/* A first handshake mostly brings two, each that resumes one more. */
#define SESSIONS_MAX 64

/* Sessions with a host; SSL_get_app_data() points here. */
struct host {
	LIST_ENTRY(host) link;
	SSL_SESSION *sessions[SESSIONS_MAX]; /* the newest last */
	unsigned n_sessions;
	char *name;
};

struct tls_context {
	SSL_CTX *ctx;
	LIST_HEAD(, host) hosts;
	unsigned n_refs;
	void (*watch)(void *ctx, const struct certificate *cert);
	void *watch_ctx;
};

/* -1 with the library's reason; its error queue is left empty. */
static int fail(struct err *err, const char *what)
{
	unsigned long e = ERR_peek_error();
	const char *reason = ERR_reason_error_string(e);

	if (ERR_SYSTEM_ERROR(e))
		reason = strerror(ERR_GET_REASON(e));
	err_set(err, 0, "%s: %s", what, reason ? reason : "unknown error");
	ERR_clear_error();
	return -1;
}

/* 1: the session is ours now. */
static int on_new_session(SSL *ssl, SSL_SESSION *session)
{
	struct host *h = SSL_get_app_data(ssl);

	if (!h || SSL_get_verify_result(ssl) != X509_V_OK)
		return 0;
	if (h->n_sessions == SESSIONS_MAX) {
		SSL_SESSION_free(h->sessions[0]);
		memmove(&h->sessions[0], &h->sessions[1],
		    --h->n_sessions * sizeof(h->sessions[0]));
	}
	h->sessions[h->n_sessions++] = session;
	return 1;
}

static void set_rules(SSL_CTX *ctx)
{
	X509_VERIFY_PARAM *param = SSL_CTX_get0_param(ctx);

	/* An unexpected EOF is judged by the state of SMTP. */
	SSL_CTX_set_options(ctx,
	    SSL_OP_IGNORE_UNEXPECTED_EOF | SSL_OP_NO_RENEGOTIATION |
		SSL_OP_NO_COMPRESSION);
	SSL_CTX_set_mode(ctx,
	    SSL_MODE_ENABLE_PARTIAL_WRITE |
		SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);
	SSL_CTX_set_read_ahead(ctx, 1);
	SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
	X509_VERIFY_PARAM_set_hostflags(param,
	    X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS |
		X509_CHECK_FLAG_NEVER_CHECK_SUBJECT);
	SSL_CTX_set_session_cache_mode(
	    ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
	SSL_CTX_sess_set_new_cb(ctx, on_new_session);
}

/* OpenSSL finds them by their hash: "4a6481c9.0". */
static bool has_certificates(const char *path)
{
	DIR *dir = opendir(path);
	const struct dirent *entry;
	bool found = false;

	while (dir && !found && (entry = readdir(dir)))
		found = strlen(entry->d_name) == 10 && entry->d_name[8] == '.';
	if (dir)
		closedir(dir);
	return found;
}

int tls_check_system_anchors(struct err *err)
{
	const char *file = getenv(X509_get_default_cert_file_env());
	const char *dir = getenv(X509_get_default_cert_dir_env());
	struct stat st;

	if (!file)
		file = X509_get_default_cert_file();
	if (!dir)
		dir = X509_get_default_cert_dir();
	if (stat(file, &st) == 0 && st.st_size > 0)
		return 0;
	if (has_certificates(dir))
		return 0;
	return err_set(err, 0,
	    "the system's trust anchors are neither in %s nor in %s", file,
	    dir);
}

static int load_anchors(SSL_CTX *ctx, const char *ca_file, struct err *err)
{
	char what[200];

	if (!ca_file) {
		if (SSL_CTX_set_default_verify_paths(ctx) != 1)
			return fail(err, "system's trust anchors");
	} else if (SSL_CTX_load_verify_locations(ctx, ca_file, NULL) != 1) {
		snprintf(what, sizeof(what), "CA file %s", ca_file);
		return fail(err, what);
	}
	/* Files that are not there leave errors behind. */
	ERR_clear_error();
	return 0;
}

struct tls_context *tls_context_new(const char *ca_file, struct err *err)
{
	struct tls_context *t = xcalloc(1, sizeof(*t));
	bool ok = false;

	t->n_refs = 1;
	LIST_INIT(&t->hosts);
	t->ctx = SSL_CTX_new(TLS_client_method());
	if (!t->ctx) {
		fail(err, "TLS");
		goto out;
	}
	set_rules(t->ctx);
	if (SSL_CTX_set_min_proto_version(t->ctx, TLS1_2_VERSION) != 1) {
		fail(err, "TLS 1.2");
		goto out;
	}
	ok = load_anchors(t->ctx, ca_file, err) == 0;
out:
	if (!ok) {
		tls_context_unref(t);
		t = NULL;
	}
	return t;
}

struct tls_context *tls_context_ref(struct tls_context *t)
{
	t->n_refs++;
	return t;
}

void tls_context_unref(struct tls_context *t)
{
	struct host *h;

	if (!t || --t->n_refs > 0)
		return;
	while ((h = LIST_FIRST(&t->hosts))) {
		LIST_REMOVE(h, link);
		while (h->n_sessions > 0)
			SSL_SESSION_free(h->sessions[--h->n_sessions]);
		free(h->name);
		free(h);
	}
	SSL_CTX_free(t->ctx);
	free(t);
}

static int verify_watched(X509_STORE_CTX *store, void *arg)
{
	const struct tls_context *t = arg;
	struct certificate cert;
	int rc = X509_verify_cert(store);

	certificate_describe(store, &cert);
	t->watch(t->watch_ctx, &cert);
	return rc;
}

void tls_context_watch(struct tls_context *t,
    void (*fn)(void *ctx, const struct certificate *cert), void *ctx)
{
	t->watch = fn;
	t->watch_ctx = ctx;
	SSL_CTX_set_cert_verify_callback(t->ctx, verify_watched, t);
}

static struct host *host_of(struct tls_context *t, const char *name)
{
	struct host *h;

	LIST_FOREACH (h, &t->hosts, link) {
		if (strcmp(h->name, name) == 0)
			return h;
	}
	h = xcalloc(1, sizeof(*h));
	h->name = xstrdup(name);
	LIST_INSERT_HEAD(&t->hosts, h, link);
	return h;
}

/* A resumed handshake shows no certificate: judge that of the session. */
static bool session_usable(SSL_SESSION *session)
{
	X509 *cert = SSL_SESSION_get0_peer(session);

	return SSL_SESSION_is_resumable(session) && cert &&
	    X509_cmp_current_time(X509_get0_notAfter(cert)) > 0;
}

/*
 * The newest session that may be offered, or NULL; the caller's.  Those before
 * TLS 1.3 may be offered again.
 */
static SSL_SESSION *take_session(struct host *h)
{
	while (h->n_sessions > 0) {
		SSL_SESSION *session = h->sessions[h->n_sessions - 1];

		if (session_usable(session) &&
		    SSL_SESSION_get_protocol_version(session) <
			TLS1_3_VERSION &&
		    SSL_SESSION_up_ref(session) == 1)
			return session;
		h->n_sessions--;
		if (session_usable(session))
			return session;
		SSL_SESSION_free(session);
	}
	return NULL;
}

static bool is_address(const char *host)
{
	struct in6_addr addr;

	return inet_pton(AF_INET, host, &addr) == 1 ||
	    inet_pton(AF_INET6, host, &addr) == 1;
}

/* As certificates and SNI have it: no brackets, no dot at the end. */
static char *plain_host(const char *host)
{
	size_t len = strlen(host);

	if (len > 2 && host[0] == '[' && host[len - 1] == ']')
		return xstrndup(host + 1, len - 2);
	if (len > 1 && host[len - 1] == '.')
		len--;
	return xstrndup(host, len);
}

struct ssl_st *tls_client_new(
    struct tls_context *t, const char *host, struct err *err)
{
	SSL *ssl = SSL_new(t->ctx);
	char *name = plain_host(host);
	struct host *h = host_of(t, name);
	SSL_SESSION *session = NULL;
	bool ok = false;

	if (!ssl) {
		fail(err, "TLS");
		goto out;
	}
	/* An empty name would mean "any". */
	if (!*name || SSL_set1_host(ssl, name) != 1 ||
	    (!is_address(name) && SSL_set_tlsext_host_name(ssl, name) != 1)) {
		fail(err, "host name for TLS");
		goto out;
	}
	session = take_session(h);
	if (session && SSL_set_session(ssl, session) != 1) {
		fail(err, "TLS session");
		goto out;
	}
	SSL_set_app_data(ssl, h);
	SSL_set_connect_state(ssl);
	ok = true;
out:
	SSL_SESSION_free(session);
	free(name);
	if (!ok) {
		SSL_free(ssl);
		ssl = NULL;
	}
	return ssl;
}

/* What the library says, and what it mostly means. */
static const struct {
	int reason;
	const char *text;
} hints[] = {
	{ SSL_R_WRONG_VERSION_NUMBER,
	    "wrong version number: the peer does not speak TLS here" },
	{ SSL_R_UNSUPPORTED_PROTOCOL,
	    "unsupported protocol: the peer offers less than TLS 1.2" },
	{ SSL_R_TLSV1_ALERT_PROTOCOL_VERSION,
	    "alert protocol version: the peer does not offer TLS 1.2 or "
	    "newer" },
};

static const char *describe_error(unsigned long error)
{
	const char *text;

	if (ERR_GET_LIB(error) == ERR_LIB_SSL) {
		for (size_t i = 0; i < ARRAY_LEN(hints); i++) {
			if (hints[i].reason == ERR_GET_REASON(error))
				return hints[i].text;
		}
	}
	text = error ? ERR_reason_error_string(error) : NULL;
	return text ? text : "protocol error";
}

void tls_describe_failure(
    struct ssl_st *ssl, unsigned long error, char *buf, size_t size)
{
	long verdict = SSL_get_verify_result(ssl);

	if (verdict != X509_V_OK)
		snprintf(buf, size, "certificate refused: %s",
		    X509_verify_cert_error_string(verdict));
	else
		snprintf(buf, size, "TLS: %s", describe_error(error));
}

void tls_describe(struct ssl_st *ssl, char *buf, size_t size)
{
	snprintf(buf, size, "%s with %s", SSL_get_version(ssl),
	    SSL_get_cipher_name(ssl));
}

const char *tls_library(void)
{
	return OpenSSL_version(OPENSSL_VERSION);
}
