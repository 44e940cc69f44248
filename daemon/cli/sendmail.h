/*
 * sesrelay-sendmail, in parts that know each other by this header alone.
 *
 * The way of a message: arguments (pure) -> all of the input, as canonical
 * lines (pure), in memory or an unlinked file -> recipients and header (pure)
 * -> one SMTP transaction with the daemon.  Nothing is sent before the input
 * has ended: a caller that dies half-way, or takes hours, sends nothing.
 */
#ifndef CLI_SENDMAIL_H
#define CLI_SENDMAIL_H

#include "base/slice.h"
#include "smtp/addr.h"
#include "smtp/ehlo.h"
#include "smtp/reply.h"

#include <sysexits.h>

#define SENDMAIL_CONFIG_FILE SESRELAYD_SYSCONFDIR "/sesrelayd/sesrelayd.conf"
#define SENDMAIL_SOCKET "unix:/run/sesrelayd/smtp"

/* --- sendmail_args.c: what the caller wants; pure --- */

enum sendmail_mode {
	SENDMAIL_SEND,
	SENDMAIL_SMTP, /* -bs */
	SENDMAIL_VERIFY, /* -bv */
	SENDMAIL_QUEUE, /* -bp, mailq */
	SENDMAIL_RETRY, /* -q */
	SENDMAIL_ALIASES, /* -bi, -I, newaliases */
	SENDMAIL_HELP,
	SENDMAIL_VERSION,
};

/* Texts are those of argv; free(3) rcpts. */
struct sendmail_args {
	enum sendmail_mode mode;
	bool from_header; /* -t */
	bool ignore_dots; /* -i, -oi, -O IgnoreDots */
	bool verbose;
	const char *sender; /* -f, -r; NULL: the caller's name */
	const char *full_name; /* -F */
	const char *config; /* -C */
	const char **rcpts;
	size_t n_rcpts;
};

/* -1: they cannot be understood, and *err says what. */
MUST_CHECK int sendmail_args_parse(
    struct sendmail_args *a, int argc, char *const *argv, struct err *err);

/* --- sendmail_address.c: addresses as people write them; pure --- */

/* In order, no address twice; bare local parts stay bare. */
struct sendmail_rcpts {
	char **items;
	size_t n;
};

void sendmail_rcpts_free(struct sendmail_rcpts *r);
/*
 * Adds the mailboxes of an address list (RFC 5322 3.4: names, groups, comments,
 * quoted strings, folded; routes are dropped), or of the looser lists that
 * people write: "a@b c@d", "a@b; c@d".  -1: *err names what is no address.
 */
MUST_CHECK int sendmail_rcpts_add(
    struct sendmail_rcpts *r, struct slice list, struct err *err);
/*
 * The one mailbox of `text`, in the form of a path without its brackets; "" for
 * "" and "<>".
 */
MUST_CHECK int sendmail_address_parse(
    struct slice text, struct addr *out, struct err *err);

/* --- sendmail_lines.c: the input as canonical lines; pure --- */

/*
 * Lines end in LF, with any CRs before it.  Out come lines that end in CRLF,
 * the last one too.  A CR elsewhere ends a line of the body (progress bars of
 * cron jobs), and is a blank in the header; NUL is a blank.  With `dot_ends`, a
 * line of a dot alone ends the input.
 */
struct sendmail_lines {
	bool dot_ends;
	bool ended; /* by the dot; what follows is ignored */
	bool eight_bit; /* seen so far */
	/* private */
	bool in_body, cr, dot, after_lf;
	size_t line_len;
};

void sendmail_lines_init(struct sendmail_lines *l, bool dot_ends);
/* The most that comes out for `len` bytes, and at the end. */
#define SENDMAIL_LINES_ROOM(len) (3 * (len) + 4)
/* Returns how many bytes were written to `out`. */
size_t sendmail_lines_feed(
    struct sendmail_lines *l, const char *in, size_t len, char *out);
size_t sendmail_lines_end(struct sendmail_lines *l, char *out);

/* --- sendmail_header.c: pure --- */

/* What is added to a header that lacks it. */
struct sendmail_defaults {
	const char *sender; /* for From: "" is the null sender */
	const char *user; /* for From, if the sender is null */
	const char *full_name; /* or NULL */
	const char *date;
	const char *message_id; /* with its brackets */
};

struct sendmail_header {
	size_t len; /* of the block in the content, empty line included */
	bool has_date, has_from, has_message_id;
	bool resent; /* Resent-To, -Cc or -Bcc: they count, not the others */
	/* private */
	char *kept; /* without Bcc and the envelope line of an mbox */
	size_t kept_len;
};

/*
 * Looks at the header at the head of canonical content.  The block ends at the
 * empty line, or at a line that is no field.  With `rcpts`, those of To, Cc and
 * Bcc are added to it; -1: one of them cannot be understood.
 */
MUST_CHECK int sendmail_header_read(struct sendmail_header *h,
    struct slice content, struct sendmail_rcpts *rcpts, struct err *err);
/* The whole new block with its empty line; free(3) it. */
char *sendmail_header_make(const struct sendmail_header *h,
    const struct sendmail_defaults *d, size_t *len);
void sendmail_header_free(struct sendmail_header *h);
/* "Full Name" as a phrase (RFC 5322), encoded if it has to be (RFC 2047). */
char *sendmail_phrase(const char *name);

/* --- sendmail_input.c: all of standard input --- */

#define SENDMAIL_MEMORY (1024 * 1024)

struct sendmail_input {
	char *head; /* the first SENDMAIL_MEMORY bytes */
	size_t head_len;
	int fd; /* the rest, unlinked; -1: there is none */
	uint64_t size;
	bool eight_bit;
};

/* 0 or the exit code. */
MUST_CHECK int sendmail_input_read(
    struct sendmail_input *in, int fd, bool dot_ends, struct err *err);
/* The content from `offset` on, in pieces; -1 also when `put` returns it. */
MUST_CHECK int sendmail_input_send(struct sendmail_input *in, uint64_t offset,
    int (*put)(void *ctx, const char *ptr, size_t len, struct err *err),
    void *ctx, struct err *err);
void sendmail_input_free(struct sendmail_input *in);

/* --- sendmail_servers.c: where the daemon listens --- */

struct sendmail_servers {
	char **items; /* "127.0.0.1:25", "[::1]:25", "unix:/path" */
	size_t n;
};

/*
 * $SESRELAY_SENDMAIL_SERVER; or smtp.listen of `config`, else of
 * $SESRELAYD_CONF, else of the daemon's file if it can be read; or the
 * defaults.  0 or the exit code.
 */
MUST_CHECK int sendmail_servers_find(
    struct sendmail_servers *s, const char *config, struct err *err);
/* Adds one; 0.0.0.0 and [::] are reached on loopback.  -1: no address. */
MUST_CHECK int sendmail_servers_add(
    struct sendmail_servers *s, struct slice text, struct err *err);
void sendmail_servers_free(struct sendmail_servers *s);

/* --- sendmail_smtp.c: a session with the daemon --- */

#define SENDMAIL_BUF 16384

struct sendmail_smtp {
	int fd;
	const char *server; /* the one of the list that answered */
	struct ehlo ehlo;
	struct reply reply; /* the last one */
	/* private */
	struct reply_parser parser;
	char in[SENDMAIL_BUF], out[SENDMAIL_BUF];
	size_t in_len, out_len;
};

/* Connects, to the first that answers; fd and server are set.  0 or -1. */
MUST_CHECK int sendmail_smtp_connect(struct sendmail_smtp *s,
    const struct sendmail_servers *servers, struct err *err);
/* Greeting and EHLO.  0 or the exit code. */
MUST_CHECK int sendmail_smtp_greet(struct sendmail_smtp *s, struct err *err);
/* Waits for a reply, which is then in s->reply.  -1: the session is over. */
MUST_CHECK int sendmail_smtp_wait(
    struct sendmail_smtp *s, unsigned seconds, struct err *err);
/* A command without its line end, and the wait for its reply. */
PRINTF(3, 4)
MUST_CHECK int sendmail_smtp_do(
    struct sendmail_smtp *s, struct err *err, const char *fmt, ...);
/* Buffered until the next wait, or until the buffer is full. */
MUST_CHECK int sendmail_smtp_write(
    struct sendmail_smtp *s, const char *ptr, size_t len, struct err *err);
void sendmail_smtp_close(struct sendmail_smtp *s); /* says QUIT */
#define SENDMAIL_SAID 170
/* "550 5.1.1 text" of the last reply, in buf. */
const char *sendmail_smtp_said(
    const struct sendmail_smtp *s, char buf[SENDMAIL_SAID]);

/* The stages in which the daemon may refuse. */
enum sendmail_stage {
	SENDMAIL_AT_GREETING,
	SENDMAIL_AT_SENDER,
	SENDMAIL_AT_RECIPIENT,
	SENDMAIL_AT_CONTENT,
};
/* The exit code that tells the caller of a refusal; pure. */
int sendmail_exit_code(enum sendmail_stage stage, const struct reply *reply);

/* --- sendmail_send.c: the transaction --- */

struct sendmail_job {
	const struct sendmail_args *args;
	const struct sendmail_servers *servers;
	const char *user; /* who calls */
	const char *full_name; /* of the user; may be NULL */
	const char *host; /* of this machine */
	const char *domain; /* completes a sender that the daemon won't */
};

/* Both: 0 or the exit code, with one line in *err. */
MUST_CHECK int sendmail_send(const struct sendmail_job *job, struct err *err);
MUST_CHECK int sendmail_verify(const struct sendmail_job *job, struct err *err);

/* --- sendmail_pipe.c: -bs --- */

/* Standard input and output speak with the daemon.  0 or the exit code. */
MUST_CHECK int sendmail_pipe(
    const struct sendmail_servers *servers, struct err *err);

#endif
