/*
 * Which segment size connections begin with, and what they found out about it.
 * Part of the pool; loop thread.  Owns pool->path; policy/path decides.
 *
 * ses.mss, when it is set, is the user's decision: nothing is judged then.
 */
#include "relay/pool_private.h"

#include "base/clock.h"
#include "base/log.h"
#include "policy/diagnosis.h"

int pool_choose_mss(struct pool *pool, const struct upstream *u)
{
	if (u->options.mss > 0)
		return u->options.mss;
	return path_mss_choose(&pool->path, clock_mono_us());
}

bool pool_path_is_judged(const struct pool *pool, const struct outbound *o)
{
	return o->upstream->options.mss == 0 && !o->stale &&
	    path_mss_active(&pool->path, clock_mono_us());
}

bool pool_path_vouches(
    const struct pool *pool, const struct outbound *o, uint32_t size)
{
	return path_mss_vouches(&pool->path, o->mss, size, clock_mono_us());
}

static void tell_found(const struct pool *pool, const struct outbound *o)
{
	const struct diagnosis_facts facts = {
		.host = o->upstream->options.host,
		.port = o->upstream->options.ports[o->port_index].port,
		.mss = (unsigned)o->mss,
	};
	struct diagnosis d;

	diagnosis_explain(DIAGNOSIS_LARGE, OUTCOME_MTU, &facts, &d);
	log_msg(LOG_LEVEL_WARNING, LOG_SMTP, LOG_NO_ID,
	    "MTU black hole: large packets %s %s vanish on the way, small ones "
	    "pass; mail goes in segments of at most %d bytes now, which is "
	    "slower. To mend it: %s",
	    pool->path.inbound ? "from" : "to", o->via, o->mss, d.remedy);
}

static void take_news(
    struct pool *pool, const struct outbound *o, enum path_news news)
{
	struct outbound *other;

	if (news == PATH_NO_NEWS)
		return;
	if (news == PATH_FOUND)
		tell_found(pool, o);
	else
		log_msg(LOG_LEVEL_INFO, LOG_SMTP, LOG_NO_ID,
		    "the MTU black hole on the way to %s is gone: full "
		    "segments pass again",
		    o->via);
	/* Those with another size are renewed when they are free. */
	TAILQ_FOREACH (other, &pool->lists[POOL_IDLE], link)
		if (other->mss != o->mss)
			other->rotate = true;
	TAILQ_FOREACH (other, &pool->lists[POOL_BUSY], link)
		if (other->mss != o->mss)
			other->rotate = true;
}

void pool_path_passed(
    struct pool *pool, const struct outbound *o, uint32_t size, bool full)
{
	take_news(pool, o,
	    path_mss_on_passed(
		&pool->path, o->mss, size, full, clock_mono_us()));
}

void pool_path_secured(struct pool *pool, const struct outbound *o)
{
	if (pool_path_is_judged(pool, o))
		take_news(pool, o,
		    path_mss_on_secured(&pool->path, o->mss, clock_mono_us()));
}

bool pool_path_stalled(
    struct pool *pool, const struct outbound *o, bool inbound, bool certain)
{
	bool more = path_mss_on_stall(
	    &pool->path, o->mss, inbound, certain, clock_mono_us());

	log_msg(LOG_LEVEL_DEBUG, LOG_SMTP, LOG_NO_ID,
	    "conn=%u relay=%s: large segments (%d) seem to vanish, %s; %s",
	    o->number, o->via, o->mss, certain ? "small ones pass" : "perhaps",
	    more ? "another connection tells" : "but no size helps");
	return more;
}

void pool_path_no_connection(struct pool *pool)
{
	path_mss_on_no_connection(&pool->path);
}

int pool_learned_mss(const struct pool *pool)
{
	return path_mss_found(&pool->path);
}

void pool_set_learned_mss(struct pool *pool, int mss)
{
	path_mss_restore(&pool->path, mss, clock_mono_us());
}
