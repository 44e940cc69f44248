/*
 * The spool clock: its line, and how it goes on after a restart.
 *
 * Pure; any thread.  The line is of fixed width: it is decoded field by field,
 * encoded again and compared, so that only the exact form passes.
 */
#include "queue/spool_clock.h"

#include "base/clock.h"
#include "queue/record.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define MAGIC "sesrelayd-clock 1 "
#define DECIMAL_LEN 20
#define CHECK_LEN 16
#define NO_BOOT "000000000000000000000000000000000000"
/* A machine that was off for longer has a wall clock that was wrong. */
#define OFF_MAX_US (30 * 86400 * US_PER_S)
/* Times beyond are nobody's; sums of two stay in range. */
#define TIME_MAX (INT64_MAX / 4)

static uint64_t positive(int64_t us)
{
	return us > 0 ? (uint64_t)us : 0;
}

void spool_clock_encode(
    const struct spool_clock *c, char buf[SPOOL_CLOCK_LEN + 1])
{
	int n = snprintf(buf, SPOOL_CLOCK_LEN + 1,
	    MAGIC "%020" PRIu64 " %020" PRIu64 " %s %020" PRIu64 " ",
	    positive(c->wall_us), positive(c->boot_us), c->boot_id,
	    positive(c->spool_us));

	ASSERT(n == SPOOL_CLOCK_LEN - CHECK_LEN - 1);
	snprintf(buf + n, CHECK_LEN + 2, "%016" PRIx64 "\n",
	    record_sum(buf, (size_t)n));
}

static int64_t get_time(const char **p)
{
	uint64_t value = 0;

	if (slice_parse_u64(slice_of(*p, DECIMAL_LEN), &value) < 0 ||
	    value > TIME_MAX)
		value = 0;
	*p += DECIMAL_LEN + 1;
	return (int64_t)value;
}

int spool_clock_decode(struct slice text, struct spool_clock *c)
{
	char again[SPOOL_CLOCK_LEN + 1];
	const char *p = text.ptr + strlen(MAGIC);

	*c = (struct spool_clock){ 0 };
	if (text.len != SPOOL_CLOCK_LEN)
		return -1;
	c->wall_us = get_time(&p);
	c->boot_us = get_time(&p);
	spool_clock_set_boot(c, slice_of(p, SPOOL_CLOCK_BOOT_LEN));
	p += SPOOL_CLOCK_BOOT_LEN + 1;
	c->spool_us = get_time(&p);
	spool_clock_encode(c, again);
	return memcmp(again, text.ptr, SPOOL_CLOCK_LEN) == 0 ? 0 : -1;
}

void spool_clock_set_boot(struct spool_clock *c, struct slice text)
{
	bool ok = text.len == SPOOL_CLOCK_BOOT_LEN;

	for (size_t i = 0; ok && i < text.len; i++)
		ok = strchr("0123456789abcdef-", text.ptr[i]) != NULL &&
		    text.ptr[i] != '\0';
	memcpy(c->boot_id, ok ? text.ptr : NO_BOOT, SPOOL_CLOCK_BOOT_LEN);
	c->boot_id[SPOOL_CLOCK_BOOT_LEN] = '\0';
}

static bool same_boot(const struct spool_clock *a, const struct spool_clock *b)
{
	return strcmp(a->boot_id, b->boot_id) == 0 &&
	    strcmp(a->boot_id, NO_BOOT) != 0;
}

void spool_clock_go_on(const struct spool_clock *last, struct spool_clock *now)
{
	int64_t passed;

	if (last == NULL) {
		/* 0 would stand for "not known" in an arrival. */
		now->spool_us = now->wall_us > 0 ? now->wall_us : 1;
		return;
	}
	if (same_boot(last, now) && now->boot_us >= last->boot_us) {
		passed = now->boot_us - last->boot_us;
	} else {
		passed = now->wall_us - last->wall_us;
		if (passed < 0 || passed > OFF_MAX_US)
			passed = 0;
	}
	now->spool_us = last->spool_us + passed;
}

int64_t spool_clock_at(const struct spool_clock *c, int64_t boot_us)
{
	int64_t passed = boot_us - c->boot_us;

	return c->spool_us + (passed > 0 ? passed : 0);
}
