/*
 * What people, and the shell's completion, are told of verbs and options; and
 * what a mistyped word may have been meant to be.
 *
 * All by the tables of ctl_verbs.c and ctl_options.c.
 */
#include "cli/ctl.h"

#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

#define INDENT 23
#define WORD_MAX 24
#define WIDTH 79

/* --- for people --- */

/* Two columns: `head`, and `text` in lines that fit. */
static void put_entry(FILE *out, const char *head, const char *text)
{
	size_t column = (size_t)fprintf(out, "  %s", head);

	if (column > INDENT - 2) {
		putc('\n', out);
		column = 0;
	}
	column += (size_t)fprintf(out, "%*s", (int)(INDENT - column), "");
	while (*text != '\0') {
		size_t n = strcspn(text, " ");

		if (column + n > WIDTH) {
			fprintf(out, "\n%*s", INDENT, "");
			column = INDENT;
		}
		fwrite(text, 1, n, out);
		column += n;
		text += n;
		if (*text == ' ') {
			text++;
			if (column + 1 + strcspn(text, " ") <= WIDTH) {
				putc(' ', out);
				column++;
			} else {
				column = WIDTH;
			}
		}
	}
	putc('\n', out);
}

static void put_option(FILE *out, const struct ctl_option *option)
{
	char letter[8] = "", *head;

	if (option->letter != 0)
		snprintf(letter, sizeof letter, "-%c%s", option->letter,
		    option->name != NULL ? ", " : "");
	head = xasprintf("%s%s%s%s%s", letter, option->name != NULL ? "--" : "",
	    option->name != NULL ? option->name : "",
	    option->arg != NULL ? " " : "",
	    option->arg != NULL ? option->arg : "");
	put_entry(out, head, option->summary);
	free(head);
}

static void put_verbs(FILE *out, bool changes)
{
	for (size_t i = 0; i < ctl_n_verbs; i++) {
		const struct ctl_verb *verb = &ctl_verbs[i];
		char *head;

		if (verb->changes != changes)
			continue;
		/* What does not fit is behind the verb's own -h. */
		head = strlen(verb->name) + 1 + strlen(verb->usage) <= 50
		    ? xasprintf("%s %s", verb->name, verb->usage)
		    : xasprintf("%s ...", verb->name);
		put_entry(out, head, verb->summary);
		free(head);
	}
}

static void put_common_options(FILE *out)
{
	for (size_t i = 0; i < ctl_n_options; i++)
		if (ctl_options_table[i].bit == 0)
			put_option(out, &ctl_options_table[i]);
}

void ctl_help(FILE *out)
{
	fputs("usage: sesrelayctl [-c FILE] [-s SOCKET] [--json] VERB ...\n"
	      "look:\n",
	    out);
	put_verbs(out, false);
	fputs("change (ID...: queue ids; -: read them from standard input; "
	      "--all):\n",
	    out);
	put_verbs(out, true);
	fputs("options:\n", out);
	put_common_options(out);
	fputs(
	    "Any unambiguous prefix of a verb works.  \"sesrelayctl VERB -h\" "
	    "says more\nabout one, sesrelayctl(8) about all.\n",
	    out);
}

void ctl_help_verb(const struct ctl_verb *verb)
{
	printf("usage: sesrelayctl %s%s%s\n\n  %c%s\n", verb->name,
	    verb->usage[0] != '\0' ? " " : "", verb->usage,
	    verb->summary[0] >= 'a' && verb->summary[0] <= 'z'
		? verb->summary[0] - 'a' + 'A'
		: verb->summary[0],
	    verb->summary + 1);
	if (verb->needs == NEEDS_SPOOL)
		puts("  Reads the spool itself when the daemon is down.");
	if (verb->options != 0)
		puts("\noptions:");
	for (size_t i = 0; i < ctl_n_options; i++)
		if ((ctl_options_table[i].bit & verb->options) != 0)
			put_option(stdout, &ctl_options_table[i]);
	printf("\nexample:\n  %s\n", verb->example);
}

/* --- for programs --- */

void ctl_help_json(const struct ctl_verb *only)
{
	for (size_t i = 0; i < ctl_n_verbs; i++) {
		const struct ctl_verb *verb = &ctl_verbs[i];
		json_t *o;

		if (only != NULL && verb != only)
			continue;
		o = json_pack("{s:s, s:s, s:s, s:s}", "verb", verb->name,
		    "usage", verb->usage, "summary", verb->summary, "example",
		    verb->example);
		json_dumpf(o, stdout, JSON_COMPACT | JSON_PRESERVE_ORDER);
		putchar('\n');
		json_decref(o);
	}
}

static const char *words_name(enum ctl_words words)
{
	static const char *const names[] = {
		[WORDS_NONE] = "none",
		[WORDS_STATE] = "state",
		[WORDS_ID] = "id",
		[WORDS_FAILED_ID] = "failed-id",
		[WORDS_PART] = "part",
		[WORDS_LEVEL] = "level",
		[WORDS_FILE] = "file",
		[WORDS_ADDRESS] = "address",
		[WORDS_TEXT] = "text",
		[WORDS_DURATION] = "duration",
		[WORDS_NUMBER] = "number",
		[WORDS_REGION] = "region",
	};

	return names[words];
}

static void dump_option(const char *verb, const struct ctl_option *option)
{
	if (option->name != NULL)
		printf("option\t%s\t--%s\t%s\n", verb, option->name,
		    words_name(option->words));
	if (option->letter != 0)
		printf("option\t%s\t-%c\t%s\n", verb, option->letter,
		    words_name(option->words));
}

/*
 * "verb NAME WORDS ONE|MANY" and "option VERB|* WORD WORDS", with tabs between;
 * WORDS of an option is "none" when it takes nothing.
 */
void ctl_help_dump(void)
{
	for (size_t i = 0; i < ctl_n_options; i++)
		if (ctl_options_table[i].bit == 0)
			dump_option("*", &ctl_options_table[i]);
	for (size_t v = 0; v < ctl_n_verbs; v++) {
		const struct ctl_verb *verb = &ctl_verbs[v];

		printf("verb\t%s\t%s\t%s\n", verb->name,
		    words_name(verb->words),
		    verb->max_args > 1 ? "many" : "one");
		for (size_t i = 0; i < ctl_n_options; i++)
			if ((ctl_options_table[i].bit & verb->options) != 0)
				dump_option(verb->name, &ctl_options_table[i]);
	}
}

/* --- near misses --- */

static unsigned least(unsigned a, unsigned b)
{
	return a < b ? a : b;
}

/* Letters to add, drop, alter, or swap with the next, to make b of a. */
static unsigned distance(const char *a, const char *b)
{
	size_t n = strlen(a), m = strlen(b);
	unsigned d[WORD_MAX + 1][WORD_MAX + 1];

	if (n > WORD_MAX || m > WORD_MAX)
		return WORD_MAX;
	for (size_t j = 0; j <= m; j++)
		d[0][j] = (unsigned)j;
	for (size_t i = 1; i <= n; i++) {
		d[i][0] = (unsigned)i;
		for (size_t j = 1; j <= m; j++) {
			d[i][j] = least(least(d[i - 1][j], d[i][j - 1]) + 1,
			    d[i - 1][j - 1] + (a[i - 1] != b[j - 1]));
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] &&
			    a[i - 2] == b[j - 1])
				d[i][j] = least(d[i][j], d[i - 2][j - 2] + 1);
		}
	}
	return d[n][m];
}

const char *ctl_nearest(
    const char *word, const void *names, size_t n, size_t size)
{
	/* A third of what was written may be wrong. */
	unsigned best = (unsigned)strlen(word) / 3 + 2;
	const char *near = NULL;

	for (size_t i = 0; i < n; i++) {
		const char *name =
		    *(const char *const *)((const char *)names + i * size);
		unsigned d = name != NULL ? distance(word, name) : WORD_MAX;

		if (d >= best)
			continue;
		best = d;
		near = name;
	}
	return near;
}
