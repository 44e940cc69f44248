/*
 * The table of `connections`: a row for each, and a line below it that says
 * what it does, where that is more than to be idle.  And `rotate`.
 */
#include "cli/ctl.h"

#include "base/mem.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

struct table {
	bool list; /* -l */
	unsigned n;
};

/* Seconds as people time a reply: "0.2 s", "12 s", "3 min 4 s". */
static const char *format_short(double seconds, char buf[CTL_BUF])
{
	if (seconds >= 10)
		return ctl_format_seconds((int64_t)seconds, buf);
	snprintf(buf, CTL_BUF, "%.1f s", seconds);
	return buf;
}

/* "192.0.2.1:587", "[2001:db8::1]:587" */
static char *address_of(json_t *connection)
{
	const char *ip = ctl_text(connection, "address");
	bool v6 = strchr(ip, ':') != NULL;

	if (ip[0] == '\0')
		return xstrdup("-");
	return xasprintf("%s%s%s:%" PRId64, v6 ? "[" : "", ip, v6 ? "]" : "",
	    ctl_number(connection, "port"));
}

static void put_below(const char *text)
{
	ctl_put_labelled("     ", 6, text);
}

static void put_doing(json_t *connection)
{
	const char *message = ctl_text(connection, "message");
	char time[CTL_BUF];
	char *text = xasprintf("%s%s%s for %s", ctl_text(connection, "doing"),
	    message[0] != '\0' ? " of " : "", message,
	    format_short(ctl_real(connection, "step_seconds"), time));

	put_below(text);
	free(text);
}

static void put_details(json_t *connection)
{
	const char *tls = ctl_text(connection, "tls");
	char time[CTL_BUF];
	char *text;

	text = xasprintf("%s; %" PRId64 " begun, %" PRId64 " delivered",
	    tls[0] != '\0' ? tls : "no TLS yet",
	    ctl_number(connection, "messages_begun"),
	    ctl_number(connection, "messages_delivered"));
	put_below(text);
	free(text);
	if (json_object_get(connection, "renewed_at_messages") == NULL)
		return;
	text = xasprintf("renewed at %" PRId64 " messages, or in %s",
	    ctl_number(connection, "renewed_at_messages"),
	    format_short(ctl_real(connection, "renewed_in_seconds"), time));
	put_below(text);
	free(text);
}

static void put_oddities(json_t *connection)
{
	const char *replaced = ctl_text(connection, "replaced");
	char *text;

	if (ctl_text(connection, "purpose")[0] != '\0')
		put_below(ctl_text(connection, "purpose"));
	if (replaced[0] != '\0') {
		text = xasprintf("BEING REPLACED: %s", replaced);
		put_below(text);
		free(text);
	}
	if (json_object_get(connection, "mss") != NULL) {
		text = xasprintf("SMALL SEGMENTS: at most %" PRId64 " bytes",
		    ctl_number(connection, "mss"));
		put_below(text);
		free(text);
	}
}

static bool put_row(void *ctx, json_t *connection)
{
	struct table *t = ctx;
	const char *state = ctl_text(connection, "state");
	bool idle = strcmp(state, "idle") == 0;
	char *address = address_of(connection);
	char age[CTL_BUF], since[CTL_BUF];

	if (t->n++ == 0)
		printf("%4s  %-10s  %-21s  %-8s  %4s  %-11s  %s\n", "CONN",
		    "STATE", "ADDRESS", "MODE", "MSGS", "AGE", "IDLE");
	printf("%4" PRId64 "  ", ctl_number(connection, "conn"));
	ctl_put_padded(stdout, state, 12);
	ctl_put_padded(stdout, address, 23);
	ctl_put_padded(stdout, ctl_text(connection, "mode"), 10);
	printf("%4" PRId64 "  %-11s  %s\n",
	    ctl_number(connection, "messages_begun"),
	    format_short(ctl_real(connection, "age_seconds"), age),
	    idle ? format_short(ctl_real(connection, "idle_seconds"), since)
		 : "-");
	if (!idle)
		put_doing(connection);
	if (t->list)
		put_details(connection);
	put_oddities(connection);
	free(address);
	return true;
}

static bool put_rotation(void *ctx, json_t *o)
{
	int64_t n = ctl_number(o, "connections"), left = ctl_number(o, "left");
	bool waited = json_object_get(o, "left") != NULL;

	(void)ctx;
	if (n == 0)
		puts("no connection is open: there is nothing to renew");
	else if (!waited)
		printf("%" PRId64 " connection%s being renewed; mail goes on "
		       "meanwhile\n",
		    n, n == 1 ? " is" : "s are");
	else
		printf("%" PRId64 " of %" PRId64 " connections renewed\n",
		    n - left, n);
	return true;
}

int ctl_rotate(struct ctl_client *c, const struct ctl_options *options)
{
	char *request;
	int rc;

	if (options->timeout_us >= 0)
		request = xasprintf(
		    "rotate wait %" PRId64, options->timeout_us / 1000);
	else
		request = xstrdup(options->wait ? "rotate wait" : "rotate");
	rc = ctl_request(c, request, put_rotation, NULL);
	free(request);
	return rc;
}

int ctl_connections(struct ctl_client *c, const struct ctl_options *options)
{
	struct table t = { .list = options->list };
	int rc = ctl_request(c, "connections", put_row, &t);

	if (rc == 0 && t.n == 0 && !options->json)
		puts("no connection to SES; one is opened as soon as there is "
		     "mail to send");
	return rc;
}
