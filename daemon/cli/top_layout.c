/*
 * What the daemon said, as the lines of a screen.
 *
 * Pure: an answer and a size go in, lines come out.  What matters most comes
 * first and has its line on any screen; a higher one gets higher graphs, more
 * connections and more errors.
 */
#include "cli/top_page.h"

#include "base/clock.h"
#include "base/mem.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define MAX_GRAPH_ROWS 8
#define HEADLINE_LINES 3

/* --- lines --- */

void top_page_begin(const struct top_page *p, struct top_line *l)
{
	top_line_begin(l, p->width, p->view->color, p->view->utf8);
}

void top_page_end(struct top_page *p, struct top_line *l)
{
	if (p->lines->n == p->height) {
		free(l->text);
		return;
	}
	p->lines->items[p->lines->n++] = l->text;
}

static void empty(struct top_page *p)
{
	struct top_line l;

	if (!p->airy)
		return;
	top_page_begin(p, &l);
	top_page_end(p, &l);
}

void top_page_label(struct top_line *l, const char *text)
{
	top_put(l, TOP_BOLD, text);
	top_pad(l, TOP_LABEL);
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
    struct top_page *p, enum top_style style, const char *text, unsigned max)
{
	for (unsigned i = 0; i < max && *text != '\0'; i++) {
		size_t n = i + 1 < max ? fitting(text, p->width) : strlen(text);
		char *part = xstrndup(text, n);
		struct top_line l;

		top_page_begin(p, &l);
		top_put(&l, style, part);
		top_page_end(p, &l);
		free(part);
		text += n;
		while (*text == ' ')
			text++;
	}
}

/* --- the head --- */

static void put_title(struct top_page *p)
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
	top_page_begin(p, &l);
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
	top_page_end(p, &l);
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

static void put_headline(struct top_page *p)
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

/* --- the whole --- */

static void put_help(struct top_page *p)
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

static void put_footer(struct top_page *p)
{
	struct top_line l;

	while (p->lines->n + 1 < p->height) {
		top_page_begin(p, &l);
		top_page_end(p, &l);
	}
	/* It has its place, whatever came before. */
	while (p->lines->n >= p->height)
		free(p->lines->items[--p->lines->n]);
	top_page_begin(p, &l);
	top_put(&l, TOP_DIM,
	    p->view->help ? "h back  q quit"
			  : "q quit  p pause  +/- interval  h help");
	top_page_end(p, &l);
}

/* Who gets the lines that are left when everything has its least. */
static void share_out(struct top_page *p)
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
	struct top_page p = { .view = view, .width = width, .height = height };

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
			top_put_rates(&p);
			empty(&p);
			top_put_queue(&p);
			top_put_ages(&p);
			empty(&p);
			top_put_connections(&p);
			empty(&p);
			top_put_errors(&p);
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
