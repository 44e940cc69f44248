/*
 * What the conversation with local programs goes by, for who tries it out
 * without a daemon: the options and rules of a configuration file.
 */
#ifndef REHEARSAL_H
#define REHEARSAL_H

#include "smtp/server.h"

struct rehearsal;

/* NULL: *message (free(3) it) says why, as the daemon would. */
MUST_CHECK struct rehearsal *rehearsal_load(const char *file, char **message);
const struct server_options *rehearsal_options(const struct rehearsal *r);
void rehearsal_free(struct rehearsal *r); /* NULL is legal */

#endif
