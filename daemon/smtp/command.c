/*
 * One command line of a local client: which command, and where its arguments
 * stand.
 *
 * Pure; owns nothing, the slices point into the caller's line.  What is not
 * SMTP at all (a browser that was lured to this port, a TLS handshake, a block
 * of mail header) is told from a mistyped command here, since the session is
 * cut off for the one and goes on after the other.
 */
#include "smtp/command.h"

static const struct {
	const char *name;
	enum command_verb verb;
} names[] = {
	{ "HELO", COMMAND_HELO },
	{ "EHLO", COMMAND_EHLO },
	{ "MAIL", COMMAND_MAIL },
	{ "RCPT", COMMAND_RCPT },
	{ "DATA", COMMAND_DATA },
	{ "RSET", COMMAND_RSET },
	{ "NOOP", COMMAND_NOOP },
	{ "VRFY", COMMAND_VRFY },
	{ "HELP", COMMAND_HELP },
	{ "QUIT", COMMAND_QUIT },
	{ "AUTH", COMMAND_AUTH },
	/* The methods of HTTP/1, and the preface of HTTP/2. */
	{ "GET", COMMAND_FOREIGN },
	{ "HEAD", COMMAND_FOREIGN },
	{ "POST", COMMAND_FOREIGN },
	{ "PUT", COMMAND_FOREIGN },
	{ "DELETE", COMMAND_FOREIGN },
	{ "CONNECT", COMMAND_FOREIGN },
	{ "OPTIONS", COMMAND_FOREIGN },
	{ "TRACE", COMMAND_FOREIGN },
	{ "PATCH", COMMAND_FOREIGN },
	{ "PRI", COMMAND_FOREIGN },
	/* FTP, as which a browser can be made to speak to any port. */
	{ "USER", COMMAND_FOREIGN },
	{ "PASS", COMMAND_FOREIGN },
	{ "PORT", COMMAND_FOREIGN },
	{ "EPRT", COMMAND_FOREIGN },
	{ "PASV", COMMAND_FOREIGN },
	{ "EPSV", COMMAND_FOREIGN },
	{ "RETR", COMMAND_FOREIGN },
	{ "STOR", COMMAND_FOREIGN },
	/* Of SMTP and its extensions, what we have not. */
	{ "STARTTLS", COMMAND_NOT_OFFERED },
	{ "BDAT", COMMAND_NOT_OFFERED },
	{ "BURL", COMMAND_NOT_OFFERED },
	{ "EXPN", COMMAND_NOT_OFFERED },
	{ "ETRN", COMMAND_NOT_OFFERED },
	{ "ATRN", COMMAND_NOT_OFFERED },
	{ "TURN", COMMAND_NOT_OFFERED },
	{ "SEND", COMMAND_NOT_OFFERED },
	{ "SOML", COMMAND_NOT_OFFERED },
	{ "SAML", COMMAND_NOT_OFFERED },
	{ "XCLIENT", COMMAND_NOT_OFFERED },
	{ "XFORWARD", COMMAND_NOT_OFFERED },
};

static bool is_letter(char c)
{
	return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
}

static bool is_alnum(char c)
{
	return is_letter(c) || (c >= '0' && c <= '9');
}

/* "Host: x" and its like: a word with a colon right behind it. */
static bool is_header_shaped(struct slice line)
{
	size_t n = 0;

	while (n < line.len &&
	    (is_alnum(line.ptr[n]) || line.ptr[n] == '-' || line.ptr[n] == '_'))
		n++;
	return n < line.len && line.ptr[n] == ':';
}

static enum command_verb find_verb(struct slice line, struct slice name)
{
	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		if (slice_caseeq_str(name, names[i].name))
			return names[i].verb;
	if (!is_letter(line.ptr[0]) || is_header_shaped(line) ||
	    slice_has_prefix(line, "SSH-") ||
	    slice_casecontains(line, " HTTP/") ||
	    slice_casecontains(line, " RTSP/") ||
	    slice_casecontains(line, " SIP/"))
		return COMMAND_FOREIGN;
	return COMMAND_UNKNOWN;
}

/* What follows "FROM:" or "TO:"; blanks may stand around the colon. */
static struct slice after_keyword(struct slice args, const char *keyword)
{
	size_t len = slice_str(keyword).len;

	if (!slice_has_caseprefix(args, keyword))
		return slice_of(NULL, 0);
	args = slice_trim(slice_of(args.ptr + len, args.len - len));
	if (!slice_has_prefix(args, ":"))
		return slice_of(NULL, 0);
	return slice_trim(slice_of(args.ptr + 1, args.len - 1));
}

void command_parse(struct slice line, struct command *out)
{
	struct slice rest = line;

	out->name = slice_word(&rest);
	out->args = slice_trim(rest);
	if (out->name.len == 0) {
		out->verb = COMMAND_UNKNOWN;
		return;
	}
	/* A blank in front is how a folded header line starts. */
	if (out->name.ptr != line.ptr) {
		out->verb = COMMAND_FOREIGN;
		return;
	}
	out->verb = find_verb(line, out->name);
	if (out->verb == COMMAND_MAIL)
		out->args = after_keyword(out->args, "FROM");
	else if (out->verb == COMMAND_RCPT)
		out->args = after_keyword(out->args, "TO");
}

bool command_is_foreign_head(struct slice head)
{
	char c = head.ptr[0];

	/* Blanks alone make an empty line, which is forgiven. */
	return !is_letter(c) && c != ' ' && c != '\t' && c != '\r';
}

static bool is_key(struct slice key)
{
	if (key.len == 0 || !is_alnum(key.ptr[0]))
		return false;
	for (size_t i = 1; i < key.len; i++)
		if (!is_alnum(key.ptr[i]) && key.ptr[i] != '-')
			return false;
	return true;
}

static bool is_value(struct slice value)
{
	for (size_t i = 0; i < value.len; i++)
		if (value.ptr[i] < '!' || value.ptr[i] > '~' ||
		    value.ptr[i] == '=')
			return false;
	return value.len > 0;
}

int command_params(
    struct slice args, struct command_param params[COMMAND_MAX_PARAMS])
{
	struct slice word;
	int n = 0;

	while ((word = slice_word(&args)).len > 0) {
		struct command_param p = { .key = slice_split(&word, '=') };
		/* The cut took a '=', unless the key is all there was. */
		bool has_value = word.ptr != p.key.ptr + p.key.len;

		if (has_value)
			p.value = word;
		if (!is_key(p.key) || (has_value && !is_value(p.value)))
			return -1;
		if (n == COMMAND_MAX_PARAMS)
			return -1;
		params[n++] = p;
	}
	return n;
}
