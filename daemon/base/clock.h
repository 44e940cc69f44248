/*
 * The clocks, in microseconds, read once per turn of the loop.
 *
 * clock_mono_us()  runs evenly and never jumps: timers, ages of connections,
 *                  delays, due times of retries.
 * clock_wall_us()  the time of day, which may jump: message ids, Received:,
 *                  log lines.
 * clock_boot_us()  as the first, but it goes on while the machine sleeps, and
 *                  processes of one boot agree on it: ages over restarts.
 *
 * Policy code (floor 1) takes `now` as an argument instead.  Loop thread only;
 * tests replace the clocks by clock_set_fake(): it sets the third to mono_us.
 */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include "base/base.h"

#define US_PER_S INT64_C(1000000)
#define US_PER_MS INT64_C(1000)

void clock_update(void); /* read the system's clocks; the loop calls it */
int64_t clock_mono_us(void);
int64_t clock_wall_us(void);
int64_t clock_boot_us(void);
void clock_set_fake(int64_t mono_us, int64_t wall_us);
void clock_set_real(void);
/* "Sat, 21 Nov 2026 10:00:01 +0000" (RFC 5322 3.3), in UTC; size >= 40. */
void clock_format_rfc5322(int64_t wall_us, char *buf, size_t size);
/* "2026-11-21T10:00:01.123456Z" (RFC 3339), in UTC; size >= 32. */
void clock_format_rfc3339(int64_t wall_us, char *buf, size_t size);
/* "Nov 21 10:00:01" (RFC 3164 4.1.2), in local time; size >= 24. */
void clock_format_syslog(int64_t wall_us, char *buf, size_t size);

#endif
