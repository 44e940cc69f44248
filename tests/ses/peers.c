/*
 * Figures of each client, so that a share of the account can be measured.
 *
 * Owns one entry for every pair of address and EHLO name; sessions keep a
 * pointer to theirs, so entries live as long as the program. The number of
 * entries is bounded: a client that changes its name with every connection
 * ends in one entry with the others.
 */
#include "peers.h"

#include <stdlib.h>
#include <string.h>

enum { PEERS_KEPT = 1000 };

static struct peer *find(
    const struct peers *p, const char *addr, const char *helo)
{
	for (struct peer *e = p->first; e != NULL; e = e->next) {
		if (strcmp(e->addr, addr) == 0 && strcmp(e->helo, helo) == 0)
			return e;
	}
	return NULL;
}

struct peer *peers_get(struct peers *p, const char *addr, const char *helo)
{
	struct peer *e = find(p, addr, helo), **at = &p->first;

	if (e != NULL)
		return e;
	if (p->count >= PEERS_KEPT) {
		addr = "other";
		helo = "";
		e = find(p, addr, helo);
		if (e != NULL)
			return e;
	}
	while (*at != NULL)
		at = &(*at)->next;
	e = xcalloc(1, sizeof(*e));
	e->addr = xstrdup(addr);
	e->helo = xstrdup(helo);
	*at = e;
	p->count++;
	return e;
}

void peers_print(const struct peers *p, struct buf *out)
{
	for (const struct peer *e = p->first; e != NULL; e = e->next) {
		if (e->accepted + e->rejected + e->throttled == 0)
			continue;
		buf_adds(out, "{\"peer\":");
		buf_add_json(out, e->addr, strlen(e->addr));
		buf_adds(out, ",\"helo\":");
		buf_add_json(out, e->helo, strlen(e->helo));
		buf_addf(out,
		    ",\"accepted\":%lu,\"recipients\":%lu,\"rejected\":%lu,"
		    "\"throttled\":%lu,\"throttled_recipients\":%lu}\n",
		    e->accepted, e->recipients, e->rejected, e->throttled,
		    e->throttled_recipients);
	}
}

void peers_reset(struct peers *p)
{
	for (struct peer *e = p->first; e != NULL; e = e->next) {
		e->accepted = e->recipients = e->rejected = 0;
		e->throttled = e->throttled_recipients = 0;
	}
}

void peers_free(struct peers *p)
{
	struct peer *e;

	while ((e = p->first) != NULL) {
		p->first = e->next;
		free(e->addr);
		free(e->helo);
		free(e);
	}
}
