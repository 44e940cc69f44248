#!/bin/sh
# Every key of the schema is in sesrelayd.conf(5), in the schema's order, with
# its true default; what takes a restart says so; and the page describes no
# key that does not exist.
#
# usage: keys-documented.sh PATH-TO-SESRELAYD [MAN-PAGE]
#
# The page's form:  .It Cm smtp.timeout Pq "default: \(dq5m\(dq"
# then text until the next item, in it, where it applies, the sentence
# "Takes effect at restart."
set -eu

program=${1:?usage: keys-documented.sh PATH-TO-SESRELAYD [MAN-PAGE]}
page=${2:-$(dirname "$0")/../../man/sesrelayd.conf.5}

schema=$("$program" --dump-schema |
	awk -F '\t' '{ print $1 "\t" $3 "\t" $4 }')

documented=$(awk '
	function finish() {
		if (key != "")
			print key "\t" value "\t" restart
		key = ""
	}
	/^\.It Cm [a-z]+\.[a-z_]+ Pq "default: .*"$/ {
		finish()
		key = $3
		value = $0
		sub(/^[^"]*"default: /, "", value)
		sub(/"$/, "", value)
		gsub(/\\\(dq/, "\"", value)
		restart = "R"
		next
	}
	/^\.It/ || /^\.El/ || /^\.S[hs]/ { finish() }
	/^Takes effect at restart\.$/ { restart = "-" }
	END { finish() }
' "$page")

if [ -z "$schema" ]; then
	echo "keys-documented: $program --dump-schema printed nothing" >&2
	exit 1
fi
if [ "$schema" = "$documented" ]; then
	exit 0
fi

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
printf '%s\n' "$schema" >"$dir/schema"
printf '%s\n' "$documented" >"$dir/documented"
echo "keys-documented: $page differs from the schema (key, default," \
	"R: on reload):" >&2
diff -U 0 "$dir/schema" "$dir/documented" | sed -n '/^[-+][^-+]/p' >&2
exit 1
