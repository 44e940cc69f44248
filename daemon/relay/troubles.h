/*
 * The last few things that went wrong on the way to SES, in words, newest first;
 * what comes again is counted, not listed again.  Pure memory.
 */
#ifndef RELAY_TROUBLES_H
#define RELAY_TROUBLES_H

#include "base/base.h"

#define TROUBLES_MAX 8

struct troubles {
	struct trouble {
		int64_t wall_us; /* last time */
		uint64_t n; /* times */
		char text[256];
	} items[TROUBLES_MAX];
	unsigned n;
};

void troubles_note(struct troubles *t, int64_t wall_us, const char *text);

#endif
