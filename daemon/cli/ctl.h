/*
 * The parts of sesrelayctl(8).
 *
 *   sesrelayctl.c   options, verbs, exit codes
 *   ctl_client.c    which socket, one request, the lines of its answer
 *   ctl_print.c     text, numbers and times for people
 *   ctl_status.c    the screen of `status`
 *   ctl_queue.c     the table of `queue`, and `show`
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

#define CTL_CONFIG_FILE "/etc/sesrelayd/sesrelayd.conf"
#define CTL_SOCKET "/run/sesrelayd/control"

/* What the command line asks for; strings are borrowed from argv. */
struct ctl_options {
	const char *file; /* -c; NULL: CTL_CONFIG_FILE, if it can be read */
	const char *socket; /* -s; NULL: as the file says */
	bool json;
	bool list; /* queue -l */
	bool envelope, headers, body; /* show */
};

/* "sesrelayctl: ..." on stderr; what stdout has comes before it. */
PRINTF(1, 2) void ctl_error(const char *fmt, ...);

/* --- ctl_client.c --- */

struct ctl_client;

/* NULL, with the exit code in *rc, after saying why and what to do. */
MUST_CHECK struct ctl_client *ctl_open(
    const struct ctl_options *options, int *rc);
void ctl_close(struct ctl_client *c); /* NULL is legal */
/*
 * Sends one line and reads the answer; returns the exit code, after saying why
 * unless it is 0.  Each object goes to `fn`, which may return false to have no
 * more; with options->json, it is printed as it came instead.  An object with a
 * member "error" is about something that could not be done: 1.
 */
MUST_CHECK int ctl_request(struct ctl_client *c, const char *request,
    bool (*fn)(void *ctx, json_t *object), void *ctx);
/* Objects that came in answer to all requests. */
size_t ctl_n_objects(const struct ctl_client *c);

/* --- ctl_print.c --- */

/* Members of an object; what is missing or of another type: "", 0, false. */
const char *ctl_text(json_t *object, const char *key);
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

#define CTL_BUF 64
/* "4.1 kB", "4 min 10 s"; they return buf. */
const char *ctl_format_bytes(int64_t bytes, char buf[CTL_BUF]);
const char *ctl_format_seconds(int64_t seconds, char buf[CTL_BUF]);
/* Wall clock in us from "2026-11-21T10:00:01.123456Z"; -1: it is none. */
MUST_CHECK int ctl_parse_time(const char *text, int64_t *wall_us);

/* --- the verbs that need more than a few lines --- */

int ctl_status(struct ctl_client *c);
/* `state` may be NULL. */
int ctl_queue(
    struct ctl_client *c, const struct ctl_options *options, const char *state);
int ctl_show(
    struct ctl_client *c, const struct ctl_options *options, const char *id);

#endif
