/*
 * Mail as JSON objects.  Pure but for memory; any thread.  Text from outside
 * may be no UTF-8, which jansson refuses: then its bytes become characters.
 */
#include "report.h"

#include "base/clock.h"
#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

/* --- parts --- */

json_t *report_bytes(const char *data, size_t len)
{
	char *out = xmalloc(2 * len + 1);
	size_t n = 0;
	json_t *text;

	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)data[i];

		if (c < 0x80) {
			out[n++] = (char)c;
		} else {
			out[n++] = (char)(0xc0 | c >> 6);
			out[n++] = (char)(0x80 | (c & 0x3f));
		}
	}
	text = json_stringn(out, n);
	free(out);
	return text;
}

json_t *report_text(const char *s)
{
	json_t *text;

	if (s == NULL)
		s = "";
	text = json_string(s);
	return text != NULL ? text : report_bytes(s, strlen(s));
}

json_t *report_time(int64_t wall_us)
{
	char text[40];

	clock_format_rfc3339(wall_us, text, sizeof text);
	return json_string(text);
}

json_t *report_rate(double per_second)
{
	return json_real((double)(int64_t)(per_second * 100 + 0.5) / 100);
}

static json_t *report_id(uint64_t id)
{
	char text[ID_BUF];

	return json_string(id_format(id, text));
}

/* As record.h keeps it. */
static json_t *report_escaped(struct slice escaped)
{
	char *plain = record_unescape(escaped);
	json_t *text = report_text(plain);

	free(plain);
	return text;
}

static void set(json_t *o, const char *key, json_t *value)
{
	json_object_set_new(o, key, value);
}

json_t *report_content(const char *data, size_t len)
{
	json_t *o = json_object();

	set(o, "content", report_bytes(data, len));
	return o;
}

json_t *report_error(const char *id, int code, const char *why)
{
	json_t *o = json_object();

	set(o, "id", report_text(id));
	set(o, "error", report_text(why));
	set(o, "code", json_integer(code));
	return o;
}

/* --- queued ones --- */

static const char *rcpt_state_name(enum rcpt_state state)
{
	return state == RCPT_SENT  ? "sent"
	    : state == RCPT_FAILED ? "failed"
				   : "pending";
}

static json_t *report_rcpts(const struct message *m, const char *states)
{
	json_t *rcpts = json_array();

	for (unsigned i = 0; i < m->n_rcpts; i++) {
		json_t *rcpt = json_object();

		set(rcpt, "address", report_text(m->rcpts[i].addr));
		if (m->rcpts[i].orig != NULL)
			set(rcpt, "orig_to", report_text(m->rcpts[i].orig));
		set(rcpt, "state",
		    json_string(rcpt_state_name(states != NULL
			    ? (enum rcpt_state)states[i]
			    : m->rcpts[i].state)));
		json_array_append_new(rcpts, rcpt);
	}
	return rcpts;
}

static json_t *report_queue(
    const struct report_queued *queued, uint64_t size, int64_t arrival_us)
{
	json_t *o = json_object();

	set(o, "id", report_id(queued->id));
	set(o, "state", json_string(queued->state));
	set(o, "size", json_integer((json_int_t)size));
	set(o, "arrival", report_time(arrival_us));
	return o;
}

static void report_attempts(json_t *o, const struct report_queued *queued)
{
	set(o, "attempts", json_integer(queued->attempts));
	if (queued->next_attempt_us != 0)
		set(o, "next_attempt", report_time(queued->next_attempt_us));
	set(o, "last_reply", report_text(queued->last_reply));
}

json_t *report_message(
    const struct report_queued *queued, const struct message *m)
{
	json_t *o = report_queue(queued, m->size, m->arrival_us);

	set(o, "sender", report_text(m->sender));
	set(o, "recipients", report_rcpts(m, queued->rcpt_states));
	report_attempts(o, queued);
	set(o, "message_id", report_text(m->message_id));
	set(o, "client", report_text(m->peer));
	set(o, "helo", report_text(m->helo));
	return o;
}

json_t *report_damaged(const struct report_queued *queued, const char *why)
{
	json_t *o = report_queue(queued, queued->size, queued->arrival_us);

	report_attempts(o, queued);
	set(o, "damaged", report_text(why));
	return o;
}

/* --- dead letters --- */

static json_t *report_addresses(const struct message *m)
{
	json_t *rcpts = json_array();

	for (unsigned i = 0; i < m->n_rcpts; i++)
		json_array_append_new(rcpts, report_text(m->rcpts[i].addr));
	return rcpts;
}

json_t *report_letter(const struct inspect_letter *letter)
{
	const struct message *m = letter->message;
	json_t *o = json_object();
	uint64_t id = 0;

	(void)!inspect_letter_id(letter->name, &id);
	set(o, "id", report_id(id));
	set(o, "file", report_text(letter->name));
	if (m == NULL) {
		set(o, "error", report_text(letter->err.text));
		return o;
	}
	set(o, "time", report_time(letter->time_us));
	set(o, "arrival", report_time(m->arrival_us));
	set(o, "size", json_integer((json_int_t)m->size));
	set(o, "sender", report_text(m->sender));
	set(o, "recipients", report_addresses(m));
	set(o, "reason", report_text(letter->reason));
	set(o, "last_reply", report_text(letter->reply));
	set(o, "message_id", report_text(m->message_id));
	return o;
}

/* --- stories --- */

struct story {
	const struct trace_found *found;
	struct report_fate fate;
	void (*put)(void *ctx, json_t *object);
	void *ctx;
};

static json_t *report_event(uint64_t id, int64_t time_us, const char *name)
{
	json_t *o = json_object();

	set(o, "id", report_id(id));
	set(o, "time", report_time(time_us));
	set(o, "event", json_string(name));
	return o;
}

/* An id is the time of its birth; the envelope is there or it is not. */
static void put_accepted(const struct story *s)
{
	const struct message *m = s->found->message;
	json_t *o = report_event(s->found->id,
	    m != NULL ? m->arrival_us : (int64_t)s->found->id, "accepted");

	if (m != NULL) {
		set(o, "sender", report_text(m->sender));
		set(o, "recipients", report_addresses(m));
		set(o, "size", json_integer((json_int_t)m->size));
		set(o, "message_id", report_text(m->message_id));
		set(o, "client", report_text(m->peer));
	}
	s->put(s->ctx, o);
}

/* Addresses as far as the envelope is there, else positions from 1. */
static json_t *report_positions(
    const struct message *m, const struct record_outcome *o)
{
	json_t *rcpts = json_array();

	if (o->n_rcpts == 0 && m != NULL) {
		json_decref(rcpts);
		return report_addresses(m);
	}
	for (unsigned i = 0; i < o->n_rcpts; i++) {
		if (m != NULL && o->rcpts[i] < m->n_rcpts)
			json_array_append_new(
			    rcpts, report_text(m->rcpts[o->rcpts[i]].addr));
		else
			json_array_append_new(
			    rcpts, json_integer(o->rcpts[i] + 1));
	}
	return rcpts;
}

static const char *event_name(enum record_event event)
{
	switch (event) {
	case RECORD_SENT:
		return "sent";
	case RECORD_FAILED:
		return "failed";
	case RECORD_HOLD:
		return "held";
	case RECORD_RELEASE:
		return "released";
	case RECORD_DELETE:
		return "deleted";
	case RECORD_VOID:
		return "not accepted";
	case RECORD_OTHER:
		break;
	}
	return "unknown";
}

static void note_fate(
    struct report_fate *fate, const struct record_outcome *outcome)
{
	if (outcome->last || outcome->event == RECORD_DELETE ||
	    outcome->event == RECORD_VOID)
		fate->queued = false;
	if (outcome->event == RECORD_HOLD || outcome->event == RECORD_RELEASE)
		fate->held = outcome->event == RECORD_HOLD;
}

static void put_outcome(struct story *s, const struct trace_event *event)
{
	const struct record_outcome *outcome = &event->outcome;
	struct slice rest = outcome->reply;
	json_t *o = report_event(
	    s->found->id, event->time_us, event_name(outcome->event));

	note_fate(&s->fate, outcome);
	if (outcome->event == RECORD_SENT || outcome->event == RECORD_FAILED)
		set(o, "recipients",
		    report_positions(s->found->message, outcome));
	set(o, "last", json_boolean(outcome->last));
	set(o, "dsn", report_escaped(outcome->dsn));
	set(o, "reply", report_escaped(outcome->reply));
	set(o, "message_id", report_escaped(outcome->message_id));
	if (outcome->event == RECORD_SENT &&
	    slice_has_prefix(rest, "250 Ok ")) {
		(void)slice_word(&rest);
		(void)slice_word(&rest);
		set(o, "ses_id", report_escaped(slice_word(&rest)));
	}
	s->put(s->ctx, o);
}

static void put_event(void *ctx, const struct trace_event *event)
{
	struct story *s = ctx;
	json_t *o;

	if (event->kind == TRACE_OUTCOME) {
		put_outcome(s, event);
		return;
	}
	o = report_event(s->found->id, event->time_us, "dead letter");
	set(o, "file", report_text(event->letter->name));
	if (event->letter->message != NULL) {
		set(o, "recipients", report_addresses(event->letter->message));
		set(o, "reply", report_text(event->letter->reason));
	} else {
		set(o, "damaged", report_text(event->letter->err.text));
	}
	s->put(s->ctx, o);
}

struct report_fate report_trace(struct trace *t, size_t i,
    void (*put)(void *ctx, json_t *object), void *ctx)
{
	struct trace_found found = trace_get(t, i);
	struct story s = {
		.found = &found,
		.fate = { .queued = found.message != NULL },
		.put = put,
		.ctx = ctx,
	};

	put_accepted(&s);
	trace_each(t, i, put_event, &s);
	return s.fate;
}

json_t *report_in_queue(const struct report_queued *queued)
{
	json_t *o = report_event(queued->id, clock_wall_us(), "in queue");

	set(o, "state", json_string(queued->state));
	report_attempts(o, queued);
	return o;
}
