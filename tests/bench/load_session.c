/*
 * load_session.c - the SMTP dialogue of one session.
 *
 * A session takes a number, keeps it (.holds) until the fate of that message
 * is known, and with --retry carries it over connections: so what waits to be
 * sent again needs no memory of its own. A 250 to the final dot is recorded
 * before any other action follows. Functions here change the state; only
 * pump() writes, and it is called once all that could be read was handled.
 * A closed session is reopened by the loop alone, never from within here.
 */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "load.h"

static void put(struct session *s, const char *text)
{
	size_t size = strlen(text);

	memcpy(s->out + s->out_size, text, size);
	s->out_size += size;
}

/* Closes the connection; the loop reopens it if there is work left. */
static void rest(struct session *s, uint64_t delay)
{
	struct run *run = s->run;

	ready_remove(s);
	if (s->fd >= 0)
		close(s->fd);
	s->fd = -1;
	s->want_out = false;
	s->out_used = s->out_size = 0;
	if (!s->holds && run->next >= run->opt.messages) {
		s->state = S_DONE;
		run->active--;
		return;
	}
	s->state = S_WAIT;
	s->wake = run->now + delay;
	if (!delay)
		run->wake_soon = true;
}

static void fate_known(struct session *s)
{
	s->holds = false;
	s->run->stats.end = clock_ns();
}

/* The message in hand did not get through, for a reason that may pass. */
static void not_now(struct session *s)
{
	if (!s->holds || s->run->opt.retry)
		return;
	s->run->stats.abandoned++;
	fate_known(s);
}

/* Ends a connection that failed. */
void session_drop(struct session *s, enum error_kind kind)
{
	struct run *run = s->run;
	bool no_start = s->state == S_CONNECT || s->state == S_GREETING ||
	    s->state == S_EHLO;

	run->stats.errors[kind]++;
	if (s->state == S_DOT)
		run->stats.in_doubt++;
	if (s->state == S_QUIT) {
		rest(s, s->holds ? RETRY_DELAY : 0);
		return;
	}
	not_now(s);
	rest(s, RETRY_DELAY);
	if (no_start && !run->opt.retry && s->state != S_DONE) {
		s->state = S_DONE;
		run->active--;
	}
}

void session_quit(struct session *s)
{
	ready_remove(s);
	put(s, "QUIT\r\n");
	s->state = S_QUIT;
	s->since = s->run->now;
}

static void start_message(struct session *s)
{
	struct run *run = s->run;

	if (!s->holds) {
		s->number = run->next++;
		s->holds = true;
		s->attempts = 0;
	}
	if (s->attempts++)
		run->stats.resent++;
	else
		record_sent(run, s->number);
	s->done++;
	s->command = s->step = 0;
	s->refused = 0;
	s->state = S_ENVELOPE;
	s->since = run->now;
}

/* The server awaits a command: chooses what comes next. */
void session_go(struct session *s)
{
	struct run *run = s->run;
	const struct options *opt = &run->opt;

	ready_remove(s);
	s->state = S_READY;
	if ((!s->holds && run->next >= opt->messages) ||
	    (opt->per_session && s->done >= opt->per_session))
		session_quit(s);
	else if (s->holds || opt->rate <= 0 || run->due > run->next)
		start_message(s);
	else
		ready_add(s);
}

static void refused(struct session *s, int code, const struct reply *reply)
{
	struct run *run = s->run;

	if (reply)
		note(run, "%d %.*s", code, (int)reply->length, reply->text);
	if (code / 100 == 4) {
		run->stats.errors[ERR_4XX]++;
		not_now(s);
	} else {
		run->stats.errors[ERR_5XX]++;
		run->stats.failed++;
		fate_known(s);
	}
}

static void bad_reply(struct session *s, const struct reply *reply)
{
	if (reply)
		note(s->run, "reply out of place: %d %.*s", reply->code,
		    (int)reply->length, reply->text);
	else
		note(s->run, "malformed reply");
	session_drop(s, ERR_BAD_REPLY);
}

/* A refusal to the connection as such: greeting, EHLO, or any 421. */
static void turned_away(struct session *s, const struct reply *reply)
{
	note(s->run, "%d %.*s", reply->code, (int)reply->length, reply->text);
	session_drop(s,
	    s->state == S_READY          ? ERR_IDLE
		: reply->code / 100 == 4 ? ERR_4XX
					 : ERR_5XX);
}

/* After a refusal in the envelope: RSET, or QUIT before another try. */
static void give_up_envelope(struct session *s, bool content_awaited)
{
	refused(s, s->refused, NULL);
	if (content_awaited) {
		rest(s, s->holds ? RETRY_DELAY : 0);
	} else if (s->holds) {
		session_quit(s);
	} else {
		put(s, "RSET\r\n");
		s->state = S_RSET;
	}
}

static void on_envelope(struct session *s, const struct reply *reply)
{
	const struct options *opt = &s->run->opt;
	unsigned int data = opt->rcpts + 1, step = s->step++;
	int code = reply->code;
	bool good =
	    step == data ? code == 354 : code == 250 || (step && code == 251);

	if (!good && code < 400) {
		bad_reply(s, reply);
		return;
	}
	if (!good && !s->refused) {
		note(s->run, "%d %.*s", code, (int)reply->length, reply->text);
		s->refused = code;
	}
	if (s->refused && (!opt->pipeline || step == data)) {
		give_up_envelope(s, code == 354);
	} else if (step == data) {
		generator_start(s->run, &s->gen, s->number);
		s->state = S_BODY;
	}
}

static void on_dot(struct session *s, const struct reply *reply)
{
	struct run *run = s->run;
	uint64_t now;

	if (reply->code != 250 && reply->code < 400) {
		bad_reply(s, reply);
		return;
	}
	if (reply->code == 250) {
		now = clock_ns();
		record_acked(run, s->number, reply);
		stats_latency(&run->stats, now - s->dot_at);
		run->stats.acked++;
		run->stats.bytes += s->gen.total;
		s->holds = false;
		run->stats.end = now;
	} else {
		refused(s, reply->code, reply);
	}
	if (s->holds)
		session_quit(s);
	else
		session_go(s);
}

static void on_ehlo(struct session *s, const struct reply *reply)
{
	if (reply->code != 250) {
		bad_reply(s, reply);
		return;
	}
	if (s->run->opt.pipeline && !s->reader.pipelining)
		die("--pipeline: the server does not offer PIPELINING");
	session_go(s);
}

static void on_reply(struct session *s, const struct reply *reply)
{
	if (reply->code == 421 ||
	    (reply->code >= 400 &&
		(s->state == S_GREETING || s->state == S_EHLO))) {
		turned_away(s, reply);
		return;
	}
	switch (s->state) {
	case S_GREETING:
		if (reply->code != 220)
			break;
		put(s, "EHLO load.test\r\n");
		s->state = S_EHLO;
		return;
	case S_EHLO:
		on_ehlo(s, reply);
		return;
	case S_ENVELOPE:
		if (s->step >= s->command)
			break;
		on_envelope(s, reply);
		return;
	case S_BODY: /* a refusal before the dot: no way but to close */
		if (reply->code < 400)
			break;
		refused(s, reply->code, reply);
		rest(s, s->holds ? RETRY_DELAY : 0);
		return;
	case S_DOT:
		on_dot(s, reply);
		return;
	case S_RSET:
		if (reply->code != 250)
			break;
		session_go(s);
		return;
	case S_QUIT:
		if (reply->code != 221)
			break;
		rest(s, s->holds ? RETRY_DELAY : 0);
		return;
	default:
		break;
	}
	bad_reply(s, reply);
}

/* Fills the output buffer with what may be sent before the next reply. */
static void fill(struct session *s)
{
	struct run *run = s->run;
	unsigned int data = run->opt.rcpts + 1;

	if (s->out_used)
		return;
	while (s->state == S_ENVELOPE && s->command <= data &&
	    (run->opt.pipeline || s->command == s->step) &&
	    run->out_room - s->out_size >= UNIT_MAX)
		s->out_size += make_command(
		    run, s->number, s->command++, s->out + s->out_size);
	if (s->state == S_BODY && s->gen.part != GEN_DONE &&
	    run->out_room - s->out_size >= UNIT_MAX)
		s->out_size += generator_fill(run, &s->gen,
		    s->out + s->out_size, run->out_room - s->out_size);
}

/* Writes all that may be written now: false when the connection is lost. */
static bool pump(struct session *s)
{
	ssize_t n;

	for (;;) {
		fill(s);
		if (s->out_used == s->out_size)
			break;
		n = send(s->fd, s->out + s->out_used, s->out_size - s->out_used,
		    MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			break;
		if (n < 0)
			return false;
		s->out_used += (size_t)n;
		if (s->out_used == s->out_size)
			s->out_used = s->out_size = 0;
	}
	if (s->state == S_BODY && s->gen.part == GEN_DONE && !s->out_size) {
		s->state = S_DOT;
		s->dot_at = clock_ns();
	}
	watch_output(s, s->out_size != 0);
	return true;
}

/*
 * Reads and handles all replies at hand. True while the connection lives;
 * a session closed meanwhile has no descriptor.
 */
static bool take_replies(struct session *s)
{
	struct reader *in = &s->reader;
	struct reply reply;
	bool more = true;
	ssize_t n;
	int got;

	while (more) {
		n = recv(
		    s->fd, in->buf + in->size, sizeof(in->buf) - in->size, 0);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return true;
		if (n <= 0) {
			session_drop(s,
			    s->state == S_READY      ? ERR_IDLE
				: s->state == S_QUIT ? ERR_QUIT
						     : ERR_LOST);
			return false;
		}
		in->size += (size_t)n;
		more = in->size == sizeof(in->buf);
		while ((got = reader_next(in, &reply)) > 0) {
			on_reply(s, &reply);
			if (s->fd < 0)
				return false;
		}
		if (got < 0) {
			bad_reply(s, NULL);
			return false;
		}
	}
	return true;
}

void session_readable(struct session *s)
{
	s->since = s->run->now;
	if (take_replies(s) && !pump(s))
		session_writable(s);
}

/* Also where a failed write ends: what the server said last is read first. */
void session_writable(struct session *s)
{
	s->since = s->run->now;
	if (pump(s))
		return;
	if (take_replies(s))
		session_drop(s, s->state == S_QUIT ? ERR_QUIT : ERR_LOST);
}

void session_connected(struct session *s)
{
	reader_reset(&s->reader);
	s->run->stats.connections++;
	s->done = 0;
	s->state = S_GREETING;
	s->since = s->run->now;
}
