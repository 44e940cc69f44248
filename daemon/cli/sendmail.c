/*
 * sesrelay-sendmail: sendmail(1), mailq(1) and newaliases(1) for programs that
 * know no other way to hand in mail.  A client of the daemon like any other: no
 * privilege, no spool of its own, and success means that the daemon has it.
 *
 * Who calls, what for, and the one line about a failure; the rest is in
 * sendmail_*.c.
 */
#include "cli/sendmail.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/mem.h"

#include <errno.h>
#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <syslog.h>
#include <unistd.h>

static const char usage_text[] =
    "usage: sesrelay-sendmail [-it] [-f sender] [-F name] [address ...]\n"
    "       sesrelay-sendmail -bs | -bp | -bv address ... | -bi | -q\n"
    "       mailq\n"
    "       newaliases\n"
    "reads a message from standard input and hands it to sesrelayd.\n"
    "  -t         recipients are those of To, Cc and Bcc, too\n"
    "  -i         a line of a dot alone does not end the message\n"
    "  -f sender  the envelope sender (default: your login name)\n"
    "  -F name    the full name for From, if the message has none\n"
    "  -bs        speak SMTP on standard input and output\n"
    "  -bp        show the queue, as mailq does\n"
    "  -bv        ask whether addresses would be accepted\n"
    "  -q         ask for a delivery attempt now\n"
    "sesrelay-sendmail(1) says more.\n";

/* --- who calls, and where --- */

struct identity {
	char *user;
	char *full_name;
	char host[256];
	char *domain;
};

/* The full name in the password file; '&' stands for the login name. */
static char *take_full_name(const struct passwd *pw)
{
	size_t n = pw->pw_gecos != NULL ? strcspn(pw->pw_gecos, ",") : 0;

	if (n == 0 || memchr(pw->pw_gecos, '&', n) != NULL)
		return NULL;
	return xstrndup(pw->pw_gecos, n);
}

static bool is_hostname(const char *text)
{
	return text[0] != '\0' && text[0] != '-' && text[0] != '.' &&
	    strlen(text) < 200 &&
	    text[strspn(text,
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
		"0123456789-._")] == '\0';
}

/* The first line of /etc/mailname, if there is one that names a domain. */
static char *read_mailname(void)
{
	size_t len;
	char *text = file_read_small("/etc/mailname", 1024, false, &len, NULL);

	if (text == NULL)
		return NULL;
	text[strcspn(text, " \t\r\n")] = '\0';
	if (is_hostname(text))
		return text;
	free(text);
	return NULL;
}

static void find_identity(struct identity *id)
{
	const struct passwd *pw = getpwuid(getuid());
	struct addr addr;

	*id = (struct identity){ 0 };
	if (pw != NULL &&
	    sendmail_address_parse(slice_str(pw->pw_name), &addr, NULL) == 0) {
		id->user = xstrdup(addr.text);
		id->full_name = take_full_name(pw);
	}
	if (id->user == NULL || id->user[0] == '\0') {
		free(id->user);
		id->user = xasprintf("uid%u", (unsigned)getuid());
	}
	if (gethostname(id->host, sizeof id->host - 1) != 0 ||
	    !is_hostname(id->host))
		strcpy(id->host, "localhost");
	id->domain = read_mailname();
	if (id->domain == NULL)
		id->domain = xstrdup(id->host);
}

static void identity_free(struct identity *id)
{
	free(id->user);
	free(id->full_name);
	free(id->domain);
}

/* --- modes --- */

/* The operator's tool from beside us, or from PATH. */
static int run_ctl(
    const char *config, const char *verb, const char *option, struct err *err)
{
	char path[PATH_MAX] = "", *slash;
	const char *argv[8] = { "sesrelayctl" };
	ssize_t n = readlink("/proc/self/exe", path, sizeof path - 16);
	int argc = 1;

	if (config == NULL)
		config = getenv("SESRELAYD_CONF");
	if (config != NULL) {
		argv[argc++] = "-c";
		argv[argc++] = config;
	}
	argv[argc++] = verb;
	argv[argc] = option;
	fflush(stdout);
	slash = n > 0 ? strrchr(path, '/') : NULL;
	if (slash != NULL) {
		strcpy(slash + 1, "sesrelayctl");
		execv(path, (char *const *)(uintptr_t)argv);
	}
	execvp("sesrelayctl", (char *const *)(uintptr_t)argv);
	err_sys(err, "cannot run sesrelayctl, which knows the queue");
	return EX_UNAVAILABLE;
}

static int talk(const struct sendmail_args *args, struct err *err)
{
	struct sendmail_servers servers;
	struct identity id;
	int rc = sendmail_servers_find(&servers, args->config, err);

	if (rc != EX_OK)
		goto out;
	if (args->mode == SENDMAIL_SMTP) {
		rc = sendmail_pipe(&servers, err);
		goto out;
	}
	find_identity(&id);
	struct sendmail_job job = { .args = args,
		.servers = &servers,
		.user = id.user,
		.full_name = id.full_name,
		.host = id.host,
		.domain = id.domain };

	rc = args->mode == SENDMAIL_VERIFY ? sendmail_verify(&job, err)
					   : sendmail_send(&job, err);
	identity_free(&id);
out:
	sendmail_servers_free(&servers);
	return rc;
}

static int run(const struct sendmail_args *args, struct err *err)
{
	switch (args->mode) {
	case SENDMAIL_HELP:
		fputs(usage_text, stdout);
		return EX_OK;
	case SENDMAIL_VERSION:
		puts("sesrelay-sendmail " SESRELAYD_VERSION);
		return EX_OK;
	case SENDMAIL_ALIASES:
		puts("sesrelayd has no database of aliases to rebuild: it "
		     "reads rewrite.aliases_file when it starts and at "
		     "\"sesrelayctl reload\"");
		return EX_OK;
	case SENDMAIL_QUEUE:
		return run_ctl(args->config, "mailq", NULL, err);
	case SENDMAIL_RETRY:
		return run_ctl(args->config, "retry", "--all", err);
	case SENDMAIL_SEND:
	case SENDMAIL_SMTP:
	case SENDMAIL_VERIFY:
		break;
	}
	return talk(args, err);
}

static void complain(const struct err *err)
{
	fprintf(stderr, "sesrelay-sendmail: %s\n", err->text);
	openlog("sesrelay-sendmail", LOG_PID, LOG_MAIL);
	syslog(LOG_ERR, "%s (uid %u)", err->text, (unsigned)getuid());
	closelog();
}

int main(int argc, char **argv)
{
	struct err err = { .text = "failed" };
	struct sendmail_args args;
	int rc = EX_USAGE;

	clock_update();
	if (sendmail_args_parse(&args, argc, argv, &err) == 0)
		rc = run(&args, &err);
	if (rc != EX_OK)
		complain(&err);
	if (rc == EX_OK && fflush(stdout) != 0)
		rc = EX_IOERR;
	free(args.rcpts);
	return rc;
}
