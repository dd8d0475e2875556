// SPDX-License-Identifier: Apache-2.0

package ingest

import (
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

// TestMavenComponents: what a bill of materials and a lock file list is kept with the result, for gates to ask about.
func TestMavenComponents(t *testing.T) {
	b, _ := newArchived(t, true)
	body, header := form(t, "file", upload{"bom.json", sample(t, "cyclonedx/gradle-modules.json")},
		upload{"gradle.lockfile", sample(t, "gradlelock/gradle.lockfile")}, upload{"TEST-a.xml", sample(t, "junit/jest-junit.xml")})
	for _, want := range []int{http.StatusCreated, http.StatusOK} { // the same again is the same
		if status, _, raw := b.sendFiles("commit="+someCommit+"&pipeline=7", body, header); status != want {
			t.Fatalf("%d %s", status, raw)
		}
	}
	got := map[string]*v1alpha1.MavenComponents{}
	for _, r := range b.ciResults() {
		got[r.Spec.Job] = r.Spec.Maven
	}
	want := map[string]*v1alpha1.MavenComponents{
		"bom.json": {Components: []string{"com.dynors:core:2.1.0@" + sampleDigest, "com.dynors:ext:1.4.0-SNAPSHOT", "com.dynors:pdf:?", "org.slf4j:slf4j-api:2.0.16"}},
		"gradle.lockfile": {Components: []string{"com.dynors:core:2.1.0", "com.dynors:ext:1.4.0-SNAPSHOT",
			"org.springframework.boot:spring-boot:3.5.7"}},
		"TEST-a.xml": nil,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
