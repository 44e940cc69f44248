/*
 * Local programs handing in mail: one session for each connection, the pure
 * conversation (smtp/server) glued to a socket (net/conn) and to the spool.
 *
 * A session is LINES (commands), CONTENT (after 354) or COMMITTING (content
 * ended, its 250 waits for the disk).  Commands that were pipelined behind the
 * final dot stay unparsed until the 250 is out.  Memory is bounded whatever
 * clients do: content beyond 1 MiB, or any content while all sessions together
 * hold more than INBOUND_MEMORY_MAX, streams to the spool's disk, one chunk
 * under way and one gathering, and the socket is not read meanwhile.
 */
#ifndef RELAY_INBOUND_H
#define RELAY_INBOUND_H

#include "net/listener.h"
#include "smtp/server.h"

#define INBOUND_MEMORY_MAX (64u * 1024 * 1024)
/* A message has to be through in that many times `timeout_us`. */
#define INBOUND_MESSAGE_TIMEOUTS 12

struct inbound_options {
	struct server_options server;
	const struct network *allow;
	unsigned n_allow;
	unsigned max_sessions;
	unsigned spare_descriptors; /* not for clients: pool and spool */
	int64_t timeout_us; /* for a command line, and between two chunks */
};

struct inbound;
struct relay;

struct inbound *inbound_new(
    struct relay *relay, const struct inbound_options *options);
/* Options are copied, what they point to has to live until the next call. */
void inbound_configure(
    struct inbound *in, const struct inbound_options *options);
MUST_CHECK int inbound_listen(
    struct inbound *in, const char *address, struct err *err);
/* `loopback_only`: a socket that others can reach is refused. */
MUST_CHECK int inbound_adopt(
    struct inbound *in, int fd, bool loopback_only, struct err *err);
/* Of the listening socket `i`, from 0; NULL: there are no more. */
const char *inbound_address(const struct inbound *in, unsigned i);
unsigned inbound_n_sessions(const struct inbound *in);
/* Is a message on its way from a client, or becoming durable? */
bool inbound_is_receiving(const struct inbound *in);
/* No new connections; sessions end with 421 once nothing of theirs is being
 * made durable. */
void inbound_shutdown(struct inbound *in);
/* What inbound_shutdown() waited for is over. */
bool inbound_idle(const struct inbound *in);
/* Every socket is closed; commits under way must have been completed. */
void inbound_free(struct inbound *in);

#endif
