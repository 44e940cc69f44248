/*
 * Reload and stop, for signals and for the operator's socket alike; and the
 * credentials, which are read again by themselves when SES refuses them.
 */
#include "daemon.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "credentials.h"
#include "pages.h"
#include "smtp/aliases.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

/*
 * When the daemon stops, a message whose content is not through yet gets this
 * long; one that waits for the reply to its dot gets longer, because giving it
 * up means a duplicate.  Both end before systemd's default TimeoutStopSec=90.
 */
#define STOP_SENDING_US (30 * US_PER_S)
#define STOP_DOT_US (80 * US_PER_S)
/* How often it looks. */
#define STOP_LOOK_US (20 * US_PER_MS)

void daemon_allow_descriptors(const struct config *config)
{
	rlim_t want = (rlim_t)config->smtp.max_sessions +
	    (rlim_t)config->options.inbound.spare_descriptors + 128;
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= want)
		return;
	if (want > limit.rlim_max)
		log_msg(LOG_LEVEL_WARNING, LOG_MASTER, LOG_NO_ID,
		    "%llu descriptors allowed, %llu needed for "
		    "smtp.max_sessions: raise LimitNOFILE",
		    (unsigned long long)limit.rlim_max,
		    (unsigned long long)want);
	limit.rlim_cur = want < limit.rlim_max ? want : limit.rlim_max;
	(void)setrlimit(RLIMIT_NOFILE, &limit);
}

/* --- reload --- */

struct changes {
	char *text; /* for the operator: lines */
	char *restart; /* names, blanks between */
	unsigned n; /* in force now */
};

/* Appends to a text that may not have begun. */
PRINTF(2, 3)
static void append(char **text, const char *fmt, ...)
{
	char *piece, *longer;
	va_list ap;

	va_start(ap, fmt);
	piece = xvasprintf(fmt, ap);
	va_end(ap);
	longer = xasprintf("%s%s", *text != NULL ? *text : "", piece);
	free(piece);
	free(*text);
	*text = longer;
}

static void note_change(
    void *ctx, const struct config_key *key, const char *from, const char *to)
{
	struct changes *changes = ctx;
	bool reloadable = (key->flags & CONFIG_RELOAD) != 0;

	append(&changes->text, "%s: %s -> %s%s\n", key->name, from, to,
	    reloadable ? "" : " (needs a restart)");
	log_msg(reloadable ? LOG_LEVEL_INFO : LOG_LEVEL_WARNING, LOG_MASTER,
	    LOG_NO_ID, "%s: %s -> %s%s", key->name, from, to,
	    reloadable ? "" : " has no effect before a restart");
	if (reloadable)
		changes->n++;
	else
		append(&changes->restart, "%s%s",
		    changes->restart != NULL ? " " : "", key->name);
}

/* -v stays: whoever started it so wants to see all. */
static void apply_log_options(struct daemon *d, const struct config *config)
{
	log_configure(&config->log_options);
	if (d->verbose > 0)
		log_set_level(LOG_LEVEL_DEBUG);
}

/* A password is no key, and what becomes of it is not seen at once. */
static void note_credentials(
    struct daemon *d, const struct config *config, struct changes *changes)
{
	bool waits = pool_new_credentials(d->relay->pool)[0] != '\0';

	if (!waits &&
	    credentials_equal(d->config->credentials, config->credentials))
		return;
	append(&changes->text, "%s\n",
	    waits ? "new credentials are being tried; the old ones stay in "
		    "force until SES accepts them"
		  : "new credentials are in force");
	log_msg(LOG_LEVEL_INFO, LOG_MASTER, LOG_NO_ID,
	    "SMTP credentials of %s from %s: %s", config->credentials->username,
	    config->credentials->source,
	    waits ? "to be tried before they are in force" : "in force");
}

/* Its path is a key, what it says is not. */
static void note_aliases(const struct config *config, struct changes *changes)
{
	const struct aliases *aliases = config->rewrite_rules->aliases;

	if (aliases == NULL)
		return;
	log_msg(LOG_LEVEL_INFO, LOG_MASTER, LOG_NO_ID, "%u aliases from %s",
	    aliases_count(aliases), config->rewrite.aliases_file);
	append(&changes->text, "%u aliases from %s\n", aliases_count(aliases),
	    config->rewrite.aliases_file);
}

void daemon_log_lines(enum log_level level, const char *event,
    const char *before, const char *lines)
{
	while (*lines != '\0') {
		int n = (int)strcspn(lines, "\n");

		log_msg_event(
		    level, LOG_MASTER, event, "%s%.*s", before, n, lines);
		lines += n + (lines[n] == '\n');
	}
}

static int refuse(struct daemon *d, const char *why)
{
	d->last_reload_ok = false;
	daemon_log_lines(LOG_LEVEL_ERROR, "reload-refused",
	    "reload refused, the old configuration stays in force: ", why);
	return -1;
}

/* What is in force now: tells it, and lets the old one go. */
static void swap(struct daemon *d, struct config *config, struct changes *told)
{
	if (d->boot == NULL)
		d->boot = config_boot_new(d->config);
	config_diff(d->config, config, d->boot, note_change, told);
	note_credentials(d, config, told);
	note_aliases(config, told);
	if (config->warnings[0] != '\0')
		append(&told->text, "%s\n", config->warnings);
	/* What changed is told where the log was, and that it did here. */
	apply_log_options(d, config);
	daemon_log_lines(LOG_LEVEL_WARNING, "message", "", config->warnings);
	config_free(d->config);
	d->config = config;
	pages_configure(d->pages);
	free(d->needs_restart);
	d->needs_restart = told->restart;
}

static int reload(struct daemon *d, char **message)
{
	struct changes changes = { NULL, NULL, 0 };
	struct config *config;
	struct err err;

	*message = NULL;
	config = config_load(d->config_file, message);
	if (config == NULL)
		return refuse(d, *message);
	daemon_allow_descriptors(config);
	if (relay_configure(d->relay, &config->options, &err) != 0) {
		/* The pool's trust anchors are all that may fail there. */
		*message = config_mistake(config, "ses.ca_file", err.text);
		config_free(config);
		return refuse(d, *message);
	}
	swap(d, config, &changes);
	d->credentials_trouble.text[0] = '\0';
	d->last_reload_ok = true;
	log_msg_event(LOG_LEVEL_INFO, LOG_MASTER, "reloaded",
	    "configuration reloaded, %u keys changed", changes.n);
	*message =
	    changes.text != NULL ? changes.text : xstrdup("nothing changed");
	return 0;
}

int daemon_reload(struct daemon *d, char **message)
{
	int rc;

	service_reloading(&d->service);
	rc = reload(d, message);
	service_reloaded(&d->service);
	return rc;
}

/* --- credentials --- */

/* One log line when it begins, or changes: this runs before each new try. */
static void note_unreadable(struct daemon *d, const struct err *err)
{
	bool news = strcmp(err->text, d->credentials_trouble.text) != 0;

	log_msg(news ? LOG_LEVEL_ERROR : LOG_LEVEL_DEBUG, LOG_MASTER, LOG_NO_ID,
	    "the SMTP credentials cannot be read again, those of before are "
	    "used: %s",
	    err->text);
	d->credentials_trouble = *err;
}

void daemon_reread_credentials(void *ctx)
{
	struct daemon *d = ctx;
	const struct credentials *c;
	struct err err;
	int rc = config_reread_credentials(d->config, &err);

	if (rc < 0) {
		note_unreadable(d, &err);
		return;
	}
	d->credentials_trouble.text[0] = '\0';
	if (rc == 0 && !d->credentials_untold)
		return;
	c = d->config->credentials;
	log_msg(LOG_LEVEL_INFO, LOG_MASTER, LOG_NO_ID,
	    "there are other SMTP credentials now, from %s: they are tried",
	    c->source);
	if (c->warning[0] != '\0')
		log_msg(
		    LOG_LEVEL_WARNING, LOG_MASTER, LOG_NO_ID, "%s", c->warning);
	d->credentials_untold =
	    pool_configure(d->relay->pool, &d->config->options.pool, &err) != 0;
	if (d->credentials_untold)
		note_unreadable(d, &err);
}

/* --- stop --- */

static void on_stop_timer(void *ctx)
{
	struct daemon *d = ctx;
	int64_t waited = clock_mono_us() - d->stop_began_us;

	if (waited > STOP_SENDING_US)
		pool_drop(d->relay->pool, waited > STOP_DOT_US);
	if (relay_stopped(d->relay)) {
		loop_stop(d->loop);
		return;
	}
	loop_timer_set(&d->stop_timer, STOP_LOOK_US);
}

void daemon_stop(struct daemon *d)
{
	if (d->stopping)
		return;
	d->stopping = true;
	d->stop_began_us = clock_mono_us();
	log_msg(LOG_LEVEL_INFO, LOG_MASTER, LOG_NO_ID, "stopping");
	relay_stop(d->relay);
	service_stopping(&d->service);
	loop_timer_init(&d->stop_timer, d->loop, on_stop_timer, d);
	loop_timer_set(&d->stop_timer, 0);
}
