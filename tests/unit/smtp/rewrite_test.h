/*
 * What the tests of the header rewriter share: a run over some content, cut in
 * any way, and what came of it.
 */
#ifndef TEST_REWRITE_H
#define TEST_REWRITE_H

#include "smtp/rewrite.h"

#include "base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

struct text {
	char *ptr;
	size_t len, cap;
};

static inline void text_add(struct text *t, const char *ptr, size_t len)
{
	if (t->cap - t->len < len + 1) {
		t->cap = 2 * (t->len + len) + 64;
		t->ptr = xrealloc(t->ptr, t->cap);
	}
	if (len > 0)
		memcpy(t->ptr + t->len, ptr, len);
	t->len += len;
	t->ptr[t->len] = '\0';
}

/* What one run gives. */
struct outcome {
	struct text out, notes; /* notes: "FIELD|what\n" */
	bool is_refused, broke;
	struct rewrite_refusal why;
	char *message_id;
};

static inline void outcome_free(struct outcome *o)
{
	free(o->out.ptr);
	free(o->notes.ptr);
	free(o->message_id);
}

static void on_emit(void *ctx, const char *ptr, size_t len)
{
	text_add(&((struct outcome *)ctx)->out, ptr, len);
}

static void on_note(void *ctx, const struct rewrite_change *change)
{
	struct outcome *o = ctx;

	text_add(&o->notes, change->field, strlen(change->field));
	text_add(&o->notes, "|", 1);
	text_add(&o->notes, change->what, strlen(change->what));
	text_add(&o->notes, "\n", 1);
}

static const struct rewrite_rules defaults = {
	.hostname = "relay.example.com",
	.add_headers = true,
	.ses_headers = "",
};

static const struct rewrite_context context = {
	.sender = "sender@example.com",
	.id = "0123456789ABCDEF",
	.date = "Sat, 21 Nov 2026 10:00:00 +0000",
};

/* How to cut the content: after how many bytes, each time. */
typedef size_t cut_fn(void *state);

static struct outcome run_cut(const struct rewrite_rules *rules,
    const struct rewrite_context *c, struct slice in, cut_fn *cut, void *state)
{
	struct outcome o = { 0 };
	struct rewrite_header *h =
	    rewrite_header_new(rules, c, on_emit, on_note, &o);
	const struct rewrite_refusal *why;

	text_add(&o.out, "", 0);
	text_add(&o.notes, "", 0);
	assert_string_equal(rewrite_header_message_id(h), "");
	while (in.len > 0) {
		size_t n = cut ? cut(state) : in.len;
		/* A copy of its own, so that tools see a byte too far. */
		char *copy;

		n = n < in.len ? n : in.len;
		copy = xmemdup(in.ptr, n);
		rewrite_header_feed(h, copy, n);
		free(copy);
		in = slice_of(in.ptr + n, in.len - n);
	}
	rewrite_header_end(h);
	why = rewrite_header_refusal(h);
	o.is_refused = why != NULL;
	if (why)
		o.why = *why;
	o.broke = rewrite_header_broke_signature(h);
	o.message_id = xstrdup(rewrite_header_message_id(h));
	rewrite_header_free(h);
	return o;
}

static inline struct outcome run(
    const struct rewrite_rules *rules, const char *in)
{
	return run_cut(rules, &context, slice_str(in), NULL, NULL);
}

/* What stands around the fields of a case, so that nothing is missing. */
#define F "From: a@b.c\r\n"
#define D "Date: d\r\n"
#define M "Message-ID: <m@h>\r\n"
#define REST D M "\r\nbody\r\n"

#define OURS "X-SES-CONFIGURATION-SET: ours\r\n"
#define THEIRS "X-Ses-Configuration-Set: theirs\r\n"

#endif
