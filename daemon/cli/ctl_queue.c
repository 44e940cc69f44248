/*
 * The table of `queue`, and `show`.
 *
 * The queue may be long: rows go out as they come, but the first ones are kept
 * until there are enough to know how wide a column has to be.  Content goes out
 * byte for byte; only on a terminal, which would obey it, it is made harmless.
 */
#include "cli/ctl.h"

#include "base/clock.h"
#include "base/mem.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

/* --- a row --- */

static const char *sender_of(json_t *message)
{
	const char *sender = ctl_text(message, "sender");

	return sender[0] != '\0' ? sender : "<>";
}

/* When it is tried again, in a few characters. */
static const char *next_attempt(json_t *message, char buf[CTL_BUF])
{
	const char *state = ctl_text(message, "state");
	int64_t time_us;

	if (strcmp(state, "active") == 0)
		return "now";
	if (strcmp(state, "ready") == 0)
		return "in turn"; /* which may take, while SES refuses us */
	if (ctl_parse_time(ctl_text(message, "next_attempt"), &time_us) != 0)
		return "-";
	return ctl_format_seconds((time_us - clock_wall_us()) / US_PER_S, buf);
}

/* The one that is shown: the first that still has to be sent. */
static const char *first_rcpt(json_t *rcpts)
{
	size_t i;
	json_t *rcpt;

	json_array_foreach (rcpts, i, rcpt)
		if (strcmp(ctl_text(rcpt, "state"), "pending") == 0)
			return ctl_text(rcpt, "address");
	return ctl_text(json_array_get(rcpts, 0), "address");
}

static void put_rcpts(json_t *message, const char *indent)
{
	const char *reply = ctl_text(message, "last_reply");
	size_t i;
	json_t *rcpt;

	json_array_foreach (json_object_get(message, "recipients"), i, rcpt) {
		const char *state = ctl_text(rcpt, "state");

		fputs(indent, stdout);
		ctl_put_padded(stdout, state, 8);
		ctl_put(stdout, ctl_text(rcpt, "address"));
		/* It is of the last attempt, so not of those settled. */
		if (reply[0] != '\0' && strcmp(state, "pending") == 0) {
			fputs(" (", stdout);
			ctl_put(stdout, reply);
			putchar(')');
		}
		putchar('\n');
	}
}

/* --- the table --- */

/* Rows that are looked at for the width of a column. */
#define KEEP_ROWS 500

struct table {
	bool list;
	json_t *kept; /* array; NULL: rows go out as they come */
	size_t sender_width;
	uint64_t n, bytes;
};

static void put_row(const struct table *t, json_t *m)
{
	json_t *rcpts = json_object_get(m, "recipients");
	char size[CTL_BUF], arrival[CTL_BUF], next[CTL_BUF];

	ctl_put_padded(stdout, ctl_text(m, "id"), 17);
	printf("%8s  ", ctl_format_bytes(ctl_number(m, "size"), size));
	ctl_put_padded(
	    stdout, ctl_local_time(ctl_text(m, "arrival"), arrival), 17);
	ctl_put_padded(stdout, ctl_text(m, "state"), 8);
	printf("%5" PRId64 "  ", ctl_number(m, "attempts"));
	ctl_put_padded(stdout, next_attempt(m, next), 13);
	if (ctl_text(m, "damaged")[0] != '\0') {
		fputs("cannot be read: ", stdout);
		ctl_put(stdout, ctl_text(m, "damaged"));
		putchar('\n');
		return;
	}
	ctl_put_padded(stdout, sender_of(m), t->sender_width);
	fputs("  ", stdout);
	ctl_put(stdout, first_rcpt(rcpts));
	if (json_array_size(rcpts) > 1)
		printf(" (+%zu)", json_array_size(rcpts) - 1);
	putchar('\n');
	if (t->list)
		put_rcpts(m, "    ");
}

static void put_kept(struct table *t)
{
	size_t i;
	json_t *m;

	if (t->kept == NULL)
		return;
	json_array_foreach (t->kept, i, m) {
		size_t width = ctl_width(sender_of(m));

		if (width > t->sender_width)
			t->sender_width = width;
	}
	if (t->n > 0)
		printf("%-17s%8s  %-17s%-8s%5s  %-13s%-*s  %s\n", "ID", "SIZE",
		    "ARRIVED", "STATE", "TRIES", "NEXT TRY",
		    (int)t->sender_width, "SENDER", "RECIPIENT");
	json_array_foreach (t->kept, i, m)
		put_row(t, m);
	json_decref(t->kept);
	t->kept = NULL;
}

static bool on_row(void *ctx, json_t *m)
{
	struct table *t = ctx;

	t->n++;
	t->bytes += (uint64_t)ctl_number(m, "size");
	if (t->kept == NULL) {
		put_row(t, m);
		return true;
	}
	json_array_append(t->kept, m);
	if (json_array_size(t->kept) == KEEP_ROWS)
		put_kept(t);
	return true;
}

int ctl_queue(struct ctl_client *c, const struct ctl_options *options)
{
	const char *state = options->n_args > 0 ? options->args[0] : NULL;
	struct table t = { .list = options->list, .sender_width = 6 };
	char *request = xasprintf(
	    "queue%s%s", state != NULL ? " " : "", state != NULL ? state : "");
	char bytes[CTL_BUF];
	int rc;

	t.kept = json_array();
	rc = ctl_request(c, request, on_row, &t);
	put_kept(&t);
	if (rc == EX_OK && ctl_n_objects(c) == 0 && !options->json)
		printf("no messages %s\n", state != NULL ? state : "queued");
	else if (t.n > 0 && rc != EX_UNAVAILABLE)
		printf("%" PRIu64 " message%s, %s\n", t.n, t.n == 1 ? "" : "s",
		    ctl_format_bytes((int64_t)t.bytes, bytes));
	free(request);
	return rc;
}

/* --- one message --- */

static void put_content_byte(const struct ctl_content *t, unsigned char c)
{
	char text[2] = { (char)c };

	if (!t->tty || c == '\n' || c == '\t')
		putchar(c);
	else if (c == '\0')
		fputs("\\x00", stdout);
	else if (c != '\r')
		ctl_put(stdout, text);
}

/* The header ends before the first empty line, which belongs to neither. */
static void put_header_byte(struct ctl_content *t, unsigned char c)
{
	bool shown = t->options->headers;

	if (t->line_start && c == '\r' && !t->cr) {
		t->cr = true;
		return;
	}
	if (t->line_start && c == '\n') {
		t->in_body = true;
		shown = shown && t->options->body;
	}
	if (shown && t->cr)
		put_content_byte(t, '\r');
	if (shown)
		put_content_byte(t, c);
	t->cr = false;
	t->line_start = c == '\n';
}

/* Byte XX travels as U+00XX; -1: there is another character. */
static int next_byte(const unsigned char *s, size_t len, size_t *i)
{
	unsigned char c = s[(*i)++];

	if (c < 0x80)
		return c;
	if ((c != 0xc2 && c != 0xc3) || *i == len)
		return -1;
	return (c & 0x03) << 6 | (s[(*i)++] & 0x3f);
}

void ctl_content_begin(struct ctl_content *t, const struct ctl_options *options)
{
	*t = (struct ctl_content){
		.options = options,
		.line_start = true,
		.tty = isatty(STDOUT_FILENO),
	};
}

bool ctl_content_put(struct ctl_content *t, json_t *text)
{
	const unsigned char *s = (const unsigned char *)json_string_value(text);
	size_t len = json_string_length(text), i = 0;

	while (i < len) {
		int c = next_byte(s, len, &i);

		if (c < 0) {
			ctl_error("the content came damaged over the socket");
			t->damaged = true;
			return false;
		}
		if (!t->in_body)
			put_header_byte(t, (unsigned char)c);
		else if (t->options->body)
			put_content_byte(t, (unsigned char)c);
		else
			return false; /* nothing more is wanted */
	}
	return true;
}

static void put_envelope(json_t *m)
{
	static const struct {
		const char *label, *key;
	} rows[] = {
		{ "Message-ID:", "message_id" },
		{ "Client:", "client" },
		{ "HELO:", "helo" },
		{ "Last reply:", "last_reply" },
	};
	char size[CTL_BUF], arrival[CTL_BUF], next[CTL_BUF];

	printf("Queue ID:     ");
	ctl_put(stdout, ctl_text(m, "id"));
	printf("\nState:        ");
	ctl_put(stdout, ctl_text(m, "state"));
	printf("\nAttempts:     %" PRId64 ", the next: ",
	    ctl_number(m, "attempts"));
	ctl_put(stdout, next_attempt(m, next));
	printf("\nArrived:      ");
	ctl_put(stdout, ctl_local_time(ctl_text(m, "arrival"), arrival));
	printf("\nSize:         %" PRId64 " bytes (%s)\nSender:       ",
	    ctl_number(m, "size"),
	    ctl_format_bytes(ctl_number(m, "size"), size));
	ctl_put(stdout, sender_of(m));
	putchar('\n');
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		if (ctl_text(m, rows[i].key)[0] != '\0')
			ctl_put_labelled(
			    rows[i].label, 14, ctl_text(m, rows[i].key));
	puts("Recipients:");
	put_rcpts(m, "    ");
}

static bool on_show(void *ctx, json_t *m)
{
	struct ctl_content *t = ctx;
	json_t *text = json_object_get(m, "content");

	if (text != NULL)
		return ctl_content_put(t, text);
	if (json_object_get(m, "error") != NULL) {
		ctl_error("%s cannot be read: %s", ctl_text(m, "id"),
		    ctl_text(m, "error"));
		return false;
	}
	if (t->options->envelope)
		put_envelope(m);
	if (t->options->envelope && (t->options->headers || t->options->body))
		putchar('\n');
	return true;
}

int ctl_show(struct ctl_client *c, const struct ctl_options *options)
{
	const char *id = options->args[0];
	struct ctl_content t;
	char *request;
	int rc;

	if (options->log)
		return ctl_stories(c, id);
	ctl_content_begin(&t, options);
	request = xasprintf("show %s%s", id,
	    options->headers || options->body ? " content" : "");
	rc = ctl_request(c, request, on_show, &t);
	free(request);
	return t.damaged ? EXIT_FAILURE : rc;
}
