/*
 * The SMTP credentials of SES.
 *
 * Files are read with file_read_small(), which refuses what others can read;
 * what systemd puts into $CREDENTIALS_DIRECTORY is guarded by that directory,
 * and its mode is systemd's affair.  Every copy of a secret that is made here
 * is wiped before it is freed; none goes into a message.
 *
 * The derivation is AWS's: a chain of five HMACs over constants and the region,
 * the last preceded by a version byte, in base64.
 */
#include "credentials.h"

#include "base/file.h"
#include "base/mem.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SECRET_MAX 1024
#define HMAC_LEN 32 /* SHA-256 */
#define PASSWORD_LEN 44 /* what SES gives out: 33 bytes in base64 */
#define SECRET_KEY_LEN 40 /* what IAM gives out */
#define REGION_MAX 31 /* half of a label of DNS */
#define VERSION_LEGACY 2 /* first byte of a password, Signature Version 2 */
#define VERSION_NOW 4

static void wipe(char *text)
{
	if (text)
		OPENSSL_cleanse(text, strlen(text));
	free(text);
}

static char *encode(const char *data, size_t len)
{
	char *text = xmalloc(4 * ((len + 2) / 3) + 1);

	EVP_EncodeBlock(
	    (unsigned char *)text, (const unsigned char *)data, (int)len);
	return text;
}

void credentials_derive(const char *secret, const char *region, char out[45])
{
	const char *const steps[] = { "11111111", region, "ses", "aws4_request",
		"SendRawEmail" };
	unsigned char password[1 + HMAC_LEN] = { VERSION_NOW };
	unsigned char *mac = password + 1;
	size_t n_secret = strlen(secret);
	char *first = xmalloc(4 + n_secret + 1);
	char *text;

	/* Not by a printf(), whose own buffers are not ours to wipe. */
	memcpy(first, "AWS4", 4);
	memcpy(first + 4, secret, n_secret + 1);

	for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
		unsigned char key[HMAC_LEN];
		unsigned len = HMAC_LEN;
		const void *ok;

		memcpy(key, mac, sizeof(key));
		ok = HMAC(EVP_sha256(), i ? (const void *)key : first,
		    i ? HMAC_LEN : (int)strlen(first),
		    (const unsigned char *)steps[i], strlen(steps[i]), mac,
		    &len);
		ASSERT(ok && len == HMAC_LEN);
		OPENSSL_cleanse(key, sizeof(key));
	}
	text = encode((const char *)password, sizeof(password));
	ASSERT(strlen(text) == PASSWORD_LEN);
	memcpy(out, text, PASSWORD_LEN + 1);
	wipe(text);
	wipe(first);
	OPENSSL_cleanse(password, sizeof(password));
}

/* Warnings are sentences without their end. */
PRINTF(2, 3)
static void warn(struct credentials *c, const char *fmt, ...)
{
	size_t len = strlen(c->warning);
	va_list ap;

	if (len > 0 && len + 2 < sizeof(c->warning)) {
		memcpy(c->warning + len, "; ", 3);
		len += 2;
	}
	va_start(ap, fmt);
	vsnprintf(c->warning + len, sizeof(c->warning) - len, fmt, ap);
	va_end(ap);
}

/* One line of visible ASCII; `what` begins the message. */
static int check_secret(const char *text, const char *what, struct err *err)
{
	if (!*text)
		return err_set(err, 0, "%s is empty", what);
	if (strchr(text, '\n') || strchr(text, '\r'))
		return err_set(err, 0,
		    "%s holds more than one line; only the secret may be there",
		    what);
	for (const char *p = text; *p; p++)
		if (*p <= ' ' || *p > '~')
			return err_set(err, 0,
			    "%s holds blanks or bytes that are not visible "
			    "ASCII; only the secret may be there",
			    what);
	return 0;
}

/* What to do about a file that cannot be opened; others say so themselves. */
static void explain_unreadable(const char *path, bool strict, struct err *err)
{
	if (!strict)
		return; /* made by systemd */
	if (err->code == ENOENT)
		err_set(err, ENOENT,
		    "cannot open %.120s: No such file or directory; put the "
		    "secret there, one line in a file of mode 600",
		    path);
	else if (err->code == EACCES)
		err_set(err, EACCES,
		    "cannot open %.120s: Permission denied; chown it to uid "
		    "%u, which we run as, and let that into its directory",
		    path, geteuid());
}

/* The one line that a file holds, or NULL; err->code is ENOENT if none. */
static char *read_secret(const char *path, bool strict, struct err *err)
{
	size_t len = 0;
	char *text = file_read_small(path, SECRET_MAX, strict, &len, err);
	int rc = -1;

	if (!text) {
		explain_unreadable(path, strict, err);
		return NULL;
	}
	if (strlen(text) != len) {
		err_set(err, 0, "%.180s holds a NUL byte", path);
		goto out;
	}
	if (len > 0 && text[len - 1] == '\n')
		text[--len] = '\0';
	if (len > 0 && text[len - 1] == '\r')
		text[--len] = '\0';
	rc = check_secret(text, path, err);
out:
	if (rc < 0) {
		OPENSSL_cleanse(text, len);
		free(text);
		text = NULL;
	}
	return text;
}

static char *derive_from_file(const struct credentials_options *options,
    struct credentials *c, struct err *err)
{
	char password[PASSWORD_LEN + 1], *secret, *copy;

	if (!options->region) {
		err_set(err, 0,
		    "'ses.secret_key_file' needs 'ses.region': the SMTP "
		    "password is made for one region");
		return NULL;
	}
	secret = read_secret(options->secret_key_file, true, err);
	if (!secret)
		return NULL;
	if (credentials_doubt_key(secret))
		warn(c, "'ses.secret_key_file': %s",
		    credentials_doubt_key(secret));
	credentials_derive(secret, options->region, password);
	c->kind = CREDENTIALS_DERIVED;
	snprintf(c->source, sizeof(c->source), "ses.secret_key_file (%s)",
	    options->secret_key_file);
	wipe(secret);
	copy = xstrdup(password);
	OPENSSL_cleanse(password, sizeof(password));
	return copy;
}

/* systemd's credential; NULL with err->code ENOENT when there is none. */
static char *read_credential(struct credentials *c, struct err *err)
{
	const char *directory = getenv("CREDENTIALS_DIRECTORY");
	char *path, *text;

	if (!directory || !*directory) {
		err_set(err, ENOENT, "no credentials");
		return NULL;
	}
	path = xasprintf("%s/ses-password", directory);
	text = read_secret(path, false, err);
	snprintf(c->source, sizeof(c->source),
	    "systemd credential ses-password (%s)", path);
	free(path);
	return text;
}

/* From the first source that there is. */
static char *find_password(const struct credentials_options *options,
    struct credentials *c, struct err *err)
{
	char *password = read_credential(c, err);

	if (password || err->code != ENOENT)
		return password;
	if (options->password_file) {
		snprintf(c->source, sizeof(c->source), "ses.password_file (%s)",
		    options->password_file);
		return read_secret(options->password_file, true, err);
	}
	if (options->secret_key_file)
		return derive_from_file(options, c, err);
	if (options->password) {
		snprintf(c->source, sizeof(c->source), "ses.password");
		warn(c,
		    "'ses.password' stands in the configuration; better put "
		    "it into a file of mode 600 and name that in "
		    "'ses.password_file'");
		if (check_secret(options->password, "'ses.password'", err) < 0)
			return NULL;
		return xstrdup(options->password);
	}
	err_set(err, 0,
	    "there is no SMTP password%s: put it into a file of mode 600 and "
	    "name that in 'ses.password_file', or give it as systemd "
	    "credential \"ses-password\": the file "
	    "/etc/credstore/ses-password, mode 600, and a restart",
	    getenv("CREDENTIALS_DIRECTORY")
		? " (systemd gave us no \"ses-password\")"
		: "");
	return NULL;
}

/* AKIA..., ASIA...: 20 capitals and digits. */
static bool is_key_id(const char *text)
{
	return (strncmp(text, "AKIA", 4) == 0 ||
		   strncmp(text, "ASIA", 4) == 0) &&
	    strlen(text) <= 32 &&
	    strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789") ==
	    strlen(text);
}

/* The first byte of SES's passwords tells how they were made. */
static int version_of(const char *password)
{
	unsigned char bytes[3] = { 0 };
	int version = -1;

	if (strlen(password) == PASSWORD_LEN &&
	    EVP_DecodeBlock(bytes, (const unsigned char *)password, 4) == 3)
		version = bytes[0];
	OPENSSL_cleanse(bytes, sizeof(bytes));
	return version;
}

static enum credentials_kind kind_of(
    const struct credentials *c, const char *password)
{
	int version = version_of(password);

	if (c->kind == CREDENTIALS_DERIVED)
		return c->kind;
	if (version == VERSION_LEGACY)
		return CREDENTIALS_LEGACY;
	if (strlen(password) == SECRET_KEY_LEN)
		return CREDENTIALS_SECRET_KEY;
	return version == VERSION_NOW ? CREDENTIALS_SMTP : CREDENTIALS_STRANGE;
}

/* Passwords that SES will refuse, or treat worse, by the look of them. */
static void judge_password(struct credentials *c, const char *password)
{
	c->kind = kind_of(c, password);
	if (c->kind == CREDENTIALS_LEGACY)
		warn(c,
		    "the SMTP password is of the kind from before 2019, "
		    "which SES throttles: make new SMTP credentials");
	else if (c->kind == CREDENTIALS_SECRET_KEY)
		warn(c,
		    "the SMTP password is as long as a secret access key; "
		    "if it is one, name its file in 'ses.secret_key_file'");
	else if (is_key_id(password))
		warn(c,
		    "the SMTP password is an access key id, which is the user "
		    "name; the password came with it");
}

/* User names that are somebody else's. */
static void judge_username(struct credentials *c)
{
	if (strncmp(c->username, "inp-", 4) == 0)
		warn(c,
		    "'ses.username' is that of a Mail Manager ingress endpoint "
		    "(inp-...), which takes mail in and may drop it; to send, "
		    "SES wants the access key id of SMTP credentials");
	else if (strncmp(c->username, "ses-smtp-user", 13) == 0)
		warn(c,
		    "'ses.username' is the name of an IAM user; SES wants its "
		    "access key id, which begins with AKIA");
}

int credentials_check_username(const char *username, struct err *err)
{
	if (!*username)
		return err_set(err, 0, "must not be empty");
	if (strncmp(username, "ASIA", 4) == 0)
		return err_set(err, 0,
		    "must not be that of temporary credentials (ASIA...), "
		    "which SES's SMTP interface does not take; use the access "
		    "key id (AKIA...) of an IAM user");
	for (const char *p = username; *p; p++)
		if (*p <= ' ' || *p > '~')
			return err_set(err, 0,
			    "must be of visible ASCII characters, without "
			    "blanks");
	return 0;
}

int credentials_check_key(const char *secret, struct err *err)
{
	return check_secret(secret, "the secret access key", err);
}

char *credentials_read_key(const char *path, struct err *err)
{
	return read_secret(path, true, err);
}

const char *credentials_doubt_key(const char *secret)
{
	if (is_key_id(secret))
		return "this is an access key id; the secret access key is the "
		       "other one, of 40 characters";
	if (version_of(secret) == VERSION_NOW ||
	    version_of(secret) == VERSION_LEGACY)
		return "this is an SMTP password already, and belongs into "
		       "'ses.password_file'";
	if (strlen(secret) != SECRET_KEY_LEN ||
	    secret[strspn(secret,
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
		"0123456789+/=")] != '\0')
		return "this does not look like a secret access key, which has "
		       "40 letters, digits, + and /";
	return NULL;
}

/* There is no list of regions to check it against that would stay right. */
int credentials_check_region(const char *region, struct err *err)
{
	size_t len = strlen(region);

	if (strchr(region, '.'))
		return err_set(err, 0,
		    "must be the name of a region such as \"eu-west-1\"; a "
		    "host name goes into 'ses.endpoint'");
	if (len > 0 && len <= REGION_MAX &&
	    strspn(region, "abcdefghijklmnopqrstuvwxyz0123456789-") == len &&
	    region[0] != '-' && region[len - 1] != '-')
		return 0;
	return err_set(err, 0,
	    "must be the name of a region such as \"eu-west-1\", not "
	    "\"%.80s\"",
	    region);
}

/* The base64 forms; `plain` has NULs inside: \0user\0password. */
static void encode_all(struct credentials *c, const char *password)
{
	size_t n_user = strlen(c->username), n_pass = strlen(password);
	size_t len = n_user + n_pass + 2;
	char *joined = xcalloc(1, len + 1);

	memcpy(joined + 1, c->username, n_user);
	memcpy(joined + 1 + n_user + 1, password, n_pass);
	c->plain = encode(joined, len);
	c->login_user = encode(c->username, n_user);
	c->login_pass = encode(password, n_pass);
	OPENSSL_cleanse(joined, len);
	free(joined);
}

struct credentials *credentials_load(
    const struct credentials_options *options, struct err *err)
{
	struct credentials *c = xcalloc(1, sizeof(*c));
	const char *username = options->username ? options->username : "";
	char *password = NULL;
	struct err why;
	int rc = -1;

	if (credentials_check_username(username, &why) < 0) {
		err_set(err, 0, "'ses.username' %.200s", why.text);
		goto out;
	}
	password = find_password(options, c, err);
	if (!password)
		goto out;
	c->username = xstrdup(username);
	judge_username(c);
	judge_password(c, password);
	encode_all(c, password);
	rc = 0;
out:
	wipe(password);
	if (rc < 0) {
		credentials_free(c);
		c = NULL;
	}
	return c;
}

void credentials_free(struct credentials *c)
{
	if (!c)
		return;
	free(c->username);
	wipe(c->plain);
	wipe(c->login_user);
	wipe(c->login_pass);
	free(c);
}

bool credentials_equal(const struct credentials *a, const struct credentials *b)
{
	/* User and password are both in there. */
	return a == b || (a && b && strcmp(a->plain, b->plain) == 0);
}
