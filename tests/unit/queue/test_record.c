/*
 * The text of the spool: what was written comes back, and nothing else does.
 * Every truncation and every flipped bit is refused or reads the same.
 */
#include "spool_test.h"

#include "queue/record.h"

static struct message *hard_message(bool large)
{
	struct message *m = message_new(UINT64_C(0x123456789abcdef0));

	m->arrival_us = INT64_C(1795341601123456);
	m->sender = xstrdup("");
	m->peer = xstrdup("a\nrcpt p evil@example.com\nfrom x");
	m->helo = xstrdup("\x01\x7f\\x0a\\ \t\r\n\xc3\xa9");
	m->message_id = xstrdup("<a> b@c");
	m->body_8bit = true;
	m->clock_us = large ? INT64_C(1795341601123457) : 0;
	m->notice = large;
	m->large = large;
	m->size = large ? UINT64_C(5000000000) : 0;
	message_add_rcpt(m, "a@b.example");
	message_add_rcpt(m, "\"q uo\\te\"@example");
	message_set_orig(m, "\"r\\oot \"");
	message_add_rcpt(m, "");
	m->rcpts[1].state = RCPT_SENT;
	m->rcpts[2].state = RCPT_FAILED;
	return m;
}

static void assert_same_message(
    const struct message *a, const struct message *b)
{
	assert_same_envelope(a, b);
	assert_int_equal(a->clock_us, b->clock_us);
	for (unsigned i = 0; i < a->n_rcpts; i++)
		assert_int_equal(a->rcpts[i].state, b->rcpts[i].state);
}

static void test_head_round_trip(void **state)
{
	(void)state;
	for (int large = 0; large <= 1; large++) {
		struct message *m = hard_message(large), *again;
		struct record_extra extra = { .held = large,
			.large_sum = large ? UINT64_C(0xfedcba9876543210) : 0 };
		struct record_extra extra_again;
		struct record_buf head = { 0 };

		assert_int_equal(record_encode_head(m, &extra, &head, NULL), 0);
		for (size_t i = 0; i < head.len; i++) {
			unsigned char c = (unsigned char)head.data[i];

			assert_true(c == '\n' || (c >= 0x20 && c != 0x7f));
		}
		again = record_decode_head(
		    slice_of(head.data, head.len), m->id, &extra_again);
		assert_non_null(again);
		assert_same_message(m, again);
		assert_int_equal(extra.held, extra_again.held);
		assert_int_equal(extra.large_sum, extra_again.large_sum);
		message_free(again);
		message_free(m);
		record_buf_fini(&head);
	}
}

/* The decoder alone, without a checksum before it, must stand any bytes. */
static void test_head_hostile(void **state)
{
	static const char *const bad[] = {
		"",
		"\n",
		"time\n",
		"rcpt p a@b\n",
		"time 2026-11-22T10:00:01.123456Z\npeer a\nhelo b\nfrom c\n"
		"message-id d\n",
		"time 2026-11-22T10:00:01.123456Z\npeer a\nhelo b\nfrom c\n"
		"message-id d\nrcpt x a@b\n",
		"time 2026-11-22T10:00:01.123456Z\npeer a\nhelo b\nfrom c\n"
		"message-id d\nrcpt p a\\x00b\n",
		"time 2026-11-22T10:00:01.123456Z\npeer a\nhelo b\nfrom c\n"
		"message-id d\nrcpt p a\\x\n",
		"time 2026-11-22T10:00:01.123456Z\npeer a\nhelo b\nfrom c\n"
		"message-id d\nrcpt p a@b\nfrom e\n",
		"time 2026-11-22T10:00:01.123456Z\npeer a\nhelo b\nfrom c\n"
		"message-id d\nrcpt p a@b\nlarge 1\n",
		"time 2026-11-22T10:00:01.123456Z\npeer a\nhelo b\nfrom c\n"
		"message-id d\norig x\nrcpt p a@b\n",
		"time 2026-11-22T10:00:01.123456Z\npeer a\nhelo b\nfrom c\n"
		"message-id d\nrcpt p a@b\norig x\norig y\n",
		"time 2026-11-22T10:00:01.123456Z\npeer a\nhelo b\nfrom c\n"
		"message-id d\nrcpt p a@b\nlarge 99999999999999999999 1\n",
		"time 2026-11-22T10:00:01.123456Z\npeer a\nhelo b\nfrom c\n"
		"message-id d\nrcpt p a@b",
		"time 2026-11-22T10:00:01.123456Z\npeer a\nhelo b\nfrom c\r\n"
		"message-id d\nrcpt p a@b\n",
	};
	static const char good[] =
	    "time 2026-11-22T10:00:01.123456Z\npeer a\nhelo b\nfrom c\n"
	    "message-id d\nrcpt p a@b\nfuture something\n";
	struct record_extra extra;
	struct message *m;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_null(record_decode_head(slice_str(bad[i]), 1, &extra));
	m = record_decode_head(slice_str(good), 1, &extra);
	assert_non_null(m);
	message_free(m);
	/* Every flipped bit: refused or read, never beyond the text. */
	for (size_t bit = 0; bit < 8 * (sizeof(good) - 1); bit++) {
		char *text = xmemdup(good, sizeof(good) - 1);

		text[bit / 8] = (char)(text[bit / 8] ^ (1 << bit % 8));
		message_free(record_decode_head(
		    slice_of(text, sizeof(good) - 1), 1, &extra));
		free(text);
	}
	for (size_t len = 0; len < sizeof(good) - 1; len++) {
		char *text = xmemdup(good, len);

		message_free(
		    record_decode_head(slice_of(text, len), 1, &extra));
		free(text);
	}
}

static void test_head_too_long(void **state)
{
	struct message *m = make_message(1, 0, 1);
	struct record_buf out = { 0 };
	struct record_extra extra = { 0 };
	struct err err;

	(void)state;
	free(m->helo);
	m->helo = xmalloc(RECORD_HEAD_MAX + 1);
	memset(m->helo, 'x', RECORD_HEAD_MAX);
	m->helo[RECORD_HEAD_MAX] = '\0';
	record_buf_append(&out, "before", 6);
	assert_int_equal(record_encode_head(m, &extra, &out, &err), -1);
	assert_int_equal(err.code, EMSGSIZE);
	assert_int_equal(out.len, 6);
	record_buf_fini(&out);
	message_free(m);
}

static const struct record_line line_sample = {
	.nonce = UINT64_C(0x0123456789abcdef),
	.ref = { .segment = 4294967295u, .offset = 72 },
	.id = UINT64_C(0xfedcba9876543210),
	.head_len = 300,
	.body_len = 123456,
	.head_sum = 1,
	.body_sum = UINT64_MAX,
};

static void test_line(void **state)
{
	char text[RECORD_LINE_LEN], magic[RECORD_MAGIC_LEN];
	struct record_line line;

	(void)state;
	record_encode_line(&line_sample, text);
	assert_int_equal(text[RECORD_LINE_LEN - 1], '\n');
	assert_int_equal(
	    record_decode_line(slice_of(text, sizeof(text)), &line), 0);
	assert_memory_equal(&line, &line_sample, sizeof(line));
	record_encode_magic(line_sample.nonce, magic);
	assert_memory_equal(text, magic, sizeof(magic));
	for (size_t len = 0; len < sizeof(text); len++)
		assert_int_equal(
		    record_decode_line(slice_of(text, len), &line), -1);
	for (size_t bit = 0; bit < 8 * sizeof(text); bit++) {
		text[bit / 8] = (char)(text[bit / 8] ^ (1 << bit % 8));
		assert_int_equal(
		    record_decode_line(slice_of(text, sizeof(text)), &line),
		    -1);
		text[bit / 8] = (char)(text[bit / 8] ^ (1 << bit % 8));
	}
}

/* A line can be right in itself and still ask for too much. */
static void test_line_limits(void **state)
{
	struct record_line line = line_sample, again;
	char text[RECORD_LINE_LEN];

	(void)state;
	line.head_len = RECORD_HEAD_MAX + 1;
	record_encode_line(&line, text);
	assert_int_equal(
	    record_decode_line(slice_of(text, sizeof(text)), &again), -1);
	line = line_sample;
	line.body_len = RECORD_BODY_MAX + 1;
	record_encode_line(&line, text);
	assert_int_equal(
	    record_decode_line(slice_of(text, sizeof(text)), &again), -1);
	line = line_sample;
	line.id = 0;
	record_encode_line(&line, text);
	assert_int_equal(
	    record_decode_line(slice_of(text, sizeof(text)), &again), -1);
}

static void test_header(void **state)
{
	struct record_header header = { .nonce = 42, .floor = UINT64_MAX };
	struct record_header again;
	char text[RECORD_HEADER_LEN];

	(void)state;
	for (int kind = RECORD_ARRIVALS; kind <= RECORD_OUTCOMES; kind++) {
		enum record_kind other = (enum record_kind)(1 - kind);

		record_encode_header((enum record_kind)kind, &header, text);
		assert_int_equal(record_decode_header((enum record_kind)kind,
				     slice_of(text, sizeof(text)), &again),
		    RECORD_OK);
		assert_memory_equal(&header, &again, sizeof(header));
		assert_int_equal(record_decode_header(other,
				     slice_of(text, sizeof(text)), &again),
		    RECORD_BAD);
		for (size_t len = 0; len < sizeof(text); len++)
			assert_int_not_equal(
			    record_decode_header((enum record_kind)kind,
				slice_of(text, len), &again),
			    RECORD_OK);
		for (size_t bit = 0; bit < 8 * sizeof(text); bit++) {
			text[bit / 8] ^= (char)(1 << bit % 8);
			/* Nor for a later version's: that would be left alone. */
			assert_int_equal(
			    record_decode_header((enum record_kind)kind,
				slice_of(text, sizeof(text)), &again),
			    RECORD_BAD);
			text[bit / 8] ^= (char)(1 << bit % 8);
		}
	}
	assert_int_equal(
	    record_decode_header(RECORD_ARRIVALS,
		slice_str("sesrelayd-arrivals 2 whatever\n"), &again),
	    RECORD_NEWER);
}

static void test_time(void **state)
{
	static const struct {
		int64_t us;
		const char *text;
	} rows[] = {
		{ 0, "1970-01-01T00:00:00.000000Z" },
		{ -1, "1969-12-31T23:59:59.999999Z" },
		{ INT64_C(951782400000000), "2000-02-29T00:00:00.000000Z" },
		{ INT64_C(1795341601123456), "2026-11-22T10:00:01.123456Z" },
		{ INT64_C(4107542400000000), "2100-03-01T00:00:00.000000Z" },
	};
	static const char *const bad[] = {
		"2026-11-22T10:00:01.123456",
		"2026-11-22T10:00:01.123456z",
		"2026-11-22 10:00:01.123456Z",
		"2026-13-22T10:00:01.123456Z",
		"2026-00-22T10:00:01.123456Z",
		"2026-02-29T10:00:01.123456Z",
		"2026-11-22T24:00:01.123456Z",
		"2026-11-22T10:60:01.123456Z",
		"2026-11-22T10:00:60.123456Z",
		"+026-11-22T10:00:01.123456Z",
	};
	char text[RECORD_TIME_LEN + 1];
	int64_t us;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		record_encode_time(rows[i].us, text);
		assert_string_equal(text, rows[i].text);
		assert_int_equal(record_decode_time(slice_str(text), &us), 0);
		assert_int_equal(us, rows[i].us);
	}
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_int_equal(
		    record_decode_time(slice_str(bad[i]), &us), -1);
	/* A clock gone mad is bounded, not refused. */
	record_encode_time(INT64_MAX, text);
	assert_int_equal(record_decode_time(slice_str(text), &us), 0);
	record_encode_time(INT64_MIN, text);
	assert_int_equal(record_decode_time(slice_str(text), &us), 0);
	for (int64_t t = -1000000; t < 3000000; t += 9973) {
		record_encode_time(t * 86399 * 7, text);
		assert_int_equal(record_decode_time(slice_str(text), &us), 0);
		assert_int_equal(us, t * 86399 * 7);
	}
}

static void assert_unescapes_to(struct slice escaped, struct slice raw)
{
	char *text = record_unescape(escaped);

	assert_non_null(text);
	assert_int_equal(strlen(text), raw.len);
	assert_memory_equal(text, raw.ptr, raw.len);
	free(text);
}

static struct record_outcome outcome_sample(void)
{
	struct record_outcome o = {
		.time_us = INT64_C(1795341601123456),
		.id = UINT64_C(0x00061f0000000001),
		.event = RECORD_SENT,
		.n_rcpts = 7,
		.rcpts = { 0, 1, 2, 5, 7, 8, 65535 },
		.dsn = slice_str("2.0.0"),
		.message_id = slice_str("a> b@c"),
		.reply = slice_str("250 Ok\n<x> end 1\\2\x7f"),
	};

	return o;
}

static void test_outcome_round_trip(void **state)
{
	struct record_outcome o = outcome_sample(), again;
	struct record_buf out = { 0 };

	(void)state;
	for (int event = RECORD_SENT; event < RECORD_OTHER; event++) {
		o.event = (enum record_event)event;
		o.last = event % 2;
		out.len = 0;
		record_encode_outcome(&o, &out);
		assert_int_equal(out.data[out.len - 1], '\n');
		assert_null(memchr(out.data, '\n', out.len - 1));
		assert_non_null(memmem(out.data, out.len, " 0-2,5,7-8,65535 ",
		    strlen(" 0-2,5,7-8,65535 ")));
		assert_int_equal(record_decode_outcome(
				     slice_of(out.data, out.len - 1), &again),
		    0);
		assert_int_equal(again.time_us, o.time_us);
		assert_int_equal(again.id, o.id);
		assert_int_equal(again.event, o.event);
		assert_int_equal(again.last, o.last);
		assert_int_equal(again.n_rcpts, o.n_rcpts);
		assert_memory_equal(
		    again.rcpts, o.rcpts, o.n_rcpts * sizeof(o.rcpts[0]));
		assert_unescapes_to(again.dsn, o.dsn);
		assert_unescapes_to(again.message_id, o.message_id);
		assert_unescapes_to(again.reply, o.reply);
	}
	o = (struct record_outcome){ .id = 1, .event = RECORD_VOID };
	out.len = 0;
	record_encode_outcome(&o, &out);
	assert_int_equal(
	    record_decode_outcome(slice_of(out.data, out.len - 1), &again), 0);
	assert_int_equal(again.n_rcpts, 0);
	assert_int_equal(again.dsn.len, 0);
	assert_int_equal(again.message_id.len, 0);
	assert_int_equal(again.reply.len, 0);
	record_buf_fini(&out);
}

/* However much a peer said, and however scattered the positions are. */
static void test_outcome_is_bounded(void **state)
{
	struct record_outcome o = outcome_sample(), again;
	struct record_buf out = { 0 };
	char *noise = xmalloc(100000);

	(void)state;
	memset(noise, '\n', 100000);
	o.reply = o.dsn = o.message_id = slice_of(noise, 100000);
	o.n_rcpts = RECORD_OUTCOME_RCPTS;
	for (unsigned i = 0; i < RECORD_OUTCOME_RCPTS; i++)
		o.rcpts[i] = (uint16_t)(64000 + 2 * i);
	record_encode_outcome(&o, &out);
	assert_in_range(out.len, 1, RECORD_OUTCOME_MAX);
	assert_int_equal(
	    record_decode_outcome(slice_of(out.data, out.len - 1), &again), 0);
	assert_int_equal(again.n_rcpts, RECORD_OUTCOME_RCPTS);
	free(noise);
	record_buf_fini(&out);
}

static void test_outcome_damaged(void **state)
{
	struct record_outcome o = outcome_sample(), again;
	struct record_buf out = { 0 };

	(void)state;
	record_encode_outcome(&o, &out);
	for (size_t len = 0; len < out.len - 1; len++) {
		char *text = xmemdup(out.data, len);

		assert_int_equal(
		    record_decode_outcome(slice_of(text, len), &again), -1);
		free(text);
	}
	for (size_t bit = 0; bit < 8 * (out.len - 1); bit++) {
		out.data[bit / 8] ^= (char)(1 << bit % 8);
		assert_int_equal(record_decode_outcome(
				     slice_of(out.data, out.len - 1), &again),
		    -1);
		out.data[bit / 8] ^= (char)(1 << bit % 8);
	}
	record_buf_fini(&out);
}

/* Right checksum, wrong content: what only a bug or an enemy would write. */
static void test_outcome_hostile(void **state)
{
	static const char *const bad[] = {
		"",
		"x",
		"2026-11-22T10:00:01.123456Z",
		"2026-11-22T10:00:01.123456Z 0000000000000001 sent",
		"2026-11-22T10:00:01.123456Z 0000000000000001 sent 65536 - - "
		"<> ",
		"2026-11-22T10:00:01.123456Z 0000000000000001 sent 0-65535 - "
		"- <> ",
		"2026-11-22T10:00:01.123456Z 0000000000000001 sent 5-4 - - <> ",
		"2026-11-22T10:00:01.123456Z 0000000000000001 sent  - - <> ",
		"2026-11-22T10:00:01.123456Z 0000000000000001 sent * maybe - "
		"<> ",
		"2026-11-22T10:00:01.123456Z 0000000000000001 sent * - - <",
		"2026-11-22T10:00:01.123456Z 000000000000000 sent * - - <> ",
		"never 0000000000000001 sent * - - <> ",
	};
	static const char other[] =
	    "2026-11-22T10:00:01.123456Z 0000000000000001 tried what ever";
	struct record_outcome o;
	char line[256];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		snprintf(line, sizeof(line), "%s %016" PRIx64, bad[i],
		    record_sum(bad[i], strlen(bad[i])));
		assert_int_equal(
		    record_decode_outcome(slice_str(line), &o), -1);
	}
	snprintf(line, sizeof(line), "%s %016" PRIx64, other,
	    record_sum(other, strlen(other)));
	assert_int_equal(record_decode_outcome(slice_str(line), &o), 0);
	assert_int_equal(o.event, RECORD_OTHER);
}

static void test_sum_in_parts(void **state)
{
	struct record_summer *sum = record_sum_new();
	struct body b;

	(void)state;
	body_init(&b);
	fill_body(&b, 1, 100000);
	for (size_t at = 0; at < b.len; at += 997)
		record_sum_update(
		    sum, b.data + at, b.len - at < 997 ? b.len - at : 997);
	assert_int_equal(record_sum_value(sum), record_sum(b.data, b.len));
	record_sum_free(sum);
	record_sum_free(NULL);
	body_fini(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_head_round_trip),
		cmocka_unit_test(test_head_hostile),
		cmocka_unit_test(test_head_too_long),
		cmocka_unit_test(test_line),
		cmocka_unit_test(test_line_limits),
		cmocka_unit_test(test_header),
		cmocka_unit_test(test_time),
		cmocka_unit_test(test_outcome_round_trip),
		cmocka_unit_test(test_outcome_is_bounded),
		cmocka_unit_test(test_outcome_damaged),
		cmocka_unit_test(test_outcome_hostile),
		cmocka_unit_test(test_sum_in_parts),
	};

	return cmocka_run_group_tests_name("record", tests, NULL, NULL);
}
