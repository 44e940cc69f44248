/*
 * The terminal of `top`: its alternate screen, its keys, and the way back.
 *
 * Owns the terminal's settings from open to close.  Whatever ends the process
 * while it is open (exit, a crash) finds the way out in restore(), which does
 * only what a signal handler may do.  Escape sequences are those of ECMA-48 and
 * xterm's alternate screen, which every terminal in use knows; what does not
 * says TERM=dumb, and never comes here.  Only lines that changed are written,
 * in one write a time.
 */
#include "cli/top.h"

#include "base/mem.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

/* Alternate screen, no cursor, no wrapping; and back. */
#define ENTER "\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[H\x1b[2J"
#define LEAVE "\x1b[m\x1b[?7h\x1b[?25h\x1b[?1049l"

struct top_screen {
	struct top_lines shown; /* what the terminal has */
	char *out;
	size_t len, size;
};

static struct termios found; /* as it was before */
static volatile sig_atomic_t is_open;

static const int crashes[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT };

/* Async-signal-safe. */
static void restore(void)
{
	int saved = errno;

	if (is_open == 0)
		return;
	is_open = 0;
	(void)!write(STDOUT_FILENO, LEAVE, sizeof LEAVE - 1);
	/* Keys that were hit for us are not for the shell. */
	(void)tcsetattr(STDIN_FILENO, TCSAFLUSH, &found);
	errno = saved;
}

static void on_crash(int signo)
{
	restore();
	(void)signal(signo, SIG_DFL);
	(void)raise(signo);
}

static int enter(void)
{
	struct termios raw = found;

	raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
	raw.c_cc[VMIN] = 0;
	raw.c_cc[VTIME] = 0;
	if (tcsetattr(STDIN_FILENO, TCSADRAIN, &raw) != 0)
		return -1;
	is_open = 1;
	return write(STDOUT_FILENO, ENTER, sizeof ENTER - 1) < 0 ? -1 : 0;
}

struct top_screen *top_screen_open(struct err *err)
{
	if (tcgetattr(STDIN_FILENO, &found) != 0) {
		err_sys(err, "terminal");
		return NULL;
	}
	for (size_t i = 0; i < ARRAY_LEN(crashes); i++)
		(void)signal(crashes[i], on_crash);
	(void)atexit(restore);
	if (enter() != 0) {
		err_sys(err, "terminal");
		restore();
		return NULL;
	}
	return xcalloc(1, sizeof(struct top_screen));
}

void top_screen_close(struct top_screen *s)
{
	restore();
	if (s == NULL)
		return;
	top_lines_free(&s->shown);
	free(s->out);
	free(s);
}

void top_screen_size(unsigned *width, unsigned *height)
{
	struct winsize size;

	*width = 80;
	*height = 24;
	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0)
		return;
	if (size.ws_col > 0)
		*width = size.ws_col;
	if (size.ws_row > 0)
		*height = size.ws_row;
}

void top_screen_forget(struct top_screen *s)
{
	top_lines_free(&s->shown);
}

static void add(struct top_screen *s, const char *bytes, size_t n)
{
	if (s->len + n > s->size) {
		s->size = 2 * (s->len + n);
		s->out = xrealloc(s->out, s->size);
	}
	memcpy(s->out + s->len, bytes, n);
	s->len += n;
}

/* A slow terminal takes its time; a signal ends it, the rest is not missed. */
static int flush_out(struct top_screen *s)
{
	size_t done = 0;
	int rc = 0;

	while (done < s->len && rc == 0) {
		ssize_t n = write(STDOUT_FILENO, s->out + done, s->len - done);

		if (n >= 0)
			done += (size_t)n;
		else if (errno == EINTR)
			break;
		else
			rc = -1;
	}
	if (done < s->len)
		top_screen_forget(s);
	s->len = 0;
	return rc;
}

static bool is_shown(const struct top_screen *s, unsigned i, const char *line)
{
	return i < s->shown.n && strcmp(s->shown.items[i], line) == 0;
}

static void keep(struct top_screen *s, const struct top_lines *lines)
{
	top_lines_free(&s->shown);
	s->shown.items = xcalloc(lines->n + 1, sizeof *s->shown.items);
	for (unsigned i = 0; i < lines->n; i++)
		s->shown.items[i] = xstrdup(lines->items[i]);
	s->shown.n = lines->n;
}

int top_screen_draw(struct top_screen *s, const struct top_lines *lines)
{
	char place[32];

	if (s->shown.n == 0)
		add(s, "\x1b[m\x1b[2J", 7);
	for (unsigned i = 0; i < lines->n; i++) {
		if (is_shown(s, i, lines->items[i]))
			continue;
		add(s, place,
		    (size_t)snprintf(
			place, sizeof place, "\x1b[%u;1H\x1b[K", i + 1));
		add(s, lines->items[i], strlen(lines->items[i]));
	}
	keep(s, lines);
	return s->len > 0 ? flush_out(s) : 0;
}

void top_screen_resume(struct top_screen *s)
{
	/* Somebody may have set it otherwise meanwhile: that is what stays. */
	if (is_open == 0)
		(void)tcgetattr(STDIN_FILENO, &found);
	(void)enter();
	top_screen_forget(s);
}

void top_screen_suspend(struct top_screen *s)
{
	struct sigaction stop = { .sa_handler = SIG_DFL }, ours;
	sigset_t mask, before;

	restore();
	(void)sigaction(SIGTSTP, &stop, &ours);
	sigemptyset(&mask);
	sigaddset(&mask, SIGTSTP);
	(void)raise(SIGTSTP);
	(void)sigprocmask(SIG_UNBLOCK, &mask, &before); /* here it stops */
	(void)sigprocmask(SIG_SETMASK, &before, NULL);
	(void)sigaction(SIGTSTP, &ours, NULL);
	top_screen_resume(s);
}
