/*
 * What is wrong with the daemon as a whole, if something is.  No state of its
 * own; loop thread, which proves by answering that the loop turns.
 */
#include "health.h"

#include "daemon.h"
#include "relay/operate.h"

const char *health_not_alive(const struct daemon *d)
{
	const struct spool *spool = d->relay->spool;

	return spool_hangs(spool) ? spool_intake_trouble(spool) : NULL;
}

const char *health_not_ready(const struct daemon *d)
{
	const char *why = health_not_alive(d);

	if (d->stopping)
		return "the daemon is stopping";
	/* The same question as at MAIL. */
	return why ? why : relay_refusal(d->relay, 0).text;
}
