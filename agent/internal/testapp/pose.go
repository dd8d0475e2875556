// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// clients are programs that images have to ask their own server how it is.
var clients = []string{"pg_isready", "redis-cli", "mysqladmin", "rabbitmq-diagnostics", "curl", "wget"}

// pose makes it behave as what a compose file of the real world expects in an image, by the name it is called by: the client
// that a healthcheck asks, a shell around one, or a command that ends.
func pose() {
	switch name := filepath.Base(os.Args[0]); {
	case slices.Contains(clients, name):
		os.Args = []string{"/app", "health"}
	case name == "sh":
		command := strings.Join(os.Args[1:], " ")
		if !slices.ContainsFunc(clients, func(c string) bool { return strings.Contains(command, c) }) {
			os.Exit(0)
		}
		os.Args = []string{"/app", "health"}
	case len(os.Args) > 1 && os.Args[1] == "migrate":
		os.Exit(0)
	}
}
