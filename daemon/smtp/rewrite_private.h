/*
 * What the files of the header rewriter share (rewrite.h).  All of it is pure.
 *
 * A field is handled as its raw text, name to the last CRLF, because only what
 * changes may be made anew; a buffer is needed only where something does.
 */
#ifndef SMTP_REWRITE_PRIVATE_H
#define SMTP_REWRITE_PRIVATE_H

#include "smtp/header.h"
#include "smtp/rewrite.h"

/* A text that grows; bounded by what it is made of: the block and rules. */
struct rewrite_text {
	char *ptr;
	size_t len, cap;
};

void rewrite_text_add(struct rewrite_text *t, struct slice more);
void rewrite_text_add_str(struct rewrite_text *t, const char *more);
struct slice rewrite_text_slice(const struct rewrite_text *t);

/* The longest address that is understood; what is longer is left alone. */
#define REWRITE_ADDR_MAX 320

enum rewrite_mailbox_kind {
	MAILBOX_WHOLE, /* local@domain */
	MAILBOX_BARE, /* a local part alone */
	MAILBOX_EMPTY, /* <> */
	MAILBOX_BAD, /* not understood, or not an address */
};

/* One entry of an address list; slices are cut from the field. */
struct rewrite_mailbox {
	enum rewrite_mailbox_kind kind;
	struct slice addr; /* without <>; where an EMPTY one would stand */
	bool is_ascii;
	char text[REWRITE_ADDR_MAX + 1]; /* addr without blanks and comments */
};

/*
 * Cuts the next mailbox off *rest, the value of an address field; false when
 * there is none left.  Empty entries, names of groups and comments are passed
 * over.
 */
bool rewrite_mailbox_next(struct slice *rest, struct rewrite_mailbox *m);

/*
 * The address of the first rule that matches an address or, as it was written
 * before it was completed, `bare` (may be NULL); NULL: none does.
 */
const char *rewrite_rules_find(const struct rewrite_rule *rules,
    unsigned n_rules, const char *addr, const char *bare);

/* What is to be done with the addresses of a field, by its name. */
struct rewrite_field_kind {
	struct slice name;
	bool has_addresses; /* completed */
	bool is_sender; /* rewritten by rules */
	bool is_sent; /* SES reads it: its addresses must be ASCII */
	bool drop_empty; /* with nothing in it, SES refuses the message */
};

/* NULL: nothing special about it. */
const struct rewrite_field_kind *rewrite_field_kind(struct slice name);

/* What became of the addresses of a field. */
struct rewrite_field_result {
	unsigned n_completed, n_replaced; /* by rules */
	unsigned n_filled; /* by the fallback */
	unsigned n_whole; /* addresses with a domain, after all that */
	unsigned n_unusable; /* others */
	bool is_ascii;
};

/*
 * Appends the value of an address field to `out` as it shall be.  `senders`:
 * rules apply; `fallback`: stands in for addresses that have no domain and get
 * none, NULL: there is none.  From REWRITE_FIELD_MAX on the value stays as it
 * is: a list of bare names of one letter would become a hundred times as long.
 */
#define REWRITE_FIELD_MAX (2 * REWRITE_BLOCK_MAX)
void rewrite_field_addresses(const struct rewrite_rules *rules,
    struct slice value, bool senders, const char *fallback,
    struct rewrite_text *out, struct rewrite_field_result *result);

/*
 * Folds the lines of a field that are longer than 998 octets (RFC 5322 2.1.1)
 * into `out`, which stays empty when there are none.  `after_comma`: a new
 * line may also begin behind the commas of a list.  False: a line was left
 * that cannot be folded.
 */
bool rewrite_fold(
    struct slice field, bool after_comma, struct rewrite_text *out);

/*
 * The number of a field that SES takes at most once, below
 * REWRITE_SINGLE_USE_MAX; -1: it takes any number of them.
 */
#define REWRITE_SINGLE_USE_MAX 64
int rewrite_single_use(struct slice name);

/* The names that a DKIM-Signature field covers; empty: it may be any. */
struct slice rewrite_signed_names(struct slice signature);
bool rewrite_is_signed(struct slice names, const char *name);

/*
 * The rest of a block that was too large to be kept: all of it passes but
 * X-SES-* and Bcc, in constant memory.  Begins where a line begins.
 */
struct rewrite_tail {
	/* private */
	struct header_scan scan; /* tells where the block ends */
	bool at_start; /* of a line; `held` may yet be such a name */
	bool dropping; /* the field that we are in */
	uint8_t n_held;
	char held[16];
};

void rewrite_tail_feed(struct rewrite_header *h, struct rewrite_tail *t,
    const char *in, size_t len);

enum rewrite_state {
	REWRITE_BLOCK, /* the block is being collected */
	REWRITE_TAIL, /* of a block that was too large */
	REWRITE_BODY,
};

struct rewrite_header {
	const struct rewrite_rules *rules;
	char *from; /* what a From is made of; NULL: nothing to make it of */
	char *id, *date;
	void (*emit)(void *ctx, const char *ptr, size_t len);
	void (*note)(void *ctx, const struct rewrite_change *change);
	void *ctx;

	enum rewrite_state state;
	char *block;
	size_t len, cap;
	size_t mbox_len; /* of a "From " line in front of the fields */
	size_t line_at, field_at; /* where the last of them begins */
	struct rewrite_tail tail;

	/* While the block is gone through. */
	bool seen[REWRITE_SINGLE_USE_MAX]; /* emitted */
	bool names_rcpt; /* a To or Cc was emitted */
	bool hid_rcpt; /* a Bcc, or an empty To or Cc, was dropped */
	char *old_from; /* for Reply-To; what a rule has replaced */
	bool is_signed;
	struct slice signed_names;
	struct slice run; /* of fields that stay, not yet emitted */
	struct rewrite_text made, folded, whole;

	/* What is known afterwards. */
	struct header_scan scan; /* of what was emitted */
	struct rewrite_refusal refusal;
	bool is_refused, broke_signature;
};

/*
 * Emits the fields of block[mbox_len..end) as they shall be; `is_whole`: the
 * block ends there, so that what is missing is known and added.
 */
void rewrite_block_emit(struct rewrite_header *h, size_t end, bool is_whole);
/* What is missing, and what is ours, behind the fields of the block. */
void rewrite_add_missing(struct rewrite_header *h);
void rewrite_add_ses_headers(struct rewrite_header *h, struct slice block);
/* Of the header, behind what is still to be emitted. */
void rewrite_emit(struct rewrite_header *h, struct slice text);
/* The fields that stay and have not been emitted yet. */
void rewrite_flush(struct rewrite_header *h);
/* That field is not as it was: does the signature cover it? */
void rewrite_altered(struct rewrite_header *h, const char *name);
void rewrite_note(struct rewrite_header *h, const char *field, const char *what,
    struct slice before, struct slice after);
/* The first reason stays. */
PRINTF(3, 4)
void rewrite_refuse(
    struct rewrite_header *h, const char *status, const char *fmt, ...);

#endif
