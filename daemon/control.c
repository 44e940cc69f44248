/*
 * The operator's socket.  Runs on the loop thread; owns its clients.
 *
 * A client is read only while no answer is under way; answers that need the
 * disk, or many messages, go on in pieces, each from the completion of the one
 * before or in another turn of the loop, and pause while the client does not
 * read: nothing here can hold up the loop or fill memory.
 */
#include "control.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "control_private.h"
#include "net/listener.h"

#include <errno.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

#define LINE_MAX_BYTES 4096
#define OUTPUT_MAX (256u * 1024)

struct control {
	struct daemon *daemon;
	struct listener *listener;
	char *path;
	TAILQ_HEAD(control_client_list, control_client) clients;
};

static void serve(struct control_client *c);

/* --- answering --- */

void control_put(struct control_client *c, json_t *object)
{
	char *text = json_dumps(object,
	    JSON_COMPACT | JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(12));

	ASSERT(text != NULL);
	if (c->conn != NULL) {
		conn_write(c->conn, text, strlen(text));
		conn_write(c->conn, "\n", 1);
	}
	free(text);
	json_decref(object);
}

static void answered(struct control_client *c)
{
	c->busy = false;
	c->resume = NULL;
}

void control_ok(struct control_client *c)
{
	if (c->conn != NULL)
		conn_write(c->conn, "OK\n", 3);
	answered(c);
}

void control_error(struct control_client *c, int code, const char *fmt, ...)
{
	char *text, *line;
	va_list args;

	va_start(args, fmt);
	text = xvasprintf(fmt, args);
	va_end(args);
	/*
	 * One line, also when it quotes the request: a list of mistakes is
	 * separated by semicolons.
	 */
	for (char *p = text; *p != '\0'; p++)
		if (*p == '\n')
			*p = p[1] == '\0' ? '\0' : ';';
		else if ((unsigned char)*p < ' ' || *p == 0x7f)
			*p = '?';
	line = xasprintf("ERR %d %s\n", code, text);
	if (c->conn != NULL)
		conn_write(c->conn, line, strlen(line));
	free(line);
	free(text);
	answered(c);
}

bool control_can_go_on(struct control_client *c, void (*resume)(void *ctx))
{
	if (c->conn == NULL || conn_output_len(c->conn) < OUTPUT_MAX)
		return true;
	c->resume = resume;
	return false;
}

void control_yield(
    struct control_client *c, int64_t delay_us, void (*resume)(void *ctx))
{
	c->resume = resume;
	/* A client that went while an answer was under way waits for its end. */
	loop_timer_set(&c->turn, c->conn != NULL ? delay_us : 0);
}

void control_progress(struct control_client *c, uint64_t n)
{
	int64_t now = clock_mono_us();

	if (now - c->told_us < US_PER_S / 2)
		return;
	c->told_us = now;
	control_put(c, json_pack("{s:I}", "progress", (json_int_t)n));
}

/* --- verbs --- */

static void verb_count(struct control_client *c, struct slice args)
{
	(void)args;
	control_put(c,
	    json_pack("{s:I}", "messages",
		(json_int_t)queue_total(c->daemon->relay->queue)));
	control_ok(c);
}

static void verb_reload(struct control_client *c, struct slice args)
{
	char *message;
	int rc;

	(void)args;
	log_msg(LOG_LEVEL_INFO, LOG_CONTROL, LOG_NO_ID,
	    "reload asked for by uid %u", (unsigned)c->uid);
	rc = daemon_reload(c->daemon, &message);
	if (rc == 0) {
		control_put(c, json_pack("{s:s}", "message", message));
		control_ok(c);
	} else {
		control_error(c, 1, "%s", message);
	}
	free(message);
}

/* Until the next reload; "" asks. */
static void verb_log_level(struct control_client *c, struct slice args)
{
	enum log_level level = log_level();

	if (args.len > 0 && log_level_parse(args, &level) != 0) {
		control_error(c, EX_USAGE, "error, warning, info or debug");
		return;
	}
	/* Told at either of the levels. */
	if (level > log_level())
		log_set_level(level);
	if (args.len > 0)
		log_msg(LOG_LEVEL_INFO, LOG_CONTROL, LOG_NO_ID,
		    "log level %s, set by uid %u", log_level_name(level),
		    (unsigned)c->uid);
	log_set_level(level);
	control_put(c, json_pack("{s:s}", "log_level", log_level_name(level)));
	control_ok(c);
}

static const struct verb {
	const char *name;
	void (*run)(struct control_client *c, struct slice args);
} verbs[] = {
	{ "status", control_status },
	{ "queue", control_queue },
	{ "top", control_top },
	{ "connections", control_connections },
	{ "count", verb_count },
	{ "show", control_show },
	{ "retry", control_retry },
	{ "hold", control_hold },
	{ "release", control_release },
	{ "delete", control_delete },
	{ "metrics", control_metrics },
	{ "pause", control_pause },
	{ "resume", control_resume },
	{ "drain", control_drain },
	{ "failed", control_failed },
	{ "rotate", control_rotate },
	{ "requeue", control_requeue },
	{ "trace", control_trace },
	{ "reload", verb_reload },
	{ "log-level", verb_log_level },
};

static void run_line(struct control_client *c, struct slice line)
{
	struct slice rest = line, name = slice_word(&rest);

	c->busy = true;
	c->told_us = clock_mono_us();
	for (size_t i = 0; i < ARRAY_LEN(verbs); i++) {
		if (slice_eq_str(name, verbs[i].name)) {
			verbs[i].run(c, slice_trim(rest));
			return;
		}
	}
	control_error(c, EX_USAGE, "unknown request");
}

/* --- clients --- */

static void client_free(void *ptr)
{
	struct control_client *c = ptr;

	loop_timer_fini(&c->turn);
	free(c);
}

static void go_on(void *ctx)
{
	struct control_client *c = ctx;
	void (*resume)(void *ctx) = c->resume;

	loop_timer_clear(&c->turn);
	c->resume = NULL;
	if (resume != NULL)
		resume(c->answer);
}

static void client_end(struct control_client *c, bool flush)
{
	if (c->conn == NULL)
		return;
	if (flush)
		conn_close_after_flush(c->conn);
	else
		conn_close(c->conn);
	c->conn = NULL;
	/* An answer that waits for the client, or its turn, has to see that. */
	if (c->resume != NULL) {
		go_on(c); /* ends in control_done() */
		return;
	}
	if (!c->busy) {
		TAILQ_REMOVE(&c->control->clients, c, link);
		loop_defer(c->daemon->loop, client_free, c);
	}
}

static void client_close(struct control_client *c)
{
	client_end(c, false);
}

void control_done(struct control_client *c)
{
	answered(c);
	if (c->conn != NULL) {
		serve(c);
		return;
	}
	TAILQ_REMOVE(&c->control->clients, c, link);
	loop_defer(c->daemon->loop, client_free, c);
}

static void serve(struct control_client *c)
{
	struct slice line;
	int rc = 0;

	while (c->conn != NULL && !c->busy &&
	    (rc = conn_read_line(c->conn, LINE_MAX_BYTES, &line, NULL)) == 1)
		run_line(c, line);
	if (rc >= 0)
		return;
	/* What was asked before has its answers. */
	control_error(
	    c, EX_USAGE, "a request is at most %d bytes long", LINE_MAX_BYTES);
	client_end(c, true);
}

static void on_readable(void *ctx)
{
	serve(ctx);
}

static void on_writable(void *ctx)
{
	go_on(ctx);
}

static void on_end(void *ctx, enum conn_end end, const char *reason)
{
	(void)end;
	(void)reason;
	client_close(ctx);
}

static const struct conn_events events = {
	.on_readable = on_readable,
	.on_writable = on_writable,
	.on_end = on_end,
};

static void on_accept(void *ctx, int fd, const struct sockaddr *peer)
{
	struct control *control = ctx;
	struct control_client *c = xcalloc(1, sizeof *c);
	struct ucred cred = { .uid = (uid_t)-1 };
	socklen_t len = sizeof cred;

	(void)peer;
	(void)getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len);
	c->control = control;
	c->daemon = control->daemon;
	c->uid = cred.uid;
	loop_timer_init(&c->turn, control->daemon->loop, go_on, c);
	c->conn = conn_accept(control->daemon->loop, fd, &events, c);
	conn_set_low_water(c->conn, OUTPUT_MAX / 2);
	TAILQ_INSERT_TAIL(&control->clients, c, link);
}

/* --- the socket --- */

static void set_group(const char *path, const char *group)
{
	struct group *g = group != NULL ? getgrnam(group) : NULL;
	struct stat st;

	if (group == NULL)
		return;
	/* What is right already needs no privilege. */
	if (g != NULL && stat(path, &st) == 0 && st.st_gid == g->gr_gid)
		return;
	if (g == NULL || chown(path, (uid_t)-1, g->gr_gid) != 0)
		log_msg(LOG_LEVEL_WARNING, LOG_CONTROL, LOG_NO_ID,
		    "control.group %s: %s; only root and our own user can use "
		    "%s",
		    group, g == NULL ? "no such group" : strerror(errno), path);
}

struct control *control_open(
    struct daemon *d, const char *path, const char *group, struct err *err)
{
	struct control *control;
	int fd = listener_bind_unix(path, 0660, err);

	if (fd < 0)
		return NULL;
	set_group(path, group);
	control = xcalloc(1, sizeof *control);
	control->daemon = d;
	control->path = xstrdup(path);
	TAILQ_INIT(&control->clients);
	control->listener =
	    listener_adopt(d->loop, fd, on_accept, control, err);
	if (control->listener == NULL) {
		free(control->path);
		free(control);
		return NULL;
	}
	return control;
}

void control_close(struct control *control)
{
	struct control_client *c, *next;

	if (control == NULL)
		return;
	listener_close(control->listener);
	(void)unlink(control->path);
	for (c = TAILQ_FIRST(&control->clients); c != NULL; c = next) {
		next = TAILQ_NEXT(c, link);
		client_close(c);
	}
	/* Answers under way end when the spool closes, after us. */
	free(control->path);
	loop_defer(control->daemon->loop, free, control);
}
