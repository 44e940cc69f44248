/*
 * What any program may hand to sesrelay-sendmail: arguments, a name, a message
 * on standard input (cli/sendmail_args, _address, _header, _lines).
 *
 * Input: a byte of options, one of how to cut, a line of arguments, the
 * caller's full name, then what comes on standard input.  Properties: the lines
 * that are made of it do not depend on cuts, are what the reference says, and
 * canonical.  A header that is made of them is one block, which the daemon
 * reads as we do; it has all fields that came, in order and byte for byte, but
 * Bcc, and behind them those that were missing.  A recipient is an address that
 * reads back to itself, none is there twice; names are no more than names.
 */
#include "fuzz.h"

#include "base/mem.h"
#include "cli/sendmail.h"
#include "smtp/header.h"

#include <stdlib.h>
#include <string.h>

#define WORDS_MAX 24
#define ENCODED_LINE_MAX 76

static struct slice text_of(const struct fuzz_text *t)
{
	return slice_of(t->ptr != NULL ? t->ptr : "", t->len);
}

static struct slice behind(struct slice a, size_t n)
{
	return slice_of(a.ptr + n, a.len - n);
}

/* --- lines --- */

static void add_reference_line(
    struct slice line, bool in_body, struct fuzz_text *out)
{
	for (size_t i = 0; i < line.len; i++) {
		if (line.ptr[i] == '\r' && line.ptr[i + 1] == '\r')
			continue;
		if (line.ptr[i] == '\r' && in_body)
			fuzz_text_add(out, "\r\n", 2);
		else if (line.ptr[i] == '\r' || line.ptr[i] == '\0')
			fuzz_text_add(out, " ", 1);
		else
			fuzz_text_add(out, line.ptr + i, 1);
	}
}

/* What sendmail_lines is to do, line by line instead of byte by byte. */
static void reference_lines(
    struct slice in, bool dot_ends, struct fuzz_text *out)
{
	bool in_body = false;

	while (in.len > 0) {
		bool whole = memchr(in.ptr, '\n', in.len) != NULL;
		struct slice line = slice_split(&in, '\n');

		while (line.len > 0 && line.ptr[line.len - 1] == '\r')
			line.len--;
		while (in_body && line.len > 0 && *line.ptr == '\r')
			line = behind(line, 1);
		if (dot_ends && slice_eq_str(line, "."))
			return;
		add_reference_line(line, in_body, out);
		if (whole || line.len > 0)
			fuzz_text_add(out, "\r\n", 2);
		in_body = in_body || (whole && line.len == 0);
	}
}

struct reader {
	struct sendmail_lines lines;
	struct fuzz_text out;
};

static bool feed(void *ctx, const char *ptr, size_t len)
{
	struct reader *r = ctx;
	char *room = xmalloc(SENDMAIL_LINES_ROOM(len));
	size_t n = sendmail_lines_feed(&r->lines, ptr, len, room);

	PROPERTY(n <= SENDMAIL_LINES_ROOM(len));
	fuzz_text_add(&r->out, room, n);
	free(room);
	return true;
}

static void read_lines(
    struct slice in, bool dot_ends, uint8_t seed, struct fuzz_text *out)
{
	struct reader r = { 0 };
	char end[SENDMAIL_LINES_ROOM(0)];
	bool eight_bit = false;

	sendmail_lines_init(&r.lines, dot_ends);
	fuzz_feed(in, seed, feed, &r);
	fuzz_text_add(&r.out, end, sendmail_lines_end(&r.lines, end));
	for (size_t i = 0; i < r.out.len; i++)
		eight_bit = eight_bit || (unsigned char)r.out.ptr[i] >= 0x80;
	PROPERTY(r.lines.eight_bit == eight_bit);
	PROPERTY(r.out.len == 0 ||
	    (fuzz_is_canonical(r.out.ptr, r.out.len) &&
		r.out.ptr[r.out.len - 1] == '\n'));
	*out = r.out;
}

/* --- recipients --- */

static void check_rcpts(const struct sendmail_rcpts *rcpts)
{
	for (size_t i = 0; i < rcpts->n; i++) {
		const char *text = rcpts->items[i];
		struct addr again;
		struct err err = { 0 };

		PROPERTY(*text != '\0' && strlen(text) <= ADDR_MAX);
		PROPERTY(fuzz_is_printable(text, strlen(text)));
		PROPERTY(
		    sendmail_address_parse(slice_str(text), &again, &err) == 0);
		PROPERTY(strcmp(again.text, text) == 0);
		for (size_t j = 0; j < i; j++)
			PROPERTY(strcmp(rcpts->items[j], text) != 0);
	}
}

static void check_args(char *line)
{
	char *argv[WORDS_MAX + 1] = { xstrdup("sendmail") }, *word,
			       *rest = line;
	struct sendmail_rcpts rcpts = { 0 };
	struct sendmail_args args;
	struct err err = { 0 };
	int argc = 1;

	while (argc < WORDS_MAX && (word = strsep(&rest, " ")) != NULL)
		argv[argc++] = xstrdup(word);
	if (sendmail_args_parse(&args, argc, argv, &err) == 0) {
		PROPERTY(args.n_rcpts < (size_t)argc);
		for (size_t i = 0; i < args.n_rcpts; i++)
			(void)!sendmail_rcpts_add(
			    &rcpts, slice_str(args.rcpts[i]), &err);
		check_rcpts(&rcpts);
	} else {
		PROPERTY(err.text[0] != '\0');
	}
	sendmail_rcpts_free(&rcpts);
	free(args.rcpts);
	for (int i = 0; i < argc; i++)
		free(argv[i]);
}

/* It must not be more than a name where it stands in front of an address. */
static void check_name(const char *name)
{
	char *phrase = sendmail_phrase(name);
	char *list = xasprintf("%s <a@example.com>\r\n", phrase);
	struct slice rest = slice_str(list);
	struct sendmail_rcpts rcpts = { 0 };
	struct err err = { 0 };

	PROPERTY(fuzz_is_canonical(list, strlen(list)));
	PROPERTY(sendmail_rcpts_add(&rcpts, rest, &err) == 0);
	PROPERTY(rcpts.n == 1 && strcmp(rcpts.items[0], "a@example.com") == 0);
	sendmail_rcpts_free(&rcpts);
	while (strstr(phrase, "=?utf-8?q?") == phrase && rest.len > 0) {
		struct slice line = slice_split(&rest, '\n');

		PROPERTY(fuzz_is_printable(line.ptr, line.len - 1));
		PROPERTY(rest.len == 0 || line.len <= ENCODED_LINE_MAX + 1);
		PROPERTY(rest.len == 0 || *rest.ptr == ' ');
	}
	free(list);
	free(phrase);
}

/* --- the header --- */

/* All of the block's fields but those that are left out. */
static size_t reference_fields(struct slice content, struct fuzz_text *out)
{
	struct slice rest = content, field;
	size_t len;

	if ((slice_has_prefix(rest, "From ") ||
		slice_has_prefix(rest, ">From ")) &&
	    header_next_field(rest).len == 0) {
		(void)slice_split(&rest, '\n');
	}
	while ((field = header_next_field(rest)).len > 0) {
		struct slice name = header_field_name(field);

		rest = behind(rest, field.len);
		if (!slice_caseeq_str(name, "Bcc") &&
		    !slice_caseeq_str(name, "Resent-Bcc"))
			fuzz_text_add(out, field.ptr, field.len);
	}
	len = content.len - rest.len;
	return slice_has_prefix(rest, "\r\n") ? len + 2 : len;
}

static void check_made(struct slice made, const struct fuzz_text *kept)
{
	struct sendmail_header again;
	struct header_scan scan;
	struct err err;

	PROPERTY(fuzz_is_canonical(made.ptr, made.len));
	PROPERTY(header_block(made, made.len).len + 2 == made.len);
	PROPERTY(made.len >= kept->len &&
	    slice_eq(slice_of(made.ptr, kept->len), text_of(kept)));
	PROPERTY(sendmail_header_read(&again, made, NULL, &err) == 0);
	PROPERTY(again.len == made.len);
	PROPERTY(again.has_date && again.has_from && again.has_message_id);
	sendmail_header_free(&again);
	header_scan_init(&scan);
	header_scan_feed(&scan, made.ptr, made.len);
	PROPERTY(
	    scan.done && scan.has_date && scan.has_from && scan.has_message_id);
}

static void check_header(
    struct slice content, const char *full_name, uint8_t options)
{
	struct sendmail_defaults defaults = {
		.sender = options & 2 ? "" : "sender@example.com",
		.user = "user",
		.full_name = options & 4 ? full_name : NULL,
		.date = "Sat, 21 Nov 2026 10:00:01 +0000",
		.message_id = "<a@example.com>",
	};
	struct sendmail_rcpts rcpts = { 0 };
	struct fuzz_text kept = { 0 };
	struct sendmail_header h;
	struct err err = { 0 };
	size_t len;
	char *made;

	if (sendmail_header_read(&h, content, &rcpts, &err) != 0)
		PROPERTY(fuzz_is_printable(err.text, strlen(err.text)));
	check_rcpts(&rcpts);
	PROPERTY(h.len == reference_fields(content, &kept));
	made = sendmail_header_make(&h, &defaults, &len);
	check_made(slice_of(made, len), &kept);
	free(made);
	fuzz_text_fini(&kept);
	sendmail_header_free(&h);
	sendmail_rcpts_free(&rcpts);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_in in = { data, size };
	uint8_t options = fuzz_byte(&in), seed = fuzz_byte(&in);
	char *args = fuzz_string(&in, '\n'), *name = fuzz_string(&in, '\n');
	struct slice input = fuzz_bytes(&in, in.len);
	struct fuzz_text whole, cut, meant = { 0 };
	bool dot_ends = options & 1;

	check_args(args);
	check_name(name);
	read_lines(input, dot_ends, 0, &whole);
	read_lines(input, dot_ends, seed, &cut);
	reference_lines(input, dot_ends, &meant);
	PROPERTY(fuzz_text_same(&whole, &cut));
	PROPERTY(fuzz_text_same(&whole, &meant));
	check_header(text_of(&whole), name, options);
	fuzz_text_fini(&whole);
	fuzz_text_fini(&cut);
	fuzz_text_fini(&meant);
	free(args);
	free(name);
	return 0;
}
