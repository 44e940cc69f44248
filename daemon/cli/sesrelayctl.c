/*
 * sesrelayctl: the operator's tool.  Options and verbs; everything is asked of
 * the daemon over its control socket, and printed for people or, with --json,
 * as it comes.
 *
 * Exit codes are part of the contract: see sesrelayctl(8).
 */
#include "cli/ctl.h"

#include "base/clock.h"
#include "base/id.h"
#include "base/mem.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

static const char usage_text[] =
    "usage: sesrelayctl [-c FILE] [-s SOCKET] [--json] VERB ...\n"
    "  status               the state of everything, on one screen\n"
    "  queue [-l] [STATE]   messages; -l: with all recipients.  STATE: ready,\n"
    "                       waiting, active, held\n"
    "  count                number of queued messages\n"
    "  show ID [--envelope] [--headers] [--body]\n"
    "                       one message\n"
    "  reload               read the configuration again\n"
    "  -c FILE    configuration that names the socket (default\n"
    "             " CTL_CONFIG_FILE ")\n"
    "  -s SOCKET  control socket (default " CTL_SOCKET ")\n"
    "  --json     objects, one a line\n"
    "  -h, -V     this text; the version\n"
    "Any unambiguous prefix of a verb works.  sesrelayctl(8) says more.\n";

enum verb_option { OPT_LIST = 1, OPT_SHOW = 2 };

/* --- verbs of a few lines --- */

static int run_status(
    struct ctl_client *c, const struct ctl_options *options, const char *arg)
{
	(void)options;
	(void)arg;
	return ctl_status(c);
}

static bool put_count(void *ctx, json_t *object)
{
	(void)ctx;
	printf("%" PRId64 "\n", ctl_number(object, "messages"));
	return true;
}

static int run_count(
    struct ctl_client *c, const struct ctl_options *options, const char *arg)
{
	(void)options;
	(void)arg;
	return ctl_request(c, "count", put_count, NULL);
}

static bool put_reloaded(void *ctx, json_t *object)
{
	(void)ctx;
	ctl_put_labelled("Reloaded:", 10, ctl_text(object, "message"));
	return true;
}

static int run_reload(
    struct ctl_client *c, const struct ctl_options *options, const char *arg)
{
	int rc = ctl_request(c, "reload", put_reloaded, NULL);

	(void)options;
	(void)arg;
	if (rc == EXIT_FAILURE)
		ctl_error("not reloaded: the old configuration stays in force");
	return rc;
}

/* --- the table --- */

/* What a verb's one argument has to look like; NULL: it is fine. */
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

struct verb {
	const char *name;
	int min_args, max_args; /* at most 1 */
	const char *(*check)(const char *arg);
	int (*run)(struct ctl_client *c, const struct ctl_options *options,
	    const char *arg);
	unsigned options;
};

static const struct verb verbs[] = {
	{ "count", 0, 0, NULL, run_count, 0 },
	{ "queue", 0, 1, check_state, ctl_queue, OPT_LIST },
	{ "reload", 0, 0, NULL, run_reload, 0 },
	{ "show", 1, 1, check_id, ctl_show, OPT_SHOW },
	{ "status", 0, 0, NULL, run_status, 0 },
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

/* Returns the bits of enum verb_option that were used; operands are last. */
static unsigned read_options(int argc, char **argv, struct ctl_options *o)
{
	enum { JSON = 256, ENVELOPE, HEADERS, BODY };
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
		{ NULL, 0, NULL, 0 },
	};
	unsigned used = 0;
	int c;

	while ((c = getopt_long(argc, argv, "c:s:lhV", options, NULL)) != -1) {
		if (c == 'c') {
			o->file = optarg;
		} else if (c == 's') {
			o->socket = optarg;
		} else if (c == JSON) {
			o->json = true;
		} else if (c == 'l') {
			o->list = true;
			used |= OPT_LIST;
		} else if (c == ENVELOPE || c == HEADERS || c == BODY) {
			o->envelope |= c == ENVELOPE;
			o->headers |= c == HEADERS;
			o->body |= c == BODY;
			used |= OPT_SHOW;
		} else if (c == 'h') {
			fputs(usage_text, stdout);
			exit(EX_OK);
		} else if (c == 'V') {
			puts("sesrelayctl " SESRELAYD_VERSION);
			exit(EX_OK);
		} else {
			fputs(usage_text, stderr);
			exit(EX_USAGE);
		}
	}
	if (!o->headers && !o->body)
		o->envelope = true;
	return used;
}

static const struct verb *read_arguments(
    int argc, char **argv, struct ctl_options *options, const char **arg)
{
	unsigned used = read_options(argc, argv, options);
	const struct verb *verb;
	const char *wrong = NULL;
	int n;

	if (optind == argc) {
		fputs(usage_text, stderr);
		exit(EX_USAGE);
	}
	verb = find_verb(argv[optind++]);
	n = argc - optind;
	*arg = n > 0 ? argv[optind] : NULL;
	if ((used & ~verb->options) != 0)
		wrong = used & OPT_LIST & ~verb->options
		    ? "-l goes with queue"
		    : "--envelope, --headers and --body go with show";
	else if (n < verb->min_args)
		wrong = "it needs an argument; see \"sesrelayctl -h\"";
	else if (n > verb->max_args)
		wrong = "too many arguments; see \"sesrelayctl -h\"";
	else if (n > 0)
		wrong = verb->check(*arg);
	if (wrong != NULL) {
		ctl_error("%s: %s", verb->name, wrong);
		exit(EX_USAGE);
	}
	return verb;
}

int main(int argc, char **argv)
{
	struct ctl_options options = { 0 };
	const struct verb *verb;
	struct ctl_client *c;
	const char *arg;
	int rc;

	clock_update();
	verb = read_arguments(argc, argv, &options, &arg);
	c = ctl_open(&options, &rc);
	if (c == NULL)
		return rc;
	rc = verb->run(c, &options, arg);
	ctl_close(c);
	if ((fflush(stdout) != 0 || ferror(stdout)) && rc == EX_OK) {
		ctl_error("cannot write the answer: %s", strerror(errno));
		rc = EXIT_FAILURE;
	}
	return rc;
}
