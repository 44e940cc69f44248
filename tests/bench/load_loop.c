/*
 * load_loop.c - the epoll loop: connecting, timers, open-loop dispatch.
 *
 * Level-triggered; EPOLLOUT is asked for only while connecting or when a
 * write was cut short. Sessions are opened here only, after the events of a
 * round were handled, so an event can never meet a descriptor that was closed
 * and used again in the same round. In the open loop (--rate) message k is
 * due k/R seconds after the start, whether or not the server keeps up; how
 * far it falls behind is the backlog.
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#include "load.h"

#define ROUND 256 /* events taken at once */
#define TICK 10 /* ms between looks at the timers */

static volatile sig_atomic_t interrupted;

uint64_t clock_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000ULL + (uint64_t)ts.tv_nsec;
}

static void on_signal(int number)
{
	(void)number;
	interrupted = 1;
}

void ready_add(struct session *s)
{
	struct run *run = s->run;

	s->prev = NULL;
	s->next = run->ready;
	if (s->next)
		s->next->prev = s;
	run->ready = s;
	s->queued = true;
}

void ready_remove(struct session *s)
{
	if (!s->queued)
		return;
	if (s->prev)
		s->prev->next = s->next;
	else
		s->run->ready = s->next;
	if (s->next)
		s->next->prev = s->prev;
	s->queued = false;
}

static void control(struct session *s, int operation, uint32_t events)
{
	struct epoll_event event = { .events = events, .data.ptr = s };

	if (epoll_ctl(s->run->epoll, operation, s->fd, &event) < 0)
		die("epoll_ctl: %s", strerror(errno));
}

void watch_output(struct session *s, bool on)
{
	if (s->want_out == on)
		return;
	s->want_out = on;
	control(s, EPOLL_CTL_MOD, on ? EPOLLIN | EPOLLOUT : EPOLLIN);
}

static void connect_failed(struct session *s, int error)
{
	if (error != ECONNREFUSED)
		note(s->run, "connect: %s", strerror(error));
	session_drop(s, error == ECONNREFUSED ? ERR_REFUSED : ERR_CONNECT);
}

/*
 * While nobody listens on the port, the kernel may choose that very port as
 * the local one: TCP then connects the socket with itself. It must be given
 * up at once, and without TIME_WAIT, or the server could not come back.
 */
static bool met_itself(struct session *s)
{
	struct linger linger = { .l_onoff = 1 };
	struct sockaddr_storage local, peer;
	socklen_t local_size = sizeof(local), peer_size = sizeof(peer);

	memset(&local, 0, sizeof(local));
	memset(&peer, 0, sizeof(peer));
	if (getsockname(s->fd, (struct sockaddr *)&local, &local_size) < 0 ||
	    getpeername(s->fd, (struct sockaddr *)&peer, &peer_size) < 0 ||
	    local_size != peer_size || memcmp(&local, &peer, local_size))
		return false;
	setsockopt(s->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	return true;
}

static void open_session(struct session *s)
{
	struct run *run = s->run;
	const struct options *opt = &run->opt;
	int one = 1;

	if (!s->holds && run->next >= opt->messages) {
		s->state = S_DONE;
		run->active--;
		return;
	}
	s->state = S_CONNECT;
	s->since = run->now;
	s->fd = socket(opt->address.ss_family,
	    SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (s->fd < 0)
		die("socket: %s", strerror(errno));
	setsockopt(s->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (connect(s->fd, (const struct sockaddr *)&opt->address,
		opt->address_size) < 0 &&
	    errno != EINPROGRESS) {
		connect_failed(s, errno);
		return;
	}
	s->want_out = true;
	control(s, EPOLL_CTL_ADD, EPOLLIN | EPOLLOUT);
}

static void finish_connect(struct session *s)
{
	socklen_t size = sizeof(int);
	int error = 0;

	if (getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0)
		error = errno;
	if (!error && met_itself(s))
		error = ECONNREFUSED;
	if (!error) {
		session_connected(s);
		return;
	}
	connect_failed(s, error);
}

static void handle(struct session *s, uint32_t events)
{
	if (s->fd < 0)
		return;
	if (s->state == S_CONNECT) {
		finish_connect(s);
		if (s->fd < 0)
			return;
	}
	if (events & (EPOLLIN | EPOLLERR | EPOLLHUP))
		session_readable(s);
	else
		session_writable(s);
}

/* Opens what waited long enough, drops what made no progress. */
static void look_at_timers(struct run *run)
{
	uint64_t limit = (uint64_t)(run->opt.timeout * 1e9);
	struct session *s;
	unsigned int i;

	run->wake_soon = false;
	for (i = 0; i < run->opt.sessions; i++) {
		s = &run->sessions[i];
		if (s->state == S_DONE || s->state == S_READY)
			continue;
		if (s->state == S_WAIT) {
			if (run->now >= s->wake)
				open_session(s);
		} else if (s->state == S_QUIT) {
			if (run->now - s->since > QUIT_WAIT)
				session_drop(s, ERR_QUIT);
		} else if (limit && run->now - s->since > limit) {
			session_drop(s, ERR_TIMEOUT);
		}
	}
}

/* Open loop: gives the messages due to the sessions ready for one. */
static void dispatch(struct run *run)
{
	const struct options *opt = &run->opt;
	double due;
	struct session *s;

	if (opt->rate > 0) {
		due = (double)(run->now - run->stats.start) / 1e9 * opt->rate;
		run->due = due < (double)opt->messages ? (uint64_t)due + 1
						       : opt->messages;
		if (run->due > run->next &&
		    run->due - run->next > run->stats.backlog_max)
			run->stats.backlog_max = run->due - run->next;
	}
	while ((s = run->ready) != NULL) {
		if (run->next < opt->messages && run->due <= run->next)
			break;
		session_go(s);
		session_writable(s);
	}
}

static bool all_known(const struct run *run)
{
	const struct stats *st = &run->stats;

	return st->acked + st->failed + st->abandoned >= run->opt.messages;
}

static void one_round(struct run *run, int tick)
{
	struct epoll_event events[ROUND];
	int i, n;

	n = epoll_wait(run->epoll, events, ROUND, run->wake_soon ? 0 : tick);
	if (n < 0 && errno != EINTR)
		die("epoll_wait: %s", strerror(errno));
	run->now = clock_ns();
	for (i = 0; i < n; i++)
		handle(events[i].data.ptr, events[i].events);
}

/* Runs until the fate of all messages is known, or no session is left. */
void loop_run(struct run *run)
{
	struct stats *st = &run->stats;
	uint64_t next_look = 0, limit = UINT64_MAX;
	struct sigaction action = { .sa_handler = on_signal };
	bool known = false;

	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	run->now = st->start = st->end = clock_ns();
	if (run->opt.deadline > 0)
		limit = st->start + (uint64_t)(run->opt.deadline * 1e9);
	run->active = run->opt.sessions;
	while (run->active) {
		if (run->wake_soon || run->now >= next_look) {
			look_at_timers(run);
			next_look = run->now + TICK * 1000000ULL;
		}
		dispatch(run);
		if (!run->active)
			break;
		one_round(run, run->opt.rate > 0 ? 1 : TICK);
		if (interrupted || run->now >= limit)
			break;
		if (!known && all_known(run)) {
			known = true; /* only QUITs are left */
			limit = run->now + QUIT_WAIT / 2;
		}
	}
	if (!all_known(run))
		st->end = run->now;
	if (interrupted)
		note(run, "interrupted");
	else if (!all_known(run) && run->now >= limit)
		note(run, "--deadline has passed");
}
