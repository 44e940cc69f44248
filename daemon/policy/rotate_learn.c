/*
 * Learning where SES ends sessions: the evidence, the thresholds, the scouts.
 *
 * Pure; owns only its struct.  Both thresholds go by the same rules, which are
 * below as a struct: messages and microseconds are int64_t alike.  Invariants:
 * a limit is 0 or at least its floor; limit <= cut; at most one scout at a time
 * for each.
 */
#include "policy/rotate_learn.h"

#include "base/clock.h"
#include "policy/rotate.h"

/* Losses that make a pattern, and how far apart in time they have to lie: what
 * happens in one moment has one cause, and that is the network. */
#define PATTERN 4
#define MOMENT_US (1 * US_PER_S)
#define LOSS_KEPT_US (3600 * US_PER_S)
/* Whoever came that near to the configured limit has met no other. */
#define NEARLY 20
#define SCOUT_WAIT_MIN_US (600 * US_PER_S)
#define SCOUT_WAIT_MAX_US (4 * 3600 * US_PER_S)

/* Parts of a value are 1/n of it, but at least `unit`. */
struct dimension {
	int64_t floor, unit;
	int margin; /* the limit stays below the cut by that part */
	int alike; /* losses within that part of each other are */
	int step; /* a scout goes that far beyond the cut */
};

static const struct dimension of_messages = {
	.floor = ROTATE_FLOOR_MESSAGES,
	.unit = 1,
	.margin = 16,
	.alike = 20,
	.step = 8,
};

static const struct dimension of_age = {
	.floor = ROTATE_FLOOR_US,
	.unit = 100 * US_PER_MS,
	.margin = 10,
	.alike = 10,
	.step = 8,
};

static int64_t part(const struct dimension *d, int64_t value, int divisor)
{
	int64_t n = value / divisor;

	return n > d->unit ? n : d->unit;
}

static void set_limit(const struct dimension *d, struct rotate_threshold *t,
    int64_t cut, int64_t limit)
{
	t->cut = cut;
	t->limit = limit > d->floor ? limit : d->floor;
	if (t->cut < t->limit)
		t->cut = t->limit;
}

/* --- losses --- */

static void forget_losses(struct rotate_threshold *t)
{
	for (unsigned i = 0; i < ROTATE_LOSSES; i++)
		t->losses[i].at_us = 0;
}

/* Connections come past `value`: what was lost well before it was chance. */
static void come_past(const struct dimension *d, struct rotate_threshold *t,
    int64_t value, int divisor, int64_t now_us)
{
	for (unsigned i = 0; i < ROTATE_LOSSES; i++) {
		struct rotate_loss *loss = &t->losses[i];
		int64_t room = divisor > 0 ? part(d, loss->value, divisor) : 0;

		if (loss->at_us != 0 &&
		    (loss->value + room < value ||
			now_us - loss->at_us > LOSS_KEPT_US))
			loss->at_us = 0;
	}
}

static bool is_alike(const struct dimension *d, int64_t a, int64_t b)
{
	int64_t low = a < b ? a : b, high = a < b ? b : a;

	return high - low <= part(d, low, d->alike);
}

static void add_loss(const struct dimension *d, struct rotate_threshold *t,
    int64_t value, int64_t now_us)
{
	struct rotate_loss *loss;

	for (unsigned i = 0; i < ROTATE_LOSSES; i++) {
		loss = &t->losses[i];
		if (loss->at_us == 0 || now_us - loss->at_us >= MOMENT_US ||
		    !is_alike(d, loss->value, value))
			continue;
		if (value < loss->value)
			loss->value = value;
		return;
	}
	loss = &t->losses[t->next_loss++ % ROTATE_LOSSES];
	/* 0 stands for none. */
	*loss = (struct rotate_loss){ value, now_us != 0 ? now_us : 1 };
}

/* The losses that are like the newest one. */
struct pattern {
	int64_t lowest;
	int64_t spread; /* in thousandths of it; -1: there is no pattern */
};

static struct pattern find_pattern(
    const struct dimension *d, const struct rotate_threshold *t, int64_t value)
{
	int64_t low = value, high = value, last_us = INT64_MIN;
	unsigned n = 0;

	/* From the oldest on. */
	for (unsigned i = 0; i < ROTATE_LOSSES; i++) {
		const struct rotate_loss *loss =
		    &t->losses[(t->next_loss + i) % ROTATE_LOSSES];

		if (loss->at_us == 0 || !is_alike(d, loss->value, value))
			continue;
		low = loss->value < low ? loss->value : low;
		high = loss->value > high ? loss->value : high;
		if (last_us == INT64_MIN || loss->at_us - last_us >= MOMENT_US)
			n++;
		last_us = loss->at_us;
	}
	return (struct pattern){
		low,
		n >= PATTERN ? (high - low) * 1000 / low : -1,
	};
}

/* --- thresholds --- */

/* It was cut there: below it from now on.  true: the limit moved. */
static bool cut_at(const struct dimension *d, struct rotate_threshold *t,
    int64_t value, bool by_scout, int64_t now_us)
{
	int64_t before = t->limit;

	if (t->limit == 0 || value - part(d, value, d->margin) < t->limit)
		set_limit(d, t, value, value - part(d, value, d->margin));
	else if (value < t->cut)
		t->cut = value;
	if (by_scout && t->wait_us <= SCOUT_WAIT_MAX_US / 2)
		t->wait_us *= 2;
	t->next_scout_us = now_us + t->wait_us;
	forget_losses(t);
	return t->limit != before;
}

/* One came well past the cut: there is none, or it is further up. */
static bool came_to(const struct dimension *d, struct rotate_threshold *t,
    int64_t value, int64_t configured, int64_t now_us)
{
	if (t->limit == 0)
		return false;
	if (value <= t->cut)
		return false;
	set_limit(d, t, value, value);
	t->wait_us = t->wait_us / 2 > SCOUT_WAIT_MIN_US ? t->wait_us / 2
							: SCOUT_WAIT_MIN_US;
	t->next_scout_us = now_us + t->wait_us;
	if (value >= configured - configured / NEARLY)
		t->limit = t->cut = 0;
	return true;
}

/* What a connection may do that is no scout. */
static int64_t allowed(const struct rotate_options *options,
    const struct rotate_threshold *t, int64_t configured)
{
	return options->adaptive && t->limit != 0 && t->limit < configured
	    ? t->limit
	    : configured;
}

/* One dimension of an end, all but the pattern. */
struct view {
	const struct dimension *d;
	struct rotate_threshold *t;
	int64_t value, open, configured;
	bool by_scout;
};

static struct view view_of(const struct dimension *d,
    struct rotate_threshold *t, int64_t value, int64_t open, int64_t configured,
    unsigned number)
{
	struct view v = { d, t, value, open, configured, t->scout == number };

	if (v.by_scout)
		t->scout = 0;
	return v;
}

static bool take_end(const struct view *v, enum rotate_end end, int64_t now_us)
{
	bool lost = end == ROTATE_END_LOST;

	come_past(v->d, v->t, v->value, lost ? v->d->alike : 0, now_us);
	come_past(v->d, v->t, v->open, 0, now_us);
	/* What was to be found out is: the cap is still there. */
	if (lost && v->by_scout && v->value >= v->t->limit)
		return cut_at(v->d, v->t, v->value, true, now_us);
	if (lost && v->value >= v->d->floor)
		add_loss(v->d, v->t, v->value, now_us);
	if (end == ROTATE_END_CLOSED)
		return came_to(v->d, v->t, v->value, v->configured, now_us);
	return false;
}

/*
 * Losses may be alike in messages and in age, when messages come evenly: the
 * one that fits better is the cause.
 */
static bool take_pattern(
    const struct view *messages, const struct view *age, int64_t now_us)
{
	struct pattern m =
	    find_pattern(messages->d, messages->t, messages->value);
	struct pattern a = find_pattern(age->d, age->t, age->value);
	bool moved = false;

	if (m.spread >= 0 && (a.spread < 0 || m.spread <= a.spread))
		moved |=
		    cut_at(messages->d, messages->t, m.lowest, false, now_us);
	if (a.spread >= 0 && (m.spread < 0 || a.spread <= m.spread))
		moved |= cut_at(age->d, age->t, a.lowest, false, now_us);
	return moved;
}

bool rotate_learn_ended(struct rotate_learned *l,
    const struct rotate_options *options, const struct rotate_ended *ended,
    int64_t now_us)
{
	struct view messages = view_of(&of_messages, &l->messages,
	    ended->messages, ended->open_messages,
	    options->messages_per_connection, ended->number);
	struct view age = view_of(&of_age, &l->age, ended->age_us,
	    ended->open_age_us, options->lifetime_us, ended->number);
	bool moved = false;

	/* A cap on no message at all is none: SES did not mean the session. */
	if (ended->end == ROTATE_END_CAP && ended->messages > 0)
		moved |= cut_at(&of_messages, &l->messages, ended->messages,
		    messages.by_scout, now_us);
	moved |= take_end(&messages, ended->end, now_us);
	moved |= take_end(&age, ended->end, now_us);
	if (ended->end == ROTATE_END_LOST)
		moved |= take_pattern(&messages, &age, now_us);
	return moved;
}

/* --- scouts --- */

static void choose_scout(struct rotate_threshold *t, int64_t configured,
    unsigned number, int64_t now_us)
{
	if (t->limit != 0 && t->limit < configured && t->scout == 0 &&
	    now_us >= t->next_scout_us)
		t->scout = number;
}

void rotate_learn_opened(struct rotate_learned *l,
    const struct rotate_options *options, unsigned number, int64_t now_us)
{
	if (!options->adaptive)
		return;
	choose_scout(
	    &l->messages, options->messages_per_connection, number, now_us);
	choose_scout(&l->age, options->lifetime_us, number, now_us);
}

static int64_t allowed_for(const struct dimension *d,
    const struct rotate_options *options, const struct rotate_threshold *t,
    int64_t configured, unsigned number)
{
	int64_t beyond = t->cut + part(d, t->cut, d->step);

	if (number == 0 || t->scout != number)
		return allowed(options, t, configured);
	return beyond < configured ? beyond : configured;
}

bool rotate_is_scout(const struct rotate_learned *l, unsigned number)
{
	return number != 0 &&
	    (l->messages.scout == number || l->age.scout == number);
}

unsigned rotate_learned_max_messages(const struct rotate_learned *l,
    const struct rotate_options *options, unsigned number)
{
	return (unsigned)allowed_for(&of_messages, options, &l->messages,
	    options->messages_per_connection, number);
}

int64_t rotate_learned_lifetime_us(const struct rotate_learned *l,
    const struct rotate_options *options, unsigned number)
{
	return allowed_for(
	    &of_age, options, &l->age, options->lifetime_us, number);
}

/* --- what is known --- */

static void init(const struct dimension *d, struct rotate_threshold *t,
    int64_t value, int64_t now_us)
{
	*t = (struct rotate_threshold){
		.wait_us = SCOUT_WAIT_MIN_US,
		.next_scout_us = now_us + SCOUT_WAIT_MIN_US,
	};
	/* The margin was taken off before it was written. */
	if (value > 0)
		set_limit(d, t, value + part(d, value, d->margin), value);
}

void rotate_learn_init(
    struct rotate_learned *l, unsigned messages, int64_t age_us, int64_t now_us)
{
	init(&of_messages, &l->messages, messages, now_us);
	init(&of_age, &l->age, age_us, now_us);
}

unsigned rotate_learned_messages(const struct rotate_learned *l)
{
	return (unsigned)l->messages.limit;
}

int64_t rotate_learned_age_us(const struct rotate_learned *l)
{
	return l->age.limit;
}
