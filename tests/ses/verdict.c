/*
 * The end of DATA: SES judges the whole message here, and nowhere before.
 *
 * Owns the quotas and the record of acceptance. The order is size, account,
 * recipients, headers, identities, quotas; only what is accepted costs
 * quota. After a refusal the transaction stays as it is, so that a client
 * that forgets RSET meets 503, as at SES. A message counts as accepted when
 * the decision falls, whatever becomes of the reply.
 */
#include "listener.h"
#include "message.h"
#include "session.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

enum { MINUTES = 1440 };

static void fill_bucket(struct quota *q, double rate)
{
	double cap = rate > 1 ? rate : 1;
	uint64_t now = clock_us();

	if (q->filled_us == 0)
		q->tokens = cap;
	else
		q->tokens += rate * (double)(now - q->filled_us) / 1e6;
	q->filled_us = now;
	if (q->tokens > cap)
		q->tokens = cap;
}

static void turn_day(struct quota *q)
{
	uint64_t now = clock_us() / 60000000;

	for (int i = 0; i < MINUTES && q->minute_no < now; i++) {
		q->minute_no++;
		q->day -= q->minute[q->minute_no % MINUTES];
		q->minute[q->minute_no % MINUTES] = 0;
	}
	q->minute_no = now;
}

/* Text of the throttling, or NULL after having taken n recipients. */
static const char *take_quota(struct server *sv, size_t n)
{
	struct quota *q = &sv->quota;
	double rate = sv->set.rate, need = (double)n;

	turn_day(q);
	if (sv->set.daily > 0 && q->day + n > (unsigned long)sv->set.daily)
		return "454 Throttling failure: Daily message quota exceeded.";
	if (rate > 0) {
		fill_bucket(q, rate);
		/* More than a second's worth must be possible: into debt. */
		if (need > rate)
			need = rate > 1 ? rate : 1;
		if (q->tokens < need)
			return "454 Throttling failure: Maximum sending rate "
			       "exceeded.";
		q->tokens -= (double)n;
	}
	q->day += n;
	q->minute[q->minute_no % MINUTES] += (uint32_t)n;
	return NULL;
}

bool verdict_capped(
    const struct session *s, const char *phase, struct answer *a)
{
	const struct settings *set = &s->server->set;

	if (set->session_cap == 0 || s->messages < set->session_cap ||
	    strcmp(set->session_cap_phase, phase) != 0)
		return false;
	answer_set(a,
	    "421 Connection closed by server. Maximum message count "
	    "per session reached.");
	a->after = AFTER_CLOSE;
	a->why = "session-cap";
	return true;
}

static bool account_refuses(const struct settings *set, struct answer *a)
{
	if (strcmp(set->account, "paused") == 0)
		answer_set(a,
		    "554 Message rejected: Sending paused for this "
		    "account. For more information, please check the "
		    "inbox of the email address associated with your "
		    "AWS account.");
	else if (strcmp(set->account, "denied") == 0)
		answer_set(a,
		    "554 Access denied: User `arn:aws:iam::"
		    "123456789012:user/ses-smtp-user' is not authorized"
		    " to perform `ses:SendRawEmail' on resource "
		    "`arn:aws:ses:%s:123456789012:identity/"
		    "example.com'",
		    set->region);
	else
		return false;
	return true;
}

static bool recipients_refused(const struct session *s, struct answer *a)
{
	long max = s->server->set.max_recipients;

	if (max > 0 && s->rcpt_count > (size_t)max) {
		answer_set(a,
		    "554 Transaction failed: Recipient count exceeds"
		    " %ld.",
		    max);
		return true;
	}
	for (size_t i = 0; i < s->rcpt_count; i++) {
		const char *addr = s->rcpts[i], *at = strrchr(addr, '@');

		switch (address_fault(addr)) {
		case ADDRESS_USER:
			answer_set(a,
			    "554 Transaction failed: Address "
			    "contains illegal characters in user name:"
			    " '<\"%.*s\"%.255s>'.",
			    (int)(at - addr), addr, at);
			return true;
		case ADDRESS_DOMAIN:
			answer_set(a,
			    "554 Transaction failed: Invalid domain "
			    "name: '%.255s'.",
			    at + 1);
			return true;
		default:
			break;
		}
	}
	return false;
}

static bool headers_refused(
    const struct session *s, const struct message *m, struct answer *a)
{
	const struct settings *set = &s->server->set;
	struct buf failed = { 0 };
	char fault[128], region[64];

	if (set->strict_headers && message_fault(m, fault, sizeof(fault))) {
		answer_set(a, "554 Transaction failed: %s", fault);
		return true;
	}
	if (set->verified[0] == '\0')
		return false;
	message_unverified(m, s->from, set->verified, &failed);
	if (failed.len == 0)
		return false;
	(void)snprintf(region, sizeof(region), "%s", set->region);
	for (char *p = region; *p != '\0'; p++) {
		if (*p >= 'a' && *p <= 'z')
			*p = (char)(*p - 'a' + 'A');
	}
	answer_set(a,
	    "554 Message rejected: Email address is not verified. "
	    "The following identities failed the check in region %s: "
	    "%.*s",
	    region, failed.len > 700 ? 700 : (int)failed.len, failed.data);
	buf_free(&failed);
	return true;
}

static bool refused(
    struct session *s, const struct message *m, struct answer *a)
{
	const char *throttle;

	if (verdict_capped(s, "dot", a))
		return true;
	if (s->body.total > (size_t)s->server->set.max_size) {
		answer_set(a, "552 Message is too long.");
		return true;
	}
	if (account_refuses(&s->server->set, a) || recipients_refused(s, a) ||
	    headers_refused(s, m, a))
		return true;
	throttle = take_quota(s->server, s->rcpt_count);
	if (throttle == NULL)
		return false;
	answer_set(a, "%s", throttle);
	a->throttled = true;
	return true;
}

static void record(struct session *s, const struct message *m, const char *id)
{
	struct journal *j = &s->server->journal;
	const struct buf *data = &s->body.data;

	journal_begin(j, NULL);
	journal_text(j, "id", id);
	journal_number(j, "conn", s->number);
	journal_number(j, "port", s->port);
	journal_text(j, "peer", s->peer);
	journal_text(j, "helo", s->helo);
	journal_text(j, "mode", mode_name(s->mode));
	journal_text(j, "tls", SSL_get_version(s->io.ssl));
	journal_text(j, "from", s->from);
	journal_texts(j, "rcpts", s->rcpts, s->rcpt_count);
	journal_number(j, "bytes", (long)s->body.total);
	journal_sha256(j, "sha256", data->data, data->len);
	journal_sha256(j, "body_sha256",
	    data->len > m->body_at ? data->data + m->body_at : "",
	    data->len - m->body_at);
	journal_text(j, "message_id", m->id);
	journal_number(j, "nth", s->messages);
	journal_end(j);
	journal_store(j, id, data->data, data->len);
}

static void accept_message(
    struct session *s, const struct message *m, struct answer *a)
{
	struct stats *st = &s->server->stats;

	s->messages++;
	st->accepted++;
	st->recipients += s->rcpt_count;
	s->client->accepted++;
	s->client->recipients += s->rcpt_count;
	if (st->max_messages < (unsigned long)s->messages)
		st->max_messages = (unsigned long)s->messages;
	text_message_id(a->id, sizeof(a->id));
	record(s, m, a->id);
	answer_set(a, "250 Ok %s", a->id);
}

void verdict_dot(struct session *s)
{
	struct rule *rule;
	struct answer a = { .text = "" };
	struct message m;
	bool forced;

	message_parse(&m, s->body.data.data, s->body.data.len);
	s->fact_id = m.id;
	rule = answer_rule(s, PHASE_DOT);
	/* A complete 2xx of a rule is an acceptance to any client. */
	forced = rule != NULL &&
	    ((rule->actions & ACT_ACCEPT) ||
		((rule->actions & ACT_PAYLOAD) &&
		    answer_runs(rule, PHASE_DOT)));
	if (forced || (answer_runs(rule, PHASE_DOT) && !refused(s, &m, &a)))
		accept_message(s, &m, &a);
	answer_send(s, PHASE_DOT, rule, &a);
	if (a.id[0] != '\0')
		command_reset(s);
	s->fact_id = NULL;
}
