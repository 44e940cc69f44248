/*
 * libconfig's tree against the table of keys.
 *
 * Every mistake is reported, not only the first (a syntax error ends it, as
 * libconfig builds no tree then).  What the file does not set, or sets wrongly,
 * has its default, so that later checks always find a whole configuration;
 * defaults take the same way through libconfig as what people write.
 */
#include "config_private.h"

#include "base/mem.h"

#include <libconfig.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The part of "smtp.listen" behind the dot. */
static const char *leaf_of(const char *name)
{
	const char *dot = strchr(name, '.');

	return dot ? dot + 1 : name;
}

/* The group of key i, as a string of its own. */
static void group_of(size_t i, char *buf, size_t size)
{
	const char *name = config_keys[i].name;

	snprintf(buf, size, "%.*s", (int)(leaf_of(name) - name - 1), name);
}

static bool is_group(const char *name)
{
	char group[CONFIG_NAME_MAX];

	for (size_t i = 0; i < config_n_keys; i++) {
		group_of(i, group, sizeof(group));
		if (strcmp(group, name) == 0)
			return true;
	}
	return false;
}

/*
 * How far `name` is from key i.  The right leaf in a wrong group is near, and
 * so is the beginning of a leaf in the right one.
 */
static unsigned key_distance(const char *name, size_t i)
{
	const char *key = config_keys[i].name;
	const char *leaf = leaf_of(name);
	size_t n = strlen(name);
	unsigned d = config_distance(name, key);

	if (strcmp(leaf, leaf_of(key)) == 0 && d > 1)
		return 1;
	if (leaf > name && strlen(leaf) >= 3 && strncmp(name, key, n) == 0 &&
	    d > 2)
		return 2;
	return d;
}

static void report_unknown(
    struct config_reader *r, unsigned line, const char *name, bool group)
{
	/* A third of what was written may be wrong. */
	unsigned best = (unsigned)strlen(leaf_of(name)) / 3 + 1;
	char near[CONFIG_NAME_MAX] = "", other[CONFIG_NAME_MAX];

	for (size_t i = 0; i < config_n_keys; i++) {
		unsigned d;

		if (group) {
			group_of(i, other, sizeof(other));
			d = config_distance(name, other);
		} else {
			snprintf(
			    other, sizeof(other), "%s", config_keys[i].name);
			d = key_distance(name, i);
		}
		if (d > best || (d == best && near[0]))
			continue;
		best = d;
		memcpy(near, other, sizeof(near));
	}
	config_error(r, line, "unknown %s '%s'%s%s%s", group ? "group" : "key",
	    name, near[0] ? "; did you mean '" : "", near, near[0] ? "'?" : "");
}

static void read_group(struct config_reader *r, const config_setting_t *group)
{
	const char *name = config_setting_name(group);
	int name_len = (int)config_name_len(name);
	int n = config_setting_length(group);

	for (int i = 0; i < n; i++) {
		config_setting_t *s =
		    config_setting_get_elem(group, (unsigned)i);
		unsigned line = config_setting_source_line(s);
		const char *leaf = config_setting_name(s);
		int leaf_len = (int)config_name_len(leaf);
		char *full =
		    xasprintf("%.*s.%.*s", name_len, name, leaf_len, leaf);
		int key = config_find_key(full);

		if (leaf[leaf_len] != '\0') {
			/* Set twice, as was told. */
		} else if (key < 0) {
			report_unknown(r, line, full, false);
		} else {
			r->spots[key].line = line;
			/* Else its number has been reported already. */
			if (!r->spots[key].bad)
				config_value_read(r, &config_keys[key], s);
		}
		free(full);
	}
}

static void read_root(struct config_reader *r, const config_setting_t *root)
{
	int n = config_setting_length(root);

	for (int i = 0; i < n; i++) {
		config_setting_t *s =
		    config_setting_get_elem(root, (unsigned)i);
		unsigned line = config_setting_source_line(s);
		const char *marked = config_setting_name(s);
		char name[CONFIG_NAME_MAX * 2];

		snprintf(name, sizeof(name), "%.*s",
		    (int)config_name_len(marked), marked);
		if (!is_group(name))
			report_unknown(
			    r, line, name, config_setting_is_group(s));
		else if (!config_setting_is_group(s))
			config_error(r, line,
			    "'%s' must be a group: %s: { ... };", name, name);
		else
			read_group(r, s);
	}
}

static void read_defaults(struct config_reader *r)
{
	unsigned n_errors = r->errors.n;
	char *text = NULL;
	size_t size = 0;
	FILE *f = open_memstream(&text, &size);
	config_t tree;
	int ok;

	if (!f)
		fatal("out of memory: defaults");
	for (size_t i = 0; i < config_n_keys; i++)
		if (config_keys[i].fallback)
			fprintf(f, "k%zu = %s;\n", i, config_keys[i].fallback);
	if (fclose(f) != 0)
		fatal("out of memory: defaults");
	config_init(&tree);
	ok = config_read_string(&tree, text);
	ASSERT(ok);
	for (size_t i = 0; i < config_n_keys; i++) {
		char name[32];
		config_setting_t *s;

		snprintf(name, sizeof(name), "k%zu", i);
		s = config_lookup(&tree, name);
		if (s)
			config_value_read(r, &config_keys[i], s);
	}
	ASSERT(r->errors.n == n_errors);
	config_destroy(&tree);
	free(text);
}

int config_parse(struct config_reader *r)
{
	config_t tree;
	int rc = 0;

	read_defaults(r);
	config_init(&tree);
	config_source_check_tokens(r);
	config_source_hide_secrets(r);
	config_source_merge(r);
	if (config_read_string(&tree, r->source.text)) {
		read_root(r, config_root_setting(&tree));
	} else {
		const char *what = config_error_text(&tree);
		unsigned line = (unsigned)config_error_line(&tree);
		bool vague = strcmp(what, "syntax error") == 0;

		config_error(r, line, "%s%s%s", what, vague ? ": " : "",
		    vague ? config_syntax_hint(r->source.text, line) : "");
		rc = -1;
	}
	config_destroy(&tree);
	return rc;
}

const char *config_library(void)
{
	static char text[48];

	snprintf(text, sizeof(text), "libconfig %d.%d.%d", LIBCONFIG_VER_MAJOR,
	    LIBCONFIG_VER_MINOR, LIBCONFIG_VER_REVISION);
	return text;
}
