/*
 * One message, one transaction with the daemon.
 *
 * All or nothing: a recipient that the daemon refuses ends the transaction
 * before the content, so that a caller that sends again after a failure sends
 * to nobody twice.  Invariant: EX_OK is returned only after the daemon said 250
 * to the dot, which it says when the message is on its disk.
 */
#include "cli/sendmail.h"

#include "base/clock.h"
#include "base/mem.h"
#include "smtp/dot.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

/* The daemon writes to its disk, and others' mail with it. */
#define FINAL_S 600

struct transaction {
	const struct sendmail_job *job;
	struct sendmail_rcpts rcpts;
	struct sendmail_input in;
	struct sendmail_header header;
	char *top; /* the new header block */
	size_t top_len;
	char sender[ADDR_MAX + 1];
	struct sendmail_smtp smtp;
	struct dot_writer dots;
	struct err *write_err;
	bool write_failed;
};

/* --- before the daemon is asked --- */

static int take_arguments(struct transaction *t, struct err *err)
{
	const struct sendmail_args *args = t->job->args;
	struct addr sender;

	if (sendmail_address_parse(
		slice_str(args->sender != NULL ? args->sender : t->job->user),
		&sender, err) != 0)
		return EX_DATAERR;
	memcpy(t->sender, sender.text, sizeof t->sender);
	for (size_t i = 0; i < args->n_rcpts; i++)
		if (sendmail_rcpts_add(
			&t->rcpts, slice_str(args->rcpts[i]), err) != 0)
			return EX_DATAERR;
	return EX_OK;
}

static int take_header(struct transaction *t, struct err *err)
{
	bool from_header = t->job->args->from_header;

	if (sendmail_header_read(&t->header,
		slice_of(t->in.head, t->in.head_len),
		from_header ? &t->rcpts : NULL, err) != 0)
		return EX_DATAERR;
	if (t->header.len == t->in.head_len && t->in.size > t->in.head_len) {
		err_set(err, 0,
		    "the header is larger than %d bytes; nothing was sent",
		    SENDMAIL_MEMORY);
		return EX_DATAERR;
	}
	if (t->rcpts.n > 0)
		return EX_OK;
	if (from_header) {
		err_set(err, 0,
		    "no recipient in To, Cc or Bcc of the message, and none in "
		    "the arguments; nothing was sent");
		return EX_DATAERR;
	}
	err_set(err, 0,
	    "no recipients: name them as arguments, or use -t to take them "
	    "from the header");
	return EX_USAGE;
}

/* Where an address of ours would be. */
static const char *id_domain(const struct transaction *t)
{
	const char *at = strrchr(t->sender, '@');

	return at != NULL && at[1] != '[' ? at + 1 : t->job->host;
}

static void make_header(struct transaction *t)
{
	const struct sendmail_args *args = t->job->args;
	struct sendmail_defaults d = { .sender = t->sender,
		.user = t->job->user,
		.full_name = args->full_name != NULL ? args->full_name
		    : args->sender == NULL           ? t->job->full_name
						     : NULL };
	uint64_t nonce = 0;
	char date[64];
	char *id;

	if (getrandom(&nonce, sizeof nonce, 0) != sizeof nonce)
		nonce = (uint64_t)getpid();
	clock_format_rfc5322(clock_wall_us(), date, sizeof date);
	id = xasprintf("<%llx.%016llx@%s>", (unsigned long long)clock_wall_us(),
	    (unsigned long long)nonce, id_domain(t));
	d.date = date;
	d.message_id = id;
	free(t->top);
	t->top = sendmail_header_make(&t->header, &d, &t->top_len);
	free(id);
}

/* --- the envelope --- */

static uint64_t content_size(const struct transaction *t)
{
	return t->top_len + t->in.size - t->header.len;
}

static int try_sender(struct transaction *t, struct err *err)
{
	char size[32] = "";

	make_header(t);
	if (t->smtp.ehlo.size)
		snprintf(size, sizeof size, " SIZE=%llu",
		    (unsigned long long)content_size(t));
	return sendmail_smtp_do(&t->smtp, err, "MAIL FROM:<%s>%s%s", t->sender,
	    t->smtp.ehlo.eight_bit && t->in.eight_bit ? " BODY=8BITMIME" : "",
	    size);
}

/*
 * A bare sender first as it is, for the daemon's rules to complete; when it has
 * none, with the name of this host.
 */
static int say_sender(struct transaction *t, struct err *err)
{
	struct sendmail_smtp *s = &t->smtp;
	struct ehlo ehlo = s->ehlo; /* the next reply wipes it */
	size_t len = strlen(t->sender);
	char said[SENDMAIL_SAID];

	if (try_sender(t, err) != 0)
		return EX_TEMPFAIL;
	if (s->reply.code >= 500 && len > 0 && strchr(t->sender, '@') == NULL &&
	    strncmp(s->reply.enhanced, "5.1.", 4) == 0) {
		snprintf(t->sender + len, sizeof t->sender - len, "@%s",
		    t->job->domain);
		s->ehlo = ehlo;
		if (try_sender(t, err) != 0)
			return EX_TEMPFAIL;
	}
	if (s->reply.code == 250)
		return EX_OK;
	err_set(err, 0, "sesrelayd refuses the sender <%s>: %s", t->sender,
	    sendmail_smtp_said(s, said));
	return sendmail_exit_code(SENDMAIL_AT_SENDER, &s->reply);
}

static int say_rcpts(struct transaction *t, struct err *err)
{
	struct sendmail_smtp *s = &t->smtp;
	char said[SENDMAIL_SAID];

	for (size_t i = 0; i < t->rcpts.n; i++) {
		if (sendmail_smtp_do(
			s, err, "RCPT TO:<%s>", t->rcpts.items[i]) != 0)
			return EX_TEMPFAIL;
		if (s->reply.code == 250 || s->reply.code == 251)
			continue;
		err_set(err, 0,
		    "sesrelayd refuses the recipient <%.60s>: %s; nothing was "
		    "sent",
		    t->rcpts.items[i], sendmail_smtp_said(s, said));
		return sendmail_exit_code(SENDMAIL_AT_RECIPIENT, &s->reply);
	}
	return EX_OK;
}

/* --- the content --- */

static void emit(void *ctx, const char *ptr, size_t len)
{
	struct transaction *t = ctx;

	if (!t->write_failed &&
	    sendmail_smtp_write(&t->smtp, ptr, len, t->write_err) != 0)
		t->write_failed = true;
}

static int put(void *ctx, const char *ptr, size_t len, struct err *err)
{
	struct transaction *t = ctx;

	(void)err;
	if (len > 0)
		dot_write(&t->dots, ptr, len, emit, t);
	return t->write_failed ? -1 : 0;
}

static int say_content(struct transaction *t, struct err *err)
{
	struct sendmail_smtp *s = &t->smtp;
	char said[SENDMAIL_SAID];

	if (sendmail_smtp_do(s, err, "DATA") != 0)
		return EX_TEMPFAIL;
	if (s->reply.code != 354)
		goto refused;
	t->write_err = err;
	dot_writer_init(&t->dots);
	if (put(t, t->top, t->top_len, err) != 0 ||
	    sendmail_input_send(&t->in, t->header.len, put, t, err) != 0)
		return EX_TEMPFAIL;
	dot_write_end(&t->dots, emit, t);
	if (t->write_failed || sendmail_smtp_wait(s, FINAL_S, err) != 0)
		return EX_TEMPFAIL;
	if (s->reply.code == 250)
		return EX_OK;
refused:
	err_set(err, 0, "sesrelayd refuses the message: %s",
	    sendmail_smtp_said(s, said));
	return sendmail_exit_code(SENDMAIL_AT_CONTENT, &s->reply);
}

static int check_size(struct transaction *t, struct err *err)
{
	uint64_t size, max = t->smtp.ehlo.max_size;

	make_header(t);
	size = content_size(t);
	if (max == 0 || size <= max)
		return EX_OK;
	err_set(err, 0,
	    "the message has %llu bytes, more than the %llu that sesrelayd "
	    "takes (smtp.max_message_size); nothing was sent",
	    (unsigned long long)size, (unsigned long long)max);
	return EX_DATAERR;
}

static int transact(struct transaction *t, struct err *err)
{
	int rc = sendmail_smtp_greet(&t->smtp, err);

	if (rc == EX_OK)
		rc = check_size(t, err);
	if (rc == EX_OK)
		rc = say_sender(t, err);
	if (rc == EX_OK)
		rc = say_rcpts(t, err);
	if (rc == EX_OK)
		rc = say_content(t, err);
	return rc;
}

static void finish(struct transaction *t)
{
	sendmail_smtp_close(&t->smtp);
	sendmail_rcpts_free(&t->rcpts);
	sendmail_header_free(&t->header);
	sendmail_input_free(&t->in);
	free(t->top);
}

int sendmail_send(const struct sendmail_job *job, struct err *err)
{
	struct transaction t = { .job = job, .in.fd = -1, .smtp.fd = -1 };
	char said[SENDMAIL_SAID];
	int rc;

	/* The input first: who writes into a pipe hears of our exit code only
	 * when we have read it. */
	rc = sendmail_input_read(
	    &t.in, STDIN_FILENO, !job->args->ignore_dots, err);
	if (rc == EX_OK)
		rc = take_arguments(&t, err);
	if (rc == EX_OK)
		rc = take_header(&t, err);
	if (rc == EX_OK &&
	    sendmail_smtp_connect(&t.smtp, job->servers, err) != 0)
		rc = EX_TEMPFAIL;
	if (rc == EX_OK)
		rc = transact(&t, err);
	if (rc == EX_OK && job->args->verbose)
		fprintf(stderr, "sesrelay-sendmail: %zu recipient%s: %s\n",
		    t.rcpts.n, t.rcpts.n == 1 ? "" : "s",
		    sendmail_smtp_said(&t.smtp, said));
	finish(&t);
	return rc;
}

/* --- -bv --- */

static int verify_rcpts(struct transaction *t, struct err *err)
{
	struct sendmail_smtp *s = &t->smtp;
	char said[SENDMAIL_SAID];
	int rc = EX_OK;

	for (size_t i = 0; i < t->rcpts.n; i++) {
		const char *rcpt = t->rcpts.items[i];

		if (sendmail_smtp_do(s, err, "RCPT TO:<%s>", rcpt) != 0)
			return EX_TEMPFAIL;
		if (s->reply.code == 250) {
			printf("%s... would be accepted\n", rcpt);
			continue;
		}
		printf("%s... would be refused: %s\n", rcpt,
		    sendmail_smtp_said(s, said));
		rc = sendmail_exit_code(SENDMAIL_AT_RECIPIENT, &s->reply);
		err_set(err, 0, "sesrelayd would refuse <%s>", rcpt);
	}
	return rc;
}

int sendmail_verify(const struct sendmail_job *job, struct err *err)
{
	struct transaction t = { .job = job, .in.fd = -1, .smtp.fd = -1 };
	int rc = take_arguments(&t, err);

	if (rc == EX_OK && t.rcpts.n == 0) {
		err_set(err, 0, "-bv needs addresses");
		rc = EX_USAGE;
	}
	if (rc == EX_OK &&
	    sendmail_smtp_connect(&t.smtp, job->servers, err) != 0)
		rc = EX_TEMPFAIL;
	if (rc == EX_OK)
		rc = sendmail_smtp_greet(&t.smtp, err);
	if (rc == EX_OK)
		rc = say_sender(&t, err);
	if (rc == EX_OK)
		rc = verify_rcpts(&t, err);
	finish(&t);
	return rc;
}
