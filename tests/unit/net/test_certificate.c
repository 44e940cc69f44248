/*
 * What is said about certificates: the fault of the chain, names, dates; and
 * that nothing a server puts into one reaches a terminal.
 */
#include "certs.h"

#include "net/certificate.h"

#include <time.h>

#define HOST "mail.ses.example"

static struct cert ca;

/* As a handshake does it, with what it would have found. */
static struct certificate describe(const struct cert *c, const char *host)
{
	X509_STORE *store = X509_STORE_new();
	X509_STORE_CTX *ctx = X509_STORE_CTX_new();
	struct certificate out;
	int code;

	assert_int_equal(X509_STORE_add_cert(store, ca.x509), 1);
	assert_int_equal(X509_STORE_CTX_init(ctx, store, c->x509, NULL), 1);
	X509_VERIFY_PARAM_set1_host(X509_STORE_CTX_get0_param(ctx), host, 0);
	X509_verify_cert(ctx);
	code = X509_STORE_CTX_get_error(ctx);
	certificate_describe(ctx, &out);
	assert_int_equal(X509_STORE_CTX_get_error(ctx), code);
	assert_int_equal(ERR_peek_error(), 0);
	X509_STORE_CTX_free(ctx);
	X509_STORE_free(store);
	return out;
}

static void test_faults(void **state)
{
	static const struct {
		const char *san;
		long from, to;
		bool self_signed;
		enum certificate_fault fault;
	} rows[] = {
		{ "DNS:" HOST, -DAY_S, DAY_S, false, CERTIFICATE_GOOD },
		{ "DNS:" HOST, -2 * DAY_S, -DAY_S, false, CERTIFICATE_EXPIRED },
		{ "DNS:" HOST, DAY_S, 2 * DAY_S, false, CERTIFICATE_NOT_YET },
		{ "DNS:b.example", -DAY_S, DAY_S, false, CERTIFICATE_NAME },
		{ "DNS:" HOST, -DAY_S, DAY_S, true, CERTIFICATE_SELF_SIGNED },
	};
	int64_t now = (int64_t)time(NULL);

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct cert c = cert_new(rows[i].self_signed ? NULL : &ca, "x",
		    rows[i].san, rows[i].from, rows[i].to);
		struct certificate d = describe(&c, HOST);

		assert_int_equal(d.fault, rows[i].fault);
		assert_string_equal(d.names, rows[i].san + 4);
		assert_string_equal(d.subject, "x");
		assert_string_equal(d.issuer, rows[i].self_signed ? "x" : "CA");
		assert_true(llabs(d.not_before_s - now - rows[i].from) < 60);
		assert_true(llabs(d.not_after_s - now - rows[i].to) < 60);
		assert_int_equal(d.depth, 0);
		cert_free(&c);
	}
}

static void test_unknown_authority(void **state)
{
	struct cert other = cert_new(NULL, "Proxy CA", NULL, -DAY_S, DAY_S);
	struct cert c = cert_new(&other, "x", "DNS:" HOST, -DAY_S, DAY_S);
	struct certificate d = describe(&c, HOST);

	(void)state;
	assert_int_equal(d.fault, CERTIFICATE_UNKNOWN_CA);
	assert_string_equal(d.issuer, "Proxy CA");
	cert_free(&c);
	cert_free(&other);
}

/* The dates are those of the certificate at fault. */
static void test_authority_ran_out(void **state)
{
	struct cert good_ca = ca, c;
	struct certificate d;
	int64_t now = (int64_t)time(NULL);

	(void)state;
	ca = cert_new(NULL, "CA", NULL, -5 * DAY_S, -3 * DAY_S);
	c = cert_new(&ca, "x", "DNS:" HOST, -DAY_S, DAY_S);
	d = describe(&c, HOST);
	assert_int_equal(d.fault, CERTIFICATE_EXPIRED);
	assert_int_equal(d.depth, 1);
	assert_true(llabs(d.not_after_s - now + 3 * DAY_S) < 60);
	cert_free(&c);
	cert_free(&ca);
	ca = good_ca;
}

static void test_names(void **state)
{
	struct cert c = cert_new(&ca, "x",
	    "DNS:a.example,IP:192.0.2.1,email:x@example.com,IP:2001:db8::1",
	    -DAY_S, DAY_S);

	(void)state;
	assert_string_equal(
	    describe(&c, HOST).names, "a.example, 192.0.2.1, 2001:db8::1");
	cert_free(&c);
	c = cert_new(&ca, "x", NULL, -DAY_S, DAY_S);
	assert_string_equal(describe(&c, HOST).names, "");
	cert_free(&c);
}

static void test_hostile_texts(void **state)
{
	char san[3000] = "DNS:a";
	struct certificate d;
	struct cert c;

	(void)state;
	for (int i = 0; i < 100; i++)
		strcat(san, ",DNS:some-long-name.example");
	c = cert_new(&ca, "\x1b[31m\nred", san, -DAY_S, DAY_S);
	d = describe(&c, HOST);
	assert_string_equal(d.subject, "?[31m?red");
	assert_int_equal(strlen(d.names), sizeof(d.names) - 1);
	cert_free(&c);
}

static int set_up(void **state)
{
	(void)state;
	ca = cert_new(NULL, "CA", NULL, -DAY_S, DAY_S);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	cert_free(&ca);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_faults),
		cmocka_unit_test(test_unknown_authority),
		cmocka_unit_test(test_authority_ran_out),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_hostile_texts),
	};

	return cmocka_run_group_tests_name(
	    "certificate", tests, set_up, tear_down);
}
