/*
 * The doctor: tries every port of SES the way the daemon would use it, without
 * sending mail, and says what is wrong.  Needs no daemon and no spool.
 *
 * Runs a loop of its own to the end, in less than 20 s whatever the network
 * does.  What peers said stands in the report with every byte that is not
 * visible ASCII as \xNN.
 */
#ifndef CHECK_H
#define CHECK_H

#include "net/certificate.h"
#include "policy/diagnosis.h"

#define CHECK_MAX_PORTS 24 /* POOL_MAX_PORTS and the five of SES */
#define CHECK_MAX_ADDRESSES 8

struct check_step {
	enum diagnosis_outcome outcome;
	int64_t us; /* it took that long */
	char detail[300];
};

struct check_address {
	char ip[46];
	enum diagnosis_outcome outcome; /* of connecting */
};

struct check_port {
	uint16_t port;
	bool wrapper;
	bool configured; /* it stands in ses.ports */
	struct check_step steps[DIAGNOSIS_N_STEPS];
	struct check_address addresses[CHECK_MAX_ADDRESSES];
	unsigned n_addresses;
	const char *ip; /* the one of the session; NULL: none connected */
	bool has_certificate;
	struct certificate certificate;
	/* The first step that keeps mail from going; N_STEPS: it works. */
	enum diagnosis_step failed;
	int64_t us; /* from the beginning to the end, look-up included */
	/* Of `failed`, and one more if two are independent (login and large
	 * segments); or of a step that is only worth a word. */
	struct diagnosis diagnoses[2];
	unsigned n_diagnoses;
};

struct check_report {
	char *host, *region; /* region: NULL if not set */
	char *warnings; /* of the configuration; "" */
	struct check_port ports[CHECK_MAX_PORTS]; /* configured ones first */
	unsigned n_ports;
	char summary[300];
	bool works; /* mail can go by a configured port */
};

/* NULL with what is wrong with the configuration in *message (free(3) it). */
MUST_CHECK struct check_report *check_run(const char *file, char **message);
void check_report_free(struct check_report *r); /* NULL is legal */

#endif
