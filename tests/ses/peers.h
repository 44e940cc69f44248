#ifndef SES_PEERS_H
#define SES_PEERS_H

#include "text.h"

#include <stddef.h>

/* Figures of one client: an address together with the name it gave itself. */
struct peer {
	struct peer *next;
	char *addr;
	char *helo; /* "" before EHLO */
	unsigned long accepted, recipients, rejected, throttled;
	unsigned long throttled_recipients;
};

struct peers {
	struct peer *first;
	size_t count;
};

/* Never NULL; lives until peers_free. Too many clients share one. */
struct peer *peers_get(struct peers *p, const char *addr, const char *helo);
/* One JSON object a line; those without any figure are left out. */
void peers_print(const struct peers *p, struct buf *out);
/* All figures to 0. */
void peers_reset(struct peers *p);
void peers_free(struct peers *p);

#endif
