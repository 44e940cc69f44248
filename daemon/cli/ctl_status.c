/*
 * The screen of `status`.
 *
 * The first line answers the first question, whether mail goes out, in words;
 * then follows what there is to know besides, trouble in capitals.  Made for
 * somebody who was woken up by it.
 */
#include "cli/ctl.h"

#include "base/clock.h"
#include "base/mem.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <time.h>

/* --- what there is --- */

static void put_queue(json_t *queue)
{
	int64_t ready = ctl_number(queue, "ready");
	int64_t waiting = ctl_number(queue, "waiting");
	int64_t active = ctl_number(queue, "active");
	int64_t held = ctl_number(queue, "held");
	int64_t total = ready + waiting + active + held;
	char bytes[CTL_BUF], age[CTL_BUF];

	if (total == 0) {
		ctl_put_line("Queue:", "empty");
		return;
	}
	ctl_put_line("Queue:", "%" PRId64 " message%s, %s, the oldest for %s",
	    total, total == 1 ? "" : "s",
	    ctl_format_bytes(ctl_number(queue, "bytes"), bytes),
	    ctl_format_seconds(ctl_number(queue, "oldest_age_seconds"), age));
	ctl_put_line("",
	    "%" PRId64 " ready, %" PRId64 " active, %" PRId64
	    " waiting for a next attempt, %" PRId64 " held",
	    ready, active, waiting, held);
}

static void put_intake(json_t *paused)
{
	if (ctl_true(paused, "draining"))
		ctl_put_line("Intake:",
		    "DRAINING, local programs get 452 while the drain runs");
	else if (ctl_true(paused, "intake"))
		ctl_put_line("Intake:",
		    "PAUSED, local programs get 452 until \"sesrelayctl resume "
		    "intake\"");
}

static void put_connections(json_t *connections)
{
	int64_t total = 0;
	const char *state;
	char *text = xstrdup("");
	json_t *n;

	json_object_foreach (connections, state, n) {
		char *more;

		if (json_integer_value(n) == 0)
			continue;
		more = xasprintf("%s%s%lld %s", text, total > 0 ? ", " : "",
		    (long long)json_integer_value(n), state);
		free(text);
		text = more;
		total += json_integer_value(n);
	}
	ctl_put_line("Connections:", "%s", total > 0 ? text : "none");
	free(text);
}

static void put_spool(json_t *spool)
{
	int64_t failed = ctl_number(spool, "failed");
	char used[CTL_BUF], room[CTL_BUF];

	ctl_format_bytes(ctl_number(spool, "bytes"), used);
	ctl_format_bytes(ctl_number(spool, "free_bytes"), room);
	if (ctl_spool_trouble(spool) == NULL)
		ctl_put_line("Spool:", "ok, %s used, %s free", used, room);
	else
		ctl_put_line("Spool:",
		    "TAKES NO MAIL: %s (%s used, %s "
		    "free)",
		    ctl_spool_trouble(spool), used, room);
	if (ctl_true(spool, "scanning"))
		ctl_put_line("",
		    "still being read after the start: the queue is longer "
		    "than shown");
	if (failed > 0)
		ctl_put_line("Dead letters:", "%lld in failed/ of the spool",
		    (long long)failed);
}

/* --- what happened --- */

static void put_counters(json_t *o)
{
	json_t *counters = json_object_get(o, "counters");
	char up[CTL_BUF];

	ctl_put_line("Daemon:", "sesrelayd %s, running for %s%s",
	    ctl_text(o, "version"),
	    ctl_format_seconds(ctl_number(o, "uptime_seconds"), up),
	    ctl_true(o, "stopping") ? ", STOPPING" : "");
	ctl_put_line("Since then:",
	    "%lld messages accepted; recipients: %lld sent, %lld failed, "
	    "%lld times put off",
	    (long long)ctl_number(counters, "messages_accepted_total"),
	    (long long)ctl_number(
		counters, "recipients_total{status=\"sent\"}"),
	    (long long)ctl_number(
		counters, "recipients_total{status=\"failed\"}"),
	    (long long)ctl_number(
		counters, "recipients_total{status=\"deferred\"}"));
}

static void put_last_error(json_t *upstream)
{
	const char *text = ctl_text(upstream, "last_error");
	bool told = strcmp(ctl_text(upstream, "state"), "unreachable") == 0;
	const char *trouble = told ? "" : ctl_text(upstream, "connect_error");
	char date[32] = "", age[CTL_BUF];
	int64_t time_us;

	if (trouble[0] != '\0')
		ctl_put_line("Connecting:", "%s", trouble);
	if (text[0] == '\0') {
		if (trouble[0] == '\0' && !told)
			ctl_put_line("Last error:", "none");
		return;
	}
	if (ctl_parse_time(ctl_text(upstream, "last_error_time"), &time_us) ==
	    0) {
		clock_format_syslog(time_us, date, sizeof date);
		ctl_put_line("Last error:", "%s, %s ago: %s", date,
		    ctl_format_seconds(
			(clock_wall_us() - time_us) / US_PER_S, age),
		    text);
	} else {
		ctl_put_line("Last error:", "%s", text);
	}
}

static void put_reload(json_t *o)
{
	const char *waiting = ctl_text(o, "needs_restart");

	if (waiting[0] != '\0')
		ctl_put_line(
		    "Restart:", "needed for what the file says of %s", waiting);
	if (ctl_true(o, "last_reload_ok"))
		ctl_put_line("Reload:", "ok, the configuration is in force");
	else
		ctl_put_line("Reload:",
		    "THE LAST RELOAD WAS REFUSED, what was in force before "
		    "still is; \"sesrelayd -t\" says what is wrong");
}

static bool put_status(void *ctx, json_t *o)
{
	json_t *upstream = json_object_get(o, "upstream");

	(void)ctx;
	ctl_put_upstream(o);
	put_intake(json_object_get(o, "paused"));
	put_queue(json_object_get(o, "queue"));
	ctl_put_rate(json_object_get(o, "rate"));
	ctl_put_pace(upstream);
	put_connections(json_object_get(o, "connections"));
	ctl_put_way(upstream);
	ctl_put_line("Sessions:", "%lld of local programs",
	    (long long)ctl_number(o, "sessions"));
	put_spool(json_object_get(o, "spool"));
	put_last_error(upstream);
	put_reload(o);
	put_counters(o);
	return true;
}

/* --- a daemon that is down --- */

static bool keep_count(void *ctx, json_t *o)
{
	*(int64_t *)ctx = ctl_number(o, "messages");
	return true;
}

/* What can be said without it: how much mail waits for its return. */
static void put_down(struct ctl_client *c)
{
	struct err err;
	int64_t n = 0;

	ctl_put_labelled("SES:", 0,
	    "MAIL DOES NOT GO OUT, THE DAEMON IS DOWN; what it accepted is "
	    "safe in the spool");
	ctl_put_line("What to do:",
	    "\"systemctl start sesrelayd\"; if it does not stay up, "
	    "\"journalctl -u sesrelayd -e\" says why");
	if (ctl_query(c, "count", keep_count, &n, &err) == EX_OK)
		ctl_put_line("Queue:", "%" PRId64 " message%s in %s", n,
		    n == 1 ? "" : "s", ctl_spool(c));
}

int ctl_status(struct ctl_client *unused, const struct ctl_options *options)
{
	struct ctl_client *c;
	int rc;

	(void)unused;
	if (options->check)
		return ctl_monitor(options);
	/* The first line is to be ours, whatever is the matter. */
	ctl_errors_keep();
	c = ctl_open(options, !options->json, &rc);
	if (c == NULL) {
		if (!options->json)
			ctl_errors_put_text();
		return rc;
	}
	if (ctl_spool(c) == NULL) {
		rc = ctl_request(c, "status", put_status, NULL);
	} else {
		if (!options->json)
			put_down(c);
		rc = EX_UNAVAILABLE;
	}
	if (!options->json)
		ctl_errors_put_text();
	ctl_close(c);
	return rc;
}
