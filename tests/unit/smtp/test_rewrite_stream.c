/*
 * The header rewriter as a stream: what holds for any content, cut anywhere,
 * and for blocks without an end.
 */
#include "rewrite_test.h"

static const char clean[] =
    "Received: from x\r\n\tby y; now\r\nReturn-Path: <a@b.c>\r\n"
    "DKIM-Signature: v=1; h=From\r\n"
    "From: =?utf-8?q?J=C3=BC?= <a@b.c>\r\nTo: x@y.z, \"Q, R\" <q@r.s>,\r\n"
    " group: t@u.v;\r\nCc: undisclosed-recipients:;\r\nReply-To: a@b.c\r\n"
    "Subject: one\r\n two\r\nDate: Sat, 21 Nov 2026 10:00:00 +0000\r\n"
    "Message-ID: <m@h>\r\nX-Empty:\r\nMIME-Version: 1.0\r\n"
    "Content-Type: text/plain\r\n\r\nFrom: root\r\nBcc: x\r\n\r\nX-SES-A: "
    "b\r\n";

static void test_clean_mail_stays_byte_for_byte(void **state)
{
	struct outcome o = run(&defaults, clean);

	(void)state;
	assert_string_equal(o.out.ptr, clean);
	assert_string_equal(o.notes.ptr, "");
	assert_false(o.is_refused);
	assert_false(o.broke);
	outcome_free(&o);
}

/* --- any content --- */

static uint64_t next_random(uint64_t *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 7;
	*seed ^= *seed << 17;
	return *seed;
}

static size_t cut_one(void *state)
{
	(void)state;
	return 1;
}

static size_t cut_randomly(void *state)
{
	return 1 + next_random(state) % 40;
}

static const char *const pieces[] = { "From", "Sender", "To", "Cc", "Bcc",
	"Reply-To", "Return-Path", "Date", "Message-ID", "Subject", "X-SES-A",
	"X-SES-OURS", "DKIM-Signature", "Resent-To", ": ", ":", " :", "\r\n",
	"\r\n", "\r\n ", "\r\n\t", "\r\n\r\n", "root", "root@x.internal",
	"a@b.c", "<", ">", "<a@b.c>", "<root>", "<>", "(", ")", "\"", "\\", ",",
	";", "@", "[", "]", " ", " ", "word", "=?x?q?y?=", "\xc3\xbc",
	"From a Mon Jan 1\r\n", "h=From:To;", "undisclosed-recipients:;",
	"From: root\r\n", "To: root, x\r\n", "X: y\r\n", "Subject: s\r\n" };

/* Fields and rubbish, most often beginning as a header does. */
static struct text random_content(uint64_t *seed)
{
	struct text t = { 0 };
	size_t n = next_random(seed) % 60;

	text_add(&t, "", 0);
	while (n-- > 0) {
		uint64_t dice = next_random(seed);
		const char *piece = pieces[(dice >> 8) % ARRAY_LEN(pieces)];

		if (dice % 199 == 0)
			for (size_t k = 0; k < 1000; k++)
				text_add(&t, dice >> 16 & 1 ? "x" : "y ", 2);
		else if (dice % 4 == 0 && t.len > 0 && t.ptr[t.len - 1] != '\n')
			text_add(&t, "\r\n", 2);
		text_add(&t, piece, strlen(piece));
	}
	return t;
}

/* NULs come in with the long "x"; they are taken out: no canonical content. */
static void drop_nuls(struct text *t)
{
	size_t len = 0;

	for (size_t i = 0; i < t->len; i++)
		if (t->ptr[i] != '\0')
			t->ptr[len++] = t->ptr[i];
	t->len = len;
	t->ptr[len] = '\0';
}

static struct rewrite_rules random_rules(uint64_t *seed)
{
	static const struct rewrite_rule senders_rules[] = {
		{ "*@*.internal", "noreply@ok.org" },
		{ "root@*", "noreply@ok.org" },
	};
	uint64_t dice = next_random(seed);
	struct rewrite_rules rules = defaults;

	if (dice & 1)
		rules.default_domain = "d.org";
	if (dice & 2) {
		rules.senders = senders_rules;
		rules.n_senders = ARRAY_LEN(senders_rules);
	}
	rules.add_headers = dice & 4;
	rules.reject_duplicates = dice & 8;
	rules.keep_ses_headers = dice & 16;
	if (dice & 32)
		rules.ses_headers = "X-SES-OURS: 1\r\nX-SES-B: 2\r\n";
	return rules;
}

static void assert_equal(const struct text *in, const struct outcome *a,
    const struct outcome *b, const char *what)
{
	if (a->out.len != b->out.len ||
	    memcmp(a->out.ptr, b->out.ptr, a->out.len) != 0 ||
	    a->is_refused != b->is_refused)
		fail_msg("%s: \"%s\" became \"%s\" and \"%s\"", what, in->ptr,
		    a->out.ptr, b->out.ptr);
}

static void assert_canonical(const struct text *in, const struct outcome *o)
{
	for (size_t i = 0; i < o->out.len; i++) {
		char c = o->out.ptr[i];
		bool bare_lf =
		    c == '\n' && (i == 0 || o->out.ptr[i - 1] != '\r');
		bool bare_cr = c == '\r' && o->out.ptr[i + 1] != '\n';

		if (c == '\0' || bare_lf || bare_cr)
			fail_msg("\"%s\" became \"%s\"", in->ptr, o->out.ptr);
	}
}

/* Where the body begins: behind the empty line, or at a line that is none. */
static const char *find_body(const char *in)
{
	bool has_field = false;

	for (;;) {
		const char *end = strchr(in, '\n');
		size_t name = strcspn(in, ": \t\r\n"), blanks;

		if (strncmp(in, "\r\n", 2) == 0)
			return in + 2;
		blanks = strspn(in + name, " \t");
		if (has_field && (*in == ' ' || *in == '\t'))
			;
		else if (name > 0 && in[name + blanks] == ':' &&
		    strpbrk(in, "\xc3\xbc") != in)
			has_field = true;
		else
			return in;
		for (size_t i = 0; i < name; i++)
			if ((unsigned char)in[i] >= 0x80 && *in != ' ' &&
			    *in != '\t')
				return in;
		if (end == NULL)
			return in + strlen(in);
		in = end + 1;
	}
}

static void check_body(const struct text *in, const struct outcome *o)
{
	const char *start = in->ptr, *body, *lf = strchr(start, '\n');
	const char *mbox = strstr(start, " Mon Jan 1");
	size_t from = strspn(start, ">") < 2 ? strspn(start, ">") : 0, len;

	if (strncmp(start + from, "From ", 5) == 0 && mbox && mbox < lf &&
	    start[from + 5 + strspn(start + from + 5, " ")] != ':')
		start = lf + 1;
	body = find_body(start);
	len = strlen(body);
	if (o->out.len < len + 2 ||
	    strcmp(o->out.ptr + o->out.len - len, body) != 0 ||
	    memcmp(o->out.ptr + o->out.len - len - 2, "\r\n", 2) != 0 ||
	    find_body(o->out.ptr) != o->out.ptr + o->out.len - len)
		fail_msg("body \"%s\" of \"%s\" in \"%s\"", body, in->ptr,
		    o->out.ptr);
}

static void test_any_content_cut_anywhere(void **state)
{
	uint64_t seed = 20261122;

	(void)state;
	for (int i = 0; i < 20000; i++) {
		struct rewrite_rules rules = random_rules(&seed);
		struct text in = random_content(&seed);
		struct outcome o, other;

		drop_nuls(&in);
		o = run(&rules, in.ptr);
		assert_canonical(&in, &o);
		check_body(&in, &o);
		other =
		    run_cut(&rules, &context, slice_str(in.ptr), cut_one, NULL);
		assert_equal(&in, &o, &other, "cut");
		assert_string_equal(o.notes.ptr, other.notes.ptr);
		outcome_free(&other);
		other = run_cut(
		    &rules, &context, slice_str(in.ptr), cut_randomly, &seed);
		assert_equal(&in, &o, &other, "cut");
		outcome_free(&other);
		other = run(&rules, o.out.ptr);
		assert_equal(&in, &o, &other, "again");
		outcome_free(&other);
		outcome_free(&o);
		free(in.ptr);
	}
}

/* Each field of random names is there in the end, or is told to be removed. */
static void test_no_field_is_lost_but_by_rule(void **state)
{
	uint64_t seed = 5;

	(void)state;
	for (int i = 0; i < 5000; i++) {
		struct rewrite_rules rules = random_rules(&seed);
		struct text in = { 0 };
		unsigned n_fields = 0, n_left = 0, n_notes = 0;
		struct outcome o;

		for (int k = 0; k < 12; k++) {
			uint64_t dice = next_random(&seed);
			char *field = xasprintf("%s: %s <%s%d>\r\n",
			    pieces[dice % 14], dice & 256 ? "" : "\r\n name",
			    dice & 512 ? "root@x." : "mark", k);

			text_add(&in, field, strlen(field));
			free(field);
			n_fields++;
		}
		text_add(&in, "\r\n", 2);
		o = run(&rules, in.ptr);
		for (const char *p = o.out.ptr; *p != '\r';) {
			n_left += *p != ' ' && *p != '\t';
			p = strstr(p, "\r\n") + 2;
		}
		for (const char *p = o.notes.ptr; (p = strchr(p, '|')); p++) {
			n_notes += strncmp(p, "|removed", 8) == 0;
			n_left -= strncmp(p, "|added", 6) == 0;
		}
		if (n_left + n_notes != n_fields)
			fail_msg("\"%s\" became \"%s\": %s", in.ptr, o.out.ptr,
			    o.notes.ptr);
		outcome_free(&o);
		free(in.ptr);
	}
}

/* --- more than is kept --- */

static void test_endless_blocks_pass(void **state)
{
	static const char head[] =
	    "To: root\r\n" THEIRS F "Bcc: x@y.z\r\nSubject: s\r\n";
	static const char tail[] =
	    "X-Ses-a: b\r\n folded\r\nX-SE: c\r\n"
	    "bcc: secret@x.y\r\nTo: root\r\nBc: d\r\n\r\n"
	    "X-SES-A: body\r\nBcc: body\r\n";
	static const char want[] = "X-SE: c\r\nTo: root\r\nBc: d\r\n\r\n"
				   "X-SES-A: body\r\nBcc: body\r\n";
	struct rewrite_rules rules = defaults;
	struct text in = { 0 };
	struct outcome o, other;
	uint64_t seed = 1;

	(void)state;
	rules.default_domain = "d.org";
	rules.ses_headers = OURS;
	text_add(&in, head, strlen(head));
	while (in.len < REWRITE_BLOCK_MAX + 1000)
		text_add(&in, "X-A: 0123456789\r\n\tabc\r\n", 23);
	text_add(&in, tail, strlen(tail));
	o = run(&rules, in.ptr);
	assert_false(o.is_refused);
	assert_memory_equal(o.out.ptr, "To: root@d.org\r\n" F "Subject", 36);
	assert_non_null(strstr(o.out.ptr, OURS));
	assert_null(strstr(o.out.ptr, "theirs"));
	assert_null(strstr(o.out.ptr, "secret"));
	assert_string_equal(o.out.ptr + o.out.len - strlen(want), want);
	/* What may yet come is not added. */
	assert_null(strstr(o.out.ptr, "Date:"));
	other = run_cut(&rules, &context, slice_str(in.ptr), cut_one, NULL);
	assert_equal(&in, &o, &other, "cut");
	outcome_free(&other);
	other =
	    run_cut(&rules, &context, slice_str(in.ptr), cut_randomly, &seed);
	assert_equal(&in, &o, &other, "cut");
	outcome_free(&other);
	outcome_free(&o);
	free(in.ptr);
}

static void test_endless_line_passes(void **state)
{
	struct text in = { 0 };
	struct outcome o;

	(void)state;
	while (in.len < 3 * REWRITE_BLOCK_MAX)
		text_add(&in, "0123456789", 10);
	o = run(&defaults, in.ptr);
	assert_string_equal(o.out.ptr, in.ptr);
	outcome_free(&o);
	free(in.ptr);
}

/* Bare names of one letter, which grow a hundred times by a long domain. */
static void test_growth_is_bounded(void **state)
{
	char domain[200] = { 0 };
	struct rewrite_rules rules = defaults;
	struct text in = { 0 };
	struct outcome o;

	(void)state;
	memset(domain, 'd', sizeof(domain) - 1);
	rules.default_domain = domain;
	text_add(&in, "From: a@b.c\r\nTo: a", 18);
	while (in.len < REWRITE_BLOCK_MAX - 1000)
		text_add(&in, ",a", 2);
	text_add(&in, "\r\n\r\nbody\r\n", 10);
	o = run(&rules, in.ptr);
	assert_in_range(
	    o.out.len, 2 * REWRITE_BLOCK_MAX, 4 * REWRITE_BLOCK_MAX);
	assert_non_null(strstr(o.out.ptr, "\r\n\r\nbody\r\n"));
	outcome_free(&o);
	free(in.ptr);
}

/* Lists of a quarter of a megabyte that open things and never close them. */
static void test_hostile_lists_stay(void **state)
{
	static const char *const parts[] = { "[", "(", "<", "\"", "\\", "@",
		"<\"", "a@", "(a", "[a", ".@", "=?", "[\"" };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
		struct text in = { 0 };
		struct outcome o;

		text_add(&in, F D M "To:", strlen(F D M "To:"));
		while (in.len < REWRITE_BLOCK_MAX - 1000)
			text_add(&in, parts[i], strlen(parts[i]));
		text_add(&in, "\r\n\r\n", 4);
		o = run(&defaults, in.ptr);
		assert_string_equal(o.out.ptr, in.ptr);
		outcome_free(&o);
		free(in.ptr);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_clean_mail_stays_byte_for_byte),
		cmocka_unit_test(test_any_content_cut_anywhere),
		cmocka_unit_test(test_no_field_is_lost_but_by_rule),
		cmocka_unit_test(test_endless_blocks_pass),
		cmocka_unit_test(test_endless_line_passes),
		cmocka_unit_test(test_growth_is_bounded),
		cmocka_unit_test(test_hostile_lists_stay),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
