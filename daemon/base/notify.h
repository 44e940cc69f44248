/*
 * The service manager's two small protocols, spoken without its library:
 * state messages (sd_notify(3)) and sockets handed in (sd_listen_fds(3)).
 * Both are silent when there is no manager.
 */
#ifndef BASE_NOTIFY_H
#define BASE_NOTIFY_H

#include "base/base.h"

/* "READY=1", "STOPPING=1", "STATUS=...": lines separated by \n. */
PRINTF(1, 2) void notify_send(const char *fmt, ...);
/* The same, for what is said again and again: never waits, and says whether a
 * manager has it. */
PRINTF(1, 2) bool notify_try(const char *fmt, ...);
/* RELOADING=1 with the monotonic time that the protocol asks for. */
void notify_reloading(void);
/* Is there a manager that wants to be told? */
bool notify_wanted(void);
/*
 * So often the manager wants WATCHDOG=1 of this process ($WATCHDOG_USEC,
 * $WATCHDOG_PID); 0: not at all.
 */
int64_t notify_watchdog_us(void);
/*
 * Descriptors passed under `name` (LISTEN_FDNAMES; without names, all of
 * them), at most `max`, close-on-exec set; returns how many, or -1 when one has
 * another name, is none, or there are more: whoever passed it counts on it.
 * $LISTEN_* is removed from the environment, so this can be called once.
 */
MUST_CHECK int notify_listen_fds(
    const char *name, int *fds, int max, struct err *err);

#endif
