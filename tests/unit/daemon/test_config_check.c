/*
 * What -t looks at on the machine, as root and as somebody who is not.
 */
#include "config_files.h"

#include <sys/wait.h>

#define NOBODY 65534

/* Checks a configuration of `text`; the message is the caller's. */
static int check(const char *text, char **message)
{
	struct config *c = must_load(text);
	int rc = config_check(c, message);

	config_free(c);
	return rc;
}

static void must_pass(const char *text)
{
	char *message;

	if (check(text, &message) < 0)
		fail_msg("%s", message);
	free(message);
}

static void must_complain(const char *text, const char *what)
{
	char *message;

	assert_int_equal(check(text, &message), -1);
	assert_has(message, what);
	assert_int_equal(n_lines(message), 1);
	free(message);
}

static void make_spool(mode_t mode)
{
	char *path = fill("%D/spool");

	assert_true(mkdir(path, 0700) == 0 || access(path, F_OK) == 0);
	assert_int_equal(chmod(path, mode), 0);
	free(path);
}

#define WITH_SPOOL(path) SES "spool: { directory = \"" path "\"; };"

static void test_spool(void **state)
{
	char *link, *to;

	(void)state;
	/* It will be made. */
	must_pass(WITH_SPOOL("%D/spool"));
	must_pass(WITH_SPOOL("%D/spool/"));
	must_complain(
	    WITH_SPOOL("%D/none/spool"), "c.conf:2: 'spool.directory': ");
	must_complain(WITH_SPOOL("%D/none/spool"), "cannot be made in ");

	make_spool(0700);
	must_pass(WITH_SPOOL("%D/spool"));
	make_spool(0750);
	must_pass(WITH_SPOOL("%D/spool"));
	make_spool(0770);
	must_complain(WITH_SPOOL("%D/spool"), "(mode 0770); chmod 700 it");
	make_spool(0707);
	must_complain(WITH_SPOOL("%D/spool"), "(mode 0707); chmod 700 it");

	must_complain(WITH_SPOOL("%D/pw"), "is no directory");
	must_complain(WITH_SPOOL("%D/pw/spool"), "Not a directory");
	link = fill("%D/link");
	to = fill("%D/spool");
	assert_int_equal(symlink(to, link), 0);
	must_complain(WITH_SPOOL("%D/link"), "is a symbolic link");
	free(link);
	free(to);
}

#define WITH_ANCHORS(path)                                                     \
	"ses: { " SES_KEYS "\nca_file = \"" path "\"; };"                      \
	"spool: { directory = \"%D/spool\"; };"

static void test_anchors(void **state)
{
	char *message;

	(void)state;
	must_complain(WITH_ANCHORS("%D/none.pem"), "c.conf:2: 'ses.ca_file': ");
	must_complain(WITH_ANCHORS("%D/pw"), "c.conf:2: 'ses.ca_file': ");
	/* Both are told. */
	put("spool", "");
	assert_int_equal(check(WITH_ANCHORS("%D/pw"), &message), -1);
	assert_int_equal(n_lines(message), 2);
	free(message);
}

/* Runs in a child, as nobody when we are root; its end is the result. */
static void as_nobody(void (*fn)(void))
{
	int status;
	pid_t pid;
	char *path = fill("%D");

	if (geteuid() == 0) {
		assert_int_equal(chown(path, NOBODY, NOBODY), 0);
		free(path);
		path = fill("%D/pw");
		assert_int_equal(chown(path, NOBODY, NOBODY), 0);
	}
	free(path);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		if (geteuid() == 0 && (setgid(NOBODY) || setuid(NOBODY)))
			_exit(9);
		fn();
		/* Not through cmocka's end; a failure has left by exit(). */
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

#define CHILD_CHECK(cond)                                                      \
	do {                                                                   \
		if (!(cond)) {                                                 \
			fprintf(stderr, "line %d: %s\n", __LINE__, #cond);     \
			_exit(1);                                              \
		}                                                              \
	} while (0)

static void check_low_ports(void)
{
	char *message;
	int rc;

	rc = check(WITH_SPOOL("%D/spool"), &message);
	CHILD_CHECK(rc == 0 && message);
	CHILD_CHECK(strstr(message,
	    "c.conf:1: 'smtp.listen': port 25 of "
	    "127.0.0.1:25 takes root"));
	CHILD_CHECK(strstr(message, "port 25 of [::1]:25 takes root"));
	free(message);

	rc = check(WITH_SPOOL("%D/spool") "smtp: { listen = "
					  "\"127.0.0.1:2525\"; };",
	    &message);
	CHILD_CHECK(rc == 0 && (!message || !strstr(message, "takes root")));
	free(message);

	/* Sockets come from the service manager. */
	setenv("LISTEN_FDS", "2", 1);
	rc = check(WITH_SPOOL("%D/spool"), &message);
	CHILD_CHECK(rc == 0 && (!message || !strstr(message, "takes root")));
	free(message);
}

static void test_low_ports(void **state)
{
	(void)state;
	as_nobody(check_low_ports);
}

static void check_foreign_spool(void)
{
	char *message;

	CHILD_CHECK(check(WITH_SPOOL("/"), &message) == -1);
	CHILD_CHECK(strstr(message, "belongs to uid 0, and this is uid "));
	free(message);
	CHILD_CHECK(check(WITH_SPOOL("/sesrelayd-spool"), &message) == -1);
	CHILD_CHECK(strstr(message, "cannot be made in /: "));
	free(message);
}

static void test_foreign_spool(void **state)
{
	(void)state;
	as_nobody(check_foreign_spool);
}

static void test_group(void **state)
{
	char *message;

	(void)state;
	assert_int_equal(check(WITH_SPOOL("%D/spool") "control: { group = "
						      "\"no-such-group\"; };",
			     &message),
	    0);
	assert_has(message, "'control.group': there is no group no-such-group");
	free(message);
	assert_int_equal(check(WITH_SPOOL("%D/spool") "control: { group = "
						      "\"root\"; };"
						      "smtp: { listen = "
						      "\"127.0.0.1:2525\"; };",
			     &message),
	    0);
	assert_null(message);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_spool),
		TEST(test_anchors),
		TEST(test_low_ports),
		TEST(test_foreign_spool),
		TEST(test_group),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
