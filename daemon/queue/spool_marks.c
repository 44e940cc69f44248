/*
 * Counting the crashes that messages caused: the lines of SPOOL/crashed.
 *
 * Pure but for memory; whoever owns a struct spool_marks runs it.  Hardly ever
 * is there any mark at all, so the table is a sorted array.
 */
#include "queue/spool_marks.h"

#include "base/id.h"
#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

/* "ID " and the longest word and LF. */
#define LINE_MAX_LEN (ID_LEN + 16)
/* Enough to judge by, and bounds the file made anew. */
#define COUNT_MAX 100

static const char *const words[CRASH_N_WORKS] = {
	[CRASH_NONE] = "worked on",
	[CRASH_SCAN] = "read at the start",
	[CRASH_LOAD] = "loaded",
	[CRASH_SEND] = "sent",
	[CRASH_SETTLE] = "settled",
	[CRASH_BURY] = "made a dead letter",
	[CRASH_COPY] = "copied by compaction",
};

void marks_fini(struct spool_marks *marks)
{
	free(marks->items);
	*marks = (struct spool_marks){ 0 };
}

/* Where the id is, or would be. */
static size_t place(const struct spool_marks *marks, uint64_t id)
{
	size_t low = 0, high = marks->n;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (marks->items[middle].id < id)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

struct spool_mark *marks_find(const struct spool_marks *marks, uint64_t id)
{
	size_t i = place(marks, id);

	return i < marks->n && marks->items[i].id == id ? &marks->items[i]
							: NULL;
}

static void add(struct spool_marks *marks, uint64_t id, enum crash_work work)
{
	size_t i = place(marks, id);
	struct spool_mark *mark = marks_find(marks, id);

	if (mark == NULL) {
		marks->items = xrealloc(
		    marks->items, (marks->n + 1) * sizeof(marks->items[0]));
		mark = &marks->items[i];
		memmove(mark + 1, mark, (marks->n - i) * sizeof(*mark));
		*mark = (struct spool_mark){ .id = id };
		marks->n++;
	}
	if (mark->n[work] < COUNT_MAX)
		mark->n[work]++;
}

void marks_parse(struct spool_marks *marks, struct slice text)
{
	while (text.len > 0) {
		struct slice word = slice_split(&text, '\n');
		struct slice name = slice_split(&word, ' ');
		uint64_t id;

		if (id_parse(name, &id) < 0 || id == 0)
			continue;
		for (int i = CRASH_SCAN; i < CRASH_N_WORKS; i++)
			if (slice_eq_str(
				word, crash_work_name((enum crash_work)i)))
				add(marks, id, (enum crash_work)i);
	}
}

void marks_copy(struct spool_marks *to, const struct spool_marks *from)
{
	*to = *from;
	if (from->n > 0)
		to->items =
		    xmemdup(from->items, from->n * sizeof(from->items[0]));
}

void marks_remove(struct spool_marks *marks, uint64_t id)
{
	size_t i = place(marks, id);

	ASSERT(i < marks->n && marks->items[i].id == id);
	marks->n--;
	memmove(&marks->items[i], &marks->items[i + 1],
	    (marks->n - i) * sizeof(marks->items[0]));
}

unsigned mark_total(const struct spool_mark *mark)
{
	unsigned n = 0;

	for (int i = 0; i < CRASH_N_WORKS; i++)
		n += mark->n[i];
	return n;
}

const char *mark_words(const struct spool_mark *mark)
{
	int most = 0;

	for (int i = 0; i < CRASH_N_WORKS; i++)
		if (mark->n[i] > mark->n[most])
			most = i;
	return words[most];
}

char *marks_format(const struct spool_marks *marks, size_t *len)
{
	size_t n_lines = 0;
	char *text, *p;

	for (size_t i = 0; i < marks->n; i++)
		n_lines += mark_total(&marks->items[i]);
	text = p = xmalloc(n_lines * LINE_MAX_LEN + 1);
	for (size_t i = 0; i < marks->n; i++)
		for (int work = 0; work < CRASH_N_WORKS; work++)
			for (unsigned k = 0; k < marks->items[i].n[work]; k++) {
				id_format(marks->items[i].id, p);
				p += ID_LEN;
				*p++ = ' ';
				p = stpcpy(
				    p, crash_work_name((enum crash_work)work));
				*p++ = '\n';
			}
	*len = (size_t)(p - text);
	return text;
}
