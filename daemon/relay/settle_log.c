/*
 * What became of an attempt, for the log: one line a recipient, with the four
 * delays, the reply, what it means, and when it is tried again.
 */
#include "relay/settle_private.h"

#include "base/clock.h"
#include "base/decimal.h"
#include "base/histogram.h"
#include "base/log.h"
#include "base/stat.h"

#include <stdio.h>
#include <string.h>

/* The most of a time in seconds, and of four of them. */
#define SECONDS_BUF 32

/*
 * As Postfix writes seconds: two digits that count, never an exponent, nothing
 * below a millisecond.  Returns the end.
 */
static char *put_seconds(char *p, int64_t us)
{
	char digits[DECIMAL_BUF];
	uint64_t value = us < 1000 ? 0 : (uint64_t)us, step = 1;

	while (step < 1000000 && 2 * value >= 199 * step)
		step *= 10;
	value = (value + step / 2) / step * step;
	p = stpcpy(p, decimal_format(value / 1000000, digits));
	if (value % 1000000 > 0)
		*p++ = '.';
	while ((value = value % 1000000 * 10) > 0)
		*p++ = (char)('0' + value / 1000000);
	*p = '\0';
	return p;
}

struct delays {
	int64_t total_us, queue_us, setup_us, sending_us;
};

static struct delays delays_of(const struct settlement *res)
{
	const struct attempt *a = res->a;
	struct delays d = {
		.total_us = res->now_us - a->stub->arrival_us,
		.setup_us = a->setup_us,
		.sending_us = res->now_us - a->sending_us,
	};

	if (d.setup_us > d.total_us - d.sending_us)
		d.setup_us = d.total_us - d.sending_us; /* before it came */
	d.queue_us = d.total_us - d.sending_us - d.setup_us;
	return d;
}

/* Of a message that SES took, or some of whose recipients. */
static void observe_delays(const struct settlement *res)
{
	struct delays d = delays_of(res);

	histogram_observe(HISTOGRAM_DELIVERY_DELAY, STAGE_QUEUE, d.queue_us);
	histogram_observe(HISTOGRAM_DELIVERY_DELAY, STAGE_CONNECT, d.setup_us);
	histogram_observe(
	    HISTOGRAM_DELIVERY_DELAY, STAGE_TRANSMISSION, d.sending_us);
	histogram_observe(HISTOGRAM_DELIVERY_DELAY, STAGE_TOTAL, d.total_us);
}

static void format_delays(const struct settlement *res, char delay[SECONDS_BUF],
    char delays[4 * SECONDS_BUF])
{
	struct delays d = delays_of(res);

	put_seconds(delay, d.total_us);
	delays = put_seconds(stpcpy(delays, "0/"), d.queue_us);
	delays = put_seconds(stpcpy(delays, "/"), d.setup_us);
	put_seconds(stpcpy(delays, "/"), d.sending_us);
}

static void describe(const struct settlement *res, const struct verdict *v,
    const char *status, char *buf, size_t size)
{
	int64_t wait = (res->due_us - res->now_us + US_PER_S - 1) / US_PER_S;
	char next[48] = "";

	if (strcmp(status, "deferred") == 0 && wait > 0)
		snprintf(next, sizeof next, "; next attempt in %llds",
		    (long long)wait);
	snprintf(buf, size, "%s%s%s%s", v->text, v->advice != NULL ? "; " : "",
	    v->advice != NULL ? v->advice : "", next);
}

static void log_recipient(const struct settlement *res, unsigned i)
{
	const struct attempt *a = res->a;
	const struct verdict *v = attempt_verdict(a, i, res->verdict);
	const struct rcpt *rcpt = &a->m->rcpts[a->positions[i]];
	const char *status = rcpt->state == RCPT_SENT ? "sent"
	    : rcpt->state == RCPT_FAILED              ? "bounced"
						      : "deferred";
	enum log_level level =
	    rcpt->state == RCPT_FAILED ? LOG_LEVEL_WARNING : LOG_LEVEL_INFO;
	char delay[SECONDS_BUF], delays[4 * SECONDS_BUF];
	char conn[DECIMAL_BUF], attempt[DECIMAL_BUF];
	char note[REPLY_TEXT_MAX + 700];
	const char *ses_id = NULL;

	if (!log_enabled(level))
		return;
	format_delays(res, delay, delays);
	describe(res, v, status, note, sizeof note);
	decimal_format(res->conn, conn);
	decimal_format(a->stub->attempts, attempt);
	if (rcpt->state == RCPT_SENT && strncmp(v->text, "250 Ok ", 7) == 0)
		ses_id = v->text + 7;
	struct log_field fields[] = {
		{ LOG_ANGLE, "to", rcpt->addr },
		{ LOG_ANGLE, "orig_to", rcpt->orig },
		{ LOG_PLAIN, "relay", res->via != NULL ? res->via : "none" },
		{ LOG_NUMBER, "delay", delay },
		{ LOG_PLAIN, "delays", delays },
		{ LOG_PLAIN, "dsn", v->dsn },
		{ LOG_PLAIN, "status", status },
		{ LOG_NOTE, "reply", note },
		/* Between relay and status, parsers know Postfix's fields
		 * only. */
		{ LOG_NUMBER, "conn", res->conn != 0 ? conn : NULL },
		{ LOG_HIDDEN, "ses_id", ses_id },
		{ LOG_HIDDEN_NUMBER, "attempt", attempt },
		{ LOG_END, NULL, NULL },
	};
	log_event(level, LOG_SMTP, status, a->stub->id, fields);
}

/* Neither sent nor put off: the connection's fault, and again at once. */
static void log_free_retry(const struct settlement *res)
{
	log_msg(LOG_LEVEL_INFO, LOG_SMTP, res->a->stub->id,
	    "not sent by conn=%u, relay=%s (%s); again at once on another "
	    "connection, at no cost",
	    res->conn, res->via, res->stays->text);
}

void settle_log(const struct settlement *res, enum settle_plan plan)
{
	bool is_free =
	    plan == PLAN_UNTAKE && settle_weigh(res->stays) == W_FREE;

	if (res->n_sent > 0)
		observe_delays(res);
	if (is_free)
		log_free_retry(res);
	for (unsigned i = 0; i < res->a->mail.n_rcpts; i++)
		if (!is_free ||
		    res->a->m->rcpts[res->a->positions[i]].state !=
			RCPT_PENDING)
			log_recipient(res, i);
	if (res->stays != NULL && res->stays->class == VERDICT_UNCERTAIN) {
		stat_add(STAT_MESSAGES_UNCERTAIN, 1);
		log_msg(LOG_LEVEL_WARNING, LOG_SMTP, res->a->stub->id,
		    "delivery uncertain, message-id=<%s>: the connection was "
		    "lost after the final dot, SES may have taken the message; "
		    "%s",
		    res->a->m->message_id,
		    res->relay->options.hold_uncertain
			? "it will be held (delivery.uncertain)"
			: "it will be sent again and may arrive twice");
	}
}
