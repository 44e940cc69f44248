/*
 * What was learned of SES: between the spool's file and the parts that learn.
 *
 * give() and gather() are the only places that know which part knows what: a
 * line each for a value.  What no part takes care of stays as it was read.
 * Owns struct learn; the parts own the values.
 */
#include "relay/learn.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "relay/relay.h"

#include <stdlib.h>
#include <string.h>

#define WRITE_EVERY_US (10 * US_PER_S)

static void give(struct relay *r, const struct learned *l)
{
	pacer_init(&r->pacer, r->options.rate, l->rate, clock_mono_us());
	pool_set_learned(r->pool, l->session_messages, l->session_age_us);
	pool_set_learned_mss(r->pool, l->mss);
}

static void gather(const struct relay *r, struct learned *l)
{
	*l = r->learn.known;
	l->rate = pacer_learned(&r->pacer);
	l->session_messages = pool_learned_messages(r->pool);
	l->session_age_us = pool_learned_age_us(r->pool);
	l->mss = pool_learned_mss(r->pool);
}

static const char *endpoint(const struct relay *r)
{
	return pool_host(r->pool);
}

static const char *username(const struct relay *r)
{
	return r->options.username != NULL ? r->options.username : "";
}

static void name(struct relay *r)
{
	free(r->learn.endpoint);
	free(r->learn.username);
	r->learn.endpoint = xstrdup(endpoint(r));
	r->learn.username = xstrdup(username(r));
}

void learn_begin(struct relay *r)
{
	struct learn *l = &r->learn;
	const char *text = spool_learned(r->spool);

	name(r);
	if (text != NULL &&
	    learned_parse(slice_str(text), l->endpoint, l->username, &l->known))
		log_msg(LOG_LEVEL_DEBUG, LOG_QMGR, LOG_NO_ID,
		    "known of %s: %.2f recipients/s, %u messages and %.1f s "
		    "a session, segments of %d (0: no limit)",
		    l->endpoint, l->known.rate, l->known.session_messages,
		    (double)l->known.session_age_us / US_PER_S, l->known.mss);
	l->written = l->known;
	give(r, &l->known);
}

void learn_configure(struct relay *r)
{
	struct learn *l = &r->learn;

	if (strcmp(l->endpoint, endpoint(r)) == 0 &&
	    strcmp(l->username, username(r)) == 0)
		return;
	name(r);
	l->known = (struct learned){ 0 };
	give(r, &l->known);
}

static void write_now(struct relay *r)
{
	struct learn *l = &r->learn;
	char *text;

	if (!learned_differs(&l->known, &l->written))
		return;
	text = learned_format(&l->known, l->endpoint, l->username);
	spool_learn(r->spool, text);
	free(text);
	l->written = l->known;
	l->written_us = clock_mono_us();
}

void learn_tick(struct relay *r)
{
	struct learn *l = &r->learn;

	/* Another endpoint is in force once its credentials are accepted. */
	learn_configure(r);
	gather(r, &l->known);
	if (l->written_us == 0 ||
	    clock_mono_us() - l->written_us >= WRITE_EVERY_US)
		write_now(r);
}

void learn_end(struct relay *r)
{
	/* A start that failed half-way has nothing to keep. */
	if (r->learn.endpoint != NULL && r->pool != NULL) {
		gather(r, &r->learn.known);
		write_now(r);
	}
	free(r->learn.endpoint);
	free(r->learn.username);
	r->learn.endpoint = r->learn.username = NULL;
}
