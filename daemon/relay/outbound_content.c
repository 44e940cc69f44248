/*
 * The content of the message that a connection carries: fed to the socket
 * chunk by chunk, stuffed, the dot behind it.  Part of relay/outbound; loop
 * thread.  A large one is read from the disk one chunk ahead; a connection that
 * ends meanwhile is freed when the disk has answered.
 */
#include "relay/outbound.h"

#include "base/crash.h"
#include "base/log.h"

static void emit(void *ctx, const char *ptr, size_t len)
{
	struct outbound *o = ctx;

	conn_write(o->conn, ptr, len);
}

/* All of the content has been given to the socket: now the dot. */
static void end_body(struct outbound *o)
{
	o->body_queued = true;
	/* The dot may need a line end before it: this is where it can begin. */
	o->dot_position = conn_written(o->conn) + conn_output_len(o->conn);
	dot_write_end(&o->dot, emit, o);
	o->body_end = conn_written(o->conn) + conn_output_len(o->conn);
}

static void read_ahead(struct outbound *o, uint64_t offset);

static void take_large(struct outbound *o, int rc, const struct err *err)
{
	o->reading = false;
	if (o->orphan) {
		loop_defer(o->relay->loop, outbound_free, o);
		return;
	}
	if (o->attempt == NULL || o->attempt->stub->id != o->reading_id) {
		/* Read for a message that was refused before its content. */
		o->large.len = 0;
		if (o->attempt != NULL && o->attempt->m->large)
			read_ahead(o, 0);
		return;
	}
	if (rc != 0) {
		log_msg(LOG_LEVEL_ERROR, LOG_SMTP, o->attempt->stub->id,
		    "content cannot be read: %s", err->text);
		outbound_lose(
		    o, LOSS_SHUTDOWN, "content cannot be read from the spool");
		return;
	}
	if (o->client.state == CLIENT_BODY)
		outbound_feed(o);
}

static void on_large(void *ctx, int rc, const struct err *err)
{
	struct crash_mark before = outbound_enter(ctx);

	take_large(ctx, rc, err);
	crash_leave(before);
}

/* Ask the disk for the next chunk unless one is here or on its way. */
static void read_ahead(struct outbound *o, uint64_t offset)
{
	const struct message *m = o->attempt->m;
	uint64_t left = m->size - offset;

	if (o->reading || o->large.len > 0 || left == 0)
		return;
	o->reading = true;
	o->reading_id = m->id;
	spool_read_large(o->relay->spool, m, offset,
	    left < OUTBOUND_CHUNK ? (size_t)left : OUTBOUND_CHUNK, &o->large,
	    on_large, o);
}

/*
 * Fills the output buffer up to one chunk.  Called again when it has drained,
 * and when the disk has delivered.
 */
void outbound_feed(struct outbound *o)
{
	const struct message *m = o->attempt->m;

	while (!o->body_queued && conn_output_len(o->conn) < OUTBOUND_CHUNK) {
		uint64_t left = m->size - o->body_offset;
		size_t n =
		    left < OUTBOUND_CHUNK ? (size_t)left : OUTBOUND_CHUNK;

		if (left == 0 && !spool_can_settle(o->relay->spool)) {
			/* Without its dot nothing has been sent. */
			outbound_lose(
			    o, LOSS_SHUTDOWN, "outcomes cannot be recorded");
			return;
		}
		if (left == 0) {
			if (o->unrecorded == NULL && !o->dot_waits)
				end_body(o);
			break; /* on_recorded() or the timer comes back */
		}
		if (!m->large) {
			dot_write(
			    &o->dot, m->body.data + o->body_offset, n, emit, o);
			o->body_offset += n;
			continue;
		}
		if (o->reading)
			break;
		if (o->large.len == 0) {
			read_ahead(o, o->body_offset);
			break;
		}
		dot_write(&o->dot, o->large.data, o->large.len, emit, o);
		o->body_offset += o->large.len;
		o->large.len = 0;
		read_ahead(o, o->body_offset);
	}
	outbound_set_deadline(o);
}

/* BODY becomes DOT when the kernel has all of it. */
void outbound_check_sent(struct outbound *o)
{
	if (o->client.state != CLIENT_BODY || !o->body_queued ||
	    conn_written(o->conn) < o->body_end)
		return;
	client_on_body_sent(&o->client);
	outbound_note_step(o);
	/* What ends behind the dot but began before is no answer to it. */
	if (o->parser.n_lines > 0 || o->begun_early)
		outbound_lose(
		    o, LOSS_PROTOCOL, "a reply began within the content");
	else
		outbound_set_deadline(o);
}

void outbound_read_ahead(struct outbound *o)
{
	read_ahead(o, 0);
}
