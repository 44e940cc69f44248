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

/* Recipients at once after a pause: a second's worth, if not set otherwise. */
static double bucket_size(const struct settings *set)
{
	double size = set->rate * (double)set->rate_burst_ms / 1000;

	return size > 1 ? size : 1;
}

static void fill_bucket(struct quota *q, double rate, double cap)
{
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

/* Name of the reply, or NULL after having taken n recipients. */
static const char *take_quota(struct server *sv, size_t n)
{
	struct quota *q = &sv->quota;
	double rate = sv->set.rate, need = (double)n, cap;

	turn_day(q);
	if (sv->set.daily > 0 && q->day + n > (unsigned long)sv->set.daily)
		return "daily";
	if (rate > 0) {
		cap = bucket_size(&sv->set);
		fill_bucket(q, rate, cap);
		/* More than the bucket holds must be possible: into debt. */
		if (need > cap)
			need = cap;
		if (q->tokens < need)
			return "rate";
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
	answer_reply(a, "session-cap");
	a->after = AFTER_CLOSE;
	a->why = "session-cap";
	return true;
}

static void configset_missing(struct answer *a, const char *name)
{
	answer_set(a,
	    "554 Configuration Set does not exist: Configuration set <%s> "
	    "does not exist.",
	    name);
}

/* The configuration set of a message, or what stands for it. */
static const char *set_of(const struct message *m, char *out, size_t cap)
{
	if (!message_header(m, "X-SES-CONFIGURATION-SET", out, cap))
		(void)snprintf(out, cap, "default");
	return out;
}

static bool account_refuses(
    const struct settings *set, const struct message *m, struct answer *a)
{
	static const char arn[] =
	    "554 Access denied: User `arn:aws:iam::123456789012:user/"
	    "ses-smtp-user' is not authorized to perform `ses:SendRawEmail' "
	    "on resource `arn:aws:ses:%s:123456789012:%s%s'";
	const char *is = set->account;
	char name[128];

	(void)set_of(m, name, sizeof(name));
	if (strcmp(is, "paused") == 0 || strcmp(is, "mailfrom-unverified") == 0)
		answer_reply(a, is);
	else if (strcmp(is, "denied") == 0)
		answer_set(a, arn, set->region, "identity/", "example.com");
	else if (strcmp(is, "configset-denied") == 0)
		answer_set(a, arn, set->region, "configuration-set/", name);
	else if (strcmp(is, "configset-missing") == 0)
		configset_missing(a, name);
	else if (strcmp(is, "configset-paused") == 0)
		answer_set(a,
		    "554 Message rejected: Email sending for the "
		    "configuration set <%s> is paused.",
		    name);
	else if (strcmp(is, "tenant-paused") == 0)
		answer_set(a,
		    "554 Message rejected: Sending paused for tenant <%s>.",
		    message_header(m, "X-SES-TENANT", name, sizeof(name))
			? name
			: "default");
	else
		return false;
	return true;
}

static bool configset_refused(
    const struct settings *set, const struct message *m, struct answer *a)
{
	char name[128];

	if (set->configuration_sets[0] == '\0' ||
	    !message_header(m, "X-SES-CONFIGURATION-SET", name, sizeof(name)) ||
	    text_listed(set->configuration_sets, name))
		return false;
	configset_missing(a, name);
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
	if (strcmp(set->account, "unverified") == 0)
		message_unverified(m, s->from, "", &failed);
	else if (set->verified[0] != '\0')
		message_unverified(m, s->from, set->verified, &failed);
	for (size_t i = 0; set->sandbox && i < s->rcpt_count; i++)
		message_sandboxed(s->rcpts[i], set->verified, &failed);
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
		answer_reply(a, "too-long");
		return true;
	}
	if (account_refuses(&s->server->set, m, a) ||
	    recipients_refused(s, a) || headers_refused(s, m, a) ||
	    configset_refused(&s->server->set, m, a))
		return true;
	throttle = take_quota(s->server, s->rcpt_count);
	if (throttle == NULL)
		return false;
	answer_reply(a, throttle);
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
