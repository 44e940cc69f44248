/*
 * Verbs that change messages, and those that change the whole: retry, hold,
 * release, delete; pause, resume, drain.
 *
 * Ids come as operands or, for "-", from standard input, one a line, and may
 * be more than a line of the protocol takes: then they are several requests.
 * A line may be one of `mailq`: what follows the id is passed over.
 */
#include "cli/ctl.h"

#include "base/id.h"
#include "base/mem.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

/* Of the protocol's 4096 bytes. */
#define REQUEST_MAX 4000

/* --- requests --- */

struct batch {
	struct ctl_client *c;
	const char *verb;
	bool (*fn)(void *ctx, json_t *object);
	void *ctx;
	char line[REQUEST_MAX];
	size_t len; /* 0: no id is in it */
	int rc;
	bool over; /* the daemon is gone: ask no more */
};

static void send_batch(struct batch *b)
{
	int rc;

	if (b->len == 0 || b->over)
		return;
	rc = ctl_request(b->c, b->line, b->fn, b->ctx);
	b->over = rc == EX_UNAVAILABLE || rc == EX_USAGE;
	b->rc = b->over ? rc : ctl_worse(b->rc, rc);
	b->len = 0;
}

static void add_id(struct batch *b, const char *id)
{
	if (b->len + 1 + ID_LEN >= sizeof b->line)
		send_batch(b);
	if (b->len == 0)
		b->len =
		    (size_t)snprintf(b->line, sizeof b->line, "%s", b->verb);
	b->len += (size_t)snprintf(
	    b->line + b->len, sizeof b->line - b->len, " %.16s", id);
}

/* The first word of a line, if it has one; other lines of `mailq` have none. */
static void take_line(struct batch *b, const char *line)
{
	size_t n = strcspn(line, " \t\r\n*!");
	char *word;
	uint64_t id;

	if (n == 0 || line[0] == '-' || line[0] == '(')
		return;
	word = xstrndup(line, n);
	if (id_parse(slice_str(word), &id) == 0) {
		add_id(b, word);
	} else {
		ctl_error("%s is no queue id", word);
		b->rc = ctl_worse(b->rc, EX_DATAERR);
	}
	free(word);
}

static void read_ids(struct batch *b)
{
	char *line = NULL;
	size_t size = 0;

	while (!b->over && getline(&line, &size, stdin) >= 0)
		take_line(b, line);
	if (ferror(stdin)) {
		ctl_error("cannot read standard input: %s", strerror(errno));
		b->rc = EXIT_FAILURE;
	}
	free(line);
}

int ctl_request_ids(struct ctl_client *c, const struct ctl_options *options,
    const char *verb, bool (*fn)(void *ctx, json_t *object), void *ctx)
{
	struct batch b = { .c = c, .verb = verb, .fn = fn, .ctx = ctx };
	char *request;

	if (options->all) {
		request = xasprintf("%s --all", verb);
		b.rc = ctl_request(c, request, fn, ctx);
		free(request);
		return b.rc;
	}
	for (int i = 0; i < options->n_args; i++) {
		if (strcmp(options->args[i], "-") == 0)
			read_ids(&b);
		else
			add_id(&b, options->args[i]);
	}
	send_batch(&b);
	return b.rc;
}

/* --- messages --- */

struct words {
	const char *verb, *done;
};

static void put_sum(const struct words *w, json_t *o)
{
	int64_t alone = ctl_number(o, "left_alone");
	int64_t done = ctl_number(o, "done"), later = ctl_number(o, "later");

	printf(
	    "%" PRId64 " message%s %s\n", done, done == 1 ? "" : "s", w->done);
	if (later > 0)
		printf("%" PRId64 " %s being sent: %s if SES does not take "
		       "%s\n",
		    later, later == 1 ? "is" : "are", w->done,
		    later == 1 ? "it" : "them");
	if (alone > 0 && strcmp(w->verb, "retry") == 0)
		printf("%" PRId64 " held message%s so\n", alone,
		    alone == 1 ? " stays" : "s stay");
}

static bool put_result(void *ctx, json_t *o)
{
	const struct words *w = ctx;
	const char *error = ctl_text(o, "error"), *id = ctl_text(o, "id");
	const char *result = ctl_text(o, "result");

	if (json_object_get(o, "done") != NULL) {
		put_sum(w, o);
	} else if (error[0] != '\0') {
		ctl_error("%s: %s", id, error);
	} else {
		ctl_put(stdout, id);
		if (strcmp(result, "later") == 0)
			printf("  is being sent: %s if SES does not take it\n",
			    w->done);
		else if (strcmp(result, "ready") == 0)
			puts("  goes out now");
		else if (strcmp(result, "active") == 0)
			puts("  is being sent");
		else
			printf("  %s\n", result);
	}
	return true;
}

static int operate(struct ctl_client *c, const struct ctl_options *options,
    const char *verb, const char *done)
{
	struct words words = { verb, done };

	return ctl_request_ids(c, options, verb, put_result, &words);
}

int ctl_retry(struct ctl_client *c, const struct ctl_options *options)
{
	struct ctl_options all = *options;

	all.all = all.all || options->n_args == 0;
	return operate(c, &all, "retry", "ready to go");
}

int ctl_hold(struct ctl_client *c, const struct ctl_options *options)
{
	return operate(c, options, "hold", "held");
}

int ctl_release(struct ctl_client *c, const struct ctl_options *options)
{
	return operate(c, options, "release", "released");
}

static bool keep_count(void *ctx, json_t *o)
{
	*(int64_t *)ctx = ctl_number(o, "messages");
	return true;
}

/* Asks somebody who can answer. */
static int confirm_delete(struct ctl_client *c)
{
	int64_t n = 0;
	char answer[16];
	struct err err;
	int rc;

	if (!isatty(STDIN_FILENO)) {
		ctl_error("delete --all: nobody is there to be asked; say "
			  "--yes if you mean it");
		return EX_USAGE;
	}
	rc = ctl_query(c, "count", keep_count, &n, &err);
	if (rc != EX_OK) {
		if (err.text[0] != '\0')
			ctl_error("%s", err.text);
		return rc;
	}
	fprintf(stderr,
	    "Delete all %" PRId64 " messages in the queue?  They will be gone "
	    "for good.  [y/N] ",
	    n);
	if (fgets(answer, sizeof answer, stdin) == NULL ||
	    (answer[0] != 'y' && answer[0] != 'Y')) {
		ctl_error("nothing was deleted");
		return EXIT_FAILURE;
	}
	return EX_OK;
}

int ctl_delete(struct ctl_client *c, const struct ctl_options *options)
{
	struct ctl_options quiet = *options;
	int rc = EX_OK;

	if (options->all && !options->yes)
		rc = confirm_delete(c);
	return rc == EX_OK ? operate(c, &quiet, "delete", "deleted") : rc;
}

/* --- the whole --- */

static bool put_pause(void *ctx, json_t *o)
{
	(void)ctx;
	printf("Delivery is %s, intake is %s\n",
	    ctl_true(o, "delivery_paused") ? "PAUSED" : "on",
	    ctl_true(o, "intake_paused") ? "PAUSED" : "on");
	return true;
}

static int pause_or_resume(
    struct ctl_client *c, const struct ctl_options *options, const char *verb)
{
	char *request = xasprintf(
	    "%s %s", verb, options->n_args > 0 ? options->args[0] : "delivery");
	int rc = ctl_request(c, request, put_pause, NULL);

	free(request);
	return rc;
}

int ctl_pause(struct ctl_client *c, const struct ctl_options *options)
{
	return pause_or_resume(c, options, "pause");
}

int ctl_resume(struct ctl_client *c, const struct ctl_options *options)
{
	return pause_or_resume(c, options, "resume");
}

static bool put_drained(void *ctx, json_t *o)
{
	int64_t left = ctl_number(o, "left"), held = ctl_number(o, "held");

	(void)ctx;
	if (left == 0)
		printf("Drained; the intake stays paused until \"sesrelayctl "
		       "resume intake\" or a restart\n");
	if (left > 0)
		printf("%" PRId64 " message%s left\n", left,
		    left == 1 ? " is" : "s are");
	if (held > 0)
		printf("%" PRId64 " held message%s in the queue\n", held,
		    held == 1 ? " stays" : "s stay");
	return true;
}

int ctl_drain(struct ctl_client *c, const struct ctl_options *options)
{
	char *request = options->timeout_us < 0
	    ? xstrdup("drain")
	    : xasprintf("drain %" PRId64, options->timeout_us / 1000);
	int rc = ctl_request(c, request, put_drained, NULL);

	free(request);
	return rc;
}
