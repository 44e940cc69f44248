/*
 * The scan of the header block, for every way to cut it, and our trace field.
 */
#include "smtp/header.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

struct scan_case {
	const char *content;
	unsigned n_received;
	bool has_date, has_from, has_message_id, done;
	const char *message_id;
};

static const struct scan_case scan_cases[] = {
	{ "", 0, false, false, false, false, "" },
	{ "\r\n", 0, false, false, false, true, "" },
	{ "Date: x\r\nFrom: a\r\nMessage-ID: <i@h>\r\n\r\nbody", 0, true, true,
	    true, true, "i@h" },
	{ "DATE:x\r\nfrom:a\r\nmessage-id:<i@h>\r\nReceived:\r\n", 1, true,
	    true, true, false, "i@h" },
	{ "Date \t: x\r\n", 0, true, false, false, false, "" },
	{ "Received: a\r\n\tb\r\nX: y\r\nRECEIVED: c\r\n", 2, false, false,
	    false, false, "" },
	/* Names that are near ones of ours. */
	{ "Dates: x\r\nDat: x\r\nX-From: y\r\nResent-From: y\r\n"
	  "X-Received: z\r\nReceived-SPF: z\r\n",
	    0, false, false, false, false, "" },
	/* Values and folded lines do not look like fields. */
	{ "Subject: Received: Date:\r\n Received: x\r\n\tFrom: y\r\n", 0, false,
	    false, false, false, "" },
	/* Nothing in the body counts. */
	{ "X: y\r\n\r\nReceived: x\r\nDate: x\r\n\r\nFrom: y\r\n", 0, false,
	    false, false, true, "" },
	{ "\r\nReceived: x\r\n", 0, false, false, false, true, "" },
	/* A line that is no field ends the block. */
	{ "Date: x\r\nhello world\r\nFrom: y\r\n", 0, true, false, false, true,
	    "" },
	{ "Date: x\r\nhello: world\r\nFrom: y\r\n", 0, true, true, false, false,
	    "" },
	{ "hello\r\nFrom: y\r\n", 0, false, false, false, true, "" },
	{ "two words: x\r\nFrom: y\r\n", 0, false, false, false, true, "" },
	{ ": x\r\nFrom: y\r\n", 0, false, false, false, true, "" },
	{ " folded nothing\r\nFrom: y\r\n", 0, false, false, false, true, "" },
	{ "D\xc3\xa4te: x\r\nFrom: y\r\n", 0, false, false, false, true, "" },
	/* Message-ID in the shapes that are seen. */
	{ "Message-ID:\r\n <long@host>\r\n", 0, false, false, true, false,
	    "long@host" },
	{ "Message-ID: <lo\r\n ng@host>\r\n", 0, false, false, true, false,
	    "long@host" },
	{ "Message-Id:   <a@b> (comment) <c@d>\r\n", 0, false, false, true,
	    false, "a@b" },
	{ "Message-ID: bare@host rest\r\n", 0, false, false, true, false,
	    "bare@host" },
	{ "Message-ID: bare@host\r\n more\r\n", 0, false, false, true, false,
	    "bare@host" },
	{ "Message-ID:\r\nX: <a@b>\r\n", 0, false, false, true, false, "" },
	{ "Message-ID: <a\r\nX: b>\r\n", 0, false, false, true, false, "a" },
	{ "Message-ID: <a@b>\r\nMessage-ID: <c@d>\r\n", 0, false, false, true,
	    false, "a@b" },
	{ "Message-ID:\r\nMessage-ID: <c@d>\r\n", 0, false, false, true, false,
	    "" },
	{ "Message-ID: <a\x01\xff>\r\n", 0, false, false, true, false, "a??" },
	{ "Message-ID: <>\r\n", 0, false, false, true, false, "" },
};

static void check_scan(const struct scan_case *c, const struct header_scan *h)
{
	if (h->n_received != c->n_received || h->has_date != c->has_date ||
	    h->has_from != c->has_from ||
	    h->has_message_id != c->has_message_id || h->done != c->done ||
	    strcmp(h->message_id, c->message_id) != 0)
		fail_msg("\"%s\": received %u date %d from %d id %d \"%s\" "
			 "done %d",
		    c->content, h->n_received, h->has_date, h->has_from,
		    h->has_message_id, h->message_id, h->done);
}

static void test_scan_cut_anywhere(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(scan_cases); i++) {
		const struct scan_case *c = &scan_cases[i];
		size_t len = strlen(c->content);
		struct header_scan h;

		for (size_t first = 0; first <= len; first++) {
			header_scan_init(&h);
			header_scan_feed(&h, c->content, first);
			header_scan_feed(&h, c->content + first, len - first);
			check_scan(c, &h);
		}
		header_scan_init(&h);
		for (size_t k = 0; k < len; k++)
			header_scan_feed(&h, c->content + k, 1);
		check_scan(c, &h);
	}
}

static void scan(struct header_scan *h, const char *content)
{
	header_scan_init(h);
	header_scan_feed(h, content, strlen(content));
}

static void test_message_id_is_bounded(void **state)
{
	char content[HEADER_MESSAGE_ID_MAX + 64];
	struct header_scan h;

	(void)state;
	for (int more = 0; more < 2; more++) {
		int len = HEADER_MESSAGE_ID_MAX + more;

		snprintf(
		    content, sizeof(content), "Message-ID: <%0*d>\r\n", len, 7);
		scan(&h, content);
		assert_int_equal(strlen(h.message_id), HEADER_MESSAGE_ID_MAX);
		assert_int_equal(
		    h.message_id[HEADER_MESSAGE_ID_MAX - 1], more ? '0' : '7');
	}
}

static void test_long_names(void **state)
{
	char content[400];
	struct header_scan h;

	(void)state;
	/* Blanks in front of the colon, to the limit of a name and beyond. */
	for (int pad = HEADER_NAME_MAX - 10; pad < HEADER_NAME_MAX + 10;
	     pad++) {
		snprintf(content, sizeof(content), "Date%*s: x\r\nFrom: y\r\n",
		    pad, "");
		scan(&h, content);
		assert_true(h.has_date && h.has_from && !h.done);
		snprintf(content, sizeof(content), "Date%*s!: x\r\nFrom: y\r\n",
		    pad, "");
		scan(&h, content);
		assert_true(h.done && !h.has_date && !h.has_from);
	}
	/* A name that is too long is a field, and none of ours. */
	memset(content, 'D', 300);
	strcpy(content + 300, ": x\r\nFrom: y\r\n");
	scan(&h, content);
	assert_true(h.has_from && !h.has_date && !h.done);
	strcpy(content + 300, " x: x\r\nFrom: y\r\n");
	scan(&h, content);
	assert_true(h.done && !h.has_from);
}

static void test_many_received(void **state)
{
	struct header_scan h;

	(void)state;
	header_scan_init(&h);
	for (int i = 0; i < 100; i++)
		header_scan_feed(&h, "Received: x\r\n", 13);
	assert_int_equal(h.n_received, 100);
}

#define DATE "Sat, 21 Nov 2026 10:00:01 +0000"
#define ID "0006543A1B2C3D4E"

static size_t format(char *buf, const char *helo, const char *peer,
    const char *hostname, bool esmtp)
{
	return header_format_received(
	    buf, 1024, helo, peer, hostname, esmtp, ID, DATE);
}

static void test_received(void **state)
{
	char buf[1024];
	size_t len;

	(void)state;
	len = format(buf, "app.local", "localhost [127.0.0.1]", "mx", true);
	assert_string_equal(buf,
	    "Received: from app.local (localhost [127.0.0.1])\r\n"
	    "\tby mx (sesrelayd) with ESMTP id " ID ";\r\n"
	    "\t" DATE "\r\n");
	assert_int_equal(len, strlen(buf));
	format(buf, "", "", "mx", false);
	assert_string_equal(buf,
	    "Received: from unknown (unknown)\r\n"
	    "\tby mx (sesrelayd) with SMTP id " ID ";\r\n"
	    "\t" DATE "\r\n");
}

static void test_received_is_harmless(void **state)
{
	char buf[1024];

	(void)state;
	format(buf, "a) (b\r\nEvil: x\"\\;<\x7f\xc3\xa9@", "p) by q\r\n.\r\n",
	    "h\r\n\r\nbody", true);
	assert_string_equal(buf,
	    "Received: from a???b?\?Evil:?x????????"
	    " (p? by q??.?\?)\r\n"
	    "\tby h????body (sesrelayd) with ESMTP id " ID ";\r\n"
	    "\t" DATE "\r\n");
}

/* The longest line of a header block, which must be folded right. */
static size_t longest_line(const char *p)
{
	size_t longest = 0;

	while (*p) {
		size_t n = strcspn(p, "\r");

		assert_int_equal(p[n + 1], '\n');
		if (n > longest)
			longest = n;
		p += n + 2;
		assert_true(*p == '\t' || *p == '\0');
	}
	return longest;
}

static void test_received_is_folded(void **state)
{
	char buf[1024], name[1024];

	(void)state;
	for (size_t len = 1; len <= 60; len++) {
		memset(name, 'n', len);
		name[len] = '\0';
		format(buf, name, "[127.0.0.1]", name, true);
		assert_true(longest_line(buf) <= 78);
		assert_non_null(strstr(buf, "([127.0.0.1])\r\n"));
		assert_non_null(strstr(buf, "with ESMTP id " ID ";\r\n"));
	}
	memset(name, 'n', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	format(buf, name, name, name, true);
	assert_true(longest_line(buf) < 300);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_scan_cut_anywhere),
		cmocka_unit_test(test_message_id_is_bounded),
		cmocka_unit_test(test_long_names),
		cmocka_unit_test(test_many_received),
		cmocka_unit_test(test_received),
		cmocka_unit_test(test_received_is_harmless),
		cmocka_unit_test(test_received_is_folded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
