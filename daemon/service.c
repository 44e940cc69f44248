/*
 * What the service manager is told.  Owned by struct daemon; loop thread.
 *
 * The state is told when it has changed, and once a second at the most.  The
 * watchdog is told from a timer of the loop, so that a loop that does not turn
 * is not alive; and only while the journal answers, because without the disk no
 * mail is taken, though everything else looks well.  During the stop, the
 * manager is asked for more time as long as there is something under way: the
 * daemon has bounds of its own for that (daemon.c).
 */
#include "service.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/notify.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define LOOK_US US_PER_S
/* More than once a second, with much to spare. */
#define MORE_TIME "EXTEND_TIMEOUT_USEC=15000000"

/* --- the rules --- */

bool service_may_live(unsigned stalled, int64_t alive_us)
{
	/* It is asked once a second, so one is what a healthy disk may have. */
	return stalled <= 1 || stalled * US_PER_S < alive_us;
}

PRINTF(2, 3)
static void add(char buf[SERVICE_TEXT_MAX], const char *fmt, ...)
{
	size_t len = strlen(buf);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(buf + len, SERVICE_TEXT_MAX - len, fmt, ap);
	va_end(ap);
}

/* "12m": coarse, so that it does not change all the time. */
static void add_age(char buf[SERVICE_TEXT_MAX], int64_t age_us)
{
	int64_t s = age_us / US_PER_S;

	if (s < 60)
		add(buf, "under 1m");
	else if (s < 3600)
		add(buf, "%dm", (int)(s / 60));
	else if (s < 86400)
		add(buf, "%dh", (int)(s / 3600));
	else
		add(buf, "%dd", (int)(s / 86400));
}

const char *service_text(
    const struct service_facts *f, char buf[SERVICE_TEXT_MAX])
{
	buf[0] = '\0';
	add(buf, "%s; %zu queued",
	    f->stopping       ? "Finishing what is under way"
		: f->draining ? "Draining"
		: f->scanning ? "Relaying, the spool is being read"
			      : "Relaying",
	    f->queued);
	if (f->waiting > 0)
		add(buf, ", %zu deferred", f->waiting);
	if (f->held > 0)
		add(buf, ", %zu held", f->held);
	if (f->queued > 0) {
		add(buf, " (oldest ");
		add_age(buf, f->oldest_us);
		add(buf, ")");
	}
	add(buf, ", upstream %s", upstream_state_name(f->upstream));
	if (f->intake_paused)
		add(buf, ", intake paused");
	if (f->spool_trouble != NULL)
		add(buf, ", spool: %s", f->spool_trouble);
	return buf;
}

/* --- the state --- */

static void collect(const struct service *s, struct service_facts *f)
{
	const struct relay *r = s->relay;
	int64_t oldest = queue_oldest(r->queue), now = clock_mono_us();
	struct spool_usage usage;

	spool_usage(r->spool, &usage);
	*f = (struct service_facts){
		.queued = queue_total(r->queue),
		.waiting = queue_count(r->queue, STUB_WAITING),
		.held = queue_count(r->queue, STUB_HELD),
		.oldest_us = oldest < now ? now - oldest : 0,
		.upstream = upstream_state(r),
		.spool_trouble = spool_intake_trouble(r->spool),
		.scanning = usage.scanning,
		.draining = r->draining,
		.intake_paused = r->intake_paused,
		.stopping = s->stopping,
	};
}

static void tell(struct service *s)
{
	char text[SERVICE_TEXT_MAX];
	struct service_facts facts;

	collect(s, &facts);
	service_text(&facts, text);
	if (strcmp(text, s->told) != 0 && notify_try("STATUS=%s", text))
		memcpy(s->told, text, sizeof text);
}

static void on_look(void *ctx)
{
	struct service *s = ctx;

	if (s->stopping)
		notify_try(MORE_TIME);
	tell(s);
	loop_timer_set(&s->look, LOOK_US);
}

/* --- the watchdog --- */

static void on_alive(void *ctx)
{
	struct service *s = ctx;
	unsigned stalled = spool_stalled(s->relay->spool);
	bool may_live = service_may_live(stalled, s->alive_us);

	if (may_live)
		notify_try("WATCHDOG=1");
	if (!may_live && !s->withheld)
		log_msg(LOG_LEVEL_ERROR, LOG_MASTER, LOG_NO_ID,
		    "the disk of the spool has not answered for %u s; if it "
		    "does not soon, the service manager's watchdog ends us",
		    stalled);
	else if (may_live && s->withheld)
		log_msg(LOG_LEVEL_INFO, LOG_MASTER, LOG_NO_ID,
		    "the disk of the spool answers again");
	s->withheld = !may_live;
	/* A disk that comes back is told at once, not half the time later. */
	loop_timer_set(&s->alive,
	    s->withheld && s->alive_us > LOOK_US ? LOOK_US : s->alive_us);
}

/* --- events --- */

void service_ready(
    struct service *s, const struct relay *relay, struct loop *loop)
{
	if (!notify_wanted())
		return;
	s->relay = relay;
	s->alive_us = notify_watchdog_us() / 2;
	loop_timer_init(&s->look, loop, on_look, s);
	loop_timer_init(&s->alive, loop, on_alive, s);
	notify_send("READY=1");
	on_look(s);
	if (s->alive_us > 0)
		on_alive(s);
}

void service_reloading(struct service *s)
{
	if (s->relay != NULL)
		notify_reloading();
}

void service_reloaded(struct service *s)
{
	if (s->relay == NULL)
		return;
	notify_send("READY=1");
	tell(s);
}

void service_stopping(struct service *s)
{
	if (s->relay == NULL)
		return;
	s->stopping = true;
	notify_send("STOPPING=1\n" MORE_TIME);
	tell(s);
}

void service_failed(const char *why)
{
	notify_send("STATUS=%.*s", (int)strcspn(why, "\n"), why);
}

void service_end(struct service *s)
{
	if (s->relay == NULL)
		return;
	loop_timer_fini(&s->look);
	loop_timer_fini(&s->alive);
	s->relay = NULL;
}
