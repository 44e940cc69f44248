/*
 * load.c - load generator for SMTP servers: options and main.
 *
 * Sends N messages by S concurrent plain SMTP sessions from one thread on
 * epoll. A message counts as acknowledged when its final dot got a 250, and
 * its id is in the --acked file by then; with --retry every message is tried
 * until that happens, always under the same Message-ID. Memory: one output
 * buffer of at most 64 KiB per session, whatever the size and the number of
 * messages. Exit status: 0 all acknowledged, 1 not all, 2 usage or trouble.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <math.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "load.h"

static const char usage_text[] =
    "usage: load --connect ADDR:PORT [OPTION]...\n"
    "  --messages N      messages to get acknowledged (1000)\n"
    "  --sessions S      concurrent sessions (10)\n"
    "  --size BYTES      headers and body of a message (4096)\n"
    "  --per-session M   messages per connection, then QUIT; 0: no limit (0)\n"
    "  --rcpts K         recipients per message (1)\n"
    "  --from A, --to A  addresses; %d inside becomes a number unique to the\n"
    "                    message, or to the recipient (sender@load.test,\n"
    "                    to%d@load.test)\n"
    "  --pipeline        MAIL, RCPT and DATA in one write\n"
    "  --rate R          messages started per second; 0: as fast as the\n"
    "                    server answers (0)\n"
    "  --acked FILE      append `message-id queue-id' per 250 to a final dot\n"
    "  --sent FILE       append the id of each message attempted\n"
    "  --prefix STR      first part of the Message-IDs (the seed, or made of\n"
    "                    time and process id)\n"
    "  --seed STR        content of the messages (the prefix)\n"
    "  --retry           try again after lost connections and 4xx replies\n"
    "  --deadline D      give up after D seconds; 0: never (0)\n"
    "  --timeout T       seconds without progress that end a connection;\n"
    "                    0: none do (60)\n"
    "  --json            print the result as one JSON line\n";

enum {
	O_CONNECT = 256,
	O_MESSAGES,
	O_SESSIONS,
	O_SIZE,
	O_PER_SESSION,
	O_RCPTS,
	O_FROM,
	O_TO,
	O_PIPELINE,
	O_RATE,
	O_ACKED,
	O_SENT,
	O_PREFIX,
	O_SEED,
	O_RETRY,
	O_DEADLINE,
	O_TIMEOUT,
	O_JSON,
	O_HELP
};

static const struct option long_options[] = { { "connect", required_argument,
						  NULL, O_CONNECT },
	{ "messages", required_argument, NULL, O_MESSAGES },
	{ "sessions", required_argument, NULL, O_SESSIONS },
	{ "size", required_argument, NULL, O_SIZE },
	{ "per-session", required_argument, NULL, O_PER_SESSION },
	{ "rcpts", required_argument, NULL, O_RCPTS },
	{ "from", required_argument, NULL, O_FROM },
	{ "to", required_argument, NULL, O_TO },
	{ "pipeline", no_argument, NULL, O_PIPELINE },
	{ "rate", required_argument, NULL, O_RATE },
	{ "acked", required_argument, NULL, O_ACKED },
	{ "sent", required_argument, NULL, O_SENT },
	{ "prefix", required_argument, NULL, O_PREFIX },
	{ "seed", required_argument, NULL, O_SEED },
	{ "retry", no_argument, NULL, O_RETRY },
	{ "deadline", required_argument, NULL, O_DEADLINE },
	{ "timeout", required_argument, NULL, O_TIMEOUT },
	{ "json", no_argument, NULL, O_JSON },
	{ "help", no_argument, NULL, O_HELP }, { NULL, 0, NULL, 0 } };

static uint64_t whole(const char *text, uint64_t least, uint64_t most)
{
	unsigned long long value;
	char *end;

	errno = 0;
	value = strtoull(text, &end, 10);
	if (errno || *text < '0' || *text > '9' || *end || value < least ||
	    value > most)
		die("%s: not a whole number from %llu to %llu", text,
		    (unsigned long long)least, (unsigned long long)most);
	return value;
}

static double real(const char *text)
{
	char *end;
	double value = strtod(text, &end);

	if (end == text || *end || !isfinite(value) || value < 0 || value > 1e9)
		die("%s: not a number from 0 to 1e9", text);
	return value;
}

static const char *address(const char *text)
{
	size_t length = strlen(text), i;

	if (length > ADDRESS_MAX)
		die("address longer than %d", ADDRESS_MAX);
	for (i = 0; i < length; i++)
		if (text[i] <= ' ' || text[i] > '~' || text[i] == '<' ||
		    text[i] == '>')
			die("%s: not an address", text);
	return text;
}

static void set_prefix(struct options *opt, const char *text)
{
	size_t length = strlen(text);

	if (!length || length > PREFIX_MAX)
		die("--prefix: 1 to %d characters", PREFIX_MAX);
	if (strspn(text,
		"ABCDEFGHIJKLMNOPQRSTUVWXYZ"
		"abcdefghijklmnopqrstuvwxyz0123456789-_.+=") != length ||
	    text[0] == '.' || strstr(text, "..") || text[length - 1] == '.')
		die("%s: not fit for a Message-ID", text);
	memcpy(opt->prefix, text, length + 1);
}

static void resolve(struct options *opt, const char *text)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *found;
	const char *colon = strrchr(text, ':');
	size_t length = colon ? (size_t)(colon - text) : 0;
	char host[256];
	int error;

	if (length && text[0] == '[' && text[length - 1] == ']') {
		text++;
		length -= 2;
	}
	if (!length || length >= sizeof(host))
		die("--connect: ADDR:PORT is wanted");
	memcpy(host, text, length);
	host[length] = '\0';
	error = getaddrinfo(host, colon + 1, &hints, &found);
	if (error)
		die("%s: %s", text, gai_strerror(error));
	memcpy(&opt->address, found->ai_addr, found->ai_addrlen);
	opt->address_size = found->ai_addrlen;
	freeaddrinfo(found);
}

static void set_number(struct options *opt, int option, const char *text)
{
	switch (option) {
	case O_MESSAGES:
		opt->messages = whole(text, 1, 1000000000000ULL);
		break;
	case O_SESSIONS:
		opt->sessions = (unsigned int)whole(text, 1, 60000);
		break;
	case O_SIZE:
		opt->size = (size_t)whole(text, 0, 1ULL << 32);
		break;
	case O_PER_SESSION:
		opt->per_session = whole(text, 0, 1000000000000ULL);
		break;
	case O_RCPTS:
		opt->rcpts = (unsigned int)whole(text, 1, 100000);
		break;
	case O_RATE:
		opt->rate = real(text);
		break;
	case O_DEADLINE:
		opt->deadline = real(text);
		break;
	case O_TIMEOUT:
		opt->timeout = real(text);
		break;
	}
}

static void set_option(
    struct options *opt, int option, const char *text, const char **seed)
{
	switch (option) {
	case O_CONNECT:
		resolve(opt, text);
		break;
	case O_FROM:
		opt->from = address(text);
		break;
	case O_TO:
		opt->to = address(text);
		break;
	case O_PIPELINE:
		opt->pipeline = true;
		break;
	case O_ACKED:
		opt->acked = text;
		break;
	case O_SENT:
		opt->sent = text;
		break;
	case O_PREFIX:
		set_prefix(opt, text);
		break;
	case O_SEED:
		*seed = text;
		break;
	case O_RETRY:
		opt->retry = true;
		break;
	case O_JSON:
		opt->json = true;
		break;
	case O_HELP:
		fputs(usage_text, stdout);
		exit(0);
	case '?':
		fputs(usage_text, stderr);
		exit(2);
	default:
		set_number(opt, option, text);
	}
}

static void get_options(struct options *opt, int argc, char **argv)
{
	const char *seed = NULL;
	char made[PREFIX_MAX];
	int option;

	opt->messages = 1000;
	opt->sessions = 10;
	opt->size = 4096;
	opt->rcpts = 1;
	opt->from = "sender@load.test";
	opt->to = "to%d@load.test";
	opt->timeout = 60;
	while ((option = getopt_long(argc, argv, "", long_options, NULL)) >= 0)
		set_option(opt, option, optarg, &seed);
	if (optind < argc || !opt->address_size) {
		fputs(usage_text, stderr);
		exit(2);
	}
	if (!opt->prefix[0] && !seed) {
		snprintf(made, sizeof(made), "%llx-%x",
		    (unsigned long long)time(NULL), (unsigned int)getpid());
		set_prefix(opt, made);
	} else if (!opt->prefix[0]) {
		set_prefix(opt, seed);
	}
	opt->seed = hash_string(seed ? seed : opt->prefix);
	if (opt->sessions > opt->messages)
		opt->sessions = (unsigned int)opt->messages;
}

static int open_record(const char *path)
{
	int fd;

	if (!path)
		return -1;
	fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
	if (fd < 0)
		die("%s: %s", path, strerror(errno));
	return fd;
}

/* One descriptor for each session and some more. */
static void raise_limit(unsigned int sessions)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		die("getrlimit: %s", strerror(errno));
	if (limit.rlim_cur >= sessions + 32)
		return;
	limit.rlim_cur = sessions + 32;
	if (limit.rlim_cur > limit.rlim_max ||
	    setrlimit(RLIMIT_NOFILE, &limit) < 0)
		die("%u sessions: not enough descriptors allowed", sessions);
}

static void set_up(struct run *run)
{
	const struct options *opt = &run->opt;
	struct session *s;
	time_t now = time(NULL);
	struct tm tm;
	unsigned int i;

	raise_limit(opt->sessions);
	if (!strftime(run->date, sizeof(run->date),
		"%a, %d %b %Y %H:%M:%S +0000", gmtime_r(&now, &tm)))
		die("strftime failed");
	run->acked_fd = open_record(opt->acked);
	run->sent_fd = open_record(opt->sent);
	run->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (run->epoll < 0)
		die("epoll_create1: %s", strerror(errno));
	run->out_room = OUT_MAX;
	if (opt->size < OUT_MAX / 2)
		run->out_room = opt->size + opt->size / 32 + 2 * UNIT_MAX;
	run->sessions = calloc(opt->sessions, sizeof(*run->sessions));
	if (!run->sessions)
		die("out of memory");
	for (i = 0; i < opt->sessions; i++) {
		s = &run->sessions[i];
		s->run = run;
		s->fd = -1;
		s->out = malloc(run->out_room);
		if (!s->out)
			die("out of memory");
	}
}

static void tear_down(struct run *run)
{
	unsigned int i;

	for (i = 0; i < run->opt.sessions; i++) {
		if (run->sessions[i].fd >= 0)
			close(run->sessions[i].fd);
		free(run->sessions[i].out);
	}
	free(run->sessions);
	close(run->epoll);
	if (run->acked_fd >= 0 && close(run->acked_fd) < 0)
		die("%s: %s", run->opt.acked, strerror(errno));
	if (run->sent_fd >= 0)
		close(run->sent_fd);
}

int main(int argc, char **argv)
{
	static struct run run;
	bool all;

	get_options(&run.opt, argc, argv);
	set_up(&run);
	loop_run(&run);
	report(&run);
	all = run.stats.acked == run.opt.messages;
	tear_down(&run);
	if (fflush(stdout) || ferror(stdout))
		return 2;
	return all ? 0 : 1;
}
