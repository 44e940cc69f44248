/*
 * What the operator's lists are made of: heads without content, dead letters
 * read back, and the search of trace; from good files and from damaged ones.
 */
#include "spool_test.h"

#include "queue/inspect.h"
#include "queue/trace.h"

/* A spool with messages of ids 1 to n, closed again; their refs. */
static void make_spool(struct bench *b, struct message **messages, unsigned n)
{
	bench_init(b);
	bench_reopen(b);
	for (unsigned i = 0; i < n; i++) {
		/* One with a head that no first read takes. */
		messages[i] = make_message(i + 1, 3000, i == 2 ? 200 : 3);
		assert_int_equal(bench_commit(b, messages[i]), 0);
	}
}

static void end_spool(struct bench *b, struct message **messages, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		message_free(messages[i]);
	bench_fini(b);
}

static void test_heads(void **state)
{
	struct message *messages[6];
	struct inspect_head heads[6] = { 0 };
	struct bench b;

	(void)state;
	make_spool(&b, messages, 6);
	for (unsigned i = 0; i < 6; i++)
		heads[i] = (struct inspect_head){
			.id = i + 1,
			.ref = messages[i]->ref,
		};
	heads[3].ref.offset++; /* no record begins there */
	heads[4].id = 7; /* another one does */
	heads[5].ref.segment = 99; /* there is none */
	inspect_heads(b.dir, heads, 6);
	for (unsigned i = 0; i < 6; i++) {
		if (i < 3) {
			assert_non_null(heads[i].message);
			assert_same_envelope(messages[i], heads[i].message);
			assert_int_equal(heads[i].message->body.len, 0);
		} else {
			assert_null(heads[i].message);
			assert_true(heads[i].err.text[0] != '\0');
		}
		message_free(heads[i].message);
	}
	assert_int_equal(heads[3].err.code, EBADMSG);
	assert_int_equal(heads[4].err.code, EBADMSG);
	assert_int_equal(heads[5].err.code, ENOENT);
	end_spool(&b, messages, 6);
}

/* --- dead letters --- */

static void bury(struct bench *b, const struct message *m, const char *reason)
{
	static const uint16_t rcpts[] = { 0, 2 };
	struct answer a = { 0 };
	struct spool_letter letter = {
		.id = m->id,
		.ref = m->ref,
		.time_us = INT64_C(1795000001000000),
		.rcpts = rcpts,
		.n_rcpts = 2,
		.reason = reason,
		.reply = "554 no",
	};

	spool_bury(b->spool, &letter, on_answer, &a);
	bench_wait(b, &a);
	assert_int_equal(a.rc, 0);
}

static void test_letter(void **state)
{
	struct message *messages[1];
	struct inspect_letter letter;
	struct inspect_names names;
	struct body body;
	struct bench b;
	struct err err;

	(void)state;
	make_spool(&b, messages, 1);
	bury(&b, messages[0], "it\r\nsaid \\no");
	bury(&b, messages[0], "again");
	assert_int_equal(inspect_letter_names(b.dir, &names, &err), 0);
	assert_int_equal(names.n, 2);
	assert_string_equal(names.items[0], "0000000000000001.2.eml");
	inspect_letter_read(b.dir, "0000000000000001.eml", &letter);
	assert_non_null(letter.message);
	assert_string_equal(letter.reason, "it\r\nsaid \\no");
	assert_string_equal(letter.reply, "554 no");
	assert_int_equal(letter.time_us, INT64_C(1795000001000000));
	assert_int_equal(letter.message->id, 1);
	assert_int_equal(letter.message->arrival_us, messages[0]->arrival_us);
	assert_string_equal(letter.message->sender, "sender-1@example.com");
	assert_string_equal(letter.message->message_id, "1@example.com");
	assert_int_equal(letter.message->n_rcpts, 2);
	assert_string_equal(
	    letter.message->rcpts[1].addr, "rcpt-2@example.net");
	assert_int_equal(letter.message->size, 3000);
	body_init(&body);
	assert_int_equal(
	    inspect_letter_content(b.dir, &letter, 0, 1000, &body, &err), 0);
	assert_int_equal(
	    inspect_letter_content(b.dir, &letter, 1000, 2000, &body, &err), 0);
	assert_memory_equal(body.data, messages[0]->body.data, 3000);
	assert_int_equal(
	    inspect_letter_content(b.dir, &letter, 3000, 1, &body, &err), -1);
	body_fini(&body);
	inspect_letter_fini(&letter);
	inspect_names_fini(&names);
	end_spool(&b, messages, 1);
}

/* Cut after each byte, or with a byte changed: whole or refused, no more. */
static void test_damaged_letter(void **state)
{
	struct message *messages[1];
	struct inspect_letter letter;
	struct bench b;
	char *path, *text;
	size_t len, head;

	(void)state;
	make_spool(&b, messages, 1);
	bury(&b, messages[0], "a reason");
	path = bench_path(&b, "failed/0000000000000001.eml");
	text = read_file(path, &len);
	head = len - 3000;
	for (size_t cut = 0; cut <= head; cut++) {
		write_file(path, text, cut);
		inspect_letter_read(b.dir, "0000000000000001.eml", &letter);
		if (letter.message == NULL)
			assert_int_equal(letter.err.code, EBADMSG);
		if (cut == head) {
			assert_non_null(letter.message);
			assert_int_equal(letter.message->size, 0);
		}
		inspect_letter_fini(&letter);
	}
	for (size_t at = 0; at < head; at++) {
		text[at] ^= 0x20;
		write_file(path, text, len);
		text[at] ^= 0x20;
		inspect_letter_read(b.dir, "0000000000000001.eml", &letter);
		if (letter.message != NULL)
			assert_true(letter.message->n_rcpts > 0);
		inspect_letter_fini(&letter);
	}
	/* What the content says is no business of ours. */
	memcpy(text + head, "X-Other: 1\r\nX-Sesrelayd-Sender: evil@x\r\n", 40);
	write_file(path, text, len);
	inspect_letter_read(b.dir, "0000000000000001.eml", &letter);
	assert_string_equal(letter.message->sender, "sender-1@example.com");
	assert_int_equal(letter.content_at, head);
	inspect_letter_fini(&letter);
	free(text);
	free(path);
	end_spool(&b, messages, 1);
}

/* --- trace --- */

struct story {
	char events[256];
};

static void add_event(void *ctx, const struct trace_event *event)
{
	struct story *s = ctx;
	static const char letters[] = "SFHRDV?";
	size_t n = strlen(s->events);

	s->events[n] =
	    event->kind == TRACE_LETTER ? 'L' : letters[event->outcome.event];
	s->events[n + 1] = '\0';
}

/* The one message of that text: its events. */
static uint64_t search(
    const struct bench *b, const char *text, struct story *story)
{
	struct trace *t = trace_new(b->dir, text);
	struct trace_found found = { 0 };

	story->events[0] = '\0';
	while (trace_step(t))
		;
	assert_null(trace_problem(t));
	assert_true(trace_n_found(t) <= 1);
	if (trace_n_found(t) == 1) {
		found = trace_get(t, 0);
		trace_each(t, 0, add_event, story);
		if (found.message == NULL)
			strcat(story->events, "-");
	}
	trace_free(t);
	return found.id;
}

static void settle_by(struct bench *b, const struct message *m,
    enum spool_event event, bool last, const char *reply)
{
	struct spool_outcome outcome = {
		.id = m->id,
		.ref = m->ref,
		.size = m->size,
		.event = event,
		.time_us = INT64_C(1795000002000000) + (int64_t)event,
		.last = last,
		.reply = reply,
		.message_id = event == SPOOL_SENT ? m->message_id : NULL,
	};

	spool_settle(b->spool, &outcome);
}

static void test_trace(void **state)
{
	struct message *messages[5];
	struct story story;
	struct bench b;

	(void)state;
	make_spool(&b, messages, 5);
	settle_by(&b, messages[0], SPOOL_SENT, true, "250 Ok 0100-aa");
	settle_by(&b, messages[1], SPOOL_HOLD, false, "held by uid 0");
	settle_by(&b, messages[1], SPOOL_RELEASE, false, "released");
	bury(&b, messages[3], "554 no");
	settle_by(&b, messages[3], SPOOL_FAILED, true, "554 no 0100-aa");
	bench_close(&b);
	assert_int_equal(search(&b, "0100-aa", &story), 1);
	assert_string_equal(story.events, "S");
	assert_int_equal(search(&b, "0100", &story), 0);
	assert_int_equal(search(&b, "<1@example.com>", &story), 1);
	assert_int_equal(search(&b, "0000000000000002", &story), 2);
	assert_string_equal(story.events, "HR");
	assert_int_equal(search(&b, "3@example.com", &story), 3);
	assert_string_equal(story.events, "");
	assert_int_equal(search(&b, "4@example.com", &story), 4);
	assert_string_equal(story.events, "LF");
	assert_int_equal(search(&b, "9@example.com", &story), 0);
	assert_int_equal(search(&b, "0000000000000009", &story), 0);
	end_spool(&b, messages, 5);
}

/* Arrivals that are gone, and those behind damage. */
static void test_trace_around_damage(void **state)
{
	struct message *messages[5];
	struct story story;
	struct bench b;
	char *path, *text;
	size_t len;

	(void)state;
	make_spool(&b, messages, 5);
	settle_by(&b, messages[0], SPOOL_SENT, true, "250 Ok 0100-aa");
	bench_close(&b);
	path = bench_path(&b, "arrivals/%09u", messages[1]->ref.segment);
	text = read_file(path, &len);
	text[messages[1]->ref.offset + 20] ^= 0x40;
	write_file(path, text, len);
	assert_int_equal(search(&b, "4@example.com", &story), 4);
	assert_int_equal(search(&b, "2@example.com", &story), 0);
	unlink(path);
	assert_int_equal(search(&b, "1@example.com", &story), 1);
	assert_string_equal(story.events, "S-");
	free(text);
	free(path);
	end_spool(&b, messages, 5);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_heads),
		cmocka_unit_test(test_letter),
		cmocka_unit_test(test_damaged_letter),
		cmocka_unit_test(test_trace),
		cmocka_unit_test(test_trace_around_damage),
	};

	return cmocka_run_group_tests_name("lists", tests, NULL, NULL);
}
