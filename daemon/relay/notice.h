/*
 * Telling somebody that a message failed: `bounce.from` and `bounce.to`.
 *
 * A notice is an ordinary message: committed to the spool, queued, delivered.
 * In the spool it is marked (`notice` in its head), so that its own failure
 * never makes another one.  Its envelope sender is bounce.from and not the
 * null one, which RFC 3464 wants: SES refuses that (501 Invalid MAIL FROM
 * address provided), and the mark does the same work as far as we can see.
 *
 * There is none
 *   for a notice;
 *   for what an automatic program sent (Auto-Submitted but "no", RFC 3834),
 *   when it would go to its sender, or when that is bounce.from itself;
 *   to the null sender.
 */
#ifndef RELAY_NOTICE_H
#define RELAY_NOTICE_H

#include "relay/attempt.h"

/* What to tell; everything but `message` stays the caller's. */
struct notice {
	struct message *message; /* that failed; with its header, or large */
	const struct relay_failure *failures;
	unsigned n_failures;
	const char *reason;
	const char *via; /* "host[ip]:port"; NULL: none */
};

/*
 * Takes the message; the rest is used until `done`, which may be called before
 * this returns.  A notice that cannot be made is logged; there is no failure to
 * tell, as the dead letter is there.
 */
void notice_send(struct relay *r, const struct notice *notice,
    void (*done)(void *ctx), void *ctx);

#endif
