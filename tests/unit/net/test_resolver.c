/*
 * The resolver: what is looked up and when, and whose turn it is.
 *
 * getaddrinfo() is replaced by a table that each test fills, but for names it
 * does not know: those go to the system's.
 */
#include "base/clock.h"
#include "base/mem.h"
#include "net/resolver.h"

#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define HOST "ses.example"

/* What the network knows of HOST; the resolver's thread looks here. */
static struct {
	pthread_mutex_t lock;
	const char *addrs; /* "192.0.2.1 2001:db8::1", in this order */
	int rc; /* instead of an answer */
	int n_lookups;
	int hang[2]; /* a pipe: a lookup waits for a byte; 0: none does */
} dns = { .lock = PTHREAD_MUTEX_INITIALIZER };

static void dns_set(const char *addrs, int rc)
{
	pthread_mutex_lock(&dns.lock);
	dns.addrs = addrs;
	dns.rc = rc;
	pthread_mutex_unlock(&dns.lock);
}

static int dns_lookups(void)
{
	int n;

	pthread_mutex_lock(&dns.lock);
	n = dns.n_lookups;
	pthread_mutex_unlock(&dns.lock);
	return n;
}

static struct addrinfo *answer_of(const char *text)
{
	struct addrinfo *ai = xcalloc(1, sizeof(*ai));
	struct sockaddr_in *in = xcalloc(1, sizeof(struct sockaddr_in6));
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)(void *)in;

	ai->ai_addr = (struct sockaddr *)in;
	if (strchr(text, ':')) {
		in6->sin6_family = AF_INET6;
		ai->ai_addrlen = sizeof(*in6);
		ASSERT(inet_pton(AF_INET6, text, &in6->sin6_addr) == 1);
	} else {
		in->sin_family = AF_INET;
		ai->ai_addrlen = sizeof(*in);
		ASSERT(inet_pton(AF_INET, text, &in->sin_addr) == 1);
	}
	ai->ai_family = ai->ai_addr->sa_family;
	return ai;
}

int getaddrinfo(const char *node, const char *service,
    const struct addrinfo *hints, struct addrinfo **result)
{
	struct addrinfo **tail = result;
	char *list, *word, *rest;
	int rc;

	if (strcmp(node, HOST) != 0) {
		int (*real)(const char *, const char *, const struct addrinfo *,
		    struct addrinfo **);

		*(void **)&real = dlsym(RTLD_NEXT, "getaddrinfo");
		return real(node, service, hints, result);
	}
	ASSERT(hints->ai_family == AF_UNSPEC &&
	    !(hints->ai_flags & AI_ADDRCONFIG));
	pthread_mutex_lock(&dns.lock);
	dns.n_lookups++;
	rc = dns.rc;
	list = xstrdup(dns.addrs);
	pthread_mutex_unlock(&dns.lock);
	if (dns.hang[0] != 0)
		(void)!read(dns.hang[0], &(char){ 0 }, 1);
	*result = NULL;
	for (word = strtok_r(list, " ", &rest); rc == 0 && word;
	     word = strtok_r(NULL, " ", &rest)) {
		*tail = answer_of(word);
		tail = &(*tail)->ai_next;
	}
	free(list);
	errno = ENETDOWN;
	return rc;
}

void freeaddrinfo(struct addrinfo *ai)
{
	struct addrinfo *next;

	/* The system's, in one piece. */
	if (ai->ai_flags || ai->ai_socktype || ai->ai_canonname) {
		void (*real)(struct addrinfo *);

		*(void **)&real = dlsym(RTLD_NEXT, "freeaddrinfo");
		real(ai);
		return;
	}
	for (; ai; ai = next) {
		next = ai->ai_next;
		free(ai->ai_addr);
		free(ai);
	}
}

struct test {
	struct work_port *port;
	struct resolver *r;
};

/* One question and its answer. */
struct ask {
	char text[INET6_ADDRSTRLEN]; /* "" until there is one */
	char reason[300];
	struct resolver_addr addr;
	int n_done;
	/* Asks again in the answer. */
	struct resolver *again;
	struct ask *cancel; /* or cancels that one */
};

static int setup(void **state)
{
	struct test *t = xcalloc(1, sizeof(*t));

	alarm(60);
	clock_set_fake(1000 * US_PER_S, 0);
	dns_set("", EAI_NONAME);
	dns.n_lookups = 0;
	t->port = work_port_new();
	t->r = resolver_new(t->port);
	*state = t;
	return 0;
}

static int teardown(void **state)
{
	struct test *t = *state;

	resolver_free(t->r);
	work_port_free(t->port);
	free(t);
	clock_set_real();
	return 0;
}

static void advance(int seconds)
{
	clock_set_fake(clock_mono_us() + seconds * US_PER_S, 0);
}

static void on_done(
    void *ctx, const struct resolver_addr *addr, const char *reason)
{
	struct ask *a = ctx;
	union {
		const struct sockaddr_storage *any;
		const struct sockaddr_in *in;
		const struct sockaddr_in6 *in6;
	} u;

	a->n_done++;
	assert_true((addr == NULL) == (reason != NULL));
	if (!addr) {
		snprintf(a->reason, sizeof(a->reason), "%s", reason);
	} else {
		a->addr = *addr;
		u.any = &a->addr.addr;
		if (u.any->ss_family == AF_INET) {
			inet_ntop(
			    AF_INET, &u.in->sin_addr, a->text, sizeof(a->text));
			assert_int_equal(u.in->sin_port, 0);
			assert_int_equal(addr->len, sizeof(*u.in));
		} else {
			inet_ntop(AF_INET6, &u.in6->sin6_addr, a->text,
			    sizeof(a->text));
			assert_int_equal(u.in6->sin6_port, 0);
			assert_int_equal(addr->len, sizeof(*u.in6));
		}
	}
	if (a->cancel)
		resolver_cancel(a->again, a->cancel);
	else if (a->again && a->n_done < 3)
		resolver_next(a->again, HOST, on_done, a);
}

static void wait_for(struct test *t, const struct ask *a, int n_done)
{
	struct pollfd p = { .fd = work_port_fd(t->port), .events = POLLIN };

	while (a->n_done < n_done) {
		assert_int_equal(poll(&p, 1, 30000), 1);
		work_port_dispatch(t->port);
	}
}

/* The answer as text, or the reason. */
static const char *next(struct test *t, const char *host, struct ask *a)
{
	memset(a, 0, sizeof(*a));
	resolver_next(t->r, host, on_done, a);
	wait_for(t, a, 1);
	assert_int_equal(a->n_done, 1);
	return *a->text ? a->text : a->reason;
}

static void test_numeric_hosts(void **state)
{
	static const struct {
		const char *host, *expected;
	} rows[] = {
		{ "127.0.0.1", "127.0.0.1" },
		{ "::1", "::1" },
		{ "[::1]", "::1" },
		{ "[2001:db8::25]", "2001:db8::25" },
	};
	struct test *t = *state;

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct ask a = { .n_done = 0 };

		for (int n = 1; n < 3; n++) {
			resolver_next(t->r, rows[i].host, on_done, &a);
			/* Before it returned. */
			assert_int_equal(a.n_done, n);
			assert_string_equal(a.text, rows[i].expected);
			/* However often it failed, there is no other. */
			resolver_report(t->r, &a.addr, false);
			advance(100);
		}
		assert_int_equal(resolver_count(t->r, rows[i].host), 1);
	}
}

static void test_localhost(void **state)
{
	struct test *t = *state;
	struct ask a;
	const char *text = next(t, "localhost", &a);

	assert_true(strcmp(text, "127.0.0.1") == 0 || strcmp(text, "::1") == 0);
	assert_true(resolver_count(t->r, "localhost") >= 1);
	assert_int_equal(resolver_count(t->r, "never.asked"), 0);
}

static void test_an_answer_is_used_for_30_seconds(void **state)
{
	struct test *t = *state;
	struct ask a;

	dns_set("192.0.2.1", 0);
	assert_string_equal(next(t, HOST, &a), "192.0.2.1");
	dns_set("192.0.2.2", 0);
	advance(29);
	memset(&a, 0, sizeof(a));
	resolver_next(t->r, HOST, on_done, &a);
	assert_int_equal(a.n_done, 1); /* at once */
	assert_string_equal(a.text, "192.0.2.1");
	assert_int_equal(dns_lookups(), 1);
	advance(1);
	assert_string_equal(next(t, HOST, &a), "192.0.2.2");
	assert_int_equal(dns_lookups(), 2);
	assert_int_equal(resolver_count(t->r, HOST), 1);
}

static void test_one_lookup_for_all_who_ask(void **state)
{
	struct test *t = *state;
	struct ask asks[5] = { 0 };

	dns_set("192.0.2.1 192.0.2.2", 0);
	for (size_t i = 0; i < ARRAY_LEN(asks); i++) {
		resolver_next(t->r, HOST, on_done, &asks[i]);
		assert_int_equal(asks[i].n_done, 0);
	}
	wait_for(t, &asks[4], 1);
	assert_int_equal(dns_lookups(), 1);
	/* In the order of asking, each its own turn. */
	for (size_t i = 0; i < ARRAY_LEN(asks); i++)
		assert_string_equal(
		    asks[i].text, i % 2 ? "192.0.2.2" : "192.0.2.1");
}

static void test_a_failed_lookup_leaves_the_last_answer(void **state)
{
	static const int codes[] = { EAI_AGAIN, EAI_NONAME, EAI_FAIL,
		EAI_SYSTEM };
	struct test *t = *state;
	struct ask a;

	dns_set("192.0.2.1", 0);
	next(t, HOST, &a);
	for (size_t i = 0; i < ARRAY_LEN(codes); i++) {
		dns_set("", codes[i]);
		advance(31);
		assert_string_equal(next(t, HOST, &a), "192.0.2.1");
		assert_int_equal(dns_lookups(), i + 2);
		/* Nor does everyone wait for the next failure. */
		assert_string_equal(next(t, HOST, &a), "192.0.2.1");
		assert_int_equal(dns_lookups(), i + 2);
	}
	/* An empty answer is one, too. */
	dns_set("", 0);
	advance(31);
	assert_string_equal(next(t, HOST, &a), "192.0.2.1");
	dns_set("192.0.2.2", 0);
	advance(31);
	assert_string_equal(next(t, HOST, &a), "192.0.2.2");
}

static void test_reasons(void **state)
{
	static const struct {
		int rc;
		const char *reason;
	} rows[] = {
		{ EAI_NONAME,
		    "cannot resolve " HOST ": Name or service not known" },
		{ EAI_AGAIN,
		    "cannot resolve " HOST
		    ": Temporary failure in name resolution" },
		{ EAI_SYSTEM, "cannot resolve " HOST ": Network is down" },
		{ 0, "cannot resolve " HOST ": no address" },
	};
	struct test *t = *state;
	struct ask a;

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		dns_set("", rows[i].rc);
		assert_string_equal(next(t, HOST, &a), rows[i].reason);
		/* Asked anew each time: nothing is known. */
		assert_int_equal(dns_lookups(), i + 1);
		assert_int_equal(resolver_count(t->r, HOST), 0);
	}
	dns_set("192.0.2.1", 0);
	assert_string_equal(next(t, HOST, &a), "192.0.2.1");
}

static void test_addresses_in_turn(void **state)
{
	static const char *const expected[] = { "192.0.2.1", "2001:db8::1",
		"192.0.2.2", "192.0.2.1", "2001:db8::1", "192.0.2.2" };
	struct test *t = *state;
	struct ask a;

	/* Named twice, it is one all the same. */
	dns_set("192.0.2.1 2001:db8::1 192.0.2.1 192.0.2.2", 0);
	for (size_t i = 0; i < ARRAY_LEN(expected); i++)
		assert_string_equal(next(t, HOST, &a), expected[i]);
	assert_int_equal(resolver_count(t->r, HOST), 3);
}

static void test_failed_addresses_are_passed_over(void **state)
{
	struct test *t = *state;
	struct ask first, a;

	dns_set("192.0.2.1 192.0.2.2 192.0.2.3", 0);
	assert_string_equal(next(t, HOST, &first), "192.0.2.1");
	resolver_report(t->r, &first.addr, false);
	assert_string_equal(next(t, HOST, &a), "192.0.2.2");
	assert_string_equal(next(t, HOST, &a), "192.0.2.3");
	assert_string_equal(next(t, HOST, &a), "192.0.2.2");
	advance(4);
	assert_string_equal(next(t, HOST, &a), "192.0.2.3");
	advance(1);
	assert_string_equal(next(t, HOST, &a), "192.0.2.1");
	/* Again: now it is ten seconds, also over a new lookup. */
	resolver_report(t->r, &first.addr, false);
	advance(9);
	assert_string_equal(next(t, HOST, &a), "192.0.2.2");
	assert_string_equal(next(t, HOST, &a), "192.0.2.3");
	assert_string_equal(next(t, HOST, &a), "192.0.2.2");
	advance(1);
	assert_string_equal(next(t, HOST, &a), "192.0.2.3");
	assert_string_equal(next(t, HOST, &a), "192.0.2.1");
	/* It works: forgotten, the next time it is five seconds. */
	resolver_report(t->r, &first.addr, true);
	resolver_report(t->r, &first.addr, false);
	advance(5);
	assert_string_equal(next(t, HOST, &a), "192.0.2.2");
	assert_string_equal(next(t, HOST, &a), "192.0.2.3");
	assert_string_equal(next(t, HOST, &a), "192.0.2.1");
}

static void test_penalty_survives_a_lookup_and_has_a_limit(void **state)
{
	struct test *t = *state;
	struct ask first, a;

	dns_set("192.0.2.1 192.0.2.2", 0);
	assert_string_equal(next(t, HOST, &first), "192.0.2.1");
	for (int i = 0; i < 20; i++)
		resolver_report(t->r, &first.addr, false);
	for (int i = 0; i < 9; i++) {
		assert_string_equal(next(t, HOST, &a), "192.0.2.2");
		advance(33);
	}
	assert_int_equal(dns_lookups(), 9);
	assert_string_equal(next(t, HOST, &a), "192.0.2.2");
	advance(3);
	assert_string_equal(next(t, HOST, &a), "192.0.2.1");
}

static void test_when_all_have_failed(void **state)
{
	struct test *t = *state;
	struct ask a, b;

	dns_set("192.0.2.1 192.0.2.2", 0);
	next(t, HOST, &a);
	next(t, HOST, &b);
	resolver_report(t->r, &b.addr, false);
	advance(1);
	resolver_report(t->r, &a.addr, false);
	/* The one whose time is over first, not none. */
	assert_string_equal(next(t, HOST, &a), "192.0.2.2");
	assert_string_equal(next(t, HOST, &a), "192.0.2.2");
}

static void test_cancel(void **state)
{
	struct test *t = *state;
	struct ask kept = { 0 }, gone = { 0 };

	dns_set("192.0.2.1", 0);
	resolver_next(t->r, HOST, on_done, &gone);
	resolver_next(t->r, HOST, on_done, &kept);
	resolver_cancel(t->r, &gone);
	resolver_cancel(t->r, &gone);
	wait_for(t, &kept, 1);
	assert_int_equal(gone.n_done, 0);
}

static void test_cancel_inside_an_answer(void **state)
{
	struct test *t = *state;
	struct ask gone = { 0 }, last = { 0 };
	struct ask first = { .again = t->r, .cancel = &gone };

	dns_set("192.0.2.1", 0);
	resolver_next(t->r, HOST, on_done, &first);
	resolver_next(t->r, HOST, on_done, &gone);
	resolver_next(t->r, HOST, on_done, &last);
	wait_for(t, &last, 1);
	assert_int_equal(first.n_done, 1);
	assert_int_equal(gone.n_done, 0);
}

/* Each failure is answered with the next question: a new lookup each time,
 * not the old failure again. */
static void test_ask_again_inside_an_answer(void **state)
{
	struct test *t = *state;
	struct ask a = { .again = t->r }, b = { .again = t->r };

	dns_set("", EAI_AGAIN);
	resolver_next(t->r, HOST, on_done, &a);
	resolver_next(t->r, HOST, on_done, &b);
	wait_for(t, &b, 3);
	assert_int_equal(a.n_done, 3);
	assert_int_equal(dns_lookups(), 3);
}

static void test_free_during_a_lookup(void **state)
{
	struct test *t = *state;
	struct ask a = { 0 };

	dns_set("192.0.2.1", 0);
	resolver_next(t->r, HOST, on_done, &a);
	resolver_free(t->r);
	t->r = NULL;
	work_port_dispatch(t->port);
	assert_int_equal(a.n_done, 0);
	resolver_free(NULL);
}

static void hang_up(bool hangs)
{
	if (hangs) {
		assert_int_equal(pipe(dns.hang), 0);
		return;
	}
	assert_int_equal(write(dns.hang[1], "1", 1), 1);
	/* The pipe stays: its reader may not have been there yet. */
	dns.hang[0] = dns.hang[1] = 0;
}

/* A stop waits for no server that is silent. */
static void test_free_does_not_wait_for_a_silent_server(void **state)
{
	struct test *t = *state;
	struct ask a = { 0 };

	dns_set("192.0.2.1", 0);
	hang_up(true);
	resolver_next(t->r, HOST, on_done, &a);
	while (dns_lookups() == 0)
		sched_yield();
	resolver_free(t->r); /* SIGALRM if it does */
	t->r = NULL;
	assert_int_equal(a.n_done, 0);
	hang_up(false);
}

static void test_the_last_answer_for_the_impatient(void **state)
{
	struct test *t = *state;
	struct resolver_addr addr;
	struct ask a;

	dns_set("192.0.2.1 192.0.2.2", 0);
	assert_false(resolver_last(t->r, HOST, &addr));
	assert_string_equal(next(t, HOST, &a), "192.0.2.1");
	advance(3600);
	hang_up(true);
	memset(&a, 0, sizeof(a));
	resolver_next(t->r, HOST, on_done, &a);
	/* In turn, as ever. */
	assert_true(resolver_last(t->r, HOST, &addr));
	assert_memory_equal(
	    &((struct sockaddr_in *)(void *)&addr.addr)->sin_addr.s_addr,
	    "\300\0\2\2", 4);
	assert_int_equal(a.n_done, 0);
	hang_up(false);
	wait_for(t, &a, 1);
	assert_string_equal(a.text, "192.0.2.1");
}

/* The name moves to other hosts: known within 30 s. */
static void test_new_addresses_replace_the_old_ones(void **state)
{
	struct test *t = *state;
	struct ask a;

	dns_set("192.0.2.1 2001:db8::1", 0);
	assert_string_equal(next(t, HOST, &a), "192.0.2.1");
	dns_set("2001:db8::2", 0);
	advance(29);
	assert_string_equal(next(t, HOST, &a), "2001:db8::1");
	advance(1);
	assert_string_equal(next(t, HOST, &a), "2001:db8::2");
	assert_int_equal(resolver_count(t->r, HOST), 1);
	dns_set("192.0.2.3", 0);
	advance(30);
	assert_string_equal(next(t, HOST, &a), "192.0.2.3");
	assert_int_equal(resolver_count(t->r, HOST), 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
		TEST(test_numeric_hosts),
		TEST(test_localhost),
		TEST(test_an_answer_is_used_for_30_seconds),
		TEST(test_one_lookup_for_all_who_ask),
		TEST(test_a_failed_lookup_leaves_the_last_answer),
		TEST(test_reasons),
		TEST(test_addresses_in_turn),
		TEST(test_failed_addresses_are_passed_over),
		TEST(test_penalty_survives_a_lookup_and_has_a_limit),
		TEST(test_when_all_have_failed),
		TEST(test_cancel),
		TEST(test_cancel_inside_an_answer),
		TEST(test_ask_again_inside_an_answer),
		TEST(test_free_during_a_lookup),
		TEST(test_free_does_not_wait_for_a_silent_server),
		TEST(test_the_last_answer_for_the_impatient),
		TEST(test_new_addresses_replace_the_old_ones),
	};

	return cmocka_run_group_tests_name("resolver", tests, NULL, NULL);
}
