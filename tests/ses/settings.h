#ifndef SES_SETTINGS_H
#define SES_SETTINGS_H

#include "rules.h"

#include <stdbool.h>

/* Everything that can be changed while the emulator runs. */
struct settings {
	double rate; /* recipients a second, 0 = no limit */
	long rate_burst_ms; /* how much of a pause the bucket keeps */
	long daily; /* recipients in 24 hours, 0 = no limit */
	long session_cap; /* messages a connection, 0 = no limit */
	char *session_cap_phase; /* where the cap strikes: mail, data, dot */
	long max_connections; /* 0 = no limit */
	long idle_ms; /* 0 = never */
	long max_recipients;
	long max_size; /* bytes of content */
	long latency_ms; /* before each reply */
	long phase_latency_ms[PHASE_OTHER]; /* in its place, if not 0 */
	long jitter_ms; /* up to so much more before each reply */
	long write_rate; /* bytes a second on the wire, 0 = no limit */
	long read_rate; /* bytes a second of content, 0 = no limit */
	long receive_buffer; /* SO_RCVBUF of new connections, 0 = as the kernel
				has it */
	bool bytewise; /* one byte a TLS record */
	bool starttls_after_tls;
	long size_advertised; /* 0 = SIZE is not in the EHLO list */
	char *auth; /* mechanisms, "" = none */
	char *user;
	char *password;
	char *users; /* more of them: NAME:PASSWORD with spaces between */
	char *account; /* ok, or what is wrong with it */
	char *verified; /* domains and addresses, "" = all */
	bool sandbox; /* recipients must be verified, too */
	char *configuration_sets; /* that exist, "" = all */
	char *region; /* in the texts only */
	bool strict_headers;
	bool trace; /* each command goes to the journal */
	bool no_close_notify;
	bool user_canceled; /* alert of TLS 1.3 before close_notify */
	char *tls_min, *tls_max;
	char *ciphers; /* up to TLS 1.2, "" = the library's */
};

void settings_init(struct settings *s);
void settings_free(struct settings *s);

/* NULL, or what is wrong in words that live for ever. */
const char *settings_set(
    struct settings *s, const char *key, const char *value);
/* The same from one "KEY=VALUE" or "KEY VALUE". */
const char *settings_assign(struct settings *s, const char *text);
/* One "setting KEY" a line, and "account STATE" for each of its values. */
void settings_print_words(struct buf *out);
/* One KEY=VALUE a line. */
void settings_print(const struct settings *s, struct buf *out);

#endif
