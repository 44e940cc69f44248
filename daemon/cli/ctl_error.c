/*
 * What sesrelayctl says on standard error.
 *
 * People get it as it comes.  Who reads JSON, a monitoring system, and the
 * screen of `top` do not: for them it is kept, and handed over in their form.
 * Owns what is kept.
 */
#include "cli/ctl.h"

#include "base/mem.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

static bool keeping;
static char *kept; /* "ONE; OTHER"; NULL: nothing */

static void keep(const char *text)
{
	size_t len;
	char *all;

	for (; text[0] != '\0'; text += len + (text[len] != '\0')) {
		len = strcspn(text, "\n");
		if (len == 0)
			continue;
		all = xasprintf("%s%s%.*s", kept != NULL ? kept : "",
		    kept != NULL ? "; " : "", (int)len, text);
		free(kept);
		kept = all;
	}
}

void ctl_error(const char *fmt, ...)
{
	char *text;
	va_list args;

	va_start(args, fmt);
	text = xvasprintf(fmt, args);
	va_end(args);
	fflush(stdout);
	if (keeping) {
		keep(text);
	} else {
		fputs("sesrelayctl: ", stderr);
		ctl_put(stderr, text);
		putc('\n', stderr);
	}
	free(text);
}

void ctl_error_lines(const char *text)
{
	fflush(stdout);
	if (keeping)
		keep(text);
	else
		fprintf(stderr, "%s\n", text);
}

void ctl_errors_keep(void)
{
	keeping = true;
}

const char *ctl_errors_kept(void)
{
	return kept != NULL ? kept : "";
}

void ctl_errors_forget(void)
{
	free(kept);
	kept = NULL;
}

void ctl_errors_put_text(void)
{
	char *text = kept;

	kept = NULL;
	keeping = false;
	if (text != NULL)
		ctl_error("%s", text);
	free(text);
}

/* Bytes that are no UTF-8 must not cost the whole text. */
static json_t *text_json(const char *text)
{
	json_t *o = json_string(text);
	char *ascii;

	if (o != NULL)
		return o;
	ascii = xstrdup(text);
	for (char *p = ascii; *p != '\0'; p++)
		if ((unsigned char)*p > '~')
			*p = '?';
	o = json_string(ascii);
	free(ascii);
	return o;
}

void ctl_errors_put_object(int rc)
{
	json_t *o;

	fflush(stdout);
	if (kept == NULL)
		return;
	o = json_object();
	json_object_set_new(
	    o, rc != 0 ? "error" : "notice", text_json(ctl_errors_kept()));
	if (rc != 0)
		json_object_set_new(o, "code", json_integer(rc));
	json_dumpf(
	    o, stderr, JSON_COMPACT | JSON_PRESERVE_ORDER | JSON_ENSURE_ASCII);
	putc('\n', stderr);
	json_decref(o);
	ctl_errors_forget();
}
