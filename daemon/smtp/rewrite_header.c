/*
 * Making a header block fit for SES, as it streams by.
 *
 * Owns the block while it is collected, at most REWRITE_BLOCK_MAX bytes and
 * one field made anew; it is freed when the body begins, which passes without
 * being copied.  Session's thread; pure.  Where the block ends does not depend
 * on how the content is cut: at the empty line, at a line that is no field, at
 * the end of the content.  Lines of the body are never looked at.
 *
 * Of a block that is larger, the fields that are complete are handled, and
 * nothing that may yet come is added; the rest passes (rewrite_tail.c).
 */
#include "smtp/rewrite_private.h"

#include "base/mem.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* From whom a message is that does not say so; NULL: nobody has a domain. */
static char *make_from(const struct rewrite_rules *rules, const char *sender)
{
	const char *domain = rules->default_domain, *to;
	char *from;

	if (sender == NULL || *sender == '\0') {
		/* A notice of some program, by the null sender. */
		sender = "MAILER-DAEMON";
		if (domain == NULL)
			domain = rules->hostname;
	}
	if (strchr(sender, '@'))
		return xstrdup(sender);
	if (domain == NULL || *domain == '\0')
		return NULL;
	from = xasprintf("%s@%s", sender, domain);
	to = rewrite_rules_find(rules->senders, rules->n_senders, from, sender);
	if (to == NULL)
		return from;
	free(from);
	return xstrdup(to);
}

struct rewrite_header *rewrite_header_new(const struct rewrite_rules *rules,
    const struct rewrite_context *context,
    void (*emit)(void *ctx, const char *ptr, size_t len),
    void (*note)(void *ctx, const struct rewrite_change *change), void *ctx)
{
	struct rewrite_header *h = xcalloc(1, sizeof(*h));

	h->rules = rules;
	h->emit = emit;
	h->note = note;
	h->ctx = ctx;
	h->from = make_from(rules, context->sender);
	h->id = xstrdup(context->id ? context->id : "");
	h->date = xstrdup(context->date ? context->date : "");
	header_scan_init(&h->scan);
	return h;
}

static void free_block(struct rewrite_header *h)
{
	free(h->block);
	free(h->made.ptr);
	free(h->folded.ptr);
	free(h->whole.ptr);
	free(h->old_from);
	h->block = h->old_from = NULL;
	h->made = h->folded = h->whole = (struct rewrite_text){ 0 };
	h->len = h->cap = 0;
}

void rewrite_header_free(struct rewrite_header *h)
{
	if (h == NULL)
		return;
	free_block(h);
	free(h->from);
	free(h->id);
	free(h->date);
	free(h);
}

void rewrite_emit(struct rewrite_header *h, struct slice text)
{
	if (text.len == 0)
		return;
	header_scan_feed(&h->scan, text.ptr, text.len);
	h->emit(h->ctx, text.ptr, text.len);
}

void rewrite_flush(struct rewrite_header *h)
{
	rewrite_emit(h, h->run);
	h->run = slice_of("", 0);
}

void rewrite_note(struct rewrite_header *h, const char *field, const char *what,
    struct slice before, struct slice after)
{
	struct rewrite_change change = {
		.field = field,
		.what = what,
		.before = before,
		.after = after,
	};

	if (h->note)
		h->note(h->ctx, &change);
}

void rewrite_refuse(
    struct rewrite_header *h, const char *status, const char *fmt, ...)
{
	struct rewrite_refusal *why = &h->refusal;
	va_list ap;

	if (h->is_refused)
		return;
	h->is_refused = true;
	snprintf(why->status, sizeof(why->status), "%s", status);
	va_start(ap, fmt);
	vsnprintf(why->text, sizeof(why->text), fmt, ap);
	va_end(ap);
}

static void append(struct rewrite_header *h, const char *in, size_t len)
{
	if (h->cap - h->len < len) {
		h->cap = 2 * (h->len + len);
		if (h->cap < 2048)
			h->cap = 2048;
		h->block = xrealloc(h->block, h->cap);
	}
	memcpy(h->block + h->len, in, len);
	h->len += len;
}

/* The block has been emitted: what of the buffer follows it, and the body. */
static void begin_body(struct rewrite_header *h, size_t end)
{
	h->state = REWRITE_BODY;
	if (end < h->len)
		h->emit(h->ctx, h->block + end, h->len - end);
	free_block(h);
}

/* The block has no empty line behind it; `end`: of its fields. */
static void end_without_empty_line(struct rewrite_header *h, size_t end)
{
	struct slice none = slice_of("", 0), line = slice_of("\r\n", 2);
	const char *what = "an empty line added behind the header";

	if (end == h->mbox_len)
		what = "there was no header: the text begins with the body";
	else if (end < h->len)
		what = "the body begins here, at a line that is no header "
		       "field: an empty line added";
	rewrite_block_emit(h, end, true);
	rewrite_note(h, "", what, none, line);
	rewrite_emit(h, line);
	begin_body(h, end);
}

static void overflow(struct rewrite_header *h)
{
	struct slice rest =
	    slice_of(h->block + h->field_at, h->len - h->field_at);

	rewrite_block_emit(h, h->field_at, false);
	rewrite_note(h, "", "header too large: from here on it stays as it is",
	    rest, rest);
	h->state = REWRITE_TAIL;
	h->tail = (struct rewrite_tail){ .at_start = true };
	header_scan_init(&h->tail.scan);
	rewrite_tail_feed(h, &h->tail, rest.ptr, rest.len);
	free_block(h);
}

/* "From root Mon Jan  1 ...": the separator of mailbox files. */
static bool is_mbox_line(struct slice line)
{
	static const char *const days = "Mon Tue Wed Thu Fri Sat Sun";
	static const char *const months =
	    "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec";
	struct slice word, last = slice_of("", 0);
	char name[4], before[4];

	if (!slice_has_prefix(line, "From ") &&
	    !slice_has_prefix(line, ">From "))
		return false;
	while ((word = slice_word(&line)).len > 0) {
		slice_copy(word, name, sizeof(name));
		slice_copy(last, before, sizeof(before));
		if (word.len == 3 && last.len == 3 && strstr(days, before) &&
		    strstr(months, name))
			return true;
		last = word;
	}
	return false;
}

/* The line at line_at is complete; true if the block goes on behind it. */
static bool take_line(struct rewrite_header *h)
{
	size_t at = h->line_at;
	struct slice line = slice_of(h->block + at, h->len - at);
	bool has_field = at > h->mbox_len;

	if (header_field_name(line).len > 0) {
		h->field_at = at;
	} else if (at == 0 && is_mbox_line(line)) {
		h->mbox_len = h->field_at = h->len;
	} else if (!has_field || (*line.ptr != ' ' && *line.ptr != '\t')) {
		if (*line.ptr != '\n' && !slice_has_prefix(line, "\r\n")) {
			end_without_empty_line(h, at);
			return false;
		}
		rewrite_block_emit(h, at, true);
		rewrite_emit(h, line);
		begin_body(h, h->len);
		return false;
	}
	h->line_at = h->len;
	return true;
}

/* Returns how much was taken, all or up to a change of state. */
static size_t collect(struct rewrite_header *h, const char *in, size_t len)
{
	size_t done = 0;

	while (done < len) {
		size_t room = REWRITE_BLOCK_MAX - h->len;
		size_t n = len - done < room ? len - done : room;
		const char *lf = memchr(in + done, '\n', n);

		if (room == 0) {
			overflow(h);
			return done;
		}
		if (lf != NULL)
			n = (size_t)(lf - in) + 1 - done;
		append(h, in + done, n);
		done += n;
		if (lf != NULL && !take_line(h))
			return done;
	}
	return done;
}

void rewrite_header_feed(struct rewrite_header *h, const char *in, size_t len)
{
	if (h->state == REWRITE_BLOCK) {
		size_t done = collect(h, in, len);

		in += done;
		len -= done;
	}
	if (len == 0)
		return;
	if (h->state == REWRITE_TAIL)
		rewrite_tail_feed(h, &h->tail, in, len);
	else
		h->emit(h->ctx, in, len);
}

void rewrite_header_end(struct rewrite_header *h)
{
	struct slice line;
	bool is_field;

	if (h->state == REWRITE_TAIL) {
		rewrite_emit(h, slice_of(h->tail.held, h->tail.n_held));
		h->tail.n_held = 0;
		h->state = REWRITE_BODY;
	}
	if (h->state != REWRITE_BLOCK)
		return;
	if (h->block == NULL) /* of no content at all */
		h->block = xmalloc(1);
	/* A field whose last line has no end gets one; other text stays. */
	line = slice_of(h->block + h->line_at, h->len - h->line_at);
	is_field = header_field_name(line).len > 0 ||
	    (line.len > 0 && h->line_at > h->mbox_len &&
		(*line.ptr == ' ' || *line.ptr == '\t'));
	if (!is_field) {
		end_without_empty_line(h, h->line_at);
		return;
	}
	if (line.ptr[line.len - 1] != '\r')
		append(h, "\r", 1);
	append(h, "\n", 1);
	end_without_empty_line(h, h->len);
}

const struct rewrite_refusal *rewrite_header_refusal(
    const struct rewrite_header *h)
{
	return h->is_refused ? &h->refusal : NULL;
}

bool rewrite_header_broke_signature(const struct rewrite_header *h)
{
	return h->broke_signature;
}

const char *rewrite_header_message_id(const struct rewrite_header *h)
{
	return h->scan.message_id;
}
