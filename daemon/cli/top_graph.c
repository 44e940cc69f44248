/*
 * Rates of the last minutes: kept by second, drawn as columns.
 *
 * Pure.  The daemon tells the last minute with every answer, so a look that was
 * late, or a pause, leaves no gap; and a daemon that was away leaves a true one.
 */
#include "cli/top.h"

#include "base/mem.h"

#include <math.h>
#include <string.h>

#define NOT_TOLD (-1.0)

void top_history_init(struct top_history *h)
{
	h->second = 0;
	for (unsigned i = 0; i < TOP_HISTORY; i++)
		h->accepted[i] = h->sent[i] = NOT_TOLD;
}

/* Seconds between the last one and `second` are not told yet. */
static void advance(struct top_history *h, int64_t second)
{
	if (h->second == 0 || second < h->second ||
	    second - h->second > TOP_HISTORY) {
		top_history_init(h);
		h->second = second;
		return;
	}
	while (h->second < second) {
		h->second++;
		h->accepted[h->second % TOP_HISTORY] = NOT_TOLD;
		h->sent[h->second % TOP_HISTORY] = NOT_TOLD;
	}
}

void top_history_add(struct top_history *h, json_t *history)
{
	json_t *accepted = json_object_get(history, "accepted");
	json_t *sent = json_object_get(history, "sent");
	int64_t second = ctl_number(history, "second");
	size_t n = json_array_size(sent);

	if (second <= TOP_HISTORY)
		second += TOP_HISTORY; /* a machine that has just started */
	if (n > TOP_HISTORY || json_array_size(accepted) != n)
		return;
	advance(h, second);
	for (size_t i = 0; i < n; i++) {
		size_t at =
		    (size_t)(second - (int64_t)(n - 1 - i)) % TOP_HISTORY;

		h->accepted[at] =
		    json_number_value(json_array_get(accepted, i));
		h->sent[at] = json_number_value(json_array_get(sent, i));
	}
}

double top_history_last(
    const struct top_history *h, const double *rates, unsigned n, double *out)
{
	double max = 0;

	for (unsigned i = 0; i < n; i++) {
		unsigned age = n - 1 - i;

		out[i] = age >= TOP_HISTORY || h->second == 0
		    ? NOT_TOLD
		    : rates[(size_t)(h->second - age) % TOP_HISTORY];
		if (out[i] > max)
			max = out[i];
	}
	return max;
}

/* Eighths of a cell; "_" to "#" where there is but ASCII. */
static const char *cell(unsigned eighths, bool utf8)
{
	static const char *const blocks[] = { " ", "\xe2\x96\x81",
		"\xe2\x96\x82", "\xe2\x96\x83", "\xe2\x96\x84", "\xe2\x96\x85",
		"\xe2\x96\x86", "\xe2\x96\x87", "\xe2\x96\x88" };
	static const char *const ascii[] = { " ", "_", "_", ".", ".", ":", ":",
		"|", "#" };

	return utf8 ? blocks[eighths] : ascii[eighths];
}

char *top_graph_row(const double *values, unsigned n, double max, unsigned row,
    unsigned rows, bool utf8)
{
	char *text = xmalloc(3 * (size_t)n + 1), *p = text;
	unsigned below = 8 * (rows - 1 - row); /* eighths, in lower rows */

	for (unsigned i = 0; i < n; i++) {
		double height = values[i] / max * 8 * rows;
		unsigned eighths = height <= 0 ? 0 : (unsigned)lrint(height);
		const char *glyph;

		/* What is not nothing is seen. */
		if (values[i] > 0 && eighths == 0)
			eighths = 1;
		eighths = eighths <= below ? 0
		    : eighths - below > 8  ? 8
					   : eighths - below;
		glyph = cell(eighths, utf8);
		memcpy(p, glyph, strlen(glyph));
		p += strlen(glyph);
	}
	*p = '\0';
	return text;
}
