/*
 * Making legacy mail fit for SES: envelope addresses and the header block
 * (sesrelayd.conf(5), rewrite.*, ses.*).  Bodies are never touched.
 *
 * Pure: no clock, no files; rules are made once, by the configuration, and are
 * shared, read-only, by all sessions.
 *
 *   envelope   rewrite_sender() at MAIL, rewrite_rcpt() at RCPT: what SES is
 *              sure to refuse is refused while the program still listens
 *   header     struct rewrite_header, fed with canonical content (CRLF, not
 *              dot-stuffed) cut anywhere; the block is kept until its end, at
 *              most REWRITE_BLOCK_MAX, then emitted as it shall be; the body
 *              passes through as it comes
 */
#ifndef SMTP_REWRITE_H
#define SMTP_REWRITE_H

#include "smtp/addr.h"

#define REWRITE_BLOCK_MAX (256u * 1024)

/*
 * First match wins.  `match`: an address, in which '*' stands for any run of
 * characters; letters' case does not matter.  An address without a domain
 * matches as it is or with the default domain.
 */
struct rewrite_rule {
	const char *match, *address;
};

struct aliases; /* smtp/aliases.h */

struct rewrite_rules {
	const char *default_domain; /* NULL: bare addresses stay bare */
	const char *hostname; /* of Message-IDs that we make */
	const struct rewrite_rule *senders, *recipients;
	unsigned n_senders, n_recipients;
	const struct aliases *aliases; /* NULL: none */
	bool add_headers; /* missing Date, Message-ID, From */
	bool reject_duplicates; /* else the first of single-use fields stays */
	bool keep_ses_headers; /* X-SES-* of clients; else stripped */
	/* Our own X-SES-* fields, complete lines ending in CRLF; "" none. */
	const char *ses_headers;
	unsigned refs; /* of rewrite_rules_new(); else 0 */
};

/*
 * A copy that lives as long as somebody holds it, so that a message that is
 * arriving ends by the rules that it began with, whatever a reload brings; by
 * one thread.  Takes the aliases.
 */
struct rewrite_rules *rewrite_rules_new(
    const struct rewrite_rules *from, struct aliases *aliases);
struct rewrite_rules *rewrite_rules_ref(struct rewrite_rules *rules);
void rewrite_rules_unref(struct rewrite_rules *rules); /* NULL is legal */

/* Why not, for the reply: "5.1.3", and words that say what to do. */
struct rewrite_refusal {
	char status[8];
	char text[240];
};

/* For an address that cannot be read, or (UNQUALIFIED) not be completed. */
void rewrite_refuse_address(
    struct rewrite_refusal *why, enum addr_error error, bool is_sender);

/*
 * The sender as SES shall see it (malloc'ed); "" stays "".  NULL: refused.
 */
char *rewrite_sender(const struct rewrite_rules *rules, const char *addr,
    struct rewrite_refusal *why);
/*
 * The recipients that one RCPT stands for: rules, then aliases, each once.
 * Aliases are of bare names, and of those with the default domain, with our
 * own hostname or with "localhost".  -1: refused, nothing was emitted.
 */
int rewrite_rcpt(const struct rewrite_rules *rules, const char *addr,
    void (*emit)(void *ctx, const char *addr), void *ctx,
    struct rewrite_refusal *why);

/* What the header of one message needs to know. */
struct rewrite_context {
	const char *sender; /* of the envelope, rewritten; for a missing From */
	const char *id; /* queue id, for a missing Message-ID */
	const char *date; /* RFC 5322, for a missing Date */
};

/*
 * One thing done to a header, for the log and for rewrite-test; or, when both
 * are the same text, one that is wrong with it and cannot be helped.
 */
struct rewrite_change {
	const char *field; /* its name */
	const char *what; /* "added", "removed", "completed", ... in words */
	struct slice before, after; /* whole fields; empty: there is none */
};

static inline bool rewrite_change_is_remark(const struct rewrite_change *c)
{
	return c->before.len > 0 && c->before.ptr == c->after.ptr;
}

struct rewrite_header; /* the state of one message; smtp/rewrite_header.c */
struct rewrite_header *rewrite_header_new(const struct rewrite_rules *rules,
    const struct rewrite_context *context, /* copied */
    void (*emit)(void *ctx, const char *ptr, size_t len),
    /* NULL: nobody wants to know. */
    void (*note)(void *ctx, const struct rewrite_change *change), void *ctx);
void rewrite_header_free(struct rewrite_header *h); /* NULL is legal */
void rewrite_header_feed(struct rewrite_header *h, const char *in, size_t len);
/* The content is over: a block without a body is emitted now. */
void rewrite_header_end(struct rewrite_header *h);
/* Known when the block has passed; NULL: SES would take it. */
const struct rewrite_refusal *rewrite_header_refusal(
    const struct rewrite_header *h);
/* It carries a DKIM-Signature and was altered: worth a log line. */
bool rewrite_header_broke_signature(const struct rewrite_header *h);
/* As emitted, without <>; "" before the block has passed. */
const char *rewrite_header_message_id(const struct rewrite_header *h);

#endif
