/*
 * From an event to the bytes of its line.
 *
 * Pure; the log's thread.  Everything here appends to a struct log_text, which
 * cuts off what does not fit: a line is bounded whatever a peer sent.  Members
 * of a JSON object and fields of the journal go in whole or not at all.  Values
 * are cut before they are escaped, so that an escape is never cut in half.
 */
#include "base/log_private.h"

#include "base/clock.h"
#include "base/decimal.h"
#include "base/id.h"

#include <string.h>

#define SYSLOG_FACILITY_MAIL 2

static const char *const components[] = {
	[LOG_SMTPD] = "smtpd",
	[LOG_CLEANUP] = "cleanup",
	[LOG_QMGR] = "qmgr",
	[LOG_BOUNCE] = "bounce",
	[LOG_SMTP] = "smtp",
	[LOG_CONTROL] = "control",
	[LOG_MASTER] = "master",
};

static const struct {
	const char *name;
	int priority; /* syslog's */
	const char *prefix; /* of a sentence */
} levels[] = {
	[LOG_LEVEL_ERROR] = { "error", 3, "error: " },
	[LOG_LEVEL_WARNING] = { "warning", 4, "warning: " },
	[LOG_LEVEL_INFO] = { "info", 6, "" },
	[LOG_LEVEL_DEBUG] = { "debug", 7, "" },
};

const char *log_level_name(enum log_level level)
{
	return levels[level].name;
}

int log_level_parse(struct slice name, enum log_level *level)
{
	for (size_t i = 0; i < ARRAY_LEN(levels); i++) {
		if (!slice_eq_str(name, levels[i].name))
			continue;
		*level = (enum log_level)i;
		return 0;
	}
	return -1;
}

/* MESSAGE_ID of the journal: one for each kind of event that people look for. */
static const struct {
	const char *event, *id;
} kinds[] = {
	{ "accepted", "5352af2578ee4449a8a8c47fa7806f28" },
	{ "sent", "8f0d2cdee1304d7e9eb5df43e557f4c0" },
	{ "deferred", "989cceec95d64a058e7fddf06b6f7b97" },
	{ "bounced", "539e86d84b264b66a2cf83065591e759" },
	{ "reloaded", "c53a3f486db5440a8a17a543efa467ac" },
	{ "reload-refused", "9689582aeda048dba80b29ecdf70282b" },
};

/* The bytes that stay free for what ends a line: "}", newline, NUL. */
#define RESERVE 3

static void put(struct log_text *out, const char *data, size_t len)
{
	size_t end = sizeof(out->buf) - RESERVE;
	size_t room = out->len < end ? end - out->len : 0;

	if (len > room) {
		len = room;
		out->cut = true;
	}
	memcpy(out->buf + out->len, data, len);
	out->len += len;
	out->buf[out->len] = '\0';
}

static void put_str(struct log_text *out, const char *s)
{
	put(out, s, strlen(s));
}

static void put_number(struct log_text *out, int value)
{
	char digits[DECIMAL_BUF];

	if (value < 0)
		put_str(out, "-");
	put_str(out,
	    decimal_format(
		value < 0 ? 0U - (unsigned)value : (unsigned)value, digits));
}

/* Takes from the reserve. */
static void put_end(struct log_text *out, char end)
{
	ASSERT(out->len < sizeof(out->buf) - 1);
	out->buf[out->len++] = end;
	out->buf[out->len] = '\0';
}

/* Take back what was put since `mark` if it did not fit. */
static void put_whole(struct log_text *out, size_t mark)
{
	if (!out->cut)
		return;
	out->len = mark;
	out->buf[mark] = '\0';
	out->cut = false;
}

static bool is_plain(unsigned char c, bool backslash)
{
	return c >= 0x20 && c <= 0x7e && (c != '\\' || !backslash);
}

static const char hex[] = "0123456789abcdef";

/* The escaped form of one byte: how many bytes it takes, up to 4. */
static size_t escape_byte(unsigned char c, bool backslash, char out[4])
{
	if (is_plain(c, backslash)) {
		out[0] = (char)c;
		return 1;
	}
	memcpy(out, "\\x", 2);
	out[2] = hex[c >> 4];
	out[3] = hex[c & 15];
	return 4;
}

const char *log_escape(const char *in, size_t len, char *buf, size_t size)
{
	size_t used = 0;

	ASSERT(size > 0);
	for (size_t i = 0; i < len; i++) {
		char bytes[4];
		size_t n = escape_byte((unsigned char)in[i], true, bytes);

		if (n > size - 1 - used)
			break;
		memcpy(buf + used, bytes, n);
		used += n;
	}
	buf[used] = '\0';
	return buf;
}

/* What needs no escape goes in runs. */
static void put_escaped(
    struct log_text *out, const char *in, size_t max, bool backslash)
{
	char bytes[4];
	size_t n;

	for (; max > 0 && *in; in += n, max -= n) {
		for (n = 0;
		     n < max && is_plain((unsigned char)in[n], backslash);)
			n++;
		if (n > 0) {
			put(out, in, n);
			continue;
		}
		put(out, bytes,
		    escape_byte((unsigned char)*in, backslash, bytes));
		n = 1;
	}
}

static void put_value(struct log_text *out, const char *value)
{
	put_escaped(out, value, LOG_VALUE_MAX, true);
}

/* " key=value", " key=<value>" or " (value)" with the comma where one goes. */
static void put_field(
    struct log_text *out, const struct log_field *field, bool first)
{
	static const struct {
		const char *separator, *open, *close;
		bool key;
	} styles[] = {
		[LOG_PLAIN] = { ", ", "=", "", true },
		[LOG_NUMBER] = { ", ", "=", "", true },
		[LOG_ANGLE] = { ", ", "=<", ">", true },
		[LOG_NOTE] = { " ", "(", ")", false },
	};

	ASSERT(field->style < ARRAY_LEN(styles) && styles[field->style].open);
	if (!first)
		put_str(out, styles[field->style].separator);
	if (styles[field->style].key)
		put_str(out, field->key);
	put_str(out, styles[field->style].open);
	put_value(out, field->value);
	put_str(out, styles[field->style].close);
}

/* What stands after the ident of a text line. */
static void put_text_body(struct log_text *out, const struct log_entry *entry)
{
	const struct log_field *field = entry->fields;
	char id[ID_BUF];
	bool first = true;

	if (entry->message)
		put_str(out, levels[entry->level].prefix);
	if (entry->id != LOG_NO_ID) {
		put_str(out, id_format(entry->id, id));
		put_str(out, ": ");
	}
	if (entry->message) {
		put_escaped(out, entry->message, LOG_LINE_MAX, false);
		return;
	}
	for (; field && field->style != LOG_END; field++) {
		if (!field->value || field->style >= LOG_HIDDEN)
			continue;
		put_field(out, field, first);
		first = false;
	}
	if (first)
		put_str(out, entry->event);
}

/*
 * Length of the UTF-8 sequence at s, of at most len bytes; 0 when it is none:
 * truncated, overlong, a surrogate, or beyond U+10FFFF.
 */
static size_t utf8_len(const unsigned char *s, size_t len)
{
	unsigned char low = 0x80, high = 0xbf;
	size_t n;

	if (s[0] < 0x80)
		return 1;
	if (s[0] < 0xc2 || s[0] > 0xf4)
		return 0;
	n = s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4;
	if (s[0] == 0xe0)
		low = 0xa0;
	else if (s[0] == 0xed)
		high = 0x9f;
	else if (s[0] == 0xf0)
		low = 0x90;
	else if (s[0] == 0xf4)
		high = 0x8f;
	if (n > len || s[1] < low || s[1] > high)
		return 0;
	for (size_t i = 2; i < n; i++)
		if (s[i] < 0x80 || s[i] > 0xbf)
			return 0;
	return n;
}

static void put_json_string(struct log_text *out, const char *in, size_t max)
{
	const unsigned char *s = (const unsigned char *)in;
	size_t len = strlen(in), i = 0;

	put_str(out, "\"");
	while (i < len) {
		size_t n = utf8_len(s + i, len - i);

		if (i + (n ? n : 1) > max)
			break;
		if (s[i] == '"' || s[i] == '\\')
			put(out, (char[]){ '\\', in[i] }, 2);
		else if (n == 0 || s[i] < 0x20 || s[i] == 0x7f)
			put(out,
			    (char[]){ '\\', 'u', '0', '0', hex[s[i] >> 4],
				hex[s[i] & 15] },
			    6);
		else
			put(out, in + i, n);
		i += n ? n : 1;
	}
	put_str(out, "\"");
}

/* Skips digits; false when there are none. */
static bool skip_digits(const char **s)
{
	const char *start = *s;

	while (**s >= '0' && **s <= '9')
		(*s)++;
	return *s > start;
}

/* A number as RFC 8259 section 6 has it, and not longer than one needs. */
static bool is_json_number(const char *s)
{
	if (strlen(s) > 32)
		return false;
	s += *s == '-';
	if (*s == '0')
		s++;
	else if (!skip_digits(&s))
		return false;
	if (*s == '.' && (s++, !skip_digits(&s)))
		return false;
	if (*s == 'e' || *s == 'E') {
		s++;
		s += *s == '+' || *s == '-';
		if (!skip_digits(&s))
			return false;
	}
	return *s == '\0';
}

static void put_json_member(struct log_text *out, const char *key,
    const char *value, size_t max, bool number)
{
	size_t mark = out->len;

	put_str(out, ",");
	put_json_string(out, key, LOG_VALUE_MAX);
	put_str(out, ":");
	if (number && is_json_number(value))
		put_str(out, value);
	else
		put_json_string(out, value, max);
	put_whole(out, mark);
}

static void put_json(struct log_text *out, const struct log_entry *entry)
{
	const struct log_field *field = entry->fields;
	char buf[64];

	clock_format_rfc3339(entry->wall_us, buf, sizeof(buf));
	put_str(out, "{\"time\":\"");
	put_str(out, buf);
	put_str(out, "\"");
	put_json_member(out, "level", levels[entry->level].name, 16, false);
	put_json_member(
	    out, "component", components[entry->component], 16, false);
	put_json_member(out, "event", entry->event, LOG_VALUE_MAX, false);
	if (entry->id != LOG_NO_ID)
		put_json_member(
		    out, "id", id_format(entry->id, buf), ID_LEN, false);
	for (; field && field->style != LOG_END; field++)
		if (field->value)
			put_json_member(out, field->key, field->value,
			    LOG_VALUE_MAX,
			    field->style == LOG_NUMBER ||
				field->style == LOG_HIDDEN_NUMBER);
	if (entry->message)
		put_json_member(
		    out, "message", entry->message, LOG_VALUE_MAX * 2, false);
	put_end(out, '}');
}

static void put_body(
    struct log_text *out, const struct log_entry *entry, enum log_format format)
{
	if (format == LOG_FORMAT_JSON)
		put_json(out, entry);
	else
		put_text_body(out, entry);
}

/* SESRELAYD_KEY=value, the key as the journal allows it. */
static void put_journal_field(
    struct log_text *out, const char *key, const char *value)
{
	size_t mark = out->len;

	put_str(out, "SESRELAYD_");
	for (size_t i = 0; i < 48 && key[i]; i++) {
		char c = key[i];

		if (c >= 'a' && c <= 'z')
			c = (char)(c - 'a' + 'A');
		else if (!((c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9')))
			c = '_';
		put(out, &c, 1);
	}
	put_str(out, "=");
	put_value(out, value);
	put_str(out, "\n");
	put_whole(out, mark);
}

/* Values are escaped, so the one-line form of the protocol always fits. */
static void put_journal(
    struct log_text *out, const struct log_entry *entry, enum log_format format)
{
	const struct log_field *field = entry->fields;
	char id[ID_BUF];

	put_str(out, "SYSLOG_IDENTIFIER=");
	put_str(out, entry->name);
	put_str(out, "/");
	put_str(out, components[entry->component]);
	put_str(out, "\nSYSLOG_FACILITY=");
	put_number(out, SYSLOG_FACILITY_MAIL);
	put_str(out, "\nSYSLOG_PID=");
	put_number(out, entry->pid);
	put_str(out, "\nPRIORITY=");
	put_number(out, levels[entry->level].priority);
	put_str(out, "\n");
	for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
		if (strcmp(kinds[i].event, entry->event) == 0) {
			put_str(out, "MESSAGE_ID=");
			put_str(out, kinds[i].id);
			put_str(out, "\n");
		}
	if (entry->id != LOG_NO_ID) {
		put_str(out, "QUEUE_ID=");
		put_str(out, id_format(entry->id, id));
		put_str(out, "\nSESRELAYD_QUEUE_ID=");
		put_str(out, id);
		put_str(out, "\n");
	}
	put_str(out, "MESSAGE=");
	put_body(out, entry, format);
	put_end(out, '\n');
	put_journal_field(out, "event", entry->event);
	for (; field && field->style != LOG_END; field++)
		if (field->value)
			put_journal_field(out, field->key, field->value);
}

/* "<22>" */
static void put_priority(struct log_text *out, int priority)
{
	put_str(out, "<");
	put_number(out, priority);
	put_str(out, ">");
}

/* "sesrelayd/smtp[123]: " */
static void put_ident(struct log_text *out, const struct log_entry *entry)
{
	put_str(out, entry->name);
	put_str(out, "/");
	put_str(out, components[entry->component]);
	put_str(out, "[");
	put_number(out, entry->pid);
	put_str(out, "]: ");
}

void log_format_entry(const struct log_entry *entry, enum log_format format,
    enum log_frame frame, const char *hostname, struct log_text *out)
{
	int priority = levels[entry->level].priority;
	char stamp[32];

	out->len = 0;
	out->cut = false;
	if (frame == LOG_FRAME_JOURNAL) {
		put_journal(out, entry, format);
		return;
	}
	clock_format_syslog(entry->wall_us, stamp, sizeof(stamp));
	if (frame == LOG_FRAME_PRIORITY)
		put_priority(out, priority);
	else if (frame == LOG_FRAME_SYSLOG)
		put_priority(out, SYSLOG_FACILITY_MAIL << 3 | priority);
	if (frame == LOG_FRAME_SYSLOG ||
	    (frame == LOG_FRAME_STREAM && format == LOG_FORMAT_TEXT)) {
		put_str(out, stamp);
		put_str(out, " ");
	}
	if (frame == LOG_FRAME_STREAM && format == LOG_FORMAT_TEXT) {
		put_str(out, hostname);
		put_str(out, " ");
	}
	if (frame == LOG_FRAME_SYSLOG || format == LOG_FORMAT_TEXT)
		put_ident(out, entry);
	put_body(out, entry, format);
	if (frame == LOG_FRAME_STREAM || frame == LOG_FRAME_PRIORITY)
		put_end(out, '\n');
}
