/*
 * The last few things that went wrong, newest first.
 *
 * A handful, so they are moved in place.  No clock, no state but the caller's.
 */
#include "relay/troubles.h"

#include <stdio.h>
#include <string.h>

void troubles_note(struct troubles *t, int64_t wall_us, const char *text)
{
	struct trouble now = { .wall_us = wall_us, .n = 1 };
	unsigned i = 0;

	snprintf(now.text, sizeof now.text, "%s", text);
	while (i < t->n && strcmp(t->items[i].text, now.text) != 0)
		i++;
	if (i < t->n)
		now.n += t->items[i].n;
	else if (t->n < TROUBLES_MAX)
		t->n++;
	else
		i--; /* the oldest has to go */
	memmove(&t->items[1], &t->items[0], i * sizeof t->items[0]);
	t->items[0] = now;
}
