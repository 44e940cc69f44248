#!/bin/bash
# On fresh Debian 12 roots, with nothing but git, make and ca-certificates:
# clone, then `make demo` in one and `make check` in another do all set-up and
# pass.
#
#   tests/fresh.sh [demo] [check]      as root; default: both
#
# The roots are made by debootstrap in $TMPDIR (or /var/tmp) and removed.  The
# package sources of this machine's Debian are used.  Commits only are tested.
set -euo pipefail
cd "$(dirname "$0")/.."
source_tree=$PWD
base=$(mktemp -d "${TMPDIR:-/var/tmp}/sesrelayd-fresh.XXXXXX")

[ "$(id -u)" -eq 0 ] || {
	echo "$0: must be root (debootstrap, chroot)" >&2
	exit 1
}
command -v debootstrap >/dev/null || {
	apt-get update >/dev/null
	apt-get install -y --no-install-recommends debootstrap >/dev/null
}

leave() { # unmount what is mounted below a root
	local root=$1
	for dir in dev/shm dev/pts dev proc; do
		mountpoint -q "$root/$dir" && umount "$root/$dir"
	done
	mountpoint -q "$root" && umount "$root"
	return 0
}
clean_up() {
	for root in "$base"/*/; do
		leave "$root"
	done
	rm -rf --one-file-system "$base"
}
trap clean_up EXIT

# The mirror that this machine's own Debian packages come from.
mirror=$({ cat /etc/apt/sources.list /etc/apt/sources.list.d/debian* || :; } \
	2>/dev/null | grep -v '^ *#' | grep -oE 'https?://[^ ]*debian/?' |
	grep -v security | sed -n 1p) || :

make_root() {
	local root=$1
	debootstrap --variant=minbase \
		--include=git,make,ca-certificates bookworm "$root" \
		"${mirror:-http://deb.debian.org/debian}" >"$root.log" 2>&1 || {
		tail -n 20 "$root.log" >&2
		exit 1
	}
	cp /etc/resolv.conf "$root/etc/resolv.conf" 2>/dev/null || :
	# Whatever this machine needs to reach its Debian mirror.
	cp -a /etc/apt/apt.conf.d/. "$root/etc/apt/apt.conf.d/"
	rm -f "$root"/etc/apt/apt.conf.d/*docker*
	# A mount point of its own, so that tests can have private mounts in it.
	mount --bind "$root" "$root"
	mount --make-private "$root"
	mount --bind /proc "$root/proc"
	mount --bind /dev "$root/dev"
	mount --bind /dev/pts "$root/dev/pts"
	mount -t tmpfs -o nosuid,nodev tmpfs "$root/dev/shm"
	git clone -q "$source_tree" "$root/root/sesrelayd"
}

run() { # demo or check
	local what=$1 root=$base/$1 began=$SECONDS
	echo "== fresh root for make $what"
	make_root "$root"
	echo "== make $what"
	chroot "$root" /usr/bin/env -i HOME=/root TERM=dumb LC_ALL=C.UTF-8 \
		PATH=/usr/sbin:/usr/bin:/sbin:/bin \
		${http_proxy:+http_proxy="$http_proxy"} \
		${https_proxy:+https_proxy="$https_proxy"} \
		make -C /root/sesrelayd "$what"
	leave "$root"
	rm -rf --one-file-system "$root"
	echo "== make $what passed on a fresh root, $((SECONDS - began)) s"
}

[ $# -gt 0 ] || set -- demo check
for what; do
	run "$what"
done
echo "fresh: passed"
