/*
 * The configuration file and what it includes, as one text that remembers
 * where each of its lines came from.
 *
 * libconfig 1.5 could include by itself, but only relative to one directory
 * (an absolute path is not found), a file at a time, and without a reason when
 * it fails.  Here a path is relative to the directory of the file that names
 * it, and may hold the shell's wildcards; that nothing matches is no mistake.
 *
 * The scanner knows just enough of the syntax, strings and comments, to find
 * @include lines.
 *
 * The text may hold a password: it is wiped when it is freed or moved, and what
 * is read of it is given to libconfig without it (config_tokens.c).
 */
#include "config_private.h"

#include "base/mem.h"
#include "base/slice.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_DEPTH CONFIG_INCLUDE_DEPTH
#define MAX_FILES 1000

static const char stdin_name[] = "(standard input)";

static int read_into(
    struct config_reader *r, unsigned line, const char *path, unsigned depth);

const char *config_source_skip(const char *p)
{
	if (*p == '"') {
		for (p++; *p && *p != '"'; p++)
			if (*p == '\\' && p[1])
				p++;
		return *p ? p + 1 : NULL;
	}
	if (*p == '#' || (p[0] == '/' && p[1] == '/'))
		return p + strcspn(p, "\n");
	if (p[0] == '/' && p[1] == '*') {
		p = strstr(p + 2, "*/");
		return p ? p + 2 : NULL;
	}
	return p + 1;
}

static void begin_line(struct config_source *s, unsigned file, unsigned line)
{
	s->origins =
	    xrealloc(s->origins, (s->n_lines + 1) * sizeof(*s->origins));
	s->origins[s->n_lines++] = (struct config_origin){ file, line };
}

/* To hold `size` bytes; the old place is wiped. */
static char *move_text(char *text, size_t len, size_t size)
{
	char *bigger = xmalloc(size);

	if (text) {
		memcpy(bigger, text, len);
		explicit_bzero(text, len);
	}
	free(text);
	return bigger;
}

/* Appends to the last line, and begins new ones of the same file. */
static void append(struct config_source *s, const char *p, size_t n)
{
	if (s->len + n + 1 > s->size) {
		s->size = 2 * (s->len + n + 1);
		s->text = move_text(s->text, s->len, s->size);
	}
	for (size_t i = 0; i < n; i++) {
		struct config_origin last = s->origins[s->n_lines - 1];

		s->text[s->len++] = p[i];
		if (p[i] == '\n')
			begin_line(s, last.file, last.line + 1);
	}
	s->text[s->len] = '\0';
}

/* A whole file, terminated; NULL with errno.  EILSEQ: it has a NUL byte. */
static char *slurp(const char *path, struct config_open *which)
{
	int fd = path == stdin_name ? fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 0)
				    : open(path, O_RDONLY | O_CLOEXEC);
	int code = 0;
	size_t len = 0, size = 4096;
	char *text = NULL;
	struct stat st;
	ssize_t n;

	if (fd < 0)
		return NULL;
	if (fstat(fd, &st) < 0)
		st = (struct stat){ 0 };
	*which = (struct config_open){ st.st_dev, st.st_ino };
	text = xmalloc(size);
	while ((n = read(fd, text + len, size - len - 1)) != 0) {
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			code = errno;
			break;
		}
		len += (size_t)n;
		if (size - len == 1) {
			text = move_text(text, len, 2 * size);
			size *= 2;
		}
	}
	close(fd);
	text[len] = '\0';
	if (code == 0 && strlen(text) != len)
		code = EILSEQ;
	if (code) {
		explicit_bzero(text, len);
		free(text);
		text = NULL;
		errno = code;
	}
	return text;
}

/* The file's own directory, with its slash; "" for the working directory. */
static int directory_len(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? (int)(slash - path) + 1 : 0;
}

/* Of the directory that glob() could not read; loop thread. */
static int glob_errno;

static int on_glob_error(const char *path, int code)
{
	(void)path;
	glob_errno = code;
	return code != ENOENT;
}

/* All that match, in order; that nothing does is no mistake. */
static int include_matches(
    struct config_reader *r, unsigned line, const char *path, unsigned depth)
{
	glob_t found = { 0 };
	int rc = 0, failed = glob(path, 0, on_glob_error, &found);

	for (size_t i = 0; failed == 0 && i < found.gl_pathc; i++)
		if (read_into(r, line, found.gl_pathv[i], depth + 1) < 0)
			rc = -1;
	if (failed != 0 && failed != GLOB_NOMATCH) {
		config_error(r, line, "cannot look for %.300s: %s", path,
		    failed == GLOB_NOSPACE ? strerror(ENOMEM)
					   : strerror(glob_errno));
		rc = -1;
	}
	globfree(&found);
	return rc;
}

/* The files that `name`, found in file `from` at `line`, stands for. */
static int include(struct config_reader *r, const char *from, unsigned line,
    struct slice name, unsigned depth)
{
	bool absolute = name.len > 0 && name.ptr[0] == '/';
	char *path = xasprintf("%.*s%.*s", absolute ? 0 : directory_len(from),
	    from, (int)name.len, name.ptr);
	int rc = strpbrk(path, "*?[") ? include_matches(r, line, path, depth)
				      : read_into(r, line, path, depth + 1);

	free(path);
	return rc;
}

/*
 * Is there `@include "NAME"` at p, the start of a line?  Then what follows it
 * is returned.
 */
static const char *include_directive(const char *p, struct slice *name)
{
	const char *end;

	p += strspn(p, " \t");
	if (strncmp(p, "@include", 8) != 0)
		return NULL;
	p += 8;
	if (*p != ' ' && *p != '\t')
		return NULL;
	p += strspn(p, " \t");
	if (*p != '"')
		return NULL;
	end = p + 1 + strcspn(p + 1, "\"\n");
	if (*end != '"')
		return NULL;
	*name = slice_of(p + 1, (size_t)(end - p - 1));
	return end + 1;
}

static int expand(
    struct config_reader *r, const char *path, const char *text, unsigned depth)
{
	struct config_source *s = &r->source;
	const char *p, *next;
	unsigned file = s->n_files - 1;
	struct slice name;
	int rc = 0;

	for (p = text; *p; p = next) {
		unsigned line = s->n_lines;

		next = NULL;
		if (p == text || p[-1] == '\n')
			next = include_directive(p, &name);
		if (next) {
			unsigned own = s->origins[line - 1].line;

			append(s, "\n", 1);
			rc |= include(r, path, line, name, depth);
			s->origins[s->n_lines - 1] =
			    (struct config_origin){ file, own };
			continue;
		}
		next = config_source_skip(p);
		if (!next) {
			config_error(r, line, "this %s has no end",
			    *p == '"' ? "string" : "comment");
			return -1;
		}
		append(s, p, (size_t)(next - p));
	}
	return rc;
}

/* Is the file that was opened last one of those that asked for it? */
static bool is_loop(const struct config_source *s, unsigned depth)
{
	for (unsigned i = 0; i < depth; i++)
		if (s->open[i].dev == s->open[depth].dev &&
		    s->open[i].ino == s->open[depth].ino)
			return true;
	return false;
}

/* A file's text, if it may be had here; NULL after telling why not. */
static char *read_file(
    struct config_reader *r, unsigned line, const char *path, unsigned depth)
{
	struct config_source *s = &r->source;
	char *text;

	/* Where files include each other, one of its mistakes is enough. */
	if (s->gave_up)
		return NULL;
	s->gave_up = depth > MAX_DEPTH || s->n_files > MAX_FILES;
	if (depth > MAX_DEPTH)
		config_error(r, line, "%s: includes nest deeper than %d", path,
		    MAX_DEPTH);
	else if (s->gave_up)
		config_error(r, line, "%s: more than %d files are included",
		    path, MAX_FILES);
	if (s->gave_up)
		return NULL;
	text = slurp(path, &s->open[depth]);
	if (!text) {
		config_error(r, line, "cannot read %s: %s%s%s%s", path,
		    errno == EILSEQ ? "it is no text, it has a NUL byte"
				    : strerror(errno),
		    errno == EISDIR ? "; write \"" : "",
		    errno == EISDIR ? path : "",
		    errno == EISDIR ? "/*.conf\" for the files in it" : "");
	} else if (is_loop(s, depth)) {
		s->gave_up = true;
		config_error(r, line,
		    "%s is included by itself, here or by way of others", path);
		explicit_bzero(text, strlen(text));
		free(text);
		text = NULL;
	}
	return text;
}

/* Appends a file to the source; `line` is where it was asked for. */
static int read_into(
    struct config_reader *r, unsigned line, const char *path, unsigned depth)
{
	struct config_source *s = &r->source;
	char *text = read_file(r, line, path, depth);
	int rc;

	if (!text)
		return -1;
	s->files = xrealloc(s->files, (s->n_files + 1) * sizeof(*s->files));
	s->files[s->n_files++] = xstrdup(path);
	/* The line that has just begun is its first. */
	s->origins[s->n_lines - 1] =
	    (struct config_origin){ s->n_files - 1, 1 };
	rc = expand(r, path, text, depth);
	if (s->len > 0 && s->text[s->len - 1] != '\n')
		append(s, "\n", 1);
	explicit_bzero(text, strlen(text));
	free(text);
	return rc;
}

int config_source_read(struct config_reader *r, const char *file)
{
	if (strcmp(file, CONFIG_STDIN) == 0)
		file = stdin_name;
	/* For the message when it cannot even be opened. */
	r->source.files = xmalloc(sizeof(*r->source.files));
	r->source.files[r->source.n_files++] = xstrdup(file);
	begin_line(&r->source, 0, 1);
	append(&r->source, "", 0);
	return read_into(r, 1, file, 0);
}

char *config_source_place(const struct config_source *s, unsigned line)
{
	struct config_origin origin;

	if (line < 1)
		line = 1;
	if (line > s->n_lines)
		line = s->n_lines;
	origin = s->origins[line - 1];
	return xasprintf("%s:%u", s->files[origin.file], origin.line);
}

void config_source_fini(struct config_source *s)
{
	if (s->text)
		explicit_bzero(s->text, s->len);
	free(s->text);
	free(s->origins);
	for (unsigned i = 0; i < s->n_files; i++)
		free(s->files[i]);
	free(s->files);
}
