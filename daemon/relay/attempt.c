/*
 * Attempts: which recipients go into one transaction.  A list longer than the
 * limit is sent in pieces, each beginning where the last one ended, so that
 * recipients which are put off don't starve those behind them.
 */
#include "relay/attempt.h"

#include "base/clock.h"
#include "base/mem.h"

#include <stdlib.h>

struct attempt *attempt_new(struct stub *stub, struct message *m, unsigned max)
{
	unsigned n_pending = message_n_pending(m);
	struct attempt *a;
	const char **rcpts;
	unsigned n = 0;

	if (stub->singly)
		max = 1;
	if (n_pending > max)
		n_pending = max;
	if (n_pending == 0) {
		message_free(m);
		return NULL;
	}
	a = xcalloc(1, sizeof *a);
	a->stub = stub;
	a->m = m;
	a->positions = xcalloc(n_pending, sizeof *a->positions);
	rcpts = xcalloc(n_pending, sizeof *rcpts);
	for (unsigned pass = 0; pass < 2 && n == 0; pass++) {
		if (pass == 1)
			stub->cursor = 0; /* nobody is left behind it */
		for (unsigned i = stub->cursor; i < m->n_rcpts && n < n_pending;
		     i++) {
			if (m->rcpts[i].state != RCPT_PENDING)
				continue;
			a->positions[n] = (uint16_t)i;
			rcpts[n++] = m->rcpts[i].addr;
		}
	}
	a->mail.sender = m->sender;
	a->mail.body_8bit = m->body_8bit;
	a->mail.size = m->size;
	a->mail.rcpts = rcpts;
	a->mail.n_rcpts = n;
	a->mail.rcpt_verdicts = xcalloc(n, sizeof *a->mail.rcpt_verdicts);
	return a;
}

void attempt_free(struct attempt *a)
{
	if (a == NULL)
		return;
	message_free(a->m);
	free(a->positions);
	free((void *)(uintptr_t)a->mail.rcpts);
	free(a->mail.rcpt_verdicts);
	free(a);
}

const struct verdict *attempt_verdict(
    const struct attempt *a, unsigned i, const struct verdict *message)
{
	const struct verdict *own = &a->mail.rcpt_verdicts[i];

	return own->class != VERDICT_NONE ? own : message;
}

struct spool_outcome relay_outcome(
    const struct stub *stub, enum spool_event event)
{
	return (struct spool_outcome){
		.id = stub->id,
		.ref = stub->ref,
		.size = stub->size,
		.event = event,
		.time_us = clock_wall_us(),
	};
}
