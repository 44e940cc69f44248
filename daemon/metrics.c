/*
 * Everything that is measured, in the text format of Prometheus.
 *
 * Owns nothing; loop thread.  A family is begun once, with its help and its
 * type, and its samples follow, as the format wants it.  What needs a figure of
 * /proc is left out where there is none.
 */
#include "metrics.h"

#include "base/clock.h"
#include "base/histogram.h"
#include "base/mem.h"
#include "base/stat.h"
#include "daemon.h"
#include "net/tls.h"
#include "upstream_state.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define PREFIX "sesrelayd_"

struct writer {
	FILE *out;
	const char *prefix, *name; /* of the family */
};

static void begin(struct writer *w, const char *prefix, const char *name,
    const char *kind, const char *help)
{
	w->prefix = prefix;
	w->name = name;
	fprintf(w->out, "# HELP %s%s %s\n# TYPE %s%s %s\n", prefix, name, help,
	    prefix, name, kind);
}

/* `labels` without braces; "" for none. */
static void put(struct writer *w, const char *labels, double value)
{
	fprintf(w->out, "%s%s%s%s%s %.15g\n", w->prefix, w->name,
	    labels[0] != '\0' ? "{" : "", labels, labels[0] != '\0' ? "}" : "",
	    value);
}

static void put_label(
    struct writer *w, const char *label, const char *text, double value)
{
	char *labels = xasprintf("%s=\"%s\"", label, text);

	put(w, labels, value);
	free(labels);
}

static void gauge(
    struct writer *w, const char *name, const char *help, double value)
{
	begin(w, PREFIX, name, "gauge", help);
	put(w, "", value);
}

/* --- the registry --- */

static bool is_first_of_its_family(enum stat_id id)
{
	for (int i = 0; i < (int)id; i++)
		if (strcmp(stat_info((enum stat_id)i)->name,
			stat_info(id)->name) == 0)
			return false;
	return true;
}

static void put_family(struct writer *w, const struct stat_info *family)
{
	begin(w, PREFIX, family->name,
	    family->kind == STAT_COUNTER ? "counter" : "gauge", family->help);
	for (int i = 0; i < STAT_N; i++) {
		const struct stat_info *info = stat_info((enum stat_id)i);

		if (strcmp(info->name, family->name) == 0)
			put(w, info->labels, (double)stat_get((enum stat_id)i));
	}
}

/* Those of connecting have one label more here, see put_connects(). */
static void put_registry(struct writer *w)
{
	for (int i = 0; i < STAT_N; i++)
		if (is_first_of_its_family((enum stat_id)i) &&
		    i != STAT_CONNECTS_OK)
			put_family(w, stat_info((enum stat_id)i));
}

static void put_histogram_line(void *ctx, const char *text)
{
	const struct writer *w = ctx;

	fprintf(w->out, "%s\n", text);
}

/* --- what there is now --- */

static void put_queue(
    struct writer *w, const struct relay *r, const struct spool_usage *usage)
{
	int64_t oldest = queue_oldest(r->queue), now = clock_mono_us();

	begin(w, PREFIX, "queue_messages", "gauge",
	    "Messages in the queue, and dead letters (failed)");
	for (int i = STUB_READY; i < STUB_N_STATES; i++)
		put_label(w, "state", stub_state_name((enum stub_state)i),
		    (double)queue_count(r->queue, (enum stub_state)i));
	put_label(w, "state", "failed", (double)usage->n_failed);
	gauge(w, "queue_oldest_age_seconds",
	    "Age of the oldest message in the queue; 0 when it is empty",
	    oldest < now ? (double)(now - oldest) / US_PER_S : 0);
	gauge(w, "queue_bytes", "Content of the messages in the queue",
	    (double)queue_bytes(r->queue));
}

static void put_spool(struct writer *w, const struct spool *spool,
    const struct spool_usage *usage)
{
	gauge(w, "spool_free_bytes", "Room on the spool's file system",
	    (double)usage->free_bytes);
	gauge(w, "spool_bytes", "Size of the spool's files",
	    (double)usage->bytes);
	gauge(w, "spool_healthy", "1 while mail can be stored, else 0",
	    spool_intake_trouble(spool) == NULL);
}

static void put_port(void *ctx, const struct pool_connects *connects)
{
	static const char *const results[] = { "ok", "failed" };

	for (int i = 0; i < 2; i++) {
		char *labels = xasprintf(
		    "port=\"%u\",result=\"%s\"", connects->port, results[i]);

		put(ctx, labels,
		    (double)(i == 0 ? connects->ok : connects->failed));
		free(labels);
	}
}

static void put_connects(struct writer *w, const struct relay *r)
{
	begin(w, PREFIX, "connects_total", "counter",
	    "Addresses of SES tried, by port, up to a successful login");
	pool_each_connects(r->pool, put_port, w);
}

static void put_upstream(struct writer *w, const struct relay *r)
{
	enum upstream_state now = upstream_state(r);

	begin(w, PREFIX, "connections", "gauge", "Connections to SES");
	for (int i = 0; i < POOL_N_STATES; i++)
		put_label(w, "state", pool_state_name((enum pool_state)i),
		    pool_count(r->pool, (enum pool_state)i));
	gauge(w, "rate_limit_recipients_per_second",
	    "Pace, learned from SES's throttling or configured; 0: none",
	    upstream_rate_limit(r));
	gauge(w, "upstream_up", "1 while mail goes out, as far as is known",
	    upstream_state_is_up(now));
	begin(w, PREFIX, "upstream_state", "gauge",
	    "1 for the state that `sesrelayctl status` shows, 0 for others");
	for (int i = 0; i < UPSTREAM_N_STATES; i++)
		put_label(w, "state",
		    upstream_state_name((enum upstream_state)i), i == (int)now);
}

static void put_daemon(struct writer *w, const struct daemon *d)
{
	char *labels = xasprintf("version=\"%s\",openssl=\"%s\","
				 "libevent=\"%s\"",
	    SESRELAYD_VERSION, tls_library(), loop_library());

	begin(w, PREFIX, "paused", "gauge", "1 while the operator pauses it");
	put_label(w, "part", "delivery", d->relay->delivery_paused);
	put_label(
	    w, "part", "intake", d->relay->intake_paused || d->relay->draining);
	gauge(w, "config_last_reload_successful",
	    "0 when the last reload was refused", d->last_reload_ok);
	begin(w, PREFIX, "build_info", "gauge",
	    "Always 1; what runs, by its labels");
	put(w, labels, 1);
	free(labels);
}

/* --- the process --- */

static double seconds(struct timeval t)
{
	return (double)t.tv_sec + (double)t.tv_usec / 1e6;
}

/* Pages of virtual and of resident memory. */
static bool read_memory(double *virtual, double *resident)
{
	FILE *f = fopen("/proc/self/statm", "re");
	bool ok = f != NULL && fscanf(f, "%lf %lf", virtual, resident) == 2;

	if (f != NULL)
		fclose(f);
	return ok;
}

static unsigned count_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned n = 0;

	if (dir == NULL)
		return 0;
	for (const struct dirent *e; (e = readdir(dir)) != NULL;)
		n += e->d_name[0] != '.';
	closedir(dir);
	return n - 1; /* that of the directory itself */
}

static void process(struct writer *w, const char *name, const char *kind,
    const char *help, double value)
{
	begin(w, "process_", name, kind, help);
	put(w, "", value);
}

static void put_process(struct writer *w, const struct daemon *d)
{
	double pages, resident, page = (double)sysconf(_SC_PAGESIZE);
	unsigned n_fds = count_fds();
	struct rusage usage;
	struct rlimit limit;

	if (getrusage(RUSAGE_SELF, &usage) == 0)
		process(w, "cpu_seconds_total", "counter",
		    "User and system CPU time",
		    seconds(usage.ru_utime) + seconds(usage.ru_stime));
	if (n_fds > 0)
		process(w, "open_fds", "gauge", "Open file descriptors", n_fds);
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0)
		process(w, "max_fds", "gauge",
		    "The most file descriptors that may be open",
		    (double)limit.rlim_cur);
	if (read_memory(&pages, &resident)) {
		process(w, "virtual_memory_bytes", "gauge",
		    "Virtual memory size", pages * page);
		process(w, "resident_memory_bytes", "gauge",
		    "Resident memory size", resident * page);
	}
	process(w, "start_time_seconds", "gauge",
	    "When the process started, since 1970 in UTC",
	    (double)d->started_wall_us / US_PER_S);
}

char *metrics_text(const struct daemon *d)
{
	struct spool_usage usage;
	size_t len;
	char *text;
	struct writer w = { .out = open_memstream(&text, &len) };

	if (w.out == NULL)
		fatal("out of memory");
	spool_usage(d->relay->spool, &usage);
	put_registry(&w);
	histogram_each(put_histogram_line, &w);
	put_queue(&w, d->relay, &usage);
	put_spool(&w, d->relay->spool, &usage);
	put_upstream(&w, d->relay);
	put_connects(&w, d->relay);
	put_daemon(&w, d);
	put_process(&w, d);
	if (fclose(w.out) != 0)
		fatal("out of memory");
	return text;
}
