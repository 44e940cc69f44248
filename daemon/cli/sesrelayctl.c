/*
 * sesrelayctl: the operator's tool.  Options and verbs; everything is asked of
 * the daemon over its control socket, or of its spool when it is down, and
 * printed for people or, with --json, as it comes.
 *
 * Exit codes are part of the contract: see sesrelayctl(8).
 */
#include "cli/ctl.h"

#include "base/clock.h"
#include "base/id.h"
#include "base/log.h"
#include "base/mem.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sysexits.h>

static const char usage_text[] =
    "usage: sesrelayctl [-c FILE] [-s SOCKET] [--json] VERB ...\n"
    "look:\n"
    "  status               the state of everything, on one screen\n"
    "  connections [-l]     those to SES, and what each does; -l: with TLS "
    "and\n"
    "                       when it is renewed\n"
    "  queue [-l] [STATE]   messages; -l: with all recipients.  STATE: ready,\n"
    "                       waiting, active, held\n"
    "  mailq [-j]           the same as Postfix prints it\n"
    "  count                number of queued messages\n"
    "  show ID [--envelope] [--headers] [--body] [--log]\n"
    "                       one message\n"
    "  failed [ID [--envelope] [--headers] [--body]]\n"
    "                       dead letters with their reason\n"
    "  trace TEXT           the story of a message, by queue id, Message-ID "
    "or\n"
    "                       SES message id\n"
    "  metrics              what is measured, as Prometheus reads it\n"
    "  check                try every SES port, say what is wrong; needs no\n"
    "                       daemon\n"
    "  send-test ADDRESS [--from ADDRESS] [--timeout D]\n"
    "                       one message through the relay, followed until SES\n"
    "                       has answered\n"
    "  password [--region R]\n"
    "                       the SMTP password of a region, from the secret\n"
    "                       access key on standard input or in\n"
    "                       ses.secret_key_file; needs no daemon\n"
    "  rewrite-test FILE [--from ADDRESS] [--to ADDRESS]...\n"
    "                       what would become of a message (-: standard "
    "input);\n"
    "                       needs no daemon, sends nothing\n"
    "change (ID...: queue ids; -: read them from standard input; --all):\n"
    "  retry [ID...]        try now\n"
    "  hold ID...           keep it until it is released\n"
    "  release ID...        let it go\n"
    "  delete ID...         gone for good; --yes: do not ask\n"
    "  requeue ID...        put dead letters back into the queue\n"
    "  pause, resume [delivery|intake]\n"
    "  drain [--timeout D]  no new mail; wait until the queue is empty\n"
    "  rotate [--wait] [--timeout D]\n"
    "                       renew all connections to SES\n"
    "  reload               read the configuration again\n"
    "  log-level [LEVEL]    error, warning, info or debug, until the next\n"
    "                       reload; without LEVEL, what it is\n"
    "options:\n"
    "  -c FILE    configuration that names socket and spool (default\n"
    "             " CTL_CONFIG_FILE ")\n"
    "  -s SOCKET  control socket (default " CTL_SOCKET ")\n"
    "  --json     objects, one a line\n"
    "  -h, -V     this text; the version\n"
    "Any unambiguous prefix of a verb works.  sesrelayctl(8) says more.\n";

enum verb_option {
	OPT_LIST = 1,
	OPT_PARTS = 2,
	OPT_LOG = 4,
	OPT_ALL = 8,
	OPT_YES = 16,
	OPT_TIMEOUT = 32,
	OPT_POSTFIX = 64,
	OPT_REGION = 128,
	OPT_FROM = 256,
	OPT_WAIT = 512,
	OPT_TO = 1024,
};

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

static bool put_log_level(void *ctx, json_t *object)
{
	(void)ctx;
	ctl_put_line("Log level:", "%s", ctl_text(object, "log_level"));
	return true;
}

static int run_log_level(
    struct ctl_client *c, const struct ctl_options *options)
{
	char request[64];

	snprintf(request, sizeof request, "log-level%s%s",
	    options->n_args > 0 ? " " : "",
	    options->n_args > 0 ? options->args[0] : "");
	return ctl_request(c, request, put_log_level, NULL);
}

/* --- the table --- */

/* What a verb's arguments have to look like; NULL: it is fine. */
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

/* It has to fit into a line of the protocol, and to stay one. */
static const char *check_text(const char *arg)
{
	return arg[0] != '\0' && strlen(arg) < 3000 &&
		strcspn(arg, "\r\n") == strlen(arg)
	    ? NULL
	    : "a queue id, a Message-ID or an SES message id";
}

static const char *check_address(const char *arg)
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

static const char *check_level(const char *arg)
{
	enum log_level level;

	return log_level_parse(slice_str(arg), &level) == 0
	    ? NULL
	    : "levels are: error, warning, info, debug";
}

static const char *check_file(const char *arg)
{
	return arg[0] != '\0' ? NULL : "a file, or - for standard input";
}

enum verb_needs {
	NEEDS_DAEMON,
	NEEDS_SPOOL, /* of the daemon, or by itself when that is down */
	NEEDS_NOTHING,
};

struct verb {
	const char *name;
	int min_args, max_args;
	const char *(*check)(const char *arg);
	int (*run)(struct ctl_client *c, const struct ctl_options *options);
	unsigned options;
	enum verb_needs needs;
};

static const struct verb verbs[] = {
	{ "check", 0, 0, NULL, ctl_check, 0, NEEDS_NOTHING },
	{ "connections", 0, 0, NULL, ctl_connections, OPT_LIST, NEEDS_DAEMON },
	{ "count", 0, 0, NULL, run_count, 0, NEEDS_SPOOL },
	{ "delete", 0, INT_MAX, check_ids, ctl_delete, OPT_ALL | OPT_YES,
	    NEEDS_DAEMON },
	{ "drain", 0, 0, NULL, ctl_drain, OPT_TIMEOUT, NEEDS_DAEMON },
	{ "failed", 0, 1, check_id, ctl_failed, OPT_PARTS, NEEDS_SPOOL },
	{ "hold", 0, INT_MAX, check_ids, ctl_hold, OPT_ALL, NEEDS_DAEMON },
	{ "log-level", 0, 1, check_level, run_log_level, 0, NEEDS_DAEMON },
	{ "mailq", 0, 0, NULL, ctl_mailq, OPT_POSTFIX, NEEDS_SPOOL },
	{ "metrics", 0, 0, NULL, run_metrics, 0, NEEDS_DAEMON },
	{ "password", 0, 0, NULL, ctl_password, OPT_REGION, NEEDS_NOTHING },
	{ "pause", 0, 1, check_part, ctl_pause, 0, NEEDS_DAEMON },
	{ "queue", 0, 1, check_state, ctl_queue, OPT_LIST, NEEDS_SPOOL },
	{ "release", 0, INT_MAX, check_ids, ctl_release, OPT_ALL,
	    NEEDS_DAEMON },
	{ "reload", 0, 0, NULL, run_reload, 0, NEEDS_DAEMON },
	{ "requeue", 0, INT_MAX, check_ids, ctl_requeue, OPT_ALL,
	    NEEDS_DAEMON },
	{ "resume", 0, 1, check_part, ctl_resume, 0, NEEDS_DAEMON },
	{ "retry", 0, INT_MAX, check_ids, ctl_retry, OPT_ALL, NEEDS_DAEMON },
	{ "rewrite-test", 1, 1, check_file, ctl_rewrite_test, OPT_FROM | OPT_TO,
	    NEEDS_NOTHING },
	{ "rotate", 0, 0, NULL, ctl_rotate, OPT_WAIT | OPT_TIMEOUT,
	    NEEDS_DAEMON },
	{ "send-test", 1, 1, check_address, ctl_send_test,
	    OPT_FROM | OPT_TIMEOUT, NEEDS_DAEMON },
	{ "show", 1, 1, check_id, ctl_show, OPT_PARTS | OPT_LOG, NEEDS_SPOOL },
	{ "status", 0, 0, NULL, ctl_status, 0, NEEDS_DAEMON },
	{ "trace", 1, 1, check_text, ctl_trace, 0, NEEDS_SPOOL },
};

static const struct verb *find_verb(const char *name)
{
	const struct verb *found = NULL;

	for (size_t i = 0; i < ARRAY_LEN(verbs); i++) {
		if (strcmp(verbs[i].name, name) == 0)
			return &verbs[i];
		if (strncmp(verbs[i].name, name, strlen(name)) != 0)
			continue;
		if (found != NULL) {
			ctl_error("'%s' may be %s or %s", name, found->name,
			    verbs[i].name);
			exit(EX_USAGE);
		}
		found = &verbs[i];
	}
	if (found == NULL) {
		ctl_error(
		    "what is '%s'? \"sesrelayctl -h\" lists the verbs", name);
		exit(EX_USAGE);
	}
	return found;
}

/* --- the command line --- */

/* "90", "90s", "5m", "2h", "1d", "500ms"; -1: it is none. */
static int64_t parse_duration(const char *text)
{
	static const struct {
		const char *name;
		int64_t us;
	} units[] = { { "", US_PER_S }, { "ms", US_PER_MS }, { "s", US_PER_S },
		{ "m", 60 * US_PER_S }, { "h", 3600 * US_PER_S },
		{ "d", 86400 * US_PER_S } };
	size_t n = strspn(text, "0123456789");
	uint64_t value;

	if (slice_parse_u64(slice_of(text, n), &value) != 0 ||
	    value > 1000 * 1000 * 1000)
		return -1;
	for (size_t i = 0; i < ARRAY_LEN(units); i++)
		if (strcmp(text + n, units[i].name) == 0)
			return (int64_t)value * units[i].us;
	return -1;
}

static void take_timeout(struct ctl_options *o, const char *text)
{
	o->timeout_us = parse_duration(text);
	if (o->timeout_us >= 0)
		return;
	ctl_error("--timeout: '%s' is no duration; say 30s, 5m, 2h", text);
	exit(EX_USAGE);
}

enum long_option {
	JSON = 256,
	ENVELOPE,
	HEADERS,
	BODY,
	LOG,
	ALL,
	YES,
	TIMEOUT,
	REGION,
	FROM,
	TO,
	WAIT,
};

/* Bits of enum verb_option that it is. */
static unsigned take_option(struct ctl_options *o, int c)
{
	switch (c) {
	case 'c':
		o->file = optarg;
		return 0;
	case 's':
		o->socket = optarg;
		return 0;
	case JSON:
		o->json = true;
		return 0;
	case 'l':
		o->list = true;
		return OPT_LIST;
	case 'j':
		o->postfix_json = true;
		return OPT_POSTFIX;
	case ENVELOPE:
		o->envelope = true;
		return OPT_PARTS;
	case HEADERS:
		o->headers = true;
		return OPT_PARTS;
	case BODY:
		o->body = true;
		return OPT_PARTS;
	case LOG:
		o->log = true;
		return OPT_LOG;
	case ALL:
		o->all = true;
		return OPT_ALL;
	case YES:
		o->yes = true;
		return OPT_YES;
	case TIMEOUT:
		take_timeout(o, optarg);
		return OPT_TIMEOUT;
	case REGION:
		o->region = optarg;
		return OPT_REGION;
	case FROM:
		o->from = optarg;
		return OPT_FROM;
	case TO:
		o->to = xrealloc(o->to, (o->n_to + 1) * sizeof o->to[0]);
		o->to[o->n_to++] = optarg;
		return OPT_TO;
	case WAIT:
		o->wait = true;
		return OPT_WAIT;
	case 'h':
		fputs(usage_text, stdout);
		exit(EX_OK);
	case 'V':
		puts("sesrelayctl " SESRELAYD_VERSION);
		exit(EX_OK);
	default:
		fputs(usage_text, stderr);
		exit(EX_USAGE);
	}
}

/* Returns the bits of enum verb_option that were used; operands are last. */
static unsigned read_options(int argc, char **argv, struct ctl_options *o)
{
	static const struct option options[] = {
		{ "config", required_argument, NULL, 'c' },
		{ "socket", required_argument, NULL, 's' },
		{ "long", no_argument, NULL, 'l' },
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'V' },
		{ "json", no_argument, NULL, JSON },
		{ "envelope", no_argument, NULL, ENVELOPE },
		{ "headers", no_argument, NULL, HEADERS },
		{ "body", no_argument, NULL, BODY },
		{ "log", no_argument, NULL, LOG },
		{ "all", no_argument, NULL, ALL },
		{ "yes", no_argument, NULL, YES },
		{ "timeout", required_argument, NULL, TIMEOUT },
		{ "region", required_argument, NULL, REGION },
		{ "from", required_argument, NULL, FROM },
		{ "to", required_argument, NULL, TO },
		{ "wait", no_argument, NULL, WAIT },
		{ NULL, 0, NULL, 0 },
	};
	unsigned used = 0;
	int c;

	while ((c = getopt_long(argc, argv, "c:s:ljhV", options, NULL)) != -1)
		used |= take_option(o, c);
	if (!o->headers && !o->body)
		o->envelope = true;
	return used;
}

static const char *check_options(
    const struct verb *verb, unsigned used, const struct ctl_options *o)
{
	static const struct {
		unsigned option;
		const char *goes_with;
	} rules[] = {
		{ OPT_LIST, "-l goes with queue and connections" },
		{ OPT_POSTFIX, "-j goes with mailq" },
		{ OPT_PARTS,
		    "--envelope, --headers and --body go with show and "
		    "failed" },
		{ OPT_LOG, "--log goes with show" },
		{ OPT_ALL,
		    "--all goes with retry, hold, release, delete, requeue" },
		{ OPT_YES, "--yes goes with delete" },
		{ OPT_TIMEOUT,
		    "--timeout goes with drain, rotate and send-test" },
		{ OPT_REGION, "--region goes with password" },
		{ OPT_FROM, "--from goes with send-test and rewrite-test" },
		{ OPT_TO, "--to goes with rewrite-test" },
		{ OPT_WAIT, "--wait goes with rotate" },
	};

	for (size_t i = 0; i < ARRAY_LEN(rules); i++)
		if ((used & rules[i].option & ~verb->options) != 0)
			return rules[i].goes_with;
	/* What is wrong with it is what rewrite-test has to tell. */
	if (o->from != NULL && verb->run != ctl_rewrite_test &&
	    check_address(o->from) != NULL)
		return check_address(o->from);
	if (o->n_args < verb->min_args)
		return "it needs an argument; see \"sesrelayctl -h\"";
	if (o->n_args > verb->max_args)
		return "too many arguments; see \"sesrelayctl -h\"";
	if (o->all && o->n_args > 0)
		return "either queue ids, or --all";
	/* Only retry means all when none is named. */
	if ((verb->options & OPT_ALL) != 0 && !o->all && o->n_args == 0 &&
	    verb->run != ctl_retry)
		return "which messages? name queue ids, - or --all";
	if (o->n_args == 0 && verb->run == ctl_failed &&
	    (used & OPT_PARTS) != 0)
		return "--envelope, --headers and --body need an id";
	return NULL;
}

static const struct verb *read_arguments(
    int argc, char **argv, struct ctl_options *o)
{
	unsigned used = read_options(argc, argv, o);
	const struct verb *verb;
	const char *wrong;

	if (optind == argc) {
		fputs(usage_text, stderr);
		exit(EX_USAGE);
	}
	verb = find_verb(argv[optind++]);
	o->args = argv + optind;
	o->n_args = argc - optind;
	wrong = check_options(verb, used, o);
	for (int i = 0; i < o->n_args && wrong == NULL; i++)
		wrong = verb->check(o->args[i]);
	if (wrong != NULL) {
		ctl_error("%s: %s", verb->name, wrong);
		exit(EX_USAGE);
	}
	if (verb->run == ctl_mailq && o->json) {
		o->postfix_json = true;
		o->json = false;
	}
	return verb;
}

int main(int argc, char **argv)
{
	struct ctl_options options = { .timeout_us = -1 };
	const struct verb *verb;
	struct ctl_client *c = NULL;
	int rc;

	/* `check` and `password` have secrets: no core, no ptrace by others. */
	prctl(PR_SET_DUMPABLE, 0);
	clock_update();
	verb = read_arguments(argc, argv, &options);
	if (verb->needs != NEEDS_NOTHING) {
		c = ctl_open(&options, verb->needs == NEEDS_SPOOL, &rc);
		if (c == NULL)
			return rc;
	}
	rc = verb->run(c, &options);
	ctl_close(c);
	free(options.to);
	if ((fflush(stdout) != 0 || ferror(stdout)) && rc == EX_OK) {
		ctl_error("cannot write the answer: %s", strerror(errno));
		rc = EXIT_FAILURE;
	}
	return rc;
}
