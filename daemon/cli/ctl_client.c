/*
 * The operator's side of the control socket (daemon/control.h has the
 * protocol): sends a line, hands over the lines that come back.  When nobody
 * listens, the answers of reading verbs come from the spool (ctl_offline.c).
 *
 * Owns the socket and the buffer.  A daemon that hangs is found out by its
 * silence, so nothing here waits for ever.  Whatever goes wrong is said here,
 * with what to do about it: the operator who sees it has other worries.
 */
#include "cli/ctl.h"

#include "base/mem.h"
#include "base/slice.h"

#include <errno.h>
#include <grp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sysexits.h>
#include <unistd.h>

/*
 * Content comes in pieces of 64 KiB; a message with all the recipients that
 * smtp.max_recipients can allow makes the longest line.
 */
#define LINE_MAX_BYTES (32u * 1024 * 1024)
#define READ_BYTES (64u * 1024)
#define SILENCE_S 30

struct ctl_client {
	bool json;
	size_t n_objects;
	char *path; /* of the socket */
	char *source; /* how we know it, for messages */
	char *directory; /* the spool, when that is asked instead; or NULL */
	int fd;
	int rc; /* of what objects said */
	struct err
	    *quiet; /* says nothing, but puts the reason there; or NULL */
	int (*wait)(void *ctx, int fd); /* see ctl_set_wait() */
	void *wait_ctx;
	/* data[from..len) is read and not used yet; data[from..seen) has no
	 * newline. */
	char *data;
	size_t from, seen, len, size;
};

/* --- connecting --- */

/* Who may use the socket, as far as we can see it. */
static void explain_permission(const struct ctl_client *c)
{
	const struct group *group = NULL;
	struct stat st;

	if (stat(c->path, &st) == 0 && st.st_gid != 0)
		group = getgrgid(st.st_gid);
	if (group != NULL)
		ctl_error("root may use it, and the members of group %s: "
			  "\"adduser USER %s\", then log in again",
		    group->gr_name, group->gr_name);
	else
		ctl_error("root may use it, and the members of the group that "
			  "control.group names (sesrelay, if nothing else is "
			  "set)");
}

static int unreachable(const struct ctl_client *c, int code)
{
	ctl_error("cannot reach the daemon at %s (%s): %s", c->path, c->source,
	    code == EAGAIN ? "it does not answer" : strerror(code));
	if (code == EACCES || code == EPERM)
		explain_permission(c);
	else if (code == EAGAIN)
		ctl_error("it is there but hangs: see \"systemctl status "
			  "sesrelayd\" and \"journalctl -u sesrelayd\"");
	else
		ctl_error("is it running? see \"systemctl status sesrelayd\"; "
			  "mail that it accepted is safe in the spool");
	return EX_UNAVAILABLE;
}

static int try_connect(struct ctl_client *c, struct sockaddr_un *addr)
{
	int rc;

	do
		rc =
		    connect(c->fd, (const struct sockaddr *)addr, sizeof *addr);
	while (rc != 0 && errno == EINTR);
	return rc;
}

/* Nobody listens: the spool is nobody's, and may be looked at. */
static int go_offline(
    struct ctl_client *c, const struct ctl_options *options, int code)
{
	char *source;

	c->directory =
	    ctl_config_string(options, "spool.directory", CTL_SPOOL, &source);
	if (c->directory == NULL)
		return EX_CONFIG;
	ctl_error("the daemon is down; reading the spool %s, %s (%s: %s)",
	    c->directory, source, c->path, strerror(code));
	free(source);
	return EX_OK;
}

static int open_socket(
    struct ctl_client *c, const struct ctl_options *options, bool offline)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	struct timeval patience = { .tv_sec = SILENCE_S };

	if (options->socket != NULL) {
		c->path = xstrdup(options->socket);
		c->source = xstrdup("from -s");
	} else {
		c->path = ctl_config_string(
		    options, "control.socket", CTL_SOCKET, &c->source);
		if (c->path == NULL)
			return EX_CONFIG;
	}
	if (strlen(c->path) >= sizeof addr.sun_path)
		return unreachable(c, ENAMETOOLONG);
	memcpy(addr.sun_path, c->path, strlen(c->path) + 1);
	c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (c->fd < 0)
		return unreachable(c, errno);
	setsockopt(c->fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
	setsockopt(c->fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
	if (try_connect(c, &addr) == 0)
		return EX_OK;
	if (offline && (errno == ENOENT || errno == ECONNREFUSED))
		return go_offline(c, options, errno);
	return unreachable(c, errno);
}

struct ctl_client *ctl_open(
    const struct ctl_options *options, bool offline, int *rc)
{
	struct ctl_client *c = xcalloc(1, sizeof *c);

	c->fd = -1;
	c->json = options->json;
	*rc = open_socket(c, options, offline);
	if (*rc != EX_OK) {
		ctl_close(c);
		return NULL;
	}
	return c;
}

void ctl_close(struct ctl_client *c)
{
	if (c == NULL)
		return;
	if (c->fd >= 0)
		close(c->fd);
	free(c->data);
	free(c->path);
	free(c->source);
	free(c->directory);
	free(c);
}

void ctl_set_wait(
    struct ctl_client *c, int (*wait)(void *ctx, int fd), void *ctx)
{
	c->wait = wait;
	c->wait_ctx = ctx;
}

const char *ctl_spool(const struct ctl_client *c)
{
	return c->directory;
}

size_t ctl_n_objects(const struct ctl_client *c)
{
	return c->n_objects;
}

/* --- talking --- */

static int send_line(struct ctl_client *c, const char *request)
{
	char *line = xasprintf("%s\n", request), *p = line;
	size_t left = strlen(line);
	int rc = EX_OK;

	while (left > 0) {
		ssize_t n = send(c->fd, p, left, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			rc = unreachable(c, errno);
			break;
		}
		p += n;
		left -= (size_t)n;
	}
	free(line);
	return rc;
}

/* More of the answer. */
static int fill(struct ctl_client *c)
{
	ssize_t n;
	int rc;

	if (c->from > 0) {
		memmove(c->data, c->data + c->from, c->len - c->from);
		c->len -= c->from;
		c->seen -= c->from;
		c->from = 0;
	}
	if (c->len > LINE_MAX_BYTES) {
		ctl_error("%s: a line of the answer has no end; is that the "
			  "socket of sesrelayd?",
		    c->path);
		return EX_UNAVAILABLE;
	}
	if (c->size - c->len < READ_BYTES) {
		c->size = 2 * (c->len + READ_BYTES);
		c->data = xrealloc(c->data, c->size);
	}
	rc = c->wait != NULL ? c->wait(c->wait_ctx, c->fd) : EX_OK;
	if (rc != EX_OK)
		return rc;
	/* One byte is left for the end of a string. */
	do
		n = recv(c->fd, c->data + c->len, c->size - c->len - 1, 0);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return unreachable(c, errno);
	if (n == 0) {
		ctl_error("the daemon at %s ended before its answer did; see "
			  "\"systemctl status sesrelayd\"",
		    c->path);
		return EX_UNAVAILABLE;
	}
	c->len += (size_t)n;
	return EX_OK;
}

/* *line is terminated, and valid until the next call. */
static int read_line(struct ctl_client *c, struct slice *line)
{
	char *end;
	int rc;

	while (c->seen == c->len ||
	    (end = memchr(c->data + c->seen, '\n', c->len - c->seen)) == NULL) {
		c->seen = c->len;
		rc = fill(c);
		if (rc != EX_OK)
			return rc;
	}
	*end = '\0';
	*line =
	    slice_of(c->data + c->from, (size_t)(end - (c->data + c->from)));
	c->from = c->seen = (size_t)(end + 1 - c->data);
	return EX_OK;
}

/* "CODE text" */
static int refused(const struct ctl_client *c, struct slice rest)
{
	uint64_t code;

	if (slice_parse_u64(slice_word(&rest), &code) != 0 || code == 0 ||
	    code > 125)
		code = EXIT_FAILURE;
	rest = slice_trim(rest);
	if (c->quiet != NULL)
		err_set(c->quiet, (int)code, "%.*s", (int)rest.len, rest.ptr);
	else
		ctl_error("%.*s", (int)rest.len, rest.ptr);
	return (int)code;
}

static int not_understood(const struct ctl_client *c)
{
	ctl_error("%s: the answer makes no sense; is that the socket of "
		  "sesrelayd, and is this its sesrelayctl (version %s)?",
	    c->path, SESRELAYD_VERSION);
	return EX_UNAVAILABLE;
}

int ctl_worse(int a, int b)
{
	/* Nothing of the two, or only one: that. */
	if (a == EX_OK || b == EX_OK)
		return a == EX_OK ? b : a;
	return a == EX_DATAERR ? b : a;
}

struct answer {
	struct ctl_client *client;
	bool (*fn)(void *ctx, json_t *object);
	void *ctx;
};

/* false: no more of them is wanted. */
static bool take_object(struct answer *a, json_t *object)
{
	struct ctl_client *c = a->client;
	json_t *code = json_object_get(object, "code");

	if (json_object_get(object, "progress") != NULL)
		return true;
	c->n_objects++;
	if (json_object_get(object, "error") != NULL)
		c->rc = ctl_worse(c->rc,
		    code != NULL ? (int)json_integer_value(code)
				 : EXIT_FAILURE);
	if (!c->json || c->quiet != NULL)
		return a->fn(a->ctx, object);
	json_dumpf(object, stdout,
	    JSON_COMPACT | JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(12));
	putchar('\n');
	return true;
}

static bool take_offline(void *ctx, json_t *object)
{
	bool more = take_object(ctx, object);

	json_decref(object);
	return more;
}

static int read_answer(struct ctl_client *c, struct answer *a)
{
	struct slice line;
	bool more = true;
	json_t *object;
	int rc = EX_OK;

	while (more && (rc = read_line(c, &line)) == EX_OK) {
		if (slice_eq_str(line, "OK"))
			break;
		if (slice_has_prefix(line, "ERR ")) {
			slice_split(&line, ' ');
			return refused(c, line);
		}
		object = json_loadb(line.ptr, line.len, JSON_ALLOW_NUL, NULL);
		if (!json_is_object(object)) {
			json_decref(object);
			return not_understood(c);
		}
		more = take_object(a, object);
		json_decref(object);
	}
	return rc;
}

int ctl_request(struct ctl_client *c, const char *request,
    bool (*fn)(void *ctx, json_t *object), void *ctx)
{
	struct answer a = { c, fn, ctx };
	int rc;

	c->rc = EX_OK;
	if (c->directory != NULL) {
		rc = ctl_offline(c->directory, request, take_offline, &a);
	} else {
		rc = send_line(c, request);
		if (rc == EX_OK)
			rc = read_answer(c, &a);
	}
	return rc == EX_OK ? c->rc : rc;
}

int ctl_query(struct ctl_client *c, const char *request,
    bool (*fn)(void *ctx, json_t *object), void *ctx, struct err *err)
{
	int rc;

	err->text[0] = '\0';
	c->quiet = err;
	rc = ctl_request(c, request, fn, ctx);
	c->quiet = NULL;
	return rc;
}
