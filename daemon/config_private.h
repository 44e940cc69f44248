/*
 * What the parts of the configuration share; nobody else includes this.
 *
 *   config_source   file and @include to one text that knows its places
 *   config_tokens   what libconfig must not see: numbers that it would
 *                   truncate, and passwords
 *   config_merge    groups in several pieces, keys that are set twice
 *   config_hint     what a syntax error may have meant, names that are near
 *   config_parse    libconfig's tree against the table: unknown keys, types
 *   config_value    one setting into one field of struct config; the lists
 *                   among them in config_list
 *   config_text     a field back into text
 *   config_units    durations and sizes
 *   config_syntax   what a string may look like
 *   config_derive   what is made from several keys: options
 *   config_rewrite  what becomes of addresses and header lines; aliases
 *   config_credentials   the SMTP user and password
 */
#ifndef CONFIG_PRIVATE_H
#define CONFIG_PRIVATE_H

#include "config.h"

#include <sys/types.h>

struct config_setting_t; /* libconfig's */

/* Mistakes or warnings; sorted by line when they are told. */
struct config_notes {
	struct config_note {
		unsigned line; /* of the source; equal ones keep their order */
		unsigned seq;
		char *text;
	} * items;
	unsigned n;
};

#define CONFIG_INCLUDE_DEPTH 10

/* All files as one text.  Lines are counted from 1. */
struct config_source {
	char *text;
	size_t len, size;
	struct config_origin {
		unsigned file, line;
	} * origins; /* of each line of the text */
	unsigned n_lines;
	char **files;
	unsigned n_files;
	/* Those that are being read, each by the one before. */
	struct config_open {
		dev_t dev;
		ino_t ino;
	} open[CONFIG_INCLUDE_DEPTH + 1];
	bool gave_up; /* reading more of them */
};

struct config_reader {
	struct config *config;
	struct config_source source;
	struct config_notes errors, warnings;
	struct config_spot {
		unsigned line; /* of the source; 0: the file doesn't set it */
		bool bad; /* its mistake was told; the default stands */
		char *hidden; /* its value, which the tree has in asterisks */
	} * spots; /* by key */
};

/* --- config.c --- */

PRINTF(3, 4)
void config_error(struct config_reader *r, unsigned line, const char *fmt, ...);
PRINTF(3, 4)
void config_warn(struct config_reader *r, unsigned line, const char *fmt, ...);
/* Position in the table, or -1. */
int config_find_key(const char *name);
/* Of a key that there must be. */
unsigned config_key_index(const char *name);
/* Where it was set, else where its group's first key was, else line 1. */
unsigned config_key_line(const struct config_reader *r, const char *name);
bool config_key_bad(const struct config_reader *r, const char *name);

/* --- config_source.c --- */

/* Mistakes go to r->errors. */
MUST_CHECK int config_source_read(struct config_reader *r, const char *file);
/* "file:line"; free(3). */
char *config_source_place(const struct config_source *s, unsigned line);
/* Behind the string, comment or single byte at p; NULL when it has no end. */
const char *config_source_skip(const char *p);
void config_source_fini(struct config_source *s); /* wipes */

/* --- config_tokens.c --- */

/*
 * Integers that libconfig 1.5 would silently truncate, and strings that it
 * would shorten: an error each.
 */
void config_source_check_tokens(struct config_reader *r);
/* Values of secret keys go to r->spots, with asterisks in their place. */
void config_source_hide_secrets(struct config_reader *r);

/* --- config_merge.c --- */

/*
 * Pieces of a group get names of their own, and so do keys that are set twice,
 * each of which is an error.
 */
void config_source_merge(struct config_reader *r);
/* Length of the name that libconfig has, without what was put behind it. */
size_t config_name_len(const char *name);

/* --- config_hint.c --- */

/* Longer names are no near misses of ours. */
#define CONFIG_NAME_MAX 64
/*
 * How many letters have to be changed, added, dropped or swapped with their
 * neighbour to make b of a.
 */
unsigned config_distance(const char *a, const char *b);
/*
 * What may be meant by the text around a syntax error, as the end of a
 * sentence; never with what stands there, which may be a secret.
 */
const char *config_syntax_hint(const char *text, unsigned line);

/* --- config_parse.c --- */

/*
 * Every field gets its default, or what the file says.  Mistakes go to
 * r->errors; -1: the file could not be read as a whole.
 */
MUST_CHECK int config_parse(struct config_reader *r);

/* --- config_value.c, config_list.c --- */

/* What one setting is being read for. */
struct config_reading {
	struct config_reader *r;
	const struct config_key *key;
	unsigned line; /* of the setting, or of the element that is read */
	bool failed;
	bool quoted; /* it is a string */
};

/* Sets the field, or reports and leaves it alone. */
void config_value_read(struct config_reader *r, const struct config_key *key,
    const struct config_setting_t *setting);
/* Reports "'key' ..."; the rest of the setting may be read for more. */
PRINTF(2, 3)
void config_value_bad(struct config_reading *in, const char *fmt, ...);
void config_value_bad_type(struct config_reading *in);
/* A copy of the string that s is, or NULL after telling what is wrong. */
char *config_read_text(
    struct config_reading *in, const struct config_setting_t *s);
/* Durations in us and sizes in bytes: a string with a unit, or an integer. */
void config_read_amount(struct config_reading *in,
    const struct config_setting_t *s, int64_t *field);
void config_read_strings(struct config_reading *in,
    const struct config_setting_t *s, struct config_strings *field);
void config_read_durations(struct config_reading *in,
    const struct config_setting_t *s, struct config_durations *field);
void config_read_rules(struct config_reading *in,
    const struct config_setting_t *s, struct config_rules *field);

/* --- config_text.c --- */

/* As it would stand in a file; free(3).  Not for secrets. */
char *config_value_text(const struct config *c, const struct config_key *key);
bool config_value_same(const struct config *a, const struct config *b,
    const struct config_key *key);
/* It has no value, nor a default. */
bool config_value_unset(const struct config *c, const struct config_key *key);
void config_value_free(struct config *c, const struct config_key *key);
void config_free_strings(struct config_strings *strings);
void config_free_rules(struct config_rules *rules);

/* --- config_units.c --- */

MUST_CHECK int config_parse_duration(const char *text, int64_t *us);
MUST_CHECK int config_parse_size(const char *text, uint64_t *bytes);
/* The shortest exact form; returns buf, size >= 32. */
const char *config_format_duration(int64_t us, char *buf, size_t size);
const char *config_format_size(uint64_t bytes, char *buf, size_t size);

/* --- config_syntax.c --- */

int config_check_address(const char *text, struct err *err); /* IP:port */
int config_check_network(const char *text, struct err *err); /* IP/prefix */
int config_check_hostname(const char *text, struct err *err);
int config_check_endpoint(const char *text, struct err *err);
int config_check_port(const char *text, struct err *err); /* of ses.ports */
int config_check_ip(const char *text, struct err *err);
int config_check_path(const char *text, struct err *err); /* absolute */
int config_check_socket(const char *text, struct err *err);
int config_check_name(const char *text, struct err *err); /* SES's names */
int config_check_tag(const char *text, struct err *err); /* name=value */
int config_check_arn(const char *text, struct err *err);
int config_check_mailbox(const char *text, struct err *err);
int config_check_bounce_to(const char *text, struct err *err);
int config_check_ident(const char *text, struct err *err);
int config_check_visible(const char *text, struct err *err); /* no blanks */
MUST_CHECK int config_parse_port(
    const char *text, struct pool_port *port, struct err *err);

/* --- config_credentials.c --- */

/* Reads them into the configuration, or reports why not. */
void config_derive_credentials(struct config_reader *r);

/* --- config_rewrite.c --- */

/* Makes the rules, of rewrite.*, ses.* and the aliases file. */
void config_derive_rewrite(struct config_reader *r);

/* --- config_http.c --- */

/* The networks of http.allow, and whether http.listen needs them. */
void config_derive_http(struct config_reader *r);

/* --- config_derive.c --- */

void config_derive(struct config_reader *r);

#endif
