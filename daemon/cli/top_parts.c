/*
 * The parts of the screen of `top`: rates, queue, connections, errors.
 *
 * Pure; each takes no more lines than the page has for it.
 */
#include "cli/top_page.h"

#include "base/mem.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* --- rates --- */

static void put_graph(struct top_page *p, const char *name,
    enum top_style style, const double *ring, const char *figure)
{
	unsigned n = p->width > TOP_LABEL + 9 ? p->width - TOP_LABEL : 8;
	double *values = xcalloc(n, sizeof *values);
	double max = top_history_last(p->view->history, ring, n, values);
	char rate[CTL_BUF];

	for (unsigned row = 0; row < p->graph_rows; row++) {
		char *glyphs = top_graph_row(values, n, max > 0 ? max : 1, row,
		    p->graph_rows, p->view->utf8);
		struct top_line l;

		top_page_begin(p, &l);
		if (p->graph_rows == 1) {
			top_putf(&l, style, "%-4.4s %s", name, figure);
		} else if (row == 0) {
			top_put(&l, TOP_BOLD, name);
		} else if (row == 1) {
			top_putf(&l, style, "%s/s", figure);
		} else if (row == 2) {
			top_putf(
			    &l, TOP_DIM, "peak %s", ctl_format_rate(max, rate));
		}
		top_pad(&l, TOP_LABEL);
		top_put_glyphs(&l, style, glyphs, n);
		top_page_end(p, &l);
		free(glyphs);
	}
	free(values);
}

static void put_pace(struct top_page *p)
{
	json_t *upstream = json_object_get(p->view->now, "upstream");
	json_t *limit = json_object_get(upstream, "rate_limit");
	json_t *rate = json_object_get(p->view->now, "rate");
	const char *source = ctl_text(limit, "source");
	char a[CTL_BUF], b[CTL_BUF];
	struct top_line l;

	top_page_begin(p, &l);
	top_page_label(&l, "Last minute");
	top_putf(&l, TOP_PLAIN, "%s/s sent, %s/s accepted; ",
	    ctl_format_rate(ctl_real(rate, "sent_60s"), a),
	    ctl_format_rate(ctl_real(rate, "accepted_60s"), b));
	if (strcmp(source, "none") == 0)
		top_put(&l, TOP_PLAIN, "no limit known");
	else
		top_putf(&l, TOP_PLAIN, "at most %s/s, %s",
		    ctl_format_rate(
			ctl_real(limit, "recipients_per_second"), a),
		    strcmp(source, "learned") == 0 ? "learned from throttling"
						   : "by delivery.rate");
	top_page_end(p, &l);
}

void top_put_rates(struct top_page *p)
{
	json_t *rate = json_object_get(p->view->now, "rate");
	char figure[CTL_BUF];

	ctl_format_rate(ctl_real(rate, "sent_10s"), figure);
	put_graph(p, "Sent", TOP_SENT, p->view->history->sent, figure);
	ctl_format_rate(ctl_real(rate, "accepted_10s"), figure);
	put_graph(
	    p, "Accepted", TOP_ACCEPTED, p->view->history->accepted, figure);
	put_pace(p);
}

/* --- the queue --- */

static void put_part(struct top_line *l, enum top_style style, int64_t n,
    const char *what, bool first)
{
	top_put(l, TOP_PLAIN, first ? "" : ", ");
	top_putf(l, n > 0 ? style : TOP_PLAIN, "%" PRId64 " %s", n, what);
}

void top_put_queue(struct top_page *p)
{
	json_t *queue = json_object_get(p->view->now, "queue");
	json_t *spool = json_object_get(p->view->now, "spool");
	char bytes[CTL_BUF];
	struct top_line l;

	top_page_begin(p, &l);
	top_page_label(&l, "Queue");
	put_part(&l, TOP_BOLD, ctl_number(queue, "ready"), "ready", true);
	put_part(&l, TOP_BOLD, ctl_number(queue, "active"), "active", false);
	put_part(&l, TOP_BOLD, ctl_number(queue, "waiting"), "waiting", false);
	put_part(&l, TOP_BAD, ctl_number(queue, "held"), "held", false);
	put_part(
	    &l, TOP_BAD, ctl_number(spool, "failed"), "dead letters", false);
	top_putf(&l, TOP_PLAIN, "; %s",
	    ctl_format_bytes(ctl_number(queue, "bytes"), bytes));
	top_page_end(p, &l);
}

static const char *age_name(int64_t below_s, char buf[CTL_BUF])
{
	char age[CTL_BUF];

	if (below_s == 0)
		return "older";
	snprintf(buf, CTL_BUF, "< %s", ctl_format_seconds(below_s, age));
	return buf;
}

void top_put_ages(struct top_page *p)
{
	json_t *ages = json_object_get(p->view->now, "queue_ages"), *o;
	json_t *queue = json_object_get(p->view->now, "queue");
	char text[CTL_BUF];
	struct top_line l;
	size_t i;

	top_page_begin(p, &l);
	top_page_label(&l, "Age");
	json_array_foreach (ages, i, o)
		put_part(&l,
		    i + 1 == json_array_size(ages) ? TOP_BAD : TOP_BOLD,
		    ctl_number(o, "messages"),
		    age_name(ctl_number(o, "below_seconds"), text), i == 0);
	if (ctl_number(queue, "oldest_age_seconds") > 0)
		top_putf(&l, TOP_PLAIN, "; oldest %s",
		    ctl_format_seconds(
			ctl_number(queue, "oldest_age_seconds"), text));
	top_page_end(p, &l);
}

/* --- connections --- */

static void put_connection(struct top_page *p, json_t *c)
{
	const char *message = ctl_text(c, "message");
	const char *state = ctl_text(c, "state");
	bool idle = strcmp(state, "idle") == 0;
	char age[CTL_BUF];
	struct top_line l;

	top_page_begin(p, &l);
	top_putf(&l, TOP_PLAIN, "%4" PRId64 " ", ctl_number(c, "conn"));
	top_putf(&l, idle ? TOP_DIM : TOP_BOLD, "%-10s ", state);
	top_putf(&l, TOP_PLAIN, "%s:%" PRId64, ctl_text(c, "address"),
	    ctl_number(c, "port"));
	top_pad(&l, 38);
	top_putf(&l, TOP_DIM, " %4" PRId64 " msgs  %-9s ",
	    ctl_number(c, "messages_begun"),
	    ctl_format_seconds((int64_t)ctl_real(c, "age_seconds"), age));
	if (!idle)
		top_putf(&l, TOP_PLAIN, "%s for %.1f s%s%s",
		    ctl_text(c, "doing"), ctl_real(c, "step_seconds"),
		    message[0] != '\0' ? ", " : "", message);
	top_page_end(p, &l);
}

void top_put_connections(struct top_page *p)
{
	json_t *list = json_object_get(p->view->now, "connection_list"), *c;
	json_t *counts = json_object_get(p->view->now, "connections");
	json_t *upstream = json_object_get(p->view->now, "upstream");
	json_t *pool = json_object_get(upstream, "pool");
	size_t n = json_array_size(list), i;
	struct top_line l;

	top_page_begin(p, &l);
	top_page_label(&l, "Connections");
	top_putf(&l, TOP_PLAIN,
	    "%" PRId64 " busy, %" PRId64 " idle, %" PRId64
	    " connecting; at most %" PRId64 "; %" PRId64 " local sessions",
	    ctl_number(counts, "busy"), ctl_number(counts, "idle"),
	    ctl_number(counts, "connecting"), ctl_number(pool, "max"),
	    ctl_number(p->view->now, "sessions"));
	top_page_end(p, &l);
	json_array_foreach (list, i, c) {
		if (n > p->n_connections && i + 1 >= p->n_connections)
			break;
		put_connection(p, c);
	}
	if (i < n && p->n_connections > 0) {
		top_page_begin(p, &l);
		top_putf(&l, TOP_DIM, "     and %zu more", n - i);
		top_page_end(p, &l);
	}
}

/* --- errors --- */

void top_put_errors(struct top_page *p)
{
	json_t *errors = json_object_get(p->view->now, "errors"), *e;
	char time[CTL_BUF];
	struct top_line l;
	size_t i;

	if (json_array_size(errors) == 0) {
		top_page_begin(p, &l);
		top_page_label(&l, "Errors");
		top_put(&l, TOP_PLAIN, "none");
		top_page_end(p, &l);
	}
	json_array_foreach (errors, i, e) {
		const char *text = ctl_text(e, "text");

		if (i == p->n_errors)
			break;
		top_page_begin(p, &l);
		top_page_label(&l, i == 0 ? "Errors" : "");
		top_putf(&l, TOP_DIM, "%s ",
		    ctl_local_time(ctl_text(e, "time"), time));
		if (ctl_number(e, "times") > 1)
			top_putf(&l, TOP_BOLD, "%" PRId64 " times ",
			    ctl_number(e, "times"));
		top_put(&l, TOP_PLAIN, text);
		top_page_end(p, &l);
	}
}
