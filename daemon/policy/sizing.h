/*
 * How many connections to SES are wanted now.
 *
 * It grows with the backlog only: never more connections than messages that
 * could use them, never more than the limit, and where a pace is known, never
 * more than Little's law asks for: recipients/s times the time that one takes,
 * and a quarter to spare.  While connecting fails only one is tried at a time,
 * after a hold-off that doubles from 1 s to 1 min.  A login ends that; but when
 * SES logs in and then throws out, only a message that went through does.
 * "Too many concurrent SMTP connections" lowers the limit to what stood then
 * less one; it recovers by one connection every 30 s.
 */
#ifndef POLICY_SIZING_H
#define POLICY_SIZING_H

#include "base/base.h"

struct sizing {
	unsigned limit; /* learned; UINT32_MAX: none */
	int64_t limit_grows_us; /* when it may rise by one; 0: not lowered */
	unsigned failures; /* connects failed in a row */
	int64_t retry_us; /* no connect before this; 0: at once */
	bool thrown_out; /* after a login: logins prove nothing... */
	int64_t thrown_out_us; /* ...that began before this at any rate */
	/* Smoothed, of transactions; 0: none was seen. */
	double busy_us, recipients;
};

struct sizing_view {
	unsigned max; /* delivery.connections */
	unsigned connecting; /* not yet logged in */
	unsigned open; /* all others that SES knows of */
	unsigned idle;
	size_t backlog; /* messages that could go now */
	double rate; /* recipients/s, the pace; 0: no limit is known */
};

void sizing_init(struct sizing *s);
/* How many connects to start now. */
unsigned sizing_want(
    struct sizing *s, const struct sizing_view *view, int64_t now_us);
void sizing_on_connected(struct sizing *s, int64_t now_us);
/* A transaction took that long; it was for n recipients. */
void sizing_on_transaction(struct sizing *s, int64_t took_us, unsigned n);
/* How many connections the pace can keep busy; UINT_MAX: no limit is known. */
unsigned sizing_useful(const struct sizing *s, double rate);
/*
 * A connect, handshake or login failed.  Failures of one burst count once.
 * `jitter` is any random number.
 */
void sizing_on_failed(struct sizing *s, int64_t now_us, uint64_t jitter);
/*
 * It was logged in, and lost before it had sent anything.  This counts as
 * sizing_on_failed(), and the next login does not make up for it.
 */
void sizing_on_thrown_out(struct sizing *s, int64_t now_us, uint64_t jitter);
/* A message went through all of its dialogue on a connection that was logged
 * in at `opened_us`. */
void sizing_on_carried(struct sizing *s, int64_t opened_us);
/*
 * "421 Too many concurrent SMTP connections" while `open` stood; when it was
 * the answer to a connect, sizing_on_failed() is called as well.
 */
void sizing_on_conn_limit(struct sizing *s, unsigned open, int64_t now_us);
/* The operator: the hold-off after a failure ends now, and is short again. */
void sizing_try_now(struct sizing *s);
/* When sizing_want() may say more than now; INT64_MAX: not by time alone. */
int64_t sizing_next(const struct sizing *s, int64_t now_us);

#endif
