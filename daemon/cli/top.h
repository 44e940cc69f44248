/*
 * sesrelayctl top, in parts.
 *
 *   ctl_top.c      asks, waits, obeys keys and signals
 *   top_screen.c   the terminal: into its state and out of it, always; draws
 *                  what changed
 *   top_layout.c   what the daemon said, as lines of a screen; pure; with
 *                  top_parts.c
 *   top_line.c     one line, no wider than it may be; pure
 *   top_graph.c    rates of the last minutes, as a graph; pure
 */
#ifndef CLI_TOP_H
#define CLI_TOP_H

#include "cli/ctl.h"

/* --- top_line.c --- */

enum top_style {
	TOP_PLAIN,
	TOP_BOLD,
	TOP_DIM,
	TOP_GOOD,
	TOP_BAD,
	TOP_SENT, /* of the two graphs */
	TOP_ACCEPTED,
	TOP_TITLE,
};

/* A line that is being written; what does not fit any more is cut off. */
struct top_line {
	char *text; /* with its escape sequences; free(3) */
	size_t len, size;
	unsigned columns, width;
	bool color, utf8;
};

void top_line_begin(struct top_line *l, unsigned width, bool color, bool utf8);
/* Text of anybody: what is not printable ASCII is escaped. */
void top_put(struct top_line *l, enum top_style style, const char *text);
PRINTF(3, 4)
void top_putf(struct top_line *l, enum top_style style, const char *fmt, ...);
/* UTF-8 of ours, as wide as it says; not cut, but left out if it is too wide. */
void top_put_glyphs(struct top_line *l, enum top_style style,
    const char *glyphs, unsigned columns);
/* Blanks, so that the next byte stands in this column. */
void top_pad(struct top_line *l, unsigned column);

/* --- top_graph.c --- */

#define TOP_HISTORY 512

/* Rates by second; what was never told is < 0. */
struct top_history {
	int64_t second; /* the number of the last one; 0: there is none */
	double accepted[TOP_HISTORY], sent[TOP_HISTORY]; /* ring, by number */
};

void top_history_init(struct top_history *h);
/* The member "history" of the answer; older seconds stay as they are. */
void top_history_add(struct top_history *h, json_t *history);
/*
 * The last n seconds of `rates`, one of the two rings; out[n - 1] is of the last
 * one.  Returns the highest.
 */
double top_history_last(
    const struct top_history *h, const double *rates, unsigned n, double *out);
/*
 * Row `row` (0: the top one) of a graph of `rows`, with a column for each value
 * and `max` (> 0) at full height; free(3).
 */
char *top_graph_row(const double *values, unsigned n, double max, unsigned row,
    unsigned rows, bool utf8);

/* --- top_layout.c --- */

struct top_view {
	json_t *now; /* the last answer; NULL: there was none */
	const struct top_history *history;
	const char *trouble; /* why there is no newer answer; NULL: there is */
	const char *host, *clock; /* "mx1", "10:00:01" */
	int64_t delay_us;
	bool paused, help;
	bool color, utf8;
	bool plain; /* for a file or a pipe: no footer, nothing is filled up */
};

struct top_lines {
	char **items;
	unsigned n;
};

/* At most `height` lines, none wider than `width`. */
void top_layout(const struct top_view *view, unsigned width, unsigned height,
    struct top_lines *lines);
void top_lines_free(struct top_lines *lines);

/* --- top_screen.c --- */

struct top_screen;

/* NULL: it cannot be had. */
MUST_CHECK struct top_screen *top_screen_open(struct err *err);
/* The terminal is as it was; NULL is legal. */
void top_screen_close(struct top_screen *s);
void top_screen_size(unsigned *width, unsigned *height);
/* All lines are drawn anew the next time. */
void top_screen_forget(struct top_screen *s);
/* -1: the terminal is gone. */
MUST_CHECK int top_screen_draw(
    struct top_screen *s, const struct top_lines *lines);
/* Out of the screen, stop as Ctrl-Z does, and back into it. */
void top_screen_suspend(struct top_screen *s);
/* Into its state again, after somebody else had the terminal. */
void top_screen_resume(struct top_screen *s);

#endif
