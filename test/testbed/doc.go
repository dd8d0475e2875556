// SPDX-License-Identifier: Apache-2.0

// Package testbed is the ground of tests that take servers of their own: Docker engines and agents, each server in a network
// namespace of its own, so that they do not meet and use the same names and ports as on real ones. That takes root, dockerd
// and iptables. Only tests import it.
package testbed

import (
	"os"
	"os/exec"
	"testing"
	"time"
)

// Deadline of everything that a test waits for.
const Deadline = 5 * time.Minute

// poll is the time between two looks at what is waited for.
const poll = 20 * time.Millisecond

// Need skips a test where no server can be made, and fails it where only a program is missing.
func Need(t testing.TB) {
	t.Helper()
	if testing.Short() {
		t.Skip("takes a Docker engine of its own and minutes")
	}
	if os.Getuid() != 0 {
		t.Skip("takes root: engines and network namespaces of its own are made")
	}
	for _, program := range []string{"dockerd", "iptables", "mount"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Fatalf("%v: apt-get install docker.io iptables mount", err)
		}
	}
}

// Wait polls check until it returns nil, and fails the test with its last error when the deadline has passed.
func Wait(t testing.TB, what string, check func() error) {
	t.Helper()
	end := time.Now().Add(Deadline)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("wait for %s: %v", what, err)
		}
		time.Sleep(poll)
	}
}
