/*
 * `status --check`: the state as a line and an exit code that Nagios, Icinga
 * and their like understand: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN.
 *
 * The worst finding decides, and all of them are told.  What mends itself and
 * has not lasted (SES out of reach, a throttle) is no alarm in the night: the
 * age of the mail that waits makes it one.  Whatever goes wrong with the check
 * itself is on the same line.
 */
#include "cli/ctl.h"

#include "base/clock.h"
#include "base/mem.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#define WARN_AGE_US (15 * 60 * US_PER_S)
#define CRIT_AGE_US (60 * 60 * US_PER_S)
#define WARN_QUEUE 1000
#define CRIT_QUEUE 10000

enum level { LEVEL_OK, LEVEL_WARNING, LEVEL_CRITICAL, LEVEL_UNKNOWN };

struct finding {
	enum level level;
	char *text; /* NULL: nothing yet */
	int64_t warn_age_s, crit_age_s, warn_queue, crit_queue;
	json_t *status;
};

/* What is worse comes first. */
PRINTF(3, 4)
static void add(struct finding *f, enum level level, const char *fmt, ...)
{
	char *text, *all;
	va_list args;

	va_start(args, fmt);
	text = xvasprintf(fmt, args);
	va_end(args);
	if (f->text == NULL)
		all = xstrdup(text);
	else if (level > f->level)
		all = xasprintf("%s; %s", text, f->text);
	else
		all = xasprintf("%s; %s", f->text, text);
	free(text);
	free(f->text);
	f->text = all;
	if (level > f->level)
		f->level = level;
}

/* --- findings --- */

static void judge_upstream(struct finding *f, json_t *upstream)
{
	static const struct {
		const char *state;
		enum level level;
	} table[] = {
		{ "daily quota", LEVEL_CRITICAL },
		{ "credentials refused", LEVEL_CRITICAL },
		{ "account refused", LEVEL_CRITICAL },
		{ "unreachable", LEVEL_WARNING },
		{ "paused", LEVEL_WARNING },
	};
	const char *state = ctl_text(upstream, "state");
	bool told = strcmp(state, "unreachable") == 0;

	for (size_t i = 0; i < ARRAY_LEN(table); i++)
		if (strcmp(state, table[i].state) == 0)
			add(f, table[i].level, "mail does not go out, %s%s%s",
			    state, strcmp(state, "paused") == 0 ? "" : ": ",
			    strcmp(state, "paused") == 0 ? ""
				: told ? ctl_text(upstream, "connect_error")
				       : ctl_text(upstream, "last_error"));
	if (ctl_text(upstream, "new_credentials")[0] != '\0')
		add(f, LEVEL_WARNING, "the new password is not in force: %s",
		    ctl_text(upstream, "new_credentials"));
}

static void judge_intake(struct finding *f)
{
	json_t *paused = json_object_get(f->status, "paused");
	json_t *spool = json_object_get(f->status, "spool");

	if (ctl_spool_trouble(spool) != NULL)
		add(f, LEVEL_CRITICAL, "no new mail is taken: %s",
		    ctl_spool_trouble(spool));
	if (ctl_true(paused, "draining"))
		add(f, LEVEL_WARNING, "no new mail is taken: draining");
	else if (ctl_true(paused, "intake"))
		add(f, LEVEL_WARNING, "no new mail is taken: paused");
	if (ctl_true(f->status, "stopping"))
		add(f, LEVEL_WARNING, "the daemon is stopping");
	if (!ctl_true(f->status, "last_reload_ok"))
		add(f, LEVEL_WARNING, "the last reload was refused");
}

/* Mail that somebody holds on purpose is not late. */
static int64_t late_messages(json_t *queue)
{
	return ctl_number(queue, "ready") + ctl_number(queue, "active") +
	    ctl_number(queue, "waiting");
}

static void judge_queue(struct finding *f, json_t *queue)
{
	int64_t n = late_messages(queue);
	int64_t age = ctl_number(queue, "oldest_moving_age_seconds");
	char text[CTL_BUF];

	if (age > f->warn_age_s || age > f->crit_age_s)
		add(f, age > f->crit_age_s ? LEVEL_CRITICAL : LEVEL_WARNING,
		    "a message waits for %s", ctl_format_seconds(age, text));
	if (n > f->warn_queue || n > f->crit_queue)
		add(f, n > f->crit_queue ? LEVEL_CRITICAL : LEVEL_WARNING,
		    "%" PRId64 " messages wait", n);
}

/* --- the line --- */

/* A "|" would begin the figures; other bytes are as everywhere. */
static void put_text(const char *text)
{
	char *copy = xstrdup(text);

	for (char *p = copy; *p != '\0'; p++)
		if (*p == '|' || *p == '\n')
			*p = '/';
	ctl_put(stdout, copy);
	free(copy);
}

static void put_figures(const struct finding *f)
{
	json_t *queue = json_object_get(f->status, "queue");
	json_t *counters = json_object_get(f->status, "counters");
	json_t *spool = json_object_get(f->status, "spool");
	json_t *rate = json_object_get(f->status, "rate");

	printf(" | age=%" PRId64 "s;%" PRId64 ";%" PRId64 ";0 queue=%" PRId64
	       ";%" PRId64 ";%" PRId64 ";0",
	    ctl_number(queue, "oldest_moving_age_seconds"), f->warn_age_s,
	    f->crit_age_s, late_messages(queue), f->warn_queue, f->crit_queue);
	printf(" held=%" PRId64 " failed=%" PRId64 " sent=%" PRId64
	       "c accepted=%" PRId64 "c",
	    ctl_number(queue, "held"), ctl_number(spool, "failed"),
	    ctl_number(counters, "recipients_total{status=\"sent\"}"),
	    ctl_number(counters, "messages_accepted_total"));
	printf(" sent_rate=%.2f accepted_rate=%.2f spool_free=%" PRId64 "B",
	    ctl_real(rate, "sent_60s"), ctl_real(rate, "accepted_60s"),
	    ctl_number(spool, "free_bytes"));
}

static int put_line(const struct finding *f)
{
	static const char *const names[] = { "OK", "WARNING", "CRITICAL",
		"UNKNOWN" };

	printf("SESRELAYD %s - ", names[f->level]);
	put_text(f->text);
	if (f->status != NULL)
		put_figures(f);
	putchar('\n');
	return (int)f->level;
}

static void put_object(const struct finding *f)
{
	static const char *const names[] = { "ok", "warning", "critical",
		"unknown" };
	json_t *o = json_pack(
	    "{s:s, s:i}", "level", names[f->level], "code", (int)f->level);
	json_t *text = json_string(f->text);

	json_object_set_new(
	    o, "text", text != NULL ? text : json_string("see \"status\""));
	if (f->status != NULL)
		json_object_set(o, "status", f->status);
	json_dumpf(o, stdout, JSON_COMPACT | JSON_PRESERVE_ORDER);
	putchar('\n');
	json_decref(o);
}

static bool keep_status(void *ctx, json_t *o)
{
	*(json_t **)ctx = json_incref(o);
	return true;
}

static void judge(struct finding *f)
{
	char age[CTL_BUF];
	json_t *queue = json_object_get(f->status, "queue");

	judge_upstream(f, json_object_get(f->status, "upstream"));
	judge_intake(f);
	judge_queue(f, queue);
	if (f->text == NULL)
		add(f, LEVEL_OK,
		    "mail goes out, %" PRId64 " in the queue, the oldest for "
		    "%s",
		    late_messages(queue),
		    ctl_format_seconds(
			ctl_number(queue, "oldest_moving_age_seconds"), age));
}

/* Of its thresholds, one that is set draws the other one along. */
static void set_limits(int64_t warn, int64_t crit, int64_t default_warn,
    int64_t default_crit, int64_t *to_warn, int64_t *to_crit)
{
	*to_warn = warn >= 0                   ? warn
	    : crit >= 0 && crit < default_warn ? crit
					       : default_warn;
	*to_crit = crit >= 0 ? crit : warn > default_crit ? warn : default_crit;
}

static void ask(struct finding *f, const struct ctl_options *o)
{
	struct err err = { 0 };
	struct ctl_client *c;
	int rc;

	ctl_errors_keep();
	c = ctl_open(o, false, &rc);
	if (c != NULL)
		rc = ctl_query(c, "status", keep_status, &f->status, &err);
	ctl_close(c);
	if (rc == EX_OK && f->status != NULL) {
		judge(f);
		return;
	}
	/* Nobody there is worse than that we may not ask. */
	add(f,
	    rc == EX_UNAVAILABLE &&
		    strstr(ctl_errors_kept(), "Permission denied") == NULL
		? LEVEL_CRITICAL
		: LEVEL_UNKNOWN,
	    "%s", err.text[0] != '\0' ? err.text : ctl_errors_kept());
}

int ctl_monitor(const struct ctl_options *o)
{
	struct finding f = { 0 };
	int64_t warn_us, crit_us;
	int rc;

	set_limits(o->warn_age_us, o->crit_age_us, WARN_AGE_US, CRIT_AGE_US,
	    &warn_us, &crit_us);
	f.warn_age_s = warn_us / US_PER_S;
	f.crit_age_s = crit_us / US_PER_S;
	set_limits(o->warn_queue, o->crit_queue, WARN_QUEUE, CRIT_QUEUE,
	    &f.warn_queue, &f.crit_queue);
	ask(&f, o);
	if (o->json)
		put_object(&f);
	else
		(void)put_line(&f);
	rc = (int)f.level;
	ctl_errors_forget();
	json_decref(f.status);
	free(f.text);
	return rc;
}
