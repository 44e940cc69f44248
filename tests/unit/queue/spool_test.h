/*
 * A spool in a directory of its own and a loop that is nothing but poll(2),
 * for the tests of the spool.
 */
#ifndef TESTS_SPOOL_TEST_H
#define TESTS_SPOOL_TEST_H

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <inttypes.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/stat.h"
#include "queue/spool_private.h"

#define UNUSED __attribute__((unused))

/* A message that the scan found, or that a test expects. */
struct known {
	struct message *m;
	bool held;
	struct known *next;
};

struct bench {
	char dir[64];
	struct work_port *port;
	struct spool *spool;
	struct spool_options options;
	struct known *found; /* newest first */
	unsigned n_found, n_moved, n_trouble, n_health;
	bool scan_done, healthy;
	char trouble[4096]; /* all sentences */
};

static void on_found(void *ctx, const struct spool_found *found)
{
	struct bench *b = ctx;
	struct known *k = xcalloc(1, sizeof(*k));

	k->m = found->message;
	k->held = found->held;
	k->next = b->found;
	b->found = k;
	b->n_found++;
}

static void on_scan_done(void *ctx)
{
	((struct bench *)ctx)->scan_done = true;
}

static struct known *bench_find(const struct bench *b, uint64_t id)
{
	for (struct known *k = b->found; k != NULL; k = k->next)
		if (k->m->id == id)
			return k;
	return NULL;
}

static void on_moved(void *ctx, uint64_t id, struct spool_ref ref)
{
	struct bench *b = ctx;
	struct known *k = bench_find(b, id);

	b->n_moved++;
	if (k != NULL)
		k->m->ref = ref;
}

static void on_health(void *ctx, bool ok, const char *reason)
{
	struct bench *b = ctx;

	(void)reason;
	b->healthy = ok;
	b->n_health++;
}

static void on_trouble(void *ctx, const char *text)
{
	struct bench *b = ctx;
	size_t len = strlen(b->trouble);

	b->n_trouble++;
	snprintf(b->trouble + len, sizeof(b->trouble) - len, "%s\n", text);
}

static const struct spool_events bench_events = {
	.on_found = on_found,
	.on_scan_done = on_scan_done,
	.on_moved = on_moved,
	.on_health = on_health,
	.on_trouble = on_trouble,
};

static UNUSED void bench_init(struct bench *b)
{
	*b = (struct bench){ .healthy = true };
	strcpy(b->dir, "/tmp/spool-test-XXXXXX");
	assert_non_null(mkdtemp(b->dir));
	b->options.directory = b->dir;
	b->options.durable = true;
}

static void bench_forget(struct bench *b)
{
	struct known *k;

	while ((k = b->found) != NULL) {
		b->found = k->next;
		message_free(k->m);
		free(k);
	}
	b->n_found = b->n_moved = b->n_trouble = b->n_health = 0;
	b->scan_done = false;
	b->trouble[0] = '\0';
}

static UNUSED void bench_open(struct bench *b)
{
	struct err err = { 0 };

	bench_forget(b);
	b->port = work_port_new();
	b->spool = spool_open(&b->options, b->port, &bench_events, b, &err);
	if (b->spool == NULL)
		fail_msg("spool_open: %s", err.text);
}

static UNUSED void bench_close(struct bench *b)
{
	spool_close(b->spool);
	work_port_free(b->port);
	b->spool = NULL;
	b->port = NULL;
}

/* One turn of the loop: waits until something completes. */
static void bench_turn(struct bench *b)
{
	struct pollfd p = { .fd = work_port_fd(b->port), .events = POLLIN };

	/* A minute means that nothing ever will. */
	assert_int_equal(poll(&p, 1, 60000), 1);
	work_port_dispatch(b->port);
}

static UNUSED void bench_scan(struct bench *b)
{
	struct pollfd p = { .fd = work_port_fd(b->port), .events = POLLIN };
	time_t end = time(NULL) + 60;

	spool_scan(b->spool);
	while (!b->scan_done) {
		assert_true(time(NULL) < end);
		/* A scan that could not go on waits for a tick. */
		if (poll(&p, 1, 50) == 1)
			work_port_dispatch(b->port);
		else
			spool_tick(b->spool, 0);
	}
	/* What a start does besides may not meet a fault meant for others. */
	while (b->spool->n_jobs > 0)
		bench_turn(b);
}

static UNUSED void bench_reopen(struct bench *b)
{
	if (b->spool != NULL)
		bench_close(b);
	bench_open(b);
	bench_scan(b);
}

/* A turn that does not wait. */
static UNUSED void bench_glance(struct bench *b)
{
	work_port_dispatch(b->port);
}

struct answer {
	bool done;
	int rc;
	struct err err;
	struct message *m;
};

static void on_answer(void *ctx, int rc, const struct err *err)
{
	struct answer *a = ctx;

	assert_false(a->done);
	a->done = true;
	a->rc = rc;
	a->err = *err;
}

static void on_loaded(void *ctx, struct message *m, const struct err *err)
{
	struct answer *a = ctx;

	assert_false(a->done);
	a->done = true;
	a->rc = m != NULL ? 0 : -1;
	a->m = m;
	a->err = *err;
}

static void bench_wait(struct bench *b, const struct answer *a)
{
	while (!a->done)
		bench_turn(b);
}

static UNUSED int bench_commit(struct bench *b, struct message *m)
{
	struct answer a = { 0 };

	spool_commit(b->spool, m, NULL, on_answer, &a);
	bench_wait(b, &a);
	return a.rc;
}

static UNUSED struct message *bench_load(
    struct bench *b, uint64_t id, struct spool_ref ref, struct err *err)
{
	struct answer a = { 0 };

	spool_load(b->spool, id, ref, on_loaded, &a);
	bench_wait(b, &a);
	if (err != NULL)
		*err = a.err;
	return a.m;
}

static UNUSED void bench_settle(struct bench *b, const struct message *m,
    enum spool_event event, bool last, const uint16_t *rcpts, unsigned n)
{
	struct spool_outcome outcome = {
		.id = m->id,
		.ref = m->ref,
		.size = m->size,
		.event = event,
		.time_us = clock_wall_us(),
		.rcpts = rcpts,
		.n_rcpts = n,
		.last = last,
		.dsn = "2.0.0",
		.reply = "250 Ok 0100018c",
		.message_id = m->message_id,
	};

	spool_settle(b->spool, &outcome);
}

/* Repeats the tick until the loop has seen `done`. */
static UNUSED void bench_tick_until(
    struct bench *b, bool (*done)(struct bench *b))
{
	time_t end = time(NULL) + 60;

	while (!done(b)) {
		assert_true(time(NULL) < end);
		spool_tick(b->spool, clock_wall_us());
		bench_turn(b);
	}
}

/* Content that is a function of the id. */
static UNUSED void fill_body(struct body *b, uint64_t id, size_t len)
{
	uint64_t x = id * UINT64_C(0x9e3779b97f4a7c15) + 1;
	char *p = body_reserve(b, len + 1);

	for (size_t i = 0; i < len; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		p[i] = (char)(x & 0xff);
	}
	b->len += len;
}

static UNUSED struct message *make_message(
    uint64_t id, size_t len, unsigned n_rcpts)
{
	struct message *m = message_new(id);
	char text[64];

	m->arrival_us = INT64_C(1795000000000000) + (int64_t)(id % 1000000);
	m->sender = xasprintf("sender-%" PRIu64 "@example.com", id);
	m->peer = xstrdup("localhost[127.0.0.1]");
	m->helo = xstrdup("app");
	m->message_id = xasprintf("%" PRIu64 "@example.com", id);
	m->body_8bit = id % 2 == 0;
	for (unsigned i = 0; i < n_rcpts; i++) {
		snprintf(text, sizeof(text), "rcpt-%u@example.net", i);
		message_add_rcpt(m, text);
	}
	fill_body(&m->body, id, len);
	m->size = len;
	return m;
}

static UNUSED void assert_same_envelope(
    const struct message *a, const struct message *b)
{
	assert_int_equal(a->id, b->id);
	assert_int_equal(a->arrival_us, b->arrival_us);
	assert_string_equal(a->sender, b->sender);
	assert_string_equal(a->peer, b->peer);
	assert_string_equal(a->helo, b->helo);
	assert_string_equal(a->message_id, b->message_id);
	assert_int_equal(a->body_8bit, b->body_8bit);
	/* One that another process committed has a time that is not known. */
	if (b->clock_us > 0)
		assert_int_equal(a->clock_us, b->clock_us);
	assert_int_equal(a->notice, b->notice);
	assert_int_equal(a->size, b->size);
	assert_int_equal(a->large, b->large);
	assert_int_equal(a->n_rcpts, b->n_rcpts);
	for (unsigned i = 0; i < a->n_rcpts; i++) {
		const char *x = a->rcpts[i].orig, *y = b->rcpts[i].orig;

		assert_string_equal(a->rcpts[i].addr, b->rcpts[i].addr);
		assert_string_equal(x != NULL ? x : "-", y != NULL ? y : "-");
	}
}

static UNUSED void assert_rcpt_states(
    const struct message *m, const char *states)
{
	assert_int_equal(m->n_rcpts, strlen(states));
	for (unsigned i = 0; i < m->n_rcpts; i++)
		assert_int_equal(m->rcpts[i].state, states[i]);
}

/* Content found on disk is what a message of that id was given. */
static UNUSED void assert_loads(
    struct bench *b, uint64_t id, struct spool_ref ref, size_t len)
{
	struct err err = { 0 };
	struct message *m = bench_load(b, id, ref, &err);
	struct body expected;

	if (m == NULL)
		fail_msg("spool_load: %s", err.text);
	body_init(&expected);
	fill_body(&expected, id, len);
	assert_int_equal(m->body.len, len);
	assert_memory_equal(m->body.data, expected.data, len);
	body_fini(&expected);
	message_free(m);
}

static UNUSED PRINTF(2, 3) char *bench_path(
    const struct bench *b, const char *format, ...)
{
	char name[128];
	va_list ap;

	va_start(ap, format);
	vsnprintf(name, sizeof(name), format, ap);
	va_end(ap);
	return xasprintf("%s/%s", b->dir, name);
}

static UNUSED char *read_file(const char *path, size_t *len)
{
	struct stat st;
	char *text;
	int fd = open(path, O_RDONLY);

	if (fd < 0)
		fail_msg("%s: %s", path, strerror(errno));
	assert_int_equal(fstat(fd, &st), 0);
	text = xmalloc((size_t)st.st_size + 1);
	assert_int_equal(read(fd, text, (size_t)st.st_size), st.st_size);
	text[st.st_size] = '\0';
	*len = (size_t)st.st_size;
	close(fd);
	return text;
}

static UNUSED void write_file(const char *path, const void *data, size_t len)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, data, len), len);
	close(fd);
}

/* Files in a directory of the spool whose names begin with `prefix`. */
static UNUSED unsigned count_files(
    const struct bench *b, const char *part, const char *prefix)
{
	char *path = bench_path(b, "%s", part);
	DIR *dir = opendir(path);
	struct dirent *entry;
	unsigned n = 0;

	assert_non_null(dir);
	while ((entry = readdir(dir)) != NULL)
		n += strcmp(entry->d_name, ".") != 0 &&
		    strcmp(entry->d_name, "..") != 0 &&
		    strncmp(entry->d_name, prefix, strlen(prefix)) == 0;
	closedir(dir);
	free(path);
	return n;
}

static int remove_entry(
    const char *path, const struct stat *st, int kind, struct FTW *ftw)
{
	(void)st;
	(void)kind;
	(void)ftw;
	return remove(path);
}

static UNUSED void bench_fini(struct bench *b)
{
	if (b->spool != NULL)
		bench_close(b);
	bench_forget(b);
	nftw(b->dir, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
	/* Whatever happened, no content may be left in memory. */
	assert_int_equal(stat_get(STAT_BODY_BYTES), 0);
}

#endif
