/*
 * `rewrite-test`: what would become of a message, by the configuration as it
 * stands in the file; needs no daemon.
 *
 * The message goes the way of one that a program hands in: the same
 * conversation (smtp/server) hears MAIL and RCPT, the same rewriting sees the
 * header, so that refusals are in the words that the program would get.  Owns
 * what it reads; nothing is sent anywhere.
 */
#include "cli/ctl.h"

#include "base/clock.h"
#include "base/id.h"
#include "base/log.h"
#include "base/mem.h"
#include "rehearsal.h"
#include "smtp/header.h"

#include <errno.h>
#include <inttypes.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

struct rewrite_test {
	const struct ctl_options *options;
	const struct server_options *server_options;
	struct server server;
	struct rewrite_header *header;
	struct header_scan scan; /* of what comes out */
	uint64_t content_len;
	bool cr_seen, bare_cr, nul;
	bool in_header_part; /* its title is printed */
	unsigned n_refused; /* recipients and sender */
};

/* --- words and objects --- */

/* Header bytes need not be UTF-8, which JSON is. */
static json_t *json_of(struct slice s)
{
	json_t *text = json_stringn(s.len > 0 ? s.ptr : "", s.len);
	char *escaped;

	if (text != NULL)
		return text;
	escaped = xmalloc(4 * s.len + 1);
	log_escape(s.ptr, s.len, escaped, 4 * s.len + 1);
	text = json_string(escaped);
	free(escaped);
	return text;
}

static void put_object(json_t *o)
{
	json_dumpf(o, stdout, JSON_COMPACT | JSON_PRESERVE_ORDER);
	putchar('\n');
	json_decref(o);
}

/* A reply without its line end; free(3). */
static char *reply_text(const struct server_out *out)
{
	size_t len = out->reply_len;

	while (len > 0 && strchr("\r\n", out->reply[len - 1]))
		len--;
	return xstrndup(out->reply, len);
}

/* --- the envelope --- */

/* What one address of the envelope came to. */
static void put_address(struct rewrite_test *t, const char *kind,
    const char *before, char *const *after, unsigned n,
    const struct server_out *out)
{
	char *reply = out->code >= 400 ? reply_text(out) : NULL;
	json_t *o, *list;

	ASSERT(n == 0 || after != NULL);
	if (t->options->json) {
		o = json_pack("{s:s,s:o}", "part", kind, "before",
		    json_of(slice_str(before)));
		list = json_array();
		for (unsigned i = 0; i < n; i++)
			json_array_append_new(list, json_string(after[i]));
		json_object_set_new(o, "after", list);
		if (reply != NULL)
			json_object_set_new(o, "refused", json_string(reply));
		put_object(o);
	} else {
		printf("  %s ", strcmp(kind, "sender") == 0 ? "from" : "to  ");
		ctl_put(stdout, *before != '\0' ? before : "<>");
		if (reply != NULL) {
			fputs(": refused: ", stdout);
			ctl_put(stdout, reply);
		} else if (n != 1 || strcmp(after[0], before) != 0) {
			fputs(" ->", stdout);
			for (unsigned i = 0; i < n; i++) {
				fputs(i > 0 ? ", " : " ", stdout);
				ctl_put(stdout, after[i]);
			}
		}
		putchar('\n');
	}
	free(reply);
}

static void say(
    struct rewrite_test *t, const char *command, struct server_out *out)
{
	server_on_line(&t->server, slice_str(command), NULL, out);
	t->n_refused += out->code >= 400;
}

/* Without --from: whoever asks, as a program of his would have it. */
static const char *default_sender(void)
{
	const struct passwd *pw = getpwuid(getuid());

	return pw != NULL ? pw->pw_name : "root";
}

static void try_rcpt(struct rewrite_test *t, const char *rcpt)
{
	unsigned before = t->server.n_rcpts, n;
	struct server_out out;
	char *command, **after;

	/* So that all of them are looked at. */
	if (t->server.state == SERVER_GREETED)
		t->server.state = SERVER_MAIL;
	command = xasprintf("RCPT TO:<%s>", rcpt);
	say(t, command, &out);
	free(command);
	n = t->server.n_rcpts - before;
	after = xcalloc((size_t)n + 1, sizeof(*after));
	for (unsigned i = 0; i < n; i++)
		after[i] = t->server.rcpts[before + i].addr;
	put_address(t, "recipient", rcpt, after, n, &out);
	free(after);
}

static void try_envelope(struct rewrite_test *t)
{
	const struct ctl_options *o = t->options;
	const char *from = o->from != NULL ? o->from : default_sender();
	struct server_out out;
	char *command;

	if (!o->json)
		puts("Envelope:");
	command = xasprintf("MAIL FROM:<%s>", from);
	say(t, command, &out);
	free(command);
	put_address(t, "sender", from, &t->server.sender,
	    t->server.sender != NULL, &out);
	for (unsigned i = 0; i < o->n_to; i++)
		try_rcpt(t, o->to[i]);
}

/* --- the header --- */

static void emit(void *ctx, const char *ptr, size_t len)
{
	struct rewrite_test *t = ctx;

	if (!t->scan.done)
		header_scan_feed(&t->scan, ptr, len);
}

/* A field as it stands, each line behind `mark`. */
static void put_field(const char *mark, struct slice field)
{
	while (field.len > 0) {
		struct slice line = slice_split(&field, '\n');
		char *text;

		if (line.len > 0 && line.ptr[line.len - 1] == '\r')
			line.len--;
		text = slice_dup(line);
		fputs(mark, stdout);
		ctl_put(stdout, text);
		putchar('\n');
		free(text);
	}
}

static void put_title(struct rewrite_test *t)
{
	if (!t->in_header_part && !t->options->json)
		puts("Header:");
	t->in_header_part = true;
}

static void note(void *ctx, const struct rewrite_change *change)
{
	struct rewrite_test *t = ctx;

	put_title(t);
	if (t->options->json) {
		put_object(json_pack("{s:s,s:o,s:s,s:o,s:o}", "part", "header",
		    "field", json_of(slice_str(change->field)), "change",
		    change->what, "before", json_of(change->before), "after",
		    json_of(change->after)));
		return;
	}
	fputs("  ", stdout);
	ctl_put(stdout, change->field);
	printf("%s%s\n", change->field[0] != '\0' ? ": " : "", change->what);
	if (rewrite_change_is_remark(change)) {
		put_field("    ", change->after);
		return;
	}
	put_field("    - ", change->before);
	put_field("    + ", change->after);
}

/* Lines of a file end in LF; a message's in CRLF. */
static void feed(struct rewrite_test *t, const char *in, size_t len)
{
	char out[2 * BUFSIZ];
	size_t n = 0;

	for (size_t i = 0; i < len; i++) {
		char c = in[i];

		if (n + 2 > sizeof out) {
			rewrite_header_feed(t->header, out, n);
			n = 0;
		}
		if (c == '\n' && !t->cr_seen) {
			out[n++] = '\r';
			t->content_len++;
		} else if (c != '\n' && t->cr_seen) {
			t->bare_cr = true;
		}
		t->nul |= c == '\0';
		t->cr_seen = c == '\r';
		out[n++] = c;
		t->content_len++;
	}
	rewrite_header_feed(t->header, out, n);
}

/* -1: it cannot be read, which is told. */
static int feed_file(struct rewrite_test *t, const char *path)
{
	FILE *f = strcmp(path, "-") == 0 ? stdin : fopen(path, "r");
	char buf[BUFSIZ];
	size_t n;
	int rc = -1;

	if (f == NULL) {
		ctl_error("%s: %s", path, strerror(errno));
		return -1;
	}
	while ((n = fread(buf, 1, sizeof buf, f)) > 0)
		feed(t, buf, n);
	if (ferror(f))
		ctl_error("%s: %s", path, strerror(errno));
	else
		rc = 0;
	rewrite_header_end(t->header);
	if (f != stdin)
		fclose(f);
	return rc;
}

/* --- the verdict --- */

static enum server_content judge(const struct rewrite_test *t)
{
	if (t->content_len > t->server_options->max_message_size)
		return SERVER_CONTENT_TOO_BIG;
	if (rewrite_header_refusal(t->header) != NULL)
		return SERVER_CONTENT_HEADER;
	if (t->nul)
		return SERVER_CONTENT_NUL;
	if (t->bare_cr)
		return SERVER_CONTENT_BARE_CR;
	if (t->scan.n_received > SERVER_MAX_HOPS)
		return SERVER_CONTENT_LOOP;
	return SERVER_CONTENT_OK;
}

static void put_verdict(
    struct rewrite_test *t, bool accepted, const char *reply)
{
	bool broke = rewrite_header_broke_signature(t->header);

	if (t->options->json) {
		json_t *o = json_pack("{s:s,s:b,s:s,s:b}", "part", "verdict",
		    "accepted", accepted, "message_id", t->scan.message_id,
		    "signature_broken", broke);

		if (reply != NULL)
			json_object_set_new(o, "refused", json_string(reply));
		put_object(o);
		return;
	}
	if (broke)
		puts("Signature: the message has a DKIM-Signature, which this "
		     "may break");
	if (accepted) {
		puts("Accepted.");
		return;
	}
	fputs("Refused: ", stdout);
	ctl_put(stdout, reply != NULL ? reply : "see the envelope above");
	putchar('\n');
}

/* True: the message would be accepted. */
static bool conclude(struct rewrite_test *t)
{
	const struct rewrite_refusal *why = rewrite_header_refusal(t->header);
	enum server_content what = judge(t);
	struct server_out out;
	char *detail = NULL, *reply = NULL;

	if (what == SERVER_CONTENT_TOO_BIG)
		detail = xasprintf("smtp.max_message_size is %" PRIu64,
		    t->server_options->max_message_size);
	else if (why != NULL)
		detail = xasprintf("%s %s", why->status, why->text);
	if (what != SERVER_CONTENT_OK) {
		t->server.state = SERVER_DATA;
		server_on_content(&t->server, what, detail, &out);
		reply = reply_text(&out);
	} else if (!t->in_header_part && !t->options->json) {
		puts("Header:\n  stays as it is");
	}
	put_verdict(t, reply == NULL && t->n_refused == 0, reply);
	free(detail);
	free(reply);
	return what == SERVER_CONTENT_OK && t->n_refused == 0;
}

/* --- the whole --- */

static int run(struct rewrite_test *t)
{
	char date[40], id[ID_BUF];
	struct rewrite_context context = { .date = date };
	int rc;

	try_envelope(t);
	clock_format_rfc5322(clock_wall_us(), date, sizeof date);
	context.id = id_format(id_new(clock_wall_us()), id);
	context.sender = t->server.sender != NULL ? t->server.sender : "";
	header_scan_init(&t->scan);
	t->header = rewrite_header_new(
	    t->server_options->rewrite, &context, emit, note, t);
	rc = feed_file(t, t->options->args[0]);
	if (rc == 0)
		rc = conclude(t) ? EX_OK : EXIT_FAILURE;
	else
		rc = EX_NOINPUT;
	rewrite_header_free(t->header);
	return rc;
}

int ctl_rewrite_test(
    struct ctl_client *client, const struct ctl_options *options)
{
	struct rewrite_test t = { .options = options };
	struct rehearsal *rehearsal;
	char *message = NULL;
	int rc;

	(void)client;
	rehearsal = rehearsal_load(options->file, &message);
	if (rehearsal == NULL) {
		ctl_error_lines(message);
		free(message);
		return EX_CONFIG;
	}
	t.server_options = rehearsal_options(rehearsal);
	server_init(&t.server, t.server_options);
	rc = run(&t);
	server_fini(&t.server);
	rehearsal_free(rehearsal);
	return rc;
}
