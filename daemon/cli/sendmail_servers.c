/*
 * Where the daemon takes mail, found without its help and without privilege.
 *
 * The environment has the first word, for tests and odd set-ups; then the
 * daemon's configuration, if the caller may read it; then the defaults.  When
 * something names a place, no other is tried: another mail server may live at
 * port 25, and it would take the mail.
 */
#include "cli/sendmail.h"

#include "base/mem.h"

#include <errno.h>
#include <libconfig.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void add(struct sendmail_servers *s, char *text)
{
	s->items = xrealloc(s->items, (s->n + 1) * sizeof *s->items);
	s->items[s->n++] = text;
}

int sendmail_servers_add(
    struct sendmail_servers *s, struct slice text, struct err *err)
{
	struct slice port = text;
	uint64_t number;

	if (slice_has_prefix(text, "unix:/")) {
		add(s, slice_dup(text));
		return 0;
	}
	while (memchr(port.ptr, ':', port.len) != NULL)
		(void)slice_split(&port, ':');
	if (slice_parse_u64(port, &number) != 0 || number < 1 ||
	    number > UINT16_MAX || port.len + 1 >= text.len)
		return err_set(err, 0,
		    "\"%.*s\" is not an address such as 127.0.0.1:25, [::1]:25 "
		    "or unix:/run/sesrelayd/smtp",
		    (int)(text.len < 100 ? text.len : 100), text.ptr);
	if (slice_has_prefix(text, "0.0.0.0:"))
		add(s, xasprintf("127.0.0.1:%u", (unsigned)number));
	else if (slice_has_prefix(text, "[::]:"))
		add(s, xasprintf("[::1]:%u", (unsigned)number));
	else
		add(s, slice_dup(text));
	return 0;
}

/* Words with blanks or commas between them. */
static int add_words(
    struct sendmail_servers *s, const char *text, struct err *err)
{
	while (*(text += strspn(text, " \t,")) != '\0') {
		size_t n = strcspn(text, " \t,");

		if (sendmail_servers_add(s, slice_of(text, n), err) != 0)
			return -1;
		text += n;
	}
	return 0;
}

/* Sockets of this host first: they say who calls. */
static void put_sockets_first(struct sendmail_servers *s)
{
	size_t n_sockets = 0;

	for (size_t i = 0; i < s->n; i++) {
		char *item = s->items[i];

		if (strncmp(item, "unix:", 5) != 0)
			continue;
		memmove(s->items + n_sockets + 1, s->items + n_sockets,
		    (i - n_sockets) * sizeof *s->items);
		s->items[n_sockets++] = item;
	}
}

/* smtp.listen as far as it makes sense; the daemon judges the rest. */
static void add_listed(struct sendmail_servers *s, const config_t *config)
{
	const config_setting_t *list = config_lookup(config, "smtp.listen");
	int n = list != NULL ? config_setting_length(list) : 0;

	for (int i = 0; i < n; i++) {
		const char *text = config_setting_get_string_elem(list, i);

		if (text != NULL)
			(void)!sendmail_servers_add(s, slice_str(text), NULL);
	}
	put_sockets_first(s);
}

/* -1: the file cannot be read, or not understood. */
static int read_config(
    struct sendmail_servers *s, const char *file, struct err *err)
{
	char *dir = xstrdup(file), *slash = strrchr(dir, '/');
	config_t config;
	struct stat st;
	int rc = -1;

	config_init(&config);
	if (slash != NULL) {
		slash[slash == dir] = '\0';
		config_set_include_dir(&config, dir);
	}
	/* libconfig ends the process when it is given a directory. */
	if (access(file, R_OK) != 0 || stat(file, &st) != 0)
		err_sys(err, "cannot read %s", file);
	else if (S_ISDIR(st.st_mode))
		err_set(err, EISDIR, "%s is a directory", file);
	else if (!config_read_file(&config, file))
		err_set(err, 0, "%s:%d: %s",
		    config_error_file(&config) != NULL
			? config_error_file(&config)
			: file,
		    config_error_line(&config), config_error_text(&config));
	else
		rc = 0;
	if (rc == 0)
		add_listed(s, &config);
	config_destroy(&config);
	free(dir);
	return rc;
}

int sendmail_servers_find(
    struct sendmail_servers *s, const char *config, struct err *err)
{
	const char *named = getenv("SESRELAY_SENDMAIL_SERVER");

	*s = (struct sendmail_servers){ 0 };
	if (named != NULL && add_words(s, named, err) != 0)
		return EX_CONFIG;
	if (s->n > 0)
		return EX_OK;
	if (config == NULL)
		config = getenv("SESRELAYD_CONF");
	if (config == NULL)
		(void)!read_config(s, SENDMAIL_CONFIG_FILE, NULL);
	else if (read_config(s, config, err) != 0)
		return EX_CONFIG;
	if (s->n > 0)
		return EX_OK;
	add(s, xstrdup(SENDMAIL_SOCKET));
	add(s, xstrdup("127.0.0.1:25"));
	add(s, xstrdup("[::1]:25"));
	return EX_OK;
}

void sendmail_servers_free(struct sendmail_servers *s)
{
	for (size_t i = 0; i < s->n; i++)
		free(s->items[i]);
	free(s->items);
	*s = (struct sendmail_servers){ 0 };
}
