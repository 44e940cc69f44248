/*
 * The conversation: each cell of the table, what the envelope becomes, and
 * what hostile and clumsy peers get.
 */
#include "smtp/server.h"

#include "smtp/aliases.h"
#include "smtp/command.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

static const struct server_options plain = { .hostname = "relay.example",
	.max_message_size = 1000,
	.max_recipients = 3 };
static const struct rewrite_rule recipients[] = {
	{ "list", "all@example.com" },
	{ "*@retired.example", "heir@example.net" },
};
/* Aliases are made by set_up(). */
static struct rewrite_rules rules = { .default_domain = "example.com",
	.hostname = "relay.example",
	.recipients = recipients,
	.n_recipients = ARRAY_LEN(recipients),
	.ses_headers = "" };
static const struct server_options login = { .hostname = "relay.example",
	.max_message_size = 1000,
	.max_recipients = 3,
	.accept_any_auth = true,
	.rewrite = &rules };

struct fixture {
	struct server server;
	struct server_out out;
};

static int set_up(void **state)
{
	static const char text[] = "ops: a@example.net, b@example.net\n"
				   "all: ops, c@example.net\n"
				   "many: 1, 2, 3, 4\n";
	static struct fixture f;
	struct err err;

	rules.aliases =
	    aliases_parse(slice_str(text), rules.default_domain, &err);
	assert_non_null(rules.aliases);
	server_init(&f.server, &plain);
	*state = &f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	server_fini(&f->server);
	aliases_free((struct aliases *)(uintptr_t)rules.aliases);
	rules.aliases = NULL;
	return 0;
}

/* What holds for every reply: lines with one code, and no byte out of order. */
static void check_reply(const struct server_out *out)
{
	const char *p = out->reply, *end = p + out->reply_len;
	char code[4];

	snprintf(code, sizeof(code), "%d", out->code);
	assert_int_equal(strlen(p), out->reply_len);
	assert_true(p < end);
	while (p < end) {
		const char *cr = strchr(p, '\r');

		assert_non_null(cr);
		assert_true(cr - p >= 4 && cr - p <= 510);
		assert_int_equal(cr[1], '\n');
		assert_memory_equal(p, code, 3);
		assert_int_equal(p[3], cr + 2 == end ? ' ' : '-');
		for (; p < cr; p++)
			assert_in_range(*p, ' ', '~');
		p += 2;
	}
	assert_int_equal(out->rejected, out->code >= 400);
	if (out->code == 354)
		assert_int_equal(out->effect, SERVER_START_DATA);
	else
		assert_int_not_equal(out->effect, SERVER_START_DATA);
}

static void say_bytes(struct fixture *f, const char *ptr, size_t len)
{
	server_on_line(&f->server, slice_of(ptr, len), NULL, &f->out);
	check_reply(&f->out);
}

/* Says `line` and expects the reply to start with `expected`. */
static void say(struct fixture *f, const char *line, const char *expected)
{
	say_bytes(f, line, strlen(line));
	if (strncmp(f->out.reply, expected, strlen(expected)) != 0)
		fail_msg("\"%s\": %s", line, f->out.reply);
}

static void end_content(
    struct fixture *f, enum server_content what, const char *detail)
{
	server_on_content(&f->server, what, detail, &f->out);
	check_reply(&f->out);
	assert_int_equal(f->out.effect, SERVER_REPLY);
	assert_int_equal(f->server.state, SERVER_GREETED);
	assert_null(f->server.sender);
	assert_int_equal(f->server.n_rcpts, 0);
}

static void go_to(struct fixture *f, enum server_state state)
{
	server_fini(&f->server);
	server_init(&f->server, &plain);
	say(f, "EHLO x", "250-");
	if (state >= SERVER_MAIL)
		say(f, "MAIL FROM:<a@b>", "250 2.1.0 ");
	if (state >= SERVER_RCPT)
		say(f, "RCPT TO:<c@d>", "250 2.1.5 ");
	if (state >= SERVER_DATA)
		say(f, "DATA", "354 ");
	assert_int_equal(f->server.state, state);
}

struct cell {
	const char *reply;
	enum server_state next;
	enum server_effect effect;
};

#define G SERVER_GREETED
#define M SERVER_MAIL
#define R SERVER_RCPT
#define D SERVER_DATA

static const struct {
	const char *line;
	struct cell cells[SERVER_N_LINE_STATES];
} table[COMMAND_N] = {
	[COMMAND_HELO] = { "HELO x",
	    { { "250 relay.example", G, SERVER_REPLY },
		{ "250 relay.example", G, SERVER_REPLY },
		{ "250 relay.example", G, SERVER_REPLY } } },
	[COMMAND_EHLO] = { "EHLO x",
	    { { "250-relay.example", G, SERVER_REPLY },
		{ "250-relay.example", G, SERVER_REPLY },
		{ "250-relay.example", G, SERVER_REPLY } } },
	[COMMAND_MAIL] = { "MAIL FROM:<x@y>",
	    { { "250 2.1.0 ", M, SERVER_REPLY },
		{ "503 5.5.1 ", M, SERVER_REPLY },
		{ "503 5.5.1 ", R, SERVER_REPLY } } },
	[COMMAND_RCPT] = { "RCPT TO:<x@y>",
	    { { "503 5.5.1 ", G, SERVER_REPLY },
		{ "250 2.1.5 ", R, SERVER_REPLY },
		{ "250 2.1.5 ", R, SERVER_REPLY } } },
	[COMMAND_DATA] = { "DATA",
	    { { "503 5.5.1 ", G, SERVER_NO_DATA },
		{ "554 5.5.1 ", M, SERVER_NO_DATA },
		{ "354 ", D, SERVER_START_DATA } } },
	[COMMAND_RSET] = { "RSET",
	    { { "250 2.0.0 ", G, SERVER_REPLY },
		{ "250 2.0.0 ", G, SERVER_REPLY },
		{ "250 2.0.0 ", G, SERVER_REPLY } } },
	[COMMAND_NOOP] = { "NOOP",
	    { { "250 2.0.0 ", G, SERVER_REPLY },
		{ "250 2.0.0 ", M, SERVER_REPLY },
		{ "250 2.0.0 ", R, SERVER_REPLY } } },
	[COMMAND_VRFY] = { "VRFY x",
	    { { "252 2.5.0 ", G, SERVER_REPLY },
		{ "252 2.5.0 ", M, SERVER_REPLY },
		{ "252 2.5.0 ", R, SERVER_REPLY } } },
	[COMMAND_HELP] = { "HELP",
	    { { "214 2.0.0 ", G, SERVER_REPLY },
		{ "214 2.0.0 ", M, SERVER_REPLY },
		{ "214 2.0.0 ", R, SERVER_REPLY } } },
	[COMMAND_QUIT] = { "QUIT",
	    { { "221 2.0.0 ", G, SERVER_CLOSE },
		{ "221 2.0.0 ", M, SERVER_CLOSE },
		{ "221 2.0.0 ", R, SERVER_CLOSE } } },
	[COMMAND_AUTH] = { "AUTH PLAIN AGEAYg==",
	    { { "502 5.5.1 ", G, SERVER_REPLY },
		{ "503 5.5.1 ", M, SERVER_REPLY },
		{ "503 5.5.1 ", R, SERVER_REPLY } } },
	[COMMAND_NOT_OFFERED] = { "STARTTLS",
	    { { "502 5.5.1 ", G, SERVER_REPLY },
		{ "502 5.5.1 ", M, SERVER_REPLY },
		{ "502 5.5.1 ", R, SERVER_REPLY } } },
	[COMMAND_UNKNOWN] = { "FROBNICATE",
	    { { "500 5.5.2 ", G, SERVER_REPLY },
		{ "500 5.5.2 ", M, SERVER_REPLY },
		{ "500 5.5.2 ", R, SERVER_REPLY } } },
	[COMMAND_FOREIGN] = { "GET / HTTP/1.1",
	    { { "554 5.5.1 ", G, SERVER_CUT }, { "554 5.5.1 ", M, SERVER_CUT },
		{ "554 5.5.1 ", R, SERVER_CUT } } },
};

static void test_every_cell(void **state)
{
	struct fixture *f = *state;

	for (int verb = 0; verb < COMMAND_N; verb++) {
		for (int s = 0; s < SERVER_N_LINE_STATES; s++) {
			const struct cell *cell = &table[verb].cells[s];
			struct command command;

			command_parse(slice_str(table[verb].line), &command);
			assert_int_equal(command.verb, verb);
			go_to(f, (enum server_state)s);
			say(f, table[verb].line, cell->reply);
			if (f->server.state != cell->next ||
			    f->out.effect != cell->effect)
				fail_msg("\"%s\" in state %s: state %s",
				    table[verb].line,
				    server_state_name((enum server_state)s),
				    server_state_name(f->server.state));
			assert_int_equal(f->server.sender != NULL,
			    cell->next != SERVER_GREETED);
			assert_int_equal(f->server.n_rcpts > 0,
			    cell->next == SERVER_RCPT ||
				cell->next == SERVER_DATA);
		}
	}
}

/* Content taken for commands would be an open door: better to die. */
static void test_line_during_data_aborts(void **state)
{
	struct fixture *f = *state;
	int status = 0;
	pid_t pid;

	go_to(f, SERVER_DATA);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		close(STDERR_FILENO);
		signal(SIGABRT, SIG_DFL);
		server_on_line(&f->server, slice_str("NOOP"), NULL, &f->out);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

static void test_greeting_and_ehlo(void **state)
{
	struct fixture *f = *state;

	server_greeting(&f->server, &f->out);
	assert_string_equal(
	    f->out.reply, "220 relay.example ESMTP sesrelayd\r\n");
	say(f, "EHLO client", "250");
	assert_string_equal(f->out.reply,
	    "250-relay.example\r\n250-PIPELINING\r\n250-SIZE 1000\r\n"
	    "250-8BITMIME\r\n250-ENHANCEDSTATUSCODES\r\n250 HELP\r\n");
	server_fini(&f->server);
	server_init(&f->server, &login);
	say(f, "EHLO client", "250");
	assert_null(strstr(f->out.reply, "AUTH"));
	f->server.local = true;
	say(f, "EHLO client", "250");
	assert_non_null(strstr(f->out.reply, "\r\n250-AUTH PLAIN LOGIN\r\n"));
	assert_null(strstr(f->out.reply, "STARTTLS"));
}

static void test_helo_name(void **state)
{
	static const struct {
		const char *line, *helo;
	} rows[] = {
		{ "HELO host.example", "host.example" },
		{ "HELO [IPv6:::1]", "[IPv6:::1]" },
		{ "HELO m.eml", "m.eml" },
		{ "HELO", "unknown" },
		{ "EHLO  ", "unknown" },
		{ "EHLO a)(b", "a??b" },
		{ "EHLO a b", "a?b" },
		{ "EHLO \xc3\xa9<\"%s\">", "?????s??" },
	};
	struct fixture *f = *state;
	char line[1024] = "HELO ";

	assert_string_equal(f->server.helo, "");
	assert_false(f->server.greeted);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		say(f, rows[i].line, "250");
		assert_string_equal(f->server.helo, rows[i].helo);
		assert_true(f->server.greeted);
		assert_int_equal(f->server.esmtp, rows[i].line[0] == 'E');
	}
	memset(line + 5, 'x', 1000);
	say(f, line, "250 ");
	assert_int_equal(strlen(f->server.helo), sizeof(f->server.helo) - 1);
}

static void test_hello_drops_the_envelope(void **state)
{
	static const char *const hellos[] = { "HELO x", "EHLO x", "RSET" };
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_LEN(hellos); i++) {
		say(f, "MAIL FROM:<a@b> SIZE=9 BODY=8BITMIME", "250 ");
		say(f, "RCPT TO:<c@d>", "250 ");
		say(f, hellos[i], "250");
		assert_int_equal(f->server.state, SERVER_GREETED);
		assert_null(f->server.sender);
		assert_int_equal(f->server.n_rcpts, 0);
		assert_false(f->server.body_8bit);
		assert_int_equal(f->server.declared_size, 0);
	}
}

static void test_envelope(void **state)
{
	struct fixture *f = *state;

	/* Nobody has to say hello. */
	say(f, "mail from: a@b size=1000 body=8bitmime auth=<> ", "250 2.1.0 ");
	assert_string_equal(f->server.sender, "a@b");
	assert_true(f->server.body_8bit);
	assert_int_equal(f->server.declared_size, 1000);
	say(f, "rcpt to:<one@x>", "250 2.1.5 ");
	say(f, "RCPT TO:<bad", "501 5.1.3 ");
	say(f, "RCPT TO: <@r:two@x>", "250 2.1.5 ");
	say(f, "RCPT TO:three@x", "250 2.1.5 ");
	say(f, "RCPT TO:<four@x>", "452 4.5.3 ");
	assert_int_equal(f->server.n_rcpts, 3);
	assert_string_equal(f->server.rcpts[0].addr, "one@x");
	assert_string_equal(f->server.rcpts[1].addr, "two@x");
	assert_string_equal(f->server.rcpts[2].addr, "three@x");
	say(f, "DATA ", "354 ");
	assert_int_equal(f->server.n_rcpts, 3);
	end_content(f, SERVER_CONTENT_OK, "0006543A1B2C3D4E");
	assert_string_equal(
	    f->out.reply, "250 2.0.0 Ok: queued as 0006543A1B2C3D4E\r\n");
	say(f, "MAIL FROM:<> BODY=7BIT", "250 ");
	assert_string_equal(f->server.sender, "");
	assert_false(f->server.body_8bit);
	say(f, "RCPT TO:<c@d>", "250 ");
	say(f, "DATA", "354 ");
}

static void test_refused_mail_and_rcpt(void **state)
{
	static const struct {
		const char *line, *reply;
	} rows[] = {
		{ "MAIL", "501 5.5.4 " },
		{ "MAIL FROM", "501 5.5.4 " },
		{ "MAIL TO:<a@b>", "501 5.5.4 " },
		{ "MAIL FROM:", "501 5.1.7 " },
		{ "MAIL FROM:<a@b", "501 5.1.7 " },
		{ "MAIL FROM:root",
		    "550 5.1.7 Address has no domain; set "
		    "rewrite.default_domain in sesrelayd.conf\r\n" },
		{ "MAIL FROM:<j\xc3\xb6@b> SMTPUTF8",
		    "553 5.6.7 Amazon SES takes no address beyond ASCII\r\n" },
		{ "MAIL FROM:<a@m\xc3\xbcll.de>",
		    "553 5.6.7 Amazon SES takes no domain beyond ASCII; write "
		    "it in punycode (xn--...)\r\n" },
		{ "MAIL FROM:<a@b> SMTPUTF8", "555 5.6.7 " },
		{ "MAIL FROM:<a@b> RET=HDRS", "555 5.5.4 " },
		{ "MAIL FROM:<a@b> ENVID=x", "555 5.5.4 " },
		{ "MAIL FROM:<a@b> SIZE", "501 5.5.4 " },
		{ "MAIL FROM:<a@b> SIZE=", "501 5.5.4 " },
		{ "MAIL FROM:<a@b> SIZE=-1", "501 5.5.4 " },
		{ "MAIL FROM:<a@b> SIZE=1e9", "501 5.5.4 " },
		{ "MAIL FROM:<a@b> SIZE=0x10", "501 5.5.4 " },
		{ "MAIL FROM:<a@b> SIZE=1001", "552 5.3.4 " },
		{ "MAIL FROM:<a@b> SIZE=9223372036854775808", "552 5.3.4 " },
		{ "MAIL FROM:<a@b> SIZE=18446744073709551616", "552 5.3.4 " },
		{ "MAIL FROM:<a@b> SIZE=99999999999999999999999",
		    "552 5.3.4 " },
		{ "MAIL FROM:<a@b> BODY", "501 5.5.4 " },
		{ "MAIL FROM:<a@b> BODY=BINARYMIME", "501 5.5.4 " },
		{ "MAIL FROM:<a@b> =", "501 5.5.4 " },
		{ "MAIL FROM:<a@b> SIZE=1 SIZE=2000", "552 5.3.4 " },
		{ "MAIL FROM:Some One <a@b>", "550 5.1.7 " },
		{ "MAIL FROM:<a@b> <c@d>", "501 5.5.4 " },
	};
	struct fixture *f = *state;
	char line[400] = "MAIL FROM:<";

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		say(f, rows[i].line, rows[i].reply);
		assert_int_equal(f->server.state, SERVER_GREETED);
		assert_null(f->server.sender);
		assert_int_equal(f->server.declared_size, 0);
		say(f, "NOOP", "250 ");
	}
	memset(line + 11, 'x', 65);
	strcpy(line + 11 + 65, "@b>");
	say(f, line, "501 5.1.7 ");

	say(f, "MAIL FROM:<a@b>", "250 ");
	say(f, "RCPT", "501 5.5.4 ");
	say(f, "RCPT TO:", "501 5.1.3 ");
	say(f, "RCPT TO:<>", "501 5.1.3 ");
	say(f, "RCPT TO:<root>", "550 5.1.3 ");
	say(f, "RCPT TO:<j\xc3\xb6@b>", "553 5.6.7 ");
	say(f, "RCPT TO:<a@b> NOTIFY=NEVER", "555 5.5.4 ");
	say(f, "RCPT TO:<a@b> ORCPT=rfc822;a@b", "555 5.5.4 ");
	say(f, "RCPT TO:<a@b> =", "501 5.5.4 ");
	assert_int_equal(f->server.state, SERVER_MAIL);
	say(f, "DATA", "554 5.5.1 ");
	assert_int_equal(f->server.state, SERVER_MAIL);
}

static void test_default_domain_completes(void **state)
{
	struct fixture *f = *state;

	server_fini(&f->server);
	server_init(&f->server, &login);
	say(f, "MAIL FROM:root", "250 ");
	assert_string_equal(f->server.sender, "root@example.com");
	say(f, "RCPT TO:<admin>", "250 ");
	assert_string_equal(f->server.rcpts[0].addr, "admin@example.com");
}

static void test_rules_and_aliases_apply(void **state)
{
	struct fixture *f = *state;

	server_fini(&f->server);
	server_init(&f->server, &login);
	say(f, "MAIL FROM:<root>", "250 ");
	say(f, "RCPT TO:<X@Retired.example>", "250 ");
	say(f, "RCPT TO:<Ops@EXAMPLE.com>", "250 ");
	assert_int_equal(f->server.n_rcpts, 3);
	assert_string_equal(f->server.orig_sender, "root");
	assert_string_equal(f->server.rcpts[0].orig, "X@Retired.example");
	assert_string_equal(f->server.rcpts[1].orig, "Ops@EXAMPLE.com");
	assert_string_equal(f->server.rcpts[2].orig, "Ops@EXAMPLE.com");
	assert_string_equal(f->server.rcpts[0].addr, "heir@example.net");
	assert_string_equal(f->server.rcpts[1].addr, "a@example.net");
	assert_string_equal(f->server.rcpts[2].addr, "b@example.net");
}

/* All of a list come in or none, and the client learns which limit it was. */
static void test_lists_count_as_what_they_stand_for(void **state)
{
	struct fixture *f = *state;

	server_fini(&f->server);
	server_init(&f->server, &login);
	say(f, "MAIL FROM:<a@b>", "250 ");
	say(f, "RCPT TO:<many>",
	    "550 5.5.3 Address stands for 4 recipients; smtp.max_recipients "
	    "in sesrelayd.conf is 3\r\n");
	assert_int_equal(f->server.state, SERVER_MAIL);
	say(f, "RCPT TO:<x@y>", "250 ");
	say(f, "RCPT TO:<list>", "452 4.5.3 ");
	assert_int_equal(f->server.n_rcpts, 1);
	say(f, "RCPT TO:<ops>", "250 ");
	say(f, "RCPT TO:<z@y>", "452 4.5.3 ");
	assert_int_equal(f->server.n_rcpts, 3);
	say(f, "DATA", "354 ");
	assert_int_equal(f->server.n_rcpts, 3);
}

/* Who is on two lists gets one copy, where its address came first. */
static void test_no_recipient_twice_through_aliases(void **state)
{
	struct fixture *f = *state;

	server_fini(&f->server);
	server_init(&f->server, &login);
	say(f, "MAIL FROM:<a@b>", "250 ");
	say(f, "RCPT TO:<b@example.net>", "250 ");
	say(f, "RCPT TO:<ops>", "250 ");
	assert_int_equal(f->server.n_rcpts, 3);
	say(f, "DATA", "354 ");
	assert_int_equal(f->server.n_rcpts, 2);
	assert_null(f->server.orig_sender);
	assert_null(f->server.rcpts[0].orig);
	assert_string_equal(f->server.rcpts[0].addr, "b@example.net");
	assert_string_equal(f->server.rcpts[1].addr, "a@example.net");
	assert_string_equal(f->server.rcpts[1].orig, "ops");
	end_content(f, SERVER_CONTENT_OK, "ID");
	/* A client that repeats itself is taken at its word. */
	say(f, "MAIL FROM:<a@b>", "250 ");
	say(f, "RCPT TO:<x@y>", "250 ");
	say(f, "RCPT TO:<x@y>", "250 ");
	say(f, "DATA", "354 ");
	assert_int_equal(f->server.n_rcpts, 2);
}

static void test_size_limit_of_zero_is_none(void **state)
{
	struct server_options options = plain;
	struct fixture *f = *state;

	options.max_message_size = 0;
	server_fini(&f->server);
	server_init(&f->server, &options);
	say(f, "MAIL FROM:<a@b> SIZE=9223372036854775808", "250 ");
}

/* ctx is the most that fits. */
static struct server_refusal ask_room(void *ctx, uint64_t bytes)
{
	const uint64_t *room = ctx;

	if (bytes <= *room)
		return (struct server_refusal){ NULL, NULL };
	return (struct server_refusal){ "4.3.1", "full" };
}

static struct server_refusal ask_nobody(void *ctx, uint64_t bytes)
{
	(void)ctx;
	(void)bytes;
	return (struct server_refusal){ "4.3.2", "Disk is\r\n250 full" };
}

static void test_refusal_by_size(void **state)
{
	struct fixture *f = *state;
	uint64_t room = 500;
	struct server_intake intake = { ask_room, &room };

	server_on_line(&f->server, slice_str("MAIL FROM:<a@b> SIZE=501"),
	    &intake, &f->out);
	assert_string_equal(f->out.reply, "452 4.3.1 full\r\n");
	assert_int_equal(f->server.state, SERVER_GREETED);
	server_on_line(&f->server, slice_str("MAIL FROM:<a@b> SIZE=500"),
	    &intake, &f->out);
	assert_int_equal(f->out.code, 250);
}

static void test_refusal_of_the_spool(void **state)
{
	static const struct server_intake full = { ask_nobody, NULL };
	struct fixture *f = *state;
	struct slice line = slice_str("MAIL FROM:<a@b>");

	server_on_line(&f->server, line, &full, &f->out);
	check_reply(&f->out);
	assert_string_equal(f->out.reply, "452 4.3.2 Disk is??250 full\r\n");
	assert_int_equal(f->server.state, SERVER_GREETED);
	server_on_line(&f->server, slice_str("NOOP"), &full, &f->out);
	assert_int_equal(f->out.code, 250);
	/* What is refused for good is not put off. */
	server_on_line(
	    &f->server, slice_str("MAIL FROM:<a@b> SIZE=1001"), &full, &f->out);
	assert_int_equal(f->out.code, 552);
	say(f, "MAIL FROM:<a@b>", "250 ");
}

static void test_content_replies(void **state)
{
	static const struct {
		enum server_content what;
		const char *detail, *reply;
	} rows[] = {
		{ SERVER_CONTENT_OK, "ID", "250 2.0.0 Ok: queued as ID\r\n" },
		{ SERVER_CONTENT_TOO_BIG, NULL, "552 5.3.4 " },
		{ SERVER_CONTENT_BARE_LF, NULL, "550 5.5.2 " },
		{ SERVER_CONTENT_BARE_CR, NULL, "550 5.5.2 " },
		{ SERVER_CONTENT_NUL, NULL, "550 5.6.0 " },
		{ SERVER_CONTENT_LOOP, NULL, "554 5.4.6 " },
		{ SERVER_CONTENT_HEADER, "5.6.0 Two From",
		    "554 5.6.0 Two From\r\n" },
		{ SERVER_CONTENT_NO_SPACE, "disk", "452 4.3.1 " },
		{ SERVER_CONTENT_FAILED, "a\r\n250 b", "451 4.3.0 " },
	};
	struct fixture *f = *state;
	char detail[2000];

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		go_to(f, SERVER_DATA);
		end_content(f, rows[i].what, rows[i].detail);
		assert_memory_equal(
		    f->out.reply, rows[i].reply, strlen(rows[i].reply));
		/* The session goes on. */
		say(f, "MAIL FROM:<a@b>", "250 ");
	}
	assert_non_null(strstr(f->out.reply, "Ok"));
	memset(detail, 'x', sizeof(detail) - 1);
	detail[sizeof(detail) - 1] = '\0';
	go_to(f, SERVER_DATA);
	end_content(f, SERVER_CONTENT_FAILED, detail);
	assert_int_equal(f->out.reply_len, 512);
}

static void test_control_bytes(void **state)
{
	struct fixture *f = *state;

	for (int c = 0; c < 256; c++) {
		char line[] = "RCPT TO:<a?@b>";
		bool control = (c < ' ' && c != '\t') || c == 0x7f;

		go_to(f, SERVER_MAIL);
		line[10] = (char)c;
		say_bytes(f, line, sizeof(line) - 1);
		if (control)
			assert_memory_equal(f->out.reply, "501 5.5.2 ", 10);
		else if (c >= 0x80)
			assert_memory_equal(f->out.reply, "553 5.6.7 ", 10);
		assert_int_equal(f->server.n_rcpts, f->out.code == 250);
		if (!control)
			continue;
		go_to(f, SERVER_GREETED);
		memcpy(line, "EHLO host?name", 14);
		line[9] = (char)c;
		say_bytes(f, line, 14);
		assert_int_equal(f->out.code, 501);
		assert_string_equal(f->server.helo, "x");
	}
}

static void test_injection(void **state)
{
	static const char *const lines[] = {
		"MAIL FROM:<a@b>\r\nRCPT TO:<evil@x>",
		"MAIL FROM:<a@b>\nRCPT TO:<evil@x>",
		"MAIL FROM:<a@b\rRCPT TO:<evil@x>",
		"MAIL FROM:<a@b>\r\n RCPT TO:<evil@x>",
		"MAIL FROM:<a@b> AUTH=<>\r\nRCPT TO:<evil@x>",
		"MAIL FROM:<a@b> SIZE=1\nX",
		"MAIL FROM:<a%0d%0aRCPT TO:<evil@x>",
		"MAIL FROM:<a\xc2\x85@b>",
		"MAIL FROM:<a@b\xe2\x80\xa8>",
		"MAIL FROM:<a@b> AUTH=\xe2\x80\xa9",
		"MAIL FROM:<;sleep 66;>",
		"MAIL FROM:<\"a\r\nRCPT TO:<evil@x>\"@b>",
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
		say(f, lines[i], "5");
		assert_int_equal(f->server.state, SERVER_GREETED);
		assert_null(f->server.sender);
		assert_null(strstr(f->out.reply, "evil"));
		say(f, "NOOP", "250 ");
	}
}

static void test_foreign_talk_is_cut(void **state)
{
	static const char *const lines[] = { "POST / HTTP/1.1",
		"Host: 127.0.0.1:25", "Content-Type: text/plain",
		"\x16\x03\x01\x02\x01\x01", "_MAIL FROM:<a@b>",
		" MAIL FROM:<a@b>" };
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
		say(f, lines[i], "554 5.5.1 ");
		assert_int_equal(f->out.effect, SERVER_CUT);
	}
}

/* Judged by its first byte, and as its whole line will be. */
static void test_foreign_talk_without_a_line_end(void **state)
{
	struct fixture *f = *state;

	for (int c = 0; c < 256; c++) {
		char head = (char)c;
		bool is_letter =
		    (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
		bool is_blank = c == ' ' || c == '\t' || c == '\r';
		bool cut = server_on_line_head(
		    &f->server, slice_of(&head, 1), &f->out);

		assert_int_equal(cut, !is_letter && !is_blank);
		if (!cut)
			continue;
		check_reply(&f->out);
		assert_memory_equal(f->out.reply, "554 5.5.1 ", 10);
		assert_int_equal(f->out.effect, SERVER_CUT);
	}
	assert_false(
	    server_on_line_head(&f->server, slice_of("\n", 0), &f->out));
	server_fini(&f->server);
	server_init(&f->server, &login);
	f->server.local = true;
	/* The alphabet of base64 has more than letters. */
	say(f, "AUTH PLAIN", "334 ");
	assert_false(
	    server_on_line_head(&f->server, slice_str("/+="), &f->out));
}

/* The text behind a DATA that is refused must not be run. */
static void test_refused_data_is_told_from_other_refusals(void **state)
{
	struct fixture *f = *state;

	say(f, "DATA", "503 ");
	assert_int_equal(f->out.effect, SERVER_NO_DATA);
	go_to(f, SERVER_RCPT);
	say(f, "DATA now", "501 ");
	assert_int_equal(f->out.effect, SERVER_NO_DATA);
	say(f, "MAIL FROM:<a@b>", "503 ");
	assert_int_equal(f->out.effect, SERVER_REPLY);
	/* Whatever it is refused for. */
	say(f, "DATA \x01", "501 5.5.2 ");
	assert_int_equal(f->out.effect, SERVER_NO_DATA);
	server_on_bare_newline(&f->server, slice_str("data"), &f->out);
	assert_int_equal(f->out.effect, SERVER_NO_DATA);
	server_on_bare_newline(&f->server, slice_str("DATE"), &f->out);
	assert_int_equal(f->out.effect, SERVER_REPLY);
	/* They count as the others do. */
	for (int i = 5; i < SERVER_MAX_ERRORS - 1; i++)
		say(f, "DATA now", "501 ");
	say(f, "DATA now", "421 4.7.0 ");
	assert_int_equal(f->out.effect, SERVER_CLOSE);
}

static void test_commands_that_bring_no_mail(void **state)
{
	static const char *const idle[] = { "NOOP", "RSET", "VRFY x", "HELP",
		"EHLO x", "HELO x" };
	struct fixture *f = *state;

	for (int round = 0; round < 2; round++) {
		for (unsigned i = 0; i < SERVER_MAX_IDLE - 2; i++) {
			say(f, idle[i % ARRAY_LEN(idle)], "2");
			assert_int_equal(f->out.effect, SERVER_REPLY);
		}
		/* Neither does a transaction that comes to nothing. */
		say(f, "MAIL FROM:<a@b>", "250 ");
		say(f, "RSET", "250 ");
		say(f, "MAIL FROM:<a@b>", "250 ");
		say(f, "NOOP", "250 ");
		say(f, "RCPT TO:<c@d>", "250 ");
		say(f, "DATA", "354 ");
		if (round == 0)
			end_content(f, SERVER_CONTENT_OK, "ID");
		else
			end_content(f, SERVER_CONTENT_FAILED, NULL);
	}
	say(f, "NOOP",
	    "421 4.7.0 relay.example too many commands and no mail\r\n");
	assert_int_equal(f->out.effect, SERVER_CLOSE);
}

static void test_too_many_errors(void **state)
{
	struct fixture *f = *state;

	for (int i = 1; i < SERVER_MAX_ERRORS; i++)
		say(f, i % 2 ? "" : "BDAT 1", i % 2 ? "500 " : "502 ");
	/* One that succeeds, and the count starts again. */
	say(f, "NOOP", "250 ");
	for (int i = 1; i < SERVER_MAX_ERRORS; i++) {
		if (i % 3 == 0) {
			server_on_long_line(&f->server, &f->out);
			check_reply(&f->out);
			assert_memory_equal(f->out.reply, "500 5.5.2 ", 10);
		} else {
			say(f, "RCPT TO:<a@b>", "503 5.5.1 ");
		}
		assert_int_equal(f->out.effect, SERVER_REPLY);
	}
	say(f, "RCPT TO:<a@b>", "421 4.7.0 relay.example too many errors\r\n");
	assert_int_equal(f->out.effect, SERVER_CLOSE);
}

static void test_long_lines_count_as_errors(void **state)
{
	struct fixture *f = *state;

	for (int i = 1; i <= SERVER_MAX_ERRORS; i++) {
		server_on_long_line(&f->server, &f->out);
		check_reply(&f->out);
	}
	assert_int_equal(f->out.code, 421);
	assert_int_equal(f->out.effect, SERVER_CLOSE);
}

/* A list that is too long for one message is no reason to hang up. */
static void test_temporary_refusals_do_not_count(void **state)
{
	static const struct server_intake full = { ask_nobody, NULL };
	struct fixture *f = *state;

	say(f, "MAIL FROM:<a@b>", "250 ");
	for (int i = 0; i < 3; i++)
		say(f, "RCPT TO:<c@d>", "250 ");
	for (int i = 0; i < 5 * SERVER_MAX_ERRORS; i++)
		say(f, "RCPT TO:<c@d>", "452 4.5.3 ");
	assert_int_equal(f->server.n_rcpts, 3);
	say(f, "DATA", "354 ");
	end_content(f, SERVER_CONTENT_OK, "ID");
	for (int i = 0; i < 5 * SERVER_MAX_ERRORS; i++) {
		server_on_line(
		    &f->server, slice_str("MAIL FROM:<a@b>"), &full, &f->out);
		assert_int_equal(f->out.code, 452);
	}
}

static void test_longest_line(void **state)
{
	struct fixture *f = *state;
	char line[SERVER_LINE_MAX];

	memset(line, 'x', sizeof(line));
	memcpy(line, "NOOP ", 5);
	say_bytes(f, line, sizeof(line));
	assert_int_equal(f->out.code, 250);
	memcpy(line, "MAIL FROM:<", 11);
	say_bytes(f, line, sizeof(line));
	assert_int_equal(f->out.code, 501);
	memcpy(line, "FOO", 3);
	say_bytes(f, line, sizeof(line));
	assert_int_equal(f->out.code, 500);
}

static void test_arguments_where_none_belong(void **state)
{
	struct fixture *f = *state;

	go_to(f, SERVER_RCPT);
	say(f, "DATA now", "501 5.5.4 ");
	say(f, "RSET now", "501 5.5.4 ");
	say(f, "QUIT now", "501 5.5.4 ");
	say(f, "VRFY", "501 5.5.4 ");
	assert_int_equal(f->server.state, SERVER_RCPT);
	say(f, "NOOP anything", "250 ");
	say(f, "HELP mail", "214 ");
	say(f, "data \t", "354 ");
}

static void test_auth(void **state)
{
	struct fixture *f = *state;

	server_fini(&f->server);
	server_init(&f->server, &login);
	say(f, "AUTH PLAIN AGEAYg==", "502 5.5.1 ");
	f->server.local = true;
	say(f, "AUTH PLAIN AGEAYg==", "235 2.7.0 ");
	say(f, "auth plain", "334 \r\n");
	say(f, "AGEAYg==", "235 2.7.0 ");
	say(f, "AUTH LOGIN", "334 VXNlcm5hbWU6\r\n");
	say(f, "dXNlcg==", "334 UGFzc3dvcmQ6\r\n");
	say(f, "", "235 2.7.0 ");
	say(f, "AUTH LOGIN dXNlcg==", "334 UGFzc3dvcmQ6\r\n");
	say(f, "QUIT", "235 2.7.0 ");
	/* Cut short, at each step. */
	say(f, "AUTH PLAIN", "334 ");
	say(f, "*", "501 5.7.0 ");
	say(f, "NOOP", "250 ");
	say(f, "AUTH LOGIN", "334 ");
	say(f, "* ", "501 5.7.0 ");
	say(f, "NOOP", "250 ");
	say(f, "AUTH LOGIN", "334 ");
	say(f, "dXNlcg==", "334 ");
	say(f, "*", "501 5.7.0 ");
	say(f, "NOOP", "250 ");
	say(f, "AUTH LOGIN", "334 ");
	server_on_long_line(&f->server, &f->out);
	assert_int_equal(f->out.code, 500);
	say(f, "NOOP", "250 ");
	say(f, "AUTH", "504 5.5.4 ");
	say(f, "AUTH CRAM-MD5", "504 5.5.4 ");
	say(f, "MAIL FROM:<a@b>", "250 ");
	say(f, "AUTH PLAIN x", "503 5.5.1 ");
}

static void test_auth_is_not_echoed(void **state)
{
	struct fixture *f = *state;

	say(f, "AUTH PLAIN c2VjcmV0", "502 5.5.1 ");
	assert_null(strstr(f->out.reply, "c2VjcmV0"));
	say(f, "c2VjcmV0", "500 ");
	assert_null(strstr(f->out.reply, "c2VjcmV0"));
}

static void test_close(void **state)
{
	struct fixture *f = *state;

	server_on_close(&f->server, "4.4.2", "timeout\r\n", &f->out);
	check_reply(&f->out);
	assert_string_equal(
	    f->out.reply, "421 4.4.2 relay.example timeout??\r\n");
	assert_int_equal(f->out.effect, SERVER_CLOSE);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_every_cell),
		TEST(test_line_during_data_aborts),
		TEST(test_greeting_and_ehlo),
		TEST(test_helo_name),
		TEST(test_hello_drops_the_envelope),
		TEST(test_envelope),
		TEST(test_refused_mail_and_rcpt),
		TEST(test_default_domain_completes),
		TEST(test_rules_and_aliases_apply),
		TEST(test_lists_count_as_what_they_stand_for),
		TEST(test_no_recipient_twice_through_aliases),
		TEST(test_size_limit_of_zero_is_none),
		TEST(test_refusal_of_the_spool),
		TEST(test_refusal_by_size),
		TEST(test_content_replies),
		TEST(test_control_bytes),
		TEST(test_injection),
		TEST(test_foreign_talk_is_cut),
		TEST(test_foreign_talk_without_a_line_end),
		TEST(test_refused_data_is_told_from_other_refusals),
		TEST(test_commands_that_bring_no_mail),
		TEST(test_too_many_errors),
		TEST(test_long_lines_count_as_errors),
		TEST(test_temporary_refusals_do_not_count),
		TEST(test_longest_line),
		TEST(test_arguments_where_none_belong),
		TEST(test_auth),
		TEST(test_auth_is_not_echoed),
		TEST(test_close),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
