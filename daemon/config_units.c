/*
 * Durations and sizes as people write them: a number and a unit.
 *
 * Pure; any thread.  What is formatted here parses to the same value.
 */
#include "config_private.h"

#include "base/slice.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

struct unit {
	const char *name;
	uint64_t amount;
	uint64_t least; /* formatting: only for so many of them */
};

/* Largest first.  Two minutes and up: people say 60s, not 1m. */
static const struct unit durations[] = {
	{ "d", UINT64_C(86400000000), 1 },
	{ "h", UINT64_C(3600000000), 1 },
	{ "m", 60000000, 2 },
	{ "s", 1000000, 1 },
	{ "ms", 1000, 1 },
};

static const struct unit sizes[] = {
	{ "T", UINT64_C(1000000000000), 1 },
	{ "G", 1000000000, 1 },
	{ "M", 1000000, 1 },
	{ "K", 1000, 1 },
	{ "Ti", UINT64_C(1) << 40, 1 },
	{ "Gi", 1 << 30, 1 },
	{ "Mi", 1 << 20, 1 },
	{ "Ki", 1 << 10, 1 },
};

/* "10m": digits and one of the units, nothing else. */
static int parse(
    const char *text, const struct unit *units, size_t n, uint64_t *value)
{
	size_t digits = strspn(text, "0123456789");
	uint64_t count;

	if (slice_parse_u64(slice_of(text, digits), &count) < 0)
		return -1;
	for (size_t i = 0; i < n; i++) {
		if (strcmp(text + digits, units[i].name) != 0)
			continue;
		if (__builtin_mul_overflow(count, units[i].amount, value) ||
		    *value > INT64_MAX)
			return -1;
		return 0;
	}
	return -1;
}

static bool format(
    uint64_t value, const struct unit *units, size_t n, char *buf, size_t size)
{
	for (size_t i = 0; i < n; i++) {
		uint64_t count = value / units[i].amount;

		if (value % units[i].amount != 0 || count < units[i].least)
			continue;
		snprintf(buf, size, "\"%" PRIu64 "%s\"", count, units[i].name);
		return true;
	}
	return false;
}

int config_parse_duration(const char *text, int64_t *us)
{
	uint64_t value;

	if (parse(text, durations, ARRAY_LEN(durations), &value) < 0)
		return -1;
	*us = (int64_t)value;
	return 0;
}

int config_parse_size(const char *text, uint64_t *bytes)
{
	return parse(text, sizes, ARRAY_LEN(sizes), bytes);
}

const char *config_format_duration(int64_t us, char *buf, size_t size)
{
	if (!format((uint64_t)us, durations, ARRAY_LEN(durations), buf, size))
		snprintf(buf, size, "0");
	return buf;
}

const char *config_format_size(uint64_t bytes, char *buf, size_t size)
{
	/* libconfig 1.5 needs the L to read more than 32 bits. */
	if (!format(bytes, sizes, ARRAY_LEN(sizes), buf, size))
		snprintf(buf, size, "%" PRIu64 "%s", bytes,
		    bytes > INT32_MAX ? "L" : "");
	return buf;
}
