/*
 * What log lines would be written: a fixture that keeps the last one, under a
 * clock that stands at 2026-11-21T10:00:01.123456Z.
 */
#ifndef UNIT_BASE_CAPTURE_H
#define UNIT_BASE_CAPTURE_H

#include "base/clock.h"
#include "base/log_private.h"

#include <stdio.h>

static char captured[LOG_LINE_MAX];
static int n_captured;

static inline void capture_line(void *ctx, const char *line)
{
	assert_ptr_equal(ctx, captured);
	snprintf(captured, sizeof(captured), "%s", line);
	n_captured++;
}

static inline void capture_init(
    enum log_format format, enum log_level level, const char *name)
{
	const struct log_options options = {
		.target = LOG_TARGET_STDERR,
		.format = format,
		.level = level,
		.name = name,
	};

	log_init(&options);
}

static inline int capture_setup(void **state)
{
	(void)state;
	clock_set_fake(0, 1795255201123456);
	capture_init(LOG_FORMAT_TEXT, LOG_LEVEL_INFO, "sesrelayd");
	log_capture(capture_line, captured);
	captured[0] = '\0';
	n_captured = 0;
	return 0;
}

static inline int capture_teardown(void **state)
{
	(void)state;
	log_capture(NULL, NULL);
	clock_set_real();
	return 0;
}

#endif
