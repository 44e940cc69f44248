/*
 * sesd: an emulator of Amazon SES's SMTP endpoint.
 *
 * Start and end. It is the independent judge of a relay's tests: it speaks
 * SES's dialect, makes every fault that rules or settings ask for, and writes
 * down what it accepted and what the client did wrong. One loop thread does
 * everything. Exit codes: 0 after quit, SIGTERM or SIGINT, 1 when something
 * failed, 2 for a wrong command line.
 */
#include "link.h"
#include "listener.h"
#include "makecert.h"
#include "options.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

/* Writes all of text to a file that appears at once or not at all. */
static bool write_file(const char *path, const struct buf *text)
{
	struct buf temp = { 0 };
	FILE *f;
	bool good;

	buf_addf(&temp, "%s.tmp", path);
	buf_add(&temp, "", 1);
	f = fopen(temp.data, "we");
	good = f != NULL && fwrite(text->data, 1, text->len, f) == text->len;
	if (f != NULL && fclose(f) != 0)
		good = false;
	good = good && rename(temp.data, path) == 0;
	if (!good)
		complain("%s: %s", path, strerror(errno));
	buf_free(&temp);
	return good;
}

static bool write_ready(
    const struct server *sv, const struct control *c, const char *path)
{
	struct buf text = { 0 };
	bool good;

	if (path == NULL)
		return true;
	listener_print(sv, &text, false);
	control_print(c, &text);
	good = write_file(path, &text);
	buf_free(&text);
	return good;
}

/* The certificate: a given one, or one made by our own authority. */
static bool prepare_tls(struct server *sv, const struct options *o)
{
	struct buf pem = { 0 };
	bool good = true;

	if (o->cert != NULL)
		sv->tls =
		    link_context(o->cert, o->key != NULL ? o->key : o->cert);
	else if (!listener_all_plain(sv))
		sv->tls = authority_context(server_authority(sv), "good");
	if (o->cert != NULL && sv->tls == NULL)
		return false;
	if (o->write_ca != NULL) {
		authority_print(server_authority(sv), &pem);
		good = write_file(o->write_ca, &pem);
		buf_free(&pem);
	}
	return good;
}

/* What somebody in front of a terminal has to know. */
static void greet(struct server *sv, const struct options *o)
{
	struct buf text = { 0 };

	buf_addf(
	    &text, "%s %s\n", program_invocation_short_name, SESRELAYD_VERSION);
	listener_print(sv, &text, false);
	buf_addf(
	    &text, "user %s\npassword %s\n", sv->set.user, sv->set.password);
	if (o->write_ca != NULL)
		buf_addf(&text, "CA certificate: %s\n", o->write_ca);
	else if (o->cert == NULL && !listener_all_plain(sv))
		authority_print(server_authority(sv), &text);
	journal_say(&sv->journal, text.data, text.len);
	buf_free(&text);
}

static bool obey(struct server *sv, const struct options *o)
{
	for (size_t i = 0; i < o->order_count; i++) {
		struct buf out = { 0 };
		const char *wrong = order_run(sv, o->orders[i].text, &out);

		journal_say(&sv->journal, out.data, out.len);
		buf_free(&out);
		if (wrong == NULL)
			continue;
		complain("%s: %s", o->orders[i].where, wrong);
		return false;
	}
	return true;
}

static void on_signal(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	event_base_loopexit(arg, NULL);
}

static void raise_limits(void)
{
	struct rlimit r;

	if (getrlimit(RLIMIT_NOFILE, &r) == 0) {
		r.rlim_cur = r.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &r);
	}
}

/* All ports are there: obeys, says so and serves until told to stop. */
static int run(
    struct server *sv, const struct options *o, const struct control *control)
{
	greet(sv, o);
	if (!obey(sv, o))
		return 2;
	if (!write_ready(sv, control, o->ready_file))
		return 1;
	return event_base_dispatch(sv->base) < 0 ? 1 : 0;
}

static int serve(struct server *sv, const struct options *o)
{
	struct control *control = NULL;
	struct event *term, *intr;
	int code = 1;

	if (!journal_open(&sv->journal, o->journal, o->store))
		return 1;
	if (o->verbose)
		sv->journal.shown = JOURNAL_ALL;
	else if (o->journal == NULL && !o->quiet)
		sv->journal.shown = JOURNAL_MESSAGES;
	sv->hostname = o->hostname;
	if (!prepare_tls(sv, o))
		return 1;
	term = evsignal_new(sv->base, SIGTERM, on_signal, sv->base);
	intr = evsignal_new(sv->base, SIGINT, on_signal, sv->base);
	event_add(term, NULL);
	event_add(intr, NULL);
	if (o->control != NULL)
		control = control_new(sv, o->control);
	if ((control != NULL || o->control == NULL) && listener_start_all(sv))
		code = run(sv, o, control);
	control_free(control);
	event_free(term);
	event_free(intr);
	return code;
}

int main(int argc, char **argv)
{
	struct server sv;
	struct options o = { 0 };
	int code;

	(void)signal(SIGPIPE, SIG_IGN);
	raise_limits();
	if (!server_init(&sv)) {
		complain("no event loop");
		return 1;
	}
	code = options_take(&o, &sv, argc, argv);
	if (code < 0)
		code = serve(&sv, &o);
	server_fini(&sv);
	options_free(&o);
	return code;
}
