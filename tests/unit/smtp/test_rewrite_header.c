/*
 * The header rewriter: what becomes of each kind of field.
 */
#include "rewrite_test.h"

struct change_case {
	const char *before, *after, *note; /* note: NULL: none */
};

static void check_changes(const struct rewrite_rules *rules,
    const struct change_case *cases, size_t n_cases, const char *tail)
{
	for (size_t i = 0; i < n_cases; i++) {
		const struct change_case *c = &cases[i];
		char *in = xasprintf("%s%s", c->before, tail);
		char *want = xasprintf("%s%s", c->after, tail);
		struct outcome o = run(rules, in);

		if (strcmp(o.out.ptr, want) != 0)
			fail_msg("\"%s\" became \"%s\", not \"%s\"", in,
			    o.out.ptr, want);
		if (c->note ? strcmp(o.notes.ptr, c->note) != 0
			    : o.notes.len > 0)
			fail_msg("\"%s\": notes \"%s\", not \"%s\"", in,
			    o.notes.ptr, c->note ? c->note : "");
		if (o.is_refused)
			fail_msg("\"%s\" refused: %s", in, o.why.text);
		outcome_free(&o);
		free(want);
		free(in);
	}
}

#define BEYOND_ASCII                                                           \
	"bytes beyond ASCII, which Amazon SES wants as encoded words (RFC "    \
	"2047)\n"
#define COMPLETED "address completed\n"

static const struct change_case completed[] = {
	{ "To: root\r\n", "To: root@d.org\r\n", "To|" COMPLETED },
	{ "to:root\r\n", "to:root@d.org\r\n", "to|" COMPLETED },
	{ "To: <root>\r\n", "To: <root@d.org>\r\n", "To|" COMPLETED },
	{ "To: root (Cron Daemon)\r\n", "To: root@d.org (Cron Daemon)\r\n",
	    "To|" COMPLETED },
	{ "To: (a \\) b (c)) root\r\n", "To: (a \\) b (c)) root@d.org\r\n",
	    "To|" COMPLETED },
	{ "To: \"Big, Boss\" <root>, x@y.z\r\n",
	    "To: \"Big, Boss\" <root@d.org>, x@y.z\r\n", "To|" COMPLETED },
	{ "To: \"a\\\"<b\" <root>\r\n", "To: \"a\\\"<b\" <root@d.org>\r\n",
	    "To|" COMPLETED },
	{ "To: =?utf-8?q?J=C3=BC?= <root>\r\n",
	    "To: =?utf-8?q?J=C3=BC?= <root@d.org>\r\n", "To|" COMPLETED },
	{ "To: J\xc3\xbcrgen <root>\r\n", "To: J\xc3\xbcrgen <root@d.org>\r\n",
	    "To|" COMPLETED "To|" BEYOND_ASCII },
	{ "To: J\xfcrgen <root>\r\n", "To: J\xfcrgen <root@d.org>\r\n",
	    "To|" COMPLETED "To|" BEYOND_ASCII },
	{ "To: a,\r\n\tb,\r\n c@x.y\r\n",
	    "To: a@d.org,\r\n\tb@d.org,\r\n c@x.y\r\n", "To|" COMPLETED },
	{ "Cc: staff: a, B <b>;, c\r\n",
	    "Cc: staff: a@d.org, B <b@d.org>;, c@d.org\r\n", "Cc|" COMPLETED },
	{ "Cc: a@x; b\r\n", "Cc: a@x; b@d.org\r\n", "Cc|" COMPLETED },
	{ "Cc: < a >\r\n", "Cc: < a@d.org >\r\n", "Cc|" COMPLETED },
	{ "Cc: <@x,@y:a>\r\n", "Cc: <@x,@y:a@d.org>\r\n", "Cc|" COMPLETED },
	{ "Cc: a@b <root>\r\n", "Cc: a@b <root@d.org>\r\n", "Cc|" COMPLETED },
	{ "Cc: [Ops] x <root>\r\n", "Cc: [Ops] x <root@d.org>\r\n",
	    "Cc|" COMPLETED },
	{ "Cc: \"r t\"\r\n", "Cc: \"r t\"@d.org\r\n", "Cc|" COMPLETED },
	{ "Cc: h!u, u%h\r\n", "Cc: h!u@d.org, u%h@d.org\r\n", "Cc|" COMPLETED },
	{ "Sender: root\r\n", "Sender: root@d.org\r\n", "Sender|" COMPLETED },
	{ "Reply-To: root\r\n", "Reply-To: root@d.org\r\n",
	    "Reply-To|" COMPLETED },
	{ "Return-Path: <root>\r\n", "Return-Path: <root@d.org>\r\n",
	    "Return-Path|" COMPLETED },
	{ "Resent-From: r\r\nResent-To: s\r\nResent-Cc: t\r\n",
	    "Resent-From: r@d.org\r\nResent-To: s@d.org\r\n"
	    "Resent-Cc: t@d.org\r\n",
	    "Resent-From|" COMPLETED "Resent-To|" COMPLETED
	    "Resent-Cc|" COMPLETED },
	{ "Resent-Sender: r\r\nResent-Reply-To: s\r\n",
	    "Resent-Sender: r@d.org\r\nResent-Reply-To: s@d.org\r\n",
	    "Resent-Sender|" COMPLETED "Resent-Reply-To|" COMPLETED },
	/* What is whole, or not understood, stays byte for byte. */
	{ "To: undisclosed-recipients:;\r\n",
	    "To: undisclosed-recipients:;\r\n", NULL },
	{ "To: undisclosed recipients: ;\r\n",
	    "To: undisclosed recipients: ;\r\n", NULL },
	{ "To: a@b.c , , \"x\"@y\r\n", "To: a@b.c , , \"x\"@y\r\n", NULL },
	{ "To: a @ b . c\r\n", "To: a @ b . c\r\n", NULL },
	{ "To: two words\r\n", "To: two words\r\n", NULL },
	{ "To: a@b@c\r\n", "To: a@b@c\r\n", NULL },
	{ "To: root@\r\n", "To: root@\r\n", NULL },
	{ "To: @x\r\n", "To: @x\r\n", NULL },
	{ "To: <a@b> <c>\r\n", "To: <a@b> <c>\r\n", NULL },
	{ "To: <root\r\n", "To: <root\r\n", NULL },
	{ "To: \"root\r\n", "To: \"root\r\n", NULL },
	{ "To: root (x\r\n", "To: root (x\r\n", NULL },
	{ "To: root>\r\n", "To: root>\r\n", NULL },
	{ "To: =?utf-8?q?Boss?=\r\n", "To: =?utf-8?q?Boss?=\r\n", NULL },
	{ "To: a@[IPv6:::1]\r\n", "To: a@[IPv6:::1]\r\n", NULL },
	{ "To: <>\r\n", "To: <>\r\n", NULL },
	/* Fields that are no lists of addresses. */
	{ "Subject: root\r\nX-To: root\r\nErrors: <root>\r\n",
	    "Subject: root\r\nX-To: root\r\nErrors: <root>\r\n", NULL },
};

static void test_addresses_are_completed(void **state)
{
	struct rewrite_rules rules = defaults;

	(void)state;
	rules.default_domain = "d.org";
	check_changes(&rules, completed, ARRAY_LEN(completed), F REST);
}

static void test_without_a_domain_nothing_is_completed(void **state)
{
	static const struct change_case cases[] = {
		{ "To: root\r\nCc: <x>\r\n", "To: root\r\nCc: <x>\r\n", NULL },
		{ "Sender: root\r\n", "",
		    "Sender|removed: there is no address in it\n" },
		{ "Return-Path: root\r\n", "",
		    "Return-Path|removed: SES would send bounces there, and it "
		    "is not one address\n" },
	};

	(void)state;
	check_changes(&defaults, cases, ARRAY_LEN(cases), F REST);
}

#define REPLACED "address replaced (rewrite.senders)\n"
#define OLD_FROM "Reply-To|added: the From before it was replaced\n"

static const struct rewrite_rule sender_rules[] = {
	{ "boss@*.internal", "boss@ok.org" },
	{ "*@*.INTERNAL", "noreply@ok.org" },
	{ "root", "root@ok.org" },
	{ "*@ok.org", "noreply@ok.org" },
};

static const struct change_case senders[] = {
	{ "From: root@ip-10.internal\r\n" REST,
	    "From: noreply@ok.org\r\n" D M
	    "Reply-To: root@ip-10.internal\r\n\r\nbody\r\n",
	    "From|" REPLACED OLD_FROM },
	/* The name stays; the old From is as it was, folds included. */
	{ "From: \"R, t\"\r\n <R@X.Internal> (y)\r\n" REST,
	    "From: \"R, t\"\r\n <noreply@ok.org> (y)\r\n" D M
	    "Reply-To: \"R, t\"\r\n <R@X.Internal> (y)\r\n\r\nbody\r\n",
	    "From|" REPLACED OLD_FROM },
	{ "From: boss@a.internal, c@d.e\r\n" REST,
	    "From: boss@ok.org, c@d.e\r\n" D M
	    "Reply-To: boss@a.internal, c@d.e\r\n\r\nbody\r\n",
	    "From|" REPLACED OLD_FROM },
	/* Blanks and comments inside do not hide an address. */
	{ "From: r @ (x) a.internal\r\n" REST,
	    "From: noreply@ok.org\r\n" D M
	    "Reply-To: r @ (x) a.internal\r\n\r\nbody\r\n",
	    "From|" REPLACED OLD_FROM },
	{ "From: r@a.internal\r\nReply-To: x@y.z\r\n" REST,
	    "From: noreply@ok.org\r\nReply-To: x@y.z\r\n" REST,
	    "From|" REPLACED },
	{ "Reply-To: x@y.z\r\nFrom: r@a.internal\r\n" REST,
	    "Reply-To: x@y.z\r\nFrom: noreply@ok.org\r\n" REST,
	    "From|" REPLACED },
	/* An empty one is none. */
	{ "Reply-To: \r\nFrom: r@a.internal\r\n" REST,
	    "From: noreply@ok.org\r\n" D M
	    "Reply-To: r@a.internal\r\n\r\nbody\r\n",
	    "Reply-To|removed: it is empty\nFrom|" REPLACED OLD_FROM },
	/* Bare names: by a rule for the name, then by those for addresses. */
	{ "From: root (Cron Daemon)\r\n" REST,
	    "From: root@ok.org (Cron Daemon)\r\n" D M
	    "Reply-To: root@d.org (Cron Daemon)\r\n\r\nbody\r\n",
	    "From|" REPLACED OLD_FROM },
	{ F "Sender: r@a.internal\r\nReturn-Path: <r@a.internal>\r\n" REST,
	    F
	    "Sender: noreply@ok.org\r\nReturn-Path: <noreply@ok.org>\r\n" REST,
	    "Sender|" REPLACED "Return-Path|" REPLACED },
	/* What is no address is no sender that a rule is for. */
	{ "From: x@y@a.internal\r\n" REST,
	    D M "From: sender@example.com\r\n\r\nbody\r\n",
	    "From|removed: there is no address in it\n"
	    "From|added: the sender of the envelope\n" },
	/* Recipients are no senders; what a rule gives is no change. */
	{ F "To: r@a.internal\r\nReply-To: r@a.internal\r\n" REST,
	    F "To: r@a.internal\r\nReply-To: r@a.internal\r\n" REST, NULL },
	{ "From: NoReply@OK.org\r\n" REST, "From: NoReply@OK.org\r\n" REST,
	    NULL },
};

static void test_senders_by_pattern(void **state)
{
	struct rewrite_rules rules = defaults;

	(void)state;
	rules.default_domain = "d.org";
	rules.senders = sender_rules;
	rules.n_senders = ARRAY_LEN(sender_rules);
	check_changes(&rules, senders, ARRAY_LEN(senders), "");
}

static const struct change_case added[] = {
	{ F M "\r\nb\r\n",
	    F M "Date: Sat, 21 Nov 2026 10:00:00 +0000\r\n\r\nb\r\n",
	    "Date|added\n" },
	{ F D "\r\nb\r\n",
	    F D "Message-ID: <0123456789ABCDEF@relay.example.com>\r\n\r\nb\r\n",
	    "Message-ID|added\n" },
	{ D M "\r\nb\r\n", D M "From: sender@example.com\r\n\r\nb\r\n",
	    "From|added: the sender of the envelope\n" },
	{ F "Date:  \r\n" M "\r\nb\r\n",
	    F M "Date: Sat, 21 Nov 2026 10:00:00 +0000\r\n\r\nb\r\n",
	    "Date|removed: it is empty\nDate|added\n" },
	{ "From: \r\n" REST, D M "From: sender@example.com\r\n\r\nbody\r\n",
	    "From|removed: it is empty\n"
	    "From|added: the sender of the envelope\n" },
	{ "From: two words\r\n" REST,
	    D M "From: sender@example.com\r\n\r\nbody\r\n",
	    "From|removed: there is no address in it\n"
	    "From|added: the sender of the envelope\n" },
	/* There is no default domain here, but a sender. */
	{ "From: root (Cron Daemon)\r\n" REST,
	    "From: sender@example.com (Cron Daemon)\r\n" REST,
	    "From|address of the envelope put in\n" },
	{ "From: Cron <>\r\n" REST, "From: Cron <sender@example.com>\r\n" REST,
	    "From|address of the envelope put in\n" },
	/* From in the body, or in a name, is no From. */
	{ D M "X-From: a@b.c\r\n\r\nFrom: a@b.c\r\n",
	    D M "X-From: a@b.c\r\nFrom: sender@example.com\r\n\r\n"
		"From: a@b.c\r\n",
	    "From|added: the sender of the envelope\n" },
};

#define MADE                                                                   \
	"From: sender@example.com\r\n"                                         \
	"Date: Sat, 21 Nov 2026 10:00:00 +0000\r\n"                            \
	"Message-ID: <0123456789ABCDEF@relay.example.com>\r\n"
#define MADE_NOTES                                                             \
	"From|added: the sender of the envelope\nDate|added\n"                 \
	"Message-ID|added\n"
#define NO_HEADER "|there was no header: the text begins with the body\n"
#define BODY_LINE                                                              \
	"|the body begins here, at a line that is no header field: an "        \
	"empty line added\n"
#define EMPTY_LINE "|an empty line added behind the header\n"

/* What is no RFC 5322 header, and where the block ends. */
static const struct change_case shapes[] = {
	{ "hello\r\n", MADE "\r\nhello\r\n", MADE_NOTES NO_HEADER },
	{ "hello", MADE "\r\nhello", MADE_NOTES NO_HEADER },
	{ "hello: no field\r\n", "hello: no field\r\n" MADE "\r\n",
	    MADE_NOTES EMPTY_LINE },
	{ "", MADE "\r\n", MADE_NOTES NO_HEADER },
	{ "\r\nhello\r\n", MADE "\r\nhello\r\n", MADE_NOTES },
	{ " x: y\r\n" F "\r\n", MADE "\r\n x: y\r\n" F "\r\n",
	    MADE_NOTES NO_HEADER },
	{ ":-) x\r\n" F, MADE "\r\n:-) x\r\n" F, MADE_NOTES NO_HEADER },
	{ F D M "two words\r\nX: y\r\n\r\nb\r\n",
	    F D M "\r\ntwo words\r\nX: y\r\n\r\nb\r\n", BODY_LINE },
	{ F D M ": y\r\nX: y\r\n", F D M "\r\n: y\r\nX: y\r\n", BODY_LINE },
	{ F D M, F D M "\r\n", EMPTY_LINE },
	{ F D M "X: y", F D M "X: y\r\n\r\n", EMPTY_LINE },
	{ F D M "X: y\r\n z", F D M "X: y\r\n z\r\n\r\n", EMPTY_LINE },
	{ F D M "xyz", F D M "\r\nxyz", BODY_LINE },
	{ "From root@x Mon Jan  1 00:00:00 2024\r\n" F REST, F REST,
	    "From |removed: the separator of a mailbox\n" },
	{ ">From - Sat Dec 1 00:00:00 2024\r\n" F REST, F REST,
	    "From |removed: the separator of a mailbox\n" },
	/* Such a line may also be the text that somebody wrote. */
	{ "From now on I am away\r\n", MADE "\r\nFrom now on I am away\r\n",
	    MADE_NOTES NO_HEADER },
	{ "From you and Jan it is\r\n", MADE "\r\nFrom you and Jan it is\r\n",
	    MADE_NOTES NO_HEADER },
	{ F D M "From x Mon Jan  1 00:00:00 2024\r\n",
	    F D M "\r\nFrom x Mon Jan  1 00:00:00 2024\r\n", BODY_LINE },
	{ "From \t: a@b.c\r\nX : y\r\n" REST, F "X: y\r\n" REST,
	    "From|blank before the colon removed\n"
	    "X|blank before the colon removed\n" },
};

static void test_missing_fields_are_added(void **state)
{
	(void)state;
	check_changes(&defaults, added, ARRAY_LEN(added), "");
}

static void test_shapes_of_blocks(void **state)
{
	(void)state;
	check_changes(&defaults, shapes, ARRAY_LEN(shapes), "");
}

static void check_made_from(const char *sender, const char *domain,
    const struct rewrite_rule *rule, const char *want)
{
	struct rewrite_rules rules = defaults;
	struct rewrite_context c = context;
	struct outcome o;

	rules.default_domain = domain;
	rules.senders = rule;
	rules.n_senders = rule ? 1 : 0;
	c.sender = sender;
	o = run_cut(&rules, &c, slice_str(REST), NULL, NULL);
	if (want) {
		assert_false(o.is_refused);
		assert_non_null(strstr(o.out.ptr, want));
	} else {
		assert_true(o.is_refused);
	}
	outcome_free(&o);
}

static void test_from_of_a_notice(void **state)
{
	static const struct rewrite_rule rule = { "mailer-daemon@*",
		"noreply@ok.org" };
	static const struct rewrite_rule other = { "*@x.y", "z@ok.org" };

	(void)state;
	check_made_from("", "d.org", NULL, "From: MAILER-DAEMON@d.org\r\n");
	check_made_from(
	    "", NULL, NULL, "From: MAILER-DAEMON@relay.example.com\r\n");
	check_made_from("", NULL, &rule, "From: noreply@ok.org\r\n");
	check_made_from("a@x.y", NULL, &other, "From: a@x.y\r\n");
	check_made_from("root", "d.org", NULL, "From: root@d.org\r\n");
	check_made_from("root", NULL, NULL, NULL);
}

#define BLIND "removed: blind copies are nobody else's business\n"
#define NOBODY "To|added: no other field names a recipient\n"
#define NOBODY_TO "To: undisclosed-recipients:;\r\n\r\nbody\r\n"
#define TO "To: x@y.z\r\n"

static const struct change_case blind[] = {
	{ TO "Bcc: s@t.u\r\n" F REST, TO F REST, "Bcc|" BLIND },
	{ "bcc: s@t.u,\r\n v@w.x\r\nCc: x@y.z\r\n" F REST,
	    "Cc: x@y.z\r\n" F REST, "bcc|" BLIND },
	{ "Bcc: s@t.u\r\n" F REST, F D M NOBODY_TO, "Bcc|" BLIND NOBODY },
	{ "Bcc : s@t.u\r\n" F REST, F D M NOBODY_TO, "Bcc|" BLIND NOBODY },
	{ "To: \r\nBcc: s@t.u\r\n" F REST, F D M NOBODY_TO,
	    "To|removed: it is empty\nBcc|" BLIND NOBODY },
	{ TO "Cc:\r\n" F REST, TO F REST, "Cc|removed: it is empty\n" },
	{ TO "Resent-Bcc: s@t.u\r\n" F REST, TO F REST, "Resent-Bcc|" BLIND },
	/* A message need not name recipients. */
	{ F REST, F REST, NULL },
};

static void test_blind_copies(void **state)
{
	(void)state;
	check_changes(&defaults, blind, ARRAY_LEN(blind), "");
}

#define DOUBLE "removed: SES takes this field once, the first stays\n"
#define BOUNCES                                                                \
	"Return-Path|removed: SES would send bounces there, and it is not "    \
	"one address\n"

static const struct change_case doubled[] = {
	{ F "Subject: a\r\nsubject: b\r\n c\r\nX: y\r\n" REST,
	    F "Subject: a\r\nX: y\r\n" REST, "subject|" DOUBLE },
	{ F "MIME-Version: 1.0\r\nMIME-Version: 1.0\r\n" REST,
	    F "MIME-Version: 1.0\r\n" REST, "MIME-Version|" DOUBLE },
	{ F F REST, F REST, "From|" DOUBLE },
	{ F D REST, F REST, "Date|" DOUBLE },
	{ F "Thread-Topic: a\r\nTHREAD-TOPIC: b\r\nVBR-Info: a\r\n"
	    "VBR-Info: b\r\n" REST,
	    F "Thread-Topic: a\r\nVBR-Info: a\r\n" REST,
	    "THREAD-TOPIC|" DOUBLE "VBR-Info|" DOUBLE },
	/* Nothing is no first. */
	{ F "Reply-To:\r\nReply-To: x@y.z\r\n" REST,
	    F "Reply-To: x@y.z\r\n" REST, "Reply-To|removed: it is empty\n" },
	{ "From: two words\r\n" F REST, F REST,
	    "From|removed: there is no address in it\n" },
	{ F "Return-Path: <>\r\nReturn-Path: <x@y.z>\r\n" REST,
	    F "Return-Path: <x@y.z>\r\n" REST, BOUNCES },
	{ F "Return-Path: x@y, z@y\r\n" REST, F REST, BOUNCES },
	/* SES takes any number of these. */
	{ F TO TO "Cc: a@b\r\nCc: c@d\r\nReceived: x\r\nReceived: y\r\n"
		  "X-A: b\r\nX-A: b\r\n" REST,
	    F TO TO "Cc: a@b\r\nCc: c@d\r\nReceived: x\r\nReceived: y\r\n"
		    "X-A: b\r\nX-A: b\r\n" REST,
	    NULL },
};

static void test_first_of_doubled_fields_stays(void **state)
{
	(void)state;
	check_changes(&defaults, doubled, ARRAY_LEN(doubled), "");
}

#define STEER "removed: clients may not steer SES (ses.client_headers)\n"
static void test_ses_headers(void **state)
{
	static const struct change_case strip[] = {
		{ THEIRS "x-ses-tenant: t\r\nX-SES: y\r\n" F REST,
		    "X-SES: y\r\n" F D M OURS "\r\nbody\r\n",
		    "X-Ses-Configuration-Set|" STEER "x-ses-tenant|" STEER
		    "X-SES-CONFIGURATION-SET|added: ours\n" },
		{ "X-SES-A : y\r\n" F REST, F D M OURS "\r\nbody\r\n",
		    "X-SES-A|" STEER "X-SES-CONFIGURATION-SET|added: ours\n" },
	};
	static const struct change_case keep[] = {
		{ THEIRS "X-SES-A: y\r\n" F REST,
		    THEIRS "X-SES-A: y\r\n" F REST, NULL },
		{ "X-SES-A: y\r\n" F REST,
		    "X-SES-A: y\r\n" F D M OURS "\r\nbody\r\n",
		    "X-SES-CONFIGURATION-SET|added: ours\n" },
	};
	struct rewrite_rules rules = defaults;

	(void)state;
	rules.ses_headers = OURS;
	check_changes(&rules, strip, ARRAY_LEN(strip), "");
	rules.keep_ses_headers = true;
	check_changes(&rules, keep, ARRAY_LEN(keep), "");
}

static void check_refused(const struct rewrite_rules *rules, const char *in,
    const char *status, const char *words)
{
	struct outcome o = run(rules, in);

	if (!o.is_refused || strcmp(o.why.status, status) != 0 ||
	    strstr(o.why.text, words) == NULL)
		fail_msg("\"%s\": %d %s %s", in, o.is_refused, o.why.status,
		    o.why.text);
	outcome_free(&o);
}

static void test_refusals(void **state)
{
	struct rewrite_rules rules = defaults;

	(void)state;
	check_refused(
	    &rules, F "To: j\xc3\xbcrgen@b.c\r\n" REST, "5.6.7", " To field");
	check_refused(
	    &rules, F "Cc: x@y, A <a@b\xfc.c>\r\n" REST, "5.6.7", " Cc field");
	check_refused(
	    &rules, "From: \xc3\xa4@b.c\r\n" REST, "5.6.7", " From field");
	rules.reject_duplicates = true;
	check_refused(&rules, F "Subject: a\r\nSUBJECT: b\r\n" REST, "5.6.0",
	    "more than one SUBJECT field");
	/* The first reason is the one that is told. */
	check_refused(&rules,
	    F "To: \xfc@b.c\r\nSubject: a\r\nSubject: b\r\n" REST, "5.6.7",
	    " To field");
	rules.add_headers = false;
	check_refused(
	    &rules, D M "\r\nb\r\n", "5.6.0", "set rewrite.add_headers");
	check_refused(&rules, "From: root\r\n" REST, "5.6.0", "no From field");
	check_refused(&rules, "From: <>\r\n" REST, "5.6.0", "no From field");
	check_refused(&rules, "hello\r\n", "5.6.0", "no From field");
	/* Names are not addresses, and Resent- fields are not SES's. */
	check_changes(&rules,
	    &(struct change_case){ F
		"To: J\xc3\xbc <a@b.c> (\xfc)\r\nResent-To: \xfc@x\r\n",
		F "To: J\xc3\xbc <a@b.c> (\xfc)\r\nResent-To: \xfc@x\r\n",
		"To|" BEYOND_ASCII "Resent-To|" BEYOND_ASCII },
	    1, REST);
}

static void test_without_add_headers_nothing_is_added(void **state)
{
	static const struct change_case cases[] = {
		{ F "\r\nb\r\n", F "\r\nb\r\n", NULL },
	};
	struct rewrite_rules rules = defaults;

	(void)state;
	rules.add_headers = false;
	check_changes(&rules, cases, ARRAY_LEN(cases), "");
}

static size_t longest_line(const char *text)
{
	size_t longest = 0;

	for (const char *end; (end = strstr(text, "\r\n")); text = end + 2)
		if ((size_t)(end - text) > longest)
			longest = (size_t)(end - text);
	return longest;
}

/* `n` times `part` behind `head`, as a field in front of a whole mail. */
static char *long_field(const char *head, const char *part, size_t n)
{
	struct text t = { 0 };

	text_add(&t, head, strlen(head));
	while (n-- > 0)
		text_add(&t, part, strlen(part));
	text_add(&t, "\r\n" F REST, strlen("\r\n" F REST));
	return t.ptr;
}

static void drop_all(char *text, const char *what)
{
	for (char *p; (p = strstr(text, what));)
		memmove(p, p + strlen(what), strlen(p + strlen(what)) + 1);
}

/* Folded, and unfolded the same but for the blanks in `made`. */
static void check_folded(
    const char *head, const char *part, size_t n, const char *made)
{
	char *in = long_field(head, part, n);
	struct outcome o = run(&defaults, in),
		       again = run(&defaults, o.out.ptr);

	assert_true(longest_line(in) > 998);
	assert_in_range(longest_line(o.out.ptr), 990 - strlen(part), 998);
	assert_non_null(strstr(o.notes.ptr, "|folded\n"));
	assert_null(strstr(o.out.ptr, "\r\n \r\n"));
	assert_null(strstr(o.out.ptr, "(a,\r\n"));
	assert_string_equal(again.out.ptr, o.out.ptr);
	assert_int_equal(again.notes.len, 0);
	drop_all(in, made);
	drop_all(o.out.ptr, made);
	assert_string_equal(o.out.ptr, in);
	outcome_free(&again);
	outcome_free(&o);
	free(in);
}

static void test_long_lines_are_folded(void **state)
{
	(void)state;
	check_folded("Subject:", " word", 1000, "\r\n");
	check_folded("X-List: ", "some\twords", 3000, "\r\n");
	check_folded("To: ", "a@b.c, ", 1000, "\r\n");
	check_folded("To: x@y", ",a@b.c", 1000, "\r\n ");
	check_folded("To: \"x,y\" <x@y>", ",(a,b)c@d", 1000, "\r\n ");
}

static void test_what_cannot_be_folded_stays(void **state)
{
	static const char *const heads[] = { "X-Long:", "Subject: ", "To: \"" };
	static const char *const parts[] = { "0123456789", "a,", "a," };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(heads); i++) {
		char *in = long_field(heads[i], parts[i], 1000);
		struct outcome o = run(&defaults, in);
		bool cut = i > 0;

		/* The one blank is a place to fold at. */
		assert_int_equal(strstr(o.notes.ptr, "|folded\n") != NULL, cut);
		assert_non_null(strstr(
		    o.notes.ptr, "|a line over 998 octets cannot be folded\n"));
		if (!cut)
			assert_string_equal(o.out.ptr, in);
		outcome_free(&o);
		free(in);
	}
}

/* Whose charset is not told: only who wrote them can say what they are. */
static void test_bytes_beyond_ascii_stay(void **state)
{
	static const char in[] = "From: J\xc3\xb6rg <a@b.c>\r\nSubject: "
				 "gr\xfc\xdf\r\nX-Ok: =?utf-8?q?"
				 "=C3=BC?=\r\n";
	struct outcome o = run(&defaults, in);

	(void)state;
	assert_int_equal(strncmp(o.out.ptr, in, sizeof(in) - 1), 0);
	assert_non_null(strstr(o.notes.ptr, "From|bytes beyond ASCII, "));
	assert_non_null(strstr(o.notes.ptr, "Subject|bytes beyond ASCII, "));
	assert_null(strstr(o.notes.ptr, "X-Ok|"));
	outcome_free(&o);
}

/* No line is made of the blanks at the end of a long one. */
static void test_blanks_at_the_end_are_no_line(void **state)
{
	struct text t = { 0 };
	struct outcome o;

	(void)state;
	text_add(&t, "X:", 2);
	while (t.len < 990)
		text_add(&t, "b", 1);
	while (t.len < 1100)
		text_add(&t, " ", 1);
	text_add(&t, "\r\n" F REST, strlen("\r\n" F REST));
	o = run(&defaults, t.ptr);
	assert_string_equal(o.out.ptr, t.ptr);
	outcome_free(&o);
	free(t.ptr);
}

static void test_lines_at_the_limit_stay(void **state)
{
	(void)state;
	for (size_t n = 980; n <= 1010; n++) {
		struct text t = { 0 };
		struct outcome o;

		text_add(&t, "X: a ", 5);
		while (t.len < n)
			text_add(&t, "b", 1);
		text_add(&t, "\r\n" F REST, strlen("\r\n" F REST));
		o = run(&defaults, t.ptr);
		assert_int_equal(strcmp(o.out.ptr, t.ptr) == 0, n <= 998);
		if (n > 998)
			assert_memory_equal(o.out.ptr, "X: a\r\n b", 8);
		outcome_free(&o);
		free(t.ptr);
	}
}

#define SIGNATURE(h) "DKIM-Signature: v=1; a=x;\r\n h = " h " ; b=y\r\n"

static void check_broke(const char *in, bool want)
{
	struct rewrite_rules rules = defaults;
	struct outcome o;

	rules.default_domain = "d.org";
	rules.ses_headers = OURS;
	o = run(&rules, in);
	if (o.broke != want)
		fail_msg("\"%s\": broke %d", in, o.broke);
	outcome_free(&o);
}

static void test_broken_signatures_are_told(void **state)
{
	(void)state;
	check_broke(SIGNATURE("From:To") F "To: x@y\r\n" REST, false);
	check_broke(SIGNATURE("From:To") F "To: root\r\n" REST, true);
	check_broke("To: root\r\n" SIGNATURE("from:\r\n\tto") F REST, true);
	check_broke(SIGNATURE("From:Subject") F "To: root\r\n" REST, false);
	/* Added, removed. */
	check_broke(SIGNATURE("From:Date") F M "\r\nb\r\n", true);
	check_broke(SIGNATURE("From:Bcc") F TO "Bcc: x@y\r\n" REST, true);
	check_broke(SIGNATURE("From") F TO "Bcc: x@y\r\n" REST, false);
	/* Not to be read: it may be any; the signature itself is lost. */
	check_broke("DKIM-Signature: x\r\n" F "To: root\r\n" REST, true);
	check_broke(SIGNATURE("From") SIGNATURE("To") F REST, true);
	check_broke(F "To: root\r\n" REST, false);
}

static void test_message_id_is_told(void **state)
{
	struct outcome o = run(&defaults, F REST);

	(void)state;
	assert_string_equal(o.message_id, "m@h");
	outcome_free(&o);
	o = run(&defaults, F D "\r\nb\r\n");
	assert_string_equal(o.message_id, "0123456789ABCDEF@relay.example.com");
	outcome_free(&o);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_addresses_are_completed),
		cmocka_unit_test(test_without_a_domain_nothing_is_completed),
		cmocka_unit_test(test_senders_by_pattern),
		cmocka_unit_test(test_missing_fields_are_added),
		cmocka_unit_test(test_shapes_of_blocks),
		cmocka_unit_test(test_from_of_a_notice),
		cmocka_unit_test(test_blind_copies),
		cmocka_unit_test(test_first_of_doubled_fields_stays),
		cmocka_unit_test(test_ses_headers),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_without_add_headers_nothing_is_added),
		cmocka_unit_test(test_long_lines_are_folded),
		cmocka_unit_test(test_what_cannot_be_folded_stays),
		cmocka_unit_test(test_bytes_beyond_ascii_stay),
		cmocka_unit_test(test_blanks_at_the_end_are_no_line),
		cmocka_unit_test(test_lines_at_the_limit_stay),
		cmocka_unit_test(test_broken_signatures_are_told),
		cmocka_unit_test(test_message_id_is_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
