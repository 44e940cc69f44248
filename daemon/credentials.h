/*
 * The SMTP credentials of SES: found, checked, made into AUTH arguments.
 *
 * Sources, first that is there wins: the systemd credential "ses-password"
 * ($CREDENTIALS_DIRECTORY), ses.password_file, ses.secret_key_file (from which
 * the password for the region is derived), ses.password.  Files that others
 * can read are refused.  An ASIA... user name (temporary credentials) is
 * refused: SES's SMTP interface does not take them.
 *
 * https://docs.aws.amazon.com/ses/latest/dg/smtp-credentials.html
 */
#ifndef CREDENTIALS_H
#define CREDENTIALS_H

#include "base/base.h"

/* What the password looks like. */
enum credentials_kind {
	CREDENTIALS_SMTP, /* as SES gives them out */
	CREDENTIALS_LEGACY, /* so it did before 2019 */
	CREDENTIALS_SECRET_KEY, /* as long as a secret access key */
	CREDENTIALS_DERIVED, /* made here, from ses.secret_key_file */
	CREDENTIALS_STRANGE,
};

struct credentials {
	char *username;
	/* base64, ready to be sent */
	char *plain; /* \0user\0password */
	char *login_user; /* user */
	char *login_pass; /* password */
	enum credentials_kind kind;
	char source[300]; /* where the password came from, for messages */
	/* "" if none: legacy version, inline password, ... */
	char warning[700];
};

struct credentials_options {
	const char *username, *password_file, *secret_key_file, *password;
	const char *region;
};

/* NULL with a reason that says what to do. */
MUST_CHECK struct credentials *credentials_load(
    const struct credentials_options *options, struct err *err);
void credentials_free(struct credentials *c); /* wipes; NULL is legal */
bool credentials_equal(
    const struct credentials *a, const struct credentials *b);
/* -1: the end of a sentence that begins with the key. */
int credentials_check_username(const char *username, struct err *err);
int credentials_check_region(const char *region, struct err *err);
/* SMTP password of a region from a secret access key; 44 characters. */
void credentials_derive(const char *secret, const char *region, char out[45]);
/*
 * The secret access key in a file, as it has to be; wipe it and free(3) it.
 * NULL with a reason that says what to do.
 */
MUST_CHECK char *credentials_read_key(const char *path, struct err *err);
/* -1: it cannot be one; the reason is a whole sentence. */
MUST_CHECK int credentials_check_key(const char *secret, struct err *err);
/* What it rather looks like, and what to do; NULL: like a secret key. */
const char *credentials_doubt_key(const char *secret);

#endif
