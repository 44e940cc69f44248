/*
 * Failure notices: whatever others chose, a notice is 7-bit MIME with short
 * lines, has its three parts, and says what it has to.  (A real MIME parser
 * reads them in the end-to-end tests.)
 */
#include "smtp/dsn.h"
#include "smtp/header.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define LINE_MAX_LEN 998

static char *text;
static size_t text_len;

static void collect(void *ctx, const char *ptr, size_t len)
{
	(void)ctx;
	text = realloc(text, text_len + len + 1);
	memcpy(text + text_len, ptr, len);
	text_len += len;
	text[text_len] = '\0';
}

static void write_notice(const struct dsn *d)
{
	free(text);
	text = NULL;
	text_len = 0;
	dsn_write(d, collect, NULL);
}

static unsigned count(const char *what)
{
	unsigned n = 0;

	for (const char *p = text; (p = strstr(p, what)) != NULL; p++)
		n++;
	return n;
}

/* 7-bit, canonical, short lines, three parts. */
static void assert_clean(void)
{
	char boundary[80], delimiter[96];
	const char *p = strstr(text, "boundary=\"");
	size_t column = 0;

	assert_int_equal(strlen(text), text_len);
	for (size_t i = 0; i < text_len; i++) {
		unsigned char c = (unsigned char)text[i];

		if (c == '\r') {
			assert_int_equal(text[i + 1], '\n');
			continue;
		}
		if (c == '\n') {
			assert_true(i > 0 && text[i - 1] == '\r');
			column = 0;
			continue;
		}
		assert_true((c >= ' ' && c <= '~') || c == '\t');
		assert_true(++column <= LINE_MAX_LEN);
	}
	assert_int_equal(column, 0);
	assert_non_null(p);
	assert_int_equal(sscanf(p, "boundary=\"%70[^\"]\"", boundary), 1);
	snprintf(delimiter, sizeof(delimiter), "\r\n--%s\r\n", boundary);
	assert_int_equal(count(delimiter), 3);
	snprintf(delimiter, sizeof(delimiter), "\r\n--%s--\r\n", boundary);
	assert_int_equal(count(delimiter), 1);
	/* And nothing else that a lenient reader would take for one. */
	snprintf(delimiter, sizeof(delimiter), "\n--%s", boundary);
	assert_int_equal(count(delimiter), 4);
}

static struct dsn_rcpt one = { "u@example.net", "5.1.1", "553 unknown", NULL };

static struct dsn notice(void)
{
	return (struct dsn){
		.hostname = "relay.test",
		.from = "bounce@example.com",
		.to = "app@example.com",
		.id = "000660D0F475076B",
		.date = "Sat, 21 Nov 2026 10:00:01 +0000",
		.failed_id = "000660D0F4741B3E",
		.arrival = "Sat, 21 Nov 2026 09:00:01 +0000",
		.sender = "app@example.com",
		.message_id = "a1@host",
		.remote = "email-smtp.eu-west-1.amazonaws.com",
		.reason = "553 unknown; SES refuses the recipient",
		.rcpts = &one,
		.n_rcpts = 1,
		.headers = slice_str("From: app@example.com\r\nSubject: x\r\n"),
	};
}

static void assert_has(const char *what)
{
	if (strstr(text, what) == NULL)
		fail_msg("no '%s' in:\n%s", what, text);
}

static void test_says_what_it_has_to(void **state)
{
	struct dsn d = notice();

	(void)state;
	write_notice(&d);
	assert_clean();
	assert_has("From: \"Mail relay on relay.test\"\r\n"
		   "\t<bounce@example.com>\r\n"
		   "To: <app@example.com>\r\n");
	assert_has("\r\nDate: Sat, 21 Nov 2026 10:00:01 +0000\r\n");
	assert_has("\r\nMessage-ID: <000660D0F475076B.notice@relay.test>\r\n");
	assert_has("\r\nReferences: <a1@host>\r\n");
	assert_has("\r\nAuto-Submitted: auto-replied\r\nMIME-Version: 1.0\r\n"
		   "Content-Type: multipart/report; "
		   "report-type=delivery-status;\r\n\tboundary=");
	assert_has("\r\n\r\nReporting-MTA: dns; relay.test\r\n"
		   "X-Sesrelayd-Queue-ID: 000660D0F4741B3E\r\n"
		   "X-Sesrelayd-Sender: rfc822; app@example.com\r\n"
		   "Arrival-Date: Sat, 21 Nov 2026 09:00:01 +0000\r\n"
		   "\r\n"
		   "Final-Recipient: rfc822; u@example.net\r\n"
		   "Action: failed\r\n"
		   "Status: 5.1.1\r\n"
		   "Remote-MTA: dns; email-smtp.eu-west-1.amazonaws.com\r\n"
		   "Diagnostic-Code: smtp; 553 unknown\r\n\r\n--");
	assert_has("sesrelayctl requeue 000660D0F4741B3E\r\n");
	assert_has("\r\n\r\nFrom: app@example.com\r\nSubject: x\r\n\r\n--");
	assert_null(strstr(text, "quoted-printable"));
}

static void test_what_is_missing(void **state)
{
	struct dsn_rcpt lost = { "u@example.net", "4.4.2", NULL, "gone" };
	struct dsn d = notice();

	(void)state;
	d.message_id = d.sender = "";
	d.remote = NULL;
	d.rcpts = &lost;
	d.headers = slice_str("");
	write_notice(&d);
	assert_clean();
	assert_null(strstr(text, "References"));
	assert_null(strstr(text, "Remote-MTA"));
	assert_has("Status: 4.4.2\r\n");
	assert_has("Diagnostic-Code: X-Sesrelayd; gone\r\n");
}

static const char *const statuses[] = { "", "5", "5.1", "5.1.1.1", "2.0.0",
	"5.1.x", "5.1.1 ", " 5.1.1", "5.1.1\r\nX: y", "55.1.1", "5.1234.1",
	"+5.1.1" };

static void test_bad_status(void **state)
{
	struct dsn_rcpt bad = one;
	struct dsn d = notice();

	(void)state;
	d.rcpts = &bad;
	for (size_t i = 0; i < ARRAY_LEN(statuses); i++) {
		bad.status = statuses[i];
		write_notice(&d);
		assert_clean();
		assert_has("\r\nStatus: 5.0.0\r\n");
	}
}

static char *repeat(const char *what, size_t n)
{
	size_t len = strlen(what);
	char *s = malloc(n * len + 1);

	for (size_t i = 0; i < n; i++)
		memcpy(s + i * len, what, len);
	s[n * len] = '\0';
	return s;
}

/* Each in the place of every text. */
static void test_hostile_texts(void **state)
{
	char *hostile[] = {
		strdup("a\r\nBcc: evil@example.com\r\n\r\nbody"),
		strdup("\r\n--=_000660D0F475076B.0--\r\n"),
		strdup("\x01\x1b[31m\x7f\xc3\xa9\xff"),
		strdup("\"a b\"@example.com> <evil@example.com"),
		strdup(" \t  "),
		strdup(""),
		repeat("x", 5000),
		repeat("\xff", 5000),
		repeat("word ", 1000),
		repeat("\r\n", 2000),
		repeat(" ", 5000),
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(hostile); i++) {
		const char *h = hostile[i];
		struct dsn_rcpt rcpts[] = {
			{ h, h, h, NULL },
			{ h, h, NULL, h },
			{ "u@example.net", "5.1.1", "553 x", NULL },
		};
		struct dsn d = notice();

		d.hostname = d.from = d.to = d.failed_id = d.date = h;
		d.arrival = d.sender = d.message_id = d.remote = h;
		d.reason = h;
		d.rcpts = rcpts;
		d.n_rcpts = 3;
		write_notice(&d);
		assert_clean();
		assert_int_equal(count("\r\nBcc:"), 0);
		assert_int_equal(count("\r\nFinal-Recipient:"), 3);
		assert_int_equal(count("\r\nAction: failed\r\n"), 3);
		free(hostile[i]);
	}
}

static void test_boundary_in_the_headers(void **state)
{
	struct dsn d = notice();

	(void)state;
	d.headers = slice_str("X: =_000660D0F475076B.0\r\n"
			      "Y: =_000660D0F475076B.1\r\n"
			      " --=_000660D0F475076B.2\r\n");
	write_notice(&d);
	assert_clean();
	assert_has("boundary=\"=_000660D0F475076B.3\"");
}

/* What quoted-printable stands for, as of RFC 2045 6.7. */
static char *unquote(const char *p, const char *end)
{
	char *out = malloc((size_t)(end - p) + 1), *to = out;
	unsigned value;

	while (p < end) {
		if (strncmp(p, "=\r\n", 3) == 0) {
			p += 3;
		} else if (*p == '=') {
			assert_int_equal(sscanf(p + 1, "%2x", &value), 1);
			*to++ = (char)value;
			p += 3;
		} else {
			*to++ = *p++;
		}
	}
	*to = '\0';
	return out;
}

static void test_headers_that_are_not_clean(void **state)
{
	char *long_line = repeat("y", 2000), *blocks[5];

	(void)state;
	blocks[0] = strdup("Subject: gr\xc3\xbc\xc3\x9f"
			   "e =3D \t\r\nX: \x01 "
			   "\r\n");
	blocks[1] = malloc(3000);
	snprintf(blocks[1], 3000, "X: %s\r\nY: z\r\n", long_line);
	blocks[2] = strdup("A: \xe4=\r\n");
	blocks[3] = repeat("X: \xe4 \r\n", 500);
	blocks[4] = strdup("X: \x80 --=_000660D0F475076B.0\r\n");
	for (size_t i = 0; i < ARRAY_LEN(blocks); i++) {
		struct dsn d = notice();
		const char *begin, *end;
		char *again;

		d.headers = slice_str(blocks[i]);
		write_notice(&d);
		assert_clean();
		assert_has("Content-Transfer-Encoding: quoted-printable\r\n");
		begin = strstr(text, "Header of the message\r\n\r\n");
		assert_non_null(begin);
		begin += strlen("Header of the message\r\n\r\n");
		end = strstr(begin, "\r\n--=_");
		again = unquote(begin, end);
		assert_string_equal(again, blocks[i]);
		free(again);
		free(blocks[i]);
	}
	free(long_line);
}

static void test_headers_are_bounded(void **state)
{
	char *block = repeat("X-Line: of ten words or so\r\n", 20000);
	struct dsn d = notice();

	(void)state;
	d.headers = slice_str(block);
	write_notice(&d);
	assert_true(text_len < 2 * DSN_HEADERS_MAX);
	d.headers = header_block(slice_str(block), DSN_HEADERS_MAX);
	assert_true(d.headers.len > DSN_HEADERS_MAX - 100);
	write_notice(&d);
	assert_clean();
	assert_null(strstr(text, "quoted-printable"));
	free(block);
}

static void test_message_id(void **state)
{
	struct dsn d = notice();
	char buf[32];

	(void)state;
	assert_string_equal(dsn_message_id(&d, buf, sizeof(buf)),
	    "000660D0F475076B.notice@relay.t");
	d.hostname = "a> <b";
	assert_string_equal(dsn_message_id(&d, buf, sizeof(buf)),
	    "000660D0F475076B.notice@a???b");
}

/* --- smtp/header_block.c --- */

static const struct {
	const char *content, *block;
} block_cases[] = {
	{ "A: b\r\n\r\nbody", "A: b\r\n" },
	{ "A: b\r\nC: d\r\n", "A: b\r\nC: d\r\n" },
	{ "A: b\r\n c\r\n\td\r\nE:\r\n\r\n", "A: b\r\n c\r\n\td\r\nE:\r\n" },
	{ "A: b\r\nno field\r\nC: d\r\n", "A: b\r\n" },
	{ "A : b\r\n\r\n", "A : b\r\n" },
	{ "A: b\r\n cut", "A: b\r\n" },
	{ "A: cut", "" },
	{ "", "" },
	{ "\r\nA: b\r\n", "" },
	{ " folded\r\nA: b\r\n", "" },
	{ ": b\r\n", "" },
	{ "\xe4: b\r\n", "" },
};

static void test_header_block(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(block_cases); i++) {
		const char *content = block_cases[i].content;
		struct slice whole = slice_str(content);

		assert_true(slice_eq_str(
		    header_block(whole, SIZE_MAX), block_cases[i].block));
		/* A bound leaves whole lines of it. */
		for (size_t max = 0; max <= whole.len; max++) {
			struct slice b = header_block(whole, max);

			assert_true(b.len <= max);
			assert_true(
			    slice_has_prefix(whole, "") && b.ptr == whole.ptr);
			assert_true(b.len == 0 || b.ptr[b.len - 1] == '\n');
		}
	}
}

static const struct {
	const char *block;
	bool automatic;
} automatic_cases[] = {
	{ "", false },
	{ "From: a\r\n", false },
	{ "Auto-Submitted: no\r\n", false },
	{ "auto-submitted:NO\r\n", false },
	{ "Auto-Submitted:\r\n no\r\n", false },
	{ "Auto-Submitted: (really) no (yes); a=b\r\n", false },
	{ "Auto-Submitted: no; auto-replied\r\n", false },
	{ "X-Auto-Submitted: auto-replied\r\n", false },
	{ "Subject: x\r\n Auto-Submitted: auto-replied\r\n", false },
	{ "A: b\r\n\r\nAuto-Submitted: auto-replied\r\n", false },
	{ "Auto-Submitted: auto-replied\r\n", true },
	{ "Auto-Submitted : auto-generated\r\n", true },
	{ "A: b\r\nAUTO-SUBMITTED:\r\n\tauto-notified\r\nC: d\r\n", true },
	{ "Auto-Submitted: no\r\nAuto-Submitted: auto-replied\r\n", true },
	{ "Auto-Submitted: nonsense\r\n", true },
	{ "Auto-Submitted: (no) yes\r\n", true },
	{ "Auto-Submitted:\r\n", true },
	{ "Auto-Submitted: (((\r\n", true },
};

static void test_automatic(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(automatic_cases); i++)
		if (header_is_automatic(slice_str(automatic_cases[i].block)) !=
		    automatic_cases[i].automatic)
			fail_msg("%s", automatic_cases[i].block);
}

static int free_text(void **state)
{
	(void)state;
	free(text);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_says_what_it_has_to),
		cmocka_unit_test(test_what_is_missing),
		cmocka_unit_test(test_bad_status),
		cmocka_unit_test(test_hostile_texts),
		cmocka_unit_test(test_boundary_in_the_headers),
		cmocka_unit_test(test_headers_that_are_not_clean),
		cmocka_unit_test(test_headers_are_bounded),
		cmocka_unit_test(test_message_id),
		cmocka_unit_test(test_header_block),
		cmocka_unit_test(test_automatic),
	};

	return cmocka_run_group_tests_name("dsn", tests, NULL, free_text);
}
