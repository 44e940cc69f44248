/*
 * The table of keys: the one place that knows their names, types, ranges and
 * defaults.  Keys of a group stand together; groups and keys are in the order
 * in which -T prints them and sesrelayd.conf(5) describes them.
 *
 * Constant data; any thread.  A default stands here in the very form in which
 * config_dump() writes its value (the unit test holds them together).
 */
#include "config_private.h"

#include "credentials.h"

#define Q(text) "\"" text "\""

#define MS INT64_C(1000)
#define SECOND (1000 * MS)
#define HOUR (3600 * SECOND)
#define DAY (24 * HOUR)
#define KB INT64_C(1000)
#define MB (1000 * KB)
#define GB (1000 * MB)

#define KEY(key, kind, field, text, what, ...)                                 \
	{                                                                      \
		.name = key, .type = CONFIG_##kind,                            \
		.offset = offsetof(struct config, field), .fallback = text,    \
		.help = what, __VA_ARGS__                                      \
	}
#define RANGE(from, to) .min = (from), .max = (to)
#define FLAGS(bits) .flags = (bits)
#define CHECK(what) .check = config_check_##what
#define R CONFIG_RELOAD

static const char *const newline_choices[] = { "normalize", "reject", NULL };
static const char *const header_choices[] = { "strip", "keep", NULL };
static const char *const uncertain_choices[] = { "retry", "hold", NULL };
static const char *const durability_choices[] = { "full", "none", NULL };
static const char *const duplicate_choices[] = { "first", "reject", NULL };
/* In the order of enum log_target, log_format, log_level. */
static const char *const target_choices[] = { "auto", "stderr", "journal",
	"syslog", NULL };
static const char *const format_choices[] = { "text", "json", NULL };
static const char *const level_choices[] = { "error", "warning", "info",
	"debug", NULL };

/* clang-format off */
const struct config_key config_keys[] = {
	KEY("smtp.listen", STRINGS, smtp.listen,
	    "[ " Q("127.0.0.1:25") ", " Q("[::1]:25") " ]",
	    "addresses for local programs", CHECK(address)),
	KEY("smtp.allow", STRINGS, smtp.allow,
	    "[ " Q("127.0.0.0/8") ", " Q("::1/128") " ]",
	    "networks that may hand in mail", CHECK(network), FLAGS(R)),
	KEY("smtp.hostname", STRING, smtp.hostname, NULL,
	    "our name in the greeting, Received: and EHLO",
	    CHECK(hostname), FLAGS(R)),
	KEY("smtp.max_sessions", INTEGER, smtp.max_sessions, "1000",
	    "sessions of local programs at a time",
	    RANGE(1, 100000), FLAGS(R)),
	KEY("smtp.max_message_size", SIZE, smtp.max_message_size, Q("40M"),
	    "the largest message", RANGE(KB, GB), FLAGS(R)),
	KEY("smtp.max_recipients", INTEGER, smtp.max_recipients, "1000",
	    "recipients of a message", RANGE(1, 65535), FLAGS(R)),
	KEY("smtp.timeout", DURATION, smtp.timeout_us, Q("5m"),
	    "for a command line, and for each chunk of data",
	    RANGE(MS, DAY), FLAGS(R)),
	KEY("smtp.bare_newline", ENUM, smtp.bare_newline, Q("normalize"),
	    "what becomes of lines that end in LF alone",
	    .choices = newline_choices, FLAGS(R)),
	KEY("smtp.accept_any_auth", BOOL, smtp.accept_any_auth, "false",
	    "let programs log in with whatever they send", FLAGS(R)),

	KEY("ses.region", STRING, ses.region, NULL,
	    "AWS region", .check = credentials_check_region,
	    FLAGS(R)),
	KEY("ses.endpoint", STRING, ses.endpoint, NULL,
	    "host to connect to instead of the region's",
	    CHECK(endpoint), FLAGS(R)),
	KEY("ses.ports", STRINGS, ses.ports,
	    "[ " Q("587") ", " Q("465") ", " Q("2587") ", " Q("2465") " ]",
	    "ports, in the order in which they are tried",
	    CHECK(port), FLAGS(R | CONFIG_NUMBERS)),
	KEY("ses.username", STRING, ses.username, NULL,
	    "SMTP user name", .check = credentials_check_username,
	    FLAGS(R)),
	KEY("ses.password_file", STRING, ses.password_file, NULL,
	    "file with the SMTP password", CHECK(path), FLAGS(R)),
	KEY("ses.secret_key_file", STRING, ses.secret_key_file, NULL,
	    "file with the secret access key that the password is made from",
	    CHECK(path), FLAGS(R)),
	KEY("ses.password", STRING, ses.password, NULL,
	    "the SMTP password itself",
	    CHECK(visible), FLAGS(R | CONFIG_SECRET)),
	KEY("ses.ca_file", STRING, ses.ca_file, NULL,
	    "trust anchors instead of the system's (PEM)",
	    CHECK(path), FLAGS(R)),
	KEY("ses.configuration_set", STRING, ses.configuration_set, NULL,
	    "adds X-SES-CONFIGURATION-SET", CHECK(name), FLAGS(R)),
	KEY("ses.tags", STRINGS, ses.tags, "[ ]",
	    "adds X-SES-MESSAGE-TAGS", CHECK(tag), FLAGS(R)),
	KEY("ses.source_arn", STRING, ses.source_arn, NULL,
	    "adds X-SES-SOURCE-ARN", CHECK(arn), FLAGS(R)),
	KEY("ses.from_arn", STRING, ses.from_arn, NULL,
	    "adds X-SES-FROM-ARN", CHECK(arn), FLAGS(R)),
	KEY("ses.return_path_arn", STRING, ses.return_path_arn, NULL,
	    "adds X-SES-RETURN-PATH-ARN", CHECK(arn), FLAGS(R)),
	KEY("ses.tenant", STRING, ses.tenant, NULL,
	    "adds X-SES-TENANT", CHECK(name), FLAGS(R)),
	KEY("ses.client_headers", ENUM, ses.client_headers, Q("strip"),
	    "X-SES-* header lines that programs send",
	    .choices = header_choices, FLAGS(R)),
	KEY("ses.mss", INTEGER, ses.mss, "0",
	    "TCP maximum segment size; 0: the system's",
	    RANGE(0, 32767), FLAGS(R)),
	KEY("ses.source_address", STRING, ses.source_address, NULL,
	    "local address to connect from", CHECK(ip), FLAGS(R)),

	KEY("delivery.connections", INTEGER, delivery.connections, "20",
	    "connections to SES at a time", RANGE(1, 1000), FLAGS(R)),
	KEY("delivery.messages_per_connection", INTEGER,
	    delivery.messages_per_connection, "50",
	    "messages until a connection is renewed",
	    RANGE(1, 100000), FLAGS(R)),
	KEY("delivery.connection_lifetime", DURATION,
	    delivery.connection_lifetime_us, Q("60s"),
	    "age at which a connection is renewed", RANGE(MS, DAY), FLAGS(R)),
	KEY("delivery.idle_timeout", DURATION, delivery.idle_timeout_us,
	    Q("4s"), "how long a connection may lie idle",
	    RANGE(MS, HOUR), FLAGS(R)),
	KEY("delivery.adaptive_rotation", BOOL, delivery.adaptive_rotation,
	    "true", "learn when connections are lost", FLAGS(R)),
	KEY("delivery.rate", REAL, delivery.rate, "0.0",
	    "recipients a second at the most; 0: as SES has it",
	    RANGE(0, 1000000), FLAGS(R)),
	KEY("delivery.retry", DURATIONS, delivery.retry,
	    "[ " Q("5s") ", " Q("10s") ", " Q("30s") ", " Q("5m") ", "
	    Q("20m") " ]",
	    "waits after failures; the last one repeats",
	    RANGE(MS, DAY), FLAGS(R)),
	KEY("delivery.expire", DURATION, delivery.expire_us, Q("4d"),
	    "age at which a message fails", RANGE(MS, 60 * DAY), FLAGS(R)),
	KEY("delivery.recipients_per_message", INTEGER,
	    delivery.recipients_per_message, "50",
	    "recipients in one transaction", RANGE(1, 50), FLAGS(R)),
	KEY("delivery.uncertain", ENUM, delivery.uncertain, Q("retry"),
	    "when the reply to the end of a message was lost",
	    .choices = uncertain_choices, FLAGS(R)),
	KEY("delivery.timeout_connect", DURATION,
	    delivery.timeout_connect_us, Q("10s"),
	    "for the TCP connection", RANGE(MS, HOUR), FLAGS(R)),
	KEY("delivery.timeout_tls", DURATION, delivery.timeout_tls_us,
	    Q("15s"), "for the TLS handshake", RANGE(MS, HOUR), FLAGS(R)),
	KEY("delivery.timeout_greeting", DURATION,
	    delivery.timeout_greeting_us, Q("30s"),
	    "for SES's greeting", RANGE(MS, HOUR), FLAGS(R)),
	KEY("delivery.timeout_command", DURATION,
	    delivery.timeout_command_us, Q("60s"),
	    "for the reply to a command", RANGE(MS, HOUR), FLAGS(R)),
	KEY("delivery.timeout_data", DURATION, delivery.timeout_data_us,
	    Q("3m"), "for progress while content is sent",
	    RANGE(MS, HOUR), FLAGS(R)),
	KEY("delivery.timeout_final", DURATION, delivery.timeout_final_us,
	    Q("10m"), "for the reply to the end of a message",
	    RANGE(MS, HOUR), FLAGS(R)),

	KEY("spool.directory", STRING, spool.directory,
	    Q("/var/spool/sesrelayd"), "where accepted mail is kept",
	    CHECK(path)),
	KEY("spool.durability", ENUM, spool.durability, Q("full"),
	    "whether mail has to survive a power cut",
	    .choices = durability_choices),
	KEY("spool.min_free", SIZE, spool.min_free, Q("64M"),
	    "free space below which mail is refused",
	    RANGE(0, INT64_MAX), FLAGS(R)),
	KEY("spool.max_messages", INTEGER, spool.max_messages, "0",
	    "queued messages above which mail is refused; 0: no limit",
	    RANGE(0, INT32_MAX), FLAGS(R)),
	KEY("spool.max_size", SIZE, spool.max_size, "0",
	    "size of the spool above which mail is refused; 0: no limit",
	    RANGE(0, INT64_MAX), FLAGS(R)),
	KEY("spool.keep_failed", DURATION, spool.keep_failed_us, Q("14d"),
	    "how long dead letters are kept", RANGE(MS, 3650 * DAY),
	    FLAGS(R)),

	KEY("rewrite.default_domain", STRING, rewrite.default_domain, NULL,
	    "completes addresses without a domain",
	    CHECK(hostname), FLAGS(R)),
	KEY("rewrite.senders", RULES, rewrite.senders, "( )",
	    "rewrites senders", CHECK(mailbox), FLAGS(R)),
	KEY("rewrite.aliases_file", STRING, rewrite.aliases_file, NULL,
	    "aliases(5): local recipients to addresses",
	    CHECK(path), FLAGS(R)),
	KEY("rewrite.recipients", RULES, rewrite.recipients, "( )",
	    "rewrites recipients", CHECK(mailbox), FLAGS(R)),
	KEY("rewrite.add_headers", BOOL, rewrite.add_headers, "true",
	    "adds missing Date, Message-ID and From", FLAGS(R)),
	KEY("rewrite.duplicate_headers", ENUM, rewrite.duplicate_headers,
	    Q("first"), "header lines that SES refuses in double",
	    .choices = duplicate_choices, FLAGS(R)),

	KEY("bounce.from", STRING, bounce.from, NULL,
	    "verified sender of failure notices",
	    CHECK(mailbox), FLAGS(R)),
	KEY("bounce.to", STRING, bounce.to, Q("sender"),
	    "who gets failure notices", CHECK(bounce_to), FLAGS(R)),

	KEY("log.target", ENUM, log.target, Q("auto"),
	    "where log lines go", .choices = target_choices, FLAGS(R)),
	KEY("log.format", ENUM, log.format, Q("text"),
	    "how log lines look", .choices = format_choices, FLAGS(R)),
	KEY("log.level", ENUM, log.level, Q("info"),
	    "how much is logged", .choices = level_choices, FLAGS(R)),
	KEY("log.name", STRING, log.name, Q("sesrelayd"),
	    "the ident before the slash", CHECK(ident), FLAGS(R)),

	KEY("http.listen", STRINGS, http.listen, NULL,
	    "address for metrics and health", CHECK(address)),
	KEY("http.allow", STRINGS, http.allow,
	    "[ " Q("127.0.0.0/8") ", " Q("::1/128") " ]",
	    "networks that may ask", CHECK(network), FLAGS(R)),

	KEY("control.socket", STRING, control.socket,
	    Q("/run/sesrelayd/control"), "where sesrelayctl(8) connects to",
	    CHECK(socket)),
	KEY("control.group", STRING, control.group, Q("sesrelay"),
	    "whose members may use it, beside root", CHECK(ident)),
};
/* clang-format on */

const size_t config_n_keys = ARRAY_LEN(config_keys);
