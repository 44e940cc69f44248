#!/bin/sh
# Builds the RPM packages from packaging/sesrelayd.spec, in DIRECTORY.
#
#   scripts/rpm.sh DIRECTORY VERSION
#
# Where rpm has no macros of systemd (Debian), those in packaging/macros stand
# in, and the packages that the spec wants to build with are not asked for.
set -eu

out=$(readlink -m "${1:?usage: scripts/rpm.sh DIRECTORY VERSION}")
version=${2:?usage: scripts/rpm.sh DIRECTORY VERSION}
spec=packaging/sesrelayd.spec

if ! grep -qx "Version: *$version" $spec; then
	echo "rpm: $spec is not about version $version" >&2
	exit 1
fi
rm -rf "$out"
mkdir -p "$out/SOURCES"
scripts/tree.sh | tar --null --no-recursion -T - --sort=name --owner=0 \
	--group=0 --numeric-owner --transform "s,^,sesrelayd-$version/," \
	-czf "$out/SOURCES/sesrelayd-$version.tar.gz"
cp conf/systemd/sysusers.conf "$out/SOURCES/sesrelayd.sysusers"

set -- --define "_topdir $out"
if [ "$(rpm --eval '%{?_unitdir}')" = "" ]; then
	set -- "$@" --load packaging/macros --nodeps
fi
if ! rpmbuild -ba "$@" $spec >"$out/build.log" 2>&1; then
	tail -n 40 "$out/build.log" >&2
	echo "rpm: the build failed; see $out/build.log" >&2
	exit 1
fi
find "$out/RPMS" "$out/SRPMS" -name '*.rpm' -exec mv {} "$out" \;
rm -rf "$out/BUILD" "$out/BUILDROOT" "$out/RPMS" "$out/SRPMS" "$out/SPECS"
echo "rpm: in $out:"
cd "$out"
ls -1 -- *.rpm
