/*
 * The handler of crashes, and the mark that it writes.
 *
 * Each thread owns its mark and its alternate stack; the descriptor and the
 * former dispositions belong to the process and are set before threads run.
 * The handler calls nothing but what signal-safety(7) allows.  A fault of the
 * thread's own (si_code > 0) happens again when the handler returns, with the
 * former disposition and its true siginfo; a signal that was sent has to be
 * raised again.
 */
#include "base/crash.h"

#include "base/id.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#define STACK_BYTES 32768

static const int signals[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT };
static const char *const names[CRASH_N_WORKS] = { "none", "read", "load",
	"send", "settle", "bury", "copy" };

static _Thread_local volatile struct crash_mark mark;
static _Thread_local char alternate_stack[STACK_BYTES];
static _Atomic int mark_fd = -1;
static struct sigaction former[ARRAY_LEN(signals)];

struct crash_mark crash_enter(uint64_t id, enum crash_work work)
{
	struct crash_mark before = { mark.id, mark.work };

	mark.id = id;
	mark.work = work;
	return before;
}

void crash_leave(struct crash_mark before)
{
	mark.id = before.id;
	mark.work = before.work;
}

const char *crash_work_name(enum crash_work work)
{
	return work < CRASH_N_WORKS ? names[work] : NULL;
}

void crash_set_fd(int fd)
{
	atomic_store(&mark_fd, fd);
}

static void write_mark(void)
{
	int fd = atomic_load(&mark_fd);
	char line[ID_BUF + 16];
	size_t len = ID_LEN;

	if (mark.id == 0 || fd < 0)
		return;
	id_format(mark.id, line);
	line[len++] = ' ';
	for (const char *p = names[mark.work]; *p != '\0'; p++)
		line[len++] = *p;
	line[len++] = '\n';
	if (write(fd, line, len) < 0) {
		/* Then this crash does not count. */
	}
}

static void on_crash(int signo, siginfo_t *info, void *context)
{
	int saved = errno;

	(void)context;
	write_mark();
	for (size_t i = 0; i < ARRAY_LEN(signals); i++)
		if (signals[i] == signo)
			(void)sigaction(signo, &former[i], NULL);
	if (info->si_code <= 0)
		(void)raise(signo);
	errno = saved;
}

void crash_thread_init(void)
{
	stack_t stack = {
		.ss_sp = alternate_stack,
		.ss_size = sizeof(alternate_stack),
	};
	stack_t present;

	/* A sanitizer gives its threads one, and takes that back at the end. */
	if (sigaltstack(NULL, &present) == 0 &&
	    (present.ss_flags & SS_DISABLE) != 0)
		(void)sigaltstack(&stack, NULL);
}

void crash_init(void)
{
	struct sigaction action = {
		.sa_sigaction = on_crash,
		.sa_flags = SA_SIGINFO | SA_ONSTACK,
	};

	sigemptyset(&action.sa_mask);
	crash_thread_init();
	for (size_t i = 0; i < ARRAY_LEN(signals); i++)
		(void)sigaction(signals[i], &action, &former[i]);
}
