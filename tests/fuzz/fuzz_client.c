/*
 * A whole session with SES, by script: relay/outbound and smtp/client as they
 * are, over a socket that is not there (fake_conn), with everything around them
 * played by this target.
 *
 * Input: a byte of options, then operations: replies of every kind, whole or in
 * pieces; the kernel takes output, all or some; the handshake ends; the
 * connection is lost; a message is given; outcomes are recorded; QUIT.
 * Properties: nothing but EHLO, STARTTLS and QUIT outside TLS; a message counts
 * as delivered only if the kernel had all of it and its dot, stuffed as it has
 * to be, before the first byte of a reply that is strictly 2dd; one that counts
 * as refused for good was refused; every transaction is settled exactly once;
 * no dot goes out before the outcome of the message before is written.
 */
#include "fake_conn.h"

#include "base/log.h"
#include "base/mem.h"
#include "relay/attempt.h"
#include "relay/outbound.h"
#include "smtp/addr.h"

#include <stdlib.h>
#include <string.h>

#define MESSAGES_MAX 8
#define RCPTS 2

static struct play {
	struct outbound *o;
	struct conn *conn;
	struct relay relay;
	struct upstream upstream;
	bool ready, closed, can_settle, read_fails;
	/* The message under way. */
	struct attempt *attempt;
	struct stub stub;
	struct verdict verdicts[RCPTS];
	const char *rcpts[RCPTS];
	unsigned n_given, n_settled;
	void (*recorded)(void *ctx); /* of the outcome before */
	void *recorded_ctx;
} play;

/* --- judging --- */

/* The reply whose last line was just taken: where it began, and its code. */
static size_t reply_start(const struct conn *c, const char **last)
{
	size_t at = c->line_at;

	*last = c->in.ptr + at;
	while (at >= 6) {
		size_t before = at - 1;

		while (before > 0 && c->in.ptr[before - 1] != '\n')
			before--;
		if (at - before < 6 || c->in.ptr[before + 3] != '-' ||
		    memcmp(c->in.ptr + before, *last, 3) != 0)
			break;
		at = before;
	}
	return at;
}

static void check_sent(const struct message *m, const struct conn *c)
{
	struct fuzz_text want = { 0 };
	struct dot_writer w;

	fuzz_text_add_str(&want, "DATA\r\n");
	dot_writer_init(&w);
	if (m->body.len > 0)
		dot_write(&w, m->body.data, m->body.len, fuzz_text_emit, &want);
	dot_write_end(&w, fuzz_text_emit, &want);
	PROPERTY(c->out.len >= want.len);
	PROPERTY(memcmp(c->out.ptr + c->out.len - want.len, want.ptr,
		     want.len) == 0);
	fuzz_text_fini(&want);
}

static void check_delivered(const struct attempt *a)
{
	const struct conn *c = play.conn;
	const char *last;
	size_t start = reply_start(c, &last);

	PROPERTY(!c->closed && c->secure);
	PROPERTY(c->written == c->out.len);
	check_sent(a->m, c);
	PROPERTY(start >= c->asked_at);
	PROPERTY(last[0] == '2' && last[1] >= '0' && last[1] <= '9' &&
	    last[2] >= '0' && last[2] <= '9' &&
	    (last[3] == ' ' || last[3] == '\r'));
}

/* Outside TLS only these are said. */
static void check_clear(const struct conn *c)
{
	struct slice text =
	    slice_of(c->out.ptr, c->secure ? c->secure_at : c->out.len);

	while (text.len > 0) {
		struct slice line = slice_split(&text, '\n');

		PROPERTY(slice_has_prefix(line, "EHLO ") ||
		    slice_eq_str(line, "STARTTLS\r") ||
		    slice_eq_str(line, "QUIT\r"));
	}
}

static void check_now(void)
{
	const struct outbound *o = play.o;

	if (play.closed)
		return;
	PROPERTY((o->attempt != NULL) == (play.attempt != NULL));
	/* The dot waits. */
	PROPERTY(!(o->attempt != NULL && o->body_queued &&
	    play.recorded != NULL && o->client.state == CLIENT_BODY));
}

/* --- what outbound.c calls --- */

void relay_settle(struct relay *r, struct attempt *a,
    const struct verdict *verdict, const char *relayed_via, unsigned conn)
{
	(void)r;
	(void)relayed_via;
	(void)conn;
	PROPERTY(a == play.attempt);
	PROPERTY(verdict->class != VERDICT_NONE ||
	    a->mail.rcpt_verdicts[0].class != VERDICT_NONE);
	if (verdict->class == VERDICT_DELIVERED)
		check_delivered(a);
	if (verdict->class == VERDICT_MSG_FAILED && verdict->code != 0)
		PROPERTY(verdict->code / 100 == 5);
	if (a->recorded != NULL) {
		PROPERTY(play.recorded == NULL);
		play.recorded = a->recorded;
		play.recorded_ctx = a->recorded_ctx;
	}
	message_free(a->m);
	free(a);
	play.attempt = NULL;
	play.n_settled++;
}

void pool_on_ready(struct pool *pool, struct outbound *o)
{
	(void)pool;
	(void)o;
	play.ready = true;
}

void pool_on_free(struct pool *pool, struct outbound *o)
{
	pool_on_ready(pool, o);
}

void pool_on_closed(struct pool *pool, struct outbound *o, bool logged_in,
    const struct verdict *verdict)
{
	(void)pool;
	(void)o;
	(void)logged_in;
	(void)verdict;
	PROPERTY(!play.closed && play.attempt == NULL);
	play.closed = true;
	play.ready = false;
}

void pool_on_transaction(struct pool *pool, int64_t took_us, unsigned n_rcpts)
{
	(void)pool;
	(void)took_us;
	(void)n_rcpts;
}

void pool_count_connect(struct pool *pool, const struct outbound *o, bool ok)
{
	(void)pool;
	(void)o;
	(void)ok;
}

void pool_port_works(struct pool *pool, const struct outbound *o)
{
	(void)pool;
	(void)o;
}

void pool_port_failed(struct pool *pool, const struct outbound *o,
    bool may_pass, const char *reason, const char *advice)
{
	(void)pool;
	(void)o;
	(void)may_pass;
	(void)reason;
	(void)advice;
}

void resolver_report(
    struct resolver *r, const struct resolver_addr *addr, bool ok)
{
	(void)r;
	(void)addr;
	(void)ok;
}

void resolver_cancel(struct resolver *r, void *ctx)
{
	(void)r;
	(void)ctx;
}

struct upstream *upstream_ref(struct upstream *u)
{
	return u;
}

void upstream_unref(struct upstream *u)
{
	(void)u;
}

void outbound_try_connect(struct outbound *o)
{
	o->conn = play.conn = fake_conn_new(&outbound_events, o);
	play.conn->events->on_connected(o);
}

void outbound_connect_failed(
    struct outbound *o, enum conn_end end, const char *reason)
{
	(void)o;
	(void)end;
	(void)reason;
	PROPERTY(!"a connection that was there cannot fail to be");
}

void outbound_on_timer(void *outbound)
{
	(void)outbound;
}

void outbound_path_begin(struct outbound *o, enum path_stage stage)
{
	(void)o;
	(void)stage;
}

void outbound_path_secured(struct outbound *o)
{
	(void)o;
}

void outbound_path_answered(struct outbound *o)
{
	(void)o;
}

bool spool_can_settle(const struct spool *s)
{
	(void)s;
	return play.can_settle;
}

/* The disk: one read at a time, done at the end of the turn. */
static struct {
	void (*done)(void *ctx, int rc, const struct err *err);
	void *ctx;
} disk;

static void disk_done(void *ptr)
{
	struct err err = { .text = "disk" };

	(void)ptr;
	disk.done(disk.ctx, play.read_fails ? -1 : 0, &err);
}

void spool_read_large(struct spool *s, const struct message *m, uint64_t offset,
    size_t len, struct body *out,
    void (*done)(void *ctx, int rc, const struct err *err), void *ctx)
{
	(void)s;
	PROPERTY(offset + len <= m->body.len);
	disk.done = done;
	disk.ctx = ctx;
	if (!play.read_fails)
		body_append(out, m->body.data + offset, len);
	loop_defer(NULL, disk_done, NULL);
}

/* --- operations --- */

static const char *const replies[] = {
	"220 email-smtp.amazonaws.com ESMTP\r\n",
	"250-email-smtp\r\n250-STARTTLS\r\n250-SIZE 40000000\r\n250 Ok\r\n",
	"250-email-smtp\r\n250-8BITMIME\r\n250-AUTH PLAIN LOGIN\r\n250 Ok\r\n",
	"250 Ok\r\n",
	"220 Ready to start TLS\r\n",
	"235 Authentication successful.\r\n",
	"334 VXNlcm5hbWU6\r\n",
	"354 End data with <CR><LF>.<CR><LF>\r\n",
	"250 Ok 0102018e\r\n",
	"454 Throttling failure: Maximum sending rate exceeded.\r\n",
	"421 Timeout waiting for data from client.\r\n",
	"501 Invalid MAIL FROM address provided\r\n",
	"554 Message rejected: Email address is not verified.\r\n",
	"535 Authentication Credentials Invalid\r\n",
	"504 unknown mechanism\r\n",
	"250-email-smtp\r\n250 AUTH LOGIN\r\n",
	"251\r\n",
	"299-a\r\n299 b\r\n",
};

static void give_message(struct fuzz_in *in)
{
	uint8_t flags = fuzz_byte(in);
	struct attempt *a;
	struct slice body;

	if (!play.ready || play.closed || play.n_given == MESSAGES_MAX)
		return;
	play.ready = false;
	play.n_given++;
	a = xcalloc(1, sizeof(*a));
	play.stub.id = play.n_given;
	a->stub = &play.stub;
	a->m = message_new(play.n_given);
	a->m->sender = xstrdup(flags & 1 ? "" : "sender@example.com");
	body = fuzz_bytes(in, flags & 2 ? fuzz_byte(in) : 3);
	body_append(&a->m->body, body.ptr, body.len);
	a->m->size = body.len;
	a->m->large = flags & 4;
	play.rcpts[0] = flags & 8 ? "bad\r\nRSET@x" : "one@example.com";
	play.rcpts[1] = "two@example.com";
	a->mail = (struct client_mail){
		.sender = a->m->sender,
		.body_8bit = flags & 16,
		.size = a->m->size,
		.rcpts = play.rcpts,
		.n_rcpts = flags & 32 ? 2 : 1,
		.rcpt_verdicts = play.verdicts,
	};
	play.attempt = a;
	outbound_send(play.o, a);
}

static void end_connection(uint8_t how)
{
	static const enum conn_end ends[] = { CONN_END_EOF, CONN_END_RESET,
		CONN_END_TIMEOUT, CONN_END_TLS };

	fake_conn_end(play.conn, ends[how % ARRAY_LEN(ends)]);
}

static void hear(const char *reply)
{
	/* As it goes when all is well: what we said has left. */
	fake_conn_flush(play.conn, SIZE_MAX);
	fake_conn_input(play.conn, reply, strlen(reply));
}

static void record_outcome(void)
{
	void (*recorded)(void *ctx) = play.recorded;

	play.recorded = NULL;
	if (recorded != NULL)
		recorded(play.recorded_ctx);
}

static void operate(struct fuzz_in *in)
{
	struct slice text;
	uint8_t op = fuzz_byte(in);

	switch (op % 12) {
	case 0:
	case 1:
		hear(replies[fuzz_byte(in) % ARRAY_LEN(replies)]);
		break;
	case 2:
		text = fuzz_bytes(in, fuzz_byte(in));
		fake_conn_input(play.conn, text.ptr, text.len);
		break;
	case 3:
		fake_conn_flush(play.conn, SIZE_MAX);
		break;
	case 4:
		fake_conn_flush(play.conn, fuzz_byte(in));
		break;
	case 5:
		fake_conn_secured(play.conn);
		break;
	case 6:
		end_connection(fuzz_byte(in));
		break;
	case 7:
		give_message(in);
		break;
	case 8:
		record_outcome();
		break;
	case 9:
		play.can_settle = op & 16;
		break;
	case 10:
		play.read_fails = op & 16;
		break;
	default:
		if (op & 16)
			outbound_drop(play.o, "dropped");
		else if (play.ready)
			outbound_quit(play.o);
		play.ready = false;
		break;
	}
}

static void silent(void *ctx, const char *line)
{
	(void)ctx;
	(void)line;
}

static void set_up(uint8_t flags)
{
	static const struct client_auth auths[] = {
		{ "AGEAYg==", "YQ==", "Yg==" },
		{ NULL, NULL, NULL },
		{ "AGEAYg==", NULL, NULL },
	};

	play = (struct play){ .can_settle = true };
	play.upstream.auth = auths[(flags >> 1) % ARRAY_LEN(auths)];
	play.upstream.options.host = "email-smtp.example.com";
	play.upstream.options.hostname = "relay.example.com";
	play.upstream.options.n_ports = 1;
	play.upstream.options.ports[0].wrapper = flags & 1;
	log_capture(silent, NULL);
	play.o = outbound_open(NULL, &play.relay, &play.upstream, 1);
	fake_loop_turn();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_in in = { data, size };

	set_up(fuzz_byte(&in));
	while (in.len > 0 && !play.closed) {
		operate(&in);
		check_now();
		if (!play.closed)
			fake_loop_turn();
	}
	if (!play.closed)
		outbound_drop(play.o, "the end of the script");
	PROPERTY(play.closed && play.n_settled == play.n_given);
	check_clear(play.conn);
	record_outcome();
	fake_loop_turn();
	fake_conn_free(play.conn);
	return 0;
}
