/*
 * The reading side of a segment: walk over records or lines, skip damage.
 * One record by its place: segment_load.c.
 *
 * A reader owns its fd and one buffer, a window on the file that is moved by
 * segment_peek(); disk threads, and sesrelayctl when the daemon is down.  All
 * lengths come from lines whose own checksum and place are right and are
 * compared with the size of the file before use.
 */
#include "queue/segment.h"

#include "base/file.h"
#include "base/mem.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define WINDOW_BYTES (256u * 1024)
#define PAGE_BYTES 4096u

int segment_open(struct segment_reader *r, int dirfd, enum record_kind kind,
    uint32_t number, struct err *err)
{
	char name[SEGMENT_NAME_BUF];
	enum record_verdict verdict = RECORD_BAD;
	struct stat st;
	int rc = -1;
	size_t n;

	*r = (struct segment_reader){ .kind = kind, .number = number };
	r->fd = file_open_read(dirfd, segment_name(number, name), err);
	if (r->fd < 0)
		goto out;
	if (fstat(r->fd, &st) < 0) {
		err_sys(err, "fstat %s", name);
		goto out;
	}
	if (st.st_size > UINT32_MAX) {
		err_set(err, EPROTONOSUPPORT, "%s is not ours: too long", name);
		goto out;
	}
	r->size = (uint64_t)st.st_size;
	n = r->size < RECORD_HEADER_LEN ? (size_t)r->size : RECORD_HEADER_LEN;
	if (n > 0)
		verdict = record_decode_header(
		    kind, slice_of(segment_peek(r, 0, n), n), &r->header);
	if (verdict == RECORD_NEWER) {
		err_set(err, EPROTONOSUPPORT,
		    "%s was written by a newer version", name);
		goto out;
	}
	if (verdict == RECORD_OK) {
		r->has_nonce = true;
		r->pos = RECORD_HEADER_LEN;
	}
	rc = 0;
out:
	if (rc < 0)
		segment_close(r);
	return rc;
}

void segment_close(struct segment_reader *r)
{
	if (r->fd >= 0)
		close(r->fd);
	free(r->buf);
	*r = (struct segment_reader){ .fd = -1 };
}

/* After an error: page by page, zeros for what cannot be had. */
static void read_pages(struct segment_reader *r, size_t from)
{
	while (from < r->buf_len) {
		uint64_t at = r->buf_pos + from;
		size_t n = PAGE_BYTES - (size_t)(at % PAGE_BYTES);

		if (n > r->buf_len - from)
			n = r->buf_len - from;
		if (file_pread_all(r->fd, r->buf + from, n, (int64_t)at, NULL) <
		    0) {
			memset(r->buf + from, 0, n);
			r->unreadable = true;
		}
		from += n;
	}
}

const char *segment_peek(struct segment_reader *r, uint64_t pos, size_t len)
{
	size_t want = len > WINDOW_BYTES ? len : WINDOW_BYTES;

	ASSERT(pos + len <= r->size);
	if (pos >= r->buf_pos && pos + len <= r->buf_pos + r->buf_len)
		return r->buf + (pos - r->buf_pos);
	if (want > r->size - pos)
		want = (size_t)(r->size - pos);
	if (want > r->buf_size) {
		/* No content of the old one is needed. */
		free(r->buf);
		r->buf = xmalloc(want);
		r->buf_size = want;
	}
	r->buf_pos = pos;
	r->buf_len = want;
	if (file_pread_all(r->fd, r->buf, want, (int64_t)pos, NULL) < 0)
		read_pages(r, 0);
	return r->buf;
}

/* A line that begins a record here, in this file. */
static bool line_at(
    struct segment_reader *r, uint64_t pos, struct record_line *line)
{
	if (pos > r->size || r->size - pos < RECORD_LINE_LEN)
		return false;
	if (record_decode_line(slice_of(segment_peek(r, pos, RECORD_LINE_LEN),
				   RECORD_LINE_LEN),
		line) < 0)
		return false;
	if (line->ref.segment != r->number || line->ref.offset != pos)
		return false;
	if (!r->has_nonce) {
		/* The header is damaged; a line in its place is as good. */
		r->header.nonce = line->nonce;
		r->has_nonce = true;
	}
	return line->nonce == r->header.nonce;
}

static bool body_ok(
    struct segment_reader *r, const struct record_line *line, uint64_t pos)
{
	struct record_summer *sum = record_sum_new();
	uint32_t left = line->body_len;
	bool ok;

	while (left > 0) {
		uint32_t n = left < WINDOW_BYTES ? left : WINDOW_BYTES;

		record_sum_update(sum, segment_peek(r, pos, n), n);
		pos += n;
		left -= n;
	}
	ok = record_sum_value(sum) == line->body_sum;
	record_sum_free(sum);
	return ok;
}

/* What stands behind a good line; the head is left in the window. */
static bool rest_ok(
    struct segment_reader *r, bool check_bodies, struct segment_item *item)
{
	const struct record_line *line = &item->line;
	uint64_t head = item->offset + RECORD_LINE_LEN;
	uint64_t body = head + line->head_len, end = body + line->body_len;
	char closing[RECORD_END_LEN];

	/* Small records fit into one window, which then serves all of this. */
	if (item->len <= WINDOW_BYTES)
		(void)segment_peek(r, item->offset, (size_t)item->len);
	if ((check_bodies || line->body_len <= SEGMENT_CHECK_BYTES) &&
	    !body_ok(r, line, body))
		return false;
	record_encode_end(line->id, closing);
	if (memcmp(segment_peek(r, end, RECORD_END_LEN), closing,
		RECORD_END_LEN) != 0)
		return false;
	item->text =
	    slice_of(segment_peek(r, head, line->head_len), line->head_len);
	return record_sum(item->text.ptr, item->text.len) == line->head_sum;
}

/* The next place behind a damaged `pos` where a record begins, or the end. */
static uint64_t resync(struct segment_reader *r, uint64_t pos)
{
	static const char magic[] = "message 1 ";
	struct record_line line;

	if (line_at(r, pos, &line)) {
		uint64_t next = pos + record_total(&line);

		if (next == r->size || line_at(r, next, &line))
			return next;
	}
	for (pos++; r->size - pos >= RECORD_LINE_LEN;) {
		size_t n = r->size - pos < WINDOW_BYTES
		    ? (size_t)(r->size - pos)
		    : WINDOW_BYTES;
		const char *p = segment_peek(r, pos, n);
		const char *hit = memmem(p, n, magic, sizeof(magic) - 1);

		if (hit == NULL) {
			pos += n - (sizeof(magic) - 2);
			continue;
		}
		pos += (uint64_t)(hit - p);
		if (line_at(r, pos, &line))
			return pos;
		pos++;
	}
	return r->size;
}

static bool all_zero(struct segment_reader *r, uint64_t pos)
{
	while (pos < r->size) {
		size_t n = r->size - pos < WINDOW_BYTES
		    ? (size_t)(r->size - pos)
		    : WINDOW_BYTES;
		const char *p = segment_peek(r, pos, n);

		for (size_t i = 0; i < n; i++)
			if (p[i] != '\0')
				return false;
		pos += n;
	}
	return true;
}

/* What a crash leaves: a record, a line or a header cut short, or zeros. */
static bool looks_torn(struct segment_reader *r, uint64_t pos)
{
	struct record_line line;

	if (r->unreadable)
		return false;
	if (line_at(r, pos, &line))
		return record_total(&line) > r->size - pos;
	return r->size - pos < RECORD_HEADER_LEN ||
	    r->size - pos < RECORD_LINE_LEN || all_zero(r, pos);
}

void segment_next(
    struct segment_reader *r, bool check_bodies, struct segment_item *item)
{
	*item = (struct segment_item){ .kind = SEGMENT_END, .offset = r->pos };
	if (r->pos >= r->size)
		return;
	if (line_at(r, r->pos, &item->line)) {
		item->len = record_total(&item->line);
		if (item->len <= r->size - r->pos &&
		    rest_ok(r, check_bodies, item)) {
			item->kind = SEGMENT_RECORD;
			r->pos += item->len;
			return;
		}
	} else {
		item->line = (struct record_line){ 0 };
	}
	r->pos = resync(r, item->offset);
	item->len = r->pos - item->offset;
	item->kind = r->pos == r->size && looks_torn(r, item->offset)
	    ? SEGMENT_TORN
	    : SEGMENT_DAMAGE;
}

/* Skips an overlong line; false when the file ends before its LF. */
static bool skip_line(struct segment_reader *r)
{
	while (r->pos < r->size) {
		size_t n = r->size - r->pos < WINDOW_BYTES
		    ? (size_t)(r->size - r->pos)
		    : WINDOW_BYTES;
		const char *p = segment_peek(r, r->pos, n);
		const char *lf = memchr(p, '\n', n);

		if (lf != NULL) {
			r->pos += (uint64_t)(lf - p) + 1;
			return true;
		}
		r->pos += n;
	}
	return false;
}

void segment_next_line(struct segment_reader *r, struct segment_item *item)
{
	const char *p, *lf;
	size_t n;

	*item = (struct segment_item){ .kind = SEGMENT_END, .offset = r->pos };
	if (r->pos >= r->size)
		return;
	n = r->size - r->pos < RECORD_OUTCOME_MAX ? (size_t)(r->size - r->pos)
						  : RECORD_OUTCOME_MAX;
	p = segment_peek(r, r->pos, n);
	lf = memchr(p, '\n', n);
	if (lf != NULL) {
		item->kind = SEGMENT_LINE;
		item->text = slice_of(p, (size_t)(lf - p));
		item->len = item->text.len + 1;
		r->pos += item->len;
		return;
	}
	item->kind = n < RECORD_OUTCOME_MAX ? SEGMENT_TORN : SEGMENT_DAMAGE;
	(void)skip_line(r);
	item->len = r->pos - item->offset;
}
