/*
 * The process: what main() starts, stops and reloads, and what the operator's
 * socket looks at.
 */
#ifndef DAEMON_H
#define DAEMON_H

#include "config.h"
#include "rates.h"
#include "relay/relay.h"
#include "service.h"

struct control;
struct pages;

struct daemon {
	const char *config_file;
	struct loop *loop;
	struct config *config;
	struct relay *relay;
	struct rates rates;
	struct control *control;
	struct pages *pages;
	struct service service;
	int verbose; /* -v, wins over log.level */
	bool stopping;
	int64_t started_wall_us;
	int64_t stop_began_us; /* monotonic */
	struct loop_timer stop_timer;
	bool last_reload_ok;
	struct config_boot *boot; /* what a reload doesn't change */
	char *needs_restart; /* its keys that the file has otherwise; or "" */
	struct err credentials_trouble; /* of the last reading; "" if none */
	bool credentials_untold; /* read, but the pool could not take them */
};

/*
 * Reads the configuration again.  0: in force; -1: *message says why the old
 * one still is.  Either way *message (free(3) it) may tell what changed and
 * what needs a restart.
 */
int daemon_reload(struct daemon *d, char **message);
/* A log line for each of `lines`, with `before` in front of it. */
void daemon_log_lines(enum log_level level, const char *event,
    const char *before, const char *lines);
/* Raises the limit for all sessions, the pool, the spool and some to spare; as
 * far as the system lets it, with a warning if that is not enough. */
void daemon_allow_descriptors(const struct config *config);
/* The relay's source of new credentials; the daemon as `ctx`. */
void daemon_reread_credentials(void *ctx);
/* SIGTERM: no new mail, finish what is under way, leave the loop. */
void daemon_stop(struct daemon *d);

#endif
