/*
 * load_report.c - latency histogram, records of ids, the result.
 *
 * An id goes to the --acked file by one write() to a descriptor opened with
 * O_APPEND, before anything else is done for its session; a record that can
 * not be written ends the run, as the file would be no evidence any more.
 * The same holds for --sent, written before the first MAIL of a message.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "load.h"

#define NOTES_MAX 10

static const char *const kind_names[ERR_KINDS] = {
	"refused",
	"connect",
	"lost",
	"idle_closed",
	"timeout",
	"4xx",
	"5xx",
	"bad_reply",
	"quit",
};

void die(const char *format, ...)
{
	va_list ap;

	fputs("load: ", stderr);
	va_start(ap, format);
	vfprintf(stderr, format, ap);
	va_end(ap);
	fputc('\n', stderr);
	exit(2);
}

/* Says what went wrong, for the first few times in a run. */
void note(struct run *run, const char *format, ...)
{
	va_list ap;

	if (run->notes >= NOTES_MAX)
		return;
	fputs("load: ", stderr);
	va_start(ap, format);
	vfprintf(stderr, format, ap);
	va_end(ap);
	fputc('\n', stderr);
	if (++run->notes == NOTES_MAX)
		fputs("load: further notes are left out\n", stderr);
}

static void append(int fd, const char *line, size_t size, const char *name)
{
	ssize_t n;

	do
		n = write(fd, line, size);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		die("%s: %s", name, strerror(errno));
	if ((size_t)n != size)
		die("%s: short write", name);
}

void record_acked(struct run *run, uint64_t number, const struct reply *reply)
{
	char line[PREFIX_MAX + 256], id[128];
	int n;

	if (run->acked_fd < 0)
		return;
	queue_id(reply, id, sizeof(id));
	n = snprintf(line, sizeof(line), "%s.%llu@load.test %s\n",
	    run->opt.prefix, (unsigned long long)number, id);
	append(run->acked_fd, line, (size_t)n, run->opt.acked);
}

void record_sent(struct run *run, uint64_t number)
{
	char line[PREFIX_MAX + 64];
	int n;

	if (run->sent_fd < 0)
		return;
	n = snprintf(line, sizeof(line), "%s.%llu@load.test\n", run->opt.prefix,
	    (unsigned long long)number);
	append(run->sent_fd, line, (size_t)n, run->opt.sent);
}

static unsigned int hist_slot(uint64_t ns)
{
	unsigned int shift;

	if (ns < 1U << HIST_BITS)
		return (unsigned int)ns;
	shift = 63 - (unsigned int)__builtin_clzll(ns) - HIST_BITS;
	return ((shift + 1) << HIST_BITS) + (unsigned int)(ns >> shift) -
	    (1U << HIST_BITS);
}

/* The highest value that falls into a slot. */
static uint64_t hist_value(unsigned int slot)
{
	unsigned int shift = slot >> HIST_BITS;
	uint64_t low = slot & ((1U << HIST_BITS) - 1);

	if (!shift)
		return low;
	return ((low + (1U << HIST_BITS) + 1) << (shift - 1)) - 1;
}

void stats_latency(struct stats *stats, uint64_t ns)
{
	stats->hist[hist_slot(ns)]++;
	stats->count++;
	if (ns > stats->max_ns)
		stats->max_ns = ns;
}

static double percentile(const struct stats *stats, double part)
{
	uint64_t want = (uint64_t)((double)stats->count * part), seen = 0;
	uint64_t value;
	unsigned int i;

	if (!stats->count)
		return 0;
	for (i = 0; i < HIST_SIZE; i++) {
		seen += stats->hist[i];
		if (seen > want) {
			value = hist_value(i);
			if (value > stats->max_ns)
				break;
			return (double)value / 1e6;
		}
	}
	return (double)stats->max_ns / 1e6;
}

static double cpu_seconds(void)
{
	struct rusage use;

	getrusage(RUSAGE_SELF, &use);
	return (double)(use.ru_utime.tv_sec + use.ru_stime.tv_sec) +
	    (double)(use.ru_utime.tv_usec + use.ru_stime.tv_usec) / 1e6;
}

static void report_json(const struct run *run, double wall)
{
	static const double parts[] = { .1, .25, .5, .75, .9, .95, .99, .999 };
	const struct options *opt = &run->opt;
	const struct stats *st = &run->stats;
	int i;

	printf("{\"messages\":%llu,\"sessions\":%u,\"size\":%zu,"
	       "\"rcpts\":%u,\"pipeline\":%s,\"rate\":%g,",
	    (unsigned long long)opt->messages, opt->sessions, opt->size,
	    opt->rcpts, opt->pipeline ? "true" : "false", opt->rate);
	printf("\"acked\":%llu,\"failed\":%llu,\"abandoned\":%llu,"
	       "\"resent\":%llu,\"in_doubt\":%llu,\"connections\":%llu,",
	    (unsigned long long)st->acked, (unsigned long long)st->failed,
	    (unsigned long long)(opt->messages - st->acked - st->failed),
	    (unsigned long long)st->resent, (unsigned long long)st->in_doubt,
	    (unsigned long long)st->connections);
	printf("\"backlog_max\":%llu,\"wall_s\":%.6f,\"cpu_s\":%.3f,"
	       "\"msgs_per_s\":%.1f,\"mib_per_s\":%.3f,\"latency_ms\":{",
	    (unsigned long long)st->backlog_max, wall, cpu_seconds(),
	    (double)st->acked / wall, (double)st->bytes / wall / 1048576);
	for (i = 0; i < (int)(sizeof(parts) / sizeof(*parts)); i++)
		printf(
		    "\"p%g\":%.3f,", parts[i] * 100, percentile(st, parts[i]));
	printf("\"max\":%.3f},\"errors\":{", (double)st->max_ns / 1e6);
	for (i = 0; i < ERR_KINDS; i++)
		printf("%s\"%s\":%llu", i ? "," : "", kind_names[i],
		    (unsigned long long)st->errors[i]);
	puts("}}");
}

static void report_text(const struct run *run, double wall)
{
	const struct options *opt = &run->opt;
	const struct stats *st = &run->stats;
	int i, some = 0;

	printf("messages   %llu: %llu acked, %llu failed, %llu abandoned\n",
	    (unsigned long long)opt->messages, (unsigned long long)st->acked,
	    (unsigned long long)st->failed,
	    (unsigned long long)(opt->messages - st->acked - st->failed));
	printf("re-sent    %llu (replies to the dot lost: %llu)\n",
	    (unsigned long long)st->resent, (unsigned long long)st->in_doubt);
	printf("errors    ");
	for (i = 0; i < ERR_KINDS; i++) {
		if (!st->errors[i])
			continue;
		printf(" %s %llu", kind_names[i],
		    (unsigned long long)st->errors[i]);
		some = 1;
	}
	puts(some ? "" : " none");
	printf("time       %.3f s, of the generator's CPU %.3f s\n", wall,
	    cpu_seconds());
	printf("speed      %.1f msgs/s, %.2f MiB/s, %llu connections\n",
	    (double)st->acked / wall, (double)st->bytes / wall / 1048576,
	    (unsigned long long)st->connections);
	if (opt->rate > 0)
		printf("backlog    %llu messages late at most\n",
		    (unsigned long long)st->backlog_max);
	printf("dot to 250 p50 %.3f ms, p90 %.3f, p99 %.3f, max %.3f\n",
	    percentile(st, .5), percentile(st, .9), percentile(st, .99),
	    (double)st->max_ns / 1e6);
}

void report(const struct run *run)
{
	const struct stats *st = &run->stats;
	double wall = (double)(st->end - st->start) / 1e9;

	if (wall <= 0)
		wall = 1e-9;
	if (run->opt.json)
		report_json(run, wall);
	else
		report_text(run, wall);
}
