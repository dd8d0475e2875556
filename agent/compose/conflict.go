// SPDX-License-Identifier: Apache-2.0

package compose

import (
	"fmt"
	"regexp"
	"strings"
)

// What the engine says of conflicts, in the words of its source.
var (
	nameTaken = regexp.MustCompile(`[Tt]he container name "/?([^"]+)" is already in use by container "?([0-9a-f]{12})`)
	portTaken = regexp.MustCompile(`(?:Bind for|listen (?:tcp|udp)[46]?) (\S+?:\d+)(?::| failed)`)
)

// conflict says in plain words what stands in the way, and the way out; other errors pass as they are.
func conflict(err error) error {
	text := err.Error()
	if m := nameTaken.FindStringSubmatch(text); m != nil {
		return fmt.Errorf("another container (%s) has the name %s: remove or rename it: %w", m[2], m[1], err)
	}
	switch lower := strings.ToLower(text); {
	case strings.Contains(lower, "port is already allocated"), strings.Contains(lower, "address already in use") && strings.Contains(lower, "port"),
		strings.Contains(lower, "failed to bind host port"):
		port := "a port of the server"
		if m := portTaken.FindStringSubmatch(text); m != nil {
			port = "the port " + m[1]
		}
		return fmt.Errorf("%s is taken by another container or program: free it or publish another one: %w", port, err)
	case strings.Contains(lower, "pool overlaps"), strings.Contains(lower, "address space") && strings.Contains(lower, "overlap"):
		return fmt.Errorf("a network's subnet overlaps that of another network on this server: give it another one: %w", err)
	case strings.Contains(lower, "could not find an available") && strings.Contains(lower, "address pool"),
		strings.Contains(lower, "all predefined address pools have been fully subnetted"):
		return fmt.Errorf("the engine has no subnet left for another network: remove networks that nobody uses: %w", err)
	case strings.Contains(lower, "address already in use"):
		return fmt.Errorf("a fixed address is taken by another container of the same network: %w", err)
	}
	return err
}
