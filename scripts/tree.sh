#!/bin/sh
# Names the files of the source tree, each ended by a NUL: what git knows or
# would add, and is there; without git, all but build/.
set -eu
# $file is the inner shell's.
# shellcheck disable=SC2016
if git rev-parse --git-dir >/dev/null 2>&1; then
	git ls-files -z --cached --others --exclude-standard
else
	find . -path ./build -prune -o -type f -printf '%P\0'
fi | sort -zu | xargs -0 sh -c 'for file; do
	if [ -e "$file" ]; then printf "%s\\0" "$file"; fi
done' sh
