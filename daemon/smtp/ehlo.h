/*
 * What the upstream says it can do: keywords of an EHLO reply (RFC 5321
 * 4.1.1.1).  SES ends its list with a line that is literally "Ok": unknown
 * words are ignored.
 */
#ifndef SMTP_EHLO_H
#define SMTP_EHLO_H

#include "base/slice.h"

struct ehlo {
	bool starttls;
	bool auth_plain, auth_login;
	bool eight_bit;
	bool size; /* SIZE was offered */
	uint64_t max_size; /* 0: not told */
};

void ehlo_init(struct ehlo *e);
void ehlo_line(
    struct ehlo *e, struct slice text); /* first line too: harmless */

#endif
