/*
 * The spool's small texts on arbitrary bytes: heads and outcome lines
 * (queue/record), the clock, the marks of crashes, what was learned of SES.
 *
 * Input: a byte that says which, then the text.  Properties: what is taken
 * reads back to the same when it is written again; what is not the exact form
 * of a line with a checksum is not taken; values stay in their bounds; escapes
 * are undone by their inverse, and hold no control byte.
 */
#include "fuzz.h"

#include "base/mem.h"
#include "policy/learned.h"
#include "queue/record.h"
#include "queue/spool_clock.h"
#include "queue/spool_marks.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ID UINT64_C(0x0123456789abcdef)

static bool same_text(const char *a, const char *b)
{
	return strcmp(a, b) == 0;
}

static void check_head(struct slice text)
{
	struct record_extra extra, extra_again;
	struct message *m = record_decode_head(text, ID, &extra), *again;
	struct record_buf out = { 0 };
	struct err err;

	if (m == NULL)
		return;
	PROPERTY(m->n_rcpts > 0 && m->id == ID);
	if (record_encode_head(m, &extra, &out, &err) == 0) {
		again = record_decode_head(
		    slice_of(out.data, out.len), ID, &extra_again);
		PROPERTY(again != NULL);
		PROPERTY(again->arrival_us == m->arrival_us);
		PROPERTY(again->clock_us == m->clock_us);
		PROPERTY(same_text(again->sender, m->sender));
		PROPERTY(same_text(again->peer, m->peer));
		PROPERTY(same_text(again->helo, m->helo));
		PROPERTY(same_text(again->message_id, m->message_id));
		PROPERTY(again->n_rcpts == m->n_rcpts);
		for (unsigned i = 0; i < m->n_rcpts; i++) {
			PROPERTY(
			    same_text(again->rcpts[i].addr, m->rcpts[i].addr));
			PROPERTY(again->rcpts[i].state == m->rcpts[i].state);
		}
		PROPERTY(again->large == m->large && again->size == m->size);
		PROPERTY(again->body_8bit == m->body_8bit);
		PROPERTY(extra_again.held == extra.held);
		message_free(again);
	}
	record_buf_fini(&out);
	message_free(m);
}

/* With the checksum that it lacks: what stands before it is the input's. */
static void check_outcome(struct slice text)
{
	static struct record_outcome o;
	char *line = xasprintf("%.*s %016llx", (int)text.len, text.ptr,
	    (unsigned long long)record_sum(text.ptr, text.len));
	char *reply;

	/* A NUL ended it: then the sum is wrong. */
	if (record_decode_outcome(slice_str(line), &o) == 0) {
		PROPERTY(strlen(line) == text.len + 17);
		PROPERTY(o.n_rcpts <= RECORD_OUTCOME_RCPTS);
		PROPERTY(o.event <= RECORD_OTHER);
		if (o.event != RECORD_OTHER) {
			reply = record_unescape(o.reply);
			free(reply);
		}
		line[text.len / 2] ^= 1;
		PROPERTY(record_decode_outcome(slice_str(line), &o) < 0);
	}
	PROPERTY(record_decode_outcome(text, &o) < 0 || text.len > 17);
	free(line);
}

static void check_encode_outcome(struct slice text)
{
	static struct record_outcome o, again;
	struct record_buf out = { 0 };
	struct fuzz_in in = { (const uint8_t *)text.ptr, text.len };
	char *reply;
	bool has_nul;

	o = (struct record_outcome){
		.time_us = INT64_C(1795257601123456),
		.id = ID,
		.event = (enum record_event)(fuzz_byte(&in) % RECORD_OTHER),
		.last = fuzz_byte(&in) & 1,
	};
	for (unsigned n = fuzz_byte(&in), at = 0; o.n_rcpts < n; o.n_rcpts++) {
		at += 1 + fuzz_byte(&in) % 3;
		o.rcpts[o.n_rcpts] = (uint16_t)at;
	}
	o.dsn = fuzz_until(&in, '\n');
	o.message_id = fuzz_until(&in, '\n');
	o.reply = fuzz_until(&in, '\n');
	record_encode_outcome(&o, &out);
	PROPERTY(out.len <= RECORD_OUTCOME_MAX);
	PROPERTY(out.data[out.len - 1] == '\n');
	PROPERTY(memchr(out.data, '\n', out.len - 1) == NULL);
	PROPERTY(record_decode_outcome(
		     slice_of(out.data, out.len - 1), &again) == 0);
	PROPERTY(again.id == o.id && again.event == o.event);
	PROPERTY(again.last == o.last && again.n_rcpts == o.n_rcpts);
	PROPERTY(
	    memcmp(again.rcpts, o.rcpts, o.n_rcpts * sizeof(o.rcpts[0])) == 0);
	reply = record_unescape(again.reply);
	/* C strings have no NUL, so nothing stands for one. */
	has_nul =
	    o.reply.len > 0 && memchr(o.reply.ptr, 0, o.reply.len) != NULL;
	PROPERTY(reply != NULL || has_nul);
	if (o.reply.len <= 512 && !has_nul)
		PROPERTY(slice_eq_str(o.reply, reply));
	free(reply);
	record_buf_fini(&out);
}

static void check_clock(struct slice text)
{
	char again[SPOOL_CLOCK_LEN + 1], line[SPOOL_CLOCK_LEN + 1];
	struct spool_clock c, now;

	if (spool_clock_decode(text, &c) == 0) {
		spool_clock_encode(&c, again);
		PROPERTY(memcmp(again, text.ptr, SPOOL_CLOCK_LEN) == 0);
	}
	/* The same with the checksum that it lacks. */
	if (text.len < SPOOL_CLOCK_LEN - 17)
		return;
	memcpy(line, text.ptr, SPOOL_CLOCK_LEN - 17);
	snprintf(line + SPOOL_CLOCK_LEN - 17, 18, "%016llx\n",
	    (unsigned long long)record_sum(line, SPOOL_CLOCK_LEN - 17));
	if (spool_clock_decode(slice_of(line, SPOOL_CLOCK_LEN), &c) < 0)
		return;
	PROPERTY(c.wall_us >= 0 && c.boot_us >= 0 && c.spool_us >= 0);
	now = c;
	now.boot_us = INT64_MAX / 8;
	now.wall_us = INT64_MAX / 8;
	spool_clock_go_on(&c, &now);
	PROPERTY(now.spool_us >= c.spool_us);
	PROPERTY(spool_clock_at(&c, 0) >= c.spool_us);
}

static void check_marks(struct slice text)
{
	struct spool_marks one = { 0 }, two = { 0 };
	size_t len, len_again;
	char *out, *again;

	marks_parse(&one, text);
	for (size_t i = 0; i < one.n; i++) {
		PROPERTY(i == 0 || one.items[i - 1].id < one.items[i].id);
		PROPERTY(one.items[i].id != 0 && mark_total(&one.items[i]) > 0);
		PROPERTY(marks_find(&one, one.items[i].id) == &one.items[i]);
		PROPERTY(mark_words(&one.items[i]) != NULL);
	}
	out = marks_format(&one, &len);
	marks_parse(&two, slice_of(out, len));
	PROPERTY(one.n == two.n);
	again = marks_format(&two, &len_again);
	PROPERTY(len == len_again && memcmp(out, again, len) == 0);
	if (one.n > 0)
		marks_remove(&two, one.items[0].id);
	PROPERTY(one.n == 0 || marks_find(&two, one.items[0].id) == NULL);
	free(out);
	free(again);
	marks_fini(&one);
	marks_fini(&two);
}

static void check_learned(struct slice text)
{
	struct learned l, again;
	char *out;

	if (!learned_parse(text, "host", "user", &l))
		return;
	PROPERTY(l.rate >= 0 && l.rate <= 1e6);
	PROPERTY(l.session_age_us >= 0 && l.mss >= 0 && l.mss < 65536);
	out = learned_format(&l, "host", "user");
	PROPERTY(learned_parse(slice_str(out), "host", "user", &again));
	PROPERTY(!learned_differs(&l, &again));
	PROPERTY(!learned_parse(slice_str(out), "other", "user", &again));
	free(out);
}

static void check_escape(struct slice text)
{
	struct record_buf out = { 0 };
	char *back = record_unescape(text);

	free(back);
	record_escape(&out, text, 0);
	for (size_t i = 0; i < out.len; i++)
		PROPERTY(
		    (unsigned char)out.data[i] >= ' ' && out.data[i] != 0x7f);
	if (text.len > 0 && memchr(text.ptr, '\0', text.len) == NULL) {
		back = record_unescape(slice_of(out.data, out.len));
		PROPERTY(back != NULL && slice_eq_str(text, back));
		free(back);
	}
	record_buf_fini(&out);
}

static void check_lines(struct slice text)
{
	struct record_header header = { 0 };
	struct record_line line;
	char again[RECORD_LINE_LEN], first[RECORD_HEADER_LEN];
	int64_t us;

	if (record_decode_header(RECORD_ARRIVALS, text, &header) == RECORD_OK) {
		record_encode_header(RECORD_ARRIVALS, &header, first);
		PROPERTY(memcmp(first, text.ptr, sizeof(first)) == 0);
	}
	if (record_decode_line(text, &line) == 0) {
		record_encode_line(&line, again);
		PROPERTY(memcmp(again, text.ptr, sizeof(again)) == 0);
		PROPERTY(line.head_len <= RECORD_HEAD_MAX && line.id != 0);
	}
	if (record_decode_time(text, &us) == 0) {
		char time[RECORD_TIME_LEN + 1];

		record_encode_time(us, time);
		PROPERTY(slice_eq_str(text, time));
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static void (*const checks[])(struct slice text) = { check_head,
		check_outcome, check_encode_outcome, check_clock, check_marks,
		check_learned, check_escape, check_lines };
	struct fuzz_in in = { data, size };
	uint8_t which = fuzz_byte(&in);

	checks[which % ARRAY_LEN(checks)](fuzz_bytes(&in, in.len));
	return 0;
}
