#!/bin/sh
# Builds the Debian packages from a copy of the tree, so that nothing lands
# beside it, and the object files of `make` are not in the way.
#
#   scripts/deb.sh DIRECTORY VERSION
#
# The packages and the build's log are left in DIRECTORY.
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
scripts/tree.sh | tar --null --no-recursion -T - -cf - | tar -xf - -C "$tree"

# `make check` runs the tests; with DEB_BUILD_OPTIONS= the build does, too.
export DEB_BUILD_OPTIONS="${DEB_BUILD_OPTIONS-nocheck}"
case " $DEB_BUILD_OPTIONS " in
*" nocheck "*) export DEB_BUILD_PROFILES="${DEB_BUILD_PROFILES-nocheck}" ;;
esac

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
