/*
 * The part of -t that looks at the machine: the spool directory, the trust
 * anchors, what it takes to bind the ports.  Not part of a load, so that a
 * reload does not depend on it, and nothing is created or changed here.
 */
#include "config_private.h"

#include "base/mem.h"
#include "net/listener.h"
#include "net/tls.h"

#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* What was found, a line each. */
struct findings {
	const struct config *c;
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
	else if (geteuid() != 0 && st.st_uid != geteuid())
		add(f, &f->errors, "spool.directory",
		    "%s belongs to uid %u, and this is uid %u", path, st.st_uid,
		    geteuid());
	else if (st.st_mode & (S_IWGRP | S_IWOTH))
		add(f, &f->errors, "spool.directory",
		    "%s can be written by others (mode %04o); chmod 700 it",
		    path, st.st_mode & 07777);
	else if (access(path, R_OK | W_OK | X_OK) < 0)
		add(f, &f->errors, "spool.directory", "%s: %s", path,
		    strerror(errno));
}

static void check_anchors(struct findings *f)
{
	struct err err;
	struct tls_context *t = tls_context_new(f->c->ses.ca_file, &err);

	if (!t)
		add(f, &f->errors, "ses.ca_file", "%s", err.text);
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

static void check_ports(struct findings *f)
{
	const struct config_strings *listen = &f->c->smtp.listen;

	/* Sockets come from the service manager, or could be bound. */
	if (getenv("LISTEN_FDS") || may_bind_low())
		return;
	for (unsigned i = 0; i < listen->n; i++) {
		const char *port = strrchr(listen->items[i], ':');
		int number = port ? atoi(port + 1) : 0;

		if (number > 0 && number < 1024)
			add(f, &f->warnings, "smtp.listen",
			    "port %d of %s takes root, CAP_NET_BIND_SERVICE "
			    "or a socket from systemd (sesrelayd.socket)",
			    number, listen->items[i]);
	}
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
	struct findings f = { .c = c };

	check_spool(&f);
	check_anchors(&f);
	check_ports(&f);
	check_group(&f);
	*message = f.errors ? f.errors : f.warnings;
	if (f.errors)
		free(f.warnings);
	return f.errors ? -1 : 0;
}
