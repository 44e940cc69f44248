/*
 * Threads that take jobs and give back completions; the only user of pthread.
 *
 * A worker owns its threads and the lists of jobs that are gathered or wait; a
 * port owns the list of completed jobs and the eventfd.  Everything without a
 * note below runs on the loop thread, worker_main() on the workers'.
 *
 * Locks: a worker's, then its port's, in this order; neither is held while a
 * run() or done() is called.  Invariant: a job has left its worker's count of
 * pending jobs exactly when it is on its port, as both happen under the
 * worker's lock.  The eventfd is written when the port's list was empty, and
 * cleared before the list is taken: a completion is never left without a wake.
 */
#include "base/work.h"

#include "base/crash.h"
#include "base/mem.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct work_port {
	pthread_mutex_t lock;
	struct work_list completed; /* under lock */
	LIST_HEAD(, worker) workers; /* the loop thread's, with the next */
	bool gathering;
	uint64_t n_flushes;
	int event_fd;
};

struct worker {
	pthread_mutex_t lock;
	pthread_cond_t wake;
	struct work_list waiting; /* under lock, as all down to `drop` */
	size_t n_waiting;
	size_t n_pending; /* waiting or running */
	int n_alive; /* threads that have not left */
	size_t n_asleep; /* threads that wait for `wake` */
	bool stopping;
	/* Nobody waits: the last thread to leave frees the worker, and the
	 * port may be gone. */
	void (*drop)(struct work_job *job); /* NULL: it is not abandoned */

	LIST_ENTRY(worker) link; /* the loop thread's, with the next two */
	struct work_list gathered;
	size_t n_gathered;
	struct work_port *port;
	void (*run_batch)(void *ctx, struct work_list *batch); /* or NULL */
	void *ctx;
	char name[16];
	int n_threads;
	pthread_t threads[];
};

struct work_port *work_port_new(void)
{
	struct work_port *port = xcalloc(1, sizeof(*port));

	pthread_mutex_init(&port->lock, NULL);
	STAILQ_INIT(&port->completed);
	LIST_INIT(&port->workers);
	port->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (port->event_fd < 0)
		fatal("eventfd: %s", strerror(errno));
	return port;
}

int work_port_fd(const struct work_port *port)
{
	return port->event_fd;
}

/* Worker thread.  Empties `jobs`. */
static void port_complete(struct work_port *port, struct work_list *jobs)
{
	bool was_empty;

	pthread_mutex_lock(&port->lock);
	was_empty = STAILQ_EMPTY(&port->completed);
	STAILQ_CONCAT(&port->completed, jobs);
	pthread_mutex_unlock(&port->lock);
	if (was_empty)
		ASSERT(eventfd_write(port->event_fd, 1) == 0);
}

static bool port_take(struct work_port *port, struct work_list *jobs)
{
	STAILQ_INIT(jobs);
	pthread_mutex_lock(&port->lock);
	STAILQ_CONCAT(jobs, &port->completed);
	pthread_mutex_unlock(&port->lock);
	return !STAILQ_EMPTY(jobs);
}

/* What is left of a list goes before what has completed since. */
static void port_put_back(struct work_port *port, struct work_list *jobs)
{
	if (STAILQ_EMPTY(jobs))
		return;
	pthread_mutex_lock(&port->lock);
	STAILQ_CONCAT(jobs, &port->completed);
	STAILQ_CONCAT(&port->completed, jobs);
	pthread_mutex_unlock(&port->lock);
	ASSERT(eventfd_write(port->event_fd, 1) == 0);
}

/*
 * A part of one list a call: neither a done() that submits again nor a batch
 * that has gathered behind a slow disk can keep the loop here.
 */
void work_port_dispatch(struct work_port *port)
{
	struct work_list jobs;
	eventfd_t value;

	/* EAGAIN, when there is nothing to clear, is as good. */
	if (eventfd_read(port->event_fd, &value) < 0)
		ASSERT(errno == EAGAIN);
	if (!port_take(port, &jobs))
		return;
	for (unsigned n = 0; n < WORK_DISPATCH_MAX && !STAILQ_EMPTY(&jobs);
	     n++) {
		struct work_job *job = STAILQ_FIRST(&jobs);

		/* First off the list: done() may free or resubmit it. */
		STAILQ_REMOVE_HEAD(&jobs, link);
		job->done(job);
	}
	port_put_back(port, &jobs);
}

void work_port_free(struct work_port *port)
{
	if (!port)
		return;
	ASSERT(LIST_EMPTY(&port->workers));
	while (!STAILQ_EMPTY(&port->completed))
		work_port_dispatch(port);
	close(port->event_fd);
	pthread_mutex_destroy(&port->lock);
	free(port);
}

/* Under w->lock: the next job, or all of them for a batch worker. */
static size_t take_jobs(struct worker *w, struct work_list *jobs)
{
	struct work_job *job = STAILQ_FIRST(&w->waiting);
	size_t n = w->n_waiting;

	STAILQ_INIT(jobs);
	if (w->run_batch) {
		STAILQ_CONCAT(jobs, &w->waiting);
	} else {
		n = 1;
		STAILQ_REMOVE_HEAD(&w->waiting, link);
		STAILQ_INSERT_TAIL(jobs, job, link);
	}
	w->n_waiting -= n;
	return n;
}

static void run_jobs(struct worker *w, struct work_list *jobs)
{
	struct work_job *job;

	if (w->run_batch) {
		w->run_batch(w->ctx, jobs);
		return;
	}
	STAILQ_FOREACH (job, jobs, link)
		job->run(job);
}

static void worker_destroy(struct worker *w)
{
	pthread_cond_destroy(&w->wake);
	pthread_mutex_destroy(&w->lock);
	free(w);
}

static void drop_jobs(struct worker *w, struct work_list *jobs)
{
	struct work_job *job;

	while ((job = STAILQ_FIRST(jobs))) {
		STAILQ_REMOVE_HEAD(jobs, link);
		w->drop(job);
	}
}

/* Under w->lock, which it gives back. */
static void leave(struct worker *w)
{
	bool last = --w->n_alive == 0 && w->drop;

	pthread_mutex_unlock(&w->lock);
	if (last)
		worker_destroy(w);
}

/*
 * To be woken shall not interrupt who runs, mostly the loop that woke us and
 * goes on to answer others.  The price: where every processor is busy with
 * other programs, a job may wait for the end of a time slice.
 */
static void be_a_batch_thread(void)
{
	struct sched_param none = { 0 };

	/* What the operator chose stays; without it all goes as well. */
	if (sched_getscheduler(0) == SCHED_OTHER)
		(void)!sched_setscheduler(0, SCHED_BATCH, &none);
}

static void *worker_main(void *arg)
{
	struct worker *w = arg;
	struct work_list jobs;

	pthread_setname_np(pthread_self(), w->name);
	crash_thread_init();
	be_a_batch_thread();
	pthread_mutex_lock(&w->lock);
	for (;;) {
		size_t n;

		w->n_asleep++;
		while (w->n_waiting == 0 && !w->stopping)
			pthread_cond_wait(&w->wake, &w->lock);
		w->n_asleep--;
		if (w->n_waiting == 0)
			break;
		n = take_jobs(w, &jobs);
		pthread_mutex_unlock(&w->lock);
		run_jobs(w, &jobs);
		pthread_mutex_lock(&w->lock);
		w->n_pending -= n;
		if (w->drop)
			drop_jobs(w, &jobs);
		else
			port_complete(w->port, &jobs);
	}
	leave(w);
	return NULL;
}

/*
 * A new thread inherits the mask, so it is set before and put back after.  A
 * fault that is blocked would end the process without its handler; abort(3)
 * sees to its own signal, and one that was sent belongs to the loop thread.
 */
static void start_threads(struct worker *w)
{
	static const int faults[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL };
	sigset_t most, saved;
	int rc;

	sigfillset(&most);
	for (size_t i = 0; i < ARRAY_LEN(faults); i++)
		sigdelset(&most, faults[i]);
	pthread_sigmask(SIG_SETMASK, &most, &saved);
	for (int i = 0; i < w->n_threads; i++) {
		rc = pthread_create(&w->threads[i], NULL, worker_main, w);
		if (rc != 0)
			fatal("cannot start thread %s: %s", w->name,
			    strerror(rc));
	}
	pthread_sigmask(SIG_SETMASK, &saved, NULL);
}

static struct worker *worker_new(struct work_port *port, const char *name,
    int threads, void (*run_batch)(void *ctx, struct work_list *batch),
    void *ctx)
{
	struct worker *w;

	ASSERT(threads > 0 && strlen(name) < sizeof(w->name));
	w = xcalloc(1, sizeof(*w) + (size_t)threads * sizeof(w->threads[0]));
	pthread_mutex_init(&w->lock, NULL);
	pthread_cond_init(&w->wake, NULL);
	STAILQ_INIT(&w->waiting);
	STAILQ_INIT(&w->gathered);
	strcpy(w->name, name);
	w->port = port;
	w->run_batch = run_batch;
	w->ctx = ctx;
	w->n_threads = w->n_alive = threads;
	LIST_INSERT_HEAD(&port->workers, w, link);
	start_threads(w);
	return w;
}

struct worker *work_new(struct work_port *port, const char *name, int threads)
{
	return worker_new(port, name, threads, NULL, NULL);
}

struct worker *work_new_batch(struct work_port *port, const char *name,
    void (*run_batch)(void *ctx, struct work_list *batch), void *ctx)
{
	ASSERT(run_batch);
	return worker_new(port, name, 1, run_batch, ctx);
}

/*
 * Those who are woken find the lock free: else they would sleep again at once.
 * Only the loop thread, which is here, frees a worker.
 */
static void hand_over(struct worker *w)
{
	size_t n = w->n_gathered;

	if (n == 0)
		return;
	w->n_gathered = 0;
	pthread_mutex_lock(&w->lock);
	STAILQ_CONCAT(&w->waiting, &w->gathered);
	w->n_waiting += n;
	w->n_pending += n;
	if (n > w->n_asleep)
		n = w->n_asleep;
	pthread_mutex_unlock(&w->lock);
	while (n-- > 0)
		pthread_cond_signal(&w->wake);
}

void work_submit(struct worker *w, struct work_job *job)
{
	ASSERT(job->done && (job->run || w->run_batch));
	STAILQ_INSERT_TAIL(&w->gathered, job, link);
	w->n_gathered++;
	if (!w->port->gathering)
		hand_over(w);
}

void work_port_gather(struct work_port *port, bool gather)
{
	port->gathering = gather;
	work_port_flush(port);
}

void work_port_flush(struct work_port *port)
{
	struct worker *w;

	port->n_flushes++;
	LIST_FOREACH (w, &port->workers, link)
		hand_over(w);
}

uint64_t work_port_round(const struct work_port *port)
{
	return port->gathering ? port->n_flushes : 0;
}

size_t work_pending(struct worker *w)
{
	size_t n;

	pthread_mutex_lock(&w->lock);
	n = w->n_pending + w->n_gathered;
	pthread_mutex_unlock(&w->lock);
	return n;
}

void work_free(struct worker *w)
{
	if (!w)
		return;
	hand_over(w);
	pthread_mutex_lock(&w->lock);
	w->stopping = true;
	pthread_cond_broadcast(&w->wake);
	pthread_mutex_unlock(&w->lock);
	for (int i = 0; i < w->n_threads; i++)
		pthread_join(w->threads[i], NULL);
	LIST_REMOVE(w, link);
	worker_destroy(w);
}

void work_abandon(struct worker *w, void (*drop)(struct work_job *job))
{
	struct work_list waiting;

	if (!w)
		return;
	ASSERT(!w->run_batch);
	LIST_REMOVE(w, link);
	STAILQ_INIT(&waiting);
	pthread_mutex_lock(&w->lock);
	STAILQ_CONCAT(&waiting, &w->waiting);
	STAILQ_CONCAT(&waiting, &w->gathered);
	w->n_pending -= w->n_waiting;
	w->n_waiting = w->n_gathered = 0;
	w->stopping = true;
	w->drop = drop;
	drop_jobs(w, &waiting);
	for (int i = 0; i < w->n_threads; i++)
		pthread_detach(w->threads[i]);
	pthread_cond_broadcast(&w->wake);
	/* Once they can run, it may be gone. */
	pthread_mutex_unlock(&w->lock);
}
