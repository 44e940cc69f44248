/*
 * The commands of the emulator, from wherever a line with one comes: the
 * control port, a rules file or the command line.
 *
 * Owns nothing. Each command takes the rest of its line; one that is refused
 * has changed nothing. WHERE, the last word of some, names listeners as
 * listener_matches knows them and means all of them when it is missing.
 */
#include "listener.h"
#include "makecert.h"
#include "session.h"

#include <stdlib.h>
#include <string.h>

enum { WORDS = 4 };

/* The words of a line, copied; words[n] is "" from the last one on. */
struct words {
	char *copy;
	const char *word[WORDS + 1];
	size_t n;
};

static void words_split(struct words *w, const char *args)
{
	char *save = NULL;

	w->copy = xstrdup(args);
	w->n = 0;
	for (char *p = strtok_r(w->copy, " \t", &save);
	     p != NULL && w->n < WORDS; p = strtok_r(NULL, " \t", &save))
		w->word[w->n++] = p;
	for (size_t i = w->n; i <= WORDS; i++)
		w->word[i] = "";
}

/* Writes what it has to say to out; NULL, or what was wrong. */
typedef const char *order(struct server *sv, const char *args, struct buf *out);

static const char *do_set(struct server *sv, const char *args, struct buf *out)
{
	const char *wrong = settings_assign(&sv->set, args);

	(void)out;
	server_settings_changed(sv);
	return wrong;
}

static const char *do_get(struct server *sv, const char *args, struct buf *out)
{
	(void)args;
	settings_print(&sv->set, out);
	return NULL;
}

static const char *do_stats(
    struct server *sv, const char *args, struct buf *out)
{
	const struct stats *st = &sv->stats;
	const char *comma = "";

	(void)args;
	buf_addf(out,
	    "{\"accepted\":%lu,\"recipients\":%lu,\"rejected\":%lu,"
	    "\"throttled\":%lu,\"throttled_recipients\":%lu,\"connections\":{"
	    "\"now\":%lu,\"peak\":%lu,"
	    "\"total\":%lu},\"max_messages_per_connection\":%lu,"
	    "\"violations\":%lu,\"violation_kinds\":{",
	    st->accepted, st->recipients, st->rejected, st->throttled,
	    st->throttled_recipients, st->connections_now, st->connections_peak,
	    st->connections_total, st->max_messages, st->violations_total);
	for (int i = 0; i < VIOLATIONS; i++) {
		if (st->violations[i] == 0)
			continue;
		buf_addf(out, "%s\"%s\":%lu", comma,
		    violation_name((enum violation)i), st->violations[i]);
		comma = ",";
	}
	buf_adds(out, "}}\n");
	return NULL;
}

static const char *do_rule(struct server *sv, const char *args, struct buf *out)
{
	(void)out;
	return rules_add(&sv->rules, args);
}

static const char *do_rules(
    struct server *sv, const char *args, struct buf *out)
{
	(void)args;
	rules_print(&sv->rules, out);
	return NULL;
}

static const char *do_clear(
    struct server *sv, const char *args, struct buf *out)
{
	(void)args;
	(void)out;
	rules_clear(&sv->rules);
	return NULL;
}

/* [rst] [WHERE] */
static const char *do_drop(struct server *sv, const char *args, struct buf *out)
{
	const char *wrong = NULL, *where;
	struct words w;
	bool reset;

	(void)out;
	words_split(&w, args);
	reset = strcmp(w.word[0], "rst") == 0;
	where = w.word[reset ? 1 : 0];
	if (listener_any(sv, where))
		server_drop_connections(sv, reset, where);
	else
		wrong = "neither nothing nor rst nor a listener";
	free(w.copy);
	return wrong;
}

/* on|off [WHERE] */
static const char *set_state(
    struct server *sv, const char *args, enum listener_state state)
{
	const char *wrong;
	struct words w;

	words_split(&w, args);
	if (w.n < 1 || w.n > 2 ||
	    (strcmp(w.word[0], "on") != 0 && strcmp(w.word[0], "off") != 0))
		wrong = "neither on nor off";
	else
		wrong = listener_set_state(
		    sv, w.word[1], w.word[0][1] == 'n' ? state : LISTENER_OPEN);
	free(w.copy);
	return wrong;
}

static const char *do_refuse(
    struct server *sv, const char *args, struct buf *out)
{
	(void)out;
	return set_state(sv, args, LISTENER_REFUSING);
}

static const char *do_block(
    struct server *sv, const char *args, struct buf *out)
{
	(void)out;
	return set_state(sv, args, LISTENER_BLOCKED);
}

static const char *do_listeners(
    struct server *sv, const char *args, struct buf *out)
{
	(void)args;
	listener_print(sv, out, true);
	return NULL;
}

/* CERT KEY [WHERE], or KIND [WHERE] */
static const char *do_cert(struct server *sv, const char *args, struct buf *out)
{
	const char *wrong = "these are no certificate and key", *where;
	struct words w;
	SSL_CTX *ctx;
	bool made;

	(void)out;
	words_split(&w, args);
	made = certificate_kind(w.word[0]);
	where = w.word[made ? 1 : 2];
	if (made)
		ctx = authority_context(server_authority(sv), w.word[0]);
	else
		ctx = link_context(w.word[0], w.word[1]);
	if (ctx != NULL)
		wrong = listener_set_tls(sv, where, ctx);
	free(w.copy);
	return wrong;
}

/* "STRING" [WHERE]: bytes that nobody asked for. */
static const char *do_say(struct server *sv, const char *args, struct buf *out)
{
	const char *end = *args == '"' ? args + 1 : "";
	struct buf bytes = { 0 };
	unsigned n = 0;

	while (*end != '\0' && *end != '"')
		end += end[0] == '\\' && end[1] != '\0' ? 2 : 1;
	if (*end != '"' ||
	    !text_unescape(args + 1, (size_t)(end - args - 1), false, &bytes)) {
		buf_free(&bytes);
		return "not a \"string\"";
	}
	end += 1 + strspn(end + 1, " \t");
	n = server_say(sv, bytes.data, bytes.len, end);
	buf_free(&bytes);
	buf_addf(out, "%u connections\n", n);
	return listener_any(sv, end) ? NULL : "no such listener";
}

static const char *do_clients(
    struct server *sv, const char *args, struct buf *out)
{
	if (*args != '\0' && strcmp(args, "reset") != 0)
		return "neither nothing nor reset";
	peers_print(&sv->peers, out);
	if (*args != '\0')
		peers_reset(&sv->peers);
	return NULL;
}

static const char *do_quit(struct server *sv, const char *args, struct buf *out)
{
	(void)args;
	(void)out;
	sv->quitting = true;
	event_base_loopexit(sv->base, NULL);
	return NULL;
}

static const struct {
	const char *name;
	order *run;
} orders[] = {
	{ "set", do_set },
	{ "get", do_get },
	{ "stats", do_stats },
	{ "clients", do_clients },
	{ "listeners", do_listeners },
	{ "rule", do_rule },
	{ "rules", do_rules },
	{ "clear", do_clear },
	{ "cert", do_cert },
	{ "drop-connections", do_drop },
	{ "refuse", do_refuse },
	{ "block", do_block },
	{ "say", do_say },
	{ "quit", do_quit },
};

const char *order_run(struct server *sv, const char *line, struct buf *out)
{
	size_t n;

	line += strspn(line, " \t");
	n = strcspn(line, " \t");
	for (size_t i = 0; i < sizeof(orders) / sizeof(orders[0]); i++) {
		if (strlen(orders[i].name) == n &&
		    strncmp(line, orders[i].name, n) == 0)
			return orders[i].run(
			    sv, line + n + strspn(line + n, " \t"), out);
	}
	return "no such command";
}

void orders_print(struct buf *out)
{
	for (size_t i = 0; i < sizeof(orders) / sizeof(orders[0]); i++)
		buf_addf(out, "command %s\n", orders[i].name);
}
