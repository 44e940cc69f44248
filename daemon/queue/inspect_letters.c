/*
 * Reading dead letters back: names, what their first lines say, content.
 *
 * What the first lines must have is what spool_failed.c writes; lines with
 * other keys are passed over, a file without the ones needed is reported as
 * damaged.  Content begins at the first line that is none of ours: it always
 * begins with a Received: of ours.  Keeps nothing; disk threads, sesrelayctl.
 */
#include "queue/spool_private.h"

#include "base/file.h"
#include "base/mem.h"
#include "queue/inspect.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PREFIX "X-Sesrelayd-"
#define FIRST_READ (16u * 1024)

/* --- names --- */

int inspect_letter_id(const char *name, uint64_t *id)
{
	size_t len = strlen(name);

	if (len < ID_LEN + 4 || strcmp(name + len - 4, ".eml") != 0 ||
	    name[ID_LEN] != '.')
		return -1;
	return id_parse(slice_of(name, ID_LEN), id);
}

static bool add_name(void *ctx, const char *name)
{
	struct inspect_names *names = ctx;
	uint64_t id;

	if (inspect_letter_id(name, &id) < 0)
		return true;
	if (names->n == names->size) {
		names->size = names->size > 0 ? 2 * names->size : 64;
		names->items =
		    xrealloc(names->items, names->size * sizeof(char *));
	}
	names->items[names->n++] = xstrdup(name);
	return true;
}

static int compare_names(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

int inspect_letter_names(
    const char *directory, struct inspect_names *names, struct err *err)
{
	struct spool_dirs dirs;
	int rc;

	*names = (struct inspect_names){ 0 };
	if (dirs_open_read(&dirs, directory, err) < 0)
		return -1;
	rc = dirs_each(dirs.failed, add_name, names, err);
	dirs_close(&dirs);
	if (rc == 0 && names->n > 1)
		qsort(names->items, names->n, sizeof(char *), compare_names);
	return rc;
}

void inspect_names_fini(struct inspect_names *names)
{
	for (size_t i = 0; i < names->n; i++)
		free(names->items[i]);
	free(names->items);
	*names = (struct inspect_names){ 0 };
}

/* --- what the first lines say --- */

static void replace(char **to, struct slice value)
{
	free(*to);
	*to = record_unescape(value);
}

static void take_recipient(struct message *m, struct slice value)
{
	char *text = record_unescape(value);

	if (text != NULL && text[0] != '\0' && m->n_rcpts < UINT16_MAX)
		message_add_rcpt(m, text);
	free(text);
}

/* Of the recipient before it. */
static void take_orig(struct message *m, struct slice value)
{
	char *text = record_unescape(value);

	if (text != NULL && m->n_rcpts > 0)
		message_set_orig(m, text);
	free(text);
}

/* "Key: value", without the prefix. */
static void take_line(
    struct inspect_letter *letter, struct message *m, struct slice line)
{
	struct slice value = line, key = slice_split(&value, ':');

	value = slice_trim(value);
	if (slice_eq_str(key, "Time"))
		(void)!record_decode_time(value, &letter->time_us);
	else if (slice_eq_str(key, "Arrival"))
		(void)!record_decode_time(value, &m->arrival_us);
	else if (slice_eq_str(key, "Sender"))
		replace(&m->sender, value);
	else if (slice_eq_str(key, "Message-Id"))
		replace(&m->message_id, value);
	else if (slice_eq_str(key, "Reason"))
		replace(&letter->reason, value);
	else if (slice_eq_str(key, "Reply"))
		replace(&letter->reply, value);
	else if (slice_eq_str(key, "Body"))
		m->body_8bit = slice_eq_str(value, "8BITMIME");
	else if (slice_eq_str(key, "Recipient"))
		take_recipient(m, value);
	else if (slice_eq_str(key, "Original-Recipient"))
		take_orig(m, value);
}

/* Where the content begins; 0: the lines do not end in here. */
static size_t take_lines(struct inspect_letter *letter, struct message *m,
    const char *buf, size_t len, bool all)
{
	size_t at = 0;

	for (;;) {
		const char *end = memchr(buf + at, '\n', len - at);
		struct slice line;

		if (end == NULL)
			return all ? at : 0;
		line = slice_of(buf + at, (size_t)(end - (buf + at)));
		if (!slice_has_prefix(line, PREFIX))
			return at;
		if (line.len > 0 && line.ptr[line.len - 1] == '\r')
			line.len--;
		take_line(letter, m,
		    slice_of(
			line.ptr + strlen(PREFIX), line.len - strlen(PREFIX)));
		at = (size_t)(end + 1 - buf);
	}
}

static void fill(struct inspect_letter *letter, uint64_t id, const char *buf,
    size_t len, uint64_t size)
{
	struct message *m = message_new(id);

	free(letter->reason);
	free(letter->reply);
	letter->reason = letter->reply = NULL;
	letter->content_at = take_lines(letter, m, buf, len, len == size);
	if (letter->content_at == 0 || m->sender == NULL || m->n_rcpts == 0 ||
	    letter->reason == NULL) {
		message_free(m);
		err_set(&letter->err, EBADMSG,
		    "failed/%s has not the first lines of a dead letter",
		    letter->name);
		return;
	}
	m->size = size - letter->content_at;
	letter->message = m;
}

/* The lines are as long as the list of recipients: read until they end. */
static void read_lines(
    struct inspect_letter *letter, uint64_t id, int fd, uint64_t size)
{
	size_t len = FIRST_READ;
	char *buf = NULL;

	while (letter->message == NULL) {
		if (len > size)
			len = (size_t)size;
		buf = xrealloc(buf, len + 1);
		if (file_pread_all(fd, buf, len, 0, &letter->err) < 0)
			break;
		fill(letter, id, buf, len, size);
		if (len == size || len >= RECORD_HEAD_MAX)
			break;
		len *= 4;
	}
	free(buf);
}

void inspect_letter_read(
    const char *directory, const char *name, struct inspect_letter *letter)
{
	struct spool_dirs dirs;
	struct stat st;
	uint64_t id;
	int fd;

	*letter = (struct inspect_letter){ .name = xstrdup(name) };
	if (inspect_letter_id(name, &id) < 0) {
		err_set(&letter->err, EINVAL, "%s is no name of a dead letter",
		    name);
		return;
	}
	if (dirs_open_read(&dirs, directory, &letter->err) < 0)
		return;
	fd = file_open_read(dirs.failed, name, &letter->err);
	dirs_close(&dirs);
	if (fd < 0)
		return;
	if (fstat(fd, &st) < 0)
		err_sys(&letter->err, "failed/%s", name);
	else
		read_lines(letter, id, fd, (uint64_t)st.st_size);
	close(fd);
}

void inspect_letter_fini(struct inspect_letter *letter)
{
	message_free(letter->message);
	free(letter->name);
	free(letter->reason);
	free(letter->reply);
	*letter = (struct inspect_letter){ 0 };
}

int inspect_letter_content(const char *directory,
    const struct inspect_letter *letter, uint64_t offset, size_t len,
    struct body *out, struct err *err)
{
	struct spool_dirs dirs;
	int fd, rc = -1;

	if (dirs_open_read(&dirs, directory, err) < 0)
		return -1;
	fd = file_open_read(dirs.failed, letter->name, err);
	dirs_close(&dirs);
	if (fd < 0)
		return -1;
	rc = file_pread_all(fd, body_reserve(out, len), len,
	    (int64_t)(letter->content_at + offset), err);
	if (rc == 0)
		out->len += len;
	close(fd);
	return rc;
}
