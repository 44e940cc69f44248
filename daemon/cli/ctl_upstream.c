/*
 * What the screen of `status` says of SES and of the way there: the first line,
 * which says whether mail goes out; what to do, if something can be done; and
 * further down the pace, the ports, what was learned.
 */
#include "cli/ctl.h"

#include "base/clock.h"
#include "base/mem.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static bool in_state(json_t *upstream, const char *state)
{
	return strcmp(ctl_text(upstream, "state"), state) == 0;
}

/* --- does mail go out? --- */

/* "a.example:587"; without the port while none is known. */
static char *place_of(json_t *upstream)
{
	const char *endpoint = ctl_text(upstream, "endpoint");
	int64_t port = ctl_number(upstream, "port");

	return port != 0 ? xasprintf("%s:%" PRId64, endpoint, port)
			 : xstrdup(endpoint);
}

/* Mail goes out, or would. */
static char *good_words(json_t *upstream)
{
	char *place = place_of(upstream), *words;

	if (ctl_number(upstream, "port") == 0)
		words =
		    xasprintf("not connected yet, nothing had to be sent; mail "
			      "goes to %s",
			place);
	else if (in_state(upstream, "throttled"))
		words = xasprintf("mail goes out via %s, THROTTLED to what SES "
				  "takes",
		    place);
	else
		words = xasprintf("ok, mail goes out via %s", place);
	free(place);
	return words;
}

/* "X since ...; next try in ...: REPLY", of what SES said. */
static char *refused_words(json_t *upstream, const char *what)
{
	const char *reason = ctl_text(upstream, "last_error");
	const char *trouble = ctl_text(upstream, "connect_error");
	int64_t next = ctl_number(upstream, "next_try_seconds");
	char since[CTL_BUF], wait[CTL_BUF];
	char *start = xasprintf("MAIL WAITS, %s since %s, nothing is lost; ",
	    what, ctl_local_time(ctl_text(upstream, "since"), since));
	char *words;

	if (next > 0)
		words = xasprintf("%snext try in %s: %s", start,
		    ctl_format_seconds(next, wait), reason);
	else /* What keeps the new try from succeeding may be another thing. */
		words = xasprintf("%strying again now: %s", start,
		    trouble[0] != '\0' ? trouble : reason);
	free(start);
	return words;
}

static char *first_words(json_t *upstream)
{
	if (in_state(upstream, "daily quota"))
		return refused_words(upstream, "DAILY QUOTA USED UP");
	if (in_state(upstream, "credentials refused"))
		return refused_words(upstream, "CREDENTIALS REFUSED");
	if (in_state(upstream, "account refused"))
		return refused_words(upstream, "ACCOUNT MAY NOT SEND");
	if (in_state(upstream, "unreachable"))
		return xasprintf("MAIL WAITS, %s IS UNREACHABLE, nothing is "
				 "lost: %s",
		    ctl_text(upstream, "endpoint"),
		    ctl_text(upstream, "connect_error"));
	if (in_state(upstream, "paused"))
		return xstrdup("PAUSED by an operator, nothing is sent and "
			       "nothing is lost until \"sesrelayctl resume\"");
	return good_words(upstream);
}

/* What to do about it, besides what a reply's meaning already says. */
static const char *remedy(json_t *upstream)
{
	static const struct {
		const char *state, *words;
	} table[] = {
		{ "daily quota",
		    "one message is tried every 10 to 20 minutes, and all "
		    "others follow it; if this happens again, ask AWS for a "
		    "higher sending quota" },
		{ "credentials refused",
		    "when the password is right, \"sesrelayctl reload\", or, "
		    "if it is systemd's credential, \"systemctl restart "
		    "sesrelayd\"; "
		    "\"sesrelayctl check\" tries it and says more" },
		{ "account refused",
		    "when that is settled, \"sesrelayctl retry\" tries at "
		    "once" },
		{ "unreachable",
		    "\"sesrelayctl check\" tries every port and says what is "
		    "in the way" },
	};

	for (size_t i = 0; i < ARRAY_LEN(table); i++)
		if (in_state(upstream, table[i].state))
			return table[i].words;
	return NULL;
}

static void put_remedy(json_t *upstream)
{
	const char *advice = ctl_text(upstream, "advice");
	const char *then = remedy(upstream);

	if (then == NULL)
		return;
	if (advice[0] != '\0')
		ctl_put_line("What to do:", "%s; %s", advice, then);
	else
		ctl_put_line("What to do:", "%s", then);
}

/* --- does mail come in? --- */

const char *ctl_spool_trouble(json_t *spool)
{
	return spool == NULL || ctl_true(spool, "healthy")
	    ? NULL
	    : ctl_text(spool, "reason");
}

/* Why local programs cannot hand in mail; NULL: they can. */
static const char *intake_trouble(json_t *status)
{
	json_t *paused = json_object_get(status, "paused");
	json_t *spool = json_object_get(status, "spool");

	if (ctl_true(status, "stopping"))
		return "the daemon is stopping";
	if (ctl_true(paused, "draining"))
		return "the queue is being drained";
	if (ctl_true(paused, "intake"))
		return "intake is paused (\"sesrelayctl resume intake\" ends "
		       "that)";
	return ctl_spool_trouble(spool);
}

char *ctl_headline(json_t *status)
{
	char *first = first_words(json_object_get(status, "upstream"));
	const char *trouble = intake_trouble(status);
	char *all;

	if (trouble == NULL)
		return first;
	all = xasprintf("%s; NO NEW MAIL IS TAKEN: %s", first, trouble);
	free(first);
	return all;
}

static void put_intake_remedy(json_t *status)
{
	json_t *spool = json_object_get(status, "spool");

	if (ctl_spool_trouble(spool) != NULL)
		ctl_put_line("What to do:",
		    "if it is full, make room for the spool, or raise what "
		    "bounds it (spool.min_free, spool.max_messages, "
		    "spool.max_size); if its disk fails or hangs, mend that: "
		    "no restart is needed; local programs get 4xx or wait, "
		    "and those that queue try again");
}

void ctl_put_upstream(json_t *status)
{
	json_t *upstream = json_object_get(status, "upstream");
	const char *untried = ctl_text(upstream, "new_credentials");
	char *words = ctl_headline(status);

	ctl_put_labelled("SES:", 0, words);
	free(words);
	put_remedy(upstream);
	put_intake_remedy(status);
	if (untried[0] != '\0')
		ctl_put_line("New password:",
		    "NOT IN FORCE, %s; the old one is used as long as it "
		    "works",
		    untried);
}

/* --- the way there --- */

void ctl_put_rate(json_t *rate)
{
	char sent[CTL_BUF], accepted[CTL_BUF];

	ctl_put_line(
	    "Rate:", "%s recipients/s sent, %s accepted in the last 10 s",
	    ctl_format_rate(ctl_real(rate, "sent_10s"), sent),
	    ctl_format_rate(ctl_real(rate, "accepted_10s"), accepted));
	ctl_put_line("", "%s sent, %s accepted in the last minute",
	    ctl_format_rate(ctl_real(rate, "sent_60s"), sent),
	    ctl_format_rate(ctl_real(rate, "accepted_60s"), accepted));
}

void ctl_put_pace(json_t *upstream)
{
	json_t *limit = json_object_get(upstream, "rate_limit");
	const char *source = ctl_text(limit, "source");
	char rate[CTL_BUF];

	if (strcmp(source, "none") == 0) {
		ctl_put_line("Pace:",
		    "no limit known: SES has not throttled, delivery.rate is "
		    "not set");
		return;
	}
	ctl_put_line("Pace:", "at most %s recipients/s, %s",
	    ctl_format_rate(ctl_real(limit, "recipients_per_second"), rate),
	    strcmp(source, "learned") == 0 ? "learned from SES's throttling"
					   : "as delivery.rate says");
}

/* Where SES ended sessions, and that ours end before that. */
static void put_learned(json_t *upstream)
{
	json_t *learned = json_object_get(upstream, "learned");
	int64_t messages = ctl_number(learned, "session_messages");
	double seconds = ctl_real(learned, "session_seconds");
	bool both = messages > 0 && seconds > 0;
	char count[CTL_BUF] = "", age[CTL_BUF] = "";

	if (messages <= 0 && seconds <= 0)
		return;
	if (messages > 0)
		snprintf(count, sizeof count, "%" PRId64 " messages", messages);
	if (seconds > 0)
		ctl_format_seconds((int64_t)seconds, age);
	ctl_put_line("", "SES ends sessions early: %s after %s%s%s",
	    ctl_true(upstream, "adaptive_rotation")
		? "ours are renewed"
		: "OURS ARE NOT RENEWED (delivery.adaptive_rotation is off)",
	    count, both ? " or " : "", age);
}

static void put_passed_over(json_t *port)
{
	const char *advice = ctl_text(port, "advice");
	int64_t next = ctl_number(port, "next_try_seconds");
	char since[CTL_BUF], wait[CTL_BUF];

	ctl_put_line("",
	    "%" PRId64 " IS PASSED OVER for %s: %s%s%s; tried again %s%s",
	    ctl_number(port, "port"),
	    ctl_format_seconds(ctl_number(port, "for_seconds"), since),
	    ctl_text(port, "reason"), advice[0] != '\0' ? "; " : "", advice,
	    next > 0 ? "in " : "with the next message",
	    next > 0 ? ctl_format_seconds(next, wait) : "");
}

/* The ports only when the first is not the one; else there is no news. */
static void put_ports(json_t *upstream)
{
	json_t *ports = json_object_get(upstream, "ports"), *port;
	int64_t in_use = ctl_number(upstream, "port");
	int64_t first = ctl_number(json_array_get(ports, 0), "port");
	bool headed = false;
	size_t i;

	if (in_use != 0 && in_use != first) {
		ctl_put_line("Ports:",
		    "%" PRId64 " IS USED, not %" PRId64
		    ", the first of ses.ports",
		    in_use, first);
		headed = true;
	}
	json_array_foreach (ports, i, port) {
		if (strcmp(ctl_text(port, "state"), "good") == 0)
			continue;
		if (!headed)
			ctl_put_line("Ports:", "NOT ALL of ses.ports work");
		headed = true;
		put_passed_over(port);
	}
}

/* Found out, not asked for by ses.mss. */
static void put_mss(json_t *upstream)
{
	int64_t mss = ctl_number(upstream, "mss");

	if (mss > 0)
		ctl_put_line("Way to SES:",
		    "LARGE PACKETS VANISH on it, so TCP segments are no larger "
		    "than %" PRId64 " bytes: set this host's MTU to what the "
		    "way carries (1500, or less behind a tunnel), or "
		    "net.ipv4.tcp_mtu_probing=1",
		    mss);
}

static void put_pool(json_t *pool)
{
	if (json_object_get(pool, "limit") != NULL)
		ctl_put_line("",
		    "SES TAKES NO MORE THAN %" PRId64 " AT A TIME NOW "
		    "(delivery.connections: %" PRId64 ")",
		    ctl_number(pool, "limit"), ctl_number(pool, "max"));
}

/* Below the line with the connections. */
void ctl_put_way(json_t *upstream)
{
	put_pool(json_object_get(upstream, "pool"));
	put_learned(upstream);
	put_ports(upstream);
	put_mss(upstream);
}
