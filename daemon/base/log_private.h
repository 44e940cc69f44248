/*
 * Between log.c, which decides what is logged, log_format.c, which makes the
 * bytes, and log_target.c, which gets rid of them.  For these three and their
 * tests only.
 */
#ifndef BASE_LOG_PRIVATE_H
#define BASE_LOG_PRIVATE_H

#include "base/log.h"

#define LOG_VALUE_MAX 1024 /* bytes of a value, before escaping */
#define LOG_LINE_MAX 16384
#define LOG_BUFFER_BYTES 65536

/* One event on its way; valid for the duration of the call that logs it. */
struct log_entry {
	enum log_level level;
	enum log_component component;
	const char *name; /* before the slash of the ident */
	const char *event;
	const char *message; /* of log_msg(); then fields is NULL */
	const struct log_field *fields;
	uint64_t id;
	int64_t wall_us;
	int pid;
};

/* Bytes gathered up to a bound; `cut` is set when something did not fit. */
struct log_text {
	size_t len;
	bool cut;
	char buf[LOG_LINE_MAX];
};

/* What a target wants around the line. */
enum log_frame {
	LOG_FRAME_BARE, /* IDENT/COMPONENT[PID]: ... */
	LOG_FRAME_STREAM, /* Mmm dd hh:mm:ss HOST, then as bare */
	LOG_FRAME_PRIORITY, /* <N>, then as bare */
	LOG_FRAME_SYSLOG, /* <PRI>Mmm dd hh:mm:ss, then as bare */
	LOG_FRAME_JOURNAL, /* KEY=value lines */
};

/* The entry as `frame` wants it, with its newline if any, and terminated. */
void log_format_entry(const struct log_entry *entry, enum log_format format,
    enum log_frame frame, const char *hostname, struct log_text *out);

/*
 * Opens `target`, or the stream when it is not there; the frame to use.  Lines
 * that wait for the target before it count as dropped.
 */
enum log_frame log_target_open(enum log_target target);
/* Without room, the line is dropped and counted. */
void log_target_put(const void *data, size_t len);
/* Writes what can be written without waiting. */
void log_target_flush(void);
/* Lines dropped since it was asked for the last time, once all is written. */
uint64_t log_target_take_dropped(void);
/* For tests: other sockets than the system's, another stream than stderr. */
void log_target_redirect(const char *journal, const char *syslog, int stream);

#endif
