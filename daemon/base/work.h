/*
 * Threads that take jobs and give back completions.
 *
 * A work_port collects the completions of any number of workers behind one
 * eventfd; the loop watches work_port_fd() and calls work_port_dispatch(),
 * which runs each finished job's done() on the loop thread, in the order of
 * completion.  Workers never touch what the loop owns; a job is owned by
 * whoever holds it: submitter, then worker, then done().
 *
 * A worker either runs jobs one by one, on n threads (work_new), or one thread
 * takes everything that waits as one batch (work_new_batch): while the batch
 * runs, the next one gathers.  That is what makes group commit.
 *
 * Worker threads block every signal but those of a fault of their own, which
 * base/crash.h is told of, and are scheduled as SCHED_BATCH (sched(7)).
 */
#ifndef BASE_WORK_H
#define BASE_WORK_H

#include "base/base.h"

#include <sys/queue.h>

struct work_job {
	STAILQ_ENTRY(work_job) link;
	void (*run)(struct work_job *job); /* on a worker thread */
	void (*done)(struct work_job *job); /* on the loop thread */
};
STAILQ_HEAD(work_list, work_job);

struct work_port;
struct worker;

struct work_port *work_port_new(void);
int work_port_fd(const struct work_port *port); /* readable: dispatch */
/* Runs at most WORK_DISPATCH_MAX; with more, the fd stays readable. */
#define WORK_DISPATCH_MAX 1024
void work_port_dispatch(struct work_port *port);
/*
 * To wake a thread costs more than most jobs: while it gathers, jobs wait for
 * work_port_flush(), or the end of gathering, and go to their workers together.
 */
void work_port_gather(struct work_port *port, bool gather);
void work_port_flush(struct work_port *port);
/* Jobs that were submitted in this round are not handed to their workers yet,
 * and may still be added to; 0: it does not gather. */
uint64_t work_port_round(const struct work_port *port);
/* Every worker on it must be gone; completions still waiting are run. */
void work_port_free(struct work_port *port);

/* `name` shows in ps -L; at most 15 bytes. */
struct worker *work_new(struct work_port *port, const char *name, int threads);
/*
 * run_batch() gets every waiting job in order of submission, must leave the
 * list as it is (all of it completes when it returns); job->run is not used.
 */
struct worker *work_new_batch(struct work_port *port, const char *name,
    void (*run_batch)(void *ctx, struct work_list *batch), void *ctx);
/* Takes the job; never blocks.  On the loop thread. */
void work_submit(struct worker *w, struct work_job *job);
/* Jobs waiting or running; of the others, done() has run or is on the port. */
size_t work_pending(struct worker *w);
/* Lets every submitted job run, joins the threads; done() runs by the port. */
void work_free(struct worker *w);
/*
 * As work_free(), but never waits: for jobs that may hang.  Those that wait
 * are dropped now, one that runs is left to its thread, which drops it if the
 * process lives until then.  drop() frees the job, on whatever thread; done()
 * is not called, except for what has completed before.  Not for batches.
 */
void work_abandon(struct worker *w, void (*drop)(struct work_job *job));

#endif
