/*
 * The configuration: libconfig in, an immutable struct out.
 *
 * One table (config_keys) holds every key with type, range, default and help.
 * It drives parsing, the dump of -T, what -t says, what a reload may change,
 * and the check that man/sesrelayd.conf.5 documents each key with its true
 * default.  Nobody but main, control and this module knows struct config:
 * modules get their own options, which are parts of it.
 *
 * Strict: an unknown key, a wrong type, a value out of range, or an integer
 * that libconfig 1.5 would silently truncate is an error with file and line.
 */
#ifndef CONFIG_H
#define CONFIG_H

#include "base/log.h"
#include "relay/relay.h"

#include <stdio.h>

#define CONFIG_DEFAULT_FILE SESRELAYD_SYSCONFDIR "/sesrelayd/sesrelayd.conf"
#define CONFIG_STDIN "-" /* instead of a file's name: standard input */

enum config_type {
	CONFIG_STRING,
	CONFIG_BOOL,
	CONFIG_INTEGER, /* int64_t */
	CONFIG_REAL, /* double; an integer will do */
	CONFIG_DURATION, /* int64_t us; "5s", "500ms", or seconds */
	CONFIG_SIZE, /* uint64_t bytes; "40M", "64Ki", or bytes */
	CONFIG_ENUM, /* int; `choices` */
	CONFIG_STRINGS, /* struct config_strings; one string will do */
	CONFIG_DURATIONS, /* struct config_durations; one will do */
	CONFIG_RULES, /* struct config_rules: ( { match; address; } ) */
};

enum config_flags {
	CONFIG_RELOAD = 1, /* may change at run time */
	CONFIG_SECRET = 2, /* masked in dumps and messages */
	CONFIG_NUMBERS = 4, /* CONFIG_STRINGS: integers will do, too */
};

struct config_strings {
	char **items;
	unsigned n;
};

struct config_durations {
	int64_t us[BACKOFF_MAX_STEPS];
	unsigned n;
};

struct config_rule {
	char *match, *address;
};
struct config_rules {
	struct config_rule *items;
	unsigned n;
};

struct config_key {
	const char *name; /* "smtp.max_sessions" */
	enum config_type type;
	size_t offset; /* in struct config */
	/* The default as it would stand in a file; NULL: none. */
	const char *fallback;
	int64_t min, max; /* in the unit of the type; both 0: any */
	const char *const *choices; /* CONFIG_ENUM: names in order, then NULL */
	/*
	 * Strings, and each one of a list: 0, or -1 with what is wrong with
	 * it, as the end of a sentence that begins with the key.  NULL: any.
	 */
	int (*check)(const char *text, struct err *err);
	unsigned flags;
	const char *help; /* one line */
};
extern const struct config_key config_keys[];
extern const size_t config_n_keys;

struct config {
	struct {
		struct config_strings listen, allow;
		char *hostname;
		int64_t max_sessions, max_recipients;
		uint64_t max_message_size;
		int64_t timeout_us;
		int bare_newline; /* 0 normalize, 1 reject */
		bool accept_any_auth;
	} smtp;
	struct {
		char *region, *endpoint;
		struct config_strings ports;
		char *username, *password_file, *secret_key_file, *password;
		char *ca_file, *configuration_set;
		struct config_strings tags;
		char *source_arn, *from_arn, *return_path_arn, *tenant;
		int client_headers; /* 0 strip, 1 keep */
		int64_t mss;
		char *source_address;
	} ses;
	struct {
		int64_t connections, messages_per_connection;
		int64_t connection_lifetime_us, idle_timeout_us;
		bool adaptive_rotation;
		double rate;
		struct config_durations retry;
		int64_t expire_us;
		int64_t recipients_per_message;
		int uncertain; /* 0 retry, 1 hold */
		int64_t timeout_connect_us, timeout_tls_us, timeout_greeting_us;
		int64_t timeout_command_us, timeout_data_us, timeout_final_us;
	} delivery;
	struct {
		char *directory;
		int durability; /* 0 full, 1 none */
		uint64_t min_free, max_size;
		int64_t max_messages;
		int64_t keep_failed_us;
	} spool;
	struct {
		char *default_domain;
		struct config_rules senders, recipients;
		char *aliases_file;
		bool add_headers;
		int duplicate_headers; /* 0 first, 1 reject */
	} rewrite;
	struct {
		char *from, *to;
	} bounce;
	struct {
		int target, format, level; /* enum log_target, ... */
		char *name;
	} log;
	struct {
		struct config_strings listen; /* a string or a list */
		struct config_strings allow;
	} http;
	struct {
		char *socket, *group;
	} control;

	/* Made from the above by config_load(); they point into it. */
	char *file;
	char *endpoint; /* host to connect to */
	struct network *allow;
	struct network *http_allow;
	unsigned n_http_allow;
	struct rewrite_rules *rewrite_rules; /* a reference */
	struct relay_config options;
	struct log_options log_options;
	struct credentials *credentials;
	/*
	 * Warnings "file:line: message", newlines between them; "" if none:
	 * for -t, start and reload.
	 */
	char *warnings;
	char **places; /* "file:line" of each key, in the order of the table */
};

/*
 * Reads, checks and completes `file`; NULL with "file:line: message" in
 * *message (free(3) it) when anything is wrong, one line for each mistake
 * found, newlines between them.  Credentials are read, too.
 */
MUST_CHECK struct config *config_load(const char *file, char **message);
void config_free(struct config *c); /* wipes secrets; NULL is legal */
/*
 * Reads the sources of the credentials again.  1: they have others now, which
 * c->credentials and c->options.pool hold; 0: the same as before; -1: they
 * cannot be read, and what was read before stays.
 */
MUST_CHECK int config_reread_credentials(struct config *c, struct err *err);
/*
 * The rest of -t: spool directory, CA file, ports that need a privilege.  -1
 * with mistakes in *message as above; 0 with *message NULL or, to be freed as
 * well, warnings.
 */
MUST_CHECK int config_check(const struct config *c, char **message);
/*
 * -T: every key, itself a valid file that loads to the same; secrets as
 * "********" and only if set.  A key without a value is the empty string.
 */
void config_dump(const struct config *c, FILE *out);
/*
 * The table for those who check documents against it: a line a key, of
 * name, type, default or "none", "R" (reload) or "-", help; tabs between.
 */
void config_print_schema(FILE *out);
/*
 * The keys that take a restart as they were at the start: what is in force of
 * them, however often the file was changed and reloaded since.
 */
struct config_boot;
struct config_boot *config_boot_new(const struct config *c);
void config_boot_free(struct config_boot *boot); /* NULL is legal */
/*
 * Each key whose value differs; `fn` gets the texts of both (masked).  With
 * `boot`, a key that takes a restart is compared with what is in force.
 */
void config_diff(const struct config *a, const struct config *b,
    const struct config_boot *boot,
    void (*fn)(void *ctx, const struct config_key *key, const char *from,
	const char *to),
    void *ctx);
/*
 * smtp.allow is what it is by default: then a socket beyond loopback (handed in
 * by the service manager; config_load() looks at smtp.listen) has to be refused.
 */
bool config_allow_is_default(const struct config *c);

/* "file:line: 'key': text", as of other mistakes; free(3). */
char *config_mistake(const struct config *c, const char *key, const char *text);

/* "libconfig 1.5.0" */
const char *config_library(void);

#endif
