/*
 * smtp/dot: what a client sends as content, however it is cut.
 *
 * Input: a byte of flags (1: a session of LF alone; else how to cut), then the
 * content.  Properties: output, end, and what was noted are those of the
 * reference, for each way to cut it in two, for single bytes, for pieces by
 * chance and, when it is short, for all ways there are; output is canonical.
 * reader(writer(x)) is x made canonical, the end is at the writer's end alone,
 * and what the writer emits does not depend on cuts either.
 */
#include "reference.h"

#include "base/mem.h"
#include "smtp/dot.h"

#include <stdlib.h>
#include <string.h>

#define TWO_PIECES_MAX 48
#define ALL_WAYS_MAX 7

struct reading {
	struct dot_reader reader;
	struct fuzz_text out;
	size_t used;
	bool ended;
};

static bool read_piece(void *ctx, const char *ptr, size_t len)
{
	struct reading *r = ctx;
	char *out = xmalloc(DOT_READ_ROOM(len));
	size_t used, n;

	r->ended = dot_read(&r->reader, ptr, len, &used, out, &n);
	PROPERTY(n <= DOT_READ_ROOM(len));
	PROPERTY(r->ended || used == len);
	fuzz_text_add(&r->out, out, n);
	r->used += used;
	free(out);
	return !r->ended;
}

static void compare(struct reading *r, const struct reference *ref)
{
	PROPERTY(fuzz_text_same(&r->out, &ref->out));
	PROPERTY(r->ended == ref->ended);
	PROPERTY(r->used == ref->used);
	PROPERTY(r->reader.bare_lf == ref->bare_lf);
	PROPERTY(r->reader.bare_cr == ref->bare_cr);
	PROPERTY(r->reader.nul == ref->nul);
	PROPERTY(r->reader.line_too_long == ref->too_long);
	fuzz_text_fini(&r->out);
}

static void check_seed(
    struct slice in, bool lf, uint8_t seed, const struct reference *ref)
{
	struct reading r = { 0 };

	dot_reader_init(&r.reader, lf);
	fuzz_feed(in, seed, read_piece, &r);
	compare(&r, ref);
}

/* Bit i of `ways`: cut behind byte i. */
static void check_ways(
    struct slice in, bool lf, uint64_t ways, const struct reference *ref)
{
	struct reading r = { 0 };
	size_t from = 0;
	bool more = true;

	dot_reader_init(&r.reader, lf);
	for (size_t i = 0; more && i < in.len; i++) {
		if ((ways >> i & 1) == 0 && i + 1 < in.len)
			continue;
		more = read_piece(&r, in.ptr + from, i + 1 - from);
		from = i + 1;
	}
	compare(&r, ref);
}

static void check_reader(struct slice in, bool lf, uint8_t seed)
{
	struct reference ref;

	reference_read(in, lf, &ref);
	PROPERTY(fuzz_is_canonical(ref.out.ptr, ref.out.len));
	check_seed(in, lf, 0, &ref);
	check_seed(in, lf, 1, &ref);
	check_seed(in, lf, seed, &ref);
	for (size_t i = 0; in.len <= TWO_PIECES_MAX && i < in.len; i++)
		check_ways(in, lf, UINT64_C(1) << i, &ref);
	for (uint64_t w = 0; in.len > 0 && in.len <= ALL_WAYS_MAX &&
	     w < UINT64_C(1) << (in.len - 1);
	     w++)
		check_ways(in, lf, w, &ref);
	fuzz_text_fini(&ref.out);
}

struct writing {
	struct dot_writer writer;
	struct fuzz_text out;
};

static bool write_piece(void *ctx, const char *ptr, size_t len)
{
	struct writing *w = ctx;

	dot_write(&w->writer, ptr, len, fuzz_text_emit, &w->out);
	return true;
}

static void stuff(struct slice x, uint8_t seed, struct fuzz_text *out)
{
	struct writing w = { 0 };

	dot_writer_init(&w.writer);
	fuzz_feed(x, seed, write_piece, &w);
	dot_write_end(&w.writer, fuzz_text_emit, &w.out);
	*out = w.out;
}

static void check_writer(struct slice x, uint8_t seed)
{
	struct fuzz_text whole, cut, meant = { 0 };
	struct reading r = { 0 };

	stuff(x, 0, &whole);
	stuff(x, 1, &cut);
	PROPERTY(fuzz_text_same(&whole, &cut));
	fuzz_text_fini(&cut);
	stuff(x, seed, &cut);
	PROPERTY(fuzz_text_same(&whole, &cut));
	PROPERTY(fuzz_is_canonical(whole.ptr, whole.len));

	dot_reader_init(&r.reader, false);
	fuzz_feed(slice_of(whole.ptr, whole.len), seed, read_piece, &r);
	reference_normalise(x, &meant);
	PROPERTY(r.ended && r.used == whole.len);
	PROPERTY(!r.reader.bare_lf && !r.reader.bare_cr && !r.reader.nul);
	PROPERTY(fuzz_text_same(&r.out, &meant));
	fuzz_text_fini(&r.out);
	fuzz_text_fini(&meant);
	fuzz_text_fini(&whole);
	fuzz_text_fini(&cut);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_in in = { data, size };
	uint8_t flags = fuzz_byte(&in);
	struct slice content = fuzz_bytes(&in, in.len);

	check_reader(content, flags & 1, flags >> 1);
	check_writer(content, flags >> 1);
	return 0;
}
