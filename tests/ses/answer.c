/*
 * Replies under the rules: what leaves, when, how, and what follows it.
 *
 * Owns nothing. A rule may replace the reply, add to it, delay it, cut it to
 * bytes, or end the connection in its stead. A rule's own reply has the
 * command's normal effect only if it is a complete reply of the class that
 * means yes: the emulator must believe what a strict client believes. Every
 * refusal and every rule that acted is journalled here and nowhere else.
 */
#include "listener.h"
#include "replies.h"
#include "session.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void answer_set(struct answer *a, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(a->text, sizeof(a->text), fmt, ap);
	va_end(ap);
}

void answer_reply(struct answer *a, const char *name)
{
	answer_set(a, "%s", reply_text(name));
}

struct rule *answer_rule(struct session *s, enum phase phase)
{
	struct server *sv = s->server;
	struct facts f;

	if (sv->rules.count[phase] == 0)
		return NULL;
	memset(&f, 0, sizeof(f));
	f.number[FACT_MSGS] = s->messages;
	f.number[FACT_CONNS] = (long)sv->stats.connections_now;
	f.number[FACT_CONN] = s->number;
	f.number[FACT_TOTAL] = (long)sv->stats.accepted;
	f.number[FACT_PORT] = s->port;
	f.number[FACT_BYTES] = (long)s->body.total;
	f.number[FACT_RCPTS] = (long)s->rcpt_count;
	f.number[FACT_TLS] = s->io.ssl != NULL;
	f.number[FACT_AUTH] = s->authenticated;
	f.number[FACT_AGE] = (long)((clock_us() - s->began_us) / 1000);
	f.text[FACT_FROM - FACT_NUMBERS] =
	    s->fact_from != NULL ? s->fact_from : s->from;
	f.text[FACT_RCPT - FACT_NUMBERS] = s->fact_rcpt;
	f.text[FACT_MESSAGE_ID - FACT_NUMBERS] = s->fact_id;
	f.text[FACT_HELO - FACT_NUMBERS] = s->helo;
	f.text[FACT_PEER - FACT_NUMBERS] = s->peer;
	f.text[FACT_ADDR - FACT_NUMBERS] = s->listener->addr;
	f.rcpts = s->rcpts;
	f.rcpt_count = s->rcpt_count;
	f.txn = s->txn;
	return rules_match(&sv->rules, phase, &f);
}

bool answer_runs(const struct rule *rule, enum phase phase)
{
	if (rule == NULL || (rule->actions & (ACT_DEFAULT | ACT_ABORT_TLS)))
		return true;
	if (rule->actions & ACT_PAYLOAD)
		return phase_success(
		    phase, rule->payload.data, rule->payload.len);
	return (rule->actions & ACT_ENDS) == 0;
}

static void note_rule(struct session *s, const struct rule *rule,
    enum phase phase, const struct answer *a)
{
	struct journal *j = &s->server->journal;

	session_event(s, "rule");
	journal_number(j, "rule", (long)rule->number);
	journal_text(j, "phase", phase_name(phase));
	if (s->fact_id != NULL)
		journal_text(j, "message_id", s->fact_id);
	if (phase == PHASE_DOT)
		journal_text(j, "id", a->id[0] != '\0' ? a->id : NULL);
	journal_end(j);
}

static void note_refusal(struct session *s, enum phase phase, const char *reply,
    size_t n, bool throttled)
{
	struct server *sv = s->server;
	char line[512];
	size_t len = n < sizeof(line) - 1 ? n : sizeof(line) - 1;

	if (n < 3 || (reply[0] != '4' && reply[0] != '5') ||
	    phase == PHASE_IDLE)
		return;
	memcpy(line, reply, len);
	line[len] = '\0';
	line[strcspn(line, "\r\n")] = '\0';
	if (throttled) {
		sv->stats.throttled++;
		sv->stats.throttled_recipients += s->rcpt_count;
		s->client->throttled++;
		s->client->throttled_recipients += s->rcpt_count;
	} else {
		sv->stats.rejected++;
		s->client->rejected++;
	}
	session_event(s, throttled ? "throttled" : "refused");
	journal_text(&sv->journal, "phase", phase_name(phase));
	journal_text(&sv->journal, "reply", line);
	if (s->from != NULL)
		journal_text(&sv->journal, "from", s->from);
	if (phase == PHASE_RCPT && s->fact_rcpt != NULL)
		journal_text(&sv->journal, "rcpt", s->fact_rcpt);
	if (phase == PHASE_DOT) {
		journal_text(&sv->journal, "message_id", s->fact_id);
		journal_number(&sv->journal, "recipients", (long)s->rcpt_count);
	}
	journal_end(&sv->journal);
}

/* Puts the bytes to be sent behind what is in the output buffer. */
static void compose(
    struct buf *out, const struct rule *rule, const struct answer *a)
{
	unsigned act = rule != NULL ? rule->actions : 0;

	if (act & ACT_PAYLOAD) {
		buf_reserve(out, rule->payload.len * (size_t)rule->repeat);
		for (long i = 0; i < rule->repeat; i++)
			buf_add(out, rule->payload.data, rule->payload.len);
	} else if (a->text[0] != '\0' &&
	    ((act & ACT_ENDS) == 0 || (act & (ACT_DEFAULT | ACT_ABORT_TLS)))) {
		buf_adds(out, a->text);
		buf_add(out, "\r\n", 2);
	}
	if (rule != NULL)
		buf_add(out, rule->inject.data, rule->inject.len);
}

static void follow(
    struct session *s, const struct rule *rule, const struct answer *a)
{
	unsigned act = rule != NULL ? rule->actions : 0;

	s->after = a->after;
	s->why = a->why != NULL ? a->why : "server";
	if ((act & ACT_ABORT_TLS) && a->after == AFTER_TLS) {
		s->after = AFTER_ABORT_TLS;
		s->abort_reset = (act & ACT_RESET) != 0;
		return;
	}
	if ((act & ACT_ENDS) == 0)
		return;
	s->why = "rule";
	s->after = act & ACT_CLOSE ? AFTER_CLOSE
	    : act & ACT_RESET      ? AFTER_RESET
	    : act & ACT_STALL      ? AFTER_STALL
				   : AFTER_HALFCLOSE;
}

static long vary(long ms)
{
	return (long)text_random_upto((unsigned long)ms);
}

static long latency(const struct session *s, enum phase phase)
{
	const struct settings *set = &s->server->set;

	long ms = phase == PHASE_TLS ? 0 : set->latency_ms;

	if (phase == PHASE_BODY || phase == PHASE_IDLE)
		return 0;
	if (phase < PHASE_OTHER && set->phase_latency_ms[phase] > 0)
		ms = set->phase_latency_ms[phase];
	return ms + vary(phase == PHASE_TLS && ms == 0 ? 0 : set->jitter_ms);
}

void answer_send(
    struct session *s, enum phase phase, struct rule *rule, struct answer *a)
{
	struct buf *out = &s->io.out;
	size_t from = out->len;
	long delay = latency(s, phase);

	compose(out, rule, a);
	follow(s, rule, a);
	if (rule != NULL)
		note_rule(s, rule, phase, a);
	if (out->len > from)
		note_refusal(s, phase, out->data + from, out->len - from,
		    a->throttled &&
			!(rule != NULL && (rule->actions & ACT_PAYLOAD)));
	s->io.bytewise = s->server->set.bytewise ||
	    (rule != NULL && (rule->actions & ACT_BYTEWISE));
	s->drip_ms = rule != NULL ? rule->drip_ms : 0;
	s->phase = phase;
	if (rule != NULL) {
		delay += rule->delay_ms + vary(rule->jitter_ms);
		if (rule->write_rate > 0)
			s->write_rate = rule->write_rate;
		if (rule->read_rate > 0)
			s->read_rate = rule->read_rate;
		s->rekey = rule->rekey;
		s->silent = (rule->actions & ACT_NO_CLOSE_NOTIFY) != 0;
		s->cancels = (rule->actions & ACT_USER_CANCELED) != 0;
	}
	session_send(s, delay);
}
