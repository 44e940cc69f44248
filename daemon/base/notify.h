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
/* RELOADING=1 with the monotonic time that the protocol asks for. */
void notify_reloading(void);
/*
 * Descriptors passed under `name` (LISTEN_FDNAMES; without names, all of
 * them), at most `max`, close-on-exec set; returns how many.  $LISTEN_* is
 * removed from the environment, so this can be called once.
 */
int notify_listen_fds(const char *name, int *fds, int max);

#endif
