/* Meanings and remedies: every step and outcome has them, and hints fit. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "policy/diagnosis.h"

#include <stdio.h>
#include <string.h>

static const struct diagnosis_facts good = {
	.port = 587,
	.host = "email-smtp.eu-west-1.amazonaws.com",
	.region = "eu-west-1",
	.detail = "DETAIL",
	.address = "192.0.2.7",
	.names = "a.test, b.test",
	.issuer = "ISSUER",
	.before = "BEFORE",
	.after = "AFTER",
	.now = "NOW",
	.username = "AKIAIOSFODNN7EXAMPLE",
	.password_source = "SOURCE",
	.password = PASSWORD_SMTP,
	.mss = 536,
};

static struct diagnosis explain(enum diagnosis_step step,
    enum diagnosis_outcome outcome, const struct diagnosis_facts *facts)
{
	struct diagnosis d;

	diagnosis_explain(step, outcome, facts, &d);
	return d;
}

static void assert_has(const char *text, const char *part)
{
	if (!strstr(text, part))
		fail_msg("no \"%s\" in \"%s\"", part, text);
}

static void assert_lacks(const char *text, const char *part)
{
	if (strstr(text, part))
		fail_msg("\"%s\" in \"%s\"", part, text);
}

static void assert_whole(const char *text)
{
	assert_true(strlen(text) > 10 && strlen(text) < DIAGNOSIS_TEXT - 1);
	assert_lacks(text, "{");
	assert_lacks(text, "}");
	assert_lacks(text, "  ");
	assert_lacks(text, "(null)");
}

/* Whatever a probe may come up with, with all facts and with none. */
static void test_every_pair_is_explained(void **state)
{
	static const struct diagnosis_facts none = { 0 };
	const struct diagnosis_facts *facts[] = { &good, &none };

	(void)state;
	for (unsigned i = 0; i < ARRAY_LEN(facts); i++)
		for (int s = 0; s < DIAGNOSIS_N_STEPS; s++)
			for (int o = OUTCOME_SLOW; o < OUTCOME_N; o++) {
				struct diagnosis d = explain(s, o, facts[i]);

				assert_whole(d.meaning);
				if (s != DIAGNOSIS_QUIT)
					assert_whole(d.remedy);
				assert_true(strlen(d.word) <= 20);
				assert_int_equal(d.fatal,
				    s != DIAGNOSIS_QUIT &&
					!(s == DIAGNOSIS_RESOLVE &&
					    o == OUTCOME_SLOW));
			}
}

static void test_good_needs_no_words(void **state)
{
	(void)state;
	for (int s = 0; s < DIAGNOSIS_N_STEPS; s++) {
		struct diagnosis d = explain(s, OUTCOME_OK, &good);

		assert_string_equal(d.word, "ok");
		assert_string_equal(d.meaning, "");
		assert_false(d.fatal);
		d = explain(s, OUTCOME_UNTESTED, &good);
		assert_string_equal(d.word, "-");
		assert_false(d.fatal);
	}
}

/* A row that an earlier one hides would never be read. */
static void test_every_row_can_be_reached(void **state)
{
	size_t n;
	const struct diagnosis_row *rows = diagnosis_table(&n);

	(void)state;
	for (size_t i = 0; i < n; i++)
		for (size_t j = 0; j < i; j++)
			assert_false(rows[j].step == rows[i].step &&
			    (rows[j].outcome == rows[i].outcome ||
				rows[j].outcome == OUTCOME_N) &&
			    rows[j].port == 0);
}

static void test_names_are_there_and_differ(void **state)
{
	(void)state;
	for (int a = 0; a < OUTCOME_N; a++)
		for (int b = 0; b < a; b++)
			assert_string_not_equal(diagnosis_outcome_name(a),
			    diagnosis_outcome_name(b));
	for (int a = 0; a < DIAGNOSIS_N_STEPS; a++)
		for (int b = 0; b < a; b++)
			assert_string_not_equal(
			    diagnosis_step_name(a), diagnosis_step_name(b));
}

static void test_port_25_is_throttled_by_ec2(void **state)
{
	struct diagnosis_facts f = good;
	struct diagnosis d;

	(void)state;
	d = explain(DIAGNOSIS_CONNECT, OUTCOME_TIMEOUT, &f);
	assert_lacks(d.meaning, "EC2");
	assert_has(d.remedy, "security group");
	f.port = 25;
	d = explain(DIAGNOSIS_CONNECT, OUTCOME_TIMEOUT, &f);
	assert_has(d.meaning, "EC2");
	assert_has(d.remedy, "use 587, 465, 2587 or 2465");
	assert_has(d.remedy, "Request to remove email sending limitations");
}

static void test_facts_are_filled_in(void **state)
{
	struct diagnosis d;

	(void)state;
	d = explain(DIAGNOSIS_CERTIFICATE, OUTCOME_NOT_YET, &good);
	assert_has(d.meaning, "the certificate is valid from BEFORE");
	assert_has(d.meaning, "clock says NOW");
	assert_has(d.remedy, "issued by ISSUER");
	d = explain(DIAGNOSIS_CERTIFICATE, OUTCOME_NAME, &good);
	assert_has(d.meaning, "is for a.test, b.test, not for email-smtp.eu-");
	d = explain(DIAGNOSIS_TLS, OUTCOME_OTHER_MODE, &good);
	assert_has(d.remedy, "\"587:starttls\"");
	d = explain(DIAGNOSIS_GREETING, OUTCOME_OTHER_MODE, &good);
	assert_has(d.remedy, "\"587:wrapper\"");
	d = explain(DIAGNOSIS_LARGE, OUTCOME_MTU, &good);
	assert_has(d.meaning, "with segments of 536 bytes");
	assert_has(d.remedy, "ses.mss = 536");
	assert_has(d.remedy, "tcp_mtu_probing=1");
}

/* Longer facts than texts: cut, not overrun. */
static void test_long_facts(void **state)
{
	struct diagnosis_facts f = good;
	char text[3000];

	(void)state;
	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	f.detail = f.names = f.host = f.issuer = f.username = text;
	f.region = text;
	for (int s = 0; s < DIAGNOSIS_N_STEPS; s++)
		for (int o = OUTCOME_SLOW; o < OUTCOME_N; o++) {
			struct diagnosis d = explain(s, o, &f);

			assert_true(strlen(d.meaning) < DIAGNOSIS_TEXT);
			assert_true(strlen(d.remedy) < DIAGNOSIS_TEXT);
		}
}

/* Braces in what a peer said are not names of facts. */
static void test_facts_are_not_templates(void **state)
{
	struct diagnosis_facts f = good;

	(void)state;
	f.detail = "554 {nonsense} {host";
	assert_has(explain(DIAGNOSIS_GREETING, OUTCOME_REFUSED, &f).meaning,
	    "554 {nonsense} {host");
}

static void test_regions(void **state)
{
	static const struct {
		const char *written, *meant; /* NULL: none is near */
	} rows[] = {
		{ "eu-wset-1", "eu-west-1" },
		{ "us-east1", "us-east-1" },
		{ "useast-1", "us-east-1" },
		{ "eu-centrall-1", "eu-central-1" },
		{ "US-EAST-1", NULL },
		{ "mars-1", NULL },
		{ "", NULL },
		{ "a-region-name-of-more-than-32-characters", NULL },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		const char *near = diagnosis_region_near(rows[i].written);

		if (rows[i].meant)
			assert_string_equal(near, rows[i].meant);
		else
			assert_null(near);
		assert_false(diagnosis_region_known(rows[i].written));
	}
	assert_true(diagnosis_region_known("us-gov-west-1"));
}

static void test_region_hints(void **state)
{
	struct diagnosis_facts f = good;

	(void)state;
	assert_lacks(explain(DIAGNOSIS_RESOLVE, OUTCOME_NO_NAME, &f).remedy,
	    "did you mean");
	f.region = "eu-wset-1";
	assert_has(explain(DIAGNOSIS_RESOLVE, OUTCOME_NO_NAME, &f).remedy,
	    "ses.region (\"eu-wset-1\"; did you mean \"eu-west-1\"?)");
	f.region = "xx-new-9";
	assert_has(explain(DIAGNOSIS_RESOLVE, OUTCOME_NO_NAME, &f).remedy,
	    "none that this program has heard of");
}

static void test_credential_hints(void **state)
{
	static const struct {
		const char *username;
		enum diagnosis_password password;
		const char *hint;
	} rows[] = {
		{ "AKIAIOSFODNN7EXAMPLE", PASSWORD_SECRET_KEY,
		    "a secret access key: name its file in "
		    "ses.secret_key_file" },
		{ "AKIAIOSFODNN7EXAMPLE", PASSWORD_LEGACY, "before 2019" },
		{ "AKIAIOSFODNN7EXAMPLE", PASSWORD_STRANGE, "copied whole" },
		{ "inp-abc", PASSWORD_STRANGE, "Mail Manager" },
		{ "ASIAIOSFODNN7EXAMPLE", PASSWORD_SMTP, "temporary" },
		{ "app@example.com", PASSWORD_SMTP, "e-mail address" },
		{ "ses-smtp-user.2019", PASSWORD_SMTP,
		    "does not look like an access key id" },
	};
	struct diagnosis_facts f = good;
	struct diagnosis d;

	(void)state;
	d = explain(DIAGNOSIS_AUTH, OUTCOME_CREDENTIALS, &f);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		assert_lacks(d.remedy, rows[i].hint);
	assert_has(d.remedy, "SMTP credentials are not AWS access keys");
	assert_has(d.remedy, "of eu-west-1, as they are good for one region");
	assert_has(d.remedy, "the password came from SOURCE");
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		f.username = rows[i].username;
		f.password = rows[i].password;
		d = explain(DIAGNOSIS_AUTH, OUTCOME_CREDENTIALS, &f);
		assert_has(d.remedy, rows[i].hint);
	}
}

static void test_derived_for_another_region(void **state)
{
	static const char *const hosts[] = {
		"email-smtp.us-east-1.amazonaws.com",
		"email-smtp-fips.us-east-1.amazonaws.com",
		"vpce-0123.email-smtp.us-east-1.vpce.amazonaws.com",
	};
	struct diagnosis_facts f = good;

	(void)state;
	f.password = PASSWORD_DERIVED;
	assert_lacks(explain(DIAGNOSIS_AUTH, OUTCOME_CREDENTIALS, &f).remedy,
	    "derived for");
	for (size_t i = 0; i < ARRAY_LEN(hosts); i++) {
		f.host = hosts[i];
		assert_has(
		    explain(DIAGNOSIS_AUTH, OUTCOME_CREDENTIALS, &f).remedy,
		    "derived for the region eu-west-1 (ses.region), and the "
		    "endpoint is in us-east-1; ");
	}
	f.host = "smtp.example.com";
	assert_lacks(explain(DIAGNOSIS_AUTH, OUTCOME_CREDENTIALS, &f).remedy,
	    "derived for");
}

static void test_summary(void **state)
{
	static const struct {
		struct diagnosis_port ports[4];
		bool works;
		const char *text;
	} rows[] = {
		{ { { 587, true, true }, { 465, true, true },
		      { 25, false, true } },
		    true, "by port 587, the first of ses.ports." },
		{ { { 587, true, false }, { 465, true, true },
		      { 25, false, true } },
		    true, "by port 465; those before it" },
		{ { { 587, true, false }, { 465, true, false },
		      { 2587, false, true }, { 25, false, true } },
		    false, "no port of ses.ports works; 2587 and 25 would" },
		{ { { 587, true, false } }, false, "no port works." },
	};
	char text[300];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		assert_int_equal(
		    diagnosis_summarize(rows[i].ports, 4, text, sizeof(text)),
		    rows[i].works);
		assert_has(text, rows[i].text);
		assert_has(
		    text, rows[i].works ? "Mail can go: " : "Mail cannot go: ");
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_pair_is_explained),
		cmocka_unit_test(test_good_needs_no_words),
		cmocka_unit_test(test_every_row_can_be_reached),
		cmocka_unit_test(test_names_are_there_and_differ),
		cmocka_unit_test(test_port_25_is_throttled_by_ec2),
		cmocka_unit_test(test_facts_are_filled_in),
		cmocka_unit_test(test_long_facts),
		cmocka_unit_test(test_facts_are_not_templates),
		cmocka_unit_test(test_regions),
		cmocka_unit_test(test_region_hints),
		cmocka_unit_test(test_credential_hints),
		cmocka_unit_test(test_derived_for_another_region),
		cmocka_unit_test(test_summary),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
