/*
 * What is made from several keys: the endpoint, parsed addresses and ports, and
 * the options of the modules below; and the rules that tie keys together.
 *
 * A key whose own mistake was told has its default here; no rule complains
 * about that a second time.  Called once for each load, with every field set.
 */
#include "config_private.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/slice.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What SES takes, in all (40 MB, of which we don't know the K). */
#define SES_MESSAGE_MAX 40000000
/* SES closes what was idle for about 10 s. */
#define SES_IDLE_US (10 * US_PER_S)
/* The spool's files and whatever else is open, beside sessions and pool. */
#define SPARE_DESCRIPTORS 128
/* The least that Linux takes for TCP_MAXSEG. */
#define MSS_MIN 88

static void derive_hostname(struct config_reader *r)
{
	struct config *c = r->config;
	char name[256];

	if (c->smtp.hostname)
		return;
	/* No look-up for the domain: DNS may be down, and we start anyway. */
	if (gethostname(name, sizeof(name) - 1) < 0)
		name[0] = '\0';
	name[sizeof(name) - 1] = '\0';
	if (config_check_hostname(name, NULL) < 0)
		strcpy(name, "localhost");
	c->smtp.hostname = xstrdup(name);
}

static void derive_endpoint(struct config_reader *r)
{
	struct config *c = r->config;
	unsigned line = config_key_line(r, "ses.endpoint");

	if (c->ses.endpoint)
		c->endpoint = xstrdup(c->ses.endpoint);
	else if (c->ses.region)
		c->endpoint =
		    xasprintf("email-smtp.%s.amazonaws.com", c->ses.region);
	else if (!config_key_bad(r, "ses.region") &&
	    !config_key_bad(r, "ses.endpoint"))
		config_error(r, config_key_line(r, "ses.region"),
		    "'ses.region' is missing: set it to the AWS region whose "
		    "SES sends your mail, such as \"eu-west-1\" (or "
		    "'ses.endpoint' to a host)");
	if (!c->endpoint)
		return;
	if (slice_has_suffix(
		slice_str(c->endpoint), ".mail-manager-smtp.amazonaws.com") ||
	    strncmp(c->endpoint, "inbound-smtp.", 13) == 0)
		config_warn(r, line,
		    "'ses.endpoint': %s is for mail that comes in; it may "
		    "accept mail and drop it. SES sends from "
		    "email-smtp.REGION.amazonaws.com",
		    c->endpoint);
	if (strncmp(c->endpoint, "email.", 6) == 0 &&
	    slice_has_suffix(slice_str(c->endpoint), ".amazonaws.com"))
		config_warn(r, line,
		    "'ses.endpoint': %s is the name of SES's HTTPS API, which "
		    "speaks no SMTP; that is at "
		    "email-smtp.REGION.amazonaws.com",
		    c->endpoint);
}

/*
 * Addresses beyond loopback need an allow list of the operator's own; and none
 * can be bound twice.
 */
static void check_listeners(struct config_reader *r)
{
	struct config *c = r->config;
	struct sockaddr_storage addr, other;
	socklen_t len, other_len;
	unsigned line = config_key_line(r, "smtp.listen");
	bool open =
	    config_allow_is_default(c) && !config_key_bad(r, "smtp.allow");

	if (c->smtp.listen.n == 0)
		config_error(r, line,
		    "'smtp.listen' must hold an address such as "
		    "\"127.0.0.1:25\"");
	for (unsigned i = 0; i < c->smtp.listen.n; i++) {
		const char *text = c->smtp.listen.items[i];

		if (listener_parse_address(text, &addr, &len, NULL) < 0)
			continue;
		if (open &&
		    !listener_is_loopback((const struct sockaddr *)&addr))
			config_error(r, line,
			    "'smtp.listen': %s can be reached from other "
			    "hosts, and 'smtp.allow' is at its default: set "
			    "it to the networks that may hand in mail, or "
			    "listen on loopback only",
			    text);
		for (unsigned j = 0; j < i; j++) {
			const char *before = c->smtp.listen.items[j];

			if (listener_parse_address(
				before, &other, &other_len, NULL) < 0 ||
			    other_len != len ||
			    slice_has_suffix(slice_str(text), ":0") ||
			    memcmp(&addr, &other, len) != 0)
				continue;
			config_error(
			    r, line, "'smtp.listen' names %s twice", text);
		}
	}
}

static void derive_inbound(struct config_reader *r)
{
	struct config *c = r->config;
	struct inbound_options *in = &c->options.inbound;

	check_listeners(r);
	if (c->smtp.allow.n == 0)
		config_error(r, config_key_line(r, "smtp.allow"),
		    "'smtp.allow' is empty, so that nobody could hand in "
		    "mail; name networks such as \"127.0.0.0/8\"");
	c->allow = xcalloc(c->smtp.allow.n, sizeof(*c->allow));
	for (unsigned i = 0; i < c->smtp.allow.n; i++)
		if (network_parse(c->smtp.allow.items[i],
			&c->allow[in->n_allow], NULL) == 0)
			in->n_allow++;
	in->allow = c->allow;
	in->max_sessions = (unsigned)c->smtp.max_sessions;
	in->spare_descriptors =
	    (unsigned)c->delivery.connections + SPARE_DESCRIPTORS;
	in->timeout_us = c->smtp.timeout_us;
	in->server = (struct server_options){
		.hostname = c->smtp.hostname,
		.max_message_size = c->smtp.max_message_size,
		.max_recipients = (unsigned)c->smtp.max_recipients,
		.reject_bare_newline = c->smtp.bare_newline == 1,
		.accept_any_auth = c->smtp.accept_any_auth,
	};
	if (c->smtp.max_message_size > SES_MESSAGE_MAX)
		config_warn(r, config_key_line(r, "smtp.max_message_size"),
		    "'smtp.max_message_size' is above the 40 MB that SES "
		    "takes; larger messages will fail there");
}

static void derive_ports(struct config_reader *r)
{
	struct config *c = r->config;
	struct pool_options *pool = &c->options.pool;
	unsigned line = config_key_line(r, "ses.ports");

	if (c->ses.ports.n < 1 || c->ses.ports.n > POOL_MAX_PORTS) {
		config_error(r, line,
		    "'ses.ports' must hold from 1 to %d ports", POOL_MAX_PORTS);
		return;
	}
	for (unsigned i = 0; i < c->ses.ports.n; i++) {
		struct pool_port *port = &pool->ports[pool->n_ports];

		if (config_parse_port(c->ses.ports.items[i], port, NULL) < 0)
			continue;
		for (unsigned j = 0; j < pool->n_ports; j++)
			if (pool->ports[j].port == port->port)
				config_error(r, line,
				    "'ses.ports' names port %u twice",
				    port->port);
		pool->n_ports++;
	}
}

/* The text is an IP address, or absent. */
static void derive_source(struct config *c)
{
	struct pool_options *pool = &c->options.pool;
	struct sockaddr_in v4 = { .sin_family = AF_INET };
	struct sockaddr_in6 v6 = { .sin6_family = AF_INET6 };
	const char *text = c->ses.source_address;

	if (!text)
		return;
	if (inet_pton(AF_INET, text, &v4.sin_addr) == 1) {
		memcpy(&pool->source, &v4, sizeof(v4));
		pool->source_len = sizeof(v4);
	} else if (inet_pton(AF_INET6, text, &v6.sin6_addr) == 1) {
		memcpy(&pool->source, &v6, sizeof(v6));
		pool->source_len = sizeof(v6);
	}
}

static void derive_pool(struct config_reader *r)
{
	struct config *c = r->config;
	struct pool_options *pool = &c->options.pool;

	derive_ports(r);
	derive_source(c);
	pool->host = c->endpoint;
	pool->hostname = c->smtp.hostname;
	pool->ca_file = c->ses.ca_file;
	pool->mss = (int)c->ses.mss;
	pool->max_connections = (unsigned)c->delivery.connections;
	pool->rotate = (struct rotate_options){
		.messages_per_connection =
		    (unsigned)c->delivery.messages_per_connection,
		.lifetime_us = c->delivery.connection_lifetime_us,
		.idle_timeout_us = c->delivery.idle_timeout_us,
		.adaptive = c->delivery.adaptive_rotation,
	};
	pool->timeouts = (struct pool_timeouts){
		.connect_us = c->delivery.timeout_connect_us,
		.tls_us = c->delivery.timeout_tls_us,
		.greeting_us = c->delivery.timeout_greeting_us,
		.command_us = c->delivery.timeout_command_us,
		.data_us = c->delivery.timeout_data_us,
		.final_us = c->delivery.timeout_final_us,
	};
	if (c->ses.mss != 0 && c->ses.mss < MSS_MIN)
		config_error(r, config_key_line(r, "ses.mss"),
		    "'ses.mss' must be 0 (the system's choice) or at least %d",
		    MSS_MIN);
	if (c->delivery.idle_timeout_us >= SES_IDLE_US)
		config_warn(r, config_key_line(r, "delivery.idle_timeout"),
		    "'delivery.idle_timeout': SES itself closes connections "
		    "that were idle for about 10 s; stay well below");
}

static void derive_spool(struct config *c)
{
	c->options.spool = (struct spool_options){
		.directory = c->spool.directory,
		.durable = c->spool.durability == 0,
		.min_free_bytes = c->spool.min_free,
		.max_bytes = c->spool.max_size,
		.max_messages = (uint64_t)c->spool.max_messages,
		.keep_failed_us = c->spool.keep_failed_us,
	};
}

static void derive_relay(struct config *c)
{
	struct relay_options *relay = &c->options.relay;

	for (unsigned i = 0; i < c->delivery.retry.n; i++)
		relay->backoff.waits_us[i] = c->delivery.retry.us[i];
	relay->backoff.n_waits = c->delivery.retry.n;
	relay->backoff.expire_us = c->delivery.expire_us;
	relay->rate = c->delivery.rate;
	relay->recipients_per_message =
	    (unsigned)c->delivery.recipients_per_message;
	relay->hold_uncertain = c->delivery.uncertain == 1;
	relay->hostname = c->smtp.hostname;
	relay->username = c->ses.username;
	relay->bounce_from = c->bounce.from;
	if (c->bounce.to != NULL && strcmp(c->bounce.to, "sender") != 0)
		relay->bounce_to = c->bounce.to;
	c->log_options = (struct log_options){
		.target = (enum log_target)c->log.target,
		.format = (enum log_format)c->log.format,
		.level = (enum log_level)c->log.level,
		.name = c->log.name,
	};
}

void config_derive(struct config_reader *r)
{
	derive_hostname(r);
	derive_endpoint(r);
	derive_inbound(r);
	config_derive_rewrite(r);
	config_derive_http(r);
	derive_pool(r);
	derive_spool(r->config);
	derive_relay(r->config);
	config_derive_credentials(r);
}
