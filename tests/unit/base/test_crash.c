/*
 * The mark of a crash: written for the message of the thread that crashed, in
 * every way to crash, and the process ends as it would have without us.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/crash.h"
#include "base/mem.h"
#include "base/work.h"
#include "child.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>

static const int signals[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT };

#define ID UINT64_C(0x000660D0F4741B3E)
#define LINE "000660D0F4741B3E load\n"

static int signal_to_raise;

static void prepare(void)
{
	struct rlimit none = { 0, 0 };

	setrlimit(RLIMIT_CORE, &none);
	/* cmocka has handlers of its own, and so may a sanitizer. */
	for (size_t i = 0; i < ARRAY_LEN(signals); i++)
		signal(signals[i], SIG_DFL);
	crash_init();
	crash_set_fd(STDERR_FILENO);
}

static void raise_one(void)
{
	prepare();
	crash_enter(ID, CRASH_LOAD);
	raise(signal_to_raise);
}

static void test_each_signal(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(signals); i++) {
		struct child_end end;

		signal_to_raise = signals[i];
		end = child_run(raise_one);
		assert_int_equal(strncmp(end.text, LINE, strlen(LINE)), 0);
		/* Once. */
		assert_null(strstr(end.text + strlen(LINE), "load"));
		assert_true(WIFSIGNALED(end.status));
		assert_int_equal(WTERMSIG(end.status), signals[i]);
	}
}

/* What comes from outside without a handler is nobody's doing. */
static void test_kill_is_not_counted(void **state)
{
	struct child_end end;

	(void)state;
	signal_to_raise = SIGKILL;
	end = child_run(raise_one);
	assert_string_equal(end.text, "");
	assert_int_equal(WTERMSIG(end.status), SIGKILL);
}

static void fault(void)
{
	volatile int *nowhere =
	    mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	prepare();
	crash_enter(ID, CRASH_LOAD);
	*nowhere = 1;
}

/* The real thing comes twice: to us, then to whom it would have come. */
static void test_real_fault(void **state)
{
	struct child_end end = child_run(fault);

	(void)state;
	assert_int_equal(strncmp(end.text, LINE, strlen(LINE)), 0);
	assert_true(WIFSIGNALED(end.status));
	assert_int_equal(WTERMSIG(end.status), SIGSEGV);
}

static int deeper(volatile char *above)
{
	volatile char here[4096];

	here[0] = above[0];
	return above[0] == 0 ? deeper(here) + here[0] : 0;
}

static void overflow(void)
{
	volatile char start[1] = { 0 };

	prepare();
	crash_enter(ID, CRASH_LOAD);
	(void)deeper(start);
}

/* The handler has a stack of its own. */
static void test_stack_overflow(void **state)
{
	struct child_end end = child_run(overflow);

	(void)state;
	assert_int_equal(strncmp(end.text, LINE, strlen(LINE)), 0);
}

static void fail_assertion(void)
{
	prepare();
	crash_enter(ID, CRASH_LOAD);
	ASSERT(signal_to_raise == -1);
}

static void test_assertion(void **state)
{
	struct child_end end = child_run(fail_assertion);

	(void)state;
	assert_non_null(strstr(end.text, LINE));
	assert_int_equal(WTERMSIG(end.status), SIGABRT);
}

static void between_messages(void)
{
	struct crash_mark before;

	prepare();
	before = crash_enter(ID, CRASH_LOAD);
	crash_leave(before);
	raise(SIGSEGV);
}

static void nested(void)
{
	struct crash_mark before;

	prepare();
	crash_enter(ID, CRASH_LOAD);
	before = crash_enter(ID + 1, CRASH_BURY);
	crash_leave(before);
	raise(SIGABRT);
}

static void no_file(void)
{
	prepare();
	crash_set_fd(-1);
	crash_enter(ID, CRASH_LOAD);
	raise(SIGABRT);
}

static void out_of_memory(void)
{
	prepare();
	crash_enter(ID, CRASH_LOAD);
	free(xmalloc(SIZE_MAX / 2 - 4096));
}

static void test_what_is_blamed(void **state)
{
	struct child_end end = child_run(between_messages);

	(void)state;
	assert_int_not_equal(end.status, 0);
	assert_null(strstr(end.text, "load"));
	end = child_run(nested);
	assert_string_equal(end.text, LINE);
	end = child_run(no_file);
	assert_int_equal(WTERMSIG(end.status), SIGABRT);
	assert_string_equal(end.text, "");
	/* A sanitizer ends the process itself. */
	end = child_run(out_of_memory);
	assert_int_not_equal(end.status, 0);
	assert_null(strstr(end.text, LINE));
}

static void run_in_worker(struct work_job *job)
{
	(void)job;
	crash_enter(ID, CRASH_LOAD);
	if (signal_to_raise == SIGABRT)
		abort();
	raise(signal_to_raise);
}

static void done_nothing(struct work_job *job)
{
	(void)job;
}

/* Worker threads block signals, but not these; the mark is the thread's. */
static void crash_in_worker(void)
{
	struct work_job job = { .run = run_in_worker, .done = done_nothing };
	struct work_port *port = work_port_new();
	struct worker *w = work_new(port, "crash", 1);

	prepare();
	crash_enter(ID + 1, CRASH_SEND);
	work_submit(w, &job);
	work_free(w);
	work_port_free(port);
}

static void test_worker(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(signals); i++) {
		struct child_end end;

		/* A blocked one would stay pending; abort(3) unblocks it. */
		signal_to_raise = signals[i];
		end = child_run(crash_in_worker);
		assert_int_equal(strncmp(end.text, LINE, strlen(LINE)), 0);
		assert_null(strstr(end.text, "send"));
		assert_int_equal(WTERMSIG(end.status), signals[i]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_each_signal),
		cmocka_unit_test(test_kill_is_not_counted),
		cmocka_unit_test(test_real_fault),
		cmocka_unit_test(test_stack_overflow),
		cmocka_unit_test(test_assertion),
		cmocka_unit_test(test_what_is_blamed),
		cmocka_unit_test(test_worker),
	};

	return cmocka_run_group_tests_name("crash", tests, NULL, NULL);
}
