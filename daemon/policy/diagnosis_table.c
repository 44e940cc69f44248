/*
 * The table of meanings and remedies.  {words} in braces are facts, see
 * fill() in diagnosis.c.  The first row that fits decides; every step has a
 * last row for failures that are not foreseen.
 */
#include "policy/diagnosis.h"

#define RESOLVE DIAGNOSIS_RESOLVE
#define CONNECT DIAGNOSIS_CONNECT
#define GREETING DIAGNOSIS_GREETING
#define STARTTLS DIAGNOSIS_STARTTLS
#define TLS DIAGNOSIS_TLS
#define CERTIFICATE DIAGNOSIS_CERTIFICATE
#define EHLO DIAGNOSIS_EHLO
#define AUTH DIAGNOSIS_AUTH
#define LARGE DIAGNOSIS_LARGE

#define BETWEEN                                                                \
	"a firewall, proxy or load balancer between this host and SES may do " \
	"that"
#define LEADS_TO_SES                                                           \
	"check that ses.endpoint (if set), /etc/hosts and DNS lead to SES"
#define MTU_REMEDY                                                             \
	"set the MTU of this host's interface to 1500 (\"ip link set dev "     \
	"eth0 mtu 1500\"), and \"sysctl -w net.ipv4.tcp_mtu_probing=1\"; let " \
	"firewalls pass ICMP \"fragmentation needed\"; until then, ses.mss = " \
	"{mss} gets mail through"

/* clang-format off */
static const struct diagnosis_row rows[] = {
	{ RESOLVE, OUTCOME_NO_NAME, 0, false, "no such name",
	  "DNS says that {host} does not exist",
	  "check the spelling of ses.region{region-hint}, or of ses.endpoint; "
	  "a name of a VPC endpoint exists only while that endpoint does" },
	{ RESOLVE, OUTCOME_NO_ADDRESS, 0, false, "no address",
	  "the name {host} exists but has no address",
	  "check the spelling of ses.region{region-hint}, or of ses.endpoint: "
	  "SES's names are email-smtp.REGION.amazonaws.com" },
	{ RESOLVE, OUTCOME_TIMEOUT, 0, false, "no DNS",
	  "the DNS servers of this host do not answer ({detail})",
	  "look at /etc/resolv.conf, and try \"getent ahosts {host}\"; port 53 "
	  "(UDP and TCP) to these servers must be open in firewalls, security "
	  "groups and network ACLs; a VPC needs enableDnsSupport" },
	{ RESOLVE, OUTCOME_SLOW, 0, true, "slow DNS",
	  "looking up {host} took {detail}",
	  "most likely the first \"nameserver\" of /etc/resolv.conf does not "
	  "answer: remove or mend it" },
	{ RESOLVE, OUTCOME_FAILED, 0, false, "DNS failed",
	  "{host} cannot be looked up: {detail}",
	  "look at /etc/resolv.conf and /etc/nsswitch.conf, and try \"getent "
	  "ahosts {host}\"" },

	{ CONNECT, OUTCOME_TIMEOUT, 25, false, "blocked",
	  "nothing comes back from port 25: EC2, Lambda and most other networks "
	  "block or throttle it by default",
	  "use 587, 465, 2587 or 2465 in ses.ports, which EC2 does not "
	  "throttle; only if it must be 25, ask AWS to lift it by the form "
	  "\"Request to remove email sending limitations\"" },
	{ CONNECT, OUTCOME_TIMEOUT, 0, false, "blocked",
	  "nothing comes back: a firewall drops the packets, or there is no way "
	  "to the Internet",
	  "let outgoing TCP to this port pass in the host's firewall, in the "
	  "security group and in the network ACL (there the answers, too); a "
	  "private subnet needs a NAT gateway or a VPC endpoint for "
	  "email-smtp, whose security group must let this host in; or use a "
	  "port that works" },
	{ CONNECT, OUTCOME_REFUSED, 0, false, "refused",
	  "it is refused: by a firewall that rejects, or because nobody listens "
	  "there",
	  LEADS_TO_SES ", which listens on 25, 465, 587, 2465 and 2587; let "
	  "outgoing TCP to this port pass in firewalls; or use a port that "
	  "works" },
	{ CONNECT, OUTCOME_RESET, 0, false, "reset",
	  "the connection is accepted and cut off at once",
	  BETWEEN "; " LEADS_TO_SES },
	{ CONNECT, OUTCOME_UNREACHABLE, 0, false, "unreachable",
	  "there is no route to it: {detail}",
	  "look at \"ip route\" and at the interface: the subnet needs an "
	  "Internet gateway and a public address, a NAT gateway, or a VPC "
	  "endpoint for email-smtp" },
	{ CONNECT, OUTCOME_NO_SOURCE, 0, false, "no source address",
	  "cannot connect from {address}, the ses.source_address: it is no "
	  "address of this host",
	  "set ses.source_address to one of \"ip addr\", or remove it" },
	{ CONNECT, OUTCOME_FAILED, 0, false, "cannot connect",
	  "connecting fails: {detail}",
	  "look at \"ip route\", and at the host's own firewall" },

	{ GREETING, OUTCOME_OTHER_MODE, 0, false, "is a wrapper",
	  "this port begins with TLS: it is a TLS wrapper, and ses.ports says "
	  "that it speaks STARTTLS",
	  "write \"{port}:wrapper\" in ses.ports" },
	{ GREETING, OUTCOME_TIMEOUT, 0, false, "silent",
	  "connected, but there is no greeting; SES greets at once, so whoever "
	  "took the connection does not pass it on",
	  BETWEEN ": have it pass this port to SES; in a VPC, look at the "
	  "endpoint's security group and at its subnets" },
	{ GREETING, OUTCOME_CLOSED, 0, false, "closed",
	  "the connection is closed without a greeting",
	  BETWEEN ", or a service that was just restarted: try again; "
	  LEADS_TO_SES },
	{ GREETING, OUTCOME_RESET, 0, false, "reset",
	  "the connection is cut off before a greeting ({detail})",
	  BETWEEN "; " LEADS_TO_SES },
	{ GREETING, OUTCOME_BUSY, 0, false, "busy",
	  "it takes no session now: {detail}",
	  "if it says that there are too many connections: lower "
	  "delivery.connections, and think of other programs that use the same "
	  "SES account; else try again in a minute" },
	{ GREETING, OUTCOME_REFUSED, 0, false, "turned away",
	  "it does not want to talk to this host: {detail}",
	  LEADS_TO_SES "; this is no greeting of SES" },
	{ GREETING, OUTCOME_NOT_SMTP, 0, false, "no SMTP",
	  "what answers there is no SMTP server; it says: {detail}",
	  LEADS_TO_SES " (SMTP is at email-smtp.REGION.amazonaws.com, not at "
	  "email.REGION...), and that no proxy or captive portal answers in "
	  "its place" },

	{ STARTTLS, OUTCOME_NOT_OFFERED, 0, false, "no STARTTLS",
	  "TLS is not offered; SES always offers it, so something on the way "
	  "takes it out, or this is not SES",
	  "turn off SMTP inspection (\"fixup\", \"ESMTP inspection\") in the "
	  "firewall, or use a wrapper port (465, 2465); mail and password are "
	  "never sent without TLS" },
	{ STARTTLS, OUTCOME_INJECTED, 0, false, "tampered with",
	  "bytes in clear follow the reply to STARTTLS: somebody tampers with "
	  "the connection",
	  "use a wrapper port (465, 2465), and find out who stands between "
	  "this host and SES" },
	{ STARTTLS, OUTCOME_BUSY, 0, false, "no STARTTLS",
	  "TLS is offered, but not to be had now: {detail}",
	  "try again, or use a wrapper port (465, 2465)" },

	{ TLS, OUTCOME_OTHER_MODE, 0, false, "is STARTTLS",
	  "this port begins in clear: it speaks STARTTLS, and ses.ports says "
	  "that it is a TLS wrapper",
	  "write \"{port}:starttls\" in ses.ports" },
	{ TLS, OUTCOME_MTU, 0, false, "MTU",
	  "large packets from SES or to it vanish: the TLS handshake stalls, "
	  "and passes with segments of {mss} bytes (an MTU black hole)",
	  MTU_REMEDY },
	{ TLS, OUTCOME_UNACKED, 0, false, "stalls",
	  "the TLS handshake stalls ({detail}), with small segments as well",
	  BETWEEN ", most likely one that inspects TLS: have it pass this port "
	  "to SES" },
	{ TLS, OUTCOME_TIMEOUT, 0, false, "stalls",
	  "the TLS handshake is not answered, with small segments as well",
	  BETWEEN ", most likely one that inspects TLS: have it pass this port "
	  "to SES" },
	{ TLS, OUTCOME_CLOSED, 0, false, "TLS cut off",
	  "the connection is closed in the TLS handshake",
	  BETWEEN ", most likely one that inspects TLS or server names: have "
	  "it pass {host}" },
	{ TLS, OUTCOME_RESET, 0, false, "TLS cut off",
	  "the connection is cut off in the TLS handshake ({detail})",
	  BETWEEN ", most likely one that inspects TLS or server names: have "
	  "it pass {host}" },
	{ TLS, OUTCOME_FAILED, 0, false, "TLS failed",
	  "the TLS handshake fails: {detail}",
	  "SES speaks TLS 1.2 and 1.3: a proxy in between may not, or the "
	  "system's policy (/etc/ssl/openssl.cnf) may be too narrow; "
	  LEADS_TO_SES },

	{ CERTIFICATE, OUTCOME_NOT_YET, 0, false, "clock?",
	  "{which} certificate is valid from {before}, and this host's clock "
	  "says {now}: the clock is most likely slow",
	  "set the clock and keep it right (\"timedatectl set-ntp true\", "
	  "chrony); if it is right, somebody else than SES answers: the "
	  "certificate was issued by {issuer}" },
	{ CERTIFICATE, OUTCOME_EXPIRED, 0, false, "expired",
	  "{which} certificate ran out on {after}, and this host's clock says "
	  "{now}",
	  "if the clock is wrong, set it (\"timedatectl\"); if it is right, "
	  "somebody else than SES answers (issued by {issuer}), or the trust "
	  "anchors are old: update ca-certificates" },
	{ CERTIFICATE, OUTCOME_NAME, 0, false, "other name",
	  "the certificate is for {names}, not for {host}; it was issued by "
	  "{issuer}",
	  "if these are names of SES, set ses.endpoint to the one that is "
	  "meant; if not, something else answers: a proxy that intercepts TLS, "
	  "or a wrong address in DNS or /etc/hosts" },
	{ CERTIFICATE, OUTCOME_SELF_SIGNED, 0, false, "intercepted?",
	  "the certificate is signed by itself ({issuer}), SES's by Amazon: "
	  "TLS is intercepted, or this is not SES",
	  "have {host} excepted from TLS inspection; only if you trust who "
	  "stands there, name its certificate in ses.ca_file" },
	{ CERTIFICATE, OUTCOME_UNKNOWN_CA, 0, false, "unknown CA",
	  "the certificate was issued by {issuer}, which is not trusted here: "
	  "TLS is intercepted, this is not SES, or trust anchors are missing",
	  "if the issuer is Amazon, install ca-certificates (or mend "
	  "ses.ca_file); if it is your company's or a firewall's, have {host} "
	  "excepted from TLS inspection, or name that CA in ses.ca_file" },
	{ CERTIFICATE, OUTCOME_FAILED, 0, false, "certificate",
	  "the certificate is refused: {detail}; it was issued by {issuer}",
	  "somebody else than SES may answer; update ca-certificates, and "
	  LEADS_TO_SES },

	{ EHLO, OUTCOME_BUSY, 0, false, "busy",
	  "it takes no session now: {detail}", "try again in a minute" },
	{ EHLO, OUTCOME_REFUSED, 0, false, "EHLO failed",
	  "inside TLS, EHLO fails: {detail}",
	  "look at smtp.hostname, which EHLO names; " LEADS_TO_SES },

	{ AUTH, OUTCOME_CREDENTIALS, 0, false, "credentials",
	  "user name and password are refused: {detail}",
	  "{password-hint}SMTP credentials are not AWS access keys: make them "
	  "in the SES console (\"Create SMTP credentials\") of {this-region}, "
	  "as they are good for one region only; new ones take a minute or two "
	  "to work; the user is {username}, the password came from {source}" },
	{ AUTH, OUTCOME_SUBSCRIPTION, 0, false, "no SES",
	  "the AWS account does not use SES in {this-region}: {detail}",
	  "sign up for SES in this account and region, or use credentials of "
	  "the account that has" },
	{ AUTH, OUTCOME_BUSY, 0, false, "AUTH busy",
	  "the login fails for now: {detail}",
	  "try again in some minutes; if it stays, check the credentials as "
	  "well: {password-hint}they are good for one region only ({region})" },
	{ AUTH, OUTCOME_NOT_OFFERED, 0, false, "no AUTH",
	  "neither AUTH PLAIN nor AUTH LOGIN is offered, which SES does",
	  LEADS_TO_SES },
	{ AUTH, OUTCOME_REFUSED, 0, false, "AUTH failed",
	  "the login fails: {detail}",
	  "{password-hint}check ses.username and the password, which came from "
	  "{source}; " LEADS_TO_SES },

	{ LARGE, OUTCOME_MTU, 0, false, "MTU",
	  "large packets to SES vanish: {detail}; with segments of {mss} bytes "
	  "they pass (an MTU black hole). Small mail may go, larger mail hangs",
	  MTU_REMEDY },
	{ LARGE, OUTCOME_UNACKED, 0, false, "stalls",
	  "larger amounts of data do not get through: {detail}, with small "
	  "segments as well",
	  "the way is broken or lossy; " BETWEEN ": a limit of bytes or of "
	  "rate, a connection table that forgets" },
	{ LARGE, OUTCOME_CLOSED, 0, false, "cut off",
	  "the session ends when more data is sent: {detail}",
	  BETWEEN ": one that inspects what passes, or limits it" },
	{ LARGE, OUTCOME_RESET, 0, false, "cut off",
	  "the session ends when more data is sent: {detail}",
	  BETWEEN ": one that inspects what passes, or limits it" },

	/* What is not foreseen above. */
	{ RESOLVE, OUTCOME_N, 0, false, "DNS failed",
	  "{host} cannot be looked up: {detail}",
	  "look at /etc/resolv.conf and /etc/nsswitch.conf" },
	{ CONNECT, OUTCOME_N, 0, false, "cannot connect",
	  "connecting fails: {detail}", "look at \"ip route\"" },
	{ GREETING, OUTCOME_N, 0, false, "no greeting",
	  "there is no good greeting: {detail}", LEADS_TO_SES },
	{ STARTTLS, OUTCOME_N, 0, false, "no STARTTLS",
	  "the session ends before TLS: {detail}",
	  BETWEEN "; try a wrapper port (465, 2465)" },
	{ TLS, OUTCOME_N, 0, false, "TLS failed",
	  "the TLS handshake fails: {detail}", LEADS_TO_SES },
	{ CERTIFICATE, OUTCOME_N, 0, false, "certificate",
	  "the certificate is refused: {detail}", LEADS_TO_SES },
	{ EHLO, OUTCOME_N, 0, false, "EHLO failed",
	  "inside TLS, EHLO fails: {detail}", BETWEEN "; " LEADS_TO_SES },
	{ AUTH, OUTCOME_N, 0, false, "AUTH failed",
	  "the login fails: {detail}",
	  "check ses.username and the password, which came from {source}; "
	  LEADS_TO_SES },
	{ LARGE, OUTCOME_N, 0, false, "stalls",
	  "the session stalls or ends when more data is sent: {detail}",
	  BETWEEN },
	{ DIAGNOSIS_QUIT, OUTCOME_N, 0, true, "no goodbye",
	  "QUIT was not answered: {detail}", "nothing; mail is not touched" },
};
/* clang-format on */

const struct diagnosis_row *diagnosis_table(size_t *n)
{
	*n = ARRAY_LEN(rows);
	return rows;
}
