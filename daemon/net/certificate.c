/*
 * Reads a certificate for people: names, issuer, dates, what is wrong with it.
 *
 * Owns nothing; called on the loop thread, from within a handshake, with the
 * finished check of a chain.  Every text is the server's: bytes that are not
 * visible ASCII come as \XX or \xXX from OpenSSL or as '?' from here, so none
 * can end a line or speak to a terminal.
 */
#include "net/certificate.h"

#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static enum certificate_fault fault_of(int code)
{
	switch (code) {
	case X509_V_OK:
		return CERTIFICATE_GOOD;
	case X509_V_ERR_CERT_HAS_EXPIRED:
		return CERTIFICATE_EXPIRED;
	case X509_V_ERR_CERT_NOT_YET_VALID:
		return CERTIFICATE_NOT_YET;
	case X509_V_ERR_HOSTNAME_MISMATCH:
	case X509_V_ERR_IP_ADDRESS_MISMATCH:
		return CERTIFICATE_NAME;
	case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
		return CERTIFICATE_SELF_SIGNED;
	case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
	case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
	case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
	case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
	case X509_V_ERR_CERT_UNTRUSTED:
		return CERTIFICATE_UNKNOWN_CA;
	default:
		return CERTIFICATE_OTHER;
	}
}

/* Adds ", text" as far as it fits. */
static void append(char *buf, size_t size, const char *text, size_t len)
{
	size_t used = strlen(buf);
	int n = snprintf(buf + used, size - used, "%s%.*s", used ? ", " : "",
	    (int)(len < size ? len : size), text);

	(void)n;
	for (char *p = buf + used; *p; p++)
		if (*p < ' ' || *p > '~')
			*p = '?';
}

static void append_entry(char *buf, size_t size, const X509_NAME *name, int nid)
{
	int at = X509_NAME_get_index_by_NID(name, nid, -1);
	const ASN1_STRING *text;

	if (at < 0)
		return;
	text = X509_NAME_ENTRY_get_data(X509_NAME_get_entry(name, at));
	append(buf, size, (const char *)ASN1_STRING_get0_data(text),
	    (size_t)ASN1_STRING_length(text));
}

/* "Organization, Common Name", which is what people know a CA by. */
static void read_name(const X509_NAME *name, char *buf, size_t size)
{
	buf[0] = '\0';
	append_entry(buf, size, name, NID_organizationName);
	append_entry(buf, size, name, NID_commonName);
	if (!buf[0])
		X509_NAME_oneline(name, buf, (int)size);
}

static void append_address(char *buf, size_t size, const ASN1_STRING *bytes)
{
	char text[INET6_ADDRSTRLEN];
	int len = ASN1_STRING_length(bytes);
	int family = len == 4 ? AF_INET : AF_INET6;

	if ((len == 4 || len == 16) &&
	    inet_ntop(family, ASN1_STRING_get0_data(bytes), text, sizeof(text)))
		append(buf, size, text, strlen(text));
}

static void read_names(const X509 *cert, char *buf, size_t size)
{
	GENERAL_NAMES *names =
	    X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);

	buf[0] = '\0';
	for (int i = 0; names && i < sk_GENERAL_NAME_num(names); i++) {
		const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);

		if (name->type == GEN_DNS)
			append(buf, size,
			    (const char *)ASN1_STRING_get0_data(
				name->d.dNSName),
			    (size_t)ASN1_STRING_length(name->d.dNSName));
		else if (name->type == GEN_IPADD)
			append_address(buf, size, name->d.iPAddress);
	}
	GENERAL_NAMES_free(names);
}

static int64_t unix_time(const ASN1_TIME *t)
{
	struct tm tm;

	return ASN1_TIME_to_tm(t, &tm) == 1 ? (int64_t)timegm(&tm) : 0;
}

void certificate_describe(X509_STORE_CTX *store, struct certificate *out)
{
	int code = X509_STORE_CTX_get_error(store);
	const X509 *own = X509_STORE_CTX_get0_cert(store);
	const X509 *bad = X509_STORE_CTX_get_current_cert(store);

	*out = (struct certificate){ .fault = fault_of(code) };
	snprintf(out->reason, sizeof(out->reason), "%s",
	    X509_verify_cert_error_string(code));
	if (!own)
		return;
	if (code == X509_V_OK || !bad)
		bad = own;
	else
		out->depth = (unsigned)X509_STORE_CTX_get_error_depth(store);
	read_names(own, out->names, sizeof(out->names));
	read_name(
	    X509_get_subject_name(own), out->subject, sizeof(out->subject));
	read_name(X509_get_issuer_name(own), out->issuer, sizeof(out->issuer));
	out->not_before_s = unix_time(X509_get0_notBefore(bad));
	out->not_after_s = unix_time(X509_get0_notAfter(bad));
	ERR_clear_error();
}
