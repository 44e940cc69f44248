/*
 * The keywords of an EHLO reply that matter to us; all others are ignored, as
 * is the "Ok" that ends SES's list.
 *
 * Pure; owns nothing but its struct.  What was offered in clear is worth
 * nothing: the client forgets it at STARTTLS.
 */
#include "smtp/ehlo.h"

#include <string.h>

static void auth_mechanisms(struct ehlo *e, struct slice list)
{
	for (;;) {
		struct slice word = slice_word(&list);

		if (word.len == 0)
			return;
		if (slice_caseeq_str(word, "PLAIN"))
			e->auth_plain = true;
		else if (slice_caseeq_str(word, "LOGIN"))
			e->auth_login = true;
	}
}

void ehlo_init(struct ehlo *e)
{
	memset(e, 0, sizeof(*e));
}

void ehlo_line(struct ehlo *e, struct slice text)
{
	struct slice keyword = slice_word(&text);

	if (slice_caseeq_str(keyword, "STARTTLS")) {
		e->starttls = true;
	} else if (slice_caseeq_str(keyword, "8BITMIME")) {
		e->eight_bit = true;
	} else if (slice_caseeq_str(keyword, "AUTH")) {
		auth_mechanisms(e, text);
	} else if (slice_caseeq_str(keyword, "SIZE")) {
		e->size = true;
		/* Without a number, or with a strange one: no limit told. */
		if (slice_parse_u64(slice_word(&text), &e->max_size) < 0)
			e->max_size = 0;
	}
}
