#!/bin/bash
# What an administrator does with the Debian packages, in a fresh root with a
# network of its own: install, configure, send, meet another mail server,
# upgrade, remove, purge, install again.  Run by debian.sh.
#
#   inside.sh DIRECTORY      with the packages, and the same as version 0.1.0+2
set -euo pipefail
cd "$1"
export DEBIAN_FRONTEND=noninteractive HOME=/root
config=/etc/sesrelayd/sesrelayd.conf
spool=/var/spool/sesrelayd
pids=
trap 'kill $pids 2>/dev/null || :' EXIT

fail() {
	echo "packages: $step: $*" >&2
	tail -n 20 log sesd.log 2>/dev/null >&2 || :
	exit 1
}
is() { # VALUE WANTED
	[ "$1" = "$2" ] || fail "'$1' instead of '$2'"
}
step() {
	step=$*
	echo "  $step"
}
until_true() { # COMMAND...
	local end=$((SECONDS + 60))
	until "$@" >/dev/null 2>&1; do
		[ $SECONDS -lt $end ] || fail "timed out: $*"
		sleep 0.1
	done
}
start_relay() { # as the unit does, but for the sandbox
	install -d -o sesrelay -g sesrelay -m 755 /run/sesrelayd
	setpriv --reuid sesrelay --regid sesrelay --init-groups \
		--inh-caps +net_bind_service --ambient-caps +net_bind_service \
		/usr/sbin/sesrelayd >>log 2>&1 &
	relay=$!
	pids="$pids $relay"
	until_true sesrelayctl status # needs the daemon, unlike count
}
stop_relay() {
	kill "$relay"
	wait "$relay" || fail "exit code $?"
	rmdir /run/sesrelayd # as systemd does
}
start_sesd() {
	rm -f ready
	/usr/libexec/sesrelayd-sesd --write-ca /etc/ses-ca.pem --ready-file \
		"$PWD/ready" --listen 127.0.0.1:2587:starttls \
		--journal "$PWD/journal" >>sesd.log 2>&1 &
	sesd=$!
	pids="$pids $sesd"
	until_true test -e ready
	chmod 644 /etc/ses-ca.pem
}
accepted() { # how many messages SES has
	grep -vc '"event"' journal || :
}
has_accepted() {
	[ "$(accepted)" = "$1" ]
}
is_empty() {
	[ "$(sesrelayctl count)" = 0 ]
}
letter() {
	printf 'Subject: %s\nTo: user@example.net\n\nhello\n' "$1"
}

step "a host with another mail server: sesrelayd can be installed beside it"
dpkg -i other-mta.deb >dpkg.log 2>&1 || fail "$(cat dpkg.log)"
dpkg -i sesrelayd_0.1.0_*.deb >dpkg.log 2>&1 </dev/null ||
	fail "$(cat dpkg.log)"
is "$(readlink -f /usr/sbin/sendmail)" /usr/sbin/sendmail

step "it made user and spool, and has started and enabled nothing"
is "$(getent passwd sesrelay | cut -d: -f6,7)" \
	"$spool:/usr/sbin/nologin"
is "$(stat -c '%a %U %G' $spool)" "700 sesrelay sesrelay"
is "$(stat -c '%a %U' $config)" "644 root"
for unit in sesrelayd.service sesrelayd.socket; do
	is "$(systemctl is-enabled $unit || :)" disabled
done
is "$(pgrep -x sesrelayd || :)" ""

step "sesrelayd-mta and another mail server exclude each other"
if dpkg -i sesrelayd-mta_0.1.0_*.deb >dpkg.log 2>&1 </dev/null; then
	fail "installed beside another one"
fi
grep -q 'conflicts with mail-transport-agent' dpkg.log ||
	fail "$(cat dpkg.log)"
dpkg -P other-mta >/dev/null 2>&1
dpkg -i sesrelayd-mta_0.1.0_*.deb >dpkg.log 2>&1 </dev/null ||
	fail "$(cat dpkg.log)"
is "$(dpkg-query -W -f='${db:Status-Status}' sesrelayd-mta)" installed

step "programs answer, and an unconfigured daemon says what is missing"
sesrelayd -V | grep -q '^sesrelayd 0\.1\.0' || fail "sesrelayd -V"
sesrelayctl -h | grep -q send-test || fail "sesrelayctl -h"
rc=0
sesrelayd -t >out 2>&1 || rc=$?
is "$rc" 78
grep -q ses-password out || fail "$(cat out)"

step "mail through the sendmail link reaches SES"
cat >$config <<'END'
# edited by the administrator
ses: {
	endpoint = "localhost";
	ports = [ "2587:starttls" ];
	username = "AKIAIOSFODNN7EXAMPLE";
	password_file = "/etc/sesrelayd/ses-password";
	ca_file = "/etc/ses-ca.pem";
};
END
echo secret | install -o sesrelay -m 600 /dev/stdin /etc/sesrelayd/ses-password
start_sesd
start_relay
letter one | /usr/sbin/sendmail -t -f app@example.com
letter two | /usr/lib/sendmail -t -f app@example.com
until_true has_accepted 2
is "$(mailq)" "Mail queue is empty"
newaliases >out 2>&1

step "upgrade: an edited configuration stays, without a question"
before=$(md5sum $config)
dpkg -i next/sesrelayd_*.deb next/sesrelayd-mta_*.deb >dpkg.log 2>&1 \
	</dev/null || fail "$(cat dpkg.log)"
is "$(dpkg-query -W -f='${Version}' sesrelayd)" 0.1.0+2
is "$(md5sum $config)" "$before"
stop_relay
start_relay

step "remove: configuration, password and mail stay"
kill "$sesd"
wait "$sesd" || :
letter three | sendmail -t -f app@example.com
is "$(sesrelayctl count)" 1
stop_relay
dpkg -r sesrelayd-mta sesrelayd >dpkg.log 2>&1 || fail "$(cat dpkg.log)"
is "$(md5sum $config)" "$before"
test -s /etc/sesrelayd/ses-password || fail "no password"
for name in /usr/sbin/sendmail /usr/lib/sendmail /usr/bin/mailq \
	/usr/sbin/sesrelayd /lib/systemd/system/sesrelayd.service; do
	test ! -e $name -a ! -h $name || fail "$name is left"
done

step "purge: configuration and password go, accepted mail does not"
cp $config /etc/ses-ca.pem .
dpkg -P sesrelayd-mta sesrelayd >dpkg.log 2>&1 || fail "$(cat dpkg.log)"
grep -q "dead letters are left in $spool" dpkg.log || fail "$(cat dpkg.log)"
test ! -e /etc/sesrelayd || fail "/etc/sesrelayd is left"
grep -qra 'Subject: three' $spool || fail "the message is gone"

step "install again: the mail of before goes out"
dpkg -i sesrelayd_0.1.0_*.deb sesrelayd-mta_0.1.0_*.deb >dpkg.log 2>&1 \
	</dev/null || fail "$(cat dpkg.log)"
cp sesrelayd.conf $config
echo secret | install -o sesrelay -m 600 /dev/stdin /etc/sesrelayd/ses-password
start_sesd
start_relay
sesrelayctl retry >/dev/null
until_true has_accepted 3
until_true is_empty
stop_relay

step "purge with nothing in the spool: nothing is left"
dpkg -P sesrelayd-mta sesrelayd >dpkg.log 2>&1 || fail "$(cat dpkg.log)"
left=$(find / -xdev \( -path /proc -o -path /sys -o -path "$PWD" \) -prune \
	-o -name '*sesrelay*' -print | grep -v '^/etc/systemd/.*\.wants/' || :)
is "$left" ""
