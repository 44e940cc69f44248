/*
 * A whole session with a local program: relay/session and smtp/server as they
 * are, over a socket that is not there (fake_conn); the spool is played here.
 *
 * Input: a byte of options, one of how to cut, one of what the disk does, then
 * all that the client sends.  Properties: what is said and what is accepted does
 * not depend on cuts, but for one that is meant: a DATA that is refused, with
 * more behind it that is here already, is the end of the session, and nothing
 * of that is run as commands; every reply is whole lines of visible ASCII, up
 * to 512 octets, each with its code; content is taken behind a 354 alone, ends
 * where the reference says that it ends, and is what the reference says that it
 * is; a message has the recipients that got 250, within the limit; envelopes
 * are clean; nothing is accepted that has a NUL or a bare CR.
 */
#include "fake_conn.h"
#include "reference.h"

#include "base/log.h"
#include "base/mem.h"
#include "relay/attempt.h"
#include "relay/operate.h"
#include "relay/session.h"

#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#define MAX_RCPTS 3
#define MAX_SIZE 2000
#define ID_MASK "................"

static struct play {
	struct conn *conn;
	uint8_t disk; /* bit n: the commit n fails */
	unsigned n_commits;
	/* By the replies. */
	unsigned n_rcpts;
	bool in_data;
	size_t data_at; /* where content began in the input */
	size_t commands_at; /* and the commands before it */
	bool crlf_seen; /* in a command */
	bool in_auth;
	bool over; /* DATA was refused, and content was here */
	/* By their place in the input: where a refusal was the last answer to
	 * what was here. */
	bool *waits;
	struct fuzz_text accepted;
} play;

/* --- judging --- */

static void check_reply(struct slice text)
{
	const char *code = text.ptr;
	bool last = false;

	PROPERTY(text.len > 5 && text.ptr[text.len - 1] == '\n');
	while (text.len > 0) {
		struct slice line = slice_split(&text, '\n');

		PROPERTY(!last && line.len >= 4 && line.len <= 511);
		PROPERTY(line.ptr[line.len - 1] == '\r');
		PROPERTY(fuzz_is_printable(line.ptr, line.len - 1));
		PROPERTY(memcmp(line.ptr, code, 3) == 0);
		PROPERTY(line.ptr[0] >= '2' && line.ptr[0] <= '5');
		PROPERTY(line.ptr[3] == ' ' || line.ptr[3] == '-');
		last = line.ptr[3] == ' ';
	}
	PROPERTY(last);
}

/* The content that has just ended, by the reference. */
static void read_content(const struct conn *c, struct reference *ref)
{
	struct slice raw =
	    slice_of(c->in.ptr + play.data_at, c->in_at - play.data_at);

	reference_read(raw, !play.crlf_seen, ref);
	PROPERTY(ref->ended && ref->used == raw.len);
}

static void note_commands(const struct conn *c)
{
	if (c->in_at > play.commands_at &&
	    memmem(c->in.ptr + play.commands_at, c->in_at - play.commands_at,
		"\r\n", 2) != NULL)
		play.crlf_seen = true;
	play.commands_at = c->in_at;
}

/* Is it the line that was read last? */
static bool is_data_line(const struct conn *c)
{
	struct slice line =
	    slice_of(c->in.ptr + c->line_at, c->in_at - c->line_at);

	/* A longer one has no verb. */
	if (line.len > SERVER_LINE_MAX || !slice_has_suffix(line, "\n"))
		return false;
	line.len -= line.len > 1 && line.ptr[line.len - 2] == '\r' ? 2 : 1;
	line = slice_trim(line);
	return slice_has_caseprefix(line, "DATA") &&
	    (line.len == 4 || line.ptr[4] == ' ' || line.ptr[4] == '\t');
}

/* A command is refused; what may be behind it? */
static void note_refusal(const struct conn *c)
{
	bool last = c->in_at == c->in.len;

	/* A head is refused that has not been taken from the input. */
	if (play.waits[c->in_at])
		return;
	play.waits[c->in_at] = last;
	if (is_data_line(c) && !play.in_auth && !last)
		play.over = true;
}

static void on_write(struct conn *c, const char *ptr, size_t len)
{
	struct slice reply = slice_of(ptr, len);

	PROPERTY(!play.over);
	check_reply(reply);
	if (!play.in_data && ptr[0] >= '4')
		note_refusal(c);
	play.in_auth = slice_has_prefix(reply, "334 ");
	if (play.in_data && !slice_has_prefix(reply, "421 ")) {
		struct reference ref;

		read_content(c, &ref);
		fuzz_text_fini(&ref.out);
		play.commands_at = c->in_at;
	}
	if (slice_casecontains(reply, "queued as"))
		PROPERTY(play.in_data && slice_has_prefix(reply, "250 2.0.0 "));
	if (play.in_data)
		play.n_rcpts = 0;
	play.in_data = slice_has_prefix(reply, "354 ");
	if (slice_has_prefix(reply, "250 2.1.0 "))
		play.n_rcpts = 0;
	if (slice_has_prefix(reply, "250 2.1.5 "))
		play.n_rcpts++;
	if (play.in_data) {
		PROPERTY(play.n_rcpts > 0 && play.n_rcpts <= MAX_RCPTS);
		note_commands(c);
		play.data_at = c->in_at;
	}
}

static void check_address(const char *address, bool null_ok)
{
	size_t len = strlen(address);

	PROPERTY(len <= ADDR_MAX && fuzz_is_printable(address, len));
	PROPERTY(len > 0 ? strchr(address, '@') != NULL : null_ok);
}

/* Behind our own trace field. */
static struct slice content_of(const struct message *m)
{
	struct slice rest = slice_of(m->body.data, m->body.len);

	bool date = false;

	PROPERTY(slice_has_prefix(rest, "Received: from "));
	/* Up to the date, which stands behind a semicolon. */
	while (!date) {
		struct slice line = slice_split(&rest, '\n');

		date = slice_has_suffix(line, ";\r");
		PROPERTY(line.len > 0);
	}
	(void)slice_split(&rest, '\n');
	return rest;
}

static void check_message(const struct message *m)
{
	struct reference ref;

	PROPERTY(play.in_data);
	read_content(play.conn, &ref);
	PROPERTY(!ref.nul && !ref.bare_cr);
	PROPERTY(slice_eq(content_of(m), slice_of(ref.out.ptr, ref.out.len)));
	PROPERTY(ref.out.len <= MAX_SIZE);
	PROPERTY(m->n_rcpts == play.n_rcpts && m->size == m->body.len);
	PROPERTY(fuzz_is_canonical(m->body.data, m->body.len));
	check_address(m->sender, true);
	fuzz_text_add_str(&play.accepted, m->sender);
	for (unsigned i = 0; i < m->n_rcpts; i++) {
		check_address(m->rcpts[i].addr, false);
		fuzz_text_add_str(&play.accepted, m->rcpts[i].addr);
	}
	fuzz_text_add(&play.accepted, ref.out.ptr, ref.out.len);
	fuzz_text_fini(&ref.out);
}

/* --- what session.c calls --- */

struct conn *conn_accept(
    struct loop *loop, int fd, const struct conn_events *events, void *ctx)
{
	(void)loop;
	(void)fd;
	play.conn = fake_conn_new(events, ctx);
	play.conn->on_write = on_write;
	return play.conn;
}

struct commit {
	void (*done)(void *ctx, int rc, const struct err *err);
	void *ctx;
	bool fails;
};

static void committed(void *ptr)
{
	struct commit *commit = ptr;
	struct err err = { .code = 5, .text = "disk" };

	commit->done(commit->ctx, commit->fails ? -1 : 0, &err);
	free(commit);
}

void spool_commit(struct spool *s, struct message *m, struct spool_large *large,
    void (*done)(void *ctx, int rc, const struct err *err), void *ctx)
{
	struct commit *commit = xmalloc(sizeof(*commit));

	(void)s;
	PROPERTY(large == NULL);
	check_message(m);
	*commit = (struct commit){ done, ctx,
		play.disk >> (play.n_commits++ % 8) & 1 };
	loop_defer(NULL, committed, commit);
}

void relay_accepted(struct relay *r, struct message *m)
{
	(void)r;
	message_free(m);
}

void relay_log_accepted(const struct message *m)
{
	(void)m;
}

struct server_refusal relay_refusal(const struct relay *r, uint64_t bytes)
{
	(void)r;
	if (bytes == 1234)
		return (struct server_refusal){ "4.3.1", "queue is full" };
	return (struct server_refusal){ NULL, NULL };
}

const char *spool_refusal(const struct spool *s, uint64_t bytes)
{
	return spool_refusal_of(s, bytes, 0);
}

const char *spool_refusal_of(
    const struct spool *s, uint64_t bytes, uint64_t on_disk)
{
	(void)s;
	(void)on_disk;
	return bytes % 256 == 77 ? "no space" : NULL;
}

/* Content never is so long here. */
struct spool_large *spool_large_new(struct spool *s, uint64_t id)
{
	(void)s;
	(void)id;
	PROPERTY(!"large content");
	return NULL;
}

void spool_large_append(struct spool_large *l, struct body *chunk,
    void (*done)(void *ctx, int rc, const struct err *err), void *ctx)
{
	(void)l;
	(void)chunk;
	(void)done;
	(void)ctx;
	PROPERTY(!"large content");
}

void spool_large_drop(struct spool_large *l)
{
	(void)l;
	PROPERTY(!"large content");
}

bool network_contains(const struct network *n, const struct sockaddr *addr)
{
	(void)n;
	(void)addr;
	return true;
}

bool listener_is_loopback(const struct sockaddr *addr)
{
	(void)addr;
	return true;
}

void listener_fd_freed(struct listener *l)
{
	(void)l;
}

/* --- a session --- */

static void silent(void *ctx, const char *line)
{
	(void)ctx;
	(void)line;
}

/* Ids differ from run to run. */
static void mask_ids(struct fuzz_text *out)
{
	static const char before[] = "queued as ";
	char *p = out->ptr, *hit;

	while ((hit = memmem(p, out->len - (size_t)(p - out->ptr), before,
		    sizeof(before) - 1)) != NULL) {
		p = hit + sizeof(before) - 1;
		memcpy(p, ID_MASK, sizeof(ID_MASK) - 1);
	}
}

static bool client_sends(void *ctx, const char *ptr, size_t len)
{
	struct conn *c = ctx;

	fake_conn_input(c, ptr, len);
	fake_loop_turn();
	/* What waited for the disk, and for the client to read. */
	for (size_t left = SIZE_MAX; left != c->in_at;) {
		left = c->in_at;
		fake_conn_flush(c, SIZE_MAX);
		fake_loop_turn();
	}
	return !c->closed && !c->flushing;
}

/* Pieces that end where `ends` says. */
static void feed_by(struct slice text, const bool *ends, struct conn *c)
{
	bool more = true;

	for (size_t at = 0, n; more && at < text.len; at += n) {
		for (n = 1; at + n < text.len && !ends[at + n];)
			n++;
		more = client_sends(c, text.ptr + at, n);
	}
}

static void run(uint8_t options, uint8_t seed, uint8_t disk, struct slice text,
    const bool *cuts, struct fuzz_text *out)
{
	static struct network anywhere;
	static struct relay relay;
	const struct sockaddr_in peer = { .sin_family = AF_INET };
	struct inbound in = { .relay = &relay,
		.options = { .server = { .hostname = "relay.example.net",
				 .max_message_size = MAX_SIZE,
				 .max_recipients = MAX_RCPTS,
				 .reject_bare_newline = options & 1,
				 .accept_any_auth = options & 2 },
		    .allow = &anywhere,
		    .n_allow = 1,
		    .max_sessions = 10,
		    .timeout_us = 1000000 } };

	play = (struct play){ .disk = disk };
	play.waits = xcalloc(text.len + 1, sizeof(bool));
	TAILQ_INIT(&in.sessions);
	session_start(&in, -1, (const struct sockaddr *)&peer);
	if (cuts != NULL)
		feed_by(text, cuts, play.conn);
	else
		fuzz_feed(text, seed, client_sends, play.conn);
	fake_conn_end(play.conn, CONN_END_EOF);
	fake_loop_turn();
	PROPERTY(TAILQ_EMPTY(&in.sessions) && in.n_sessions == 0);
	mask_ids(&play.conn->out);
	*out = play.conn->out;
	play.conn->out = (struct fuzz_text){ 0 };
	fake_conn_free(play.conn);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_in in = { data, size };
	uint8_t options = fuzz_byte(&in), seed = fuzz_byte(&in);
	uint8_t disk = fuzz_byte(&in);
	struct slice text = fuzz_bytes(&in, in.len);
	struct fuzz_text out[2];
	struct play before;

	log_capture(silent, NULL);
	run(options, seed, disk, text, NULL, &out[0]);
	before = play;
	/* Of its cuts none matters but those where a refused DATA was the last
	 * that was here: it is cut there again, and nowhere else. */
	run(options, 0, disk, text, before.waits, &out[1]);
	PROPERTY(fuzz_text_same(&out[0], &out[1]));
	PROPERTY(fuzz_text_same(&before.accepted, &play.accepted));
	for (int i = 0; i < 2; i++)
		fuzz_text_fini(&out[i]);
	fuzz_text_fini(&before.accepted);
	fuzz_text_fini(&play.accepted);
	free(before.waits);
	free(play.waits);
	return 0;
}
