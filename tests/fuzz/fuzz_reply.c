/*
 * smtp/reply and smtp/ehlo: what the upstream says, line by line.
 *
 * Input: a byte of how to cut, then the bytes of the upstream, lines ending in
 * LF.  Each line is given to the parser in memory of its own; a second parser
 * gets lines that were put together from pieces.  Properties: both agree; what
 * is taken is strict by a check of its own (2dd, then blank, '-' or the end,
 * one code for all lines); what is told of it is bounded and without control
 * bytes; a broken parser stays broken; keywords of EHLO come from lines that
 * have them.
 */
#include "fuzz.h"

#include "base/mem.h"
#include "smtp/ehlo.h"
#include "smtp/reply.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

struct talk {
	struct reply_parser parser;
	struct ehlo ehlo;
	int code; /* of the lines so far, by our own reading; 0: none */
	unsigned n_lines;
	bool broken;
	bool has_starttls; /* stood in some line */
	struct fuzz_text told; /* all results, to be compared */
	struct fuzz_text pending; /* a line that has not ended */
};

/* The code of a line that is strictly a line of a reply, or -1. */
static int strict_code(struct slice line)
{
	const char *p = line.ptr;

	if (line.len < 3 || line.len > REPLY_LINE_MAX ||
	    memchr(p, '\0', line.len) != NULL)
		return -1;
	if (strchr("2345", p[0]) == NULL || strchr("012345", p[1]) == NULL ||
	    strchr("0123456789", p[2]) == NULL)
		return -1;
	if (line.len > 3 && p[3] != ' ' && p[3] != '-')
		return -1;
	return 100 * (p[0] - '0') + 10 * (p[1] - '0') + p[2] - '0';
}

static void check_enhanced(const struct reply *r)
{
	const char *p = r->enhanced;

	PROPERTY(memchr(p, '\0', sizeof(r->enhanced)) != NULL);
	if (*p == '\0')
		return;
	PROPERTY(*p == '0' + r->code / 100 && *p != '3');
	PROPERTY(strspn(p, "0123456789.") == strlen(p));
	PROPERTY(strchr(p, '.') == p + 1 && strchr(p + 2, '.') != NULL);
}

static void check_reply(struct talk *t)
{
	const struct reply *r = &t->parser.reply;
	const char *end = memchr(r->text, '\0', sizeof(r->text));

	PROPERTY(end != NULL);
	PROPERTY(r->code == t->code && r->code >= 200 && r->code <= 559);
	PROPERTY(t->n_lines <= REPLY_MAX_LINES);
	for (const char *p = r->text; p < end; p++)
		PROPERTY((unsigned char)*p >= ' ' && *p != 0x7f);
	check_enhanced(r);
	fuzz_text_add(&t->told, (const char *)&r->code, sizeof(r->code));
	fuzz_text_add_str(&t->told, r->enhanced);
	fuzz_text_add(&t->told, r->text, (size_t)(end - r->text) + 1);
}

static void on_text(void *ctx, struct slice text)
{
	struct talk *t = ctx;

	ehlo_line(&t->ehlo, text);
	if (slice_casecontains(text, "STARTTLS"))
		t->has_starttls = true;
	PROPERTY(!t->ehlo.starttls || t->has_starttls);
}

static void take_line(struct talk *t, struct slice text)
{
	char *own = xmemdup(text.len > 0 ? text.ptr : "", text.len);
	struct slice line = slice_of(own, text.len);
	int code, rc;

	if (line.len > 0 && line.ptr[line.len - 1] == '\r')
		line.len--;
	code = strict_code(line);
	rc = reply_feed(&t->parser, line, on_text, t);
	fuzz_text_add(&t->told, (const char *)&rc, sizeof(rc));
	if (t->broken || code < 0 || (t->code != 0 && t->code != code) ||
	    t->n_lines == REPLY_MAX_LINES) {
		PROPERTY(rc == -1);
		t->broken = true;
	} else {
		t->code = code;
		t->n_lines++;
		PROPERTY(rc == !(line.len > 3 && line.ptr[3] == '-'));
	}
	if (rc == 1) {
		check_reply(t);
		t->code = 0;
		t->n_lines = 0;
	}
	free(own);
}

static bool take_piece(void *ctx, const char *ptr, size_t len)
{
	struct talk *t = ctx;

	while (len > 0) {
		const char *lf = memchr(ptr, '\n', len);
		size_t n = lf != NULL ? (size_t)(lf - ptr) : len;

		fuzz_text_add(&t->pending, ptr, n);
		if (lf == NULL)
			break;
		take_line(t, slice_of(t->pending.ptr, t->pending.len));
		t->pending.len = 0;
		ptr += n + 1;
		len -= n + 1;
	}
	return true;
}

static void talk(struct slice stream, uint8_t seed, struct fuzz_text *told)
{
	struct talk t = { 0 };

	reply_parser_init(&t.parser);
	ehlo_init(&t.ehlo);
	fuzz_feed(stream, seed, take_piece, &t);
	fuzz_text_fini(&t.pending);
	*told = t.told;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_in in = { data, size };
	uint8_t seed = fuzz_byte(&in);
	struct slice stream = fuzz_bytes(&in, in.len);
	struct fuzz_text whole, cut;

	talk(stream, 0, &whole);
	talk(stream, seed, &cut);
	PROPERTY(fuzz_text_same(&whole, &cut));
	fuzz_text_fini(&whole);
	fuzz_text_fini(&cut);
	return 0;
}
