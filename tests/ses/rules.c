/*
 * The list of fault rules: order, counting and matching.
 *
 * Owns the rules and their counters. The first rule whose phase and
 * conditions fit, and whose skip, every and times let it, acts; one that is
 * passed over has still counted the occasion. A BODY rule is asked again
 * with every piece that arrives but counts once a message. What an action
 * does is the session's business (answer.c).
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "rules.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static const char *const phases[] = {
	"CONNECT",
	"EHLO",
	"STARTTLS",
	"TLS",
	"AUTH",
	"MAIL",
	"RCPT",
	"DATA",
	"BODY",
	"DOT",
	"RSET",
	"NOOP",
	"QUIT",
	"IDLE",
	"OTHER",
};

/* The beginning of a reply that means yes. */
static const char *const yes[] = {
	"220",
	"2",
	"220",
	"",
	"235",
	"2",
	"2",
	"354",
	"",
	"2",
	"2",
	"2",
	"2",
	"",
	"",
};

const char *phase_name(enum phase phase)
{
	return phases[phase];
}

void rules_init(struct rules *r)
{
	memset(r, 0, sizeof(*r));
	TAILQ_INIT(&r->list);
}

void rule_free(struct rule *rule)
{
	for (size_t i = 0; i < rule->conditions; i++)
		free(rule->when[i].text);
	buf_free(&rule->payload);
	buf_free(&rule->inject);
	free(rule->source);
	free(rule);
}

void rules_clear(struct rules *r)
{
	struct rule *rule;

	while ((rule = TAILQ_FIRST(&r->list)) != NULL) {
		TAILQ_REMOVE(&r->list, rule, link);
		rule_free(rule);
	}
	memset(r->count, 0, sizeof(r->count));
}

const char *rules_add(struct rules *r, const char *text)
{
	const char *wrong = NULL;
	struct rule *rule = rule_parse(text, &wrong);

	if (rule == NULL)
		return wrong;
	rule->number = ++r->last;
	TAILQ_INSERT_TAIL(&r->list, rule, link);
	r->count[rule->phase]++;
	return NULL;
}

static bool number_holds(const struct condition *c, long n)
{
	switch (c->op) {
	case COMPARE_EQ:
		return n == c->number;
	case COMPARE_NE:
		return n != c->number;
	case COMPARE_LT:
		return n < c->number;
	case COMPARE_LE:
		return n <= c->number;
	case COMPARE_GT:
		return n > c->number;
	case COMPARE_GE:
		return n >= c->number;
	default:
		return false;
	}
}

static bool text_is(const struct condition *c, const char *text)
{
	if (text == NULL)
		text = "";
	if (c->op == COMPARE_EQ || c->op == COMPARE_NE)
		return strcasecmp(text, c->text) == 0;
	return strcasestr(text, c->text) != NULL;
}

static bool holds(const struct condition *c, const struct facts *f)
{
	bool is = false,
	     negated = c->op == COMPARE_NE || c->op == COMPARE_LACKS;

	if (c->fact < FACT_NUMBERS)
		return number_holds(c, f->number[c->fact]);
	if (c->fact == FACT_RCPT && f->text[FACT_RCPT - FACT_NUMBERS] == NULL) {
		for (size_t i = 0; i < f->rcpt_count && !is; i++)
			is = text_is(c, f->rcpts[i]);
	} else {
		is = text_is(c, f->text[c->fact - FACT_NUMBERS]);
	}
	return is != negated;
}

static bool fits(struct rule *rule, const struct facts *f)
{
	for (size_t i = 0; i < rule->conditions; i++) {
		if (!holds(&rule->when[i], f))
			return false;
	}
	if (rule->phase == PHASE_BODY) {
		if (rule->txn == f->txn)
			return false;
		rule->txn = f->txn;
	}
	return true;
}

struct rule *rules_match(
    struct rules *r, enum phase phase, const struct facts *f)
{
	struct rule *rule;

	TAILQ_FOREACH (rule, &r->list, link) {
		unsigned long turn;

		if (rule->phase != phase || !fits(rule, f))
			continue;
		turn = rule->matched++;
		if (turn < rule->skip ||
		    (turn - rule->skip) % rule->every != rule->every - 1 ||
		    (rule->times > 0 && rule->acted >= rule->times))
			continue;
		rule->acted++;
		return rule;
	}
	return NULL;
}

void rules_print(const struct rules *r, struct buf *out)
{
	const struct rule *rule;

	TAILQ_FOREACH (rule, &r->list, link)
		buf_addf(out, "%u matched=%lu acted=%lu %s\n", rule->number,
		    rule->matched, rule->acted, rule->source);
}

bool phase_success(enum phase phase, const char *bytes, size_t n)
{
	const char *p = bytes, *want = yes[phase], *end;

	if (*want == '\0' || n == 0)
		return false;
	end = bytes + n;
	for (;;) {
		const char *nl = memchr(p, '\n', (size_t)(end - p));

		if (nl == NULL || nl - p < 4 || nl[-1] != '\r' ||
		    strncmp(p, want, strlen(want)) != 0 ||
		    memcmp(p, bytes, 3) != 0 || !isdigit((unsigned char)p[1]) ||
		    !isdigit((unsigned char)p[2]))
			return false;
		if (p[3] == ' ' || p[3] == '\r')
			return true;
		if (p[3] != '-')
			return false;
		p = nl + 1;
	}
}
