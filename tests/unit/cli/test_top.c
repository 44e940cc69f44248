/*
 * The screen of `sesrelayctl top`: what is on it at which size, and that no line
 * is ever wider than the terminal, nor the whole higher.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/clock.h"
#include "cli/top.h"

#include <stdlib.h>
#include <string.h>

static const char answer_text[] =
    "{\"version\":\"0.1.0\",\"uptime_seconds\":93784,"
    "\"upstream\":{\"state\":\"ok\",\"endpoint\":\"email.example\","
    "\"port\":587,\"rate_limit\":{\"recipients_per_second\":12.4,"
    "\"source\":\"learned\"},\"pool\":{\"max\":20}},"
    "\"paused\":{\"delivery\":false,\"intake\":false,\"draining\":false},"
    "\"queue\":{\"ready\":3,\"active\":1,\"waiting\":8,\"held\":2,"
    "\"bytes\":3400000,\"oldest_age_seconds\":7800},"
    "\"queue_ages\":[{\"below_seconds\":60,\"messages\":4},"
    "{\"below_seconds\":600,\"messages\":5},"
    "{\"below_seconds\":3600,\"messages\":3},"
    "{\"below_seconds\":null,\"messages\":2}],"
    "\"connections\":{\"busy\":2,\"idle\":1,\"connecting\":0},"
    "\"rate\":{\"sent_10s\":9.8,\"accepted_10s\":10.1,\"sent_60s\":7.3,"
    "\"accepted_60s\":7.4},\"sessions\":4,"
    "\"spool\":{\"healthy\":true,\"refusal\":\"\",\"failed\":7}}";

static json_t *answer(unsigned n_connections, unsigned n_errors)
{
	json_t *o = json_loads(answer_text, 0, NULL);
	json_t *connections = json_array(), *errors = json_array();

	assert_non_null(o);
	for (unsigned i = 0; i < n_connections; i++)
		json_array_append_new(connections,
		    json_pack("{s:i,s:s,s:s,s:i,s:i,s:f,s:s,s:f,s:s}", "conn",
			(int)i + 1, "state", i == 0 ? "busy" : "idle",
			"address", "192.0.2.1", "port", 587, "messages_begun",
			9, "age_seconds", 12.0, "doing",
			"waiting for the reply to the final dot",
			"step_seconds", 0.25, "message", "0006543A1B2C3D4E"));
	for (unsigned i = 0; i < n_errors; i++)
		json_array_append_new(errors,
		    json_pack("{s:s,s:i,s:s}", "time",
			"2026-11-21T10:00:01.000000Z", "times", (int)i + 1,
			"text", "454 4.7.0 \x1b[2J too fast"));
	json_object_set_new(o, "connection_list", connections);
	json_object_set_new(o, "errors", errors);
	return o;
}

static struct top_history history;

/* 1 to n a second sent, half of it accepted; the last second is 1000. */
static void fill_history(unsigned n)
{
	json_t *sent = json_array(), *accepted = json_array(), *o;

	top_history_init(&history);
	for (unsigned i = 1; i <= n; i++) {
		json_array_append_new(sent, json_real(i));
		json_array_append_new(accepted, json_real(i / 2.0));
	}
	o = json_pack("{s:i,s:o,s:o}", "second", 1000, "sent", sent, "accepted",
	    accepted);
	top_history_add(&history, o);
	json_decref(o);
}

static struct top_view view_of(json_t *now)
{
	return (struct top_view){ .now = now,
		.history = &history,
		.host = "mx1",
		.clock = "10:00:01",
		.delay_us = US_PER_S };
}

/* Columns: a sequence of the terminal has none, a letter of UTF-8 has one. */
static unsigned columns_of(const char *line)
{
	unsigned n = 0;

	for (; *line != '\0'; line++) {
		if (*line == '\x1b') {
			line = strchr(line, 'm');
			assert_non_null(line);
			continue;
		}
		n += ((unsigned char)*line & 0xc0) != 0x80;
	}
	return n;
}

static void assert_fits(
    const struct top_lines *lines, unsigned width, unsigned height)
{
	assert_int_equal(lines->n, height);
	for (unsigned i = 0; i < lines->n; i++)
		assert_in_range(columns_of(lines->items[i]), 0, width);
}

/* The first line with that text in it; -1: none. */
static int find(const struct top_lines *lines, const char *text)
{
	for (unsigned i = 0; i < lines->n; i++)
		if (strstr(lines->items[i], text) != NULL)
			return (int)i;
	return -1;
}

static void assert_shown(const struct top_lines *lines, const char *text)
{
	if (find(lines, text) >= 0)
		return;
	for (unsigned i = 0; i < lines->n; i++)
		print_message("%s\n", lines->items[i]);
	fail_msg("'%s' is not shown", text);
}

static void test_usual_size(void **state)
{
	json_t *now = answer(3, 2);
	struct top_view view = view_of(now);
	struct top_lines lines;

	(void)state;
	fill_history(60);
	top_layout(&view, 80, 24, &lines);
	assert_fits(&lines, 80, 24);
	assert_string_equal(lines.items[0],
	    "sesrelayd 0.1.0 on mx1, up 1 d 2 h                           "
	    "every 1 s  10:00:01");
	assert_string_equal(
	    lines.items[1], "SES: ok, mail goes out via email.example:587");
	assert_shown(&lines,
	    "Last minute  7.3/s sent, 7.4/s accepted; at most 12.4/s, learned");
	assert_shown(&lines,
	    "Queue        3 ready, 1 active, 8 waiting, 2 held, 7 dead "
	    "letters; 3.4 MB");
	assert_shown(&lines,
	    "Age          4 < 1 min, 5 < 10 min, 3 < 1 h, 2 older; oldest "
	    "2 h 10 min");
	assert_shown(&lines,
	    "Connections  2 busy, 1 idle, 0 connecting; at most 20; 4 local "
	    "sessions");
	assert_shown(&lines, "   1 busy       192.0.2.1:587");
	assert_shown(&lines, "   3 idle");
	assert_shown(&lines, "Errors       Nov 21 ");
	assert_shown(&lines, "2 times 454 4.7.0 \\x1b[2J too fast");
	assert_string_equal(
	    lines.items[23], "q quit  p pause  +/- interval  h help");
	top_lines_free(&lines);
	json_decref(now);
}

/* Everything that matters has its line, and the foot its own. */
static void test_small(void **state)
{
	json_t *now = answer(30, 8);
	struct top_view view = view_of(now);
	struct top_lines lines;

	(void)state;
	fill_history(60);
	top_layout(&view, 40, 10, &lines);
	assert_fits(&lines, 40, 10);
	assert_int_equal(find(&lines, "every 1 s  10:00:01"), 0);
	assert_int_equal(find(&lines, "SES: ok, mail goes out"), 1);
	assert_shown(&lines, "Sent 9.8");
	assert_shown(&lines, "Acce 10.1");
	assert_shown(&lines, "Queue        3 ready, 1 active, 8 waiti>");
	assert_shown(&lines, "Age          4 < 1 min");
	assert_shown(&lines, "Connections  2 busy");
	assert_int_equal(find(&lines, "Errors       Nov 21 "), 8);
	assert_int_equal(find(&lines, "q quit"), 9);
	top_lines_free(&lines);
	json_decref(now);
}

static void test_large(void **state)
{
	json_t *now = answer(200, 8);
	struct top_view view = view_of(now);
	struct top_lines lines;
	int first, errors;

	(void)state;
	fill_history(60);
	top_layout(&view, 200, 60, &lines);
	assert_fits(&lines, 200, 60);
	/* The whole story of a connection. */
	assert_shown(&lines,
	    "waiting for the reply to the final dot for 0.2 s, "
	    "0006543A1B2C3D4E");
	/* All errors; of the connections as many as there is room for. */
	errors = find(&lines, "Errors ");
	assert_true(errors > 0);
	assert_non_null(strstr(lines.items[errors + 7], "8 times"));
	first = find(&lines, "   1 busy");
	assert_true(first > 0 && errors - first > 12);
	assert_non_null(strstr(lines.items[errors - 2], " more"));
	/* Graphs of several rows. */
	assert_true(find(&lines, "Accepted") - find(&lines, "Sent") >= 4);
	top_lines_free(&lines);
	json_decref(now);
}

/* No size, however odd, is too much for it; in colours and without. */
static void test_any_size(void **state)
{
	json_t *now = answer(5, 3);
	struct top_view view = view_of(now);

	(void)state;
	fill_history(60);
	for (unsigned width = 1; width < 150; width += 1 + width / 8)
		for (unsigned height = 1; height < 70; height++) {
			struct top_lines lines;

			view.color = height % 2;
			view.utf8 = width % 2;
			view.help = height % 5 == 4;
			view.trouble = height % 3 == 2 ? "it hangs" : NULL;
			top_layout(&view, width, height, &lines);
			assert_fits(&lines, width, height);
			/* The foot has its place, whatever is above it. */
			if (width >= 10)
				assert_non_null(strstr(lines.items[height - 1],
				    view.help ? "h back" : "q quit"));
			top_lines_free(&lines);
		}
	json_decref(now);
}

static void test_colours_are_but_colours(void **state)
{
	json_t *now = answer(2, 2);
	struct top_view view = view_of(now);
	struct top_lines plain, coloured;

	(void)state;
	fill_history(10);
	top_layout(&view, 80, 24, &plain);
	view.color = true;
	top_layout(&view, 80, 24, &coloured);
	assert_int_equal(find(&plain, "\x1b"), -1);
	assert_true(find(&coloured, "\x1b[32m") >= 0);
	for (unsigned i = 0; i < plain.n; i++)
		assert_int_equal(
		    columns_of(plain.items[i]), columns_of(coloured.items[i]));
	top_lines_free(&plain);
	top_lines_free(&coloured);
	json_decref(now);
}

/* What is shown then is old, and says so. */
static void test_no_answer(void **state)
{
	json_t *now = answer(2, 0);
	struct top_view view = view_of(now);
	struct top_lines lines;

	(void)state;
	fill_history(10);
	view.trouble = "cannot reach the daemon";
	top_layout(&view, 80, 24, &lines);
	assert_string_equal(lines.items[1],
	    "NO ANSWER, what follows is old: cannot reach the daemon");
	assert_shown(&lines, "Queue        3 ready");
	top_lines_free(&lines);
	view.now = NULL;
	top_layout(&view, 80, 24, &lines);
	assert_string_equal(
	    lines.items[1], "NO ANSWER: cannot reach the daemon");
	top_lines_free(&lines);
	json_decref(now);
}

static void test_paused_and_plain(void **state)
{
	json_t *now = answer(0, 0);
	struct top_view view = view_of(now);
	struct top_lines lines;

	(void)state;
	fill_history(10);
	view.paused = true;
	top_layout(&view, 80, 24, &lines);
	assert_non_null(strstr(lines.items[0], "PAUSED 10:00:01"));
	assert_shown(&lines, "Errors       none");
	top_lines_free(&lines);
	view.plain = true;
	top_layout(&view, 80, 40, &lines);
	assert_int_equal(find(&lines, "q quit"), -1);
	assert_in_range(lines.n, 10, 39);
	top_lines_free(&lines);
	json_decref(now);
}

/* --- graphs --- */

static void test_graph(void **state)
{
	static const double values[] = { 0, 1, 4, 8, 12, 16, -1 };
	char *row;

	(void)state;
	row = top_graph_row(values, 7, 16, 0, 2, true);
	assert_string_equal(row, "    \xe2\x96\x84\xe2\x96\x88 ");
	free(row);
	row = top_graph_row(values, 7, 16, 1, 2, true);
	assert_string_equal(row,
	    " \xe2\x96\x81\xe2\x96\x84\xe2\x96\x88\xe2\x96\x88\xe2\x96\x88 ");
	free(row);
	row = top_graph_row(values, 7, 16, 0, 1, false);
	assert_string_equal(row, " __.:# ");
	free(row);
	/* However little, it is not nothing. */
	row = top_graph_row(values + 1, 1, 100000, 0, 1, false);
	assert_string_equal(row, "_");
	free(row);
}

static void test_history_goes_on(void **state)
{
	double out[6];
	json_t *o;

	(void)state;
	fill_history(3); /* of seconds 998, 999, 1000 */
	assert_float_equal(
	    top_history_last(&history, history.sent, 4, out), 3, 0.01);
	assert_true(out[0] < 0);
	assert_float_equal(out[1], 1, 0.01);
	assert_float_equal(out[3], 3, 0.01);
	/* The same second again changes nothing; a gap stays one. */
	o = json_pack("{s:i,s:[f,f],s:[f,f]}", "second", 1003, "sent", 8.0, 9.0,
	    "accepted", 1.0, 1.0);
	top_history_add(&history, o);
	top_history_add(&history, o);
	(void)top_history_last(&history, history.sent, 6, out);
	assert_float_equal(out[0], 1, 0.01);
	assert_float_equal(out[2], 3, 0.01);
	assert_true(out[3] < 0);
	assert_float_equal(out[4], 8, 0.01);
	assert_float_equal(out[5], 9, 0.01);
	json_decref(o);
	/* A clock that begins anew: another machine's life. */
	o = json_pack(
	    "{s:i,s:[f],s:[f]}", "second", 5, "sent", 4.0, "accepted", 1.0);
	top_history_add(&history, o);
	(void)top_history_last(&history, history.sent, 3, out);
	assert_float_equal(out[2], 4, 0.01);
	json_decref(o);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_usual_size),
		cmocka_unit_test(test_small),
		cmocka_unit_test(test_large),
		cmocka_unit_test(test_any_size),
		cmocka_unit_test(test_colours_are_but_colours),
		cmocka_unit_test(test_no_answer),
		cmocka_unit_test(test_paused_and_plain),
		cmocka_unit_test(test_graph),
		cmocka_unit_test(test_history_goes_on),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
