/*
 * The emulator's one server: shared state and the end of a loop turn.
 *
 * Owns settings, rules, journal, counters, TLS context and the lists on
 * which every session is. Callbacks of a turn only mark sessions dirty; the
 * turn's end writes the journal first and then the replies, so that one
 * write(2) of the journal serves all messages of the turn and none is
 * acknowledged before it. Sessions are freed only there, never under a
 * callback of their own.
 */
#include "server.h"

#include "listener.h"
#include "makecert.h"
#include "session.h"

#include <fcntl.h>
#include <openssl/err.h>
#include <string.h>
#include <unistd.h>

static const char *const violations[VIOLATIONS] = {
	"pipelining",
	"auth-in-clear",
	"mail-in-clear",
	"bytes-before-tls",
	"no-ehlo",
	"parameter-not-offered",
	"syntax",
	"bare-line-end",
	"long-command",
	"unknown-command",
	"bare-cr",
	"bare-lf",
	"nul",
	"long-line",
	"not-dot-stuffed",
};

const char *violation_name(enum violation v)
{
	return violations[v];
}

/* Writes every dirty session once; those it makes dirty wait for the next. */
static void flush_dirty(struct server *sv)
{
	struct session_list batch = TAILQ_HEAD_INITIALIZER(batch);
	struct session *s;

	TAILQ_CONCAT(&batch, &sv->dirty, turn);
	while ((s = TAILQ_FIRST(&batch)) != NULL) {
		TAILQ_REMOVE(&batch, s, turn);
		s->dirty = false;
		session_flush(s);
	}
}

static void on_turn(evutil_socket_t fd, short what, void *arg)
{
	struct server *sv = arg;
	struct session *s;

	(void)fd;
	(void)what;
	journal_flush(&sv->journal);
	flush_dirty(sv);
	while ((s = TAILQ_FIRST(&sv->dead)) != NULL) {
		TAILQ_REMOVE(&sv->dead, s, link);
		session_free(s);
	}
	if (!TAILQ_EMPTY(&sv->dirty) || sv->journal.pending.len > 0)
		server_wake(sv);
}

void server_wake(struct server *sv)
{
	event_active(sv->turn, EV_TIMEOUT, 0);
}

/* Timers of microseconds: epoll's own are milliseconds, rounded up, and a
 * latency would be longer than asked for. */
static struct event_base *make_base(void)
{
	struct event_config *config = event_config_new();
	struct event_base *base = NULL;

	if (config != NULL &&
	    event_config_set_flag(config, EVENT_BASE_FLAG_PRECISE_TIMER) == 0)
		base = event_base_new_with_config(config);
	if (config != NULL)
		event_config_free(config);
	return base;
}

bool server_init(struct server *sv)
{
	memset(sv, 0, sizeof(*sv));
	sv->journal.fd = -1;
	sv->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	TAILQ_INIT(&sv->live);
	TAILQ_INIT(&sv->leaving);
	TAILQ_INIT(&sv->dead);
	TAILQ_INIT(&sv->dirty);
	settings_init(&sv->set);
	rules_init(&sv->rules);
	text_random(sv->software, 9, true);
	sv->base = make_base();
	if (sv->base == NULL)
		return false;
	sv->turn = event_new(sv->base, -1, 0, on_turn, sv);
	return sv->turn != NULL;
}

static void free_list(struct session_list *list)
{
	struct session *s;

	while ((s = TAILQ_FIRST(list)) != NULL) {
		TAILQ_REMOVE(list, s, link);
		session_free(s);
	}
}

void server_fini(struct server *sv)
{
	server_drop_connections(sv, false, "");
	free_list(&sv->leaving);
	free_list(&sv->dead);
	listener_free_all(sv);
	journal_close(&sv->journal);
	rules_clear(&sv->rules);
	peers_free(&sv->peers);
	settings_free(&sv->set);
	SSL_CTX_free(sv->tls);
	authority_free(sv->authority);
	if (sv->turn != NULL)
		event_free(sv->turn);
	if (sv->base != NULL)
		event_base_free(sv->base);
	if (sv->spare_fd >= 0)
		(void)close(sv->spare_fd);
}

struct authority *server_authority(struct server *sv)
{
	if (sv->authority == NULL)
		sv->authority = authority_new(sv->hostname);
	return sv->authority;
}

void server_settings_changed(struct server *sv)
{
	struct session *s;

	TAILQ_FOREACH (s, &sv->live, link)
		session_arm_idle(s);
}

void server_drop_connections(struct server *sv, bool reset, const char *where)
{
	struct session *s = TAILQ_FIRST(&sv->live), *next;

	for (; s != NULL; s = next) {
		next = TAILQ_NEXT(s, link);
		if (listener_matches(s->listener, where))
			session_end(s, "drop", reset ? END_RESET : END_FIN);
	}
}

unsigned server_say(
    struct server *sv, const char *bytes, size_t n, const char *where)
{
	struct session *s;
	unsigned count = 0;

	TAILQ_FOREACH (s, &sv->live, link) {
		if (s->state != SESSION_COMMAND || s->busy ||
		    !listener_matches(s->listener, where))
			continue;
		buf_add(&s->io.out, bytes, n);
		s->phase = PHASE_IDLE;
		s->after = AFTER_READ;
		session_send(s, 0);
		count++;
	}
	return count;
}
