/*
 * The directory tree of a spool: made, checked, locked, listed.
 *
 * Called by spool_open() and by disk threads; the fds are constant while the
 * spool is open.  A directory that cannot be read to its end is a failure, not
 * an empty one: readdir(3) tells it by errno alone.
 */
#include "queue/spool_private.h"

#include "base/file.h"
#include "base/mem.h"
#include "base/stat.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

void spool_notes_add(struct spool_notes *n, const char *fmt, ...)
{
	va_list ap;
	char *text;

	va_start(ap, fmt);
	if (vasprintf(&text, fmt, ap) < 0)
		text = NULL;
	va_end(ap);
	if (text == NULL)
		return;
	n->items = xrealloc(n->items, (n->n + 1) * sizeof(*n->items));
	n->items[n->n++] = text;
}

void spool_notes_fini(struct spool_notes *n)
{
	for (size_t i = 0; i < n->n; i++)
		free(n->items[i]);
	free(n->items);
	*n = (struct spool_notes){ 0 };
}

void dirs_init(struct spool_dirs *d)
{
	*d = (struct spool_dirs){ -1, -1, -1, -1, -1, -1, 0 };
}

void dirs_close(struct spool_dirs *d)
{
	int fds[] = { d->failed, d->large, d->outcomes, d->arrivals, d->lock,
		d->top };

	for (size_t i = 0; i < ARRAY_LEN(fds); i++)
		if (fds[i] >= 0)
			close(fds[i]);
	dirs_init(d);
}

/* Who could put files in it could put mail in it. */
static int check_owner(int fd, const char *path, struct err *err)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return err_sys(err, "fstat %s", path);
	if (st.st_uid != geteuid())
		return err_set(err, EPERM,
		    "%s belongs to uid %u, we run as uid %u: chown it", path,
		    (unsigned)st.st_uid, (unsigned)geteuid());
	if ((st.st_mode & (S_IWGRP | S_IWOTH)) != 0)
		return err_set(err, EPERM,
		    "others may write to %s (mode %04o): chmod 700 it", path,
		    (unsigned)st.st_mode & 07777u);
	return 0;
}

/* The fd, -1 with errno, or -1 with 0 when something else has the name. */
static int open_lock(int dirfd)
{
	const int flags = O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;
	struct stat st;
	int fd = openat(dirfd, "lock", O_RDWR | O_CREAT | flags, 0600);

	/* No mail can be taken there, but that may change while we run. */
	if (fd < 0 && errno == EROFS)
		fd = openat(dirfd, "lock", O_RDONLY | flags);
	if (fd >= 0 && fstat(fd, &st) == 0 && !S_ISREG(st.st_mode)) {
		close(fd);
		errno = 0;
		return -1;
	}
	if (fd < 0 && (errno == EISDIR || errno == ELOOP || errno == ENXIO))
		errno = 0;
	return fd;
}

/* What is not ours can be no daemon's lock: it gives way. */
static int move_lock_aside(struct spool_dirs *d, const char *path,
    struct spool_notes *notes, struct err *err)
{
	char name[32];
	unsigned n = 1;

	do
		snprintf(name, sizeof(name), "lock.foreign-%u", n++);
	while (faccessat(d->top, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0);
	if (file_rename(d->top, "lock", name, err) < 0)
		return -1;
	stat_add(STAT_SPOOL_DAMAGED, 1);
	spool_notes_add(
	    notes, "%s/lock was not a regular file: it is %s now", path, name);
	return 0;
}

static int take_lock(struct spool_dirs *d, const char *path,
    struct spool_notes *notes, struct err *err)
{
	char text[32];
	int len;

	d->lock = open_lock(d->top);
	if (d->lock < 0 && errno == 0) {
		if (move_lock_aside(d, path, notes, err) < 0)
			return -1;
		d->lock = open_lock(d->top);
	}
	if (d->lock < 0)
		return err_sys(err, "cannot open %s/lock", path);
	if (flock(d->lock, LOCK_EX | LOCK_NB) < 0) {
		if (errno != EWOULDBLOCK)
			return err_sys(err, "cannot lock %s/lock", path);
		text[0] = '\0';
		len = (int)pread(d->lock, text, sizeof(text) - 1, 0);
		text[len > 0 ? len : 0] = '\0';
		text[strspn(text, "0123456789")] = '\0';
		return err_set(err, EWOULDBLOCK,
		    "another sesrelayd (pid %s) uses %s: stop it, or give "
		    "this one a spool.directory of its own",
		    text[0] != '\0' ? text : "unknown", path);
	}
	/* For people, and for the message above; of no importance. */
	len = snprintf(text, sizeof(text), "%ld\n", (long)getpid());
	if (file_truncate(d->lock, 0, NULL) == 0)
		(void)!pwrite(d->lock, text, (size_t)len, 0);
	return 0;
}

/* The entry of the spool in its parent, when we may look there. */
static int sync_parent(struct spool_dirs *d, struct err *err)
{
	int fd, rc;

	fd = openat(d->top, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	rc = file_sync_dir(fd, err);
	close(fd);
	return rc;
}

static int open_parts(struct spool_dirs *d, struct err *err)
{
	const struct {
		const char *name;
		int *fd;
	} parts[] = {
		{ "arrivals", &d->arrivals },
		{ "outcomes", &d->outcomes },
		{ "large", &d->large },
		{ "failed", &d->failed },
	};

	for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
		*parts[i].fd = file_open_dir(d->top, parts[i].name, 0700, err);
		if (*parts[i].fd < 0 ||
		    check_owner(*parts[i].fd, parts[i].name, err) < 0)
			return -1;
	}
	return 0;
}

/* A read-only file system has nothing to be made durable. */
static int sync_tree(struct spool_dirs *d, struct err *err)
{
	if (file_sync_dir(d->top, err) == 0 && sync_parent(d, err) == 0)
		return 0;
	return err->code == EROFS ? 0 : -1;
}

int dirs_open(struct spool_dirs *d, const char *path, bool durable,
    struct spool_notes *notes, struct err *err)
{
	dirs_init(d);
	d->top = file_open_dir(AT_FDCWD, path, 0700, err);
	if (d->top < 0 || check_owner(d->top, path, err) < 0)
		goto fail;
	if (take_lock(d, path, notes, err) < 0 || open_parts(d, err) < 0)
		goto fail;
	if (durable && sync_tree(d, err) < 0)
		goto fail;
	return 0;
fail:
	dirs_close(d);
	return -1;
}

static int open_dir_read(int dirfd, const char *name, struct err *err)
{
	int fd = openat(
	    dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	return fd >= 0 ? fd : err_sys(err, "cannot open directory %s", name);
}

int dirs_open_read(struct spool_dirs *d, const char *path, struct err *err)
{
	dirs_init(d);
	d->top = open_dir_read(AT_FDCWD, path, err);
	if (d->top >= 0)
		d->arrivals = open_dir_read(d->top, "arrivals", err);
	if (d->arrivals >= 0)
		d->outcomes = open_dir_read(d->top, "outcomes", err);
	if (d->outcomes >= 0)
		d->large = open_dir_read(d->top, "large", err);
	if (d->large >= 0)
		d->failed = open_dir_read(d->top, "failed", err);
	if (d->failed >= 0)
		return 0;
	dirs_close(d);
	return -1;
}

int dirs_each(int dirfd, bool (*fn)(void *ctx, const char *name), void *ctx,
    struct err *err)
{
	struct dirent *entry;
	int fd, rc = -1;
	DIR *dir;

	/* A description of its own: the position is not shared. */
	fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return err_sys(err, "cannot open a spool directory");
	dir = fdopendir(fd);
	if (dir == NULL) {
		err_sys(err, "fdopendir");
		close(fd);
		return -1;
	}
	for (;;) {
		errno = 0;
		entry = readdir(dir);
		if (entry == NULL) {
			if (errno != 0)
				err_sys(err, "cannot read a spool directory");
			else
				rc = 0;
			break;
		}
		if (strcmp(entry->d_name, ".") == 0 ||
		    strcmp(entry->d_name, "..") == 0)
			continue;
		if (!fn(ctx, entry->d_name)) {
			rc = 0;
			break;
		}
	}
	closedir(dir);
	return rc;
}

int dirs_replace(const struct spool_dirs *d, const char *name, const void *data,
    size_t len, bool durable, struct err *err)
{
	char temporary[64];
	int fd;

	snprintf(temporary, sizeof(temporary), ".%s.tmp", name);
	unlinkat(d->top, temporary, 0);
	fd = openat(d->top, temporary,
	    O_WRONLY | O_APPEND | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
	    0600);
	if (fd < 0)
		return err_sys(err, "cannot create %s", temporary);
	if (file_write_all(fd, data, len, err) < 0 ||
	    (durable && file_datasync(fd, err) < 0))
		goto fail;
	if (renameat(d->top, temporary, d->top, name) < 0) {
		err_sys(err, "cannot rename %s", temporary);
		goto fail;
	}
	return fd;
fail:
	close(fd);
	unlinkat(d->top, temporary, 0);
	return -1;
}

char *dirs_read(int dirfd, const char *name, size_t max, size_t *len)
{
	int fd = file_open_read(dirfd, name, NULL);
	char *text = NULL;
	ssize_t n = -1;

	if (fd < 0)
		return NULL;
	text = xmalloc(max + 1);
	while ((n = pread(fd, text, max, 0)) < 0 && errno == EINTR)
		;
	close(fd);
	if (n < 0) {
		free(text);
		return NULL;
	}
	text[n] = '\0';
	*len = (size_t)n;
	return text;
}

struct listing {
	int dirfd;
	const char *what;
	struct spool_numbers *numbers;
	struct spool_notes *notes;
};

static bool list_name(void *ctx, const char *name)
{
	struct listing *l = ctx;
	uint32_t number;

	if (segment_parse_name(name, &number) < 0) {
		spool_notes_add(l->notes, "%s/%s is not ours and is left alone",
		    l->what, name);
		return true;
	}
	/* Grows by doubling whenever the length is a power of two. */
	if ((l->numbers->n & (l->numbers->n - 1)) == 0)
		l->numbers->items = xrealloc(l->numbers->items,
		    (l->numbers->n > 0 ? 2 * l->numbers->n : 1) *
			sizeof(uint32_t));
	l->numbers->items[l->numbers->n++] = number;
	return true;
}

static int compare_numbers(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

int dirs_segments(int dirfd, const char *what, struct spool_numbers *numbers,
    struct spool_notes *notes, struct err *err)
{
	struct listing l = { dirfd, what, numbers, notes };

	if (dirs_each(dirfd, list_name, &l, err) < 0)
		return -1;
	if (numbers->n > 1)
		qsort(numbers->items, numbers->n, sizeof(uint32_t),
		    compare_numbers);
	return 0;
}
