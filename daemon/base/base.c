/*
 * The ends of a process that cannot go on, and the reasons of those that can.
 *
 * Owns nothing; any thread.  What is said before abort(3) is written with one
 * write(2) from the stack: the heap may be what has failed.
 */
#include "base/base.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A line of `n` bytes as snprintf counts them, ended and written. */
NORETURN static void say_and_abort(char *line, size_t size, int n)
{
	size_t len = n < 0 ? 0 : (size_t)n;

	if (len > size - 2)
		len = size - 2;
	line[len++] = '\n';
	if (write(STDERR_FILENO, line, len) < 0) {
		/* There is nobody left to tell. */
	}
	abort();
}

void assert_failed(const char *cond, const char *file, int line)
{
	char text[512];
	int n = snprintf(text, sizeof(text), "%s:%d: assertion failed: %s",
	    file, line, cond);

	say_and_abort(text, sizeof(text), n);
}

void fatal(const char *fmt, ...)
{
	char text[512];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	say_and_abort(text, sizeof(text), n);
}

int err_set(struct err *err, int code, const char *fmt, ...)
{
	va_list ap;

	if (!err)
		return -1;
	err->code = code;
	va_start(ap, fmt);
	vsnprintf(err->text, sizeof(err->text), fmt, ap);
	va_end(ap);
	return -1;
}

int err_sys(struct err *err, const char *fmt, ...)
{
	int code = errno;
	size_t len;
	char reason[128];
	va_list ap;

	if (!err)
		return -1;
	err->code = code;
	va_start(ap, fmt);
	vsnprintf(err->text, sizeof(err->text), fmt, ap);
	va_end(ap);
	/* The GNU strerror_r, which may return a string of its own. */
	len = strlen(err->text);
	snprintf(err->text + len, sizeof(err->text) - len, ": %s",
	    strerror_r(code, reason, sizeof(reason)));
	errno = code;
	return -1;
}
