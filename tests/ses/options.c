/*
 * The command line, and the files of rules and commands it names.
 *
 * Owns the commands kept for later; all else goes where it belongs at once.
 * Rules and settings are checked here, so that a mistake ends the program
 * with 2 before anything listens; commands can be judged only when the ports
 * are there. What the program knows by name is printed from the tables that
 * it works with.
 */
#include "options.h"

#include "listener.h"
#include "makecert.h"
#include "replies.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] =
    "An emulator of Amazon SES's SMTP endpoint, for tests. Without options it\n"
    "listens on 127.0.0.1, ports 2587 (STARTTLS) and 2465 (TLS wrapper), with "
    "a\n"
    "certificate of its own making, and prints what it accepts.\n"
    "  --listen ADDR:PORT:MODE  MODE: starttls, wrapper, plain; PORT 0: any "
    "free\n"
    "  --cert FILE --key FILE   certificate chain and private key (PEM)\n"
    "  --hostname NAME          the made certificate is for NAME, too\n"
    "  --write-ca FILE          the authority of made certificates, to be "
    "trusted\n"
    "  --tls-max VERSION        1.0 to 1.3; like --set tls_max=VERSION\n"
    "  --user U --password P    credentials accepted\n"
    "  --set KEY=VALUE          a setting; --settings lists them\n"
    "  --rule RULE              on PHASE [when FACT OP VALUE [and ...]] [skip "
    "N]\n"
    "                           [times N] [every N] ACTION...\n"
    "  --do COMMAND             a command of the control port, at the start\n"
    "  --rules FILE             one rule or command a line, # begins a "
    "comment\n"
    "  --control ADDR:PORT      take commands there, one a line\n"
    "  --journal FILE           append a JSON object for each message and "
    "event\n"
    "  --store DIR              keep contents as DIR/<id>.eml\n"
    "  --ready-file FILE        written when all is listening: the true ports\n"
    "  -v, --verbose            print every event; -q, --quiet: print nothing\n"
    "  --settings               list the settings and their values\n"
    "  --replies                list SES's replies by name\n"
    "  --dump-words             list all that rules and commands may name\n"
    "  -h, --help; -V, --version\n";

enum {
	OPT_LISTEN = 256,
	OPT_READY,
	OPT_CERT,
	OPT_KEY,
	OPT_HOSTNAME,
	OPT_WRITE_CA,
	OPT_TLS_MAX,
	OPT_USER,
	OPT_PASSWORD,
	OPT_JOURNAL,
	OPT_STORE,
	OPT_CONTROL,
	OPT_RULES,
	OPT_RULE,
	OPT_DO,
	OPT_SET,
	OPT_SETTINGS,
	OPT_REPLIES,
	OPT_WORDS,
};

static const struct option longs[] = {
	{ "listen", required_argument, NULL, OPT_LISTEN },
	{ "ready-file", required_argument, NULL, OPT_READY },
	{ "cert", required_argument, NULL, OPT_CERT },
	{ "key", required_argument, NULL, OPT_KEY },
	{ "hostname", required_argument, NULL, OPT_HOSTNAME },
	{ "write-ca", required_argument, NULL, OPT_WRITE_CA },
	{ "tls-max", required_argument, NULL, OPT_TLS_MAX },
	{ "user", required_argument, NULL, OPT_USER },
	{ "password", required_argument, NULL, OPT_PASSWORD },
	{ "journal", required_argument, NULL, OPT_JOURNAL },
	{ "store", required_argument, NULL, OPT_STORE },
	{ "control", required_argument, NULL, OPT_CONTROL },
	{ "rules", required_argument, NULL, OPT_RULES },
	{ "rule", required_argument, NULL, OPT_RULE },
	{ "do", required_argument, NULL, OPT_DO },
	{ "set", required_argument, NULL, OPT_SET },
	{ "settings", no_argument, NULL, OPT_SETTINGS },
	{ "replies", no_argument, NULL, OPT_REPLIES },
	{ "dump-words", no_argument, NULL, OPT_WORDS },
	{ "verbose", no_argument, NULL, 'v' },
	{ "quiet", no_argument, NULL, 'q' },
	{ "help", no_argument, NULL, 'h' },
	{ "version", no_argument, NULL, 'V' },
	{ NULL, 0, NULL, 0 },
};

/* True if there is nothing to complain about. */
static bool fine(const char *what, const char *wrong)
{
	if (wrong != NULL)
		complain("%s: %s", what, wrong);
	return wrong == NULL;
}

static void keep_order(struct options *o, const char *where, const char *text)
{
	struct order_line *more =
	    xcalloc(o->order_count + 1, sizeof(*o->orders));

	if (o->order_count > 0)
		memcpy(more, o->orders, o->order_count * sizeof(*more));
	free(o->orders);
	o->orders = more;
	more[o->order_count].where = xstrdup(where);
	more[o->order_count].text = xstrdup(text);
	o->order_count++;
}

static bool take_line(
    struct options *o, struct server *sv, const char *where, const char *line)
{
	line += strspn(line, " \t");
	if (*line == '\0' || *line == '#')
		return true;
	if (strncmp(line, "on ", 3) == 0 || strncmp(line, "on\t", 3) == 0)
		return fine(where, rules_add(&sv->rules, line));
	keep_order(o, where, line);
	return true;
}

static bool read_rules(struct options *o, struct server *sv, const char *path)
{
	FILE *f = fopen(path, "re");
	char *line = NULL, where[4200];
	size_t cap = 0;
	bool good = true;

	if (f == NULL)
		return fine(path, strerror(errno));
	for (unsigned n = 1; good && getline(&line, &cap, f) >= 0; n++) {
		line[strcspn(line, "\r\n")] = '\0';
		(void)snprintf(where, sizeof(where), "%s:%u", path, n);
		good = take_line(o, sv, where, line);
	}
	free(line);
	(void)fclose(f);
	return good;
}

static void print(struct buf *out)
{
	(void)fwrite(out->data, 1, out->len, stdout);
	buf_free(out);
}

static void print_words(void)
{
	struct buf out = { 0 };

	for (const struct option *l = longs; l->name != NULL; l++)
		buf_addf(&out, "option --%s\n", l->name);
	settings_print_words(&out);
	rules_print_words(&out);
	orders_print(&out);
	certificate_print(&out);
	print(&out);
}

/* The options that print something and are done. */
static int take_list(const struct server *sv, int opt)
{
	struct buf out = { 0 };

	switch (opt) {
	case OPT_SETTINGS:
		settings_print(&sv->set, &out);
		print(&out);
		return 0;
	case OPT_REPLIES:
		replies_print(&out);
		print(&out);
		return 0;
	case OPT_WORDS:
		print_words();
		return 0;
	case 'h':
		printf("Usage: %s [options]\n%s", program_invocation_short_name,
		    usage);
		return 0;
	case 'V':
		printf("%s %s\n", program_invocation_short_name,
		    SESRELAYD_VERSION);
		return 0;
	default:
		fprintf(stderr, "Try `%s --help'.\n",
		    program_invocation_short_name);
		return 2;
	}
}

/* The options that are only kept; false if it is another. */
static bool take_word(struct options *o, int opt)
{
	const struct {
		int opt;
		const char **word;
	} words[] = {
		{ OPT_READY, &o->ready_file },
		{ OPT_CERT, &o->cert },
		{ OPT_KEY, &o->key },
		{ OPT_HOSTNAME, &o->hostname },
		{ OPT_WRITE_CA, &o->write_ca },
		{ OPT_JOURNAL, &o->journal },
		{ OPT_STORE, &o->store },
		{ OPT_CONTROL, &o->control },
	};

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		if (words[i].opt == opt) {
			*words[i].word = optarg;
			return true;
		}
	}
	return false;
}

static int take_option(struct options *o, struct server *sv, int opt)
{
	bool good = true;

	if (take_word(o, opt))
		return -1;
	switch (opt) {
	case OPT_LISTEN:
		good = listener_add(sv, optarg);
		break;
	case OPT_TLS_MAX:
		good = fine(optarg, settings_set(&sv->set, "tls_max", optarg));
		break;
	case OPT_USER:
		(void)settings_set(&sv->set, "user", optarg);
		break;
	case OPT_PASSWORD:
		(void)settings_set(&sv->set, "password", optarg);
		break;
	case OPT_RULES:
		good = read_rules(o, sv, optarg);
		break;
	case OPT_RULE:
		good = fine(optarg, rules_add(&sv->rules, optarg));
		break;
	case OPT_DO:
		keep_order(o, optarg, optarg);
		break;
	case OPT_SET:
		good = fine(optarg, settings_assign(&sv->set, optarg));
		break;
	case 'v':
		o->verbose = true;
		break;
	case 'q':
		o->quiet = true;
		break;
	default:
		return take_list(sv, opt);
	}
	return good ? -1 : 2;
}

int options_take(struct options *o, struct server *sv, int argc, char **argv)
{
	int opt, code = -1;

	while (code < 0 &&
	    (opt = getopt_long(argc, argv, "vqhV", longs, NULL)) != -1)
		code = take_option(o, sv, opt);
	if (code < 0 && optind < argc) {
		complain(
		    "%s: there are only options; see --help", argv[optind]);
		code = 2;
	}
	if (code < 0 && o->key != NULL && o->cert == NULL) {
		complain("--key needs --cert");
		code = 2;
	}
	if (code < 0 && sv->listener_count == 0 &&
	    !(listener_add(sv, "127.0.0.1:2587:starttls") &&
		listener_add(sv, "127.0.0.1:2465:wrapper")))
		code = 1;
	return code;
}

void options_free(struct options *o)
{
	for (size_t i = 0; i < o->order_count; i++) {
		free(o->orders[i].where);
		free(o->orders[i].text);
	}
	free(o->orders);
}
