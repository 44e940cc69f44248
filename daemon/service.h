/*
 * What the service manager is told: ready, reloading, stopping, the state in
 * one line, and that we are alive.  Without a manager, all of it is silent.
 */
#ifndef SERVICE_H
#define SERVICE_H

#include "net/loop.h"
#include "upstream_state.h"

#define SERVICE_TEXT_MAX 256

struct service {
	const struct relay *relay;
	struct loop_timer look; /* for the state, once a second */
	struct loop_timer alive; /* for the watchdog */
	int64_t
	    alive_us; /* half of what the watchdog waits; 0: there is none */
	bool withheld; /* the watchdog is not told, and the log says so */
	bool stopping;
	char told[SERVICE_TEXT_MAX]; /* the last state that was heard */
};

/* Mail can be handed in: READY=1. */
void service_ready(
    struct service *s, const struct relay *relay, struct loop *loop);
void service_reloading(struct service *s);
/* Whether or not the new configuration is in force. */
void service_reloaded(struct service *s);
void service_stopping(struct service *s);
/* Before service_ready(), as well: why there is nothing to be ready. */
void service_failed(const char *why);
void service_end(struct service *s); /* all zero is legal */

/* --- the rules, for their tests --- */

struct service_facts {
	size_t queued, waiting, held;
	int64_t oldest_us; /* how old the oldest is; 0: none is queued */
	enum upstream_state upstream;
	const char *spool_trouble; /* NULL: it is well */
	bool scanning, draining, intake_paused, stopping;
};
/* One line; returns buf. */
const char *service_text(
    const struct service_facts *facts, char buf[SERVICE_TEXT_MAX]);
/*
 * Is the disk alive enough for the watchdog to hear of us?  `stalled` seconds
 * ago the journal was asked, and has not answered; see spool_stalled().
 */
bool service_may_live(unsigned stalled, int64_t alive_us);

#endif
