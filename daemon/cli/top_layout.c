/*
 * What the daemon said, as the lines of a screen.
 *
 * Pure: an answer and a size go in, lines come out.  What matters most comes
 * first and has its line on any screen; a higher one gets higher graphs, more
 * connections and more errors.
 */
#include "cli/top.h"

#include "base/clock.h"
#include "base/mem.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define LABEL 13 /* columns before what a label is of */
#define MAX_GRAPH_ROWS 8
#define HEADLINE_LINES 3

struct page {
	const struct top_view *view;
	unsigned width, height;
	struct top_lines *lines;
	unsigned graph_rows, n_connections, n_errors;
	bool airy; /* empty lines between the parts */
};

/* --- lines --- */

static void begin(const struct page *p, struct top_line *l)
{
	top_line_begin(l, p->width, p->view->color, p->view->utf8);
}

static void end(struct page *p, struct top_line *l)
{
	if (p->lines->n == p->height) {
		free(l->text);
		return;
	}
	p->lines->items[p->lines->n++] = l->text;
}

static void empty(struct page *p)
{
	struct top_line l;

	if (!p->airy)
		return;
	begin(p, &l);
	end(p, &l);
}

static void label(struct top_line *l, const char *text)
{
	top_put(l, TOP_BOLD, text);
	top_pad(l, LABEL);
}

/* Bytes of `text` that go into one line, broken at a blank if there is one. */
static size_t fitting(const char *text, unsigned width)
{
	size_t n = 0, blank = 0;
	unsigned columns = 0;

	for (; text[n] != '\0'; n++) {
		char one[2] = { text[n], '\0' };

		columns += (unsigned)ctl_width(one);
		if (columns > width)
			return blank > 0 ? blank : (n > 0 ? n : 1);
		if (text[n] == ' ')
			blank = n;
	}
	return n;
}

/* Over at most `max` lines, the last of which is cut off. */
static void put_wrapped(
    struct page *p, enum top_style style, const char *text, unsigned max)
{
	for (unsigned i = 0; i < max && *text != '\0'; i++) {
		size_t n = i + 1 < max ? fitting(text, p->width) : strlen(text);
		char *part = xstrndup(text, n);
		struct top_line l;

		begin(p, &l);
		top_put(&l, style, part);
		end(p, &l);
		free(part);
		text += n;
		while (*text == ' ')
			text++;
	}
}

/* --- the head --- */

static void put_title(struct page *p)
{
	const struct top_view *v = p->view;
	char delay[CTL_BUF], up[CTL_BUF], *left, *right;
	struct top_line l;
	unsigned n;

	if (v->delay_us % US_PER_S == 0)
		ctl_format_seconds(v->delay_us / US_PER_S, delay);
	else
		snprintf(delay, sizeof delay, "%.1f s",
		    (double)v->delay_us / US_PER_S);
	left = v->now == NULL
	    ? xasprintf("sesrelayd on %s", v->host)
	    : xasprintf("sesrelayd %s on %s, up %s",
		  ctl_text(v->now, "version"), v->host,
		  ctl_format_seconds(ctl_number(v->now, "uptime_seconds"), up));
	right = v->paused ? xasprintf("PAUSED %s", v->clock)
	    : v->plain    ? xstrdup(v->clock)
			  : xasprintf("every %s  %s", delay, v->clock);
	n = (unsigned)strlen(right);
	begin(p, &l);
	if (n + 10 < p->width) {
		l.width = p->width - n - 1;
		top_put(&l, TOP_TITLE, left);
		while (l.columns < l.width)
			top_put(&l, TOP_TITLE, " ");
		l.width = p->width;
		top_put(&l, TOP_TITLE, " ");
		top_put(&l, TOP_TITLE, right);
	} else {
		top_put(&l, TOP_TITLE, v->clock);
	}
	end(p, &l);
	free(left);
	free(right);
}

static bool is_well(json_t *now)
{
	const char *state = ctl_text(json_object_get(now, "upstream"), "state");
	json_t *paused = json_object_get(now, "paused");

	return (strcmp(state, "ok") == 0 || strcmp(state, "throttled") == 0) &&
	    ctl_spool_trouble(json_object_get(now, "spool")) == NULL &&
	    !ctl_true(paused, "intake") && !ctl_true(paused, "draining");
}

static void put_headline(struct page *p)
{
	const struct top_view *v = p->view;
	unsigned max = p->height < 12 ? 1 : p->height < 16 ? 2 : HEADLINE_LINES;
	char *words;

	if (v->trouble != NULL) {
		words = xasprintf("NO ANSWER%s: %s",
		    v->now != NULL ? ", what follows is old" : "", v->trouble);
		put_wrapped(p, TOP_BAD, words, max);
	} else if (v->now != NULL) {
		char *said = ctl_headline(v->now);

		words = xasprintf("SES: %s", said);
		free(said);
		put_wrapped(
		    p, is_well(v->now) ? TOP_GOOD : TOP_BAD, words, max);
	} else {
		words = xstrdup("asking the daemon");
		put_wrapped(p, TOP_PLAIN, words, max);
	}
	free(words);
}

/* --- rates --- */

static void put_graph(struct page *p, const char *name, enum top_style style,
    const double *ring, const char *figure)
{
	unsigned n = p->width > LABEL + 9 ? p->width - LABEL : 8;
	double *values = xcalloc(n, sizeof *values);
	double max = top_history_last(p->view->history, ring, n, values);
	char rate[CTL_BUF];

	for (unsigned row = 0; row < p->graph_rows; row++) {
		char *glyphs = top_graph_row(values, n, max > 0 ? max : 1, row,
		    p->graph_rows, p->view->utf8);
		struct top_line l;

		begin(p, &l);
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
		top_pad(&l, LABEL);
		top_put_glyphs(&l, style, glyphs, n);
		end(p, &l);
		free(glyphs);
	}
	free(values);
}

static void put_pace(struct page *p)
{
	json_t *upstream = json_object_get(p->view->now, "upstream");
	json_t *limit = json_object_get(upstream, "rate_limit");
	json_t *rate = json_object_get(p->view->now, "rate");
	const char *source = ctl_text(limit, "source");
	char a[CTL_BUF], b[CTL_BUF];
	struct top_line l;

	begin(p, &l);
	label(&l, "Last minute");
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
	end(p, &l);
}

static void put_rates(struct page *p)
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

static void put_queue(struct page *p)
{
	json_t *queue = json_object_get(p->view->now, "queue");
	json_t *spool = json_object_get(p->view->now, "spool");
	char bytes[CTL_BUF];
	struct top_line l;

	begin(p, &l);
	label(&l, "Queue");
	put_part(&l, TOP_BOLD, ctl_number(queue, "ready"), "ready", true);
	put_part(&l, TOP_BOLD, ctl_number(queue, "active"), "active", false);
	put_part(&l, TOP_BOLD, ctl_number(queue, "waiting"), "waiting", false);
	put_part(&l, TOP_BAD, ctl_number(queue, "held"), "held", false);
	put_part(
	    &l, TOP_BAD, ctl_number(spool, "failed"), "dead letters", false);
	top_putf(&l, TOP_PLAIN, "; %s",
	    ctl_format_bytes(ctl_number(queue, "bytes"), bytes));
	end(p, &l);
}

static const char *age_name(int64_t below_s, char buf[CTL_BUF])
{
	char age[CTL_BUF];

	if (below_s == 0)
		return "older";
	snprintf(buf, CTL_BUF, "< %s", ctl_format_seconds(below_s, age));
	return buf;
}

static void put_ages(struct page *p)
{
	json_t *ages = json_object_get(p->view->now, "queue_ages"), *o;
	json_t *queue = json_object_get(p->view->now, "queue");
	char text[CTL_BUF];
	struct top_line l;
	size_t i;

	begin(p, &l);
	label(&l, "Age");
	json_array_foreach (ages, i, o)
		put_part(&l,
		    i + 1 == json_array_size(ages) ? TOP_BAD : TOP_BOLD,
		    ctl_number(o, "messages"),
		    age_name(ctl_number(o, "below_seconds"), text), i == 0);
	if (ctl_number(queue, "oldest_age_seconds") > 0)
		top_putf(&l, TOP_PLAIN, "; oldest %s",
		    ctl_format_seconds(
			ctl_number(queue, "oldest_age_seconds"), text));
	end(p, &l);
}

/* --- connections --- */

static void put_connection(struct page *p, json_t *c)
{
	const char *message = ctl_text(c, "message");
	const char *state = ctl_text(c, "state");
	bool idle = strcmp(state, "idle") == 0;
	char age[CTL_BUF];
	struct top_line l;

	begin(p, &l);
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
	end(p, &l);
}

static void put_connections(struct page *p)
{
	json_t *list = json_object_get(p->view->now, "connection_list"), *c;
	json_t *counts = json_object_get(p->view->now, "connections");
	json_t *upstream = json_object_get(p->view->now, "upstream");
	json_t *pool = json_object_get(upstream, "pool");
	size_t n = json_array_size(list), i;
	struct top_line l;

	begin(p, &l);
	label(&l, "Connections");
	top_putf(&l, TOP_PLAIN,
	    "%" PRId64 " busy, %" PRId64 " idle, %" PRId64
	    " connecting; at most %" PRId64 "; %" PRId64 " local sessions",
	    ctl_number(counts, "busy"), ctl_number(counts, "idle"),
	    ctl_number(counts, "connecting"), ctl_number(pool, "max"),
	    ctl_number(p->view->now, "sessions"));
	end(p, &l);
	json_array_foreach (list, i, c) {
		if (n > p->n_connections && i + 1 >= p->n_connections)
			break;
		put_connection(p, c);
	}
	if (i < n && p->n_connections > 0) {
		begin(p, &l);
		top_putf(&l, TOP_DIM, "     and %zu more", n - i);
		end(p, &l);
	}
}

/* --- errors --- */

static void put_errors(struct page *p)
{
	json_t *errors = json_object_get(p->view->now, "errors"), *e;
	char time[CTL_BUF];
	struct top_line l;
	size_t i;

	if (json_array_size(errors) == 0) {
		begin(p, &l);
		label(&l, "Errors");
		top_put(&l, TOP_PLAIN, "none");
		end(p, &l);
	}
	json_array_foreach (errors, i, e) {
		const char *text = ctl_text(e, "text");

		if (i == p->n_errors)
			break;
		begin(p, &l);
		label(&l, i == 0 ? "Errors" : "");
		top_putf(&l, TOP_DIM, "%s ",
		    ctl_local_time(ctl_text(e, "time"), time));
		if (ctl_number(e, "times") > 1)
			top_putf(&l, TOP_BOLD, "%" PRId64 " times ",
			    ctl_number(e, "times"));
		top_put(&l, TOP_PLAIN, text);
		end(p, &l);
	}
}

/* --- the whole --- */

static void put_help(struct page *p)
{
	static const char *const lines[] = {
		"q      quit",
		"p      pause: what is shown stays; again: go on",
		"blank  look at once",
		"+  -   look less often, more often",
		"h      this help",
		"^L     draw everything anew",
		"",
		"Sent and Accepted are recipients a second, a column a second,",
		"as \"sesrelayctl status\" tells them of the last 10 seconds.",
	};

	for (size_t i = 0; i < ARRAY_LEN(lines); i++)
		put_wrapped(p, TOP_PLAIN, lines[i][0] ? lines[i] : " ", 2);
}

static void put_footer(struct page *p)
{
	struct top_line l;

	while (p->lines->n + 1 < p->height) {
		begin(p, &l);
		end(p, &l);
	}
	/* It has its place, whatever came before. */
	while (p->lines->n >= p->height)
		free(p->lines->items[--p->lines->n]);
	begin(p, &l);
	top_put(&l, TOP_DIM,
	    p->view->help ? "h back  q quit"
			  : "q quit  p pause  +/- interval  h help");
	end(p, &l);
}

/* Who gets the lines that are left when everything has its least. */
static void share_out(struct page *p)
{
	json_t *now = p->view->now;
	unsigned n_connections =
	    (unsigned)json_array_size(json_object_get(now, "connection_list"));
	unsigned n_errors =
	    (unsigned)json_array_size(json_object_get(now, "errors"));
	/* Title, headline, graphs, pace, queue, age, connections, error,
	 * footer. */
	unsigned least = 1 + p->lines->n + 2 + 1 + 2 + 1 + 1;
	unsigned spare = p->height > least ? p->height - least : 0;
	unsigned share;

	p->graph_rows = 1;
	p->n_errors = 1;
	p->airy = spare >= 8;
	if (p->airy)
		spare -= 4;
	share = spare / 6 < MAX_GRAPH_ROWS - 1 ? spare / 6 : MAX_GRAPH_ROWS - 1;
	/* Two rows are no better than one. */
	if (spare >= 4 && share == 1)
		share = 2;
	p->graph_rows += share;
	spare -= 2 * share < spare ? 2 * share : spare;
	share = n_errors > 1 ? n_errors - 1 : 0;
	if (share > spare / 2 && n_connections > 0)
		share = spare / 2;
	if (share > spare)
		share = spare;
	p->n_errors += share;
	p->n_connections = spare - share;
}

void top_layout(const struct top_view *view, unsigned width, unsigned height,
    struct top_lines *lines)
{
	struct page p = { .view = view, .width = width, .height = height };

	p.lines = lines;
	lines->n = 0;
	lines->items = xcalloc(height + 1, sizeof *lines->items);
	put_title(&p);
	if (view->help) {
		put_help(&p);
	} else {
		put_headline(&p);
		share_out(&p);
		if (view->now != NULL) {
			empty(&p);
			put_rates(&p);
			empty(&p);
			put_queue(&p);
			put_ages(&p);
			empty(&p);
			put_connections(&p);
			empty(&p);
			put_errors(&p);
		}
	}
	if (!view->plain)
		put_footer(&p);
}

void top_lines_free(struct top_lines *lines)
{
	for (unsigned i = 0; i < lines->n; i++)
		free(lines->items[i]);
	free(lines->items);
	*lines = (struct top_lines){ 0 };
}
