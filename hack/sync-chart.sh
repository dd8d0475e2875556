#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Copies CRDs, roles and admission policies from config/ into the chart, so that the chart is whole by itself.
set -eu
cd "$(dirname "$0")/.."

chart=charts/sirrat

# copy SOURCE TARGET: TARGET holds exactly the YAML files of SOURCE afterwards.
copy() {
	mkdir -p "$2"
	rm -f "$2"/*.yaml
	for file in "$1"/*.yaml; do
		if [ -f "$file" ]; then
			cp "$file" "$2/"
		fi
	done
}

copy config/crd "$chart/crds"
copy config/rbac "$chart/files/rbac"
copy config/policies "$chart/files/policies"
