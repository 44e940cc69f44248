/*
 * Reverse-paths and forward-paths of MAIL and RCPT (RFC 5321 4.1.2), read
 * strictly enough that what is accepted can be sent on as one command line
 * without a surprise, and tolerantly enough for legacy programs: a space after
 * the colon, no angle brackets, a source route (dropped, RFC 5321 appendix C),
 * a bare local part (completed with the default domain, when there is one).
 *
 * Accepted means: only printable ASCII, local part up to 64 octets, the whole
 * up to 254; a quoted local part is kept quoted.
 */
#ifndef SMTP_ADDR_H
#define SMTP_ADDR_H

#include "base/slice.h"

#define ADDR_MAX 254

enum addr_error {
	ADDR_OK,
	ADDR_SYNTAX, /* 501 5.1.3 (5.1.7 for a sender) */
	ADDR_NON_ASCII, /* 553 5.6.7: SES does not speak SMTPUTF8 */
	ADDR_NON_ASCII_DOMAIN, /* the same, and punycode is the remedy */
	ADDR_TOO_LONG, /* 501 5.1.3 */
	/* No domain, and none to complete it with; `out` has what is there. */
	ADDR_UNQUALIFIED,
};

struct addr {
	char text[ADDR_MAX + 1]; /* "local@domain"; "" is the null path */
};

/*
 * Reads a path at the head of *args, which is advanced behind it (to the
 * ESMTP parameters).  `null_ok`: "<>" is allowed.  default_domain may be NULL.
 */
enum addr_error addr_parse_path(struct slice *args, bool null_ok,
    const char *default_domain, struct addr *out);

#endif
