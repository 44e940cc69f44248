/*
 * One local program's connection.  Private to relay/inbound.c (the listeners
 * and the list of sessions), relay/session.c (the conversation) and
 * relay/session_content.c (the message that arrives).
 */
#ifndef RELAY_SESSION_H
#define RELAY_SESSION_H

#include "net/conn.h"
#include "relay/relay.h"
#include "smtp/dot.h"
#include "smtp/header.h"

enum session_mode {
	SESSION_LINES, /* commands */
	SESSION_CONTENT, /* behind the 354 */
	SESSION_COMMITTING, /* content is over, the disk has the word */
	SESSION_CLOSED, /* only waits for the disk */
};

struct session {
	TAILQ_ENTRY(session) link;
	struct inbound *inbound;
	struct conn *conn; /* NULL once closed */
	struct server server;
	enum session_mode mode;
	char peer[80]; /* "localhost[127.0.0.1]" */
	bool lf_only; /* every line so far ended in LF alone */
	bool any_line;
	bool eof; /* the client has closed its side; work goes on */
	/* The last refusal that was logged, and how often it came again. */
	struct session_reject {
		enum server_state state;
		int code;
		size_t reply_len;
		unsigned n_repeats;
	} reject;
	bool stopping; /* say 421 when nothing is under way */

	/* The message that is arriving. */
	struct message *m;
	struct dot_reader dot;
	struct header_scan scan; /* of the header as it is rewritten */
	/* NULL: there are no rules, or the message is refused. */
	struct rewrite_header *rewrite;
	struct rewrite_rules *rules; /* held while it is */
	size_t header_held; /* bytes that it keeps, at the most */
	char
	    rewritten[160]; /* names of fields that were altered, for the log */
	char remark[160]; /* the first thing wrong with it that stays */
	bool broke_signature;
	uint64_t content_len; /* as the client sent it, without our header */
	enum server_content verdict; /* OK until something is wrong with it */
	char refusal[256]; /* what goes with CONTENT_HEADER */
	bool discard; /* it is; read on to its true end */
	bool ended; /* the final dot has come */
	int64_t data_deadline_us; /* for the whole message, monotonic */
	struct spool_large *large;
	bool appending; /* the disk takes a chunk; no content is read */
};

struct inbound {
	struct relay *relay;
	struct inbound_options options;
	TAILQ_HEAD(session_list, session) sessions;
	unsigned n_sessions;
	struct listener *listeners[32];
	unsigned n_listeners;
	bool stopping;
};

/* Takes fd.  The session ends by itself. */
void session_start(struct inbound *in, int fd, const struct sockaddr *peer);
/* Say 421 and close as soon as nothing is under way. */
void session_stop(struct session *s);
/* At once; what is being made durable still completes. */
void session_close(struct session *s);

/* --- session.c, for session_content.c --- */

static inline int64_t session_timeout_us(const struct session *s)
{
	return s->inbound->options.timeout_us;
}
void session_reply(struct session *s, const struct server_out *out);
/* How often the last refusal came again; the next is logged in full. */
void session_log_repeats(struct session *s);
/* Say 421 and go. */
void session_goodbye(
    struct session *s, const char *enhanced, const char *reason);
/* Everything that can be done with the input that is here. */
void session_serve(struct session *s);
/* The socket is gone, and now nothing of it is with the disk any more. */
void session_retire(struct session *s);

/* --- session_header.c, for session_content.c --- */

/* From then on, content goes through session_feed_header() while s->rewrite. */
void session_start_header(struct session *s);
/* Both: false when it is refused, with the reason in s->refusal. */
bool session_feed_header(struct session *s, const char *ptr, size_t len);
bool session_end_header(struct session *s); /* the content is over */
void session_drop_header(struct session *s); /* nothing of it is needed */
/* What was altered, sender included; before it goes to the spool. */
void session_log_rewritten(const struct session *s);

/* --- session_content.c, for session.c --- */

/* The 354 is out. */
void session_start_content(struct session *s);
/* Takes what is there of it; false: no more for now. */
bool session_take_content(struct session *s);
/* The final dot has come and nothing is under way with the disk. */
void session_end_content(struct session *s);
/* For the next chunk, but never past that of the whole message. */
void session_set_content_deadline(struct session *s);
void session_drop_content(struct session *s);

#endif
