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

/* `detail` is the last digit of the status code that blames the address. */
static void refuse_address(
    struct server_out *out, enum addr_error error, int detail)
{
	switch (error) {
	case ADDR_SYNTAX:
		server_reply(out, SERVER_REPLY, 501,
		    "5.1.%d Bad address syntax", detail);
		return;
	case ADDR_NON_ASCII:
		server_reply(out, SERVER_REPLY, 553,
		    "5.6.7 Amazon SES takes no address beyond ASCII");
		return;
	case ADDR_TOO_LONG:
		server_reply(
		    out, SERVER_REPLY, 501, "5.1.%d Address too long", detail);
		return;
	case ADDR_UNQUALIFIED:
		server_reply(out, SERVER_REPLY, 550,
		    "5.1.%d Address has no domain; "
		    "set rewrite.default_domain in sesrelayd.conf",
		    detail);
		return;
	case ADDR_OK:
		break;
	}
	ASSERT(error != ADDR_OK);
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

void server_on_mail(struct server *s, const struct server_turn *t)
{
	struct slice args = t->command.args;
	struct addr sender;
	enum addr_error error;

	if (!args.ptr) {
		server_reply(t->out, SERVER_REPLY, 501,
		    "5.5.4 Syntax: MAIL FROM:<address>");
		return;
	}
	error =
	    addr_parse_path(&args, true, s->options->default_domain, &sender);
	if (error != ADDR_OK) {
		refuse_address(t->out, error, 7);
		return;
	}
	if (!check_mail(s, t, args)) {
		server_forget_envelope(s);
		return;
	}
	s->sender = xstrdup(sender.text);
	s->state = SERVER_MAIL;
	server_reply(t->out, SERVER_REPLY, 250, "2.1.0 Ok");
}

static void add_rcpt(struct server *s, const char *rcpt)
{
	if (s->n_rcpts == s->rcpts_size) {
		s->rcpts_size = s->rcpts_size ? 2 * s->rcpts_size : 4;
		s->rcpts =
		    xrealloc(s->rcpts, s->rcpts_size * sizeof(s->rcpts[0]));
	}
	s->rcpts[s->n_rcpts++] = xstrdup(rcpt);
}

void server_on_rcpt(struct server *s, const struct server_turn *t)
{
	struct slice args = t->command.args;
	struct command_param params[COMMAND_MAX_PARAMS];
	struct addr rcpt;
	enum addr_error error;
	int n_params;

	if (!args.ptr) {
		server_reply(t->out, SERVER_REPLY, 501,
		    "5.5.4 Syntax: RCPT TO:<address>");
		return;
	}
	if (s->n_rcpts >= s->options->max_recipients) {
		server_reply(
		    t->out, SERVER_REPLY, 452, "4.5.3 Too many recipients");
		return;
	}
	error =
	    addr_parse_path(&args, false, s->options->default_domain, &rcpt);
	if (error != ADDR_OK) {
		refuse_address(t->out, error, 3);
		return;
	}
	n_params = command_params(args, params);
	if (n_params != 0) {
		server_reply(t->out, SERVER_REPLY, n_params < 0 ? 501 : 555,
		    "5.5.4 Unsupported parameter of RCPT");
		return;
	}
	add_rcpt(s, rcpt.text);
	s->state = SERVER_RCPT;
	server_reply(t->out, SERVER_REPLY, 250, "2.1.5 Ok");
}
