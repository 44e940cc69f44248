#ifndef SES_OPTIONS_H
#define SES_OPTIONS_H

#include "server.h"

#include <stdbool.h>
#include <stddef.h>

/* A command to be obeyed as soon as all ports listen. */
struct order_line {
	char *where; /* it stands, for a complaint */
	char *text;
};

struct options {
	const char *ready_file, *cert, *key, *write_ca, *hostname;
	const char *journal, *store, *control;
	struct order_line *orders;
	size_t order_count;
	bool verbose, quiet;
};

/*
 * Takes the command line into options, settings, rules and listeners. -1 to
 * go on, or an exit code.
 */
int options_take(struct options *o, struct server *sv, int argc, char **argv);
void options_free(struct options *o);

#endif
