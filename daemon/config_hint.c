/*
 * What people may have meant: names that are near, and the mistakes of syntax
 * that they bring along from other configuration files.
 *
 * Pure.  Nothing of a value is repeated here, as it may be a password.
 */
#include "config_private.h"

#include <ctype.h>
#include <string.h>

static unsigned min3(unsigned a, unsigned b, unsigned c)
{
	if (b < a)
		a = b;
	return c < a ? c : a;
}

unsigned config_distance(const char *a, const char *b)
{
	size_t n = strlen(a), m = strlen(b);
	unsigned d[3][CONFIG_NAME_MAX + 1];

	if (n > CONFIG_NAME_MAX || m > CONFIG_NAME_MAX)
		return CONFIG_NAME_MAX;
	for (unsigned j = 0; j <= m; j++)
		d[0][j] = j;
	for (unsigned i = 1; i <= n; i++) {
		unsigned *before = d[(i + 1) % 3], *last = d[(i - 1) % 3];
		unsigned *row = d[i % 3];

		row[0] = i;
		for (size_t j = 1; j <= m; j++) {
			row[j] = min3(last[j] + 1, row[j - 1] + 1,
			    last[j - 1] + (a[i - 1] != b[j - 1]));
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] &&
			    a[i - 2] == b[j - 1] && before[j - 2] + 1 < row[j])
				row[j] = before[j - 2] + 1;
		}
	}
	return d[n % 3][m];
}

/* The start of a line of the text, counted from 1. */
static const char *line_start(const char *text, unsigned line)
{
	for (; line > 1; line--) {
		const char *end = strchr(text, '\n');

		if (!end)
			return text;
		text = end + 1;
	}
	return text;
}

/* Is the word at p, of n letters, one of those that other files have? */
static bool is_switch(const char *p, size_t n)
{
	static const char *const words[] = { "yes", "no", "on", "off" };

	for (size_t i = 0; i < ARRAY_LEN(words); i++)
		if (n == strlen(words[i]) && strncasecmp(p, words[i], n) == 0)
			return true;
	return false;
}

static const char *value_hint(const char *p)
{
	size_t n = strspn(p, "0123456789.");
	size_t word = 0;

	while (isalpha((unsigned char)p[word]) || p[word] == '_')
		word++;
	if (n > 0 && isalpha((unsigned char)p[n]))
		return "a value with a unit stands in double quotes, such as "
		       "\"5m\" or \"40M\"";
	if (n > 0 && p[n] == ':')
		return "a string stands in double quotes";
	if (word > 0 && is_switch(p, word))
		return "write true or false, or a string in double quotes";
	if (*p == '\'')
		return "a string stands in double quotes, not in single ones";
	if (strncmp(p, "\xe2\x80", 2) == 0)
		return "the quotes are typographic ones; write \"";
	if ((word > 0 && strncasecmp(p, "true", word) != 0 &&
		strncasecmp(p, "false", word) != 0) ||
	    *p == '/')
		return "a string stands in double quotes";
	return NULL;
}

const char *config_syntax_hint(const char *text, unsigned line)
{
	const char *p = line_start(text, line);
	const char *end = p + strcspn(p, "\n"), *hint;
	size_t name;

	p += strspn(p, " \t");
	if (*p == '[')
		return "a group is written \"name: { ... };\", not \"[name]\"";
	if (strncmp(p, "@include", 8) == 0)
		return "it is written @include \"FILE\", at the start of a "
		       "line";
	/* Each "name =" or "name :" of the line, and what follows it. */
	for (; p < end; p++) {
		if (!strchr("=:", *p))
			continue;
		hint = value_hint(p + 1 + strspn(p + 1, " \t=["));
		if (hint && p[1 + strspn(p + 1, " \t")] != '{')
			return hint;
	}
	p = line_start(text, line);
	p += strspn(p, " \t");
	name = strspn(p, "abcdefghijklmnopqrstuvwxyz_.");
	if (name > 0 && memchr(p, '.', name))
		return "a key stands in its group without a dot, as in "
		       "\"smtp: { timeout = \"5m\"; };\"";
	if (name > 0 && (p[name] == ' ' || p[name] == '\t') &&
	    !strpbrk(p, "=:{"))
		return "there has to be a = between key and value";
	return "look here and at the line before for a missing quote, brace, "
	       "bracket or semicolon";
}
