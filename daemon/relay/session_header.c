/*
 * The header of a session's message on its way through the rewriting.  Runs on
 * the loop thread; owns the state of the rewriting, and holds the rules that
 * the message began with, until the header has passed: from there on content
 * goes straight into the body.
 *
 * What is kept of a header is counted with the bodies in memory, so that many
 * long headers at a time are refused before they are too much.
 */
#include "relay/session.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/stat.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

static void emit(void *ctx, const char *ptr, size_t len)
{
	struct session *s = ctx;

	if (!s->scan.done)
		header_scan_feed(&s->scan, ptr, len);
	body_append(&s->m->body, ptr, len);
	s->m->size += len;
}

/* Is it in the list, which has ", " between names? */
static bool is_noted(const char *list, const char *name)
{
	size_t len = strlen(name);

	for (const char *p = list; *p != '\0';) {
		size_t n = strcspn(p, ",");

		if (n == len && strncasecmp(p, name, n) == 0)
			return true;
		p += n + strspn(p + n, ", ");
	}
	return false;
}

static void note(void *ctx, const struct rewrite_change *change)
{
	struct session *s = ctx;
	size_t used = strlen(s->rewritten);
	size_t room = sizeof s->rewritten - used;
	const char *name = change->field[0] != '\0' ? change->field : "layout";

	if (rewrite_change_is_remark(change)) {
		if (s->remark[0] == '\0')
			snprintf(s->remark, sizeof s->remark, "%s: %s", name,
			    change->what);
		return;
	}
	/* What the configuration adds to each message is no news. */
	if (change->before.len == 0 && strncasecmp(name, "X-SES-", 6) == 0)
		return;
	if (is_noted(s->rewritten, name))
		return;
	if (strlen(name) + sizeof ", , ..." < room)
		snprintf(s->rewritten + used, room, "%s%s",
		    used > 0 ? ", " : "", name);
	else if (!is_noted(s->rewritten, "..."))
		snprintf(s->rewritten + used, room, ", ...");
}

void session_start_header(struct session *s)
{
	struct rewrite_rules *rules = s->inbound->options.server.rewrite;
	char date[40], id[ID_BUF];
	struct rewrite_context context = {
		.sender = s->m->sender,
		.id = id_format(s->m->id, id),
		.date = date,
	};

	s->rewritten[0] = s->remark[0] = '\0';
	s->broke_signature = false;
	if (rules == NULL)
		return;
	clock_format_rfc5322(s->m->arrival_us, date, sizeof date);
	s->rules = rewrite_rules_ref(rules);
	s->rewrite = rewrite_header_new(s->rules, &context, emit, note, s);
}

void session_drop_header(struct session *s)
{
	rewrite_header_free(s->rewrite);
	s->rewrite = NULL;
	rewrite_rules_unref(s->rules);
	s->rules = NULL;
	stat_add(STAT_BODY_BYTES, -(int64_t)s->header_held);
	s->header_held = 0;
}

/* What is known of it now; false: it is refused. */
static bool look(struct session *s)
{
	const struct rewrite_refusal *why = rewrite_header_refusal(s->rewrite);

	if (why != NULL) {
		snprintf(s->refusal, sizeof s->refusal, "%s %s", why->status,
		    why->text);
		return false;
	}
	s->broke_signature = rewrite_header_broke_signature(s->rewrite);
	return true;
}

/* What is beyond the most that is kept is in the body already. */
static void count_held(struct session *s, size_t len)
{
	size_t room = REWRITE_BLOCK_MAX - s->header_held;

	if (len > room)
		len = room;
	s->header_held += len;
	stat_add(STAT_BODY_BYTES, (int64_t)len);
}

bool session_feed_header(struct session *s, const char *ptr, size_t len)
{
	rewrite_header_feed(s->rewrite, ptr, len);
	count_held(s, len);
	if (!look(s))
		return false;
	/* The block comes out as a whole, so all of it is through. */
	if (s->scan.done)
		session_drop_header(s);
	return true;
}

bool session_end_header(struct session *s)
{
	bool good;

	rewrite_header_end(s->rewrite);
	good = look(s);
	session_drop_header(s);
	return good;
}

void session_log_rewritten(const struct session *s)
{
	struct log_field envelope[] = {
		{ LOG_ANGLE, "from", s->m->sender },
		{ LOG_ANGLE, "orig_from", s->server.orig_sender },
		{ LOG_END, NULL, NULL },
	};

	/* Those of the recipients are with what becomes of each. */
	if (s->server.orig_sender != NULL)
		log_event(LOG_LEVEL_INFO, LOG_CLEANUP, "rewritten", s->m->id,
		    envelope);
	if (s->remark[0] != '\0')
		log_msg(LOG_LEVEL_WARNING, LOG_CLEANUP, s->m->id,
		    "it goes on as it is, but SES may refuse or alter it: %s",
		    s->remark);
	if (s->rewritten[0] == '\0')
		return;
	log_msg(LOG_LEVEL_INFO, LOG_CLEANUP, s->m->id, "rewritten: %s",
	    s->rewritten);
	if (s->broke_signature)
		log_msg(LOG_LEVEL_WARNING, LOG_CLEANUP, s->m->id,
		    "it has a DKIM-Signature, which the rewriting may have "
		    "broken");
}
