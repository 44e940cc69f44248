/*
 * Stories of messages: one line an event, in the order of time.
 */
#include "cli/ctl.h"

#include "base/mem.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define INDENT 33

struct stories {
	char id[CTL_BUF]; /* of the story that is being told */
};

/* The parts of an event that are there, with ", " between. */
struct sentence {
	char *text;
};

PRINTF(2, 3) static void add(struct sentence *s, const char *fmt, ...)
{
	char *part, *all;
	va_list args;

	va_start(args, fmt);
	if (vasprintf(&part, fmt, args) < 0)
		fatal("out of memory");
	va_end(args);
	all = s->text == NULL ? xstrdup(part)
			      : xasprintf("%s, %s", s->text, part);
	free(part);
	free(s->text);
	s->text = all;
}

static void add_member(
    struct sentence *s, json_t *event, const char *key, const char *label)
{
	if (ctl_text(event, key)[0] != '\0')
		add(s, "%s%s", label, ctl_text(event, key));
}

/* Addresses, or positions where the envelope is gone. */
static void add_rcpts(struct sentence *s, json_t *event)
{
	json_t *rcpts = json_object_get(event, "recipients"), *rcpt;
	size_t i;

	if (rcpts == NULL)
		return;
	if (json_array_size(rcpts) == 0)
		add(s, "to all recipients");
	json_array_foreach (rcpts, i, rcpt) {
		if (json_is_string(rcpt))
			add(s, "to=<%s>", json_string_value(rcpt));
		else
			add(s, "to recipient %" JSON_INTEGER_FORMAT,
			    json_integer_value(rcpt));
	}
}

static char *describe(json_t *event)
{
	struct sentence s = { NULL };
	char size[CTL_BUF];

	if (json_object_get(event, "sender") != NULL)
		add(&s, "from=<%s>", ctl_text(event, "sender"));
	add_rcpts(&s, event);
	if (json_object_get(event, "size") != NULL)
		add(&s, "%s",
		    ctl_format_bytes(ctl_number(event, "size"), size));
	add_member(&s, event, "client", "client=");
	if (strcmp(ctl_text(event, "event"), "accepted") == 0)
		add_member(&s, event, "message_id", "message-id ");
	add_member(&s, event, "state", "");
	add_member(&s, event, "file", "failed/");
	add_member(&s, event, "damaged", "damaged: ");
	if (ctl_number(event, "attempts") > 0)
		add(&s, "attempts: %" PRId64, ctl_number(event, "attempts"));
	add_member(&s, event, "reply", "");
	add_member(&s, event, "last_reply", "");
	return s.text != NULL ? s.text : xstrdup("");
}

static bool put_event(void *ctx, json_t *event)
{
	struct stories *stories = ctx;
	const char *id = ctl_text(event, "id");
	char date[CTL_BUF], *text;
	char *label;

	if (strcmp(id, stories->id) != 0) {
		if (stories->id[0] != '\0')
			putchar('\n');
		snprintf(stories->id, sizeof stories->id, "%s", id);
		ctl_put(stdout, id);
		putchar('\n');
	}
	label = xasprintf("  %-17s%s",
	    ctl_local_time(ctl_text(event, "time"), date),
	    ctl_text(event, "event"));
	text = describe(event);
	ctl_put_labelled(label, INDENT, text);
	free(text);
	free(label);
	return true;
}

int ctl_stories(struct ctl_client *c, const char *text)
{
	struct stories stories = { "" };
	char *request = xasprintf("trace %s", text);
	int rc = ctl_request(c, request, put_event, &stories);

	free(request);
	return rc;
}

int ctl_trace(struct ctl_client *c, const struct ctl_options *options)
{
	return ctl_stories(c, options->args[0]);
}
