/*
 * failed: dead letters, listed or shown.  Names first, then the first lines of
 * a batch of them, each on a disk thread; the answer goes on from there.  A
 * letter that is damaged has a row that says so.  Loop thread but for the
 * functions run_*.
 */
#include "control_private.h"

#include "base/mem.h"

#include <errno.h>
#include <stdlib.h>
#include <sysexits.h>

#define BATCH 64
#define CHUNK 65536

struct failed {
	struct control_client *client;
	struct relay *relay;
	uint64_t id; /* only these; 0: all */
	bool content;
	struct inspect_names names;
	size_t next; /* name */
	struct inspect_letter letters[BATCH];
	size_t n, shown; /* letters; those whose rows are out */
	uint64_t offset; /* content of letters[shown - 1] that is out */
	struct body chunk;
	int rc;
	struct err err;
};

static void failed_step(void *ctx);
static void content_step(void *ctx);

static void forget_letters(struct failed *f)
{
	for (size_t i = 0; i < f->n; i++)
		inspect_letter_fini(&f->letters[i]);
	f->n = f->shown = 0;
}

static void failed_end(struct failed *f)
{
	struct control_client *c = f->client;

	forget_letters(f);
	inspect_names_fini(&f->names);
	body_fini(&f->chunk);
	free(f);
	control_done(c);
}

/* --- content --- */

static void run_content(void *ctx, const char *directory)
{
	struct failed *f = ctx;
	const struct inspect_letter *letter = &f->letters[f->shown - 1];
	uint64_t left = letter->message->size - f->offset;

	f->rc = inspect_letter_content(directory, letter, f->offset,
	    left < CHUNK ? (size_t)left : CHUNK, &f->chunk, &f->err);
}

static void on_content(void *ctx)
{
	struct failed *f = ctx;

	if (f->rc != 0) {
		control_error(f->client, 1, "%s", f->err.text);
		failed_end(f);
		return;
	}
	control_put(f->client, report_content(f->chunk.data, f->chunk.len));
	f->offset += f->chunk.len;
	f->chunk.len = 0;
	if (control_can_go_on(f->client, content_step))
		content_step(f);
}

static void content_step(void *ctx)
{
	struct failed *f = ctx;

	if (f->client->conn == NULL ||
	    f->offset >= f->letters[f->shown - 1].message->size)
		failed_step(f);
	else
		spool_look(f->relay->spool, run_content, on_content, f);
}

/* --- rows --- */

static void run_letters(void *ctx, const char *directory)
{
	struct failed *f = ctx;

	while (f->n < BATCH && f->next < f->names.n) {
		const char *name = f->names.items[f->next++];
		struct inspect_letter *letter = &f->letters[f->n];
		uint64_t id;

		if (f->id != 0 &&
		    (inspect_letter_id(name, &id) != 0 || id != f->id))
			continue;
		inspect_letter_read(directory, name, letter);
		f->n++;
	}
}

static void on_letters(void *ctx)
{
	failed_step(ctx);
}

static void failed_step(void *ctx)
{
	struct failed *f = ctx;

	while (f->client->conn != NULL && f->shown < f->n) {
		const struct inspect_letter *letter = &f->letters[f->shown++];

		/* One that has gone meanwhile is no news. */
		if (letter->message == NULL && letter->err.code == ENOENT)
			continue;
		control_put(f->client, report_letter(letter));
		f->offset = 0;
		if (f->content && letter->message != NULL) {
			content_step(f);
			return;
		}
		if (!control_can_go_on(f->client, failed_step))
			return;
	}
	forget_letters(f);
	if (f->client->conn != NULL && f->next < f->names.n) {
		spool_look(f->relay->spool, run_letters, on_letters, f);
		return;
	}
	control_ok(f->client);
	failed_end(f);
}

static void run_names(void *ctx, const char *directory)
{
	struct failed *f = ctx;

	f->rc = inspect_letter_names(directory, &f->names, &f->err);
}

static bool has_letter(const struct failed *f)
{
	uint64_t id;

	for (size_t i = 0; i < f->names.n; i++)
		if (inspect_letter_id(f->names.items[i], &id) == 0 &&
		    id == f->id)
			return true;
	return false;
}

static void on_names(void *ctx)
{
	struct failed *f = ctx;

	if (f->rc != 0) {
		control_error(f->client, 1, "%s", f->err.text);
		failed_end(f);
	} else if (f->id != 0 && !has_letter(f)) {
		control_error(f->client, EX_DATAERR,
		    "there is no dead letter of that id");
		failed_end(f);
	} else {
		failed_step(f);
	}
}

/* failed [ID [content]] */
void control_failed(struct control_client *c, struct slice args)
{
	struct slice word = slice_word(&args);
	struct failed *f;
	uint64_t id = 0;

	if (word.len > 0 && id_parse(word, &id) != 0) {
		control_error(c, EX_USAGE, "a queue id has 16 hex digits");
		return;
	}
	f = xcalloc(1, sizeof *f);
	f->client = c;
	f->relay = c->daemon->relay;
	f->id = id;
	f->content = slice_eq_str(slice_trim(args), "content");
	body_init(&f->chunk);
	c->answer = f;
	spool_look(f->relay->spool, run_names, on_names, f);
}
