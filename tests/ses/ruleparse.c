/*
 * The grammar of a fault rule:
 *
 *   on PHASE [when FACT OP VALUE [and ...]] [skip N] [times N] [every N]
 *      ACTION...
 *
 * A parser by hand over words, "strings" and operators; makes a struct rule
 * or says what is wrong. Strings are unescaped here, so that matching and
 * acting never see a backslash. Combinations that could have no effect are
 * refused, because a fault that silently does not happen passes its test.
 */
#include "replies.h"
#include "rules.h"

#include <ctype.h>
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum token_kind { TOKEN_END, TOKEN_WORD, TOKEN_STRING, TOKEN_OP, TOKEN_BAD };

struct parser {
	const char *at;
	const char *wrong;
	enum token_kind kind;
	char *text; /* of the token; strings still escaped */
	bool closes; /* the reply is one that SES closes behind */
};

static const char *const fact_names[FACTS] = {
	"msgs",
	"conns",
	"conn",
	"total",
	"port",
	"bytes",
	"rcpts",
	"tls",
	"auth",
	"age",
	"from",
	"rcpt",
	"message_id",
	"helo",
	"peer",
	"addr",
};

static const char *const op_names[] = {
	"=",
	"!=",
	"<",
	"<=",
	">",
	">=",
	"~",
	"!~",
};

static const struct {
	const char *name;
	unsigned bit;
} plain_actions[] = {
	{ "close", ACT_CLOSE },
	{ "reset", ACT_RESET },
	{ "stall", ACT_STALL },
	{ "halfclose", ACT_HALFCLOSE },
	{ "accept", ACT_ACCEPT },
	{ "default", ACT_DEFAULT },
	{ "bytewise", ACT_BYTEWISE },
	{ "no-starttls", ACT_NO_STARTTLS },
	{ "abort-tls", ACT_ABORT_TLS },
	{ "no-close-notify", ACT_NO_CLOSE_NOTIFY },
	{ "user-canceled", ACT_USER_CANCELED },
};

static bool op_char(char c)
{
	return c != '\0' && strchr("=!<>~", c) != NULL;
}

/* Reads the next token; the end of the text and an error stay as they are. */
static void next(struct parser *p)
{
	const char *from;

	while (isspace((unsigned char)*p->at))
		p->at++;
	from = p->at;
	free(p->text);
	p->text = NULL;
	if (*from == '\0') {
		p->kind = TOKEN_END;
		return;
	}
	if (*from == '"') {
		for (p->at++; *p->at != '"'; p->at++) {
			if (*p->at == '\\' && p->at[1] != '\0')
				p->at++;
			if (*p->at == '\0') {
				p->kind = TOKEN_BAD;
				p->wrong = "a string without end";
				return;
			}
		}
		p->kind = TOKEN_STRING;
		p->text = xstrndup(from + 1, (size_t)(p->at - from - 1));
		p->at++;
		return;
	}
	p->kind = op_char(*from) ? TOKEN_OP : TOKEN_WORD;
	while (*p->at != '\0' && *p->at != '"' &&
	    !isspace((unsigned char)*p->at) &&
	    op_char(*p->at) == (p->kind == TOKEN_OP))
		p->at++;
	p->text = xstrndup(from, (size_t)(p->at - from));
}

static bool fail(struct parser *p, const char *wrong)
{
	if (p->wrong == NULL)
		p->wrong = wrong;
	return false;
}

static bool word_is(const struct parser *p, const char *word)
{
	return p->kind == TOKEN_WORD && strcmp(p->text, word) == 0;
}

/* The token's place in a list of names, or -1. */
static int name_index(
    const struct parser *p, const char *const *names, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (strcmp(p->text, names[i]) == 0)
			return (int)i;
	}
	return -1;
}

static bool number(struct parser *p, long min, long *out)
{
	char *end;

	if (p->kind != TOKEN_WORD)
		return fail(p, "a number is missing");
	errno = 0;
	*out = strtol(p->text, &end, 10);
	if (*end != '\0' || end == p->text || errno != 0 || *out < min)
		return fail(p, "not a number in range");
	next(p);
	return true;
}

static bool string(struct parser *p, bool crlf, struct buf *out)
{
	if (p->kind != TOKEN_STRING)
		return fail(p, "a \"string\" is missing");
	if (!text_unescape(p->text, strlen(p->text), crlf, out))
		return fail(p, "an unknown escape in a string");
	next(p);
	return true;
}

static bool condition(struct parser *p, struct rule *rule)
{
	struct condition *c = &rule->when[rule->conditions];
	struct buf value = { 0 };
	int fact, op;

	if (rule->conditions == RULE_CONDITIONS)
		return fail(p, "too many conditions");
	fact = p->kind == TOKEN_WORD ? name_index(p, fact_names, FACTS) : -1;
	if (fact < 0)
		return fail(p, "not a fact that can be compared");
	next(p);
	op = p->kind == TOKEN_OP ? name_index(p, op_names, 8) : -1;
	if (op < 0)
		return fail(p, "a comparison is missing: = != < <= > >= ~ !~");
	next(p);
	c->fact = (enum fact)fact;
	c->op = (enum compare)op;
	if (c->fact < FACT_NUMBERS) {
		if (c->op > COMPARE_GE)
			return fail(p, "a number has no substring");
		if (!number(p, 0, &c->number))
			return false;
		rule->conditions++;
		return true;
	}
	if (c->op > COMPARE_NE && c->op < COMPARE_HAS)
		return fail(p, "texts know only = != ~ !~");
	if (p->kind == TOKEN_WORD) {
		buf_adds(&value, p->text);
		next(p);
	} else if (!string(p, false, &value)) {
		buf_free(&value);
		return false;
	}
	c->text = xstrndup(value.data != NULL ? value.data : "", value.len);
	buf_free(&value);
	rule->conditions++;
	return true;
}

static bool conditions(struct parser *p, struct rule *rule)
{
	do {
		next(p); /* `when` or `and` */
		if (!condition(p, rule))
			return false;
	} while (word_is(p, "and"));
	return true;
}

static bool payload(struct parser *p, struct rule *rule, bool raw)
{
	if (rule->actions & ACT_PAYLOAD)
		return fail(p, "more than one reply or raw");
	rule->actions |= ACT_PAYLOAD;
	next(p);
	if (!raw && p->kind == TOKEN_WORD) {
		const struct reply *r = reply_find(p->text);

		if (r == NULL)
			return fail(
			    p, "neither a \"string\" nor a reply's name");
		buf_adds(&rule->payload, r->text);
		p->closes = r->closes;
		next(p);
	} else if (!string(p, !raw, &rule->payload)) {
		return false;
	}
	if (!raw)
		buf_add(&rule->payload, "\r\n", 2);
	return true;
}

/* The words with a number behind them, and where that goes. */
static const struct {
	const char *name;
	long min;
	size_t offset; /* of an unsigned long or long */
	bool limits; /* it says when, not what */
} counts[] = {
	{ "skip", 0, offsetof(struct rule, skip), true },
	{ "times", 1, offsetof(struct rule, times), true },
	{ "every", 1, offsetof(struct rule, every), true },
	{ "delay", 0, offsetof(struct rule, delay_ms), false },
	{ "jitter", 1, offsetof(struct rule, jitter_ms), false },
	{ "drip", 1, offsetof(struct rule, drip_ms), false },
	{ "repeat", 1, offsetof(struct rule, repeat), false },
	{ "write-rate", 1, offsetof(struct rule, write_rate), false },
	{ "read-rate", 1, offsetof(struct rule, read_rate), false },
	{ "rekey", 1, offsetof(struct rule, rekey), false },
};

/* A word with a number behind it; *known says whether it was one. */
static bool counted(struct parser *p, struct rule *rule, bool *known)
{
	*known = false;
	for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
		long n = 0;

		if (!word_is(p, counts[i].name))
			continue;
		*known = true;
		next(p);
		if (!number(p, counts[i].min, &n))
			return false;
		memcpy((char *)rule + counts[i].offset, &n, sizeof(n));
		return true;
	}
	return true;
}

static bool action(struct parser *p, struct rule *rule)
{
	bool known;

	if (p->kind != TOKEN_WORD)
		return fail(p, "an action is missing");
	if (!counted(p, rule, &known) || known)
		return known && p->wrong == NULL;
	if (word_is(p, "reply") || word_is(p, "raw"))
		return payload(p, rule, word_is(p, "raw"));
	if (word_is(p, "inject")) {
		next(p);
		return string(p, false, &rule->inject);
	}
	for (size_t i = 0; i < sizeof(plain_actions) / sizeof(plain_actions[0]);
	     i++) {
		if (word_is(p, plain_actions[i].name)) {
			rule->actions |= plain_actions[i].bit;
			next(p);
			return true;
		}
	}
	return fail(p, "not an action");
}

static bool sensible(struct parser *p, const struct rule *rule)
{
	unsigned ends = rule->actions & ACT_ENDS, a = rule->actions;
	enum phase ph = rule->phase;

	if ((ends & (ends - 1)) != 0)
		return fail(p, "only one of close, reset, stall, halfclose");
	if ((a & ACT_ACCEPT) && ph != PHASE_DOT)
		return fail(p, "accept is for DOT");
	if ((a & ACT_NO_STARTTLS) && ph != PHASE_EHLO)
		return fail(p, "no-starttls is for EHLO");
	if ((a & ACT_ABORT_TLS) && ph != PHASE_STARTTLS && ph != PHASE_TLS)
		return fail(p, "abort-tls is for STARTTLS and TLS");
	if (rule->repeat > 1 && !(a & ACT_PAYLOAD))
		return fail(p, "repeat needs reply or raw");
	if (rule->payload.len * (size_t)rule->repeat > 64UL << 20)
		return fail(p, "more than 64 MiB to send");
	if ((a & (ACT_NO_CLOSE_NOTIFY | ACT_USER_CANCELED)) &&
	    (a & (ACT_CLOSE | ACT_HALFCLOSE)) == 0 && ph != PHASE_QUIT &&
	    ph != PHASE_IDLE)
		return fail(p, "an alert needs close or halfclose");
	if (rule->rekey > 0 &&
	    (ph == PHASE_CONNECT || ph == PHASE_STARTTLS || ph == PHASE_TLS))
		return fail(p, "rekey is for phases within TLS");
	if (rule->read_rate > 0 && ph != PHASE_DATA && ph != PHASE_BODY)
		return fail(p, "read-rate is for DATA and BODY");
	if (a == 0 && rule->inject.len == 0 &&
	    rule->delay_ms + rule->jitter_ms + rule->drip_ms +
		    rule->write_rate + rule->read_rate + rule->rekey ==
		0)
		return fail(p, "a rule without an action");
	return true;
}

static bool parse(struct parser *p, struct rule *rule)
{
	int phase;

	next(p);
	if (!word_is(p, "on"))
		return fail(p, "a rule begins with `on'");
	next(p);
	for (phase = 0; phase < PHASE_OTHER; phase++) {
		if (p->kind == TOKEN_WORD &&
		    strcasecmp(p->text, phase_name((enum phase)phase)) == 0)
			break;
	}
	if (phase == PHASE_OTHER)
		return fail(p, "not a phase");
	rule->phase = (enum phase)phase;
	next(p);
	if (word_is(p, "when") && !conditions(p, rule))
		return false;
	while (p->kind != TOKEN_END) {
		if (!action(p, rule))
			return false;
	}
	if (p->closes && (rule->actions & ACT_ENDS) == 0)
		rule->actions |= ACT_CLOSE;
	return sensible(p, rule);
}

struct rule *rule_parse(const char *text, const char **wrong)
{
	struct parser p = { .at = text };
	struct rule *rule = xcalloc(1, sizeof(*rule));
	bool good;

	rule->every = 1;
	rule->repeat = 1;
	rule->source = xstrdup(text);
	good = parse(&p, rule);
	free(p.text);
	if (good)
		return rule;
	*wrong = p.wrong;
	rule_free(rule);
	return NULL;
}

void rules_print_words(struct buf *out)
{
	for (int i = 0; i < PHASE_OTHER; i++)
		buf_addf(out, "phase %s\n", phase_name((enum phase)i));
	for (int i = 0; i < FACTS; i++)
		buf_addf(out, "fact %s\n", fact_names[i]);
	buf_adds(out, "action reply\naction raw\naction inject\n");
	for (size_t i = 0; i < sizeof(plain_actions) / sizeof(plain_actions[0]);
	     i++)
		buf_addf(out, "action %s\n", plain_actions[i].name);
	for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++)
		buf_addf(out, "%s %s\n", counts[i].limits ? "limit" : "action",
		    counts[i].name);
}
