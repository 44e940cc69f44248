/*
 * The spool clock: time that the spool has lived through.  It never runs
 * backwards and does not follow the jumps of the wall clock, also over
 * restarts; where nothing ever jumps it shows the wall clock's time.  Ages of
 * messages and of dead letters are measured on it.
 *
 * The file SPOOL/clock is one line, replaced at open, every minute and at close:
 *
 *   sesrelayd-clock 1 WALL BOOTTIME BOOT-ID TIME CHECK
 *
 * WALL, BOOTTIME (CLOCK_BOOTTIME) and TIME (of the spool clock) are of one
 * moment, in microseconds, 20 decimal digits each; BOOT-ID is the text of
 * /proc/sys/kernel/random/boot_id (36 characters; all "0" where there is
 * none); CHECK is XXH3-64 of what stands before it, 16 hexadecimal digits.
 * 135 bytes with the LF.
 *
 * Its loss is harmless: then the spool clock begins at the wall clock's time.
 * What the time of an arrival was is in its head (`clock`, queue/record.h).
 *
 * Pure: bytes and times in, bytes and times out.
 */
#ifndef QUEUE_SPOOL_CLOCK_H
#define QUEUE_SPOOL_CLOCK_H

#include "base/slice.h"

#define SPOOL_CLOCK_LEN 135
#define SPOOL_CLOCK_BOOT_LEN 36

/* One moment on three clocks. */
struct spool_clock {
	int64_t wall_us, boot_us, spool_us;
	char boot_id[SPOOL_CLOCK_BOOT_LEN + 1];
};

/* Negative times are written as 0. */
void spool_clock_encode(
    const struct spool_clock *c, char buf[SPOOL_CLOCK_LEN + 1]);
/* Only what that makes. */
MUST_CHECK int spool_clock_decode(struct slice text, struct spool_clock *c);
/* From the text of the kernel; anything else counts as none. */
void spool_clock_set_boot(struct spool_clock *c, struct slice text);
/*
 * Sets now->spool_us from the rest of *now and the last moment that is known,
 * or NULL.  Within one boot, time is exact; from one boot to another the wall
 * clocks tell it, if they differ by 0 to 30 days, and else nobody does: then it
 * stood still.
 */
void spool_clock_go_on(const struct spool_clock *last, struct spool_clock *now);
/* The spool clock's time at a later moment of the same boot. */
int64_t spool_clock_at(const struct spool_clock *c, int64_t boot_us);

#endif
