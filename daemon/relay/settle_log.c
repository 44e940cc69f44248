/*
 * What became of an attempt, for the log: one line a recipient, with the four
 * delays, the reply, what it means, and when it is tried again.
 */
#include "relay/settle_private.h"

#include "base/clock.h"
#include "base/histogram.h"
#include "base/log.h"
#include "base/stat.h"

#include <stdio.h>
#include <string.h>

/* As Postfix writes seconds: two digits that count, never an exponent. */
static int put_seconds(char *buf, size_t size, int64_t us)
{
	double seconds = (double)(us > 0 ? us : 0) / US_PER_S;

	if (seconds < 0.001)
		return snprintf(buf, size, "0");
	return snprintf(buf, size, seconds < 99 ? "%.2g" : "%.0f", seconds);
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

static void format_delays(
    const struct settlement *res, char *delay, char *delays, size_t size)
{
	struct delays d = delays_of(res);
	size_t n;

	put_seconds(delay, size, d.total_us);
	n = (size_t)snprintf(delays, size, "0/");
	n += (size_t)put_seconds(delays + n, size - n, d.queue_us);
	n += (size_t)snprintf(delays + n, size - n, "/");
	n += (size_t)put_seconds(delays + n, size - n, d.setup_us);
	n += (size_t)snprintf(delays + n, size - n, "/");
	put_seconds(delays + n, size - n, d.sending_us);
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
	char delay[96], delays[96], conn[16], attempt[16];
	char note[REPLY_TEXT_MAX + 700];
	const char *ses_id = NULL;

	if (!log_enabled(level))
		return;
	format_delays(res, delay, delays, sizeof delay);
	describe(res, v, status, note, sizeof note);
	snprintf(conn, sizeof conn, "%u", res->conn);
	snprintf(attempt, sizeof attempt, "%u", a->stub->attempts);
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
