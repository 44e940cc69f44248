/*
 * What the service manager is told of the state, and when the watchdog hears
 * of us.
 */
#include "service.h"

#include "base/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#define MINUTE (60 * US_PER_S)
#define HOUR (60 * MINUTE)

static void test_state_in_one_line(void **state)
{
	static const struct {
		struct service_facts facts;
		const char *text;
	} rows[] = {
		{ { .queued = 0 }, "Relaying; 0 queued, upstream ok" },
		{ { .queued = 3, .waiting = 1, .oldest_us = 12 * MINUTE },
		    "Relaying; 3 queued, 1 deferred (oldest 12m), "
		    "upstream ok" },
		{ { .queued = 1,
		      .held = 1,
		      .oldest_us = 59 * US_PER_S,
		      .upstream = UPSTREAM_CREDENTIALS },
		    "Relaying; 1 queued, 1 held (oldest under 1m), "
		    "upstream credentials refused" },
		{ { .queued = 2, .oldest_us = 3 * HOUR - 1 },
		    "Relaying; 2 queued (oldest 2h), upstream ok" },
		{ { .queued = 2,
		      .oldest_us = 49 * HOUR,
		      .upstream = UPSTREAM_UNREACHABLE,
		      .scanning = true },
		    "Relaying, the spool is being read; 2 queued "
		    "(oldest 2d), upstream unreachable" },
		{ { .draining = true, .intake_paused = true },
		    "Draining; 0 queued, upstream ok, intake paused" },
		{ { .stopping = true, .draining = true },
		    "Finishing what is under way; 0 queued, upstream ok" },
		{ { .spool_trouble = "no space left" },
		    "Relaying; 0 queued, upstream ok, spool: no space left" },
	};
	char buf[SERVICE_TEXT_MAX];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		assert_string_equal(
		    service_text(&rows[i].facts, buf), rows[i].text);
}

static void test_a_long_state_is_cut(void **state)
{
	char trouble[2 * SERVICE_TEXT_MAX], buf[SERVICE_TEXT_MAX];
	struct service_facts facts = { .spool_trouble = trouble };

	(void)state;
	memset(trouble, 'x', sizeof trouble - 1);
	trouble[sizeof trouble - 1] = '\0';
	assert_int_equal(
	    strlen(service_text(&facts, buf)), SERVICE_TEXT_MAX - 1);
}

/* A disk that hangs must not look alive; one that is slow must not be taken
 * for one that hangs. */
static void test_who_may_live(void **state)
{
	static const struct {
		unsigned stalled;
		int64_t alive_us;
		bool may_live;
	} rows[] = {
		{ 0, 30 * US_PER_S, true },
		{ 1, 30 * US_PER_S, true },
		{ 29, 30 * US_PER_S, true },
		{ 30, 30 * US_PER_S, false },
		{ 1000, 30 * US_PER_S, false },
		/* Asked once a second: one may always be under way. */
		{ 1, US_PER_S / 2, true },
		{ 2, US_PER_S / 2, false },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		assert_int_equal(
		    service_may_live(rows[i].stalled, rows[i].alive_us),
		    rows[i].may_live);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_state_in_one_line),
		cmocka_unit_test(test_a_long_state_is_cut),
		cmocka_unit_test(test_who_may_live),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
