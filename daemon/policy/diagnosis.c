/*
 * Finds the row of the table, fills its facts in, adds hints.
 *
 * Pure; owns nothing but constant tables.  A fact that is not known leaves no
 * hole: each has words that stand for it.
 */
#include "policy/diagnosis.h"

#include "base/slice.h"

#include <stdio.h>
#include <string.h>

#define REGION_MAX 32 /* longer ones are near to none */

/* Names of steps and outcomes are read by programs: none changes. */
static const char *const step_names[] = {
	[DIAGNOSIS_RESOLVE] = "resolve",
	[DIAGNOSIS_CONNECT] = "connect",
	[DIAGNOSIS_GREETING] = "greeting",
	[DIAGNOSIS_STARTTLS] = "starttls",
	[DIAGNOSIS_TLS] = "tls",
	[DIAGNOSIS_CERTIFICATE] = "certificate",
	[DIAGNOSIS_EHLO] = "ehlo",
	[DIAGNOSIS_AUTH] = "auth",
	[DIAGNOSIS_LARGE] = "large",
	[DIAGNOSIS_QUIT] = "quit",
};
static const char *const outcome_names[] = {
	[OUTCOME_UNTESTED] = "untested",
	[OUTCOME_OK] = "ok",
	[OUTCOME_SLOW] = "slow",
	[OUTCOME_NO_NAME] = "no-name",
	[OUTCOME_NO_ADDRESS] = "no-address",
	[OUTCOME_TIMEOUT] = "timeout",
	[OUTCOME_REFUSED] = "refused",
	[OUTCOME_UNREACHABLE] = "unreachable",
	[OUTCOME_NO_SOURCE] = "no-source",
	[OUTCOME_FAILED] = "failed",
	[OUTCOME_CLOSED] = "closed",
	[OUTCOME_RESET] = "reset",
	[OUTCOME_NOT_SMTP] = "not-smtp",
	[OUTCOME_BUSY] = "busy",
	[OUTCOME_OUT_OF_STEP] = "out-of-step",
	[OUTCOME_OTHER_MODE] = "other-mode",
	[OUTCOME_NOT_OFFERED] = "not-offered",
	[OUTCOME_INJECTED] = "injected",
	[OUTCOME_EXPIRED] = "expired",
	[OUTCOME_NOT_YET] = "not-yet-valid",
	[OUTCOME_NAME] = "other-name",
	[OUTCOME_SELF_SIGNED] = "self-signed",
	[OUTCOME_UNKNOWN_CA] = "unknown-ca",
	[OUTCOME_CREDENTIALS] = "credentials",
	[OUTCOME_SUBSCRIPTION] = "subscription",
	[OUTCOME_MTU] = "mtu",
	[OUTCOME_UNACKED] = "unacked",
};
_Static_assert(ARRAY_LEN(step_names) == DIAGNOSIS_N_STEPS, "a name each");
_Static_assert(ARRAY_LEN(outcome_names) == OUTCOME_N, "a name each");

const char *diagnosis_step_name(enum diagnosis_step step)
{
	ASSERT((unsigned)step < DIAGNOSIS_N_STEPS);
	return step_names[step];
}

const char *diagnosis_outcome_name(enum diagnosis_outcome outcome)
{
	ASSERT((unsigned)outcome < OUTCOME_N);
	return outcome_names[outcome];
}

/* --- regions --- */

/* Where SES was seen to have SMTP; not complete, and never will be. */
static const char *const regions[] = { "us-east-1", "us-east-2", "us-west-1",
	"us-west-2", "af-south-1", "ap-south-1", "ap-south-2", "ap-northeast-1",
	"ap-northeast-2", "ap-northeast-3", "ap-southeast-1", "ap-southeast-2",
	"ap-southeast-3", "ca-central-1", "ca-west-1", "eu-central-1",
	"eu-central-2", "eu-west-1", "eu-west-2", "eu-west-3", "eu-north-1",
	"eu-south-1", "il-central-1", "me-central-1", "me-south-1", "sa-east-1",
	"us-gov-east-1", "us-gov-west-1" };

bool diagnosis_region_known(const char *region)
{
	for (size_t i = 0; i < ARRAY_LEN(regions); i++)
		if (strcmp(regions[i], region) == 0)
			return true;
	return false;
}

static unsigned least(unsigned a, unsigned b)
{
	return a < b ? a : b;
}

/* Insertions, deletions, changes and swaps of neighbours from a to b. */
static unsigned distance(const char *a, const char *b)
{
	unsigned d[REGION_MAX + 1][REGION_MAX + 1];
	size_t n = strlen(a), m = strlen(b);

	if (n > REGION_MAX || m > REGION_MAX)
		return REGION_MAX;
	for (size_t i = 0; i <= n; i++)
		d[i][0] = (unsigned)i;
	for (size_t j = 0; j <= m; j++)
		d[0][j] = (unsigned)j;
	for (size_t i = 1; i <= n; i++)
		for (size_t j = 1; j <= m; j++) {
			bool same = a[i - 1] == b[j - 1];

			d[i][j] = least(d[i - 1][j], d[i][j - 1]) + 1;
			d[i][j] = least(d[i][j], d[i - 1][j - 1] + !same);
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] &&
			    a[i - 2] == b[j - 1])
				d[i][j] = least(d[i][j], d[i - 2][j - 2] + 1);
		}
	return d[n][m];
}

const char *diagnosis_region_near(const char *region)
{
	const char *near = NULL;
	unsigned best = 3; /* a slip of the pen is less */

	for (size_t i = 0; i < ARRAY_LEN(regions); i++) {
		unsigned d = distance(region, regions[i]);

		if (d < best) {
			best = d;
			near = regions[i];
		}
	}
	return near;
}

static void region_hint(const struct diagnosis_facts *f, char *buf, size_t size)
{
	const char *near;

	if (!f->region || !*f->region || diagnosis_region_known(f->region))
		return;
	near = diagnosis_region_near(f->region);
	if (near)
		snprintf(buf, size, " (\"%.60s\"; did you mean \"%s\"?)",
		    f->region, near);
	else
		snprintf(buf, size,
		    " (\"%.60s\" is none that this program has heard of)",
		    f->region);
}

/* --- credentials --- */

/* "eu-west-1" of "email-smtp.eu-west-1.amazonaws.com"; false: not told. */
static bool region_of_host(const char *host, char *buf, size_t size)
{
	static const char *const heads[] = { "email-smtp.",
		"email-smtp-fips." };
	const char *at = host ? strstr(host, "email-smtp") : NULL;

	for (size_t i = 0; at && i < ARRAY_LEN(heads); i++) {
		size_t n = strlen(heads[i]);
		size_t len;

		if (strncmp(at, heads[i], n) != 0)
			continue;
		len = strcspn(at + n, ".");
		snprintf(buf, size, "%.*s", (int)(len < 60 ? len : 60), at + n);
		return len > 0;
	}
	return false;
}

/* What is odd about user name and password, as sentences that end in "; ". */
static void password_hint(
    const struct diagnosis_facts *f, char *buf, size_t size)
{
	const char *user = f->username ? f->username : "";
	const char *text = "";
	char host_region[64];

	if (strncmp(user, "inp-", 4) == 0)
		text = "the user name is that of a Mail Manager ingress "
		       "endpoint (inp-...), which is for mail that comes in; ";
	else if (strncmp(user, "ASIA", 4) == 0)
		text = "the user name is that of temporary credentials "
		       "(ASIA...), which SES's SMTP does not take; ";
	else if (strchr(user, '@'))
		text = "the user name is an e-mail address, and has to be an "
		       "access key id (AKIA...); ";
	else if (f->password == PASSWORD_SECRET_KEY)
		text = "the password has 40 characters, so it is most likely "
		       "a secret access key: name its file in "
		       "ses.secret_key_file, and the SMTP password is derived "
		       "from it; ";
	else if (f->password == PASSWORD_LEGACY)
		text = "the password is of the kind from before 2019, which "
		       "SES throttles: make new SMTP credentials; ";
	else if (f->password == PASSWORD_STRANGE)
		text = "the password does not look like one of SES's, which "
		       "have 44 characters and begin with B: was it copied "
		       "whole?; ";
	else if (strncmp(user, "AKIA", 4) != 0)
		text = "the user name does not look like an access key id "
		       "(AKIA... of 20 characters); ";
	snprintf(buf, size, "%s", text);
	if (f->password == PASSWORD_DERIVED && f->region &&
	    region_of_host(f->host, host_region, sizeof(host_region)) &&
	    strcmp(host_region, f->region) != 0)
		snprintf(buf, size,
		    "the password was derived for the region %.60s "
		    "(ses.region), and the endpoint is in %s; ",
		    f->region, host_region);
}

/* --- texts --- */

static const char *text_or(const char *text, const char *otherwise)
{
	return text && *text ? text : otherwise;
}

/* What stands for {name}; `buf` holds what has to be made. */
static const char *find_fact(
    const struct diagnosis_facts *f, struct slice name, char *buf, size_t size)
{
	const struct {
		const char *name, *text, *otherwise;
	} plain[] = {
		{ "host", f->host, "the endpoint" },
		{ "region", f->region, "ses.region is not set" },
		{ "this-region", f->region, "the endpoint's region" },
		{ "detail", f->detail, "no reason given" },
		{ "address", f->address, "it" },
		{ "names", f->names, "no host name at all" },
		{ "issuer", f->issuer, "somebody unknown" },
		{ "before", f->before, "later" },
		{ "after", f->after, "earlier" },
		{ "now", f->now, "another time" },
		{ "username", f->username, "not set" },
		{ "source", f->password_source, "the configuration" },
		{ "which", f->ca_expired ? "a CA's" : "the", "the" },
	};

	for (size_t i = 0; i < ARRAY_LEN(plain); i++)
		if (slice_eq_str(name, plain[i].name))
			return text_or(plain[i].text, plain[i].otherwise);
	buf[0] = '\0';
	if (slice_eq_str(name, "port"))
		snprintf(buf, size, "%u", f->port);
	else if (slice_eq_str(name, "mss"))
		snprintf(buf, size, "%u", f->mss);
	else if (slice_eq_str(name, "region-hint"))
		region_hint(f, buf, size);
	else if (slice_eq_str(name, "password-hint"))
		password_hint(f, buf, size);
	else
		fatal("diagnosis: no fact {%.*s}", (int)name.len, name.ptr);
	return buf;
}

static void fill(const char *template, const struct diagnosis_facts *f,
    char *out, size_t size)
{
	struct slice rest = slice_str(template);
	char made[400];
	size_t used = 0;

	out[0] = '\0';
	while (rest.len > 0 && used < size - 1) {
		struct slice text = slice_split(&rest, '{'), name;

		used += slice_copy(text, out + used, size - used);
		if (rest.len == 0)
			break;
		name = slice_split(&rest, '}');
		used += slice_copy(
		    slice_str(find_fact(f, name, made, sizeof(made))),
		    out + used, size - used);
	}
}

static const struct diagnosis_row *find_row(
    enum diagnosis_step step, enum diagnosis_outcome outcome, unsigned port)
{
	size_t n;
	const struct diagnosis_row *rows = diagnosis_table(&n);

	for (size_t i = 0; i < n; i++)
		if (rows[i].step == step &&
		    (rows[i].outcome == outcome ||
			rows[i].outcome == OUTCOME_N) &&
		    (rows[i].port == 0 || rows[i].port == port))
			return &rows[i];
	fatal("diagnosis: no row for %s", diagnosis_step_name(step));
}

void diagnosis_explain(enum diagnosis_step step, enum diagnosis_outcome outcome,
    const struct diagnosis_facts *facts, struct diagnosis *out)
{
	const struct diagnosis_row *row;

	*out = (struct diagnosis){ .word = "-" };
	if (outcome == OUTCOME_OK)
		out->word = "ok";
	if (outcome == OUTCOME_OK || outcome == OUTCOME_UNTESTED)
		return;
	row = find_row(step, outcome, facts->port);
	out->word = row->word;
	out->fatal = !row->harmless;
	fill(row->meaning, facts, out->meaning, sizeof(out->meaning));
	fill(row->remedy, facts, out->remedy, sizeof(out->remedy));
}

/* --- the last line --- */

/* "587, 2587 and 25" of those that work; returns how many. */
static unsigned list_ports(const struct diagnosis_port *ports, size_t n,
    bool configured, char *buf, size_t size)
{
	unsigned total = 0, told = 0;
	size_t used = 0;

	buf[0] = '\0';
	for (size_t i = 0; i < n; i++)
		total += ports[i].works && ports[i].configured == configured;
	for (size_t i = 0; i < n && used < size; i++) {
		if (!ports[i].works || ports[i].configured != configured)
			continue;
		told++;
		used += (size_t)snprintf(buf + used, size - used, "%s%u",
		    told == 1           ? ""
			: told == total ? " and "
					: ", ",
		    ports[i].port);
	}
	return total;
}

bool diagnosis_summarize(
    const struct diagnosis_port *ports, size_t n, char *buf, size_t size)
{
	const struct diagnosis_port *first = NULL, *used = NULL;
	char list[200];

	for (size_t i = 0; i < n; i++) {
		if (!ports[i].configured)
			continue;
		if (!first)
			first = &ports[i];
		if (!used && ports[i].works)
			used = &ports[i];
	}
	if (used && used == first)
		snprintf(buf, size,
		    "Mail can go: by port %u, the first of "
		    "ses.ports.",
		    used->port);
	else if (used)
		snprintf(buf, size,
		    "Mail can go: by port %u; those before it in ses.ports "
		    "do not work.",
		    used->port);
	else if (list_ports(ports, n, false, list, sizeof(list)) > 0)
		snprintf(buf, size,
		    "Mail cannot go: no port of ses.ports works; %s would: "
		    "put it into ses.ports.",
		    list);
	else
		snprintf(buf, size, "Mail cannot go: no port works.");
	return used != NULL;
}
