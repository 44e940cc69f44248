/*
 * load_reply.c - strict reader of SMTP replies.
 *
 * Replies may come in any pieces and several at once. Every line must end
 * with CR LF, start with a code from 200 to 599 followed by nothing, a space
 * or a hyphen, hold no control characters, and have the code of the lines
 * before it in the same reply. Anything else is a malformed reply: the server
 * is under test as well.
 */
#include <string.h>
#include <strings.h>

#include "load.h"

void reader_reset(struct reader *reader)
{
	reader->used = reader->size = 0;
	reader->code = 0;
	reader->pipelining = false;
}

/* The code of a line without its CR LF, or -1 when it is malformed. */
static int line_code(const char *line, size_t length)
{
	size_t i;

	if (length < 3 || line[0] < '2' || line[0] > '5')
		return -1;
	for (i = 1; i < 3; i++)
		if (line[i] < '0' || line[i] > '9')
			return -1;
	if (length > 3 && line[3] != ' ' && line[3] != '-')
		return -1;
	for (i = 4; i < length; i++)
		if (((unsigned char)line[i] < ' ' && line[i] != '\t') ||
		    line[i] == 0x7f)
			return -1;
	return (line[0] - '0') * 100 + (line[1] - '0') * 10 + line[2] - '0';
}

/*
 * Takes the next whole reply: 1 with the reply, whose text stays until more
 * is read; 0 when more must be read first; -1 when it is malformed.
 */
int reader_next(struct reader *reader, struct reply *reply)
{
	const char *line, *end;
	size_t length;
	int code;

	for (;;) {
		line = reader->buf + reader->used;
		length = reader->size - reader->used;
		end = length ? memchr(line, '\n', length) : NULL;
		if (!end)
			break;
		length = (size_t)(end - line);
		reader->used += length + 1;
		if (!length || line[--length] != '\r')
			return -1;
		code = line_code(line, length);
		if (code < 0 || (reader->code && code != reader->code))
			return -1;
		if (length == 14 && !strncasecmp(line + 4, "PIPELINING", 10))
			reader->pipelining = true;
		reader->code = code;
		if (length > 3 && line[3] == '-')
			continue;
		reader->code = 0;
		reply->code = code;
		reply->text = length > 4 ? line + 4 : end;
		reply->length = length > 4 ? length - 4 : 0;
		return 1;
	}
	if (length == sizeof(reader->buf))
		return -1;
	memmove(reader->buf, line, length);
	reader->used = 0;
	reader->size = length;
	return 0;
}

static bool is_junk(char c)
{
	return c == ' ' || c == '\t' || c == '<' || c == '>' || c == ';' ||
	    c == ',' || c == '.' || c == '(' || c == ')';
}

/*
 * Finds the queue id in the reply to the final dot: the word after "queued
 * as", or else the last word; "-" when there is none.
 */
size_t queue_id(const struct reply *reply, char *out, size_t room)
{
	static const char mark[] = "queued as ";
	const char *text = reply->text, *end = text + reply->length;
	const char *from, *to, *found = NULL;
	size_t size = sizeof(mark) - 1;

	for (from = text; (size_t)(end - from) > size && !found; from++)
		if (!strncasecmp(from, mark, size))
			found = from + size;
	if (found) {
		from = found;
		while (from < end && is_junk(*from))
			from++;
		for (to = from; to < end && *to != ' ' && *to != '\t';)
			to++;
		while (to > from && is_junk(to[-1]))
			to--;
	} else {
		for (to = end; to > text && is_junk(to[-1]);)
			to--;
		for (from = to;
		     from > text && from[-1] != ' ' && from[-1] != '\t';)
			from--;
		while (from < to && is_junk(*from))
			from++;
	}
	if (from == to)
		return (size_t)(stpcpy(out, "-") - out);
	if ((size_t)(to - from) > room - 1)
		to = from + room - 1;
	memcpy(out, from, (size_t)(to - from));
	out[to - from] = '\0';
	return (size_t)(to - from);
}
