/*
 * Settings that hold several values: lists of strings, of durations, of rules.
 *
 * libconfig's arrays [ ] and lists ( ) are both taken, and one string or
 * duration stands for a list of one.  Each element is checked, and a mistake
 * told at the line of its element; a list is used whole or not at all.
 */
#include "config_private.h"

#include "base/mem.h"

#include <libconfig.h>
#include <stdlib.h>
#include <string.h>

/* Lists: the n elements of s, or s itself standing for a list of one. */
static int list_length(const config_setting_t *s)
{
	return config_setting_is_array(s) || config_setting_is_list(s)
	    ? config_setting_length(s)
	    : 1;
}

static const config_setting_t *list_elem(
    struct config_reading *in, const config_setting_t *s, int i)
{
	if (!config_setting_is_array(s) && !config_setting_is_list(s))
		return s;
	s = config_setting_get_elem(s, (unsigned)i);
	/* Defaults have no place of their own. */
	if (in->line)
		in->line = config_setting_source_line(s);
	return s;
}

void config_read_strings(struct config_reading *in, const config_setting_t *s,
    struct config_strings *field)
{
	struct config_strings strings = { 0 };
	int n = list_length(s);

	strings.items = xcalloc((size_t)n, sizeof(*strings.items));
	for (int i = 0; i < n; i++) {
		char *text = config_read_text(in, list_elem(in, s, i));

		if (text && !*text)
			config_value_bad(in, "must not hold an empty string");
		if (text)
			strings.items[strings.n++] = text;
	}
	if (!in->failed) {
		struct config_strings old = *field;

		*field = strings;
		strings = old;
	}
	config_free_strings(&strings);
}

void config_read_durations(struct config_reading *in, const config_setting_t *s,
    struct config_durations *field)
{
	struct config_durations durations = { 0 };
	int n = list_length(s);

	if (n < 1 || n > BACKOFF_MAX_STEPS) {
		config_value_bad(
		    in, "must hold from 1 to %d durations", BACKOFF_MAX_STEPS);
		return;
	}
	durations.n = (unsigned)n;
	for (int i = 0; i < n; i++)
		config_read_amount(in, list_elem(in, s, i), &durations.us[i]);
	if (!in->failed)
		*field = durations;
}

/* One `{ match = "..."; address = "..."; }`. */
static void read_rule(struct config_reading *in, const config_setting_t *s,
    struct config_rule *rule)
{
	int n;

	if (!config_setting_is_group(s)) {
		config_value_bad_type(in);
		return;
	}
	n = config_setting_length(s);
	for (int i = 0; i < n; i++) {
		const config_setting_t *member =
		    config_setting_get_elem(s, (unsigned)i);
		const char *name = config_setting_name(member);
		char **to = NULL, *text;
		/* Only the address has to be one. */
		struct config_key key = *in->key;
		struct config_reading part = {
			.r = in->r,
			.key = &key,
			.line = in->line,
		};

		if (in->line)
			part.line = config_setting_source_line(member);
		if (strcmp(name, "match") == 0) {
			to = &rule->match;
			key.check = NULL;
		} else if (strcmp(name, "address") == 0) {
			to = &rule->address;
		}
		if (to) {
			text = config_read_text(&part, member);
			if (text && *text)
				*to = text;
			else
				free(text);
		} else {
			config_value_bad(&part,
			    "has rules of match and address, not '%s'", name);
		}
		in->failed |= part.failed;
	}
	if (!in->failed && (!rule->match || !rule->address))
		config_value_bad(
		    in, "must have a match and an address in each rule");
}

void config_read_rules(struct config_reading *in, const config_setting_t *s,
    struct config_rules *field)
{
	struct config_rules rules = { 0 };
	int n;

	if (!config_setting_is_list(s) && !config_setting_is_array(s)) {
		config_value_bad_type(in);
		return;
	}
	n = config_setting_length(s);
	rules.items = xcalloc((size_t)n, sizeof(*rules.items));
	for (int i = 0; rules.items != NULL && i < n; i++)
		read_rule(in, list_elem(in, s, i), &rules.items[rules.n++]);
	if (!in->failed) {
		struct config_rules old = *field;

		*field = rules;
		rules = old;
	}
	config_free_rules(&rules);
}
