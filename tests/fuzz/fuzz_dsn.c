/*
 * smtp/dsn: the notice of a failure is clean whatever peers and clients said.
 *
 * Input: a byte of flags, eleven values that end in LF each, then the header
 * block of the message.  Properties: 7-bit, canonical, no line longer than 998
 * octets, no control bytes but tabs of the message's own header; one header
 * block that ends where ours does; three parts, between boundaries that occur
 * nowhere else; the same bytes a second time.
 */
#include "reference.h"

#include "base/mem.h"
#include "smtp/dsn.h"
#include "smtp/header.h"

#include <stdlib.h>
#include <string.h>

#define N_VALUES 11
#define N_RCPTS 2

static void check_lines(struct slice text, bool own_header)
{
	PROPERTY(fuzz_is_canonical(text.ptr, text.len));
	PROPERTY(text.len > 2 && text.ptr[text.len - 1] == '\n');
	while (text.len > 0) {
		struct slice line = slice_split(&text, '\n');

		PROPERTY(line.len <= 999);
		for (size_t i = 0; i + 1 < line.len; i++) {
			PROPERTY((line.ptr[i] & 0x80) == 0);
			PROPERTY(own_header || line.ptr[i] == '\t' ||
			    (line.ptr[i] >= ' ' && line.ptr[i] <= '~'));
		}
	}
}

/* How many lines begin so. */
static unsigned count_lines(struct slice text, const char *head)
{
	unsigned n = 0;

	while (text.len > 0)
		n += slice_has_prefix(slice_split(&text, '\n'), head);
	return n;
}

/* "--" and what the header says. */
static char *get_boundary(struct slice block)
{
	static const char key[] = "\tboundary=\"";
	const char *hit = memmem(block.ptr, block.len, key, sizeof(key) - 1);
	struct slice rest;

	PROPERTY(hit != NULL);
	hit += sizeof(key) - 1;
	rest = slice_of(hit, block.len - (size_t)(hit - block.ptr));
	rest = slice_split(&rest, '"');
	return xasprintf("--%.*s", (int)rest.len, rest.ptr);
}

static void check_notice(struct slice text)
{
	struct slice block = header_block(text, text.len);
	char *boundary = get_boundary(block);
	static const char part[] = "\r\nContent-Type: text/rfc822-headers\r\n";
	const char *last;

	PROPERTY(text.len > block.len + 2);
	PROPERTY(memcmp(text.ptr + block.len, "\r\n", 2) == 0);
	PROPERTY(count_lines(block, "From:") == 1);
	PROPERTY(count_lines(block, "To:") == 1);
	PROPERTY(count_lines(block, "Message-ID:") == 1);
	PROPERTY(header_is_automatic(block));
	PROPERTY(count_lines(text, boundary) == 4);
	last = memmem(text.ptr, text.len, part, sizeof(part) - 1);
	PROPERTY(last != NULL);
	check_lines(slice_of(text.ptr, (size_t)(last + 2 - text.ptr)), false);
	check_lines(text, true);
	free(boundary);
}

static void run(const struct dsn *d)
{
	struct fuzz_text one = { 0 }, two = { 0 };
	char id[64];

	dsn_write(d, fuzz_text_emit, &one);
	dsn_write(d, fuzz_text_emit, &two);
	PROPERTY(fuzz_text_same(&one, &two));
	check_notice(slice_of(one.ptr, one.len));
	dsn_message_id(d, id, sizeof(id));
	PROPERTY(strlen(id) < sizeof(id));
	PROPERTY(fuzz_is_printable(id, strlen(id)));
	fuzz_text_fini(&one);
	fuzz_text_fini(&two);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_in in = { data, size };
	uint8_t flags = fuzz_byte(&in);
	char *v[N_VALUES];
	struct fuzz_text headers = { 0 };
	struct dsn_rcpt rcpts[N_RCPTS];
	struct dsn d;

	for (unsigned i = 0; i < N_VALUES; i++)
		v[i] = fuzz_string(&in, '\n');
	if (flags & 1)
		fuzz_text_add(&headers, (const char *)in.ptr, in.len);
	else
		reference_normalise(fuzz_bytes(&in, in.len), &headers);
	rcpts[0] = (struct dsn_rcpt){ v[0], v[1], flags & 2 ? v[2] : NULL,
		flags & 4 ? v[3] : NULL };
	rcpts[1] = (struct dsn_rcpt){ v[4], "5.1.1", v[2], NULL };
	d = (struct dsn){
		.hostname = v[5],
		.from = v[6],
		.to = v[0],
		/* Ours: nobody else has a say in these. */
		.id = "00000000DEADBEEF",
		.date = "Sat, 21 Nov 2026 10:00:01 +0000",
		.failed_id = "00000000DEADBEE0",
		.arrival = "Sat, 21 Nov 2026 09:00:01 +0000",
		.sender = v[7],
		.message_id = v[8],
		.remote = flags & 8 ? v[9] : NULL,
		.reason = v[10],
		.rcpts = rcpts,
		.n_rcpts = N_RCPTS,
		.headers = slice_of(headers.ptr, headers.len),
	};
	run(&d);
	for (unsigned i = 0; i < N_VALUES; i++)
		free(v[i]);
	fuzz_text_fini(&headers);
	return 0;
}
