/*
 * base/log_format: an event becomes one line whatever a peer sent.
 *
 * Input: a byte for format and target, one for the level, then values, each
 * ending in LF.  Properties: text is one line of visible ASCII; JSON is one
 * line that parses as one object; what goes to the journal is KEY=value lines,
 * each key one of ours; log_escape() is visible, bounded, and as long as it
 * says.
 */
#include "fuzz.h"

#include "base/log_private.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#define N_VALUES 6

static void check_line(struct slice line, enum log_format format)
{
	char *copy = slice_dup(line);

	PROPERTY(memchr(line.ptr, '\n', line.len) == NULL);
	if (format == LOG_FORMAT_TEXT) {
		PROPERTY(fuzz_is_printable(line.ptr, line.len));
	} else {
		const char *start = strchr(copy, '{');
		json_t *json =
		    start != NULL ? json_loads(start, 0, NULL) : NULL;

		PROPERTY(json_is_object(json));
		json_decref(json);
	}
	free(copy);
}

static void check_journal(struct slice text, enum log_format format)
{
	PROPERTY(text.len > 0 && text.ptr[text.len - 1] == '\n');
	for (unsigned n = 0; text.len > 0; n++) {
		struct slice value = slice_split(&text, '\n');
		struct slice key = slice_split(&value, '=');

		PROPERTY(key.len > 0);
		PROPERTY(slice_has_prefix(key, "SYSLOG_") ||
		    slice_has_prefix(key, "SESRELAYD_") ||
		    slice_eq_str(key, "PRIORITY") ||
		    slice_eq_str(key, "QUEUE_ID") ||
		    slice_eq_str(key, "MESSAGE"));
		for (size_t i = 0; i < key.len; i++)
			PROPERTY(key.ptr[i] == '_' ||
			    (key.ptr[i] >= 'A' && key.ptr[i] <= 'Z') ||
			    (key.ptr[i] >= '0' && key.ptr[i] <= '9'));
		if (slice_eq_str(key, "MESSAGE"))
			check_line(value, format);
		else
			PROPERTY(fuzz_is_printable(value.ptr, value.len));
	}
}

static void check_entry(const struct log_entry *entry, uint8_t flags)
{
	enum log_format format = flags & 1 ? LOG_FORMAT_JSON : LOG_FORMAT_TEXT;
	enum log_frame frame = (enum log_frame)((flags >> 1) % 5);
	static struct log_text out;

	log_format_entry(entry, format, frame, "host", &out);
	PROPERTY(out.len < sizeof(out.buf) && strlen(out.buf) == out.len);
	if (frame == LOG_FRAME_JOURNAL) {
		check_journal(slice_of(out.buf, out.len), format);
		return;
	}
	if (frame == LOG_FRAME_STREAM || frame == LOG_FRAME_PRIORITY) {
		PROPERTY(out.len > 0 && out.buf[out.len - 1] == '\n');
		out.len--;
	}
	check_line(slice_of(out.buf, out.len), format);
}

static void check_escape(const char *in, size_t len)
{
	char small[8], large[4096];
	size_t n;

	log_escape(in, len, small, sizeof(small));
	PROPERTY(strlen(small) < sizeof(small));
	n = strlen(log_escape(in, len, large, sizeof(large)));
	PROPERTY(fuzz_is_printable(large, n));
	PROPERTY(n >= len || n >= sizeof(large) - 4);
	PROPERTY(strncmp(small, large, strlen(small)) == 0);
}

static bool is_number(enum log_style style)
{
	return style == LOG_NUMBER || style == LOG_HIDDEN_NUMBER;
}

/* Numbers are ours; jansson's are of 64 bits. */
static void make_small(char *number)
{
	if (strlen(number) > 15)
		number[15] = '\0';
	for (char *p = number; *p != '\0'; p++)
		if (*p == 'e' || *p == 'E')
			*p = '0';
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const enum log_style styles[] = { LOG_PLAIN, LOG_ANGLE,
		LOG_NUMBER, LOG_NOTE, LOG_HIDDEN, LOG_HIDDEN_NUMBER };
	struct fuzz_in in = { data, size };
	uint8_t flags = fuzz_byte(&in), level = fuzz_byte(&in);
	struct log_field fields[N_VALUES + 1] = { { LOG_END, NULL, NULL } };
	char *values[N_VALUES];
	struct log_entry entry = {
		.level = (enum log_level)(level % 4),
		.component = (enum log_component)(level / 4 % 7),
		.name = "sesrelayd",
		.event = "event",
		.id = level & 128 ? 0x1234 : LOG_NO_ID,
		.wall_us = INT64_C(1795257601123456),
		.pid = 4711,
	};

	check_escape((const char *)in.ptr, in.len < 1000 ? in.len : 1000);
	for (unsigned i = 0; i < N_VALUES; i++) {
		values[i] = fuzz_string(&in, '\n');
		if (is_number(styles[i]))
			make_small(values[i]);
		fields[i] = (struct log_field){ styles[i], "key", values[i] };
	}
	fields[N_VALUES] = (struct log_field){ LOG_END, NULL, NULL };
	entry.fields = fields;
	check_entry(&entry, flags);
	entry.fields = NULL;
	entry.message = values[0];
	check_entry(&entry, flags);
	for (unsigned i = 0; i < N_VALUES; i++)
		free(values[i]);
	return 0;
}
