/*
 * Who may look at the metrics: the networks of http.allow, and the rule that
 * ties them to the addresses of http.listen.
 */
#include "config_private.h"

#include "base/mem.h"
#include "net/http.h"

#include <stdlib.h>
#include <string.h>

static bool allow_is_default(const struct config *c)
{
	const struct config_key *key =
	    &config_keys[config_key_index("http.allow")];
	char *text = config_value_text(c, key);
	bool same = strcmp(text, key->fallback) == 0;

	free(text);
	return same;
}

/* As smtp.listen: beyond loopback, the operator says who may ask. */
static void check_listen(struct config_reader *r)
{
	const struct config_strings *listen = &r->config->http.listen;
	unsigned line = config_key_line(r, "http.listen");
	bool open =
	    allow_is_default(r->config) && !config_key_bad(r, "http.allow");
	struct sockaddr_storage addr;
	socklen_t len;

	if (listen->n > HTTP_MAX_LISTENERS)
		config_error(r, line,
		    "'http.listen' must hold at most %d addresses",
		    HTTP_MAX_LISTENERS);
	for (unsigned i = 0; i < listen->n && open; i++)
		if (listener_parse_address(
			listen->items[i], &addr, &len, NULL) == 0 &&
		    !listener_is_loopback((const struct sockaddr *)&addr))
			config_error(r, line,
			    "'http.listen': %s can be reached from other "
			    "hosts, and 'http.allow' is at its default: set "
			    "it to the networks that may read the metrics, or "
			    "listen on loopback only",
			    listen->items[i]);
}

void config_derive_http(struct config_reader *r)
{
	struct config *c = r->config;
	const struct config_strings *allow = &c->http.allow;

	check_listen(r);
	c->http_allow = xcalloc(allow->n, sizeof(*c->http_allow));
	for (unsigned i = 0; i < allow->n; i++)
		if (network_parse(allow->items[i],
			&c->http_allow[c->n_http_allow], NULL) == 0)
			c->n_http_allow++;
}
