/*
 * The writing side of a segment: create, preallocate, append, sync, seal.
 *
 * Owned and called by the journal thread.  Invariant: bytes below `end` are
 * whole records or lines and were written by successful appends; what a failed
 * append left behind it is cut off, or overwritten by nobody, as the caller
 * then seals the file.
 */
#include "queue/segment.h"

#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

/* Space behind the end that a file system may take for its own reasons. */
#define TRIM_SLACK (64 * 1024)

const char *segment_name(uint32_t number, char buf[SEGMENT_NAME_BUF])
{
	snprintf(buf, SEGMENT_NAME_BUF, "%09" PRIu32, number);
	return buf;
}

int segment_parse_name(const char *name, uint32_t *number)
{
	char again[SEGMENT_NAME_BUF];
	uint64_t value;

	if (slice_parse_u64(slice_str(name), &value) < 0 || value == 0 ||
	    value > SEGMENT_NUMBER_MAX)
		return -1;
	*number = (uint32_t)value;
	return strcmp(segment_name(*number, again), name) == 0 ? 0 : -1;
}

static int new_nonce(uint64_t *nonce, struct err *err)
{
	ssize_t n;

	do
		n = getrandom(nonce, sizeof(*nonce), 0);
	while (n < 0 && errno == EINTR);
	if (n != (ssize_t)sizeof(*nonce))
		return err_sys(err, "getrandom");
	return 0;
}

int segment_create(struct segment *g, int dirfd, enum record_kind kind,
    uint32_t number, uint64_t floor, bool durable, struct err *err)
{
	char name[SEGMENT_NAME_BUF], line[RECORD_HEADER_LEN];
	struct record_header header = { .floor = floor };
	int fd, rc = -1;

	if (number == 0 || number > SEGMENT_NUMBER_MAX)
		return err_set(err, EOVERFLOW,
		    "no number is left for a new file of the spool: with the "
		    "daemon stopped, move %s away, which it did not make",
		    segment_name(SEGMENT_NUMBER_MAX, name));
	fd = file_create(dirfd, segment_name(number, name), 0600, err);
	if (fd < 0)
		goto out;
	if (new_nonce(&header.nonce, err) < 0)
		goto out;
	record_encode_header(kind, &header, line);
	if (file_pwrite_all(fd, line, sizeof(line), 0, err) < 0)
		goto out;
	if (durable && file_sync_dir(dirfd, err) < 0)
		goto out;
	*g = (struct segment){
		.kind = kind,
		.fd = fd,
		.number = number,
		.nonce = header.nonce,
		.end = sizeof(line),
		.durable = durable,
	};
	rc = 0;
out:
	if (rc < 0 && fd >= 0) {
		/* What stays, an empty file, says nothing. */
		(void)!file_unlink(dirfd, name, NULL);
		close(fd);
	}
	return rc;
}

/* A file system may fail only after it has given all that it had left. */
static bool has_space(int fd, uint64_t bytes)
{
	struct statvfs vfs;

	return fstatvfs(fd, &vfs) < 0 ||
	    bytes / vfs.f_frsize < (uint64_t)vfs.f_bavail;
}

int segment_reserve(struct segment *g, uint64_t size, struct err *err)
{
	uint64_t have = g->reserved > g->end ? g->reserved : g->end;
	int rc;

	if (size <= have)
		return 0;
	if (!has_space(g->fd, size - have))
		return err_set(err, ENOSPC, "no space for %llu bytes more",
		    (unsigned long long)(size - have));
	do
		rc = fallocate(g->fd, FALLOC_FL_KEEP_SIZE, 0, (off_t)size);
	while (rc < 0 && errno == EINTR);
	if (rc < 0 && (errno == ENOSPC || errno == EDQUOT || errno == EIO)) {
		err_sys(err, "cannot reserve space");
		/* What it did give is of use to nobody. */
		if (g->reserved == 0)
			(void)!file_truncate(g->fd, g->end, NULL);
		return -1;
	}
	g->reserved = size;
	return 0;
}

int segment_append(
    struct segment *g, struct iovec *iov, int n, size_t len, struct err *err)
{
	if (file_pwritev_all(g->fd, iov, n, (int64_t)g->end, err) < 0)
		return -1;
	g->end += len;
	return 0;
}

int segment_sync(struct segment *g, struct err *err)
{
	return g->durable ? file_datasync(g->fd, err) : 0;
}

int segment_rewind(struct segment *g, struct err *err)
{
	if (file_truncate(g->fd, g->end, err) < 0)
		return -1;
	/* That gave the preallocated space back, too. */
	g->reserved = 0;
	return segment_sync(g, err);
}

void segment_trim(int dirfd, const char *name)
{
	struct stat st;
	int fd = openat(dirfd, name,
	    O_WRONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);

	if (fd < 0)
		return;
	/* Best effort: it is about space only. */
	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) &&
	    st.st_blocks * 512 > st.st_size + TRIM_SLACK)
		(void)!file_truncate(fd, (uint64_t)st.st_size, NULL);
	close(fd);
}

void segment_seal(struct segment *g)
{
	if (g->fd < 0)
		return;
	/*
	 * At worst some space stays preallocated until it is unlinked, and what
	 * failed is found by the next scan, unless a line makes it void.
	 */
	(void)!file_truncate(g->fd, g->end, NULL);
	close(g->fd);
	g->fd = -1;
}

void segment_unlink(int dirfd, uint32_t number)
{
	char name[SEGMENT_NAME_BUF];

	/* What stays says nothing that is not said elsewhere. */
	(void)!file_unlink(dirfd, segment_name(number, name), NULL);
}
