/*
 * The search of `trace`, in four phases: outcomes tell which ids belong to the
 * text, dead letters and arrivals tell more of them, and then the outcomes of
 * all these ids are gathered.  Arrivals hold messages that wait, and for a
 * while those that are gone: their envelopes name the recipients.
 *
 * Owns what it found, at most TRACE_MAX messages.  Runs on one thread at a
 * time; heads are read without their content, so a million messages are some
 * seconds.
 */
#include "queue/trace.h"

#include "base/file.h"
#include "base/mem.h"
#include "queue/spool_private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define STEP_LETTERS 200
#define STEP_RECORDS 20000
#define FIRST_READ 1024
#define LINES_MAX 10000

enum phase { SEARCH, LETTERS, ARRIVALS, GATHER, DONE };

struct line {
	uint64_t id;
	int64_t time_us;
	size_t found_at; /* counted */
	char *text; /* an outcome line, or NULL: the letter */
	size_t len;
	struct inspect_letter letter;
};

struct trace {
	char *directory;
	char *text; /* without <> */
	struct record_buf escaped; /* the text as an outcome has it */
	uint64_t id; /* the text is a queue id; or 0 */
	enum phase phase;
	bool listed; /* what this phase walks over */
	struct spool_dirs dirs;
	struct spool_numbers numbers;
	struct inspect_names names;
	size_t next;
	uint64_t pos; /* in the arrivals segment */
	struct idmap wanted; /* ids found */
	struct trace_found *found;
	struct message **messages; /* of found, the same index */
	size_t n_found;
	struct line *lines;
	size_t n_lines, lines_size;
	char *problem;
};

struct trace *trace_new(const char *directory, const char *text)
{
	struct trace *t = xcalloc(1, sizeof(*t));
	size_t len = strlen(text);

	if (len > 2 && text[0] == '<' && text[len - 1] == '>')
		t->text = xstrndup(text + 1, len - 2);
	else
		t->text = xstrdup(text);
	t->directory = xstrdup(directory);
	record_escape_word(&t->escaped, slice_str(t->text), 512);
	dirs_init(&t->dirs);
	if (id_parse(slice_str(t->text), &t->id) < 0)
		t->id = 0;
	return t;
}

static void forget_list(struct trace *t)
{
	free(t->numbers.items);
	t->numbers = (struct spool_numbers){ 0 };
	inspect_names_fini(&t->names);
	t->next = 0;
	t->pos = 0;
	t->listed = false;
}

void trace_free(struct trace *t)
{
	if (t == NULL)
		return;
	forget_list(t);
	dirs_close(&t->dirs);
	for (size_t i = 0; i < t->n_found; i++)
		message_free(t->messages[i]);
	for (size_t i = 0; i < t->n_lines; i++) {
		free(t->lines[i].text);
		inspect_letter_fini(&t->lines[i].letter);
	}
	free(t->lines);
	free(t->messages);
	free(t->found);
	idmap_fini(&t->wanted);
	record_buf_fini(&t->escaped);
	free(t->problem);
	free(t->directory);
	free(t->text);
	free(t);
}

static void complain(struct trace *t, const char *what)
{
	if (t->problem == NULL)
		t->problem = xstrdup(what);
}

/* --- what was found --- */

static bool is_wanted(const struct trace *t, uint64_t id)
{
	return idmap_get(&t->wanted, id, NULL);
}

static void want(struct trace *t, uint64_t id)
{
	if (is_wanted(t, id))
		return;
	if (t->n_found == TRACE_MAX) {
		complain(t, "too many messages match; these are the first");
		return;
	}
	idmap_put(&t->wanted, id, t->n_found);
	t->found = xrealloc(t->found, (t->n_found + 1) * sizeof(t->found[0]));
	t->messages =
	    xrealloc(t->messages, (t->n_found + 1) * sizeof(struct message *));
	t->found[t->n_found] = (struct trace_found){ .id = id };
	t->messages[t->n_found++] = NULL;
}

static struct line *add_line(struct trace *t, uint64_t id, int64_t time_us)
{
	if (t->n_lines == t->lines_size) {
		t->lines_size = t->lines_size > 0 ? 2 * t->lines_size : 16;
		t->lines =
		    xrealloc(t->lines, t->lines_size * sizeof(t->lines[0]));
	}
	t->lines[t->n_lines] = (struct line){
		.id = id, .time_us = time_us, .found_at = t->n_lines
	};
	return &t->lines[t->n_lines++];
}

/* Takes the message. */
static void keep_message(struct trace *t, struct message *m)
{
	uint64_t i;

	if (!idmap_get(&t->wanted, m->id, &i)) {
		message_free(m);
		return;
	}
	message_free(t->messages[i]);
	t->messages[i] = m;
}

/* --- outcomes --- */

/* "250 Ok 0100018f-..." */
static bool names_ses_id(const struct trace *t, struct slice reply)
{
	struct slice rest = reply;

	if (!slice_has_prefix(reply, "250 Ok "))
		return false;
	(void)slice_word(&rest);
	(void)slice_word(&rest);
	return slice_eq(
	    slice_word(&rest), slice_of(t->escaped.data, t->escaped.len));
}

static void search_outcome(
    struct trace *t, const struct record_outcome *o, struct slice line)
{
	(void)line;
	if (o->id == t->id ||
	    (o->message_id.len > 0 &&
		slice_eq(o->message_id,
		    slice_of(t->escaped.data, t->escaped.len))) ||
	    names_ses_id(t, o->reply))
		want(t, o->id);
}

static void gather_outcome(
    struct trace *t, const struct record_outcome *o, struct slice line)
{
	struct line *kept;

	if (!is_wanted(t, o->id))
		return;
	if (t->n_lines == LINES_MAX) {
		complain(t, "too many outcomes; these are the first");
		return;
	}
	kept = add_line(t, o->id, o->time_us);
	kept->text = xmemdup(line.ptr, line.len);
	kept->len = line.len;
}

static void read_outcomes(struct trace *t, uint32_t number,
    void (*fn)(
	struct trace *t, const struct record_outcome *o, struct slice line))
{
	struct record_outcome o;
	struct segment_item item;
	struct segment_reader r;

	if (segment_open(&r, t->dirs.outcomes, RECORD_OUTCOMES, number, NULL) <
	    0)
		return; /* it was removed meanwhile */
	for (;;) {
		segment_next_line(&r, &item);
		if (item.kind == SEGMENT_END || item.kind == SEGMENT_TORN)
			break;
		if (item.kind == SEGMENT_LINE &&
		    record_decode_outcome(item.text, &o) == 0 &&
		    o.event != RECORD_OTHER)
			fn(t, &o, item.text);
	}
	if (r.unreadable)
		complain(t, "some outcomes cannot be read");
	segment_close(&r);
}

/* --- dead letters --- */

static void look_at_letter(struct trace *t, const char *name)
{
	struct inspect_letter letter;
	uint64_t id;
	bool by_id;

	if (inspect_letter_id(name, &id) < 0)
		return;
	by_id = id == t->id || is_wanted(t, id);
	if (!by_id && t->id != 0)
		return;
	inspect_letter_read(t->directory, name, &letter);
	if (by_id ||
	    (letter.message != NULL && letter.message->message_id != NULL &&
		strcmp(letter.message->message_id, t->text) == 0))
		want(t, id);
	if (is_wanted(t, id) && t->n_lines < LINES_MAX)
		add_line(t, id, letter.time_us)->letter = letter;
	else
		inspect_letter_fini(&letter);
}

static void step_letters(struct trace *t)
{
	for (unsigned i = 0; i < STEP_LETTERS && t->next < t->names.n; i++)
		look_at_letter(t, t->names.items[t->next++]);
}

/* --- arrivals --- */

static void look_at_record(struct trace *t, int fd,
    const struct record_line *line, const char *buf, size_t len)
{
	bool by_id = line->id == t->id || is_wanted(t, line->id);
	struct message *m;

	/* A queue id is of one message, and needs no look at the others. */
	if (!by_id && t->id != 0)
		return;
	m = head_decode(fd, line, buf, len, NULL);
	if (m == NULL)
		return;
	if (!by_id && strcmp(m->message_id, t->text) != 0) {
		message_free(m);
		return;
	}
	want(t, m->id);
	keep_message(t, m);
}

/* Past damage; 0: there is nothing behind it. */
static uint64_t skip_damage(struct trace *t, uint32_t number, uint64_t pos)
{
	struct segment_reader r;
	struct segment_item item;
	uint64_t next = 0;

	if (segment_open(&r, t->dirs.arrivals, RECORD_ARRIVALS, number, NULL) <
	    0)
		return 0;
	r.pos = pos;
	if (pos < r.size) {
		segment_next(&r, false, &item);
		if (item.kind == SEGMENT_DAMAGE || item.kind == SEGMENT_RECORD)
			next = r.pos;
	}
	segment_close(&r);
	return next > pos ? next : 0;
}

/* Up to STEP_RECORDS of the present segment. */
static void step_arrivals(struct trace *t)
{
	uint32_t number = t->numbers.items[t->next];
	char name[SEGMENT_NAME_BUF], buf[FIRST_READ];
	struct record_line line = { 0 };
	struct spool_ref ref = { .segment = number };
	size_t len;
	int fd =
	    file_open_read(t->dirs.arrivals, segment_name(number, name), NULL);

	if (t->pos == 0)
		t->pos = RECORD_HEADER_LEN;
	for (unsigned i = 0; fd >= 0 && i < STEP_RECORDS; i++) {
		ref.offset = (uint32_t)t->pos;
		if (head_read_line(
			fd, ref, &line, buf, sizeof(buf), &len, NULL) == 0) {
			look_at_record(t, fd, &line, buf, len);
			t->pos += record_total(&line);
			continue;
		}
		t->pos = skip_damage(t, number, t->pos);
		if (t->pos == 0)
			break;
	}
	if (fd < 0)
		t->pos = 0; /* it was removed meanwhile */
	else
		close(fd);
	if (t->pos == 0)
		t->next++;
}

/* --- steps --- */

static int list(struct trace *t, struct err *err)
{
	struct spool_notes notes = { 0 };
	int rc = 0;

	if (t->dirs.top < 0)
		rc = dirs_open_read(&t->dirs, t->directory, err);
	if (rc == 0 && t->phase == LETTERS)
		rc = inspect_letter_names(t->directory, &t->names, err);
	else if (rc == 0 && t->phase == ARRIVALS)
		rc = dirs_segments(
		    t->dirs.arrivals, "arrivals", &t->numbers, &notes, err);
	else if (rc == 0)
		rc = dirs_segments(
		    t->dirs.outcomes, "outcomes", &t->numbers, &notes, err);
	spool_notes_fini(&notes);
	return rc;
}

static int compare_lines(const void *a, const void *b)
{
	const struct line *x = a, *y = b;

	if (x->time_us != y->time_us)
		return x->time_us > y->time_us ? 1 : -1;
	/* What was sent comes before the letter about the others; else in the
	 * order of the file. */
	if ((x->text == NULL) != (y->text == NULL))
		return x->text == NULL ? 1 : -1;
	return (x->found_at > y->found_at) - (x->found_at < y->found_at);
}

static int compare_found(const void *a, const void *b)
{
	const struct trace_found *x = a, *y = b;

	return (x->id > y->id) - (x->id < y->id);
}

static void finish(struct trace *t)
{
	if (t->n_lines > 1)
		qsort(t->lines, t->n_lines, sizeof(t->lines[0]), compare_lines);
	for (size_t i = 0; i < t->n_found; i++)
		t->found[i].message = t->messages[i];
	if (t->n_found > 1)
		qsort(t->found, t->n_found, sizeof(t->found[0]), compare_found);
}

static bool next_phase(struct trace *t)
{
	forget_list(t);
	t->phase++;
	if (t->phase == DONE)
		finish(t);
	return t->phase != DONE;
}

bool trace_step(struct trace *t)
{
	struct err err;

	if (t->phase == DONE)
		return false;
	if (!t->listed && list(t, &err) < 0) {
		complain(t, err.text);
		return next_phase(t);
	}
	t->listed = true;
	if (t->next == (t->phase == LETTERS ? t->names.n : t->numbers.n))
		return next_phase(t);
	if (t->phase == SEARCH)
		read_outcomes(t, t->numbers.items[t->next++], search_outcome);
	else if (t->phase == LETTERS)
		step_letters(t);
	else if (t->phase == ARRIVALS)
		step_arrivals(t);
	else
		read_outcomes(t, t->numbers.items[t->next++], gather_outcome);
	return true;
}

/* --- what it found --- */

size_t trace_n_found(const struct trace *t)
{
	return t->n_found;
}

struct trace_found trace_get(const struct trace *t, size_t i)
{
	ASSERT(t->phase == DONE && i < t->n_found);
	return t->found[i];
}

void trace_each(struct trace *t, size_t i,
    void (*fn)(void *ctx, const struct trace_event *event), void *ctx)
{
	uint64_t id = trace_get(t, i).id;

	for (size_t k = 0; k < t->n_lines; k++) {
		const struct line *line = &t->lines[k];
		struct trace_event event = { .time_us = line->time_us };

		if (line->id != id)
			continue;
		if (line->text == NULL) {
			event.kind = TRACE_LETTER;
			event.letter = &line->letter;
			fn(ctx, &event);
		} else if (record_decode_outcome(
			       slice_of(line->text, line->len),
			       &event.outcome) == 0) {
			event.kind = TRACE_OUTCOME;
			fn(ctx, &event);
		}
	}
}

const char *trace_problem(const struct trace *t)
{
	return t->problem;
}
