/*
 * Queue ids: 64-bit numbers, written as 16 upper-case hexadecimal digits, the
 * form that every parser of mail logs and of mailq output accepts.
 *
 * An id is the wall clock in microseconds at its birth, pushed forward until
 * it is greater than every id given before: ids are unique and increase even
 * when the clock stands still or jumps back.  Across restarts the spool passes
 * the highest id that it holds to id_init().  Loop thread only.
 */
#ifndef BASE_ID_H
#define BASE_ID_H

#include "base/slice.h"

#define ID_LEN 16
#define ID_BUF (ID_LEN + 1)

/* Ids given from now on are greater than `floor`. */
void id_init(uint64_t floor);
uint64_t id_new(int64_t wall_us);
/* The highest id given so far, or the floor. */
uint64_t id_last(void);
/* Returns buf, terminated. */
const char *id_format(uint64_t id, char buf[ID_BUF]);
/* Exactly 16 digits 0-9 A-F (lower case is accepted too); else -1. */
MUST_CHECK int id_parse(struct slice text, uint64_t *id);

#endif
