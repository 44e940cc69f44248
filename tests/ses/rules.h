#ifndef SES_RULES_H
#define SES_RULES_H

#include "text.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/queue.h>

enum phase {
	PHASE_CONNECT,
	PHASE_EHLO,
	PHASE_STARTTLS,
	PHASE_TLS,
	PHASE_AUTH,
	PHASE_MAIL,
	PHASE_RCPT,
	PHASE_DATA,
	PHASE_BODY,
	PHASE_DOT,
	PHASE_RSET,
	PHASE_NOOP,
	PHASE_QUIT,
	PHASE_IDLE,
	PHASE_OTHER, /* not to be named in a rule */
};

/* Actions without a value; bits of rule.actions. */
enum {
	ACT_PAYLOAD = 1, /* reply or raw */
	ACT_CLOSE = 2,
	ACT_RESET = 4,
	ACT_STALL = 8,
	ACT_HALFCLOSE = 16,
	ACT_ACCEPT = 32,
	ACT_DEFAULT = 64, /* the normal reply, then the rest */
	ACT_BYTEWISE = 128,
	ACT_NO_STARTTLS = 256,
	ACT_ABORT_TLS = 512,
	ACT_NO_CLOSE_NOTIFY = 1024,
	ACT_USER_CANCELED = 2048,
	ACT_ENDS = ACT_CLOSE | ACT_RESET | ACT_STALL | ACT_HALFCLOSE,
};

/* What conditions are compared with. */
enum fact {
	FACT_MSGS, /* accepted on this connection */
	FACT_CONNS, /* connections now */
	FACT_CONN, /* number of this connection */
	FACT_TOTAL, /* accepted in all */
	FACT_PORT,
	FACT_BYTES, /* of content received */
	FACT_RCPTS, /* recipients of the transaction */
	FACT_TLS, /* 0 in clear, 1 */
	FACT_AUTH, /* 1 after AUTH */
	FACT_AGE, /* of the connection, in ms */
	FACT_NUMBERS,
	FACT_FROM = FACT_NUMBERS,
	FACT_RCPT, /* the one of RCPT, else any of them */
	FACT_MESSAGE_ID,
	FACT_HELO,
	FACT_PEER, /* the client's address */
	FACT_ADDR, /* the listener's */
	FACTS,
};

struct facts {
	long number[FACT_NUMBERS];
	const char *text[FACTS - FACT_NUMBERS];
	char *const *rcpts;
	size_t rcpt_count;
	unsigned long txn; /* a BODY rule counts once for each */
};

enum compare {
	COMPARE_EQ,
	COMPARE_NE,
	COMPARE_LT,
	COMPARE_LE,
	COMPARE_GT,
	COMPARE_GE,
	COMPARE_HAS,
	COMPARE_LACKS,
};

struct condition {
	enum fact fact;
	enum compare op;
	long number;
	char *text;
};

enum { RULE_CONDITIONS = 8 };

struct rule {
	TAILQ_ENTRY(rule) link; /* in rules.list */
	unsigned number; /* 1, 2, ... in order of arrival */
	char *source;
	enum phase phase;
	struct condition when[RULE_CONDITIONS];
	size_t conditions;
	unsigned long skip, times, every;
	unsigned long matched, acted;
	unsigned long txn; /* BODY: last transaction that counted */
	unsigned actions;
	struct buf payload; /* of reply and raw */
	struct buf inject;
	long repeat; /* the payload so many times */
	long delay_ms;
	long jitter_ms; /* up to so much more */
	long drip_ms; /* between two bytes */
	long write_rate, read_rate; /* from now on; 0: as set */
	long rekey; /* so many new keys of TLS before the reply */
};

struct rules {
	TAILQ_HEAD(, rule) list; /* in order of precedence */
	unsigned last; /* number given last */
	unsigned count[PHASE_OTHER + 1];
};

void rules_init(struct rules *r);
void rules_clear(struct rules *r);
/* NULL, or what is wrong; the words live for ever. */
const char *rules_add(struct rules *r, const char *text);
/* Parses one rule; NULL with *wrong set if it is none. rule_free's to free. */
struct rule *rule_parse(const char *text, const char **wrong);
void rule_free(struct rule *rule);
/* The rule that acts on this occasion, having counted it; or NULL. */
struct rule *rules_match(
    struct rules *r, enum phase phase, const struct facts *f);
void rules_print(const struct rules *r, struct buf *out);
/* One "phase X", "fact X", "limit X" or "action X" a line. */
void rules_print_words(struct buf *out);
const char *phase_name(enum phase phase);
/* True if the first reply in bytes is a complete one of this phase's yes. */
bool phase_success(enum phase phase, const char *bytes, size_t n);

#endif
