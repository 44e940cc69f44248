/*
 * The alert user_canceled of TLS 1.3, which SES sends before it closes.
 *
 * The library offers no way to send it, so its two records (user_canceled
 * and the close_notify behind it) are made here: the key comes from the
 * secret that the key log callback gives away, the nonce from a count of the
 * records sent under it. Owns nothing; secret and count are the link's, and
 * are those of one connection of a test. Once new keys were agreed on
 * (rekey) it can't be done any more, and an ordinary close takes its place.
 */
#include "link.h"

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <string.h>

enum { TAG = 16, NONCE = 12, HEAD = 5, PLAIN = 3 };
enum { CLOSE_NOTIFY = 0, USER_CANCELED = 90, WARNING = 1, ALERT = 21 };

static void on_keylog(const SSL *ssl, const char *line)
{
	static const char label[] = "SERVER_TRAFFIC_SECRET_0 ";
	struct link *l = SSL_get_app_data(ssl);
	const char *hex = strrchr(line, ' ');
	long len = 0;
	unsigned char *bytes;

	if (l == NULL || hex == NULL ||
	    strncmp(line, label, strlen(label)) != 0)
		return;
	bytes = OPENSSL_hexstr2buf(hex + 1, &len);
	if (bytes != NULL && len > 0 && (size_t)len <= sizeof(l->secret)) {
		memcpy(l->secret, bytes, (size_t)len);
		l->secret_len = (size_t)len;
	}
	OPENSSL_free(bytes);
}

/* Counts records under the secret, which begin behind our Finished. */
static void on_message(int write, int version, int type, const void *p,
    size_t len, SSL *ssl, void *arg)
{
	struct link *l = arg;
	const unsigned char *bytes = p;

	(void)version;
	(void)ssl;
	if (!write)
		return;
	if (type == SSL3_RT_HEADER)
		l->records++;
	else if (type == SSL3_RT_HANDSHAKE && len > 0 &&
	    bytes[0] == SSL3_MT_FINISHED)
		l->records = 0;
	else if (type == SSL3_RT_HANDSHAKE && len > 0 &&
	    bytes[0] == SSL3_MT_KEY_UPDATE)
		l->secret_len = 0;
}

void alert_prepare(SSL_CTX *ctx)
{
	SSL_CTX_set_keylog_callback(ctx, on_keylog);
}

void alert_watch(struct link *l)
{
	SSL_set_app_data(l->ssl, l);
	SSL_set_msg_callback(l->ssl, on_message);
	SSL_set_msg_callback_arg(l->ssl, l);
}

/* HKDF-Expand-Label(secret, label, "", n) of RFC 8446. */
static bool expand(const struct link *l, const EVP_MD *md, const char *label,
    unsigned char *out, size_t n)
{
	EVP_KDF *kdf = EVP_KDF_fetch(NULL, OSSL_KDF_NAME_TLS1_3_KDF, NULL);
	EVP_KDF_CTX *ctx = kdf != NULL ? EVP_KDF_CTX_new(kdf) : NULL;
	int mode = EVP_KDF_HKDF_MODE_EXPAND_ONLY;
	unsigned char secret[sizeof(l->secret)];
	char prefix[] = "tls13 ", name[8], digest[32];
	OSSL_PARAM params[7];
	bool good;

	memcpy(secret, l->secret, l->secret_len);
	(void)OPENSSL_strlcpy(name, label, sizeof(name));
	(void)OPENSSL_strlcpy(digest, EVP_MD_get0_name(md), sizeof(digest));
	params[0] = OSSL_PARAM_construct_int(OSSL_KDF_PARAM_MODE, &mode);
	params[1] =
	    OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, digest, 0);
	params[2] = OSSL_PARAM_construct_octet_string(
	    OSSL_KDF_PARAM_KEY, secret, l->secret_len);
	params[3] = OSSL_PARAM_construct_octet_string(
	    OSSL_KDF_PARAM_PREFIX, prefix, strlen(prefix));
	params[4] = OSSL_PARAM_construct_octet_string(
	    OSSL_KDF_PARAM_LABEL, name, strlen(name));
	params[5] =
	    OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_DATA, name, 0);
	params[6] = OSSL_PARAM_construct_end();
	good = ctx != NULL && EVP_KDF_derive(ctx, out, n, params) == 1;
	EVP_KDF_CTX_free(ctx);
	EVP_KDF_free(kdf);
	return good;
}

/* The record of one alert, HEAD + PLAIN + TAG bytes. */
static bool seal(struct link *l, const EVP_CIPHER *cipher,
    const unsigned char *key, const unsigned char *iv, int alert,
    unsigned char *out)
{
	EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
	unsigned char nonce[NONCE];
	const unsigned char head[HEAD] = { 23, 3, 3, 0, PLAIN + TAG };
	const unsigned char plain[PLAIN] = { WARNING, (unsigned char)alert,
		ALERT };
	int n;
	bool good;

	memcpy(nonce, iv, NONCE);
	for (unsigned i = 0; i < 8; i++)
		nonce[NONCE - 1 - i] ^= (unsigned char)(l->records >> 8 * i);
	l->records++;
	memcpy(out, head, HEAD);
	good = ctx != NULL &&
	    EVP_EncryptInit_ex2(ctx, cipher, key, nonce, NULL) == 1 &&
	    EVP_EncryptUpdate(ctx, NULL, &n, head, HEAD) == 1 &&
	    EVP_EncryptUpdate(ctx, out + HEAD, &n, plain, PLAIN) == 1 &&
	    EVP_EncryptFinal_ex(ctx, out + HEAD + PLAIN, &n) == 1 &&
	    EVP_CIPHER_CTX_ctrl(
		ctx, EVP_CTRL_AEAD_GET_TAG, TAG, out + HEAD + PLAIN) == 1;
	EVP_CIPHER_CTX_free(ctx);
	return good;
}

bool alert_user_canceled(struct link *l)
{
	const SSL_CIPHER *c = SSL_get_current_cipher(l->ssl);
	const EVP_CIPHER *cipher;
	unsigned char key[EVP_MAX_KEY_LENGTH], iv[NONCE];
	unsigned char out[2][HEAD + PLAIN + TAG];
	const EVP_MD *md;

	if (SSL_version(l->ssl) != TLS1_3_VERSION || l->secret_len == 0)
		return false;
	md = SSL_CIPHER_get_handshake_digest(c);
	cipher = EVP_get_cipherbynid(SSL_CIPHER_get_cipher_nid(c));
	if (md == NULL || cipher == NULL ||
	    !expand(
		l, md, "key", key, (size_t)EVP_CIPHER_get_key_length(cipher)) ||
	    !expand(l, md, "iv", iv, NONCE) ||
	    !seal(l, cipher, key, iv, USER_CANCELED, out[0]) ||
	    !seal(l, cipher, key, iv, CLOSE_NOTIFY, out[1]))
		return false;
	l->broken = true; /* the library's own count is no longer right */
	return link_send(l, (const char *)out, sizeof(out)) ==
	    (ssize_t)sizeof(out);
}
