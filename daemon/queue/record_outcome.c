/*
 * The text of outcomes: one line each, closed by its checksum.
 *
 * Pure; any thread.  A line is bounded by RECORD_OUTCOME_MAX whatever a peer
 * answered: replies and Message-IDs are cut and escaped, positions are at most
 * RECORD_OUTCOME_RCPTS.
 */
#include "queue/record.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define DSN_MAX 16
#define MESSAGE_ID_MAX 512
#define REPLY_MAX 512
#define CHECK_LEN 16

static const char *const event_names[] = {
	[RECORD_SENT] = "sent",
	[RECORD_FAILED] = "failed",
	[RECORD_HOLD] = "hold",
	[RECORD_RELEASE] = "release",
	[RECORD_DELETE] = "delete",
	[RECORD_VOID] = "void",
};

/* "0-3,7", or "*" for all. */
static void append_rcpts(
    struct record_buf *out, const uint16_t *rcpts, unsigned n)
{
	char number[32];

	if (n == 0)
		record_buf_append(out, "*", 1);
	for (unsigned i = 0, last; i < n; i = last + 1) {
		int len;

		for (last = i;
		     last + 1 < n && rcpts[last + 1] == rcpts[last] + 1;)
			last++;
		if (last == i)
			len = snprintf(number, sizeof(number), "%s%u",
			    i > 0 ? "," : "", rcpts[i]);
		else
			len = snprintf(number, sizeof(number), "%s%u-%u",
			    i > 0 ? "," : "", rcpts[i], rcpts[last]);
		record_buf_append(out, number, (size_t)len);
	}
}

static void append_str(struct record_buf *out, const char *s)
{
	record_buf_append(out, s, strlen(s));
}

void record_encode_outcome(
    const struct record_outcome *o, struct record_buf *out)
{
	size_t start = out->len;
	char time[RECORD_TIME_LEN + 1], id[ID_BUF], tail[CHECK_LEN + 3];

	ASSERT(o->n_rcpts <= RECORD_OUTCOME_RCPTS && o->event < RECORD_OTHER);
	record_encode_time(o->time_us, time);
	append_str(out, time);
	append_str(out, " ");
	append_str(out, id_format(o->id, id));
	append_str(out, " ");
	append_str(out, event_names[o->event]);
	append_str(out, " ");
	append_rcpts(out, o->rcpts, o->n_rcpts);
	append_str(out, o->last ? " end " : " - ");
	record_escape_word(
	    out, o->dsn.len > 0 ? o->dsn : slice_str("-"), DSN_MAX);
	append_str(out, " <");
	record_escape_word(out, o->message_id, MESSAGE_ID_MAX);
	append_str(out, "> ");
	record_escape(out, o->reply, REPLY_MAX);
	snprintf(tail, sizeof(tail), " %016" PRIx64 "\n",
	    record_sum(out->data + start, out->len - start));
	record_buf_append(out, tail, CHECK_LEN + 2);
	ASSERT(out->len - start <= RECORD_OUTCOME_MAX);
}

static int decode_rcpts(struct slice text, struct record_outcome *o)
{
	o->n_rcpts = 0;
	if (slice_eq_str(text, "*"))
		return 0;
	while (text.len > 0) {
		struct slice range = slice_split(&text, ',');
		struct slice first = slice_split(&range, '-');
		uint64_t from, to;

		if (slice_parse_u64(first, &from) < 0)
			return -1;
		to = from;
		if (range.len > 0 && slice_parse_u64(range, &to) < 0)
			return -1;
		if (to < from || to > UINT16_MAX ||
		    to - from >= RECORD_OUTCOME_RCPTS - o->n_rcpts)
			return -1;
		for (; from <= to; from++)
			o->rcpts[o->n_rcpts++] = (uint16_t)from;
	}
	return o->n_rcpts > 0 ? 0 : -1;
}

static enum record_event decode_event(struct slice name)
{
	for (unsigned i = 0; i < ARRAY_LEN(event_names); i++)
		if (slice_eq_str(name, event_names[i]))
			return (enum record_event)i;
	return RECORD_OTHER;
}

/* "<...> rest": what stands between. */
static int decode_message_id(struct slice *rest, struct slice *message_id)
{
	const char *end;

	if (rest->len < 3 || rest->ptr[0] != '<')
		return -1;
	end = memmem(rest->ptr, rest->len, "> ", 2);
	if (end == NULL)
		return -1;
	*message_id = slice_of(rest->ptr + 1, (size_t)(end - rest->ptr - 1));
	*rest = slice_of(end + 2, rest->len - (size_t)(end + 2 - rest->ptr));
	return 0;
}

int record_decode_outcome(struct slice line, struct record_outcome *o)
{
	struct slice rest = line, last;
	char check[CHECK_LEN + 1];

	if (line.len < CHECK_LEN + 1 || line.len >= RECORD_OUTCOME_MAX)
		return -1;
	rest.len -= CHECK_LEN + 1;
	snprintf(check, sizeof(check), "%016" PRIx64,
	    record_sum(rest.ptr, rest.len));
	if (rest.ptr[rest.len] != ' ' ||
	    memcmp(check, rest.ptr + rest.len + 1, CHECK_LEN) != 0)
		return -1;
	if (record_decode_time(slice_split(&rest, ' '), &o->time_us) < 0 ||
	    id_parse(slice_split(&rest, ' '), &o->id) < 0)
		return -1;
	o->event = decode_event(slice_split(&rest, ' '));
	if (o->event == RECORD_OTHER)
		return 0;
	if (decode_rcpts(slice_split(&rest, ' '), o) < 0)
		return -1;
	last = slice_split(&rest, ' ');
	o->last = slice_eq_str(last, "end");
	if (!o->last && !slice_eq_str(last, "-"))
		return -1;
	o->dsn = slice_split(&rest, ' ');
	if (slice_eq_str(o->dsn, "-"))
		o->dsn = slice_of("", 0);
	if (decode_message_id(&rest, &o->message_id) < 0)
		return -1;
	o->reply = rest;
	return 0;
}
