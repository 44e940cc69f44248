/*
 * Arguments of sendmail(1), as forty years of callers write them.
 *
 * Pure.  Options may stand after addresses, be bundled ("-ti"), and have their
 * value attached or behind them.  What has no meaning for a relay that queues
 * everything is accepted and forgotten; what would ask for another program (a
 * daemon, an address test) is refused with the name of the one to call.
 */
#include "cli/sendmail.h"

#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

/* How an option takes its value. */
enum value {
	NONE,
	ATTACHED, /* "-q15m"; what follows is no part of it */
	EITHER, /* "-fX", "-f X" */
	UNKNOWN,
};

static enum value value_of(char option)
{
	if (strchr("GIUimntv", option) != NULL)
		return NONE;
	if (strchr("ADdeq", option) != NULL)
		return ATTACHED;
	if (strchr("BCFLMNOQRVXbfhopr", option) != NULL)
		return EITHER;
	return UNKNOWN;
}

static int set_mode(struct sendmail_args *a, char mode, struct err *err)
{
	switch (mode) {
	case 'm':
	case 'a':
		a->mode = SENDMAIL_SEND;
		return 0;
	case 's':
		a->mode = SENDMAIL_SMTP;
		return 0;
	case 'v':
		a->mode = SENDMAIL_VERIFY;
		return 0;
	case 'p':
	case 'P':
		a->mode = SENDMAIL_QUEUE;
		return 0;
	case 'i':
		a->mode = SENDMAIL_ALIASES;
		return 0;
	case 'd':
	case 'D':
	case 'l':
		return err_set(err, 0,
		    "-b%c: the daemon is sesrelayd; start it with \"systemctl "
		    "start sesrelayd\"",
		    mode);
	case 't':
		return err_set(err, 0,
		    "-bt: to see what becomes of an address, use -bv or "
		    "\"sesrelayctl rewrite-test\"");
	default:
		return err_set(err, 0, "-b%c is no mode that can be served",
		    mode >= ' ' && mode <= '~' ? mode : '?');
	}
}

/* "IgnoreDots=true", and " i" as -O and -o name it. */
static void set_option(struct sendmail_args *a, const char *text)
{
	struct slice value = slice_str(text);
	struct slice name = slice_split(&value, '=');

	if (slice_caseeq_str(slice_trim(name), "IgnoreDots"))
		a->ignore_dots = !slice_has_caseprefix(slice_trim(value), "f");
}

static int set(
    struct sendmail_args *a, char option, const char *value, struct err *err)
{
	switch (option) {
	case 't':
		a->from_header = true;
		break;
	case 'i':
		a->ignore_dots = true;
		break;
	case 'v':
		a->verbose = true;
		break;
	case 'I':
		a->mode = SENDMAIL_ALIASES;
		break;
	case 'q':
		/* "-bp -q" looks at the queue. */
		if (a->mode == SENDMAIL_SEND)
			a->mode = SENDMAIL_RETRY;
		break;
	case 'f':
	case 'r':
		a->sender = value;
		break;
	case 'F':
		a->full_name = value;
		break;
	case 'C':
		a->config = value;
		break;
	case 'b':
		return set_mode(a, value[0], err);
	case 'o':
		if (strcmp(value, "i") == 0)
			a->ignore_dots = true;
		break;
	case 'O':
		set_option(a, value);
		break;
	default: /* nothing that we would do otherwise */
		break;
	}
	return 0;
}

/* A word that begins with '-'; *i is advanced when it takes the next one. */
static int take_word(struct sendmail_args *a, int argc, char *const *argv,
    int *i, struct err *err)
{
	for (const char *p = argv[*i] + 1; *p != '\0'; p++) {
		const char *value = p + 1;
		enum value takes = value_of(*p);

		if (takes == UNKNOWN)
			return err_set(err, 0,
			    "unknown option \"%.100s\"; an address that begins "
			    "with \"-\" goes behind \"--\"",
			    argv[*i]);
		if (takes == EITHER && *value == '\0') {
			if (*i + 1 == argc)
				return err_set(
				    err, 0, "option -%c needs a value", *p);
			value = argv[++*i];
		}
		if (set(a, *p, value, err) != 0)
			return -1;
		if (takes != NONE)
			return 0;
	}
	return 0;
}

static enum sendmail_mode mode_of_name(const char *name)
{
	const char *slash = strrchr(name, '/');

	if (slash != NULL)
		name = slash + 1;
	if (strcmp(name, "mailq") == 0)
		return SENDMAIL_QUEUE;
	if (strcmp(name, "newaliases") == 0)
		return SENDMAIL_ALIASES;
	return SENDMAIL_SEND;
}

int sendmail_args_parse(
    struct sendmail_args *a, int argc, char *const *argv, struct err *err)
{
	bool only_addresses = false;

	*a = (struct sendmail_args){ 0 };
	a->rcpts = xcalloc((size_t)argc + 1, sizeof *a->rcpts);
	if (argc > 0)
		a->mode = mode_of_name(argv[0]);
	for (int i = 1; i < argc; i++) {
		const char *word = argv[i];

		if (only_addresses || word[0] != '-' || word[1] == '\0') {
			a->rcpts[a->n_rcpts++] = word;
		} else if (strcmp(word, "--") == 0) {
			only_addresses = true;
		} else if (strcmp(word, "--help") == 0) {
			a->mode = SENDMAIL_HELP;
		} else if (strcmp(word, "--version") == 0) {
			a->mode = SENDMAIL_VERSION;
		} else if (take_word(a, argc, argv, &i, err) != 0) {
			return -1;
		}
	}
	/* Some say "-q" and mean nothing by it but "do send". */
	if (a->mode == SENDMAIL_RETRY && (a->n_rcpts > 0 || a->from_header))
		a->mode = SENDMAIL_SEND;
	return 0;
}
