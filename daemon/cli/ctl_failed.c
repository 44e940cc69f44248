/*
 * Dead letters: the list, one of them, and the way back into the queue.
 */
#include "cli/ctl.h"

#include "base/mem.h"

#include <inttypes.h>
#include <stdlib.h>

static const char *sender_of(json_t *letter)
{
	const char *sender = ctl_text(letter, "sender");

	return sender[0] != '\0' ? sender : "<>";
}

static bool put_damaged(json_t *letter)
{
	if (json_object_get(letter, "error") == NULL)
		return false;
	ctl_error(
	    "%s: %s", ctl_text(letter, "file"), ctl_text(letter, "error"));
	return true;
}

static bool put_row(void *ctx, json_t *letter)
{
	json_t *rcpts = json_object_get(letter, "recipients");
	char size[CTL_BUF], date[CTL_BUF];
	uint64_t *n = ctx;

	if (put_damaged(letter))
		return true;
	if ((*n)++ == 0)
		printf("%-18s%8s  %-17s%s\n", "ID", "SIZE", "GIVEN UP",
		    "SENDER, RECIPIENT, REASON");
	ctl_put_padded(stdout, ctl_text(letter, "id"), 18);
	printf("%8s  ", ctl_format_bytes(ctl_number(letter, "size"), size));
	ctl_put_padded(
	    stdout, ctl_local_time(ctl_text(letter, "time"), date), 17);
	ctl_put(stdout, sender_of(letter));
	fputs(" -> ", stdout);
	ctl_put(stdout, ctl_string(json_array_get(rcpts, 0)));
	if (json_array_size(rcpts) > 1)
		printf(" (+%zu)", json_array_size(rcpts) - 1);
	fputs("\n                  (", stdout);
	ctl_put(stdout, ctl_text(letter, "reason"));
	puts(")");
	return true;
}

static void put_envelope(json_t *letter)
{
	char size[CTL_BUF], date[CTL_BUF];
	json_t *rcpt;
	size_t i;

	printf("Queue ID:     ");
	ctl_put(stdout, ctl_text(letter, "id"));
	printf("\nFile:         failed/");
	ctl_put(stdout, ctl_text(letter, "file"));
	printf("\nArrived:      ");
	ctl_put(stdout, ctl_local_time(ctl_text(letter, "arrival"), date));
	printf("\nGiven up:     ");
	ctl_put(stdout, ctl_local_time(ctl_text(letter, "time"), date));
	printf("\nSize:         %" PRId64 " bytes (%s)\nSender:       ",
	    ctl_number(letter, "size"),
	    ctl_format_bytes(ctl_number(letter, "size"), size));
	ctl_put(stdout, sender_of(letter));
	putchar('\n');
	if (ctl_text(letter, "message_id")[0] != '\0')
		ctl_put_labelled(
		    "Message-ID:", 14, ctl_text(letter, "message_id"));
	ctl_put_labelled("Reason:", 14, ctl_text(letter, "reason"));
	if (ctl_text(letter, "last_reply")[0] != '\0')
		ctl_put_labelled(
		    "Last reply:", 14, ctl_text(letter, "last_reply"));
	puts("Recipients:");
	json_array_foreach (json_object_get(letter, "recipients"), i, rcpt) {
		fputs("    ", stdout);
		ctl_put(stdout, ctl_string(rcpt));
		putchar('\n');
	}
}

static bool put_letter(void *ctx, json_t *letter)
{
	struct ctl_content *t = ctx;
	const struct ctl_options *o = t->options;
	json_t *text = json_object_get(letter, "content");

	if (text != NULL) {
		/* false would end it before the next letter of that id. */
		(void)ctl_content_put(t, text);
		return !t->damaged;
	}
	ctl_content_begin(t, o);
	if (put_damaged(letter))
		return true;
	if (o->envelope)
		put_envelope(letter);
	if (o->envelope && (o->headers || o->body))
		putchar('\n');
	return true;
}

int ctl_failed(struct ctl_client *c, const struct ctl_options *options)
{
	struct ctl_content t;
	uint64_t n = 0;
	char *request;
	int rc;

	if (options->n_args == 0) {
		rc = ctl_request(c, "failed", put_row, &n);
		if (rc == 0 && ctl_n_objects(c) == 0 && !options->json)
			puts("no dead letters");
		return rc;
	}
	ctl_content_begin(&t, options);
	request = xasprintf("failed %s%s", options->args[0],
	    options->headers || options->body ? " content" : "");
	rc = ctl_request(c, request, put_letter, &t);
	free(request);
	return t.damaged ? EXIT_FAILURE : rc;
}

static bool put_requeued(void *ctx, json_t *o)
{
	const char *error = ctl_text(o, "error"), *file = ctl_text(o, "file");

	(void)ctx;
	if (error[0] != '\0') {
		ctl_error("%s: %s", file[0] != '\0' ? file : ctl_text(o, "id"),
		    error);
		return true;
	}
	ctl_put(stdout, ctl_text(o, "id"));
	fputs(" -> ", stdout);
	ctl_put(stdout, ctl_text(o, "new_id"));
	putchar('\n');
	return true;
}

int ctl_requeue(struct ctl_client *c, const struct ctl_options *options)
{
	int rc = ctl_request_ids(c, options, "requeue", put_requeued, NULL);

	if (rc == 0 && options->all && ctl_n_objects(c) == 0 && !options->json)
		puts("no dead letters");
	return rc;
}
