/*
 * smtp/header: the look at a header block that streams by, the block as one
 * piece, and our trace field.
 *
 * Input: a byte of how to cut, a HELO name and a peer that end in LF each, then
 * content, which is made canonical first, as it is in the daemon.  Properties:
 * what the scan finds does not depend on cuts; its Message-ID is bounded and
 * visible; the block is whole lines at the head of the content, never longer
 * than asked for, and ends where the scan ended; the trace field is one field
 * of short, visible lines.
 */
#include "reference.h"

#include "base/mem.h"
#include "smtp/header.h"

#include <stdlib.h>
#include <string.h>

static bool scan_piece(void *ctx, const char *ptr, size_t len)
{
	header_scan_feed(ctx, ptr, len);
	return true;
}

static void scan(struct slice content, uint8_t seed, struct header_scan *h)
{
	header_scan_init(h);
	fuzz_feed(content, seed, scan_piece, h);
	PROPERTY(memchr(h->message_id, '\0', sizeof(h->message_id)) != NULL);
	PROPERTY(fuzz_is_printable(h->message_id, strlen(h->message_id)));
	PROPERTY(strchr(h->message_id, ' ') == NULL);
}

static void check_scan(struct slice content, uint8_t seed)
{
	struct header_scan whole, cut;

	scan(content, 0, &whole);
	scan(content, seed, &cut);
	PROPERTY(whole.n_received == cut.n_received);
	PROPERTY(whole.has_date == cut.has_date);
	PROPERTY(whole.has_from == cut.has_from);
	PROPERTY(whole.has_message_id == cut.has_message_id);
	PROPERTY(whole.done == cut.done);
	PROPERTY(strcmp(whole.message_id, cut.message_id) == 0);
	PROPERTY(whole.message_id[0] == '\0' || whole.has_message_id);
}

/* How many fields of that name, by a plain look at the lines of a block. */
static unsigned count_fields(struct slice block, const char *name)
{
	unsigned n = 0;

	while (block.len > 0) {
		struct slice line = slice_split(&block, '\n');

		if (line.len > 0 && line.ptr[0] != ' ' && line.ptr[0] != '\t' &&
		    slice_caseeq_str(slice_trim(slice_split(&line, ':')), name))
			n++;
	}
	return n;
}

static void check_block(struct slice content, size_t max)
{
	struct slice block = header_block(content, max);
	struct slice all = header_block(content, content.len);
	struct header_scan h;

	PROPERTY(block.len <= max && block.len <= all.len);
	PROPERTY(block.len == 0 || block.ptr == content.ptr);
	PROPERTY(block.len == 0 || block.ptr[block.len - 1] == '\n');
	PROPERTY(memmem(all.ptr, all.len, "\r\n\r\n", 4) == NULL);
	(void)header_is_automatic(block);
	scan(content, 0, &h);
	PROPERTY(h.n_received == count_fields(all, "Received"));
	PROPERTY(h.has_date == (count_fields(all, "Date") > 0));
	PROPERTY(h.has_from == (count_fields(all, "From") > 0));
}

static void check_trace(const char *helo, const char *peer, bool esmtp)
{
	char buf[1024];
	size_t len = header_format_received(buf, sizeof(buf), helo, peer,
	    "relay.example.net", esmtp, "00000000DEADBEEF",
	    "Sat, 21 Nov 2026 10:00:01 +0000");
	struct slice rest = slice_of(buf, len);

	PROPERTY(len < sizeof(buf) && fuzz_is_canonical(buf, len));
	PROPERTY(header_block(rest, len).len == len);
	for (bool first = true; rest.len > 0; first = false) {
		struct slice line = slice_split(&rest, '\n');

		PROPERTY(line.len > 1 && line.len <= 999);
		PROPERTY((line.ptr[0] == '\t') == !first);
		PROPERTY(fuzz_is_printable(
		    line.ptr + !first, line.len - 1 - !first));
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_in in = { data, size };
	uint8_t seed = fuzz_byte(&in);
	char *helo = fuzz_string(&in, '\n'), *peer = fuzz_string(&in, '\n');
	struct fuzz_text text = { 0 };
	struct slice content;

	reference_normalise(fuzz_bytes(&in, in.len), &text);
	/* In memory of its own size. */
	content =
	    slice_of(xmemdup(text.ptr ? text.ptr : "", text.len), text.len);
	check_scan(content, seed);
	check_block(content, content.len);
	check_block(content, seed);
	check_trace(helo, peer, seed & 1);
	free((char *)(uintptr_t)content.ptr);
	fuzz_text_fini(&text);
	free(helo);
	free(peer);
	return 0;
}
