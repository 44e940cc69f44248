/*
 * One record of a segment, by its place.
 *
 * Owns nothing but what it returns; disk threads, and sesrelayctl when the
 * daemon is down.  One read gets line, head and content of most messages; it
 * may reach beyond the record and may fail there, so that what it did not give
 * is read once more, by itself, before anything is said to be unreadable.
 */
#include "queue/segment.h"

#include "base/file.h"
#include "base/mem.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FIRST_BYTES (8u * 1024)

/* The beginning of the record, as far as it has been read. */
struct window {
	int fd;
	struct spool_ref ref;
	char *buf;
	size_t len;
};

static int bad(struct err *err, struct spool_ref ref, const char *what)
{
	return err_set(err, EBADMSG, "arrivals/%09u at %u: %s is damaged",
	    ref.segment, ref.offset, what);
}

/*
 * `len` bytes, `from` the beginning of the record.  One that ends before its
 * time is as damaged as a changed one.
 */
static int read_part(const struct window *w, char *out, size_t len,
    uint64_t from, const char *what, struct err *err)
{
	struct spool_ref ref = w->ref;
	struct err local;

	if (file_pread_all(
		w->fd, out, len, (int64_t)(ref.offset + from), &local) == 0)
		return 0;
	if (local.code == 0)
		return bad(err, ref, what);
	return err_set(err, local.code, "arrivals/%09u at %u: %s", ref.segment,
	    ref.offset, local.text);
}

static int window_extend(
    struct window *w, size_t len, const char *what, struct err *err)
{
	if (len <= w->len)
		return 0;
	if (len > FIRST_BYTES)
		w->buf = xrealloc(w->buf, len);
	if (read_part(w, w->buf + w->len, len - w->len, w->len, what, err) < 0)
		return -1;
	w->len = len;
	return 0;
}

static int load_body(const struct window *w, const struct record_line *line,
    struct message *m, struct err *err)
{
	size_t len = line->body_len, from = RECORD_LINE_LEN + line->head_len;
	size_t have = w->len - from < len ? w->len - from : len;
	char *p = body_reserve(&m->body, len);

	if (have > 0)
		memcpy(p, w->buf + from, have);
	if (read_part(
		w, p + have, len - have, from + have, "the content", err) < 0)
		return -1;
	if (record_sum(p, len) != line->body_sum)
		return bad(err, w->ref, "the content");
	m->body.len = len;
	m->size = len;
	return 0;
}

static struct message *load_parts(
    struct window *w, uint64_t id, struct record_extra *extra, struct err *err)
{
	struct spool_ref ref = w->ref;
	struct record_line line;
	struct message *m = NULL;
	struct slice head;

	if (window_extend(w, RECORD_LINE_LEN, "the record", err) < 0)
		return NULL;
	if (record_decode_line(slice_of(w->buf, RECORD_LINE_LEN), &line) < 0 ||
	    line.id != id || line.ref.segment != ref.segment ||
	    line.ref.offset != ref.offset) {
		bad(err, ref, "the record's first line");
		return NULL;
	}
	if (window_extend(w, (size_t)RECORD_LINE_LEN + line.head_len,
		"the record", err) < 0)
		return NULL;
	head = slice_of(w->buf + RECORD_LINE_LEN, line.head_len);
	if (record_sum(head.ptr, head.len) == line.head_sum)
		m = record_decode_head(head, id, extra);
	if (m == NULL) {
		bad(err, ref, "the head");
		return NULL;
	}
	m->ref = ref;
	if (!m->large && load_body(w, &line, m, err) < 0) {
		message_free(m);
		return NULL;
	}
	return m;
}

struct message *segment_load_fd(int fd, uint64_t id, struct spool_ref ref,
    struct record_extra *extra, struct err *err)
{
	struct window w = { .fd = fd, .ref = ref };
	struct message *m;

	w.buf = xmalloc(FIRST_BYTES);
	w.len = file_pread_some(fd, w.buf, FIRST_BYTES, (int64_t)ref.offset);
	m = load_parts(&w, id, extra, err);
	free(w.buf);
	return m;
}

struct message *segment_load(int dirfd, uint64_t id, struct spool_ref ref,
    struct record_extra *extra, struct err *err)
{
	char name[SEGMENT_NAME_BUF];
	struct message *m;
	int fd;

	fd = file_open_read(dirfd, segment_name(ref.segment, name), err);
	if (fd < 0)
		return NULL;
	m = segment_load_fd(fd, id, ref, extra, err);
	close(fd);
	return m;
}
