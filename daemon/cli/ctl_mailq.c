/*
 * The queue in the two forms that Postfix's postqueue prints, byte for byte:
 * the table (-p, with long queue ids) and JSON (-j).  Monitoring plugins and
 * people's scripts read them.
 */
#include "cli/ctl.h"

#include "base/clock.h"
#include "base/mem.h"

#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <time.h>

/* A reason ends in this column. */
#define REASON_COLUMN 76

struct mailq {
	bool json;
	unsigned long n;
	int64_t bytes;
};

static bool is_pending(json_t *rcpt)
{
	return strcmp(ctl_text(rcpt, "state"), "pending") == 0;
}

static const char *sender_of(json_t *m)
{
	const char *sender = ctl_text(m, "sender");

	return sender[0] != '\0' ? sender : "MAILER-DAEMON";
}

/* Postfix's queue of that name. */
static const char *queue_name(json_t *m)
{
	const char *state = ctl_text(m, "state");

	return strcmp(state, "active") == 0 ? "active"
	    : strcmp(state, "waiting") == 0 ? "deferred"
	    : strcmp(state, "held") == 0    ? "hold"
					    : "incoming";
}

/* --- JSON --- */

static void put_json(json_t *m, int64_t arrival_us)
{
	const char *reply = ctl_text(m, "last_reply");
	json_t *rcpts = json_array(), *rcpt, *o;
	size_t i;

	json_array_foreach (json_object_get(m, "recipients"), i, rcpt) {
		json_t *r;

		if (!is_pending(rcpt))
			continue;
		r = json_pack(
		    "{s:O}", "address", json_object_get(rcpt, "address"));
		if (reply[0] != '\0')
			json_object_set(r, "delay_reason",
			    json_object_get(m, "last_reply"));
		json_array_append_new(rcpts, r);
	}
	o = json_pack("{s:s,s:s,s:I,s:I,s:b,s:s,s:o}", "queue_name",
	    queue_name(m), "queue_id", ctl_text(m, "id"), "arrival_time",
	    (json_int_t)(arrival_us / US_PER_S), "message_size",
	    (json_int_t)ctl_number(m, "size"), "forced_expire", 0, "sender",
	    sender_of(m), "recipients", rcpts);
	json_dumpf(o, stdout, JSON_PRESERVE_ORDER);
	putchar('\n');
	json_decref(o);
}

/* --- the table --- */

static void put_reason(json_t *m)
{
	const char *reply = ctl_text(m, "last_reply");
	size_t width = ctl_width(reply);

	if (reply[0] == '\0')
		return;
	printf("%*s(", width < REASON_COLUMN ? (int)(REASON_COLUMN - width) : 0,
	    "");
	ctl_put(stdout, reply);
	puts(")");
}

static void put_message(json_t *m, int64_t arrival_us)
{
	time_t seconds = (time_t)(arrival_us / US_PER_S);
	const char *queue = queue_name(m);
	char id[CTL_BUF], date[CTL_BUF] = "";
	json_t *rcpt;
	struct tm tm;
	size_t i;

	snprintf(id, sizeof id, "%.16s%s", ctl_text(m, "id"),
	    strcmp(queue, "active") == 0     ? "*"
		: strcmp(queue, "hold") == 0 ? "!"
					     : "");
	if (localtime_r(&seconds, &tm) != NULL)
		strftime(date, sizeof date, "%a %b %e %H:%M:%S", &tm);
	printf(
	    "%-17s %8lld %19.19s ", id, (long long)ctl_number(m, "size"), date);
	ctl_put(stdout, sender_of(m));
	putchar('\n');
	put_reason(m);
	json_array_foreach (json_object_get(m, "recipients"), i, rcpt) {
		if (!is_pending(rcpt))
			continue;
		printf("%-17s %8s %-19s ", "", "", "");
		ctl_put(stdout, ctl_text(rcpt, "address"));
		putchar('\n');
	}
	putchar('\n');
}

static bool put_row(void *ctx, json_t *m)
{
	struct mailq *q = ctx;
	int64_t arrival_us = 0;

	(void)!ctl_parse_time(ctl_text(m, "arrival"), &arrival_us);
	if (q->json) {
		put_json(m, arrival_us);
		return true;
	}
	if (q->n++ == 0)
		printf("%-17s %8s %-19s %s\n", "----Queue ID-----", "--Size--",
		    "---Arrival Time----", "--Sender/Recipient------");
	q->bytes += ctl_number(m, "size");
	put_message(m, arrival_us);
	return true;
}

int ctl_mailq(struct ctl_client *c, const struct ctl_options *options)
{
	struct mailq q = { .json = options->postfix_json };
	int rc = ctl_request(c, "queue", put_row, &q);

	if (q.json || (rc != EX_OK && q.n == 0))
		return rc;
	if (q.n == 0)
		puts("Mail queue is empty");
	else
		printf("-- %lu Kbytes in %lu Request%s.\n",
		    (unsigned long)(q.bytes / 1024), q.n, q.n == 1 ? "" : "s");
	return rc;
}
