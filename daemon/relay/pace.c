/*
 * The account's pace.  Loop thread; owns nothing: the pacer is the relay's.
 *
 * Recipients are taken from the bucket when a message starts and given back
 * when SES neither took nor throttled them, as only those two count against
 * the account's limit.  A throttled message keeps its place in the queue and
 * goes again when the pace lets it, which is within seconds.
 */
#include "relay/pace.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/stat.h"
#include "relay/attempt.h"

/* Throttles after so long a peace are told again. */
#define TOLD_AGAIN_US (10 * 60 * US_PER_S)

bool relay_pace_take(struct relay *r, struct attempt *a)
{
	int64_t now = clock_mono_us();
	int64_t wait = pacer_wait(&r->pacer, a->mail.n_rcpts, now);

	r->pace_until_us = wait > 0 ? now + wait : 0;
	if (wait > 0)
		return false;
	pacer_take(&r->pacer, a->mail.n_rcpts, now);
	return true;
}

size_t relay_pace_room(struct relay *r)
{
	const struct attempt *first = TAILQ_FIRST(&r->loaded);
	int64_t now = clock_mono_us();
	unsigned n = first != NULL ? first->mail.n_rcpts : 1;
	int64_t wait = pacer_wait(&r->pacer, n, now);
	size_t room;

	r->pace_until_us = wait > 0 ? now + wait : 0;
	if (wait > 0)
		return 0;
	/* The first may go, however many it has. */
	room = pacer_room(&r->pacer, now) / n;
	return room > 0 ? room : 1;
}

void relay_pace_throttled(
    struct relay *r, unsigned n, const struct verdict *throttled)
{
	int64_t now = clock_mono_us();
	bool news =
	    r->throttled_us == 0 || now - r->throttled_us > TOLD_AGAIN_US;

	stat_add(STAT_THROTTLED_RATE, 1);
	pacer_on_throttled(&r->pacer, n, now);
	r->throttled_us = now;
	(void)relay_pace_room(r); /* until when */
	relay_note_reply(r, throttled);
	if (news)
		log_msg(LOG_LEVEL_WARNING, LOG_QMGR, LOG_NO_ID,
		    "SES throttles: %s; %s; the pace is %.2f recipients/s now "
		    "and grows as SES lets it",
		    throttled->text,
		    throttled->advice != NULL ? throttled->advice : "",
		    pacer_rate(&r->pacer));
}

void relay_pace_settle(struct relay *r, const struct attempt *a,
    unsigned n_sent, const struct verdict *throttled)
{
	unsigned n_throttled = throttled != NULL ? a->mail.n_rcpts - n_sent : 0;

	if (n_sent > 0)
		pacer_on_taken(&r->pacer, n_sent, clock_mono_us());
	if (throttled != NULL)
		relay_pace_throttled(r, n_throttled, throttled);
	else if (n_sent < a->mail.n_rcpts)
		pacer_give_back(&r->pacer, a->mail.n_rcpts - n_sent);
}

bool relay_is_throttled(const struct relay *r)
{
	return pacer_learned(&r->pacer) > 0 &&
	    pacer_rate(&r->pacer) >= pacer_learned(&r->pacer) &&
	    pacer_is_limiting(&r->pacer, clock_mono_us());
}
