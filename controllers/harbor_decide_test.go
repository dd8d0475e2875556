// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/harbor"
)

var heldBackend = v1alpha1.FrozenImage{Name: "backend", Repository: "harbor.example/shop/backend", Digest: "sha256:" + strings.Repeat("1", 64)}

// harborResult is a scan of an image of Harbor's, stored.
func harborResult(img v1alpha1.FrozenImage, run string) v1alpha1.CIResult {
	return v1alpha1.CIResult{ObjectMeta: metav1.ObjectMeta{Name: img.Name + "-" + run}, Spec: v1alpha1.CIResultSpec{
		Type: v1alpha1.TypeScan, Source: v1alpha1.SourceHarbor, Digest: img.Digest, Job: img.Digest, Run: run, Status: v1alpha1.StatusPassed,
	}, Status: v1alpha1.CIResultStatus{Archived: true}}
}

func TestDecideScan(t *testing.T) {
	known := []v1alpha1.CIResult{harborResult(heldBackend, "5")}
	foreign := harborResult(heldBackend, "7")
	foreign.Spec.Source = "abcd1234" // somebody with a token says that it is Harbor's
	elsewhere := harborResult(heldBackend, "7")
	elsewhere.Spec.Digest = "sha256:" + strings.Repeat("2", 64)
	now := time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	for _, c := range []struct {
		name    string
		in      harbor.Overview
		results []v1alpha1.CIResult
		action  scanAction
		reason  string
		says    string
	}{
		{"none", harbor.Overview{State: harbor.Unscanned}, nil, scanAsk, v1alpha1.ReasonScanning, "has no scan"},
		{"one platform has none", harbor.Overview{State: harbor.Unscanned, Partial: []string{"linux/arm64 is Unscanned"}}, nil, scanAsk, v1alpha1.ReasonScanning, "(linux/arm64 is Unscanned)"},
		{"under way", harbor.Overview{State: harbor.Scanning}, nil, scanWait, v1alpha1.ReasonScanning, "being scanned"},
		{"failed", harbor.Overview{State: harbor.Failed}, nil, scanAsk, v1alpha1.ReasonScanFailed, "without a report"},
		{"stopped", harbor.Overview{State: harbor.Stopped}, nil, scanAsk, v1alpha1.ReasonScanFailed, "without a report"},
		{"new", harbor.Overview{State: harbor.Scanned, Run: 7}, known, scanFetch, v1alpha1.ReasonScanned, ""},
		{"known", harbor.Overview{State: harbor.Scanned, Run: 5}, known, scanRest, v1alpha1.ReasonScanned, ""},
		{"another's word", harbor.Overview{State: harbor.Scanned, Run: 7}, []v1alpha1.CIResult{foreign, elsewhere}, scanFetch, v1alpha1.ReasonScanning, ""},
		{"scanned anew", harbor.Overview{State: harbor.Scanning}, known, scanWait, v1alpha1.ReasonScanned, ""},
		{"forgotten by Harbor", harbor.Overview{State: harbor.Unscanned}, known, scanAsk, v1alpha1.ReasonScanned, ""},
		{"the newest failed", harbor.Overview{State: harbor.Failed}, known, scanAsk, v1alpha1.ReasonScanFailed, "without a report"},
		{"takes its time", harbor.Overview{State: harbor.Scanning, Started: ago(59 * time.Minute)}, nil, scanWait, v1alpha1.ReasonScanning, "being scanned"},
		{"never ends", harbor.Overview{State: harbor.Scanning, Started: ago(61 * time.Minute)}, nil, scanWait, v1alpha1.ReasonScanFailed, "no report since 2026-11-23T07:59:00Z: look at the scanner"},
		{"never ends anew", harbor.Overview{State: harbor.Scanning, Started: ago(61 * time.Minute)}, known, scanWait, v1alpha1.ReasonScanFailed, "no report since"},
		{"never begins", harbor.Overview{State: harbor.Scanning}, []v1alpha1.CIResult{elsewhere}, scanWait, v1alpha1.ReasonScanFailed, "no report since 2026-11-23T07:00:00Z"},
		{"ends tomorrow", harbor.Overview{State: harbor.Scanned, Run: ago(-24 * time.Hour).UnixMilli()}, known, scanWait, v1alpha1.ReasonHarborError, "set Harbor's clock"},
		{"ends in a minute", harbor.Overview{State: harbor.Scanned, Run: ago(-time.Minute).UnixMilli()}, known, scanFetch, v1alpha1.ReasonScanned, ""},
		{"a state of its own", harbor.Overview{State: "Hmm"}, nil, scanWait, v1alpha1.ReasonScanning, ""},
	} {
		waits := time.Time{}
		if c.name == "never begins" {
			waits = ago(2 * time.Hour)
		}
		got := decideScan(heldBackend, c.in, c.results, now, waits)
		if got.action != c.action || got.reason != c.reason || !strings.Contains(got.message, c.says) {
			t.Errorf("%s: %+v", c.name, got)
		}
	}
}

func TestAwaitedScans(t *testing.T) {
	web := v1alpha1.FrozenImage{Name: "web", Repository: "docker.io/shop/web", Digest: "sha256:" + strings.Repeat("3", 64)}
	project := func(h *v1alpha1.Harbor) *v1alpha1.Project {
		return &v1alpha1.Project{Spec: v1alpha1.ProjectSpec{Harbor: h, Images: []v1alpha1.ProjectImage{
			{Name: "backend", Repository: heldBackend.Repository}, {Name: "web", Repository: web.Repository},
		}}}
	}
	on := &v1alpha1.HarborScan{Enabled: true}
	here := &v1alpha1.Harbor{URL: "https://harbor.example", Scan: on}
	both := []v1alpha1.FrozenImage{heldBackend, web}
	for _, c := range []struct {
		name    string
		harbor  *v1alpha1.Harbor
		images  []v1alpha1.FrozenImage
		results []v1alpha1.CIResult
		want    string
	}{
		{"no Harbor", nil, both, nil, ""},
		{"not asked for", &v1alpha1.Harbor{URL: "https://harbor.example", Scan: &v1alpha1.HarborScan{}}, both, nil, ""},
		{"not pinned", here, nil, nil, "once they are pinned"},
		{"not scanned", here, both, nil, "Harbor scans the image backend"},
		{"scanned; another registry's image is none of Harbor's", here, both, []v1alpha1.CIResult{harborResult(heldBackend, "1")}, ""},
		{"nothing there", &v1alpha1.Harbor{URL: "https://other.example", Scan: on}, both, nil, "no image is on other.example"},
		{"no address", &v1alpha1.Harbor{Scan: on}, both, nil, "spec.harbor.url"},
	} {
		got := awaitedScans(project(c.harbor), c.results, c.images)
		if c.want == "" && got != "" || !strings.Contains(got, c.want) {
			t.Errorf("%s: %q", c.name, got)
		}
	}
	alone := project(&v1alpha1.Harbor{Scan: on})
	alone.Spec.Images = alone.Spec.Images[:1]
	if place, err := harborOf(alone); err != nil || place != (harborPlace{"https://harbor.example", "harbor.example"}) {
		t.Errorf("derived: %+v, %v", place, err)
	}
}

// A password that was given for the registry's host is not sent to another.
func TestAccountHost(t *testing.T) {
	for _, c := range []struct{ address, registry, want string }{
		{"https://harbor.example", "harbor.example", "harbor.example"},
		{"https://harbor.example:8443/proxied", "harbor.example", "harbor.example"},
		{"https://Harbor.example", "harbor.example:5000", "harbor.example:5000"},
		{"https://elsewhere.example", "harbor.example", "elsewhere.example"},
		{"https://elsewhere.example:8443/x", "harbor.example", "elsewhere.example:8443"},
		{"https://[::1]:8443", "127.0.0.1:5000", "[::1]:8443"},
	} {
		if got := (harborPlace{c.address, c.registry}).accountHost(); got != c.want {
			t.Errorf("%+v: %s", c, got)
		}
	}
}

func TestOutdatedScans(t *testing.T) {
	var all []v1alpha1.CIResult
	for _, run := range []string{"9", "10", "11", "100", "2"} {
		all = append(all, harborResult(heldBackend, run))
	}
	all[4].Status.Archived = false
	other := heldBackend
	other.Name, other.Digest = "web", "sha256:"+strings.Repeat("2", 64)
	all = append(all, harborResult(other, "1"))
	var names []string
	for _, r := range outdatedScans(all, heldBackend, 2) {
		names = append(names, r.Name)
	}
	if diff := cmp.Diff([]string{"backend-10", "backend-9"}, names); diff != "" {
		t.Error(diff)
	}
}

func TestDecideArrival(t *testing.T) {
	for _, c := range []struct {
		state         harbor.Copying
		start, tagged bool
		reason        string
		ok, starts    bool
	}{
		{harbor.Copied, false, false, v1alpha1.ReasonReplicated, true, false},
		{harbor.UnderWay, true, true, v1alpha1.ReasonReplicating, false, false},
		{harbor.NotCopied, true, true, v1alpha1.ReasonReplicationFailed, false, false},
		{harbor.NotStarted, false, true, v1alpha1.ReasonReplicating, false, false},
		{harbor.NotStarted, true, false, v1alpha1.ReasonReplicating, false, false},
		{harbor.NotStarted, true, true, v1alpha1.ReasonReplicating, false, true},
		{"", false, true, v1alpha1.ReasonReplicating, false, false},
	} {
		got := decideArrival(harbor.Replication{State: c.state}, v1alpha1.HarborReplication{Policy: "to-client", Start: c.start}, "a", c.tagged)
		if got.ok != c.ok || got.reason != c.reason || got.start != c.starts || !strings.Contains(got.message, "to-client") {
			t.Errorf("%+v: %+v", c, got)
		}
	}
}

// What is waited for is asked for less and less often, and after trouble later.
func TestArrivalPause(t *testing.T) {
	var got []time.Duration
	last := arrival{}
	for range 6 {
		last.pause = last.nextPause(arrivalLook)
		got = append(got, last.pause)
	}
	s := time.Second
	if diff := cmp.Diff([]time.Duration{5 * s, 10 * s, 20 * s, 40 * s, 60 * s, 60 * s}, got); diff != "" {
		t.Error(diff)
	}
	if p := (arrival{pause: arrivalLook}).nextPause(arrivalRetry); p != arrivalRetry {
		t.Errorf("after trouble: %s", p)
	}
}

// A scanner's name comes from outside.
func TestScanResult(t *testing.T) {
	spec := scanResult(&v1alpha1.Release{Spec: v1alpha1.ReleaseSpec{Commit: "a1b2c3d"}}, heldBackend,
		harbor.Overview{Run: 5, Scanner: "Tri\x1bvy\n" + strings.Repeat("é", 300)}, harbor.Report{Counts: harbor.Counts{Critical: 1, High: 2, Medium: 3, Low: 4}})
	if n := len([]rune(spec.Producer)); n != maxProducer || !strings.HasPrefix(spec.Producer, "Harbor, Trivyéé") {
		t.Errorf("%d %q", n, spec.Producer)
	}
	if got := fmt.Sprint(*spec.Vulnerabilities); got != "{1 2 3 4}" {
		t.Error(got)
	}
}
