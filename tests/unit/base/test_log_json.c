/*
 * JSON lines, as a JSON parser sees them: the same fields, valid whatever a
 * peer sent.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "capture.h"

#include <jansson.h>
#include <string.h>

#define ID UINT64_C(0x0006543A1B2C3D4E)

static json_t *captured_json(void)
{
	json_error_t error;
	json_t *root = json_loads(captured, JSON_REJECT_DUPLICATES, &error);

	if (!root)
		fail_msg("%s: %s", error.text, captured);
	return root;
}

static void assert_member(json_t *root, const char *key, const char *value)
{
	json_t *member = json_object_get(root, key);

	assert_true(json_is_string(member));
	assert_string_equal(json_string_value(member), value);
}

static void test_json_has_the_same_fields(void **state)
{
	const struct log_field fields[] = {
		{ LOG_ANGLE, "to", "u@example.net" },
		{ LOG_ANGLE, "orig_to", NULL },
		{ LOG_NUMBER, "delay", "0.42" },
		{ LOG_NUMBER, "conn", "17" },
		{ LOG_HIDDEN, "ses_id", "0100018f" },
		{ LOG_NOTE, "reply", "250 Ok \"x\" \\ \n \xc3\xa4" },
		{ LOG_END, NULL, NULL },
	};
	json_t *root;

	(void)state;
	capture_init(LOG_FORMAT_JSON, LOG_LEVEL_INFO, "sesrelayd");
	log_event(LOG_LEVEL_INFO, LOG_SMTP, "sent", ID, fields);
	assert_null(strchr(captured, '\n'));
	root = captured_json();
	assert_int_equal(json_object_size(root), 10);
	assert_member(root, "time", "2026-11-21T10:00:01.123456Z");
	assert_member(root, "level", "info");
	assert_member(root, "component", "smtp");
	assert_member(root, "event", "sent");
	assert_member(root, "id", "0006543A1B2C3D4E");
	assert_member(root, "to", "u@example.net");
	assert_true(json_is_real(json_object_get(root, "delay")));
	assert_int_equal(json_integer_value(json_object_get(root, "conn")), 17);
	assert_member(root, "ses_id", "0100018f");
	assert_member(root, "reply", "250 Ok \"x\" \\ \n \xc3\xa4");
	json_decref(root);

	log_msg(LOG_LEVEL_WARNING, LOG_MASTER, LOG_NO_ID, "a \"%s\"", "b");
	root = captured_json();
	assert_int_equal(json_object_size(root), 5);
	assert_member(root, "level", "warning");
	assert_member(root, "event", "message");
	assert_member(root, "message", "a \"b\"");
	json_decref(root);
}

static void test_json_numbers_are_numbers(void **state)
{
	static const struct {
		const char *value;
		bool number;
	} rows[] = {
		{ "0", true },
		{ "-0", true },
		{ "-12.50", true },
		{ "1e5", true },
		{ "1.5E-3", true },
		{ "1e+3", true },
		{ "", false },
		{ "-", false },
		{ "01", false },
		{ "1.", false },
		{ ".5", false },
		{ "1e", false },
		{ "1e+", false },
		{ "+1", false },
		{ "nan", false },
		{ "inf", false },
		{ "0x10", false },
		{ "1 ", false },
		{ "1,\"x\":2", false },
		{ "111111111111111111111111111111111", false },
	};

	(void)state;
	capture_init(LOG_FORMAT_JSON, LOG_LEVEL_INFO, "sesrelayd");
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		const struct log_field fields[] = {
			{ LOG_NUMBER, "n", rows[i].value },
			{ LOG_END, NULL, NULL },
		};
		json_t *root;

		log_event(LOG_LEVEL_INFO, LOG_SMTP, "x", LOG_NO_ID, fields);
		root = captured_json();
		assert_int_equal(
		    json_is_number(json_object_get(root, "n")), rows[i].number);
		if (!rows[i].number)
			assert_member(root, "n", rows[i].value);
		json_decref(root);
	}
}

static void test_json_keeps_utf8_and_nothing_else(void **state)
{
	static const char *const rows[][2] = {
		{ "\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80", /* kept as it is */
		    "\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80" },
		{ "\xf4\x8f\xbf\xbf", "\xf4\x8f\xbf\xbf" }, /* the last */
		{ "\xee\x80\x80\xed\x9f\xbf", "\xee\x80\x80\xed\x9f\xbf" },
		{ "\x01\x1f\x7f", "\x01\x1f\x7f" },
		/* Each byte that is part of no character, as U+0080 and on. */
		{ "a\xff", "a\xc3\xbf" },
		{ "\xc3", "\xc3\x83" }, /* cut off */
		{ "\xe2\x82", "\xc3\xa2\xc2\x82" },
		{ "\xf0\x9f\x98", "\xc3\xb0\xc2\x9f\xc2\x98" },
		{ "\xc3(", "\xc3\x83(" },
		{ "\xe2\x82(", "\xc3\xa2\xc2\x82(" },
		{ "\xc0\xaf", "\xc3\x80\xc2\xaf" }, /* overlong */
		{ "\xe0\x9f\xbf", "\xc3\xa0\xc2\x9f\xc2\xbf" },
		{ "\xf0\x8f\xbf\xbf", "\xc3\xb0\xc2\x8f\xc2\xbf\xc2\xbf" },
		{ "\xed\xa0\x80", "\xc3\xad\xc2\xa0\xc2\x80" }, /* surrogate */
		{ "\xf4\x90\x80\x80", "\xc3\xb4\xc2\x90\xc2\x80\xc2\x80" },
		{ "\xf5\x80\x80\x80", "\xc3\xb5\xc2\x80\xc2\x80\xc2\x80" },
		{ "\x80", "\xc2\x80" },
	};

	(void)state;
	capture_init(LOG_FORMAT_JSON, LOG_LEVEL_INFO, "sesrelayd");
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		const struct log_field fields[] = {
			{ LOG_PLAIN, "v", rows[i][0] },
			{ LOG_END, NULL, NULL },
		};
		json_t *root;

		log_event(LOG_LEVEL_INFO, LOG_SMTP, "x", LOG_NO_ID, fields);
		root = captured_json();
		assert_member(root, "v", rows[i][1]);
		json_decref(root);
	}
}

/* Whatever is sent, and however much, the line is one JSON object. */
static void test_json_is_always_valid(void **state)
{
	static char values[20][1500];
	struct log_field fields[21];
	uint64_t seed = 88172645463325252;
	char key[20][8];

	(void)state;
	capture_init(LOG_FORMAT_JSON, LOG_LEVEL_INFO, "sesrelayd");
	for (int round = 0; round < 300; round++) {
		for (size_t i = 0; i < 20; i++) {
			size_t len = seed % sizeof(values[i]);

			for (size_t j = 0; j < len; j++) {
				seed ^= seed << 13;
				seed ^= seed >> 7;
				seed ^= seed << 17;
				values[i][j] = (char)(seed % 255 + 1);
			}
			values[i][len] = '\0';
			snprintf(key[i], sizeof(key[i]), "k%zu", i);
			fields[i] =
			    (struct log_field){ LOG_PLAIN, key[i], values[i] };
		}
		fields[20].style = LOG_END;
		log_event(LOG_LEVEL_INFO, LOG_SMTP, "x", ID, fields);
		json_decref(captured_json());
		log_msg(
		    LOG_LEVEL_INFO, LOG_SMTP, ID, "%s%s", values[0], values[1]);
		json_decref(captured_json());
	}
}

/* A value is cut between two characters. */
static void test_json_cuts_at_characters(void **state)
{
	char value[1200], expected[1200];
	const struct log_field fields[] = {
		{ LOG_PLAIN, "v", value },
		{ LOG_END, NULL, NULL },
	};
	json_t *root;

	(void)state;
	capture_init(LOG_FORMAT_JSON, LOG_LEVEL_INFO, "sesrelayd");
	memset(value, 'v', sizeof(value));
	memcpy(value + 1022, "\xe2\x82\xac", 4);
	memcpy(expected, value, 1022);
	expected[1022] = '\0';
	log_event(LOG_LEVEL_INFO, LOG_SMTP, "x", LOG_NO_ID, fields);
	root = captured_json();
	assert_member(root, "v", expected);
	json_decref(root);
}

#define TEST(fn)                                                               \
	cmocka_unit_test_setup_teardown(fn, capture_setup, capture_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_json_has_the_same_fields),
		TEST(test_json_numbers_are_numbers),
		TEST(test_json_keeps_utf8_and_nothing_else),
		TEST(test_json_is_always_valid),
		TEST(test_json_cuts_at_characters),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
