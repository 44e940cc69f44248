/*
 * sesrelayctl: the operator's tool.  Everything is asked of the daemon over its
 * control socket, or of its spool when it is down, and printed for people or,
 * with --json, as it comes.
 *
 * Exit codes are part of the contract: see sesrelayctl(8).
 */
#include "cli/ctl.h"

#include "base/clock.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sysexits.h>

static int run(const struct ctl_verb *verb, const struct ctl_options *options)
{
	struct ctl_client *c = NULL;
	int rc;

	if (verb->needs != NEEDS_NOTHING) {
		c = ctl_open(options, verb->needs == NEEDS_SPOOL, &rc);
		if (c == NULL)
			return rc;
	}
	rc = verb->run(c, options);
	ctl_close(c);
	return rc;
}

int main(int argc, char **argv)
{
	struct ctl_options options;
	const struct ctl_verb *verb;
	int rc;

	/* `check` and `password` have secrets: no core, no ptrace by others. */
	prctl(PR_SET_DUMPABLE, 0);
	clock_update();
	verb = ctl_args_read(argc, argv, &options);
	if (verb->run == ctl_mailq && options.json) {
		options.postfix_json = true;
		options.json = false;
	}
	rc = run(verb, &options);
	free(options.to);
	if ((fflush(stdout) != 0 || ferror(stdout)) && rc == EX_OK) {
		ctl_error("cannot write the answer: %s", strerror(errno));
		rc = EXIT_FAILURE;
	}
	if (!options.check)
		ctl_errors_put_object(rc);
	return rc;
}
