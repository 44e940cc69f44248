/*
 * Rules as an object of its own: a copy of what the configuration has, held by
 * that and by each message whose header is being rewritten.
 *
 * Pure; one thread, so the count needs no lock.
 */
#include "smtp/rewrite.h"

#include "base/mem.h"
#include "smtp/aliases.h"

#include <stdint.h>
#include <stdlib.h>

static const char *copy(const char *text)
{
	return text != NULL ? xstrdup(text) : NULL;
}

static void free_text(const char *text)
{
	free((void *)(uintptr_t)text);
}

static const struct rewrite_rule *copy_rules(
    const struct rewrite_rule *from, unsigned n)
{
	struct rewrite_rule *to = xcalloc((size_t)n + 1, sizeof(*to));

	for (unsigned i = 0; i < n; i++)
		to[i] = (struct rewrite_rule){ copy(from[i].match),
			copy(from[i].address) };
	return to;
}

static void free_rules(const struct rewrite_rule *rules, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		free_text(rules[i].match);
		free_text(rules[i].address);
	}
	free((void *)(uintptr_t)rules);
}

struct rewrite_rules *rewrite_rules_new(
    const struct rewrite_rules *from, struct aliases *aliases)
{
	struct rewrite_rules *r = xmalloc(sizeof(*r));

	*r = *from;
	r->default_domain = copy(from->default_domain);
	r->hostname = copy(from->hostname);
	r->ses_headers = copy(from->ses_headers);
	r->senders = copy_rules(from->senders, from->n_senders);
	r->recipients = copy_rules(from->recipients, from->n_recipients);
	r->aliases = aliases;
	r->refs = 1;
	return r;
}

struct rewrite_rules *rewrite_rules_ref(struct rewrite_rules *rules)
{
	ASSERT(rules->refs > 0);
	rules->refs++;
	return rules;
}

void rewrite_rules_unref(struct rewrite_rules *rules)
{
	if (rules == NULL || --rules->refs > 0)
		return;
	free_text(rules->default_domain);
	free_text(rules->hostname);
	free_text(rules->ses_headers);
	free_rules(rules->senders, rules->n_senders);
	free_rules(rules->recipients, rules->n_recipients);
	aliases_free((struct aliases *)(uintptr_t)rules->aliases);
	free(rules);
}
