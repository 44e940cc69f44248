/*
 * The answers of the daemon that is down, from its spool: queue, count, show,
 * failed, trace, in the daemon's own words (report.h).
 *
 * Reads only, and takes no lock: when the daemon starts meanwhile, nothing is
 * in its way.  What the spool does not hold (attempts, due times) is 0 or not
 * there; a message is "held" or "ready".
 */
#include "cli/ctl.h"

#include "base/id.h"
#include "base/mem.h"
#include "report.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#define CHUNK 65536

struct offline {
	const char *directory;
	bool (*put)(void *ctx, json_t *object);
	void *ctx;
	struct slice state; /* queue: only these; empty: all */
	uint64_t n; /* count */
	uint64_t id; /* show, failed: this one; failed: 0 for all */
	struct message *m; /* show: found */
	struct report_queued queued;
	char *reply;
	bool more;
};

/* What is to be done about it is the same for all verbs. */
static int cannot_read(const struct offline *o, const struct err *err)
{
	ctl_error("cannot read the spool %s: %s", o->directory, err->text);
	if (err->code == EACCES || err->code == EPERM)
		ctl_error("ask as root, or as the user that sesrelayd runs as "
			  "(\"sudo -u sesrelay sesrelayctl ...\")");
	else
		ctl_error("start the daemon (\"systemctl start sesrelayd\"), "
			  "or name its configuration with -c FILE");
	return EX_UNAVAILABLE;
}

static void trouble(void *ctx, const char *text)
{
	(void)ctx;
	ctl_error("%s", text);
}

static struct report_queued queued_of(const struct inspect_message *found)
{
	return (struct report_queued){
		.id = found->message->id,
		.state = found->held ? "held" : "ready",
		.last_reply = found->held_reason,
	};
}

/* --- queue and count --- */

static bool on_listed(void *ctx, const struct inspect_message *found)
{
	struct offline *o = ctx;
	struct report_queued queued = queued_of(found);

	if (o->state.len > 0 && !slice_eq_str(o->state, queued.state))
		return true;
	return o->put(o->ctx, report_message(&queued, found->message));
}

static int answer_queue(struct offline *o, struct slice args)
{
	struct err err;

	o->state = args;
	if (inspect_spool(o->directory, on_listed, trouble, o, &err) < 0)
		return cannot_read(o, &err);
	return EX_OK;
}

static bool on_counted(void *ctx, const struct inspect_message *found)
{
	struct offline *o = ctx;

	(void)found;
	o->n++;
	return true;
}

static int answer_count(struct offline *o, struct slice args)
{
	struct err err;

	(void)args;
	if (inspect_spool(o->directory, on_counted, trouble, o, &err) < 0)
		return cannot_read(o, &err);
	o->put(o->ctx, json_pack("{s:I}", "messages", (json_int_t)o->n));
	return EX_OK;
}

/* --- show --- */

static bool on_candidate(void *ctx, const struct inspect_message *found)
{
	struct offline *o = ctx;
	struct err err;

	if (found->message->id != o->id)
		return true;
	o->queued = queued_of(found);
	if (found->held_reason != NULL)
		o->reply = xstrdup(found->held_reason);
	o->queued.last_reply = o->reply;
	o->m = inspect_load(o->directory, found->message, &err);
	if (o->m == NULL) {
		char id[ID_BUF];

		o->put(o->ctx,
		    report_error(id_format(o->id, id), EXIT_FAILURE, err.text));
		o->more = false;
	}
	return false;
}

static int put_content(struct offline *o)
{
	struct body chunk;
	struct err err;
	int rc = EX_OK;

	body_init(&chunk);
	for (uint64_t at = 0; at < o->m->size && o->more;) {
		uint64_t left = o->m->size - at;
		size_t n = left < CHUNK ? (size_t)left : CHUNK;
		const char *data = o->m->body.data + at;

		if (o->m->large) {
			chunk.len = 0;
			if (inspect_read_large(
				o->directory, o->m, at, n, &chunk, &err) < 0) {
				rc = cannot_read(o, &err);
				break;
			}
			data = chunk.data;
		}
		o->more = o->put(o->ctx, report_content(data, n));
		at += n;
	}
	body_fini(&chunk);
	return rc;
}

static int answer_show(struct offline *o, struct slice args)
{
	struct slice word = slice_word(&args);
	struct err err;
	int rc = EX_OK;

	o->more = true;
	if (id_parse(word, &o->id) < 0)
		return EX_USAGE;
	if (inspect_spool(o->directory, on_candidate, trouble, o, &err) < 0)
		return cannot_read(o, &err);
	if (o->m == NULL && o->more) {
		ctl_error("no such message in the queue");
		return EX_DATAERR;
	}
	if (o->m == NULL)
		return EX_OK; /* it was told */
	o->more = o->put(o->ctx, report_message(&o->queued, o->m));
	if (slice_eq_str(slice_trim(args), "content"))
		rc = put_content(o);
	message_free(o->m);
	free(o->reply);
	return rc;
}

/* --- failed --- */

static int put_letter_content(
    struct offline *o, const struct inspect_letter *letter)
{
	uint64_t size = letter->message->size;
	struct body chunk;
	struct err err;
	int rc = EX_OK;

	body_init(&chunk);
	for (uint64_t at = 0; at < size && o->more; at += chunk.len) {
		chunk.len = 0;
		if (inspect_letter_content(o->directory, letter, at,
			size - at < CHUNK ? (size_t)(size - at) : CHUNK, &chunk,
			&err) < 0) {
			rc = cannot_read(o, &err);
			break;
		}
		o->more = o->put(o->ctx, report_content(chunk.data, chunk.len));
	}
	body_fini(&chunk);
	return rc;
}

static int put_letter(struct offline *o, const char *name, bool content)
{
	struct inspect_letter letter;
	int rc = EX_OK;

	inspect_letter_read(o->directory, name, &letter);
	o->more = o->put(o->ctx, report_letter(&letter));
	if (content && letter.message != NULL)
		rc = put_letter_content(o, &letter);
	inspect_letter_fini(&letter);
	return rc;
}

static int answer_failed(struct offline *o, struct slice args)
{
	struct slice word = slice_word(&args);
	bool content = slice_eq_str(slice_trim(args), "content");
	struct inspect_names names;
	struct err err;
	int rc = EX_OK;

	if (word.len > 0 && id_parse(word, &o->id) < 0)
		return EX_USAGE;
	if (inspect_letter_names(o->directory, &names, &err) < 0)
		return cannot_read(o, &err);
	o->more = true;
	for (size_t i = 0; i < names.n && o->more && rc == EX_OK; i++) {
		uint64_t id = 0;

		if (inspect_letter_id(names.items[i], &id) < 0 ||
		    (o->id != 0 && id != o->id))
			continue;
		o->n++;
		rc = put_letter(o, names.items[i], content);
	}
	inspect_names_fini(&names);
	if (o->id != 0 && o->n == 0) {
		ctl_error("there is no dead letter of that id");
		return EX_DATAERR;
	}
	return rc;
}

/* --- trace --- */

static void put_object(void *ctx, json_t *object)
{
	struct offline *o = ctx;

	if (o->more)
		o->more = o->put(o->ctx, object);
	else
		json_decref(object);
}

static int answer_trace(struct offline *o, struct slice args)
{
	char *text = slice_dup(args);
	struct trace *t = trace_new(o->directory, text);
	int rc = EX_OK;

	o->more = true;
	while (trace_step(t))
		;
	for (size_t i = 0; i < trace_n_found(t) && o->more; i++) {
		struct report_fate fate = report_trace(t, i, put_object, o);
		struct report_queued queued = {
			.id = trace_get(t, i).id,
			.state = fate.held ? "held" : "ready",
		};

		if (fate.queued)
			put_object(o, report_in_queue(&queued));
	}
	if (trace_problem(t) != NULL) {
		struct err err = { 0 };

		err_set(&err, 0, "%s", trace_problem(t));
		rc = trace_n_found(t) > 0 ? EXIT_FAILURE : EX_UNAVAILABLE;
		(void)cannot_read(o, &err);
	} else if (trace_n_found(t) == 0) {
		ctl_error("nothing is known of %s: it is no queue id, "
			  "Message-ID or SES message id of the queue, the dead "
			  "letters or the history",
		    text);
		rc = EX_DATAERR;
	}
	trace_free(t);
	free(text);
	return rc;
}

int ctl_offline(const char *directory, const char *request,
    bool (*put)(void *ctx, json_t *object), void *ctx)
{
	static const struct {
		const char *verb;
		int (*answer)(struct offline *o, struct slice args);
	} verbs[] = {
		{ "queue", answer_queue },
		{ "count", answer_count },
		{ "show", answer_show },
		{ "failed", answer_failed },
		{ "trace", answer_trace },
	};
	struct offline o = { .directory = directory, .put = put, .ctx = ctx };
	struct slice args = slice_str(request), verb = slice_word(&args);

	for (size_t i = 0; i < ARRAY_LEN(verbs); i++)
		if (slice_eq_str(verb, verbs[i].verb))
			return verbs[i].answer(&o, slice_trim(args));
	ASSERT(!"a verb that only the daemon can answer");
	return EX_SOFTWARE;
}
