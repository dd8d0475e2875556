#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Fuzzes every target of the packages for TIME each, two at a time for each core. What failed is printed.
#
#   hack/fuzz.sh TIME PACKAGE...
set -euo pipefail
cd "$(dirname "$0")/.."

# one TIME PACKAGE TARGET. Go 1.26 may take the end of the time for a failure (go.dev/issue/75804): where it says that and
# found no failing input, all of the time is spent again, once.
one() {
	local out code=0
	for _ in first again; do
		code=0
		out=$(go test -run '^$' -fuzz "^$3\$" -fuzztime "$1" -fuzzminimizetime 1s -parallel 1 "$2" 2>&1) || code=$?
		if ((code == 0)) || ! grep -q '^ *context deadline exceeded$' <<<"$out" || grep -q 'Failing input' <<<"$out"; then
			break
		fi
		echo "$3: the time ended in the middle of an input; once more"
	done
	echo "$3:"
	tail -n $((code == 0 ? 2 : 60)) <<<"$out"
	return "$code"
}
export -f one

time=$1
shift
for package in "$@"; do
	go test -list '^Fuzz' "$package" | sed -n "s#^Fuzz.*#$package &#p"
done | TIME=$time xargs -P "$((2 * $(nproc)))" -L 1 bash -c 'one "$TIME" "$@"' fuzz
