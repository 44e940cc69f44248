/*
 * The part of -t that looks at the machine: the spool directory, the trust
 * anchors, whether the addresses are ours and can be bound.  Not part of a load,
 * so that a reload does not depend on it, and nothing is created or changed
 * here.
 *
 * It is also run beside a daemon that is at work, whose ports are in use then:
 * by itself, which is no finding.
 */
#include "config_private.h"

#include "base/mem.h"
#include "net/listener.h"
#include "net/tls.h"

#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#define SERVICE_USER "sesrelay"

/* What was found, a line each. */
struct findings {
	const struct config *c;
	bool running; /* a daemon answers at control.socket */
	char *errors, *warnings;
};

PRINTF(4, 5)
static void add(
    struct findings *f, char **list, const char *key, const char *fmt, ...)
{
	const char *place = f->c->places[config_key_index(key)];
	char text[512], *longer;
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	longer = xasprintf("%s%s%s: '%s': %s", *list ? *list : "",
	    *list ? "\n" : "", place, key, text);
	free(*list);
	*list = longer;
}

/* The directory that `path` is in; free(3). */
static char *parent_of(const char *path)
{
	size_t len = strlen(path);

	while (len > 1 && path[len - 1] == '/')
		len--;
	while (len > 1 && path[len - 1] != '/')
		len--;
	while (len > 1 && path[len - 1] == '/')
		len--;
	return xstrndup(path, len);
}

static void check_no_spool(struct findings *f, const char *path)
{
	char *parent = parent_of(path);

	if (access(parent, W_OK | X_OK) < 0)
		add(f, &f->errors, "spool.directory",
		    "%s does not exist and cannot be made in %s: %s", path,
		    parent, strerror(errno));
	free(parent);
}

/* Root may be asked about the spool of a daemon that is not root. */
static void check_owner(struct findings *f, const char *path, uid_t uid)
{
	const struct passwd *service = getpwnam(SERVICE_USER);

	if (geteuid() != 0 && uid != geteuid())
		add(f, &f->errors, "spool.directory",
		    "%s belongs to uid %u, and this is uid %u", path,
		    (unsigned)uid, (unsigned)geteuid());
	else if (geteuid() == 0 && uid != 0 &&
	    (!service || uid != service->pw_uid))
		add(f, &f->warnings, "spool.directory",
		    "%s belongs to uid %u, neither root nor " SERVICE_USER
		    ": the daemon starts as that user only",
		    path, (unsigned)uid);
}

static void check_directory(
    struct findings *f, const char *path, const struct stat *st)
{
	check_owner(f, path, st->st_uid);
	if (f->errors)
		return;
	if (st->st_mode & (S_IWGRP | S_IWOTH))
		add(f, &f->errors, "spool.directory",
		    "%s can be written by others (mode %04o); chmod 700 it",
		    path, st->st_mode & 07777);
	else if (access(path, R_OK | W_OK | X_OK) < 0)
		add(f, &f->errors, "spool.directory", "%s: %s", path,
		    strerror(errno));
}

static void check_spool(struct findings *f)
{
	const char *path = f->c->spool.directory;
	struct stat st;

	if (lstat(path, &st) < 0 && errno == ENOENT)
		check_no_spool(f, path);
	else if (lstat(path, &st) < 0)
		add(f, &f->errors, "spool.directory", "%s: %s", path,
		    strerror(errno));
	else if (S_ISLNK(st.st_mode))
		add(f, &f->errors, "spool.directory",
		    "%s is a symbolic link; name the directory that it leads "
		    "to",
		    path);
	else if (!S_ISDIR(st.st_mode))
		add(f, &f->errors, "spool.directory", "%s is no directory",
		    path);
	else
		check_directory(f, path, &st);
}

static void check_anchors(struct findings *f)
{
	struct err err;
	struct tls_context *t = tls_context_new(f->c->ses.ca_file, &err);

	if (!t)
		add(f, &f->errors, "ses.ca_file", "%s", err.text);
	else if (!f->c->ses.ca_file && tls_check_system_anchors(&err) < 0)
		add(f, &f->warnings, "ses.ca_file",
		    "%s, so SES cannot be verified: install ca-certificates, "
		    "or name a file of trust anchors here",
		    err.text);
	tls_context_unref(t);
}

/* Root may bind to any port, and so may who has the capability. */
static bool may_bind_low(void)
{
	struct __user_cap_header_struct header = {
		.version = _LINUX_CAPABILITY_VERSION_3,
	};
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = { 0 };

	if (syscall(SYS_capget, &header, data) < 0)
		return geteuid() == 0;
	return data[0].effective & (1u << CAP_NET_BIND_SERVICE);
}

/* Is it, or something else, at the other end of a local socket? */
static bool answers(const char *path)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	bool yes;

	if (fd < 0)
		return false;
	memcpy(addr.sun_path, path, strnlen(path, sizeof(addr.sun_path) - 1));
	yes = connect(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0;
	close(fd);
	return yes;
}

static uint16_t port_of(const struct sockaddr_storage *addr)
{
	if (addr->ss_family == AF_INET6)
		return ntohs(((const struct sockaddr_in6 *)(const void *)addr)
				 ->sin6_port);
	return ntohs(
	    ((const struct sockaddr_in *)(const void *)addr)->sin_port);
}

/* Binds as the daemon would, and lets go: 0 or errno. */
static int try_bind(const struct sockaddr_storage *addr, socklen_t len)
{
	int fd = socket(addr->ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
	int code = fd < 0 ? errno : 0;

	if (code == 0 &&
	    (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
		(addr->ss_family == AF_INET6 &&
		    setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)) <
			0) ||
		bind(fd, (const struct sockaddr *)addr, len) < 0))
		code = errno;
	if (fd >= 0)
		close(fd);
	return code;
}

static void check_unix(struct findings *f, const char *key, const char *path)
{
	char *parent = parent_of(path);
	struct stat st;

	if (lstat(path, &st) == 0 && !S_ISSOCK(st.st_mode))
		add(f, &f->errors, key, "%s is there, and no socket", path);
	else if (access(parent, F_OK) == 0 && access(parent, W_OK | X_OK) < 0)
		add(f, &f->errors, key, "%s cannot be made in %s: %s", path,
		    parent, strerror(errno));
	free(parent);
}

static void check_address(struct findings *f, const char *key, const char *text)
{
	struct sockaddr_storage addr;
	socklen_t len;
	int code;

	if (listener_parse_address(text, &addr, &len, NULL) < 0)
		return; /* told when it was loaded */
	if (addr.ss_family == AF_UNIX) {
		check_unix(f, key, strchr(text, ':') + 1);
		return;
	}
	if (port_of(&addr) > 0 && port_of(&addr) < 1024 && !may_bind_low()) {
		add(f, &f->warnings, key,
		    "port %u of %s takes root, CAP_NET_BIND_SERVICE or a "
		    "socket from systemd (sesrelayd.socket)",
		    port_of(&addr), text);
		/* Whether it is an address of ours can be seen all the same. */
		((struct sockaddr_in *)(void *)&addr)->sin_port = 0;
	}
	code = try_bind(&addr, len);
	if (code == EADDRINUSE && !f->running)
		add(f, &f->warnings, key,
		    "%s is in use; the daemon starts there only if that is "
		    "systemd, which hands it over (sesrelayd.socket), or ends",
		    text);
	else if (code == EAFNOSUPPORT ||
	    (code == EADDRNOTAVAIL && addr.ss_family == AF_INET6 &&
		listener_is_loopback((struct sockaddr *)&addr)))
		add(f, &f->warnings, key,
		    "this host has no IPv6: %s is left out", text);
	else if (code == EADDRNOTAVAIL)
		add(f, &f->errors, key, "%s is no address of this host", text);
	else if (code != 0 && code != EADDRINUSE)
		add(f, &f->errors, key, "cannot listen on %s: %s", text,
		    strerror(code));
}

static void check_addresses(
    struct findings *f, const char *key, const struct config_strings *list)
{
	for (unsigned i = 0; i < list->n; i++)
		check_address(f, key, list->items[i]);
}

static void check_source(struct findings *f)
{
	const struct pool_options *pool = &f->c->options.pool;

	if (pool->source_len > 0 &&
	    try_bind(&pool->source, pool->source_len) == EADDRNOTAVAIL)
		add(f, &f->warnings, "ses.source_address",
		    "%s is no address of this host now; SES is not reached "
		    "until it is",
		    f->c->ses.source_address);
}

static void check_group(struct findings *f)
{
	const char *name = f->c->control.group;

	if (!getgrnam(name))
		add(f, &f->warnings, "control.group",
		    "there is no group %s; only root will be able to use "
		    "sesrelayctl",
		    name);
}

int config_check(const struct config *c, char **message)
{
	struct findings f = {
		.c = c,
		.running = answers(c->control.socket),
	};

	check_spool(&f);
	check_anchors(&f);
	/* Those of the service manager replace smtp.listen. */
	if (!getenv("LISTEN_FDS"))
		check_addresses(&f, "smtp.listen", &c->smtp.listen);
	check_addresses(&f, "http.listen", &c->http.listen);
	check_source(&f);
	check_group(&f);
	*message = f.errors ? f.errors : f.warnings;
	if (f.errors)
		free(f.warnings);
	return f.errors ? -1 : 0;
}
