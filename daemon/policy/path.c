/*
 * MTU black holes, judged from samples of TCP's state.
 *
 * Pure; owns only its structs.  Invariants: whatever moves, in either
 * direction, restarts the wait, so loss, latency and thin lines are no stall;
 * a peer that does not read (window 0) and one that answers to nothing small
 * are none either; a size is called a finding only after it has carried what
 * had stalled; the ladder of sizes is climbed once and then left alone for a
 * while.
 */
#include "policy/path.h"

#include "base/clock.h"

#define STILL_US (4 * US_PER_S)
/* Silence alone may be a slow peer. */
#define SILENT_US (6 * US_PER_S)
/* Sent that often again, one after the other, it is not by chance. */
#define RETRANSMITS 3
#define SUSPICIONS 2
#define IDLE_US (600 * US_PER_S)
#define RETRY_MIN_US (2 * 3600 * US_PER_S)
#define RETRY_MAX_US (24 * 3600 * US_PER_S)
#define VOUCH_US (600 * US_PER_S)

/* 1200 and headers fit into the least MTU of IPv6, 536 into any. */
static const int sizes[] = { 0, 1200, PATH_SMALL };
#define LAST_LEVEL (ARRAY_LEN(sizes) - 1)

/* --- one connection --- */

void path_watch_begin(struct path_watch *w, enum path_stage stage,
    const struct path_sample *sample)
{
	w->stage = stage;
	w->acked_at_first = sample->acked;
	w->still_since_us = sample->now_us;
	w->last = *sample;
	w->inbound = false;
}

static bool has_moved(const struct path_sample *a, const struct path_sample *b)
{
	/* A smaller segment is the kernel's own attempt at the same cure. */
	return a->acked != b->acked || a->received != b->received ||
	    a->mss != b->mss;
}

static enum path_judgement judge_outbound(
    const struct path_watch *w, const struct path_sample *s)
{
	/* Known to pass, small, or nothing that the network has. */
	if (w->passed >= s->mss || s->unacked <= PATH_SMALL ||
	    s->mss <= PATH_SMALL - 64 || s->in_flight == 0)
		return PATH_GOES_ON;
	if (s->now_us - w->still_since_us < STILL_US ||
	    s->retransmits < RETRANSMITS)
		return PATH_GOES_ON;
	return s->sacked > 0 ? PATH_CERTAIN : PATH_SUSPECT;
}

/*
 * We have said all that is to be said, and no answer comes.  What we said may
 * seem to be lost, too: its acknowledgement travels with the peer's answer.
 */
static enum path_judgement judge_inbound(
    struct path_watch *w, const struct path_sample *s)
{
	int64_t still = s->now_us - w->still_since_us;

	w->inbound = true;
	if (s->out_of_order > 0 && still >= STILL_US)
		return PATH_CERTAIN;
	return still >= SILENT_US ? PATH_SUSPECT : PATH_GOES_ON;
}

enum path_judgement path_watch_look(
    struct path_watch *w, const struct path_sample *s)
{
	uint64_t acked = s->acked - w->acked_at_first;

	if (w->stage == PATH_BODY && acked > w->passed)
		w->passed = acked < s->mss ? (uint32_t)acked : s->mss;
	/* A peer that does not read answers all the same. */
	if (has_moved(&w->last, s) || s->window == 0)
		w->still_since_us = s->now_us;
	w->last = *s;
	w->inbound = false;
	if (w->stage == PATH_HANDSHAKE && s->unacked <= PATH_SMALL)
		return judge_inbound(w, s);
	return judge_outbound(w, s);
}

/* --- all of them --- */

static unsigned level_of(int mss)
{
	unsigned level = 0;

	while (level < LAST_LEVEL && sizes[level] != mss)
		level++;
	return level;
}

static void set_level(struct path_mss *m, unsigned level)
{
	m->level = level;
	m->confirmed = false;
	m->suspicions = 0;
	m->passed = 0;
}

void path_mss_init(struct path_mss *m)
{
	*m = (struct path_mss){ 0 };
}

static void confirm(struct path_mss *m, int64_t now_us)
{
	m->confirmed = true;
	m->retry_wait_us = RETRY_MIN_US;
	m->retry_us = now_us + m->retry_wait_us;
}

void path_mss_restore(struct path_mss *m, int mss, int64_t now_us)
{
	path_mss_init(m);
	if (mss <= 0)
		return;
	set_level(m, mss >= sizes[1] ? 1 : LAST_LEVEL);
	confirm(m, now_us);
}

int path_mss_choose(struct path_mss *m, int64_t now_us)
{
	if (m->confirmed && !m->trying && now_us >= m->retry_us) {
		m->trying = true;
		return 0;
	}
	return sizes[m->level];
}

int path_mss_found(const struct path_mss *m)
{
	return m->confirmed ? sizes[m->level] : 0;
}

bool path_mss_active(const struct path_mss *m, int64_t now_us)
{
	return now_us >= m->idle_until_us;
}

bool path_mss_vouches(
    const struct path_mss *m, int mss, uint32_t size, int64_t now_us)
{
	return size <= PATH_SMALL ||
	    (level_of(mss) == m->level && size <= m->passed &&
		now_us - m->passed_us < VOUCH_US);
}

static bool is_trial(const struct path_mss *m, int mss)
{
	return m->trying && m->level > 0 && mss == 0;
}

bool path_mss_on_stall(
    struct path_mss *m, int mss, bool inbound, bool certain, int64_t now_us)
{
	if (is_trial(m, mss)) {
		m->trying = false;
		m->retry_wait_us *= 2;
		if (m->retry_wait_us > RETRY_MAX_US)
			m->retry_wait_us = RETRY_MAX_US;
		m->retry_us = now_us + m->retry_wait_us;
		return true;
	}
	if (level_of(mss) != m->level)
		return true; /* another size has been chosen since */
	if (m->level == 0) {
		m->suspicions = m->inbound == inbound ? m->suspicions + 1 : 1;
		m->inbound = inbound;
		if (!certain && m->suspicions < SUSPICIONS)
			return true;
	}
	if (m->level == LAST_LEVEL) {
		set_level(m, 0);
		m->idle_until_us = now_us + IDLE_US;
		return false;
	}
	set_level(m, m->level + 1);
	m->inbound = inbound;
	return true;
}

/* What had stalled has passed with `mss`. */
static enum path_news carried(struct path_mss *m, int mss, int64_t now_us)
{
	if (is_trial(m, mss)) {
		m->trying = false;
		set_level(m, 0);
		return PATH_CURED;
	}
	if (level_of(mss) != m->level || m->confirmed)
		return PATH_NO_NEWS;
	if (m->level == 0) {
		m->suspicions = 0;
		return PATH_NO_NEWS;
	}
	confirm(m, now_us);
	return PATH_FOUND;
}

enum path_news path_mss_on_passed(
    struct path_mss *m, int mss, uint32_t size, bool full, int64_t now_us)
{
	enum path_news news = PATH_NO_NEWS;

	if (full && !m->inbound)
		news = carried(m, mss, now_us);
	if (level_of(mss) != m->level)
		return news;
	if (size >= m->passed || now_us - m->passed_us >= VOUCH_US) {
		m->passed = size;
		m->passed_us = now_us;
	}
	return news;
}

enum path_news path_mss_on_secured(struct path_mss *m, int mss, int64_t now_us)
{
	if (m->inbound)
		return carried(m, mss, now_us);
	return PATH_NO_NEWS;
}

void path_mss_on_no_connection(struct path_mss *m)
{
	if (!m->confirmed)
		set_level(m, 0);
}

void path_mss_on_closed(struct path_mss *m, int mss)
{
	if (is_trial(m, mss))
		m->trying = false;
}
