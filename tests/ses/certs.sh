#!/bin/bash
# Makes the certificates of the tests in a directory: a CA (ca.pem) and, as
# NAME.pem with NAME.key, leaves for the host names localhost and
# email-smtp.test and the addresses 127.0.0.1 and ::1:
#   good, expired, notyet, othername, selfsigned, unknownca (other-ca.pem),
#   cn-only (the name in the subject alone), wrongwild (*.email-smtp.test),
#   chain (by an intermediate, which is in the file), nochain (it is missing)
# Needs the openssl command and nothing else; EC keys, well under a second.
# With `rsa` behind the directory: RSA keys of 2048 bits, as SES has them.
set -euo pipefail
export LC_ALL=C

if [ $# -lt 1 ] || [ $# -gt 2 ]; then
	echo "usage: $0 DIR [rsa]" >&2
	exit 2
fi
keys=${2:-ec}
mkdir -p "$1"
cd "$1"

names="DNS:localhost,DNS:email-smtp.test,IP:127.0.0.1,IP:::1"

# `openssl ca` is the one command of OpenSSL 3.0 that takes a start date.
cat > openssl.cnf <<'END'
[ ca ]
default_ca = here
[ here ]
database = index.txt
new_certs_dir = .
rand_serial = yes
default_md = sha256
default_days = 3650
policy = any
unique_subject = no
copy_extensions = copy
[ any ]
commonName = supplied
[ req ]
distinguished_name = dn
prompt = no
[ dn ]
CN = unused
END
: > index.txt

# new_key FILE
new_key() {
	if [ "$keys" = rsa ]; then
		openssl genrsa -out "$1" 2048 2> openssl.log ||
			{ cat openssl.log >&2; exit 1; }
	else
		openssl ecparam -name prime256v1 -genkey -noout -out "$1"
	fi
}

# new_ca NAME SUBJECT
new_ca() {
	new_key "$1.key"
	openssl req -config openssl.cnf -x509 -new -key "$1.key" -sha256 \
		-days 3650 -subj "/CN=$2" -out "$1.pem" \
		-addext "basicConstraints=critical,CA:TRUE" \
		-addext "keyUsage=critical,keyCertSign,cRLSign"
}

# sign CA NAME SUBJECT EXTENSION [ca option...]
sign() {
	local ca=$1 name=$2 subject=$3 extension=$4
	shift 4
	new_key "$name.key"
	openssl req -config openssl.cnf -new -key "$name.key" \
		-subj "/CN=$subject" -addext "$extension" -out "$name.csr"
	openssl ca -config openssl.cnf -batch -notext -cert "$ca.pem" \
		-keyfile "$ca.key" -in "$name.csr" -out "$name.pem" "$@" \
		2> openssl.log || { cat openssl.log >&2; exit 1; }
	rm -f "$name.csr"
}

leaf() {
	sign ca "$1" email-smtp.test "subjectAltName=$2" "${@:3}"
}

new_ca ca "sesd test CA"
new_ca other-ca "sesd other CA"
leaf good "$names"
leaf expired "$names" -startdate 20200101000000Z -enddate 20210101000000Z
leaf notyet "$names" -startdate 20900101000000Z -enddate 20910101000000Z
leaf wrongwild "DNS:*.email-smtp.test"
sign ca othername other.test "subjectAltName=DNS:other.test"
sign ca cn-only localhost "keyUsage=digitalSignature"
sign other-ca unknownca email-smtp.test "subjectAltName=$names"
sign ca intermediate "sesd intermediate CA" \
	"basicConstraints=critical,CA:TRUE"
sign intermediate nochain email-smtp.test "subjectAltName=$names"
cat nochain.pem intermediate.pem > chain.pem
cp nochain.key chain.key
new_key selfsigned.key
openssl req -config openssl.cnf -x509 -new -key selfsigned.key -sha256 \
	-days 3650 -subj /CN=email-smtp.test -addext "subjectAltName=$names" \
	-addext "basicConstraints=critical,CA:FALSE" -out selfsigned.pem
rm -f index.txt* openssl.cnf openssl.log [0-9A-F]*[0-9A-F].pem
