#!/bin/sh
# What the code writes into the spool is in sesrelayd-spool(5): each key of a
# head and of what was learned, each event of an outcome and each header line
# of a dead letter as an item of its list, and the lengths and limits of records
# as numbers.
#
# usage: spool-documented.sh [MAN-PAGE]
set -eu

root=$(dirname "$0")/../..
page=${1:-$root/man/sesrelayd-spool.5}
queue=$root/daemon/queue
bad=0

# Words in the source: calls are joined to one line first.
words() {
	file=$1
	shift
	tr -s '\n\t ' ' ' <"$queue/$file" | grep -oE "$1" |
		sed -E 's/^[^"]*"([A-Za-z0-9-]+).*$/\1/' | sort -u
}

# usage: documented WHAT PREFIX WORD...: each is an item of the page.
documented() {
	what=$1
	prefix=$2
	shift 2
	if [ $# -eq 0 ]; then
		echo "spool-documented: found no $what in the source" >&2
		bad=1
	fi
	for word in $(printf '%s\n' "$@" | sort -u); do
		grep -qE "^\.It Cm $prefix$word( |\$)" "$page" && continue
		echo "spool-documented: $page does not describe the $what" \
			"'$prefix$word'" >&2
		bad=1
	done
}

# shellcheck disable=SC2046
documented "head key" "" rcpt $(
	words record.c 'append_value\( ?out, "[a-z0-9-]+"'
	words record.c 'append_str\( ?out, "[a-z0-9-]+\\n"'
	words record.c '"[a-z0-9-]+ %0'
	words record.c 'slice_eq_str\( ?key, "[a-z0-9-]+"'
)
# shellcheck disable=SC2046
documented event "" $(words record_outcome.c '\[RECORD_[A-Z]+\] = "[a-z-]+"')
# shellcheck disable=SC2046
documented "header line" X-Sesrelayd- $(
	words spool_failed.c 'add_header\( ?out, "[A-Za-z-]+"'
)

# shellcheck disable=SC2046
documented "line of learned" "" endpoint username $(
	words ../policy/learned.c 'slice_eq_str\( ?key, "[a-z-]+"'
)

# "(4u * 1024 * 1024)" is a number, too.
for name in HEADER_LEN LINE_LEN END_LEN TIME_LEN HEAD_MAX BODY_MAX \
	OUTCOME_RCPTS OUTCOME_MAX; do
	value=$(sed -nE "s|^#define RECORD_$name ([^/]*).*|\1|p" \
		"$queue/record.h" | tr -d 'u')
	if ! grep -qw -e "$((value))" "$page"; then
		echo "spool-documented: $page does not tell RECORD_$name," \
			"$((value))" >&2
		bad=1
	fi
done
exit "$bad"
