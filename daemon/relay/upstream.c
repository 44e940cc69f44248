/*
 * Shared, immutable parts of the connections to SES.  Owns copies of all
 * strings, the credentials among them, and wipes those when the last
 * connection that could use them is gone.
 */
#include "relay/upstream.h"

#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

static char *copy(const char *s)
{
	return s != NULL ? xstrdup(s) : NULL;
}

static void wipe(const char *secret)
{
	char *s = (char *)(uintptr_t)secret;

	if (s != NULL)
		explicit_bzero(s, strlen(s));
	free(s);
}

/* Takes the reference of the TLS context; copies the rest. */
static struct upstream *make(
    const struct pool_options *options, struct tls_context *tls)
{
	struct upstream *u = xcalloc(1, sizeof *u);
	struct pool_options *o = &u->options;

	u->refs = 1;
	u->tls = tls;
	*o = *options;
	o->host = copy(options->host);
	o->hostname = copy(options->hostname);
	o->auth_plain = copy(options->auth_plain);
	o->auth_user = copy(options->auth_user);
	o->auth_pass = copy(options->auth_pass);
	o->ca_file = copy(options->ca_file);
	u->auth.plain = o->auth_plain;
	u->auth.login_user = o->auth_user;
	u->auth.login_pass = o->auth_pass;
	return u;
}

struct upstream *upstream_new(
    const struct pool_options *options, struct err *err)
{
	struct tls_context *tls = tls_context_new(options->ca_file, err);

	return tls != NULL ? make(options, tls) : NULL;
}

struct upstream *upstream_with_limits(
    const struct upstream *u, const struct pool_options *options)
{
	struct pool_options mixed = u->options;

	mixed.max_connections = options->max_connections;
	mixed.rotate = options->rotate;
	mixed.timeouts = options->timeouts;
	return make(&mixed, tls_context_ref(u->tls));
}

struct upstream *upstream_ref(struct upstream *u)
{
	u->refs++;
	return u;
}

void upstream_unref(struct upstream *u)
{
	struct pool_options *o;

	if (u == NULL || --u->refs > 0)
		return;
	o = &u->options;
	wipe(o->auth_plain);
	wipe(o->auth_user);
	wipe(o->auth_pass);
	free((char *)(uintptr_t)o->host);
	free((char *)(uintptr_t)o->hostname);
	free((char *)(uintptr_t)o->ca_file);
	tls_context_unref(u->tls);
	free(u);
}

static bool same_text(const char *a, const char *b)
{
	if (a == NULL || b == NULL)
		return a == b;
	return strcmp(a, b) == 0;
}

bool upstream_same_place(const struct upstream *a, const struct upstream *b)
{
	const struct pool_options *x = &a->options, *y = &b->options;

	if (x->n_ports != y->n_ports)
		return false;
	for (unsigned i = 0; i < x->n_ports; i++)
		if (x->ports[i].port != y->ports[i].port ||
		    x->ports[i].wrapper != y->ports[i].wrapper)
			return false;
	return same_text(x->host, y->host);
}

bool upstream_same_login(const struct upstream *a, const struct upstream *b)
{
	const struct pool_options *x = &a->options, *y = &b->options;

	return same_text(x->auth_plain, y->auth_plain) &&
	    same_text(x->auth_user, y->auth_user) &&
	    same_text(x->auth_pass, y->auth_pass);
}

bool upstream_same(const struct upstream *a, const struct upstream *b)
{
	const struct pool_options *x = &a->options, *y = &b->options;

	return upstream_same_place(a, b) && upstream_same_login(a, b) &&
	    x->mss == y->mss && x->source_len == y->source_len &&
	    memcmp(&x->source, &y->source, x->source_len) == 0 &&
	    same_text(x->hostname, y->hostname) &&
	    same_text(x->ca_file, y->ca_file);
}
