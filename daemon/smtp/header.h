/*
 * A look at the header block as it streams by (RFC 5322 2.2), without keeping
 * it: what the relay needs to know of a message, in constant memory.
 * Content is canonical (CRLF), cut anywhere.  The block ends at the empty line,
 * and just as well at a line that is no field: what follows is body.
 */
#ifndef SMTP_HEADER_H
#define SMTP_HEADER_H

#include "base/slice.h"

#define HEADER_MESSAGE_ID_MAX 250
#define HEADER_NAME_MAX 80

struct header_scan {
	unsigned n_received; /* Received: fields, for the loop guard */
	bool has_date, has_from, has_message_id;
	bool done; /* the header block has passed */
	char message_id[HEADER_MESSAGE_ID_MAX + 1]; /* without <>, "" if none */
	/* private */
	uint8_t state;
	uint8_t field;
	uint8_t id_state;
	char name[HEADER_NAME_MAX + 1];
	size_t name_len, message_id_len;
};

void header_scan_init(struct header_scan *h);
void header_scan_feed(struct header_scan *h, const char *in, size_t len);

/*
 * The header block at the head of canonical content, whole lines of it, at most
 * `max` bytes; without the empty line.
 */
struct slice header_block(struct slice content, size_t max);
/* The field that begins here, with the lines folded to it; empty: none. */
struct slice header_next_field(struct slice text);
/* Without the blanks that may stand before the colon; empty: no field. */
struct slice header_field_name(struct slice field);
/*
 * Does the block say that nobody wrote the message by hand (RFC 3834 5:
 * Auto-Submitted, of any value but "no")?  Such a sender gets no answer.
 */
bool header_is_automatic(struct slice block);

/*
 * Our trace field (RFC 5321 4.4), ending in CRLF; HELO name and peer are
 * reduced to harmless characters.  Returns the length; size >= 1024.
 */
size_t header_format_received(char *buf, size_t size, const char *helo,
    const char *peer, const char *hostname, bool esmtp, const char *id,
    const char *date);

#endif
