// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/controlplane/cptest"
	"gitlab.com/dynors/sirrat/internal/registry/registrytest"
	"gitlab.com/dynors/sirrat/internal/sigstore/sigstoretest"
)

// An environment trusts one key: its gate says what is missing, CI signs, and the gate opens by itself.
func TestSignedImagesOnly(t *testing.T) {
	k, r, key := newKit(t), registrytest.Debian(t), sigstoretest.NewKey(t)
	repository := r.Host + "/supergest/backend"
	policy, err := yaml.Marshal(map[string]any{"signatures": sigstoretest.Policy(key)})
	if err != nil {
		t.Fatal(err)
	}
	indented := "  " + strings.ReplaceAll(strings.TrimSpace(string(policy)), "\n", "\n  ")
	k.bridgeOf(t, "", repository, strings.Replace(bridgeYAML, "spec: {}", "spec:\n"+indented, 1))
	name := k.push(t, repository, commit)
	var rel v1alpha1.Release
	cptest.Wait(t, "gate ci to say what is missing", func(ctx context.Context) error {
		if err := k.client.Get(ctx, client.ObjectKey{Namespace: k.project, Name: name}, &rel); err != nil {
			return err
		}
		if g := rel.Status.Gates; len(g) == 0 || g[0].Verdict != v1alpha1.VerdictWaiting || g[0].Message != "signature: backend is not signed by the one key" {
			return fmt.Errorf("gates %+v", g)
		}
		return nil
	})
	digest := rel.Status.Bundle.Images[0].Digest
	o := k.as(t, dev, nil, "why", name, "-n", k.project)
	o.expect(t, 0)
	said := strings.Join(strings.Fields(o.out), "") // lines are broken where the screen ends
	for _, want := range []string{"signature:backendisnotsignedbytheonekey", "cosignsign--key<privatekey>" + repository + "@" + digest} {
		if !strings.Contains(said, want) {
			t.Errorf("it does not say %s:\n%s", want, o.out)
		}
	}
	t.Log("\n" + o.out)

	sigstoretest.PushLayers(t, repository, digest, key.Layer(digest))
	k.await(t, name, "ci", v1alpha1.VerdictPassed)
	if err := k.client.Get(t.Context(), client.ObjectKeyFromObject(&rel), &rel); err != nil {
		t.Fatal(err)
	}
	if s := rel.Status.Signatures; len(s) != 1 || len(s[0].Signers) != 1 || s[0].Signers[0].Name != "k0" {
		t.Errorf("recorded: %+v", s)
	}
}
