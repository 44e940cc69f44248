/*
 * The whole check: configuration, look-up, all ports at once, judgement.
 *
 * Owns the loop, the probes and the configuration, the latter until the report
 * is written: every text of the report is a copy.  One thread, and that of the
 * look-up.  Invariant: at the hard end every probe is stopped, whatever state
 * it is in, so the loop ends.
 */
#include "check_private.h"

#include "base/clock.h"
#include "base/mem.h"
#include "config.h"
#include "credentials.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#define HARD_END_US (19 * US_PER_S)

/*
 * Where systemd keeps the credentials of the daemon, and where it takes them
 * from when that starts; root can read them.
 */
static const char *const credential_places[] = {
	"/run/credentials/sesrelayd.service",
	"/etc/credstore",
};

static const struct pool_port ses_ports[] = { { 587, false }, { 465, true },
	{ 2587, false }, { 2465, true }, { 25, false } };

struct check {
	struct config *config;
	struct check_report *report;
	struct check_target target;
	struct loop_timer timer;
	struct probe *probes[CHECK_MAX_PORTS];
	unsigned n_running;
};

static void add_port(
    struct check_report *r, const struct pool_port *port, bool configured)
{
	for (unsigned i = 0; i < r->n_ports; i++)
		if (r->ports[i].port == port->port)
			return;
	ASSERT(r->n_ports < CHECK_MAX_PORTS);
	r->ports[r->n_ports++] = (struct check_port){
		.port = port->port,
		.wrapper = port->wrapper,
		.configured = configured,
		.failed = DIAGNOSIS_N_STEPS,
	};
}

static char *copy(const char *text)
{
	return text ? xstrdup(text) : NULL;
}

static struct check_report *report_new(const struct config *config)
{
	const struct pool_options *o = &config->options.pool;
	struct check_report *r = xcalloc(1, sizeof(*r));

	_Static_assert(CHECK_MAX_PORTS >= POOL_MAX_PORTS + ARRAY_LEN(ses_ports),
	    "room for all");
	r->host = xstrdup(o->host);
	r->region = copy(config->ses.region);
	r->warnings = xstrdup(config->warnings);
	for (unsigned i = 0; i < o->n_ports; i++)
		add_port(r, &o->ports[i], true);
	for (size_t i = 0; i < ARRAY_LEN(ses_ports); i++)
		add_port(r, &ses_ports[i], false);
	return r;
}

void check_report_free(struct check_report *r)
{
	if (!r)
		return;
	free(r->host);
	free(r->region);
	free(r->warnings);
	free(r);
}

/* --- judgement --- */

static void format_time(int64_t unix_s, char *buf, size_t size)
{
	time_t t = (time_t)unix_s;
	struct tm tm;

	buf[0] = '\0';
	if (gmtime_r(&t, &tm))
		strftime(buf, size, "%Y-%m-%d %H:%M UTC", &tm);
}

struct facts {
	struct diagnosis_facts f;
	char before[40], after[40], now[40];
};

static void collect_facts(
    const struct check *c, const struct check_port *p, struct facts *out)
{
	static const enum diagnosis_password kinds[] = {
		[CREDENTIALS_SMTP] = PASSWORD_SMTP,
		[CREDENTIALS_LEGACY] = PASSWORD_LEGACY,
		[CREDENTIALS_SECRET_KEY] = PASSWORD_SECRET_KEY,
		[CREDENTIALS_DERIVED] = PASSWORD_DERIVED,
		[CREDENTIALS_STRANGE] = PASSWORD_STRANGE,
	};
	const struct config *config = c->config;

	*out =
	    (struct facts){ .f = {
				.port = p->port,
				.host = c->report->host,
				.region = config->ses.region,
				.address = config->ses.source_address,
				.names = p->certificate.names,
				.issuer = p->certificate.issuer,
				.ca_expired = p->certificate.depth > 0,
				.username = config->credentials->username,
				.password_source = config->credentials->source,
				.password = kinds[config->credentials->kind],
				.mss = CHECK_SMALL_MSS,
			    } };
	format_time(
	    p->certificate.not_before_s, out->before, sizeof(out->before));
	format_time(p->certificate.not_after_s, out->after, sizeof(out->after));
	format_time(clock_wall_us() / US_PER_S, out->now, sizeof(out->now));
	out->f.before = out->before;
	out->f.after = out->after;
	out->f.now = out->now;
}

/* In the order in which a session of this port takes the steps. */
static enum diagnosis_step nth_step(const struct check_port *p, unsigned n)
{
	static const enum diagnosis_step wrapper[] = { DIAGNOSIS_RESOLVE,
		DIAGNOSIS_CONNECT, DIAGNOSIS_TLS, DIAGNOSIS_CERTIFICATE,
		DIAGNOSIS_GREETING, DIAGNOSIS_STARTTLS, DIAGNOSIS_EHLO,
		DIAGNOSIS_AUTH, DIAGNOSIS_LARGE, DIAGNOSIS_QUIT };

	_Static_assert(ARRAY_LEN(wrapper) == DIAGNOSIS_N_STEPS, "all steps");
	return p->wrapper ? wrapper[n] : (enum diagnosis_step)n;
}

static void judge(const struct check *c, struct check_port *p)
{
	struct diagnosis harmless = { 0 }, d;
	struct facts facts;

	collect_facts(c, p, &facts);
	for (unsigned i = 0; i < DIAGNOSIS_N_STEPS; i++) {
		enum diagnosis_step step = nth_step(p, i);

		facts.f.detail = p->steps[step].detail;
		diagnosis_explain(step, p->steps[step].outcome, &facts.f, &d);
		if (d.meaning[0] && !d.fatal && !harmless.word)
			harmless = d;
		if (!d.fatal)
			continue;
		if (p->failed == DIAGNOSIS_N_STEPS)
			p->failed = step;
		if (p->n_diagnoses < ARRAY_LEN(p->diagnoses))
			p->diagnoses[p->n_diagnoses++] = d;
	}
	if (p->n_diagnoses == 0 && harmless.word)
		p->diagnoses[p->n_diagnoses++] = harmless;
}

static void judge_all(struct check *c)
{
	struct diagnosis_port ports[CHECK_MAX_PORTS];
	struct check_report *r = c->report;

	for (unsigned i = 0; i < r->n_ports; i++) {
		struct check_port *p = &r->ports[i];

		judge(c, p);
		ports[i] = (struct diagnosis_port){
			.port = p->port,
			.configured = p->configured,
			.works = p->failed == DIAGNOSIS_N_STEPS,
		};
	}
	r->works = diagnosis_summarize(
	    ports, r->n_ports, r->summary, sizeof(r->summary));
}

/* --- the run --- */

static void on_probe_done(void *ctx)
{
	struct check *c = ctx;

	if (--c->n_running == 0)
		loop_stop(c->target.loop);
}

static void on_lookup(void *ctx, const struct lookup_result *result)
{
	struct check *c = ctx;
	struct check_report *r = c->report;

	for (unsigned i = 0; i < r->n_ports; i++) {
		struct check_step *s = &r->ports[i].steps[DIAGNOSIS_RESOLVE];

		s->outcome = result->outcome;
		s->us = r->ports[i].us = result->us;
		memcpy(s->detail, result->detail, sizeof(result->detail));
	}
	if (result->n_addresses == 0) {
		loop_stop(c->target.loop);
		return;
	}
	memcpy(c->target.addresses, result->addresses,
	    sizeof(c->target.addresses));
	c->target.n_addresses = result->n_addresses;
	c->n_running = r->n_ports;
	for (unsigned i = 0; i < r->n_ports; i++)
		probe_start(c->probes[i]);
}

static void on_hard_end(void *ctx)
{
	struct check *c = ctx;

	for (unsigned i = 0; c->n_running > 0 && i < c->report->n_ports; i++)
		probe_stop(c->probes[i]);
	loop_stop(c->target.loop);
}

static int make_probes(struct check *c, char **message)
{
	struct err err;

	for (unsigned i = 0; i < c->report->n_ports; i++) {
		c->probes[i] =
		    probe_new(&c->target, &c->report->ports[i], &err);
		if (!c->probes[i]) {
			*message = xasprintf("'ses.ca_file': %s", err.text);
			return -1;
		}
	}
	return 0;
}

static int run(struct check *c, char **message)
{
	struct loop *loop = loop_new();
	int rc;

	clock_update();
	c->target = (struct check_target){
		.loop = loop,
		.options = &c->config->options.pool,
		.begun_us = clock_mono_us(),
		.done = on_probe_done,
		.ctx = c,
	};
	loop_timer_init(&c->timer, loop, on_hard_end, c);
	rc = make_probes(c, message);
	if (rc == 0) {
		loop_timer_set(&c->timer, HARD_END_US);
		lookup_start(loop, c->report->host, on_lookup, c);
		loop_run(loop);
		judge_all(c);
	}
	for (unsigned i = 0; i < c->report->n_ports; i++)
		probe_free(c->probes[i]);
	loop_timer_fini(&c->timer);
	loop_free(loop);
	return rc;
}

/*
 * What only the unit of the daemon has in its environment, and would make its
 * configuration look as if the password were missing.
 */
static void find_service_credentials(void)
{
	char path[PATH_MAX];

	for (size_t i = 0; i < ARRAY_LEN(credential_places); i++) {
		snprintf(
		    path, sizeof path, "%s/ses-password", credential_places[i]);
		if (access(path, R_OK) == 0) {
			setenv(
			    "CREDENTIALS_DIRECTORY", credential_places[i], 0);
			return;
		}
	}
}

struct check_report *check_run(const char *file, char **message)
{
	struct check c = { 0 };

	*message = NULL;
	/* The password is not to be found in a core, either. */
	(void)prctl(PR_SET_DUMPABLE, 0);
	find_service_credentials();
	c.config = config_load(file ? file : CONFIG_DEFAULT_FILE, message);
	if (!c.config)
		return NULL;
	c.report = report_new(c.config);
	if (run(&c, message) < 0) {
		check_report_free(c.report);
		c.report = NULL;
	}
	config_free(c.config);
	return c.report;
}
