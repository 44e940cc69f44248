/*
 * The two forms of a message in memory.
 *
 * struct message   whole: envelope, and the content or where it lies.  Exists
 *                  while a session receives it and while it is in flight.
 * struct stub      80 bytes: all that is kept of a message that waits, beside
 *                  16 in each index.  The rest is on disk, at `ref`.
 *
 * Content (`body`) is kept as it will be sent: every line ends in CRLF, no dot
 * is stuffed, the final CRLF is there.
 */
#ifndef QUEUE_MESSAGE_H
#define QUEUE_MESSAGE_H

#include "base/heap.h"
#include "base/id.h"

#include <sys/queue.h>

/* Content longer than this streams to a file of its own in large/. */
#define MESSAGE_BODY_MAX (1024u * 1024u)

/* Where a record begins: number of the arrivals segment, byte offset in it. */
struct spool_ref {
	uint32_t segment; /* 0: nowhere yet */
	uint32_t offset;
};

enum rcpt_state {
	RCPT_PENDING = 'p', /* still to be delivered */
	RCPT_SENT = 's', /* SES took it */
	RCPT_FAILED = 'f', /* given up; a dead letter says why */
};

struct rcpt {
	char *addr; /* "user@example.com", no angle brackets */
	char *orig; /* as the client gave it, when that was another; or NULL */
	enum rcpt_state state;
};

/* Growing buffer of content, counted in STAT_BODY_BYTES. */
struct body {
	char *data;
	size_t len, size;
};

void body_init(struct body *b);
void body_fini(struct body *b);
void body_append(struct body *b, const void *data, size_t len);
/* Room for at least `more` bytes behind the content; raise len afterwards. */
char *body_reserve(struct body *b, size_t more);
/* Move the content; the source is empty afterwards. */
void body_move(struct body *to, struct body *from);

struct message {
	uint64_t id;
	int64_t arrival_us; /* wall clock */
	/* The spool clock at its commit (queue/spool_clock.h); 0: not known. */
	int64_t clock_us;
	char *sender; /* "" is the null sender */
	bool body_8bit; /* the client said BODY=8BITMIME */
	bool notice; /* ours, of a failure: its own failure makes none */
	char *peer; /* "localhost[127.0.0.1]" */
	char *helo;
	char *message_id; /* of the header, without <>; "" when it has none */
	struct rcpt *rcpts;
	unsigned n_rcpts;
	uint64_t size; /* bytes of content */
	bool large; /* content is in large/ID */
	struct spool_ref ref; /* once it is durable */
	struct body body; /* content, when it is in memory (body.len == size) */
};

struct message *message_new(uint64_t id);
void message_free(struct message *m); /* NULL is legal */
void message_add_rcpt(struct message *m, const char *addr);
/* The one that was added last, as the client gave it; NULL: the same. */
void message_set_orig(struct message *m, const char *orig);
unsigned message_n_pending(const struct message *m);
/* Content is here and need not be loaded. */
bool message_in_memory(const struct message *m);

enum stub_state {
	STUB_NEW, /* on no list */
	STUB_READY, /* may go out now; FIFO */
	STUB_WAITING, /* until its due time */
	STUB_INFLIGHT, /* taken by a connection (loading included) */
	STUB_HELD, /* until somebody releases it */
	STUB_N_STATES
};

/* What is kept of a message that waits; the queue owns it. */
struct stub {
	uint64_t id;
	/* Monotonic clock of this process, may be < 0; constant. */
	int64_t arrival_us;
	union {
		TAILQ_ENTRY(stub) link; /* READY, INFLIGHT, HELD */
		struct heap_item due; /* WAITING, key: monotonic us */
	};
	struct spool_ref ref;
	uint32_t size; /* bytes of content, capped at 4 GiB - 1 */
	uint16_t n_rcpts;
	uint16_t attempts; /* by this process */
	uint8_t state; /* enum stub_state; queue/queue.c alone writes it */
	uint8_t free_retries; /* in a row that cost the message nothing */
	bool singly; /* one recipient a transaction from now on */
	bool suspect; /* SES named the account, but it may be this message */
	/* The operator's wish for one that is INFLIGHT: see relay/operate.h. */
	uint8_t wish;
	uint32_t wish_uid; /* whose it is */
	uint16_t cursor; /* the next attempt begins at this recipient */
	/* n_rcpts letters of enum rcpt_state; NULL: all pending. */
	char *rcpt_states;
	/* Of the last attempt, NULL before it; queue_set_reply() writes it. */
	const char *last_reply;
	struct message *loaded; /* whole message still in memory, or NULL */
};

/*
 * From an accepted or a found message that has waited since arrival_us
 * (monotonic: ages do not follow the jumps of the wall clock); `loaded` stays
 * NULL.
 */
struct stub *stub_new(const struct message *m, int64_t arrival_us);
void stub_free(struct stub *s); /* frees `loaded` too */
/* Copy the stub's recipient states into a message, and the other way. */
void stub_apply_rcpts(const struct stub *s, struct message *m);
void stub_keep_rcpts(struct stub *s, const struct message *m);

#endif
