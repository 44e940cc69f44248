/*
 * The operator's socket.
 *
 * A Unix stream socket, mode 0660.  One request a line: a verb and its
 * arguments, separated by blanks.  The answer is any number of JSON objects,
 * one a line, then "OK" or "ERR CODE text" (CODE as in sysexits(3)).
 *
 *   status          one object: the state of everything
 *   top             that of status, with "connection_list", "history" (rates
 *                   of the last seconds), "queue_ages" and "errors"
 *   log-level [LEVEL]
 *                   {"level": "info"}, after setting it
 *   connections     one object a connection to SES, see control_connections.c
 *   metrics         {"metrics": "..."}: the text that Prometheus reads
 *   queue [STATE]   one object a message: id, state, size, arrival, sender,
 *                   recipients, attempts, next_attempt, last_reply; one that
 *                   cannot be read has "damaged" instead of its envelope
 *   count           {"messages": n}
 *   show ID         the envelope as one object; with "show ID content", also
 *                   {"content": "..."} pieces, in which U+00XX is byte XX
 *   retry, hold, release, delete ID...
 *                   {"id", "result"} each; "later": it is being sent, and the
 *                   wish is carried out if SES does not take it
 *   ... --all       {"done", "later", "left_alone"}
 *   pause, resume [delivery|intake]
 *                   {"delivery_paused", "intake_paused"}
 *   drain [MS]      {"left", "held"} when nothing is left, or at the timeout
 *   rotate          {"connections": n}; with "rotate wait [MS]", when all n
 *                   are renewed or at the timeout, also "left"
 *   failed          one object a dead letter: id, file, time, arrival, size,
 *                   sender, recipients, reason, last_reply, message_id
 *   failed ID       those of that id; with "failed ID content", also content
 *   requeue ID... | --all
 *                   {"id", "file", "new_id"} a letter
 *   trace TEXT      {"id", "time", "event", ...} each, message by message
 *   reload          reads the configuration; {"message": "..."}
 *
 * A request of more than 4096 bytes is answered with ERR, and is the last of the
 * connection.  What could not be done for one of several is {"id", "error", "code"}.  While
 * an answer takes long, {"progress": n} comes twice a second.
 *
 * It answers whatever the state of mail is.  Writers are logged by uid; what
 * they change is recorded before the answer.
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
