/*
 * The owner's side of a connection's buffers: lines and chunks out of the
 * input, bytes into the output.
 *
 * Works on the buffers only; conn.c learns by conn_input_taken() and
 * conn_output_added() that there is room or work.  Loop thread only.
 * Invariant: the first `scanned` bytes of the input hold no LF, so that a line
 * which drips in is searched once.
 */
#include "net/conn_private.h"

#include "base/mem.h"

#include <event2/buffer.h>
#include <stdlib.h>
#include <string.h>

size_t conn_input_len(const struct conn *c)
{
	return c->state == CONN_CLOSED ? 0 : evbuffer_get_length(c->in);
}

bool conn_input_empty(const struct conn *c)
{
	return conn_input_len(c) == 0;
}

static void take(struct conn *c, size_t n)
{
	evbuffer_drain(c->in, n);
	c->scanned = n < c->scanned ? c->scanned - n : 0;
	conn_input_taken(c);
}

void conn_discard_input(struct conn *c)
{
	take(c, conn_input_len(c));
}

struct slice conn_peek(struct conn *c)
{
	struct evbuffer_iovec head;

	if (conn_input_empty(c) || evbuffer_peek(c->in, -1, NULL, &head, 1) < 1)
		return slice_of("", 0);
	return slice_of(head.iov_base, head.iov_len);
}

void conn_consume(struct conn *c, size_t n)
{
	/* After conn_close() in the middle of it all, nothing is left. */
	if (c->state == CONN_CLOSED)
		return;
	ASSERT(n <= conn_input_len(c));
	take(c, n);
}

/* Where the first LF is, or -1. */
static ssize_t find_lf(struct conn *c)
{
	struct evbuffer_ptr from, found;
	size_t len = conn_input_len(c);

	if (c->scanned >= len ||
	    evbuffer_ptr_set(c->in, &from, c->scanned, EVBUFFER_PTR_SET) < 0)
		return -1;
	found = evbuffer_search(c->in, "\n", 1, &from);
	if (found.pos < 0)
		c->scanned = len;
	return found.pos;
}

static void copy_line(struct conn *c, size_t len)
{
	if (len > c->line_size) {
		c->line_size = len < 512 ? 512 : len;
		free(c->line);
		c->line = xmalloc(c->line_size);
	}
	evbuffer_copyout(c->in, c->line, len);
}

/* No LF is here: more than max bytes are never a line, but CR may end max. */
static bool too_long_already(struct conn *c, size_t max)
{
	size_t len = conn_input_len(c);
	struct evbuffer_ptr last;
	struct evbuffer_iovec byte;

	if (len != max + 1)
		return len > max;
	if (evbuffer_ptr_set(c->in, &last, max, EVBUFFER_PTR_SET) < 0 ||
	    evbuffer_peek(c->in, 1, &last, &byte, 1) < 1)
		return true;
	return *(const char *)byte.iov_base != '\r';
}

int conn_read_line(
    struct conn *c, size_t max, struct slice *line, bool *bare_lf)
{
	ssize_t lf = find_lf(c);
	size_t len;
	bool cr;

	ASSERT(max + 2 <= CONN_INPUT_LOW_BYTES);
	if (c->skipping) {
		take(c, lf < 0 ? conn_input_len(c) : (size_t)lf + 1);
		if (lf < 0)
			return 0;
		c->skipping = false;
		lf = find_lf(c);
	}
	if (lf < 0) {
		if (!too_long_already(c, max))
			return 0;
		c->skipping = true;
		copy_line(c, 1);
		*line = slice_of(c->line, 1);
		conn_discard_input(c);
		return -1;
	}
	len = (size_t)lf;
	if (len > max + 1) {
		copy_line(c, 1);
		*line = slice_of(c->line, 1);
		take(c, len + 1);
		return -1;
	}
	copy_line(c, len + 1);
	take(c, len + 1);
	cr = len > 0 && c->line[len - 1] == '\r';
	if (cr)
		len--;
	*line = slice_of(c->line, len);
	if (len > max)
		return -1;
	if (bare_lf)
		*bare_lf = !cr;
	return 1;
}

/* Nobody will ever write it. */
static bool output_closed(const struct conn *c)
{
	return c->orphan || c->state >= CONN_DOOMED;
}

void conn_write(struct conn *c, const void *data, size_t len)
{
	if (len == 0 || output_closed(c))
		return;
	if (evbuffer_add(c->out, data, len) < 0)
		fatal("out of memory: output");
	conn_output_added(c);
}

struct reference {
	void (*release)(void *arg);
	void *arg;
};

static void release_reference(const void *data, size_t len, void *extra)
{
	struct reference *ref = extra;

	(void)data;
	(void)len;
	ref->release(ref->arg);
	free(ref);
}

void conn_write_ref(struct conn *c, const void *data, size_t len,
    void (*release)(void *arg), void *arg)
{
	struct reference *ref;

	if (len == 0 || output_closed(c)) {
		release(arg);
		return;
	}
	ref = xmalloc(sizeof(*ref));
	*ref = (struct reference){ release, arg };
	if (evbuffer_add_reference(c->out, data, len, release_reference, ref) <
	    0)
		fatal("out of memory: output");
	conn_output_added(c);
}

struct secret {
	size_t len;
	char data[];
};

static void release_secret(void *arg)
{
	struct secret *secret = arg;

	explicit_bzero(secret->data, secret->len);
	free(secret);
}

void conn_write_secret(struct conn *c, const void *data, size_t len)
{
	struct secret *secret = xmalloc(sizeof(*secret) + len);

	secret->len = len;
	memcpy(secret->data, data, len);
	conn_write_ref(c, secret->data, len, release_secret, secret);
}

size_t conn_output_len(const struct conn *c)
{
	return evbuffer_get_length(c->out);
}

void conn_set_low_water(struct conn *c, size_t bytes)
{
	c->low_water = bytes;
}

uint64_t conn_written(const struct conn *c)
{
	return c->written;
}
