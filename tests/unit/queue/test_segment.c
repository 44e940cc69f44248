/*
 * One segment file: what is appended is read, space is given back, and a
 * failed append can be cut off.
 */
#include "spool_test.h"

#include "queue/segment.h"

static void append_record(struct segment *g, uint64_t id, const char *body)
{
	struct message *m = make_message(id, 0, 1);
	struct record_extra extra = { 0 };
	struct record_buf text = { 0 };
	struct record_line line = {
		.nonce = g->nonce,
		.ref = { g->number, (uint32_t)g->end },
		.id = id,
		.body_len = (uint32_t)strlen(body),
		.body_sum = record_sum(body, strlen(body)),
	};
	struct iovec iov;

	record_buf_reserve(&text, RECORD_LINE_LEN);
	text.len = RECORD_LINE_LEN;
	assert_int_equal(record_encode_head(m, &extra, &text, NULL), 0);
	line.head_len = (uint32_t)(text.len - RECORD_LINE_LEN);
	line.head_sum = record_sum(text.data + RECORD_LINE_LEN, line.head_len);
	record_encode_line(&line, text.data);
	record_buf_append(&text, body, strlen(body));
	record_buf_reserve(&text, RECORD_END_LEN);
	record_encode_end(id, text.data + text.len);
	text.len += RECORD_END_LEN;
	assert_int_equal(text.len, record_total(&line));
	iov = (struct iovec){ text.data, text.len };
	assert_int_equal(segment_append(g, &iov, 1, text.len, NULL), 0);
	record_buf_fini(&text);
	message_free(m);
}

static int open_dir(const struct bench *b)
{
	int fd = open(b->dir, O_RDONLY | O_DIRECTORY);

	assert_true(fd >= 0);
	return fd;
}

static void test_write_and_read(void **state)
{
	struct segment_reader r;
	struct segment_item item;
	struct segment g;
	struct bench b;
	struct err err;
	int dirfd;

	(void)state;
	bench_init(&b);
	dirfd = open_dir(&b);
	assert_int_equal(
	    segment_create(&g, dirfd, RECORD_ARRIVALS, 7, 42, true, &err), 0);
	assert_int_equal(
	    segment_create(&g, dirfd, RECORD_ARRIVALS, 7, 42, true, &err), -1);
	assert_int_equal(err.code, EEXIST);
	append_record(&g, 1, "one\r\n");
	append_record(&g, 2, "");
	assert_int_equal(segment_sync(&g, &err), 0);
	segment_seal(&g);
	assert_int_equal(g.fd, -1);
	segment_seal(&g);
	assert_int_equal(segment_open(&r, dirfd, RECORD_ARRIVALS, 7, &err), 0);
	assert_int_equal(r.header.floor, 42);
	for (uint64_t id = 1; id <= 2; id++) {
		segment_next(&r, true, &item);
		assert_int_equal(item.kind, SEGMENT_RECORD);
		assert_int_equal(item.line.id, id);
	}
	segment_next(&r, true, &item);
	assert_int_equal(item.kind, SEGMENT_END);
	segment_close(&r);
	/* The other kind: its header is damage, its text is no lines. */
	assert_int_equal(segment_open(&r, dirfd, RECORD_OUTCOMES, 7, &err), 0);
	assert_false(r.has_nonce);
	segment_close(&r);
	assert_int_equal(segment_open(&r, dirfd, RECORD_ARRIVALS, 8, &err), -1);
	assert_int_equal(err.code, ENOENT);
	close(dirfd);
	bench_fini(&b);
}

static blkcnt_t blocks(const struct bench *b, off_t *size)
{
	char *path = bench_path(b, "000000001");
	struct stat st;

	assert_int_equal(stat(path, &st), 0);
	free(path);
	*size = st.st_size;
	return st.st_blocks;
}

static void test_space(void **state)
{
	char path[SEGMENT_NAME_BUF];
	struct segment g;
	struct bench b;
	struct err err;
	off_t size;
	int dirfd;

	(void)state;
	bench_init(&b);
	dirfd = open_dir(&b);
	assert_int_equal(
	    segment_create(&g, dirfd, RECORD_ARRIVALS, 1, 0, false, &err), 0);
	append_record(&g, 1, "one\r\n");
	assert_int_equal(segment_reserve(&g, 4u << 20, &err), 0);
	assert_true(blocks(&b, &size) * 512 >= 4 << 20);
	/* The file ends where its data ends, whatever is reserved. */
	assert_int_equal(size, g.end);
	segment_seal(&g);
	assert_true(blocks(&b, &size) * 512 < 1 << 20);
	assert_int_equal(size, g.end);
	/* A crashed process could not seal. */
	assert_int_equal(truncate(segment_name(1, path), 0), -1);
	g.fd = openat(dirfd, segment_name(1, path), O_RDWR);
	g.reserved = 0;
	assert_int_equal(segment_reserve(&g, 4u << 20, &err), 0);
	close(g.fd);
	segment_trim(dirfd, path);
	assert_true(blocks(&b, &size) * 512 < 1 << 20);
	assert_int_equal(size, g.end);
	close(dirfd);
	bench_fini(&b);
}

static void test_rewind(void **state)
{
	struct segment_reader r;
	struct segment_item item;
	struct segment g;
	struct bench b;
	struct err err;
	int dirfd;

	(void)state;
	bench_init(&b);
	dirfd = open_dir(&b);
	assert_int_equal(
	    segment_create(&g, dirfd, RECORD_ARRIVALS, 1, 0, true, &err), 0);
	append_record(&g, 1, "one\r\n");
	assert_int_equal(
	    pwrite(g.fd, "part of a record", 16, (off_t)g.end), 16);
	assert_int_equal(segment_rewind(&g, &err), 0);
	append_record(&g, 2, "two\r\n");
	segment_seal(&g);
	assert_int_equal(segment_open(&r, dirfd, RECORD_ARRIVALS, 1, &err), 0);
	segment_next(&r, true, &item);
	segment_next(&r, true, &item);
	assert_int_equal(item.kind, SEGMENT_RECORD);
	assert_int_equal(item.line.id, 2);
	segment_next(&r, true, &item);
	assert_int_equal(item.kind, SEGMENT_END);
	segment_close(&r);
	close(dirfd);
	bench_fini(&b);
}

/* A file that gets shorter while it is read: zeros, not an endless loop. */
static void test_shrinking_file(void **state)
{
	struct segment_reader r;
	struct segment_item item = { .kind = SEGMENT_RECORD };
	struct segment g;
	struct bench b;
	int dirfd;

	(void)state;
	bench_init(&b);
	dirfd = open_dir(&b);
	assert_int_equal(
	    segment_create(&g, dirfd, RECORD_ARRIVALS, 1, 0, false, NULL), 0);
	for (uint64_t id = 1; id < 2000; id++)
		append_record(&g, id, "some content of a message\r\n");
	assert_int_equal(segment_open(&r, dirfd, RECORD_ARRIVALS, 1, NULL), 0);
	segment_next(&r, true, &item);
	assert_int_equal(ftruncate(g.fd, 500), 0);
	for (unsigned i = 0; item.kind == SEGMENT_RECORD; i++) {
		assert_true(i < 2000);
		segment_next(&r, true, &item);
	}
	assert_int_equal(item.kind, SEGMENT_DAMAGE);
	assert_true(r.unreadable);
	segment_next(&r, true, &item);
	assert_int_equal(item.kind, SEGMENT_END);
	segment_close(&r);
	segment_seal(&g);
	close(dirfd);
	bench_fini(&b);
}

static void test_names(void **state)
{
	static const char *const bad[] = { "", "0", "000000000", "1",
		"00000001", "0000000001", "00000000a", "-00000001",
		"000000001 ", "1000000000", "4294967295", "4294967296" };
	char name[SEGMENT_NAME_BUF];
	uint32_t number;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_int_equal(segment_parse_name(bad[i], &number), -1);
	assert_string_equal(segment_name(12, name), "000000012");
	assert_int_equal(segment_parse_name(name, &number), 0);
	assert_int_equal(number, 12);
	segment_name(SEGMENT_NUMBER_MAX, name);
	assert_int_equal(segment_parse_name(name, &number), 0);
	assert_int_equal(number, SEGMENT_NUMBER_MAX);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_write_and_read),
		cmocka_unit_test(test_space),
		cmocka_unit_test(test_rewind),
		cmocka_unit_test(test_shrinking_file),
		cmocka_unit_test(test_names),
	};

	return cmocka_run_group_tests_name("segment", tests, NULL, NULL);
}
