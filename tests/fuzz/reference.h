/*
 * What end of data, dot stuffing and line ends mean (daemon/smtp/dot.h), said
 * once more by another hand: over the whole input, by looking ahead, without
 * states.  Slow, and short enough to be believed.
 */
#ifndef REFERENCE_H
#define REFERENCE_H

#include "fuzz.h"

struct reference {
	struct fuzz_text out;
	size_t used;
	bool ended, bare_lf, bare_cr, nul, too_long;
};

/* What dot_read() does with `in`, however it is cut. */
void reference_read(struct slice in, bool lf_session, struct reference *ref);
/* What dot_write() makes of x, before stuffing: the content that is meant. */
void reference_normalise(struct slice x, struct fuzz_text *out);

#endif
