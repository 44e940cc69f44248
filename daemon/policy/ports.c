/*
 * Which of ses.ports connections take.
 *
 * Pure; owns only its struct.  Invariants: what ports_choose() says depends on
 * standing and order alone, never on time, so mail moves to another port only
 * when something was seen to fail or to work; a penalty is at most doubled in
 * the time that it lasts.
 */
#include "policy/ports.h"

#include "base/clock.h"

#include <stdio.h>

/* Below the first hold-off of connecting, see policy/sizing. */
#define BURST_US (US_PER_S / 2)
#define PENALTY_MIN_US (30 * US_PER_S)
#define PENALTY_MAX_US (600 * US_PER_S)

void ports_init(struct ports *p, unsigned n)
{
	ASSERT(n <= PORTS_MAX);
	*p = (struct ports){ .n = n };
}

static bool good(const struct ports_entry *e)
{
	return e->penalty_us == 0;
}

int ports_first_good(const struct ports *p)
{
	for (unsigned i = 0; i < p->n; i++)
		if (good(&p->entries[i]))
			return (int)i;
	return -1;
}

int ports_choose(const struct ports *p, uint32_t tried)
{
	int best = -1;

	for (unsigned i = 0; i < p->n; i++) {
		const struct ports_entry *e = &p->entries[i];

		if ((tried & 1u << i) != 0)
			continue;
		if (good(e))
			return (int)i;
		if (best < 0 || e->until_us < p->entries[best].until_us)
			best = (int)i;
	}
	return best;
}

/* How many ports at the head a scout may look at. */
static unsigned n_preferred(const struct ports *p)
{
	int first = ports_first_good(p);

	/* With none in good standing, mail itself tries them all. */
	return first < 0 ? 0 : (unsigned)first;
}

int ports_scout(const struct ports *p, int64_t now_us)
{
	for (unsigned i = 0; i < n_preferred(p); i++)
		if (p->entries[i].until_us <= now_us)
			return (int)i;
	return -1;
}

int64_t ports_scout_next(const struct ports *p, int64_t now_us)
{
	int64_t next = INT64_MAX;

	for (unsigned i = 0; i < n_preferred(p); i++) {
		int64_t until = p->entries[i].until_us;

		if (until > now_us && until < next)
			next = until;
	}
	return next;
}

bool ports_on_failed(struct ports *p, unsigned i, const char *reason,
    const char *advice, int64_t now_us)
{
	struct ports_entry *e = &p->entries[i];
	bool was_good = good(e);

	ASSERT(i < p->n);
	e->proven = false;
	snprintf(e->reason, sizeof e->reason, "%s", reason);
	snprintf(
	    e->advice, sizeof e->advice, "%s", advice != NULL ? advice : "");
	/* One of several that were under way when the first one failed. */
	if (!was_good && e->until_us > now_us)
		return false;
	if (was_good)
		e->since_us = now_us;
	e->penalty_us = was_good ? PENALTY_MIN_US : e->penalty_us * 2;
	if (e->penalty_us > PENALTY_MAX_US)
		e->penalty_us = PENALTY_MAX_US;
	e->until_us = now_us + e->penalty_us;
	return was_good;
}

bool ports_on_doubt(struct ports *p, unsigned i, int64_t now_us)
{
	struct ports_entry *e = &p->entries[i];

	ASSERT(i < p->n);
	if (e->doubted_us == 0) {
		e->doubted_us = now_us;
		return false;
	}
	return now_us - e->doubted_us >= BURST_US;
}

bool ports_on_ok(struct ports *p, unsigned i)
{
	bool was_good = good(&p->entries[i]);

	ASSERT(i < p->n);
	p->entries[i] = (struct ports_entry){ .proven = true };
	return !was_good;
}

void ports_on_nothing(struct ports *p, unsigned i, int64_t now_us)
{
	struct ports_entry *e = &p->entries[i];

	if (!good(e) && e->until_us <= now_us)
		e->until_us = now_us + e->penalty_us;
}

void ports_try_now(struct ports *p, int64_t now_us)
{
	for (unsigned i = 0; i < p->n; i++) {
		struct ports_entry *e = &p->entries[i];

		if (good(e))
			continue;
		if (e->until_us > now_us)
			e->until_us = now_us;
		/* Whoever asks again and again does not make it longer. */
		e->penalty_us = PENALTY_MIN_US;
	}
}

enum ports_state ports_state(const struct ports *p, unsigned i, int64_t now_us)
{
	ASSERT(i < p->n);
	if (good(&p->entries[i]))
		return PORTS_GOOD;
	return p->entries[i].until_us > now_us ? PORTS_PENALTY : PORTS_DUE;
}

const char *ports_state_name(enum ports_state state)
{
	static const char *const names[PORTS_N_STATES] = {
		[PORTS_GOOD] = "good",
		[PORTS_PENALTY] = "passed over",
		[PORTS_DUE] = "to be tried",
	};

	return names[state];
}
