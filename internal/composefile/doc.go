// SPDX-License-Identifier: Apache-2.0

// Package composefile reads compose files that other people wrote: for the controllers, which freeze the images that a
// file names, and for the agent, which runs it. Both must see the same thing, so both read it here.
//
// Load is a pure function of its arguments: no process environment, no .env, no COMPOSE_FILE, no working directory, no
// file, no network. Its input is hostile until proven otherwise: size, depth, aliases, interpolation and ranges are
// bounded before the file is expanded. What the resolved model may ask of a server is judged by internal/hostpolicy.
//
// It may import compose-go and a YAML parser only.
package composefile
