/*
 * Text, numbers and times for people.
 *
 * Owns nothing.  Whatever came over the socket leaves through put_byte(), so
 * no byte of a peer can do anything to the terminal.
 */
#include "cli/ctl.h"

#include "base/clock.h"
#include "base/mem.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#define MIN_COLUMNS 40
#define SCREEN_INDENT 14

/* --- members --- */

const char *ctl_string(json_t *value)
{
	const char *text = json_string_value(value);

	return text != NULL ? text : "";
}

const char *ctl_text(json_t *object, const char *key)
{
	return ctl_string(json_object_get(object, key));
}

int64_t ctl_number(json_t *object, const char *key)
{
	return json_integer_value(json_object_get(object, key));
}

double ctl_real(json_t *object, const char *key)
{
	return json_number_value(json_object_get(object, key));
}

bool ctl_true(json_t *object, const char *key)
{
	return json_is_true(json_object_get(object, key));
}

/* --- text --- */

static size_t byte_width(unsigned char c)
{
	return c >= 0x20 && c <= 0x7e ? 1 : 4;
}

static void put_byte(FILE *out, unsigned char c)
{
	if (byte_width(c) == 1)
		putc(c, out);
	else
		fprintf(out, "\\x%02x", c);
}

void ctl_put(FILE *out, const char *text)
{
	for (; *text != '\0'; text++)
		put_byte(out, (unsigned char)*text);
}

size_t ctl_width(const char *text)
{
	size_t width = 0;

	for (; *text != '\0'; text++)
		width += byte_width((unsigned char)*text);
	return width;
}

void ctl_put_padded(FILE *out, const char *text, size_t width)
{
	ctl_put(out, text);
	for (size_t n = ctl_width(text); n < width; n++)
		putc(' ', out);
}

/* Columns to break lines at; SIZE_MAX: it is not a person who reads them. */
static size_t columns(void)
{
	struct winsize size;

	if (!isatty(STDOUT_FILENO))
		return SIZE_MAX;
	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0)
		return 80;
	return size.ws_col < MIN_COLUMNS ? MIN_COLUMNS : size.ws_col;
}

static void new_line(size_t indent)
{
	printf("\n%*s", (int)indent, "");
}

void ctl_put_labelled(const char *label, size_t indent, const char *text)
{
	size_t column = strlen(label), limit = columns();
	const char *p = text;

	fputs(label, stdout);
	do
		putchar(' ');
	while (++column < indent);
	while (*p != '\0') {
		size_t n = strcspn(p, " \n");
		char *word = xstrndup(p, n);
		size_t width = ctl_width(word);

		if (p > text && p[-1] == '\n') {
			new_line(indent);
			column = indent;
		} else if (p > text && column + 1 + width >= limit) {
			new_line(indent);
			column = indent;
		} else if (p > text) {
			putchar(' ');
			column++;
		}
		ctl_put(stdout, word);
		column += width;
		free(word);
		p += n + (p[n] != '\0');
	}
	putchar('\n');
}

void ctl_put_line(const char *label, const char *fmt, ...)
{
	char *text;
	va_list args;

	va_start(args, fmt);
	text = xvasprintf(fmt, args);
	va_end(args);
	ctl_put_labelled(label, SCREEN_INDENT, text);
	free(text);
}

/* --- numbers and times --- */

const char *ctl_format_bytes(int64_t bytes, char buf[CTL_BUF])
{
	static const char *const units[] = { "B", "kB", "MB", "GB", "TB" };
	double value = bytes < 0 ? 0 : (double)bytes;
	unsigned i = 0;

	/* 999.95 would be printed as 1000.0. */
	for (; value >= 999.95 && i + 1 < ARRAY_LEN(units); i++)
		value /= 1000;
	snprintf(buf, CTL_BUF, i == 0 ? "%.0f %s" : "%.1f %s", value, units[i]);
	return buf;
}

/* One digit behind the point for small ones, none for large. */
const char *ctl_format_rate(double rate, char buf[CTL_BUF])
{
	snprintf(buf, CTL_BUF, rate < 100 ? "%.1f" : "%.0f", rate);
	return buf;
}

const char *ctl_format_seconds(int64_t seconds, char buf[CTL_BUF])
{
	static const struct {
		int64_t seconds;
		const char *name;
	} units[] = { { 86400, "d" }, { 3600, "h" }, { 60, "min" },
		{ 1, "s" } };
	int64_t first, second;
	unsigned i = 0;

	if (seconds < 0)
		seconds = 0;
	while (i + 1 < ARRAY_LEN(units) && seconds < units[i].seconds)
		i++;
	first = seconds / units[i].seconds;
	second = i + 1 < ARRAY_LEN(units)
	    ? seconds % units[i].seconds / units[i + 1].seconds
	    : 0;
	if (second == 0)
		snprintf(
		    buf, CTL_BUF, "%lld %s", (long long)first, units[i].name);
	else
		snprintf(buf, CTL_BUF, "%lld %s %lld %s", (long long)first,
		    units[i].name, (long long)second, units[i + 1].name);
	return buf;
}

const char *ctl_local_time(const char *text, char buf[CTL_BUF])
{
	int64_t time_us;

	if (ctl_parse_time(text, &time_us) != 0)
		return text;
	clock_format_syslog(time_us, buf, CTL_BUF);
	return buf;
}

int ctl_parse_time(const char *text, int64_t *wall_us)
{
	struct tm tm = { 0 };
	const char *end = strptime(text, "%Y-%m-%dT%H:%M:%S", &tm);

	if (end == NULL || (*end != '.' && *end != 'Z'))
		return -1;
	*wall_us = (int64_t)timegm(&tm) * US_PER_S;
	return 0;
}
