/*
 * smtp/rewrite_header: a header block is made fit for SES, a body never
 * touched.
 *
 * Input: a byte of options, one of how to cut, then content, which is made
 * canonical first, as it is in the daemon.  Properties: the same comes out
 * however it is cut; it is canonical and ends in the very bytes that stood
 * behind the header block.  What is told of the changes is all that was
 * changed: the fields that came, with those changes applied, are what came out,
 * in order.  A field is lost by a rule alone, and altered, but for how it is
 * folded, if it is one of addresses.  A line is over 998 octets only if it can
 * be cut nowhere.  What came out, put in again, comes out as it is.
 *
 * By some options all that stands behind a block that was too large to be kept:
 * it passes but for the fields that may never.
 */
#include "reference.h"

#include "base/mem.h"
#include "smtp/header.h"
#include "smtp/rewrite.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define LINE_MAX_OCTETS 998
#define FILLER "X-Filler: 0123456789 0123456789 0123456789 012345678\r\n"

static const struct rewrite_rule senders[] = { { "*@localhost",
    "box@example.com" } };
static const struct rewrite_context context = {
	.sender = "sender@example.com",
	.id = "0123456789ABCDEF",
	.date = "Sat, 21 Nov 2026 10:00:01 +0000",
};

static struct rewrite_rules rules_of(uint8_t options)
{
	return (struct rewrite_rules){
		.default_domain = options & 1 ? "example.net" : NULL,
		.hostname = "relay.example.net",
		.senders = senders,
		.n_senders = options & 2 ? 1 : 0,
		.add_headers = options & 4,
		.reject_duplicates = options & 8,
		.keep_ses_headers = options & 16,
		.ses_headers = options & 48 ? "" : "X-SES-TENANT: t\r\n",
	};
}

struct change {
	bool at_separator; /* of a mailbox, in front of the fields */
	struct fuzz_text before, after;
};

/* A pass, and what was told of it. */
struct pass {
	struct fuzz_text out;
	struct change *changes;
	unsigned n_changes;
	bool taken; /* SES would */
	bool large; /* the block was not kept whole */
	bool broke_signature;
};

static void emit(void *ctx, const char *ptr, size_t len)
{
	struct pass *pass = ctx;

	fuzz_text_add(&pass->out, ptr, len);
}

static void note(void *ctx, const struct rewrite_change *change)
{
	struct pass *pass = ctx;
	struct change *c;

	PROPERTY(change->field != NULL && change->what != NULL);
	pass->large = pass->large ||
	    slice_has_prefix(slice_str(change->what), "header too large");
	PROPERTY(
	    pass->large || change->before.len > 0 || change->after.len > 0);
	pass->changes = xrealloc(
	    pass->changes, (pass->n_changes + 1) * sizeof(*pass->changes));
	c = &pass->changes[pass->n_changes++];
	*c = (struct change){
		.at_separator = strcmp(change->field, "From ") == 0,
	};
	fuzz_text_add(&c->before, change->before.ptr, change->before.len);
	fuzz_text_add(&c->after, change->after.ptr, change->after.len);
}

static bool feed(void *ctx, const char *ptr, size_t len)
{
	rewrite_header_feed(ctx, ptr, len);
	return true;
}

/* `filler` stands before the content, in one piece. */
static struct pass *rewrite(const struct rewrite_rules *rules,
    struct slice filler, struct slice content, uint8_t seed)
{
	struct pass *pass = xcalloc(1, sizeof(*pass));
	struct rewrite_header *h =
	    rewrite_header_new(rules, &context, emit, note, pass);
	const struct rewrite_refusal *why;

	rewrite_header_feed(h, filler.ptr, filler.len);
	fuzz_feed(content, seed, feed, h);
	rewrite_header_end(h);
	why = rewrite_header_refusal(h);
	pass->taken = why == NULL;
	PROPERTY(pass->taken ||
	    (fuzz_is_printable(why->text, strlen(why->text)) &&
		strlen(why->text) > 0 && why->status[0] == '5'));
	pass->broke_signature = rewrite_header_broke_signature(h);
	PROPERTY(rewrite_header_message_id(h) != NULL);
	rewrite_header_free(h);
	return pass;
}

static void pass_free(struct pass *pass)
{
	for (unsigned i = 0; i < pass->n_changes; i++) {
		fuzz_text_fini(&pass->changes[i].before);
		fuzz_text_fini(&pass->changes[i].after);
	}
	fuzz_text_fini(&pass->out);
	free(pass->changes);
	free(pass);
}

/* --- what the rules may do --- */

static struct slice text_of(const struct fuzz_text *t)
{
	return slice_of(t->ptr != NULL ? t->ptr : "", t->len);
}

static bool is_one_of(struct slice name, const char *const *names)
{
	for (; *names != NULL; names++)
		if (slice_caseeq_str(name, *names))
			return true;
	return false;
}

static bool is_of_addresses(struct slice name)
{
	static const char *const names[] = { "From", "Sender", "Return-Path",
		"Reply-To", "To", "Cc", "Resent-From", "Resent-Sender",
		"Resent-Reply-To", "Resent-To", "Resent-Cc", NULL };

	return is_one_of(name, names);
}

/* Is there such a field in a block? */
static bool has_field(struct slice block, struct slice name)
{
	struct slice field;

	while ((field = header_next_field(block)).len > 0) {
		struct slice other = header_field_name(field);

		block = slice_of(block.ptr + field.len, block.len - field.len);
		if (other.len == name.len &&
		    strncasecmp(other.ptr, name.ptr, name.len) == 0)
			return true;
	}
	return false;
}

static bool is_empty(struct slice value)
{
	for (size_t i = 0; i < value.len; i++)
		if (strchr(" \t\r\n", value.ptr[i]) == NULL ||
		    value.ptr[i] == '\0')
			return false;
	return true;
}

/* May it be left out?  `before`: the fields in front of it. */
static bool may_drop(
    const struct rewrite_rules *rules, struct slice field, struct slice before)
{
	static const char *const blind[] = { "Bcc", "Resent-Bcc", NULL };
	static const char *const senders_of[] = { "Return-Path", "Sender",
		"From", NULL };
	static const char *const needed[] = { "To", "Cc", "Reply-To", "Date",
		"Message-ID", NULL };
	struct slice name = header_field_name(field), value = field;

	(void)slice_split(&value, ':');
	if (is_one_of(name, blind) || is_one_of(name, senders_of))
		return true;
	if (slice_has_caseprefix(name, "X-SES-"))
		return !rules->keep_ses_headers;
	if (is_one_of(name, needed) && is_empty(value))
		return true;
	return !slice_has_caseprefix(name, "X-") && has_field(before, name);
}

/* As it is when it is unfolded, without blanks in front of the colon. */
static void unfold(struct slice field, struct fuzz_text *out)
{
	struct slice name = header_field_name(field), line;

	fuzz_text_add(out, name.ptr, name.len);
	(void)slice_split(&field, ':');
	while (field.len > 0) {
		line = slice_split(&field, '\n');
		PROPERTY(slice_has_suffix(line, "\r"));
		fuzz_text_add(out, line.ptr, line.len - 1);
	}
}

static bool same_unfolded(struct slice a, struct slice b)
{
	struct fuzz_text one = { 0 }, other = { 0 };
	bool same;

	unfold(a, &one);
	unfold(b, &other);
	same = fuzz_text_same(&one, &other);
	fuzz_text_fini(&one);
	fuzz_text_fini(&other);
	return same;
}

/* A place in front of a blank, with text on both of its sides. */
static bool can_be_cut(struct slice line)
{
	size_t start = 0, end = line.len;

	while (start < end && strchr(" \t", line.ptr[start]) != NULL)
		start++;
	while (end > start && strchr(" \t\r", line.ptr[end - 1]) != NULL)
		end--;
	for (size_t i = start + 1; i < end; i++)
		if ((line.ptr[i] == ' ' || line.ptr[i] == '\t') &&
		    line.ptr[i - 1] != '\\')
			return true;
	return false;
}

static void check_lines(struct slice block)
{
	while (block.len > 0) {
		struct slice line = slice_split(&block, '\n');

		PROPERTY(line.len <= LINE_MAX_OCTETS + 1 || !can_be_cut(line));
	}
}

/* --- a pass is judged --- */

static void check_change(const struct rewrite_rules *rules, struct slice field,
    struct slice in_front, struct slice after)
{
	if (after.len == 0) {
		PROPERTY(may_drop(rules, field, in_front));
		return;
	}
	PROPERTY(header_next_field(after).len == after.len);
	if (!is_of_addresses(header_field_name(field)))
		PROPERTY(same_unfolded(field, after));
}

/*
 * Is the next change about this field, the first of `rest`?  The same may stand
 * there once more; then those in front are those that stayed.
 */
static bool is_about(
    const struct pass *pass, unsigned i, struct slice field, struct slice rest)
{
	unsigned n_changes = 0, n_fields = 0;
	struct slice other;

	if (i == pass->n_changes ||
	    !slice_eq(field, text_of(&pass->changes[i].before)))
		return false;
	for (; i < pass->n_changes; i++)
		n_changes += slice_eq(field, text_of(&pass->changes[i].before));
	while ((other = header_next_field(rest)).len > 0) {
		rest = slice_of(rest.ptr + other.len, rest.len - other.len);
		n_fields += slice_eq(field, other);
	}
	return n_changes >= n_fields;
}

/* Is something told of a field that stays as it is? */
static bool is_remark(const struct change *change, struct slice field)
{
	return field.len > 0 && slice_eq(field, text_of(&change->before)) &&
	    slice_eq(field, text_of(&change->after));
}

/* What came, with what was told applied to it. */
static void apply(const struct rewrite_rules *rules, const struct pass *pass,
    struct slice content, struct fuzz_text *out)
{
	struct slice rest = content, block, field;
	unsigned i = 0;

	if (pass->n_changes > 0 && pass->changes[0].at_separator) {
		size_t len = pass->changes[i++].before.len;

		PROPERTY(len <= rest.len);
		rest = slice_of(rest.ptr + len, rest.len - len);
	}
	block = header_block(rest, rest.len);
	while ((field = header_next_field(rest)).len > 0) {
		struct slice in_front =
		    slice_of(block.ptr, (size_t)(field.ptr - block.ptr));
		bool changed = is_about(pass, i, field, rest);

		rest = slice_of(rest.ptr + field.len, rest.len - field.len);
		if (changed) {
			struct slice after = text_of(&pass->changes[i++].after);

			/* What else is told of what it has become. */
			while (i < pass->n_changes &&
			    is_remark(&pass->changes[i], after))
				i++;
			check_change(rules, field, in_front, after);
			fuzz_text_add(out, after.ptr, after.len);
		} else {
			fuzz_text_add(out, field.ptr, field.len);
		}
	}
	for (; i < pass->n_changes; i++) {
		PROPERTY(pass->changes[i].before.len == 0);
		fuzz_text_add(out, pass->changes[i].after.ptr,
		    pass->changes[i].after.len);
	}
	fuzz_text_add(out, rest.ptr, rest.len);
}

static void check(const struct rewrite_rules *rules, struct slice content,
    const struct pass *pass)
{
	struct slice block, out = text_of(&pass->out);
	struct fuzz_text meant = { 0 };
	struct pass *again;

	PROPERTY(fuzz_is_canonical(out.ptr, out.len));
	apply(rules, pass, content, &meant);
	PROPERTY(fuzz_text_same(&meant, &pass->out));
	fuzz_text_fini(&meant);
	block = header_block(out, out.len);
	check_lines(block);
	PROPERTY(!has_field(block, slice_str("Bcc")));
	PROPERTY(!pass->broke_signature ||
	    (pass->n_changes > 0 &&
		has_field(header_block(content, content.len),
		    slice_str("DKIM-Signature"))));
	again = rewrite(rules, slice_of("", 0), out, 0);
	PROPERTY(again->taken && fuzz_text_same(&again->out, &pass->out));
	pass_free(again);
}

/* --- behind a block that was too large --- */

static bool may_never(const struct rewrite_rules *rules, struct slice line)
{
	return slice_has_caseprefix(line, "Bcc:") ||
	    slice_has_caseprefix(line, "Resent-Bcc:") ||
	    (!rules->keep_ses_headers && slice_has_caseprefix(line, "X-SES-"));
}

/* The text without its fields that may never pass. */
static void leave_out(
    const struct rewrite_rules *rules, struct slice rest, struct fuzz_text *out)
{
	struct slice field;

	/* Folded to the last field of the filler. */
	while (rest.len > 0 && (*rest.ptr == ' ' || *rest.ptr == '\t')) {
		field = slice_split(&rest, '\n');
		fuzz_text_add(out, field.ptr, field.len + 1);
	}
	while ((field = header_next_field(rest)).len > 0) {
		rest = slice_of(rest.ptr + field.len, rest.len - field.len);
		if (!may_never(rules, field))
			fuzz_text_add(out, field.ptr, field.len);
	}
	/* It ends the header, being no field, but begins like one of those. */
	if (may_never(rules, rest))
		(void)slice_split(&rest, '\n');
	fuzz_text_add(out, rest.ptr, rest.len);
}

static struct slice make_filler(void)
{
	static struct fuzz_text filler;

	while (filler.len <= REWRITE_BLOCK_MAX)
		fuzz_text_add_str(&filler, FILLER);
	return slice_of(filler.ptr, filler.len);
}

/* Our own fields stand somewhere in the filler. */
static void check_large(const struct rewrite_rules *rules, struct slice content,
    const struct pass *pass)
{
	struct slice ours = slice_str(rules->ses_headers);
	struct slice filler = make_filler(), out = text_of(&pass->out);
	struct fuzz_text meant = { 0 };

	PROPERTY(pass->taken && pass->large);
	PROPERTY(out.len >= filler.len + ours.len);
	leave_out(rules, content, &meant);
	PROPERTY(slice_eq(text_of(&meant),
	    slice_of(out.ptr + filler.len + ours.len,
		out.len - filler.len - ours.len)));
	fuzz_text_fini(&meant);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_in in = { data, size };
	uint8_t options = fuzz_byte(&in), seed = fuzz_byte(&in);
	struct rewrite_rules rules = rules_of(options);
	bool large = (options & 224) == 224;
	struct slice filler = large ? make_filler() : slice_of("", 0);
	struct fuzz_text text = { 0 };
	struct pass *whole, *cut;

	reference_normalise(fuzz_bytes(&in, in.len), &text);
	whole = rewrite(&rules, filler, text_of(&text), 0);
	cut = rewrite(&rules, filler, text_of(&text), seed);
	PROPERTY(whole->taken == cut->taken);
	PROPERTY(large || whole->n_changes == cut->n_changes);
	PROPERTY(fuzz_text_same(&whole->out, &cut->out));
	if (large)
		check_large(&rules, text_of(&text), whole);
	else if (whole->taken)
		check(&rules, text_of(&text), whole);
	pass_free(whole);
	pass_free(cut);
	fuzz_text_fini(&text);
	return 0;
}
