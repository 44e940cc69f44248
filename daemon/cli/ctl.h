/*
 * The parts of sesrelayctl(8).
 *
 *   sesrelayctl.c   main()
 *   ctl_verbs.c     the table of verbs
 *   ctl_options.c   the table of options
 *   ctl_args.c      the command line, by these tables
 *   ctl_help.c      what people and the shell's completion are told of them
 *   ctl_error.c     what goes to standard error, and how
 *   ctl_client.c    one request, the lines of its answer
 *   ctl_config.c    which socket, which spool
 *   ctl_offline.c   the same answers from the spool, when the daemon is down
 *   ctl_print.c     text, numbers and times for people
 *   ctl_status.c    the screen of `status`, with ctl_upstream.c
 *   ctl_monitor.c   `status --check`: one line for a monitoring system
 *   ctl_top.c       `top`, with top_*.c: see cli/top.h
 *   ctl_connections.c  the table of `connections`, and `rotate`
 *   ctl_queue.c     the table of `queue`, and `show`
 *   ctl_mailq.c     `mailq`: the queue in Postfix's forms
 *   ctl_operate.c   verbs that change messages, and the whole
 *   ctl_failed.c    `failed`, `requeue`
 *   ctl_trace.c     `trace`, and `show --log`
 *   ctl_check.c     `check`, which asks SES, not the daemon
 *   ctl_password.c  `password`, which asks nobody
 *   ctl_rewrite.c   `rewrite-test`, which sends nothing
 *   ctl_submit.c    a test message, handed in by SMTP
 *   ctl_send_test.c `send-test`
 *
 * What comes from the daemon is printed through ctl_put() and the functions
 * that use it: addresses and replies are whatever peers wrote, and a terminal
 * obeys control bytes.
 */
#ifndef CLI_CTL_H
#define CLI_CTL_H

#include "base/base.h"

#include <jansson.h>
#include <stdio.h>

#define CTL_CONFIG_FILE SESRELAYD_SYSCONFDIR "/sesrelayd/sesrelayd.conf"
#define CTL_SOCKET "/run/sesrelayd/control"
#define CTL_SPOOL "/var/spool/sesrelayd"

struct ctl_client;

/* What the command line asks for; strings are borrowed from argv. */
struct ctl_options {
	const char *file; /* -c; NULL: CTL_CONFIG_FILE, if it can be read */
	const char *socket; /* -s; NULL: as the file says */
	bool json;
	bool list; /* queue -l, connections -l */
	bool envelope, headers, body; /* show, failed */
	bool log; /* show */
	bool all, yes; /* --all, --yes */
	bool postfix_json; /* mailq -j */
	int64_t timeout_us; /* drain, rotate, send-test; -1: none */
	const char *region; /* password; NULL: ses.region */
	const char *from; /* send-test, rewrite-test; NULL: see there */
	const char **to; /* rewrite-test */
	unsigned n_to;
	bool wait; /* rotate */
	bool help; /* -h */
	bool check; /* status --check, with these: */
	int64_t warn_age_us, crit_age_us, warn_queue,
	    crit_queue; /* -1: not set */
	int64_t delay_us; /* top -d; -1: not set */
	int64_t count; /* top -n; -1: no end */
	bool once; /* top */
	char **args; /* operands behind the verb */
	int n_args;
};

/* --- ctl_error.c --- */

/*
 * "sesrelayctl: ..." on stderr, after what stdout has; or kept for later.
 * _lines: text that has its own lines, each with where it is from.
 */
PRINTF(1, 2) void ctl_error(const char *fmt, ...);
void ctl_error_lines(const char *text);
/* From now on nothing is printed but kept, for who shows it elsewhere. */
void ctl_errors_keep(void);
/* "ONE; OTHER", "" for none; valid until the next error. */
const char *ctl_errors_kept(void);
void ctl_errors_forget(void);
/* Prints what was kept; from now on, errors are printed again. */
void ctl_errors_put_text(void);
/*
 * What was kept, as one object: "error" with its "code"; or, when rc is 0,
 * "notice".
 */
void ctl_errors_put_object(int rc);

/* --- ctl_verbs.c, ctl_options.c, ctl_args.c, ctl_help.c --- */

enum ctl_option_bit {
	OPT_LIST = 1 << 0,
	OPT_PARTS = 1 << 1,
	OPT_LOG = 1 << 2,
	OPT_ALL = 1 << 3,
	OPT_YES = 1 << 4,
	OPT_TIMEOUT = 1 << 5,
	OPT_POSTFIX = 1 << 6,
	OPT_REGION = 1 << 7,
	OPT_FROM = 1 << 8,
	OPT_WAIT = 1 << 9,
	OPT_TO = 1 << 10,
	OPT_CHECK = 1 << 11,
	OPT_TOP = 1 << 12,
};

/* What an argument is: the shell's completion offers it. */
enum ctl_words {
	WORDS_NONE,
	WORDS_STATE,
	WORDS_ID,
	WORDS_FAILED_ID,
	WORDS_PART,
	WORDS_LEVEL,
	WORDS_FILE,
	WORDS_ADDRESS,
	WORDS_TEXT,
	WORDS_DURATION,
	WORDS_NUMBER,
	WORDS_REGION,
};

enum ctl_needs {
	NEEDS_DAEMON,
	NEEDS_SPOOL, /* of the daemon, or by itself when that is down */
	NEEDS_NOTHING, /* or opens it itself */
};

struct ctl_verb {
	const char *name;
	int (*run)(struct ctl_client *c, const struct ctl_options *options);
	enum ctl_needs needs;
	unsigned options; /* enum ctl_option_bit */
	int min_args, max_args;
	/* What is wrong with an argument; NULL: nothing. */
	const char *(*check)(const char *arg);
	enum ctl_words words;
	bool changes; /* something, as against a look */
	const char *usage, *summary, *example;
};

extern const struct ctl_verb ctl_verbs[];
extern const size_t ctl_n_verbs;
const char *ctl_check_address(const char *arg);
const char *ctl_check_level(const char *arg);

struct ctl_option {
	const char *name; /* NULL: it has but a letter */
	char letter; /* 0: none */
	unsigned bit; /* 0: goes with every verb */
	const char *arg; /* "FILE"; NULL: takes none */
	enum ctl_words words;
	bool (*take)(struct ctl_options *o, const char *arg);
	const char *summary;
};

extern const struct ctl_option ctl_options_table[];
extern const size_t ctl_n_options;

/* Fills *o; does not return when the line is wrong, or wants help alone. */
const struct ctl_verb *ctl_args_read(
    int argc, char **argv, struct ctl_options *o);
/* All kept errors, then exit(3). */
NORETURN void ctl_exit(const struct ctl_options *o, int rc);

/* All verbs. */
void ctl_help(FILE *out);
void ctl_help_verb(const struct ctl_verb *verb);
void ctl_help_json(const struct ctl_verb *verb); /* NULL: all */
/* The tables, for completion: ctl_help.c has the form. */
void ctl_help_dump(void);
/* The nearest of n names, or NULL; each is found `size` bytes further. */
const char *ctl_nearest(
    const char *word, const void *names, size_t n, size_t size);

/* --- ctl_client.c --- */

/*
 * NULL, with the exit code in *rc, after saying why and what to do.  With
 * `offline`, a daemon that is down is no failure: its spool is read instead,
 * and stderr says so.
 */
MUST_CHECK struct ctl_client *ctl_open(
    const struct ctl_options *options, bool offline, int *rc);
void ctl_close(struct ctl_client *c); /* NULL is legal */
/*
 * Sends one line and reads the answer; returns the exit code, after saying why
 * unless it is 0.  Each object goes to `fn`, which may return false to have no
 * more; with options->json, it is printed as it came instead.  An object with a
 * member "error" is about something that could not be done: its "code", or 1.
 */
MUST_CHECK int ctl_request(struct ctl_client *c, const char *request,
    bool (*fn)(void *ctx, json_t *object), void *ctx);
/*
 * As ctl_request(), for who makes something else of the answer: prints nothing,
 * whatever the options; why the daemon refused is in *err.  That it cannot be
 * reached is said as ever.
 */
MUST_CHECK int ctl_query(struct ctl_client *c, const char *request,
    bool (*fn)(void *ctx, json_t *object), void *ctx, struct err *err);
/*
 * Called whenever an answer has to be waited for: returns EX_OK when there may
 * be more to read of the socket `fd`, or the exit code of a request that is
 * given up; the client is of no more use then.
 */
void ctl_set_wait(
    struct ctl_client *c, int (*wait)(void *ctx, int fd), void *ctx);
/* The spool that is read instead of the daemon; NULL: it is not. */
const char *ctl_spool(const struct ctl_client *c);
/* Objects that came in answer to all requests. */
size_t ctl_n_objects(const struct ctl_client *c);
/* Of two exit codes the one that says more: 1 before 65 before 0. */
int ctl_worse(int a, int b);

/* --- ctl_config.c --- */

/*
 * A string of the configuration file that the options name: the value, or
 * `fallback` when the file sets none; free(3) it.  *source (free(3) it) says
 * where it is from.  NULL, after saying why, when a file that -c names cannot
 * be read.
 */
MUST_CHECK char *ctl_config_string(const struct ctl_options *options,
    const char *key, const char *fallback, char **source);

/* --- ctl_offline.c --- */

/*
 * Answers a request of the protocol from the spool; objects go to `put`, which
 * takes them and returns false to have no more.  Returns the exit code, after
 * saying why.
 */
MUST_CHECK int ctl_offline(const char *directory, const char *request,
    bool (*put)(void *ctx, json_t *object), void *ctx);

/* --- ctl_print.c --- */

/* Members of an object; what is missing or of another type: "", 0, false. */
const char *ctl_text(json_t *object, const char *key);
/* As well for what is in an array. */
const char *ctl_string(json_t *value);
int64_t ctl_number(json_t *object, const char *key);
bool ctl_true(json_t *object, const char *key);

/* Everything but printable ASCII as \xNN, as it is in the log. */
void ctl_put(FILE *out, const char *text);
/* The bytes that ctl_put() makes of it. */
size_t ctl_width(const char *text);
/* As ctl_put(), and blanks up to `width`. */
void ctl_put_padded(FILE *out, const char *text, size_t width);
/*
 * "Label:   text", the text beginning at `indent`.  On a terminal it is broken
 * into lines at blanks; each newline of the text begins a line anyway.
 */
void ctl_put_labelled(const char *label, size_t indent, const char *text);
/* A line of a screen: the label, and the text where all texts begin. */
PRINTF(2, 3) void ctl_put_line(const char *label, const char *fmt, ...);

#define CTL_BUF 64
/* A member that is a real number, or an integer. */
double ctl_real(json_t *object, const char *key);
/* "4.1 kB", "4 min 10 s", "12.3"; they return buf. */
const char *ctl_format_rate(double rate, char buf[CTL_BUF]);
const char *ctl_format_bytes(int64_t bytes, char buf[CTL_BUF]);
const char *ctl_format_seconds(int64_t seconds, char buf[CTL_BUF]);
/* Wall clock in us from "2026-11-21T10:00:01.123456Z"; -1: it is none. */
MUST_CHECK int ctl_parse_time(const char *text, int64_t *wall_us);

/* "Nov 21 10:00:01", local, of such a text; or the text. */
const char *ctl_local_time(const char *text, char buf[CTL_BUF]);

/* --- ctl_submit.c --- */

/*
 * Hands in a test message at an address such as "127.0.0.1:25", by SMTP, as any
 * program does.  The queue id in `id`, or -1 with what the relay said.
 */
MUST_CHECK int ctl_submit(const char *address, const char *sender,
    const char *rcpt, char id[CTL_BUF], struct err *err);

/* --- ctl_upstream.c: parts of the screen of `status` --- */

/* The first line, without its label: does mail go out, and come in?  free(3) */
char *ctl_headline(json_t *status);
/* Why the spool takes no mail; NULL: it does. */
const char *ctl_spool_trouble(json_t *spool);
void ctl_put_upstream(json_t *status);
void ctl_put_rate(json_t *rate);
void ctl_put_pace(json_t *upstream);
void ctl_put_way(json_t *upstream);

/* --- the verbs --- */

int ctl_status(struct ctl_client *c, const struct ctl_options *options);
int ctl_monitor(const struct ctl_options *options);
int ctl_top(struct ctl_client *c, const struct ctl_options *options);
int ctl_connections(struct ctl_client *c, const struct ctl_options *options);
int ctl_queue(struct ctl_client *c, const struct ctl_options *options);
int ctl_show(struct ctl_client *c, const struct ctl_options *options);
int ctl_mailq(struct ctl_client *c, const struct ctl_options *options);
int ctl_retry(struct ctl_client *c, const struct ctl_options *options);
int ctl_hold(struct ctl_client *c, const struct ctl_options *options);
int ctl_release(struct ctl_client *c, const struct ctl_options *options);
int ctl_delete(struct ctl_client *c, const struct ctl_options *options);
int ctl_pause(struct ctl_client *c, const struct ctl_options *options);
int ctl_resume(struct ctl_client *c, const struct ctl_options *options);
int ctl_drain(struct ctl_client *c, const struct ctl_options *options);
int ctl_failed(struct ctl_client *c, const struct ctl_options *options);
int ctl_requeue(struct ctl_client *c, const struct ctl_options *options);
int ctl_rotate(struct ctl_client *c, const struct ctl_options *options);
int ctl_trace(struct ctl_client *c, const struct ctl_options *options);
/* The doctor; has no use for a client. */
int ctl_check(struct ctl_client *c, const struct ctl_options *options);
/* Nor has this. */
int ctl_password(struct ctl_client *c, const struct ctl_options *options);
int ctl_rewrite_test(struct ctl_client *c, const struct ctl_options *options);
int ctl_send_test(struct ctl_client *c, const struct ctl_options *options);

/*
 * ctl_operate.c: the requests "VERB ID...", with as many ids each as a line
 * takes, or "VERB --all".
 */
int ctl_request_ids(struct ctl_client *c, const struct ctl_options *options,
    const char *verb, bool (*fn)(void *ctx, json_t *object), void *ctx);
/* ctl_queue.c: content that comes in pieces, as --headers, --body have it. */
struct ctl_content {
	const struct ctl_options *options;
	bool damaged;
	bool in_body;
	bool line_start; /* of the header */
	bool cr; /* at the start of a line, not printed yet */
	bool tty;
};
void ctl_content_begin(
    struct ctl_content *t, const struct ctl_options *options);
bool ctl_content_put(struct ctl_content *t, json_t *text);
/* ctl_trace.c: the stories that a request "trace TEXT" answers. */
int ctl_stories(struct ctl_client *c, const char *text);

#endif
