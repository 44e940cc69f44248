/*
 * The judge's record: what was accepted and what else happened.
 *
 * Owns the journal file, the directory of contents and one digest context.
 * Lines gather in memory and are written once a turn of the loop, before any
 * reply of that turn leaves: who has read a 250 finds its line in the file.
 * A line is appended by one write(2) and never changed. Failure to write
 * ends the program, for a journal with holes would accuse the innocent. The
 * same lines, in words for people, go to standard output if that is wanted.
 */
#include "journal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

bool journal_open(struct journal *j, const char *path, const char *store)
{
	memset(j, 0, sizeof(*j));
	j->fd = -1;
	j->store = store;
	j->sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
	j->digest = EVP_MD_CTX_new();
	if (j->sha256 == NULL || j->digest == NULL) {
		complain("no SHA-256 in this OpenSSL");
		return false;
	}
	if (path != NULL) {
		j->fd =
		    open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
		if (j->fd < 0) {
			complain("%s: %s", path, strerror(errno));
			return false;
		}
	}
	if (store != NULL && access(store, W_OK | X_OK) != 0) {
		complain("%s: %s", store, strerror(errno));
		return false;
	}
	return true;
}

void journal_close(struct journal *j)
{
	journal_flush(j);
	if (j->fd >= 0)
		(void)close(j->fd);
	j->fd = -1;
	buf_free(&j->pending);
	buf_free(&j->console);
	EVP_MD_CTX_free(j->digest);
	EVP_MD_free(j->sha256);
}

static void key_name(struct journal *j, const char *key)
{
	buf_add(&j->pending, ",\"", 2);
	buf_adds(&j->pending, key);
	buf_add(&j->pending, "\":", 2);
}

static void add_text(struct journal *j, const char *key, const char *value)
{
	key_name(j, key);
	if (value == NULL)
		buf_adds(&j->pending, "null");
	else
		buf_add_json(&j->pending, value, strlen(value));
}

/* The line's beginning for people: the time of day and what happened. */
static void show_begin(struct journal *j, const char *event)
{
	static const char dull[] = "connect tls auth close";
	time_t now = time(NULL);
	struct tm tm;
	char text[16];

	j->showing = j->shown == JOURNAL_ALL ||
	    (j->shown == JOURNAL_MESSAGES &&
		(event == NULL || !text_listed(dull, event)));
	if (!j->showing || localtime_r(&now, &tm) == NULL)
		return;
	(void)strftime(text, sizeof(text), "%H:%M:%S ", &tm);
	buf_adds(&j->console, text);
	buf_adds(&j->console, event != NULL ? event : "accepted");
}

/* A field for people: key=value, quoted if it has to be. */
static void show(struct journal *j, const char *key, const char *value)
{
	if (!j->showing || strstr(key, "sha256") != NULL)
		return;
	buf_addf(&j->console, " %s=", key);
	if (value[strcspn(value, " \"\\")] == '\0' && *value != '\0')
		buf_adds(&j->console, value);
	else
		buf_add_json(&j->console, value, strlen(value));
}

void journal_begin(struct journal *j, const char *event)
{
	show_begin(j, event);
	buf_addf(&j->pending, "{\"time\":%.6f", clock_wall());
	if (event != NULL)
		add_text(j, "event", event);
}

void journal_text(struct journal *j, const char *key, const char *value)
{
	show(j, key, value != NULL ? value : "");
	add_text(j, key, value);
}

void journal_number(struct journal *j, const char *key, long value)
{
	char text[24];

	(void)snprintf(text, sizeof(text), "%ld", value);
	show(j, key, text);
	key_name(j, key);
	buf_adds(&j->pending, text);
}

void journal_bool(struct journal *j, const char *key, bool value)
{
	show(j, key, value ? "true" : "false");
	key_name(j, key);
	buf_adds(&j->pending, value ? "true" : "false");
}

void journal_texts(
    struct journal *j, const char *key, char *const *values, size_t n)
{
	key_name(j, key);
	buf_add(&j->pending, "[", 1);
	for (size_t i = 0; i < n; i++) {
		if (i > 0)
			buf_add(&j->pending, ",", 1);
		buf_add_json(&j->pending, values[i], strlen(values[i]));
		show(j, key, values[i]);
	}
	buf_add(&j->pending, "]", 1);
}

void journal_sha256(
    struct journal *j, const char *key, const char *bytes, size_t n)
{
	static const char hex[] = "0123456789abcdef";
	unsigned char md[EVP_MAX_MD_SIZE];
	char text[2 * EVP_MAX_MD_SIZE + 1], *p = text;
	unsigned len = 0;

	if (EVP_DigestInit_ex2(j->digest, j->sha256, NULL) != 1 ||
	    (n > 0 && EVP_DigestUpdate(j->digest, bytes, n) != 1) ||
	    EVP_DigestFinal_ex(j->digest, md, &len) != 1)
		len = 0;
	for (unsigned i = 0; i < len; i++) {
		*p++ = hex[md[i] >> 4];
		*p++ = hex[md[i] & 15];
	}
	*p = '\0';
	journal_text(j, key, text);
}

void journal_end(struct journal *j)
{
	if (j->showing)
		buf_add(&j->console, "\n", 1);
	buf_add(&j->pending, "}\n", 2);
	if (j->fd < 0)
		j->pending.len = 0;
}

static void write_all(int fd, const char *what, const char *p, size_t n)
{
	while (n > 0) {
		ssize_t done = write(fd, p, n);

		if (done < 0 && errno == EINTR)
			continue;
		if (done < 0) {
			complain("%s: %s", what, strerror(errno));
			exit(1);
		}
		p += done;
		n -= (size_t)done;
	}
}

void journal_say(struct journal *j, const char *text, size_t n)
{
	if (j->shown != JOURNAL_NOTHING)
		buf_add(&j->console, text, n);
	journal_flush(j);
}

void journal_flush(struct journal *j)
{
	/* Who closed our standard output doesn't want to read it. */
	if (j->console.len > 0 &&
	    write(STDOUT_FILENO, j->console.data, j->console.len) < 0)
		j->shown = JOURNAL_NOTHING;
	j->console.len = 0;
	if (j->pending.len == 0)
		return;
	if (j->fd >= 0)
		write_all(j->fd, "journal", j->pending.data, j->pending.len);
	j->pending.len = 0;
}

void journal_store(
    struct journal *j, const char *id, const char *bytes, size_t n)
{
	struct buf path = { 0 };
	int fd;

	if (j->store == NULL)
		return;
	buf_addf(&path, "%s/%s.eml", j->store, id);
	buf_add(&path, "", 1);
	fd = open(path.data, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	if (fd < 0) {
		complain("%s: %s", path.data, strerror(errno));
		exit(1);
	}
	write_all(fd, path.data, bytes, n);
	(void)close(fd);
	buf_free(&path);
}
