/*
 * The header fields that SES takes once (its Developer Guide, "header fields"),
 * and which fields a DKIM signature covers.  Pure; a table and two look-ups.
 */
#include "smtp/rewrite_private.h"

static const char *const single_use[] = {
	"Accept-Language",
	"acceptLanguage",
	"Archived-At",
	"Auto-Submitted",
	"Bounces-to",
	"Comments",
	"Content-Alternative",
	"Content-Base",
	"Content-Class",
	"Content-Description",
	"Content-Disposition",
	"Content-Duration",
	"Content-ID",
	"Content-Language",
	"Content-Length",
	"Content-Location",
	"Content-MD5",
	"Content-Transfer-Encoding",
	"Content-Type",
	"Date",
	"Delivered-To",
	"Disposition-Notification-Options",
	"Disposition-Notification-To",
	"DKIM-Signature",
	"DomainKey-Signature",
	"Errors-To",
	"From",
	"Importance",
	"In-Reply-To",
	"Keywords",
	"List-Archive",
	"List-Help",
	"List-Id",
	"List-Owner",
	"List-Post",
	"List-Subscribe",
	"List-Unsubscribe",
	"List-Unsubscribe-Post",
	"Message-Context",
	"Message-ID",
	"MIME-Version",
	"Organization",
	"Original-From",
	"Original-Message-ID",
	"Original-Recipient",
	"Original-Subject",
	"Precedence",
	"Priority",
	"References",
	"Reply-To",
	"Return-Path",
	"Return-Receipt-To",
	"Sender",
	"Solicitation",
	"Sensitivity",
	"Subject",
	"Thread-Index",
	"Thread-Topic",
	"User-Agent",
	"VBR-Info",
};

_Static_assert(ARRAY_LEN(single_use) <= REWRITE_SINGLE_USE_MAX,
    "every single-use field has its place in the set of those seen");

/* Lists of signed fields that are longer are not looked through. */
#define SIGNED_MAX 1024

/* Asked for each field of each message: most differ in the first letter. */
int rewrite_single_use(struct slice name)
{
	if (name.len == 0)
		return -1;
	for (size_t i = 0; i < ARRAY_LEN(single_use); i++)
		if (((name.ptr[0] ^ single_use[i][0]) & ~0x20) == 0 &&
		    slice_caseeq_str(name, single_use[i]))
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
