/*
 * sesrelayd: options, the order of start, the order of stop; nothing else.
 *
 * Start: arguments, configuration, log, spool lock and threads, listeners,
 * operator's socket, metrics, READY, start scan.  Stop: see daemon_stop().  Every step
 * of stopping may be skipped (kill -9): disk is the truth.
 */
#include "daemon.h"

#include "base/clock.h"
#include "base/crash.h"
#include "base/log.h"
#include "base/notify.h"
#include "control.h"
#include "net/tls.h"
#include "pages.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sysexits.h>

#define MAX_SOCKETS 32

static const char usage_text[] =
    "usage: sesrelayd [-c FILE] [-t] [-T] [-v] [-V]\n"
    "  -c FILE  configuration (default " CONFIG_DEFAULT_FILE ")\n"
    "           with -t and -T, - is standard input\n"
    "  -t       check configuration, credentials, spool and CA file\n"
    "  -T       print the effective configuration\n"
    "  -v       log more (twice: everything)\n"
    "  -V       print version and library versions\n"
    "sesrelayd(8) and sesrelayd.conf(5) say more.\n";

enum what { RUN, TEST, DUMP };

struct arguments {
	const char *file;
	enum what what;
	int verbose;
};

static void print_version(void)
{
	printf("sesrelayd %s\n%s\n%s\n%s\n", SESRELAYD_VERSION, loop_library(),
	    tls_library(), config_library());
}

/* Does not return when the process has nothing else to do. */
static void read_arguments(int argc, char **argv, struct arguments *args)
{
	static const struct option options[] = {
		{ "config", required_argument, NULL, 'c' },
		{ "test", no_argument, NULL, 't' },
		{ "dump", no_argument, NULL, 'T' },
		{ "verbose", no_argument, NULL, 'v' },
		{ "version", no_argument, NULL, 'V' },
		{ "help", no_argument, NULL, 'h' },
		/* For the check that the manual documents every key. */
		{ "dump-schema", no_argument, NULL, 'S' },
		{ NULL, 0, NULL, 0 },
	};
	int c;

	*args = (struct arguments){ .file = CONFIG_DEFAULT_FILE };
	while ((c = getopt_long(argc, argv, "c:tTvVh", options, NULL)) != -1) {
		switch (c) {
		case 'c':
			args->file = optarg;
			break;
		case 't':
			args->what = TEST;
			break;
		case 'T':
			args->what = DUMP;
			break;
		case 'v':
			args->verbose++;
			break;
		case 'V':
			print_version();
			exit(EX_OK);
		case 'S':
			config_print_schema(stdout);
			exit(EX_OK);
		case 'h':
			fputs(usage_text, stdout);
			exit(EX_OK);
		default:
			fputs(usage_text, stderr);
			exit(EX_USAGE);
		}
	}
	if (args->what == RUN && strcmp(args->file, CONFIG_STDIN) == 0) {
		fputs("sesrelayd: -c - goes with -t or -T: a daemon has to "
		      "read its file again\n",
		    stderr);
		exit(EX_USAGE);
	}
	if (optind < argc) {
		fprintf(stderr, "sesrelayd: what is '%s'?\n%s", argv[optind],
		    usage_text);
		exit(EX_USAGE);
	}
}

static struct config *load_config(const char *file, enum what what)
{
	char *message = NULL;
	struct config *config = config_load(file, &message);

	if (config == NULL) {
		fprintf(stderr, "%s\n", message);
		if (what == RUN)
			service_failed(message);
		free(message);
		exit(EX_CONFIG);
	}
	return config;
}

/* -t */
static int test_config(struct config *config)
{
	char *message = NULL;
	int rc = config_check(config, &message);

	if (message != NULL && message[0] != '\0')
		fprintf(rc != 0 ? stderr : stdout, "%s\n", message);
	free(message);
	if (config->warnings[0] != '\0')
		printf("%s\n", config->warnings);
	if (rc == 0)
		printf("%s: configuration is good; mail goes to %s\n",
		    config->file, config->endpoint);
	config_free(config);
	return rc == 0 ? EX_OK : EX_CONFIG;
}

/* On a host without it, its loopback is no reason not to start. */
static bool is_without_ipv6(const char *address, const struct err *err)
{
	return (err->code == EAFNOSUPPORT || err->code == EADDRNOTAVAIL) &&
	    strncmp(address, "[::1]:", 6) == 0;
}

/* Sockets of the service manager, or else those of smtp.listen.  Returns the
 * exit code; sockets that cannot be used are somebody's mistake. */
static int open_listeners(struct daemon *d, struct err *err)
{
	const struct config_strings *listen = &d->config->smtp.listen;
	int fds[MAX_SOCKETS];
	int n = notify_listen_fds("smtp", fds, MAX_SOCKETS, err);

	if (n < 0)
		return EX_CONFIG;
	for (int i = 0; i < n; i++)
		if (inbound_adopt(d->relay->inbound, fds[i],
			config_allow_is_default(d->config), err) != 0)
			return EX_CONFIG;
	if (n > 0)
		return EX_OK;
	for (unsigned i = 0; i < listen->n; i++) {
		if (inbound_listen(d->relay->inbound, listen->items[i], err) ==
		    0)
			continue;
		if (listen->n == 1 || !is_without_ipv6(listen->items[i], err))
			return EX_OSERR;
		log_msg(LOG_LEVEL_WARNING, LOG_MASTER, LOG_NO_ID,
		    "this host has no IPv6: not listening on %s",
		    listen->items[i]);
	}
	return EX_OK;
}

static void on_signal(void *ctx, int signo)
{
	struct daemon *d = ctx;
	char *message;

	if (signo == SIGTERM) {
		daemon_stop(d);
		return;
	}
	if (signo == SIGINT) {
		/* Now: what is under way is settled as lost. */
		log_msg(LOG_LEVEL_INFO, LOG_MASTER, LOG_NO_ID, "interrupted");
		service_stopping(&d->service);
		loop_stop(d->loop);
		return;
	}
	(void)daemon_reload(d, &message);
	free(message);
}

static void announce(struct daemon *d)
{
	log_msg(LOG_LEVEL_INFO, LOG_MASTER, LOG_NO_ID,
	    "sesrelayd %s ready: mail goes to %s, spool %s", SESRELAYD_VERSION,
	    d->config->endpoint, d->config->spool.directory);
	daemon_log_lines(LOG_LEVEL_WARNING, "message", "", d->config->warnings);
	log_flush();
	service_ready(&d->service, d->relay, d->loop);
}

/* The password will be in it: no core, no ptrace by others. */
static void keep_memory_private(void)
{
	const struct rlimit none = { 0, 0 };

	prctl(PR_SET_DUMPABLE, 0);
	(void)setrlimit(RLIMIT_CORE, &none);
}

/* 0, or the exit code of a start that failed, with the reason in *err. */
static int start(struct daemon *d, struct err *err)
{
	int rc;

	clock_update();
	d->started_wall_us = clock_wall_us();
	rates_start(&d->rates, d->loop);
	d->relay = relay_new(d->loop, &d->config->options, err);
	if (d->relay == NULL)
		return EX_TEMPFAIL;
	relay_set_credentials_source(d->relay, daemon_reread_credentials, d);
	rc = open_listeners(d, err);
	if (rc != EX_OK)
		return rc;
	d->control = control_open(
	    d, d->config->control.socket, d->config->control.group, err);
	if (d->control == NULL)
		return EX_OSERR;
	d->pages = pages_open(d, err);
	if (d->pages == NULL)
		return EX_OSERR;
	announce(d);
	relay_start(d->relay);
	return EX_OK;
}

static int run(struct daemon *d)
{
	static const int signals[] = { SIGTERM, SIGINT, SIGHUP };
	struct loop_watch *watches[ARRAY_LEN(signals)];
	struct err err;
	int rc;

	log_init(&d->config->log_options);
	if (d->verbose > 0)
		log_set_level(LOG_LEVEL_DEBUG);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN); /* a limit of file size is EFBIG */
	crash_init();
	umask(077);
	daemon_allow_descriptors(d->config);
	d->loop = loop_new();
	for (size_t i = 0; i < ARRAY_LEN(signals); i++)
		watches[i] = loop_signal(d->loop, signals[i], on_signal, d);
	rc = start(d, &err);
	if (rc == EX_OK) {
		loop_run(d->loop);
	} else {
		log_msg(LOG_LEVEL_ERROR, LOG_MASTER, LOG_NO_ID,
		    "cannot start: %s", err.text);
		service_failed(err.text);
	}
	service_end(&d->service);
	pages_close(d->pages);
	control_close(d->control);
	relay_free(d->relay);
	rates_stop(&d->rates);
	for (size_t i = 0; i < ARRAY_LEN(signals); i++)
		loop_unwatch(watches[i]);
	if (d->stopping)
		loop_timer_fini(&d->stop_timer);
	if (rc == EX_OK)
		log_msg(LOG_LEVEL_INFO, LOG_MASTER, LOG_NO_ID, "stopped");
	loop_free(d->loop);
	log_flush();
	config_free(d->config);
	config_boot_free(d->boot);
	free(d->needs_restart);
	return rc;
}

int main(int argc, char **argv)
{
	struct daemon d = { 0 };
	struct arguments args;

	read_arguments(argc, argv, &args);
	d.config_file = args.file;
	d.verbose = args.verbose;
	d.last_reload_ok = true;
	keep_memory_private();
	d.config = load_config(args.file, args.what);
	switch (args.what) {
	case TEST:
		return test_config(d.config);
	case DUMP:
		config_dump(d.config, stdout);
		config_free(d.config);
		return EX_OK;
	case RUN:
		break;
	}
	return run(&d);
}
