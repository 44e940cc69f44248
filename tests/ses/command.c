/*
 * The SMTP commands in SES's dialect.
 *
 * Owns the transaction (sender, recipients) of a session. Each handler fills
 * an answer and changes the session only if it says yes; whether it runs at
 * all, and what is sent instead, the rules decide first. Addresses are taken
 * nearly as they come: SES looks at them only at the end of DATA. What no
 * correct client does is counted before anything is answered.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "session.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { RECIPIENTS_KEPT = 10000 };

typedef void handler(struct session *s, const char *args, struct answer *a);

/* The argument of MAIL FROM: and RCPT TO:. */
struct path {
	char addr[1000];
	const char *params; /* behind the address, in the line */
	bool good; /* the prefix and the brackets were there */
};

void command_reset(struct session *s)
{
	free(s->from);
	s->from = NULL;
	for (size_t i = 0; i < s->rcpt_count; i++)
		free(s->rcpts[i]);
	s->rcpt_count = 0;
}

/* Where the address ends: at the first > outside of quotes. */
static const char *bracket(const char *p)
{
	bool quoted = false;

	for (; *p != '\0'; p++) {
		if (*p == '"')
			quoted = !quoted;
		else if (*p == '\\' && quoted && p[1] != '\0')
			p++;
		else if (*p == '>' && !quoted)
			return p;
	}
	return NULL;
}

static void path_parse(
    struct session *s, const char *args, const char *prefix, struct path *out)
{
	const char *p, *end;

	memset(out, 0, sizeof(*out));
	out->params = "";
	if (!text_prefix(args, prefix))
		return;
	p = args + strlen(prefix);
	if (*p == ' ') {
		session_violation(s, VIOLATION_SYNTAX, "space after the colon");
		p += strspn(p, " ");
	}
	if (*p == '<') {
		end = bracket(++p);
		if (end == NULL)
			return;
		out->params = end + 1;
	} else {
		session_violation(s, VIOLATION_SYNTAX, "address without <>");
		end = p + strcspn(p, " ");
		out->params = end;
	}
	(void)snprintf(out->addr, sizeof(out->addr), "%.*s", (int)(end - p), p);
	out->good = *out->params == '\0' || *out->params == ' ';
	for (p = out->addr; *p != '\0'; p++) {
		if ((unsigned char)*p >= 0x80) {
			session_violation(s, VIOLATION_SYNTAX, "8-bit address");
			out->good = false;
			return;
		}
	}
}

static bool qualified(const struct path *p)
{
	const char *at = strrchr(p->addr, '@');

	return p->good && at != NULL && at != p->addr && at[1] != '\0' &&
	    strlen(p->addr) <= 320;
}

/* True if MAIL and the like are refused at this point. */
static bool barred(const struct session *s, struct answer *a)
{
	if (s->io.ssl == NULL)
		answer_reply(a, "need-tls");
	else if (!s->authenticated)
		answer_reply(a, "need-auth");
	else
		return false;
	return true;
}

static void set_helo(struct session *s, const char *name)
{
	s->greeted = true;
	(void)snprintf(s->helo, sizeof(s->helo), "%s", name);
	s->client = peers_get(&s->server->peers, s->peer, s->helo);
}

static void do_helo(struct session *s, const char *args, struct answer *a)
{
	if (*args == '\0') {
		answer_set(a, "501 Syntax: HELO <hostname>");
		return;
	}
	command_reset(s);
	set_helo(s, args);
	answer_set(a, "250 email-smtp.amazonaws.com");
}

static void do_ehlo(struct session *s, const char *args, struct answer *a)
{
	const struct settings *set = &s->server->set;
	bool offer = s->mode == MODE_STARTTLS && s->io.ssl == NULL;
	char size[40] = "";

	if (*args == '\0') {
		answer_set(a, "501 Syntax: EHLO hostname");
		return;
	}
	if (s->mode != MODE_PLAIN && s->io.ssl != NULL)
		offer = set->starttls_after_tls;
	if (s->hide_starttls)
		offer = false;
	command_reset(s);
	set_helo(s, args);
	if (set->size_advertised > 0)
		(void)snprintf(size, sizeof(size), "250-SIZE %ld\r\n",
		    set->size_advertised);
	answer_set(a,
	    "250-email-smtp.amazonaws.com\r\n250-8BITMIME\r\n"
	    "%s%s%s%s%s250 Ok",
	    size, offer ? "250-STARTTLS\r\n" : "",
	    set->auth[0] != '\0' ? "250-AUTH " : "", set->auth,
	    set->auth[0] != '\0' ? "\r\n" : "");
}

static void do_starttls(struct session *s, const char *args, struct answer *a)
{
	if (*args != '\0') {
		answer_set(a, "501 Syntax error (no parameters allowed)");
	} else if (s->io.ssl != NULL) {
		answer_reply(a, "tls-unavailable");
	} else if (s->mode == MODE_PLAIN) {
		answer_reply(a, "tls-unsupported");
	} else {
		command_reset(s);
		answer_set(a, "220 Ready to start TLS");
		a->after = AFTER_TLS;
	}
}

static void do_mail(struct session *s, const char *args, struct answer *a)
{
	const struct settings *set = &s->server->set;
	const char *size;
	struct path p;

	if (barred(s, a))
		return;
	if (verdict_capped(s, "mail", a))
		return;
	if (s->from != NULL) {
		answer_reply(a, "sender-specified");
		return;
	}
	path_parse(s, args, "FROM:", &p);
	if (!qualified(&p)) {
		answer_reply(a,
		    text_prefix(args, "FROM:") ? "bad-sender" : "syntax-mail");
		return;
	}
	size = strcasestr(p.params, " SIZE=");
	if (size != NULL && set->size_advertised > 0 &&
	    strtoull(size + 6, NULL, 10) >
		(unsigned long long)set->size_advertised) {
		answer_reply(a, "fixed-limit");
		return;
	}
	s->from = xstrdup(p.addr);
	s->txn = ++s->server->last_txn;
	answer_set(a, "250 Ok");
}

static void do_rcpt(struct session *s, const char *args, struct answer *a)
{
	struct path p;

	if (barred(s, a))
		return;
	if (s->from == NULL) {
		answer_reply(a, "need-mail");
		return;
	}
	path_parse(s, args, "TO:", &p);
	if (!qualified(&p)) {
		answer_reply(a,
		    text_prefix(args, "TO:") ? "bad-recipient" : "syntax-rcpt");
		return;
	}
	if (s->rcpt_count == RECIPIENTS_KEPT) {
		answer_reply(a, "too-many-recipients");
		return;
	}
	if (s->rcpt_count == s->rcpt_cap) {
		size_t cap = s->rcpt_cap > 0 ? 2 * s->rcpt_cap : 8;
		char **more = xcalloc(cap, sizeof(*more));

		if (s->rcpt_count > 0)
			memcpy(more, s->rcpts, s->rcpt_count * sizeof(*more));
		free(s->rcpts);
		s->rcpts = more;
		s->rcpt_cap = cap;
	}
	s->rcpts[s->rcpt_count++] = xstrdup(p.addr);
	answer_set(a, "250 Ok");
}

static void do_data(struct session *s, const char *args, struct answer *a)
{
	(void)args;
	if (barred(s, a) || verdict_capped(s, "data", a))
		return;
	if (s->from == NULL) {
		answer_reply(a, "need-mail");
	} else if (s->rcpt_count == 0) {
		answer_reply(a, "need-rcpt");
	} else {
		body_begin(&s->body, (size_t)s->server->set.max_size);
		s->state = SESSION_BODY;
		answer_set(a, "354 End data with <CR><LF>.<CR><LF>");
	}
}

static void do_rset(struct session *s, const char *args, struct answer *a)
{
	(void)args;
	command_reset(s);
	answer_set(a, "250 Ok");
}

static void do_noop(struct session *s, const char *args, struct answer *a)
{
	(void)s;
	(void)args;
	answer_set(a, "250 Ok");
}

static void do_quit(struct session *s, const char *args, struct answer *a)
{
	(void)s;
	(void)args;
	answer_set(a, "221 Bye");
	a->after = AFTER_CLOSE;
	a->why = "quit";
}

static void do_vrfy(struct session *s, const char *args, struct answer *a)
{
	(void)s;
	(void)args;
	answer_reply(a, "disabled");
}

static const struct command {
	const char *verb;
	enum phase phase;
	handler *run; /* NULL: AUTH, which asks the rules later */
} commands[] = {
	{ "MAIL", PHASE_MAIL, do_mail },
	{ "RCPT", PHASE_RCPT, do_rcpt },
	{ "DATA", PHASE_DATA, do_data },
	{ "EHLO", PHASE_EHLO, do_ehlo },
	{ "HELO", PHASE_EHLO, do_helo },
	{ "STARTTLS", PHASE_STARTTLS, do_starttls },
	{ "AUTH", PHASE_AUTH, NULL },
	{ "RSET", PHASE_RSET, do_rset },
	{ "NOOP", PHASE_NOOP, do_noop },
	{ "QUIT", PHASE_QUIT, do_quit },
	{ "VRFY", PHASE_OTHER, do_vrfy },
};

/* Parameters of extensions that were not offered. */
static void judge_params(struct session *s, enum phase phase, const char *p)
{
	while (*(p += strspn(p, " ")) != '\0') {
		size_t n = strcspn(p, " ");
		bool fine = phase == PHASE_MAIL &&
		    ((n == 13 && text_prefix(p, "BODY=8BITMIME")) ||
			(n == 9 && text_prefix(p, "BODY=7BIT")) ||
			(text_prefix(p, "SIZE=") &&
			    s->server->set.size_advertised > 0) ||
			(text_prefix(p, "AUTH=") &&
			    s->server->set.auth[0] != '\0'));

		if (!fine)
			session_violation(s, VIOLATION_PARAMETER, p);
		p += n;
	}
}

static void judge(struct session *s, const struct command *c, const char *args)
{
	bool transaction = c->phase == PHASE_MAIL || c->phase == PHASE_RCPT ||
	    c->phase == PHASE_DATA;
	const char *end;

	if (s->io.ssl == NULL && c->phase == PHASE_AUTH)
		session_violation(s, VIOLATION_AUTH_IN_CLEAR, NULL);
	if (s->io.ssl == NULL && transaction)
		session_violation(s, VIOLATION_MAIL_IN_CLEAR, c->verb);
	if (!s->greeted && (c->phase == PHASE_MAIL || c->phase == PHASE_AUTH))
		session_violation(s, VIOLATION_NO_EHLO,
		    s->was_starttls ? "after STARTTLS" : NULL);
	if (c->phase != PHASE_MAIL && c->phase != PHASE_RCPT)
		return;
	end = bracket(args);
	if (end != NULL && end[1] == ' ')
		judge_params(s, c->phase, end + 1);
}

/* Runs a command under the rules of its phase. */
static void run(struct session *s, const struct command *c, const char *args)
{
	char addr[1000] = "";
	struct answer a = { .text = "" };
	struct rule *rule = NULL;
	const char *open = strchr(args, '<'), *end;

	end = open != NULL ? bracket(open + 1) : NULL;
	if (end != NULL && (size_t)(end - open) < sizeof(addr))
		memcpy(addr, open + 1, (size_t)(end - open - 1));
	if (c->phase == PHASE_MAIL)
		s->fact_from = addr;
	else if (c->phase == PHASE_RCPT)
		s->fact_rcpt = addr;
	if (c->phase != PHASE_OTHER)
		rule = answer_rule(s, c->phase);
	s->hide_starttls = rule != NULL && (rule->actions & ACT_NO_STARTTLS);
	if (answer_runs(rule, c->phase))
		c->run(s, args, &a);
	answer_send(s, c->phase, rule, &a);
	s->fact_from = NULL;
	s->fact_rcpt = NULL;
}

void command_line(struct session *s, const char *line, size_t len)
{
	size_t n = strcspn(line, " ");
	const char *args = line + n + strspn(line + n, " ");
	struct answer a = { .text = "" };

	(void)len;
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
		const struct command *c = &commands[i];

		if (strlen(c->verb) != n || strncasecmp(line, c->verb, n) != 0)
			continue;
		judge(s, c, args);
		if (c->run == NULL)
			auth_begin(s, args);
		else
			run(s, c, args);
		return;
	}
	session_violation(s, VIOLATION_UNKNOWN_COMMAND, line);
	answer_reply(&a, "not-implemented");
	answer_send(s, PHASE_OTHER, NULL, &a);
}
