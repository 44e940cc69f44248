/*
 * What was learned of the upstream, kept over restarts (spool/learned).  It
 * holds for one endpoint and one user name; for others it is forgotten.
 *
 *   sesrelayd-learned 1
 *   endpoint email-smtp.eu-west-1.amazonaws.com
 *   username AKIAIOSFODNN7EXAMPLE
 *   rate 13.250000
 *   session-messages 35
 *   session-age 18.000000
 *   mss 1220
 *
 * The first three lines always, then one line for each thing known, in any
 * order; unknown keys are for later versions and passed over.  What is not of
 * this form, or holds a value that nothing could have taught, is refused as a
 * whole: it costs no more than learning anew.  Pure.
 */
#ifndef POLICY_LEARNED_H
#define POLICY_LEARNED_H

#include "base/slice.h"

/* More is not looked at. */
#define LEARNED_TEXT_MAX 4096

struct learned {
	double
	    rate; /* recipients/s, of policy/pacer; 0: no throttle was seen */
	/* Of policy/rotate: below what connections were lost at; 0: none. */
	unsigned session_messages;
	int64_t session_age_us;
	int mss; /* TCP segments that pass where larger ones vanish; 0: all do */
};

/* free(3) it.  Values beyond what learned_parse() takes are left out. */
char *learned_format(
    const struct learned *l, const char *endpoint, const char *username);
/* false: of another endpoint or user, or no such text; *l is all zero then. */
bool learned_parse(struct slice text, const char *endpoint,
    const char *username, struct learned *l);
/* So different that it is worth writing: a rate by a tenth, others at all. */
bool learned_differs(const struct learned *a, const struct learned *b);

#endif
