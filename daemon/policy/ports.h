/*
 * Which of ses.ports connections take.
 *
 * A port is in good standing until it fails; then it is passed over for 30 s,
 * doubling to 10 min with each failure.  Mail takes the first good one, in the
 * order of ses.ports; only when none is good, the one whose time is over first.
 * A port whose time is over is not trusted again by that: a scout, a connection
 * that no mail waits for, has to show that it works.
 *
 * Only what is the port's own counts as its failure: nothing answers there, it
 * is refused, what is behind it is no SMTP or no TLS, or not SES's.
 */
#ifndef POLICY_PORTS_H
#define POLICY_PORTS_H

#include "base/base.h"

#define PORTS_MAX 16

enum ports_state {
	PORTS_GOOD,
	PORTS_PENALTY, /* passed over */
	PORTS_DUE, /* its time is over: for a scout */
	PORTS_N_STATES
};

struct ports_entry {
	int64_t doubted_us; /* it refused a session for now; 0: it did not */
	bool proven; /* it has worked since it failed last, if ever */
	int64_t penalty_us; /* 0: in good standing */
	int64_t until_us;
	int64_t since_us; /* when it left good standing */
	char reason[200]; /* why, in words */
	char advice[720]; /* what to do about it; "": nothing special */
};

/* By position in ses.ports. */
struct ports {
	unsigned n;
	struct ports_entry entries[PORTS_MAX];
};

void ports_init(struct ports *p, unsigned n);
/*
 * The port for a connection that mail waits for, of those whose bit is not set
 * in `tried`; -1 when all are.
 */
int ports_choose(const struct ports *p, uint32_t tried);
/* The first in good standing; -1: none is. */
int ports_first_good(const struct ports *p);
/*
 * The port that a scout should try now: the first whose time is over, of those
 * that would be preferred to the one mail takes; -1: none.
 */
int ports_scout(const struct ports *p, int64_t now_us);
/* When ports_scout() may say more; INT64_MAX: not by time alone. */
int64_t ports_scout_next(const struct ports *p, int64_t now_us);

/* Failures of one burst count once.  True: it was in good standing. */
bool ports_on_failed(struct ports *p, unsigned i, const char *reason,
    const char *advice, int64_t now_us);
/*
 * It refused a session for now (4xx).  That may be SES's load, which is the
 * same everywhere, or this one port's: true at the second time with no success
 * between, those of one burst counting once; then it has failed.
 */
bool ports_on_doubt(struct ports *p, unsigned i, int64_t now_us);
/* True: it was not in good standing. */
bool ports_on_ok(struct ports *p, unsigned i);
/* The scout learned nothing about the port: another one later. */
void ports_on_nothing(struct ports *p, unsigned i, int64_t now_us);
/* The operator: whatever is passed over may be tried now, and penalties are
 * short again. */
void ports_try_now(struct ports *p, int64_t now_us);

enum ports_state ports_state(const struct ports *p, unsigned i, int64_t now_us);
const char *ports_state_name(enum ports_state state);

#endif
