#!/bin/sh
# Runs cmocka programs one after the other; a program's output is shown when it
# fails, its count when it passes.
set -u
total=0
failed=0
log=$(mktemp)
trap 'rm -f "$log"' EXIT
for program in "$@"; do
	if "$program" >"$log" 2>&1; then
		n=$(sed -n 's/^\[  PASSED  \] \([0-9]*\) test.*/\1/p' "$log" |
			awk '{ n += $1 } END { print n + 0 }')
		echo "ok   ${program##*/unit/} ($n tests)"
		total=$((total + n))
	else
		echo "FAIL ${program##*/unit/}"
		cat "$log"
		failed=$((failed + 1))
	fi
done
echo "unit: $total passed, $failed programs failed"
[ "$failed" -eq 0 ] && [ "$total" -gt 0 ]
