/*
 * Whether deliveries may start at all: the state of the account and of the
 * credentials, as SES's answers show it.
 *
 *   OPEN     mail flows
 *   CLOSED   nothing starts until `until_us`
 *   PROBING  the wait is over: one message (or one login) may try; its fate
 *            opens the gate or closes it again for longer
 *
 * Waits: daily quota 10 to 20 min; credentials and account 1, 2, 5, then 15 min
 * and up to a tenth more.  Trouble that is told while closed (of messages that
 * were under way) doesn't count again, and replaces the cause only when it makes
 * the wait longer.  Nothing that waits behind a closed gate grows older for it:
 * no attempt is counted.
 */
#ifndef POLICY_GATE_H
#define POLICY_GATE_H

#include "base/base.h"

enum gate_cause { GATE_NONE, GATE_DAILY, GATE_AUTH, GATE_ACCOUNT, GATE_N };

enum gate_state { GATE_OPEN, GATE_CLOSED, GATE_PROBING };

struct gate {
	enum gate_state state;
	enum gate_cause cause;
	unsigned times; /* closed in a row without a success between */
	int64_t since_us; /* closed since */
	int64_t until_us;
	bool probe_out; /* PROBING: the one probe is under way */
};

void gate_init(struct gate *g);
/* May something start now?  In PROBING only one, until its fate is told. */
bool gate_pass(struct gate *g, int64_t now_us);
/* As gate_pass(), without taking the probe. */
bool gate_would_pass(const struct gate *g, int64_t now_us);
/* The probe ended without telling anything (its connection was lost). */
void gate_probe_lost(struct gate *g);
/* SES took a message: whatever was closed is open. */
void gate_on_success(struct gate *g);
/* A login succeeded: opens what was closed for GATE_AUTH only. */
void gate_on_login(struct gate *g);
/*
 * true: it was open before (worth one log line, an alarm).  `jitter` is any
 * random number.
 */
bool gate_on_trouble(
    struct gate *g, enum gate_cause cause, int64_t now_us, uint64_t jitter);
/* The operator, or new credentials: one probe may try now. */
void gate_reopen(struct gate *g);
/*
 * When to look again; INT64_MAX while open or while the probe is out.  What is
 * not after now asks for no timer: gate_pass() would pass.
 */
int64_t gate_next(const struct gate *g);
const char *gate_cause_name(enum gate_cause cause); /* "ok", "throttled", ... */

#endif
