/*
 * Certificates made in memory, good ones and bad ones.
 *
 * Owns an authority, an intermediate of it, and another authority that no
 * client is told about; keys and certificates live as long as the program and
 * are written nowhere, but for the authority's certificate if asked for. So a
 * client can be tested without any preparation. Failure of the library ends
 * the program: there is nothing to be done without a certificate.
 */
#include "makecert.h"

#include "link.h"

#include <openssl/bio.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>

struct signer {
	X509 *cert;
	EVP_PKEY *key;
};

struct authority {
	char *names; /* subjectAltName of a good one */
	struct signer root, intermediate, unknown;
};

enum { DAY = 86400 };
enum issuer { BY_ROOT, BY_ITSELF, BY_UNKNOWN, BY_INTERMEDIATE };

static const struct kind {
	const char *name;
	const char *names; /* subjectAltName; NULL: the true ones */
	long from_days, to_days;
	enum issuer issuer;
	bool with_chain;
} kinds[] = {
	{ "good", NULL, -1, 365, BY_ROOT, false },
	{ "expired", NULL, -365, -1, BY_ROOT, false },
	{ "not-yet", NULL, 365, 730, BY_ROOT, false },
	{ "other-name", "DNS:other.invalid", -1, 365, BY_ROOT, false },
	{ "wrong-wildcard", "DNS:*.localhost", -1, 365, BY_ROOT, false },
	{ "name-in-subject", "", -1, 365, BY_ROOT, false },
	{ "self-signed", NULL, -1, 365, BY_ITSELF, false },
	{ "unknown-ca", NULL, -1, 365, BY_UNKNOWN, false },
	{ "chain", NULL, -1, 365, BY_INTERMEDIATE, true },
	{ "no-chain", NULL, -1, 365, BY_INTERMEDIATE, false },
};

#define KINDS (sizeof(kinds) / sizeof(kinds[0]))

static void need(bool good)
{
	if (good)
		return;
	complain("OpenSSL can't make a certificate");
	exit(1);
}

static void extend(X509 *cert, X509 *issuer, int nid, const char *value)
{
	X509V3_CTX ctx;
	X509_EXTENSION *ext;

	X509V3_set_ctx_nodb(&ctx);
	X509V3_set_ctx(&ctx, issuer, cert, NULL, NULL, 0);
	ext = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
	need(ext != NULL && X509_add_ext(cert, ext, -1) == 1);
	X509_EXTENSION_free(ext);
}

static void name_it(X509 *cert, const char *common_name)
{
	X509_NAME *name = X509_get_subject_name(cert);

	need(X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC,
		 (const unsigned char *)common_name, -1, -1, 0) == 1);
}

/* A key and a certificate for it; by itself if issuer is NULL. */
static struct signer make(const struct signer *issuer, const char *common_name,
    const struct kind *kind, const char *names, bool is_ca)
{
	struct signer s = { X509_new(), EVP_EC_gen("P-256") };
	X509 *by = issuer != NULL ? issuer->cert : s.cert;
	uint64_t serial = 0;

	need(s.cert != NULL && s.key != NULL &&
	    RAND_bytes((unsigned char *)&serial, 7) == 1);
	need(X509_set_version(s.cert, X509_VERSION_3) == 1 &&
	    ASN1_INTEGER_set_uint64(
		X509_get_serialNumber(s.cert), serial + 1) == 1 &&
	    X509_gmtime_adj(
		X509_getm_notBefore(s.cert), kind->from_days * DAY) != NULL &&
	    X509_gmtime_adj(X509_getm_notAfter(s.cert), kind->to_days * DAY) !=
		NULL &&
	    X509_set_pubkey(s.cert, s.key) == 1);
	name_it(s.cert, common_name);
	need(X509_set_issuer_name(s.cert, X509_get_subject_name(by)) == 1);
	extend(s.cert, by, NID_basic_constraints,
	    is_ca ? "critical,CA:TRUE" : "critical,CA:FALSE");
	extend(s.cert, by, NID_subject_key_identifier, "hash");
	if (is_ca)
		extend(
		    s.cert, by, NID_key_usage, "critical,keyCertSign,cRLSign");
	if (names[0] != '\0')
		extend(s.cert, by, NID_subject_alt_name, names);
	need(X509_sign(s.cert, issuer != NULL ? issuer->key : s.key,
		 EVP_sha256()) > 0);
	return s;
}

struct authority *authority_new(const char *hostname)
{
	struct authority *a = xcalloc(1, sizeof(*a));
	struct buf names = { 0 };

	buf_adds(&names, "DNS:localhost,IP:127.0.0.1,IP:::1");
	if (hostname != NULL)
		buf_addf(&names, ",DNS:%s", hostname);
	buf_add(&names, "", 1);
	a->names = names.data;
	a->root = make(NULL, "sesd test CA", &kinds[0], "", true);
	a->unknown = make(NULL, "sesd other CA", &kinds[0], "", true);
	a->intermediate =
	    make(&a->root, "sesd intermediate CA", &kinds[0], "", true);
	return a;
}

static void signer_free(struct signer *s)
{
	X509_free(s->cert);
	EVP_PKEY_free(s->key);
}

void authority_free(struct authority *a)
{
	if (a == NULL)
		return;
	signer_free(&a->root);
	signer_free(&a->unknown);
	signer_free(&a->intermediate);
	free(a->names);
	free(a);
}

static const struct kind *find(const char *name)
{
	for (size_t i = 0; i < KINDS; i++) {
		if (strcmp(kinds[i].name, name) == 0)
			return &kinds[i];
	}
	return NULL;
}

SSL_CTX *authority_context(struct authority *a, const char *kind)
{
	const struct kind *k = find(kind);
	const struct signer *issuers[] = { &a->root, NULL, &a->unknown,
		&a->intermediate };
	SSL_CTX *ctx;
	struct signer s;

	if (k == NULL)
		return NULL;
	s = make(issuers[k->issuer], "localhost", k,
	    k->names != NULL ? k->names : a->names, false);
	ctx = link_context_new();
	need(ctx != NULL && SSL_CTX_use_certificate(ctx, s.cert) == 1 &&
	    SSL_CTX_use_PrivateKey(ctx, s.key) == 1);
	/* Otherwise the library would add what it can find. */
	SSL_CTX_set_mode(ctx, SSL_MODE_NO_AUTO_CHAIN);
	if (k->with_chain)
		need(SSL_CTX_add1_chain_cert(ctx, a->intermediate.cert) == 1);
	signer_free(&s);
	return ctx;
}

void authority_print(const struct authority *a, struct buf *out)
{
	BIO *bio = BIO_new(BIO_s_mem());
	char *text;
	long n;

	need(bio != NULL && PEM_write_bio_X509(bio, a->root.cert) == 1);
	n = BIO_get_mem_data(bio, &text);
	buf_add(out, text, (size_t)n);
	BIO_free(bio);
}

bool certificate_kind(const char *kind)
{
	return find(kind) != NULL;
}

void certificate_print(struct buf *out)
{
	for (size_t i = 0; i < KINDS; i++)
		buf_addf(out, "certificate %s\n", kinds[i].name);
}
