#!/bin/sh
# The header fields that are kept once (rewrite.duplicate_headers) are listed in
# sesrelayd.conf(5), in the order of the source.
#
# usage: fields-documented.sh [MAN-PAGE]
set -eu

root=$(dirname "$0")/../..
page=${1:-$root/man/sesrelayd.conf.5}
source=$root/daemon/smtp/rewrite_single.c

fields=$(sed -nE 's/^\tSLICE_INIT\("([A-Za-z0-9-]+)"\),$/\1/p' "$source" | tr '\n' ' ')
if [ -z "$fields" ]; then
	echo "fields-documented: found no field in $source" >&2
	exit 1
fi
listed=$(tr '\n' ' ' <"$page" | tr -d ',')
case $listed in
*"$fields"*) ;;
*)
	echo "fields-documented: $page does not list these in a row: $fields" >&2
	exit 1
	;;
esac
