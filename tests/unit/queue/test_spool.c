/*
 * The spool's straight path: what is committed is found again with the same
 * content, what is settled is not, states of recipients and holds survive.
 */
#include "spool_test.h"

#include <sys/wait.h>

static void test_commit_and_reopen(void **state)
{
	static const size_t lens[] = { 0, 1, 100, 4096, 65535, 65536, 65537,
		300000, 1024 * 1024 };
	struct message *m[ARRAY_LEN(lens)];
	struct bench b;

	(void)state;
	bench_init(&b);
	bench_reopen(&b);
	assert_int_equal(b.n_found, 0);
	for (size_t i = 0; i < ARRAY_LEN(lens); i++) {
		m[i] = make_message(1000 + i, lens[i], 1 + (unsigned)i);
		assert_int_equal(bench_commit(&b, m[i]), 0);
		assert_int_not_equal(m[i]->ref.segment, 0);
		assert_loads(&b, m[i]->id, m[i]->ref, lens[i]);
	}
	bench_reopen(&b);
	assert_int_equal(b.n_found, ARRAY_LEN(lens));
	assert_int_equal(b.n_trouble, 0);
	for (size_t i = 0; i < ARRAY_LEN(lens); i++) {
		struct known *k = bench_find(&b, m[i]->id);

		assert_non_null(k);
		assert_false(k->held);
		assert_same_envelope(k->m, m[i]);
		assert_int_equal(k->m->ref.segment, m[i]->ref.segment);
		assert_int_equal(k->m->ref.offset, m[i]->ref.offset);
		assert_int_equal(
		    message_n_pending(k->m), message_n_pending(m[i]));
		assert_loads(&b, k->m->id, k->m->ref, lens[i]);
		message_free(m[i]);
	}
	bench_fini(&b);
}

static void test_order_is_kept(void **state)
{
	struct bench b;
	uint64_t id = 2000;

	(void)state;
	bench_init(&b);
	b.options.segment_bytes = 4096;
	bench_reopen(&b);
	for (; id < 2040; id++) {
		struct message *m = make_message(id, 700, 1);

		assert_int_equal(bench_commit(&b, m), 0);
		message_free(m);
	}
	bench_reopen(&b);
	/* The list is newest first. */
	for (struct known *k = b.found; k != NULL; k = k->next)
		assert_int_equal(k->m->id, --id);
	assert_int_equal(id, 2000);
	bench_fini(&b);
}

static void test_settled_is_gone(void **state)
{
	struct message *m[4];
	struct bench b;
	static const enum spool_event events[] = { SPOOL_SENT, SPOOL_FAILED,
		SPOOL_DELETE };

	(void)state;
	bench_init(&b);
	bench_reopen(&b);
	for (unsigned i = 0; i < 4; i++) {
		m[i] = make_message(10 + i, 50, 2);
		assert_int_equal(bench_commit(&b, m[i]), 0);
	}
	for (unsigned i = 0; i < 3; i++)
		bench_settle(&b, m[i], events[i], true, NULL, 0);
	bench_reopen(&b);
	assert_int_equal(b.n_found, 1);
	assert_non_null(bench_find(&b, 13));
	/* Settled by another process than the one that took it. */
	bench_settle(&b, m[3], SPOOL_SENT, true, NULL, 0);
	bench_reopen(&b);
	assert_int_equal(b.n_found, 0);
	assert_int_equal(count_files(&b, "arrivals", ""), 0);
	for (unsigned i = 0; i < 4; i++)
		message_free(m[i]);
	bench_fini(&b);
}

static void test_recipient_states_survive(void **state)
{
	static const uint16_t sent[] = { 0, 3, 4, 5, 9 }, failed[] = { 1 },
			      rest[] = { 2, 6, 7, 8 };
	struct message *m = make_message(77, 10, 10);
	struct bench b;

	(void)state;
	bench_init(&b);
	bench_reopen(&b);
	assert_int_equal(bench_commit(&b, m), 0);
	bench_settle(&b, m, SPOOL_SENT, false, sent, ARRAY_LEN(sent));
	bench_reopen(&b);
	assert_rcpt_states(bench_find(&b, 77)->m, "sppsssppps");
	bench_settle(&b, m, SPOOL_FAILED, false, failed, 1);
	bench_reopen(&b);
	assert_rcpt_states(bench_find(&b, 77)->m, "sfpsssppps");
	bench_settle(&b, m, SPOOL_SENT, true, rest, ARRAY_LEN(rest));
	bench_reopen(&b);
	assert_int_equal(b.n_found, 0);
	message_free(m);
	bench_fini(&b);
}

/* More positions than one line holds, none of them next to each other. */
static void test_many_recipients(void **state)
{
	struct message *m = make_message(78, 10, 4000);
	uint16_t sent[2000];
	struct bench b;

	(void)state;
	for (unsigned i = 0; i < 2000; i++)
		sent[i] = (uint16_t)(2 * i);
	bench_init(&b);
	bench_reopen(&b);
	assert_int_equal(bench_commit(&b, m), 0);
	bench_settle(&b, m, SPOOL_SENT, false, sent, 2000);
	bench_reopen(&b);
	assert_int_equal(b.n_found, 1);
	for (unsigned i = 0; i < 4000; i++)
		assert_int_equal(b.found->m->rcpts[i].state,
		    i % 2 == 0 ? RCPT_SENT : RCPT_PENDING);
	for (unsigned i = 0; i < 2000; i++)
		sent[i]++;
	bench_settle(&b, m, SPOOL_SENT, true, sent, 2000);
	bench_reopen(&b);
	assert_int_equal(b.n_found, 0);
	message_free(m);
	bench_fini(&b);
}

static void test_hold_survives(void **state)
{
	struct message *m = make_message(79, 10, 1);
	struct bench b;

	(void)state;
	bench_init(&b);
	bench_reopen(&b);
	assert_int_equal(bench_commit(&b, m), 0);
	bench_settle(&b, m, SPOOL_HOLD, false, NULL, 0);
	bench_reopen(&b);
	assert_true(bench_find(&b, 79)->held);
	bench_settle(&b, m, SPOOL_RELEASE, false, NULL, 0);
	bench_reopen(&b);
	assert_false(bench_find(&b, 79)->held);
	message_free(m);
	bench_fini(&b);
}

/* Commits while the scan runs are neither reported again nor lost. */
struct written {
	struct bench *b;
	size_t lines; /* of this message in the file when it was told */
	unsigned calls;
};

static void on_written(void *ctx)
{
	struct written *w = ctx;
	size_t len;
	char *path = bench_path(w->b, "outcomes/%09u", 1);
	char *text = read_file(path, &len);

	w->calls++;
	w->lines = memmem(text, len, "0000000000000051", 16) != NULL;
	free(text);
	free(path);
}

/* Told only when a kill can't lose the line any more: it is in the file. */
static void test_written_is_told(void **state)
{
	struct message *m = make_message(0x51, 10, 1);
	struct bench b;
	struct written w = { .b = &b };
	struct spool_outcome o = {
		.id = 0x51,
		.size = 10,
		.event = SPOOL_SENT,
		.last = true,
		.dsn = "2.0.0",
		.reply = "250 Ok",
		.written = on_written,
		.ctx = &w,
	};

	(void)state;
	bench_init(&b);
	bench_open(&b);
	assert_int_equal(bench_commit(&b, m), 0);
	o.ref = m->ref;
	spool_settle(b.spool, &o);
	assert_int_equal(w.calls, 0);
	while (w.calls == 0)
		bench_turn(&b);
	assert_int_equal(w.lines, 1);
	bench_close(&b);
	assert_int_equal(w.calls, 1);
	message_free(m);
	bench_fini(&b);
}

static void test_commit_during_scan(void **state)
{
	struct answer answers[100] = { 0 };
	struct message *m[100];
	struct bench b;

	(void)state;
	bench_init(&b);
	bench_reopen(&b);
	for (unsigned i = 0; i < 2000; i++) {
		struct message *old = make_message(1 + i, 10, 1);
		struct answer a = { 0 };

		spool_commit(b.spool, old, NULL, on_answer, &a);
		bench_wait(&b, &a);
		message_free(old);
	}
	bench_close(&b);
	bench_open(&b);
	spool_scan(b.spool);
	for (unsigned i = 0; i < 100; i++) {
		m[i] = make_message(10000 + i, 10, 1);
		spool_commit(b.spool, m[i], NULL, on_answer, &answers[i]);
	}
	while (!b.scan_done)
		bench_turn(&b);
	for (unsigned i = 0; i < 100; i++) {
		bench_wait(&b, &answers[i]);
		assert_int_equal(answers[i].rc, 0);
		assert_null(bench_find(&b, m[i]->id));
		message_free(m[i]);
	}
	assert_int_equal(b.n_found, 2000);
	bench_reopen(&b);
	assert_int_equal(b.n_found, 2100);
	bench_fini(&b);
}

/* Stopped while the start scan is under way: everything is still there. */
static void test_close_during_scan(void **state)
{
	struct bench b;

	(void)state;
	bench_init(&b);
	b.options.segment_bytes = 4096;
	bench_reopen(&b);
	for (unsigned i = 0; i < 20; i++) {
		struct message *m = make_message(1 + i, 700, 1);

		assert_int_equal(bench_commit(&b, m), 0);
		message_free(m);
	}
	bench_close(&b);
	bench_open(&b);
	spool_scan(b.spool);
	bench_reopen(&b);
	assert_int_equal(b.n_found, 20);
	bench_fini(&b);
}

/* Many that wait are one group commit, not one each. */
static void test_group_commit(void **state)
{
	struct answer answers[200] = { 0 };
	struct message *m[200];
	int64_t syncs;
	struct bench b;

	(void)state;
	bench_init(&b);
	bench_reopen(&b);
	syncs = stat_get(STAT_SPOOL_SYNCS);
	for (unsigned i = 0; i < 200; i++) {
		m[i] = make_message(1 + i, 2000, 1);
		spool_commit(b.spool, m[i], NULL, on_answer, &answers[i]);
	}
	for (unsigned i = 0; i < 200; i++)
		bench_wait(&b, &answers[i]);
	assert_in_range(stat_get(STAT_SPOOL_SYNCS) - syncs, 1, 100);
	bench_reopen(&b);
	assert_int_equal(b.n_found, 200);
	for (unsigned i = 0; i < 200; i++) {
		assert_loads(&b, m[i]->id, m[i]->ref, 2000);
		message_free(m[i]);
	}
	bench_fini(&b);
}

static void large_append(struct bench *b, struct spool_large *l, uint64_t id,
    size_t from, size_t len)
{
	struct body whole, chunk;
	struct answer a = { 0 };

	body_init(&whole);
	body_init(&chunk);
	fill_body(&whole, id, from + len);
	body_append(&chunk, whole.data + from, len);
	spool_large_append(l, &chunk, on_answer, &a);
	assert_int_equal(chunk.len, 0);
	bench_wait(b, &a);
	assert_int_equal(a.rc, 0);
	body_fini(&whole);
}

static struct message *commit_large(struct bench *b, uint64_t id, size_t len)
{
	struct spool_large *l = spool_large_new(b->spool, id);
	struct message *m = make_message(id, 0, 1);
	struct answer a = { 0 };

	for (size_t at = 0; at < len; at += 300000)
		large_append(
		    b, l, id, at, len - at < 300000 ? len - at : 300000);
	spool_commit(b->spool, m, l, on_answer, &a);
	bench_wait(b, &a);
	assert_int_equal(a.rc, 0);
	assert_true(m->large);
	assert_int_equal(m->size, len);
	return m;
}

static bool no_large_files(struct bench *b)
{
	return count_files(b, "large", "") == 0;
}

static void test_large(void **state)
{
	size_t len = 1500000;
	struct message *m, *loaded;
	struct answer a = { 0 };
	struct body out, expected;
	struct bench b;

	(void)state;
	bench_init(&b);
	bench_reopen(&b);
	m = commit_large(&b, 500, len);
	bench_reopen(&b);
	assert_int_equal(b.n_found, 1);
	assert_same_envelope(b.found->m, m);
	loaded = bench_load(&b, 500, m->ref, NULL);
	assert_non_null(loaded);
	assert_true(loaded->large);
	body_init(&out);
	body_init(&expected);
	fill_body(&expected, 500, len);
	spool_read_large(b.spool, loaded, 1000000, 499999, &out, on_answer, &a);
	bench_wait(&b, &a);
	assert_int_equal(a.rc, 0);
	assert_int_equal(out.len, 499999);
	assert_memory_equal(out.data, expected.data + 1000000, 499999);
	body_fini(&out);
	body_fini(&expected);
	message_free(loaded);
	assert_int_equal(count_files(&b, "large", ""), 1);
	bench_settle(&b, m, SPOOL_SENT, true, NULL, 0);
	bench_tick_until(&b, no_large_files);
	bench_reopen(&b);
	assert_int_equal(b.n_found, 0);
	message_free(m);
	bench_fini(&b);
}

/* A session that ends while its content streams leaves nothing. */
static void test_large_dropped(void **state)
{
	struct spool_large *l;
	struct body chunk;
	struct answer a = { 0 };
	struct bench b;

	(void)state;
	bench_init(&b);
	bench_reopen(&b);
	spool_large_drop(spool_large_new(b.spool, 501));
	l = spool_large_new(b.spool, 502);
	large_append(&b, l, 502, 0, 1000);
	assert_int_equal(count_files(&b, "large", ""), 1);
	spool_large_drop(l);
	l = spool_large_new(b.spool, 503);
	body_init(&chunk);
	fill_body(&chunk, 503, 1000000);
	spool_large_append(l, &chunk, on_answer, &a);
	spool_large_drop(l);
	bench_close(&b);
	assert_false(a.done);
	assert_int_equal(count_files(&b, "large", ""), 0);
	bench_fini(&b);
}

/* Large files without an arrival go, those of running sessions stay. */
static void test_large_orphans(void **state)
{
	struct message *m;
	struct spool_large *l;
	char *path;
	struct bench b;

	(void)state;
	bench_init(&b);
	bench_reopen(&b);
	m = commit_large(&b, 600, 10000);
	bench_close(&b);
	path = bench_path(&b, "large/%016X", 599);
	write_file(path, "x", 1);
	free(path);
	bench_open(&b);
	l = spool_large_new(b.spool, id_new(1));
	large_append(&b, l, id_last(), 0, 10);
	spool_scan(b.spool);
	while (!b.scan_done)
		bench_turn(&b);
	assert_int_equal(count_files(&b, "large", ""), 2);
	assert_int_equal(count_files(&b, "large", "0000000000000257"), 0);
	spool_large_drop(l);
	message_free(m);
	bench_fini(&b);
}

static void test_ids_stay_unique(void **state)
{
	uint64_t high = UINT64_C(0x0007000000000000);
	struct message *m = make_message(high, 10, 1);
	struct bench b;

	(void)state;
	bench_init(&b);
	bench_reopen(&b);
	assert_int_equal(bench_commit(&b, m), 0);
	bench_close(&b);
	id_init(5);
	bench_reopen(&b);
	assert_int_equal(id_last(), high);
	/* Also when the arrival is gone and only its outcome is left. */
	bench_settle(&b, m, SPOOL_SENT, true, NULL, 0);
	bench_close(&b);
	assert_int_equal(count_files(&b, "arrivals", ""), 0);
	id_init(5);
	bench_reopen(&b);
	assert_int_equal(id_last(), high);
	id_init(0);
	message_free(m);
	bench_fini(&b);
}

static void test_second_open_is_refused(void **state)
{
	struct bench b;
	int status;
	pid_t pid;

	(void)state;
	bench_init(&b);
	bench_reopen(&b);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		struct work_port *port = work_port_new();
		struct err err = { 0 };
		struct spool *s =
		    spool_open(&b.options, port, &bench_events, &b, &err);

		_exit(s == NULL && err.code == EWOULDBLOCK &&
			    strstr(err.text, b.dir) != NULL &&
			    strstr(err.text, "another sesrelayd") != NULL
			? 0
			: 1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	bench_fini(&b);
}

static void test_open_refuses_loose_modes(void **state)
{
	struct work_port *port = work_port_new();
	struct err err = { 0 };
	struct bench b;

	(void)state;
	bench_init(&b);
	assert_int_equal(chmod(b.dir, 0770), 0);
	assert_null(spool_open(&b.options, port, &bench_events, &b, &err));
	assert_non_null(strstr(err.text, "chmod 700"));
	assert_int_equal(chmod(b.dir, 0700), 0);
	work_port_free(port);
	bench_fini(&b);
}

static void test_dead_letter(void **state)
{
	static const uint16_t second[] = { 1 };
	struct message *m = make_message(0xabc, 300, 2);
	struct spool_letter letter = {
		.id = 0xabc,
		.time_us = INT64_C(1795341601123456),
		.rcpts = second,
		.n_rcpts = 1,
		.reason = "SES refused it: 554 no\r\nX-Forged: yes",
		.reply = "554 no",
	};
	char *path, *text, *body;
	struct spool_usage usage;
	size_t len;
	struct bench b;

	(void)state;
	bench_init(&b);
	bench_reopen(&b);
	assert_int_equal(bench_commit(&b, m), 0);
	for (unsigned i = 0; i < 2; i++) {
		struct answer a = { 0 };

		letter.ref = m->ref;
		spool_bury(b.spool, &letter, on_answer, &a);
		bench_wait(&b, &a);
		assert_int_equal(a.rc, 0);
	}
	spool_usage(b.spool, &usage);
	assert_int_equal(usage.n_failed, 2);
	path = bench_path(&b, "failed/0000000000000ABC.2.eml");
	text = read_file(path, &len);
	free(text);
	free(path);
	path = bench_path(&b, "failed/0000000000000ABC.eml");
	text = read_file(path, &len);
	assert_non_null(strstr(text, "X-Sesrelayd-Id: 0000000000000ABC\r\n"));
	assert_non_null(
	    strstr(text, "X-Sesrelayd-Time: 2026-11-22T10:00:01.123456Z\r\n"));
	assert_non_null(
	    strstr(text, "X-Sesrelayd-Recipient: rcpt-1@example.net\r\n"));
	assert_null(strstr(text, "rcpt-0@"));
	assert_null(strstr(text, "\nX-Forged"));
	assert_non_null(strstr(text, "X-Sesrelayd-Reply: 554 no\r\n"));
	body = memmem(text, len, m->body.data, 300);
	assert_ptr_equal(body, text + len - 300);
	free(text);
	free(path);
	message_free(m);
	bench_fini(&b);
}

static bool letters_gone(struct bench *b)
{
	return count_files(b, "failed", "") == 1;
}

static void test_dead_letters_expire(void **state)
{
	struct timespec old[2] = { { .tv_sec = 1000 }, { .tv_sec = 1000 } };
	char *path;
	struct bench b;

	(void)state;
	bench_init(&b);
	b.options.keep_failed_us = 3600 * US_PER_S;
	bench_reopen(&b);
	path = bench_path(&b, "failed/0000000000000001.eml");
	write_file(path, "x", 1);
	assert_int_equal(utimensat(AT_FDCWD, path, old, 0), 0);
	free(path);
	path = bench_path(&b, "failed/0000000000000002.eml");
	write_file(path, "x", 1);
	free(path);
	clock_update();
	bench_tick_until(&b, letters_gone);
	assert_int_equal(count_files(&b, "failed", "0000000000000002"), 1);
	bench_fini(&b);
}

static void test_refusal(void **state)
{
	struct spool_options options;
	struct message *m = make_message(1, 1000, 1);
	struct bench b;

	(void)state;
	bench_init(&b);
	bench_reopen(&b);
	/* The first look at free space may still be under way. */
	while (spool_refusal(b.spool, UINT64_MAX / 2) == NULL)
		bench_turn(&b);
	assert_null(spool_refusal(b.spool, 1000));
	assert_int_equal(bench_commit(&b, m), 0);
	options = b.options;
	options.max_messages = 1;
	spool_configure(b.spool, &options);
	assert_string_equal(spool_refusal(b.spool, 0), "Mail queue is full");
	options.max_messages = 2;
	options.max_bytes = 2000;
	spool_configure(b.spool, &options);
	assert_null(spool_refusal(b.spool, 1000));
	assert_string_equal(spool_refusal(b.spool, 1001), "Mail queue is full");
	options.max_bytes = 0;
	options.min_free_bytes = UINT64_MAX / 2;
	spool_configure(b.spool, &options);
	assert_string_equal(
	    spool_refusal(b.spool, 0), "Insufficient system storage");
	message_free(m);
	bench_fini(&b);
}

/* A tick that gets no answer from the journal is counted. */
static void test_stalled(void **state)
{
	struct bench b;

	(void)state;
	bench_init(&b);
	bench_reopen(&b);
	for (unsigned i = 0; i < 5; i++) {
		assert_int_equal(spool_stalled(b.spool), i);
		spool_tick(b.spool, 0);
	}
	while (spool_stalled(b.spool) > 0)
		bench_turn(&b);
	bench_fini(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_commit_and_reopen),
		cmocka_unit_test(test_order_is_kept),
		cmocka_unit_test(test_settled_is_gone),
		cmocka_unit_test(test_recipient_states_survive),
		cmocka_unit_test(test_many_recipients),
		cmocka_unit_test(test_hold_survives),
		cmocka_unit_test(test_written_is_told),
		cmocka_unit_test(test_commit_during_scan),
		cmocka_unit_test(test_close_during_scan),
		cmocka_unit_test(test_group_commit),
		cmocka_unit_test(test_large),
		cmocka_unit_test(test_large_dropped),
		cmocka_unit_test(test_large_orphans),
		cmocka_unit_test(test_ids_stay_unique),
		cmocka_unit_test(test_second_open_is_refused),
		cmocka_unit_test(test_open_refuses_loose_modes),
		cmocka_unit_test(test_dead_letter),
		cmocka_unit_test(test_dead_letters_expire),
		cmocka_unit_test(test_refusal),
		cmocka_unit_test(test_stalled),
	};

	clock_update();
	return cmocka_run_group_tests_name("spool", tests, NULL, NULL);
}
