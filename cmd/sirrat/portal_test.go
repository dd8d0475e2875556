// SPDX-License-Identifier: Apache-2.0

package main

import "testing"

// TestReachable: GitLab is given no links that no browser can follow.
func TestReachable(t *testing.T) {
	for address, want := range map[string]bool{
		"":                             false,
		"https://sirrat.dynors.com":    true,
		"http://10.1.2.3:8080":         true,
		"https://svc.example/below":    true,
		"http://sirrat.default.svc:80": false,
		"http://sirrat.default.svc.cluster.local:80": false,
		"http://sirrat.default.svc.:80":              false,
	} {
		if got := reachable(address); got != want {
			t.Errorf("%q: %t", address, got)
		}
	}
}
