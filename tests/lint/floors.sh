#!/bin/bash
# The floors of the house, checked by #include.
#
#   base < smtp, policy < queue < net < relay < daemon; cli sees base, queue,
#   daemon/report.h, whose objects are its own when the daemon is down,
#   daemon/check.h, rehearsal.h, credentials.h, and smtp for what replies mean.
#   smtp and policy don't know each other, queue and net don't know each other,
#   event2/ and openssl/ stay in net (and credentials.c), libconfig in config*.c
#   and cli, pthread in base/work.c, xxhash in queue, config.h is for the top,
#   and no two modules of a directory include each other in a circle.
set -u
cd "$(dirname "$0")/../.." || exit 1
bad=0

complain() {
	echo "floors: $*" >&2
	bad=1
}

# What each floor may include of ours.
declare -A may=(
	[base]="base"
	[smtp]="base smtp"
	[policy]="base policy"
	[queue]="base queue"
	[net]="base net"
	[relay]="base smtp policy queue net relay"
	[cli]="base smtp queue cli report check rehearsal credentials"
	[report]="base queue report"
	[check]="base policy net"
	[rehearsal]="base smtp"
	[credentials]="base credentials"
	[top]="base smtp policy queue net relay report check rehearsal credentials top"
)

floor_of() { # daemon/relay/pool.c -> relay; daemon/main.c -> top
	local path=${1#daemon/}
	case $path in
	*/*) echo "${path%%/*}" ;;
	report.[ch]) echo report ;;
	check.h) echo check ;;
	rehearsal.h) echo rehearsal ;;
	credentials.[ch]) echo credentials ;;
	*) echo top ;;
	esac
}

while read -r file line; do
	from=$(floor_of "$file")
	case $line in
	*'"'*)
		header=${line#*\"}
		header=${header%%\"*}
		if [ "$from" = cli ] && [ -e "daemon/cli/$header" ]; then
			to=cli
		else
			to=$(floor_of "daemon/$header")
		fi
		[[ " ${may[$from]} " == *" $to "* ]] ||
			complain "$file includes $header (floor $from may" \
				"see: ${may[$from]})"
		;;
	*event2/* | *openssl/*)
		[[ $from == net || $file == daemon/credentials.c ||
			$file == daemon/metrics.c ]] ||
			complain "$file includes $line"
		;;
	*libconfig.h*)
		[[ $file == daemon/config*.[ch] || $from == cli ]] ||
			complain "$file includes $line"
		;;
	*pthread.h*)
		[ "$file" = daemon/base/work.c ] ||
			complain "$file includes $line"
		;;
	*xxhash.h*)
		[ "$from" = queue ] || complain "$file includes $line"
		;;
	esac
done < <(grep -rE '^#include' --include='*.[ch]' daemon |
	sed -E 's/^([^:]+):#include */\1 /')

# Pure floors make no system call and read no clock.
while read -r hit; do
	complain "not pure: $hit"
done < <(grep -nE '\b(time|clock_gettime|gettimeofday|open|read|write|socket|clock_(mono|wall)_us)\(' \
	daemon/smtp/*.c daemon/policy/*.c)

# Circles between the headers of one directory.
for dir in base smtp policy queue net relay; do
	if ! for h in daemon/"$dir"/*.h; do
		echo "$h $h"
		sed -nE "s,^#include \"($dir/[^\"]+)\".*,$h daemon/\\1,p" "$h"
	done | tsort >/dev/null 2>/tmp/floors.$$; then
		complain "headers of $dir include each other in a circle:" \
			"$(cat /tmp/floors.$$)"
	fi
	rm -f /tmp/floors.$$
done

# The tests' emulator is an independent oracle.
if grep -nE '#include "(base|smtp|policy|queue|net|relay)/' tests/ses/*.[ch]; then
	complain "tests/ses shares code with daemon/"
fi
[ $bad -eq 0 ] && echo "floors: ok"
exit $bad
