#ifndef SES_LINK_H
#define SES_LINK_H

#include "text.h"

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>

enum { LINK_IN_BYTES = 32768 };

enum link_status {
	LINK_OK, /* bytes came; everything is written */
	LINK_BLOCKED, /* wait for the socket */
	LINK_FULL, /* no room in the input buffer */
	LINK_EOF, /* FIN, in TLS after a close_notify */
	LINK_TRUNCATED, /* FIN in TLS without close_notify */
	LINK_RESET, /* RST or another error of the socket */
	LINK_TLS_FAILED, /* see error */
};

/* One non-blocking socket with or without TLS, and its two buffers. */
struct link {
	int fd;
	SSL *ssl; /* NULL while in clear */
	bool broken; /* TLS failed: nothing may be sent any more */
	bool bytewise; /* each byte of output its own write */
	bool single; /* link_write stops after one byte */
	char error[160]; /* last TLS error in words */
	struct buf out;
	size_t out_done; /* bytes of out already written */
	size_t in_start; /* first byte not yet consumed */
	size_t in_len; /* end of what was read */
	char in[LINK_IN_BYTES];
};

void link_init(struct link *l, int fd);
/* Frees all but the fd, which link_close or link_reset has closed. */
void link_fini(struct link *l);

/* One read into the buffer. */
enum link_status link_read(struct link *l);
/* True if a read may give bytes that no event of the fd will announce. */
bool link_more(const struct link *l);
/* Writes what is in out; LINK_OK when out is empty. */
enum link_status link_write(struct link *l);
/* Goes over to TLS as the server; then link_handshake until LINK_OK. */
bool link_start_tls(struct link *l, SSL_CTX *ctx);
enum link_status link_handshake(struct link *l);

/* FIN, after a close_notify if wanted and possible; the fd stays open. */
void link_finish(struct link *l, bool close_notify);
void link_close(struct link *l);
/* RST. */
void link_reset(struct link *l);

/* A context for --cert, --key and --tls-max; NULL after a line on stderr. */
SSL_CTX *link_context(const char *cert, const char *key, int max_version);

#endif
