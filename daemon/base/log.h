/*
 * One event, one line.
 *
 * A module hands over fields; this module writes the line: Postfix's shape
 * (text), the journal's native protocol, syslog, or one JSON object.  The
 * shape is "IDENT/COMPONENT[PID]: ID: key=value, key=<value> (note)".  What
 * peers sent is escaped here, in one place: control bytes, backslashes and
 * bytes above 0x7e as \xNN, and cut at 1,024 bytes a value; in JSON as JSON
 * does it.  Never pass a secret or a body.
 *
 * Lines are gathered and written by log_flush(), which the loop calls once a
 * turn; errors are written at once.  A target that would block drops lines and
 * says later how many: mail does not wait for its log.  Loop thread only (and
 * single-threaded start-up); other threads report through completions.
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include "base/base.h"
#include "base/slice.h"

enum log_target {
	LOG_TARGET_AUTO, /* journal when stderr is the journal, else stderr */
	LOG_TARGET_STDERR,
	LOG_TARGET_JOURNAL,
	LOG_TARGET_SYSLOG,
};
enum log_format { LOG_FORMAT_TEXT, LOG_FORMAT_JSON };
enum log_level {
	LOG_LEVEL_ERROR,
	LOG_LEVEL_WARNING,
	LOG_LEVEL_INFO,
	LOG_LEVEL_DEBUG,
};

/* The part after the slash of the ident, as mail-log parsers know it. */
enum log_component {
	LOG_SMTPD, /* local sessions */
	LOG_CLEANUP, /* a message becoming durable */
	LOG_QMGR, /* the queue */
	LOG_SMTP, /* deliveries to SES */
	LOG_BOUNCE, /* notices of failures */
	LOG_CONTROL, /* the operator */
	LOG_MASTER, /* start, stop, reload, spool */
};

struct log_options {
	enum log_target target;
	enum log_format format;
	enum log_level level;
	const char *name; /* before the slash of the ident */
};

/* How a field stands in a text line; JSON always has "key": value. */
enum log_style {
	LOG_END, /* ends a list of fields */
	LOG_PLAIN, /* key=value */
	LOG_ANGLE, /* key=<value> */
	LOG_NUMBER, /* key=value, a JSON number */
	LOG_NOTE, /* (value), after what stands before it, no comma */
	LOG_HIDDEN, /* JSON and journal only */
	LOG_HIDDEN_NUMBER, /* the same, a JSON number */
};

struct log_field {
	enum log_style style;
	const char *key;
	const char *value; /* NULL: the field is left out */
};

#define LOG_NO_ID UINT64_C(0)

/* Before the first call, everything goes to stderr as text at "info". */
void log_init(const struct log_options *options);
/* The same at run time: the target is opened anew only if it is another one. */
void log_configure(const struct log_options *options);
void log_set_level(enum log_level level);
enum log_level log_level(void);
/* "info"; of a level, and the level of a name: 0, or -1 if it is none. */
const char *log_level_name(enum log_level level);
MUST_CHECK int log_level_parse(struct slice name, enum log_level *level);
bool log_enabled(enum log_level level);

/*
 * `event` names the kind of event in JSON and in the journal ("sent"); `id` is
 * a queue id or LOG_NO_ID; `fields` ends with LOG_END, or is NULL.  In a text
 * line without any field to show, the event's name stands for them: "removed".
 */
void log_event(enum log_level level, enum log_component component,
    const char *event, uint64_t id, const struct log_field *fields);
/*
 * A sentence for people; JSON event "message".  Text lines put "warning: " or
 * "error: " before it.  Control and non-ASCII bytes are escaped, backslashes
 * are not: an argument may have been through log_escape().
 */
PRINTF(4, 5)
void log_msg(enum log_level level, enum log_component component, uint64_t id,
    const char *fmt, ...);
/* The same with an event of its own, for who looks for it by its name. */
PRINTF(4, 5)
void log_msg_event(enum log_level level, enum log_component component,
    const char *event, const char *fmt, ...);
void log_flush(void);

/*
 * Tests read what would have been written: the line from IDENT on, or the JSON
 * object, without time stamp and newline; NULL restores the target.
 */
void log_capture(void (*sink)(void *ctx, const char *line), void *ctx);

/*
 * `in` with control bytes, backslash and non-ASCII as \xNN, terminated, cut to
 * fit; returns buf.
 */
const char *log_escape(const char *in, size_t len, char *buf, size_t size);

#endif
