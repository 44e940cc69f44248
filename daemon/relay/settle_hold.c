/*
 * Messages that are held because nobody knows whether SES has them.  Runs on
 * the loop thread; owns a note of each hold that is on its way to the disk.
 *
 * Invariant: nobody is told that a message is held before kill -9 and a new
 * start could not send it again; until then its stub stays INFLIGHT.
 */
#include "relay/settle_private.h"

#include "base/log.h"
#include "base/mem.h"

#include <stdlib.h>

/* A message whose hold is on its way to the disk. */
struct hold {
	struct relay *relay;
	struct stub *stub; /* NULL: its burial moves it */
	uint64_t id;
};

static void log_held(uint64_t id)
{
	char text[ID_BUF];

	id_format(id, text);
	log_msg(LOG_LEVEL_WARNING, LOG_SMTP, id,
	    "it is held (delivery.uncertain): find out whether it arrived, by "
	    "its recipient or the events of SES; then sesrelayctl delete %s, "
	    "or sesrelayctl release %s to send it again",
	    text, text);
}

static void on_hold_written(void *ctx)
{
	struct hold *hold = ctx;

	log_held(hold->id);
	if (hold->stub != NULL)
		relay_move(hold->relay, hold->stub, RELAY_NEXT_HOLD, 0);
	relay_kick(hold->relay);
	free(hold);
}

void settle_hold(struct settlement *res)
{
	struct spool_outcome outcome = relay_outcome(res->a->stub, SPOOL_HOLD);
	struct hold *hold = xcalloc(1, sizeof *hold);

	hold->relay = res->relay;
	hold->stub = res->n_failed > 0 ? NULL : res->a->stub;
	hold->id = res->a->stub->id;
	outcome.dsn = res->stays->dsn;
	outcome.reply = res->stays->text;
	outcome.written = on_hold_written;
	outcome.ctx = hold;
	spool_settle(res->relay->spool, &outcome);
}
