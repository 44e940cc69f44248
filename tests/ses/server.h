#ifndef SES_SERVER_H
#define SES_SERVER_H

#include "journal.h"
#include "peers.h"
#include "rules.h"
#include "settings.h"

#include <event2/event.h>
#include <openssl/ssl.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

struct session;
struct listener;
struct authority;
TAILQ_HEAD(session_list, session);

/* How a port speaks. */
enum mode { MODE_STARTTLS, MODE_WRAPPER, MODE_PLAIN };

/* Wrongs of the client that are counted and journalled. */
enum violation {
	VIOLATION_PIPELINING, /* bytes before our reply was sent */
	VIOLATION_AUTH_IN_CLEAR,
	VIOLATION_MAIL_IN_CLEAR, /* MAIL, RCPT, DATA or their bytes */
	VIOLATION_BEFORE_TLS, /* bytes between STARTTLS and our 220 */
	VIOLATION_NO_EHLO, /* after STARTTLS, or at all */
	VIOLATION_PARAMETER, /* of an extension not offered */
	VIOLATION_SYNTAX, /* no <>, space after the colon, 8 bits ... */
	VIOLATION_BARE_LINE_END, /* bare CR or LF in a command */
	VIOLATION_LONG_COMMAND,
	VIOLATION_UNKNOWN_COMMAND,
	VIOLATION_BARE_CR, /* from here on: in the content */
	VIOLATION_BARE_LF,
	VIOLATION_NUL,
	VIOLATION_LONG_LINE,
	VIOLATION_UNSTUFFED,
	VIOLATIONS,
};

const char *violation_name(enum violation v);

struct stats {
	unsigned long accepted, recipients, rejected, throttled;
	unsigned long throttled_recipients;
	unsigned long violations[VIOLATIONS], violations_total;
	unsigned long connections_now, connections_peak, connections_total;
	unsigned long max_messages; /* most on one connection */
};

/* Recipients taken: a bucket for the rate, a ring of minutes for the day. */
struct quota {
	double tokens;
	uint64_t filled_us;
	uint32_t minute[1440];
	uint64_t minute_no;
	unsigned long day;
};

struct server {
	struct event_base *base;
	struct settings set;
	struct rules rules;
	struct journal journal;
	struct stats stats;
	struct peers peers;
	struct quota quota;
	SSL_CTX *tls; /* of listeners without their own */
	struct authority *authority; /* NULL until one is needed */
	const char *hostname; /* for certificates it makes, or NULL */
	char software[10]; /* of the greeting */
	unsigned long last_txn;
	struct session_list live; /* connections that speak */
	struct session_list leaving; /* we sent FIN, they not yet */
	struct session_list dead; /* to be freed at the turn's end */
	struct session_list dirty; /* live ones with output; by .turn */
	struct event *turn;
	struct listener *listeners;
	unsigned listener_count;
	bool quitting;
	int spare_fd; /* given up to shed a connection */
};

bool server_init(struct server *sv);
void server_fini(struct server *sv);
/* The maker of certificates; never NULL. */
struct authority *server_authority(struct server *sv);
/* Runs the turn's end soon: journal, output of dirty sessions, the dead. */
void server_wake(struct server *sv);
/* After a setting changed: timers of living sessions. */
void server_settings_changed(struct server *sv);
/* Sends bytes to all that wait for a command; how many these are. */
unsigned server_say(
    struct server *sv, const char *bytes, size_t n, const char *where);
/* Those that came by a listener of listener_matches(). */
void server_drop_connections(struct server *sv, bool reset, const char *where);

/* orders.c: what can be asked for, by control port, file or option. */

/*
 * Obeys one line; what it has to say goes to out. NULL, or what is wrong in
 * words that live for ever.
 */
const char *order_run(struct server *sv, const char *line, struct buf *out);

/* One "command NAME" a line. */
void orders_print(struct buf *out);

/* control.c. */

struct control;
struct control *control_new(struct server *sv, const char *addr_port);
void control_free(struct control *c);
void control_print(const struct control *c, struct buf *out);

#endif
