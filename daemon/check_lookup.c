/*
 * The look-up of the endpoint's name, as the daemon's resolver does it, but
 * with its reason told apart and its time taken.
 *
 * getaddrinfo() waits for as long as resolv.conf says, which may be minutes;
 * nothing here waits for it.  The job and its thread are left behind when the
 * time is over, so nothing of this module is freed before the process ends.
 */
#include "check_private.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/work.h"

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>

#define LIMIT_US (7 * US_PER_S)
#define SLOW_US (1 * US_PER_S)

struct lookup {
	struct work_job job;
	struct loop_timer timer;
	struct work_port *port;
	struct loop_watch *watch;
	char *host;
	int64_t begun_us;
	/* Written by the thread, until the job is done. */
	struct addrinfo *found;
	int rc, code;
	void (*done)(void *ctx, const struct lookup_result *result);
	void *ctx;
	bool told;
};

static void run_job(struct work_job *job)
{
	struct lookup *l = CONTAINER_OF(job, struct lookup, job);
	struct addrinfo hints = { .ai_family = AF_UNSPEC,
		.ai_socktype = SOCK_STREAM };

	errno = 0;
	l->rc = getaddrinfo(l->host, NULL, &hints, &l->found);
	l->code = errno;
}

static void tell(struct lookup *l, struct lookup_result *result)
{
	if (l->told)
		return;
	l->told = true;
	loop_timer_fini(&l->timer);
	loop_unwatch(l->watch);
	result->us = clock_mono_us() - l->begun_us;
	if (result->outcome == OUTCOME_OK && result->us > SLOW_US)
		result->outcome = OUTCOME_SLOW;
	if (result->outcome == OUTCOME_SLOW)
		snprintf(result->detail, sizeof(result->detail), "%.1f s",
		    (double)result->us / US_PER_S);
	l->done(l->ctx, result);
}

static void on_timer(void *ctx)
{
	struct lookup_result result = { .outcome = OUTCOME_TIMEOUT };

	snprintf(result.detail, sizeof(result.detail), "no answer in %d s",
	    (int)(LIMIT_US / US_PER_S));
	tell(ctx, &result);
}

static void take_addresses(
    const struct addrinfo *found, struct lookup_result *result)
{
	for (; found; found = found->ai_next) {
		struct resolver_addr *a =
		    &result->addresses[result->n_addresses];

		if ((found->ai_family != AF_INET &&
			found->ai_family != AF_INET6) ||
		    found->ai_addrlen > sizeof(a->addr) ||
		    result->n_addresses == CHECK_MAX_ADDRESSES)
			continue;
		memcpy(&a->addr, found->ai_addr, found->ai_addrlen);
		a->len = found->ai_addrlen;
		result->n_addresses++;
	}
}

static enum diagnosis_outcome outcome_of(const struct lookup *l)
{
	switch (l->rc) {
	case 0:
		return OUTCOME_OK;
	case EAI_NONAME:
		return OUTCOME_NO_NAME;
	case EAI_NODATA:
	case EAI_ADDRFAMILY:
		return OUTCOME_NO_ADDRESS;
	case EAI_AGAIN:
		return OUTCOME_TIMEOUT;
	default:
		return OUTCOME_FAILED;
	}
}

static void job_done(struct work_job *job)
{
	struct lookup *l = CONTAINER_OF(job, struct lookup, job);
	struct lookup_result result = { .outcome = outcome_of(l) };

	take_addresses(l->found, &result);
	if (l->found)
		freeaddrinfo(l->found);
	if (l->rc == 0 && result.n_addresses == 0)
		result.outcome = OUTCOME_NO_ADDRESS;
	if (l->rc != 0)
		snprintf(result.detail, sizeof(result.detail), "%s",
		    l->rc == EAI_SYSTEM ? strerror(l->code)
					: gai_strerror(l->rc));
	tell(l, &result);
}

static void on_port(void *ctx)
{
	struct lookup *l = ctx;

	work_port_dispatch(l->port);
}

/* As getaddrinfo() wants a numeric IPv6 address: without brackets. */
static char *plain_host(const char *host)
{
	size_t len = strlen(host);

	if (len > 2 && host[0] == '[' && host[len - 1] == ']')
		return xstrndup(host + 1, len - 2);
	return xstrdup(host);
}

void lookup_start(struct loop *loop, const char *host,
    void (*done)(void *ctx, const struct lookup_result *result), void *ctx)
{
	/* Reachable for ever, as its thread may be. */
	static struct lookup lookup;
	struct lookup *l = &lookup;

	*l = (struct lookup){ .done = done, .ctx = ctx };
	l->job.run = run_job;
	l->job.done = job_done;
	l->host = plain_host(host);
	l->begun_us = clock_mono_us();
	l->port = work_port_new();
	l->watch = loop_watch(loop, work_port_fd(l->port), on_port, l);
	loop_timer_init(&l->timer, loop, on_timer, l);
	loop_timer_set(&l->timer, LIMIT_US);
	work_submit(work_new(l->port, "lookup", 1), &l->job);
}
