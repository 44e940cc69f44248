/*
 * The header fields that SES takes once (its Developer Guide, "header fields"),
 * and which fields a DKIM signature covers.  Pure; a table and two look-ups.
 */
#include "smtp/rewrite_private.h"

static const struct slice single_use[] = {
	SLICE_INIT("Accept-Language"),
	SLICE_INIT("acceptLanguage"),
	SLICE_INIT("Archived-At"),
	SLICE_INIT("Auto-Submitted"),
	SLICE_INIT("Bounces-to"),
	SLICE_INIT("Comments"),
	SLICE_INIT("Content-Alternative"),
	SLICE_INIT("Content-Base"),
	SLICE_INIT("Content-Class"),
	SLICE_INIT("Content-Description"),
	SLICE_INIT("Content-Disposition"),
	SLICE_INIT("Content-Duration"),
	SLICE_INIT("Content-ID"),
	SLICE_INIT("Content-Language"),
	SLICE_INIT("Content-Length"),
	SLICE_INIT("Content-Location"),
	SLICE_INIT("Content-MD5"),
	SLICE_INIT("Content-Transfer-Encoding"),
	SLICE_INIT("Content-Type"),
	SLICE_INIT("Date"),
	SLICE_INIT("Delivered-To"),
	SLICE_INIT("Disposition-Notification-Options"),
	SLICE_INIT("Disposition-Notification-To"),
	SLICE_INIT("DKIM-Signature"),
	SLICE_INIT("DomainKey-Signature"),
	SLICE_INIT("Errors-To"),
	SLICE_INIT("From"),
	SLICE_INIT("Importance"),
	SLICE_INIT("In-Reply-To"),
	SLICE_INIT("Keywords"),
	SLICE_INIT("List-Archive"),
	SLICE_INIT("List-Help"),
	SLICE_INIT("List-Id"),
	SLICE_INIT("List-Owner"),
	SLICE_INIT("List-Post"),
	SLICE_INIT("List-Subscribe"),
	SLICE_INIT("List-Unsubscribe"),
	SLICE_INIT("List-Unsubscribe-Post"),
	SLICE_INIT("Message-Context"),
	SLICE_INIT("Message-ID"),
	SLICE_INIT("MIME-Version"),
	SLICE_INIT("Organization"),
	SLICE_INIT("Original-From"),
	SLICE_INIT("Original-Message-ID"),
	SLICE_INIT("Original-Recipient"),
	SLICE_INIT("Original-Subject"),
	SLICE_INIT("Precedence"),
	SLICE_INIT("Priority"),
	SLICE_INIT("References"),
	SLICE_INIT("Reply-To"),
	SLICE_INIT("Return-Path"),
	SLICE_INIT("Return-Receipt-To"),
	SLICE_INIT("Sender"),
	SLICE_INIT("Solicitation"),
	SLICE_INIT("Sensitivity"),
	SLICE_INIT("Subject"),
	SLICE_INIT("Thread-Index"),
	SLICE_INIT("Thread-Topic"),
	SLICE_INIT("User-Agent"),
	SLICE_INIT("VBR-Info"),
};

_Static_assert(ARRAY_LEN(single_use) <= REWRITE_SINGLE_USE_MAX,
    "every single-use field has its place in the set of those seen");

/* Lists of signed fields that are longer are not looked through. */
#define SIGNED_MAX 1024

int rewrite_single_use(struct slice name)
{
	for (size_t i = 0; i < ARRAY_LEN(single_use); i++)
		if (slice_caseeq(name, single_use[i]))
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
