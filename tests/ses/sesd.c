/*
 * sesd: an emulator of Amazon SES's SMTP endpoint.
 *
 * Command line, start and end. It is the independent judge of a relay's
 * tests: it speaks SES's dialect, makes every fault that rules or settings
 * ask for, and writes down what it accepted and what the client did wrong.
 * One loop thread does everything. Exit codes: 0 after quit, SIGTERM or
 * SIGINT, 1 when something failed, 2 for a wrong command line.
 */
#include "link.h"
#include "listener.h"
#include "server.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define SESD_VERSION "0.1"

struct options {
	const char *ready_file, *cert, *key, *journal, *store, *control;
};

static const char usage[] =
    "Usage: sesd --listen ADDR:PORT:MODE... [options]\n"
    "An emulator of Amazon SES's SMTP endpoint, for tests.\n"
    "\n"
    "  --listen ADDR:PORT:MODE  MODE: starttls, wrapper, plain (no TLS);\n"
    "                           PORT 0 is a free one; [::1]:0:starttls\n"
    "  --ready-file FILE        written when all is listening: a line `listen\n"
    "                           MODE ADDR PORT' each, `control ADDR PORT'\n"
    "  --cert FILE --key FILE   certificate chain and private key (PEM)\n"
    "  --tls-max VERSION        1.1, 1.2 or 1.3 (default); 1.1 allows no "
    "newer\n"
    "  --user U --password P    credentials accepted\n"
    "  --journal FILE           append one JSON object a line for each "
    "message\n"
    "                           accepted and each event\n"
    "  --store DIR              keep contents as DIR/<id>.eml\n"
    "  --control ADDR:PORT      commands: set KEY VALUE, get, stats, rule "
    "RULE,\n"
    "                           rules, clear, drop-connections [rst],\n"
    "                           refuse on|off, cert CERT KEY, quit\n"
    "  --rules FILE             one rule a line, # begins a comment\n"
    "  --rule RULE              on PHASE [when EXPR] [skip N] [times N]\n"
    "                           [every N] ACTION...\n"
    "  --set KEY=VALUE          a run-time setting; `sesd --settings' lists "
    "them\n"
    "  --settings, --help, --version\n";

enum {
	OPT_LISTEN = 256,
	OPT_READY,
	OPT_CERT,
	OPT_KEY,
	OPT_TLS_MAX,
	OPT_USER,
	OPT_PASSWORD,
	OPT_JOURNAL,
	OPT_STORE,
	OPT_CONTROL,
	OPT_RULES,
	OPT_RULE,
	OPT_SET,
	OPT_SETTINGS,
	OPT_HELP,
	OPT_VERSION,
};

static const struct option longs[] = {
	{ "listen", required_argument, NULL, OPT_LISTEN },
	{ "ready-file", required_argument, NULL, OPT_READY },
	{ "cert", required_argument, NULL, OPT_CERT },
	{ "key", required_argument, NULL, OPT_KEY },
	{ "tls-max", required_argument, NULL, OPT_TLS_MAX },
	{ "user", required_argument, NULL, OPT_USER },
	{ "password", required_argument, NULL, OPT_PASSWORD },
	{ "journal", required_argument, NULL, OPT_JOURNAL },
	{ "store", required_argument, NULL, OPT_STORE },
	{ "control", required_argument, NULL, OPT_CONTROL },
	{ "rules", required_argument, NULL, OPT_RULES },
	{ "rule", required_argument, NULL, OPT_RULE },
	{ "set", required_argument, NULL, OPT_SET },
	{ "settings", no_argument, NULL, OPT_SETTINGS },
	{ "help", no_argument, NULL, OPT_HELP },
	{ "version", no_argument, NULL, OPT_VERSION },
	{ NULL, 0, NULL, 0 },
};

static bool complain(const char *what, const char *wrong)
{
	fprintf(stderr, "sesd: %s: %s\n", what, wrong);
	return false;
}

static bool add_rule(struct server *sv, const char *text)
{
	const char *wrong = rules_add(&sv->rules, text);

	return wrong == NULL || complain(text, wrong);
}

static bool read_rules(struct server *sv, const char *path)
{
	FILE *f = fopen(path, "re");
	char *line = NULL;
	size_t cap = 0;
	bool good = true;

	if (f == NULL)
		return complain(path, strerror(errno));
	while (good && getline(&line, &cap, f) >= 0) {
		const char *p = line + strspn(line, " \t");

		line[strcspn(line, "\r\n")] = '\0';
		if (*p != '\0' && *p != '#')
			good = add_rule(sv, p);
	}
	free(line);
	(void)fclose(f);
	return good;
}

static bool set(struct server *sv, const char *text)
{
	const char *wrong = settings_assign(&sv->set, text);

	return wrong == NULL || complain(text, wrong);
}

static bool set_tls_max(struct server *sv, const char *version)
{
	if (strcmp(version, "1.1") == 0)
		sv->tls_max = TLS1_1_VERSION;
	else if (strcmp(version, "1.2") == 0)
		sv->tls_max = TLS1_2_VERSION;
	else if (strcmp(version, "1.3") == 0)
		sv->tls_max = TLS1_3_VERSION;
	else
		return complain(version, "not a TLS version");
	return true;
}

static void print_settings(const struct server *sv)
{
	struct buf out = { 0 };

	settings_print(&sv->set, &out);
	(void)fwrite(out.data, 1, out.len, stdout);
	buf_free(&out);
}

/* -1 to go on, or an exit code. */
static int take_option(struct server *sv, struct options *o, int opt)
{
	bool good = true;

	switch (opt) {
	case OPT_LISTEN:
		good = listener_add(sv, optarg);
		break;
	case OPT_READY:
		o->ready_file = optarg;
		break;
	case OPT_CERT:
		o->cert = optarg;
		break;
	case OPT_KEY:
		o->key = optarg;
		break;
	case OPT_TLS_MAX:
		good = set_tls_max(sv, optarg);
		break;
	case OPT_USER:
		(void)settings_set(&sv->set, "user", optarg);
		break;
	case OPT_PASSWORD:
		(void)settings_set(&sv->set, "password", optarg);
		break;
	case OPT_JOURNAL:
		o->journal = optarg;
		break;
	case OPT_STORE:
		o->store = optarg;
		break;
	case OPT_CONTROL:
		o->control = optarg;
		break;
	case OPT_RULES:
		good = read_rules(sv, optarg);
		break;
	case OPT_RULE:
		good = add_rule(sv, optarg);
		break;
	case OPT_SET:
		good = set(sv, optarg);
		break;
	case OPT_SETTINGS:
		print_settings(sv);
		return 0;
	case OPT_HELP:
		fputs(usage, stdout);
		return 0;
	case OPT_VERSION:
		puts("sesd " SESD_VERSION);
		return 0;
	default:
		fputs("Try `sesd --help'.\n", stderr);
		return 2;
	}
	return good ? -1 : 2;
}

static bool write_ready(
    const struct server *sv, const struct control *c, const char *path)
{
	struct buf text = { 0 }, temp = { 0 };
	FILE *f;
	bool good;

	if (path == NULL)
		return true;
	listener_print(sv, &text, false);
	control_print(c, &text);
	buf_addf(&temp, "%s.tmp", path);
	buf_add(&temp, "", 1);
	f = fopen(temp.data, "we");
	good = f != NULL && fwrite(text.data, 1, text.len, f) == text.len;
	if (f != NULL && fclose(f) != 0)
		good = false;
	good = good && rename(temp.data, path) == 0;
	if (!good)
		(void)complain(path, strerror(errno));
	buf_free(&text);
	buf_free(&temp);
	return good;
}

static void on_signal(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	event_base_loopexit(arg, NULL);
}

static void raise_limits(void)
{
	struct rlimit r;

	if (getrlimit(RLIMIT_NOFILE, &r) == 0) {
		r.rlim_cur = r.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &r);
	}
}

static int serve(struct server *sv, const struct options *o)
{
	struct control *control = NULL;
	struct event *term, *intr;
	int code = 1;

	if (!journal_open(&sv->journal, o->journal, o->store))
		return 1;
	if (o->cert != NULL)
		sv->tls = link_context(
		    o->cert, o->key != NULL ? o->key : o->cert, sv->tls_max);
	if (o->cert != NULL && sv->tls == NULL)
		return 1;
	term = evsignal_new(sv->base, SIGTERM, on_signal, sv->base);
	intr = evsignal_new(sv->base, SIGINT, on_signal, sv->base);
	event_add(term, NULL);
	event_add(intr, NULL);
	if (o->control != NULL)
		control = control_new(sv, o->control);
	if ((control != NULL || o->control == NULL) && listener_start_all(sv) &&
	    write_ready(sv, control, o->ready_file))
		code = event_base_dispatch(sv->base) < 0 ? 1 : 0;
	control_free(control);
	event_free(term);
	event_free(intr);
	return code;
}

int main(int argc, char **argv)
{
	struct server sv;
	struct options o = { 0 };
	int opt, code = -1;

	(void)signal(SIGPIPE, SIG_IGN);
	raise_limits();
	if (!server_init(&sv)) {
		fputs("sesd: no event loop\n", stderr);
		return 1;
	}
	while (
	    code < 0 && (opt = getopt_long(argc, argv, "", longs, NULL)) != -1)
		code = take_option(&sv, &o, opt);
	if (code < 0 && (optind < argc || sv.listener_count == 0)) {
		fputs("sesd: --listen is missing, or too many arguments\n",
		    stderr);
		code = 2;
	}
	if (code < 0 && o.cert == NULL && !listener_all_plain(&sv)) {
		fputs("sesd: starttls and wrapper need --cert\n", stderr);
		code = 2;
	}
	if (code < 0)
		code = serve(&sv, &o);
	server_fini(&sv);
	return code;
}
