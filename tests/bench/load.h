/*
 * load.h - what the parts of the load generator share.
 *
 * load.c          options, set-up, main
 * load_loop.c     the epoll loop: connecting, timers, open-loop dispatch
 * load_session.c  the SMTP dialogue of one session
 * load_reply.c    strict reader of SMTP replies
 * load_message.c  envelope and content of message n, made piece by piece
 * load_report.c   latency histogram, records of ids, the result
 *
 * One thread; all that is shared hangs off struct run.
 */
#ifndef TESTS_BENCH_LOAD_H
#define TESTS_BENCH_LOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#define ADDRESS_MAX 254 /* longest --from and --to */
#define PREFIX_MAX 64 /* longest --prefix */
#define REPLY_MAX 2048 /* longest reply line taken */
#define UNIT_MAX 4096 /* room for any one command or header block */
#define OUT_MAX (64 * 1024)
#define RETRY_DELAY 100000000ULL /* ns before a reconnection */
#define QUIT_WAIT 5000000000ULL /* ns granted to a QUIT */

enum error_kind {
	ERR_REFUSED, /* connection refused */
	ERR_CONNECT, /* other failure to connect */
	ERR_LOST, /* connection lost in a transaction */
	ERR_IDLE, /* connection lost outside a transaction */
	ERR_TIMEOUT, /* no progress for --timeout seconds */
	ERR_4XX,
	ERR_5XX,
	ERR_BAD_REPLY, /* malformed or out of place */
	ERR_QUIT, /* QUIT not answered properly */
	ERR_KINDS
};

struct options {
	struct sockaddr_storage address;
	socklen_t address_size;
	uint64_t messages, per_session, seed;
	unsigned int sessions, rcpts;
	size_t size;
	double rate, deadline, timeout;
	const char *from, *to, *acked, *sent;
	char prefix[PREFIX_MAX + 1];
	bool pipeline, retry, json;
};

/* Histogram: 32 linear steps to each power of two, so within 3.2 %. */
#define HIST_BITS 5
#define HIST_SIZE (64 << HIST_BITS)

struct stats {
	uint64_t acked, failed, abandoned, resent, in_doubt;
	uint64_t connections, bytes, backlog_max, count, max_ns;
	uint64_t errors[ERR_KINDS];
	uint64_t hist[HIST_SIZE];
	uint64_t start, end; /* end: when the last fate was known */
};

struct generator {
	uint64_t number, rng;
	size_t left; /* content bytes still to make */
	size_t total; /* content bytes in all */
	unsigned int line;
	enum { GEN_HEAD, GEN_BODY, GEN_DOT, GEN_DONE } part;
};

struct reader {
	size_t used, size; /* buf[used..size) is not parsed yet */
	int code; /* of the reply begun; 0: none */
	bool pipelining; /* keyword seen since the last reset */
	char buf[REPLY_MAX];
};

struct reply {
	int code;
	const char *text; /* of the last line, not terminated */
	size_t length;
};

enum state {
	S_WAIT, /* not connected, until .wake */
	S_CONNECT,
	S_GREETING,
	S_EHLO,
	S_READY, /* connected, no message due */
	S_ENVELOPE,
	S_BODY,
	S_DOT,
	S_RSET,
	S_QUIT,
	S_DONE /* nothing left to do, ever */
};

struct run;

struct session {
	struct run *run;
	struct session *prev, *next; /* list of S_READY */
	enum state state;
	int fd;
	bool want_out, queued;
	bool holds; /* .number waits for its fate */
	uint64_t number, attempts, done; /* done: on this connection */
	uint64_t wake, since, dot_at;
	unsigned int command, step; /* next to emit, reply awaited */
	int refused; /* first bad code in this envelope */
	struct generator gen;
	struct reader reader;
	char *out;
	size_t out_used, out_size;
};

struct run {
	struct options opt;
	struct stats stats;
	struct session *sessions, *ready;
	size_t out_room;
	uint64_t next, due, now;
	unsigned int active, notes;
	int epoll, acked_fd, sent_fd;
	bool wake_soon;
	char date[40];
};

/* load_message.c */
size_t make_command(
    const struct run *, uint64_t number, unsigned int index, char *out);
void generator_start(const struct run *, struct generator *, uint64_t number);
size_t generator_fill(
    const struct run *, struct generator *, char *out, size_t room);
uint64_t hash_string(const char *);

/* load_reply.c */
void reader_reset(struct reader *);
int reader_next(struct reader *, struct reply *);
size_t queue_id(const struct reply *, char *out, size_t room);

/* load_session.c */
void session_connected(struct session *);
void session_drop(struct session *, enum error_kind);
void session_go(struct session *);
void session_quit(struct session *);
void session_readable(struct session *);
void session_writable(struct session *);

/* load_loop.c */
uint64_t clock_ns(void);
void loop_run(struct run *);
void ready_add(struct session *);
void ready_remove(struct session *);
void watch_output(struct session *, bool on);

/* load_report.c */
void die(const char *, ...) __attribute__((noreturn, format(printf, 1, 2)));
void note(struct run *, const char *, ...)
    __attribute__((format(printf, 2, 3)));
void record_acked(struct run *, uint64_t number, const struct reply *);
void record_sent(struct run *, uint64_t number);
void stats_latency(struct stats *, uint64_t ns);
void report(const struct run *);

#endif
