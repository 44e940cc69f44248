/*
 * MAIL and RCPT: what is checked before the envelope grows by an address.
 *
 * Pure; fills the envelope of struct server, which server.c frees.  No text of
 * the client's is kept but the addresses, which addr.c has checked byte for
 * byte; parameters are read for their meaning and go no further.
 */
#include "smtp/server_private.h"

#include "base/mem.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* Without rules, an address without a domain is all that there is to refuse. */
static const struct rewrite_rules no_rules;

static const struct rewrite_rules *rules_of(const struct server *s)
{
	return s->options->rewrite ? s->options->rewrite : &no_rules;
}

static void refuse(struct server_out *out, enum addr_error error,
    const struct rewrite_refusal *why)
{
	int code = 550;

	if (error == ADDR_SYNTAX || error == ADDR_TOO_LONG)
		code = 501;
	else if (error == ADDR_NON_ASCII || error == ADDR_NON_ASCII_DOMAIN)
		code = 553;
	server_reply(out, SERVER_REPLY, code, "%s %s", why->status, why->text);
}

/* The path at the head of *args; a bare name will do.  False: refused. */
static bool take_path(struct slice *args, bool is_sender, struct addr *path,
    struct server_out *out)
{
	enum addr_error error = addr_parse_path(args, is_sender, NULL, path);
	struct rewrite_refusal why;

	if (error == ADDR_OK || error == ADDR_UNQUALIFIED)
		return true;
	rewrite_refuse_address(&why, error, is_sender);
	refuse(out, error, &why);
	return false;
}

/* SIZE=; what is too large for the type is too large for us, too. */
static bool take_size(struct slice value, uint64_t *size)
{
	if (value.len == 0)
		return false;
	for (size_t i = 0; i < value.len; i++)
		if (value.ptr[i] < '0' || value.ptr[i] > '9')
			return false;
	if (slice_parse_u64(value, size) < 0)
		*size = UINT64_MAX;
	return true;
}

/* The parameters of MAIL; false: one was refused, with a reply. */
static bool take_mail_params(
    struct server *s, struct slice args, struct server_out *out)
{
	struct command_param params[COMMAND_MAX_PARAMS];
	int n = command_params(args, params);

	if (n < 0) {
		server_reply(
		    out, SERVER_REPLY, 501, "5.5.4 Malformed parameters");
		return false;
	}
	for (int i = 0; i < n; i++) {
		const struct command_param *p = &params[i];

		if (slice_caseeq_str(p->key, "SIZE")) {
			if (take_size(p->value, &s->declared_size))
				continue;
			server_reply(out, SERVER_REPLY, 501, "5.5.4 Bad SIZE");
		} else if (slice_caseeq_str(p->key, "BODY")) {
			s->body_8bit = slice_caseeq_str(p->value, "8BITMIME");
			if (s->body_8bit || slice_caseeq_str(p->value, "7BIT"))
				continue;
			server_reply(out, SERVER_REPLY, 501,
			    "5.5.4 BODY is 7BIT or 8BITMIME");
		} else if (slice_caseeq_str(p->key, "AUTH")) {
			continue; /* who wrote it is of no concern to SES */
		} else if (slice_caseeq_str(p->key, "SMTPUTF8")) {
			server_reply(out, SERVER_REPLY, 555,
			    "5.6.7 Amazon SES does not speak SMTPUTF8");
		} else {
			server_reply(out, SERVER_REPLY, 555,
			    "5.5.4 Unsupported parameter of MAIL");
		}
		return false;
	}
	return true;
}

/* What can be said of a message before its content; false: it is refused. */
static bool check_mail(
    struct server *s, const struct server_turn *t, struct slice args)
{
	uint64_t limit = s->options->max_message_size;
	struct server_refusal refusal = { NULL, NULL };

	if (!take_mail_params(s, args, t->out))
		return false;
	if (limit > 0 && s->declared_size > limit) {
		server_reply(t->out, SERVER_REPLY, 552,
		    "5.3.4 Message is larger than %" PRIu64 " bytes", limit);
		return false;
	}
	if (t->intake)
		refusal = t->intake->ask(t->intake->ctx, s->declared_size);
	if (refusal.text) {
		server_reply(t->out, SERVER_REPLY, 452, "%s %s", refusal.status,
		    refusal.text);
		return false;
	}
	return true;
}

/* What the client said, when something else has come of it. */
static char *orig_of(const char *given, const char *now)
{
	return strcmp(given, now) != 0 ? xstrdup(given) : NULL;
}

void server_on_mail(struct server *s, const struct server_turn *t)
{
	struct slice args = t->command.args;
	struct rewrite_refusal why;
	struct addr path;
	char *sender;

	if (!args.ptr) {
		server_reply(t->out, SERVER_REPLY, 501,
		    "5.5.4 Syntax: MAIL FROM:<address>");
		return;
	}
	if (!take_path(&args, true, &path, t->out))
		return;
	sender = rewrite_sender(rules_of(s), path.text, &why);
	if (!sender) {
		refuse(t->out, ADDR_OK, &why);
		return;
	}
	if (!check_mail(s, t, args)) {
		free(sender);
		server_forget_envelope(s);
		return;
	}
	s->sender = sender;
	s->orig_sender = orig_of(path.text, sender);
	s->state = SERVER_MAIL;
	server_reply(t->out, SERVER_REPLY, 250, "2.1.0 Ok");
}

/* What one RCPT stands for, before it is known whether it may come in. */
struct arrivals {
	char **items;
	unsigned n, size;
};

static void add_arrival(void *ctx, const char *rcpt)
{
	struct arrivals *a = ctx;

	if (a->n == a->size) {
		a->size = a->size ? 2 * a->size : 4;
		a->items = xrealloc(a->items, a->size * sizeof(a->items[0]));
	}
	a->items[a->n++] = xstrdup(rcpt);
}

/* False, with a reply: there are too many. */
static bool check_room(
    const struct server *s, unsigned n, struct server_out *out)
{
	unsigned max = s->options->max_recipients;

	if (n <= max && s->n_rcpts <= max - n)
		return true;
	if (n > max)
		server_reply(out, SERVER_REPLY, 550,
		    "5.5.3 Address stands for %u recipients; "
		    "smtp.max_recipients in sesrelayd.conf is %u",
		    n, max);
	else
		server_reply(
		    out, SERVER_REPLY, 452, "4.5.3 Too many recipients");
	return false;
}

/* Takes the addresses, if there is room for all of them. */
static void take_rcpts(struct server *s, struct arrivals *a, const char *given,
    struct server_out *out)
{
	if (!check_room(s, a->n, out)) {
		for (unsigned i = 0; i < a->n; i++)
			free(a->items[i]);
		return;
	}
	if (s->n_rcpts + a->n > s->rcpts_size) {
		s->rcpts_size = 2 * (s->n_rcpts + a->n) + 2;
		s->rcpts =
		    xrealloc(s->rcpts, s->rcpts_size * sizeof(s->rcpts[0]));
	}
	for (unsigned i = 0; i < a->n; i++)
		s->rcpts[s->n_rcpts++] = (struct server_rcpt){
			.addr = a->items[i],
			.orig = orig_of(given, a->items[i]),
		};
	s->state = SERVER_RCPT;
	server_reply(out, SERVER_REPLY, 250, "2.1.5 Ok");
}

void server_on_rcpt(struct server *s, const struct server_turn *t)
{
	struct slice args = t->command.args;
	struct command_param params[COMMAND_MAX_PARAMS];
	struct arrivals arrivals = { 0 };
	struct rewrite_refusal why;
	struct addr path;
	int n_params;

	if (!args.ptr) {
		server_reply(t->out, SERVER_REPLY, 501,
		    "5.5.4 Syntax: RCPT TO:<address>");
		return;
	}
	if (!check_room(s, 1, t->out) ||
	    !take_path(&args, false, &path, t->out))
		return;
	n_params = command_params(args, params);
	if (n_params != 0) {
		server_reply(t->out, SERVER_REPLY, n_params < 0 ? 501 : 555,
		    "5.5.4 Unsupported parameter of RCPT");
		return;
	}
	if (rewrite_rcpt(rules_of(s), path.text, add_arrival, &arrivals, &why) <
	    0)
		refuse(t->out, ADDR_OK, &why);
	else
		take_rcpts(s, &arrivals, path.text, t->out);
	free(arrivals.items);
}

/* Equal ones in the order in which they came. */
static int compare_rcpts(const void *a, const void *b)
{
	const struct server_rcpt *const *x = a, *const *y = b;
	int order = strcmp((*x)->addr, (*y)->addr);

	return order != 0 ? order : (*x > *y) - (*x < *y);
}

static bool are_as_given(const struct server *s)
{
	for (unsigned i = 0; i < s->n_rcpts; i++)
		if (s->rcpts[i].orig)
			return false;
	return true;
}

void server_unique_rcpts(struct server *s)
{
	struct server_rcpt **sorted;
	const char *last;
	unsigned n = 0;

	/* What a client says twice itself is its own affair. */
	if (are_as_given(s))
		return;
	sorted = xcalloc(s->n_rcpts, sizeof(sorted[0]));
	for (unsigned i = 0; i < s->n_rcpts; i++)
		sorted[i] = &s->rcpts[i];
	qsort(sorted, s->n_rcpts, sizeof(sorted[0]), compare_rcpts);
	last = sorted[0]->addr;
	for (unsigned i = 1; i < s->n_rcpts; i++) {
		if (strcmp(last, sorted[i]->addr) != 0) {
			last = sorted[i]->addr;
			continue;
		}
		free(sorted[i]->addr);
		free(sorted[i]->orig);
		*sorted[i] = (struct server_rcpt){ NULL, NULL };
	}
	for (unsigned i = 0; i < s->n_rcpts; i++)
		if (s->rcpts[i].addr)
			s->rcpts[n++] = s->rcpts[i];
	s->n_rcpts = n;
	free(sorted);
}
