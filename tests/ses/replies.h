#ifndef SES_REPLIES_H
#define SES_REPLIES_H

#include "text.h"

#include <stdbool.h>

/* SES's replies by name, for rules and for the emulator itself. */
struct reply {
	const char *name;
	const char *text; /* without CRLF */
	bool closes; /* SES closes the connection behind it */
};

/* NULL if there is no such reply. */
const struct reply *reply_find(const char *name);
/* The text of one that exists. */
const char *reply_text(const char *name);
/* One "NAME TEXT" a line. */
void replies_print(struct buf *out);

#endif
