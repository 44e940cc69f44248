/*
 * The content of DATA: the one end of data, whatever the bytes and however
 * they are cut, and the law of line ends on the way out.
 */
#include "smtp/dot.h"

#include "base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

struct text {
	char ptr[512];
	size_t len;
};

struct result {
	bool end;
	size_t used; /* where the end was found, else all */
	bool bare_lf, bare_cr, nul;
	struct text out;
};

/* The input in pieces of `piece` bytes, after a first one of `first`. */
static void read_in_pieces(const char *in, size_t len, size_t first,
    size_t piece, bool lf_session, struct result *result)
{
	struct dot_reader r;

	dot_reader_init(&r, lf_session);
	memset(result, 0, sizeof(*result));
	while (result->used < len && !result->end) {
		size_t n = result->used == 0 && first ? first : piece;
		size_t used, out_len;
		char *room;

		if (n > len - result->used)
			n = len - result->used;
		/* Of the very size, so that a sanitizer sees a byte more. */
		room = xmalloc(DOT_READ_ROOM(n));
		result->end =
		    dot_read(&r, in + result->used, n, &used, room, &out_len);
		assert_true(used <= n && (used == n || result->end));
		assert_true(out_len <= DOT_READ_ROOM(n));
		assert_true(
		    result->out.len + out_len <= sizeof(result->out.ptr));
		memcpy(result->out.ptr + result->out.len, room, out_len);
		result->out.len += out_len;
		result->used += used;
		free(room);
	}
	result->bare_lf = r.bare_lf;
	result->bare_cr = r.bare_cr;
	result->nul = r.nul;
}

/*
 * The reference: whole lines, no state between bytes.  Only for input that
 * has an end of data in it.
 */
static void reference(
    const char *in, size_t len, bool lf_session, struct result *result)
{
	size_t start = 0;
	bool behind_crlf = true;

	memset(result, 0, sizeof(*result));
	while (start < len) {
		const char *line = in + start;
		const char *lf = memchr(line, '\n', len - start);
		size_t n = (size_t)(lf - line);
		bool crlf = n > 0 && line[n - 1] == '\r';
		bool any_cr = memchr(in, '\r', start + n) != NULL;
		size_t skip = 0;

		assert_non_null(lf);
		start += n + 1;
		n -= crlf;
		if (!crlf)
			result->bare_lf = true;
		if (n == 1 && line[0] == '.' &&
		    (crlf ? behind_crlf : lf_session && !any_cr)) {
			result->end = true;
			break;
		}
		if (n > 0 && line[0] == '.') {
			if (behind_crlf)
				skip = n > 1 || crlf;
			else
				skip = n > 1 && line[1] == '.';
		}
		for (size_t i = skip; i < n; i++) {
			if (line[i] == '\0')
				result->nul = true;
			else if (line[i] == '\r')
				result->bare_cr = true;
			else
				result->out.ptr[result->out.len++] = line[i];
		}
		result->out.ptr[result->out.len++] = '\r';
		result->out.ptr[result->out.len++] = '\n';
		behind_crlf = crlf;
	}
	result->used = start;
}

static void show(const char *what, const char *ptr, size_t len)
{
	fprintf(stderr, "%s:", what);
	for (size_t i = 0; i < len; i++)
		fprintf(stderr, " %02x", (unsigned char)ptr[i]);
	fprintf(stderr, "\n");
}

static void assert_same(const char *in, size_t len, const struct result *is,
    const struct result *should)
{
	if (is->end == should->end && is->used == should->used &&
	    is->bare_lf == should->bare_lf && is->bare_cr == should->bare_cr &&
	    is->nul == should->nul && is->out.len == should->out.len &&
	    memcmp(is->out.ptr, should->out.ptr, is->out.len) == 0)
		return;
	show("input", in, len);
	show("output", is->out.ptr, is->out.len);
	show("expected", should->out.ptr, should->out.len);
	fail_msg("end %d/%d used %zu/%zu lf %d/%d cr %d/%d nul %d/%d", is->end,
	    should->end, is->used, should->used, is->bare_lf, should->bare_lf,
	    is->bare_cr, should->bare_cr, is->nul, should->nul);
}

/* Whole, byte by byte, and cut in two at each place. */
static void assert_read(
    const char *in, size_t len, bool lf_session, const struct result *should)
{
	struct result is;

	for (size_t first = 1; first <= len; first++) {
		read_in_pieces(in, len, first, len, lf_session, &is);
		assert_same(in, len, &is, should);
	}
	read_in_pieces(in, len, 0, 1, lf_session, &is);
	assert_same(in, len, &is, should);
}

/*
 * What has been tried in order to have two servers disagree about the end of
 * data.  Between a first line and a smuggled command, each of these is text.
 */
static const struct {
	const char *bytes;
	size_t len;
	bool ends; /* a true end of data */
	bool bare_lf, bare_cr, nul;
} corpus[] = {
#define BYTES(s) (s), sizeof(s) - 1
	{ BYTES("\n.\n"), false, true, false, false },
	{ BYTES("\n.\r\n"), false, true, false, false },
	{ BYTES("\r\n.\n"), false, true, false, false },
	{ BYTES("\r.\r"), false, false, true, false },
	{ BYTES("\r.\r\n"), false, false, true, false },
	{ BYTES("\r\n.\r"), false, false, true, false },
	{ BYTES("\n.\r"), false, true, true, false },
	{ BYTES("\r.\n"), false, true, true, false },
	{ BYTES("\r\n.\r\r\n"), false, false, true, false },
	{ BYTES("\r\r\n.\r\r\n"), false, false, true, false },
	{ BYTES("\r\r\n.\r\n"), true, false, true, false },
	{ BYTES("\r\n\0.\r\n"), false, false, false, true },
	{ BYTES("\r\n.\0\r\n"), false, false, false, true },
	{ BYTES("\r\n.\r\0\n"), false, true, true, true },
	{ BYTES("\r\0\n.\r\n"), false, true, true, true },
	{ BYTES("\r\n. \r\n"), false, false, false, false },
	{ BYTES("\r\n .\r\n"), false, false, false, false },
	{ BYTES("\r\n.\t\r\n"), false, false, false, false },
	{ BYTES("\r\n..\r\n"), false, false, false, false },
	{ BYTES("\n..\n"), false, true, false, false },
	{ BYTES("\n..\r\n"), false, true, false, false },
	{ BYTES("\v.\v"), false, false, false, false },
	{ BYTES("\f.\f"), false, false, false, false },
	{ BYTES("\x85.\x85"), false, false, false, false },
	{ BYTES("\xe2\x80\xa8.\xe2\x80\xa8"), false, false, false, false },
	{ BYTES("\r\n.\r\n"), true, false, false, false },
	{ BYTES("\n.\r\n.\r\n"), true, true, false, false },
	{ BYTES("\r\n.\n.\r\n"), false, true, false, false },
	{ BYTES("\r\n\r\n.\r\n"), true, false, false, false },
};

static const char command[] = "MAIL FROM:<smuggled@x>\r\nDATA\r\n";

static void check_corpus_entry(size_t i, const char *before)
{
	static const char tail[] = "\r\n.\r\nQUIT\r\n";
	char in[512];
	struct result should, is;
	size_t len, end;

	len = strlen(before);
	memcpy(in, before, len);
	memcpy(in + len, corpus[i].bytes, corpus[i].len);
	len += corpus[i].len;
	end = len;
	memcpy(in + len, command, sizeof(command) - 1);
	len += sizeof(command) - 1;
	if (!corpus[i].ends)
		end = len + 5;
	memcpy(in + len, tail, sizeof(tail) - 1);
	len += sizeof(tail) - 1;

	read_in_pieces(in, len, 0, len, false, &is);
	if (!is.end || is.used != end)
		fail_msg("entry %zu after \"%s\": end at %zu, not at %zu", i,
		    before, is.used, end);
	if (!corpus[i].ends)
		assert_non_null(memmem(
		    is.out.ptr, is.out.len, "MAIL FROM:<smuggled@x>", 22));
	assert_int_equal(is.bare_lf, corpus[i].bare_lf);
	assert_int_equal(is.bare_cr, corpus[i].bare_cr);
	assert_int_equal(is.nul, corpus[i].nul);
	reference(in, len, false, &should);
	assert_read(in, len, false, &should);
	/* CR has been seen in the command, so LF.LF after it ends nothing. */
	reference(in, len, true, &should);
	assert_read(in, len, true, &should);
}

static void test_corpus(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(corpus); i++) {
		check_corpus_entry(i, "first");
		check_corpus_entry(i, "Subject: x\r\n\r\nfirst line\r\nsecond");
	}
}

static void assert_content(const char *in, bool lf_session, const char *out)
{
	struct result is;
	size_t len = strlen(in);

	read_in_pieces(in, len, 0, len, lf_session, &is);
	if (!out) {
		if (is.end)
			fail_msg("an end is seen at %zu", is.used);
		return;
	}
	assert_true(is.end);
	assert_int_equal(is.used, len);
	is.out.ptr[is.out.len] = '\0';
	assert_string_equal(is.out.ptr, out);
	assert_read(in, len, lf_session, &is);
}

static void test_content(void **state)
{
	(void)state;
	assert_content(".\r\n", false, "");
	assert_content("\r\n.\r\n", false, "\r\n");
	assert_content("..\r\n.\r\n", false, ".\r\n");
	assert_content("...\r\n.\r\n", false, "..\r\n");
	assert_content(".a\r\n.\r\n", false, "a\r\n");
	assert_content("a.\r\n.\r\n", false, "a.\r\n");
	assert_content("a\r\n..b\r\n.\r\n", false, "a\r\n.b\r\n");
	/* Of clients that write LF some stuff dots and some do not. */
	assert_content("a\n..b\n.c\r\n.\r\n", false, "a\r\n.b\r\n.c\r\n");
	assert_content("a\nb\n\r\n.\r\n", false, "a\r\nb\r\n\r\n");
	/* A lone dot that ends nothing is a line of text. */
	assert_content("a\n.\nb\r\n.\r\n", false, "a\r\n.\r\nb\r\n");
	assert_content("a\n.\r\nb\r\n.\r\n", false, "a\r\n.\r\nb\r\n");
	assert_content("a\r\n.\nb\r\n.\r\n", false, "a\r\n.\r\nb\r\n");
	assert_content(".\nb\r\n.\r\n", false, ".\r\nb\r\n");
}

static void test_lf_session(void **state)
{
	(void)state;
	assert_content("a\nb\n.\n", true, "a\r\nb\r\n");
	assert_content(".\n", true, "");
	assert_content("\n.\n", true, "\r\n");
	assert_content("a\n..b\n.c\n.\n", true, "a\r\n.b\r\n.c\r\n");
	assert_content("a\r\n.\r\n", true, "a\r\n");
	assert_content(".\r\n", true, "");
	/* Not in others. */
	assert_content("a\nb\n.\n", false, NULL);
	assert_content(".\n", false, NULL);
	/* Not when any CR has been seen, be it in the last line. */
	assert_content("a\r\nb\n.\n", true, NULL);
	assert_content("a\rb\n.\n", true, NULL);
	assert_content("a\n.\r\n", true, NULL);
	assert_content("a\n.\r\nb\n.\n", true, NULL);
	assert_content("\r\n.\n", true, NULL);
	assert_content("a\n.\r\n.\r\n", true, "a\r\n.\r\n");
}

/* Each string of up to 7 of the bytes that matter, in front of a true end. */
static void test_all_short_inputs(void **state)
{
	static const char letters[] = { '\r', '\n', '.', '\0', 'a' };
	static const char tail[] = "\r\n.\r\nZ";
	size_t n = 1;

	(void)state;
	for (size_t len = 0; len <= 7; len++, n *= sizeof(letters)) {
		for (size_t k = 0; k < n; k++) {
			char in[7 + sizeof(tail)];
			struct result should;
			size_t rest = k;

			for (size_t i = 0; i < len; i++) {
				in[i] = letters[rest % sizeof(letters)];
				rest /= sizeof(letters);
			}
			memcpy(in + len, tail, sizeof(tail) - 1);
			for (int lf = 0; lf < 2; lf++) {
				reference(in, len + 6, lf, &should);
				assert_read(in, len + 6, lf, &should);
			}
		}
	}
}

/* Content around the size of the look-ahead and the limit of a line. */
static void test_line_length_is_noted(void **state)
{
	static const struct {
		size_t len;
		bool too_long;
	} rows[] = { { 255, false }, { 256, false }, { 257, false },
		{ 997, false }, { 998, false }, { 999, true }, { 5000, true } };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		for (size_t piece = 1; piece <= 8192; piece *= 8) {
			size_t len = rows[i].len, used, out_len, total = 0;
			char *in = xmalloc(len + 16), *room;
			struct dot_reader r;
			bool end = false;

			memset(in, 'x', len);
			/* Neither the stuffed dot nor CRLF count. */
			memcpy(in, "..", 2);
			memcpy(in + len + 1, "\r\nx\r\n.\r\n", 8);
			in[len] = 'x';
			room = xmalloc(DOT_READ_ROOM(piece));
			dot_reader_init(&r, false);
			for (size_t at = 0; at < len + 9; at += used) {
				size_t n = len + 9 - at;

				assert_false(end);
				end =
				    dot_read(&r, in + at, n < piece ? n : piece,
					&used, room, &out_len);
				total += out_len;
			}
			assert_true(end);
			assert_int_equal(total, len + 5);
			assert_int_equal(r.line_too_long, rows[i].too_long);
			free(room);
			free(in);
		}
	}
}

/* Header lines are somebody else's care. */
static void test_longest_body_line(void **state)
{
	static const struct {
		const char *in;
		unsigned longest;
	} rows[] = { { ".\r\n", 0 }, { "12345\r\n.\r\n", 0 },
		{ "12345\r\n\r\n.\r\n", 0 }, { "12345\r\n\r\n1\r\n.\r\n", 1 },
		{ "12345\r\n\r\n1\r\n..23\r\n\r\n12\r\n.\r\n", 3 },
		{ "\r\n1234\n123\r\n.\r\n", 4 } };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		size_t len = strlen(rows[i].in), used, out_len;

		for (size_t piece = 1; piece <= len; piece++) {
			struct dot_reader r;
			char room[DOT_READ_ROOM(64)];
			bool end = false;

			dot_reader_init(&r, false);
			for (size_t at = 0; at < len; at += used)
				end = dot_read(&r, rows[i].in + at,
				    len - at < piece ? len - at : piece, &used,
				    room, &out_len);
			assert_true(end);
			assert_int_equal(r.longest_body_line, rows[i].longest);
		}
	}
}

static void test_endless_line_of_dots(void **state)
{
	const size_t len = 10 * 1000 * 1000;
	char *in = xmalloc(len), *room = xmalloc(DOT_READ_ROOM(len));
	struct dot_reader r;
	size_t used, out_len;

	(void)state;
	memset(in, '.', len);
	dot_reader_init(&r, true);
	assert_false(dot_read(&r, in, len, &used, room, &out_len));
	assert_int_equal(out_len, len - 1);
	assert_true(r.line_too_long);
	free(room);
	free(in);
}

static void collect(void *ctx, const char *ptr, size_t len)
{
	struct text *text = ctx;

	assert_true(len > 0 && text->len + len <= sizeof(text->ptr));
	memcpy(text->ptr + text->len, ptr, len);
	text->len += len;
}

static void write_in_pieces(
    const char *in, size_t len, size_t first, size_t piece, struct text *out)
{
	struct dot_writer w;
	size_t at = 0;

	out->len = 0;
	dot_writer_init(&w);
	while (at < len) {
		size_t n = at == 0 && first ? first : piece;

		if (n > len - at)
			n = len - at;
		dot_write(&w, in + at, n, collect, out);
		at += n;
	}
	dot_write_end(&w, collect, out);
}

static void assert_written(const char *in, size_t len, const char *out)
{
	struct text text;

	for (size_t first = 0; first <= len; first++) {
		write_in_pieces(in, len, first, len, &text);
		assert_int_equal(text.len, strlen(out));
		assert_memory_equal(text.ptr, out, text.len);
	}
	write_in_pieces(in, len, 0, 1, &text);
	assert_int_equal(text.len, strlen(out));
	assert_memory_equal(text.ptr, out, text.len);
}

static void test_writer(void **state)
{
	(void)state;
	assert_written(BYTES(""), ".\r\n");
	assert_written(BYTES("a\r\n"), "a\r\n.\r\n");
	assert_written(BYTES("a"), "a\r\n.\r\n");
	assert_written(BYTES("a\r"), "a\r\n.\r\n");
	assert_written(BYTES(".\r\n"), "..\r\n.\r\n");
	assert_written(BYTES("."), "..\r\n.\r\n");
	assert_written(
	    BYTES("a\r\n.\r\n..\r\n.b"), "a\r\n..\r\n...\r\n..b\r\n.\r\n");
	assert_written(BYTES("a.\r\n.a\r\n"), "a.\r\n..a\r\n.\r\n");
	assert_written(BYTES("a\n.\nb"), "a\r\n..\r\nb\r\n.\r\n");
	assert_written(BYTES("a\rb\r\rc"), "a b  c\r\n.\r\n");
	assert_written(BYTES("a\r\r\n"), "a \r\n.\r\n");
	assert_written(BYTES("\0.\0\r\n"), " . \r\n.\r\n");
	assert_written(BYTES("\r.\r\n"), " .\r\n.\r\n");
	assert_written(BYTES("\r\0\n."), "  \r\n..\r\n.\r\n");
}

/* Clean on the wire: CR and LF only together, no NUL, one end of data. */
static void assert_law(const char *in, size_t in_len, const struct text *out)
{
	const char *p = out->ptr;
	size_t ends = 0;

	for (size_t i = 0; i < out->len; i++) {
		bool after_cr = i > 0 && p[i - 1] == '\r';
		bool at_start = i == 0 || p[i - 1] == '\n';

		if (p[i] == '\0' || (p[i] == '\n') != after_cr) {
			show("input", in, in_len);
			show("output", out->ptr, out->len);
			fail_msg("byte %zu breaks the law", i);
		}
		if (at_start && out->len - i >= 3 &&
		    memcmp(p + i, ".\r\n", 3) == 0)
			ends++;
	}
	assert_int_equal(ends, 1);
	assert_true(out->len >= 3 && memcmp(p + out->len - 3, ".\r\n", 3) == 0);
}

static void test_writer_on_all_short_inputs(void **state)
{
	static const char letters[] = { '\r', '\n', '.', '\0', 'a' };
	size_t n = 1;

	(void)state;
	for (size_t len = 0; len <= 7; len++, n *= sizeof(letters)) {
		for (size_t k = 0; k < n; k++) {
			char in[8];
			struct text whole, cut;
			size_t rest = k;

			for (size_t i = 0; i < len; i++) {
				in[i] = letters[rest % sizeof(letters)];
				rest /= sizeof(letters);
			}
			write_in_pieces(in, len, 0, len, &whole);
			assert_law(in, len, &whole);
			for (size_t first = 1; first <= len; first++) {
				write_in_pieces(in, len, first, 1, &cut);
				assert_int_equal(cut.len, whole.len);
				assert_memory_equal(
				    cut.ptr, whole.ptr, cut.len);
			}
		}
	}
}

/* reader(writer(x)) == x for canonical x. */
static void test_round_trip(void **state)
{
	static const char *const words[] = { "\r\n", ".", "..", "a", "MAIL",
		"\xff" };
	unsigned seed = 42;

	(void)state;
	for (int i = 0; i < 20000; i++) {
		char in[128];
		size_t len = 0;
		struct text wire;
		struct result back;

		for (int k = rand_r(&seed) % 20; k > 0; k--) {
			const char *word =
			    words[(size_t)rand_r(&seed) % ARRAY_LEN(words)];

			memcpy(in + len, word, strlen(word));
			len += strlen(word);
		}
		if (len > 0) {
			memcpy(in + len, "\r\n", 2);
			len += 2;
		}
		write_in_pieces(in, len, (size_t)rand_r(&seed) % 9,
		    (size_t)rand_r(&seed) % 40 + 1, &wire);
		read_in_pieces(wire.ptr, wire.len, (size_t)rand_r(&seed) % 9,
		    (size_t)rand_r(&seed) % 40 + 1, i % 2, &back);
		assert_true(back.end);
		assert_int_equal(back.used, wire.len);
		assert_int_equal(back.out.len, len);
		assert_memory_equal(back.out.ptr, in, len);
		assert_false(back.bare_lf || back.bare_cr || back.nul);
	}
}

static void count_run(void *ctx, const char *ptr, size_t len)
{
	(void)ptr;
	(void)len;
	++*(unsigned *)ctx;
}

/* Plain lines are handed on in one piece, however many they are. */
static void test_writer_hands_on_long_runs(void **state)
{
	struct dot_writer w;
	char in[1000];
	unsigned runs = 0;

	(void)state;
	for (size_t i = 0; i < sizeof(in); i += 10)
		memcpy(in + i, "8 octets\r\n", 10);
	dot_writer_init(&w);
	dot_write(&w, in, sizeof(in), count_run, &runs);
	assert_int_equal(runs, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_corpus),
		cmocka_unit_test(test_content),
		cmocka_unit_test(test_lf_session),
		cmocka_unit_test(test_all_short_inputs),
		cmocka_unit_test(test_line_length_is_noted),
		cmocka_unit_test(test_longest_body_line),
		cmocka_unit_test(test_endless_line_of_dots),
		cmocka_unit_test(test_writer),
		cmocka_unit_test(test_writer_on_all_short_inputs),
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_writer_hands_on_long_runs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
