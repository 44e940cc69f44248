/*
 * What SES says, by name.
 *
 * A constant table: what its guide documents, what transcripts show, and what
 * the server behind it would say. Where a reply names an address, a
 * configuration set or the like, the text here has an example; the emulator's
 * own verdicts (verdict.c) put the true name in its place.
 */
#include "replies.h"

#include <stdlib.h>
#include <string.h>

#define REJECTED "554 Message rejected: "
#define FAILED "554 Transaction failed: "
#define DENIED                                                                 \
	"554 Access denied: User `arn:aws:iam::123456789012:user/"             \
	"ses-smtp-user' is not authorized to perform `ses:SendRawEmail' on "   \
	"resource `arn:aws:ses:us-east-1:123456789012:"

static const struct reply replies[] = {
	/* Of connections. */
	{ "too-many-connections", "421 Too many concurrent SMTP connections",
	    true },
	{ "try-later", "421 Too many connections, try again later", true },
	{ "session-cap",
	    "421 Connection closed by server. Maximum message count per "
	    "session reached.",
	    true },
	{ "session-messages",
	    "421 Connection closed by server. Too many messages in one "
	    "session",
	    true },
	{ "unavailable",
	    "421 Service not available, closing transmission channel.", true },
	{ "problem",
	    "421 4.4.0 Problem attempting to execute commands. Please try "
	    "again later.",
	    true },
	{ "system-failure",
	    "421 4.3.0 Mail system failure, closing transmission channel.",
	    true },
	{ "idle", "451 4.4.2 Timeout waiting for data from client.", true },
	{ "idle-451", "451 Timeout waiting for data from client", true },
	{ "idle-421", "421 Timeout waiting for data from client.", true },
	/* Of TLS and AUTH. */
	{ "tls-unavailable",
	    "454 TLS not available due to temporary reason: "
	    "TLS already active",
	    false },
	{ "tls-unsupported", "454 TLS not supported", false },
	{ "need-tls", "530 Must issue a STARTTLS command first", false },
	{ "need-auth", "530 Authentication required", false },
	{ "credentials", "535 Authentication Credentials Invalid", false },
	{ "unsubscribed", "535 Account not subscribed to SES", false },
	{ "auth-temporary", "454 Temporary authentication failure", false },
	{ "auth-again", "503 Refusing any other AUTH command.", false },
	{ "mechanism",
	    "504 The requested authentication mechanism is not supported",
	    false },
	/* Of pace. */
	{ "rate", "454 Throttling failure: Maximum sending rate exceeded.",
	    false },
	{ "daily", "454 Throttling failure: Daily message quota exceeded.",
	    false },
	{ "sigv2",
	    "454 Throttling failure: Maximum SigV2 SMTP sending rate "
	    "exceeded.",
	    false },
	{ "throttling", "454 Throttling failure: Resource limit exceeded.",
	    false },
	/* Of commands and envelopes. */
	{ "temporary", "454 Temporary service failure", false },
	{ "temporary-451", "451 Temporary service failure", false },
	{ "not-implemented", "500 Error: command not implemented", false },
	{ "disabled", "502 VRFY command is disabled", false },
	{ "bad-sender", "501 Invalid MAIL FROM address provided", false },
	{ "bad-recipient", "501 Invalid RCPT TO address provided", false },
	{ "syntax-mail", "501 Syntax: MAIL FROM: <address>", false },
	{ "syntax-rcpt", "501 Syntax: RCPT TO: <address>", false },
	{ "sender-specified", "503 5.5.1 Sender already specified.", false },
	{ "need-mail", "503 5.5.1 Error: need MAIL command", false },
	{ "need-rcpt", "503 5.5.1 Error: need RCPT command", false },
	{ "invalid-address", "553 <user@example.net> Invalid email address",
	    false },
	{ "unknown-address", "553 <user@example.net> address unknown", false },
	{ "too-many-recipients", "452 Error: too many recipients", false },
	{ "fixed-limit", "552 5.3.4 Message size exceeds fixed limit", false },
	/* Of messages. */
	{ "too-long", "552 Message is too long.", false },
	{ "unverified",
	    REJECTED
	    "Email address is not verified. The following identities failed "
	    "the check in region US-EAST-1: app@example.com",
	    false },
	{ "mailfrom-unverified",
	    "554 MAIL FROM domain not verified: DNS setup for MAIL FROM "
	    "domain is invalid.",
	    false },
	{ "paused",
	    REJECTED
	    "Sending paused for this account. For more information, please "
	    "check the inbox of the email address associated with your AWS "
	    "account.",
	    false },
	{ "denied", DENIED "identity/example.com'", false },
	{ "configset-denied", DENIED "configuration-set/example'", false },
	{ "configset-missing",
	    "554 Configuration Set does not exist: Configuration set "
	    "<example> does not exist.",
	    false },
	{ "configset-paused",
	    REJECTED
	    "Email sending for the configuration set <example> is paused.",
	    false },
	{ "tenant-paused", REJECTED "Sending paused for tenant <example>.",
	    false },
	{ "recipient-count", FAILED "Recipient count exceeds 50.", false },
	{ "duplicate-header", FAILED "Duplicate header 'Content-Type'.",
	    false },
	{ "start-boundary", FAILED "Missing start boundary", false },
	{ "final-domain", FAILED "Missing final '@domain'", false },
	{ "illegal-user",
	    FAILED "Address contains illegal characters in user name: "
		   "'<\"re:ceiver\"@example.net>'.",
	    false },
	{ "invalid-domain", FAILED "Invalid domain name: '-example.net'.",
	    false },
	{ "mime-type", FAILED "Expected MIME type, got ;: \"Content-Type: ;\"",
	    false },
	{ "illegal-header", FAILED "Illegal header 'X'.", false },
	{ "missing-from", FAILED "Missing required header 'From'.", false },
	{ "local-whitespace",
	    FAILED "Local address contains control or whitespace", false },
	{ "domain-whitespace", FAILED "Domain contains control or whitespace",
	    false },
};

#define REPLIES (sizeof(replies) / sizeof(replies[0]))

const struct reply *reply_find(const char *name)
{
	for (size_t i = 0; i < REPLIES; i++) {
		if (strcmp(replies[i].name, name) == 0)
			return &replies[i];
	}
	return NULL;
}

const char *reply_text(const char *name)
{
	const struct reply *r = reply_find(name);

	if (r == NULL)
		abort();
	return r->text;
}

void replies_print(struct buf *out)
{
	for (size_t i = 0; i < REPLIES; i++)
		buf_addf(out, "%s %s\n", replies[i].name, replies[i].text);
}
