/*
 * Paths of MAIL and RCPT (RFC 5321 4.1.2).
 *
 * Pure; copies the address out of the caller's line, byte for byte but for
 * what the header of this module says is dropped or added.  Every byte that
 * gets through is checked against a list of what is allowed, so that the
 * address can stand in a command line to SES: there is no escaping later.
 *
 * Dots at odd places of a local part ("a..b", ".a", "a.") are no RFC 5321
 * syntax, but mailboxes with such names exist and SES takes them.
 */
#include "smtp/addr.h"

#include <arpa/inet.h>
#include <string.h>

#define LOCAL_MAX 64
#define LABEL_MAX 63

static bool is_alnum(char c)
{
	return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
	    (c >= '0' && c <= '9');
}

/* atext of RFC 5322 3.2.3, and the dot. */
static bool is_atom(char c)
{
	return is_alnum(c) ||
	    (c != '\0' && strchr(".!#$%&'*+-/=?^_`{|}~", c) != NULL);
}

static bool is_printable(char c)
{
	return c >= ' ' && c <= '~';
}

static struct slice slice_from(struct slice a, size_t n)
{
	return slice_of(n ? a.ptr + n : a.ptr, a.len - n);
}

/* Length of the quoted string at the head of a, 0 if there is none. */
static size_t quoted_len(struct slice a)
{
	if (a.len == 0 || a.ptr[0] != '"')
		return 0;
	for (size_t i = 1; i < a.len && is_printable(a.ptr[i]); i++) {
		if (a.ptr[i] == '"')
			return i + 1;
		if (a.ptr[i] == '\\' &&
		    (++i == a.len || !is_printable(a.ptr[i])))
			return 0;
	}
	return 0;
}

/* Length of the local part at the head of a, 0 if there is none. */
static size_t local_len(struct slice a)
{
	size_t n = quoted_len(a);

	if (n > 0)
		return n > 2 ? n : 0; /* "" names no mailbox */
	while (n < a.len && is_atom(a.ptr[n]))
		n++;
	return n;
}

static bool is_label(struct slice label)
{
	if (label.len == 0 || label.len > LABEL_MAX || label.ptr[0] == '-' ||
	    label.ptr[label.len - 1] == '-')
		return false;
	for (size_t i = 0; i < label.len; i++)
		/* The underscore is for the names of legacy hosts. */
		if (!is_alnum(label.ptr[i]) && label.ptr[i] != '-' &&
		    label.ptr[i] != '_')
			return false;
	return true;
}

/* "[192.0.2.1]" or "[IPv6:2001:db8::1]" */
static bool is_literal(struct slice domain)
{
	char text[INET6_ADDRSTRLEN];
	unsigned char bytes[sizeof(struct in6_addr)];
	int family = AF_INET;

	if (domain.len < 2 || domain.ptr[0] != '[' ||
	    domain.ptr[domain.len - 1] != ']')
		return false;
	domain = slice_of(domain.ptr + 1, domain.len - 2);
	if (slice_has_caseprefix(domain, "IPv6:")) {
		domain = slice_from(domain, 5);
		family = AF_INET6;
	}
	/* A NUL inside would hide the rest from inet_pton(). */
	if (domain.len >= sizeof(text) ||
	    (domain.len > 0 && memchr(domain.ptr, '\0', domain.len)))
		return false;
	slice_copy(domain, text, sizeof(text));
	return inet_pton(family, text, bytes) == 1;
}

static bool is_domain(struct slice domain)
{
	if (is_literal(domain))
		return true;
	/* One label more than there are dots, so an empty tail is seen. */
	for (;;) {
		struct slice rest = domain;
		struct slice label = slice_split(&rest, '.');

		if (!is_label(label))
			return false;
		if (label.len == domain.len)
			return true;
		domain = rest;
	}
}

/* "@one,@two:" in front of the mailbox is dropped. */
static bool drop_route(struct slice *path)
{
	struct slice rest = *path, route;

	if (!slice_has_prefix(*path, "@"))
		return true;
	route = slice_split(&rest, ':');
	if (route.len == path->len)
		return false;
	*path = rest;
	for (;;) {
		struct slice more = route;
		struct slice hop = slice_split(&more, ',');

		if (!slice_has_prefix(hop, "@") ||
		    !is_domain(slice_from(hop, 1)))
			return false;
		if (hop.len == route.len)
			return true;
		route = more;
	}
}

/*
 * Cuts the path off the head of *args, without its angle brackets.  Blanks and
 * '>' inside a quoted local part do not end it.
 */
static bool cut_path(struct slice *args, struct slice *path)
{
	struct slice in = slice_trim(*args);
	bool angle = slice_has_prefix(in, "<");
	size_t n = angle ? 1 : 0;
	bool quoted = false;

	for (; n < in.len; n++) {
		char c = in.ptr[n];

		if (quoted && c == '\\' && n + 1 < in.len)
			n++;
		else if (c == '"')
			quoted = !quoted;
		else if (!quoted && (angle ? c == '>' : c == ' ' || c == '\t'))
			break;
	}
	if (!angle) {
		*path = slice_of(in.ptr, n);
		*args = slice_from(in, n);
		return n > 0;
	}
	if (n == in.len)
		return false;
	*path = slice_trim(slice_of(in.ptr + 1, n - 1));
	*args = slice_from(in, n + 1);
	return args->len == 0 || args->ptr[0] == ' ' || args->ptr[0] == '\t';
}

static bool is_ascii(struct slice a)
{
	for (size_t i = 0; i < a.len; i++)
		if ((unsigned char)a.ptr[i] >= 0x80)
			return false;
	return true;
}

/* Is it the domain alone that is not? */
static enum addr_error non_ascii_part(struct slice path)
{
	struct slice domain = path;
	struct slice local = slice_split(&domain, '@');

	return domain.len > 0 && is_ascii(local) ? ADDR_NON_ASCII_DOMAIN
						 : ADDR_NON_ASCII;
}

static enum addr_error parse_mailbox(
    struct slice path, const char *default_domain, struct addr *out)
{
	struct slice local = path, domain;

	local.len = local_len(path);
	if (local.len == 0)
		return ADDR_SYNTAX;
	domain = slice_from(path, local.len);
	if (domain.len > 0) {
		if (domain.ptr[0] != '@')
			return ADDR_SYNTAX;
		domain = slice_from(domain, 1);
		if (!is_domain(domain))
			return ADDR_SYNTAX;
	} else if (default_domain) {
		domain = slice_str(default_domain);
	}
	if (local.len > LOCAL_MAX || local.len + 1 + domain.len > ADDR_MAX)
		return ADDR_TOO_LONG;
	slice_copy(local, out->text, sizeof(out->text));
	if (domain.len == 0)
		return ADDR_UNQUALIFIED;
	out->text[local.len] = '@';
	slice_copy(domain, out->text + local.len + 1,
	    sizeof(out->text) - local.len - 1);
	return ADDR_OK;
}

enum addr_error addr_parse_path(struct slice *args, bool null_ok,
    const char *default_domain, struct addr *out)
{
	struct slice path;

	out->text[0] = '\0';
	if (!cut_path(args, &path))
		return is_ascii(*args) ? ADDR_SYNTAX : ADDR_NON_ASCII;
	if (!is_ascii(path))
		return non_ascii_part(path);
	if (path.len == 0)
		return null_ok ? ADDR_OK : ADDR_SYNTAX;
	if (!drop_route(&path))
		return ADDR_SYNTAX;
	return parse_mailbox(path, default_domain, out);
}
