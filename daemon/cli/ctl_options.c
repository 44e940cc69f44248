/*
 * The table of options: what each is called, takes and goes with, and what the
 * help says of it.  Pure, but for --version, which ends the process.
 */
#include "cli/ctl.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/slice.h"

#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

/* --- values --- */

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

static bool take_duration(int64_t *to, const char *arg)
{
	*to = parse_duration(arg);
	return *to >= 0;
}

static bool take_number(int64_t *to, const char *arg)
{
	uint64_t value;

	if (slice_parse_u64(slice_str(arg), &value) != 0 || value > INT32_MAX)
		return false;
	*to = (int64_t)value;
	return true;
}

#define TAKE_FLAG(member)                                                      \
	static bool take_##member(struct ctl_options *o, const char *arg)      \
	{                                                                      \
		(void)arg;                                                     \
		return o->member = true;                                       \
	}
#define TAKE_TEXT(member)                                                      \
	static bool take_##member(struct ctl_options *o, const char *arg)      \
	{                                                                      \
		o->member = arg;                                               \
		return true;                                                   \
	}
#define TAKE_DURATION(member)                                                  \
	static bool take_##member(struct ctl_options *o, const char *arg)      \
	{                                                                      \
		return take_duration(&o->member, arg);                         \
	}
#define TAKE_NUMBER(member)                                                    \
	static bool take_##member(struct ctl_options *o, const char *arg)      \
	{                                                                      \
		return take_number(&o->member, arg);                           \
	}

TAKE_TEXT(file)
TAKE_TEXT(socket)
TAKE_FLAG(json)
TAKE_FLAG(help)
TAKE_FLAG(list)
TAKE_FLAG(postfix_json)
TAKE_FLAG(envelope)
TAKE_FLAG(headers)
TAKE_FLAG(body)
TAKE_FLAG(log)
TAKE_FLAG(all)
TAKE_FLAG(yes)
TAKE_FLAG(wait)
TAKE_FLAG(check)
TAKE_FLAG(once)
TAKE_TEXT(region)
TAKE_TEXT(from)
TAKE_DURATION(timeout_us)
TAKE_DURATION(delay_us)
TAKE_DURATION(warn_age_us)
TAKE_DURATION(crit_age_us)
TAKE_NUMBER(warn_queue)
TAKE_NUMBER(crit_queue)
TAKE_NUMBER(count)

static bool take_to(struct ctl_options *o, const char *arg)
{
	o->to = xrealloc(o->to, (o->n_to + 1) * sizeof o->to[0]);
	o->to[o->n_to++] = arg;
	return true;
}

static bool take_version(struct ctl_options *o, const char *arg)
{
	(void)arg;
	printf(o->json ? "{\"version\":\"%s\"}\n" : "sesrelayctl %s\n",
	    SESRELAYD_VERSION);
	exit(EX_OK);
}

/* --- the table --- */

const struct ctl_option ctl_options_table[] = {
	{ "config", 'c', 0, "FILE", WORDS_FILE, take_file,
	    "configuration that names socket and spool "
	    "(default " CTL_CONFIG_FILE ")" },
	{ "socket", 's', 0, "SOCKET", WORDS_FILE, take_socket,
	    "control socket (default " CTL_SOCKET ")" },
	{ "json", 0, 0, NULL, WORDS_NONE, take_json, "objects, one a line" },
	{ "help", 'h', 0, NULL, WORDS_NONE, take_help,
	    "this text; behind a verb, more about that" },
	{ "version", 'V', 0, NULL, WORDS_NONE, take_version, "the version" },
	{ "long", 'l', OPT_LIST, NULL, WORDS_NONE, take_list,
	    "more of each: all recipients; TLS, and when it is renewed" },
	{ NULL, 'j', OPT_POSTFIX, NULL, WORDS_NONE, take_postfix_json,
	    "as \"postqueue -j\" prints it" },
	{ "envelope", 0, OPT_PARTS, NULL, WORDS_NONE, take_envelope,
	    "sender, recipients, and how it stands; this, if nothing is said" },
	{ "headers", 0, OPT_PARTS, NULL, WORDS_NONE, take_headers,
	    "the header of the content" },
	{ "body", 0, OPT_PARTS, NULL, WORDS_NONE, take_body,
	    "the body of the content" },
	{ "log", 0, OPT_LOG, NULL, WORDS_NONE, take_log,
	    "its story, as trace tells it" },
	{ "all", 0, OPT_ALL, NULL, WORDS_NONE, take_all,
	    "every message, instead of ids" },
	{ "yes", 0, OPT_YES, NULL, WORDS_NONE, take_yes,
	    "do not ask whether all shall go" },
	{ "timeout", 0, OPT_TIMEOUT, "D", WORDS_DURATION, take_timeout_us,
	    "wait no longer than this: 30s, 5m, 2h" },
	{ "region", 0, OPT_REGION, "R", WORDS_REGION, take_region,
	    "of SES, such as eu-west-1 (default: ses.region)" },
	{ "from", 0, OPT_FROM, "ADDRESS", WORDS_ADDRESS, take_from,
	    "the sender" },
	{ "to", 0, OPT_TO, "ADDRESS", WORDS_ADDRESS, take_to,
	    "a recipient; may be repeated" },
	{ "wait", 0, OPT_WAIT, NULL, WORDS_NONE, take_wait,
	    "until all are renewed" },
	{ "check", 0, OPT_CHECK, NULL, WORDS_NONE, take_check,
	    "one line and an exit code, as Nagios plugins have them" },
	{ "warn-age", 0, OPT_CHECK, "D", WORDS_DURATION, take_warn_age_us,
	    "a message older than this is a warning (default 15m)" },
	{ "crit-age", 0, OPT_CHECK, "D", WORDS_DURATION, take_crit_age_us,
	    "a message older than this is critical (default 1h)" },
	{ "warn-queue", 0, OPT_CHECK, "N", WORDS_NUMBER, take_warn_queue,
	    "more messages than this are a warning (default 1000)" },
	{ "crit-queue", 0, OPT_CHECK, "N", WORDS_NUMBER, take_crit_queue,
	    "more messages than this are critical (default 10000)" },
	{ "delay", 'd', OPT_TOP, "D", WORDS_DURATION, take_delay_us,
	    "between two looks (default 1s)" },
	{ "count", 'n', OPT_TOP, "N", WORDS_NUMBER, take_count,
	    "so many looks, then end" },
	{ "once", 0, OPT_TOP, NULL, WORDS_NONE, take_once,
	    "one look, as plain text" },
};
const size_t ctl_n_options = ARRAY_LEN(ctl_options_table);
