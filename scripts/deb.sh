#!/bin/sh
# Builds the Debian packages from a copy of the tree, so that nothing lands
# beside it, and the object files of `make` are not in the way.
#
#   scripts/deb.sh DIRECTORY VERSION
#
# What git knows is copied, as it stands in the work tree; without git, all but
# build/.  The packages and the build's log are left in DIRECTORY.
set -eu

out=${1:?usage: scripts/deb.sh DIRECTORY VERSION}
version=${2:?usage: scripts/deb.sh DIRECTORY VERSION}
tree=$out/sesrelayd-$version

if ! head -n 1 debian/changelog | grep -qF "sesrelayd ($version)"; then
	echo "deb: debian/changelog is not about version $version" >&2
	exit 1
fi
rm -rf "$out"
mkdir -p "$tree"
if git rev-parse --git-dir >/dev/null 2>&1; then
	git ls-files -z --cached --others --exclude-standard
else
	find . -path ./build -prune -o -type f -print0
fi | sort -z | tar --null --no-recursion --ignore-failed-read -T - -cf - |
	tar -xf - -C "$tree"

cd "$tree"
if ! dpkg-buildpackage -us -uc -b >../build.log 2>&1; then
	tail -n 40 ../build.log >&2
	echo "deb: the build failed; see $out/build.log" >&2
	exit 1
fi
cd ..
rm -rf "sesrelayd-$version"
echo "deb: in $out:"
ls -1 -- *.deb
