/*
 * Between top_layout.c (the page, its head and foot, who gets how many lines)
 * and top_parts.c (rates, queue, connections, errors).
 */
#ifndef CLI_TOP_PAGE_H
#define CLI_TOP_PAGE_H

#include "cli/top.h"

#define TOP_LABEL 13 /* columns before what a label is of */

struct top_page {
	const struct top_view *view;
	unsigned width, height;
	struct top_lines *lines;
	unsigned graph_rows, n_connections, n_errors;
	bool airy; /* empty lines between the parts */
};

void top_page_begin(const struct top_page *p, struct top_line *l);
/* The page takes its text; drops it when it is full. */
void top_page_end(struct top_page *p, struct top_line *l);
void top_page_label(struct top_line *l, const char *text);

void top_put_rates(struct top_page *p);
void top_put_queue(struct top_page *p);
void top_put_ages(struct top_page *p);
void top_put_connections(struct top_page *p);
void top_put_errors(struct top_page *p);

#endif
