/*
 * What a server's certificate says and what the check of it found, in words
 * for people.  For those who explain a failure; nothing is decided by it.
 */
#ifndef NET_CERTIFICATE_H
#define NET_CERTIFICATE_H

#include "base/base.h"

enum certificate_fault {
	CERTIFICATE_GOOD,
	CERTIFICATE_EXPIRED,
	CERTIFICATE_NOT_YET, /* it begins to be valid later */
	CERTIFICATE_NAME, /* it is for another host */
	CERTIFICATE_SELF_SIGNED,
	CERTIFICATE_UNKNOWN_CA, /* no trust anchor, or one is missing between */
	CERTIFICATE_OTHER,
};

struct certificate {
	enum certificate_fault fault;
	char reason[120]; /* the library's words */
	unsigned depth; /* the one at fault: 0 is the server's own, 1 its CA */
	/* Of the server's own.  What does not fit is cut. */
	char names[400]; /* alternative names: "a.test, b.test, 192.0.2.1" */
	char subject[200];
	char issuer[200]; /* who signed it: "Amazon, Amazon RSA 2048 M01" */
	/* Of the one at fault, else of the server's own: Unix time. */
	int64_t not_before_s, not_after_s;
};

struct x509_store_ctx_st;
/* After the check, whose result it leaves alone. */
void certificate_describe(
    struct x509_store_ctx_st *store, struct certificate *out);

#endif
