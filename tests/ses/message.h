#ifndef SES_MESSAGE_H
#define SES_MESSAGE_H

#include "text.h"

#include <stdbool.h>
#include <stddef.h>

struct header {
	const char *name;
	size_t name_len;
	const char *value; /* still folded, without the last CRLF */
	size_t value_len;
};

enum { MESSAGE_HEADERS = 256 };

/* A view of a message's content; owns nothing of it. */
struct message {
	struct header headers[MESSAGE_HEADERS];
	size_t count;
	size_t body_at; /* offset behind the first empty line */
	char id[256]; /* of Message-ID, without < > */
};

void message_parse(struct message *m, const char *data, size_t len);

/*
 * What SES finds wrong with the headers; writes the end of the reply
 * ("Duplicate header 'To'.") and returns true, or returns false.
 */
bool message_fault(const struct message *m, char *out, size_t cap);

/*
 * Adds to `failed` the senders (From, Sender, Return-Path and the envelope's)
 * that are not in the list of verified domains and addresses, separated by
 * ", ". Nothing is added when all are.
 */
void message_unverified(const struct message *m, const char *envelope,
    const char *verified, struct buf *failed);

/* The same for a recipient of an account in the sandbox. */
void message_sandboxed(
    const char *rcpt, const char *verified, struct buf *failed);
/* The first field of this name, trimmed; false if there is none. */
bool message_header(
    const struct message *m, const char *name, char *out, size_t cap);

/* 0, or one of these for an address that only the end of DATA refuses. */
enum { ADDRESS_USER = 1, ADDRESS_DOMAIN };
int address_fault(const char *addr);

#endif
