/*
 * The reference of the dot: see its header.  Pure.
 */
#include "reference.h"

#include <string.h>

static bool at(struct slice in, size_t i, const char *text)
{
	size_t n = strlen(text);

	return in.len - i >= n && memcmp(in.ptr + i, text, n) == 0;
}

/* A dot that stands at the start of a line; returns how much it was. */
static size_t read_dot(
    struct slice in, size_t i, bool lf, bool lf_session, struct reference *ref)
{
	bool cr_before = i > 0 && memchr(in.ptr, '\r', i) != NULL;

	if (!lf && at(in, i, ".\r\n")) {
		ref->ended = true;
		return 3;
	}
	if (at(in, i, ".\n")) {
		ref->bare_lf = true;
		ref->ended = lf_session && !cr_before;
		if (!ref->ended)
			fuzz_text_add(&ref->out, ".", 1);
		return ref->ended ? 2 : 1;
	}
	/* What it is, the next byte will tell. */
	if (i + 1 == in.len)
		return 1;
	if (lf && in.ptr[i + 1] != '.')
		fuzz_text_add(&ref->out, ".", 1);
	return 1;
}

void reference_read(struct slice in, bool lf_session, struct reference *ref)
{
	bool start = true, lf = false;
	size_t i = 0, line = 0;

	*ref = (struct reference){ 0 };
	while (i < in.len && !ref->ended) {
		if (start && in.ptr[i] == '.') {
			i += read_dot(in, i, lf, lf_session, ref);
			start = false;
			continue;
		}
		start = false;
		lf = in.ptr[i] == '\n';
		if (lf || at(in, i, "\r\n")) {
			ref->bare_lf = ref->bare_lf || lf;
			fuzz_text_add(&ref->out, "\r\n", 2);
			line = ref->out.len;
			start = true;
			i += lf ? 1 : 2;
			continue;
		}
		if (in.ptr[i] == '\r')
			ref->bare_cr = ref->bare_cr || i + 1 < in.len;
		else if (in.ptr[i] == '\0')
			ref->nul = true;
		else
			fuzz_text_add(&ref->out, in.ptr + i, 1);
		ref->too_long = ref->too_long || ref->out.len - line > 998;
		i++;
	}
	ref->used = i;
}

void reference_normalise(struct slice x, struct fuzz_text *out)
{
	for (size_t i = 0; i < x.len; i++) {
		bool last = i + 1 == x.len;

		if (x.ptr[i] == '\n')
			fuzz_text_add(out, "\r\n", 2);
		else if (x.ptr[i] == '\r' && (last || x.ptr[i + 1] == '\n'))
			continue; /* the LF stands for both */
		else if (x.ptr[i] == '\r' || x.ptr[i] == '\0')
			fuzz_text_add(out, " ", 1);
		else
			fuzz_text_add(out, x.ptr + i, 1);
	}
	if (x.len > 0 && x.ptr[x.len - 1] != '\n')
		fuzz_text_add(out, "\r\n", 2);
}
