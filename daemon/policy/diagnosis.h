/*
 * What is wrong on the way to SES, in the user's terms: a table from a step of
 * the way and what became of it to one line of meaning and one of remedy.
 *
 * The steps are those of one session that carries no mail, in their order for
 * STARTTLS; on a TLS wrapper port, TLS and certificate come before the
 * greeting.  Pure text; whoever asks has made the experiments.
 *
 * https://docs.aws.amazon.com/ses/latest/dg/troubleshoot-smtp.html
 */
#ifndef POLICY_DIAGNOSIS_H
#define POLICY_DIAGNOSIS_H

#include "base/base.h"

enum diagnosis_step {
	DIAGNOSIS_RESOLVE,
	DIAGNOSIS_CONNECT,
	DIAGNOSIS_GREETING,
	DIAGNOSIS_STARTTLS, /* with the EHLO in clear */
	DIAGNOSIS_TLS, /* the handshake, up to the certificate */
	DIAGNOSIS_CERTIFICATE,
	DIAGNOSIS_EHLO, /* inside TLS */
	DIAGNOSIS_AUTH,
	DIAGNOSIS_LARGE, /* full-size segments */
	DIAGNOSIS_QUIT,
	DIAGNOSIS_N_STEPS
};

enum diagnosis_outcome {
	OUTCOME_UNTESTED,
	OUTCOME_OK,
	OUTCOME_SLOW, /* it works, and is worth a word */

	OUTCOME_NO_NAME, /* resolve: no such name */
	OUTCOME_NO_ADDRESS, /* resolve: the name has none */

	OUTCOME_TIMEOUT, /* silence */
	OUTCOME_REFUSED, /* connect: RST; else a 5xx reply */
	OUTCOME_UNREACHABLE, /* connect: no route */
	OUTCOME_NO_SOURCE, /* connect: ses.source_address is not ours */
	OUTCOME_FAILED, /* another error; its reason is the detail */

	OUTCOME_CLOSED, /* in order, without a word */
	OUTCOME_RESET,
	OUTCOME_NOT_SMTP, /* bytes that are no reply */
	OUTCOME_BUSY, /* a 4xx reply */
	OUTCOME_OUT_OF_STEP, /* a reply that does not fit */
	OUTCOME_OTHER_MODE, /* STARTTLS in place of the wrapper, or reverse */

	OUTCOME_NOT_OFFERED, /* starttls, and a way to log in */
	OUTCOME_INJECTED, /* bytes in clear behind the reply to STARTTLS */

	OUTCOME_EXPIRED, /* certificate, as those below */
	OUTCOME_NOT_YET,
	OUTCOME_NAME,
	OUTCOME_SELF_SIGNED,
	OUTCOME_UNKNOWN_CA,

	OUTCOME_CREDENTIALS, /* auth: 535 */
	OUTCOME_SUBSCRIPTION, /* auth: 535, the account does not use SES */

	OUTCOME_MTU, /* large segments vanish, small ones pass */
	OUTCOME_UNACKED, /* and when small ones vanish, too */
	OUTCOME_N
};

/* By the look of it; SES gives out the first kind. */
enum diagnosis_password {
	PASSWORD_SMTP,
	PASSWORD_LEGACY, /* Signature Version 2, from before 2019 */
	PASSWORD_SECRET_KEY, /* as long as a secret access key */
	PASSWORD_DERIVED, /* by us, from ses.secret_key_file */
	PASSWORD_STRANGE,
};

/* What the texts speak of; every string may be NULL or "". */
struct diagnosis_facts {
	unsigned port;
	const char *host; /* the endpoint */
	const char *region; /* ses.region */
	const char *detail; /* a reply, or a reason */
	const char *address; /* ses.source_address */
	const char *names, *issuer; /* of the certificate */
	const char *before, *after, *now; /* its dates; this host's clock */
	bool ca_expired; /* not the server's own, but one above it */
	const char *username, *password_source;
	enum diagnosis_password password;
	unsigned mss; /* the small one that passed */
};

#define DIAGNOSIS_TEXT 1024
struct diagnosis {
	const char *word; /* for a table: "blocked" */
	bool fatal; /* no mail can go this way */
	char meaning[DIAGNOSIS_TEXT];
	char remedy[DIAGNOSIS_TEXT];
};

/* OK and UNTESTED: no texts, the word "ok" or "-". */
void diagnosis_explain(enum diagnosis_step step, enum diagnosis_outcome outcome,
    const struct diagnosis_facts *facts, struct diagnosis *out);
const char *diagnosis_step_name(enum diagnosis_step step);
/* "timeout"; for programs. */
const char *diagnosis_outcome_name(enum diagnosis_outcome outcome);

/* Regions come and go: for hints, never for a decision. */
bool diagnosis_region_known(const char *region);
/* The one that is meant by a slip of the pen; NULL: none is near. */
const char *diagnosis_region_near(const char *region);

/* Every pair of step and outcome that has a text of its own. */
struct diagnosis_row {
	enum diagnosis_step step;
	enum diagnosis_outcome outcome;
	unsigned port; /* 0: any; rows for one port come first */
	bool harmless;
	const char *word, *meaning, *remedy;
};
const struct diagnosis_row *diagnosis_table(size_t *n);

/* --- the last line --- */

struct diagnosis_port {
	unsigned port;
	bool configured, works;
};
/* Which port mail takes, if any; true when it can go. */
bool diagnosis_summarize(
    const struct diagnosis_port *ports, size_t n, char *buf, size_t size);

#endif
