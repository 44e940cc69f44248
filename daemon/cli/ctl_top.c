/*
 * `top`: asks the daemon again and again, and shows what it says: on a terminal
 * as a live screen, elsewhere as text, or as objects.
 *
 * One thread.  It waits in one place, look_around(), for the daemon, for keys,
 * for signals and for the time, also while an answer is under way: a daemon that
 * hangs does not hang the keys.  Signals are blocked but there and while the
 * terminal is written.
 */
#include "cli/top.h"

#include "base/clock.h"
#include "base/mem.h"

#include <errno.h>
#include <langinfo.h>
#include <locale.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

#define DEFAULT_DELAY_US US_PER_S
#define PATIENCE_US (5 * US_PER_S) /* then the screen says: no answer */
#define GIVE_UP_US (30 * US_PER_S)
#define CONTROL_L 12

static volatile sig_atomic_t ended_by, resized, stopped, continued;

struct top {
	const struct ctl_options *options;
	struct ctl_client *client;
	struct top_screen *screen; /* NULL: text goes out */
	struct top_history history;
	struct top_view view;
	char *trouble;
	char host[CTL_BUF], clock[CTL_BUF];
	sigset_t outside; /* the mask while it waits */
	int64_t next_us; /* the time of the next look */
	int64_t asked_us; /* 0: no answer is under way */
	int64_t looks;
	bool quit;
};

/* --- signals --- */

static void on_end(int signo)
{
	ended_by = signo;
}

static void on_resize(int signo)
{
	(void)signo;
	resized = 1;
}

static void on_stop(int signo)
{
	(void)signo;
	stopped = 1;
}

static void on_continue(int signo)
{
	(void)signo;
	continued = 1;
}

static void take_signals(struct top *t)
{
	static const struct {
		int signo;
		void (*handler)(int signo);
	} table[] = { { SIGINT, on_end }, { SIGTERM, on_end },
		{ SIGHUP, on_end }, { SIGQUIT, on_end },
		{ SIGWINCH, on_resize }, { SIGTSTP, on_stop },
		{ SIGCONT, on_continue } };
	sigset_t mask;

	sigemptyset(&mask);
	for (size_t i = 0; i < ARRAY_LEN(table); i++) {
		struct sigaction action = { .sa_handler = table[i].handler };

		(void)sigaction(table[i].signo, &action, NULL);
		sigaddset(&mask, table[i].signo);
	}
	(void)signal(SIGPIPE, SIG_IGN);
	(void)sigprocmask(SIG_BLOCK, &mask, &t->outside);
}

/* --- drawing --- */

static void tell_time(struct top *t)
{
	time_t now = time(NULL);
	struct tm tm;

	localtime_r(&now, &tm);
	strftime(t->clock, sizeof t->clock, "%H:%M:%S", &tm);
}

static void draw(struct top *t)
{
	struct top_lines lines;
	unsigned width, height;
	sigset_t inside;
	int rc;

	tell_time(t);
	t->view.trouble = t->trouble;
	top_screen_size(&width, &height);
	top_layout(&t->view, width, height, &lines);
	/* A terminal that is held (Ctrl-S) must not hold us. */
	(void)sigprocmask(SIG_SETMASK, &t->outside, &inside);
	rc = top_screen_draw(t->screen, &lines);
	(void)sigprocmask(SIG_SETMASK, &inside, NULL);
	top_lines_free(&lines);
	if (rc != 0)
		t->quit = true;
}

static void set_trouble(struct top *t, const char *text)
{
	free(t->trouble);
	t->trouble = text != NULL ? xstrdup(text) : NULL;
}

/* --- keys --- */

/* The next longer delay, or the next shorter. */
static void change_delay(struct top *t, bool longer)
{
	static const int64_t ms[] = { 100, 200, 500, 1000, 2000, 5000, 10000,
		30000, 60000 };
	int64_t now = t->view.delay_us / US_PER_MS, best = now;

	for (size_t i = 0; i < ARRAY_LEN(ms); i++) {
		if (longer && ms[i] > now) {
			best = ms[i];
			break;
		}
		if (!longer && ms[i] < now)
			best = ms[i];
	}
	t->view.delay_us = best * US_PER_MS;
	clock_update();
	t->next_us = clock_mono_us() + t->view.delay_us;
}

static void obey_key(struct top *t, char key)
{
	switch (key) {
	case 'q':
	case 'Q':
		t->quit = true;
		break;
	case 'p':
	case 'P':
		t->view.paused = !t->view.paused;
		break;
	case ' ':
		t->next_us = 0;
		break;
	case '+':
	case '=':
		change_delay(t, true);
		break;
	case '-':
		change_delay(t, false);
		break;
	case 'h':
	case 'H':
	case '?':
		t->view.help = !t->view.help;
		break;
	case CONTROL_L:
		top_screen_forget(t->screen);
		break;
	default:
		break;
	}
}

/* What a cursor key sends begins with ESC; it is none of ours. */
static void read_keys(struct top *t)
{
	char keys[64];
	ssize_t n = read(STDIN_FILENO, keys, sizeof keys);

	if (n == 0 || (n < 0 && errno != EINTR && errno != EAGAIN)) {
		t->quit = true; /* nobody is there any more */
		return;
	}
	for (ssize_t i = 0; i < n && keys[i] != '\x1b'; i++)
		obey_key(t, keys[i]);
	draw(t);
}

/* --- waiting --- */

static void obey_signals(struct top *t)
{
	if (stopped && t->screen != NULL) {
		stopped = continued = 0;
		top_screen_suspend(t->screen);
		draw(t);
	}
	if (stopped && t->screen == NULL) {
		stopped = 0;
		(void)raise(SIGSTOP);
	}
	if (continued || resized) {
		if (t->screen != NULL && continued)
			top_screen_resume(t->screen);
		else if (t->screen != NULL)
			top_screen_forget(t->screen);
		continued = resized = 0;
		if (t->screen != NULL)
			draw(t);
	}
}

static struct timespec until(int64_t us)
{
	int64_t left = us - clock_mono_us();

	if (left < 0)
		left = 0;
	return (struct timespec){ .tv_sec = left / US_PER_S,
		.tv_nsec = (left % US_PER_S) * 1000 };
}

/*
 * Keys and signals until `fd` (-1: none) can be read, or that time.  Returns
 * whether it can be read.
 */
static bool look_around(struct top *t, int fd, int64_t until_us)
{
	struct pollfd fds[2] = { { .fd = fd, .events = POLLIN },
		{ .fd = t->screen != NULL ? STDIN_FILENO : -1,
		    .events = POLLIN } };
	struct timespec left;
	int n;

	obey_signals(t);
	clock_update();
	left = until(until_us);
	n = ppoll(fds, 2, &left, &t->outside);
	clock_update();
	if (ended_by != 0)
		t->quit = true;
	obey_signals(t);
	if (n > 0 && fds[1].revents != 0)
		read_keys(t);
	return n > 0 && fds[0].revents != 0;
}

/* An answer is under way; see ctl_set_wait(). */
static int wait_for_answer(void *ctx, int fd)
{
	struct top *t = ctx;

	while (!look_around(t, fd,
	    t->asked_us + (t->trouble == NULL ? PATIENCE_US : GIVE_UP_US))) {
		if (t->quit)
			return EX_UNAVAILABLE;
		if (clock_mono_us() - t->asked_us >= GIVE_UP_US) {
			ctl_error("it has not answered for 30 seconds");
			return EX_UNAVAILABLE;
		}
		if (clock_mono_us() - t->asked_us < PATIENCE_US ||
		    t->trouble != NULL)
			continue;
		set_trouble(t, "the daemon is there, but hangs");
		if (t->screen != NULL)
			draw(t);
	}
	return EX_OK;
}

/* --- asking --- */

static bool take_answer(void *ctx, json_t *o)
{
	struct top *t = ctx;

	json_decref(t->view.now);
	t->view.now = json_incref(o);
	top_history_add(&t->history, json_object_get(o, "history"));
	return true;
}

/* What went wrong is the trouble of the screen, or what ctl_error() said. */
static int ask(struct top *t)
{
	struct err err = { 0 };
	int rc = EX_OK;

	if (t->client == NULL) {
		t->client = ctl_open(t->options, false, &rc);
		if (t->client == NULL)
			goto out;
		ctl_set_wait(t->client, wait_for_answer, t);
	}
	clock_update();
	t->asked_us = clock_mono_us();
	rc = ctl_query(t->client, "top", take_answer, t, &err);
	if (err.text[0] != '\0')
		ctl_error("%s", err.text);
out:
	if (rc != EX_OK) {
		ctl_close(t->client);
		t->client = NULL;
	}
	set_trouble(t, rc != EX_OK ? ctl_errors_kept() : NULL);
	t->looks++;
	return rc;
}

static void pause_until_next(struct top *t)
{
	clock_update();
	t->next_us = clock_mono_us() + t->view.delay_us;
	while (!t->quit && (t->next_us > clock_mono_us() || t->view.paused)) {
		(void)look_around(t, -1,
		    t->view.paused ? clock_mono_us() + US_PER_S : t->next_us);
		if (t->next_us == 0)
			break;
	}
}

static bool is_last(const struct top *t)
{
	return t->quit || t->options->once ||
	    (t->options->count > 0 && t->looks >= t->options->count);
}

/* --- the two ways --- */

static int show_screen(struct top *t)
{
	struct err err;
	int rc = ask(t);

	/* A wrong path, or no right to it, is better told at once. */
	if (rc != EX_OK) {
		fprintf(stderr, "sesrelayctl: %s\n", t->trouble);
		return rc;
	}
	t->screen = top_screen_open(&err);
	if (t->screen == NULL) {
		fprintf(stderr, "sesrelayctl: %s\n", err.text);
		return EXIT_FAILURE;
	}
	draw(t);
	while (!is_last(t)) {
		pause_until_next(t);
		if (t->quit)
			break;
		ctl_errors_forget();
		(void)ask(t);
		if (!t->quit)
			draw(t);
	}
	top_screen_close(t->screen);
	t->screen = NULL;
	ctl_errors_forget();
	return EX_OK;
}

static void put_text(struct top *t)
{
	struct top_lines lines;

	tell_time(t);
	t->view.trouble = NULL;
	top_layout(&t->view, 80, 40, &lines);
	for (unsigned i = 0; i < lines.n; i++) {
		size_t len = strlen(lines.items[i]);

		while (len > 0 && lines.items[i][len - 1] == ' ')
			len--;
		printf("%.*s\n", (int)len, lines.items[i]);
	}
	top_lines_free(&lines);
}

static int put_looks(struct top *t)
{
	int rc;

	for (;;) {
		rc = ask(t);
		if (rc == EX_OK && t->options->json) {
			json_dumpf(t->view.now, stdout,
			    JSON_COMPACT | JSON_PRESERVE_ORDER |
				JSON_REAL_PRECISION(12));
			putchar('\n');
		} else if (rc == EX_OK) {
			put_text(t);
		} else if (t->options->json) {
			ctl_errors_put_object(rc);
		} else {
			fprintf(stderr, "sesrelayctl: %s\n", t->trouble);
		}
		ctl_errors_forget();
		if (fflush(stdout) != 0 || is_last(t))
			break;
		pause_until_next(t);
		if (t->quit)
			break;
		if (!t->options->json)
			putchar('\n');
	}
	return rc;
}

/* --- how it is shown --- */

static bool is_live(const struct ctl_options *options)
{
	const char *term = getenv("TERM");

	return !options->json && !options->once && isatty(STDOUT_FILENO) &&
	    isatty(STDIN_FILENO) && term != NULL && term[0] != '\0' &&
	    strcmp(term, "dumb") != 0;
}

static void set_up(struct top *t, bool live)
{
	const char *no_color = getenv("NO_COLOR");

	(void)setlocale(LC_CTYPE, "");
	t->view.utf8 = strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
	t->view.color = live && (no_color == NULL || no_color[0] == '\0');
	t->view.plain = !live;
	t->view.delay_us =
	    t->options->delay_us > 0 ? t->options->delay_us : DEFAULT_DELAY_US;
	if (gethostname(t->host, sizeof t->host - 1) != 0)
		snprintf(t->host, sizeof t->host, "this host");
	t->host[strcspn(t->host, ".")] = '\0';
	t->view.host = t->host;
	t->view.clock = t->clock;
	t->view.history = &t->history;
	top_history_init(&t->history);
}

int ctl_top(struct ctl_client *unused, const struct ctl_options *options)
{
	struct top t = { .options = options };
	bool live = is_live(options);
	int rc;

	(void)unused;
	set_up(&t, live);
	ctl_errors_keep();
	take_signals(&t);
	rc = live ? show_screen(&t) : put_looks(&t);
	ctl_close(t.client);
	json_decref(t.view.now);
	free(t.trouble);
	/* The shell is to see what ended it. */
	if (ended_by != 0) {
		(void)sigprocmask(SIG_SETMASK, &t.outside, NULL);
		(void)signal(ended_by, SIG_DFL);
		(void)raise(ended_by);
	}
	return rc;
}
