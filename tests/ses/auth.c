/*
 * AUTH PLAIN and LOGIN in SES's words.
 *
 * Owns the dialogue between the command and its verdict. Prompts are sent
 * without asking the rules; they are asked once, when the credentials are
 * complete, so that a rule on AUTH counts attempts and not lines. The
 * journal names the user, never the password.
 */
#include "replies.h"
#include "session.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

static void say(struct session *s, const char *text)
{
	struct answer a = { .text = "" };

	answer_set(&a, "%s", text);
	answer_send(s, PHASE_AUTH, NULL, &a);
}

static void note(
    struct session *s, const char *mechanism, const char *user, bool ok)
{
	struct journal *j = &s->server->journal;

	session_event(s, "auth");
	journal_bool(j, "ok", ok);
	journal_text(j, "mechanism", mechanism);
	journal_text(j, "user", user);
	journal_end(j);
}

/* The one pair of `user' and `password', or NAME:PASSWORD in `users'. */
static bool known(
    const struct settings *set, const char *user, const char *password)
{
	size_t n = strlen(user), len = strlen(password);

	if (strcmp(user, set->user) == 0 &&
	    strcmp(password, set->password) == 0)
		return true;
	for (const char *p = set->users; *p != '\0'; p += strspn(p, " ")) {
		size_t word = strcspn(p, " ");

		if (word == n + 1 + len && strncmp(p, user, n) == 0 &&
		    p[n] == ':' && strncmp(p + n + 1, password, len) == 0)
			return true;
		p += word;
	}
	return false;
}

static void verdict(struct session *s, const char *mechanism, const char *user,
    const char *password)
{
	const struct settings *set = &s->server->set;
	struct rule *rule = answer_rule(s, PHASE_AUTH);
	struct answer a = { .text = "" };
	bool ok = false;

	s->state = SESSION_COMMAND;
	if (answer_runs(rule, PHASE_AUTH)) {
		if (!known(set, user, password) ||
		    strcmp(set->account, "invalid") == 0)
			answer_reply(&a, "credentials");
		else if (strcmp(set->account, "unsubscribed") == 0 ||
		    strcmp(set->account, "auth-temporary") == 0)
			answer_reply(&a, set->account);
		else
			answer_set(&a, "235 Authentication successful.");
		ok = a.text[0] == '2';
	}
	s->authenticated = ok;
	note(s, mechanism, user, ok);
	answer_send(s, PHASE_AUTH, rule, &a);
}

static void bad_base64(struct session *s)
{
	s->state = SESSION_COMMAND;
	say(s, "501 Invalid command argument, not a valid Base64 string");
}

/* base64 of authzid NUL user NUL password. */
static void plain(struct session *s, const char *text)
{
	char raw[800];
	const char *user, *password;
	long n = base64_decode(text, strlen(text), raw, sizeof(raw));

	if (n < 0) {
		bad_base64(s);
		return;
	}
	user = memchr(raw, '\0', (size_t)n);
	password = user == NULL
	    ? NULL
	    : memchr(user + 1, '\0', (size_t)(raw + n - user - 1));
	if (password == NULL) {
		s->state = SESSION_COMMAND;
		say(s, "501 Invalid command argument: PLAIN token");
		return;
	}
	verdict(s, "PLAIN", user + 1, password + 1);
}

static void login_user(struct session *s, const char *text)
{
	if (base64_decode(text, strlen(text), s->user, sizeof(s->user)) < 0) {
		bad_base64(s);
		return;
	}
	s->state = SESSION_AUTH_PASSWORD;
	say(s, "334 UGFzc3dvcmQ6");
}

void auth_line(struct session *s, const char *line)
{
	char password[800];

	if (strcmp(line, "*") == 0) {
		s->state = SESSION_COMMAND;
		say(s, "501 Authentication canceled by client.");
	} else if (s->state == SESSION_AUTH_PLAIN) {
		plain(s, line);
	} else if (s->state == SESSION_AUTH_USER) {
		login_user(s, line);
	} else if (base64_decode(
		       line, strlen(line), password, sizeof(password)) < 0) {
		bad_base64(s);
	} else {
		verdict(s, "LOGIN", s->user, password);
	}
}

/* True if the mechanism is in the list of those offered. */
static bool offered(const char *list, const char *name, size_t n)
{
	for (const char *p = list; *p != '\0'; p += strspn(p, " ")) {
		size_t len = strcspn(p, " ");

		if (len == n && strncasecmp(p, name, n) == 0)
			return true;
		p += len;
	}
	return false;
}

static void begin_plain(struct session *s, const char *initial)
{
	if (*initial != '\0') {
		plain(s, strcmp(initial, "=") == 0 ? "" : initial);
		return;
	}
	s->state = SESSION_AUTH_PLAIN;
	say(s, "334 Ok");
}

static void begin_login(struct session *s, const char *initial)
{
	if (*initial != '\0') {
		login_user(s, initial);
		return;
	}
	s->state = SESSION_AUTH_USER;
	say(s, "334 VXNlcm5hbWU6");
}

void auth_begin(struct session *s, const char *args)
{
	size_t n = strcspn(args, " ");
	const char *initial = args + n + strspn(args + n, " ");
	bool plain_asked = n == 5 && text_prefix(args, "PLAIN");

	if (s->io.ssl == NULL)
		say(s, reply_text("need-tls"));
	else if (s->authenticated)
		say(s, reply_text("auth-again"));
	else if (n == 0)
		say(s, "501 Syntax: AUTH mechanism [initial-response]");
	else if (!offered(s->server->set.auth, args, n) ||
	    !(plain_asked || (n == 5 && text_prefix(args, "LOGIN"))))
		say(s, reply_text("mechanism"));
	else if (plain_asked)
		begin_plain(s, initial);
	else
		begin_login(s, initial);
}
