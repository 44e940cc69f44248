# bash completion for sesrelayctl(8) and sesrelayd(8).           -*- sh -*-
#
# Verbs and options are asked of sesrelayctl itself, so they are always those of
# the one that is called; ids of messages are asked of the daemon.

# The words of one kind that an argument may be.
_sesrelayctl_words() # KIND PROGRAM [OPTION VALUE]...
{
	local kind=$1
	shift
	case $kind in
	state) echo ready waiting active held ;;
	part) echo delivery intake ;;
	level) echo error warning info debug ;;
	duration) echo 30s 1m 5m 15m 1h ;;
	region)
		echo us-east-1 us-east-2 us-west-1 us-west-2 ca-central-1 \
			eu-west-1 eu-west-2 eu-west-3 eu-central-1 \
			eu-north-1 eu-south-1 ap-south-1 ap-southeast-1 \
			ap-southeast-2 ap-northeast-1 ap-northeast-2 \
			ap-northeast-3 sa-east-1 af-south-1 me-south-1
		;;
	# A queue may be long: nobody looks through more of it than this.
	id) "$@" --json queue 2>/dev/null | head -n 500 |
		sed -n 's/^{"id":"\([0-9A-F]*\)".*/\1/p' ;;
	failed-id) "$@" --json failed 2>/dev/null | head -n 500 |
		sed -n 's/^{"id":"\([0-9A-F]*\)".*/\1/p' ;;
	esac
}

_sesrelayctl_files()
{
	local IFS=$'\n'

	compopt -o filenames 2>/dev/null
	mapfile -t COMPREPLY < <(compgen -f -- "$1")
}

_sesrelayctl()
{
	local cur=${COMP_WORDS[COMP_CWORD]} program=${COMP_WORDS[0]}
	local kind verb='' pending='' words='' n=0 i word line
	local -a ask=("$program") f
	local -A verbs=() many=() options=()

	COMPREPLY=()
	while IFS=$'\t' read -r -a f; do
		case ${f[0]} in
		verb)
			verbs[${f[1]}]=${f[2]}
			many[${f[1]}]=${f[3]}
			;;
		option) options["${f[1]} ${f[2]}"]=${f[3]} ;;
		esac
	done < <("$program" --dump-tables 2>/dev/null)

	# What stands before: the verb, how many operands, and whether the last
	# word is an option that wants a value.
	for ((i = 1; i < COMP_CWORD; i++)); do
		word=${COMP_WORDS[i]}
		if [[ $word == = ]]; then
			continue # "--option=value" is three words
		elif [[ -n $pending ]]; then
			pending=
		elif [[ $word == -?* ]]; then
			kind=${options["$verb $word"]-${options["* $word"]-none}}
			[[ $kind == none ]] || pending=$kind
			case $word in
			-c | -s | --config | --socket)
				ask+=("$word" "${COMP_WORDS[i + 1]}")
				;;
			esac
		elif [[ -z $verb ]]; then
			for line in "${!verbs[@]}"; do
				[[ $line == "$word" ]] && verb=$line
			done
			[[ -n $verb ]] || return 0
		else
			n=$((n + 1))
		fi
	done

	[[ $cur != = ]] || cur=
	if [[ -n $pending ]]; then
		kind=$pending
	elif [[ $cur == -* ]]; then
		kind=
		for line in "${!options[@]}"; do
			case $line in
			"* "* | "$verb "*) words+=" ${line#* }" ;;
			esac
		done
	elif [[ -z $verb ]]; then
		kind=
		words=${!verbs[*]}
	elif [[ $n -eq 0 || ${many[$verb]} == many ]]; then
		kind=${verbs[$verb]}
	else
		return 0
	fi
	if [[ $kind == file ]]; then
		_sesrelayctl_files "$cur"
		return 0
	fi
	[[ -z $kind ]] || words=$(_sesrelayctl_words "$kind" "${ask[@]}")
	mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
}

_sesrelayd()
{
	local cur=${COMP_WORDS[COMP_CWORD]}

	COMPREPLY=()
	case ${COMP_WORDS[COMP_CWORD - 1]} in
	-c | --config)
		_sesrelayctl_files "$cur"
		;;
	*)
		mapfile -t COMPREPLY < <(compgen -W "-c -t -T -v -V -h \
			--config --test --dump --verbose --version --help" \
			-- "$cur")
		;;
	esac
}

complete -F _sesrelayctl sesrelayctl
complete -F _sesrelayd sesrelayd
