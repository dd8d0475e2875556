#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# A Docker engine for tests and the demo, on a machine that may have none.
#
#   engine.sh ensure [PID]  print the DOCKER_HOST of an engine that answers; install and start one if need be.
#                           PID is the process that uses it: the engine is not stopped while that lives.
#   engine.sh stop [PID]    PID no longer uses it; stop an engine that was started here once nobody does.
#                           Without PID stop it at once. Never touches an engine that was there before.
#   engine.sh registry      print the path of Debian's docker-registry, fetched but not installed if need be.
#   engine.sh need PROGRAM [PACKAGE]  install PACKAGE if PROGRAM is missing.
#   engine.sh status        say which engine answers.
#
# Progress goes to standard error, answers to standard output. SIRRAT_ENGINE_DIR holds all that an own engine writes.
set -eu
cd "$(dirname "$0")/.."

state=${SIRRAT_ENGINE_DIR:-/var/lib/sirrat-engine}
own=unix://$state/docker.sock
default=unix:///var/run/docker.sock
start_seconds=60

say() { printf 'engine: %s\n' "$*" >&2; }
die() {
	say "$@"
	exit 1
}

# answers HOST: true if a Docker engine answers there.
answers() {
	case $1 in
	unix://*)
		[ -S "${1#unix://}" ] || return 1
		if command -v curl >/dev/null; then
			curl -fsS --max-time 5 --unix-socket "${1#unix://}" http://localhost/_ping >/dev/null 2>&1
		else
			# perl-base is on every Debian and Ubuntu.
			perl -MIO::Socket::UNIX -e '
				my $s = IO::Socket::UNIX->new(Peer => shift) or exit 1;
				print $s "GET /_ping HTTP/1.0\r\n\r\n"; alarm 5;
				exit(defined($_ = <$s>) && / 200 / ? 0 : 1)' "${1#unix://}" 2>/dev/null
		fi
		;;
	*)
		if command -v docker >/dev/null; then
			docker --host "$1" version >/dev/null 2>&1
		else
			curl -fsS --max-time 5 "http://${1#tcp://}/_ping" >/dev/null 2>&1
		fi
		;;
	esac
}

# existing: print an engine of the user's that answers.
existing() {
	if [ -n "${DOCKER_HOST:-}" ]; then
		answers "$DOCKER_HOST" || die "DOCKER_HOST=$DOCKER_HOST does not answer: start that engine, or unset DOCKER_HOST"
		echo "$DOCKER_HOST"
		return
	fi
	for host in "$default" "unix://${XDG_RUNTIME_DIR:-/nowhere}/docker.sock" "$(context)"; do
		if [ -n "$host" ] && answers "$host"; then
			echo "$host"
			return
		fi
	done
	return 1
}

# context: the engine that the docker command would use (Docker Desktop, Colima, a remote one).
context() {
	if command -v docker >/dev/null; then
		docker context inspect --format '{{.Endpoints.docker.Host}}' 2>/dev/null || true
	fi
}

root() { [ "$(id -u)" = 0 ]; }

# apt PACKAGE...: install without questions, waiting for other package managers.
apt() {
	command -v apt-get >/dev/null || die "not Debian or Ubuntu: install $* by hand"
	root || die "missing: $*. Run 'apt-get install $*' as root first"
	say "installing $* (a minute or two)"
	log=$(mktemp)
	for try in 1 2 3; do
		if { apt_get update && apt_get install "$@"; } >"$log" 2>&1; then
			rm -f "$log"
			return
		fi
		say "installing failed, try $try of 3"
	done
	tail -n 20 "$log" >&2
	rm -f "$log"
	die "could not install $*"
}

apt_get() {
	DEBIAN_FRONTEND=noninteractive apt-get -y -q --no-install-recommends \
		-o Acquire::Retries=3 -o DPkg::Lock::Timeout=300 "$@" </dev/null
}

need() {
	command -v "$1" >/dev/null || apt "${2:-$1}"
}

# free_network: second number of a 10.N.0.0/16 to which no route leads.
free_network() {
	for n in 213 214 215 216 217 218 219 220; do
		# /proc/net/route holds little-endian hex: 10.213.0.0 is 0000D50A.
		if ! grep -qi "$(printf '%02X0A' "$n")[[:space:]]" /proc/net/route; then
			echo "$n"
			return
		fi
	done
	die "no free network among 10.213.0.0/16 … 10.220.0.0/16 for the engine's bridge"
}

# tables: where the kernel has no nf_tables, let dockerd find the legacy iptables first.
tables() {
	if ! iptables -w 10 -t nat -nL >/dev/null 2>&1 && iptables-legacy -w 10 -t nat -nL >/dev/null 2>&1; then
		mkdir -p "$state/bin"
		for program in iptables iptables-save iptables-restore ip6tables ip6tables-save ip6tables-restore; do
			ln -sf "$(command -v "$(echo "$program" | sed 's/tables/tables-legacy/')")" "$state/bin/$program"
		done
	fi
}

# start: run dockerd with everything of its own.
start() {
	umask 077
	mkdir -p "$state"
	rm -f "$state/docker.pid" "$state/docker.sock"
	grep -q '^cgroup' /proc/mounts || mount -t cgroup2 none /sys/fs/cgroup || say "no cgroups are mounted"
	tables
	n=$(free_network)
	bip="--bip 10.$n.0.1/24"
	[ ! -d /sys/class/net/docker0 ] || bip= # an existing docker0 keeps its address
	say "starting an engine in $state"
	# shellcheck disable=SC2086 # one or two words
	PATH="$state/bin:$PATH" setsid dockerd --host "$own" --pidfile "$state/docker.pid" \
		--data-root "$state/data" --exec-root "$state/exec" $bip \
		--default-address-pool "base=10.$n.128.0/17,size=24" \
		--containerd-namespace sirrat --containerd-plugins-namespace sirrat-plugins \
		</dev/null >"$state/dockerd.log" 2>&1 &
	pid=$!
	waited=0
	until answers "$own"; do
		if ! kill -0 "$pid" 2>/dev/null || [ "$waited" -ge "$start_seconds" ]; then
			tail -n 20 "$state/dockerd.log" >&2
			die "dockerd did not start within $start_seconds s; its last lines are above"
		fi
		sleep 1
		waited=$((waited + 1))
	done
}

# use PID: note that PID uses the own engine.
use() {
	if [ -n "${1:-}" ]; then
		mkdir -p "$state/users"
		: >"$state/users/$1"
	fi
}

ensure() {
	if [ -z "${DOCKER_HOST:-}" ] || [ "$DOCKER_HOST" = "$own" ]; then
		if answers "$own"; then
			use "$@"
			echo "$own"
			return
		fi
	fi
	if existing; then
		return
	elif [ -n "${DOCKER_HOST:-}" ]; then
		exit 1
	fi
	root || die "no Docker engine answers, and starting one takes root: start Docker, set DOCKER_HOST, or run as root"
	if ! command -v dockerd >/dev/null || ! command -v iptables >/dev/null; then
		apt docker.io iptables
		if existing; then # the package may have started its service
			return
		fi
	fi
	start
	use "$@"
	echo "$own"
}

stop() {
	[ -d "$state" ] || return 0
	if [ -n "${1:-}" ]; then
		rm -f "$state/users/$1"
		for user in "$state"/users/*; do
			if [ -e "$user" ] && kill -0 "${user##*/}" 2>/dev/null; then
				return 0
			fi
		done
	fi
	if [ -f "$state/docker.pid" ] && pid=$(cat "$state/docker.pid") && kill "$pid" 2>/dev/null; then
		say "stopping the engine in $state"
		waited=0
		while kill -0 "$pid" 2>/dev/null && [ "$waited" -lt 30 ]; do
			sleep 1
			waited=$((waited + 1))
		done
		! kill -0 "$pid" 2>/dev/null || die "the engine (process $pid) does not stop"
	fi
	# An engine that was slow to stop leaves the mounts of its containers.
	awk -v below="$state/" 'index($2, below) == 1 { print $2 }' /proc/mounts | sort -r | xargs -r -n 1 umount -l || true
	rm -rf "$state" || say "could not remove all of $state"
}

# registry: Debian's package holds one static program; unpacked beside the sources it starts no service.
registry() {
	if command -v docker-registry; then
		return
	fi
	target=.tools/docker-registry
	if [ ! -x "$target/usr/bin/docker-registry" ]; then
		command -v apt-get >/dev/null || die "not Debian or Ubuntu: no docker-registry package"
		say "fetching docker-registry"
		fresh=$(mktemp -d)
		mkdir -p "$target"
		here=$(pwd)
		( # apt's own user must be able to write here
			chmod 755 "$fresh" && cd "$fresh"
			apt_get download docker-registry ||
				{ root && apt_get update && apt_get download docker-registry; }
			dpkg-deb -x docker-registry_*.deb "$here/$target"
		) >"$fresh.log" 2>&1 || {
			tail -n 5 "$fresh.log" >&2
			rm -rf "$fresh" "$fresh.log"
			die "could not fetch docker-registry"
		}
		rm -rf "$fresh" "$fresh.log"
	fi
	echo "$(pwd)/$target/usr/bin/docker-registry"
}

command=${1:-}
[ $# -eq 0 ] || shift
case $command in
ensure | stop | registry | need) "$command" "$@" ;;
status)
	if host=$(existing) || { answers "$own" && host=$own; }; then
		echo "an engine answers at $host"
	else
		die "no engine answers"
	fi
	;;
*) die "usage: engine.sh ensure [PID] | stop [PID] | registry | need PROGRAM [PACKAGE] | status" ;;
esac
