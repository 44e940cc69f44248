/*
 * Last replies of queued messages.  When SES cannot be reached a million
 * messages wait with the same words, so a text that was given lately is shared
 * and not copied.
 */
#ifndef QUEUE_REPLY_H
#define QUEUE_REPLY_H

#include "base/base.h"

#define REPLY_MAX 300 /* bytes that are kept of a text */
#define REPLY_RECENT 16

/* Zeroed is empty. */
struct reply_pool {
	const char *recent[REPLY_RECENT];
	unsigned next;
};

void reply_pool_fini(struct reply_pool *p);
/* The text, for reply_drop(); it may outlive the pool. */
const char *reply_share(struct reply_pool *p, const char *text);
void reply_drop(const char *reply); /* NULL is legal */

#endif
