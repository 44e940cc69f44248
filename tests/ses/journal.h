#ifndef SES_JOURNAL_H
#define SES_JOURNAL_H

#include "text.h"

#include <openssl/evp.h>
#include <stdbool.h>
#include <stddef.h>

enum journal_shown {
	JOURNAL_NOTHING,
	JOURNAL_MESSAGES, /* not connections and logins */
	JOURNAL_ALL,
};

/* The record of what was accepted and what happened: JSON, one a line. */
struct journal {
	int fd; /* -1: nothing is kept */
	const char *store; /* directory of accepted contents, or NULL */
	struct buf pending; /* lines not yet written */
	enum journal_shown shown; /* what also goes to standard output */
	bool showing; /* the line in progress does */
	struct buf console; /* not yet written there */
	EVP_MD *sha256;
	EVP_MD_CTX *digest;
};

/* False after a line on stderr. Either path may be NULL. */
bool journal_open(struct journal *j, const char *path, const char *store);
void journal_close(struct journal *j);

/* Begins a line with its time and, if not NULL, its event; then fields. */
void journal_begin(struct journal *j, const char *event);
void journal_text(struct journal *j, const char *key, const char *value);
void journal_number(struct journal *j, const char *key, long value);
void journal_bool(struct journal *j, const char *key, bool value);
void journal_texts(
    struct journal *j, const char *key, char *const *values, size_t n);
/* Field with the SHA-256 of bytes in hexadecimal. */
void journal_sha256(
    struct journal *j, const char *key, const char *bytes, size_t n);
void journal_end(struct journal *j);

/* Text for standard output, if anything is shown there. */
void journal_say(struct journal *j, const char *text, size_t n);
/* Writes what is pending; called before replies leave. */
void journal_flush(struct journal *j);
/* Keeps a content as <store>/<id>.eml. */
void journal_store(
    struct journal *j, const char *id, const char *bytes, size_t n);

#endif
