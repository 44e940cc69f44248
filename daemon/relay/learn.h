/*
 * What was learned of SES, from process to process: read from the spool at the
 * start and given to the parts that learn, gathered from them once a second,
 * and written when it is worth it.  Part of the relay; loop thread.
 */
#ifndef RELAY_LEARN_H
#define RELAY_LEARN_H

#include "policy/learned.h"

struct relay;

struct learn {
	char *endpoint, *username; /* whom it holds for */
	struct learned known; /* as last gathered */
	struct learned written; /* as it stands in the spool */
	int64_t written_us; /* monotonic; 0: not by this process */
};

/* The spool is open and the parts are there: they get what is known. */
void learn_begin(struct relay *r);
/* Another endpoint, another user: nothing is known. */
void learn_configure(struct relay *r);
void learn_tick(struct relay *r);
/* Before the spool closes: writes what is not written. */
void learn_end(struct relay *r);

#endif
