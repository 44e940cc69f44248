#!/bin/sh
# Replays the committed inputs of the fuzz targets: replay.sh PROGRAM...
# Silent but for a line a target; what a failing one said is shown.
set -u
here=$(dirname "$0")
failed=0
log=$(mktemp)
trap 'rm -f "$log"' EXIT
for program in "$@"; do
	name=${program##*/replay-}
	if FUZZ_VERBOSE=1 "$program" "$here/corpus/$name" \
		"$here/regressions/$name" >"$log" 2>&1; then
		echo "ok   fuzz/$name ($(tail -n 1 "$log"))"
	else
		echo "FAIL fuzz/$name"
		tail -n 30 "$log"
		failed=$((failed + 1))
	fi
done
echo "fuzz-replay: $# targets, $failed failed"
[ "$failed" -eq 0 ] && [ $# -gt 0 ]
