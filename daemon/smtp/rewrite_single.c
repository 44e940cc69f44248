/*
 * The header fields that SES takes once (its Developer Guide, "header fields"),
 * and which fields a DKIM signature covers.  Pure; a table and two look-ups.
 */
#include "smtp/rewrite_private.h"

#define NAME(s)                                                                \
	{                                                                      \
		s, sizeof(s) - 1                                               \
	}

static const struct slice single_use[] = {
	NAME("Accept-Language"),
	NAME("acceptLanguage"),
	NAME("Archived-At"),
	NAME("Auto-Submitted"),
	NAME("Bounces-to"),
	NAME("Comments"),
	NAME("Content-Alternative"),
	NAME("Content-Base"),
	NAME("Content-Class"),
	NAME("Content-Description"),
	NAME("Content-Disposition"),
	NAME("Content-Duration"),
	NAME("Content-ID"),
	NAME("Content-Language"),
	NAME("Content-Length"),
	NAME("Content-Location"),
	NAME("Content-MD5"),
	NAME("Content-Transfer-Encoding"),
	NAME("Content-Type"),
	NAME("Date"),
	NAME("Delivered-To"),
	NAME("Disposition-Notification-Options"),
	NAME("Disposition-Notification-To"),
	NAME("DKIM-Signature"),
	NAME("DomainKey-Signature"),
	NAME("Errors-To"),
	NAME("From"),
	NAME("Importance"),
	NAME("In-Reply-To"),
	NAME("Keywords"),
	NAME("List-Archive"),
	NAME("List-Help"),
	NAME("List-Id"),
	NAME("List-Owner"),
	NAME("List-Post"),
	NAME("List-Subscribe"),
	NAME("List-Unsubscribe"),
	NAME("List-Unsubscribe-Post"),
	NAME("Message-Context"),
	NAME("Message-ID"),
	NAME("MIME-Version"),
	NAME("Organization"),
	NAME("Original-From"),
	NAME("Original-Message-ID"),
	NAME("Original-Recipient"),
	NAME("Original-Subject"),
	NAME("Precedence"),
	NAME("Priority"),
	NAME("References"),
	NAME("Reply-To"),
	NAME("Return-Path"),
	NAME("Return-Receipt-To"),
	NAME("Sender"),
	NAME("Solicitation"),
	NAME("Sensitivity"),
	NAME("Subject"),
	NAME("Thread-Index"),
	NAME("Thread-Topic"),
	NAME("User-Agent"),
	NAME("VBR-Info"),
};

_Static_assert(ARRAY_LEN(single_use) <= REWRITE_SINGLE_USE_MAX,
    "every single-use field has its place in the set of those seen");

/* Lists of signed fields that are longer are not looked through. */
#define SIGNED_MAX 1024

/* Asked for each field of each message: most differ in length or beginning. */
int rewrite_single_use(struct slice name)
{
	for (size_t i = 0; i < ARRAY_LEN(single_use); i++)
		if (name.len == single_use[i].len &&
		    ((name.ptr[0] ^ single_use[i].ptr[0]) & ~0x20) == 0 &&
		    slice_caseeq(name, single_use[i]))
			return (int)i;
	return -1;
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* Without blanks and folds at either end. */
static struct slice trim(struct slice s)
{
	while (s.len > 0 && is_blank(s.ptr[0]))
		s = slice_of(s.ptr + 1, s.len - 1);
	while (s.len > 0 && is_blank(s.ptr[s.len - 1]))
		s.len--;
	return s;
}

struct slice rewrite_signed_names(struct slice signature)
{
	struct slice none = slice_of(NULL, 0);

	slice_split(&signature, ':');
	while (signature.len > 0) {
		struct slice value = slice_split(&signature, ';');
		struct slice tag = trim(slice_split(&value, '='));

		if (slice_eq_str(tag, "h"))
			return value.len > SIGNED_MAX ? none : value;
	}
	return none;
}

bool rewrite_is_signed(struct slice names, const char *name)
{
	/* Without a list that we can read, it may be any field. */
	if (names.len == 0)
		return true;
	while (names.len > 0)
		if (slice_caseeq_str(trim(slice_split(&names, ':')), name))
			return true;
	return false;
}

void rewrite_altered(struct rewrite_header *h, const char *name)
{
	if (h->is_signed && !h->broke_signature)
		h->broke_signature =
		    slice_caseeq_str(slice_str(name), "DKIM-Signature") ||
		    rewrite_is_signed(h->signed_names, name);
}
