/*
 * What the strings of the configuration may look like.
 *
 * Each check gets the whole string, which has no control characters, and says
 * what is wrong and what would be right, as the end of a sentence that begins
 * with the key.  Pure, but for the parsing of addresses that net/listener
 * offers; no look-ups.  What goes into a header line or command is held to the
 * characters that SES takes there, so that nothing can be smuggled in.
 */
#include "config_private.h"

#include "net/listener.h"
#include "smtp/addr.h"

#include <arpa/inet.h>
#include <string.h>
#include <sys/un.h>

#define DIGITS "0123456789"
#define LOWER "abcdefghijklmnopqrstuvwxyz"
#define UPPER "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
#define ALNUM DIGITS LOWER UPPER

/* DNS (RFC 1035 2.3.4); SES's names (configuration sets, tags). */
#define HOSTNAME_MAX 253
#define LABEL_MAX 63
#define NAME_MAX_SES 64
#define TAG_MAX 256

static bool only(const char *text, const char *set)
{
	return *text && text[strspn(text, set)] == '\0';
}

/* Labels of letters, digits, hyphens and (as hosts have them) underscores. */
static bool hostname_ok(const char *text)
{
	struct slice rest = slice_str(text);

	if (rest.len > HOSTNAME_MAX || !only(text, ALNUM "-_."))
		return false;
	if (text[rest.len - 1] == '.')
		return false;
	while (rest.len > 0) {
		struct slice label = slice_split(&rest, '.');

		if (label.len == 0 || label.len > LABEL_MAX ||
		    label.ptr[0] == '-' || label.ptr[label.len - 1] == '-')
			return false;
	}
	return true;
}

int config_check_hostname(const char *text, struct err *err)
{
	if (hostname_ok(text))
		return 0;
	return err_set(err, 0,
	    "must be a host name such as \"app1.example.com\", not \"%.80s\"",
	    text);
}

int config_check_endpoint(const char *text, struct err *err)
{
	if (strstr(text, "://"))
		return err_set(err, 0,
		    "must be a host name alone, without \"%.*s\"",
		    (int)(strstr(text, "://") - text) + 3, text);
	if (strchr(text, ':'))
		return err_set(err, 0,
		    "must be a host name alone; its port goes into "
		    "'ses.ports'");
	if (hostname_ok(text))
		return 0;
	return err_set(err, 0,
	    "must be a host name such as "
	    "\"email-smtp-fips.us-east-1.amazonaws.com\", not \"%.80s\"",
	    text);
}

int config_check_address(const char *text, struct err *err)
{
	struct sockaddr_storage addr;
	socklen_t len;
	struct err reason;

	if (listener_parse_address(text, &addr, &len, &reason) == 0)
		return 0;
	return err_set(err, 0, "must hold addresses: %.200s", reason.text);
}

int config_check_network(const char *text, struct err *err)
{
	struct network network;
	struct err reason;

	if (network_parse(text, &network, &reason) == 0)
		return 0;
	return err_set(err, 0, "must hold networks: %.200s", reason.text);
}

int config_parse_port(const char *text, struct pool_port *port, struct err *err)
{
	struct slice mode = slice_str(text);
	struct slice digits = slice_split(&mode, ':');
	bool has_mode = strchr(text, ':');
	uint64_t number;

	if (slice_parse_u64(digits, &number) < 0 || number < 1 ||
	    number > UINT16_MAX)
		return err_set(err, 0,
		    "must hold ports such as \"587\" or \"10587:starttls\", "
		    "not \"%.80s\"",
		    text);
	port->port = (uint16_t)number;
	port->wrapper = number == 465 || number == 2465;
	if (!has_mode && !port->wrapper && number != 25 && number != 587 &&
	    number != 2587)
		return err_set(err, 0,
		    "does not say how TLS begins on port %u: write "
		    "\"%u:starttls\", or \"%u:wrapper\" if it begins with "
		    "TLS",
		    port->port, port->port, port->port);
	if (!has_mode)
		return 0;
	port->wrapper = slice_eq_str(mode, "wrapper");
	if (port->wrapper || slice_eq_str(mode, "starttls"))
		return 0;
	return err_set(err, 0,
	    "must have \"starttls\" or \"wrapper\" after the colon of "
	    "\"%.80s\"",
	    text);
}

int config_check_port(const char *text, struct err *err)
{
	struct pool_port port;

	return config_parse_port(text, &port, err);
}

int config_check_ip(const char *text, struct err *err)
{
	struct in6_addr addr;

	if (inet_pton(AF_INET, text, &addr) == 1 ||
	    inet_pton(AF_INET6, text, &addr) == 1)
		return 0;
	return err_set(err, 0,
	    "must be an IP address such as \"192.0.2.7\" or \"2001:db8::7\", "
	    "not \"%.80s\"",
	    text);
}

/*
 * The daemon's working directory is not the operator's.  The text is not
 * repeated: people put the password where its file should be named.
 */
int config_check_path(const char *text, struct err *err)
{
	if (text[0] == '/')
		return 0;
	return err_set(err, 0, "must be a whole path that begins with \"/\"");
}

int config_check_socket(const char *text, struct err *err)
{
	size_t max = sizeof(((struct sockaddr_un *)NULL)->sun_path) - 1;

	if (strlen(text) > max)
		return err_set(err, 0,
		    "is longer than the %zu bytes that the path of a socket "
		    "may have",
		    max);
	return config_check_path(text, err);
}

int config_check_name(const char *text, struct err *err)
{
	if (strlen(text) <= NAME_MAX_SES && only(text, ALNUM "-_"))
		return 0;
	return err_set(err, 0,
	    "must be up to %d letters, digits, hyphens and underscores",
	    NAME_MAX_SES);
}

int config_check_tag(const char *text, struct err *err)
{
	struct slice value = slice_str(text);
	struct slice name = slice_split(&value, '=');

	if (only(text, ALNUM "-_=") && strchr(text, '=') && name.len > 0 &&
	    name.len <= TAG_MAX && value.len > 0 && value.len <= TAG_MAX &&
	    !memchr(value.ptr, '=', value.len))
		return 0;
	return err_set(err, 0,
	    "must hold tags such as \"team=billing\", of letters, digits, "
	    "hyphens and underscores, not \"%.80s\"",
	    text);
}

int config_check_arn(const char *text, struct err *err)
{
	if (strncmp(text, "arn:", 4) == 0 && strlen(text) < 512 &&
	    config_check_visible(text, NULL) == 0)
		return 0;
	return err_set(err, 0,
	    "must be an ARN such as "
	    "\"arn:aws:ses:eu-west-1:123456789012:identity/example.com\"");
}

int config_check_mailbox(const char *text, struct err *err)
{
	struct slice rest = slice_str(text);
	struct addr addr;

	if (*text && *text != '<' &&
	    addr_parse_path(&rest, false, NULL, &addr) == ADDR_OK &&
	    rest.len == 0 && strcmp(addr.text, text) == 0)
		return 0;
	return err_set(err, 0,
	    "must be an address such as \"noreply@example.com\", not "
	    "\"%.80s\"",
	    text);
}

int config_check_bounce_to(const char *text, struct err *err)
{
	if (strcmp(text, "sender") == 0 ||
	    config_check_mailbox(text, NULL) == 0)
		return 0;
	return err_set(err, 0,
	    "must be \"sender\" or an address such as "
	    "\"postmaster@example.com\", not \"%.80s\"",
	    text);
}

int config_check_ident(const char *text, struct err *err)
{
	if (strlen(text) <= 32 && only(text, ALNUM "-_.") && text[0] != '-')
		return 0;
	return err_set(err, 0,
	    "must be up to 32 letters, digits, hyphens, dots and underscores, "
	    "not \"%.80s\"",
	    text);
}

/* May be a secret: is not repeated. */
int config_check_visible(const char *text, struct err *err)
{
	for (const char *p = text; *p; p++)
		if (*p <= ' ' || *p > '~')
			return err_set(err, 0,
			    "must be of visible ASCII characters, without "
			    "blanks");
	return 0;
}
