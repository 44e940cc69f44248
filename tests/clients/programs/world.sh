#!/bin/bash
# world.sh DIRECTORY COMMAND...: runs COMMAND where /usr/sbin/sendmail is
# DIRECTORY/wrapper and /etc has DIRECTORY/etc on top; what cron and at keep is
# empty.  Needs mount and UTS namespaces of its own, and root in them.
set -eu
directory=$1
shift
hostname ip-10-0-0-1.internal
top=$directory/top # an overlay's upper directory cannot be on an overlay
mkdir -p "$top"
mount -t tmpfs tmpfs "$top"
mkdir "$top/work" "$top/none"
cp -r "$directory/etc" "$top/etc"
mount -t overlay overlay \
	-o "lowerdir=/etc,upperdir=$top/etc,workdir=$top/work" /etc
[ ! -d /etc/cron.d ] || mount --bind "$top/none" /etc/cron.d
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /var/spool/cron
mkdir -m 1730 /var/spool/cron/crontabs
mkdir -m 1770 /var/spool/cron/atjobs /var/spool/cron/atspool
touch /var/spool/cron/atjobs/.SEQ
chown daemon:daemon /var/spool/cron/at* /var/spool/cron/atjobs/.SEQ
mount --bind "$directory/wrapper" /usr/sbin/sendmail
exec "$@"
