// SPDX-License-Identifier: Apache-2.0

// Package version holds the version that the build sets. It imports nothing.
package version

// Version is set with -ldflags "-X gitlab.com/dynors/sirrat/internal/version.Version=…".
var Version = "dev"
