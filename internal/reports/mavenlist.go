// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"maps"
	"regexp"
	"slices"
	"strings"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/maven"
)

// Bounds of what is kept of Maven components, as the CIResult's schema has them: an object of the cluster holds the list.
const (
	maxMaven      = 4096
	maxMavenBytes = 512 << 10
)

// mavenList collects Maven components. What is too much to be kept is not passed over: the list says that it is incomplete.
type mavenList struct {
	seen       map[string]bool
	bytes      int
	incomplete bool
}

var sha256Digest = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)

// component adds a component of a bill of materials if it is Maven's: by its package URL, or, where it has none that can be
// read, by its group and name. Of several SHA-256 each counts: bytes that are called two things must be both.
func (m *mavenList) component(group, module, version, purl string, hashes []string) {
	c, ok := maven.ParsePURL(purl)
	if kind := maven.PURLType(purl); !ok && (kind == "" || kind == "maven") {
		c, ok = maven.Named(group, module, version)
	}
	if !ok {
		return // of another kind
	}
	hashed := false
	for _, h := range hashes {
		if h = strings.ToLower(h); sha256Digest.MatchString(h) { // CycloneDX takes both cases
			m.add(c, h)
			hashed = true
		}
	}
	if !hashed {
		m.add(c, "")
	}
}

func (m *mavenList) add(c maven.Coordinates, digest string) {
	text := c.String()
	if digest != "" {
		text += "@" + digest
	}
	switch {
	case m.seen[text]:
	case len(m.seen) == maxMaven || m.bytes+len(text) > maxMavenBytes:
		m.incomplete = true
	default:
		if m.seen == nil {
			m.seen = map[string]bool{}
		}
		m.seen[text], m.bytes = true, m.bytes+len(text)
	}
}

func (m *mavenList) list() *v1alpha1.MavenComponents {
	return &v1alpha1.MavenComponents{Components: slices.Sorted(maps.Keys(m.seen)), Incomplete: m.incomplete}
}
