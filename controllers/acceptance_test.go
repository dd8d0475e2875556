// SPDX-License-Identifier: Apache-2.0

package controllers_test

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/authorization"
	"gitlab.com/dynors/sirrat/internal/envelope"
	"gitlab.com/dynors/sirrat/internal/pv"
)

// A PV that the client signs with its key names what it lets run, travels with the order, and lets exactly that run.
func TestOrderCarriesTheClientsSignature(t *testing.T) {
	b := newBench(t)
	key := b.withClient()
	text, err := envelope.EncodePublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	public, err := envelope.ParsePublicKey(string(text))
	if err != nil {
		t.Fatal(err)
	}
	keys := []envelope.PublicKey{public}
	rel := b.inDev(commitA)
	p := b.openPV(rel.Name)
	b.annotate(rel, v1alpha1.ApprovalPrefix+"production", approver)
	b.sign(p, decision(t, p, key, v1alpha1.PVAccepted), v1alpha1.ReasonAccepted)
	ro := b.rollout("production", func(ro *v1alpha1.Rollout) error {
		if ro.Spec.Acceptance == nil {
			return errors.New("without the client's signature")
		}
		return nil
	})
	b.checkAuthorization(ro)

	if want := (v1alpha1.Acceptance{Document: p.Spec.Document, Signature: p.Spec.Signature}); *ro.Spec.Acceptance != want {
		t.Errorf("the order carries another acceptance: %s", cmp.Diff(want, *ro.Spec.Acceptance))
	}
	var doc pv.Document
	if err := json.Unmarshal([]byte(p.Spec.Document), &doc); err != nil {
		t.Fatal(err)
	}
	want, err := pv.Authorise("production", ro.Spec.ComposeProject, b.compose(), ro.Spec.Images, nil, nil, []string{"PASSWORD"})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]pv.Authorised{want}, doc.Authorises); diff != "" {
		t.Errorf("what the document authorises (-want +got):\n%s", diff)
	}

	accepted, err := authorization.VerifyAcceptance(t.Context(), ro.Spec, keys)
	if err != nil {
		t.Fatal(err)
	}
	if err := authorization.CheckSecrets(*accepted, []string{"PASSWORD"}); err != nil {
		t.Error(err)
	}
	if err := authorization.CheckSecrets(*accepted, []string{"PASSWORD", "PATH"}); !errors.Is(err, authorization.ErrAcceptanceOther) {
		t.Errorf("a Secret that was not signed for: %v", err)
	}
	for name, c := range map[string]struct {
		change func(*v1alpha1.RolloutSpec)
		want   error
	}{
		"other image":       {func(s *v1alpha1.RolloutSpec) { s.Images[0].Image += "0" }, authorization.ErrAcceptanceOther},
		"other service":     {func(s *v1alpha1.RolloutSpec) { s.Images[0].Service = "db" }, authorization.ErrAcceptanceOther},
		"other compose":     {func(s *v1alpha1.RolloutSpec) { s.Compose += "# more\n" }, authorization.ErrAcceptanceOther},
		"other values":      {func(s *v1alpha1.RolloutSpec) { s.Values = map[string]string{"A": "b"} }, authorization.ErrAcceptanceOther},
		"other environment": {func(s *v1alpha1.RolloutSpec) { s.Environment = "dev" }, authorization.ErrAcceptanceOther},
		"other release":     {func(s *v1alpha1.RolloutSpec) { s.Release.UID = "another" }, authorization.ErrAcceptanceOther},
		"other project":     {func(s *v1alpha1.RolloutSpec) { s.Project = "another" }, authorization.ErrAcceptanceOther},
		"no signature":      {func(s *v1alpha1.RolloutSpec) { s.Acceptance = nil }, authorization.ErrAcceptanceMissing},
		"other document": {func(s *v1alpha1.RolloutSpec) {
			s.Acceptance = &v1alpha1.Acceptance{Document: s.Acceptance.Document + " ", Signature: s.Acceptance.Signature}
		}, authorization.ErrAcceptanceOther},
	} {
		spec := *ro.Spec.DeepCopy()
		c.change(&spec)
		if _, err := authorization.VerifyAcceptance(t.Context(), spec, keys); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	if _, err := authorization.VerifyAcceptance(t.Context(), ro.Spec, nil); !errors.Is(err, authorization.ErrAcceptanceKey) {
		t.Errorf("without the client's key: %v", err)
	}
}
