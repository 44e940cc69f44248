/*
 * The clocks of the loop thread, read once a turn, and their formats.
 *
 * Owns the cached times.  A clock that was never read is read at the first
 * question, so programs without a loop get the time of their start.  Names of
 * days and months are our own: strftime(3) would follow the locale.
 */
#include "base/clock.h"

#include "base/slice.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

static enum { UNREAD, REAL, FAKE } source;
static int64_t mono_us, wall_us, boot_us;

static const char days[][4] = { "Sun", "Mon", "Tue", "Wed", "Thu", "Fri",
	"Sat" };
static const char months[][4] = { "Jan", "Feb", "Mar", "Apr", "May", "Jun",
	"Jul", "Aug", "Sep", "Oct", "Nov", "Dec" };

static int64_t read_us(clockid_t id)
{
	struct timespec ts;

	/* Fails for an unknown clock only, and these are known. */
	ASSERT(clock_gettime(id, &ts) == 0);
	return ts.tv_sec * US_PER_S + ts.tv_nsec / 1000;
}

void clock_update(void)
{
	if (source == FAKE)
		return;
	source = REAL;
	mono_us = read_us(CLOCK_MONOTONIC);
	wall_us = read_us(CLOCK_REALTIME);
	boot_us = read_us(CLOCK_BOOTTIME);
}

int64_t clock_mono_us(void)
{
	if (source == UNREAD)
		clock_update();
	return mono_us;
}

int64_t clock_wall_us(void)
{
	if (source == UNREAD)
		clock_update();
	return wall_us;
}

int64_t clock_boot_us(void)
{
	if (source == UNREAD)
		clock_update();
	return boot_us;
}

void clock_set_fake(int64_t fake_mono_us, int64_t fake_wall_us)
{
	source = FAKE;
	mono_us = fake_mono_us;
	wall_us = fake_wall_us;
	boot_us = fake_mono_us;
}

void clock_set_real(void)
{
	source = REAL;
	clock_update();
}

/* Whole seconds and the microseconds after them, also before 1970. */
static time_t seconds(int64_t us, int *rest)
{
	int64_t s = us / US_PER_S, r = us % US_PER_S;

	if (r < 0) {
		s--;
		r += US_PER_S;
	}
	*rest = (int)r;
	return (time_t)s;
}

static struct tm broken_down(int64_t us, int *rest, bool local)
{
	time_t s = seconds(us, rest);
	struct tm tm = { .tm_mday = 1 };

	/* Fails only beyond the year 2147483647; then it is 1900. */
	if (local ? !localtime_r(&s, &tm) : !gmtime_r(&s, &tm))
		tm = (struct tm){ .tm_mday = 1 };
	return tm;
}

/*
 * The text of a second: under load it is asked for ten thousand times.  Each
 * thread has its own.
 */
struct second {
	time_t s;
	char text[48]; /* empty: none yet */
};

/* Whether it is the one; if not, it is to become that. */
static bool is_at_hand(struct second *last, int64_t us)
{
	int rest;
	time_t s = seconds(us, &rest);

	if (last->text[0] != '\0' && s == last->s)
		return true;
	last->s = s;
	return false;
}

void clock_format_rfc5322(int64_t us, char *buf, size_t size)
{
	static _Thread_local struct second last;
	int rest;

	if (!is_at_hand(&last, us)) {
		struct tm tm = broken_down(us, &rest, false);

		snprintf(last.text, sizeof(last.text),
		    "%s, %d %s %04d %02d:%02d:%02d +0000", days[tm.tm_wday],
		    tm.tm_mday, months[tm.tm_mon], tm.tm_year + 1900,
		    tm.tm_hour, tm.tm_min, tm.tm_sec);
	}
	slice_copy(slice_str(last.text), buf, size);
}

void clock_format_rfc3339(int64_t us, char *buf, size_t size)
{
	static _Thread_local struct second last;
	char text[sizeof(last.text) + sizeof("123456Z")];
	size_t n;
	int rest;

	if (!is_at_hand(&last, us)) {
		struct tm tm = broken_down(us, &rest, false);

		snprintf(last.text, sizeof(last.text),
		    "%04d-%02d-%02dT%02d:%02d:%02d.", tm.tm_year + 1900,
		    tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min,
		    tm.tm_sec);
	}
	(void)seconds(us, &rest);
	n = strlen(last.text);
	memcpy(text, last.text, n);
	for (size_t i = n + 6; i-- > n; rest /= 10)
		text[i] = (char)('0' + rest % 10);
	text[n + 6] = 'Z';
	slice_copy(slice_of(text, n + 7), buf, size);
}

void clock_format_syslog(int64_t us, char *buf, size_t size)
{
	static _Thread_local struct second last;
	int rest;

	if (!is_at_hand(&last, us)) {
		struct tm tm = broken_down(us, &rest, true);

		snprintf(last.text, sizeof(last.text), "%s %2d %02d:%02d:%02d",
		    months[tm.tm_mon], tm.tm_mday, tm.tm_hour, tm.tm_min,
		    tm.tm_sec);
	}
	slice_copy(slice_str(last.text), buf, size);
}
