/*
 * What becomes of mail before it is queued: the rules of rewrite.*, the header
 * lines of ses.*, and the aliases file, which is read here, at each load.
 *
 * Runs on the loop thread; the rules that are made belong to the configuration
 * and to the messages that are arriving when it goes.
 */
#include "config_private.h"

#include "base/file.h"
#include "base/mem.h"
#include "smtp/aliases.h"

#include <stdlib.h>
#include <string.h>

/* Read at once and kept in memory: a million bytes are 20,000 names. */
#define ALIASES_MAX 1000000
/* Tags on one line of the header, which may have 998 octets. */
#define LINE_MAX_OCTETS 900

/* Appends a field unless it has no value. */
static void add_field(char **fields, const char *name, const char *value)
{
	char *longer;

	if (!value || !*value)
		return;
	longer = xasprintf("%s%s: %s\r\n", *fields, name, value);
	free(*fields);
	*fields = longer;
}

/* "team=billing, app=shop", folded where it gets long; free(3). */
static char *join_tags(const struct config_strings *tags)
{
	char *text = xstrdup("");
	size_t column = strlen("X-SES-MESSAGE-TAGS: ");

	for (unsigned i = 0; i < tags->n; i++) {
		size_t len = strlen(tags->items[i]);
		bool fold = column + len > LINE_MAX_OCTETS;
		char *longer = xasprintf("%s%s%s", text,
		    i == 0     ? ""
			: fold ? ",\r\n\t"
			       : ", ",
		    tags->items[i]);

		column = fold ? len : column + len + 2;
		free(text);
		text = longer;
	}
	return text;
}

static char *derive_ses_headers(const struct config *c)
{
	char *fields = xstrdup(""), *tags = join_tags(&c->ses.tags);

	add_field(&fields, "X-SES-CONFIGURATION-SET", c->ses.configuration_set);
	add_field(&fields, "X-SES-MESSAGE-TAGS", tags);
	add_field(&fields, "X-SES-SOURCE-ARN", c->ses.source_arn);
	add_field(&fields, "X-SES-FROM-ARN", c->ses.from_arn);
	add_field(&fields, "X-SES-RETURN-PATH-ARN", c->ses.return_path_arn);
	add_field(&fields, "X-SES-TENANT", c->ses.tenant);
	free(tags);
	return fields;
}

static struct aliases *read_aliases(struct config_reader *r)
{
	const struct config *c = r->config;
	const char *file = c->rewrite.aliases_file;
	unsigned line = config_key_line(r, "rewrite.aliases_file");
	struct aliases *aliases;
	struct err err;
	size_t len;
	char *text;

	if (!file)
		return NULL;
	text = file_read_small(file, ALIASES_MAX, false, &len, &err);
	if (!text) {
		config_error(r, line, "'rewrite.aliases_file': %s", err.text);
		return NULL;
	}
	aliases =
	    aliases_parse(slice_of(text, len), c->rewrite.default_domain, &err);
	if (!aliases)
		config_error(
		    r, line, "'rewrite.aliases_file': %s:%s", file, err.text);
	free(text);
	return aliases;
}

/* Borrowed from the configuration; free(3) the list. */
static struct rewrite_rule *borrow_rules(const struct config_rules *rules)
{
	struct rewrite_rule *items =
	    xcalloc((size_t)rules->n + 1, sizeof(*items));

	for (unsigned i = 0; i < rules->n; i++)
		items[i] = (struct rewrite_rule){ rules->items[i].match,
			rules->items[i].address };
	return items;
}

/* A rule that nothing reaches is a mistake of whoever wrote it. */
static void check_order(
    struct config_reader *r, const char *key, const struct config_rules *rules)
{
	for (unsigned i = 0; i + 1 < rules->n; i++) {
		if (strcmp(rules->items[i].match, "*") != 0)
			continue;
		config_warn(r, config_key_line(r, key),
		    "'%s': the first rule that matches wins, so those behind "
		    "the rule for \"*\" have no effect",
		    key);
		return;
	}
}

void config_derive_rewrite(struct config_reader *r)
{
	struct config *c = r->config;
	struct rewrite_rule *senders = borrow_rules(&c->rewrite.senders);
	struct rewrite_rule *recipients = borrow_rules(&c->rewrite.recipients);
	char *ses_headers = derive_ses_headers(c);
	struct rewrite_rules rules = {
		.default_domain = c->rewrite.default_domain,
		.hostname = c->smtp.hostname,
		.senders = senders,
		.recipients = recipients,
		.n_senders = c->rewrite.senders.n,
		.n_recipients = c->rewrite.recipients.n,
		.add_headers = c->rewrite.add_headers,
		.reject_duplicates = c->rewrite.duplicate_headers == 1,
		.keep_ses_headers = c->ses.client_headers == 1,
		.ses_headers = ses_headers,
	};

	check_order(r, "rewrite.senders", &c->rewrite.senders);
	check_order(r, "rewrite.recipients", &c->rewrite.recipients);
	c->rewrite_rules = rewrite_rules_new(&rules, read_aliases(r));
	c->options.inbound.server.rewrite = c->rewrite_rules;
	/* Notices are mail to SES like any other. */
	c->options.relay.ses_headers = c->rewrite_rules->ses_headers;
	free(senders);
	free(recipients);
	free(ses_headers);
}
