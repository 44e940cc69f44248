/*
 * top: everything that the live screen shows, as one object: that of `status`,
 * with the connections, the rate of each second of the last minute, the age of
 * what is queued and the last errors.  All of it from memory, in a time that
 * does not depend on the length of the queue; loop thread.
 */
#include "control_private.h"

#include "base/clock.h"

/* Each to the hundredth, the last second last. */
static json_t *rates_report(const double *rates)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < RATES_HISTORY; i++)
		json_array_append_new(list, report_rate(rates[i]));
	return list;
}

static json_t *history_report(const struct rates *rates)
{
	struct rates_history h;

	rates_history(rates, &h);
	return json_pack("{s:I, s:o, s:o}", "second", (json_int_t)h.second,
	    "accepted", rates_report(h.accepted), "sent", rates_report(h.sent));
}

/* How many are how old; the last has no limit. */
static json_t *ages_report(const struct queue *queue)
{
	static const int64_t below_s[] = { 60, 600, 3600 };
	int64_t now = clock_mono_us();
	uint64_t before = 0, total = queue_total(queue);
	json_t *list = json_array();

	for (size_t i = 0; i < ARRAY_LEN(below_s); i++) {
		uint64_t n = queue_younger(queue, now - below_s[i] * US_PER_S);

		json_array_append_new(list,
		    json_pack("{s:I, s:I}", "below_seconds",
			(json_int_t)below_s[i], "messages",
			(json_int_t)(n - before)));
		before = n;
	}
	json_array_append_new(list,
	    json_pack("{s:n, s:I}", "below_seconds", "messages",
		(json_int_t)(total - before)));
	return list;
}

static json_t *errors_report(const struct troubles *t)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < t->n; i++)
		json_array_append_new(list,
		    json_pack("{s:o, s:I, s:o}", "time",
			report_time(t->items[i].wall_us), "times",
			(json_int_t)t->items[i].n, "text",
			report_text(t->items[i].text)));
	return list;
}

void control_top(struct control_client *c, struct slice args)
{
	struct daemon *d = c->daemon;
	json_t *o = control_state(d);

	(void)args;
	json_object_set_new(o, "history", history_report(&d->rates));
	json_object_set_new(o, "queue_ages", ages_report(d->relay->queue));
	json_object_set_new(o, "errors", errors_report(&d->relay->troubles));
	json_object_set_new(o, "connection_list", control_connection_list(d));
	control_put(c, o);
	control_ok(c);
}
