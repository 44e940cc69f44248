/*
 * What outcomes said of messages that are not finished: recipients that are
 * done, hold and release.  Most messages have no entry.
 *
 * The scan fills one to give messages their states; the loop keeps one so that
 * a copy made by compaction carries the states of its moment, after which
 * older outcomes are not needed for it.  Whoever owns it runs it.
 */
#include "queue/spool_private.h"

#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

struct state {
	bool hold_known, held;
	unsigned n_rcpts; /* letters; those beyond are pending */
	char *rcpts;
	char *reason; /* of the hold; NULL: not known */
};

static struct state *get(const struct spool_states *s, uint64_t id)
{
	uint64_t value;

	if (!idmap_get(&s->map, id, &value))
		return NULL;
	return (struct state *)(uintptr_t)value;
}

static struct state *get_or_add(struct spool_states *s, uint64_t id)
{
	struct state *state = get(s, id);

	if (state == NULL) {
		state = xcalloc(1, sizeof(*state));
		idmap_put(&s->map, id, (uint64_t)(uintptr_t)state);
	}
	return state;
}

static void set_rcpt(struct state *state, unsigned i, enum rcpt_state value)
{
	if (i >= state->n_rcpts) {
		state->rcpts = xrealloc(state->rcpts, i + 1);
		memset(state->rcpts + state->n_rcpts, RCPT_PENDING,
		    i + 1 - state->n_rcpts);
		state->n_rcpts = i + 1;
	}
	state->rcpts[i] = (char)value;
}

void states_note(struct spool_states *s, uint64_t id, enum record_event event,
    const uint16_t *rcpts, unsigned n_rcpts)
{
	struct state *state;

	switch (event) {
	case RECORD_SENT:
	case RECORD_FAILED:
		state = get_or_add(s, id);
		for (unsigned i = 0; i < n_rcpts; i++)
			set_rcpt(state, rcpts[i],
			    event == RECORD_SENT ? RCPT_SENT : RCPT_FAILED);
		break;
	case RECORD_HOLD:
	case RECORD_RELEASE:
		state = get_or_add(s, id);
		state->hold_known = true;
		state->held = event == RECORD_HOLD;
		break;
	case RECORD_DELETE:
	case RECORD_VOID:
	case RECORD_OTHER:
		break;
	}
}

void states_keep(struct spool_states *s, const struct message *m, bool held)
{
	struct state *state;

	if (!held && message_n_pending(m) == m->n_rcpts)
		return;
	state = get_or_add(s, m->id);
	state->hold_known = true;
	state->held = held;
	for (unsigned i = 0; i < m->n_rcpts; i++)
		if (m->rcpts[i].state != RCPT_PENDING)
			set_rcpt(state, i, m->rcpts[i].state);
}

void states_apply(const struct spool_states *s, struct message *m, bool *held)
{
	const struct state *state = get(s, m->id);

	if (state == NULL)
		return;
	for (unsigned i = 0; i < state->n_rcpts && i < m->n_rcpts; i++)
		if (state->rcpts[i] != RCPT_PENDING)
			m->rcpts[i].state = (enum rcpt_state)state->rcpts[i];
	if (state->hold_known)
		*held = state->held;
}

void states_note_reason(
    struct spool_states *s, uint64_t id, struct slice reason)
{
	struct state *state = get(s, id);

	if (state == NULL)
		return;
	free(state->reason);
	state->reason =
	    state->held && reason.len > 0 ? slice_dup(reason) : NULL;
}

const char *states_reason(const struct spool_states *s, uint64_t id)
{
	const struct state *state = get(s, id);

	return state != NULL ? state->reason : NULL;
}

static void state_free(struct state *state)
{
	free(state->reason);
	free(state->rcpts);
	free(state);
}

void states_drop(struct spool_states *s, uint64_t id)
{
	uint64_t value;

	if (idmap_remove(&s->map, id, &value))
		state_free((struct state *)(uintptr_t)value);
}

void states_fini(struct spool_states *s)
{
	struct idmap_slot slot = { 0 };

	while (idmap_next(&s->map, slot.id, &slot))
		state_free((struct state *)(uintptr_t)slot.value);
	idmap_fini(&s->map);
}
