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

/* Hands over what one side has to say. */
static bool carry(SSL *from, SSL *to)
{
	char buf[4096];
	int n = BIO_read(SSL_get_wbio(from), buf, sizeof(buf));

	if (n <= 0)
		return false;
	assert_int_equal(BIO_write(SSL_get_rbio(to), buf, n), n);
	return true;
}

/* A handshake in memory, and the tickets behind it; whether it resumed. */
static bool shakes_hands(SSL *client, SSL_CTX *ctx)
{
	SSL *server = SSL_new(ctx);
	bool moved = true, resumed;
	char c;

	SSL_set_bio(client, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
	SSL_set_bio(server, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
	SSL_set_accept_state(server);
	while (moved) {
		(void)SSL_read(client, &c, 1); /* what comes in is handled */
		moved = carry(client, server);
		(void)SSL_do_handshake(server);
		moved |= carry(server, client);
	}
	assert_true(SSL_is_init_finished(client));
	resumed = SSL_session_reused(client) == 1;
	(void)SSL_shutdown(client);
	SSL_free(client);
	SSL_free(server);
	ERR_clear_error();
	return resumed;
}

/* A pool renews connections side by side. */
static void test_sessions_for_many_at_once(void **state)
{
	static const int versions[] = { TLS1_2_VERSION, TLS1_3_VERSION };
	struct cert ca = cert_new(NULL, "CA", NULL, -DAY_S, DAY_S);
	struct cert good =
	    cert_new(&ca, "any", "DNS:mail.example", -DAY_S, DAY_S);
	SSL *clients[100];
	struct err err;
	char path[32];

	(void)state;
	cert_save(&ca, path);
	for (size_t i = 0; i < ARRAY_LEN(versions); i++) {
		struct tls_context *t = tls_context_new(path, &err);
		SSL_CTX *ctx = server_context(&good);

		SSL_CTX_set_max_proto_version(ctx, versions[i]);
		clients[0] = tls_client_new(t, "mail.example", &err);
		assert_false(shakes_hands(clients[0], ctx));
		/* The first one brought two tickets, each of these brings
		 * one. */
		for (unsigned round = 0; round < 3; round++) {
			for (unsigned n = 0; n < 2; n++)
				clients[n] =
				    tls_client_new(t, "mail.example", &err);
			for (unsigned n = 0; n < 2; n++)
				assert_true(shakes_hands(clients[n], ctx));
		}
		/* More than are kept. */
		for (unsigned n = 0; n < 100; n++)
			clients[n] = tls_client_new(t, "mail.example", &err);
		for (unsigned n = 0; n < 100; n++)
			(void)shakes_hands(clients[n], ctx);
		clients[0] = tls_client_new(t, "mail.example", &err);
		assert_true(shakes_hands(clients[0], ctx));
		tls_context_unref(t);
		SSL_CTX_free(ctx);
	}
	unlink(path);
	cert_free(&good);
	cert_free(&ca);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_anchors),
		cmocka_unit_test(test_every_client_verifies),
		cmocka_unit_test(test_sessions_for_many_at_once),
		cmocka_unit_test(test_failures_in_words),
	};

	return cmocka_run_group_tests_name("tls", tests, NULL, NULL);
}
