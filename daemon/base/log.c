/*
 * One event, one line: what is logged, and when it is written.
 *
 * Owns the options and the line in the making; loop thread only.  A line is
 * formatted when it is logged and written by the next flush.  Lines that a
 * target had no room for are reported as soon as everything before them is
 * out, so that the report stands where they are missing.
 */
#include "base/log_private.h"

#include "base/clock.h"
#include "base/slice.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static char name[64] = "sesrelayd";
static char hostname[65] = "localhost";
static enum log_format format = LOG_FORMAT_TEXT;
static enum log_frame frame = LOG_FRAME_STREAM;
static enum log_level max_level = LOG_LEVEL_INFO;
static enum log_target wanted; /* the target that was asked for last */
static bool opened;

static void (*capture)(void *ctx, const char *line);
static void *capture_ctx;

/* The first label of the host's name, as syslog(3) daemons write it. */
static void find_hostname(void)
{
	char full[sizeof(hostname)] = "";
	struct slice rest, label;

	if (gethostname(full, sizeof(full) - 1) < 0)
		return;
	rest = slice_str(full);
	label = slice_split(&rest, '.');
	if (label.len > 0)
		slice_copy(label, hostname, sizeof(hostname));
}

static void open_target(enum log_target target)
{
	find_hostname();
	frame = log_target_open(target);
	opened = true;
	wanted = target;
	if ((target == LOG_TARGET_JOURNAL && frame != LOG_FRAME_JOURNAL) ||
	    (target == LOG_TARGET_SYSLOG && frame != LOG_FRAME_SYSLOG))
		log_msg(LOG_LEVEL_WARNING, LOG_MASTER, LOG_NO_ID,
		    "%s is not there: logging to stderr",
		    target == LOG_TARGET_JOURNAL ? "the journal" : "syslog");
}

static void set_options(const struct log_options *options)
{
	log_flush();
	slice_copy(slice_str(options->name), name, sizeof(name));
	format = options->format;
	max_level = options->level;
}

void log_init(const struct log_options *options)
{
	set_options(options);
	open_target(options->target);
}

void log_configure(const struct log_options *options)
{
	set_options(options);
	if (!opened || options->target != wanted)
		open_target(options->target);
}

void log_set_level(enum log_level level)
{
	max_level = level;
}

enum log_level log_level(void)
{
	return max_level;
}

bool log_enabled(enum log_level level)
{
	return level <= max_level;
}

static void write_entry(struct log_entry *entry)
{
	static struct log_text text; /* large, and not needed twice */
	static pid_t pid; /* asking costs a system call, and nobody forks */

	if (pid == 0)
		pid = getpid();
	entry->name = name;
	entry->wall_us = clock_wall_us();
	entry->pid = pid;
	if (capture) {
		log_format_entry(
		    entry, format, LOG_FRAME_BARE, hostname, &text);
		capture(capture_ctx, text.buf);
		return;
	}
	if (!opened)
		open_target(LOG_TARGET_STDERR);
	log_format_entry(entry, format, frame, hostname, &text);
	log_target_put(text.buf, text.len);
	if (entry->level == LOG_LEVEL_ERROR)
		log_flush();
}

void log_event(enum log_level level, enum log_component component,
    const char *event, uint64_t id, const struct log_field *fields)
{
	if (log_enabled(level))
		write_entry(&(struct log_entry){
		    .level = level,
		    .component = component,
		    .event = event,
		    .id = id,
		    .fields = fields,
		});
}

PRINTF(5, 0)
static void write_message(enum log_level level, enum log_component component,
    const char *event, uint64_t id, const char *fmt, va_list ap)
{
	char message[2048];

	if (!log_enabled(level))
		return;
	vsnprintf(message, sizeof(message), fmt, ap);
	write_entry(&(struct log_entry){
	    .level = level,
	    .component = component,
	    .event = event,
	    .message = message,
	    .id = id,
	});
}

void log_msg(enum log_level level, enum log_component component, uint64_t id,
    const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	write_message(level, component, "message", id, fmt, ap);
	va_end(ap);
}

void log_msg_event(enum log_level level, enum log_component component,
    const char *event, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	write_message(level, component, event, LOG_NO_ID, fmt, ap);
	va_end(ap);
}

void log_flush(void)
{
	uint64_t dropped;

	log_target_flush();
	dropped = log_target_take_dropped();
	if (dropped == 0)
		return;
	log_msg(LOG_LEVEL_WARNING, LOG_MASTER, LOG_NO_ID,
	    "%ju log lines dropped: their target did not take them",
	    (uintmax_t)dropped);
	log_target_flush();
}

void log_capture(void (*sink)(void *ctx, const char *line), void *ctx)
{
	capture = sink;
	capture_ctx = ctx;
}
