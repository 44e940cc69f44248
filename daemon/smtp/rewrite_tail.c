/*
 * The rest of a header block that was too large to be kept: it passes as it
 * is, but for the fields that may never pass: X-SES-*, which could be hidden
 * behind a quarter of a megabyte of others, and Bcc, which may stand behind a
 * To as long.  A line that begins like one of them and turns out to be no field,
 * so that the header ends with it, goes as well: that shows only at its colon.
 *
 * Pure; holds at most the few bytes that tell whether a line is such a field.
 */
#include "smtp/rewrite_private.h"

#include <string.h>

static const char *const banned[] = { "X-SES-", "Bcc:", "Resent-Bcc:" };

/*
 * Could `held` become the name of a banned field?  Returns it; `is_all`: it
 * has become one.
 */
static const char *find_banned(
    const struct rewrite_header *h, const char *held, bool *is_all)
{
	for (size_t i = 0; i < ARRAY_LEN(banned); i++) {
		if (i == 0 && h->rules->keep_ses_headers)
			continue;
		*is_all = strlen(banned[i]) == strlen(held);
		if (slice_has_caseprefix(slice_str(banned[i]), held))
			return banned[i];
	}
	return NULL;
}

/* One byte at the start of a line; false: it has not been taken. */
static bool start_line(struct rewrite_header *h, struct rewrite_tail *t, char c)
{
	struct slice none = slice_of("", 0);
	const char *name;
	bool is_all = false;

	if (t->n_held == 0 && (c == ' ' || c == '\t')) {
		t->at_start = false;
		return false;
	}
	t->held[t->n_held] = c;
	t->held[t->n_held + 1] = '\0';
	name = c != '\0' ? find_banned(h, t->held, &is_all) : NULL;
	t->dropping = name != NULL && is_all;
	t->at_start = name != NULL && !is_all;
	if (t->at_start) {
		t->n_held++;
		return true;
	}
	if (t->dropping)
		rewrite_note(h, name, "removed", none, none);
	else
		rewrite_emit(h, slice_of(t->held, t->n_held));
	t->n_held = 0;
	return t->dropping;
}

void rewrite_tail_feed(struct rewrite_header *h, struct rewrite_tail *t,
    const char *in, size_t len)
{
	while (len > 0) {
		const char *lf;
		size_t n = len;

		if (t->at_start) {
			if (start_line(h, t, *in)) {
				header_scan_feed(&t->scan, in++, 1);
				len--;
				continue;
			}
		}
		lf = memchr(in, '\n', len);
		if (lf != NULL)
			n = (size_t)(lf - in) + 1;
		if (!t->dropping)
			rewrite_emit(h, slice_of(in, n));
		header_scan_feed(&t->scan, in, n);
		in += n;
		len -= n;
		t->at_start = lf != NULL;
		if (lf == NULL || !t->scan.done)
			continue;
		h->state = REWRITE_BODY;
		h->emit(h->ctx, in, len);
		return;
	}
}
