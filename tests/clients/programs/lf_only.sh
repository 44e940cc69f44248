#!/bin/bash
# lf_only.sh HOW PORT DIRECTORY FROM TO...: DIRECTORY/message by a script that
# knows no CR.  HOW: "nc.openbsd" or "nc.traditional" with everything in one
# pipe and no answer read; "tcp" by bash itself, reading each reply.
set -eu
how=$1 port=$2 directory=$3 from=$4
shift 4

all() {
	printf 'HELO localhost\nMAIL FROM:<%s>\n' "$from"
	printf 'RCPT TO:<%s>\n' "$@"
	printf 'DATA\n'
	sed 's/^\./../' "$directory/message"
	printf '.\nQUIT\n'
}
say() { # COMMAND WANTED
	printf '%s\n' "$1" >&3
	read -r reply <&3
	case $reply in
	"$2"*) ;;
	*)
		echo "$1: $reply" >&2
		exit 1
		;;
	esac
}

case $how in
nc.openbsd)
	answers=$(all "$@" | nc.openbsd -q 10 127.0.0.1 "$port")
	;;
nc.traditional)
	answers=$(all "$@" | nc.traditional -q 10 127.0.0.1 "$port")
	;;
tcp) # and leaves without a QUIT
	exec 3<>"/dev/tcp/127.0.0.1/$port"
	read -r reply <&3
	say 'HELO localhost' 250
	say "MAIL FROM:<$from>" 250
	for to in "$@"; do
		say "RCPT TO:<$to>" 250
	done
	say DATA 354
	sed 's/^\./../' "$directory/message" >&3
	say . 250
	exit 0
	;;
esac
case $answers in
*'queued as'*) ;;
*)
	echo "$answers" >&2
	exit 1
	;;
esac
