/*
 * The listeners and the list of local sessions.  Owns both; a session leaves
 * the list when it is freed.  Runs on the loop thread.
 */
#include "relay/inbound.h"

#include "base/log.h"
#include "base/mem.h"
#include "relay/session.h"

#include <stdlib.h>
#include <unistd.h>

struct inbound *inbound_new(
    struct relay *relay, const struct inbound_options *options)
{
	struct inbound *in = xcalloc(1, sizeof *in);

	in->relay = relay;
	in->options = *options;
	TAILQ_INIT(&in->sessions);
	return in;
}

void inbound_configure(
    struct inbound *in, const struct inbound_options *options)
{
	/* Sessions look at in->options, so they see the new ones at once. */
	in->options = *options;
	for (unsigned i = 0; i < in->n_listeners; i++)
		listener_keep_spare(
		    in->listeners[i], in->options.spare_descriptors);
}

static void on_accept(void *ctx, int fd, const struct sockaddr *peer)
{
	session_start(ctx, fd, peer);
}

static int add(struct inbound *in, struct listener *l, struct err *err)
{
	if (l == NULL)
		return -1;
	if (in->n_listeners == ARRAY_LEN(in->listeners)) {
		listener_close(l);
		return err_set(err, 0, "more than %zu listening sockets",
		    ARRAY_LEN(in->listeners));
	}
	in->listeners[in->n_listeners++] = l;
	listener_keep_spare(l, in->options.spare_descriptors);
	log_msg(LOG_LEVEL_INFO, LOG_SMTPD, LOG_NO_ID, "listening on %s",
	    listener_address(l));
	return 0;
}

int inbound_listen(struct inbound *in, const char *address, struct err *err)
{
	return add(in,
	    listener_open(in->relay->loop, address, on_accept, in, err), err);
}

int inbound_adopt(
    struct inbound *in, int fd, bool loopback_only, struct err *err)
{
	struct listener *l =
	    listener_adopt(in->relay->loop, fd, on_accept, in, err);

	if (l != NULL && loopback_only &&
	    !listener_is_loopback(listener_sockaddr(l))) {
		err_set(err, 0,
		    "the socket %s that was handed in is open to the network, "
		    "but smtp.allow is at its default: set smtp.allow to those "
		    "who may send",
		    listener_address(l));
		listener_close(l);
		return -1;
	}
	return add(in, l, err);
}

const char *inbound_address(const struct inbound *in, unsigned i)
{
	return i < in->n_listeners ? listener_address(in->listeners[i]) : NULL;
}

unsigned inbound_n_sessions(const struct inbound *in)
{
	return in->n_sessions;
}

bool inbound_is_receiving(const struct inbound *in)
{
	const struct session *s;

	TAILQ_FOREACH (s, &in->sessions, link)
		if (s->m != NULL)
			return true;
	return false;
}

static void close_listeners(struct inbound *in)
{
	for (unsigned i = 0; i < in->n_listeners; i++)
		listener_close(in->listeners[i]);
	in->n_listeners = 0;
}

void inbound_shutdown(struct inbound *in)
{
	struct session *s, *next;

	in->stopping = true;
	close_listeners(in);
	for (s = TAILQ_FIRST(&in->sessions); s != NULL; s = next) {
		next = TAILQ_NEXT(s, link);
		session_stop(s);
	}
}

bool inbound_idle(const struct inbound *in)
{
	return in->n_sessions == 0;
}

void inbound_free(struct inbound *in)
{
	struct session *s, *next;

	close_listeners(in);
	for (s = TAILQ_FIRST(&in->sessions); s != NULL; s = next) {
		next = TAILQ_NEXT(s, link);
		session_close(s);
	}
	/* Sessions free themselves at the end of the turn. */
	loop_defer(in->relay->loop, free, in);
}
