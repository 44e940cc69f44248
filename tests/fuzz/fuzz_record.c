/*
 * A spool whose files were damaged: queue/segment_read and queue/scan over
 * segments that were made whole and then hurt.
 *
 * Input: bytes that say which records and outcomes there are, then what is done
 * to the files: bytes changed, zeroed, copied, cut off, added.  Properties:
 * no record is given out that is not byte for byte one that was written, also
 * when its content quotes records; every record that was not touched is found,
 * whatever stands before it; what segment_load() gives is what was written; of
 * the whole spool, a message whose end is on record is not delivered again, and
 * every other one that is whole is.
 */
#include "fuzz.h"

#include "base/mem.h"
#include "queue/spool_private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define RECORDS_MAX 5
#define QUOTE_MAX 2000
#define NONCE UINT64_C(0x1122334455667788)
#define NUMBER 1u

/* A file as it was written, and what became of it. */
struct file {
	struct fuzz_text whole, hurt;
};

static struct made {
	struct record_line line;
	struct fuzz_text head, body;
	bool ended; /* an outcome says so */
	size_t outcome_at, outcome_len;
	bool found;
} made[RECORDS_MAX];
static unsigned n_made;

static char top[] = "/dev/shm/sesrelayd-fuzz-XXXXXX";
static struct spool_dirs dirs;

static void clean_up(void)
{
	static const char *const names[] = { "arrivals", "outcomes", "large",
		"failed" };

	(void)unlinkat(dirs.arrivals, "000000001", 0);
	(void)unlinkat(dirs.outcomes, "000000001", 0);
	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		(void)unlinkat(dirs.top, names[i], AT_REMOVEDIR);
	(void)rmdir(top);
}

static int make_dir(const char *name)
{
	PROPERTY(mkdirat(dirs.top, name, 0700) == 0);
	return openat(dirs.top, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static void make_dirs(void)
{
	static bool done;

	if (done)
		return;
	done = true;
	PROPERTY(mkdtemp(top) != NULL);
	dirs_init(&dirs);
	dirs.top = open(top, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	dirs.arrivals = make_dir("arrivals");
	dirs.outcomes = make_dir("outcomes");
	dirs.large = make_dir("large");
	dirs.failed = make_dir("failed");
	(void)atexit(clean_up);
}

/* --- making --- */

static void make_body(
    struct fuzz_in *in, uint8_t flags, const struct file *f, struct made *r)
{
	struct slice text = fuzz_bytes(in, flags >> 3);

	/* It quotes what the file holds so far, at another place. */
	if (flags & 1)
		fuzz_text_add(&r->body, f->whole.ptr,
		    f->whole.len < QUOTE_MAX ? f->whole.len : QUOTE_MAX);
	fuzz_text_add(&r->body, text.ptr, text.len);
	/* So long that the content is not checked unless one asks for it. */
	while (n_made == 1 && flags & 2 && r->body.len <= SEGMENT_CHECK_BYTES)
		fuzz_text_add_str(
		    &r->body, "0123456789abcdef0123456789abcde\n");
}

static void make_head(struct made *r, unsigned n)
{
	const struct record_extra extra = { 0 };
	struct message *m = message_new(r->line.id);
	struct record_buf head = { 0 };
	struct err err;

	m->arrival_us = INT64_C(1795257601123456) + n;
	m->sender = xstrdup("sender@example.com");
	m->peer = xstrdup("localhost[127.0.0.1]");
	m->helo = xstrdup("app");
	m->message_id = xstrdup("");
	message_add_rcpt(m, "one@example.com");
	message_add_rcpt(m, "two@example.com");
	PROPERTY(record_encode_head(m, &extra, &head, &err) == 0);
	fuzz_text_add(&r->head, head.data, head.len);
	record_buf_fini(&head);
	message_free(m);
}

static void make_record(struct fuzz_in *in, struct file *f)
{
	struct made *r = &made[n_made];
	char line[RECORD_LINE_LEN], end[RECORD_END_LEN];
	uint8_t flags = fuzz_byte(in);

	*r = (struct made){ .ended = flags & 4 };
	r->line.id = 0x1000 + n_made;
	make_head(r, n_made);
	make_body(in, flags, f, r);
	r->line.nonce = NONCE;
	r->line.ref = (struct spool_ref){ NUMBER, (uint32_t)f->whole.len };
	r->line.head_len = (uint32_t)r->head.len;
	r->line.body_len = (uint32_t)r->body.len;
	r->line.head_sum = record_sum(r->head.ptr, r->head.len);
	r->line.body_sum = record_sum(r->body.ptr, r->body.len);
	record_encode_line(&r->line, line);
	record_encode_end(r->line.id, end);
	fuzz_text_add(&f->whole, line, sizeof(line));
	fuzz_text_add(&f->whole, r->head.ptr, r->head.len);
	fuzz_text_add(&f->whole, r->body.ptr, r->body.len);
	fuzz_text_add(&f->whole, end, sizeof(end));
	n_made++;
}

static void make_outcome(struct file *f, struct made *r)
{
	static struct record_outcome o;
	struct record_buf out = { 0 };

	o = (struct record_outcome){ .time_us = INT64_C(1795257601123456),
		.id = r->line.id,
		.event = RECORD_SENT,
		.last = true,
		.reply = slice_str("250 Ok") };
	record_encode_outcome(&o, &out);
	r->outcome_at = f->whole.len;
	r->outcome_len = out.len;
	fuzz_text_add(&f->whole, out.data, out.len);
	record_buf_fini(&out);
}

static void make_files(
    struct fuzz_in *in, struct file *arrivals, struct file *outcomes)
{
	const struct record_header header = { NONCE, 1 };
	char text[RECORD_HEADER_LEN];
	unsigned n = 1 + fuzz_byte(in) % RECORDS_MAX;

	record_encode_header(RECORD_ARRIVALS, &header, text);
	fuzz_text_add(&arrivals->whole, text, sizeof(text));
	record_encode_header(RECORD_OUTCOMES, &header, text);
	fuzz_text_add(&outcomes->whole, text, sizeof(text));
	n_made = 0;
	while (n_made < n)
		make_record(in, arrivals);
	for (unsigned i = 0; i < n; i++)
		if (made[i].ended)
			make_outcome(outcomes, &made[i]);
}

/* --- hurting --- */

static void put(struct file *f, size_t at, size_t n, const char *bytes)
{
	for (size_t i = 0; i < n && at + i < f->hurt.len; i++)
		f->hurt.ptr[at + i] = bytes != NULL ? bytes[i] : '\0';
}

static size_t get_place(struct fuzz_in *in, const struct file *f)
{
	size_t at = fuzz_byte(in);

	at = at << 8 | fuzz_byte(in);
	/* Large files: anywhere, small ones: exactly. */
	if (f->hurt.len > 0xffff)
		at = at * (f->hurt.len / 0xffff + 1);
	return f->hurt.len > 0 ? at % f->hurt.len : 0;
}

static void hurt(struct fuzz_in *in, struct file *f, uint8_t how)
{
	size_t at = get_place(in, f), n;
	struct slice text;
	char *copy;

	switch (how) {
	case 0:
		text = fuzz_bytes(in, 1 + fuzz_byte(in) % 16);
		put(f, at, text.len, text.ptr);
		break;
	case 1:
		put(f, at, fuzz_byte(in) * 16, NULL);
		break;
	case 2:
		f->hurt.len = at;
		break;
	case 3: /* a piece of it at another place */
		n = fuzz_byte(in) * 8;
		if (n > f->hurt.len - at)
			n = f->hurt.len - at;
		copy = xmemdup(f->hurt.ptr + at, n);
		put(f, get_place(in, f), n, copy);
		free(copy);
		break;
	default:
		text = fuzz_bytes(in, fuzz_byte(in));
		fuzz_text_add(&f->hurt, text.ptr, text.len);
		break;
	}
}

/* Nothing was done to it, or was undone. */
static bool is_whole(const struct file *f, size_t at, size_t len)
{
	return at + len <= f->hurt.len &&
	    memcmp(f->hurt.ptr + at, f->whole.ptr + at, len) == 0;
}

static void begin_hurt(struct file *f)
{
	fuzz_text_add(&f->hurt, f->whole.ptr, f->whole.len);
}

static void write_file(int dir, const struct file *f)
{
	int fd = openat(
	    dir, "000000001", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	PROPERTY(fd >= 0);
	PROPERTY(f->hurt.len == 0 ||
	    write(fd, f->hurt.ptr, f->hurt.len) == (ssize_t)f->hurt.len);
	close(fd);
}

/* --- judging --- */

static struct made *find_made(uint64_t id)
{
	for (unsigned i = 0; i < n_made; i++)
		if (made[i].line.id == id)
			return &made[i];
	PROPERTY(!"a record that nobody wrote");
	return NULL;
}

static void check_load(const struct made *r, bool whole)
{
	struct record_extra extra;
	struct err err = { 0 };
	struct message *m =
	    segment_load(dirs.arrivals, r->line.id, r->line.ref, &extra, &err);

	PROPERTY(m != NULL || err.code == EBADMSG);
	PROPERTY(m != NULL || !whole);
	if (m == NULL)
		return;
	PROPERTY(m->body.len == r->body.len && m->n_rcpts == 2);
	PROPERTY(r->body.len == 0 ||
	    memcmp(m->body.data, r->body.ptr, r->body.len) == 0);
	message_free(m);
}

static void check_reader(const struct file *f)
{
	bool header_whole = is_whole(f, 0, RECORD_HEADER_LEN);
	struct segment_reader r;
	struct segment_item item;
	struct err err = { 0 };

	if (segment_open(&r, dirs.arrivals, RECORD_ARRIVALS, NUMBER, &err) <
	    0) {
		PROPERTY(!header_whole && err.code == EPROTONOSUPPORT);
		return;
	}
	for (uint64_t at = 0;
	     segment_next(&r, true, &item), item.kind != SEGMENT_END;
	     at = item.offset + item.len) {
		struct made *rec;

		PROPERTY(item.offset >= at && item.len > 0);
		PROPERTY(item.offset + item.len <= f->hurt.len);
		if (item.kind != SEGMENT_RECORD)
			continue;
		rec = find_made(item.line.id);
		PROPERTY(!rec->found);
		rec->found = true;
		PROPERTY(item.offset == rec->line.ref.offset);
		PROPERTY(slice_eq(
		    item.text, slice_of(rec->head.ptr, rec->head.len)));
	}
	segment_close(&r);
	for (unsigned i = 0; i < n_made; i++) {
		struct made *rec = &made[i];
		bool whole =
		    is_whole(f, rec->line.ref.offset, record_total(&rec->line));

		PROPERTY(rec->found == whole);
		check_load(rec, whole);
		rec->found = false;
	}
}

static void check_scan(const struct file *arrivals, const struct file *outcomes)
{
	uint32_t number = NUMBER;
	struct scan scan;
	struct scan_chunk chunk = { 0 };

	scan_init(&scan, &dirs);
	scan.arrivals.items = xmemdup(&number, sizeof(number));
	scan.outcomes.items = xmemdup(&number, sizeof(number));
	scan.arrivals.n = scan.outcomes.n = 1;
	while (!chunk.done) {
		scan_step(&scan, &chunk);
		for (size_t i = 0; i < chunk.n; i++)
			if (chunk.entries[i].message != NULL)
				find_made(chunk.entries[i].message->id)->found =
				    true;
		scan_chunk_fini(&chunk);
	}
	for (unsigned i = 0; i < n_made; i++) {
		struct made *r = &made[i];
		bool whole = is_whole(
		    arrivals, r->line.ref.offset, record_total(&r->line));
		bool told = r->ended &&
		    /* The line that begins behind the LF before it. */
		    is_whole(outcomes, r->outcome_at - 1, r->outcome_len + 1);

		PROPERTY(!r->found || whole);
		PROPERTY(!whole || r->ended || r->found || scan.blind ||
		    scan.doubtful);
		PROPERTY(!(told && !scan.blind && r->found));
	}
	scan_fini(&scan);
}

static void file_fini(struct file *f)
{
	fuzz_text_fini(&f->whole);
	fuzz_text_fini(&f->hurt);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct file arrivals = { 0 }, outcomes = { 0 };
	struct fuzz_in in = { data, size };

	make_dirs();
	make_files(&in, &arrivals, &outcomes);
	begin_hurt(&arrivals);
	begin_hurt(&outcomes);
	for (unsigned n = 0; in.len > 0 && n < 32; n++) {
		uint8_t how = fuzz_byte(&in);

		hurt(&in, how & 8 ? &outcomes : &arrivals, how % 8 % 5);
	}
	write_file(dirs.arrivals, &arrivals);
	write_file(dirs.outcomes, &outcomes);
	check_reader(&arrivals);
	check_scan(&arrivals, &outcomes);
	for (unsigned i = 0; i < n_made; i++) {
		fuzz_text_fini(&made[i].head);
		fuzz_text_fini(&made[i].body);
	}
	file_fini(&arrivals);
	file_fini(&outcomes);
	return 0;
}
