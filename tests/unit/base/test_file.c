/*
 * Files: transfers that the kernel cuts short, and what is refused.
 *
 * The system calls that move bytes or sync are replaced here by ones that
 * stutter: every other call is interrupted, and no call moves more than a few
 * bytes.  The assembler names take the place of libc's when this is linked.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static struct {
	size_t most; /* bytes a call; 0: none are moved */
	bool interrupted; /* was the last call? */
	int fail; /* errno of every sync, when set */
	int grow_fd; /* a byte is appended here by the next read, when > 0 */
	int n_calls;
} stutter;

/* True: this call is interrupted. */
static bool interrupt(void)
{
	stutter.n_calls++;
	stutter.interrupted = !stutter.interrupted;
	if (stutter.interrupted)
		errno = EINTR;
	return stutter.interrupted;
}

static size_t at_most(size_t len)
{
	return len < stutter.most ? len : stutter.most;
}

ssize_t stutter_write(int fd, const void *data, size_t len) __asm__("write");
ssize_t stutter_write(int fd, const void *data, size_t len)
{
	if (fd == STDOUT_FILENO || fd == STDERR_FILENO)
		return syscall(SYS_write, fd, data, len);
	return interrupt() ? -1 : syscall(SYS_write, fd, data, at_most(len));
}

ssize_t stutter_pwrite(int fd, const void *data, size_t len, off_t at) __asm__(
    "pwrite");
ssize_t stutter_pwrite(int fd, const void *data, size_t len, off_t at)
{
	if (interrupt())
		return -1;
	return syscall(SYS_pwrite64, fd, data, at_most(len), at);
}

ssize_t stutter_pread(int fd, void *data, size_t len, off_t at) __asm__(
    "pread");
ssize_t stutter_pread(int fd, void *data, size_t len, off_t at)
{
	if (interrupt())
		return -1;
	if (stutter.grow_fd > 0)
		syscall(SYS_write, stutter.grow_fd, "x", 1);
	stutter.grow_fd = 0;
	return syscall(SYS_pread64, fd, data, at_most(len), at);
}

ssize_t stutter_pwritev(
    int fd, const struct iovec *iov, int n, off_t at) __asm__("pwritev");
ssize_t stutter_pwritev(int fd, const struct iovec *iov, int n, off_t at)
{
	size_t left = stutter.most;
	ssize_t done = 0;

	if (interrupt())
		return -1;
	if (n < 1 || n > 1024) {
		errno = EINVAL;
		return -1;
	}
	for (int i = 0; i < n && left > 0; i++) {
		size_t len = iov[i].iov_len < left ? iov[i].iov_len : left;
		ssize_t rc =
		    syscall(SYS_pwrite64, fd, iov[i].iov_base, len, at + done);

		if (rc < 0)
			return -1;
		done += rc;
		left -= len;
	}
	return done;
}

static int sync_result(void)
{
	if (interrupt())
		return -1;
	errno = stutter.fail;
	return stutter.fail ? -1 : 0;
}

int stutter_fdatasync(int fd) __asm__("fdatasync");
int stutter_fdatasync(int fd)
{
	(void)fd;
	return sync_result();
}

int stutter_fsync(int fd) __asm__("fsync");
int stutter_fsync(int fd)
{
	(void)fd;
	return sync_result();
}

static char dir_path[64];
static int dir_fd = -1;

static int setup(void **state)
{
	(void)state;
	memset(&stutter, 0, sizeof(stutter));
	stutter.most = 3;
	strcpy(dir_path, "/tmp/test_file.XXXXXX");
	if (!mkdtemp(dir_path))
		return -1;
	dir_fd = open(dir_path, O_RDONLY | O_DIRECTORY);
	umask(0);
	return dir_fd < 0 ? -1 : 0;
}

static int teardown(void **state)
{
	static const char *const names[] = { "a", "b", "link", "fifo" };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		unlinkat(dir_fd, names[i], 0);
	unlinkat(dir_fd, "sub", AT_REMOVEDIR);
	close(dir_fd);
	return rmdir(dir_path);
}

/* The path of a name in the directory; valid until the next call. */
static const char *path_of(const char *name)
{
	static char path[128];

	snprintf(path, sizeof(path), "%s/%s", dir_path, name);
	return path;
}

static int new_file(const char *name)
{
	struct err err;
	int fd = file_create(dir_fd, name, 0600, &err);

	assert_true(fd >= 0);
	return fd;
}

static void make_file(const char *name, const char *text, mode_t mode)
{
	int fd = new_file(name);

	assert_int_equal(file_write_all(fd, text, strlen(text), NULL), 0);
	assert_int_equal(fchmod(fd, mode), 0);
	close(fd);
}

static void assert_content(int fd, const char *expected, size_t len)
{
	struct stat st;
	char *text = malloc(len + 1);

	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_size, len);
	assert_int_equal(file_pread_all(fd, text, len, 0, NULL), 0);
	assert_memory_equal(text, expected, len);
	free(text);
}

static void test_transfers_are_whole(void **state)
{
	static const char text[] = "0123456789abcdef";
	int fd = new_file("a");
	char buf[8];

	(void)state;
	assert_int_equal(file_write_all(fd, text, 16, NULL), 0);
	assert_content(fd, text, 16);
	assert_int_equal(file_pwrite_all(fd, "WXYZ", 4, 14, NULL), 0);
	assert_content(fd, "0123456789abcdWXYZ", 18);
	assert_int_equal(file_pread_all(fd, buf, 7, 10, NULL), 0);
	assert_memory_equal(buf, "abcdWXY", 7);
	close(fd);
}

static void test_iovecs_are_written_whole(void **state)
{
	char expected[3 * 1500 + 1] = "";
	struct iovec iov[3000];
	struct iovec none = { NULL, 0 };
	int fd = new_file("a");

	(void)state;
	/* More than the kernel takes at once, and every other one empty. */
	for (size_t i = 0; i < ARRAY_LEN(iov); i++) {
		iov[i].iov_base = (char[1]){ 0 };
		iov[i].iov_len = 0;
		if (i % 2 == 0) {
			char *part = expected + 3 * (i / 2);

			snprintf(part, 4, "%03zu", i % 1000);
			iov[i] = (struct iovec){ part, 3 };
		}
	}
	stutter.most = 1001;
	assert_int_equal(file_pwritev_all(fd, iov, 3000, 0, NULL), 0);
	assert_content(fd, expected, 4500);
	assert_int_equal(file_pwritev_all(fd, &none, 1, 0, NULL), 0);
	assert_int_equal(file_pwritev_all(fd, &none, 0, 0, NULL), 0);

	iov[0] = (struct iovec){ expected, 5 };
	iov[1] = (struct iovec){ expected + 5, 4 };
	stutter.most = 2;
	assert_int_equal(file_pwritev_all(fd, iov, 2, 4500, NULL), 0);
	stutter.most = 4096;
	assert_int_equal(file_pread_all(fd, expected + 4000, 9, 4500, NULL), 0);
	assert_memory_equal(expected + 4000, expected, 9);
	close(fd);
}

static void test_no_progress_is_a_failure(void **state)
{
	struct iovec iov = { (char[]){ "x" }, 1 };
	int fd = new_file("a");
	struct err err;

	(void)state;
	stutter.most = 0;
	assert_int_equal(file_write_all(fd, "x", 1, &err), -1);
	assert_int_equal(err.code, EIO);
	assert_int_equal(file_pwrite_all(fd, "x", 1, 0, &err), -1);
	assert_int_equal(file_pwritev_all(fd, &iov, 1, 0, &err), -1);
	close(fd);
}

static void test_failures_keep_their_reason(void **state)
{
	struct iovec iov = { (char[]){ "x" }, 1 };
	struct err err;
	char c;
	int fd;

	(void)state;
	make_file("a", "12345", 0600);
	fd = file_open_read(dir_fd, "a", &err);
	assert_true(fd >= 0);
	assert_int_equal(file_write_all(fd, "x", 1, &err), -1);
	assert_int_equal(err.code, EBADF);
	assert_string_equal(err.text, "write: Bad file descriptor");
	assert_int_equal(file_pwrite_all(fd, "x", 1, 0, &err), -1);
	assert_int_equal(err.code, EBADF);
	assert_int_equal(file_pwritev_all(fd, &iov, 1, 0, &err), -1);
	assert_int_equal(err.code, EBADF);
	assert_int_equal(file_pread_all(-1, &c, 1, 0, &err), -1);
	assert_int_equal(err.code, EBADF);
	close(fd);
}

static void test_end_of_file_is_a_failure(void **state)
{
	char buf[8];
	struct err err;
	int fd;

	(void)state;
	make_file("a", "12345", 0600);
	fd = file_open_read(dir_fd, "a", &err);
	assert_int_equal(file_pread_all(fd, buf, 5, 0, &err), 0);
	assert_int_equal(file_pread_all(fd, buf, 6, 0, &err), -1);
	assert_int_equal(err.code, 0);
	assert_string_equal(err.text, "read: end of file, 1 bytes early");
	assert_int_equal(file_pread_all(fd, buf, 1, 5, &err), -1);
	close(fd);
}

static void test_sync_survives_signals_but_never_hides_failure(void **state)
{
	struct err err;

	(void)state;
	assert_int_equal(file_datasync(dir_fd, &err), 0);
	assert_int_equal(file_sync_dir(dir_fd, &err), 0);
	stutter.fail = EIO;
	stutter.n_calls = 0;
	assert_int_equal(file_datasync(dir_fd, &err), -1);
	assert_int_equal(err.code, EIO);
	assert_int_equal(stutter.n_calls, 2); /* EINTR, EIO: not once more */
	assert_int_equal(file_sync_dir(dir_fd, &err), -1);
	assert_int_equal(err.code, EIO);
	assert_int_equal(stutter.n_calls, 4);
}

static void test_create_is_anew_and_follows_nothing(void **state)
{
	struct err err;
	struct stat st;
	int fd = file_create(dir_fd, "a", 0640, &err);

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0640);
	assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	assert_int_equal(fcntl(fd, F_GETFL) & O_ACCMODE, O_RDWR);
	close(fd);
	assert_int_equal(file_create(dir_fd, "a", 0640, &err), -1);
	assert_int_equal(err.code, EEXIST);
	assert_int_equal(symlinkat("b", dir_fd, "link"), 0);
	assert_int_equal(file_create(dir_fd, "link", 0640, &err), -1);
	assert_int_equal(faccessat(dir_fd, "b", F_OK, 0), -1);
}

static void test_directories(void **state)
{
	struct err err;
	struct stat st;
	int fd;

	(void)state;
	for (int twice = 0; twice < 2; twice++) {
		fd = file_open_dir(dir_fd, "sub", 0750, &err);
		assert_true(fd >= 0);
		assert_int_equal(fstat(fd, &st), 0);
		assert_int_equal(st.st_mode & 07777, 0750);
		assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
		close(fd);
	}
	make_file("a", "", 0600);
	assert_int_equal(file_open_dir(dir_fd, "a", 0750, &err), -1);
	assert_int_equal(err.code, ENOTDIR);
	assert_int_equal(symlinkat("sub", dir_fd, "link"), 0);
	assert_int_equal(file_open_dir(dir_fd, "link", 0750, &err), -1);
	assert_int_equal(file_open_dir(dir_fd, "no/where", 0750, &err), -1);
	assert_int_equal(err.code, ENOENT);
	assert_non_null(strstr(err.text, "no/where"));
}

static void test_open_read_takes_regular_files_only(void **state)
{
	struct err err;
	int fd;

	(void)state;
	make_file("a", "x", 0600);
	fd = file_open_read(dir_fd, "a", &err);
	assert_true(fd >= 0);
	assert_int_equal(fcntl(fd, F_GETFL) & O_ACCMODE, O_RDONLY);
	assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	close(fd);
	assert_int_equal(symlinkat("a", dir_fd, "link"), 0);
	assert_int_equal(file_open_read(dir_fd, "link", &err), -1);
	assert_int_equal(err.code, ELOOP);
	assert_non_null(strstr(err.text, "symbolic link"));
	/* A FIFO without a writer would block the open. */
	assert_int_equal(mkfifoat(dir_fd, "fifo", 0600), 0);
	assert_int_equal(file_open_read(dir_fd, "fifo", &err), -1);
	assert_non_null(strstr(err.text, "not a regular file"));
	assert_int_equal(file_open_read(dir_fd, ".", &err), -1);
	assert_int_equal(file_open_read(dir_fd, "absent", &err), -1);
	assert_int_equal(err.code, ENOENT);
}

static void test_unlink_tells_what_was_absent(void **state)
{
	struct err err;

	(void)state;
	make_file("a", "x", 0600);
	assert_int_equal(file_unlink(dir_fd, "a", &err), 0);
	assert_int_equal(file_unlink(dir_fd, "a", &err), -1);
	assert_int_equal(err.code, ENOENT);
}

static void test_small_files_are_read_whole(void **state)
{
	size_t len = 99;
	struct err err;
	char *text;

	(void)state;
	make_file("a", "hello\n", 0644);
	text = file_read_small(path_of("a"), 6, false, &len, &err);
	assert_non_null(text);
	assert_string_equal(text, "hello\n");
	assert_int_equal(len, 6);
	free(text);
	assert_null(file_read_small(path_of("a"), 5, false, &len, &err));
	assert_int_equal(err.code, EFBIG);
	make_file("b", "", 0644);
	text = file_read_small(path_of("b"), 5, false, &len, &err);
	assert_non_null(text);
	assert_string_equal(text, "");
	assert_int_equal(len, 0);
	free(text);
	assert_null(file_read_small(path_of("absent"), 5, false, &len, &err));
	assert_int_equal(err.code, ENOENT);
	assert_non_null(strstr(err.text, path_of("absent")));
	assert_null(file_read_small(dir_path, 5, false, &len, &err));
}

static void test_a_file_that_grows_is_not_read_in_part(void **state)
{
	struct err err;
	size_t len;
	int fd;

	(void)state;
	make_file("a", "12345", 0600);
	fd = openat(dir_fd, "a", O_WRONLY | O_APPEND);
	assert_true(fd > 0);
	stutter.grow_fd = fd;
	assert_null(file_read_small(path_of("a"), 100, false, &len, &err));
	assert_int_equal(err.code, EAGAIN);
	close(fd);
}

static void test_secrets_are_refused_when_others_get_at_them(void **state)
{
	static const struct {
		mode_t mode;
		bool ok;
	} rows[] = {
		{ 0600, true },
		{ 0400, true },
		{ 0700, true },
		{ 0640, false },
		{ 0604, false },
		{ 0620, false },
		{ 0602, false },
		{ 0644, false },
	};
	struct err err;
	size_t len;

	(void)state;
	make_file("a", "secret", 0600);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		char *text;

		assert_int_equal(fchmodat(dir_fd, "a", rows[i].mode, 0), 0);
		text = file_read_small(path_of("a"), 100, true, &len, &err);
		assert_int_equal(text != NULL, rows[i].ok);
		if (!rows[i].ok) {
			assert_int_equal(err.code, EPERM);
			assert_non_null(strstr(err.text, "chmod 600"));
			assert_non_null(strstr(err.text, path_of("a")));
		}
		free(text);
		/* Without the flag the mode is nobody's business. */
		text = file_read_small(path_of("a"), 100, false, &len, &err);
		assert_non_null(text);
		free(text);
	}
}

static void test_secrets_of_strangers_are_refused(void **state)
{
	struct err err;
	char *text;
	size_t len;

	(void)state;
	make_file("a", "secret", 0600);
	if (geteuid() != 0) {
		/* Only root can give files away; root's own are fine. */
		text = file_read_small(path_of("a"), 100, true, &len, &err);
		assert_non_null(text);
		free(text);
		return;
	}
	assert_int_equal(fchownat(dir_fd, "a", 12345, 12345, 0), 0);
	assert_null(file_read_small(path_of("a"), 100, true, &len, &err));
	assert_int_equal(err.code, EPERM);
	assert_non_null(strstr(err.text, "uid 12345"));
	assert_non_null(strstr(err.text, "chown"));
	text = file_read_small(path_of("a"), 100, false, &len, &err);
	assert_non_null(text);
	free(text);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_transfers_are_whole),
		TEST(test_iovecs_are_written_whole),
		TEST(test_no_progress_is_a_failure),
		TEST(test_failures_keep_their_reason),
		TEST(test_end_of_file_is_a_failure),
		TEST(test_sync_survives_signals_but_never_hides_failure),
		TEST(test_create_is_anew_and_follows_nothing),
		TEST(test_directories),
		TEST(test_open_read_takes_regular_files_only),
		TEST(test_unlink_tells_what_was_absent),
		TEST(test_small_files_are_read_whole),
		TEST(test_a_file_that_grows_is_not_read_in_part),
		TEST(test_secrets_are_refused_when_others_get_at_them),
		TEST(test_secrets_of_strangers_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
