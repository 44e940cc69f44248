/*
 * smtp/addr and smtp/command: what stands behind MAIL FROM: and RCPT TO:.
 *
 * Input: a byte of flags (1: a default domain, 2: RCPT, 4: behind HELO), then
 * one command line.  Properties: an address that is accepted is visible ASCII
 * and bounded; written as a command again it parses to the same, with nothing
 * left; parameters that are accepted do the same; the server keeps the very
 * address, and the client to SES puts it into one command of one line.
 */
#include "fuzz.h"

#include "base/mem.h"
#include "smtp/client.h"
#include "smtp/command.h"
#include "smtp/server.h"

#include <stdlib.h>
#include <string.h>

#define DOMAIN "example.net"

static void check_params(struct slice args)
{
	struct command_param params[COMMAND_MAX_PARAMS];
	struct command_param again[COMMAND_MAX_PARAMS];
	struct fuzz_text text = { 0 };
	int n = command_params(args, params), m;

	PROPERTY(n >= -1 && n <= COMMAND_MAX_PARAMS);
	for (int i = 0; i < n; i++) {
		const struct command_param *p = &params[i];

		PROPERTY(p->key.len > 0);
		PROPERTY(fuzz_is_printable(p->key.ptr, p->key.len));
		PROPERTY(memchr(p->key.ptr, ' ', p->key.len) == NULL);
		fuzz_text_add(&text, p->key.ptr, p->key.len);
		if (p->value.ptr != NULL) {
			PROPERTY(fuzz_is_printable(p->value.ptr, p->value.len));
			fuzz_text_add(&text, "=", 1);
			fuzz_text_add(&text, p->value.ptr, p->value.len);
		}
		fuzz_text_add(&text, " ", 1);
	}
	m = n < 0 ? n : command_params(slice_of(text.ptr, text.len), again);
	PROPERTY(m == n);
	for (int i = 0; i < n; i++) {
		PROPERTY(slice_eq(again[i].key, params[i].key));
		PROPERTY(slice_eq(again[i].value, params[i].value));
		PROPERTY((again[i].value.ptr == NULL) ==
		    (params[i].value.ptr == NULL));
	}
	fuzz_text_fini(&text);
}

static void reply_250(struct client *c, struct client_out *out)
{
	const struct reply ok = { .code = 250 };

	client_on_reply(c, &ok, out);
}

/* Through the client, as sender and as recipient. */
static void check_client(const char *address)
{
	static const struct client_options options = {
		.hostname = "relay.example.net",
		.wrapper = true,
	};
	const char *const rcpts[] = { *address != '\0' ? address : "a@b.c" };
	static struct verdict verdict;
	struct client_mail mail = { .sender = address,
		.rcpts = rcpts,
		.n_rcpts = 1,
		.rcpt_verdicts = &verdict };
	const struct reply greeting = { .code = 220 };
	struct client_out out;
	struct client c;
	char *want;

	client_init(&c, &options, &out);
	client_on_secured(&c, &out);
	client_on_reply(&c, &greeting, &out);
	reply_250(&c, &out);
	PROPERTY(out.ready);
	client_send(&c, &mail, &out);
	want = xasprintf("MAIL FROM:<%s>\r\n", address);
	PROPERTY(slice_eq_str(slice_of(out.command, out.command_len), want));
	free(want);
	reply_250(&c, &out);
	want = xasprintf("RCPT TO:<%s>\r\n", rcpts[0]);
	PROPERTY(slice_eq_str(slice_of(out.command, out.command_len), want));
	free(want);
}

/* What was accepted, sent on and read by the next one. */
static void check_again(const struct addr *a)
{
	char *line = xasprintf("MAIL FROM:<%s> SIZE=1", a->text);
	struct command command;
	struct addr again;

	command_parse(slice_str(line), &command);
	PROPERTY(command.verb == COMMAND_MAIL && command.args.ptr != NULL);
	PROPERTY(addr_parse_path(&command.args, true, NULL, &again) == ADDR_OK);
	PROPERTY(strcmp(again.text, a->text) == 0);
	PROPERTY(slice_eq_str(slice_trim(command.args), "SIZE=1"));
	free(line);
}

static void check_server(struct slice line, const char *domain)
{
	struct rewrite_rules rules = { .default_domain = domain };
	const struct server_options options = { .hostname = "relay",
		.max_message_size = 1000,
		.max_recipients = 2,
		.rewrite = &rules };
	struct server_out out;
	struct server s;

	if (line.len > SERVER_LINE_MAX)
		line.len = SERVER_LINE_MAX;
	server_init(&s, &options);
	server_on_line(&s, slice_str("EHLO x"), NULL, &out);
	server_on_line(&s, line, NULL, &out);
	PROPERTY(
	    (out.code == 250 && s.state == SERVER_MAIL) == (s.sender != NULL));
	if (s.sender != NULL) {
		struct addr sender;

		slice_copy(
		    slice_str(s.sender), sender.text, sizeof(sender.text));
		PROPERTY(strcmp(sender.text, s.sender) == 0);
		check_again(&sender);
		check_client(sender.text);
	}
	server_fini(&s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_in in = { data, size };
	uint8_t flags = fuzz_byte(&in);
	struct slice line = fuzz_bytes(&in, in.len);
	const char *domain = flags & 1 ? DOMAIN : NULL;
	struct command command;
	struct slice args;
	struct addr a;

	command_parse(line, &command);
	args = command.args;
	if ((command.verb != COMMAND_MAIL && command.verb != COMMAND_RCPT) ||
	    args.ptr == NULL)
		args = line;
	if (addr_parse_path(&args, !(flags & 2), domain, &a) == ADDR_OK) {
		size_t len = strlen(a.text);

		PROPERTY(len <= ADDR_MAX && fuzz_is_printable(a.text, len));
		PROPERTY(len > 0 || !(flags & 2));
		PROPERTY(len == 0 || strchr(a.text, '@') != NULL);
		check_again(&a);
		check_client(a.text);
	}
	check_params(args);
	check_server(line, domain);
	return 0;
}
