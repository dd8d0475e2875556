// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"fmt"
	"strings"
	"testing"
)

// TestTooManyComponents: a list that could not be kept in full says so.
func TestTooManyComponents(t *testing.T) {
	for _, n := range []int{maxMaven, maxMaven + 1} {
		var b strings.Builder
		b.WriteString(gradleLockHead + "\n")
		for i := range n {
			fmt.Fprintf(&b, "com.dynors:m%d:1.0.0=runtimeClasspath\n", i)
		}
		b.WriteString("empty=\n")
		rep, err := Read(strings.NewReader(b.String()), Options{})
		if err != nil {
			t.Fatal(err)
		}
		if len(rep.Maven.Components) != maxMaven || rep.Maven.Incomplete != (n > maxMaven) || int(rep.Components) != n {
			t.Errorf("of %d: %d, incomplete %v", n, len(rep.Maven.Components), rep.Maven.Incomplete)
		}
	}
	long := strings.Repeat("a", 240)
	var list mavenList
	for i := range maxMavenBytes / 250 {
		list.component("com.dynors", fmt.Sprintf("%s%d", long, i), "1.0.0", "", nil)
	}
	if !list.incomplete || list.bytes > maxMavenBytes {
		t.Errorf("%d bytes, incomplete %v", list.bytes, list.incomplete)
	}
}

// TestWhichComponent: what a bill of materials says of a component is neither hidden by what the component descends from, nor
// by how its package URL or its checksums are written.
func TestWhichComponent(t *testing.T) {
	const upper, lower = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	other := strings.Repeat("b", 64)
	ancestor := `<pedigree><ancestors><component type="library"><group>org.other</group><name>y</name><version>1</version><purl>pkg:maven/org.other/y@1</purl></component></ancestors></pedigree>`
	inXML := func(component string) string {
		return `<bom xmlns="http://cyclonedx.org/schema/bom/1.6" version="1"><components>` + component + `</components></bom>`
	}
	inJSON := func(component string) string {
		return `{"bomFormat": "CycloneDX", "specVersion": "1.6", "components": [` + component + `]}`
	}
	for name, c := range map[string]struct{ text, want string }{
		"an ancestor": {inXML(`<component type="library"><group>com.dynors</group><name>core</name><version>1-SNAPSHOT</version>
			<purl>pkg:maven/com.dynors/core@1-SNAPSHOT</purl>` + ancestor + `</component>`), "com.dynors:core:1-SNAPSHOT"},
		"an ancestor of one inside": {inXML(`<component type="library"><group>com.dynors</group><name>core</name><version>1</version><components>
			<component type="library"><group>com.dynors</group><name>in</name><version>2</version>` + ancestor + `</component></components></component>`), "com.dynors:core:1 com.dynors:in:2"},
		"upper case": {inJSON(`{"purl": "pkg:maven/com.dynors/core@1", "hashes": [{"alg": "SHA-256", "content": "` + upper + `"}]}`), "com.dynors:core:1@sha256:" + lower},
		"two checksums": {inJSON(`{"purl": "pkg:maven/com.dynors/core@1", "hashes": [{"alg": "SHA-256", "content": "` + lower + `"}, {"alg": "SHA-256", "content": "` + other + `"}]}`),
			"com.dynors:core:1@sha256:" + lower + " com.dynors:core:1@sha256:" + other},
		"slashes":             {inJSON(`{"purl": "pkg:maven/com.dynors//core@1-SNAPSHOT"}`), "com.dynors:core:1-SNAPSHOT"},
		"an unreadable URL":   {inJSON(`{"group": "com.dynors", "name": "core", "version": "1", "purl": "pkg:maven/core@1"}`), "com.dynors:core:1"},
		"no URL":              {inJSON(`{"group": "com.dynors", "name": "core", "version": "1", "purl": "core"}`), "com.dynors:core:1"},
		"of another kind":     {inJSON(`{"group": "com.dynors", "name": "core", "version": "1", "purl": "pkg:npm/core@1"}`), ""},
		"of an unknown group": {inJSON(`{"name": "core", "version": "1", "purl": "pkg:maven/core@1"}`), ""},
	} {
		t.Run(name, func(t *testing.T) {
			rep, err := Read(strings.NewReader(c.text), Options{})
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(rep.Maven.Components, " "); got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}
