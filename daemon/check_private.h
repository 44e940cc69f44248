/*
 * Between check.c, which runs the whole, and check_probe.c with
 * check_large.c, which try one port.
 */
#ifndef CHECK_PRIVATE_H
#define CHECK_PRIVATE_H

#include "check.h"
#include "net/resolver.h"
#include "relay/pool.h"

/* What all probes share; lives as long as they do. */
struct check_target {
	struct loop *loop;
	const struct pool_options *options;
	struct resolver_addr addresses[CHECK_MAX_ADDRESSES];
	unsigned n_addresses;
	int64_t begun_us;
	void (*done)(void *ctx); /* a probe has come to its end */
	void *ctx;
};

/* Segments that pass every network, to test whether larger ones don't. */
#define CHECK_SMALL_MSS 536

struct probe;
/* Fills `result` from DIAGNOSIS_CONNECT on; `done` comes in a later turn. */
MUST_CHECK struct probe *probe_new(const struct check_target *target,
    struct check_port *result, struct err *err);
/* When the addresses are known. */
void probe_start(struct probe *p);
/* Ends it now, as a time-out of what it waits for; no `done` follows. */
void probe_stop(struct probe *p);
void probe_free(struct probe *p); /* NULL is legal */

/* --- check_lookup.c --- */

/*
 * Looks `host` up on a thread of its own, for at most 7 s.  `done` gets the
 * outcome with its reason and, for OK and SLOW, addresses; it is called once,
 * in a later turn.  Never freed: a look-up may hang for longer than we live.
 */
struct lookup_result {
	enum diagnosis_outcome outcome;
	int64_t us;
	char detail[200];
	struct resolver_addr addresses[CHECK_MAX_ADDRESSES];
	unsigned n_addresses;
};
void lookup_start(struct loop *loop, const char *host,
    void (*done)(void *ctx, const struct lookup_result *result), void *ctx);

/* --- check_large.c: what the kernel knows of a connection --- */

struct large_test {
	unsigned mss;
	uint64_t bytes_before; /* the connection had sent */
	uint32_t segments_before;
};

/*
 * One harmless command, NOOP with an argument (RFC 5321 4.1.1.9), at most 512
 * bytes long, as full-size segments: each byte is a TLS record of its own,
 * which makes 11 KB or more of it, and the kernel is told to gather.
 */
struct conn;
void large_begin(struct large_test *t, struct conn *c);
/* The output is empty. */
void large_written(struct conn *c);
/* "11.8 kB in 9 segments of up to 1448 bytes" */
void large_describe(
    const struct large_test *t, struct conn *c, char *buf, size_t size);
/*
 * Is sent data left without acknowledgement?  Then what the kernel knows about
 * it is put into buf: "2 segments of up to 1448 bytes are not acknowledged,
 * sent again 4 times".
 */
bool large_unacked(struct conn *c, char *buf, size_t size);

#endif
