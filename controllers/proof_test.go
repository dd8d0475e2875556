// SPDX-License-Identifier: Apache-2.0

package controllers_test

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/archive"
	"gitlab.com/dynors/sirrat/internal/controlplane/cptest"
	"gitlab.com/dynors/sirrat/internal/envelope"
	"gitlab.com/dynors/sirrat/internal/journal"
	"gitlab.com/dynors/sirrat/internal/pv"
)

const approver = "sirrat:server" // the administrator of the tests, who may do everything

// withClient makes the project of setUp, with a client whose PV opens production.
func (b *bench) withClient() crypto.Signer {
	b.t.Helper()
	key, _, public, err := envelope.GenerateKey()
	if err != nil {
		b.t.Fatal(err)
	}
	b.setUp(b.compose())
	patch := client.RawPatch("application/merge-patch+json", fmt.Appendf(nil, `{"spec":{"client":{"name":"Client SARL","publicKeys":[%q]}}}`, public))
	if err := b.c.Patch(b.t.Context(), &v1alpha1.Project{ObjectMeta: metav1.ObjectMeta{Name: b.project}}, patch); err != nil {
		b.t.Fatal(err)
	}
	gate := client.RawPatch("application/merge-patch+json", []byte(`{"spec":{"criteria":[{"name":"healthy","healthy":{"environment":"dev"}},{"name":"pv","pv":{}},{"name":"cto","approval":{"minimum":1,"allowCreator":true}}]}}`))
	if err := b.c.Patch(b.t.Context(), &v1alpha1.QualityGate{ObjectMeta: metav1.ObjectMeta{Name: "production", Namespace: b.project}}, gate); err != nil {
		b.t.Fatal(err)
	}
	return key
}

// inDev brings a new release to dev, healthy.
func (b *bench) inDev(commit string) *v1alpha1.Release {
	b.t.Helper()
	b.push("dev-" + commit[:7])
	rel := b.release(commit)
	ro := b.rollout("dev", func(ro *v1alpha1.Rollout) error {
		if ro.Spec.Release.Commit != commit {
			return fmt.Errorf("of %s", ro.Spec.Release.Name)
		}
		return nil
	})
	b.report(ro, v1alpha1.RolloutHealthy)
	return rel
}

// openPV waits for the PV of a release.
func (b *bench) openPV(release string) *v1alpha1.PV {
	b.t.Helper()
	p := &v1alpha1.PV{}
	cptest.Wait(b.t, "the PV of "+release, func(ctx context.Context) error {
		if err := b.c.Get(ctx, client.ObjectKey{Namespace: b.project, Name: release}, p); err != nil {
			return err
		}
		if p.Status.Archived == "" {
			return errors.New("not archived")
		}
		return nil
	})
	return p
}

// sign submits a signature and waits until it is verified or refused; reason is that of the condition.
func (b *bench) sign(p *v1alpha1.PV, signature, reason string) *v1alpha1.PV {
	b.t.Helper()
	patch := client.RawPatch("application/merge-patch+json", fmt.Appendf(nil, `{"spec":{"signature":%q}}`, signature))
	if err := b.c.Patch(b.t.Context(), p, patch); err != nil {
		b.t.Fatal(err)
	}
	cptest.Wait(b.t, "the signature of "+p.Name+" to be "+reason, func(ctx context.Context) error {
		if err := b.c.Get(ctx, client.ObjectKeyFromObject(p), p); err != nil {
			return err
		}
		for _, c := range p.Status.Conditions {
			if c.Type == v1alpha1.ConditionReady && c.Reason == reason && c.ObservedGeneration == p.Generation {
				return nil
			}
		}
		return fmt.Errorf("%+v", p.Status.Conditions)
	})
	return p
}

func decision(t *testing.T, p *v1alpha1.PV, key crypto.Signer, d v1alpha1.PVDecision) string {
	t.Helper()
	return decisionBy(t, p, key, d, "Camille Client")
}

func decisionBy(t *testing.T, p *v1alpha1.PV, key crypto.Signer, d v1alpha1.PVDecision, name string) string {
	t.Helper()
	signature, err := pv.Sign(t.Context(), pv.NewDecision(p, d, name, time.Now()), key)
	if err != nil {
		t.Fatal(err)
	}
	return signature
}

// notIn fails if a release is, or was ever, let into an environment.
func (b *bench) notIn(release, environment string) {
	b.t.Helper()
	var r v1alpha1.Release
	if err := b.c.Get(b.t.Context(), client.ObjectKey{Namespace: b.project, Name: release}, &r); err != nil {
		b.t.Fatal(err)
	}
	if slices.ContainsFunc(r.Status.Environments, func(e v1alpha1.ReleaseEnvironment) bool { return e.Name == environment }) {
		b.t.Errorf("%s is in %s: %s", release, environment, r.Status.Next)
	}
}

// An approval is for exactly one bundle: whatever is changed afterwards, it is stale, and nothing is deployed.
func TestApprovalIsForOneBundle(t *testing.T) {
	for name, change := range map[string]func(b *bench) error{
		"the compose file": func(b *bench) error {
			return b.patch(&v1alpha1.Environment{ObjectMeta: metav1.ObjectMeta{Name: "production", Namespace: b.project}},
				fmt.Sprintf(`{"spec":{"compose":{"inline":%q}}}`, b.compose()+"    labels: {a: b}\n"))
		},
		"a value": func(b *bench) error {
			return b.patch(&v1alpha1.Environment{ObjectMeta: metav1.ObjectMeta{Name: "production", Namespace: b.project}}, `{"spec":{"values":{"LOG":"debug"}}}`)
		},
		"a secret": func(b *bench) error {
			return b.patch(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "prod", Namespace: b.project}}, `{"stringData":{"PASSWORD":"canary-5f1c-2"}}`)
		},
		"a health check": func(b *bench) error {
			return b.patch(&v1alpha1.Environment{ObjectMeta: metav1.ObjectMeta{Name: "production", Namespace: b.project}}, `{"spec":{"healthChecks":[{"tcp":{"address":"127.0.0.1:1"}}]}}`)
		},
	} {
		t.Run(strings.ReplaceAll(name, " ", "-"), func(t *testing.T) {
			b := newBench(t)
			key := b.withClient()
			b.create(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "prod", Namespace: b.project}, Data: map[string][]byte{"PASSWORD": []byte("canary-5f1c")}})
			if err := b.patch(&v1alpha1.Environment{ObjectMeta: metav1.ObjectMeta{Name: "production", Namespace: b.project}}, `{"spec":{"secretRefs":["prod"]}}`); err != nil {
				t.Fatal(err)
			}
			rel := b.inDev(commitA)
			p := b.openPV(rel.Name)
			b.annotate(rel, v1alpha1.ApprovalPrefix+"production", approver)
			b.approvalIs(rel, func(a v1alpha1.ApprovalRecord) bool { return a.Stale == "" && a.BundleHash != "" })
			if err := change(b); err != nil {
				t.Fatal(err)
			}
			b.approvalIs(rel, func(a v1alpha1.ApprovalRecord) bool { return strings.Contains(a.Stale, "the bundle changed") })
			b.sign(p, decision(t, p, key, v1alpha1.PVAccepted), v1alpha1.ReasonAccepted)
			b.condition(rel, v1alpha1.ConditionStalled, metav1.ConditionTrue, "approval")
			b.notIn(rel.Name, "production")
			// Withdrawn and given again it counts, for what is there now.
			if err := b.patch(rel, fmt.Sprintf(`{"metadata":{"annotations":{%q:null}}}`, v1alpha1.ApprovalPrefix+"production")); err != nil {
				t.Fatal(err)
			}
			b.approvalIs(rel, nil)
			b.annotate(rel, v1alpha1.ApprovalPrefix+"production", approver)
			b.rollout("production", func(*v1alpha1.Rollout) error { return nil })
		})
	}
}

func (b *bench) patch(o client.Object, text string) error {
	return b.c.Patch(b.t.Context(), o, client.RawPatch("application/merge-patch+json", []byte(text)))
}

// approvalIs waits for the record of the approval of production; nil: for there to be none.
func (b *bench) approvalIs(rel *v1alpha1.Release, check func(v1alpha1.ApprovalRecord) bool) {
	b.t.Helper()
	cptest.Wait(b.t, "the approval's record", func(ctx context.Context) error {
		if err := b.c.Get(ctx, client.ObjectKeyFromObject(rel), rel); err != nil {
			return err
		}
		records := rel.Status.Approvals
		if check == nil && len(records) == 0 || check != nil && len(records) == 1 && check(records[0]) {
			return nil
		}
		return fmt.Errorf("%+v", records)
	})
}

// A PV is signed by the client's key, for this very release, once; what is stored does not change afterwards.
func TestSignaturesThatDoNotCount(t *testing.T) {
	b := newBench(t)
	key := b.withClient()
	other, _, _, err := envelope.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	rel := b.inDev(commitA)
	p := b.openPV(rel.Name)
	b.annotate(rel, v1alpha1.ApprovalPrefix+"production", approver)
	b.approvalIs(rel, func(a v1alpha1.ApprovalRecord) bool { return a.Stale == "" })

	b.sign(p, decision(t, p, other, v1alpha1.PVAccepted), v1alpha1.ReasonBadSignature)
	foreign := p.DeepCopy()
	foreign.UID, foreign.Name = "another", "another"
	b.sign(p, decision(t, foreign, key, v1alpha1.PVAccepted), v1alpha1.ReasonBadSignature)
	altered := p.DeepCopy()
	altered.Spec.DocumentHash = envelope.Hash([]byte("another document"))
	b.sign(p, decision(t, altered, key, v1alpha1.PVAccepted), v1alpha1.ReasonBadSignature)
	b.sign(p, "not an envelope", v1alpha1.ReasonBadSignature)
	b.notIn(rel.Name, "production")

	b.sign(p, decision(t, p, key, v1alpha1.PVAccepted), v1alpha1.ReasonAccepted)
	ro := b.rollout("production", func(*v1alpha1.Rollout) error { return nil })
	b.checkAuthorization(ro)
	for name, text := range map[string]string{
		"signed twice":   fmt.Sprintf(`{"spec":{"signature":%q}}`, decisionBy(t, p, key, v1alpha1.PVAccepted, "Somebody else")),
		"withdrawn":      `{"spec":{"signature":null}}`,
		"another text":   `{"spec":{"document":"{}"}}`,
		"another PDF":    `{"spec":{"pdfHash":"sha256:` + strings.Repeat("0", 64) + `"}}`,
		"another client": `{"spec":{"client":"Somebody"}}`,
	} {
		if err := b.patch(p.DeepCopy(), text); !apierrors.IsInvalid(err) && !apierrors.IsForbidden(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := b.c.Delete(t.Context(), p); !apierrors.IsForbidden(err) {
		t.Errorf("a signed PV was deleted: %v", err)
	}
	// It survives its release.
	if err := b.c.Delete(t.Context(), rel); err != nil {
		t.Fatal(err)
	}
	cptest.Wait(t, "the release to be gone", func(ctx context.Context) error {
		if err := b.c.Get(ctx, client.ObjectKeyFromObject(rel), rel); !apierrors.IsNotFound(err) {
			return fmt.Errorf("still there: %w", err)
		}
		return nil
	})
	if err := b.c.Get(t.Context(), client.ObjectKeyFromObject(p), p); err != nil || p.Status.Decision != v1alpha1.PVAccepted {
		t.Errorf("the PV of a deleted release: %+v, %v", p.Status, err)
	}
}

// Everything that led to production is in the journal, which outlives the project and verifies offline with the keys alone.
func TestJournalOutlivesTheProject(t *testing.T) {
	b := newBench(t)
	key := b.withClient()
	rel := b.inDev(commitA)
	res := &v1alpha1.CIResult{ObjectMeta: metav1.ObjectMeta{Name: "aaaaaaa-tests-0123456789", Namespace: b.project}, Spec: v1alpha1.CIResultSpec{
		Commit: commitA, Type: "tests", Status: "passed", Received: metav1.Now(), Source: "token", Report: []byte(`{"type":"tests"}`), ReportHash: envelope.Hash([]byte(`{"type":"tests"}`)),
	}}
	b.create(res)
	file, err := running.Archive.Put(t.Context(), []byte("<testsuite><testcase/></testsuite>"))
	if err != nil {
		t.Fatal(err)
	}
	b.create(&v1alpha1.CIResult{ObjectMeta: metav1.ObjectMeta{Name: "aaaaaaa-tests-9876543210", Namespace: b.project}, Spec: v1alpha1.CIResultSpec{
		Commit: commitA, Type: "tests", Status: "passed", Job: "unit", Received: metav1.Now(), Source: "token", Format: "junit", Producer: "pytest", ReportHash: file,
	}})
	p := b.openPV(rel.Name)
	b.annotate(rel, v1alpha1.ApprovalPrefix+"production", approver)
	b.sign(p, decision(t, p, key, v1alpha1.PVAccepted), v1alpha1.ReasonAccepted)
	b.report(b.rollout("production", func(*v1alpha1.Rollout) error { return nil }), v1alpha1.RolloutHealthy)
	b.awaitHealthy(rel, "production")
	if err := b.patch(res.DeepCopy(), `{"spec":{"status":"failed"}}`); !apierrors.IsInvalid(err) {
		t.Errorf("a result was edited: %v", err)
	}
	var project v1alpha1.Project
	if err := b.c.Get(t.Context(), client.ObjectKey{Name: b.project}, &project); err != nil {
		t.Fatal(err)
	}
	if err := b.c.Delete(t.Context(), &project); err != nil {
		t.Fatal(err)
	}
	cptest.Wait(t, "the project to be gone", func(ctx context.Context) error {
		if err := b.c.Get(ctx, client.ObjectKey{Name: b.project}, &corev1.Namespace{}); !apierrors.IsNotFound(err) {
			return fmt.Errorf("namespace: %w", err)
		}
		return nil
	})

	dir := filepath.Join(t.TempDir(), "export")
	keys := running.Keys.Public()
	if err := running.Journal.Export(t.Context(), string(project.UID), dir, keys, project.Spec.Client.PublicKeys); err != nil {
		t.Fatal(err)
	}
	clientKey, err := envelope.ParsePublicKey(project.Spec.Client.PublicKeys[0])
	if err != nil {
		t.Fatal(err)
	}
	report, err := journal.Verify(dir, journal.Trust{Keys: running.Keys.Verifiers(), ClientKeys: []envelope.PublicKey{clientKey}})
	if err != nil || !report.OK() {
		t.Fatalf("%v, %v", report.Problems, err)
	}
	path, err := archive.ObjectPath(file)
	if err != nil {
		t.Fatal(err)
	}
	if data, err := os.ReadFile(filepath.Join(dir, path)); err != nil || !strings.Contains(string(data), "<testcase/>") {
		t.Errorf("the export lacks the file that was reported: %q, %v", data, err)
	}
	for _, kind := range []journal.Kind{journal.KindResult, journal.KindRelease, journal.KindVerdict, journal.KindApproval, journal.KindPV, journal.KindAuthorization, journal.KindDeployment, journal.KindGate} {
		if report.Kinds[kind] == 0 {
			t.Errorf("nothing of kind %s among %v", kind, slices.Collect(maps.Keys(report.Kinds)))
		}
	}
	var phases []string
	for e, err := range running.Journal.Entries(t.Context(), string(project.UID), 1) {
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(e.Data), "canary-5f1c") {
			t.Errorf("a secret is in the journal, entry %d", e.Seq)
		}
		if e.Kind == journal.KindDeployment && strings.HasSuffix(e.Subject, "/production") {
			phases = append(phases, string(e.Data))
		}
	}
	if len(phases) < 2 || !strings.Contains(phases[len(phases)-1], `"phase":"Healthy"`) {
		t.Errorf("production: %v", phases)
	}
}

// A break-glass opens a gate, costs karma, and owes: nobody else passes there until somebody other regularises it.
func TestDebtBlocksTheNextRelease(t *testing.T) {
	b := newBench(t)
	b.withClient()
	first := b.inDev(commitA)
	b.annotate(first, v1alpha1.BreakGlassPrefix+"production", approver+": the house is on fire")
	b.report(b.rollout("production", func(*v1alpha1.Rollout) error { return nil }), v1alpha1.RolloutHealthy)
	b.condition(first, v1alpha1.ConditionDebt, metav1.ConditionTrue, "regularise")
	second := b.inDev(strings.Replace(commitA, "aaaaaaa", "bbbbbbb", 1))
	cptest.Wait(t, "the second release to be told of the debt", func(ctx context.Context) error {
		if err := b.c.Get(ctx, client.ObjectKeyFromObject(second), second); err != nil {
			return err
		}
		for _, g := range second.Status.Gates {
			for _, c := range g.Criteria {
				if c.Reason == "Debt" {
					return nil
				}
			}
		}
		return fmt.Errorf("%+v", second.Status.Gates)
	})
	b.annotate(first, v1alpha1.RegularisationPrefix+"production", approver+": I say it was right")
	b.condition(first, v1alpha1.ConditionDebt, metav1.ConditionTrue, "regularise") // not by the same hand
	var project v1alpha1.Project
	if err := b.c.Get(t.Context(), client.ObjectKey{Name: b.project}, &project); err != nil || len(project.Status.Debts) != 1 {
		t.Errorf("debts %+v, %v", project.Status.Debts, err)
	}
}
