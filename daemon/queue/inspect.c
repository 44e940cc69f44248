/*
 * Read-only views of a spool, built from the same scan that the daemon's start
 * runs, without its right to change anything.  One thread, nothing kept.
 */
#include "queue/inspect.h"

#include "base/mem.h"
#include "queue/spool_private.h"

#include <stdlib.h>

static int open_scan(struct scan *scan, struct spool_dirs *dirs,
    struct spool_notes *notes, struct err *err)
{
	if (dirs_segments(
		dirs->arrivals, "arrivals", &scan->arrivals, notes, err) < 0)
		return -1;
	return dirs_segments(
	    dirs->outcomes, "outcomes", &scan->outcomes, notes, err);
}

static void report(struct spool_notes *notes,
    void (*trouble)(void *ctx, const char *text), void *ctx)
{
	for (size_t i = 0; trouble != NULL && i < notes->n; i++)
		trouble(ctx, notes->items[i]);
	spool_notes_fini(notes);
}

/* False when fn wants no more. */
static bool report_chunk(const struct scan_chunk *chunk,
    bool (*fn)(void *ctx, const struct inspect_message *found), void *ctx)
{
	for (size_t i = 0; i < chunk->n; i++) {
		const struct scan_entry *entry = &chunk->entries[i];
		struct inspect_message found = {
			.message = entry->message,
			.held = entry->held,
			.held_reason = entry->held_reason,
		};

		if (entry->message == NULL)
			continue;
		if (!fn(ctx, &found))
			return false;
	}
	return true;
}

int inspect_spool(const char *directory,
    bool (*fn)(void *ctx, const struct inspect_message *found),
    void (*trouble)(void *ctx, const char *text), void *ctx, struct err *err)
{
	struct spool_notes notes = { 0 };
	struct scan_chunk *chunk;
	struct spool_dirs dirs;
	struct scan scan;
	bool more = true;
	int rc = -1;

	if (dirs_open_read(&dirs, directory, err) < 0)
		return -1;
	chunk = xcalloc(1, sizeof(*chunk));
	scan_init(&scan, &dirs);
	if (open_scan(&scan, &dirs, &notes, err) < 0)
		goto out;
	report(&notes, trouble, ctx);
	while (more) {
		scan_step(&scan, chunk);
		report(&chunk->notes, trouble, ctx);
		more = report_chunk(chunk, fn, ctx) && !chunk->done;
		scan_chunk_fini(chunk);
	}
	rc = 0;
out:
	spool_notes_fini(&notes);
	scan_fini(&scan);
	free(chunk);
	dirs_close(&dirs);
	return rc;
}

struct message *inspect_load(
    const char *directory, const struct message *found, struct err *err)
{
	struct spool_dirs dirs;
	struct message *m;

	if (dirs_open_read(&dirs, directory, err) < 0)
		return NULL;
	m = load_message(&dirs, found->id, found->ref, err);
	dirs_close(&dirs);
	for (unsigned i = 0; m != NULL && i < m->n_rcpts; i++)
		if (i < found->n_rcpts)
			m->rcpts[i].state = found->rcpts[i].state;
	return m;
}

int inspect_read_large(const char *directory, const struct message *m,
    uint64_t offset, size_t len, struct body *out, struct err *err)
{
	struct spool_dirs dirs;
	int rc;

	if (dirs_open_read(&dirs, directory, err) < 0)
		return -1;
	rc = load_large(&dirs, m->id, offset, len, out, err);
	dirs_close(&dirs);
	return rc;
}
