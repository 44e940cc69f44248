/*
 * What -t looks at on the machine, as root and as somebody who is not.
 */
#include "config_files.h"

#include <arpa/inet.h>
#include <pwd.h>
#include <sys/socket.h>
#include <sys/un.h>
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

/* Nothing is said that has `what` in it. */
static void check_silent(const char *text, const char *what)
{
	char *message;

	assert_int_equal(check(text, &message), 0);
	if (message && strstr(message, what))
		fail_msg("%s", message);
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
	put("empty.pem", "");
	must_complain(WITH_ANCHORS("%D/empty.pem"), "no certificate");
	put("broken.pem",
	    "-----BEGIN CERTIFICATE-----\nAAAA\n"
	    "-----END CERTIFICATE-----\n");
	must_complain(WITH_ANCHORS("%D/broken.pem"), "'ses.ca_file': CA file");
	must_complain(WITH_ANCHORS("%D"), "'ses.ca_file': CA file");
	/* Both are told. */
	put("spool", "");
	assert_int_equal(check(WITH_ANCHORS("%D/pw"), &message), -1);
	assert_int_equal(n_lines(message), 2);
	free(message);
}

/* OpenSSL says nothing when the system has none. */
static void test_system_anchors(void **state)
{
	char *message, *none = fill("%D/none"), *dir = fill("%D/certs");

	(void)state;
	must_pass(WITH_SPOOL("%D/spool"));
	setenv("SSL_CERT_FILE", none, 1);
	setenv("SSL_CERT_DIR", dir, 1);
	assert_int_equal(check(WITH_SPOOL("%D/spool"), &message), 0);
	assert_has(message,
	    "'ses.ca_file': the system's trust anchors are "
	    "neither in ");
	assert_has(message, "install ca-certificates");
	free(message);
	/* Of one's own, they are not asked for. */
	assert_int_equal(mkdir(dir, 0700), 0);
	put("certs/README", "");
	assert_int_equal(check(WITH_SPOOL("%D/spool"), &message), 0);
	assert_has(message, "install ca-certificates");
	free(message);
	put("certs/0123abcd.0", "");
	check_silent(WITH_SPOOL("%D/spool"), "ca-certificates");
	unsetenv("SSL_CERT_DIR");
	free(none);
	free(dir);
}

/* A socket that listens, and its port. */
static int listen_somewhere(int family, uint16_t *port)
{
	struct sockaddr_in6 v6 = { .sin6_family = AF_INET6,
		.sin6_addr = IN6ADDR_LOOPBACK_INIT };
	struct sockaddr_in v4 = { .sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = family == AF_INET ? sizeof(v4) : sizeof(v6);
	struct sockaddr *addr =
	    family == AF_INET ? (struct sockaddr *)&v4 : (struct sockaddr *)&v6;
	int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_int_equal(bind(fd, addr, len), 0);
	assert_int_equal(listen(fd, 1), 0);
	assert_int_equal(getsockname(fd, addr, &len), 0);
	*port = ntohs(family == AF_INET ? v4.sin_port : v6.sin6_port);
	return fd;
}

#define OPEN_LISTEN(list)                                                      \
	WITH_SPOOL("%D/spool")                                                 \
	"smtp: { allow = \"10.0.0.0/8\"; listen = " list "; };\n"

static void test_addresses(void **state)
{
	char *message, *text;
	uint16_t port;
	int fd;

	(void)state;
	/* Not ours (TEST-NET-1, and the documentation's). */
	must_complain(OPEN_LISTEN("\"192.0.2.99:2525\""),
	    "'smtp.listen': 192.0.2.99:2525 is no address of this host");
	must_complain(OPEN_LISTEN("[ \"127.0.0.1:0\", "
				  "\"[2001:db8::99]:2525\" ]"),
	    "[2001:db8::99]:2525 is no address of this host");
	must_complain(
	    WITH_SPOOL("%D/spool") "http: { listen = \"192.0.2.99:9125\"; "
				   "allow = [ \"192.0.2.0/24\" ]; };",
	    "'http.listen': 192.0.2.99:9125 is no address of this host");
	assert_int_equal(
	    check("ses: { " SES_KEYS "source_address = \"192.0.2.99\"; };"
		  "spool: { directory = \"%D/spool\"; };",
		&message),
	    0);
	assert_has(message, "'ses.source_address': 192.0.2.99 is no address");
	free(message);
	/* Where systemd has bound, what the file says is not. */
	setenv("LISTEN_FDS", "1", 1);
	check_silent(OPEN_LISTEN("\"192.0.2.99:2525\""), "no address");
	unsetenv("LISTEN_FDS");

	/* In use, by somebody else... */
	fd = listen_somewhere(AF_INET, &port);
	text = xasprintf("%s smtp: { listen = \"127.0.0.1:%u\"; }; spool: { "
			 "directory = \"%%D/spool\"; }; control: { socket = "
			 "\"%%D/control\"; };",
	    SES, port);
	assert_int_equal(check(text, &message), 0);
	assert_has(message, "is in use; the daemon starts there only if");
	free(message);
	/* ...or by a daemon at work, which answers at its control socket. */
	{
		struct sockaddr_un addr = { .sun_family = AF_UNIX };
		int control = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

		snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/control",
		    directory);
		assert_int_equal(
		    bind(control, (struct sockaddr *)&addr, sizeof(addr)), 0);
		assert_int_equal(listen(control, 1), 0);
		check_silent(text, "in use");
		close(control);
	}
	assert_int_equal(check(text, &message), 0);
	assert_has(message, "is in use");
	free(message);
	free(text);
	close(fd);
}

static void test_local_sockets(void **state)
{
	(void)state;
	check_silent(OPEN_LISTEN("\"unix:%D/smtp\""), "smtp.listen");
	put("file", "");
	must_complain(
	    OPEN_LISTEN("\"unix:%D/file\""), "/file is there, and no socket");
	must_complain(OPEN_LISTEN("\"unix:%D\""), "is there, and no socket");
}

/* Root checks for a daemon that will not be root. */
static void test_owner(void **state)
{
	char *path = fill("%D/spool"), *message;
	const struct passwd *service = getpwnam("sesrelay");

	(void)state;
	make_spool(0700);
	if (geteuid() == 0) {
		assert_int_equal(chown(path, 4242, 4242), 0);
		assert_int_equal(check(WITH_SPOOL("%D/spool"), &message), 0);
		assert_has(message,
		    "belongs to uid 4242, neither root nor "
		    "sesrelay");
		free(message);
		if (service) {
			assert_int_equal(
			    chown(path, service->pw_uid, (gid_t)-1), 0);
			check_silent(WITH_SPOOL("%D/spool"), "belongs to");
		}
	}
	free(path);
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
		TEST(test_system_anchors),
		TEST(test_addresses),
		TEST(test_local_sockets),
		TEST(test_owner),
		TEST(test_low_ports),
		TEST(test_foreign_spool),
		TEST(test_group),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
