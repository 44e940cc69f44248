/*
 * Where lines go: a stream, the journal, syslog; and that none of them can
 * hold us up.  The three are played by a pipe and sockets of ours; a write
 * that waits would be ended by SIGALRM.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/clock.h"
#include "base/log_private.h"
#include "base/slice.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define STAMP "Nov 21 10:00:01 "

static char dir[64], journal_path[96], syslog_path[96];
static int stream[2];
static char got[1 << 20]; /* everything read from the stream */
static size_t n_got;

static int listen_at(const char *path)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_DGRAM, 0);

	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path);
	assert_int_equal(
	    bind(fd, (const struct sockaddr *)&addr, sizeof(addr)), 0);
	return fd;
}

static const char *hear(int fd)
{
	static char buf[LOG_LINE_MAX];
	ssize_t n = recv(fd, buf, sizeof(buf) - 1, MSG_DONTWAIT);

	buf[n > 0 ? n : 0] = '\0';
	return buf;
}

/* Everything that is in the pipe now, after what was read before. */
static void read_stream(void)
{
	ssize_t n;

	while ((n = read(stream[0], got + n_got, sizeof(got) - 1 - n_got)) > 0)
		n_got += (size_t)n;
	got[n_got] = '\0';
}

static void init(enum log_target target, enum log_format format)
{
	const struct log_options options = {
		.target = target,
		.format = format,
		.level = LOG_LEVEL_INFO,
		.name = "sesrelayd",
	};

	log_init(&options);
}

static int setup(void **state)
{
	(void)state;
	alarm(60);
	setenv("TZ", "UTC0", 1);
	tzset();
	unsetenv("JOURNAL_STREAM");
	clock_set_fake(0, 1795255201123456);
	strcpy(dir, "/tmp/test_log_target.XXXXXX");
	if (!mkdtemp(dir) || pipe(stream) < 0)
		return -1;
	fcntl(stream[0], F_SETFL, O_NONBLOCK);
	snprintf(journal_path, sizeof(journal_path), "%s/journal", dir);
	snprintf(syslog_path, sizeof(syslog_path), "%s/syslog", dir);
	log_target_redirect(journal_path, syslog_path, stream[1]);
	init(LOG_TARGET_STDERR, LOG_FORMAT_TEXT);
	n_got = 0;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	/* What a test left unwritten is none of the next one's business. */
	log_target_open(LOG_TARGET_STDERR);
	log_target_take_dropped();
	close(stream[0]);
	close(stream[1]);
	unlink(journal_path);
	unlink(syslog_path);
	return rmdir(dir);
}

/* One sentence and what of it arrives in the stream. */
static const char *say(enum log_level level)
{
	n_got = 0;
	log_msg(level, LOG_MASTER, LOG_NO_ID, "hello");
	log_flush();
	read_stream();
	return got;
}

/* The line from master with this before its ident and this after it. */
static const char *master_line(const char *before, const char *body)
{
	static char line[200];

	snprintf(line, sizeof(line), "%ssesrelayd/master[%d]: %s", before,
	    getpid(), body);
	return line;
}

/* As the journal does it, but for an inode that is so much off. */
static void set_journal_stream(int fd, int off)
{
	struct stat st;
	char env[64];

	fstat(fd, &st);
	snprintf(env, sizeof(env), "%ju:%ju", (uintmax_t)st.st_dev,
	    (uintmax_t)st.st_ino + (uintmax_t)off);
	setenv("JOURNAL_STREAM", env, 1);
}

static void test_stream_lines_carry_time_and_host(void **state)
{
	char host[65] = "";
	struct slice rest;

	(void)state;
	gethostname(host, sizeof(host) - 1);
	rest = slice_str(say(LOG_LEVEL_INFO));
	assert_true(slice_has_prefix(rest, STAMP));
	rest = slice_of(rest.ptr + strlen(STAMP), rest.len - strlen(STAMP));
	*strchrnul(host, '.') = '\0';
	assert_true(slice_eq_str(slice_split(&rest, ' '), host));
	assert_true(slice_eq_str(rest, master_line("", "hello\n")));
}

static void test_lines_wait_for_the_flush_but_errors_do_not(void **state)
{
	(void)state;
	log_msg(LOG_LEVEL_WARNING, LOG_MASTER, LOG_NO_ID, "one");
	read_stream();
	assert_int_equal(n_got, 0);
	log_msg(LOG_LEVEL_ERROR, LOG_MASTER, LOG_NO_ID, "two");
	read_stream();
	assert_non_null(strstr(got, "warning: one\n"));
	assert_non_null(strstr(got, "error: two\n"));
	assert_true(strstr(got, "one") < strstr(got, "two"));
}

static void test_json_stands_alone_on_its_line(void **state)
{
	(void)state;
	init(LOG_TARGET_STDERR, LOG_FORMAT_JSON);
	say(LOG_LEVEL_INFO);
	assert_int_equal(got[0], '{');
	assert_string_equal(got + n_got - 2, "}\n");
}

static void test_priorities_only_for_the_journal_stream(void **state)
{
	(void)state;
	set_journal_stream(stream[1], 0);
	init(LOG_TARGET_STDERR, LOG_FORMAT_TEXT);
	assert_string_equal(say(LOG_LEVEL_INFO), master_line("<6>", "hello\n"));
	assert_string_equal(
	    say(LOG_LEVEL_WARNING), master_line("<4>", "warning: hello\n"));
	assert_string_equal(
	    say(LOG_LEVEL_ERROR), master_line("<3>", "error: hello\n"));
	/* Set, but the journal's stream is not ours: it was inherited. */
	set_journal_stream(stream[1], 1);
	init(LOG_TARGET_STDERR, LOG_FORMAT_TEXT);
	assert_non_null(strstr(say(LOG_LEVEL_INFO), STAMP));
	setenv("JOURNAL_STREAM", "nonsense", 1);
	init(LOG_TARGET_STDERR, LOG_FORMAT_TEXT);
	assert_non_null(strstr(say(LOG_LEVEL_INFO), STAMP));
}

static void test_auto_is_the_journal_where_there_is_one(void **state)
{
	int fd = listen_at(journal_path);

	(void)state;
	init(LOG_TARGET_AUTO, LOG_FORMAT_TEXT);
	assert_non_null(strstr(say(LOG_LEVEL_INFO), STAMP));
	set_journal_stream(stream[1], 0);
	init(LOG_TARGET_AUTO, LOG_FORMAT_TEXT);
	assert_string_equal(say(LOG_LEVEL_INFO), "");
	assert_non_null(strstr(hear(fd), "MESSAGE=hello\n"));
	close(fd);
	unlink(journal_path);
	init(LOG_TARGET_AUTO, LOG_FORMAT_TEXT);
	assert_true(slice_has_prefix(slice_str(say(LOG_LEVEL_INFO)), "<6>"));
}

static void test_journal_gets_fields(void **state)
{
	static const struct log_field fields[] = {
		{ LOG_ANGLE, "message-id", "a\nPRIORITY=0" },
		{ LOG_HIDDEN, "ses_id", "0100018f" },
		{ LOG_PLAIN, "relay", NULL },
		{ LOG_END, NULL, NULL },
	};
	int fd = listen_at(journal_path);
	char expected[500];

	(void)state;
	init(LOG_TARGET_JOURNAL, LOG_FORMAT_TEXT);
	log_event(LOG_LEVEL_WARNING, LOG_CLEANUP, "durable", 0xab, fields);
	log_event(LOG_LEVEL_INFO, LOG_QMGR, "removed", 0xab, NULL);
	assert_string_equal(hear(fd), "");
	log_flush();
	snprintf(expected, sizeof(expected),
	    "SYSLOG_IDENTIFIER=sesrelayd/cleanup\nSYSLOG_FACILITY=2\n"
	    "SYSLOG_PID=%d\nPRIORITY=4\nQUEUE_ID=00000000000000AB\n"
	    "SESRELAYD_QUEUE_ID=00000000000000AB\n"
	    "MESSAGE=00000000000000AB: message-id=<a\\x0aPRIORITY=0>\n"
	    "SESRELAYD_EVENT=durable\n"
	    "SESRELAYD_MESSAGE_ID=a\\x0aPRIORITY=0\n"
	    "SESRELAYD_SES_ID=0100018f\n",
	    getpid());
	assert_string_equal(hear(fd), expected);
	assert_non_null(strstr(hear(fd), "SESRELAYD_EVENT=removed\n"));
	assert_string_equal(hear(fd), "");
	close(fd);
}

/* However much there is to say, each field is whole and ends its line. */
static void test_journal_fields_are_whole_or_absent(void **state)
{
	struct log_field fields[20];
	int fd = listen_at(journal_path);
	const char *said, *field;
	char value[1025];
	size_t n = 0;

	(void)state;
	memset(value, '\r', sizeof(value) - 1);
	value[sizeof(value) - 1] = '\0';
	for (size_t i = 0; i < ARRAY_LEN(fields); i++)
		fields[i] = (struct log_field){ LOG_HIDDEN, "v", value };
	fields[ARRAY_LEN(fields) - 1].style = LOG_END;
	init(LOG_TARGET_JOURNAL, LOG_FORMAT_TEXT);
	log_event(LOG_LEVEL_INFO, LOG_SMTP, "x", LOG_NO_ID, fields);
	log_flush();
	said = hear(fd);
	for (field = said; (field = strstr(field, "SESRELAYD_V=")); n++) {
		field += strlen("SESRELAYD_V=");
		assert_int_equal(strcspn(field, "\n"), 4096);
	}
	assert_int_equal(n, 3);
	assert_int_equal(said[strlen(said) - 1], '\n');
	/* A message that fills everything leaves its line ended. */
	for (size_t i = 0; i < ARRAY_LEN(fields) - 1; i++)
		fields[i].style = LOG_PLAIN;
	log_event(LOG_LEVEL_INFO, LOG_SMTP, "x", LOG_NO_ID, fields);
	log_flush();
	said = hear(fd);
	field = strstr(said, "MESSAGE=");
	assert_non_null(field);
	assert_int_equal(strcspn(field, "\n"), strlen(field) - 1);
	close(fd);
}

static void test_syslog_gets_its_form(void **state)
{
	int fd = listen_at(syslog_path);

	(void)state;
	init(LOG_TARGET_SYSLOG, LOG_FORMAT_TEXT);
	assert_string_equal(say(LOG_LEVEL_WARNING), "");
	/* Facility mail is 2, and a warning 4: 2 * 8 + 4. */
	assert_string_equal(
	    hear(fd), master_line("<20>" STAMP, "warning: hello"));
	close(fd);
}

static void test_absent_target_is_replaced_by_the_stream(void **state)
{
	(void)state;
	init(LOG_TARGET_JOURNAL, LOG_FORMAT_TEXT);
	log_flush();
	read_stream();
	assert_non_null(strstr(got, "the journal is not there"));
	assert_non_null(strstr(say(LOG_LEVEL_INFO), "hello\n"));
	init(LOG_TARGET_SYSLOG, LOG_FORMAT_TEXT);
	log_flush();
	read_stream();
	assert_non_null(strstr(got, "syslog is not there"));
}

/* A daemon of theirs that restarts finds what it missed. */
static void test_lines_wait_for_a_target_that_is_away(void **state)
{
	int fd = listen_at(syslog_path);

	(void)state;
	init(LOG_TARGET_SYSLOG, LOG_FORMAT_TEXT);
	close(fd);
	say(LOG_LEVEL_INFO);
	unlink(syslog_path);
	say(LOG_LEVEL_WARNING);
	fd = listen_at(syslog_path);
	log_flush();
	assert_non_null(strstr(hear(fd), "]: hello"));
	assert_non_null(strstr(hear(fd), "]: warning: hello"));
	assert_string_equal(hear(fd), "");
	close(fd);
}

static void log_numbered(int first, int n)
{
	for (int i = first; i < first + n; i++)
		log_msg(LOG_LEVEL_INFO, LOG_MASTER, LOG_NO_ID, "line %d.", i);
	log_flush();
}

/*
 * What arrived: numbered lines from 0 without a gap, and after them perhaps
 * the report of how many were dropped.  Both are counted.
 */
static void count_arrived(const char *text, int *lines, int *dropped)
{
	const char *end;
	char needle[40];

	*lines = 0;
	*dropped = 0;
	for (;;) {
		snprintf(needle, sizeof(needle), "]: line %d.", *lines);
		end = strstr(text, needle);
		if (!end)
			break;
		text = end + strlen(needle);
		(*lines)++;
	}
	assert_null(strstr(text, "line "));
	end = strstr(text, "]: warning: ");
	if (end)
		assert_int_equal(
		    sscanf(end, "]: warning: %d log lines dropped", dropped),
		    1);
}

static void test_full_pipe_drops_and_says_how_many(void **state)
{
	const int n = 5000;
	int lines, dropped;

	(void)state;
	assert_true(fcntl(stream[1], F_SETPIPE_SZ, 4096) > 0);
	for (int i = 0; i < n; i += 100)
		log_numbered(i, 100);
	/* The buffer's worth is still there, in order. */
	while (
	    read_stream(), log_flush(), read_stream(), !strstr(got, "dropped"))
		;
	count_arrived(got, &lines, &dropped);
	assert_in_range(lines * 40, LOG_BUFFER_BYTES / 2, n * 40 - 1);
	assert_int_equal(lines + dropped, n);
	/* Reported once. */
	say(LOG_LEVEL_INFO);
	assert_null(strstr(got, "dropped"));
}

static void test_pipe_takes_long_lines_in_parts(void **state)
{
	static char value[1024];
	struct log_field fields[14];

	(void)state;
	memset(value, 'v', sizeof(value) - 1);
	for (size_t i = 0; i < ARRAY_LEN(fields); i++)
		fields[i] = (struct log_field){ LOG_PLAIN, "k", value };
	fields[ARRAY_LEN(fields) - 1].style = LOG_END;
	assert_true(fcntl(stream[1], F_SETPIPE_SZ, 4096) > 0);
	log_numbered(0, 1);
	log_event(LOG_LEVEL_INFO, LOG_SMTP, "x", LOG_NO_ID, fields);
	log_numbered(1, 1);
	while (read_stream(), !strstr(got, "line 1.\n"))
		log_flush();
	/* Every byte of the thirteen values, and nothing in between. */
	for (size_t i = 0, at = 0; i < 13; i++) {
		const char *v = strstr(got + at, "k=v");

		assert_non_null(v);
		assert_int_equal(strspn(v + 2, "v"), sizeof(value) - 1);
		at = (size_t)(v - got) + sizeof(value);
	}
}

static void test_full_socket_drops_and_says_how_many(void **state)
{
	const int n = 5000;
	int fd = listen_at(syslog_path), lines, dropped;

	(void)state;
	init(LOG_TARGET_SYSLOG, LOG_FORMAT_TEXT);
	log_numbered(0, n);
	do {
		const char *text = hear(fd);

		log_flush();
		memcpy(got + n_got, text, strlen(text) + 1);
		n_got += strlen(text);
	} while (!strstr(got, "dropped"));
	count_arrived(got, &lines, &dropped);
	assert_true(dropped > 0);
	assert_int_equal(lines + dropped, n);
	close(fd);
}

static void test_reader_that_left_is_survived(void **state)
{
	(void)state;
	signal(SIGPIPE, SIG_IGN);
	close(stream[0]);
	log_numbered(0, 5000);
	log_target_open(LOG_TARGET_STDERR);
	assert_int_equal(log_target_take_dropped(), 5000);
	stream[0] = open("/dev/null", O_RDONLY);
}

static void test_new_target_counts_what_the_old_one_left(void **state)
{
	int fd = listen_at(syslog_path);
	char fill[4096] = "";

	(void)state;
	assert_true(fcntl(stream[1], F_SETPIPE_SZ, 4096) > 0);
	assert_int_equal(write(stream[1], fill, sizeof(fill)), sizeof(fill));
	log_numbered(0, 7);
	init(LOG_TARGET_SYSLOG, LOG_FORMAT_TEXT);
	log_flush();
	assert_non_null(strstr(hear(fd), "7 log lines dropped"));
	assert_string_equal(hear(fd), "");
	close(fd);
}

static void test_flush_leaves_errno_alone(void **state)
{
	int fd = listen_at(syslog_path);

	(void)state;
	init(LOG_TARGET_SYSLOG, LOG_FORMAT_TEXT);
	close(fd);
	errno = ENOTTY;
	log_msg(LOG_LEVEL_ERROR, LOG_MASTER, LOG_NO_ID, "x");
	assert_int_equal(errno, ENOTTY);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_stream_lines_carry_time_and_host),
		TEST(test_lines_wait_for_the_flush_but_errors_do_not),
		TEST(test_json_stands_alone_on_its_line),
		TEST(test_priorities_only_for_the_journal_stream),
		TEST(test_auto_is_the_journal_where_there_is_one),
		TEST(test_journal_gets_fields),
		TEST(test_journal_fields_are_whole_or_absent),
		TEST(test_syslog_gets_its_form),
		TEST(test_absent_target_is_replaced_by_the_stream),
		TEST(test_lines_wait_for_a_target_that_is_away),
		TEST(test_full_pipe_drops_and_says_how_many),
		TEST(test_pipe_takes_long_lines_in_parts),
		TEST(test_full_socket_drops_and_says_how_many),
		TEST(test_reader_that_left_is_survived),
		TEST(test_new_target_counts_what_the_old_one_left),
		TEST(test_flush_leaves_errno_alone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
