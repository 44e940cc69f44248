/*
 * connections: one object for each, by state and age.  Loop thread.
 */
#include "control_private.h"

#include "base/clock.h"
#include "base/id.h"
#include "base/mem.h"

#include <stdlib.h>

struct views {
	struct pool_connection_view *items;
	size_t n, size;
};

static void keep_view(void *ctx, const struct pool_connection_view *view)
{
	struct views *views = ctx;

	if (views->n == views->size) {
		views->size = 2 * views->size + 16;
		views->items =
		    xrealloc(views->items, views->size * sizeof *views->items);
	}
	views->items[views->n++] = *view;
}

/* What works comes first, then what may; of each the oldest. */
static int place(enum pool_state state)
{
	static const int places[POOL_N_STATES] = {
		[POOL_BUSY] = 0,
		[POOL_IDLE] = 1,
		[POOL_CONNECTING] = 2,
		[POOL_DRAINING] = 3,
	};

	return places[state];
}

static int compare_views(const void *a, const void *b)
{
	const struct pool_connection_view *x = a, *y = b;

	if (x->state != y->state)
		return place(x->state) - place(y->state);
	return x->age_us != y->age_us ? (x->age_us < y->age_us ? 1 : -1)
	    : x->number < y->number   ? -1
				      : 1;
}

static void set(json_t *o, const char *key, json_t *value)
{
	json_object_set_new(o, key, value);
}

static json_t *seconds(int64_t us)
{
	return json_real((double)us / US_PER_S);
}

static json_t *connection_report(const struct pool_connection_view *view)
{
	json_t *o = json_object();
	char id[ID_BUF];

	set(o, "conn", json_integer(view->number));
	set(o, "state", json_string(pool_state_name(view->state)));
	set(o, "address", json_string(view->ip));
	set(o, "port", json_integer(view->port));
	set(o, "mode", json_string(view->wrapper ? "wrapper" : "starttls"));
	set(o, "tls", json_string(view->tls));
	set(o, "age_seconds", seconds(view->age_us));
	set(o, "idle_seconds",
	    view->state == POOL_IDLE ? seconds(view->step_us) : json_null());
	set(o, "messages_begun", json_integer(view->n_messages));
	set(o, "messages_delivered", json_integer(view->n_delivered));
	set(o, "step", json_string(view->step));
	set(o, "doing", json_string(view->doing));
	set(o, "step_seconds", seconds(view->step_us));
	set(o, "message",
	    view->message != 0 ? json_string(id_format(view->message, id))
			       : json_null());
	if (view->max_messages != 0) {
		set(o, "renewed_at_messages", json_integer(view->max_messages));
		set(o, "renewed_in_seconds", seconds(view->expires_in_us));
	}
	if (view->purpose != NULL)
		set(o, "purpose", json_string(view->purpose));
	if (view->replaced != NULL)
		set(o, "replaced", json_string(view->replaced));
	if (view->mss != 0)
		set(o, "mss", json_integer(view->mss));
	return o;
}

json_t *control_connection_list(struct daemon *d)
{
	struct views views = { 0 };
	json_t *list = json_array();

	pool_each(d->relay->pool, keep_view, &views);
	if (views.n > 0)
		qsort(views.items, views.n, sizeof *views.items, compare_views);
	for (size_t i = 0; i < views.n; i++)
		json_array_append_new(list, connection_report(&views.items[i]));
	free(views.items);
	return list;
}

void control_connections(struct control_client *c, struct slice args)
{
	json_t *list = control_connection_list(c->daemon), *o;
	size_t i;

	(void)args;
	json_array_foreach (list, i, o)
		control_put(c, json_incref(o));
	json_decref(list);
	control_ok(c);
}
