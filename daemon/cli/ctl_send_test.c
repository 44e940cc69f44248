/*
 * `send-test`: one message through the relay, followed until SES has answered.
 *
 * The message is handed in like any program's, at an address where the daemon
 * says that it listens; what becomes of it is asked of the daemon over and
 * over: first of its queue, and of the history when it has left that.  It ends
 * with the first word of SES about the message, or with what keeps the relay
 * from sending it, or with the patience of the operator.  What has not ended by
 * then stays in the queue, and the last line says so.
 */
#include "cli/ctl.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/slice.h"
#include "smtp/classify.h"

#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#define DEFAULT_TIMEOUT_US (60 * US_PER_S)
#define FIRST_LOOK_US (20 * US_PER_MS)
#define LAST_LOOK_US (500 * US_PER_MS)
#define INDENT 12
#define SIMULATOR "@simulator.amazonses.com"

enum fate { UNKNOWN, SENT, FAILED, PUT_OFF, HELD, STUCK };

static const char *const fate_names[] = { "unknown", "sent", "failed",
	"deferred", "held", "waiting" };

struct test {
	struct ctl_client *client;
	const struct ctl_options *options;
	const char *rcpt;
	char *address; /* where the relay listens */
	char *sender, *bounce_from;
	char id[CTL_BUF];
	int64_t begin_us;
	enum fate fate;
	char *reply; /* of SES, or of what is between */
	char *advice;
	char *ses_id;
	bool gone; /* from the queue */
};

static void set(char **field, const char *text)
{
	free(*field);
	*field = text != NULL && text[0] != '\0' ? xstrdup(text) : NULL;
}

/* --- before --- */

static bool is_loopback(const char *address)
{
	return strncmp(address, "127.", 4) == 0 ||
	    strncmp(address, "[::1]", 5) == 0;
}

/* On loopback if there is one: others may have no right to hand in mail. */
static void choose_address(struct test *t, json_t *listening)
{
	json_t *item;
	size_t i;

	json_array_foreach (listening, i, item) {
		const char *text = json_string_value(item);

		if (text != NULL && strncmp(text, "unix", 4) != 0 &&
		    (t->address == NULL ||
			(is_loopback(text) && !is_loopback(t->address))))
			set(&t->address, text);
	}
}

static bool take_preparation(void *ctx, json_t *status)
{
	struct test *t = ctx;

	choose_address(t, json_object_get(status, "listening"));
	set(&t->bounce_from, ctl_text(status, "bounce_from"));
	return true;
}

/* A sender that SES takes is one that is verified there. */
static int choose_sender(struct test *t)
{
	const char *sender = t->options->from;

	if (sender == NULL)
		sender = t->bounce_from;
	if (sender == NULL && strstr(t->rcpt, SIMULATOR) == NULL)
		sender = t->rcpt;
	set(&t->sender, sender);
	if (t->sender != NULL)
		return EX_OK;
	ctl_error("send-test: from whom? SES takes senders that are verified "
		  "there: name one with --from, or set bounce.from");
	return EX_USAGE;
}

static int prepare(struct test *t)
{
	struct err err;
	int rc = ctl_query(t->client, "status", take_preparation, t, &err);

	if (rc != EX_OK) {
		if (err.text[0] != '\0')
			ctl_error("send-test: %s", err.text);
		return rc;
	}
	if (t->address == NULL) {
		ctl_error("send-test: the relay listens nowhere; is it just "
			  "stopping?");
		return EXIT_FAILURE;
	}
	return choose_sender(t);
}

/* --- what became of it --- */

/* The daemon's words about a reply; `reply` may be none of SES's. */
static const char *advice_on(const char *reply)
{
	struct reply_parser parser;
	enum phase phase = PHASE_DOT;
	struct verdict v;

	reply_parser_init(&parser);
	if (reply == NULL ||
	    reply_feed(&parser, slice_str(reply), NULL, NULL) != 1)
		return NULL;
	if (parser.reply.code == 530 || parser.reply.code == 535)
		phase = PHASE_AUTH;
	classify_reply(phase, &parser.reply, &v);
	return v.advice;
}

static void end(struct test *t, enum fate fate, const char *reply)
{
	t->fate = fate;
	set(&t->reply, reply);
	set(&t->advice, advice_on(t->reply));
}

static bool take_story(void *ctx, json_t *event)
{
	struct test *t = ctx;
	const char *what = ctl_text(event, "event");
	const char *reply = ctl_text(event, "reply");

	if (strcmp(what, "sent") == 0) {
		end(t, SENT, reply);
		set(&t->ses_id, ctl_text(event, "ses_id"));
	} else if (strcmp(what, "failed") == 0) {
		end(t, FAILED, reply);
	} else if (strcmp(what, "deleted") == 0) {
		end(t, HELD, "it was deleted by an operator");
	}
	return true;
}

/* Its reason is "REPLY; what it means", and it has the reply by itself, too. */
static bool take_letter(void *ctx, json_t *letter)
{
	struct test *t = ctx;
	const char *reason = ctl_text(letter, "reason");
	const char *reply = ctl_text(letter, "last_reply");
	size_t len = strlen(reply);

	if (len == 0 || strncmp(reason, reply, len) != 0)
		return true;
	set(&t->reply, reply);
	if (strncmp(reason + len, "; ", 2) == 0)
		set(&t->advice, reason + len + 2);
	return true;
}

static int read_letter(struct test *t)
{
	char *request = xasprintf("failed %s", t->id);
	struct err err;
	int rc = ctl_query(t->client, request, take_letter, t, &err);

	free(request);
	/* Without it, the history says enough. */
	return err.text[0] != '\0' ? EX_OK : rc;
}

static bool take_queued(void *ctx, json_t *o)
{
	struct test *t = ctx;
	const char *state = ctl_text(o, "state");
	const char *reply = ctl_text(o, "last_reply");

	if (strcmp(state, "held") == 0)
		end(t, HELD, reply);
	else if (strcmp(state, "waiting") == 0 && reply[0] != '\0')
		end(t, PUT_OFF, reply);
	return true;
}

/* What keeps all mail from being sent, and is no matter of seconds. */
static bool take_upstream(void *ctx, json_t *status)
{
	static const char *const stuck[] = { "paused", "daily quota",
		"credentials refused", "account refused" };
	struct test *t = ctx;
	json_t *upstream = json_object_get(status, "upstream");
	const char *state = ctl_text(upstream, "state");
	const char *reply = ctl_text(upstream, "last_error");
	const char *trouble = ctl_text(upstream, "connect_error");

	for (size_t i = 0; i < ARRAY_LEN(stuck); i++)
		if (strcmp(state, stuck[i]) == 0)
			end(t, STUCK, i > 0 ? reply : "delivery is paused");
	/* For the time when patience is over. */
	if (t->fate == UNKNOWN)
		set(&t->reply, trouble[0] != '\0' ? trouble : reply);
	if (t->fate == STUCK && strcmp(state, "paused") == 0)
		set(&t->advice, "\"sesrelayctl resume\" lets mail go");
	return true;
}

static int look(struct test *t)
{
	char *request = xasprintf("%s %s", t->gone ? "trace" : "show", t->id);
	struct err err;
	int rc = ctl_query(
	    t->client, request, t->gone ? take_story : take_queued, t, &err);

	free(request);
	if (rc == EX_DATAERR) {
		/* The outcome may not be on the disk yet. */
		if (!t->gone) {
			t->gone = true;
			return look(t);
		}
		return EX_OK;
	}
	if (rc == EX_OK && t->fate == FAILED)
		return read_letter(t);
	if (rc == EX_OK && t->fate == UNKNOWN && !t->gone)
		rc = ctl_query(t->client, "status", take_upstream, t, &err);
	if (rc != EX_OK && err.text[0] != '\0')
		ctl_error("send-test: %s", err.text);
	return rc;
}

static int follow(struct test *t)
{
	int64_t wait = FIRST_LOOK_US, timeout = t->options->timeout_us;
	int rc;

	if (timeout < 0)
		timeout = DEFAULT_TIMEOUT_US;
	while ((rc = look(t)) == EX_OK && t->fate == UNKNOWN) {
		clock_update();
		if (clock_mono_us() - t->begin_us >= timeout)
			break;
		usleep((useconds_t)wait);
		wait = wait * 2 < LAST_LOOK_US ? wait * 2 : LAST_LOOK_US;
	}
	clock_update();
	return rc;
}

/* --- the answer --- */

static void set_member(json_t *o, const char *key, const char *text)
{
	if (text != NULL)
		json_object_set_new(o, key, json_string(text));
}

static void put_object(const struct test *t, double seconds)
{
	json_t *o = json_object();

	set_member(o, "id", t->id);
	set_member(o, "sender", t->sender);
	set_member(o, "recipient", t->rcpt);
	set_member(o, "result", fate_names[t->fate]);
	set_member(o, "ses_id", t->ses_id);
	set_member(o, "reply", t->reply);
	set_member(o, "advice", t->advice);
	json_object_set_new(o, "seconds", json_real(seconds));
	json_dumpf(o, stdout, JSON_COMPACT | JSON_PRESERVE_ORDER);
	putchar('\n');
	json_decref(o);
}

static const char *headline(const struct test *t)
{
	switch (t->fate) {
	case SENT:
		return "Sent:";
	case FAILED:
		return "Failed:";
	case PUT_OFF:
		return "Deferred:";
	case HELD:
		return "Held:";
	default:
		return "Waiting:";
	}
}

static void put_labelled(const char *label, char *text)
{
	ctl_put_labelled(label, INDENT, text);
	free(text);
}

static void put_words(const struct test *t, double seconds)
{
	if (t->fate == SENT && t->ses_id != NULL) {
		put_labelled(
		    "Sent:", xasprintf("SES took it after %.1f s", seconds));
		put_labelled("SES id:", xstrdup(t->ses_id));
		return;
	}
	put_labelled(headline(t),
	    xstrdup(t->reply != NULL ? t->reply : "no answer of SES yet"));
	if (t->advice != NULL)
		put_labelled("Meaning:", xstrdup(t->advice));
	if (t->fate != SENT && t->fate != FAILED)
		put_labelled("",
		    xasprintf("it stays in the queue; \"sesrelayctl show %s\" "
			      "tells how it is, \"sesrelayctl delete %s\" "
			      "takes it back",
			t->id, t->id));
	else if (t->fate == FAILED)
		put_labelled("",
		    xasprintf("its dead letter is kept: \"sesrelayctl failed "
			      "%s\"",
			t->id));
}

static int run(struct test *t)
{
	struct err err;
	double seconds;
	int rc = prepare(t);

	if (rc != EX_OK)
		return rc;
	t->begin_us = clock_mono_us();
	rc = ctl_submit(t->address, t->sender, t->rcpt, t->id, &err);
	if (rc != 0) {
		ctl_error("send-test: the relay at %s did not take it: %s",
		    t->address, err.text);
		return EXIT_FAILURE;
	}
	if (!t->options->json) {
		put_labelled("Handed in:",
		    xasprintf(
			"%s, from <%s> to <%s>", t->id, t->sender, t->rcpt));
		fflush(stdout);
	}
	rc = follow(t);
	if (rc != EX_OK)
		return rc;
	seconds = (double)(clock_mono_us() - t->begin_us) / US_PER_S;
	if (t->options->json)
		put_object(t, seconds);
	else
		put_words(t, seconds);
	return t->fate == SENT ? EX_OK : EXIT_FAILURE;
}

int ctl_send_test(struct ctl_client *c, const struct ctl_options *options)
{
	struct test t = {
		.client = c,
		.options = options,
		.rcpt = options->args[0],
	};
	int rc = run(&t);

	free(t.address);
	free(t.sender);
	free(t.bounce_from);
	free(t.reply);
	free(t.advice);
	free(t.ses_id);
	return rc;
}
