/*
 * The operator's socket.
 *
 * A Unix stream socket, mode 0660.  One request a line: a verb and its
 * arguments, separated by blanks.  The answer is any number of JSON objects,
 * one a line, then "OK" or "ERR CODE text" (CODE as in sysexits(3)).
 *
 *   status          one object: the state of everything
 *   queue [STATE]   one object a message: id, state, size, arrival, sender,
 *                   recipients, attempts, next_attempt, last_reply
 *   count           {"messages": n}
 *   show ID         the envelope as one object; with "show ID content", also
 *                   {"content": "..."} pieces, in which U+00XX is byte XX
 *   reload          reads the configuration; {"message": "..."}
 *
 * It answers whatever the state of mail is.  Writers are logged by uid.
 */
#ifndef CONTROL_H
#define CONTROL_H

#include "base/base.h"

struct daemon;
struct control;

/* `group` may be NULL, or name no group (a warning). */
MUST_CHECK struct control *control_open(
    struct daemon *d, const char *path, const char *group, struct err *err);
void control_close(struct control *c); /* NULL is legal; unlinks */

#endif
