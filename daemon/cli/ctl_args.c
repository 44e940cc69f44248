/*
 * The command line, by the tables of verbs and of options.
 *
 * Options may stand anywhere; getopt_long(3) reads them with arrays that are
 * made of the table.  Whatever is wrong ends the process here, with what would
 * have been right; for who asked for JSON, in JSON.
 */
#include "cli/ctl.h"

#include "base/clock.h"
#include "base/mem.h"

#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

/* --- reading --- */

void ctl_exit(const struct ctl_options *o, int rc)
{
	if (o->check) { /* a usage that is wrong tells nothing of mail */
		printf("SESRELAYD UNKNOWN - %s\n", ctl_errors_kept());
		rc = 3;
	} else if (o->json) {
		ctl_errors_put_object(rc);
	}
	exit(rc);
}

static void NORETURN usage_error(const struct ctl_options *o)
{
	if (!o->json && !o->check)
		ctl_help(stderr);
	ctl_exit(o, EX_USAGE);
}

/* What getopt_long(3) is to know. */
struct getopt_tables {
	char letters[3 * 64];
	struct option options[64];
};

#define LONG_BASE 256 /* + the place in the table */

static void make_tables(struct getopt_tables *t)
{
	size_t n = 0, len = 0;

	ASSERT(ctl_n_options < ARRAY_LEN(t->options));
	t->letters[len++] = ':'; /* quiet, and tells what is missing */
	for (size_t i = 0; i < ctl_n_options; i++) {
		const struct ctl_option *o = &ctl_options_table[i];

		if (o->letter != 0) {
			t->letters[len++] = o->letter;
			if (o->arg != NULL)
				t->letters[len++] = ':';
		}
		if (o->name != NULL)
			t->options[n++] = (struct option){
				.name = o->name,
				.has_arg = o->arg != NULL ? required_argument
							  : no_argument,
				.val = LONG_BASE + (int)i,
			};
	}
	t->letters[len] = '\0';
	t->options[n] = (struct option){ 0 };
}

static const struct ctl_option *option_of(int c)
{
	if (c >= LONG_BASE)
		return &ctl_options_table[c - LONG_BASE];
	for (size_t i = 0; i < ctl_n_options; i++)
		if (ctl_options_table[i].letter == c)
			return &ctl_options_table[i];
	return NULL;
}

/* "--name", or "-l" of one that has none. */
static const char *spell(const struct ctl_option *option, char buf[CTL_BUF])
{
	if (option->name != NULL)
		snprintf(buf, CTL_BUF, "--%s", option->name);
	else
		snprintf(buf, CTL_BUF, "-%c", option->letter);
	return buf;
}

static void NORETURN unknown_option(
    const struct ctl_options *o, const char *arg)
{
	const char *near = NULL;

	/* optopt tells of letters alone; getopt stands behind the word. */
	if (optopt > 0 && optopt < LONG_BASE && strncmp(arg, "--", 2) != 0) {
		ctl_error("there is no option -%c", optopt);
	} else {
		char *word = xstrndup(arg, strcspn(arg, "="));

		if (strlen(word) > 2)
			near = ctl_nearest(word + 2, &ctl_options_table[0].name,
			    ctl_n_options, sizeof ctl_options_table[0]);
		ctl_error("there is no option %s%s%s%s", word,
		    near != NULL ? "; did you mean --" : "",
		    near != NULL ? near : "", near != NULL ? "?" : "");
		free(word);
	}
	usage_error(o);
}

static void take(struct ctl_options *o, const struct ctl_option *option)
{
	char name[CTL_BUF];

	if (option->take(o, optarg))
		return;
	ctl_error("%s: '%s' is no %s", spell(option, name), optarg,
	    option->words == WORDS_DURATION ? "duration; say 30s, 5m, 2h"
					    : "number");
	ctl_exit(o, EX_USAGE);
}

/* Returns the bits of enum ctl_option_bit used; operands are last. */
static unsigned read_options(int argc, char **argv, struct ctl_options *o)
{
	struct getopt_tables tables;
	const struct ctl_option *option;
	unsigned used = 0;
	char name[CTL_BUF];
	int c;

	make_tables(&tables);
	opterr = 0;
	while ((c = getopt_long(
		    argc, argv, tables.letters, tables.options, NULL)) != -1) {
		if (c == '?')
			unknown_option(o, argv[optind - 1]);
		option = option_of(c == ':' ? optopt : c);
		ASSERT(option != NULL);
		if (c == ':') {
			ctl_error("%s needs its %s", spell(option, name),
			    option->arg);
			usage_error(o);
		}
		take(o, option);
		used |= option->bit;
	}
	if (!o->headers && !o->body)
		o->envelope = true;
	return used;
}

/* The `n`th of `total`; `last` goes before the last.  Takes `list`. */
static char *add_to_list(
    char *list, size_t n, size_t total, const char *last, const char *name)
{
	char *more = xasprintf("%s%s%s", list,
	    n == 0               ? ""
		: n + 1 == total ? last
				 : ", ",
	    name);

	free(list);
	return more;
}

/* "a, b and c" of the verbs that have the option. */
static char *list_verbs(unsigned bit)
{
	char *list = xstrdup("");
	size_t n = 0, total = 0;

	for (size_t i = 0; i < ctl_n_verbs; i++)
		total += (ctl_verbs[i].options & bit) != 0;
	for (size_t i = 0; i < ctl_n_verbs; i++)
		if ((ctl_verbs[i].options & bit) != 0)
			list = add_to_list(
			    list, n++, total, " and ", ctl_verbs[i].name);
	return list;
}

/* An option of another verb?  Says so. */
static bool are_strange(const struct ctl_verb *verb, unsigned used)
{
	for (size_t i = 0; i < ctl_n_options; i++) {
		const struct ctl_option *option = &ctl_options_table[i];
		char name[CTL_BUF], *list;

		if ((used & option->bit & ~verb->options) == 0)
			continue;
		list = list_verbs(option->bit);
		ctl_error("%s: %s goes with %s", verb->name,
		    spell(option, name), list);
		free(list);
		return true;
	}
	return false;
}

static const char *check_counts(
    const struct ctl_verb *verb, unsigned used, const struct ctl_options *o)
{
	if (o->n_args < verb->min_args)
		return "it needs an argument";
	if (o->n_args > verb->max_args)
		return "too many arguments";
	if (o->all && o->n_args > 0)
		return "either queue ids, or --all";
	/* Only retry means all when none is named. */
	if ((verb->options & OPT_ALL) != 0 && !o->all && o->n_args == 0 &&
	    verb->run != ctl_retry)
		return "which messages? name queue ids, - or --all";
	if (o->n_args == 0 && verb->run == ctl_failed &&
	    (used & OPT_PARTS) != 0)
		return "--envelope, --headers and --body need an id";
	if ((used & OPT_CHECK) != 0 && !o->check)
		return "thresholds are for --check";
	if (o->once && o->count >= 0)
		return "either --once, or a count";
	return NULL;
}

static const char *check_values(
    const struct ctl_verb *verb, const struct ctl_options *o)
{
	const char *wrong = NULL;

	/* What is wrong with it is what rewrite-test has to tell. */
	if (o->from != NULL && verb->run != ctl_rewrite_test)
		wrong = ctl_check_address(o->from);
	for (int i = 0; i < o->n_args && wrong == NULL; i++)
		wrong = verb->check(o->args[i]);
	if (o->delay_us >= 0 && o->delay_us < 100 * US_PER_MS)
		wrong = "-d: no less than 100ms";
	if (o->count == 0)
		wrong = "-n: at least 1";
	return wrong;
}

/* "a, b or c" of the verbs that begin so. */
static char *list_prefixed(const char *prefix)
{
	size_t n = 0, total = 0, len = strlen(prefix);
	char *list = xstrdup("");

	for (size_t i = 0; i < ctl_n_verbs; i++)
		total += strncmp(ctl_verbs[i].name, prefix, len) == 0;
	for (size_t i = 0; i < ctl_n_verbs; i++)
		if (strncmp(ctl_verbs[i].name, prefix, len) == 0)
			list = add_to_list(
			    list, n++, total, " or ", ctl_verbs[i].name);
	return list;
}

static const struct ctl_verb *find_verb(
    const struct ctl_options *o, const char *name)
{
	const struct ctl_verb *found = NULL;
	size_t n_found = 0;
	const char *near;

	for (size_t i = 0; i < ctl_n_verbs; i++) {
		if (strcmp(ctl_verbs[i].name, name) == 0)
			return &ctl_verbs[i];
		if (strncmp(ctl_verbs[i].name, name, strlen(name)) != 0)
			continue;
		n_found++;
		found = &ctl_verbs[i];
	}
	if (n_found == 1)
		return found;
	if (n_found > 1) {
		char *list = list_prefixed(name);

		ctl_error("'%s' may be %s", name, list);
		free(list);
		ctl_exit(o, EX_USAGE);
	}
	near = ctl_nearest(
	    name, &ctl_verbs[0].name, ctl_n_verbs, sizeof ctl_verbs[0]);
	if (near != NULL)
		ctl_error("what is '%s'? did you mean '%s'?", name, near);
	else
		ctl_error(
		    "what is '%s'? \"sesrelayctl -h\" lists the verbs", name);
	ctl_exit(o, EX_USAGE);
}

/* Who mistypes it, too, is to be answered in JSON, or in one line. */
static void look_ahead(int argc, char **argv, struct ctl_options *o)
{
	for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
		if (strcmp(argv[i], "--json") == 0)
			o->json = true;
		if (strcmp(argv[i], "--check") == 0)
			o->check = true;
	}
	if (o->json || o->check)
		ctl_errors_keep();
}

static void NORETURN give_help(
    const struct ctl_options *o, const struct ctl_verb *verb)
{
	if (o->json)
		ctl_help_json(verb);
	else if (verb != NULL)
		ctl_help_verb(verb);
	else
		ctl_help(stdout);
	exit(EX_OK);
}

const struct ctl_verb *ctl_args_read(
    int argc, char **argv, struct ctl_options *o)
{
	const struct ctl_verb *verb;
	const char *wrong;
	unsigned used;

	*o = (struct ctl_options){ .timeout_us = -1,
		.delay_us = -1,
		.count = -1,
		.warn_age_us = -1,
		.crit_age_us = -1,
		.warn_queue = -1,
		.crit_queue = -1 };
	if (argc == 2 && strcmp(argv[1], "--dump-tables") == 0) {
		ctl_help_dump();
		exit(EX_OK);
	}
	look_ahead(argc, argv, o);
	used = read_options(argc, argv, o);
	if (optind < argc && strcmp(argv[optind], "help") == 0) {
		o->help = true;
		optind++;
	}
	if (optind == argc && o->help)
		give_help(o, NULL);
	if (optind == argc) {
		if (o->json || o->check)
			ctl_error("which verb? \"sesrelayctl -h\" lists them");
		usage_error(o);
	}
	verb = find_verb(o, argv[optind++]);
	if (o->help)
		give_help(o, verb);
	o->args = argv + optind;
	o->n_args = argc - optind;
	if (are_strange(verb, used))
		ctl_exit(o, EX_USAGE);
	wrong = check_counts(verb, used, o);
	if (wrong == NULL)
		wrong = check_values(verb, o);
	if (wrong != NULL) {
		ctl_error("%s: %s; see \"sesrelayctl %s -h\"", verb->name,
		    wrong, verb->name);
		ctl_exit(o, EX_USAGE);
	}
	return verb;
}
