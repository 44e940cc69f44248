/*
 * Addresses as text, and networks that contain them.
 *
 * Pure functions of listener.h that need no socket: nothing is looked up,
 * nothing is owned.  Invariant: an IPv4-mapped IPv6 address is treated as the
 * IPv4 address that it stands for, in addresses and in networks.
 */
#include "net/listener.h"

#include "base/slice.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>

/* Of what address; bytes is NULL if it is none of IP. */
struct ip {
	int family;
	const uint8_t *bytes;
	unsigned port;
};

static const uint8_t mapped_prefix[12] = { [10] = 0xff, [11] = 0xff };

static struct ip ip_of(const struct sockaddr *addr)
{
	union {
		const struct sockaddr *any;
		const struct sockaddr_in *in;
		const struct sockaddr_in6 *in6;
	} a = { addr };
	struct ip ip = { .family = addr->sa_family };

	if (ip.family == AF_INET) {
		ip.bytes = (const uint8_t *)&a.in->sin_addr;
		ip.port = ntohs(a.in->sin_port);
	} else if (ip.family == AF_INET6) {
		ip.bytes = a.in6->sin6_addr.s6_addr;
		ip.port = ntohs(a.in6->sin6_port);
		if (IN6_IS_ADDR_V4MAPPED(&a.in6->sin6_addr)) {
			ip.family = AF_INET;
			ip.bytes += sizeof(mapped_prefix);
		}
	}
	return ip;
}

/* "127.0.0.1" or, only with brackets, "::1"; 0 or -1. */
static int parse_host(
    struct slice host, struct sockaddr_storage *addr, socklen_t *len)
{
	union {
		struct sockaddr_storage *any;
		struct sockaddr_in *in;
		struct sockaddr_in6 *in6;
	} a = { addr };
	char text[INET6_ADDRSTRLEN];
	bool v6 =
	    host.len > 2 && host.ptr[0] == '[' && host.ptr[host.len - 1] == ']';

	if (v6)
		host = slice_of(host.ptr + 1, host.len - 2);
	if (host.len >= sizeof(text) || memchr(host.ptr, 0, host.len))
		return -1;
	slice_copy(host, text, sizeof(text));
	memset(addr, 0, sizeof(*addr));
	if (v6) {
		a.in6->sin6_family = AF_INET6;
		*len = sizeof(*a.in6);
		return inet_pton(AF_INET6, text, &a.in6->sin6_addr) - 1;
	}
	a.in->sin_family = AF_INET;
	*len = sizeof(*a.in);
	return inet_pton(AF_INET, text, &a.in->sin_addr) - 1;
}

/* The path of "unix:/path"; 0 or -1. */
static int parse_unix(
    const char *path, struct sockaddr_storage *addr, socklen_t *len)
{
	struct sockaddr_un *un = (struct sockaddr_un *)(void *)addr;

	memset(addr, 0, sizeof(*addr));
	if (path[0] != '/' || strlen(path) >= sizeof(un->sun_path))
		return -1;
	un->sun_family = AF_UNIX;
	memcpy(un->sun_path, path, strlen(path));
	*len = sizeof(*un);
	return 0;
}

int listener_parse_address(const char *text, struct sockaddr_storage *addr,
    socklen_t *len, struct err *err)
{
	union {
		struct sockaddr_storage *any;
		struct sockaddr_in *in;
		struct sockaddr_in6 *in6;
	} a = { addr };
	const char *colon = strrchr(text, ':');
	uint64_t port;

	if (strncmp(text, "unix:", 5) == 0) {
		if (parse_unix(text + 5, addr, len) == 0)
			return 0;
		return err_set(err, 0,
		    "\"%.120s\" is not an address: a socket is the "
		    "absolute path behind unix:, such as "
		    "unix:/run/sesrelayd/smtp",
		    text);
	}
	if (!colon || slice_parse_u64(slice_str(colon + 1), &port) < 0 ||
	    port > UINT16_MAX ||
	    parse_host(slice_of(text, (size_t)(colon - text)), addr, len) < 0)
		return err_set(err, 0,
		    "\"%s\" is not an address and port such as 127.0.0.1:25 "
		    "or [::1]:25",
		    text);
	if (addr->ss_family == AF_INET6)
		a.in6->sin6_port = htons((uint16_t)port);
	else
		a.in->sin_port = htons((uint16_t)port);
	return 0;
}

bool listener_is_loopback(const struct sockaddr *addr)
{
	struct ip ip = ip_of(addr);

	if (ip.family == AF_INET)
		return ip.bytes[0] == 127;
	if (ip.family == AF_INET6)
		return memcmp(ip.bytes, &in6addr_loopback, 16) == 0;
	return true;
}

void listener_format_address(
    const struct sockaddr *addr, char *buf, size_t size)
{
	struct ip ip = ip_of(addr);
	char text[INET6_ADDRSTRLEN];

	if (ip.family == AF_UNIX) {
		const struct sockaddr_un *un =
		    (const struct sockaddr_un *)(const void *)addr;

		/* A client's end has no name, nor has an abstract one. */
		snprintf(buf, size,
		    un->sun_path[0] == '/' ? "unix:%.*s" : "unix",
		    (int)sizeof(un->sun_path), un->sun_path);
		return;
	}
	if (!ip.bytes) {
		snprintf(buf, size, "unknown");
		return;
	}
	ASSERT(inet_ntop(ip.family, ip.bytes, text, sizeof(text)));
	snprintf(buf, size, ip.family == AF_INET6 ? "[%s]:%u" : "%s:%u", text,
	    ip.port);
}

/* Do the first `prefix` bits agree? */
static bool same_prefix(const uint8_t *a, const uint8_t *b, unsigned prefix)
{
	unsigned whole = prefix / 8, rest = prefix % 8;

	if (memcmp(a, b, whole) != 0)
		return false;
	return rest == 0 || (a[whole] ^ b[whole]) >> (8 - rest) == 0;
}

static unsigned address_bits(int family)
{
	return family == AF_INET ? 32 : 128;
}

/* Nothing may be set in what the prefix leaves free: it would be a slip. */
static bool has_host_bits(const struct network *n)
{
	unsigned bits = address_bits(n->family);

	for (unsigned i = n->prefix; i < bits; i++) {
		if (n->bytes[i / 8] & (0x80 >> i % 8))
			return true;
	}
	return false;
}

static void unmap(struct network *n)
{
	if (n->family != AF_INET6 || n->prefix < 96 ||
	    memcmp(n->bytes, mapped_prefix, sizeof(mapped_prefix)) != 0)
		return;
	n->family = AF_INET;
	n->prefix -= 96;
	memmove(n->bytes, n->bytes + sizeof(mapped_prefix), 4);
	memset(n->bytes + 4, 0, sizeof(n->bytes) - 4);
}

int network_parse(const char *text, struct network *out, struct err *err)
{
	const char *slash = strchr(text, '/');
	size_t len = slash ? (size_t)(slash - text) : strlen(text);
	char host[INET6_ADDRSTRLEN];
	uint64_t prefix;

	*out = (struct network){ .family = AF_UNSPEC };
	if (len < sizeof(host)) {
		slice_copy(slice_of(text, len), host, sizeof(host));
		if (inet_pton(AF_INET, host, out->bytes) == 1)
			out->family = AF_INET;
		else if (inet_pton(AF_INET6, host, out->bytes) == 1)
			out->family = AF_INET6;
	}
	if (out->family == AF_UNSPEC)
		goto bad;
	prefix = address_bits(out->family);
	if (slash &&
	    (slice_parse_u64(slice_str(slash + 1), &prefix) < 0 ||
		prefix > address_bits(out->family)))
		goto bad;
	out->prefix = (unsigned)prefix;
	if (has_host_bits(out))
		return err_set(
		    err, 0, "network %s has bits set behind its prefix", text);
	unmap(out);
	return 0;
bad:
	return err_set(err, 0,
	    "\"%s\" is not a network such as 127.0.0.0/8 or ::1/128", text);
}

bool network_contains(const struct network *n, const struct sockaddr *addr)
{
	struct ip ip = ip_of(addr);

	return ip.bytes && ip.family == n->family &&
	    same_prefix(ip.bytes, n->bytes, n->prefix);
}
