/*
 * Which message was being worked on when the process crashed.
 *
 * A message whose processing kills the daemon would do so after every start.
 * So each thread says what it works on, and a handler for the signals of a
 * crash (SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT: also that of the service
 * manager's watchdog) appends the line "ID WORD\n" to a file; then the crash
 * goes its way as without us: the same signal, the same core.  Who reads the
 * file at the next start: queue/spool_marks.h.
 *
 * What kills from outside marks nobody: SIGKILL, and with it the kernel's
 * answer to exhausted memory, has no handler, and our own xmalloc() that finds
 * nothing withdraws the mark before it aborts.
 */
#ifndef BASE_CRASH_H
#define BASE_CRASH_H

#include "base/base.h"

enum crash_work {
	CRASH_NONE,
	CRASH_SCAN, /* read by the start scan */
	CRASH_LOAD,
	CRASH_SEND,
	CRASH_SETTLE,
	CRASH_BURY,
	CRASH_COPY, /* by compaction */
	CRASH_N_WORKS
};

struct crash_mark {
	uint64_t id; /* 0: no message */
	enum crash_work work;
};

/*
 * From now on this thread works on that message; returns what it did before,
 * for crash_leave().  The two are cheap, and nest.
 */
struct crash_mark crash_enter(uint64_t id, enum crash_work work);
void crash_leave(struct crash_mark before);

/* Installs the handler, for the whole process. */
void crash_init(void);
/* An alternate stack for this thread; crash_init() and work threads call it. */
void crash_thread_init(void);
/* Where lines are appended (O_APPEND); -1: nowhere. */
void crash_set_fd(int fd);

/* The word in the file: "load"; NULL beyond the last. */
const char *crash_work_name(enum crash_work work);

#endif
