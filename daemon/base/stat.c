/*
 * The registry of counters and gauges.
 *
 * Owns their values, one atomic each; any thread may add or read.  Relaxed
 * order is enough: a value says something about itself only.
 */
#include "base/stat.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

static _Atomic int64_t values[STAT_N];

static const struct stat_info table[] = {
#define STAT_ROW(sym, name, labels, kind, help)                                \
	[STAT_##sym] = { name, labels, STAT_##kind, help },
	STAT_TABLE(STAT_ROW)
#undef STAT_ROW
};

void stat_add(enum stat_id id, int64_t delta)
{
	ASSERT(id < STAT_N);
	atomic_fetch_add_explicit(&values[id], delta, memory_order_relaxed);
}

void stat_set(enum stat_id id, int64_t value)
{
	ASSERT(id < STAT_N);
	atomic_store_explicit(&values[id], value, memory_order_relaxed);
}

int64_t stat_get(enum stat_id id)
{
	ASSERT(id < STAT_N);
	return atomic_load_explicit(&values[id], memory_order_relaxed);
}

void stat_add_rejected(int code)
{
	char labels[32];
	int id = STAT_MESSAGES_REJECTED_421;

	snprintf(labels, sizeof labels, "code=\"%d\"", code);
	while (id < STAT_MESSAGES_REJECTED_other &&
	    strcmp(table[id].labels, labels) != 0)
		id++;
	stat_add((enum stat_id)id, 1);
}

const struct stat_info *stat_info(enum stat_id id)
{
	ASSERT(id < STAT_N);
	return &table[id];
}

void stat_reset(void)
{
	for (int i = 0; i < STAT_N; i++)
		stat_set((enum stat_id)i, 0);
}
