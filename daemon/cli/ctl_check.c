/*
 * `check`: what the doctor found, as a table with its meaning below, or as
 * objects.
 *
 * Owns the report while it prints it.  Ports that have the same trouble are
 * told it once.
 */
#include "cli/ctl.h"

#include "base/mem.h"
#include "check.h"

#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

enum column {
	COLUMN_PORT,
	COLUMN_MODE,
	COLUMN_DNS,
	COLUMN_CONNECT,
	COLUMN_GREETING,
	COLUMN_TLS,
	COLUMN_CERTIFICATE,
	COLUMN_AUTH,
	COLUMN_LARGE,
	COLUMN_TIME,
	COLUMN_VERDICT,
	N_COLUMNS
};

static const char *const titles[N_COLUMNS] = { "PORT", "MODE", "DNS", "CONNECT",
	"GREETING", "TLS", "CERTIFICATE", "AUTH", "LARGE", "TIME", "VERDICT" };

typedef char row[N_COLUMNS][64];

static const char *mode_name(const struct check_port *p)
{
	return p->wrapper ? "wrapper" : "starttls";
}

static const char *word(const struct check_port *p, enum diagnosis_step step)
{
	enum diagnosis_outcome outcome = p->steps[step].outcome;

	return outcome == OUTCOME_UNTESTED ? "-"
	    : outcome == OUTCOME_OK        ? "ok"
					   : diagnosis_outcome_name(outcome);
}

/* Of two steps in one column: the first, unless it is fine or not taken. */
static const char *word_of_two(const struct check_port *p,
    enum diagnosis_step first, enum diagnosis_step second)
{
	enum diagnosis_outcome outcome = p->steps[first].outcome;

	return word(p,
	    outcome == OUTCOME_OK || outcome == OUTCOME_UNTESTED ? second
								 : first);
}

/* "ok", or "ok 2/3": so many addresses of the name can be connected to. */
static void format_connect(const struct check_port *p, char *buf, size_t size)
{
	unsigned good = 0;

	for (unsigned i = 0; i < p->n_addresses; i++)
		good += p->addresses[i].outcome == OUTCOME_OK;
	if (good > 0 && good < p->n_addresses)
		snprintf(buf, size, "ok %u/%u", good, p->n_addresses);
	else
		snprintf(buf, size, "%s", word(p, DIAGNOSIS_CONNECT));
}

static void fill_row(const struct check_port *p, row r)
{
	const size_t size = sizeof(r[0]);
	bool works = p->failed == DIAGNOSIS_N_STEPS;

	snprintf(r[COLUMN_PORT], size, "%u", p->port);
	snprintf(r[COLUMN_MODE], size, "%s", mode_name(p));
	snprintf(r[COLUMN_DNS], size, "%s", word(p, DIAGNOSIS_RESOLVE));
	format_connect(p, r[COLUMN_CONNECT], size);
	snprintf(r[COLUMN_GREETING], size, "%s", word(p, DIAGNOSIS_GREETING));
	snprintf(r[COLUMN_TLS], size, "%s",
	    word_of_two(p, DIAGNOSIS_STARTTLS, DIAGNOSIS_TLS));
	snprintf(
	    r[COLUMN_CERTIFICATE], size, "%s", word(p, DIAGNOSIS_CERTIFICATE));
	snprintf(r[COLUMN_AUTH], size, "%s",
	    word_of_two(p, DIAGNOSIS_EHLO, DIAGNOSIS_AUTH));
	snprintf(r[COLUMN_LARGE], size, "%s", word(p, DIAGNOSIS_LARGE));
	snprintf(r[COLUMN_TIME], size, "%.2f s", (double)p->us / 1e6);
	snprintf(r[COLUMN_VERDICT], size, "%s%s",
	    works ? "ok" : p->diagnoses[0].word,
	    p->configured ? "" : " (not in ses.ports)");
}

static void put_row(const char *cells[N_COLUMNS], const size_t *widths)
{
	for (unsigned i = 0; i + 1 < N_COLUMNS; i++) {
		ctl_put_padded(stdout, cells[i], widths[i]);
		fputs("  ", stdout);
	}
	ctl_put(stdout, cells[N_COLUMNS - 1]);
	putchar('\n');
}

static void put_table(const struct check_report *report)
{
	row rows[CHECK_MAX_PORTS];
	const char *cells[N_COLUMNS];
	size_t widths[N_COLUMNS];

	for (unsigned i = 0; i < report->n_ports; i++)
		fill_row(&report->ports[i], rows[i]);
	for (unsigned c = 0; c < N_COLUMNS; c++) {
		widths[c] = strlen(titles[c]);
		for (unsigned i = 0; i < report->n_ports; i++)
			if (strlen(rows[i][c]) > widths[c])
				widths[c] = strlen(rows[i][c]);
		cells[c] = titles[c];
	}
	put_row(cells, widths);
	for (unsigned i = 0; i < report->n_ports; i++) {
		for (unsigned c = 0; c < N_COLUMNS; c++)
			cells[c] = rows[i][c];
		put_row(cells, widths);
	}
}

static bool same(const struct diagnosis *a, const struct diagnosis *b)
{
	return strcmp(a->meaning, b->meaning) == 0 &&
	    strcmp(a->remedy, b->remedy) == 0;
}

/* Does a port before it have the same trouble? */
static bool told_before(
    const struct check_report *report, unsigned port, const struct diagnosis *d)
{
	for (unsigned i = 0; i < port; i++)
		for (unsigned k = 0; k < report->ports[i].n_diagnoses; k++)
			if (same(d, &report->ports[i].diagnoses[k]))
				return true;
	return false;
}

/* "Ports 587, 465" of those that have it, from the first one on. */
static char *list_ports(const struct check_report *report, unsigned first,
    const struct diagnosis *d)
{
	char *list = xasprintf("%u", report->ports[first].port);
	unsigned n = 1;

	for (unsigned i = first + 1; i < report->n_ports; i++)
		for (unsigned k = 0; k < report->ports[i].n_diagnoses; k++)
			if (same(d, &report->ports[i].diagnoses[k])) {
				char *longer = xasprintf(
				    "%s, %u", list, report->ports[i].port);

				free(list);
				list = longer;
				n++;
			}
	if (n == report->n_ports) {
		free(list);
		return xstrdup("All ports");
	}
	if (n > 1) {
		char *ports = xasprintf("Ports %s", list);

		free(list);
		return ports;
	}
	free(list);
	return xasprintf("Port %u", report->ports[first].port);
}

static void put_diagnoses(const struct check_report *report)
{
	for (unsigned i = 0; i < report->n_ports; i++) {
		const struct check_port *p = &report->ports[i];

		for (unsigned k = 0; k < p->n_diagnoses; k++) {
			const struct diagnosis *d = &p->diagnoses[k];
			char *ports;

			if (told_before(report, i, d))
				continue;
			ports = list_ports(report, i, d);
			printf("\n%s: %s\n", ports, d->word);
			ctl_put_labelled("  Meaning:", 12, d->meaning);
			ctl_put_labelled("  Remedy:", 12, d->remedy);
			free(ports);
		}
	}
}

/* "192.0.2.1 (timeout), ..." of those that cannot be connected to; free(3). */
static char *list_failed(const struct check_port *p)
{
	char *list = xstrdup("");

	for (unsigned i = 0; i < p->n_addresses; i++) {
		const struct check_address *a = &p->addresses[i];
		char *longer;

		if (a->outcome == OUTCOME_OK || a->outcome == OUTCOME_UNTESTED)
			continue;
		longer = xasprintf("%s%s%s (%s)", list, *list ? ", " : "",
		    a->ip, diagnosis_outcome_name(a->outcome));
		free(list);
		list = longer;
	}
	return list;
}

/* Which addresses do not answer; ports that have the same stand together. */
static void put_addresses(const struct check_report *report)
{
	bool told[CHECK_MAX_PORTS] = { false };

	for (unsigned i = 0; i < report->n_ports; i++) {
		char *failed = list_failed(&report->ports[i]);
		bool news = failed[0] != '\0' && !told[i];

		if (news)
			printf("\nNo connection to %s by port %u", failed,
			    report->ports[i].port);
		for (unsigned k = i + 1; news && k < report->n_ports; k++) {
			char *other = list_failed(&report->ports[k]);

			if (strcmp(failed, other) == 0) {
				printf(", %u", report->ports[k].port);
				told[k] = true;
			}
			free(other);
		}
		if (news)
			putchar('\n');
		free(failed);
	}
}

static void put_report(const struct check_report *report)
{
	printf("Endpoint: ");
	ctl_put(stdout, report->host);
	printf("\n\n");
	put_table(report);
	put_diagnoses(report);
	put_addresses(report);
	putchar('\n');
	ctl_put_labelled("Summary:", 9, report->summary);
}

/* --- objects --- */

static json_t *steps_json(const struct check_port *p)
{
	json_t *steps = json_object();

	for (unsigned i = 0; i < DIAGNOSIS_N_STEPS; i++) {
		const struct check_step *s = &p->steps[i];

		json_object_set_new(steps, diagnosis_step_name(i),
		    json_pack("{s:s, s:f, s:s}", "outcome",
			diagnosis_outcome_name(s->outcome), "seconds",
			(double)s->us / 1e6, "detail", s->detail));
	}
	return steps;
}

static json_t *addresses_json(const struct check_port *p)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < p->n_addresses; i++)
		json_array_append_new(list,
		    json_pack("{s:s, s:s}", "address", p->addresses[i].ip,
			"outcome",
			diagnosis_outcome_name(p->addresses[i].outcome)));
	return list;
}

static json_t *certificate_json(const struct check_port *p)
{
	const struct certificate *c = &p->certificate;

	if (!p->has_certificate)
		return json_null();
	return json_pack("{s:s, s:s, s:s, s:I, s:I, s:s}", "names", c->names,
	    "subject", c->subject, "issuer", c->issuer, "not_before",
	    (json_int_t)c->not_before_s, "not_after",
	    (json_int_t)c->not_after_s, "result", c->reason);
}

static json_t *port_json(const struct check_port *p)
{
	bool works = p->failed == DIAGNOSIS_N_STEPS;
	json_t *trouble = json_array();

	for (unsigned i = 0; i < p->n_diagnoses; i++)
		json_array_append_new(trouble,
		    json_pack("{s:s, s:s, s:s}", "verdict",
			p->diagnoses[i].word, "meaning",
			p->diagnoses[i].meaning, "remedy",
			p->diagnoses[i].remedy));
	return json_pack("{s:i, s:s, s:b, s:b, s:s?, s:s, s:f, s:o, s:o, s:o, "
			 "s:o}",
	    "port", p->port, "mode", mode_name(p), "configured", p->configured,
	    "works", works, "failed_step",
	    works ? NULL : diagnosis_step_name(p->failed), "verdict",
	    works ? "ok" : p->diagnoses[0].word, "seconds", (double)p->us / 1e6,
	    "addresses", addresses_json(p), "certificate", certificate_json(p),
	    "steps", steps_json(p), "trouble", trouble);
}

static void put_json(json_t *object)
{
	char *text = json_dumps(
	    object, JSON_COMPACT | JSON_ENSURE_ASCII | JSON_REAL_PRECISION(6));

	if (!text)
		fatal("cannot make JSON of a report");
	puts(text);
	free(text);
	json_decref(object);
}

static void put_objects(const struct check_report *report)
{
	for (unsigned i = 0; i < report->n_ports; i++)
		put_json(port_json(&report->ports[i]));
	put_json(json_pack("{s:s, s:s?, s:b, s:s}", "endpoint", report->host,
	    "region", report->region, "works", report->works, "summary",
	    report->summary));
}

int ctl_check(struct ctl_client *client, const struct ctl_options *options)
{
	char *message = NULL;
	struct check_report *report = check_run(options->file, &message);
	int rc;

	(void)client;
	if (!report) {
		ctl_error_lines(message);
		free(message);
		return EX_CONFIG;
	}
	if (report->warnings[0])
		ctl_error_lines(report->warnings);
	if (options->json)
		put_objects(report);
	else
		put_report(report);
	rc = report->works ? EX_OK : EXIT_FAILURE;
	check_report_free(report);
	return rc;
}
