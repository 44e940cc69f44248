#!/bin/bash
# The Debian packages: built twice with the same bytes, lintian and blhc silent,
# and used as an administrator does, in a fresh root with a network of its own.
#
#   tests/packages/debian.sh VERSION      as root, in the top directory
#
# The root is made by debootstrap in $TMPDIR (or /var/tmp) and removed.
set -euo pipefail
version=${1:?usage: tests/packages/debian.sh VERSION}
base=$(mktemp -d "${TMPDIR:-/var/tmp}/sesrelayd-packages.XXXXXX")
root=$base/root
trap 'rm -rf --one-file-system "$base"' EXIT

echo "== lintian, and the flags of the compiler"
lintian --allow-root --fail-on error,warning build/deb/*.deb
blhc build/deb/build.log
echo "  no complaint"

echo "== built again elsewhere: the same bytes?"
scripts/deb.sh "$base/again" "$version" >/dev/null
for package in build/deb/*.deb; do
	cmp "$package" "$base/again/${package##*/}"
done
echo "  the same"

echo "== a fresh root"
mirror=$({ cat /etc/apt/sources.list /etc/apt/sources.list.d/debian* || :; } \
	2>/dev/null | grep -v '^ *#' | grep -oE 'https?://[^ ]*debian/?' |
	grep -v security | sed -n 1p) || :
# What the package depends on, by its own words; systemd is the first of three.
needs=$(dpkg-deb -f build/deb/sesrelayd_*.deb Depends | tr ',' '\n' |
	sed -E 's/^ *([^ |]+).*/\1/' | grep -vx libc6 | paste -sd,)
debootstrap --variant=minbase --include="$needs,iproute2,procps" bookworm \
	"$root" "${mirror:-http://deb.debian.org/debian}" \
	>"$base/debootstrap.log" 2>&1 || {
	tail -n 20 "$base/debootstrap.log" >&2
	exit 1
}
printf '127.0.0.1 localhost\n::1 localhost\n' >"$root/etc/hosts"

mkdir -p "$root/packages/next" "$base/other/DEBIAN" "$base/other/usr/sbin"
cp build/deb/*.deb tests/packages/inside.sh "$root/packages"
rm -f "$root"/packages/*-dbgsym_*
# The next version, with the same files.
for package in build/deb/sesrelayd_*.deb build/deb/sesrelayd-mta_*.deb; do
	name=${package##*/}
	dpkg-deb -R "$package" "$base/${name%%_*}"
	sed -i "s/^Version: .*/Version: $version+2/" \
		"$base/${name%%_*}/DEBIAN/control"
	dpkg-deb -b "$base/${name%%_*}" "$root/packages/next/$name" >/dev/null
done
cat >"$base/other/DEBIAN/control" <<'END'
Package: other-mta
Version: 1
Architecture: all
Maintainer: nobody <nobody@packages.invalid>
Provides: mail-transport-agent
Conflicts: mail-transport-agent
Description: another mail server
END
printf '#!/bin/sh\nexit 0\n' >"$base/other/usr/sbin/sendmail"
chmod 755 "$base/other/usr/sbin/sendmail"
dpkg-deb -b "$base/other" "$root/packages/other-mta.deb" >/dev/null

echo "== as an administrator"
# $0 and $1 are the inner shell's.
# shellcheck disable=SC2016
unshare --net --pid --mount --fork --kill-child sh -c '
	ip link set lo up && mount -t proc proc "$1/proc" &&
	exec chroot "$1" /usr/bin/env -i LC_ALL=C.UTF-8 \
		PATH=/usr/sbin:/usr/bin:/sbin:/bin \
		bash /packages/inside.sh /packages' sh "$root"
echo "packages: the Debian packages are good"
