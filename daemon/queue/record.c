/*
 * The text of arrivals: the header line of a file, the line, head and end of a
 * record.  (Outcome lines: record_outcome.c; escapes and times: record_text.c.)
 *
 * Pure; any thread.  Lines of fixed width are decoded field by field, encoded
 * again and compared with what was read: only the exact form passes, so there
 * is one place that knows the layout and no second opinion about it.
 */
#include "queue/record.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DECIMAL_LEN 10
#define HEX_LEN 16

static void append_str(struct record_buf *b, const char *s)
{
	record_buf_append(b, s, strlen(s));
}

/* Writers of fixed-width fields; each returns where the next one begins. */
static char *put_str(char *p, const char *s)
{
	size_t len = strlen(s);

	memcpy(p, s, len);
	return p + len;
}

static char *put_hex(char *p, uint64_t value, char sep)
{
	static const char digits[] = "0123456789abcdef";

	for (int i = HEX_LEN - 1; i >= 0; i--, value >>= 4)
		p[i] = digits[value & 15];
	p[HEX_LEN] = sep;
	return p + HEX_LEN + 1;
}

static char *put_id(char *p, uint64_t id, char sep)
{
	char text[ID_BUF];

	p = put_str(p, id_format(id, text));
	*p++ = sep;
	return p;
}

static char *put_decimal(char *p, uint32_t value, char sep)
{
	for (int i = DECIMAL_LEN - 1; i >= 0; i--, value /= 10)
		p[i] = (char)('0' + value % 10);
	p[DECIMAL_LEN] = sep;
	return p + DECIMAL_LEN + 1;
}

/* Readers: any content is taken, the comparison at the end judges it. */
static uint64_t get_hex(const char **p)
{
	uint64_t value = 0;

	if (slice_parse_hex(slice_of(*p, HEX_LEN), &value) < 0)
		value = 0;
	*p += HEX_LEN + 1;
	return value;
}

static uint32_t get_decimal(const char **p)
{
	uint64_t value = 0;

	if (slice_parse_u64(slice_of(*p, DECIMAL_LEN), &value) < 0 ||
	    value > UINT32_MAX)
		value = 0;
	*p += DECIMAL_LEN + 1;
	return (uint32_t)value;
}

static const char *header_magic(enum record_kind kind)
{
	return kind == RECORD_ARRIVALS ? "sesrelayd-arrivals "
				       : "sesrelayd-outcomes ";
}

void record_encode_header(enum record_kind kind,
    const struct record_header *header, char buf[RECORD_HEADER_LEN])
{
	char *p = put_str(put_str(buf, header_magic(kind)), "1 ");

	p = put_hex(p, header->nonce, ' ');
	p = put_id(p, header->floor, ' ');
	p = put_hex(p, record_sum(buf, (size_t)(p - buf)), '\n');
	ASSERT(p - buf == RECORD_HEADER_LEN);
}

/* Reads the fields; is it one of ours, but for the digits of the version? */
static bool header_is_ours(enum record_kind kind, const char *text,
    size_t version_at, struct record_header *header)
{
	char again[RECORD_HEADER_LEN];
	const char *p = text + version_at + 2;

	header->nonce = get_hex(&p);
	header->floor = get_hex(&p);
	record_encode_header(kind, header, again);
	again[version_at] = text[version_at];
	return memcmp(again, text, RECORD_HEADER_LEN) == 0;
}

enum record_verdict record_decode_header(
    enum record_kind kind, struct slice text, struct record_header *header)
{
	const char *magic = header_magic(kind);
	size_t version_at = strlen(magic);
	struct slice rest;
	uint64_t version;
	bool ours;

	if (!slice_has_prefix(text, magic))
		return RECORD_BAD;
	ours = text.len >= RECORD_HEADER_LEN &&
	    header_is_ours(kind, text.ptr, version_at, header);
	if (ours && text.ptr[version_at] == '1')
		return RECORD_OK;
	rest = slice_of(text.ptr + version_at, text.len - version_at);
	/* A later version has a sum of its own: else the digit was damaged. */
	if (!ours && slice_parse_u64(slice_split(&rest, ' '), &version) == 0 &&
	    version > 1)
		return RECORD_NEWER;
	return RECORD_BAD;
}

void record_encode_magic(uint64_t nonce, char buf[RECORD_MAGIC_LEN])
{
	char *p = put_hex(put_str(buf, "message 1 "), nonce, ' ');

	ASSERT(p - buf == RECORD_MAGIC_LEN);
}

void record_encode_line(
    const struct record_line *line, char buf[RECORD_LINE_LEN])
{
	char *p = buf + RECORD_MAGIC_LEN;

	record_encode_magic(line->nonce, buf);
	p = put_decimal(p, line->ref.segment, ' ');
	p = put_decimal(p, line->ref.offset, ' ');
	p = put_id(p, line->id, ' ');
	p = put_decimal(p, line->head_len, ' ');
	p = put_decimal(p, line->body_len, ' ');
	p = put_hex(p, line->head_sum, ' ');
	p = put_hex(p, line->body_sum, ' ');
	p = put_hex(p, record_sum(buf, (size_t)(p - buf)), '\n');
	ASSERT(p - buf == RECORD_LINE_LEN);
}

int record_decode_line(struct slice text, struct record_line *line)
{
	char again[RECORD_LINE_LEN];
	const char *p;

	if (text.len < RECORD_LINE_LEN || !slice_has_prefix(text, "message 1 "))
		return -1;
	p = text.ptr + strlen("message 1 ");
	line->nonce = get_hex(&p);
	line->ref.segment = get_decimal(&p);
	line->ref.offset = get_decimal(&p);
	line->id = get_hex(&p);
	line->head_len = get_decimal(&p);
	line->body_len = get_decimal(&p);
	line->head_sum = get_hex(&p);
	line->body_sum = get_hex(&p);
	record_encode_line(line, again);
	if (memcmp(again, text.ptr, RECORD_LINE_LEN) != 0)
		return -1;
	if (line->head_len > RECORD_HEAD_MAX ||
	    line->body_len > RECORD_BODY_MAX || line->id == 0)
		return -1;
	return 0;
}

void record_encode_end(uint64_t id, char buf[RECORD_END_LEN])
{
	char *p = put_id(put_str(buf, "end "), id, '\n');

	ASSERT(p - buf == RECORD_END_LEN);
}

size_t record_total(const struct record_line *line)
{
	return RECORD_LINE_LEN + (size_t)line->head_len + line->body_len +
	    RECORD_END_LEN;
}

static void append_value(
    struct record_buf *out, const char *key, const char *value)
{
	append_str(out, key);
	append_str(out, " ");
	record_escape(out, slice_str(value != NULL ? value : ""), 0);
	append_str(out, "\n");
}

int record_encode_head(const struct message *m,
    const struct record_extra *extra, struct record_buf *out, struct err *err)
{
	char time[RECORD_TIME_LEN + 1], number[64];
	size_t start = out->len;

	record_encode_time(m->arrival_us, time);
	append_value(out, "time", time);
	if (m->clock_us > 0) {
		snprintf(number, sizeof(number), "clock %020" PRId64 "\n",
		    m->clock_us);
		append_str(out, number);
	}
	append_value(out, "peer", m->peer);
	append_value(out, "helo", m->helo);
	append_value(out, "from", m->sender);
	append_value(out, "message-id", m->message_id);
	if (m->body_8bit)
		append_str(out, "8bit\n");
	if (extra->held)
		append_str(out, "held\n");
	if (m->notice)
		append_str(out, "notice\n");
	if (m->large) {
		snprintf(number, sizeof(number),
		    "large %020" PRIu64 " %016" PRIx64 "\n", m->size,
		    extra->large_sum);
		append_str(out, number);
	}
	for (unsigned i = 0; i < m->n_rcpts; i++) {
		char key[] = { 'r', 'c', 'p', 't', ' ', (char)m->rcpts[i].state,
			'\0' };

		append_value(out, key, m->rcpts[i].addr);
		if (m->rcpts[i].orig != NULL)
			append_value(out, "orig", m->rcpts[i].orig);
	}
	if (out->len - start > RECORD_HEAD_MAX) {
		out->len = start;
		return err_set(err, EMSGSIZE, "the envelope is too long");
	}
	return 0;
}

/* Text fields of the envelope; each may stand once. */
static int head_text(char **field, struct slice value)
{
	if (*field != NULL)
		return -1;
	*field = record_unescape(value);
	return *field != NULL ? 0 : -1;
}

static int head_rcpt(struct message *m, struct slice value)
{
	char *addr;

	if (value.len < 2 || value.ptr[1] != ' ' ||
	    memchr("psf", value.ptr[0], 3) == NULL || m->n_rcpts >= UINT16_MAX)
		return -1;
	addr = record_unescape(slice_of(value.ptr + 2, value.len - 2));
	if (addr == NULL)
		return -1;
	message_add_rcpt(m, addr);
	m->rcpts[m->n_rcpts - 1].state = (enum rcpt_state)value.ptr[0];
	free(addr);
	return 0;
}

/* Of the recipient before it. */
static int head_orig(struct message *m, struct slice value)
{
	if (m->n_rcpts == 0)
		return -1;
	return head_text(&m->rcpts[m->n_rcpts - 1].orig, value);
}

static int head_large(
    struct message *m, struct record_extra *extra, struct slice value)
{
	if (m->large || slice_parse_u64(slice_split(&value, ' '), &m->size) < 0)
		return -1;
	m->large = true;
	return slice_parse_hex(value, &extra->large_sum);
}

/* Times that no clock shows count as none. */
static int head_clock(struct message *m, struct slice value)
{
	uint64_t us;

	if (slice_parse_u64(value, &us) < 0)
		return -1;
	m->clock_us = us < INT64_MAX / 4 ? (int64_t)us : 0;
	return 0;
}

static int head_line(struct message *m, struct record_extra *extra,
    struct slice key, struct slice value, bool *timed)
{
	if (slice_eq_str(key, "rcpt"))
		return head_rcpt(m, value);
	if (slice_eq_str(key, "orig"))
		return head_orig(m, value);
	if (slice_eq_str(key, "from"))
		return head_text(&m->sender, value);
	if (slice_eq_str(key, "peer"))
		return head_text(&m->peer, value);
	if (slice_eq_str(key, "helo"))
		return head_text(&m->helo, value);
	if (slice_eq_str(key, "message-id"))
		return head_text(&m->message_id, value);
	if (slice_eq_str(key, "large"))
		return head_large(m, extra, value);
	if (slice_eq_str(key, "clock"))
		return head_clock(m, value);
	if (slice_eq_str(key, "8bit"))
		m->body_8bit = true;
	if (slice_eq_str(key, "notice"))
		m->notice = true;
	if (slice_eq_str(key, "held"))
		extra->held = true;
	if (slice_eq_str(key, "time")) {
		if (*timed)
			return -1;
		*timed = true;
		return record_decode_time(value, &m->arrival_us);
	}
	return 0;
}

struct message *record_decode_head(
    struct slice head, uint64_t id, struct record_extra *extra)
{
	struct message *m = message_new(id);
	bool timed = false;

	*extra = (struct record_extra){ 0 };
	if (head.len == 0 || head.ptr[head.len - 1] != '\n')
		goto bad;
	while (head.len > 0) {
		struct slice value = slice_split(&head, '\n');
		struct slice key = slice_split(&value, ' ');

		if (head_line(m, extra, key, value, &timed) < 0)
			goto bad;
	}
	if (!timed || m->sender == NULL || m->peer == NULL || m->helo == NULL ||
	    m->message_id == NULL || m->n_rcpts == 0)
		goto bad;
	return m;
bad:
	message_free(m);
	return NULL;
}
