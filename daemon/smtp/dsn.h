/*
 * The notice that a message could not be delivered: multipart/report (RFC
 * 3462) of a text for people, a message/delivery-status (RFC 3464) and the
 * header of the message (text/rfc822-headers).
 *
 * Whatever peers, clients and SES said goes in such a way that the notice is
 * 7-bit MIME with short lines all the same: control and 8-bit bytes of values
 * as \xNN, long values folded, a header block that is not clean in
 * quoted-printable.  Canonical content: every line ends in CRLF, no dot is
 * stuffed.
 */
#ifndef SMTP_DSN_H
#define SMTP_DSN_H

#include "base/slice.h"

/* Of the header block of the message, so much goes into the notice. */
#define DSN_HEADERS_MAX (32u * 1024)

struct dsn_rcpt {
	const char *addr;
	const char *status; /* "5.1.1"; anything else: "5.0.0" */
	const char *reply; /* of SES, "550 ..."; NULL: there was none */
	const char *reason; /* in words, when there was no reply; or NULL */
};

struct dsn {
	const char *hostname; /* ours */
	/* The notice. */
	const char *from, *to; /* addresses */
	const char *id; /* its queue id */
	const char *date; /* RFC 5322 */
	const char *ses_headers; /* complete lines ending in CRLF; NULL: none */
	/* What failed. */
	const char *failed_id; /* its queue id, and its dead letter's */
	const char *arrival; /* RFC 5322 */
	const char *sender; /* "": the null sender */
	const char *message_id; /* without <>; "": none */
	const char *remote; /* the host that refused; NULL: not known */
	const char *reason; /* in words: last reply and what to do about it */
	const struct dsn_rcpt *rcpts;
	unsigned n_rcpts;
	struct slice headers; /* canonical, at most DSN_HEADERS_MAX used */
};

typedef void (*dsn_emit)(void *ctx, const char *ptr, size_t len);

/* Header and content of the notice, in pieces. */
void dsn_write(const struct dsn *d, dsn_emit emit, void *ctx);
/* Its Message-ID, without <>; returns buf. */
const char *dsn_message_id(const struct dsn *d, char *buf, size_t size);

#endif
