// SPDX-License-Identifier: Apache-2.0

package controllers_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/controlplane/cptest"
	"gitlab.com/dynors/sirrat/internal/harbor/harbortest"
	"gitlab.com/dynors/sirrat/internal/registry/registrytest"
)

// harborRepository of the bench's image, in Harbor.
const harborRepository = "shop/team/api"

// newHarborBench is a bench whose image is in a Harbor, on which both gates rely for scans; of its registry part the bench's own
// registry is enough.
func newHarborBench(t *testing.T, spec string) (*bench, *harbortest.Harbor) {
	t.Helper()
	b, h := newBench(t), harbortest.Start(t)
	registry, _, _ := strings.Cut(b.repo, "/")
	b.repo = registry + "/" + harborRepository
	b.setUp(b.compose())
	b.create(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "harbor", Namespace: b.project}, Type: corev1.SecretTypeBasicAuth, Data: map[string][]byte{
		"username": []byte(harbortest.Username), "password": []byte(harbortest.Password), "ca.crt": h.CA(),
	}})
	b.harbor(fmt.Sprintf(`{"url":%q,"registry":%q,"secretRef":"harbor",%s}`, h.URL(), registry, spec))
	return b, h
}

// harbor changes spec.harbor of the project.
func (b *bench) harbor(patch string) {
	b.t.Helper()
	if err := b.patch(&v1alpha1.Project{ObjectMeta: metav1.ObjectMeta{Name: b.project}}, `{"spec":{"harbor":`+patch+`}}`); err != nil {
		b.t.Fatal(err)
	}
}

// demandScans has both gates ask for a scan without critical findings.
func (b *bench) demandScans() {
	b.t.Helper()
	none := int32(0)
	for _, name := range []string{"ci", "production"} {
		cptest.Wait(b.t, "gate "+name+" to ask for scans", func(ctx context.Context) error {
			var g v1alpha1.QualityGate
			if err := b.c.Get(ctx, client.ObjectKey{Namespace: b.project, Name: name}, &g); err != nil {
				return err
			}
			g.Spec.Criteria = append(g.Spec.Criteria, v1alpha1.Criterion{Name: "scan", Result: &v1alpha1.ResultCriterion{Type: v1alpha1.TypeScan, MaxCritical: &none}})
			return b.c.Update(ctx, &g)
		})
	}
}

// scanKarma waits for the points that the scan gives.
func (b *bench) scanKarma(rel *v1alpha1.Release, says string) {
	b.t.Helper()
	cptest.Wait(b.t, "karma to say of the scan: "+says, func(ctx context.Context) error {
		if err := b.c.Get(ctx, client.ObjectKeyFromObject(rel), rel); err != nil {
			return err
		}
		for _, line := range rel.Status.KarmaBreakdown {
			if line.Name == "scan" && strings.Contains(fmt.Sprintf("%d: %s", line.Points, line.Message), says) {
				return nil
			}
		}
		return fmt.Errorf("%+v", rel.Status.KarmaBreakdown)
	})
}

// scansStored are the results that were fetched from Harbor.
func (b *bench) scansStored() []v1alpha1.CIResult {
	b.t.Helper()
	var list v1alpha1.CIResultList
	if err := b.c.List(b.t.Context(), &list, client.InNamespace(b.project)); err != nil {
		b.t.Fatal(err)
	}
	var out []v1alpha1.CIResult
	for _, r := range list.Items {
		if r.Spec.Source == v1alpha1.SourceHarbor {
			out = append(out, r)
		}
	}
	return out
}

// secretsKept looks for the robot's password in all that people and programs read.
func (b *bench) secretsKept() {
	b.t.Helper()
	for _, list := range []client.ObjectList{&v1alpha1.ReleaseList{}, &v1alpha1.CIResultList{}, &v1alpha1.EnvironmentList{}, &v1alpha1.ProjectList{}, &corev1.EventList{}} {
		if err := b.c.List(b.t.Context(), list, client.InNamespace(b.project)); err != nil {
			b.t.Fatal(err)
		}
		if strings.Contains(fmt.Sprintf("%+v", list), harbortest.Password) {
			b.t.Errorf("the password is in %T", list)
		}
	}
}

// posts counts the calls of a kind that changes something.
func posts(calls []string) (n int) {
	for _, c := range calls {
		if strings.HasPrefix(c, http.MethodPost+" ") {
			n++
		}
	}
	return n
}

// TestHarborScanIsEvidence: a release that has no scan gets one, asked for once; until it is there a pipeline's pass does not
// count; then it does, and a later scan that finds more judges it anew.
func TestHarborScanIsEvidence(t *testing.T) {
	b, h := newHarborBench(t, `"scan":{"enabled":true}`)
	b.demandScans()
	digest := b.push("dev-aaaaaaa").String()
	h.Put(harborRepository, digest, harbortest.Image{})
	b.create(&v1alpha1.CIResult{ObjectMeta: metav1.ObjectMeta{Name: "aaaaaaa-scan-ci", Namespace: b.project}, Spec: v1alpha1.CIResultSpec{
		Commit: commitA, Type: v1alpha1.TypeScan, Status: v1alpha1.StatusPassed, Pipeline: "7", Received: metav1.Now(),
		Vulnerabilities: &v1alpha1.VulnerabilityCounts{Medium: 2}, ReportHash: "sha256:" + strings.Repeat("0", 64),
	}})
	rel := b.release(commitA)
	b.told(rel, v1alpha1.ConditionScanned, v1alpha1.ReasonScanning, "backend is being scanned")
	b.judged(rel, "ci", v1alpha1.VerdictWaiting, "Harbor scans the image backend")
	b.scanKarma(rel, "0: no report")
	if n := posts(h.Take()); n != 1 {
		t.Errorf("asked for %d scans", n)
	}
	if got := b.scansStored(); len(got) != 0 {
		t.Fatalf("stored %+v", got)
	}

	first := time.Now().UTC().Truncate(time.Second).Add(-2 * time.Hour)
	h.Scan(harborRepository, digest, first, "High", "Negligible")
	b.told(rel, v1alpha1.ConditionScanned, v1alpha1.ReasonScanned)
	b.judged(rel, "ci", v1alpha1.VerdictPassed, "scan passed")
	b.scanKarma(rel, "1 high, 2 medium") // the worst of both, and no sum
	b.report(b.rollout("dev", func(*v1alpha1.Rollout) error { return nil }), v1alpha1.RolloutHealthy)
	stored := b.scansStored()
	if len(stored) != 1 {
		t.Fatalf("stored %+v", stored)
	}
	s := stored[0].Spec
	if s.Digest != digest || s.Job != digest || s.Run != fmt.Sprint(first.UnixMilli()) || s.Producer != "Harbor, Trivy v0.58.1" || *s.Vulnerabilities != (v1alpha1.VulnerabilityCounts{High: 1, Low: 1}) {
		t.Errorf("stored %+v", s)
	}
	raw, err := running.Archive.Get(t.Context(), s.ReportHash)
	if err != nil || !strings.Contains(string(raw), "CVE-2026-0001") {
		t.Errorf("archive: %s, %v", raw, err)
	}
	cptest.Wait(t, "the scan to be in the journal", func(ctx context.Context) error {
		var r v1alpha1.CIResult
		if err := b.c.Get(ctx, client.ObjectKeyFromObject(&stored[0]), &r); err != nil || !r.Status.Archived {
			return fmt.Errorf("%+v, %w", r.Status, err)
		}
		return nil
	})

	b.annotate(rel, v1alpha1.ApprovalPrefix+"production", "sirrat:server")
	b.rollout("production", func(*v1alpha1.Rollout) error { return nil })
	h.Scan(harborRepository, digest, first.Add(time.Hour), "Critical", "High")
	b.harbor(`{"scan":{"interval":"1h"}}`) // looks at once
	b.scanKarma(rel, "0: 1 critical")
	next := b.release(commitB)
	b.told(next, v1alpha1.ConditionFrozen, v1alpha1.ReasonImageNotFound)
	b.judged(next, "ci", v1alpha1.VerdictWaiting, "once they are pinned")
	if got := b.scansStored(); len(got) != 2 {
		t.Errorf("stored %+v", got)
	}
	if n := posts(h.Take()); n != 0 {
		t.Errorf("asked for %d more scans", n)
	}
	b.secretsKept()
}

// TestHarborRescanCloses: a gate that was open for want of an approval only is refused once a scan finds a critical.
func TestHarborRescanCloses(t *testing.T) {
	b, h := newHarborBench(t, `"scan":{"enabled":true,"interval":"2h"}`)
	b.demandScans()
	digest := b.push("dev-aaaaaaa").String()
	at := time.Now().UTC().Truncate(time.Second)
	h.Put(harborRepository, digest, harbortest.Image{Status: "Success", Ended: at})
	rel := b.release(commitA)
	b.report(b.rollout("dev", func(*v1alpha1.Rollout) error { return nil }), v1alpha1.RolloutHealthy)
	b.judged(rel, "production", v1alpha1.VerdictWaiting, "approv")
	if n := posts(h.Take()); n != 0 {
		t.Errorf("asked for %d scans of what is scanned", n)
	}
	h.Scan(harborRepository, digest, at.Add(time.Minute), "Critical")
	b.harbor(`{"scan":{"interval":"1h"}}`)
	b.judged(rel, "production", v1alpha1.VerdictRefused, "1 critical findings")
	h.Scan(harborRepository, digest, at.Add(-time.Minute)) // an older scan that is told late changes nothing
	b.harbor(`{"scan":{"interval":"3h"}}`)
	cptest.Wait(t, "the older scan to be stored", func(context.Context) error {
		if got := b.scansStored(); len(got) != 3 {
			return fmt.Errorf("stored %+v", got)
		}
		return nil
	})
	b.scanKarma(rel, "0: 1 critical")
	b.judged(rel, "production", v1alpha1.VerdictRefused, "1 critical findings")
}

// TestHarborIsInTrouble: what is wrong is said, nothing passes meanwhile, and it heals by itself.
func TestHarborIsInTrouble(t *testing.T) {
	other := "sha256:" + strings.Repeat("7", 64)
	for name, c := range map[string]struct {
		fault  func(w http.ResponseWriter, r *http.Request) bool
		spec   string // in place of what is right
		reason string
		says   string
	}{
		"away": {fault: func(w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusServiceUnavailable)
			return true
		}, reason: v1alpha1.ReasonHarborBusy, says: "503"},
		"denied": {fault: func(w http.ResponseWriter, _ *http.Request) bool {
			harbortest.Refuse(w, http.StatusForbidden, "FORBIDDEN")
			return true
		}, reason: v1alpha1.ReasonHarborDenied, says: "spec.harbor.secretRef"},
		"another image's report": {fault: func(w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("Content-Type", "application/json")
			_, _ = fmt.Fprintf(w, `{"digest":%q,"scan_overview":{%q:{"scan_status":"Success","end_time":"2026-11-22T14:04:05Z","summary":{"summary":{}}}}}`, other, harbortest.Form)
			return true
		}, reason: v1alpha1.ReasonHarborError, says: "another image"},
		"no report behind the overview": {fault: func(w http.ResponseWriter, r *http.Request) bool {
			if !strings.HasSuffix(r.URL.Path, "/vulnerabilities") {
				return false
			}
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write([]byte(`{}`))
			return true
		}, reason: v1alpha1.ReasonHarborError, says: "no report"},
		"metadata address":    {spec: `{"url":"https://169.254.169.254"}`, reason: v1alpha1.ReasonHarborError, says: "--allow-private-addresses"},
		"no such Secret":      {spec: `{"secretRef":"none"}`, reason: v1alpha1.ReasonInvalid, says: "Secret none (spec.harbor.secretRef of the Project) does not exist"},
		"no account":          {spec: `{"secretRef":null}`, reason: v1alpha1.ReasonInvalid, says: "there is no account for Harbor"},
		"images on no Harbor": {spec: `{"registry":"other.example"}`, reason: v1alpha1.ReasonInvalid, says: "no image of the project is on other.example"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, h := newHarborBench(t, `"scan":{"enabled":true}`)
			b.demandScans()
			registry, _, _ := strings.Cut(b.repo, "/")
			right := fmt.Sprintf(`{"url":%q,"registry":%q,"secretRef":"harbor"}`, h.URL(), registry)
			if c.spec != "" {
				b.harbor(c.spec)
			}
			h.Misbehave(c.fault)
			digest := b.push("dev-aaaaaaa").String()
			h.Put(harborRepository, digest, harbortest.Image{Status: "Success", Ended: time.Now()})
			rel := b.release(commitA)
			b.told(rel, v1alpha1.ConditionScanned, c.reason, c.says)
			b.judged(rel, "ci", v1alpha1.VerdictWaiting, "")
			if len(rel.Status.Environments) != 0 || len(b.scansStored()) != 0 {
				t.Errorf("let in: %+v", rel.Status.Environments)
			}
			b.secretsKept()
			h.Misbehave(nil)
			if c.spec != "" {
				b.harbor(right)
			}
			b.told(rel, v1alpha1.ConditionScanned, v1alpha1.ReasonScanned)
			b.judged(rel, "ci", v1alpha1.VerdictPassed, "")
		})
	}
}

// TestHarborScanFails: a scan that ended without a report never passes, and is asked for again; where the project's own account for
// its registry may ask, no other is needed.
func TestHarborScanFails(t *testing.T) {
	b, h := newHarborBench(t, `"scan":{"enabled":true}`)
	b.demandScans()
	registry, _, _ := strings.Cut(b.repo, "/")
	b.create(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "registry", Namespace: b.project}, Type: corev1.SecretTypeDockerConfigJson, Data: map[string][]byte{
		corev1.DockerConfigJsonKey: registrytest.DockerConfig(registry, harbortest.Username, harbortest.Password), "ca.crt": h.CA(),
	}})
	if err := b.patch(&v1alpha1.Project{ObjectMeta: metav1.ObjectMeta{Name: b.project}}, `{"spec":{"registrySecretRef":"registry","harbor":{"secretRef":null}}}`); err != nil {
		t.Fatal(err)
	}
	digest := b.push("dev-aaaaaaa").String()
	h.Put(harborRepository, digest, harbortest.Image{Status: "Error"})
	rel := b.release(commitA)
	b.told(rel, v1alpha1.ConditionScanned, v1alpha1.ReasonScanFailed, "ended without a report")
	b.judged(rel, "ci", v1alpha1.VerdictWaiting, "Harbor scans the image backend")
	cptest.Wait(t, "a scan to be asked for", func(context.Context) error {
		if posts(h.Take()) == 0 {
			return errors.New("none")
		}
		return nil
	})
	h.Scan(harborRepository, digest, time.Now())
	b.judged(rel, "ci", v1alpha1.VerdictPassed, "")

	// Without scans in the declaration the condition goes.
	b.harbor(`{"scan":null}`)
	cptest.Wait(t, "the condition to go", func(ctx context.Context) error {
		if err := b.c.Get(ctx, client.ObjectKeyFromObject(rel), rel); err != nil {
			return err
		}
		for _, c := range rel.Status.Conditions {
			if c.Type == v1alpha1.ConditionScanned {
				return fmt.Errorf("%+v", c)
			}
		}
		return nil
	})
}

// TestHarborQuota: no tag is put while the quota leaves too little room; the release is deployed all the same, since that goes by
// digest, and the tags come once there is room.
func TestHarborQuota(t *testing.T) {
	b, h := newHarborBench(t, `"quota":{"minFreeMiB":10}`)
	if err := b.patch(&v1alpha1.Environment{ObjectMeta: metav1.ObjectMeta{Name: "dev", Namespace: b.project}}, `{"spec":{"tags":["in-dev"]}}`); err != nil {
		t.Fatal(err)
	}
	h.Quota("shop", 100<<20, 95<<20)
	b.push("dev-aaaaaaa")
	rel := b.release(commitA)
	b.told(rel, v1alpha1.ConditionTagged, v1alpha1.ReasonRegistryFull, "5 MiB left", "spec.harbor.quota")
	b.rollout("dev", func(*v1alpha1.Rollout) error { return nil })
	if tags := rel.Status.Environments[0].Tags; len(tags) != 0 {
		t.Errorf("tagged %v", tags)
	}
	h.Quota("shop", 1<<30, 95<<20)
	b.harbor(`{"quota":{"minFreeMiB":9}}`) // looks at once
	b.told(rel, v1alpha1.ConditionTagged, v1alpha1.ReasonTagged)
	b.secretsKept()
}

// Addresses that would send a password in the clear, or hold one, are not even stored.
func TestHarborAddressesThatAreRefused(t *testing.T) {
	b := newBench(t)
	for _, spec := range []string{`{"url":"http://harbor.example"}`, `{"url":"https://robot:secret@harbor.example"}`, `{"url":"https://harbor.example?x=y"}`,
		`{"url":"https://harbor.example/%2e%2e"}`, `{"registry":"a/b"}`, `{"scan":{"interval":"1m"}}`, `{"quota":{"minFreeMiB":-1}}`} {
		var h v1alpha1.Harbor
		if err := json.Unmarshal([]byte(spec), &h); err != nil {
			t.Fatal(err)
		}
		err := b.c.Create(t.Context(), &v1alpha1.Project{ObjectMeta: metav1.ObjectMeta{Name: b.project}, Spec: v1alpha1.ProjectSpec{
			Images: []v1alpha1.ProjectImage{{Name: "backend", Repository: b.repo}}, Harbor: &h,
		}})
		if err == nil || !strings.Contains(err.Error(), "spec.harbor") {
			t.Errorf("%s: %v", spec, err)
		}
	}
}

// TestHarborReplication: nothing is deployed where Harbor has not copied the release yet, and why is said; then it is.
func TestHarborReplication(t *testing.T) {
	b, h := newHarborBench(t, `"replication":[{"environment":"dev","policy":"to-client"}]`)
	dev := &v1alpha1.Environment{ObjectMeta: metav1.ObjectMeta{Name: "dev", Namespace: b.project}}
	b.push("dev-aaaaaaa")
	rel := b.release(commitA)
	b.condition(dev, v1alpha1.ConditionReplicated, metav1.ConditionFalse, "no replication policy of this name")
	h.Policy("to-client", 7)
	before := harbortest.Execution{Status: "Succeed", Started: time.Now().Add(-time.Hour), Tasks: map[string]string{harborRepository: "Succeed"}}
	h.Executions(7, before)
	b.condition(dev, v1alpha1.ConditionReplicated, metav1.ConditionFalse, "has not started since the release was let in")
	b.harbor(`{"replication":[{"environment":"dev","policy":"to-client","start":true}]}`)
	b.condition(dev, v1alpha1.ConditionReplicated, metav1.ConditionFalse, "is at it")
	if n := posts(h.Take()); n != 1 {
		t.Errorf("started %d times", n)
	}
	failed := harbortest.Execution{Status: "Failed", Started: time.Now(), Tasks: map[string]string{harborRepository: "Failed"}}
	h.Executions(7, before, failed)
	b.condition(dev, v1alpha1.ConditionReplicated, metav1.ConditionFalse, "did not copy shop/team/api (Failed)")
	var list v1alpha1.RolloutList
	if err := b.c.List(t.Context(), &list, client.InNamespace(v1alpha1.HostNamespace(b.host.Name))); err != nil || len(list.Items) != 0 {
		t.Fatalf("deployed: %+v, %v", list.Items, err)
	}
	if dev.Status.Waiting == "" || !strings.Contains(dev.Status.Waiting, "replication") {
		t.Errorf("waits for %q", dev.Status.Waiting)
	}
	h.Executions(7, before, failed, harbortest.Execution{Status: "Succeed", Started: time.Now(), Tasks: map[string]string{harborRepository: "Succeed"}})
	b.condition(dev, v1alpha1.ConditionReplicated, metav1.ConditionTrue, "has copied release "+rel.Name)
	b.report(b.rollout("dev", func(*v1alpha1.Rollout) error { return nil }), v1alpha1.RolloutHealthy)
	b.annotate(rel, v1alpha1.ApprovalPrefix+"production", "sirrat:server")
	b.rollout("production", func(*v1alpha1.Rollout) error { return nil }) // no policy feeds it
	b.secretsKept()
}

// TestSlowHarbor: while one project's Harbor keeps a request about its replication waiting, other projects are deployed, and what the
// project itself decides takes effect.
func TestSlowHarbor(t *testing.T) {
	slow, h := newHarborBench(t, `"replication":[{"environment":"dev","policy":"to-client"}]`)
	h.Policy("to-client", 7)
	h.Executions(7, harbortest.Execution{Status: "Succeed", Started: time.Now().Add(time.Minute), Tasks: map[string]string{harborRepository: "Succeed"}})
	quick := newBench(t)
	quick.setUp(quick.compose())
	quick.push("dev-aaaaaaa")
	held, answer := make(chan struct{}), make(chan struct{})
	var once sync.Once
	var gone atomic.Bool
	h.Misbehave(func(_ http.ResponseWriter, r *http.Request) bool {
		once.Do(func() { close(held) })
		select {
		case <-answer:
		case <-r.Context().Done(): // whoever asked has given up
			gone.Store(true)
		}
		return false
	})
	slow.push("dev-aaaaaaa")
	slow.release(commitA)
	cptest.Wait(t, "Harbor to be asked", func(context.Context) error {
		select {
		case <-held:
			return nil
		default:
			return errors.New("not yet")
		}
	})
	quick.release(commitA)
	quick.report(quick.rollout("dev", anyRollout), v1alpha1.RolloutHealthy)
	quick.condition(&v1alpha1.Environment{ObjectMeta: metav1.ObjectMeta{Name: "dev", Namespace: quick.project}}, v1alpha1.ConditionReady, metav1.ConditionTrue, "")
	dev := &v1alpha1.Environment{ObjectMeta: metav1.ObjectMeta{Name: "dev", Namespace: slow.project}}
	slow.condition(dev, v1alpha1.ConditionReplicated, metav1.ConditionFalse, "Harbor is asked whether its policy to-client has copied release aaaaaaa")
	for _, suspend := range []string{"true", "false"} {
		if err := slow.patch(dev, `{"spec":{"suspend":`+suspend+`}}`); err != nil {
			t.Fatal(err)
		}
		cptest.Wait(t, "the environment to be decided on", func(ctx context.Context) error {
			if err := slow.c.Get(ctx, client.ObjectKeyFromObject(dev), dev); err != nil {
				return err
			}
			if strings.HasPrefix(dev.Status.Waiting, "suspended") != (suspend == "true") {
				return fmt.Errorf("suspend %s: waits for %q", suspend, dev.Status.Waiting)
			}
			return nil
		})
	}
	if gone.Load() {
		t.Error("the request had ended by then")
	}
	close(answer)
	slow.condition(dev, v1alpha1.ConditionReplicated, metav1.ConditionTrue, "has copied release aaaaaaa")
	slow.rollout("dev", anyRollout)
}

// TestHarborAccountThatMayOnlyRead: what Harbor refuses is said, and goes on being said; a scan that somebody else starts heals it.
func TestHarborAccountThatMayOnlyRead(t *testing.T) {
	b, h := newHarborBench(t, `"scan":{"enabled":true}`)
	h.Misbehave(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPost {
			return false
		}
		harbortest.Refuse(w, http.StatusForbidden, "FORBIDDEN")
		return true
	})
	digest := b.push("dev-aaaaaaa").String()
	h.Put(harborRepository, digest, harbortest.Image{})
	rel := b.release(commitA)
	b.told(rel, v1alpha1.ConditionScanned, v1alpha1.ReasonHarborDenied, "ask for a scan", "403, FORBIDDEN")
	asked := posts(h.Take())
	cptest.Wait(t, "another look", func(context.Context) error {
		if calls := h.Take(); len(calls) == 0 {
			return errors.New("none")
		} else if n := posts(calls); asked+n > 1 {
			t.Errorf("asked in a hurry: %d", asked+n)
		}
		return nil
	})
	b.told(rel, v1alpha1.ConditionScanned, v1alpha1.ReasonHarborDenied, "403, FORBIDDEN")
	h.Scan(harborRepository, digest, time.Now())
	b.told(rel, v1alpha1.ConditionScanned, v1alpha1.ReasonScanned)
}
