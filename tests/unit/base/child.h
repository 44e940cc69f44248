/*
 * A function run in a child process, for what ends a process or changes its
 * descriptors: how it ended, and what it wrote to stderr.
 */
#ifndef UNIT_BASE_CHILD_H
#define UNIT_BASE_CHILD_H

#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

struct child_end {
	int status; /* as of waitpid(2); -1 when there was no child */
	char text[4096]; /* of stderr */
};

static inline struct child_end child_run(void (*fn)(void))
{
	struct child_end end = { .status = -1 };
	size_t len = 0;
	ssize_t n;
	int fds[2];
	pid_t pid;

	if (pipe(fds) < 0)
		return end;
	pid = fork();
	if (pid == 0) {
		dup2(fds[1], STDERR_FILENO);
		fn();
		_exit(0);
	}
	close(fds[1]);
	while (
	    (n = read(fds[0], end.text + len, sizeof(end.text) - 1 - len)) > 0)
		len += (size_t)n;
	close(fds[0]);
	if (pid > 0)
		waitpid(pid, &end.status, 0);
	return end;
}

#endif
