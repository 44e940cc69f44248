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
		unlinkat(dirfd, name, 0);
		close(fd);
	}
	return rc;
}

int segment_reserve(struct segment *g, uint64_t size, struct err *err)
{
	int rc;

	if (size <= g->reserved)
		return 0;
	do
		rc = fallocate(g->fd, FALLOC_FL_KEEP_SIZE, 0, (off_t)size);
	while (rc < 0 && errno == EINTR);
	if (rc < 0 && (errno == ENOSPC || errno == EDQUOT || errno == EIO))
		return err_sys(err, "cannot reserve space");
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
	if (ftruncate(g->fd, (off_t)g->end) < 0)
		return err_sys(err, "ftruncate");
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
	    st.st_blocks * 512 > st.st_size + TRIM_SLACK &&
	    ftruncate(fd, st.st_size) < 0)
		errno = 0;
	close(fd);
}

void segment_seal(struct segment *g)
{
	if (g->fd < 0)
		return;
	/* At worst some space stays preallocated until it is unlinked. */
	if (ftruncate(g->fd, (off_t)g->end) < 0)
		g->reserved = 0;
	close(g->fd);
	g->fd = -1;
}

void segment_unlink(int dirfd, uint32_t number)
{
	char name[SEGMENT_NAME_BUF];

	/* What stays says nothing that is not said elsewhere. */
	unlinkat(dirfd, segment_name(number, name), 0);
}
