// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/controlplane/cptest"
	"gitlab.com/dynors/sirrat/internal/registry/registrytest"
)

// attesting makes the project of bridge with proofs attached, and writes the installation's public keys to files.
func (k *kit) attesting(t *testing.T, clientKey, repository string) (keys []string) {
	t.Helper()
	k.bridge(t, clientKey, repository)
	patch := client.RawPatch("application/merge-patch+json", []byte(`{"spec":{"attestations":{"enabled":true}}}`))
	if err := k.client.Patch(t.Context(), &v1alpha1.Project{ObjectMeta: metav1.ObjectMeta{Name: k.project}}, patch); err != nil {
		t.Fatal(err)
	}
	cptest.Wait(t, "the controllers to see what is wanted", func(ctx context.Context) error {
		var p v1alpha1.Project
		if err := running.Manager.GetCache().Get(ctx, client.ObjectKey{Name: k.project}, &p); err != nil {
			return err
		}
		if p.Spec.Attestations == nil {
			return errors.New("not yet")
		}
		return nil
	})
	for _, public := range running.Keys.Public() {
		file := filepath.Join(k.dir, fmt.Sprintf("sirrat-%d.pem", len(keys)))
		if err := os.WriteFile(file, []byte(public), 0o600); err != nil {
			t.Fatal(err)
		}
		keys = append(keys, "--key", file)
	}
	return keys
}

// attested waits until everything that waits is attached, at least so many statements.
func (k *kit) attested(t *testing.T, release string, statements int) *v1alpha1.Release {
	t.Helper()
	var r v1alpha1.Release
	cptest.Wait(t, "the attestations of "+release, func(ctx context.Context) error {
		if err := k.client.Get(ctx, client.ObjectKey{Namespace: k.project, Name: release}, &r); err != nil {
			return err
		}
		for _, a := range r.Status.Attestations {
			if a.Statement != "" {
				return fmt.Errorf("%s%s waits; conditions %+v", a.Gate, a.PV, r.Status.Conditions)
			}
		}
		if len(r.Status.Attestations) < statements || !meta.IsStatusConditionTrue(r.Status.Conditions, v1alpha1.ConditionAttested) {
			return fmt.Errorf("%d attested; conditions %+v", len(r.Status.Attestations), r.Status.Conditions)
		}
		return nil
	})
	return &r
}

// A release goes through all its gates, its client signs, and anybody with the image and the public keys can tell.
func TestAttested(t *testing.T) {
	for what, r := range map[string]func(testing.TB) *registrytest.Registry{"referrers": registrytest.InProcess, "debian": registrytest.Debian} {
		t.Run(what, func(t *testing.T) {
			k := newKit(t)
			key := filepath.Join(k.dir, "client")
			made := k.as(t, admin, nil, "pv", "keygen", "--out", key)
			made.expect(t, 0, "BEGIN PUBLIC KEY")
			repository := r(t).Host + "/supergest/backend"
			keys := k.attesting(t, made.out, repository)
			name := k.release(t, repository, commit)
			k.bind(t, customer, "sirrat-client", k.project)
			image := repository + ":dev-" + v1alpha1.ShortSHA(commit)
			verify := func(args ...string) outcome {
				return k.as(t, dev, nil, append(append([]string{"verify", image}, keys...), args...)...)
			}
			k.attested(t, name, 1)
			verify().expect(t, 0, "Proven: the image passed", "#0 ci")
			verify("--gate", "qa").expect(t, 3, "gate qa: no verdict")

			k.as(t, qa, nil, "approve", name, "qa", "--yes", "-n", k.project).expect(t, 0, "Gate qa is open")
			k.deployed(t, commit, "recette")
			cptest.Wait(t, "the PV", func(ctx context.Context) error {
				return k.client.Get(ctx, client.ObjectKey{Namespace: k.project, Name: name}, &v1alpha1.PV{})
			})
			k.as(t, customer, nil, "pv", "sign", name, "--decision", "accept", "--key", key+".key", "--yes", "-n", k.project).expect(t, 0, "accepted")
			k.as(t, cto, nil, "approve", name, "production", "--yes", "-n", k.project).expect(t, 0, "Gate production is open")
			rel := k.attested(t, name, 4)

			o := verify("--gate", "ci", "--gate", "qa", "--gate", "production", "--client-key", key+".pub")
			t.Log("\n" + o.out)
			o.expect(t, 0, "Proven: the image passed", rel.Status.Bundle.Images[0].Digest, "#1 qa", "recette", qa, "#2 production", cto, "accepted, Claire Client", "the client's key verified")
			verify("--client-key", key+".pub", "--lang", "fr").expect(t, 0, "Prouvé : l’image a passé")
			stranger := filepath.Join(k.dir, "stranger")
			k.as(t, admin, nil, "pv", "keygen", "--out", stranger).expect(t, 0)
			k.as(t, dev, nil, "verify", image, "--key", stranger+".pub").expect(t, 3, "another key than those given")
			verify("--gate", "production", "--client-key", stranger+".pub").expect(t, 3, "not signed by the client's key")
		})
	}
}

// A registry that is away holds no gate up: the release says so, and what is missing is attached once it is back.
func TestAttestingHoldsNothingUp(t *testing.T) {
	k := newKit(t)
	r := registrytest.InProcess(t)
	repository := r.Host + "/supergest/backend"
	keys := k.attesting(t, "", repository)
	name := k.release(t, repository, commit)
	k.attested(t, name, 1)
	r.Misbehave(registrytest.Down)
	k.as(t, qa, nil, "approve", name, "qa", "--yes", "-n", k.project).expect(t, 0, "Gate qa is open")
	k.deployed(t, commit, "recette")
	cptest.Wait(t, "the release to be in recette and to say what is wrong", func(ctx context.Context) error {
		var rel v1alpha1.Release
		if err := k.client.Get(ctx, client.ObjectKey{Namespace: k.project, Name: name}, &rel); err != nil {
			return err
		}
		c := meta.FindStatusCondition(rel.Status.Conditions, v1alpha1.ConditionAttested)
		if rel.Status.Reached != "recette" || c == nil || c.Status != metav1.ConditionFalse || c.Reason != v1alpha1.ReasonRegistryError {
			return fmt.Errorf("reached %s, %+v", rel.Status.Reached, c)
		}
		return nil
	})
	image := repository + ":dev-" + v1alpha1.ShortSHA(commit)
	k.as(t, dev, nil, append([]string{"verify", image}, keys...)...).expect(t, 1, "docker login")
	r.Misbehave(nil)
	k.attested(t, name, 2)
	k.as(t, dev, nil, append([]string{"verify", image, "--gate", "qa"}, keys...)...).expect(t, 0, "Proven: the image passed")
}

// Nothing is attached unless the project asks for it.
func TestNothingIsAttachedUnasked(t *testing.T) {
	k := newKit(t)
	r := registrytest.InProcess(t)
	repository := r.Host + "/supergest/backend"
	k.bridge(t, "", repository)
	name := k.release(t, repository, commit)
	k.as(t, qa, nil, "approve", name, "qa", "--yes", "-n", k.project).expect(t, 0, "Gate qa is open")
	var rel v1alpha1.Release
	if err := k.client.Get(t.Context(), client.ObjectKey{Namespace: k.project, Name: name}, &rel); err != nil {
		t.Fatal(err)
	}
	if len(rel.Status.Attestations) > 0 || meta.FindStatusCondition(rel.Status.Conditions, v1alpha1.ConditionAttested) != nil {
		t.Errorf("%+v", rel.Status.Attestations)
	}
	key := filepath.Join(k.dir, "any")
	k.as(t, admin, nil, "pv", "keygen", "--out", key).expect(t, 0)
	k.as(t, dev, nil, "verify", repository+":dev-"+v1alpha1.ShortSHA(commit), "--key", key+".pub").
		expect(t, 3, "no gate's verdict that holds is attached", "Project.spec.attestations")
}
