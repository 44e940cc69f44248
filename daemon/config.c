/*
 * Configurations as wholes: loaded, freed, compared, printed.
 *
 * Owns nothing beyond what it returns.  config_load() runs on the loop thread,
 * at start and for a reload; it reads files, as there is nothing to do before
 * it knows.  The result is immutable, and no part of it is shared with the
 * configuration before.
 */
#include "config_private.h"

#include "base/mem.h"
#include "credentials.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define MASK "\"********\""

/* --- mistakes and warnings --- */

PRINTF(4, 0)
static void add_note(struct config_reader *r, struct config_notes *notes,
    unsigned line, const char *fmt, va_list ap)
{
	char *place = config_source_place(&r->source, line);
	char text[1024], *whole;

	vsnprintf(text, sizeof(text), fmt, ap);
	whole = xasprintf("%s: %s", place, text);
	/* One line each, whatever stands in the value that is quoted. */
	for (char *p = whole; *p != '\0'; p++)
		if ((unsigned char)*p < ' ' || *p == 0x7f)
			*p = '?';
	notes->items =
	    xrealloc(notes->items, (notes->n + 1) * sizeof(*notes->items));
	notes->items[notes->n] = (struct config_note){ line, notes->n, whole };
	notes->n++;
	free(place);
}

void config_error(struct config_reader *r, unsigned line, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	add_note(r, &r->errors, line, fmt, ap);
	va_end(ap);
}

void config_warn(struct config_reader *r, unsigned line, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	add_note(r, &r->warnings, line, fmt, ap);
	va_end(ap);
}

static int compare_notes(const void *a, const void *b)
{
	const struct config_note *x = a, *y = b;

	if (x->line != y->line)
		return x->line < y->line ? -1 : 1;
	return x->seq < y->seq ? -1 : 1;
}

/* All of them in the order of the file, newlines between; frees them. */
static char *join_notes(struct config_notes *notes)
{
	size_t size = 1;
	char *text, *end;

	if (notes->n > 0)
		qsort(notes->items, notes->n, sizeof(*notes->items),
		    compare_notes);
	for (unsigned i = 0; i < notes->n; i++)
		size += strlen(notes->items[i].text) + 1;
	end = text = xmalloc(size);
	*text = '\0';
	for (unsigned i = 0; i < notes->n; i++) {
		end = stpcpy(stpcpy(end, i ? "\n" : ""), notes->items[i].text);
		free(notes->items[i].text);
	}
	free(notes->items);
	*notes = (struct config_notes){ 0 };
	return text;
}

/* --- keys --- */

int config_find_key(const char *name)
{
	for (size_t i = 0; i < config_n_keys; i++)
		if (strcmp(config_keys[i].name, name) == 0)
			return (int)i;
	return -1;
}

unsigned config_key_index(const char *name)
{
	int i = config_find_key(name);

	ASSERT(i >= 0);
	return (unsigned)i;
}

static bool same_group(const char *a, const char *b)
{
	size_t n = strcspn(a, ".");

	return n == strcspn(b, ".") && strncmp(a, b, n) == 0;
}

unsigned config_key_line(const struct config_reader *r, const char *name)
{
	unsigned line = r->spots[config_key_index(name)].line;

	for (size_t i = 0; line == 0 && i < config_n_keys; i++)
		if (same_group(config_keys[i].name, name))
			line = r->spots[i].line;
	return line ? line : 1;
}

bool config_key_bad(const struct config_reader *r, const char *name)
{
	return r->spots[config_key_index(name)].bad;
}

char *config_mistake(const struct config *c, const char *key, const char *text)
{
	return xasprintf(
	    "%s: '%s': %s", c->places[config_key_index(key)], key, text);
}

bool config_allow_is_default(const struct config *c)
{
	const struct config_key *key =
	    &config_keys[config_key_index("smtp.allow")];
	char *text = config_value_text(c, key);
	bool same = strcmp(text, key->fallback) == 0;

	free(text);
	return same;
}

/* --- load and free --- */

static void wipe(char *text)
{
	if (text)
		explicit_bzero(text, strlen(text));
	free(text);
}

struct config *config_load(const char *file, char **message)
{
	struct config *c = xcalloc(1, sizeof(*c));
	struct config_reader r = { .config = c };

	*message = NULL;
	r.spots = xcalloc(config_n_keys, sizeof(*r.spots));
	c->file = xstrdup(file);
	c->places = xcalloc(config_n_keys, sizeof(*c->places));
	if (config_source_read(&r, file) < 0)
		goto out;
	if (config_parse(&r) < 0)
		goto out;
	config_derive(&r);
	for (size_t i = 0; i < config_n_keys; i++)
		c->places[i] = config_source_place(&r.source, r.spots[i].line);
out:
	c->warnings = join_notes(&r.warnings);
	if (r.errors.n > 0) {
		*message = join_notes(&r.errors);
		config_free(c);
		c = NULL;
	}
	config_source_fini(&r.source);
	for (size_t i = 0; i < config_n_keys; i++)
		wipe(r.spots[i].hidden);
	free(r.spots);
	return c;
}

void config_free(struct config *c)
{
	if (!c)
		return;
	for (size_t i = 0; i < config_n_keys; i++) {
		config_value_free(c, &config_keys[i]);
		free(c->places[i]);
	}
	free(c->places);
	free(c->file);
	free(c->endpoint);
	free(c->allow);
	free(c->http_allow);
	rewrite_rules_unref(c->rewrite_rules);
	free(c->warnings);
	credentials_free(c->credentials);
	free(c);
}

/* --- print and compare --- */

/* For people's eyes: a secret is not shown; "none" for no value. */
static char *shown_text(const struct config *c, const struct config_key *key)
{
	if (config_value_unset(c, key))
		return xstrdup("none");
	if (key->flags & CONFIG_SECRET)
		return xstrdup(MASK);
	return config_value_text(c, key);
}

void config_dump(const struct config *c, FILE *out)
{
	for (size_t i = 0; i < config_n_keys; i++) {
		const struct config_key *key = &config_keys[i];
		const char *leaf = strchr(key->name, '.') + 1;
		bool secret = key->flags & CONFIG_SECRET;

		if (i == 0 || !same_group(key->name, config_keys[i - 1].name))
			fprintf(out, "%s%.*s: {\n", i ? "};\n\n" : "",
			    (int)(leaf - key->name - 1), key->name);
		if (!secret || !config_value_unset(c, key)) {
			char *text =
			    secret ? xstrdup(MASK) : config_value_text(c, key);

			fprintf(out, "\t%s = %s;\n", leaf, text);
			free(text);
		}
	}
	fprintf(out, "};\n");
}

void config_print_schema(FILE *out)
{
	static const char *const types[] = {
		[CONFIG_STRING] = "string",
		[CONFIG_BOOL] = "bool",
		[CONFIG_INTEGER] = "integer",
		[CONFIG_REAL] = "real",
		[CONFIG_DURATION] = "duration",
		[CONFIG_SIZE] = "size",
		[CONFIG_ENUM] = "enum",
		[CONFIG_STRINGS] = "strings",
		[CONFIG_DURATIONS] = "durations",
		[CONFIG_RULES] = "rules",
	};

	for (size_t i = 0; i < config_n_keys; i++) {
		const struct config_key *key = &config_keys[i];

		fprintf(out, "%s\t%s\t%s\t%s\t%s\n", key->name,
		    types[key->type], key->fallback ? key->fallback : "none",
		    key->flags & CONFIG_RELOAD ? "R" : "-", key->help);
	}
}

struct config_boot {
	char **texts; /* by key; NULL of those that a reload changes */
};

struct config_boot *config_boot_new(const struct config *c)
{
	struct config_boot *boot = xcalloc(1, sizeof(*boot));

	boot->texts = xcalloc(config_n_keys, sizeof(*boot->texts));
	for (size_t i = 0; i < config_n_keys; i++)
		if (!(config_keys[i].flags & CONFIG_RELOAD))
			boot->texts[i] = shown_text(c, &config_keys[i]);
	return boot;
}

void config_boot_free(struct config_boot *boot)
{
	if (!boot)
		return;
	for (size_t i = 0; i < config_n_keys; i++)
		free(boot->texts[i]);
	free(boot->texts);
	free(boot);
}

void config_diff(const struct config *a, const struct config *b,
    const struct config_boot *boot,
    void (*fn)(void *ctx, const struct config_key *key, const char *from,
	const char *to),
    void *ctx)
{
	for (size_t i = 0; i < config_n_keys; i++) {
		const struct config_key *key = &config_keys[i];
		bool fixed = boot && boot->texts[i];
		char *x, *y;

		if (!fixed && config_value_same(a, b, key))
			continue;
		x = fixed ? xstrdup(boot->texts[i]) : shown_text(a, key);
		y = shown_text(b, key);
		if (!fixed || strcmp(x, y) != 0)
			fn(ctx, key, x, y);
		free(x);
		free(y);
	}
}
