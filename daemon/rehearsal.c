/*
 * A configuration for sesrelayctl, of which it sees the part that is about
 * local programs.  Owns the configuration.
 */
#include "rehearsal.h"

#include "base/mem.h"
#include "config.h"

#include <stdlib.h>

struct rehearsal {
	struct config *config;
};

struct rehearsal *rehearsal_load(const char *file, char **message)
{
	struct config *config =
	    config_load(file != NULL ? file : CONFIG_DEFAULT_FILE, message);
	struct rehearsal *r;

	if (config == NULL)
		return NULL;
	r = xcalloc(1, sizeof(*r));
	r->config = config;
	return r;
}

const struct server_options *rehearsal_options(const struct rehearsal *r)
{
	return &r->config->options.inbound.server;
}

void rehearsal_free(struct rehearsal *r)
{
	if (r == NULL)
		return;
	config_free(r->config);
	free(r);
}
