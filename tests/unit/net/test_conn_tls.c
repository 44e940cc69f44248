/*
 * Connections inside TLS: who is let in and who is refused and why, the ends,
 * the upgrade of a connection in clear, large transfers, resumption.
 */
#include "certs.h"

#include <time.h>

#define MIB (1024 * 1024)
#define HOST "mail.ses.example"

static struct cert ca, good;
static char ca_file[32];
static struct tls_context *context;

/* What the process takes for the time of day is moved by this. */
static time_t time_shift;

time_t time(time_t *out)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	ts.tv_sec += time_shift;
	if (out)
		*out = ts.tv_sec;
	return ts.tv_sec;
}

static int group_setup(void **state)
{
	struct err err;

	(void)state;
	alarm(TEST_SECONDS);
	ca = cert_new(NULL, "CA", NULL, -DAY_S, DAY_S);
	good = cert_new(&ca, "any", "DNS:" HOST ",IP:127.0.0.1", -DAY_S, DAY_S);
	cert_save(&ca, ca_file);
	context = tls_context_new(ca_file, &err);
	return context ? 0 : -1;
}

static int group_teardown(void **state)
{
	(void)state;
	tls_context_unref(context);
	unlink(ca_file);
	cert_free(&good);
	cert_free(&ca);
	return 0;
}

static void start_tls_hook(struct probe *p, const char *what)
{
	if (strcmp(what, "connected") == 0)
		conn_start_tls(p->conn, context, p->extra);
	if (strcmp(what, "secured") == 0)
		conn_write(p->conn, "secret", 6);
}

static char *host_arg(const char *host)
{
	return (char *)(uintptr_t)host;
}

/* One connection, until its end; the probe is to be finished. */
static void run_tls(struct probe *p, struct tls_peer *tp,
    void (*script)(struct tls_peer *tp), const char *host)
{
	tls_peer_start(tp, script);
	probe_init(p);
	p->hook = start_tls_hook;
	p->extra = host_arg(host);
	probe_connect(p, tp->peer.port);
	loop_run(p->loop);
}

static void script_expect_secret(struct tls_peer *tp)
{
	char buf[100];

	ASSERT(SSL_read(tp->ssl, buf, sizeof(buf)) == 6);
	ASSERT(memcmp(buf, "secret", 6) == 0);
	tls_peer_say(tp, "250 ok\r\n");
	SSL_shutdown(tp->ssl);
}

struct version {
	int version;
	const char *text;
};

static const struct version versions[] = {
	{ TLS1_2_VERSION, "TLSv1.2 with ECDHE-ECDSA-AES256-GCM-SHA384" },
	{ TLS1_3_VERSION, "TLSv1.3 with TLS_AES_256_GCM_SHA384" },
};

static void describe_hook(struct probe *p, const char *what)
{
	char text[100];

	if (strcmp(what, "connected") == 0) {
		conn_describe_tls(p->conn, text, sizeof(text));
		assert_string_equal(text, "");
		assert_false(conn_is_secure(p->conn));
		conn_start_tls(p->conn, context, HOST);
		assert_false(conn_is_secure(p->conn));
	}
	if (strcmp(what, "secured") == 0) {
		conn_describe_tls(p->conn, text, sizeof(text));
		assert_string_equal(text, p->extra);
		conn_write(p->conn, "secret", 6);
	}
}

static void test_a_good_certificate(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(versions); i++) {
		struct tls_peer tp = { .ctx = server_context(&good) };
		struct probe p;

		SSL_CTX_set_max_proto_version(tp.ctx, versions[i].version);
		SSL_CTX_set_options(tp.ctx, SSL_OP_NO_TICKET);
		tls_peer_start(&tp, script_expect_secret);
		probe_init(&p);
		p.hook = describe_hook;
		p.extra = host_arg(versions[i].text);
		probe_connect(&p, tp.peer.port);
		loop_run(p.loop);
		assert_string_equal(p.told, "connected secured readable end");
		assert_int_equal(p.end, CONN_END_EOF);
		assert_string_equal(p.input, "250 ok\r\n");
		assert_string_equal(tp.server_name, HOST);
		probe_fini(&p);
		tls_peer_finish(&tp);
		SSL_CTX_free(tp.ctx);
	}
}

/* One SSL_read() gives no more than one record. */
static void script_expect_bytes(struct tls_peer *tp)
{
	char buf[100];

	for (const char *p = "abc"; *p; p++) {
		ASSERT(SSL_read(tp->ssl, buf, sizeof(buf)) == 1);
		ASSERT(buf[0] == *p);
	}
	tls_peer_say(tp, "250 ok\r\n");
	ASSERT(SSL_read(tp->ssl, buf, sizeof(buf)) == 6);
	SSL_shutdown(tp->ssl);
}

static void records_hook(struct probe *p, const char *what)
{
	if (strcmp(what, "connected") == 0)
		conn_start_tls(p->conn, context, HOST);
	if (strcmp(what, "secured") == 0) {
		conn_set_record_size(p->conn, 1);
		conn_write(p->conn, "abc", 3);
	}
	if (strcmp(what, "readable") == 0 && conn_output_len(p->conn) == 0 &&
	    p->extra) {
		p->extra = NULL;
		conn_set_record_size(p->conn, 0);
		conn_write(p->conn, "secret", 6);
	}
}

static void test_record_size(void **state)
{
	struct tls_peer tp = { .ctx = server_context(&good) };
	struct probe p;

	(void)state;
	SSL_CTX_set_options(tp.ctx, SSL_OP_NO_TICKET);
	tls_peer_start(&tp, script_expect_bytes);
	probe_init(&p);
	p.hook = records_hook;
	p.extra = &tp;
	probe_connect(&p, tp.peer.port);
	loop_run(p.loop);
	assert_int_equal(p.end, CONN_END_EOF);
	assert_string_equal(p.input, "250 ok\r\n");
	probe_fini(&p);
	tls_peer_finish(&tp);
	SSL_CTX_free(tp.ctx);
}

/* Names as configuration may have them; for an address there is no SNI. */
static void test_forms_of_the_host(void **state)
{
	static const struct {
		const char *host, *server_name;
	} rows[] = {
		{ "mail.ses.example.", "mail.ses.example" },
		{ "MAIL.ses.example", "MAIL.ses.example" },
		{ "127.0.0.1", "" },
		{ "[127.0.0.1]", "" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct tls_peer tp = { .ctx = server_context(&good) };
		struct probe p;

		run_tls(&p, &tp, script_expect_secret, rows[i].host);
		assert_string_equal(p.told, "connected secured readable end");
		probe_fini(&p);
		tls_peer_finish(&tp);
		assert_string_equal(tp.server_name, rows[i].server_name);
		SSL_CTX_free(tp.ctx);
	}
}

static void test_a_wildcard_of_one_label(void **state)
{
	struct cert c =
	    cert_new(&ca, "x", "DNS:a.example,DNS:*.ses.example", -60, DAY_S);
	struct tls_peer tp = { .ctx = server_context(&c) };
	struct probe p;

	(void)state;
	run_tls(&p, &tp, script_expect_secret, HOST);
	assert_string_equal(p.told, "connected secured readable end");
	probe_fini(&p);
	tls_peer_finish(&tp);
	SSL_CTX_free(tp.ctx);
	cert_free(&c);
}

/* Never secured, nothing of ours is sent, and the reason is in words. */
static void check_refused(SSL_CTX *ctx, const char *host, const char *reason)
{
	struct tls_peer tp = { .ctx = ctx, .fails = true };
	struct probe p;

	run_tls(&p, &tp, NULL, host);
	assert_string_equal(p.reason, reason);
	assert_string_equal(p.told, "connected end");
	assert_int_equal(p.end, CONN_END_TLS);
	probe_fini(&p);
	tls_peer_finish(&tp);
	SSL_CTX_free(ctx);
}

static void test_wrong_certificates(void **state)
{
	static const struct {
		const char *cn, *san;
		long from, to;
		bool self_signed;
		const char *reason;
	} rows[] = {
		{ "x", "DNS:" HOST, -2 * DAY_S, -DAY_S, false,
		    "certificate has expired" },
		{ "x", "DNS:" HOST, DAY_S, 2 * DAY_S, false,
		    "certificate is not yet valid" },
		{ "x", "DNS:other.example", -DAY_S, DAY_S, false,
		    "hostname mismatch" },
		{ "x", "DNS:" HOST, -DAY_S, DAY_S, true,
		    "self-signed certificate" },
		/* The name is where it must not be looked for. */
		{ HOST, NULL, -DAY_S, DAY_S, false, "hostname mismatch" },
		{ HOST, "DNS:other.example", -DAY_S, DAY_S, false,
		    "hostname mismatch" },
		{ "x", "DNS:m*.ses.example", -DAY_S, DAY_S, false,
		    "hostname mismatch" },
		{ "x", "DNS:*." HOST, -DAY_S, DAY_S, false,
		    "hostname mismatch" },
		{ "x", "DNS:*.example", -DAY_S, DAY_S, false,
		    "hostname mismatch" },
		{ "x", "DNS:*", -DAY_S, DAY_S, false, "hostname mismatch" },
		{ "x", "IP:192.0.2.1", -DAY_S, DAY_S, false,
		    "hostname mismatch" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct cert c = cert_new(rows[i].self_signed ? NULL : &ca,
		    rows[i].cn, rows[i].san, rows[i].from, rows[i].to);
		char reason[100];

		snprintf(reason, sizeof(reason), "certificate refused: %s",
		    rows[i].reason);
		check_refused(server_context(&c), HOST, reason);
		cert_free(&c);
	}
	check_refused(server_context(&good), "192.0.2.1",
	    "certificate refused: IP address mismatch");
}

static void test_unknown_authority(void **state)
{
	struct cert other_ca = cert_new(NULL, "CA", NULL, -DAY_S, DAY_S);
	struct cert c = cert_new(&other_ca, "x", "DNS:" HOST, -DAY_S, DAY_S);

	(void)state;
	/* Same name, other key; then an issuer never heard of. */
	check_refused(server_context(&c), HOST,
	    "certificate refused: certificate signature failure");
	cert_free(&c);
	cert_free(&other_ca);
	other_ca = cert_new(NULL, "Other CA", NULL, -DAY_S, DAY_S);
	c = cert_new(&other_ca, "x", "DNS:" HOST, -DAY_S, DAY_S);
	check_refused(server_context(&c), HOST,
	    "certificate refused: unable to get local issuer certificate");
	cert_free(&c);
	cert_free(&other_ca);
}

static void test_tls_1_1_is_refused(void **state)
{
	SSL_CTX *ctx = server_context(&good);

	(void)state;
	SSL_CTX_set_security_level(ctx, 0);
	SSL_CTX_set_min_proto_version(ctx, TLS1_VERSION);
	SSL_CTX_set_max_proto_version(ctx, TLS1_1_VERSION);
	check_refused(ctx, HOST,
	    "TLS: alert protocol version: the peer does not offer TLS 1.2 or "
	    "newer");
}

static void run_plain_peer(
    struct probe *p, struct peer *peer, void (*script)(struct peer *peer))
{
	peer_start(peer, script, NULL);
	probe_init(p);
	p->hook = start_tls_hook;
	p->extra = host_arg(HOST);
	probe_connect(p, peer->port);
	loop_run(p->loop);
	assert_string_equal(p->told, "connected end");
}

static void script_plain_greeting(struct peer *peer)
{
	peer_say(peer, "220 no TLS spoken here\r\n");
	peer_read_all(peer, NULL, 0);
}

static void script_close_in_handshake(struct peer *peer)
{
	char byte;

	/* All of the hello is taken, so that it is no reset. */
	ASSERT(recv(peer->fd, &byte, 1, 0) == 1);
	while (recv(peer->fd, &byte, 1, MSG_DONTWAIT) == 1)
		;
}

static void script_reset_in_handshake(struct peer *peer)
{
	char byte;

	ASSERT(recv(peer->fd, &byte, 1, 0) == 1);
	peer_reset(peer);
}

static void test_handshake_with_others(void **state)
{
	static const struct {
		void (*script)(struct peer *peer);
		enum conn_end end;
		const char *reason;
	} rows[] = {
		{ script_plain_greeting, CONN_END_TLS,
		    "TLS: wrong version number: the peer does not speak TLS "
		    "here" },
		{ script_close_in_handshake, CONN_END_TLS,
		    "TLS: the peer closed the connection in the handshake" },
		{ script_reset_in_handshake, CONN_END_RESET,
		    "Connection reset by peer" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct peer peer = { 0 };
		struct probe p;

		run_plain_peer(&p, &peer, rows[i].script);
		assert_string_equal(p.reason, rows[i].reason);
		assert_int_equal(p.end, rows[i].end);
		probe_fini(&p);
		peer_finish(&peer);
	}
}

static void script_silent(struct peer *peer)
{
	peer_read_all(peer, NULL, 0);
}

static void deadline_hook(struct probe *p, const char *what)
{
	start_tls_hook(p, what);
	if (strcmp(what, "connected") == 0)
		conn_deadline(p->conn, 20 * US_PER_MS);
}

static void test_deadline_in_the_handshake(void **state)
{
	struct peer peer = { 0 };
	struct probe p;

	(void)state;
	peer_start(&peer, script_silent, NULL);
	probe_init(&p);
	p.hook = deadline_hook;
	p.extra = host_arg(HOST);
	probe_connect(&p, peer.port);
	loop_run(p.loop);
	assert_string_equal(p.told, "connected end");
	assert_int_equal(p.end, CONN_END_TIMEOUT);
	probe_fini(&p);
	peer_finish(&peer);
}

/* Data, and then FIN without close_notify, as many servers do. */
static void script_rude_end(struct tls_peer *tp)
{
	char buf[100];

	ASSERT(SSL_read(tp->ssl, buf, sizeof(buf)) == 6);
	tls_peer_say(tp, "221 bye\r\n");
}

static void script_reset_end(struct tls_peer *tp)
{
	script_rude_end(tp);
	peer_reset(&tp->peer);
}

/* A record that is none. */
static void script_garbage(struct tls_peer *tp)
{
	static const char record[] =
	    "\x17\x03\x03\x00\x20this was never encrypted by anyone";

	script_rude_end(tp);
	peer_send(&tp->peer, record, 5 + 0x20);
	peer_read_all(&tp->peer, NULL, 0);
}

static void test_ends_inside_tls(void **state)
{
	static const struct {
		void (*script)(struct tls_peer *tp);
		enum conn_end end;
		const char *reason;
	} rows[] = {
		{ script_rude_end, CONN_END_EOF, "connection closed by peer" },
		{ script_reset_end, CONN_END_RESET,
		    "Connection reset by peer" },
		{ script_garbage, CONN_END_TLS,
		    "TLS: decryption failed or bad record mac" },
	};

	(void)state;
	for (size_t i = 0; i < 2 * ARRAY_LEN(rows); i++) {
		struct tls_peer tp = { .ctx = server_context(&good) };
		struct probe p;

		SSL_CTX_set_max_proto_version(tp.ctx, versions[i % 2].version);
		run_tls(&p, &tp, rows[i / 2].script, HOST);
		assert_string_equal(p.told, "connected secured readable end");
		assert_int_equal(p.end, rows[i / 2].end);
		assert_string_equal(p.reason, rows[i / 2].reason);
		assert_string_equal(p.input, "221 bye\r\n");
		probe_fini(&p);
		tls_peer_finish(&tp);
		SSL_CTX_free(tp.ctx);
	}
}

/* What the peer says before it goes, while we write without end. */
static void write_much_hook(struct probe *p, const char *what)
{
	static const char zeros[4 * MIB];

	if (strcmp(what, "connected") == 0)
		conn_start_tls(p->conn, context, HOST);
	if (strcmp(what, "secured") == 0)
		conn_write(p->conn, zeros, sizeof(zeros));
}

static void script_421_while_written_to(struct tls_peer *tp)
{
	char byte;

	ASSERT(SSL_read(tp->ssl, &byte, 1) == 1);
	tls_peer_say(tp, "421 go away\r\n");
}

static void test_last_words_before_a_failed_write(void **state)
{
	(void)state;
	for (int i = 0; i < 20; i++) {
		struct tls_peer tp = { .ctx = server_context(&good),
			.peer = { .rcvbuf = 4096 } };
		struct probe p;

		tls_peer_start(&tp, script_421_while_written_to);
		probe_init(&p);
		p.hook = write_much_hook;
		probe_connect(&p, tp.peer.port);
		loop_run(p.loop);
		assert_int_equal(p.end, CONN_END_RESET);
		assert_string_equal(p.input, "421 go away\r\n");
		probe_fini(&p);
		tls_peer_finish(&tp);
		SSL_CTX_free(tp.ctx);
	}
}

/* STARTTLS: lines in clear first, on the same connection. */
static void script_starttls(struct peer *peer)
{
	struct tls_peer *tp = CONTAINER_OF(peer, struct tls_peer, peer);
	char buf[100];
	ssize_t n;

	peer_say(peer, "220 hello\r\n");
	n = recv(peer->fd, buf, sizeof(buf), 0);
	ASSERT(n == 10 && memcmp(buf, "STARTTLS\r\n", 10) == 0);
	peer_say(peer, "220 go\r\n");
	ASSERT(tls_peer_accept(tp));
	script_expect_secret(tp);
}

static void starttls_readable(void *ctx)
{
	struct probe *p = ctx;
	struct slice line;

	while (p->conn && conn_read_line(p->conn, 100, &line, NULL) == 1) {
		if (slice_eq_str(line, "220 hello")) {
			conn_write(p->conn, "STARTTLS\r\n", 10);
		} else if (slice_eq_str(line, "220 go")) {
			p->in_call = true;
			conn_start_tls(p->conn, context, HOST);
			p->in_call = false;
		} else {
			assert_true(conn_is_secure(p->conn));
			assert_true(slice_eq_str(line, "250 ok"));
			probe_told(p, "ok");
		}
	}
}

static void secret_hook(struct probe *p, const char *what)
{
	if (strcmp(what, "secured") == 0)
		conn_write(p->conn, "secret", 6);
}

static const struct conn_events starttls_events = {
	.on_connected = probe_connected,
	.on_secured = probe_secured,
	.on_readable = starttls_readable,
	.on_end = probe_end,
};

static void run_starttls(
    struct probe *p, struct tls_peer *tp, void (*script)(struct peer *peer))
{
	struct conn_target t;

	peer_start(&tp->peer, script, NULL);
	probe_init(p);
	p->hook = secret_hook;
	t = target_of(tp->peer.port);
	p->conn = conn_connect(p->loop, &t, &starttls_events, p);
	loop_run(p->loop);
	probe_fini(p);
	tls_peer_finish(tp);
	SSL_CTX_free(tp->ctx);
}

static void test_starttls(void **state)
{
	struct tls_peer tp = { .ctx = server_context(&good) };
	struct probe p;

	(void)state;
	run_starttls(&p, &tp, script_starttls);
	assert_string_equal(p.told, "connected secured ok end");
	assert_int_equal(p.end, CONN_END_EOF);
}

/* CVE-2011-0411's mirror image, for an owner that forgot to look. */
static void script_inject(struct peer *peer)
{
	char buf[100];

	peer_say(peer, "220 hello\r\n");
	ASSERT(recv(peer->fd, buf, sizeof(buf), 0) == 10);
	peer_say(peer, "220 go\r\n250-injected");
	peer_read_all(peer, NULL, 0);
}

/* The reply is here before the command has left. */
static void script_too_early(struct peer *peer)
{
	peer_say(peer, "220 hello\r\n220 go\r\n");
	peer_read_all(peer, NULL, 0);
}

static void test_nothing_in_clear_survives_starttls(void **state)
{
	void (*const scripts[])(
	    struct peer * peer) = { script_inject, script_too_early };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(scripts); i++) {
		struct tls_peer tp = { .ctx = server_context(&good) };
		struct probe p;

		run_starttls(&p, &tp, scripts[i]);
		assert_string_equal(p.told, "connected end");
		assert_int_equal(p.end, CONN_END_TLS);
		assert_string_equal(p.reason,
		    "TLS: data in clear where the handshake should begin");
	}
}

/* Sends `total` of the pattern and checks that the same comes back. */
struct echo {
	struct probe *p;
	uint64_t total, sent, seen;
	bool bad;
};

static void echo_feed(struct echo *e)
{
	char data[50000];

	while (e->sent < e->total && conn_output_len(e->p->conn) < 200000) {
		size_t len = 1 + (e->sent * 7919) % sizeof(data);

		if (len > e->total - e->sent)
			len = e->total - e->sent;
		for (size_t i = 0; i < len; i++)
			data[i] = pattern_at(e->sent + i);
		conn_write(e->p->conn, data, len);
		e->sent += len;
	}
}

static void echo_hook(struct probe *p, const char *what)
{
	struct echo *e = p->extra;
	struct slice s;

	if (strcmp(what, "connected") == 0) {
		conn_start_tls(p->conn, context, HOST);
		conn_set_low_water(p->conn, 100000);
		limit_send_buffer(p->conn);
	} else if (strcmp(what, "secured") == 0 ||
	    strcmp(what, "writable") == 0) {
		echo_feed(e);
	} else if (strcmp(what, "readable") == 0) {
		while ((s = conn_peek(p->conn)).len > 0) {
			for (size_t i = 0; i < s.len; i++)
				e->bad |= s.ptr[i] != pattern_at(e->seen + i);
			e->seen += s.len;
			conn_consume(p->conn, s.len);
		}
		if (e->seen == e->total)
			loop_stop(p->loop);
	}
}

/*
 * Asks for new keys now and then, which makes readers write.  Not twice while
 * one write of ours is stuck: OpenSSL 3.0 fails then ("bad length").
 */
static void script_echo(struct tls_peer *tp)
{
	char buf[10000];
	int n, turns = 0;

	while ((n = SSL_read(tp->ssl, buf, sizeof(buf))) > 0) {
		if (SSL_version(tp->ssl) == TLS1_3_VERSION &&
		    ++turns % 400 == 0)
			ASSERT(SSL_key_update(
				   tp->ssl, SSL_KEY_UPDATE_REQUESTED) == 1);
		ASSERT(SSL_write(tp->ssl, buf, n) == n);
	}
	/* Our conn_close() said goodbye. */
	ASSERT(SSL_get_error(tp->ssl, n) == SSL_ERROR_ZERO_RETURN);
	tp->extra = tp;
}

static void test_large_transfer_both_ways(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(versions); i++) {
		struct tls_peer tp = { .ctx = server_context(&good),
			.peer = { .rcvbuf = 8192, .sndbuf = 8192 } };
		struct probe p;
		struct echo e = { .p = &p, .total = 10 * MIB };

		SSL_CTX_set_max_proto_version(tp.ctx, versions[i].version);
		tls_peer_start(&tp, script_echo);
		probe_init(&p);
		p.keep = true;
		p.hook = echo_hook;
		p.extra = &e;
		probe_connect(&p, tp.peer.port);
		loop_run(p.loop);
		assert_string_equal(p.told, "connected secured readable");
		assert_int_equal(e.seen, e.total);
		assert_false(e.bad);
		assert_int_equal(conn_written(p.conn), e.total);
		probe_fini(&p);
		tls_peer_finish(&tp);
		assert_non_null(tp.extra);
		SSL_CTX_free(tp.ctx);
	}
}

#define FLOOD_BYTES (2 * MIB)

static void script_flood(struct tls_peer *tp)
{
	char buf[16384];

	for (uint64_t at = 0; at < FLOOD_BYTES; at += sizeof(buf)) {
		for (size_t i = 0; i < sizeof(buf); i++)
			buf[i] = pattern_at(at + i);
		ASSERT(SSL_write(tp->ssl, buf, sizeof(buf)) == sizeof(buf));
	}
	SSL_shutdown(tp->ssl);
}

struct flood {
	struct probe p;
	struct loop_timer timer;
	size_t seen;
	bool bad;
};

static void flood_take(void *ctx)
{
	struct flood *f = ctx;
	struct slice s;

	/* All of it, or in the middle of it a pause. */
	while ((s = conn_peek(f->p.conn)).len > 0) {
		for (size_t i = 0; i < s.len; i++)
			f->bad |= s.ptr[i] != pattern_at(f->seen + i);
		f->seen += s.len;
		conn_consume(f->p.conn, s.len);
	}
	conn_resume(f->p.conn);
}

static void flood_hook(struct probe *p, const char *what)
{
	struct flood *f = CONTAINER_OF(p, struct flood, p);
	size_t len;

	if (strcmp(what, "connected") == 0)
		conn_start_tls(p->conn, context, HOST);
	if (strcmp(what, "readable") != 0)
		return;
	len = conn_input_len(p->conn);
	assert_true(len <= 65536);
	/* A pause with input left in TLS's own buffers, and a full buffer. */
	if (f->seen < FLOOD_BYTES / 2)
		conn_pause(p->conn);
	loop_timer_set(&f->timer, 0);
}

/* No event tells of input that TLS holds: it must not be forgotten. */
static void test_back_pressure(void **state)
{
	struct tls_peer tp = { .ctx = server_context(&good) };
	struct flood f = { 0 };

	(void)state;
	tls_peer_start(&tp, script_flood);
	probe_init(&f.p);
	loop_timer_init(&f.timer, f.p.loop, flood_take, &f);
	f.p.keep = true;
	f.p.hook = flood_hook;
	probe_connect(&f.p, tp.peer.port);
	loop_run(f.p.loop);
	/* The rest was offered before the end was told, and is still here. */
	assert_int_equal(f.p.end, CONN_END_EOF);
	assert_true(f.seen >= FLOOD_BYTES - 65536);
	assert_false(f.bad);
	loop_timer_fini(&f.timer);
	probe_fini(&f.p);
	tls_peer_finish(&tp);
	SSL_CTX_free(tp.ctx);
}

static void script_three_records(struct tls_peer *tp)
{
	char byte;

	tls_peer_say(tp, "one");
	tls_peer_say(tp, "two");
	tls_peer_say(tp, "three");
	SSL_read(tp->ssl, &byte, 1);
}

static void timer_resumes(void *ctx)
{
	struct flood *f = ctx;

	conn_resume(f->p.conn);
}

static void pause_hook(struct probe *p, const char *what)
{
	struct flood *f = CONTAINER_OF(p, struct flood, p);

	if (strcmp(what, "connected") == 0)
		conn_start_tls(p->conn, context, HOST);
	if (p->input_len == strlen("onetwothree"))
		loop_stop(p->loop);
	if (strcmp(what, "secured") != 0 && strcmp(what, "readable") != 0)
		return;
	conn_pause(p->conn);
	/* In the first pause, all three arrive. */
	loop_timer_set(&f->timer, *what == 's' ? 20 * US_PER_MS : 0);
}

/* All is here already, and the peer will say nothing more. */
static void test_pause_between_records(void **state)
{
	struct tls_peer tp = { .ctx = server_context(&good) };
	struct flood f = { 0 };

	(void)state;
	tls_peer_start(&tp, script_three_records);
	probe_init(&f.p);
	loop_timer_init(&f.timer, f.p.loop, timer_resumes, &f);
	f.p.hook = pause_hook;
	probe_connect(&f.p, tp.peer.port);
	loop_run(f.p.loop);
	assert_string_equal(f.p.input, "onetwothree");
	loop_timer_fini(&f.timer);
	probe_fini(&f.p);
	tls_peer_finish(&tp);
	SSL_CTX_free(tp.ctx);
}

/* SSL_read() gives one record: what a turn wrote must be in one. */
static void script_one_record(struct tls_peer *tp)
{
	char buf[100];

	ASSERT(SSL_read(tp->ssl, buf, sizeof(buf)) == 13);
	ASSERT(memcmp(buf, "one two three", 13) == 0);
}

static void pieces_hook(struct probe *p, const char *what)
{
	if (strcmp(what, "connected") == 0)
		conn_start_tls(p->conn, context, HOST);
	if (strcmp(what, "secured") == 0) {
		conn_write(p->conn, "one ", 4);
		conn_write_ref(p->conn, "two ", 4, free, NULL);
		conn_write(p->conn, "three", 5);
	}
}

static void test_a_turn_is_one_record(void **state)
{
	struct tls_peer tp = { .ctx = server_context(&good) };
	struct probe p;

	(void)state;
	tls_peer_start(&tp, script_one_record);
	probe_init(&p);
	p.hook = pieces_hook;
	probe_connect(&p, tp.peer.port);
	loop_run(p.loop);
	assert_int_equal(p.end, CONN_END_EOF);
	probe_fini(&p);
	tls_peer_finish(&tp);
	SSL_CTX_free(tp.ctx);
}

/* The first words come with the last of the handshake, and no event after. */
static void script_greets_at_once(struct tls_peer *tp)
{
	char byte;

	tls_peer_say(tp, "220 hello\r\n");
	SSL_read(tp->ssl, &byte, 1);
}

static void stop_at_greeting(struct probe *p, const char *what)
{
	if (strcmp(what, "connected") == 0)
		conn_start_tls(p->conn, context, HOST);
	if (p->input_len == 11)
		loop_stop(p->loop);
}

static void test_greeting_with_the_handshake(void **state)
{
	(void)state;
	for (size_t i = 0; i < 20; i++) {
		struct tls_peer tp = { .ctx = server_context(&good) };
		struct probe p;

		SSL_CTX_set_max_proto_version(tp.ctx, versions[i % 2].version);
		tls_peer_start(&tp, script_greets_at_once);
		probe_init(&p);
		p.hook = stop_at_greeting;
		probe_connect(&p, tp.peer.port);
		loop_run(p.loop);
		assert_string_equal(p.told, "connected secured readable");
		probe_fini(&p);
		tls_peer_finish(&tp);
		SSL_CTX_free(tp.ctx);
	}
}

struct closing {
	const char *where;
	bool after_flush;
};

static void close_hook(struct probe *p, const char *what)
{
	const struct closing *how = p->extra;
	struct conn *c = p->conn;

	if (strcmp(what, "connected") == 0)
		conn_start_tls(c, context, HOST);
	if (strcmp(what, "secured") == 0)
		conn_write(c, "hello\r\n", 7);
	if (strcmp(how->where, what) != 0)
		return;
	if (how->after_flush)
		conn_close_after_flush(c);
	else
		conn_close(c);
	p->conn = NULL;
	loop_stop(p->loop);
}

static void script_any(struct peer *peer)
{
	struct tls_peer *tp = CONTAINER_OF(peer, struct tls_peer, peer);
	char buf[100];

	if (tls_peer_accept(tp) && SSL_write(tp->ssl, "hello", 5) == 5)
		SSL_read(tp->ssl, buf, sizeof(buf));
	ERR_clear_error();
	peer_reset(peer);
}

static void test_close_in_every_callback(void **state)
{
	static const struct closing how[] = {
		{ "connected", false },
		{ "connected", true },
		{ "secured", false },
		{ "secured", true },
		{ "readable", false },
		{ "readable", true },
		{ "writable", false },
		{ "writable", true },
		{ "end", false },
		{ "end", true },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(how); i++) {
		struct tls_peer tp = { .ctx = server_context(&good) };
		struct probe p;

		peer_start(&tp.peer, script_any, NULL);
		probe_init(&p);
		p.hook = close_hook;
		p.extra = (void *)(uintptr_t)&how[i];
		probe_connect(&p, tp.peer.port);
		loop_run(p.loop);
		assert_null(p.conn);
		run_until_done(p.loop, &tp.peer);
		probe_fini(&p);
		tls_peer_finish(&tp);
		SSL_CTX_free(tp.ctx);
	}
}

/* QUIT in the last record, then close_notify, then FIN. */
static void script_quit(struct tls_peer *tp)
{
	char buf[100];

	tls_peer_say(tp, "a greeting that nobody reads\r\n");
	ASSERT(SSL_read(tp->ssl, buf, sizeof(buf)) == 6);
	ASSERT(memcmp(buf, "QUIT\r\n", 6) == 0);
	ASSERT(SSL_read(tp->ssl, buf, sizeof(buf)) == 0);
	ASSERT(SSL_get_error(tp->ssl, 0) == SSL_ERROR_ZERO_RETURN);
	tls_peer_say(tp, "221 bye\r\n");
	ASSERT(recv(tp->peer.fd, buf, sizeof(buf), 0) == 0);
	tp->extra = tp;
}

static void quit_hook(struct probe *p, const char *what)
{
	if (strcmp(what, "connected") == 0)
		conn_start_tls(p->conn, context, HOST);
	if (strcmp(what, "secured") == 0) {
		conn_write(p->conn, "QUIT\r\n", 6);
		conn_close_after_flush(p->conn);
		p->conn = NULL;
		loop_stop(p->loop);
	}
}

static void test_close_after_flush(void **state)
{
	struct tls_peer tp = { .ctx = server_context(&good) };
	struct probe p;

	(void)state;
	tls_peer_start(&tp, script_quit);
	probe_init(&p);
	p.hook = quit_hook;
	probe_connect(&p, tp.peer.port);
	loop_run(p.loop);
	run_until_done(p.loop, &tp.peer);
	probe_fini(&p);
	tls_peer_finish(&tp);
	assert_non_null(tp.extra);
	SSL_CTX_free(tp.ctx);
}

static bool connect_resumes(
    SSL_CTX *ctx, struct tls_context *client, const char *host)
{
	struct tls_context *saved = context;
	struct tls_peer tp = { .ctx = ctx };
	struct probe p;

	context = client;
	run_tls(&p, &tp, script_expect_secret, host);
	context = saved;
	assert_string_equal(p.told, "connected secured readable end");
	probe_fini(&p);
	tls_peer_finish(&tp);
	return tp.resumed;
}

static void test_sessions_are_resumed(void **state)
{
	struct err err;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(versions); i++) {
		struct tls_context *client = tls_context_new(ca_file, &err);
		struct tls_context *other = tls_context_new(ca_file, &err);
		SSL_CTX *ctx = server_context(&good);

		SSL_CTX_set_max_proto_version(ctx, versions[i].version);
		assert_false(connect_resumes(ctx, client, HOST));
		assert_true(connect_resumes(ctx, client, HOST));
		assert_true(connect_resumes(ctx, client, HOST));
		/* Of that context and that host only. */
		assert_false(connect_resumes(ctx, other, HOST));
		assert_false(connect_resumes(ctx, client, "127.0.0.1"));
		tls_context_unref(client);
		tls_context_unref(other);
		SSL_CTX_free(ctx);
	}
}

/* A certificate that ran out is not saved by a session from before. */
static void test_resumption_ends_with_the_certificate(void **state)
{
	struct cert c = cert_new(&ca, "x", "DNS:" HOST, -DAY_S, 600);
	struct err err;
	struct tls_context *client = tls_context_new(ca_file, &err);
	struct tls_peer tp = { .ctx = server_context(&c), .fails = true };
	struct tls_context *saved = context;
	struct probe p;

	(void)state;
	SSL_CTX_set_timeout(tp.ctx, 3600);
	assert_false(connect_resumes(tp.ctx, client, HOST));
	time_shift = 500;
	assert_true(connect_resumes(tp.ctx, client, HOST));
	time_shift = 1000;
	context = client;
	run_tls(&p, &tp, NULL, HOST);
	context = saved;
	time_shift = 0;
	assert_string_equal(p.told, "connected end");
	assert_string_equal(
	    p.reason, "certificate refused: certificate has expired");
	probe_fini(&p);
	tls_peer_finish(&tp);
	tls_context_unref(client);
	SSL_CTX_free(tp.ctx);
	cert_free(&c);
}

/* A reload drops the context while a connection still lives in it. */
static void unref_hook(struct probe *p, const char *what)
{
	if (strcmp(what, "connected") == 0) {
		conn_start_tls(p->conn, p->extra, HOST);
		tls_context_unref(p->extra);
	}
	if (strcmp(what, "secured") == 0)
		conn_write(p->conn, "secret", 6);
}

static void test_connections_keep_their_context(void **state)
{
	struct tls_peer tp = { .ctx = server_context(&good) };
	struct probe p;
	struct err err;

	(void)state;
	tls_peer_start(&tp, script_expect_secret);
	probe_init(&p);
	p.hook = unref_hook;
	p.extra = tls_context_new(ca_file, &err);
	probe_connect(&p, tp.peer.port);
	loop_run(p.loop);
	assert_string_equal(p.told, "connected secured readable end");
	probe_fini(&p);
	tls_peer_finish(&tp);
	SSL_CTX_free(tp.ctx);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_good_certificate),
		cmocka_unit_test(test_record_size),
		cmocka_unit_test(test_forms_of_the_host),
		cmocka_unit_test(test_a_wildcard_of_one_label),
		cmocka_unit_test(test_wrong_certificates),
		cmocka_unit_test(test_unknown_authority),
		cmocka_unit_test(test_tls_1_1_is_refused),
		cmocka_unit_test(test_handshake_with_others),
		cmocka_unit_test(test_deadline_in_the_handshake),
		cmocka_unit_test(test_ends_inside_tls),
		cmocka_unit_test(test_last_words_before_a_failed_write),
		cmocka_unit_test(test_starttls),
		cmocka_unit_test(test_nothing_in_clear_survives_starttls),
		cmocka_unit_test(test_large_transfer_both_ways),
		cmocka_unit_test(test_back_pressure),
		cmocka_unit_test(test_pause_between_records),
		cmocka_unit_test(test_a_turn_is_one_record),
		cmocka_unit_test(test_greeting_with_the_handshake),
		cmocka_unit_test(test_close_in_every_callback),
		cmocka_unit_test(test_close_after_flush),
		cmocka_unit_test(test_sessions_are_resumed),
		cmocka_unit_test(test_resumption_ends_with_the_certificate),
		cmocka_unit_test(test_connections_keep_their_context),
	};

	return cmocka_run_group_tests_name(
	    "conn_tls", tests, group_setup, group_teardown);
}
