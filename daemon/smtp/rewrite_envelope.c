/*
 * Addresses of the envelope as SES shall see them.
 *
 * Pure; owns nothing.  An address comes here bare ("root") or with its domain.
 * Rules look at both forms, so that a rule for "root" and one for
 * "root@example.com" do what one would think.  What a rule or an alias gives is
 * final: no rule looks at it again, so that rules make no loop (and aliases
 * have none, see aliases_read.c).
 */
#include "smtp/rewrite_private.h"

#include "base/mem.h"
#include "smtp/aliases.h"

#include <stdio.h>
#include <string.h>

/* One address, as it was given, and with its domain. */
struct form {
	struct addr given;
	struct addr whole; /* "": there is no domain to give it */
};

void rewrite_refuse_address(
    struct rewrite_refusal *why, enum addr_error error, bool is_sender)
{
	static const char *const texts[] = {
		[ADDR_SYNTAX] = "Bad address syntax",
		[ADDR_TOO_LONG] = "Address too long",
		[ADDR_NON_ASCII] = "Amazon SES takes no address beyond ASCII",
		[ADDR_NON_ASCII_DOMAIN] =
		    "Amazon SES takes no domain beyond ASCII; write it in "
		    "punycode (xn--...)",
		[ADDR_UNQUALIFIED] =
		    "Address has no domain; set rewrite.default_domain in "
		    "sesrelayd.conf",
	};
	bool non_ascii =
	    error == ADDR_NON_ASCII || error == ADDR_NON_ASCII_DOMAIN;

	ASSERT(error != ADDR_OK && error < ARRAY_LEN(texts));
	strcpy(why->status,
	    non_ascii       ? "5.6.7"
		: is_sender ? "5.1.7"
			    : "5.1.3");
	snprintf(why->text, sizeof(why->text), "%s", texts[error]);
}

static enum addr_error parse(const char *text, bool null_ok,
    const char *default_domain, struct addr *out)
{
	struct slice rest = slice_str(text);
	enum addr_error error =
	    addr_parse_path(&rest, null_ok, default_domain, out);

	if ((error == ADDR_OK || error == ADDR_UNQUALIFIED) &&
	    slice_trim(rest).len > 0)
		error = ADDR_SYNTAX;
	return error;
}

static enum addr_error read_form(const struct rewrite_rules *rules,
    const char *text, bool null_ok, struct form *f)
{
	enum addr_error error;

	/* The null path, without its brackets. */
	if (null_ok && text[0] == '\0')
		text = "<>";
	error = parse(text, null_ok, NULL, &f->given);
	f->whole = f->given;
	if (error != ADDR_UNQUALIFIED)
		return error;
	f->whole.text[0] = '\0';
	if (rules->default_domain == NULL)
		return ADDR_OK;
	return parse(f->given.text, false, rules->default_domain, &f->whole);
}

/* The address that the first rule gives, else NULL. */
static const char *find_rule(
    const struct rewrite_rule *rules, unsigned n, const struct form *f)
{
	const char *given = f->given.text, *whole = f->whole.text;

	return rewrite_rules_find(
	    rules, n, whole[0] != '\0' ? whole : given, given);
}

/* --- senders --- */

char *rewrite_sender(const struct rewrite_rules *rules, const char *addr,
    struct rewrite_refusal *why)
{
	struct form f;
	enum addr_error error = read_form(rules, addr, true, &f);
	const char *found;

	if (error != ADDR_OK) {
		rewrite_refuse_address(why, error, true);
		return NULL;
	}
	if (f.given.text[0] == '\0')
		return xstrdup("");
	found = find_rule(rules->senders, rules->n_senders, &f);
	if (found != NULL)
		return xstrdup(found);
	if (f.whole.text[0] == '\0') {
		rewrite_refuse_address(why, ADDR_UNQUALIFIED, true);
		return NULL;
	}
	return xstrdup(f.whole.text);
}

/* --- recipients --- */

/* A mailbox of this host is a bare name; `out` is as large as addr can be. */
static const char *without_own_host(
    const struct rewrite_rules *rules, const char *addr, char out[ADDR_MAX + 1])
{
	const char *at = strrchr(addr, '@');
	struct slice domain = slice_str(at != NULL ? at + 1 : "");

	if (at == NULL || at == addr || addr[strlen(addr) - 1] == '"')
		return addr;
	if (!slice_caseeq_str(domain, "localhost") &&
	    (rules->hostname == NULL ||
		!slice_caseeq_str(domain, rules->hostname)))
		return addr;
	slice_copy(slice_of(addr, (size_t)(at - addr)), out, ADDR_MAX + 1);
	return out;
}

int rewrite_rcpt(const struct rewrite_rules *rules, const char *addr,
    void (*emit)(void *ctx, const char *addr), void *ctx,
    struct rewrite_refusal *why)
{
	char local[ADDR_MAX + 1];
	struct form f;
	enum addr_error error = read_form(rules, addr, false, &f);
	const char *found;

	if (error != ADDR_OK) {
		rewrite_refuse_address(why, error, false);
		return -1;
	}
	found = find_rule(rules->recipients, rules->n_recipients, &f);
	if (found == NULL)
		found = f.given.text;
	else
		f.whole.text[0] = '\0';
	if (rules->aliases != NULL &&
	    aliases_expand(rules->aliases,
		without_own_host(rules, found, local), emit, ctx) > 0)
		return 0;
	if (f.whole.text[0] != '\0')
		found = f.whole.text;
	if (found == f.given.text) {
		rewrite_refuse_address(why, ADDR_UNQUALIFIED, false);
		return -1;
	}
	emit(ctx, found);
	return 0;
}
