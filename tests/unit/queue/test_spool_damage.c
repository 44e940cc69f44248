/*
 * What a crash, a bad disk or a stranger leaves in the spool: nothing of it is
 * delivered, nothing of it hides what is good, nothing of it ends the start.
 */
#include "spool_test.h"

#include "queue/record.h"

#define LEN 60

/* Three messages, the bytes of their segment, and where each begins. */
struct three {
	struct bench b;
	struct message *m[3];
	char *path, *bytes;
	size_t len;
	int64_t torn, damaged; /* counters before */
};

static void three_init(struct three *t)
{
	bench_init(&t->b);
	t->b.options.durable = false;
	bench_reopen(&t->b);
	for (unsigned i = 0; i < 3; i++) {
		t->m[i] = make_message(101 + i, LEN, 2);
		assert_int_equal(bench_commit(&t->b, t->m[i]), 0);
	}
	bench_close(&t->b);
	t->path = bench_path(&t->b, "arrivals/%09u", t->m[0]->ref.segment);
	t->bytes = read_file(t->path, &t->len);
	t->torn = stat_get(STAT_SPOOL_TORN);
	t->damaged = stat_get(STAT_SPOOL_DAMAGED);
}

static void three_fini(struct three *t)
{
	for (unsigned i = 0; i < 3; i++)
		message_free(t->m[i]);
	free(t->path);
	free(t->bytes);
	bench_fini(&t->b);
}

static void assert_finds(struct three *t, unsigned i)
{
	struct known *k = bench_find(&t->b, t->m[i]->id);

	assert_non_null(k);
	assert_same_envelope(k->m, t->m[i]);
	assert_loads(&t->b, k->m->id, k->m->ref, LEN);
}

static void test_torn_tail(void **state)
{
	struct three t;

	(void)state;
	three_init(&t);
	for (size_t len = t.m[2]->ref.offset; len < t.len; len++) {
		int64_t torn = stat_get(STAT_SPOOL_TORN);

		write_file(t.path, t.bytes, len);
		bench_reopen(&t.b);
		assert_int_equal(t.b.n_found, 2);
		assert_finds(&t, 0);
		assert_finds(&t, 1);
		assert_int_equal(t.b.n_trouble, 0);
		assert_int_equal(
		    stat_get(STAT_SPOOL_TORN) - torn, len > t.m[2]->ref.offset);
	}
	assert_int_equal(stat_get(STAT_SPOOL_DAMAGED), t.damaged);
	assert_int_equal(count_files(&t.b, "failed", ""), 0);
	three_fini(&t);
}

/* A power cut may leave a file longer than what was written to it. */
static void test_tail_of_zeros(void **state)
{
	static const char zeros[10000];
	struct three t;
	char *path;

	(void)state;
	three_init(&t);
	path = bench_path(&t.b, "zeros");
	t.bytes = xrealloc(t.bytes, t.len + sizeof(zeros));
	memset(t.bytes + t.len, 0, sizeof(zeros));
	write_file(t.path, t.bytes, t.len + sizeof(zeros));
	bench_reopen(&t.b);
	assert_int_equal(t.b.n_found, 3);
	assert_int_equal(stat_get(STAT_SPOOL_TORN), t.torn + 1);
	assert_int_equal(stat_get(STAT_SPOOL_DAMAGED), t.damaged);
	free(path);
	three_fini(&t);
}

static void test_flipped_in_the_middle(void **state)
{
	size_t from, to;
	struct three t;
	char *path;

	(void)state;
	three_init(&t);
	from = t.m[1]->ref.offset;
	to = t.m[2]->ref.offset;
	path = bench_path(
	    &t.b, "failed/damaged-%09u-%zu", t.m[0]->ref.segment, from);
	for (size_t i = from; i < to; i++) {
		char *saved;
		size_t len;

		t.bytes[i] ^= (char)(1 << i % 8);
		write_file(t.path, t.bytes, t.len);
		bench_reopen(&t.b);
		assert_int_equal(t.b.n_found, 2);
		assert_finds(&t, 0);
		assert_finds(&t, 2);
		assert_true(t.b.n_trouble > 0);
		saved = read_file(path, &len);
		assert_int_equal(len, to - from);
		assert_memory_equal(saved, t.bytes + from, len);
		free(saved);
		unlink(path);
		t.bytes[i] ^= (char)(1 << i % 8);
	}
	assert_int_equal(stat_get(STAT_SPOOL_DAMAGED) - t.damaged, to - from);
	free(path);
	three_fini(&t);
}

/*
 * A spool that ran empty begins with number 1 again: damage at the same place
 * is not taken for what was saved before.
 */
static void test_damage_at_the_same_place(void **state)
{
	struct bench b;
	char *path, *bytes, *kept;
	size_t len, kept_len;

	(void)state;
	bench_init(&b);
	for (unsigned i = 0; i < 3; i++) {
		struct message *m = make_message(1 + i, LEN, 2);

		bench_reopen(&b);
		assert_int_equal(bench_commit(&b, m), 0);
		assert_int_equal(m->ref.segment, 1);
		bench_close(&b);
		path = bench_path(&b, "arrivals/000000001");
		bytes = read_file(path, &len);
		bytes[m->ref.offset + RECORD_LINE_LEN] ^= 1;
		write_file(path, bytes, len);
		free(path);
		for (unsigned again = 0; again < 2; again++) {
			bench_open(&b);
			bench_scan(&b);
			assert_int_equal(b.n_found, 0);
			assert_int_equal(
			    count_files(&b, "failed", "damaged-"), 1 + i);
			/* As if it had been killed. */
			path = bench_path(&b, "arrivals/000000001");
			bench_close(&b);
			if (again == 0)
				write_file(path, bytes, len);
			free(path);
		}
		path = bench_path(&b,
		    i == 0       ? "failed/damaged-000000001-72"
			: i == 1 ? "failed/damaged-000000001-72.2"
				 : "failed/damaged-000000001-72.3");
		kept = read_file(path, &kept_len);
		assert_int_equal(kept_len, len - m->ref.offset);
		assert_memory_equal(kept, bytes + m->ref.offset, kept_len);
		free(kept);
		free(path);
		free(bytes);
		message_free(m);
	}
	bench_fini(&b);
}

static void test_flipped_header(void **state)
{
	struct three t;

	(void)state;
	three_init(&t);
	for (size_t i = 0; i < RECORD_HEADER_LEN; i++) {
		/* A changed version is another matter. */
		if (i == strlen("sesrelayd-arrivals "))
			continue;
		t.bytes[i] ^= 1;
		write_file(t.path, t.bytes, t.len);
		bench_reopen(&t.b);
		assert_int_equal(t.b.n_found, 3);
		for (unsigned k = 0; k < 3; k++)
			assert_finds(&t, k);
		t.bytes[i] ^= 1;
	}
	three_fini(&t);
}

/* A lost sector: header and first record gone, the others are found. */
static void test_lost_beginning(void **state)
{
	struct three t;

	(void)state;
	three_init(&t);
	memset(t.bytes, 0, t.m[1]->ref.offset);
	write_file(t.path, t.bytes, t.len);
	bench_reopen(&t.b);
	assert_int_equal(t.b.n_found, 2);
	assert_finds(&t, 1);
	assert_finds(&t, 2);
	three_fini(&t);
}

/*
 * The content of a message quotes the segment that it stands in, and the
 * message itself is damaged: what it quotes must not come alive.
 */
static void test_quoted_records(void **state)
{
	struct message *quoting = make_message(104, 0, 1);
	struct message *last = make_message(105, LEN, 1);
	struct three t;

	(void)state;
	three_init(&t);
	bench_reopen(&t.b);
	for (unsigned i = 0; i < 3; i++) {
		t.m[i]->id += 1000;
		assert_int_equal(bench_commit(&t.b, t.m[i]), 0);
	}
	free(t.path);
	free(t.bytes);
	t.path = bench_path(&t.b, "arrivals/%09u", t.m[0]->ref.segment);
	t.bytes = read_file(t.path, &t.len);
	body_append(&quoting->body, t.bytes, t.len);
	assert_int_equal(bench_commit(&t.b, quoting), 0);
	assert_int_equal(bench_commit(&t.b, last), 0);
	assert_int_equal(quoting->ref.segment, t.m[0]->ref.segment);
	bench_close(&t.b);
	free(t.bytes);
	t.bytes = read_file(t.path, &t.len);
	t.bytes[quoting->ref.offset + 20] ^= 1;
	write_file(t.path, t.bytes, t.len);
	bench_reopen(&t.b);
	assert_int_equal(t.b.n_found, 7);
	assert_int_equal(t.b.n_moved, 0);
	assert_null(bench_find(&t.b, 104));
	assert_non_null(bench_find(&t.b, 105));
	message_free(quoting);
	message_free(last);
	three_fini(&t);
}

/* A line that names its place, but not the number that nobody can know. */
static void test_forged_record(void **state)
{
	struct record_extra extra = { 0 };
	struct record_buf head = { 0 };
	struct record_line line = { .nonce = 42, .id = 9999 };
	struct message *forged = make_message(9999, 0, 1);
	struct three t;
	char *p;

	(void)state;
	three_init(&t);
	assert_int_equal(record_encode_head(forged, &extra, &head, NULL), 0);
	/* It takes the place of the second message. */
	line.ref = t.m[1]->ref;
	line.head_len = (uint32_t)head.len;
	line.head_sum = record_sum(head.data, head.len);
	line.body_sum = record_sum("", 0);
	assert_true(line.ref.offset + record_total(&line) < t.m[2]->ref.offset);
	p = t.bytes + line.ref.offset;
	record_encode_line(&line, p);
	memcpy(p + RECORD_LINE_LEN, head.data, head.len);
	record_encode_end(9999, p + RECORD_LINE_LEN + head.len);
	write_file(t.path, t.bytes, t.len);
	bench_reopen(&t.b);
	assert_int_equal(t.b.n_found, 2);
	assert_null(bench_find(&t.b, 9999));
	assert_finds(&t, 0);
	assert_finds(&t, 2);
	record_buf_fini(&head);
	message_free(forged);
	three_fini(&t);
}

/* After it was found: one bit of the first message's content. */
static void three_damage_first(struct three *t)
{
	three_init(t);
	bench_reopen(&t->b);
	t->bytes[t->m[1]->ref.offset - 30] ^= 1;
	write_file(t->path, t->bytes, t->len);
}

/* Content is compared with its checksum again when it is read. */
static void test_damage_found_by_load(void **state)
{
	struct spool_letter letter = { .id = 101, .reason = "x" };
	struct answer a = { 0 };
	struct err err;
	struct three t;

	(void)state;
	three_damage_first(&t);
	assert_null(bench_load(&t.b, 101, t.m[0]->ref, &err));
	assert_int_equal(err.code, EBADMSG);
	assert_int_equal(count_files(&t.b, "failed", "damaged-"), 1);
	assert_loads(&t.b, 102, t.m[1]->ref, LEN);
	/* Neither does a letter carry it. */
	letter.ref = t.m[0]->ref;
	spool_bury(t.b.spool, &letter, on_answer, &a);
	bench_wait(&t.b, &a);
	assert_int_equal(a.rc, -1);
	assert_int_equal(count_files(&t.b, "failed", "0"), 0);
	/* A place that is not the message's. */
	assert_null(bench_load(&t.b, 103, t.m[1]->ref, &err));
	assert_int_equal(err.code, EBADMSG);
	three_fini(&t);
}

/* Those that go to the disk together each have an answer of their own. */
static void test_loads_of_one_turn(void **state)
{
	struct answer a[40] = { 0 };
	struct three t;

	(void)state;
	three_damage_first(&t);
	work_port_gather(t.b.port, true);
	for (size_t i = 0; i < ARRAY_LEN(a); i++) {
		/* In rounds of 1, 2 and 37: what was handed over is left. */
		if (i == 1 || i == 3)
			work_port_flush(t.b.port);
		spool_load(
		    t.b.spool, 101 + i % 3, t.m[i % 3]->ref, on_loaded, &a[i]);
	}
	work_port_gather(t.b.port, false);
	for (size_t i = 0; i < ARRAY_LEN(a); i++) {
		bench_wait(&t.b, &a[i]);
		if (i % 3 == 0) {
			assert_null(a[i].m);
			assert_int_equal(a[i].err.code, EBADMSG);
			continue;
		}
		assert_non_null(a[i].m);
		assert_int_equal(a[i].m->id, 101 + i % 3);
		assert_int_equal(a[i].m->body.len, LEN);
		message_free(a[i].m);
	}
	three_fini(&t);
}

static void test_damaged_large(void **state)
{
	struct message *m = make_message(7, 0, 1);
	struct answer a = { 0 };
	struct spool_large *l;
	struct body chunk;
	struct bench b;
	struct err err;
	char *path, *bytes;
	size_t len;

	(void)state;
	bench_init(&b);
	bench_reopen(&b);
	l = spool_large_new(b.spool, 7);
	body_init(&chunk);
	fill_body(&chunk, 7, 700000);
	spool_large_append(l, &chunk, on_answer, &a);
	bench_wait(&b, &a);
	a.done = false;
	spool_commit(b.spool, m, l, on_answer, &a);
	bench_wait(&b, &a);
	path = bench_path(&b, "large/0000000000000007");
	bytes = read_file(path, &len);
	bytes[len / 2] ^= 1;
	write_file(path, bytes, len);
	assert_null(bench_load(&b, 7, m->ref, &err));
	assert_int_equal(err.code, EBADMSG);
	write_file(path, bytes, len / 2);
	assert_null(bench_load(&b, 7, m->ref, &err));
	assert_int_equal(err.code, EBADMSG);
	unlink(path);
	assert_null(bench_load(&b, 7, m->ref, &err));
	assert_int_equal(err.code, EBADMSG);
	free(path);
	free(bytes);
	message_free(m);
	bench_fini(&b);
}

/*
 * The arrival of a large message is damaged: its content is there for as long
 * as what was set aside, also when the segment is gone, and no longer.
 */
static void test_content_of_damaged_arrival(void **state)
{
	struct message *m = make_message(7, 0, 1);
	struct answer a = { 0 };
	struct spool_large *l;
	struct body chunk;
	struct bench b;
	char *path, *bytes;
	size_t len;

	(void)state;
	bench_init(&b);
	bench_reopen(&b);
	l = spool_large_new(b.spool, 7);
	body_init(&chunk);
	fill_body(&chunk, 7, 700000);
	spool_large_append(l, &chunk, on_answer, &a);
	bench_wait(&b, &a);
	a.done = false;
	spool_commit(b.spool, m, l, on_answer, &a);
	bench_wait(&b, &a);
	bench_close(&b);
	path = bench_path(&b, "arrivals/%09u", m->ref.segment);
	bytes = read_file(path, &len);
	bytes[m->ref.offset] ^= 1;
	write_file(path, bytes, len);
	free(path);
	free(bytes);
	bench_reopen(&b);
	assert_int_equal(b.n_found, 0);
	bench_close(&b);
	assert_int_equal(count_files(&b, "arrivals", ""), 0);
	for (unsigned i = 0; i < 2; i++) {
		bench_reopen(&b);
		assert_int_equal(count_files(&b, "large", ""), 1);
	}
	path = bench_path(
	    &b, "failed/damaged-%09u-%u", m->ref.segment, m->ref.offset);
	assert_int_equal(unlink(path), 0);
	free(path);
	bench_reopen(&b);
	assert_int_equal(count_files(&b, "large", ""), 0);
	message_free(m);
	bench_fini(&b);
}

/* Bodies of older segments are not read at the start, but at the load. */
static void test_damage_in_large_body_of_old_segment(void **state)
{
	struct message *m = make_message(8, 200000, 1);
	struct message *newer = make_message(9, 10, 1);
	char *path, *bytes;
	struct err err;
	struct bench b;
	size_t len;

	(void)state;
	bench_init(&b);
	bench_reopen(&b);
	assert_int_equal(bench_commit(&b, m), 0);
	bench_reopen(&b);
	assert_int_equal(bench_commit(&b, newer), 0);
	bench_close(&b);
	path = bench_path(&b, "arrivals/%09u", m->ref.segment);
	bytes = read_file(path, &len);
	bytes[len - 1000] ^= 1;
	write_file(path, bytes, len);
	bench_reopen(&b);
	assert_int_equal(b.n_found, 2);
	assert_null(bench_load(&b, 8, m->ref, &err));
	assert_int_equal(err.code, EBADMSG);
	assert_int_equal(count_files(&b, "failed", "damaged-"), 1);
	/* In the newest segment it is found at once. */
	bench_settle(&b, newer, SPOOL_SENT, true, NULL, 0);
	bench_close(&b);
	bench_reopen(&b);
	assert_int_equal(b.n_found, 0);
	assert_true(b.n_trouble > 0);
	free(path);
	free(bytes);
	message_free(m);
	message_free(newer);
	bench_fini(&b);
}

static void test_foreign_files(void **state)
{
	static const char newer[] = "sesrelayd-arrivals 2 something else\n";
	static const char *const names[] = { "arrivals/readme", "arrivals/1",
		"arrivals/0000000001", "outcomes/000000001.bak" };
	struct message *m;
	struct three t;
	char *path;

	(void)state;
	three_init(&t);
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		path = bench_path(&t.b, "%s", names[i]);
		write_file(path, "x", 1);
		free(path);
	}
	path = bench_path(&t.b, "arrivals/000000090");
	assert_int_equal(mkdir(path, 0700), 0);
	free(path);
	path = bench_path(&t.b, "arrivals/000000091");
	assert_int_equal(mkfifo(path, 0600), 0);
	free(path);
	path = bench_path(&t.b, "arrivals/000000092");
	assert_int_equal(symlink(t.path, path), 0);
	free(path);
	path = bench_path(&t.b, "arrivals/000000093");
	write_file(path, newer, strlen(newer));
	free(path);
	path = bench_path(&t.b, "arrivals/000000094");
	write_file(path, "", 0);
	free(path);
	path = bench_path(&t.b, "arrivals/000000095");
	write_file(path, "garbage\n", 8);
	free(path);
	bench_reopen(&t.b);
	assert_int_equal(t.b.n_found, 3);
	for (unsigned i = 0; i < 3; i++)
		assert_finds(&t, i);
	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		assert_non_null(strstr(t.b.trouble, names[i]));
	assert_non_null(strstr(t.b.trouble, "000000090"));
	assert_non_null(strstr(t.b.trouble, "000000091"));
	assert_non_null(strstr(t.b.trouble, "000000092"));
	assert_non_null(strstr(t.b.trouble, "newer version"));
	/* New segments keep clear of them, and none of them is removed. */
	m = make_message(200, 10, 1);
	assert_int_equal(bench_commit(&t.b, m), 0);
	assert_int_equal(m->ref.segment, 96);
	message_free(m);
	for (unsigned i = 0; i < 20; i++) {
		spool_tick(t.b.spool, 0);
		bench_turn(&t.b);
	}
	bench_close(&t.b);
	/* But for two that hold nothing. */
	assert_int_equal(count_files(&t.b, "arrivals", "000000094"), 0);
	assert_int_equal(count_files(&t.b, "arrivals", "000000095"), 0);
	assert_int_equal(count_files(&t.b, "arrivals", ""), 9);
	three_fini(&t);
}

static void test_damaged_outcomes(void **state)
{
	struct three t;
	char *path, *bytes;
	size_t len;

	(void)state;
	three_init(&t);
	bench_reopen(&t.b);
	bench_settle(&t.b, t.m[0], SPOOL_SENT, true, NULL, 0);
	bench_settle(&t.b, t.m[1], SPOOL_SENT, true, NULL, 0);
	bench_close(&t.b);
	path = bench_path(&t.b, "outcomes/000000002");
	bytes = read_file(path, &len);
	/* Each end of the last line: the first one counts all the same. */
	for (size_t cut = 1; cut < 40; cut++) {
		write_file(path, bytes, len - cut);
		bench_reopen(&t.b);
		assert_int_equal(t.b.n_found, 2);
		assert_null(bench_find(&t.b, 101));
	}
	/* A damaged first line: the second one counts. */
	bytes[RECORD_HEADER_LEN + 50] ^= 1;
	write_file(path, bytes, len);
	bench_reopen(&t.b);
	assert_int_equal(t.b.n_found, 2);
	assert_null(bench_find(&t.b, 102));
	assert_non_null(strstr(t.b.trouble, "damaged lines"));
	/* Garbage without a line's end. */
	memset(bytes + RECORD_HEADER_LEN, 'x', len - RECORD_HEADER_LEN);
	write_file(path, bytes, len);
	bench_reopen(&t.b);
	assert_int_equal(t.b.n_found, 3);
	free(path);
	free(bytes);
	three_fini(&t);
}

/* What was sent is not known: nothing goes out by itself. */
static void test_missing_outcomes_hold_everything(void **state)
{
	struct three t;
	char *path;

	(void)state;
	three_init(&t);
	path = bench_path(&t.b, "outcomes/000000001");
	unlink(path);
	assert_int_equal(mkdir(path, 0700), 0);
	bench_reopen(&t.b);
	assert_int_equal(t.b.n_found, 3);
	for (unsigned i = 0; i < 3; i++)
		assert_true(bench_find(&t.b, 101 + i)->held);
	assert_non_null(strstr(t.b.trouble, "held"));
	free(path);
	three_fini(&t);
}

/* Any bytes at all, in every file, many times. */
static void test_random_damage(void **state)
{
	uint64_t x = 4711;
	struct three t;

	(void)state;
	three_init(&t);
	for (unsigned round = 0; round < 300; round++) {
		char *bytes = xmemdup(t.bytes, t.len);
		size_t len;

		for (unsigned n = 0; n < 1 + round % 20; n++) {
			x ^= x << 13;
			x ^= x >> 7;
			x ^= x << 17;
			bytes[x % t.len] = (char)(x >> 32);
		}
		len = round % 3 == 0 ? (size_t)(x >> 8) % t.len : t.len;
		write_file(t.path, bytes, len);
		bench_reopen(&t.b);
		for (struct known *k = t.b.found; k != NULL; k = k->next) {
			assert_in_range(k->m->id, 101, 103);
			assert_finds(&t, (unsigned)k->m->id - 101);
		}
		free(bytes);
	}
	three_fini(&t);
}

/* Names that leave no number behind them: no mail, no end of the daemon. */
static void test_highest_names(void **state)
{
	static const char *const names[] = { "arrivals/4294967295",
		"arrivals/999999999" };
	struct message *m = make_message(200, 10, 1);
	struct three t;
	char *path;

	(void)state;
	three_init(&t);
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		path = bench_path(&t.b, "%s", names[i]);
		assert_int_equal(mkdir(path, 0700), 0);
		free(path);
	}
	bench_reopen(&t.b);
	assert_int_equal(t.b.n_found, 3);
	assert_int_equal(bench_commit(&t.b, m), -1);
	assert_false(t.b.healthy);
	/* What is queued still goes out. */
	assert_true(spool_can_settle(t.b.spool));
	bench_close(&t.b);
	path = bench_path(&t.b, "arrivals/999999999");
	assert_int_equal(rmdir(path), 0);
	free(path);
	t.b.healthy = true;
	bench_reopen(&t.b);
	assert_int_equal(bench_commit(&t.b, m), 0);
	message_free(m);
	three_fini(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_torn_tail),
		cmocka_unit_test(test_tail_of_zeros),
		cmocka_unit_test(test_flipped_in_the_middle),
		cmocka_unit_test(test_damage_at_the_same_place),
		cmocka_unit_test(test_flipped_header),
		cmocka_unit_test(test_lost_beginning),
		cmocka_unit_test(test_quoted_records),
		cmocka_unit_test(test_forged_record),
		cmocka_unit_test(test_damage_found_by_load),
		cmocka_unit_test(test_loads_of_one_turn),
		cmocka_unit_test(test_damaged_large),
		cmocka_unit_test(test_content_of_damaged_arrival),
		cmocka_unit_test(test_damage_in_large_body_of_old_segment),
		cmocka_unit_test(test_foreign_files),
		cmocka_unit_test(test_highest_names),
		cmocka_unit_test(test_damaged_outcomes),
		cmocka_unit_test(test_missing_outcomes_hold_everything),
		cmocka_unit_test(test_random_damage),
	};

	return cmocka_run_group_tests_name("spool_damage", tests, NULL, NULL);
}
