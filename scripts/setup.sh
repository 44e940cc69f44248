#!/bin/sh
# Installs the Debian packages that a make target needs and that are missing.
#
#   scripts/setup.sh TARGET: one of those in the case below
#
# As root it installs them (no service is started by that); otherwise it prints
# the one command that does, and fails.  With everything there it is silent and
# takes no time.
set -eu

build="gcc make pkg-config libc6-dev libevent-dev libssl-dev libconfig-dev
libjansson-dev libxxhash-dev"
demo="$build openssl python3 libpython3.11-testsuite curl msmtp swaks"
check="$demo libcmocka-dev python3-pytest clang clang-tidy clang-format
cppcheck shellcheck mandoc s-nail mutt bsd-mailx postfix
sasl2-bin libsasl2-modules strace procps python3-pytest-xdist netcat-openbsd
e2fsprogs xfsprogs util-linux mount nbdkit libnbd-bin fuse3 faketime
nftables iproute2 ethtool pflogsumm python3-pyte bash-completion jq
systemd systemd-sysv systemd-container dbus"
# The runtime of libFuzzer and the sanitizers, and llvm-cov.
fuzz="$build python3 clang libclang-rt-14-dev llvm"
# Heavy ones, of which each brings a program that sends mail.
clients="$check bash perl ruby php-cli libphp-phpmailer golang-go
openjdk-17-jdk-headless libmail-java libactivation-java bzip2
netcat-traditional libauthen-sasl-perl libmime-lite-perl nodejs
node-nodemailer cron at git git-email"
# To make packages, and to look whether they are good ones.
deb="$build debhelper"
rpm="$build rpm"
packages="$demo $deb $rpm lintian blhc rpmlint debootstrap"
# The linters of conf/examples.
examples="yamllint ansible-lint cloud-init"
# promtool and the server: 332 MB.
monitoring="$demo prometheus"
# Peers to measure against, and what draws and counts.
bench="$demo postfix sasl2-bin libsasl2-modules gnuplot-nox valgrind strace
libdb5.3 util-linux mount procps"

case ${1-} in
build) want=$build ;;
demo) want=$demo ;;
check) want=$check ;;
deb) want=$deb ;;
rpm) want=$rpm ;;
packages) want=$packages ;;
examples) want=$examples ;;
fuzz) want=$fuzz ;;
monitoring) want=$monitoring ;;
clients)
	want=$clients
	# There are packages of nodejs that have npm in them.
	command -v npm >/dev/null || want="$want npm"
	;;
bench) want=$bench ;;
*)
	echo "usage: $0 TARGET, such as build, demo or check" >&2
	exit 64
	;;
esac

# A root made by debootstrap has no /etc/hosts; every machine has this line.
if [ "$1" != build ] && [ "$(id -u)" -eq 0 ] &&
	! getent ahosts localhost >/dev/null; then
	echo "setup: adding localhost to /etc/hosts"
	echo "127.0.0.1 localhost" >>/etc/hosts
fi

# OpenSMTPD's package can't be installed beside Postfix's: it is unpacked.
unpack_opensmtpd()
{
	root=$(dirname "$0")/../build/bench/opensmtpd
	[ ! -x "$root/usr/sbin/smtpd" ] || return 0
	echo "unpacking: opensmtpd"
	mkdir -p "$root"
	scratch=$(mktemp -d)
	if ! (cd "$scratch" && apt-get download opensmtpd >log 2>&1); then
		cat "$scratch/log" >&2
		exit 1
	fi
	dpkg-deb -x "$scratch"/opensmtpd_*.deb "$root"
	rm -r "$scratch"
}

missing=
for package in $want; do
	status=$(dpkg-query -W -f='${db:Status-Status}' "$package" \
		2>/dev/null) || status=
	[ "$status" = installed ] || missing="$missing $package"
done
if [ -z "$missing" ]; then
	[ "$1" != bench ] || unpack_opensmtpd
	exit 0
fi

if [ "$(id -u)" -ne 0 ]; then
	echo "missing packages; as root:" >&2
	echo "  apt-get install --no-install-recommends$missing" >&2
	exit 1
fi

# Mail servers come as test peers only: keep them from starting.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
	printf '#!/bin/sh\nexit 101\n' >"$policy"
	chmod 755 "$policy"
	trap 'rm -f "$policy"' EXIT
fi
log=$(mktemp)
export DEBIAN_FRONTEND=noninteractive
echo "installing:$missing"
# shellcheck disable=SC2086 # a list of words
if ! { apt-get update && apt-get install -y --no-install-recommends \
	$missing; } >"$log" 2>&1; then
	tail -n 30 "$log" >&2
	rm -f "$log"
	exit 1
fi
rm -f "$log"
[ "$1" != bench ] || unpack_opensmtpd
