#ifndef SES_LINK_H
#define SES_LINK_H

#include "text.h"

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

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
	long write_rate; /* bytes a second on the wire, 0 = no limit */
	double credit; /* bytes that may leave now */
	uint64_t credit_us;
	long wait_ms; /* blocked by write_rate for so long, or 0 */
	bool wire_eof; /* the last read of the socket said so */
	bool rekeying; /* a change of keys is on its way */
	unsigned char secret[64]; /* of our records in TLS 1.3 */
	size_t secret_len;
	uint64_t records; /* sent under it */
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
/* send(2) under the limit of write_rate. */
ssize_t link_send(struct link *l, const char *p, size_t n);

enum link_end {
	LINK_END_TLS, /* close_notify, if in TLS, then FIN */
	LINK_END_CANCELED, /* user_canceled, close_notify, FIN */
	LINK_END_BARE, /* FIN alone */
};

/* Says that nothing more will be sent; the fd stays open. */
void link_finish(struct link *l, enum link_end how);
void link_close(struct link *l);
/* RST. */
void link_reset(struct link *l);

/* tls.c. */

/* Versions are "1.0" to "1.3"; ciphers may be "". */
struct link_tls {
	const char *min, *max, *ciphers;
};

/* Goes over to TLS as the server; then link_handshake until LINK_OK. */
bool link_start_tls(struct link *l, SSL_CTX *ctx, const struct link_tls *conf);
enum link_status link_handshake(struct link *l);
/* Asks for new keys (TLS 1.3), or a new handshake; again while blocked. */
enum link_status link_rekey(struct link *l);
bool link_ciphers_known(const char *list);
/* A context without a certificate; NULL if there is no memory. */
SSL_CTX *link_context_new(void);
/* One for --cert and --key; NULL after a line on stderr. */
SSL_CTX *link_context(const char *cert, const char *key);

/* alert.c. */

void alert_prepare(SSL_CTX *ctx);
void alert_watch(struct link *l);
/* Ends TLS 1.3 with user_canceled; false if that can't be done. */
bool alert_user_canceled(struct link *l);

#endif
