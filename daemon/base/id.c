/*
 * Queue ids that only ever grow.
 *
 * Owns the highest id given so far; loop thread only.  0 is never given: it
 * stands for "no message" in the log.
 */
#include "base/id.h"

static uint64_t last;

void id_init(uint64_t floor)
{
	last = floor;
}

uint64_t id_new(int64_t wall_us)
{
	uint64_t id = wall_us > 0 ? (uint64_t)wall_us : 0;

	ASSERT(last < UINT64_MAX);
	last = id > last ? id : last + 1;
	return last;
}

uint64_t id_last(void)
{
	return last;
}

const char *id_format(uint64_t id, char buf[ID_BUF])
{
	static const char digits[] = "0123456789ABCDEF";

	for (int i = ID_LEN - 1; i >= 0; i--, id >>= 4)
		buf[i] = digits[id & 15];
	buf[ID_LEN] = '\0';
	return buf;
}

int id_parse(struct slice text, uint64_t *id)
{
	if (text.len != ID_LEN)
		return -1;
	return slice_parse_hex(text, id);
}
