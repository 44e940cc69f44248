/*
 * What every module may take for granted: assertions that stay in release
 * builds, the reason of a failure, and the annotations that make the compiler
 * check our conventions.
 *
 * Errors come in three kinds, each with one form:
 *   programmer errors      ASSERT(), which aborts: the supervisor starts us
 *                          again and the spool is the truth;
 *   environment failures   int 0 or -1 with the reason in a struct err that
 *                          the caller passed in, logged once, by the caller
 *                          that decides what to do;
 *   outcomes of mail       struct verdict (smtp/classify.h), never an int.
 */
#ifndef BASE_BASE_H
#define BASE_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MUST_CHECK __attribute__((warn_unused_result))
#define PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#define NORETURN __attribute__((noreturn))

/* Where the configuration is, in a directory of our name; `make` may tell. */
#ifndef SESRELAYD_SYSCONFDIR
#define SESRELAYD_SYSCONFDIR "/etc"
#endif

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))

/* The struct that `member` at `ptr` is part of. */
#define CONTAINER_OF(ptr, type, member)                                        \
	((type *)(void *)((char *)(ptr)-offsetof(type, member)))

#define ASSERT(cond)                                                           \
	((cond) ? (void)0 : assert_failed(#cond, __FILE__, __LINE__))

/* Writes the failed condition to stderr and aborts. */
NORETURN void assert_failed(const char *cond, const char *file, int line);

/* For what nobody can go on without (memory, threads): says so, aborts. */
NORETURN PRINTF(1, 2) void fatal(const char *fmt, ...);

/* Reason of an environment failure.  `code` is an errno value or 0. */
struct err {
	int code;
	char text[256];
};

/*
 * Fill *err (which may be NULL) and return -1, so that a failing function can
 * end in one line.  err_sys() appends ": " and the text of errno.
 */
PRINTF(3, 4) int err_set(struct err *err, int code, const char *fmt, ...);
PRINTF(2, 3) int err_sys(struct err *err, const char *fmt, ...);

#endif
