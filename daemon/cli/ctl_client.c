/*
 * The operator's side of the control socket (daemon/control.h has the
 * protocol): finds the socket, sends a line, hands over the lines that come
 * back.
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
#include <libconfig.h>
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
	int fd;
	/* data[from..len) is read and not used yet; data[from..seen) has no
	 * newline. */
	char *data;
	size_t from, seen, len, size;
};

/* --- which socket --- */

/*
 * control.socket of the file, NULL if it sets none.  When the file cannot be
 * read to its end, *problem (free(3) it) says why, but what stands before the
 * mistake counts: `reload` is asked for when the file has mistakes, too.
 */
static char *read_config(const char *file, char **problem)
{
	char *dir = xstrdup(file), *slash = strrchr(dir, '/');
	char *path = NULL;
	const char *text;
	config_t config;
	struct stat st;

	*problem = NULL;
	config_init(&config);
	if (slash != NULL) {
		slash[slash == dir] = '\0';
		config_set_include_dir(&config, dir);
	}
	/* libconfig ends the process when it is given a directory. */
	if (access(file, R_OK) != 0 || stat(file, &st) != 0)
		*problem = xasprintf("%s: %s", file, strerror(errno));
	else if (S_ISDIR(st.st_mode))
		*problem = xasprintf("%s: %s", file, strerror(EISDIR));
	else if (!config_read_file(&config, file))
		*problem = xasprintf("%s:%d: %s",
		    config_error_file(&config) != NULL
			? config_error_file(&config)
			: file,
		    config_error_line(&config), config_error_text(&config));
	if (config_lookup_string(&config, "control.socket", &text) &&
	    text[0] != '\0')
		path = xstrdup(text);
	config_destroy(&config);
	free(dir);
	return path;
}

static int find_socket(struct ctl_client *c, const struct ctl_options *options)
{
	const char *file =
	    options->file != NULL ? options->file : CTL_CONFIG_FILE;
	char *problem = NULL;
	int rc = EX_OK;

	if (options->socket != NULL) {
		c->path = xstrdup(options->socket);
		c->source = xstrdup("from -s");
		return EX_OK;
	}
	c->path = read_config(file, &problem);
	if (c->path != NULL) {
		c->source = xasprintf("control.socket of %s", file);
	} else if (problem != NULL && options->file != NULL) {
		/* The default may be the socket of another daemon. */
		ctl_error("cannot tell the socket of the daemon: %s; name it "
			  "with -s SOCKET",
		    problem);
		rc = EX_CONFIG;
	} else {
		c->path = xstrdup(CTL_SOCKET);
		c->source = problem != NULL
		    ? xasprintf("the default, for %s", problem)
		    : xstrdup("the default");
	}
	free(problem);
	return rc;
}

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

static int connect_socket(struct ctl_client *c)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	struct timeval patience = { .tv_sec = SILENCE_S };
	int rc;

	if (strlen(c->path) >= sizeof addr.sun_path)
		return unreachable(c, ENAMETOOLONG);
	memcpy(addr.sun_path, c->path, strlen(c->path) + 1);
	c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (c->fd < 0)
		return unreachable(c, errno);
	setsockopt(c->fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
	setsockopt(c->fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
	do
		rc =
		    connect(c->fd, (const struct sockaddr *)&addr, sizeof addr);
	while (rc != 0 && errno == EINTR);
	return rc != 0 ? unreachable(c, errno) : EX_OK;
}

struct ctl_client *ctl_open(const struct ctl_options *options, int *rc)
{
	struct ctl_client *c = xcalloc(1, sizeof *c);

	c->fd = -1;
	c->json = options->json;
	*rc = find_socket(c, options);
	if (*rc == EX_OK)
		*rc = connect_socket(c);
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
	free(c);
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
static int refused(struct slice rest)
{
	uint64_t code;

	if (slice_parse_u64(slice_word(&rest), &code) != 0 || code == 0 ||
	    code > 125)
		code = EXIT_FAILURE;
	rest = slice_trim(rest);
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

int ctl_request(struct ctl_client *c, const char *request,
    bool (*fn)(void *ctx, json_t *object), void *ctx)
{
	struct slice line;
	bool more = true, failed = false;
	json_t *object;
	int rc = send_line(c, request);

	while (rc == EX_OK && more && (rc = read_line(c, &line)) == EX_OK) {
		if (slice_eq_str(line, "OK"))
			break;
		if (slice_has_prefix(line, "ERR ")) {
			slice_split(&line, ' ');
			return refused(line);
		}
		object = json_loadb(line.ptr, line.len, JSON_ALLOW_NUL, NULL);
		if (!json_is_object(object)) {
			json_decref(object);
			return not_understood(c);
		}
		c->n_objects++;
		failed |= json_object_get(object, "error") != NULL;
		if (c->json) {
			fwrite(line.ptr, 1, line.len, stdout);
			putchar('\n');
		} else {
			more = fn(ctx, object);
		}
		json_decref(object);
	}
	return rc == EX_OK && failed ? EXIT_FAILURE : rc;
}
