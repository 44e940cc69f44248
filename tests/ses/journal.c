/*
 * The judge's record: what was accepted and what else happened.
 *
 * Owns the journal file, the directory of contents and one digest context.
 * Lines gather in memory and are written once a turn of the loop, before any
 * reply of that turn leaves: who has read a 250 finds its line in the file.
 * A line is appended by one write(2) and never changed. Failure to write
 * ends the program, for a journal with holes would accuse the innocent.
 */
#include "journal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

bool journal_open(struct journal *j, const char *path, const char *store)
{
	memset(j, 0, sizeof(*j));
	j->fd = -1;
	j->store = store;
	j->sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
	j->digest = EVP_MD_CTX_new();
	if (j->sha256 == NULL || j->digest == NULL) {
		fputs("sesd: no SHA-256 in this OpenSSL\n", stderr);
		return false;
	}
	if (path != NULL) {
		j->fd =
		    open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
		if (j->fd < 0) {
			fprintf(
			    stderr, "sesd: %s: %s\n", path, strerror(errno));
			return false;
		}
	}
	if (store != NULL && access(store, W_OK | X_OK) != 0) {
		fprintf(stderr, "sesd: %s: %s\n", store, strerror(errno));
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
	EVP_MD_CTX_free(j->digest);
	EVP_MD_free(j->sha256);
}

void journal_begin(struct journal *j, const char *event)
{
	buf_addf(&j->pending, "{\"time\":%.6f", clock_wall());
	if (event != NULL)
		journal_text(j, "event", event);
}

static void key_name(struct journal *j, const char *key)
{
	buf_add(&j->pending, ",\"", 2);
	buf_adds(&j->pending, key);
	buf_add(&j->pending, "\":", 2);
}

void journal_text(struct journal *j, const char *key, const char *value)
{
	key_name(j, key);
	if (value == NULL)
		buf_adds(&j->pending, "null");
	else
		buf_add_json(&j->pending, value, strlen(value));
}

void journal_number(struct journal *j, const char *key, long value)
{
	key_name(j, key);
	buf_addf(&j->pending, "%ld", value);
}

void journal_bool(struct journal *j, const char *key, bool value)
{
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
			fprintf(
			    stderr, "sesd: %s: %s\n", what, strerror(errno));
			exit(1);
		}
		p += done;
		n -= (size_t)done;
	}
}

void journal_flush(struct journal *j)
{
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
		fprintf(stderr, "sesd: %s: %s\n", path.data, strerror(errno));
		exit(1);
	}
	write_all(fd, path.data, bytes, n);
	(void)close(fd);
	buf_free(&path);
}
