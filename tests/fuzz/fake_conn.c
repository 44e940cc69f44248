/*
 * Connections and a loop in memory: see the header.  Nothing happens by
 * itself; the target is the peer, the kernel and the clock.
 */
#include "fake_conn.h"

#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

/* --- the loop --- */

static struct deferred {
	void (*fn)(void *ptr);
	void *ptr;
} deferred[64];
static unsigned n_deferred;

void loop_defer(struct loop *loop, void (*fn)(void *ptr), void *ptr)
{
	(void)loop;
	ASSERT(n_deferred < ARRAY_LEN(deferred));
	deferred[n_deferred++] = (struct deferred){ fn, ptr };
}

void fake_loop_turn(void)
{
	while (n_deferred > 0) {
		struct deferred first = deferred[0];

		memmove(deferred, deferred + 1, --n_deferred * sizeof(first));
		first.fn(first.ptr);
	}
}

void loop_timer_init(
    struct loop_timer *t, struct loop *loop, void (*fn)(void *ctx), void *ctx)
{
	*t = (struct loop_timer){ .fn = fn, .ctx = ctx, .loop = loop };
}

void loop_timer_fini(struct loop_timer *t)
{
	(void)t;
}

void loop_timer_set(struct loop_timer *t, int64_t delay_us)
{
	(void)t;
	(void)delay_us;
}

void loop_timer_clear(struct loop_timer *t)
{
	(void)t;
}

/* --- the target's side --- */

struct conn *fake_conn_new(const struct conn_events *events, void *ctx)
{
	struct conn *c = xcalloc(1, sizeof(*c));

	c->events = events;
	c->ctx = ctx;
	return c;
}

void fake_conn_free(struct conn *c)
{
	fuzz_text_fini(&c->in);
	fuzz_text_fini(&c->out);
	free(c->line);
	free(c);
}

static bool is_over(const struct conn *c)
{
	return c->closed || c->flushing;
}

void fake_conn_input(struct conn *c, const char *ptr, size_t len)
{
	if (is_over(c) || len == 0)
		return;
	fuzz_text_add(&c->in, ptr, len);
	if (!c->handshake)
		c->events->on_readable(c->ctx);
}

void fake_conn_flush(struct conn *c, size_t max)
{
	size_t left = c->out.len - c->written;

	if (is_over(c) || left == 0 || max == 0)
		return;
	c->written += max < left ? max : left;
	if (c->written == c->out.len)
		c->asked_at = c->in.len;
	if (c->out.len - c->written <= c->low_water && c->events->on_writable)
		c->events->on_writable(c->ctx);
}

void fake_conn_secured(struct conn *c)
{
	if (is_over(c) || !c->handshake)
		return;
	c->handshake = false;
	c->secure = true;
	c->secure_at = c->out.len;
	c->events->on_secured(c->ctx);
}

void fake_conn_end(struct conn *c, enum conn_end end)
{
	if (!is_over(c))
		c->events->on_end(c->ctx, end, "the end");
}

/* --- net/conn.h --- */

void conn_start_tls(struct conn *c, struct tls_context *tls, const char *host)
{
	(void)tls;
	(void)host;
	PROPERTY(!c->secure && !c->handshake);
	PROPERTY(c->in_at == c->in.len && c->written == c->out.len);
	c->handshake = true;
}

bool conn_input_empty(const struct conn *c)
{
	return c->closed || c->in_at == c->in.len;
}

struct slice conn_peek(struct conn *c)
{
	if (conn_input_empty(c))
		return slice_of("", 0);
	/* In memory of its own, so that a byte read beyond is seen. */
	free(c->line);
	c->line = xmemdup(c->in.ptr + c->in_at, c->in.len - c->in_at);
	return slice_of(c->line, c->in.len - c->in_at);
}

void conn_consume(struct conn *c, size_t n)
{
	if (c->closed)
		return;
	PROPERTY(n <= c->in.len - c->in_at);
	c->in_at += n;
}

void conn_discard_input(struct conn *c)
{
	c->in_at = c->in.len;
}

int conn_read_line(
    struct conn *c, size_t max, struct slice *line, bool *bare_lf)
{
	size_t left = conn_input_empty(c) ? 0 : c->in.len - c->in_at, len;
	const char *p, *lf;
	bool cr, skipped = c->skipping;

	if (left == 0)
		return 0;
	p = c->in.ptr + c->in_at;
	lf = memchr(p, '\n', left);
	if (lf == NULL) {
		bool too_long =
		    left > max + 1 || (left == max + 1 && p[max] != '\r');

		if (!too_long && !c->skipping)
			return 0;
		free(c->line);
		c->line = xmemdup(p, 1);
		*line = slice_of(c->line, 1);
		c->in_at += left;
		c->skipping = true;
		return skipped ? 0 : -1;
	}
	len = (size_t)(lf - p);
	c->line_at = c->in_at;
	c->in_at += len + 1;
	if (skipped) {
		c->skipping = false;
		return conn_read_line(c, max, line, bare_lf);
	}
	cr = len > 0 && p[len - 1] == '\r';
	len -= cr;
	free(c->line);
	c->line = xmemdup(p, len);
	*line = slice_of(c->line, len);
	if (len > max)
		return -1;
	if (bare_lf != NULL)
		*bare_lf = !cr;
	return 1;
}

void conn_write(struct conn *c, const void *data, size_t len)
{
	if (is_over(c))
		return;
	if (c->on_write != NULL)
		c->on_write(c, data, len);
	fuzz_text_add(&c->out, data, len);
}

void conn_write_secret(struct conn *c, const void *data, size_t len)
{
	PROPERTY(c->secure);
	conn_write(c, data, len);
}

size_t conn_output_len(const struct conn *c)
{
	return c->out.len - c->written;
}

uint64_t conn_written(const struct conn *c)
{
	return c->written;
}

void conn_set_low_water(struct conn *c, size_t bytes)
{
	c->low_water = bytes;
}

void conn_deadline(struct conn *c, int64_t delay_us)
{
	c->deadline_us = delay_us;
}

const char *conn_peer_ip(const struct conn *c)
{
	(void)c;
	return "127.0.0.1";
}

void conn_close(struct conn *c)
{
	if (c == NULL)
		return;
	PROPERTY(!c->closed);
	c->closed = true;
}

void conn_close_after_flush(struct conn *c)
{
	PROPERTY(!is_over(c));
	c->flushing = true;
}
