/*
 * The fields of a header block, one after the other.
 *
 * Works on struct rewrite_header, which owns the block.  Each field is judged
 * by its name: dropped, made anew, or left as it is; fields that stay are
 * emitted in one piece with their neighbours.  What is added comes last
 * (rewrite_missing.c).
 */
#include "smtp/rewrite_private.h"

#include "base/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A field while it is handled. */
struct field {
	struct slice text, value; /* as it came; the value with its CRLF */
	struct slice whole_name;
	char name[HEADER_NAME_MAX + 1]; /* cut if it is longer, for notes */
	const struct rewrite_field_kind *kind; /* NULL: nothing special */
	int single; /* its number among the single-use fields, or -1 */
	struct rewrite_field_result result;
};

static void emit_as_it_is(struct rewrite_header *h, struct slice text)
{
	if (h->run.len > 0 && h->run.ptr + h->run.len == text.ptr) {
		h->run.len += text.len;
		return;
	}
	rewrite_flush(h);
	h->run = text;
}

static bool is_empty(struct slice value)
{
	for (size_t i = 0; i < value.len; i++)
		if (value.ptr[i] != ' ' && value.ptr[i] != '\t' &&
		    value.ptr[i] != '\r' && value.ptr[i] != '\n')
			return false;
	return true;
}

static void read_field(struct slice text, struct field *f)
{
	struct slice name = header_field_name(text);

	*f = (struct field){ .text = text, .value = text, .whole_name = name };
	slice_split(&f->value, ':');
	slice_copy(name, f->name, sizeof(f->name));
	f->kind = rewrite_field_kind(name);
	f->single = rewrite_single_use(name);
}

static inline bool is_named(const struct field *f, const char *name)
{
	return slice_caseeq_str(f->whole_name, name);
}

/* With a blank before the colon, which nobody may send any more. */
static bool is_mended(const struct field *f)
{
	return f->whole_name.len + 1 + f->value.len != f->text.len;
}

static bool is_rcpt(const struct field *f)
{
	return is_named(f, "To") || is_named(f, "Cc");
}

/* Why the field may not go to SES at all, in words; NULL: it may. */
static const char *reason_to_drop(struct rewrite_header *h, struct field *f)
{
	if (is_named(f, "Bcc") || is_named(f, "Resent-Bcc")) {
		h->hid_rcpt = h->hid_rcpt || is_named(f, "Bcc");
		return "removed: blind copies are nobody else's business";
	}
	if (!h->rules->keep_ses_headers &&
	    slice_has_caseprefix(f->whole_name, "X-SES-"))
		return "removed: clients may not steer SES "
		       "(ses.client_headers)";
	if (f->kind && f->kind->drop_empty && is_empty(f->value)) {
		h->hid_rcpt = h->hid_rcpt || is_rcpt(f);
		return "removed: it is empty";
	}
	if (f->single < 0 || !h->seen[f->single])
		return NULL;
	if (!h->rules->reject_duplicates)
		return "removed: SES takes this field once, the first stays";
	rewrite_refuse(h, "5.6.0",
	    "The header has more than one %.80s field, and Amazon SES takes "
	    "one; send it once (rewrite.duplicate_headers)",
	    f->name);
	return NULL;
}

static void drop(struct rewrite_header *h, struct field *f, const char *why)
{
	rewrite_note(h, f->name, why, f->text, slice_of("", 0));
	rewrite_altered(h, f->name);
}

/* Keeps the From that a rule has replaced, where a reply can still go to it. */
static void keep_old_from(struct rewrite_header *h, struct field *f)
{
	struct rewrite_field_result result;

	if (f->result.n_replaced == 0 || h->old_from)
		return;
	h->whole.len = 0;
	rewrite_field_addresses(
	    h->rules, f->value, false, NULL, &h->whole, &result);
	if (result.n_whole > 0 && result.n_unusable == 0 && result.is_ascii)
		h->old_from = slice_dup(rewrite_text_slice(&h->whole));
}

/* Makes the field anew in h->made; returns how it shall be. */
static struct slice make_anew(struct rewrite_header *h, struct field *f)
{
	struct rewrite_field_result *r = &f->result;
	bool mend = is_mended(f);
	const char *fallback = NULL;

	if (!mend && !(f->kind && f->kind->has_addresses))
		return f->text;
	if (is_named(f, "From") && h->rules->add_headers)
		fallback = h->from;
	h->made.len = 0;
	rewrite_text_add(&h->made, f->whole_name);
	rewrite_text_add_str(&h->made, ":");
	if (f->kind && f->kind->has_addresses)
		rewrite_field_addresses(h->rules, f->value, f->kind->is_sender,
		    fallback, &h->made, r);
	else
		rewrite_text_add(&h->made, f->value);
	if (!mend && r->n_completed + r->n_replaced + r->n_filled == 0)
		return f->text;
	return rewrite_text_slice(&h->made);
}

/* The addresses are known now: can the field go to SES?  NULL: yes. */
static const char *judge_addresses(struct rewrite_header *h, struct field *f)
{
	const struct rewrite_field_result *r = &f->result;

	if (!f->kind || !f->kind->has_addresses)
		return NULL;
	if (is_named(f, "Return-Path") && (r->n_whole != 1 || r->n_unusable))
		return "removed: SES would send bounces there, and it is not "
		       "one address";
	/* One can be made, or the message has a From. */
	if (r->n_whole == 0 &&
	    (is_named(f, "Sender") ||
		(is_named(f, "From") && h->rules->add_headers && h->from)))
		return "removed: there is no address in it";
	if (f->kind->is_sent && !r->is_ascii)
		rewrite_refuse(h, "5.6.7",
		    "An address in the %.80s field has characters beyond "
		    "ASCII, which Amazon SES cannot send; use another address, "
		    "and Punycode for domains",
		    f->name);
	return NULL;
}

/* What was done to a field, in words; false: nothing. */
static bool describe(
    const struct field *f, bool is_folded, char *buf, size_t size)
{
	const struct rewrite_field_result *r = &f->result;
	const struct {
		bool is_true;
		const char *words;
	} what[] = {
		{ is_mended(f), "blank before the colon removed" },
		{ r->n_completed > 0, "address completed" },
		{ r->n_replaced > 0, "address replaced (rewrite.senders)" },
		{ r->n_filled > 0, "address of the envelope put in" },
		{ is_folded, "folded" },
	};
	size_t n = 0;

	buf[0] = '\0';
	for (size_t i = 0; i < ARRAY_LEN(what); i++)
		if (what[i].is_true)
			n += (size_t)snprintf(buf + n, size - n, "%s%s",
			    n > 0 ? ", " : "", what[i].words);
	ASSERT(n < size);
	return n > 0;
}

/* All of the header passes through here: eight bytes at a time. */
static bool is_ascii(struct slice text)
{
	uint64_t high = 0, word;
	size_t i = 0;

	for (; i + sizeof(word) <= text.len; i += sizeof(word)) {
		memcpy(&word, text.ptr + i, sizeof(word));
		high |= word;
	}
	for (; i < text.len; i++)
		high |= (unsigned char)text.ptr[i];
	return (high & UINT64_C(0x8080808080808080)) == 0;
}

/* What SES may not like, and only who wrote it could have done better. */
static void remark(struct rewrite_header *h, const struct field *f,
    struct slice text, bool is_short)
{
	if (!is_short)
		rewrite_note(h, f->name,
		    "a line over 998 octets cannot be folded", text, text);
	if (!is_ascii(text))
		rewrite_note(h, f->name,
		    "bytes beyond ASCII, which Amazon SES wants as encoded "
		    "words (RFC 2047)",
		    text, text);
}

/* It shall go out like that; `text` is its own or made anew. */
static void send_field(
    struct rewrite_header *h, struct field *f, struct slice text)
{
	char what[256];
	bool is_list = f->kind && f->kind->has_addresses, is_short;

	h->folded.len = 0;
	is_short = rewrite_fold(text, is_list, &h->folded);
	/* What cannot be folded comes out as it went in. */
	if (h->folded.len > 0 && slice_eq(text, rewrite_text_slice(&h->folded)))
		h->folded.len = 0;
	if (h->folded.len > 0)
		text = rewrite_text_slice(&h->folded);
	if (text.ptr == f->text.ptr) {
		emit_as_it_is(h, text);
	} else {
		rewrite_flush(h);
		rewrite_emit(h, text);
		rewrite_altered(h, f->name);
	}
	if (describe(f, h->folded.len > 0, what, sizeof(what)))
		rewrite_note(h, f->name, what, f->text, text);
	remark(h, f, text, is_short);
}

static void handle_field(struct rewrite_header *h, struct slice text)
{
	const char *why;
	struct slice made;
	struct field f;

	read_field(text, &f);
	why = reason_to_drop(h, &f);
	if (why == NULL) {
		made = make_anew(h, &f);
		why = judge_addresses(h, &f);
	}
	if (why != NULL) {
		drop(h, &f, why);
		return;
	}
	if (is_named(&f, "From"))
		keep_old_from(h, &f);
	if (f.single >= 0)
		h->seen[f.single] =
		    !is_named(&f, "From") || f.result.n_whole > 0;
	h->names_rcpt = h->names_rcpt || is_rcpt(&f);
	send_field(h, &f, made);
}

/* The first signature; SES takes no second. */
static void find_signature(struct rewrite_header *h, struct slice block)
{
	struct slice field;

	while ((field = header_next_field(block)).len > 0) {
		block = slice_of(block.ptr + field.len, block.len - field.len);
		if (!slice_has_caseprefix(field, "DKIM-Signature") ||
		    !slice_caseeq_str(
			header_field_name(field), "DKIM-Signature"))
			continue;
		h->is_signed = true;
		h->signed_names = rewrite_signed_names(field);
		return;
	}
}

void rewrite_block_emit(struct rewrite_header *h, size_t end, bool is_whole)
{
	struct slice mbox = slice_of(h->block, h->mbox_len);
	struct slice block =
	    slice_of(h->block + h->mbox_len, end - h->mbox_len);
	struct slice rest = block, field;

	if (mbox.len > 0)
		rewrite_note(h, "From ", "removed: the separator of a mailbox",
		    mbox, slice_of("", 0));
	find_signature(h, block);
	while ((field = header_next_field(rest)).len > 0) {
		rest = slice_of(rest.ptr + field.len, rest.len - field.len);
		handle_field(h, field);
	}
	ASSERT(rest.len == 0);
	if (is_whole)
		rewrite_add_missing(h);
	rewrite_add_ses_headers(h, block);
	rewrite_flush(h);
}
