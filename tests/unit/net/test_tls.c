/*
 * TLS contexts without a connection: anchors, and what errors are called.
 */
#include "certs.h"

static void test_anchors(void **state)
{
	struct cert ca = cert_new(NULL, "CA", NULL, -DAY_S, DAY_S);
	struct tls_context *t;
	struct err err;
	char path[32], other[40];
	FILE *f;

	(void)state;
	cert_save(&ca, path);
	t = tls_context_new(path, &err);
	assert_non_null(t);
	assert_ptr_equal(tls_context_ref(t), t);
	tls_context_unref(t);
	tls_context_unref(t);
	t = tls_context_new(NULL, &err);
	assert_non_null(t);
	tls_context_unref(t);
	tls_context_unref(NULL);

	snprintf(other, sizeof(other), "%s.no", path);
	assert_null(tls_context_new(other, &err));
	assert_non_null(strstr(err.text, other));
	assert_non_null(strstr(err.text, "No such file or directory"));
	f = fopen(path, "w");
	assert_non_null(f);
	fputs("no certificate\n", f);
	fclose(f);
	assert_null(tls_context_new(path, &err));
	assert_non_null(strstr(err.text, path));
	assert_int_equal(ERR_peek_error(), 0);
	unlink(path);
	cert_free(&ca);
}

static void test_every_client_verifies(void **state)
{
	static const char *const hosts[] = { "mail.example", "mail.example.",
		"192.0.2.1", "[2001:db8::1]" };
	struct err err;
	struct tls_context *t = tls_context_new(NULL, &err);

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(hosts); i++) {
		SSL *ssl = tls_client_new(t, hosts[i], &err);
		X509_VERIFY_PARAM *param;
		char *ip;

		assert_non_null(ssl);
		param = SSL_get0_param(ssl);
		assert_int_equal(SSL_get_verify_mode(ssl), SSL_VERIFY_PEER);
		assert_null(SSL_get_verify_callback(ssl));
		assert_int_equal(
		    SSL_get_min_proto_version(ssl), TLS1_2_VERSION);
		ip = X509_VERIFY_PARAM_get1_ip_asc(param);
		assert_true((ip != NULL) == (i >= 2));
		if (!ip)
			assert_string_equal(
			    X509_VERIFY_PARAM_get0_host(param, 0),
			    "mail.example");
		OPENSSL_free(ip);
		SSL_free(ssl);
	}
	/* No name would mean any name. */
	assert_null(tls_client_new(t, "", &err));
	assert_true(strlen(err.text) > 0);
	assert_int_equal(ERR_peek_error(), 0);
	tls_context_unref(t);
}

static void test_failures_in_words(void **state)
{
	static const struct {
		long verdict;
		unsigned long error;
		const char *text;
	} rows[] = {
		{ X509_V_ERR_CERT_HAS_EXPIRED,
		    ERR_PACK(ERR_LIB_SSL, 0, SSL_R_CERTIFICATE_VERIFY_FAILED),
		    "certificate refused: certificate has expired" },
		{ X509_V_OK,
		    ERR_PACK(ERR_LIB_SSL, 0, SSL_R_UNSUPPORTED_PROTOCOL),
		    "TLS: unsupported protocol: the peer offers less than "
		    "TLS 1.2" },
		{ X509_V_OK, ERR_PACK(ERR_LIB_SSL, 0, SSL_R_NO_SHARED_CIPHER),
		    "TLS: no shared cipher" },
		{ X509_V_OK, 0, "TLS: protocol error" },
	};
	struct err err;
	struct tls_context *t = tls_context_new(NULL, &err);
	SSL *ssl = tls_client_new(t, "mail.example", &err);
	char text[200];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		SSL_set_verify_result(ssl, rows[i].verdict);
		tls_describe_failure(ssl, rows[i].error, text, sizeof(text));
		assert_string_equal(text, rows[i].text);
	}
	SSL_free(ssl);
	tls_context_unref(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_anchors),
		cmocka_unit_test(test_every_client_verifies),
		cmocka_unit_test(test_failures_in_words),
	};

	return cmocka_run_group_tests_name("tls", tests, NULL, NULL);
}
