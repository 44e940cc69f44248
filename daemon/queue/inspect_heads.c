/*
 * Envelopes without content, for lists: two reads of the disk for a message,
 * however long it is.  Keeps nothing; disk threads, and sesrelayctl.
 */
#include "queue/spool_private.h"

#include "base/file.h"
#include "base/mem.h"
#include "queue/inspect.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

/* Line and head of nearly every message fit. */
#define FIRST_READ 1024

static int damaged(struct err *err, struct spool_ref ref)
{
	return err_set(err, EBADMSG,
	    "arrivals/%09u: the record at %u is damaged", ref.segment,
	    ref.offset);
}

int head_read_line(int fd, struct spool_ref ref, struct record_line *line,
    char *buf, size_t size, size_t *len, struct err *err)
{
	ssize_t n;

	do
		n = pread(fd, buf, size, (off_t)ref.offset);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return err_sys(err, "arrivals/%09u", ref.segment);
	*len = (size_t)n;
	if (*len < RECORD_LINE_LEN ||
	    record_decode_line(slice_of(buf, *len), line) < 0 ||
	    line->ref.segment != ref.segment || line->ref.offset != ref.offset)
		return damaged(err, ref);
	return 0;
}

struct message *head_decode(int fd, const struct record_line *line,
    const char *buf, size_t len, struct err *err)
{
	struct record_extra extra;
	struct message *m = NULL;
	const char *head = buf + RECORD_LINE_LEN;
	char *more = NULL;

	if (line->head_len > RECORD_HEAD_MAX) {
		damaged(err, line->ref);
		return NULL;
	}
	if (len - RECORD_LINE_LEN < line->head_len) {
		more = xmalloc(line->head_len);
		if (file_pread_all(fd, more, line->head_len,
			(int64_t)line->ref.offset + RECORD_LINE_LEN, err) < 0)
			goto out;
		head = more;
	}
	if (record_sum(head, line->head_len) == line->head_sum)
		m = record_decode_head(
		    slice_of(head, line->head_len), line->id, &extra);
	if (m == NULL) {
		damaged(err, line->ref);
		goto out;
	}
	m->ref = line->ref;
	if (!m->large)
		m->size = line->body_len;
out:
	free(more);
	return m;
}

static void load_head(int fd, struct inspect_head *head)
{
	struct record_line line = { 0 };
	char buf[FIRST_READ];
	size_t len = 0;

	if (head_read_line(
		fd, head->ref, &line, buf, sizeof(buf), &len, &head->err) < 0)
		return;
	if (line.id != head->id)
		damaged(&head->err, head->ref);
	else
		head->message = head_decode(fd, &line, buf, len, &head->err);
}

void inspect_heads(const char *directory, struct inspect_head *heads, size_t n)
{
	char name[SEGMENT_NAME_BUF];
	struct spool_dirs dirs;
	struct err err;
	uint32_t open = 0;
	int fd = -1;

	if (dirs_open_read(&dirs, directory, &err) < 0) {
		for (size_t i = 0; i < n; i++)
			heads[i].err = err;
		return;
	}
	for (size_t i = 0; i < n; i++) {
		if (fd < 0 || heads[i].ref.segment != open) {
			if (fd >= 0)
				close(fd);
			open = heads[i].ref.segment;
			fd = file_open_read(dirs.arrivals,
			    segment_name(open, name), &heads[i].err);
			if (fd < 0)
				continue;
		}
		load_head(fd, &heads[i]);
	}
	if (fd >= 0)
		close(fd);
	dirs_close(&dirs);
}
