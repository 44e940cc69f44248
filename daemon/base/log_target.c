/*
 * Where log lines go, without ever waiting for it.
 *
 * Owns the buffer of lines not yet written, and the socket of the journal or
 * of syslog; the log's thread.  The buffer is a run of records, each a length
 * and its bytes.  A target that would block, or is away, leaves them where
 * they are; a line that finds no room is dropped and counted.
 *
 * A stream (stderr) may be shared with other programs, so it is not made
 * non-blocking: poll(2) first, then at most PIPE_BUF bytes, which a pipe or a
 * socket that polls writable takes at once.
 */
#include "base/log_private.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#define BATCH 64 /* records to one system call */

static char buffer[LOG_BUFFER_BYTES];
static size_t head, tail; /* records are in [head, tail) */
static size_t skip; /* bytes of the first one that are written already */
static uint64_t dropped;

static const char *journal_path = "/run/systemd/journal/socket";
static const char *syslog_path = "/dev/log";
static int stream_fd = STDERR_FILENO;

static int socket_fd = -1; /* -1: the stream */
static struct sockaddr_un socket_addr;

void log_target_redirect(const char *journal, const char *syslog, int stream)
{
	journal_path = journal;
	syslog_path = syslog;
	stream_fd = stream;
}

/* Is the stream the journal's?  Then JOURNAL_STREAM tells its inode. */
static bool stream_is_journal(void)
{
	const char *env = getenv("JOURNAL_STREAM");
	unsigned long long dev, ino;
	struct stat st;

	return env && sscanf(env, "%llu:%llu", &dev, &ino) == 2 &&
	    fstat(stream_fd, &st) == 0 && st.st_dev == dev && st.st_ino == ino;
}

/* Not connected: the path may be another socket after a restart over there. */
static bool open_socket(const char *path)
{
	socket_addr = (struct sockaddr_un){ .sun_family = AF_UNIX };
	if (strlen(path) >= sizeof(socket_addr.sun_path) ||
	    access(path, W_OK) < 0)
		return false;
	memcpy(socket_addr.sun_path, path, strlen(path));
	socket_fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	return socket_fd >= 0;
}

static size_t record_len(size_t at)
{
	uint32_t len;

	memcpy(&len, buffer + at, sizeof(len));
	return len;
}

static void drop_first(void)
{
	head += sizeof(uint32_t) + record_len(head);
	skip = 0;
	if (head == tail)
		head = tail = 0;
}

enum log_frame log_target_open(enum log_target target)
{
	bool journal = stream_is_journal();

	for (; head < tail; dropped++)
		drop_first();
	if (socket_fd >= 0)
		close(socket_fd);
	socket_fd = -1;
	if (target == LOG_TARGET_AUTO && journal)
		target = LOG_TARGET_JOURNAL;
	if (target == LOG_TARGET_JOURNAL && open_socket(journal_path))
		return LOG_FRAME_JOURNAL;
	if (target == LOG_TARGET_SYSLOG && open_socket(syslog_path))
		return LOG_FRAME_SYSLOG;
	return journal ? LOG_FRAME_PRIORITY : LOG_FRAME_STREAM;
}

void log_target_put(const void *data, size_t len)
{
	uint32_t prefix = (uint32_t)len;
	size_t need = sizeof(prefix) + len;

	if (need > sizeof(buffer) - tail && head > 0) {
		memmove(buffer, buffer + head, tail - head);
		tail -= head;
		head = 0;
	}
	if (need > sizeof(buffer) - tail) {
		dropped++;
		return;
	}
	memcpy(buffer + tail, &prefix, sizeof(prefix));
	memcpy(buffer + tail + sizeof(prefix), data, len);
	tail += need;
}

/* The first records, of `max` bytes together at most; how many iovecs. */
static int gather(struct iovec *iov, size_t max)
{
	size_t at = head, from = skip;
	int n = 0;

	while (at < tail && n < BATCH && max > 0) {
		size_t len = record_len(at), part = len - from;

		/* Whole lines; a single one that is too long in parts. */
		if (part > max && n > 0)
			break;
		iov[n].iov_base = buffer + at + sizeof(uint32_t) + from;
		iov[n].iov_len = part < max ? part : max;
		max -= iov[n++].iov_len;
		at += sizeof(uint32_t) + len;
		from = 0;
	}
	return n;
}

static void consume_bytes(size_t n)
{
	while (n > 0) {
		size_t left = record_len(head) - skip;

		if (n < left) {
			skip += n;
			return;
		}
		n -= left;
		drop_first();
	}
}

/* Both: true when something went out and more may. */
static bool flush_stream(void)
{
	struct pollfd p = { .fd = stream_fd, .events = POLLOUT };
	struct iovec iov[BATCH];
	ssize_t n;

	if (poll(&p, 1, 0) != 1 || !(p.revents & POLLOUT))
		return false;
	n = writev(stream_fd, iov, gather(iov, PIPE_BUF));
	if (n <= 0)
		return false;
	consume_bytes((size_t)n);
	return true;
}

static bool flush_socket(void)
{
	struct mmsghdr msgs[BATCH];
	struct iovec iov[BATCH];
	int n = gather(iov, SIZE_MAX), sent;

	for (int i = 0; i < n; i++)
		msgs[i].msg_hdr = (struct msghdr){
			.msg_name = &socket_addr,
			.msg_namelen = sizeof(socket_addr),
			.msg_iov = &iov[i],
			.msg_iovlen = 1,
		};
	sent =
	    sendmmsg(socket_fd, msgs, (unsigned)n, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (sent < 0 && errno == EMSGSIZE) {
		dropped++;
		sent = 1;
	}
	for (int i = 0; i < sent; i++)
		drop_first();
	return sent > 0;
}

void log_target_flush(void)
{
	int saved = errno;

	while (head < tail)
		if (socket_fd >= 0 ? !flush_socket() : !flush_stream())
			break;
	errno = saved;
}

uint64_t log_target_take_dropped(void)
{
	uint64_t n = head == tail ? dropped : 0;

	dropped -= n;
	return n;
}
