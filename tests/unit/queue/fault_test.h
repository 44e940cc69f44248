/*
 * Calls that change files, defined here over those of the C library, so that
 * they can be told to fail, to find no space, or to wait; and a record of what
 * is written but not synced.  For one source file of a test program.
 */
#ifndef TESTS_FAULT_TEST_H
#define TESTS_FAULT_TEST_H

#include "spool_test.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#ifdef __clang__
/* The C library's headers have inline versions of some of these. */
#pragma clang diagnostic ignored "-Wstatic-in-inline"
#endif

enum {
	CALL_WRITE = 1,
	CALL_SYNC = 2,
	CALL_OPEN = 4,
	CALL_OTHER = 8,
	CALL_READ = 16,
	ALL_CHANGES = 15,
	FDS = 1024,
};

static struct fault {
	atomic_uint calls; /* which kinds count; 0: none */
	int code;
	bool lasting;
	atomic_int left; /* until it fires */
	atomic_bool fired;
	atomic_bool full; /* no space but what was reserved */
	atomic_bool no_inodes;
	_Atomic off_t asked; /* most that was to be preallocated */
	atomic_bool read_only;
	atomic_bool trickle; /* a few bytes at a time, and EINTR in between */
	atomic_bool synced_again; /* an fd, after it had failed to */
} fault;

/* One openat() of `name` waits until it may go on. */
static struct gate {
	pthread_mutex_t lock;
	pthread_cond_t wake;
	const char *name; /* NULL: none is to wait */
	bool waiting, open;
} gate = { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, NULL, false,
	false };

static atomic_bool sync_failed[FDS];
static _Atomic off_t reserved[FDS];

/*
 * What a promise depends on: files of arrivals and large that were written to
 * and not synced, directories of them with new entries and not synced.
 */
enum { WATCH_PROMISE = 1, WATCH_OUTCOMES = 2, WATCH_FAILED = 3 };
static atomic_int watched[FDS];
static atomic_bool unsynced[FDS];

static int watch_dir(int dirfd)
{
	char link[32], path[256];
	ssize_t n;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", dirfd);
	n = readlink(link, path, sizeof(path) - 1);
	path[n > 0 ? n : 0] = '\0';
	if (strstr(path, "/arrivals") != NULL || strstr(path, "/large") != NULL)
		return WATCH_PROMISE;
	if (strstr(path, "/failed") != NULL)
		return WATCH_FAILED;
	return strstr(path, "/outcomes") != NULL ? WATCH_OUTCOMES : 0;
}

static UNUSED bool any_unsynced(int kind)
{
	for (int fd = 0; fd < FDS; fd++)
		if (watched[fd] == kind && unsynced[fd])
			return true;
	return false;
}

static void note_open(int dirfd, int fd, int flags)
{
	if (fd < 0)
		return;
	sync_failed[fd % FDS] = false;
	reserved[fd % FDS] = 0;
	unsynced[fd % FDS] = false;
	watched[fd % FDS] = flags & O_CREAT ? watch_dir(dirfd) : 0;
	if (watched[fd % FDS] == 0)
		return;
	watched[dirfd % FDS] = watched[fd % FDS];
	unsynced[dirfd % FDS] = true;
}

static void note_write(int fd)
{
	if (watched[fd % FDS])
		unsynced[fd % FDS] = true;
}

static bool fails(unsigned kind)
{
	if ((fault.calls & kind) == 0)
		return false;
	if (atomic_fetch_sub(&fault.left, 1) > 1)
		return false;
	if (atomic_exchange(&fault.fired, true) && !fault.lasting)
		return false;
	errno = fault.code;
	return true;
}

/* Every other call is interrupted, the others do little of their work. */
static bool interrupted(void)
{
	static atomic_uint n;

	if (!fault.trickle || atomic_fetch_add(&n, 1) % 2 == 0)
		return false;
	errno = EINTR;
	return true;
}

static size_t some_of(size_t len)
{
	return fault.trickle && len > 100 ? 100 : len;
}

static bool is_read_only(void)
{
	if (fault.read_only)
		errno = EROFS;
	return fault.read_only;
}

static void gate_wait(const char *name)
{
	pthread_mutex_lock(&gate.lock);
	if (gate.name != NULL && strcmp(gate.name, name) == 0) {
		gate.name = NULL;
		gate.waiting = true;
		while (!gate.open)
			pthread_cond_wait(&gate.wake, &gate.lock);
	}
	pthread_mutex_unlock(&gate.lock);
}

static UNUSED bool gate_is_waited_for(void)
{
	bool waiting;

	pthread_mutex_lock(&gate.lock);
	waiting = gate.waiting;
	pthread_mutex_unlock(&gate.lock);
	return waiting;
}

static UNUSED void gate_open(void)
{
	pthread_mutex_lock(&gate.lock);
	gate.open = true;
	pthread_cond_signal(&gate.wake);
	pthread_mutex_unlock(&gate.lock);
}

static bool no_space(int fd, off_t end)
{
	if (!fault.full || end <= reserved[fd % FDS])
		return false;
	errno = ENOSPC;
	return true;
}

ssize_t pwritev(int fd, const struct iovec *iov, int n, off_t offset)
{
	off_t end = offset;

	for (int i = 0; i < n; i++)
		end += (off_t)iov[i].iov_len;
	if (interrupted() || no_space(fd, end))
		return -1;
	/* A write that fails may have done a part of its work. */
	if (fails(CALL_WRITE)) {
		int code = errno;

		syscall(SYS_pwrite64, fd, iov[0].iov_base, iov[0].iov_len / 2,
		    offset);
		errno = code;
		return -1;
	}
	note_write(fd);
	if (fault.trickle && n > 0)
		return syscall(SYS_pwrite64, fd, iov[0].iov_base,
		    some_of(iov[0].iov_len), offset);
	return syscall(SYS_pwritev, fd, iov, n, offset, 0);
}

ssize_t pwrite(int fd, const void *data, size_t len, off_t offset)
{
	if (interrupted() || fails(CALL_WRITE) ||
	    no_space(fd, offset + (off_t)len))
		return -1;
	note_write(fd);
	return syscall(SYS_pwrite64, fd, data, some_of(len), offset);
}

/* Of files of the spool alone. */
ssize_t write(int fd, const void *data, size_t len)
{
	if (watched[fd % FDS] &&
	    (interrupted() || fails(CALL_WRITE) || no_space(fd, INT32_MAX)))
		return -1;
	note_write(fd);
	return syscall(
	    SYS_write, fd, data, watched[fd % FDS] ? some_of(len) : len);
}

ssize_t pread(int fd, void *data, size_t len, off_t offset)
{
	if (interrupted() || fails(CALL_READ))
		return -1;
	return syscall(SYS_pread64, fd, data, some_of(len), offset);
}

/* The end of a path, and whether such a file was synced. */
static const char *wanted = "/none";
static atomic_bool wanted_synced;

static void note_sync(int fd)
{
	char link[32], path[256];
	ssize_t n;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, path, sizeof(path) - 1);
	path[n > 0 ? n : 0] = '\0';
	if (n >= (ssize_t)strlen(wanted) &&
	    strcmp(path + n - strlen(wanted), wanted) == 0)
		wanted_synced = true;
}

static int sync_call(int fd, long number)
{
	if (interrupted())
		return -1;
	note_sync(fd);
	if (sync_failed[fd % FDS])
		fault.synced_again = true;
	if (fails(CALL_SYNC)) {
		/* Directories are another matter: nothing is lost there. */
		sync_failed[fd % FDS] = number == SYS_fdatasync;
		return -1;
	}
	unsynced[fd % FDS] = false;
	return (int)syscall(number, fd);
}

int fdatasync(int fd)
{
	return sync_call(fd, SYS_fdatasync);
}

int fsync(int fd)
{
	return sync_call(fd, SYS_fsync);
}

int ftruncate(int fd, off_t len)
{
	if (interrupted() || is_read_only() || fails(CALL_OTHER))
		return -1;
	reserved[fd % FDS] = 0;
	return (int)syscall(SYS_ftruncate, fd, len);
}

int fallocate(int fd, int mode, off_t offset, off_t len)
{
	if (len > fault.asked)
		fault.asked = len;
	if (interrupted() || fails(CALL_OTHER))
		return -1;
	if (no_space(fd, offset + len))
		return -1;
	if (syscall(SYS_fallocate, fd, mode, offset, len) < 0)
		return -1;
	reserved[fd % FDS] = offset + len;
	return 0;
}

int openat(int dirfd, const char *name, int flags, ...)
{
	mode_t mode = 0;
	va_list ap;
	long fd;

	va_start(ap, flags);
	if (flags & O_CREAT)
		mode = va_arg(ap, mode_t);
	va_end(ap);
	/* These are opened at the start, on local file systems. */
	if (!(flags & O_DIRECTORY) && strcmp(name, "lock") != 0 &&
	    interrupted())
		return -1;
	if (fails(CALL_OPEN))
		return -1;
	if (flags & (O_CREAT | O_WRONLY | O_RDWR) && is_read_only())
		return -1;
	if (flags & O_CREAT && strcmp(name, "lock") != 0 && fault.no_inodes) {
		errno = ENOSPC;
		return -1;
	}
	gate_wait(name);
	fd = syscall(SYS_openat, dirfd, name, flags, mode);
	note_open(dirfd, (int)fd, flags);
	return (int)fd;
}

int unlinkat(int dirfd, const char *name, int flags)
{
	if (interrupted() || is_read_only() || fails(CALL_OTHER))
		return -1;
	return (int)syscall(SYS_unlinkat, dirfd, name, flags);
}

int faccessat(int dirfd, const char *name, int mode, int flags)
{
	if (fails(CALL_READ))
		return -1;
	return (int)syscall(SYS_faccessat2, dirfd, name, mode, flags);
}

int renameat(int from, const char *name, int to, const char *new_name)
{
	if (interrupted() || is_read_only() || fails(CALL_OTHER))
		return -1;
	watched[to % FDS] = watch_dir(to);
	unsynced[to % FDS] = true;
	return (int)syscall(SYS_renameat, from, name, to, new_name);
}

int mkdirat(int dirfd, const char *name, mode_t mode)
{
	return fails(CALL_OTHER) ? -1
				 : (int)syscall(SYS_mkdirat, dirfd, name, mode);
}

static UNUSED void arm(unsigned calls, int code, bool lasting, int n)
{
	fault.calls = 0;
	fault.code = code;
	fault.lasting = lasting;
	fault.left = n;
	fault.fired = false;
	fault.synced_again = false;
	fault.calls = calls;
}

static UNUSED void disarm(void)
{
	fault.calls = 0;
}

#endif
