/*
 * logbench.c - what a disk gives a bare group-commit log.
 *
 * W writers each want a record of SIZE bytes durable, and the next one when
 * that is done. --mode log: one committer takes all records that wait, makes
 * them durable with one writev and one fdatasync, and meanwhile the next batch
 * gathers; segments of 64 MiB are preallocated without changing their size.
 * --mode files: each writer creates, writes, fsyncs and renames a file per
 * record and fsyncs the directory. A writer counts a record only when all
 * that returned. Works in a directory of its own, removed at the end; only
 * two segments exist at once.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define SEGMENT (64LL * 1024 * 1024)
#define WRITERS_MAX 1024 /* and so never more than IOV_MAX in a batch */
#define LISTS_MAX 32
#define SYNCS_MAX (1 << 20) /* durations kept for percentiles */

struct writer {
	pthread_t thread;
	unsigned int index;
	uint64_t records;
};

static struct {
	size_t size;
	double seconds;
	bool files, json;
	char path[PATH_MAX];
	int dir;
} opt = { .size = 4096, .seconds = 5 };

static unsigned char *record;
static atomic_bool stop;

/* The log: a batch gathers while the one before is made durable. */
static struct {
	pthread_mutex_t lock;
	pthread_cond_t work, durable[2]; /* by parity of the batch */
	unsigned int waiting; /* records in the batch that gathers */
	uint64_t gathering, committed; /* numbers of batches */
	bool over;
	int fd;
	off_t offset;
	uint64_t segment, syncs;
	float *durations; /* of writev and fdatasync, ms */
} journal;

static void die(const char *format, ...)
    __attribute__((noreturn, format(printf, 1, 2)));

static void die(const char *format, ...)
{
	va_list ap;

	fputs("logbench: ", stderr);
	va_start(ap, format);
	vfprintf(stderr, format, ap);
	va_end(ap);
	fputc('\n', stderr);
	exit(2);
}

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void segment_name(char out[32], uint64_t segment)
{
	snprintf(out, 32, "log.%llu", (unsigned long long)segment);
}

/* Begins a segment and forgets the one before the last. */
static void roll(void)
{
	char name[32];

	if (journal.fd >= 0)
		close(journal.fd);
	if (++journal.segment > 2) {
		segment_name(name, journal.segment - 2);
		unlinkat(opt.dir, name, 0);
	}
	segment_name(name, journal.segment);
	journal.fd = openat(
	    opt.dir, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (journal.fd < 0)
		die("%s: %s", name, strerror(errno));
	if (fallocate(journal.fd, FALLOC_FL_KEEP_SIZE, 0, SEGMENT) < 0 &&
	    errno != EOPNOTSUPP)
		die("fallocate: %s", strerror(errno));
	if (fsync(journal.fd) < 0 || fsync(opt.dir) < 0)
		die("fsync: %s", strerror(errno));
	journal.offset = 0;
}

static void write_batch(unsigned int count)
{
	static struct iovec all[WRITERS_MAX];
	struct iovec *iov = all;
	unsigned int i;
	ssize_t n;

	for (i = 0; i < count; i++) {
		iov[i].iov_base = record;
		iov[i].iov_len = opt.size;
	}
	while (count) {
		n = writev(journal.fd, iov, (int)count);
		if (n < 0)
			die("writev: %s", strerror(errno));
		journal.offset += n;
		while (count && (size_t)n >= iov->iov_len) {
			n -= (ssize_t)iov->iov_len;
			iov++;
			count--;
		}
		if (count && n) {
			iov->iov_base = (char *)iov->iov_base + n;
			iov->iov_len -= (size_t)n;
		}
	}
}

static void commit(unsigned int count)
{
	double start = now();

	if (journal.offset + (off_t)(count * opt.size) > SEGMENT &&
	    journal.offset)
		roll();
	write_batch(count);
	if (fdatasync(journal.fd) < 0)
		die("fdatasync: %s", strerror(errno));
	if (journal.syncs < SYNCS_MAX)
		journal.durations[journal.syncs] =
		    (float)((now() - start) * 1e3);
	journal.syncs++;
}

static void *committer(void *unused)
{
	unsigned int count;
	uint64_t batch;

	(void)unused;
	pthread_mutex_lock(&journal.lock);
	for (;;) {
		while (!journal.waiting && !journal.over)
			pthread_cond_wait(&journal.work, &journal.lock);
		if (!journal.waiting)
			break;
		count = journal.waiting;
		journal.waiting = 0;
		batch = journal.gathering++;
		pthread_mutex_unlock(&journal.lock);
		commit(count);
		pthread_mutex_lock(&journal.lock);
		journal.committed = batch;
		pthread_cond_broadcast(&journal.durable[batch & 1]);
	}
	pthread_mutex_unlock(&journal.lock);
	return unused;
}

static void *log_writer(void *argument)
{
	struct writer *writer = argument;
	uint64_t batch;

	while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
		pthread_mutex_lock(&journal.lock);
		batch = journal.gathering;
		if (!journal.waiting++)
			pthread_cond_signal(&journal.work);
		while (journal.committed < batch)
			pthread_cond_wait(
			    &journal.durable[batch & 1], &journal.lock);
		pthread_mutex_unlock(&journal.lock);
		writer->records++;
	}
	return NULL;
}

static void file_name(
    char out[48], const struct writer *writer, uint64_t number)
{
	snprintf(out, 48, "%u.%llu", writer->index, (unsigned long long)number);
}

static void *file_writer(void *argument)
{
	struct writer *writer = argument;
	char name[48], temporary[48];
	int fd;

	snprintf(temporary, sizeof(temporary), "tmp.%u", writer->index);
	while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
		file_name(name, writer, writer->records);
		fd = openat(opt.dir, temporary,
		    O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
		if (fd < 0)
			die("%s: %s", temporary, strerror(errno));
		if (write(fd, record, opt.size) != (ssize_t)opt.size)
			die("write: %s", strerror(errno));
		if (fsync(fd) < 0)
			die("fsync: %s", strerror(errno));
		close(fd);
		if (renameat(opt.dir, temporary, opt.dir, name) < 0)
			die("%s: %s", name, strerror(errno));
		if (fsync(opt.dir) < 0)
			die("fsync: %s", strerror(errno));
		writer->records++;
	}
	return NULL;
}

static void clean(const struct writer *writers, unsigned int count)
{
	char name[48];
	unsigned int i;
	uint64_t n;

	for (i = 0; opt.files && i < count; i++) {
		for (n = 0; n < writers[i].records; n++) {
			file_name(name, &writers[i], n);
			unlinkat(opt.dir, name, 0);
		}
	}
	if (opt.files)
		return;
	close(journal.fd);
	segment_name(name, journal.segment);
	unlinkat(opt.dir, name, 0);
	segment_name(name, journal.segment - 1);
	unlinkat(opt.dir, name, 0);
}

static int ascending(const void *a, const void *b)
{
	float x = *(const float *)a, y = *(const float *)b;

	return (x > y) - (x < y);
}

static void print_line(unsigned int count, uint64_t records, double wall)
{
	uint64_t kept = journal.syncs < SYNCS_MAX ? journal.syncs : SYNCS_MAX;
	double rate = (double)records / wall;
	double mib = rate * (double)opt.size / 1048576;
	double p50 = 0, p99 = 0, batch = 0;

	if (kept) {
		qsort(journal.durations, kept, sizeof(float), ascending);
		p50 = (double)journal.durations[kept / 2];
		p99 = (double)journal.durations[kept * 99 / 100];
		batch = (double)records / (double)journal.syncs;
	}
	if (opt.json) {
		printf("{\"mode\":\"%s\",\"writers\":%u,\"size\":%zu,"
		       "\"seconds\":%.3f,\"records\":%llu,"
		       "\"records_per_s\":%.1f,\"mib_per_s\":%.3f",
		    opt.files ? "files" : "log", count, opt.size, wall,
		    (unsigned long long)records, rate, mib);
		if (!opt.files)
			printf(",\"commits_per_s\":%.1f,\"batch_mean\":%.2f,"
			       "\"commit_ms\":{\"p50\":%.3f,\"p99\":%.3f}",
			    (double)journal.syncs / wall, batch, p50, p99);
		puts("}");
	} else {
		printf("%-5s %4u writers %10.1f records/s %9.2f MiB/s",
		    opt.files ? "files" : "log", count, rate, mib);
		if (!opt.files)
			printf("  %8.1f commits/s of %.1f, p50 %.3f ms, "
			       "p99 %.3f",
			    (double)journal.syncs / wall, batch, p50, p99);
		putchar('\n');
	}
	fflush(stdout);
}

static void start_thread(pthread_t *thread, void *(*body)(void *), void *arg)
{
	pthread_attr_t attr;
	int error;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 256 * 1024);
	error = pthread_create(thread, &attr, body, arg);
	if (error)
		die("pthread_create: %s", strerror(error));
	pthread_attr_destroy(&attr);
}

static void measure(unsigned int count)
{
	struct writer *writers = calloc(count, sizeof(*writers));
	struct timespec pause = { (time_t)opt.seconds,
		(long)((opt.seconds - (double)(time_t)opt.seconds) * 1e9) };
	uint64_t records = 0;
	pthread_t thread;
	double start, wall;
	unsigned int i;

	if (!writers)
		die("out of memory");
	journal.committed = journal.syncs = journal.segment = 0;
	journal.gathering = 1;
	journal.over = false;
	journal.fd = -1;
	atomic_store(&stop, false);
	if (!opt.files) {
		roll();
		start_thread(&thread, committer, NULL);
	}
	start = now();
	for (i = 0; i < count; i++) {
		writers[i].index = i;
		start_thread(&writers[i].thread,
		    opt.files ? file_writer : log_writer, &writers[i]);
	}
	nanosleep(&pause, NULL);
	atomic_store(&stop, true);
	for (i = 0; i < count; i++) {
		pthread_join(writers[i].thread, NULL);
		records += writers[i].records;
	}
	wall = now() - start;
	if (!opt.files) {
		pthread_mutex_lock(&journal.lock);
		journal.over = true;
		pthread_cond_signal(&journal.work);
		pthread_mutex_unlock(&journal.lock);
		pthread_join(thread, NULL);
	}
	print_line(count, records, wall);
	clean(writers, count);
	free(writers);
}

static void usage(int status)
{
	fputs("usage: logbench [--directory DIR] [--mode log|files]"
	      " [--writers 1,10,100]\n"
	      "                [--size BYTES] [--seconds S] [--json]\n",
	    status ? stderr : stdout);
	exit(status);
}

static unsigned long number(const char *text, char **end, unsigned long most)
{
	unsigned long value;

	errno = 0;
	value = strtoul(text, end, 10);
	if (errno || *text < '0' || *text > '9' || !value || value > most)
		die("%s: not a number from 1 to %lu", text, most);
	return value;
}

static int get_list(const char *text, unsigned int list[LISTS_MAX])
{
	char *end;
	int n = 0;

	for (;; text = end + 1) {
		if (n == LISTS_MAX)
			die("--writers: too many");
		list[n++] = (unsigned int)number(text, &end, WRITERS_MAX);
		if (!*end)
			return n;
		if (*end != ',')
			die("--writers: numbers with commas are wanted");
	}
}

static int get_options(int argc, char **argv, unsigned int list[LISTS_MAX])
{
	static const struct option options[] = {
		{ "directory", required_argument, NULL, 'd' },
		{ "mode", required_argument, NULL, 'm' },
		{ "writers", required_argument, NULL, 'w' },
		{ "size", required_argument, NULL, 's' },
		{ "seconds", required_argument, NULL, 't' },
		{ "json", no_argument, NULL, 'j' },
		{ "help", no_argument, NULL, 'h' }, { NULL, 0, NULL, 0 }
	};
	const char *directory = ".", *writers = "1,10,100";
	char *end = NULL;
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) >= 0) {
		if (c == 'd') {
			directory = optarg;
		} else if (c == 'm') {
			opt.files = !strcmp(optarg, "files");
			if (!opt.files && strcmp(optarg, "log"))
				die("--mode: log or files");
		} else if (c == 'w') {
			writers = optarg;
		} else if (c == 's') {
			opt.size = number(optarg, &end, 1UL << 24);
			if (*end)
				die("%s: not a number", optarg);
		} else if (c == 't') {
			opt.seconds = strtod(optarg, &end);
			if (end == optarg || *end || !(opt.seconds > 0) ||
			    opt.seconds > 86400)
				die("%s: not a number of seconds", optarg);
		} else if (c == 'j') {
			opt.json = true;
		} else {
			usage(c == 'h' ? 0 : 2);
		}
	}
	if (optind < argc)
		usage(2);
	if (snprintf(opt.path, sizeof(opt.path), "%s/logbench.XXXXXX",
		directory) >= (int)sizeof(opt.path))
		die("--directory: too long");
	return get_list(writers, list);
}

int main(int argc, char **argv)
{
	unsigned int list[LISTS_MAX];
	int count = get_options(argc, argv, list), i;
	size_t byte;

	record = malloc(opt.size);
	journal.durations = malloc(SYNCS_MAX * sizeof(float));
	if (!record || !journal.durations)
		die("out of memory");
	for (byte = 0; byte < opt.size; byte++)
		record[byte] = (unsigned char)(byte * 2654435761U >> 13);
	pthread_mutex_init(&journal.lock, NULL);
	pthread_cond_init(&journal.work, NULL);
	pthread_cond_init(&journal.durable[0], NULL);
	pthread_cond_init(&journal.durable[1], NULL);
	if (!mkdtemp(opt.path))
		die("%s: %s", opt.path, strerror(errno));
	opt.dir = open(opt.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (opt.dir < 0)
		die("%s: %s", opt.path, strerror(errno));
	for (i = 0; i < count; i++)
		measure(list[i]);
	close(opt.dir);
	if (rmdir(opt.path) < 0)
		die("%s: %s", opt.path, strerror(errno));
	free(record);
	free(journal.durations);
	return 0;
}
