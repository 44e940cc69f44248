/*
 * All of standard input, before anything is sent.
 *
 * Owns what it read: the first megabyte in memory, the rest in a file without
 * a name, or, where none may be made (in a sandbox), in one without a disk.
 */
#include "cli/sendmail.h"

#include "base/file.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define CHUNK 32768

static int open_rest(struct err *err)
{
	const char *const dirs[] = { getenv("TMPDIR"), "/var/tmp", "/tmp" };
	int fd;

	for (size_t i = 0; i < ARRAY_LEN(dirs); i++) {
		if (dirs[i] == NULL || dirs[i][0] != '/')
			continue;
		fd = open(dirs[i], O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
		if (fd >= 0)
			return fd;
	}
	fd = memfd_create("sesrelay-sendmail", MFD_CLOEXEC);
	return fd >= 0
	    ? fd
	    : err_sys(err,
		  "no place for a message over 1 MB, not in $TMPDIR, "
		  "/var/tmp, /tmp or memory");
}

static int keep(
    struct sendmail_input *in, const char *ptr, size_t len, struct err *err)
{
	size_t room = SENDMAIL_MEMORY - in->head_len;
	size_t n = len < room ? len : room;

	memcpy(in->head + in->head_len, ptr, n);
	in->head_len += n;
	in->size += len;
	if (n == len)
		return EX_OK;
	if (in->fd < 0)
		in->fd = open_rest(err);
	if (in->fd < 0)
		return EX_CANTCREAT;
	if (file_write_all(in->fd, ptr + n, len - n, err) != 0)
		return EX_TEMPFAIL;
	return EX_OK;
}

int sendmail_input_read(
    struct sendmail_input *in, int fd, bool dot_ends, struct err *err)
{
	char *raw = xmalloc(CHUNK + SENDMAIL_LINES_ROOM(CHUNK));
	char *out = raw + CHUNK;
	struct sendmail_lines lines;
	int rc = EX_OK;
	ssize_t n = 1;

	*in = (struct sendmail_input){ .fd = -1 };
	in->head = xmalloc(SENDMAIL_MEMORY);
	sendmail_lines_init(&lines, dot_ends);
	while (rc == EX_OK && n != 0 && !lines.ended) {
		n = read(fd, raw, CHUNK);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			err_sys(err,
			    "cannot read the message from standard "
			    "input; nothing was sent");
			rc = EX_IOERR;
			break;
		}
		rc = keep(in, out,
		    n > 0 ? sendmail_lines_feed(&lines, raw, (size_t)n, out)
			  : sendmail_lines_end(&lines, out),
		    err);
	}
	in->eight_bit = lines.eight_bit;
	free(raw);
	return rc;
}

int sendmail_input_send(struct sendmail_input *in, uint64_t offset,
    int (*put)(void *ctx, const char *ptr, size_t len, struct err *err),
    void *ctx, struct err *err)
{
	char *chunk;
	int rc = 0;

	ASSERT(offset <= in->head_len);
	if (put(ctx, in->head + offset, in->head_len - (size_t)offset, err) !=
	    0)
		return -1;
	chunk = xmalloc(CHUNK);
	for (uint64_t at = in->head_len; rc == 0 && at < in->size;) {
		uint64_t left = in->size - at;
		size_t n = left < CHUNK ? (size_t)left : CHUNK;

		rc = file_pread_all(
		    in->fd, chunk, n, (int64_t)(at - in->head_len), err);
		if (rc == 0)
			rc = put(ctx, chunk, n, err);
		at += n;
	}
	free(chunk);
	return rc;
}

void sendmail_input_free(struct sendmail_input *in)
{
	free(in->head);
	if (in->fd >= 0)
		close(in->fd);
	*in = (struct sendmail_input){ .fd = -1 };
}
