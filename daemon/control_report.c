/*
 * Verbs that report on mail: status, queue, show.  What is not in memory is
 * read from the spool, one message at a time, and the answer goes on from the
 * completion.  A message that leaves the queue meanwhile is passed over.
 */
#include "control_private.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/stat.h"

#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

/* --- text that may not be UTF-8 --- */

/* Byte XX becomes U+00XX, so any content survives the way through JSON. */
static json_t *json_bytes(const char *data, size_t len)
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

static json_t *json_text(const char *s)
{
	json_t *text = json_string(s);

	return text != NULL ? text : json_bytes(s, strlen(s));
}

static json_t *json_time(int64_t wall_us)
{
	char text[40];

	clock_format_rfc3339(wall_us, text, sizeof text);
	return json_string(text);
}

/* --- status --- */

static const char *upstream_state(const struct relay *r)
{
	if (r->gate.state != GATE_OPEN)
		return gate_cause_name(r->gate.cause);
	if (pool_last_error(r->pool)[0] != '\0' &&
	    pool_count(r->pool, POOL_IDLE) + pool_count(r->pool, POOL_BUSY) ==
		0)
		return "unreachable";
	return "ok";
}

static json_t *queue_report(struct relay *r)
{
	int64_t oldest = queue_oldest(r->queue), now = clock_mono_us();
	json_t *q = json_object();

	for (int i = STUB_READY; i < STUB_N_STATES; i++)
		json_object_set_new(q, stub_state_name((enum stub_state)i),
		    json_integer(
			(json_int_t)queue_count(r->queue, (enum stub_state)i)));
	json_object_set_new(
	    q, "bytes", json_integer((json_int_t)queue_bytes(r->queue)));
	json_object_set_new(q, "oldest_age_seconds",
	    json_integer(oldest < now ? (now - oldest) / US_PER_S : 0));
	return q;
}

static json_t *connections_report(const struct relay *r)
{
	json_t *o = json_object();

	for (int i = 0; i < POOL_N_STATES; i++)
		json_object_set_new(o, pool_state_name((enum pool_state)i),
		    json_integer(pool_count(r->pool, (enum pool_state)i)));
	return o;
}

static json_t *spool_report(const struct relay *r)
{
	struct spool_usage u;

	spool_usage(r->spool, &u);
	return json_pack("{s:b,s:s,s:I,s:I,s:I,s:I,s:b}", "healthy", u.healthy,
	    "reason", u.reason != NULL ? u.reason : "", "free_bytes",
	    (json_int_t)u.free_bytes, "bytes", (json_int_t)u.bytes,
	    "live_bytes", (json_int_t)u.live_bytes, "failed",
	    (json_int_t)u.n_failed, "scanning", u.scanning);
}

static json_t *counters_report(void)
{
	json_t *o = json_object();

	for (int i = 0; i < STAT_N; i++) {
		const struct stat_info *info = stat_info((enum stat_id)i);
		char name[160];

		snprintf(name, sizeof name, "%s%s%s%s", info->name,
		    info->labels[0] != '\0' ? "{" : "", info->labels,
		    info->labels[0] != '\0' ? "}" : "");
		json_object_set_new(o, name,
		    json_integer((json_int_t)stat_get((enum stat_id)i)));
	}
	return o;
}

static json_t *upstream_report(const struct daemon *d)
{
	struct relay *r = d->relay;
	int64_t wait = r->gate.until_us - clock_mono_us();
	json_t *o = json_object();

	json_object_set_new(o, "state", json_string(upstream_state(r)));
	json_object_set_new(o, "endpoint", json_text(d->config->endpoint));
	json_object_set_new(o, "port", json_integer(pool_port(r->pool)));
	json_object_set_new(
	    o, "connect_error", json_text(pool_last_error(r->pool)));
	json_object_set_new(o, "last_error", json_text(r->last_reply));
	if (r->last_reply_us != 0)
		json_object_set_new(
		    o, "last_error_time", json_time(r->last_reply_us));
	if (r->gate.state == GATE_CLOSED && wait > 0)
		json_object_set_new(
		    o, "next_try_seconds", json_integer(wait / US_PER_S + 1));
	return o;
}

void control_status(struct control_client *c, struct slice args)
{
	struct daemon *d = c->daemon;
	struct relay *r = d->relay;
	json_t *o = json_object();

	(void)args;
	json_object_set_new(o, "version", json_string(SESRELAYD_VERSION));
	json_object_set_new(o, "uptime_seconds",
	    json_integer((clock_mono_us() - r->started_us) / US_PER_S));
	json_object_set_new(o, "upstream", upstream_report(d));
	json_object_set_new(o, "queue", queue_report(r));
	json_object_set_new(o, "connections", connections_report(r));
	json_object_set_new(
	    o, "sessions", json_integer(inbound_n_sessions(r->inbound)));
	json_object_set_new(o, "spool", spool_report(r));
	json_object_set_new(
	    o, "last_reload_ok", json_boolean(d->last_reload_ok));
	json_object_set_new(o, "stopping", json_boolean(d->stopping));
	json_object_set_new(o, "counters", counters_report());
	control_put(c, o);
	control_ok(c);
}

/* --- queue and show --- */

/* One answer: the ids still to be reported. */
struct report {
	struct control_client *client;
	uint64_t *ids;
	size_t n, size, next;
	bool content; /* show ID content */
	struct message *m;
	uint64_t offset;
	struct body chunk;
};

static void next_message(void *ctx);
static void next_content(void *ctx);

static void report_end(struct report *r)
{
	struct control_client *c = r->client;

	message_free(r->m);
	body_fini(&r->chunk);
	free(r->ids);
	free(r);
	control_done(c);
}

static json_t *message_report(const struct stub *stub, const struct message *m)
{
	json_t *o = json_object(), *rcpts = json_array();
	char id[ID_BUF];

	json_object_set_new(o, "id", json_string(id_format(stub->id, id)));
	json_object_set_new(o, "state",
	    json_string(stub_state_name((enum stub_state)stub->state)));
	json_object_set_new(o, "size", json_integer((json_int_t)m->size));
	json_object_set_new(o, "arrival", json_time(m->arrival_us));
	json_object_set_new(o, "sender", json_text(m->sender));
	for (unsigned i = 0; i < m->n_rcpts; i++) {
		enum rcpt_state state = stub->rcpt_states != NULL
		    ? (enum rcpt_state)stub->rcpt_states[i]
		    : m->rcpts[i].state;

		json_array_append_new(rcpts,
		    json_pack("{s:o,s:s}", "address",
			json_text(m->rcpts[i].addr), "state",
			state == RCPT_SENT         ? "sent"
			    : state == RCPT_FAILED ? "failed"
						   : "pending"));
	}
	json_object_set_new(o, "recipients", rcpts);
	json_object_set_new(o, "attempts", json_integer(stub->attempts));
	if (stub->state == STUB_WAITING)
		json_object_set_new(o, "next_attempt",
		    json_time(
			clock_wall_us() + stub->due.key - clock_mono_us()));
	json_object_set_new(o, "last_reply",
	    json_text(stub->last_reply != NULL ? stub->last_reply : ""));
	json_object_set_new(o, "message_id",
	    json_text(m->message_id != NULL ? m->message_id : ""));
	json_object_set_new(
	    o, "client", json_text(m->peer != NULL ? m->peer : ""));
	json_object_set_new(
	    o, "helo", json_text(m->helo != NULL ? m->helo : ""));
	return o;
}

/* A message to report: from memory or from the disk. */
static void put_message(struct report *r, const struct message *m)
{
	struct relay *relay = r->client->daemon->relay;
	struct stub *stub = queue_find(relay->queue, r->ids[r->next]);

	if (stub != NULL)
		control_put(r->client, message_report(stub, m));
}

static void on_loaded(void *ctx, struct message *m, const struct err *err)
{
	struct report *r = ctx;

	if (m == NULL) {
		char id[ID_BUF];

		control_put(r->client,
		    json_pack("{s:s,s:s}", "id", id_format(r->ids[r->next], id),
			"error", err->text));
	} else {
		put_message(r, m);
		if (r->content) {
			r->m = m;
			r->offset = 0;
			next_content(r);
			return;
		}
	}
	message_free(m);
	r->next++;
	next_message(r);
}

static void put_chunk(struct report *r, const char *data, size_t len)
{
	json_t *o = json_object();

	json_object_set_new(o, "content", json_bytes(data, len));
	control_put(r->client, o);
	r->offset += len;
}

static void on_chunk(void *ctx, int rc, const struct err *err)
{
	struct report *r = ctx;

	if (rc != 0) {
		control_error(r->client, 1, "%s", err->text);
		report_end(r);
		return;
	}
	put_chunk(r, r->chunk.data, r->chunk.len);
	r->chunk.len = 0;
	next_content(r);
}

static void next_content(void *ctx)
{
	struct report *r = ctx;
	struct relay *relay = r->client->daemon->relay;
	const struct message *m = r->m;

	if (r->client->conn != NULL && r->offset < m->size) {
		uint64_t left = m->size - r->offset;
		size_t n = left < 65536 ? (size_t)left : 65536;

		if (!control_can_go_on(r->client, next_content))
			return;
		if (m->large) {
			spool_read_large(relay->spool, m, r->offset, n,
			    &r->chunk, on_chunk, r);
			return;
		}
		put_chunk(r, m->body.data + r->offset, n);
		next_content(r);
		return;
	}
	control_ok(r->client);
	report_end(r);
}

static void next_message(void *ctx)
{
	struct report *r = ctx;
	struct relay *relay = r->client->daemon->relay;

	while (r->client->conn != NULL && r->next < r->n) {
		struct stub *stub = queue_find(relay->queue, r->ids[r->next]);

		if (stub == NULL) {
			r->next++;
			continue;
		}
		if (!control_can_go_on(r->client, next_message))
			return;
		if (stub->loaded == NULL || r->content) {
			spool_load(
			    relay->spool, stub->id, stub->ref, on_loaded, r);
			return;
		}
		put_message(r, stub->loaded);
		r->next++;
	}
	control_ok(r->client);
	report_end(r);
}

static struct report *report_new(struct control_client *c)
{
	struct report *r = xcalloc(1, sizeof *r);

	r->client = c;
	body_init(&r->chunk);
	c->answer = r;
	return r;
}

static bool add_id(void *ctx, struct stub *stub)
{
	struct report *r = ctx;

	if (r->n == r->size) {
		r->size = r->size == 0 ? 64 : 2 * r->size;
		r->ids = xrealloc(r->ids, r->size * sizeof *r->ids);
	}
	r->ids[r->n++] = stub->id;
	return true;
}

void control_queue(struct control_client *c, struct slice args)
{
	enum stub_state state = STUB_N_STATES;
	struct report *r;

	for (int i = STUB_READY; i < STUB_N_STATES; i++)
		if (slice_eq_str(args, stub_state_name((enum stub_state)i)))
			state = (enum stub_state)i;
	if (args.len > 0 && state == STUB_N_STATES) {
		control_error(
		    c, EX_USAGE, "states are: ready, waiting, active, held");
		return;
	}
	r = report_new(c);
	queue_each(c->daemon->relay->queue, state, add_id, r);
	next_message(r);
}

void control_show(struct control_client *c, struct slice args)
{
	struct slice word = slice_word(&args);
	struct relay *relay = c->daemon->relay;
	struct report *r;
	uint64_t id;

	if (id_parse(word, &id) != 0) {
		control_error(c, EX_USAGE, "a queue id has 16 hex digits");
		return;
	}
	if (queue_find(relay->queue, id) == NULL) {
		control_error(c, EX_DATAERR, "no such message in the queue");
		return;
	}
	r = report_new(c);
	add_id(r, queue_find(relay->queue, id));
	r->content = slice_eq_str(slice_trim(args), "content");
	next_message(r);
}
