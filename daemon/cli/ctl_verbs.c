/*
 * The table of verbs: what each is called, takes and needs, and what the help
 * says of it; and the verbs of a few lines.
 *
 * Help, completion, the checks of the command line and the tests of the manual
 * all go by this table.
 */
#include "cli/ctl.h"

#include "base/id.h"
#include "base/mem.h"
#include "base/slice.h"

#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

/* --- verbs of a few lines --- */

static bool put_count(void *ctx, json_t *object)
{
	(void)ctx;
	printf("%" PRId64 "\n", ctl_number(object, "messages"));
	return true;
}

static int run_count(struct ctl_client *c, const struct ctl_options *options)
{
	(void)options;
	return ctl_request(c, "count", put_count, NULL);
}

/* As it came, but for what a terminal might obey. */
static bool put_metrics(void *ctx, json_t *object)
{
	const char *p = ctl_text(object, "metrics");

	(void)ctx;
	while (*p != '\0') {
		size_t n = strcspn(p, "\n");
		char *line = xstrndup(p, n);

		ctl_put(stdout, line);
		putchar('\n');
		free(line);
		p += n + (p[n] != '\0');
	}
	return true;
}

static int run_metrics(struct ctl_client *c, const struct ctl_options *options)
{
	(void)options;
	return ctl_request(c, "metrics", put_metrics, NULL);
}

static bool put_reloaded(void *ctx, json_t *object)
{
	(void)ctx;
	ctl_put_labelled("Reloaded:", 10, ctl_text(object, "message"));
	return true;
}

static int run_reload(struct ctl_client *c, const struct ctl_options *options)
{
	int rc = ctl_request(c, "reload", put_reloaded, NULL);

	(void)options;
	if (rc == EXIT_FAILURE)
		ctl_error("not reloaded: the old configuration stays in force");
	return rc;
}

static bool put_level(void *ctx, json_t *object)
{
	(void)ctx;
	ctl_put(stdout, ctl_text(object, "log_level"));
	putchar('\n');
	return true;
}

static int run_log_level(
    struct ctl_client *c, const struct ctl_options *options)
{
	char *request = xasprintf(
	    "log-level %s", options->n_args > 0 ? options->args[0] : "");
	int rc = ctl_request(c, request, put_level, NULL);

	free(request);
	return rc;
}

/* --- what a verb's arguments have to look like --- */

static const char *check_state(const char *arg)
{
	size_t n = strspn(arg, "abcdefghijklmnopqrstuvwxyz");

	return n > 0 && arg[n] == '\0' ? NULL
				       : "states are: ready, waiting, active, "
					 "held";
}

static const char *check_id(const char *arg)
{
	uint64_t id;

	return id_parse(slice_str(arg), &id) == 0
	    ? NULL
	    : "a queue id has 16 hex digits, as \"sesrelayctl queue\" shows "
	      "them";
}

static const char *check_ids(const char *arg)
{
	return strcmp(arg, "-") == 0 ? NULL : check_id(arg);
}

static const char *check_part(const char *arg)
{
	return strcmp(arg, "delivery") == 0 || strcmp(arg, "intake") == 0
	    ? NULL
	    : "delivery, or intake";
}

const char *ctl_check_level(const char *arg)
{
	static const char *const levels[] = { "error", "warning", "info",
		"debug" };

	for (size_t i = 0; i < ARRAY_LEN(levels); i++)
		if (strcmp(arg, levels[i]) == 0)
			return NULL;
	return "levels are: error, warning, info, debug";
}

/* It has to fit into a line of the protocol, and to stay one. */
static const char *check_text(const char *arg)
{
	return arg[0] != '\0' && strlen(arg) < 3000 &&
		strcspn(arg, "\r\n") == strlen(arg)
	    ? NULL
	    : "a queue id, a Message-ID or an SES message id";
}

const char *ctl_check_address(const char *arg)
{
	const char *at = strrchr(arg, '@');

	for (const char *p = arg; *p != '\0'; p++)
		if (*p <= ' ' || *p > '~' || *p == '<' || *p == '>')
			return "an address has no blanks, no brackets and "
			       "nothing but ASCII";
	return at != NULL && at > arg && at[1] != '\0' && strlen(arg) < 300
	    ? NULL
	    : "an address looks like user@example.com";
}

static const char *check_file(const char *arg)
{
	return arg[0] != '\0' ? NULL : "a file, or - for standard input";
}

/* --- the table --- */

#define ID "0006543A1B2C3D4E"

const struct ctl_verb ctl_verbs[] = {
	{ "check", ctl_check, NEEDS_NOTHING, 0, 0, 0, NULL, WORDS_NONE, false,
	    "", "try every SES port, say what is wrong; needs no daemon",
	    "sesrelayctl check" },
	{ "connections", ctl_connections, NEEDS_DAEMON, OPT_LIST, 0, 0, NULL,
	    WORDS_NONE, false, "[-l]", "those to SES, and what each does",
	    "sesrelayctl connections -l" },
	{ "count", run_count, NEEDS_SPOOL, 0, 0, 0, NULL, WORDS_NONE, false, "",
	    "number of queued messages", "sesrelayctl count" },
	{ "delete", ctl_delete, NEEDS_DAEMON, OPT_ALL | OPT_YES, 0, INT_MAX,
	    check_ids, WORDS_ID, true, "ID... | --all [--yes]",
	    "gone for good: no dead letter, no notice",
	    "sesrelayctl delete " ID },
	{ "drain", ctl_drain, NEEDS_DAEMON, OPT_TIMEOUT, 0, 0, NULL, WORDS_NONE,
	    true, "[--timeout D]", "no new mail; wait until the queue is empty",
	    "sesrelayctl drain --timeout 5m" },
	{ "failed", ctl_failed, NEEDS_SPOOL, OPT_PARTS, 0, 1, check_id,
	    WORDS_FAILED_ID, false, "[ID [--envelope] [--headers] [--body]]",
	    "dead letters with their reason",
	    "sesrelayctl failed " ID " --headers" },
	{ "hold", ctl_hold, NEEDS_DAEMON, OPT_ALL, 0, INT_MAX, check_ids,
	    WORDS_ID, true, "ID... | --all", "keep it until it is released",
	    "sesrelayctl hold " ID },
	{ "log-level", run_log_level, NEEDS_DAEMON, 0, 0, 1, ctl_check_level,
	    WORDS_LEVEL, true, "[LEVEL]",
	    "log more or less, until the next reload: error, warning, info, "
	    "debug",
	    "sesrelayctl log-level debug" },
	{ "mailq", ctl_mailq, NEEDS_SPOOL, OPT_POSTFIX, 0, 0, NULL, WORDS_NONE,
	    false, "[-j]", "the queue as Postfix prints it",
	    "sesrelayctl mailq" },
	{ "metrics", run_metrics, NEEDS_DAEMON, 0, 0, 0, NULL, WORDS_NONE,
	    false, "", "what is measured, as Prometheus reads it",
	    "sesrelayctl metrics" },
	{ "password", ctl_password, NEEDS_NOTHING, OPT_REGION, 0, 0, NULL,
	    WORDS_NONE, false, "[--region R]",
	    "the SMTP password of a region, from the secret access key on "
	    "standard input or in ses.secret_key_file; needs no daemon",
	    "sesrelayctl password --region eu-west-1 < secret-key" },
	{ "pause", ctl_pause, NEEDS_DAEMON, 0, 0, 1, check_part, WORDS_PART,
	    true, "[delivery|intake]",
	    "send nothing more, or take no new mail, until resume",
	    "sesrelayctl pause intake" },
	{ "queue", ctl_queue, NEEDS_SPOOL, OPT_LIST, 0, 1, check_state,
	    WORDS_STATE, false, "[-l] [STATE]",
	    "messages, or those that are ready, waiting, active or held",
	    "sesrelayctl queue -l waiting" },
	{ "release", ctl_release, NEEDS_DAEMON, OPT_ALL, 0, INT_MAX, check_ids,
	    WORDS_ID, true, "ID... | --all", "let what is held go",
	    "sesrelayctl release --all" },
	{ "reload", run_reload, NEEDS_DAEMON, 0, 0, 0, NULL, WORDS_NONE, true,
	    "", "read the configuration again", "sesrelayctl reload" },
	{ "requeue", ctl_requeue, NEEDS_DAEMON, OPT_ALL, 0, INT_MAX, check_ids,
	    WORDS_FAILED_ID, true, "ID... | --all",
	    "put dead letters back into the queue",
	    "sesrelayctl requeue --all" },
	{ "resume", ctl_resume, NEEDS_DAEMON, 0, 0, 1, check_part, WORDS_PART,
	    true, "[delivery|intake]", "end a pause", "sesrelayctl resume" },
	{ "retry", ctl_retry, NEEDS_DAEMON, OPT_ALL, 0, INT_MAX, check_ids,
	    WORDS_ID, true, "[ID... | --all]",
	    "try now; without an id, everything", "sesrelayctl retry" },
	{ "rewrite-test", ctl_rewrite_test, NEEDS_NOTHING, OPT_FROM | OPT_TO, 1,
	    1, check_file, WORDS_FILE, false,
	    "FILE [--from ADDRESS] [--to ADDRESS]...",
	    "what would become of a message (-: standard input); needs no "
	    "daemon, sends nothing",
	    "sesrelayctl rewrite-test cron.eml --from root --to root" },
	{ "rotate", ctl_rotate, NEEDS_DAEMON, OPT_WAIT | OPT_TIMEOUT, 0, 0,
	    NULL, WORDS_NONE, true, "[--wait] [--timeout D]",
	    "renew all connections to SES", "sesrelayctl rotate --wait" },
	{ "send-test", ctl_send_test, NEEDS_DAEMON, OPT_FROM | OPT_TIMEOUT, 1,
	    1, ctl_check_address, WORDS_ADDRESS, true,
	    "ADDRESS [--from ADDRESS] [--timeout D]",
	    "one message through the relay, followed until SES has answered",
	    "sesrelayctl send-test success@simulator.amazonses.com --from "
	    "you@example.com" },
	{ "show", ctl_show, NEEDS_SPOOL, OPT_PARTS | OPT_LOG, 1, 1, check_id,
	    WORDS_ID, false, "ID [--envelope] [--headers] [--body] [--log]",
	    "one message", "sesrelayctl show " ID " --headers --body" },
	{ "status", ctl_status, NEEDS_NOTHING, OPT_CHECK, 0, 0, NULL,
	    WORDS_NONE, false,
	    "[--check [--warn-age D] [--crit-age D] [--warn-queue N] "
	    "[--crit-queue N]]",
	    "the state of everything, on one screen; or in one line for "
	    "Nagios and its like",
	    "sesrelayctl status --check --warn-age 15m --crit-age 1h" },
	{ "top", ctl_top, NEEDS_NOTHING, OPT_TOP, 0, 0, NULL, WORDS_NONE, false,
	    "[-d D] [-n N | --once]",
	    "a live view: rates, queue, connections, errors",
	    "sesrelayctl top -d 2s" },
	{ "trace", ctl_trace, NEEDS_SPOOL, 0, 1, 1, check_text, WORDS_TEXT,
	    false, "TEXT",
	    "the story of a message, by queue id, Message-ID or SES message id",
	    "sesrelayctl trace '<a1@app.example.com>'" },
};
const size_t ctl_n_verbs = ARRAY_LEN(ctl_verbs);
