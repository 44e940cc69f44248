/*
 * mkspool DIR COUNT [AGE_SECONDS]: writes COUNT queued messages into the
 * arrivals segments of the spool DIR, which must be there, as fast as the disk
 * takes them; prints the bytes written.
 *
 * For tests of a start with a full queue.  It says what a message is with the
 * daemon's own functions (queue/record.h), and writes without any of its care:
 * the spool may not be in use.  Arrivals are a microsecond apart, the last one
 * AGE_SECONDS (0) ago.
 */
#include "queue/record.h"

#include <err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#define SEGMENT_BYTES (64u * 1024 * 1024)
#define NONCE 0x53455352454c4159u

struct spool_writer {
	const char *directory;
	FILE *file; /* NULL: the next message begins a segment */
	uint32_t number;
	uint64_t end, total;
};

static void put(struct spool_writer *w, const void *data, size_t len)
{
	if (len > 0 && fwrite(data, len, 1, w->file) != 1)
		err(EXIT_FAILURE, "%s: write", w->directory);
	w->end += len;
}

static void close_segment(struct spool_writer *w)
{
	if (w->file != NULL && fclose(w->file) != 0)
		err(EXIT_FAILURE, "%s: close", w->directory);
	w->file = NULL;
	w->total += w->end;
}

static void open_segment(struct spool_writer *w, uint64_t floor)
{
	struct record_header header = { .nonce = NONCE, .floor = floor };
	char name[4096], text[RECORD_HEADER_LEN];

	snprintf(
	    name, sizeof(name), "%s/arrivals/%09u", w->directory, ++w->number);
	w->file = fopen(name, "wx");
	if (w->file == NULL)
		err(EXIT_FAILURE, "%s", name);
	w->end = 0;
	record_encode_header(RECORD_ARRIVALS, &header, text);
	put(w, text, sizeof(text));
}

static void put_message(struct spool_writer *w, struct message *m)
{
	struct record_extra extra = { .held = false };
	char text[RECORD_LINE_LEN], end[RECORD_END_LEN];
	struct record_buf head = { .len = 0 };
	struct record_line line;
	struct err err;

	if (record_encode_head(m, &extra, &head, &err) < 0)
		errx(EXIT_FAILURE, "%s", err.text);
	line = (struct record_line){
		.nonce = NONCE,
		.ref = { .segment = w->number, .offset = (uint32_t)w->end },
		.id = m->id,
		.head_len = (uint32_t)head.len,
		.body_len = (uint32_t)m->body.len,
		.head_sum = record_sum(head.data, head.len),
		.body_sum = record_sum(m->body.data, m->body.len),
	};
	record_encode_line(&line, text);
	record_encode_end(m->id, end);
	put(w, text, sizeof(text));
	put(w, head.data, head.len);
	put(w, m->body.data, m->body.len);
	put(w, end, sizeof(end));
	record_buf_fini(&head);
}

static struct message *make_message(uint64_t id, unsigned long n)
{
	struct message *m = message_new(id);
	char text[512];
	int len;

	m->arrival_us = (int64_t)id;
	m->sender = strdup("app@example.com");
	m->peer = strdup("localhost[127.0.0.1]");
	m->helo = strdup("app");
	snprintf(text, sizeof(text), "m%lu@million.test", n);
	m->message_id = strdup(text);
	message_add_rcpt(m, "user@example.net");
	len = snprintf(text, sizeof(text),
	    "From: app@example.com\r\nTo: user@example.net\r\n"
	    "Subject: one of many\r\nMessage-ID: <m%lu@million.test>\r\n"
	    "\r\nhello %lu\r\n",
	    n, n);
	body_append(&m->body, text, (size_t)len);
	m->size = m->body.len;
	return m;
}

int main(int argc, char **argv)
{
	struct spool_writer w = { .directory = argv[1] };
	unsigned long count;
	uint64_t first;

	if (argc < 3 || argc > 4)
		errx(EXIT_FAILURE, "usage: mkspool DIR COUNT [AGE_SECONDS]");
	count = strtoul(argv[2], NULL, 10);
	first = ((uint64_t)time(NULL) -
		    (argc > 3 ? strtoul(argv[3], NULL, 10) : 0)) *
		1000000 -
	    count;
	umask(077);
	for (unsigned long n = 0; n < count; n++) {
		struct message *m = make_message(first + n, n);

		if (w.file == NULL)
			open_segment(&w, first + n - 1);
		put_message(&w, m);
		message_free(m);
		if (w.end >= SEGMENT_BYTES - 4096)
			close_segment(&w);
	}
	close_segment(&w);
	printf("%llu\n", (unsigned long long)w.total);
	return EXIT_SUCCESS;
}
