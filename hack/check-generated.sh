#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Regenerates everything and fails when that changes a file: whoever edits a type commits what is made from it.
# Compares with the files as they were before, committed or not.
set -eu
cd "$(dirname "$0")/.."

generated="api/v1alpha1/zz_generated.deepcopy.go config/crd charts/sirrat/crds charts/sirrat/files docs/reference.md"

# fingerprint: names and contents of all generated files.
fingerprint() {
	# shellcheck disable=SC2086 # a list of paths
	find $generated -type f -exec sha256sum {} + 2>/dev/null | sort -k2
}

before=$(mktemp)
after=$(mktemp)
trap 'rm -f "$before" "$after"' EXIT
fingerprint >"$before"
make generate
fingerprint >"$after"
if ! cmp -s "$before" "$after"; then
	echo "generated files were stale; commit what 'make generate' made of them:" >&2
	diff "$before" "$after" | awk '/^[<>]/ {print "  " $3}' | sort -u >&2
	exit 1
fi
echo "generated files are up to date"
