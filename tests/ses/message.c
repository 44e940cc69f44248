/*
 * The header block of a message as SES looks at it.
 *
 * Views into the received content, which must outlive struct message. The
 * address lists of headers are read by a small scanner that knows quotes,
 * comments, angle brackets and groups: enough to tell `To: root` (refused)
 * from `To: undisclosed-recipients:;` (accepted). No judgement about the
 * account or the connection is made here.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "message.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

/* Fields of which SES takes at most one. */
static const char *const single_use[] = {
	"Date",
	"From",
	"Sender",
	"Reply-To",
	"Subject",
	"Message-ID",
	"MIME-Version",
	"Content-Type",
	"Content-Transfer-Encoding",
	"Content-Disposition",
	"Content-ID",
	"Content-Description",
	"Content-Language",
	"Content-Location",
	"Content-MD5",
	"DKIM-Signature",
	"List-Unsubscribe",
	"List-Unsubscribe-Post",
	"Return-Path",
	"References",
	"In-Reply-To",
	"User-Agent",
	"Delivered-To",
	"Errors-To",
	"Precedence",
	"Auto-Submitted",
	"Thread-Index",
	"Thread-Topic",
	"Importance",
	"Priority",
};

#define SINGLE_USE (sizeof(single_use) / sizeof(single_use[0]))

static bool name_is(const struct header *h, const char *name, size_t len)
{
	return h->name_len == len && strncasecmp(h->name, name, len) == 0;
}

static void add_line(struct message *m, const char *line, const char *end)
{
	const char *colon;
	struct header *h;

	if (*line == ' ' || *line == '\t') {
		if (m->count > 0) {
			h = &m->headers[m->count - 1];
			h->value_len = (size_t)(end - h->value);
		}
		return;
	}
	colon = memchr(line, ':', (size_t)(end - line));
	if (colon == NULL || m->count == MESSAGE_HEADERS)
		return;
	h = &m->headers[m->count++];
	h->name = line;
	h->name_len = (size_t)(colon - line);
	while (h->name_len > 0 && h->name[h->name_len - 1] == ' ')
		h->name_len--;
	h->value = colon + 1;
	h->value_len = (size_t)(end - colon - 1);
}

bool message_header(
    const struct message *m, const char *name, char *out, size_t cap)
{
	for (size_t i = 0; i < m->count; i++) {
		const struct header *h = &m->headers[i];
		const char *p = h->value, *end = p + h->value_len;

		if (!name_is(h, name, strlen(name)))
			continue;
		while (p < end && isspace((unsigned char)*p))
			p++;
		while (end > p && isspace((unsigned char)end[-1]))
			end--;
		(void)snprintf(out, cap, "%.*s", (int)(end - p), p);
		return true;
	}
	return false;
}

static void find_id(struct message *m)
{
	m->id[0] = '\0';
	for (size_t i = 0; i < m->count; i++) {
		const struct header *h = &m->headers[i];
		const char *p = h->value, *end = p + h->value_len;

		if (!name_is(h, "Message-ID", 10))
			continue;
		while (p < end && (isspace((unsigned char)*p) || *p == '<'))
			p++;
		while (end > p &&
		    (isspace((unsigned char)end[-1]) || end[-1] == '>'))
			end--;
		if ((size_t)(end - p) < sizeof(m->id)) {
			memcpy(m->id, p, (size_t)(end - p));
			m->id[end - p] = '\0';
		}
		return;
	}
}

void message_parse(struct message *m, const char *data, size_t len)
{
	const char *p = data, *end = data + len;

	m->count = 0;
	m->body_at = len;
	while (p < end) {
		const char *nl = memchr(p, '\n', (size_t)(end - p));
		const char *stop = nl != NULL ? nl : end;

		if (stop > p && stop[-1] == '\r')
			stop--;
		if (stop == p) {
			m->body_at = nl != NULL ? (size_t)(nl + 1 - data) : len;
			break;
		}
		add_line(m, p, stop);
		if (nl == NULL)
			break;
		p = nl + 1;
	}
	find_id(m);
}

/* The scanner's place in an address list and the address it collects. */
struct scan {
	const char *p, *end;
	char out[512];
	size_t len;
	int depth; /* of comments */
	bool quoted, angle, closed;
};

static void collect(struct scan *s, char c)
{
	if (!s->closed && s->len + 1 < sizeof(s->out))
		s->out[s->len++] = c;
}

/* One character outside of quotes; true at the end of an address. */
static bool scan_char(struct scan *s, char c)
{
	if (c == '(') {
		s->depth++;
	} else if (c == ')' && s->depth > 0) {
		s->depth--;
	} else if (s->depth > 0) {
		return false;
	} else if (c == '"') {
		s->quoted = true;
		collect(s, c);
	} else if (c == '<') {
		s->len = 0;
		s->angle = true;
	} else if (c == '>') {
		s->closed = true;
	} else if (c == ':' && !s->angle) {
		s->len = 0; /* the name of a group */
	} else if ((c == ',' || c == ';') && (!s->angle || s->closed)) {
		return true;
	} else if (!isspace((unsigned char)c) || s->angle || s->len > 0) {
		collect(s, c);
	}
	return false;
}

/* The next address of the list in s->out; false when there is no more. */
static bool next_address(struct scan *s)
{
	for (;;) {
		bool ended = false;

		s->len = 0;
		s->depth = 0;
		s->quoted = s->angle = s->closed = false;
		if (s->p == s->end)
			return false;
		while (s->p < s->end && !ended) {
			char c = *s->p++;

			if (!s->quoted) {
				ended = scan_char(s, c);
				continue;
			}
			collect(s, c);
			if (c == '\\' && s->p < s->end)
				collect(s, *s->p++);
			else if (c == '"')
				s->quoted = false;
		}
		while (s->len > 0 && isspace((unsigned char)s->out[s->len - 1]))
			s->len--;
		s->out[s->len] = '\0';
		if (s->len > 0 || s->angle)
			return true;
	}
}

static struct scan scan_of(const struct header *h)
{
	return (struct scan){ .p = h->value, .end = h->value + h->value_len };
}

static bool lacks_domain(const struct header *h)
{
	struct scan s = scan_of(h);

	while (next_address(&s)) {
		const char *at = strrchr(s.out, '@');

		if (at == NULL || at == s.out || at[1] == '\0')
			return true;
	}
	return false;
}

bool message_fault(const struct message *m, char *out, size_t cap)
{
	bool seen[SINGLE_USE] = { false }, from = false;

	for (size_t i = 0; i < m->count; i++) {
		const struct header *h = &m->headers[i];

		for (size_t k = 0; k < SINGLE_USE; k++) {
			if (!name_is(h, single_use[k], strlen(single_use[k])))
				continue;
			if (seen[k]) {
				(void)snprintf(out, cap,
				    "Duplicate header "
				    "'%s'.",
				    single_use[k]);
				return true;
			}
			seen[k] = true;
			break;
		}
	}
	for (size_t i = 0; i < m->count; i++) {
		const struct header *h = &m->headers[i];
		bool is_from = name_is(h, "From", 4);

		from = from || is_from;
		if ((is_from || name_is(h, "To", 2) || name_is(h, "Cc", 2)) &&
		    lacks_domain(h)) {
			(void)snprintf(out, cap, "Missing final '@domain'");
			return true;
		}
	}
	if (!from)
		(void)snprintf(out, cap, "Missing required header 'From'.");
	return !from;
}

/* True if addr, or its domain or a parent of that, is in the list. */
static bool is_verified(const char *addr, const char *verified)
{
	const char *at = strrchr(addr, '@');

	for (const char *p = verified; *p != '\0'; p += strspn(p, ", ")) {
		size_t n = strcspn(p, ", "), len;
		const char *whole = addr;

		if (memchr(p, '@', n) == NULL)
			whole = at != NULL ? at + 1 : "";
		len = strlen(whole);
		if (len == n && strncasecmp(whole, p, n) == 0)
			return true;
		if (whole != addr && len > n && whole[len - n - 1] == '.' &&
		    n > 0 && strncasecmp(whole + len - n, p, n) == 0)
			return true;
		p += n;
	}
	return false;
}

static void check_identity(
    const char *addr, const char *verified, struct buf *failed)
{
	if (is_verified(addr, verified) ||
	    (failed->len > 0 &&
		memmem(failed->data, failed->len, addr, strlen(addr)) != NULL))
		return;
	buf_addf(failed, "%s%s", failed->len > 0 ? ", " : "", addr);
}

void message_unverified(const struct message *m, const char *envelope,
    const char *verified, struct buf *failed)
{
	check_identity(envelope, verified, failed);
	for (size_t i = 0; i < m->count; i++) {
		const struct header *h = &m->headers[i];
		struct scan s = scan_of(h);

		if (!name_is(h, "From", 4) && !name_is(h, "Sender", 6) &&
		    !name_is(h, "Return-Path", 11))
			continue;
		while (next_address(&s))
			check_identity(s.out, verified, failed);
	}
}

void message_sandboxed(
    const char *rcpt, const char *verified, struct buf *failed)
{
	if (!is_verified(rcpt, "simulator.amazonses.com"))
		check_identity(rcpt, verified, failed);
}

int address_fault(const char *addr)
{
	const char *at = strrchr(addr, '@'), *label = at + 1;
	bool quoted = addr[0] == '"';

	for (const char *p = addr; p < at; p++) {
		if ((*p == ':' || *p == '@') && !quoted)
			return ADDRESS_USER;
	}
	if (*label == '[')
		return 0;
	for (const char *p = label;; p++) {
		if (*p == '.' || *p == '\0') {
			if (p == label || *label == '-' || p[-1] == '-')
				return ADDRESS_DOMAIN;
			if (*p == '\0')
				return 0;
			label = p + 1;
		} else if (!isalnum((unsigned char)*p) && *p != '-' &&
		    *p != '_') {
			return ADDRESS_DOMAIN;
		}
	}
}
