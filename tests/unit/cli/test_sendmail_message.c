/*
 * What is handed in: any bytes as lines, addresses as people write them, and
 * the header that comes of it; in every cut.
 */
#include "base/mem.h"
#include "cli/sendmail.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

/* --- addresses --- */

static const struct {
	const char *list;
	const char *rcpts; /* with a blank between them; NULL: refused */
} lists[] = {
	{ "a@b", "a@b" },
	{ "", "" },
	{ " \t", "" },
	{ ",,a@b,", "a@b" },
	{ "<a@b>", "a@b" },
	{ "A B <a@b>", "a@b" },
	{ "A\r\n\tB <a@b>,\r\n c@d", "a@b c@d" },
	{ "\"B, A <x@y>\" <a@b>", "a@b" },
	{ "\"a \\\" b\" <a@b>", "a@b" },
	{ "a@b (A, (nested) <x@y> \\) B)", "a@b" },
	{ "(x)a(y)@(z)b", "a@b" },
	{ "a @ b . c", "a@b.c" },
	{ "\"a b\"@c", "\"a b\"@c" },
	{ "\"a@b, c\"@d, <\"x>y\"@z>", "\"a@b, c\"@d \"x>y\"@z" },
	{ "team: a@b, C <c@d>;, e@f", "a@b c@d e@f" },
	{ "undisclosed-recipients:;", "" },
	{ "a@b; c@d", "a@b c@d" },
	{ "a@b c@d", "a@b c@d" },
	{ "a@b, a@b, <a@b>", "a@b" },
	{ "root", "root" },
	{ "\\root", "root" },
	{ "Root of it <root>", "root" },
	{ "<@x,@y:a@b>", "a@b" },
	{ "J\xc3\xb6rg <a@b>", "a@b" },
	{ "=?utf-8?q?x=2C_y?= <a@b>", "a@b" },

	{ "a b", NULL },
	{ "a@b c", NULL },
	{ "<a@b", NULL },
	{ "a@@b", NULL },
	{ "a@", NULL },
	{ "@b", NULL },
	{ "<>", NULL },
	{ "a@b\x01", NULL },
	{ "a\x7f@b", NULL },
	{ "<a@b>\r\nRCPT TO:<c@d>, <e@f\r\nDATA>", NULL },
	{ "j\xc3\xb6rg@b", NULL },
	{ "a@b\xff", NULL },
	{ "\"a@b", NULL },
	{ "\"a\"@b> x", NULL },
	{ "a@b>", NULL },
};

static char *joined(const struct sendmail_rcpts *r)
{
	char *text = xstrdup("");

	for (size_t i = 0; i < r->n; i++) {
		char *more =
		    xasprintf("%s%s%s", text, i > 0 ? " " : "", r->items[i]);

		free(text);
		text = more;
	}
	return text;
}

static void test_lists(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(lists); i++) {
		struct sendmail_rcpts r = { 0 };
		struct err err = { 0 };
		/* Without a terminator: reads behind the end are seen. */
		size_t len = strlen(lists[i].list);
		char *copy = xmemdup(lists[i].list, len > 0 ? len : 1);
		int rc = sendmail_rcpts_add(&r, slice_of(copy, len), &err);
		char *got = joined(&r);

		if (rc != (lists[i].rcpts != NULL ? 0 : -1))
			fail_msg("%s: %d %s", lists[i].list, rc, err.text);
		if (rc == 0)
			assert_string_equal(got, lists[i].rcpts);
		else
			assert_true(err.text[0] != '\0');
		free(got);
		free(copy);
		sendmail_rcpts_free(&r);
	}
}

/* Whatever is taken can stand in a command, at whatever length. */
static void test_no_bytes_that_end_a_command(void **state)
{
	static const char alphabet[] = "a@.b\"\\<>(),;: \r\n\t\x01\xc3";
	uint32_t seed = 1;

	(void)state;
	for (unsigned round = 0; round < 200000; round++) {
		struct sendmail_rcpts r = { 0 };
		char text[24];
		size_t len;

		seed = seed * 1664525 + 1013904223;
		len = (seed >> 16) % sizeof text;
		for (size_t i = 0; i < len; i++) {
			seed = seed * 1664525 + 1013904223;
			text[i] =
			    alphabet[(seed >> 16) % (sizeof alphabet - 1)];
		}
		(void)!sendmail_rcpts_add(&r, slice_of(text, len), NULL);
		for (size_t i = 0; i < r.n; i++)
			for (const char *p = r.items[i]; *p != '\0'; p++)
				assert_true(*p >= ' ' && *p <= '~');
		sendmail_rcpts_free(&r);
	}
}

static void test_long_lists(void **state)
{
	struct sendmail_rcpts r = { 0 };
	char *text = xmalloc(400000), *p = text;

	(void)state;
	for (int i = 0; i < 10000; i++)
		p += sprintf(p, "Name %d <u%d@example.net>,\r\n ", i, i);
	assert_int_equal(sendmail_rcpts_add(&r, slice_str(text), NULL), 0);
	assert_int_equal(r.n, 10000);
	assert_string_equal(r.items[9999], "u9999@example.net");
	sendmail_rcpts_free(&r);
	memset(text, 'a', 399999);
	text[399999] = '\0';
	assert_int_equal(sendmail_rcpts_add(&r, slice_str(text), NULL), -1);
	sendmail_rcpts_free(&r);
	/* A name may be as long as it likes. */
	memcpy(text + 399990, " <a@b>", 7);
	assert_int_equal(sendmail_rcpts_add(&r, slice_str(text), NULL), 0);
	assert_string_equal(r.items[0], "a@b");
	sendmail_rcpts_free(&r);
	free(text);
}

static void test_one_address(void **state)
{
	static const struct {
		const char *text, *address; /* NULL: refused */
	} rows[] = {
		{ "a@b", "a@b" },
		{ "", "" },
		{ "<>", "" },
		{ " <> ", "" },
		{ "A B <a@b>", "a@b" },
		{ "root", "root" },
		{ "a@b, c@d", NULL },
		{ ",", NULL },
		{ "a b", NULL },
	};
	struct addr addr;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		int rc = sendmail_address_parse(
		    slice_str(rows[i].text), &addr, NULL);

		assert_int_equal(rc, rows[i].address != NULL ? 0 : -1);
		if (rc == 0)
			assert_string_equal(addr.text, rows[i].address);
	}
}

/* --- lines --- */

static const struct {
	const char *in, *out;
	bool dot_ends;
} texts[] = {
	{ "", "", true },
	{ "a\n", "a\r\n", true },
	{ "a", "a\r\n", true },
	{ "a\r\nb\nc", "a\r\nb\r\nc\r\n", true },
	{ "a\n.\nb\n", "a\r\n", true },
	{ "a\n.\r\nb\n", "a\r\n", true },
	{ "a\n.", "a\r\n", true },
	{ ".\na\n", "", true },
	{ "a\n.\nb\n", "a\r\n.\r\nb\r\n", false },
	{ "a\n.b\n..\n", "a\r\n.b\r\n..\r\n", true },
	{ "a: b\rc\n\nd\re\r\r\nf\r", "a: b c\r\n\r\nd\r\ne\r\nf\r\n", true },
	/* What stands behind a bare CR begins no line that could end it. */
	{ "a\n\nb\r.\nc\n", "a\r\n\r\nb\r\n.\r\nc\r\n", true },
	{ "\n.\rx\n", "\r\n.\r\nx\r\n", true },
	{ "\n\r\r\n\rx", "\r\n\r\nx\r\n", true },
};

static void check_lines(
    const char *in, size_t len, size_t cut, const char *want, bool dot_ends)
{
	struct sendmail_lines l;
	char *out = xmalloc(2 * SENDMAIL_LINES_ROOM(len) + 16);
	size_t n;

	sendmail_lines_init(&l, dot_ends);
	n = sendmail_lines_feed(&l, in, cut, out);
	assert_true(n <= SENDMAIL_LINES_ROOM(cut));
	n += sendmail_lines_feed(&l, in + cut, len - cut, out + n);
	n += sendmail_lines_end(&l, out + n);
	out[n] = '\0';
	assert_string_equal(out, want);
	free(out);
}

static void test_lines(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		size_t len = strlen(texts[i].in);

		for (size_t cut = 0; cut <= len; cut++)
			check_lines(texts[i].in, len, cut, texts[i].out,
			    texts[i].dot_ends);
	}
	check_lines("a\0b\n", 4, 2, "a b\r\n", true);
}

static void test_eight_bit(void **state)
{
	struct sendmail_lines l;
	char out[64];

	(void)state;
	sendmail_lines_init(&l, true);
	sendmail_lines_feed(&l, "a~\x7f\n", 4, out);
	assert_false(l.eight_bit);
	sendmail_lines_feed(&l, "\x80", 1, out);
	assert_true(l.eight_bit);
}

/* --- headers --- */

static const struct sendmail_defaults defaults = {
	.sender = "s@x",
	.user = "me",
	.date = "DATE",
	.message_id = "<ID>",
};

static const struct {
	const char *in, *out;
	const char *rcpts; /* NULL: there is one that is none */
} headers[] = {
	{ "From: a@b\r\nDate: d\r\nMessage-ID: <i>\r\nTo: c@d\r\n\r\nTo: x@y",
	    "From: a@b\r\nDate: d\r\nMessage-ID: <i>\r\nTo: c@d\r\n\r\n|To: "
	    "x@y",
	    "c@d" },
	{ "To: c@d\r\n\r\nx",
	    "To: c@d\r\nFrom: s@x\r\nDate: DATE\r\nMessage-ID: <ID>\r\n\r\n|x",
	    "c@d" },
	{ "", "From: s@x\r\nDate: DATE\r\nMessage-ID: <ID>\r\n\r\n|", "" },
	{ "hello\r\n",
	    "From: s@x\r\nDate: DATE\r\nMessage-ID: <ID>\r\n\r\n|hello\r\n",
	    "" },
	/* It ends at what is no field, and the empty line is put in. */
	{ "FROM : a@b\r\nno field\r\nTo: x@y\r\n",
	    "FROM : a@b\r\nDate: DATE\r\nMessage-ID: <ID>\r\n\r\n|no field\r\n"
	    "To: x@y\r\n",
	    "" },
	{ "\r\nTo: x@y\r\n",
	    "From: s@x\r\nDate: DATE\r\nMessage-ID: <ID>\r\n\r\n|To: x@y\r\n",
	    "" },
	{ "From a@b Sat Nov 21\r\nfrom: a@b\r\ndate: d\r\nmessage-id: <i>\r\n"
	  "\r\n",
	    "from: a@b\r\ndate: d\r\nmessage-id: <i>\r\n\r\n|", "" },
	/* That is no line of an mbox. */
	{ "From : a@b\r\nDate: d\r\nMessage-ID: <i>\r\n\r\n",
	    "From : a@b\r\nDate: d\r\nMessage-ID: <i>\r\n\r\n|", "" },
	{ "From: a@b\r\nDate: d\r\nMessage-Id: <i>\r\nbcc: x@y,\r\n\tz@y\r\n"
	  "To: t@y\r\nBCC : w@y\r\nResent-Bcc-X: q\r\nX-Bcc: r\r\n\r\n",
	    "From: a@b\r\nDate: d\r\nMessage-Id: <i>\r\nTo: t@y\r\n"
	    "Resent-Bcc-X: q\r\nX-Bcc: r\r\n\r\n|",
	    "x@y z@y t@y w@y" },
	{ "From: a@b\r\nDate: d\r\nMessage-ID: <i>\r\nTo: t@y\r\nBcc: u@y\r\n"
	  "Resent-To: v@y\r\nResent-Bcc: w@y\r\n\r\n",
	    "From: a@b\r\nDate: d\r\nMessage-ID: <i>\r\nTo: t@y\r\n"
	    "Resent-To: v@y\r\n\r\n|",
	    "v@y w@y" },
	{ "To: a@@b\r\n\r\n", NULL, NULL },
};

static void test_headers(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(headers); i++) {
		size_t content_len = strlen(headers[i].in), len;
		char *copy =
		    xmemdup(headers[i].in, content_len > 0 ? content_len : 1);
		struct slice content = slice_of(copy, content_len);
		struct sendmail_rcpts r = { 0 };
		struct sendmail_header h;
		struct err err;
		char *made, *all, *rcpts;
		int rc = sendmail_header_read(&h, content, &r, &err);

		assert_int_equal(rc, headers[i].rcpts != NULL ? 0 : -1);
		if (rc == 0) {
			made = sendmail_header_make(&h, &defaults, &len);
			assert_int_equal(len, strlen(made));
			all = xasprintf("%s|%.*s", made,
			    (int)(content_len - h.len), copy + h.len);
			assert_string_equal(all, headers[i].out);
			rcpts = joined(&r);
			assert_string_equal(rcpts, headers[i].rcpts);
			free(made);
			free(all);
			free(rcpts);
		}
		sendmail_header_free(&h);
		sendmail_rcpts_free(&r);
		free(copy);
	}
}

static void test_without_t_recipients_are_not_looked_at(void **state)
{
	struct sendmail_header h;

	(void)state;
	assert_int_equal(
	    sendmail_header_read(
		&h, slice_str("To: a@@b\r\nBcc: x\r\n\r\n"), NULL, NULL),
	    0);
	assert_int_equal(h.kept_len, strlen("To: a@@b\r\n"));
	sendmail_header_free(&h);
}

static void test_phrases(void **state)
{
	static const struct {
		const char *name, *phrase;
	} rows[] = {
		{ "Cron Daemon", "Cron Daemon" },
		{ "J. R. \"Bob\" \\", "\"J. R. \\\"Bob\\\" \\\\\"" },
		{ "a, b <c@d>", "\"a, b <c@d>\"" },
		{ "a\r\nBcc: x", "=?utf-8?q?a=0D=0ABcc=3A=20x?=" },
		{ "J\xc3\xb6rg", "=?utf-8?q?J=C3=B6rg?=" },
		{ "\xff", "=?utf-8?q?=FF?=" },
		{ "\xe6\x97\xa5\xe6\x97\xa5\xe6\x97\xa5\xe6\x97\xa5\xe6\x97\xa5"
		  "\xe6\x97\xa5\xe6\x97\xa5\xe6\x97\xa5",
		    "=?utf-8?q?=E6=97=A5=E6=97=A5=E6=97=A5=E6=97=A5=E6=97=A5"
		    "=E6=97=A5=E6=97=A5?=\r\n =?utf-8?q?=E6=97=A5?=" },
	};
	struct sendmail_header none = { 0 };
	struct sendmail_defaults d = defaults;
	size_t len;
	char *text;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		text = sendmail_phrase(rows[i].name);
		assert_string_equal(text, rows[i].phrase);
		free(text);
	}
	/* The null sender writes no mail: its user does. */
	d.sender = "";
	d.full_name = "A";
	text = sendmail_header_make(&none, &d, &len);
	assert_non_null(strstr(text, "From: A <me>\r\n"));
	free(text);
}

/* --- servers --- */

static void test_servers(void **state)
{
	static const struct {
		const char *text, *server; /* NULL: refused */
	} rows[] = {
		{ "127.0.0.1:25", "127.0.0.1:25" },
		{ "0.0.0.0:2525", "127.0.0.1:2525" },
		{ "[::]:25", "[::1]:25" },
		{ "[::1]:25", "[::1]:25" },
		{ "unix:/run/x", "unix:/run/x" },
		{ "unix:x", NULL },
		{ "127.0.0.1", NULL },
		{ "25", NULL },
		{ ":25", NULL },
		{ "127.0.0.1:0", NULL },
		{ "127.0.0.1:65536", NULL },
		{ "127.0.0.1:", NULL },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct sendmail_servers s = { 0 };
		int rc =
		    sendmail_servers_add(&s, slice_str(rows[i].text), NULL);

		assert_int_equal(rc, rows[i].server != NULL ? 0 : -1);
		assert_int_equal(s.n, rc == 0 ? 1 : 0);
		if (rc == 0)
			assert_string_equal(s.items[0], rows[i].server);
		sendmail_servers_free(&s);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lists),
		cmocka_unit_test(test_no_bytes_that_end_a_command),
		cmocka_unit_test(test_long_lists),
		cmocka_unit_test(test_one_address),
		cmocka_unit_test(test_lines),
		cmocka_unit_test(test_eight_bit),
		cmocka_unit_test(test_headers),
		cmocka_unit_test(test_without_t_recipients_are_not_looked_at),
		cmocka_unit_test(test_phrases),
		cmocka_unit_test(test_servers),
	};

	return cmocka_run_group_tests_name(
	    "sendmail_message", tests, NULL, NULL);
}
