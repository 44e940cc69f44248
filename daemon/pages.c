/*
 * The pages of net/http: who may see them, and what they say.
 *
 * Owns the HTTP server and the text of the last scrape, which is served again
 * for METRICS_KEEP_US: whoever asks in a loop costs no more than ten scrapes a
 * second.  Loop thread.
 */
#include "pages.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "daemon.h"
#include "health.h"
#include "metrics.h"
#include "net/http.h"

#include <stdlib.h>

#define METRICS_KEEP_US (100 * US_PER_MS)
/* The version of the text format; promtool and every scraper know it. */
#define METRICS_TYPE "text/plain; version=0.0.4; charset=utf-8"

struct pages {
	struct daemon *daemon;
	struct http *http;
	char *metrics; /* NULL: never made */
	int64_t metrics_us; /* when it was, monotonic */
};

static void make_index(void *ctx, struct http_answer *a)
{
	(void)ctx;
	a->body = xstrdup(
	    "sesrelayd " SESRELAYD_VERSION "\n"
	    "/metrics  figures, as Prometheus reads them\n"
	    "/healthz  200: the daemon and its disk answer; else restart it\n"
	    "/readyz   200: mail is accepted; also while SES is away\n");
}

static void make_metrics(void *ctx, struct http_answer *a)
{
	struct pages *p = ctx;
	int64_t now = clock_mono_us();

	if (p->metrics == NULL || now - p->metrics_us >= METRICS_KEEP_US) {
		free(p->metrics);
		p->metrics = metrics_text(p->daemon);
		p->metrics_us = now;
	}
	a->type = METRICS_TYPE;
	a->body = xstrdup(p->metrics);
}

static void say(struct http_answer *a, const char *good, const char *why_not)
{
	a->status = why_not == NULL ? 200 : 503;
	a->body = why_not == NULL ? xasprintf("%s\n", good)
				  : xasprintf("not %s: %s\n", good, why_not);
}

static void make_healthz(void *ctx, struct http_answer *a)
{
	const struct pages *p = ctx;

	say(a, "healthy", health_not_alive(p->daemon));
}

static void make_readyz(void *ctx, struct http_answer *a)
{
	const struct pages *p = ctx;

	say(a, "ready", health_not_ready(p->daemon));
}

static const struct http_page table[] = {
	{ "/", make_index },
	{ "/metrics", make_metrics },
	{ "/healthz", make_healthz },
	{ "/readyz", make_readyz },
};

void pages_configure(struct pages *p)
{
	const struct config *c = p->daemon->config;

	http_allow(p->http, c->http_allow, c->n_http_allow);
}

struct pages *pages_open(struct daemon *d, struct err *err)
{
	const struct config_strings *listen = &d->config->http.listen;
	struct pages *p = xcalloc(1, sizeof *p);

	p->daemon = d;
	p->http = http_new(d->loop, table, ARRAY_LEN(table), p);
	pages_configure(p);
	for (unsigned i = 0; i < listen->n; i++) {
		if (http_listen(p->http, listen->items[i],
			d->config->options.inbound.spare_descriptors,
			err) != 0) {
			pages_close(p);
			return NULL;
		}
		log_msg(LOG_LEVEL_INFO, LOG_MASTER, LOG_NO_ID,
		    "metrics and health at http://%s/",
		    http_address(p->http, i));
	}
	return p;
}

void pages_close(struct pages *p)
{
	if (p == NULL)
		return;
	http_free(p->http);
	free(p->metrics);
	free(p);
}
