/*
 * What sesrelayctl wants to know of the daemon's configuration: where its
 * socket and its spool are.  The file is read by libconfig alone: it may have
 * mistakes that the daemon would refuse, and what stands before them counts.
 */
#include "cli/ctl.h"

#include "base/mem.h"

#include <errno.h>
#include <libconfig.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/*
 * The value in the file, NULL if it sets none.  When the file cannot be read
 * to its end, *problem (free(3) it) says why.
 */
static char *read_value(const char *file, const char *key, char **problem)
{
	char *dir = xstrdup(file), *slash = strrchr(dir, '/');
	char *value = NULL;
	const char *text;
	config_t config;
	struct stat st;

	*problem = NULL;
	config_init(&config);
	if (slash != NULL) {
		slash[slash == dir] = '\0';
		config_set_include_dir(&config, dir);
	}
	/* libconfig ends the process when it is given a directory. */
	if (access(file, R_OK) != 0 || stat(file, &st) != 0)
		*problem = xasprintf("%s: %s", file, strerror(errno));
	else if (S_ISDIR(st.st_mode))
		*problem = xasprintf("%s: %s", file, strerror(EISDIR));
	else if (!config_read_file(&config, file))
		*problem = xasprintf("%s:%d: %s",
		    config_error_file(&config) != NULL
			? config_error_file(&config)
			: file,
		    config_error_line(&config), config_error_text(&config));
	if (config_lookup_string(&config, key, &text) && text[0] != '\0')
		value = xstrdup(text);
	config_destroy(&config);
	free(dir);
	return value;
}

char *ctl_config_string(const struct ctl_options *options, const char *key,
    const char *fallback, char **source)
{
	const char *file =
	    options->file != NULL ? options->file : CTL_CONFIG_FILE;
	char *problem = NULL;
	char *value = read_value(file, key, &problem);

	if (value != NULL) {
		*source = xasprintf("%s of %s", key, file);
	} else if (problem != NULL && options->file != NULL) {
		/* The default may be that of another daemon. */
		ctl_error("cannot tell %s of the daemon: %s%s", key, problem,
		    options->socket == NULL ? "; name its socket with -s SOCKET"
					    : "");
	} else {
		value = xstrdup(fallback);
		*source = problem != NULL
		    ? xasprintf("the default, for %s", problem)
		    : xstrdup("the default");
	}
	free(problem);
	return value;
}
