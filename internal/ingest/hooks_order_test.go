// SPDX-License-Identifier: Apache-2.0

package ingest

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/controlplane/cptest"
	"gitlab.com/dynors/sirrat/internal/evidence"
)

// event is a delivery: its source and its body.
type event struct{ source, body string }

// subject is what the events of one check are about.
type subject struct{ commit, digest, version string }

// newSubject is the nth: no two have a commit, an image or a version in common.
func newSubject(n int) subject {
	commit := fmt.Sprintf("%07x%s", n, hashOf(n)[:33])
	return subject{commit, "sha256:" + hashOf(commit), fmt.Sprintf("v1.%d.0", n)}
}

// event is any that a product sends about it. Ids, times and words are few, so that many contradict each other.
func (s subject) event(t *rapid.T) event {
	oneOf := func(words ...string) string { return rapid.SampledFrom(words).Draw(t, "word") }
	id := rapid.IntRange(9, 11).Draw(t, "id")
	time := id - 9
	var e event
	switch rapid.SampledFrom([]string{"pipeline", "job", "deployment", "tag", "scan", "scan", "harbor", "sonarqube", "sonarqube"}).Draw(t, "kind") {
	case "pipeline":
		e = event{"gitlab", pipelineEvent(id, 50+rapid.IntRange(0, 1).Draw(t, "job"), oneOf("success", "failed", "canceled", "skipped", "running"))}
		if rapid.Bool().Draw(t, "of the tag") {
			e.body = strings.Replace(e.body, `"ref":"main"`, `"tag":true,"ref":"`+s.version+`"`, 1)
		}
	case "job":
		e = event{"gitlab", jobEvent("lint", id, oneOf("success", "failed", "skipped", "canceled", "running"))}
	case "deployment":
		e = event{"gitlab", deploymentEvent(id, "dev", oneOf("success", "failed", "canceled", "running"))}
	case "tag":
		e = event{"gitlab", tagEvent(oneOf(s.version, s.version[1:], "nightly"), someCommit)}
		if rapid.Bool().Draw(t, "deleted") {
			e.body = `{"object_kind":"tag_push","ref":"refs/tags/` + s.version + `","checkout_sha":null}`
		}
	case "scan":
		e = event{"harbor", scanEvent(oneOf("SCANNING_COMPLETED", "SCANNING_COMPLETED", "SCANNING_FAILED", "SCANNING_STOPPED"), time, hookDigest,
			oneOf("", "latest", "dev-"+someCommit[:7], "dev-"+someCommit[:9], someCommit), oneOf("", `"Critical":1`, `"High":2,"Low":1`, `"High":1,"Unknown":3`))}
	case "harbor":
		e = event{"harbor", scanEvent(oneOf(`PUSH_ARTIFACT`, `REPLICATION`, `QUOTA_EXCEED`, `QUOTA_WARNING`), time, hookDigest, "dev-"+someCommit[:7], "")}
	default:
		e = event{"sonarqube", sonarEvent(oneOf("", "a", "b"), oneOf("OK", "ERROR", "NONE"), time)}
		e.body = strings.Replace(e.body, `{"metric":"coverage","value":"81.5","status":"OK"}`,
			oneOf("", `{"metric":"coverage","value":"81.5","status":"OK"}`, `{"metric":"coverage","value":"30","status":"ERROR"}`), 1)
	}
	for _, digits := range []int{len(someCommit), 9, 8, 7} {
		e.body = strings.ReplaceAll(e.body, someCommit[:digits], s.commit[:digits])
	}
	e.body = strings.ReplaceAll(e.body, hookDigest, s.digest)
	return e
}

// Whatever the products send, in whatever order it arrives, however often, and whether the server was restarted in between: the same
// is stored in the end, and the same counts. The version is the same unless its own tags contradict each other: see TestTagHooks.
func TestHooksInAnyOrder(t *testing.T) {
	inOrder, shuffled := newHooked(t, nil), newHooked(t, nil)
	checks(t, 30)
	var subjects int
	rapid.Check(t, func(rt *rapid.T) {
		subjects++
		s := newSubject(subjects)
		events := rapid.SliceOfN(rapid.Custom(s.event), 2, 7).Draw(rt, "events")
		mixed := rapid.Permutation(append(events, rapid.SliceOfN(rapid.SampledFrom(events), 0, 4).Draw(rt, "again")...)).Draw(rt, "mixed")
		release := rapid.SampledFrom([]string{"", "without an image", "with the image"}).Draw(rt, "release")
		for _, b := range []hooked{inOrder, shuffled} {
			b.api.hookRates.forget()
			if release != "" {
				b.releaseOf(rt, s, release == "with the image", inOrder, shuffled)
			}
		}
		for _, e := range events {
			inOrder.takes(rt, e, inOrder.url)
		}
		for i, e := range mixed {
			url := shuffled.url
			if i > len(mixed)/2 {
				url = inOrder.url // another process, which remembers nothing of the first
			}
			shuffled.takes(rt, e, url)
		}
		want, wantVersion := inOrder.storedOn(rt, s)
		got, version := shuffled.storedOn(rt, s)
		if diff := cmp.Diff(want, got); diff != "" || version != wantVersion {
			rt.Fatalf("another order, another state; versions %q and %q (-in order +shuffled):\n%s", wantVersion, version, diff)
		}
	})
}

// checks sets how many checks rapid makes, unless the command line says so: each of these is some twenty requests.
func checks(t *testing.T, n int) {
	f := flag.Lookup("rapid.checks")
	if was := f.Value.String(); was == f.DefValue {
		_ = f.Value.Set(strconv.Itoa(n))
		t.Cleanup(func() { _ = f.Value.Set(was) })
	}
}

// forget lets every project send as much as at the beginning.
func (h *hookRates) forget() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.of = nil
}

// takes delivers to a server and checks that it is content.
func (b hooked) takes(t *rapid.T, e event, url string) {
	there := *b.bridge
	there.url = url
	if status, answer := (hooked{&there}).deliver(e.source, e.body); status >= 300 {
		t.Fatalf("%d %+v: %s", status, answer, e.body)
	}
}

// releaseOf creates the release of a subject, and waits until all servers know it.
func (b hooked) releaseOf(t *rapid.T, s subject, image bool, servers ...hooked) {
	r := &v1alpha1.Release{ObjectMeta: metav1.ObjectMeta{Name: s.commit[:7], Namespace: b.project}, Spec: v1alpha1.ReleaseSpec{Commit: s.commit, Branch: "main"}}
	if image {
		r.Spec.Images = []v1alpha1.ReleaseImage{{Name: "backend", Digest: s.digest}}
	}
	if err := b.direct.Create(context.Background(), r); err != nil {
		t.Fatal(err)
	}
	for _, server := range servers {
		cptest.Wait(b.t, "a server to know the release", func(context.Context) error {
			if oldest(server.api.hub.releasesWith(b.project, s.commit), s.commit) == nil {
				return errors.New("not yet")
			}
			return nil
		})
	}
}

// storedOn is all that is stored on a subject: its results by name, but for when each arrived, what they come to, and the version.
func (b hooked) storedOn(t *rapid.T, s subject) (stored map[string]any, version string) {
	var results v1alpha1.CIResultList
	if err := b.direct.List(context.Background(), &results, client.InNamespace(b.project), client.MatchingLabels{v1alpha1.LabelCommit: s.commit[:7]}); err != nil {
		t.Fatal(err)
	}
	stored = map[string]any{}
	for i, r := range results.Items {
		results.Items[i].Spec.Received = metav1.Time{}
		stored[r.Name] = results.Items[i].Spec
	}
	stored["evidence"] = evidence.Reduce(results.Items).Results
	d := evidence.Deployments(results.Items)["dev"].Spec
	stored["deployment"] = d.Status + " " + d.Run
	if release := oldest(b.releasesOf(t), s.commit); release != nil {
		version = release.Spec.Version
	}
	return stored, version
}

func (b hooked) releasesOf(t *rapid.T) []*v1alpha1.Release {
	stored, err := b.api.storedReleases(context.Background(), b.project)
	if err != nil {
		t.Fatal(err)
	}
	return stored
}

// Two verdicts of one second, of which one has the coverage: neither is known to be the newer, so that the failure counts, and the
// coverage with it, whichever arrived first.
func TestVerdictsOfOneSecond(t *testing.T) {
	covered := sonarEvent("a", "OK", 1)
	failed := strings.Replace(sonarEvent("b", "ERROR", 1), `{"metric":"coverage","value":"81.5","status":"OK"}`, "", 1)
	var stored []map[string]v1alpha1.CIResultSpec
	for _, order := range [][]string{{covered, failed}, {failed, covered}} {
		b := newHooked(t, nil)
		for _, body := range order {
			b.want("sonarqube", body, hookStored)
		}
		quality := b.evidence().Results[v1alpha1.TypeQuality]
		if quality.Status != v1alpha1.StatusFailed || quality.Coverage == nil || *quality.Coverage != 81.5 {
			t.Errorf("%+v", quality)
		}
		results := map[string]v1alpha1.CIResultSpec{}
		for _, r := range b.ciResults() {
			r.Spec.Received = metav1.Time{}
			results[r.Name] = r.Spec
		}
		stored = append(stored, results)
	}
	if diff := cmp.Diff(stored[0], stored[1]); diff != "" {
		t.Errorf("another order, another state:\n%s", diff)
	}
}
