/*
 * The rate of a counter over the last seconds.
 *
 * A ring of samples, none closer than a second to the one before, so that it
 * reaches back a minute however often it is fed.  No state but the caller's
 * struct; no clock.
 */
#include "base/meter.h"

#include "base/clock.h"

static const struct meter_sample *sample(const struct meter *m, unsigned i)
{
	return &m->samples[i % METER_SAMPLES];
}

static void add(struct meter *m, int64_t value, int64_t now_us)
{
	m->samples[m->n++ % METER_SAMPLES] =
	    (struct meter_sample){ .at_us = now_us, .value = value };
}

void meter_init(struct meter *m, int64_t value, int64_t now_us)
{
	*m = (struct meter){ 0 };
	add(m, value, now_us);
}

void meter_note(struct meter *m, int64_t value, int64_t now_us)
{
	ASSERT(m->n > 0);
	if (now_us - sample(m, m->n - 1)->at_us >= US_PER_S)
		add(m, value, now_us);
}

double meter_rate(
    const struct meter *m, int64_t value, int64_t now_us, int64_t window_us)
{
	unsigned oldest = m->n > METER_SAMPLES ? m->n - METER_SAMPLES : 0;
	unsigned i = m->n - 1;
	int64_t span;

	ASSERT(m->n > 0);
	while (i > oldest && now_us - sample(m, i)->at_us < window_us)
		i--;
	span = now_us - sample(m, i)->at_us;
	if (span < US_PER_S)
		span = US_PER_S;
	return (double)(value - sample(m, i)->value) * US_PER_S / (double)span;
}

/* What the counter was at that time, as far as samples tell. */
static double value_at(const struct meter *m, int64_t at_us)
{
	unsigned oldest = m->n > METER_SAMPLES ? m->n - METER_SAMPLES : 0;
	unsigned i = m->n - 1;
	const struct meter_sample *before, *after;

	while (i > oldest && sample(m, i)->at_us > at_us)
		i--;
	before = sample(m, i);
	if (i == m->n - 1 || before->at_us >= at_us)
		return (double)before->value;
	after = sample(m, i + 1);
	return (double)before->value +
	    (double)(after->value - before->value) *
	    (double)(at_us - before->at_us) /
	    (double)(after->at_us - before->at_us);
}

void meter_history(
    const struct meter *m, int64_t second, unsigned n, double *rates)
{
	double last;

	ASSERT(m->n > 0);
	last = value_at(m, (second - n) * US_PER_S);
	for (unsigned i = 0; i < n; i++) {
		double value = value_at(m, (second - n + i + 1) * US_PER_S);

		rates[i] = value - last;
		last = value;
	}
}
