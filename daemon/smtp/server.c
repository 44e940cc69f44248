/*
 * The conversation with a local program: the table of verbs and states, and
 * what each command but MAIL and RCPT does (those are in server_mail.c).
 *
 * Pure; owns the envelope that is being built.  Replies are made in one place,
 * add_line_v(), which lets no control byte through, so that no text from
 * elsewhere can forge a line.  Refused commands in a row are counted in one
 * place, too.  What a peer can make grow is bounded: a line by its length, the
 * recipients by their number.
 */
#include "smtp/server.h"

#include "base/decimal.h"
#include "smtp/server_private.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* RFC 5321 4.5.3.1.5, with CRLF. */
#define REPLY_LINE_MAX 512

enum auth_step {
	AUTH_LAST, /* the response that is awaited is the last one */
	AUTH_USERNAME, /* LOGIN: a password is asked for after it */
};

PRINTF(3, 0)
static void add_line_v(
    struct server_out *out, char separator, const char *fmt, va_list ap)
{
	char line[REPLY_LINE_MAX - 1]; /* its NUL makes room for the CRLF */
	size_t len, head = 4;
	int n;

	ASSERT(out->code >= 200 && out->code < 600);
	decimal_format((unsigned)out->code, line);
	line[3] = separator;
	n = vsnprintf(line + head, sizeof(line) - head, fmt, ap);
	ASSERT(n >= 0);
	len = head + (size_t)n;
	if (len > sizeof(line) - 1)
		len = sizeof(line) - 1;
	for (size_t i = 0; i < len; i++)
		if (line[i] < ' ' || line[i] > '~')
			line[i] = '?';
	ASSERT(out->reply_len + len + 2 < sizeof(out->reply));
	memcpy(out->reply + out->reply_len, line, len);
	memcpy(out->reply + out->reply_len + len, "\r\n", 3);
	out->reply_len += len + 2;
}

/* A line of a reply of several lines; the last one has a blank behind it. */
PRINTF(3, 4)
static void add_line(
    struct server_out *out, char separator, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	add_line_v(out, separator, fmt, ap);
	va_end(ap);
}

static void begin_reply(
    struct server_out *out, enum server_effect effect, int code)
{
	out->effect = effect;
	out->code = code;
	out->rejected = code >= 400;
	out->stage = "command";
	out->reply_len = 0;
}

void server_reply(struct server_out *out, enum server_effect effect, int code,
    const char *fmt, ...)
{
	va_list ap;

	begin_reply(out, effect, code);
	va_start(ap, fmt);
	add_line_v(out, ' ', fmt, ap);
	va_end(ap);
}

void server_forget_envelope(struct server *s)
{
	free(s->sender);
	free(s->orig_sender);
	s->sender = s->orig_sender = NULL;
	for (unsigned i = 0; i < s->n_rcpts; i++) {
		free(s->rcpts[i].addr);
		free(s->rcpts[i].orig);
	}
	free(s->rcpts);
	s->rcpts = NULL;
	s->n_rcpts = s->rcpts_size = 0;
	s->body_8bit = false;
	s->declared_size = 0;
	s->state = SERVER_GREETED;
}

/* The name that a client gives itself, kept for our trace field and the log. */
static void keep_helo(struct server *s, struct slice name)
{
	size_t n = slice_copy(name, s->helo, sizeof(s->helo));

	for (size_t i = 0; i < n; i++) {
		char c = s->helo[i];

		if ((c < 'A' || c > 'Z') && (c < 'a' || c > 'z') &&
		    (c < '0' || c > '9') && !(c && strchr(".-_:[]+=", c)))
			s->helo[i] = '?';
	}
	if (n == 0)
		slice_copy(slice_str("unknown"), s->helo, sizeof(s->helo));
	s->greeted = true;
}

static void on_helo(struct server *s, const struct server_turn *t)
{
	server_forget_envelope(s);
	keep_helo(s, t->command.args);
	s->esmtp = false;
	server_reply(t->out, SERVER_REPLY, 250, "%s", s->options->hostname);
}

/* Beyond this machine a password would cross the network in clear. */
static bool offers_auth(const struct server *s)
{
	return s->options->accept_any_auth && s->local;
}

static void on_ehlo(struct server *s, const struct server_turn *t)
{
	server_forget_envelope(s);
	keep_helo(s, t->command.args);
	s->esmtp = true;
	begin_reply(t->out, SERVER_REPLY, 250);
	add_line(t->out, '-', "%s", s->options->hostname);
	add_line(t->out, '-', "PIPELINING");
	add_line(t->out, '-', "SIZE %" PRIu64, s->options->max_message_size);
	add_line(t->out, '-', "8BITMIME");
	add_line(t->out, '-', "ENHANCEDSTATUSCODES");
	if (offers_auth(s))
		add_line(t->out, '-', "AUTH PLAIN LOGIN");
	add_line(t->out, ' ', "HELP");
}

/* True if nothing follows the verb; else it is refused. */
static bool check_no_args(const struct server_turn *t)
{
	if (t->command.args.len == 0)
		return true;
	server_reply(t->out, SERVER_REPLY, 501, "5.5.4 No argument is allowed");
	return false;
}

static void on_data(struct server *s, const struct server_turn *t)
{
	if (!check_no_args(t))
		return;
	server_unique_rcpts(s);
	s->state = SERVER_DATA;
	server_reply(
	    t->out, SERVER_START_DATA, 354, "End data with <CR><LF>.<CR><LF>");
}

static void on_rset(struct server *s, const struct server_turn *t)
{
	if (!check_no_args(t))
		return;
	server_forget_envelope(s);
	server_reply(t->out, SERVER_REPLY, 250, "2.0.0 Ok");
}

static void on_vrfy(struct server *s, const struct server_turn *t)
{
	(void)s;
	if (t->command.args.len == 0)
		server_reply(
		    t->out, SERVER_REPLY, 501, "5.5.4 Syntax: VRFY address");
	else
		server_reply(t->out, SERVER_REPLY, 252,
		    "2.5.0 Send some mail, delivery will be tried");
}

static void on_quit(struct server *s, const struct server_turn *t)
{
	(void)s;
	if (check_no_args(t))
		server_reply(t->out, SERVER_CLOSE, 221, "2.0.0 Bye");
}

static void refuse_foreign(struct server_out *out)
{
	server_reply(out, SERVER_CUT, 554, "5.5.1 This is an SMTP server");
}

static void on_foreign(struct server *s, const struct server_turn *t)
{
	(void)s;
	refuse_foreign(t->out);
}

static void accept_auth(struct server *s, struct server_out *out)
{
	s->auth_pending = false;
	server_reply(out, SERVER_REPLY, 235, "2.7.0 Authentication successful");
}

static void ask_auth(struct server *s, enum auth_step step, const char *prompt,
    struct server_out *out)
{
	s->auth_pending = true;
	s->auth_step = (uint8_t)step;
	server_reply(out, SERVER_REPLY, 334, "%s", prompt);
}

/* The prompts are "Username:" and "Password:" in base64, as all have it. */
static void ask_password(struct server *s, struct server_out *out)
{
	ask_auth(s, AUTH_LAST, "UGFzc3dvcmQ6", out);
}

static void on_auth(struct server *s, const struct server_turn *t)
{
	struct slice args = t->command.args;
	struct slice mechanism = slice_word(&args);
	bool has_initial = slice_trim(args).len > 0;

	if (!offers_auth(s))
		server_reply(
		    t->out, SERVER_REPLY, 502, "5.5.1 AUTH is not offered");
	else if (slice_caseeq_str(mechanism, "PLAIN") && has_initial)
		accept_auth(s, t->out);
	else if (slice_caseeq_str(mechanism, "PLAIN"))
		ask_auth(s, AUTH_LAST, "", t->out);
	else if (slice_caseeq_str(mechanism, "LOGIN") && has_initial)
		ask_password(s, t->out);
	else if (slice_caseeq_str(mechanism, "LOGIN"))
		ask_auth(s, AUTH_USERNAME, "VXNlcm5hbWU6", t->out);
	else
		server_reply(t->out, SERVER_REPLY, 504,
		    "5.5.4 Unrecognized authentication type");
}

/* A response inside the AUTH dialogue; it is looked at by nobody. */
static void on_auth_line(
    struct server *s, struct slice line, struct server_out *out)
{
	if (slice_eq_str(slice_trim(line), "*")) {
		s->auth_pending = false;
		server_reply(
		    out, SERVER_REPLY, 501, "5.7.0 Authentication aborted");
	} else if (s->auth_step == AUTH_USERNAME) {
		ask_password(s, out);
	} else {
		accept_auth(s, out);
	}
}

/* A cell has a handler, or a reply that says all there is to say. */
struct cell {
	void (*handle)(struct server *s, const struct server_turn *t);
	int code;
	const char *text;
};

/* clang-format off */
#define ALWAYS(cell) { cell, cell, cell }
#define DO(function) { .handle = (function) }
#define SAY(code, text) { NULL, (code), (text) }
#define NEED_MAIL SAY(503, "5.5.1 MAIL comes first")
#define NESTED SAY(503, "5.5.1 Not inside a transaction")

static const struct cell table[COMMAND_N][SERVER_N_LINE_STATES] = {
	/*                   GREETED        MAIL           RCPT */
	[COMMAND_HELO]    = ALWAYS(DO(on_helo)),
	[COMMAND_EHLO]    = ALWAYS(DO(on_ehlo)),
	[COMMAND_MAIL]    = { DO(server_on_mail),
	                                    NESTED,        NESTED },
	[COMMAND_RCPT]    = { NEED_MAIL,    DO(server_on_rcpt),
	                                                   DO(server_on_rcpt) },
	[COMMAND_DATA]    = { NEED_MAIL,
	                      SAY(554, "5.5.1 No valid recipients"),
	                                                   DO(on_data) },
	[COMMAND_RSET]    = ALWAYS(DO(on_rset)),
	[COMMAND_NOOP]    = ALWAYS(SAY(250, "2.0.0 Ok")),
	[COMMAND_VRFY]    = ALWAYS(DO(on_vrfy)),
	[COMMAND_HELP]    = ALWAYS(SAY(214, "2.0.0 HELO EHLO MAIL RCPT DATA "
	                               "RSET NOOP VRFY HELP QUIT")),
	[COMMAND_QUIT]    = ALWAYS(DO(on_quit)),
	[COMMAND_AUTH]    = { DO(on_auth),  NESTED,        NESTED },
	[COMMAND_NOT_OFFERED] = ALWAYS(SAY(502, "5.5.1 Command is not offered")),
	[COMMAND_UNKNOWN] = ALWAYS(SAY(500, "5.5.2 Command not recognized")),
	[COMMAND_FOREIGN] = ALWAYS(DO(on_foreign)),
};
/* clang-format on */

void server_init(struct server *s, const struct server_options *options)
{
	*s = (struct server){ .options = options, .state = SERVER_GREETED };
}

void server_fini(struct server *s)
{
	server_forget_envelope(s);
}

void server_greeting(const struct server *s, struct server_out *out)
{
	server_reply(
	    out, SERVER_REPLY, 220, "%s ESMTP sesrelayd", s->options->hostname);
}

/* Ends the session of a peer that gets nothing right. */
static void count_errors(struct server *s, struct server_out *out)
{
	if (out->code < 400)
		s->n_errors = 0;
	else if (out->code >= 500 && out->effect != SERVER_CUT &&
	    ++s->n_errors >= SERVER_MAX_ERRORS)
		server_on_close(s, "4.7.0", "too many errors", out);
}

/* Ends the session of a peer that talks and talks, and sends no mail. */
static void count_idle(
    struct server *s, enum command_verb verb, struct server_out *out)
{
	switch (verb) {
	case COMMAND_HELO:
	case COMMAND_EHLO:
	case COMMAND_RSET:
	case COMMAND_NOOP:
	case COMMAND_VRFY:
	case COMMAND_HELP:
	case COMMAND_AUTH:
		if (++s->n_idle > SERVER_MAX_IDLE)
			server_on_close(
			    s, "4.7.0", "too many commands and no mail", out);
		break;
	default:
		break;
	}
}

/* A tab is a blank to legacy programs; no address can have one. */
static bool has_control(struct slice line)
{
	for (size_t i = 0; i < line.len; i++) {
		unsigned char c = (unsigned char)line.ptr[i];

		if ((c < ' ' && c != '\t') || c == 0x7f)
			return true;
	}
	return false;
}

/* However DATA was refused, what was sent behind it is meant as content. */
static void note_verb(enum command_verb verb, struct server_out *out)
{
	if (verb == COMMAND_MAIL)
		out->stage = "MAIL";
	else if (verb == COMMAND_RCPT)
		out->stage = "RCPT";
	else if (verb == COMMAND_DATA)
		out->stage = "DATA";
	if (verb == COMMAND_DATA && out->code >= 400)
		out->effect = SERVER_NO_DATA;
}

static void run_command(struct server *s, const struct server_turn *t)
{
	const struct cell *cell = &table[t->command.verb][s->state];

	if (cell->handle)
		cell->handle(s, t);
	else
		server_reply(
		    t->out, SERVER_REPLY, cell->code, "%s", cell->text);
	count_idle(s, t->command.verb, t->out);
}

void server_on_line(struct server *s, struct slice line,
    const struct server_intake *intake, struct server_out *out)
{
	struct server_turn t = { .intake = intake, .out = out };

	ASSERT(s->state < SERVER_N_LINE_STATES);
	ASSERT(line.len <= SERVER_LINE_MAX);
	if (s->auth_pending) {
		on_auth_line(s, line, out);
	} else {
		command_parse(line, &t.command);
		if (t.command.verb != COMMAND_FOREIGN && has_control(line))
			server_reply(out, SERVER_REPLY, 501,
			    "5.5.2 Control characters in a command");
		else
			run_command(s, &t);
		note_verb(t.command.verb, out);
	}
	count_errors(s, out);
}

bool server_on_line_head(
    struct server *s, struct slice head, struct server_out *out)
{
	ASSERT(s->state < SERVER_N_LINE_STATES);
	if (s->auth_pending || head.len == 0 || !command_is_foreign_head(head))
		return false;
	refuse_foreign(out);
	return true;
}

void server_on_long_line(struct server *s, struct server_out *out)
{
	ASSERT(s->state < SERVER_N_LINE_STATES);
	s->auth_pending = false;
	server_reply(out, SERVER_REPLY, 500, "5.5.2 Line too long");
	count_errors(s, out);
}

void server_on_bare_newline(
    struct server *s, struct slice line, struct server_out *out)
{
	struct command command;

	ASSERT(s->state < SERVER_N_LINE_STATES);
	server_reply(out, SERVER_REPLY, 501,
	    "5.5.2 Lines end in CRLF, this one in LF alone");
	command_parse(line, &command);
	if (!s->auth_pending)
		note_verb(command.verb, out);
	s->auth_pending = false;
	count_errors(s, out);
}

void server_on_content(struct server *s, enum server_content what,
    const char *detail, struct server_out *out)
{
	static const struct {
		int code;
		const char *status, *text;
	} replies[] = {
		[SERVER_CONTENT_OK] = { 250, "2.0.0", "" },
		[SERVER_CONTENT_TOO_BIG] = { 552, "5.3.4",
		    "Message is too large" },
		[SERVER_CONTENT_BARE_LF] = { 550, "5.5.2",
		    "Message has lines that end in LF without CR" },
		[SERVER_CONTENT_BARE_CR] = { 550, "5.5.2",
		    "Message has a CR without LF" },
		[SERVER_CONTENT_NUL] = { 550, "5.6.0",
		    "Message has a NUL byte" },
		[SERVER_CONTENT_LOOP] = { 554, "5.4.6",
		    "Too many hops, mail runs in a circle" },
		[SERVER_CONTENT_HEADER] = { 554, "", "" },
		[SERVER_CONTENT_NO_SPACE] = { 452, "4.3.1",
		    "Insufficient storage" },
		[SERVER_CONTENT_FAILED] = { 451, "4.3.0",
		    "Message could not be stored" },
	};

	ASSERT(s->state == SERVER_DATA);
	ASSERT(what < ARRAY_LEN(replies));
	if (what == SERVER_CONTENT_OK) {
		ASSERT(detail != NULL);
		server_reply(
		    out, SERVER_REPLY, 250, "2.0.0 Ok: queued as %s", detail);
		s->n_errors = s->n_idle = 0;
	} else if (what == SERVER_CONTENT_HEADER) {
		ASSERT(detail != NULL);
		server_reply(out, SERVER_REPLY, 554, "%s", detail);
	} else {
		server_reply(out, SERVER_REPLY, replies[what].code, "%s %s%s%s",
		    replies[what].status, replies[what].text,
		    detail ? ": " : "", detail ? detail : "");
	}
	out->stage = "END-OF-MESSAGE";
	server_forget_envelope(s);
}

void server_on_close(const struct server *s, const char *enhanced,
    const char *reason, struct server_out *out)
{
	server_reply(out, SERVER_CLOSE, 421, "%s %s %s", enhanced,
	    s->options->hostname, reason);
}

const char *server_state_name(enum server_state state)
{
	static const char *const state_names[SERVER_N_STATES] = {
		[SERVER_GREETED] = "greeted",
		[SERVER_MAIL] = "mail",
		[SERVER_RCPT] = "rcpt",
		[SERVER_DATA] = "data",
	};

	ASSERT(state < SERVER_N_STATES);
	return state_names[state];
}
