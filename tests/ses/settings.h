#ifndef SES_SETTINGS_H
#define SES_SETTINGS_H

#include "text.h"

#include <stdbool.h>

/* Everything that can be changed while the emulator runs. */
struct settings {
	double rate; /* recipients a second, 0 = no limit */
	long daily; /* recipients in 24 hours, 0 = no limit */
	long session_cap; /* messages a connection, 0 = no limit */
	char *session_cap_phase; /* where the cap strikes: mail, data, dot */
	long max_connections; /* 0 = no limit */
	long idle_ms; /* 0 = never */
	long max_recipients;
	long max_size; /* bytes of content */
	long latency_ms; /* before each reply */
	long dot_latency_ms; /* before the reply to the dot, if not 0 */
	bool bytewise; /* one byte a TLS record */
	bool starttls_after_tls;
	long size_advertised; /* 0 = SIZE is not in the EHLO list */
	char *auth; /* mechanisms, "" = none */
	char *user;
	char *password;
	char *account; /* ok, paused, unsubscribed, denied */
	char *verified; /* domains and addresses, "" = all */
	char *region; /* in the texts only */
	bool strict_headers;
	bool trace; /* each command goes to the journal */
	bool no_close_notify;
};

void settings_init(struct settings *s);
void settings_free(struct settings *s);

/* NULL, or what is wrong in words that live for ever. */
const char *settings_set(
    struct settings *s, const char *key, const char *value);
/* The same from one "KEY=VALUE" or "KEY VALUE". */
const char *settings_assign(struct settings *s, const char *text);
/* One KEY=VALUE a line. */
void settings_print(const struct settings *s, struct buf *out);

#endif
