/*
 * Counters and gauges of the process, one registry, named as they are exported
 * (without the prefix "sesrelayd_").  Any thread may add; reading is relaxed.
 *
 * A new metric is one line in STAT_TABLE: symbol, exported name, label pairs
 * or "", kind, help.
 */
#ifndef BASE_STAT_H
#define BASE_STAT_H

#include "base/base.h"

/* What sessions refuse, by the codes that they know. */
#define STAT_REJECTED_ROW(X, code)                                             \
	X(MESSAGES_REJECTED_##code, "messages_rejected_total",                 \
	    "code=\"" #code "\"", COUNTER,                                     \
	    "Commands, messages and connections refused, by the reply's code")
#define STAT_REJECTED(X)                                                       \
	STAT_REJECTED_ROW(X, 421)                                              \
	STAT_REJECTED_ROW(X, 451)                                              \
	STAT_REJECTED_ROW(X, 452)                                              \
	STAT_REJECTED_ROW(X, 500)                                              \
	STAT_REJECTED_ROW(X, 501)                                              \
	STAT_REJECTED_ROW(X, 502)                                              \
	STAT_REJECTED_ROW(X, 503)                                              \
	STAT_REJECTED_ROW(X, 504)                                              \
	STAT_REJECTED_ROW(X, 550)                                              \
	STAT_REJECTED_ROW(X, 552)                                              \
	STAT_REJECTED_ROW(X, 553)                                              \
	STAT_REJECTED_ROW(X, 554)                                              \
	STAT_REJECTED_ROW(X, 555)                                              \
	STAT_REJECTED_ROW(X, other)

#define STAT_TABLE(X)                                                          \
	X(MESSAGES_ACCEPTED, "messages_accepted_total", "", COUNTER,           \
	    "Messages acknowledged with 250 to local programs")                \
	X(RCPT_ACCEPTED, "recipients_accepted_total", "", COUNTER,             \
	    "Recipients of messages acknowledged with 250")                    \
	STAT_REJECTED(X)                                                       \
	X(RCPT_SENT, "recipients_total", "status=\"sent\"", COUNTER,           \
	    "Recipients by outcome")                                           \
	X(RCPT_DEFERRED, "recipients_total", "status=\"deferred\"", COUNTER,   \
	    "Recipients by outcome")                                           \
	X(RCPT_FAILED, "recipients_total", "status=\"failed\"", COUNTER,       \
	    "Recipients by outcome")                                           \
	X(MESSAGES_UNCERTAIN, "messages_uncertain_total", "", COUNTER,         \
	    "Final replies lost: SES may or may not have the message")         \
	X(MESSAGES_QUARANTINED, "messages_quarantined_total", "", COUNTER,     \
	    "Messages held because they crashed the daemon again and again")   \
	X(NOTICES, "notices_total", "", COUNTER,                               \
	    "Failure notices sent (bounce.from)")                              \
	X(SPOOL_ERRORS, "spool_errors_total", "", COUNTER,                     \
	    "Failed operations on the spool")                                  \
	X(SPOOL_DAMAGED, "spool_damaged_total", "", COUNTER,                   \
	    "Damaged records met and set aside")                               \
	X(SPOOL_TORN, "spool_torn_total", "", COUNTER,                         \
	    "Unfinished records found after a crash, and ignored")             \
	X(SPOOL_SYNCS, "spool_syncs_total", "", COUNTER,                       \
	    "Group commits: one write and one fdatasync each")                 \
	X(CONNECTS_OK, "connects_total", "result=\"ok\"", COUNTER,             \
	    "Connections opened to SES, up to a successful login")             \
	X(CONNECTS_FAILED, "connects_total", "result=\"failed\"", COUNTER,     \
	    "Connections opened to SES, up to a successful login")             \
	X(THROTTLED_RATE, "throttled_total", "kind=\"rate\"", COUNTER,         \
	    "Throttling replies of SES")                                       \
	X(THROTTLED_DAILY, "throttled_total", "kind=\"daily\"", COUNTER,       \
	    "Throttling replies of SES")                                       \
	X(AUTH_FAILURES, "auth_failures_total", "", COUNTER,                   \
	    "Credentials refused by SES")                                      \
	X(SESSIONS, "sessions", "", GAUGE, "Local SMTP sessions now open")     \
	X(SESSIONS_TOTAL, "sessions_total", "", COUNTER,                       \
	    "Local SMTP sessions opened")                                      \
	X(BODY_BYTES, "body_memory_bytes", "", GAUGE,                          \
	    "Message content held in memory")

enum stat_kind { STAT_COUNTER, STAT_GAUGE };

enum stat_id {
#define STAT_ENUM(sym, name, labels, kind, help) STAT_##sym,
	STAT_TABLE(STAT_ENUM)
#undef STAT_ENUM
	    STAT_N
};

struct stat_info {
	const char *name;
	const char *labels;
	enum stat_kind kind;
	const char *help;
};

void stat_add(enum stat_id id, int64_t delta);
void stat_set(enum stat_id id, int64_t value);
int64_t stat_get(enum stat_id id);
/* One of messages_rejected_total; a code without a row is "other". */
void stat_add_rejected(int code);
const struct stat_info *stat_info(enum stat_id id);
void stat_reset(void); /* for tests */

#endif
