/*
 * Messages in memory: the whole one, its short form that waits in the queue,
 * and the buffer that holds content.
 *
 * A message owns every string and its body; a stub owns its recipient states,
 * its last reply and, while the content is kept for the first attempt, the
 * loaded message.  What bodies have allocated is counted in STAT_BODY_BYTES,
 * which admission looks at.  Pure memory; messages pass between threads with
 * the jobs that carry them, stubs never leave the loop thread.
 */
#include "queue/message.h"

#include "base/mem.h"
#include "base/stat.h"
#include "queue/reply.h"

#include <stdlib.h>
#include <string.h>

void body_init(struct body *b)
{
	*b = (struct body){ 0 };
}

void body_fini(struct body *b)
{
	if (b->size > 0)
		stat_add(STAT_BODY_BYTES, -(int64_t)b->size);
	free(b->data);
	body_init(b);
}

char *body_reserve(struct body *b, size_t more)
{
	size_t want = b->len + more;
	size_t size = b->size;

	ASSERT(want >= b->len);
	/* Room for nothing is a place, too. */
	if (want > size || b->data == NULL) {
		if (size < 1024)
			size = 1024;
		while (size < want)
			size *= 2;
		b->data = xrealloc(b->data, size);
		stat_add(STAT_BODY_BYTES, (int64_t)(size - b->size));
		b->size = size;
	}
	return b->data + b->len;
}

void body_append(struct body *b, const void *data, size_t len)
{
	if (len == 0)
		return;
	memcpy(body_reserve(b, len), data, len);
	b->len += len;
}

void body_move(struct body *to, struct body *from)
{
	body_fini(to);
	*to = *from;
	body_init(from);
}

struct message *message_new(uint64_t id)
{
	struct message *m = xcalloc(1, sizeof(*m));

	m->id = id;
	body_init(&m->body);
	return m;
}

void message_free(struct message *m)
{
	if (m == NULL)
		return;
	for (unsigned i = 0; i < m->n_rcpts; i++) {
		free(m->rcpts[i].addr);
		free(m->rcpts[i].orig);
	}
	free(m->rcpts);
	free(m->sender);
	free(m->peer);
	free(m->helo);
	free(m->message_id);
	body_fini(&m->body);
	free(m);
}

void message_add_rcpt(struct message *m, const char *addr)
{
	/* The array doubles whenever its length is a power of two. */
	if ((m->n_rcpts & (m->n_rcpts - 1)) == 0) {
		size_t size = m->n_rcpts > 0 ? 2 * (size_t)m->n_rcpts : 1;

		m->rcpts = xrealloc(m->rcpts, size * sizeof(*m->rcpts));
	}
	m->rcpts[m->n_rcpts++] = (struct rcpt){
		.addr = xstrdup(addr),
		.state = RCPT_PENDING,
	};
}

void message_set_orig(struct message *m, const char *orig)
{
	struct rcpt *last;

	ASSERT(m->n_rcpts > 0);
	last = &m->rcpts[m->n_rcpts - 1];
	free(last->orig);
	last->orig = orig != NULL ? xstrdup(orig) : NULL;
}

unsigned message_n_pending(const struct message *m)
{
	unsigned n = 0;

	for (unsigned i = 0; i < m->n_rcpts; i++)
		n += m->rcpts[i].state == RCPT_PENDING;
	return n;
}

bool message_in_memory(const struct message *m)
{
	return !m->large && m->body.len == m->size;
}

struct stub *stub_new(const struct message *m, int64_t arrival_us)
{
	struct stub *s = xcalloc(1, sizeof(*s));

	ASSERT(m->n_rcpts > 0 && m->n_rcpts <= UINT16_MAX);
	s->id = m->id;
	s->arrival_us = arrival_us;
	s->ref = m->ref;
	s->size = m->size > UINT32_MAX ? UINT32_MAX : (uint32_t)m->size;
	s->n_rcpts = (uint16_t)m->n_rcpts;
	s->state = STUB_NEW;
	stub_keep_rcpts(s, m);
	return s;
}

void stub_free(struct stub *s)
{
	if (s == NULL)
		return;
	free(s->rcpt_states);
	reply_drop(s->last_reply);
	message_free(s->loaded);
	free(s);
}

void stub_apply_rcpts(const struct stub *s, struct message *m)
{
	ASSERT(s->n_rcpts == m->n_rcpts);
	for (unsigned i = 0; i < m->n_rcpts; i++)
		m->rcpts[i].state = s->rcpt_states != NULL
		    ? (enum rcpt_state)s->rcpt_states[i]
		    : RCPT_PENDING;
}

void stub_keep_rcpts(struct stub *s, const struct message *m)
{
	ASSERT(s->n_rcpts == m->n_rcpts);
	if (message_n_pending(m) == m->n_rcpts) {
		free(s->rcpt_states);
		s->rcpt_states = NULL;
		return;
	}
	if (s->rcpt_states == NULL)
		s->rcpt_states = xmalloc(s->n_rcpts);
	for (unsigned i = 0; i < m->n_rcpts; i++)
		s->rcpt_states[i] = (char)m->rcpts[i].state;
}
