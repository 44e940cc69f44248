/*
 * `password`: the SMTP password that SES derives from a secret access key and a
 * region.
 *
 * The key comes from standard input: piped in, or typed without echo; or from
 * the file that ses.secret_key_file names.  It is wiped here, and nothing of it
 * goes into a message.  What does not look like a key is derived from all the
 * same, with a warning: SES will tell.
 */
#include "cli/ctl.h"

#include "base/mem.h"
#include "credentials.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <termios.h>
#include <unistd.h>

#define KEY_MAX 1024

static void wipe(char *text)
{
	if (text != NULL)
		explicit_bzero(text, strlen(text));
	free(text);
}

/* A string of the configuration; NULL: it has none, or cannot be read. */
static char *config_string(const struct ctl_options *options, const char *key)
{
	char *source = NULL;
	char *text = ctl_config_string(options, key, "", &source);

	free(source);
	if (text != NULL && text[0] == '\0') {
		free(text);
		text = NULL;
	}
	return text;
}

static char *find_region(const struct ctl_options *options)
{
	char *region = options->region != NULL
	    ? xstrdup(options->region)
	    : config_string(options, "ses.region");
	struct err err;

	if (region == NULL) {
		ctl_error(
		    "password: for which region? An SMTP password is good "
		    "for one: --region eu-west-1, or ses.region in the "
		    "configuration");
		return NULL;
	}
	if (credentials_check_region(region, &err) == 0)
		return region;
	ctl_error("password: the region %s", err.text);
	free(region);
	return NULL;
}

/* --- standard input --- */

/*
 * A line, and what came with it, which is one too many; NULL: there is nothing.
 * Not by stdio, which would keep a copy.
 */
static char *read_line(struct err *err)
{
	char *text = xcalloc(1, KEY_MAX + 2);
	size_t len = 0;
	ssize_t n = 1;

	while (len <= KEY_MAX && n > 0 && memchr(text, '\n', len) == NULL) {
		n = read(STDIN_FILENO, text + len, KEY_MAX + 1 - len);
		if (n < 0 && errno == EINTR)
			n = 1;
		else if (n > 0)
			len += (size_t)n;
	}
	text[len] = '\0';
	if (len > 0 && text[len - 1] == '\n')
		text[--len] = '\0';
	if (len > 0 && text[len - 1] == '\r')
		text[--len] = '\0';
	if (len > 0 && len <= KEY_MAX)
		return text;
	if (n < 0)
		err_sys(err, "standard input");
	else
		err_set(err, 0, "%s",
		    len == 0 ? "standard input has no secret access key"
			     : "what standard input has is too long for a "
			       "secret access key");
	explicit_bzero(text, len);
	free(text);
	return NULL;
}

static struct termios shown;

static void restore_echo(int signo)
{
	(void)tcsetattr(STDIN_FILENO, TCSAFLUSH, &shown);
	if (signo != 0) {
		(void)signal(signo, SIG_DFL);
		(void)raise(signo);
	}
}

static char *ask(struct err *err)
{
	static const int signals[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT };
	struct termios hidden;
	char *text;

	if (tcgetattr(STDIN_FILENO, &shown) != 0) {
		err_sys(err, "terminal");
		return NULL;
	}
	for (size_t i = 0; i < ARRAY_LEN(signals); i++)
		(void)signal(signals[i], restore_echo);
	hidden = shown;
	hidden.c_lflag &= ~(tcflag_t)ECHO;
	(void)tcsetattr(STDIN_FILENO, TCSAFLUSH, &hidden);
	fputs("Secret access key (not shown): ", stderr);
	text = read_line(err);
	restore_echo(0);
	fputc('\n', stderr);
	return text;
}

/* What is piped in, else the file, else what is typed. */
static char *find_key(const struct ctl_options *options, struct err *err)
{
	bool terminal = isatty(STDIN_FILENO) == 1;
	char *key = terminal ? NULL : read_line(err);
	char *file;

	if (key != NULL)
		return key;
	file = config_string(options, "ses.secret_key_file");
	if (file != NULL) {
		ctl_error("the secret access key is from %s", file);
		key = credentials_read_key(file, err);
	} else if (terminal) {
		key = ask(err);
	}
	free(file);
	return key;
}

static void put_password(
    const struct ctl_options *options, const char *region, const char *password)
{
	json_t *o;

	if (!options->json) {
		puts(password);
		return;
	}
	o = json_pack("{s:s,s:s}", "region", region, "password", password);
	json_dumpf(o, stdout, JSON_COMPACT | JSON_PRESERVE_ORDER);
	putchar('\n');
	json_decref(o);
}

int ctl_password(struct ctl_client *client, const struct ctl_options *options)
{
	char password[45], *region, *key = NULL;
	struct err err = { 0 };
	int rc = EX_USAGE;

	(void)client;
	region = find_region(options);
	if (region == NULL)
		return EX_USAGE;
	key = find_key(options, &err);
	if (key == NULL || credentials_check_key(key, &err) != 0) {
		ctl_error("password: %s", err.text);
		rc = EXIT_FAILURE;
		goto out;
	}
	if (credentials_doubt_key(key) != NULL)
		ctl_error("warning: %s", credentials_doubt_key(key));
	credentials_derive(key, region, password);
	put_password(options, region, password);
	explicit_bzero(password, sizeof password);
	rc = EX_OK;
out:
	wipe(key);
	free(region);
	return rc;
}
