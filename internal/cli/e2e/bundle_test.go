// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/authorization"
	"gitlab.com/dynors/sirrat/internal/controlplane/cptest"
	"gitlab.com/dynors/sirrat/internal/keyset"
	"gitlab.com/dynors/sirrat/internal/offline"
)

// What a server with no way out needs, written by an operator; and no order that it would refuse.
func TestBundle(t *testing.T) {
	k := newKit(t)
	k.project = k.Namespace(t)
	host := "off-" + k.project[max(0, len(k.project)-8):]
	k.bind(t, operator, "sirrat-operator", "")
	k.create(t, &v1alpha1.Host{ObjectMeta: metav1.ObjectMeta{Name: host}, Spec: v1alpha1.HostSpec{Projects: []string{k.project}, Offline: true}})
	ns := v1alpha1.HostNamespace(host)
	var keys corev1.ConfigMap
	cptest.Wait(t, "the host's keys", func(context.Context) error {
		return k.client.Get(t.Context(), client.ObjectKey{Namespace: ns, Name: v1alpha1.AuthorizationKeys}, &keys)
	})
	dir := t.TempDir()
	trust := filepath.Join(dir, "host-trust.json")
	o := k.as(t, operator, nil, "host", "export", host, "-o", trust)
	o.expect(t, 0, "sirrat-agent join --offline")
	text, err := os.ReadFile(trust)
	if err != nil {
		t.Fatal(err)
	}
	_, fingerprint, _ := strings.Cut(strings.TrimSpace(o.out), "--fingerprint ")
	read, err := offline.ParseTrust(text, fingerprint)
	if err != nil || read.Host != host || len(read.Keys) != len(keys.Data) || read.CA == "" {
		t.Fatalf("%+v, %v", read, err)
	}

	bundle := filepath.Join(dir, "bundle.tar")
	export := []string{"bundle", "export", k.project, "dev", host, "-o", bundle}
	k.as(t, operator, nil, export...).expect(t, 1, "authorised for server", "spec.offline")
	k.rollout(t, host, "dev", 1) // whose authorization nobody signed
	k.as(t, operator, nil, export...).expect(t, 1, "would refuse the order", "kubectl delete rollout")
	if _, err := os.Stat(bundle); err == nil {
		t.Error("a bundle was written")
	}
}

// carriedYAML takes the project, and a repository.
const carriedYAML = `
apiVersion: sirrat.dynors.com/v1alpha1
kind: Environment
metadata: {name: dev, namespace: PROJECT}
spec:
  hosts: {matchLabels: {site: PROJECT}}
  compose: {inline: "services: {web: {image: '${BACKEND_IMAGE}', environment: {PASSWORD: '${PASSWORD}'}}}"}
  values: {BACKEND_IMAGE: REPOSITORY}
  secretRefs: [db]
---
apiVersion: sirrat.dynors.com/v1alpha1
kind: QualityGate
metadata: {name: ci, namespace: PROJECT}
spec: {number: 0, environment: dev, mode: Automatic, criteria: [{name: images, images: {}}]}
`

// carried is a project whose one environment is on servers with no way out.
type carried struct {
	*kit
	repository, host, ns, bundle string
	uid                          types.UID
	trust                        authorization.Trust
}

func newCarried(t *testing.T) *carried {
	t.Helper()
	k := &carried{kit: newKit(t), repository: images(t)}
	k.host, k.bundle = k.project+"-off", filepath.Join(k.dir, "bundle.tar")
	k.ns = v1alpha1.HostNamespace(k.host)
	k.bind(t, operator, "sirrat-operator", "")
	server := func(name string, offline bool, labels map[string]string) {
		k.create(t, &v1alpha1.Host{
			ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}, Spec: v1alpha1.HostSpec{Projects: []string{k.project}, Offline: offline},
		})
	}
	server(k.host, true, map[string]string{"site": k.project})
	server(k.project+"-unheard", false, map[string]string{"site": k.project})
	server(k.project+"-elsewhere", true, map[string]string{"site": "elsewhere"})
	k.bridgeOf(t, "", k.repository, strings.ReplaceAll(carriedYAML, "REPOSITORY", k.repository))
	k.create(t, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "db", Namespace: k.project}, StringData: map[string]string{"PASSWORD": canary}})

	file := filepath.Join(k.dir, "trust.json")
	o := k.as(t, operator, nil, "host", "export", k.host, "-o", file)
	o.expect(t, 0)
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	_, fingerprint, _ := strings.Cut(strings.TrimSpace(o.out), "--fingerprint ")
	read, err := offline.ParseTrust(text, fingerprint)
	if err != nil {
		t.Fatal(err)
	}
	k.uid = types.UID(read.UID)
	keys, err := keyset.Set{Serial: read.KeySet, Keys: read.Keys}.Parse()
	if err != nil {
		t.Fatal(err)
	}
	k.trust.Keys = keys.Keys
	return k
}

const canary = "canary-of-the-database"

// order waits for the Rollout of a sequence on the server.
func (k *carried) order(t *testing.T, sequence int64, not types.UID) (found v1alpha1.Rollout) {
	t.Helper()
	cptest.Wait(t, fmt.Sprintf("order %d", sequence), func(ctx context.Context) error {
		err := k.client.Get(ctx, client.ObjectKey{Namespace: k.ns, Name: v1alpha1.RolloutName(k.project, "dev", sequence)}, &found)
		if err == nil && found.UID == not {
			err = errors.New("it is the old one")
		}
		return err
	})
	return found
}

// exported is what the command wrote.
func (k *carried) exported(t *testing.T, args ...string) (*offline.Bundle, outcome) {
	t.Helper()
	o := k.as(t, operator, nil, append([]string{"bundle", "export", k.project, "dev", k.host, "-o", k.bundle, "--platform", "linux/amd64"}, args...)...)
	o.expect(t, 0, "The server must begin it by")
	file, err := os.Open(k.bundle)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if info, err := file.Stat(); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	hash := sha256.New()
	b, err := offline.Read(t.Context(), io.TeeReader(file, hash), t.TempDir(), 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	o.expect(t, 0, fmt.Sprintf("sirrat-agent apply %s --fingerprint sha256:%x", k.bundle, hash.Sum(nil)))
	return b, o
}

// carries fails unless a bundle has exactly an order of the control plane's, which its server takes.
func (k *carried) carries(t *testing.T, b *offline.Bundle, want v1alpha1.Rollout) {
	t.Helper()
	if b.Rollout.UID != want.UID || b.Rollout.Name != want.Name || b.Host != k.host || !equality.Semantic.DeepEqual(b.Rollout.Spec, want.Spec) {
		t.Errorf("%+v, want %+v", b.Rollout, want)
	}
	self := authorization.Host{Name: k.host, UID: string(k.uid)}
	if _, err := authorization.Verify(t.Context(), b.Rollout.Spec, self, time.Now(), want.Spec.Sequence, false, k.trust); err != nil {
		t.Error(err)
	}
}

// The controllers sign for a server that is never heard of as they do for others, and what is exported is exactly that, for it
// alone. Its outcome, brought back, counts; the next order has the next number; and one that was deleted is signed anew.
func TestBundleOfWhatWasSigned(t *testing.T) {
	k := newCarried(t)
	name := k.push(t, k.repository, commit)
	first := k.order(t, 1, "")
	if len(first.Spec.SecretRefs) != 1 {
		t.Fatalf("Secrets %v", first.Spec.SecretRefs)
	}
	export := func(environment, host string) outcome {
		return k.as(t, operator, nil, "bundle", "export", k.project, environment, host, "-o", k.bundle, "--platform", "linux/amd64")
	}
	export("dev", k.project+"-unheard").expect(t, 1, "authorised for server", "spec.offline")
	export("dev", k.project+"-elsewhere").expect(t, 1, "authorised for server")
	export("production", k.host).expect(t, 1, "authorised for server")
	export("dev", "nowhere").expect(t, 1, "nowhere")
	export("dev", k.host).expect(t, 1, "may not read Secret", "which keys it has")
	k.bind(t, operator, "sirrat-agent", k.ns)
	k.as(t, operator, nil, "bundle", "export", k.project, "dev", k.host, "-o", k.bundle).expect(t, 1, "--platform linux/amd64")
	if _, err := os.Stat(k.bundle); err == nil {
		t.Error("a refused export wrote a bundle")
	}

	b, o := k.exported(t)
	k.carries(t, b, first)
	if _, err := b.SecretsFor(nil); err == nil || !strings.Contains(err.Error(), "PASSWORD") || !strings.Contains(err.Error(), "--secrets") {
		t.Errorf("without values: %v", err)
	}
	o.expect(t, 0, "/PASSWORD", "--secrets")
	if text, err := os.ReadFile(k.bundle); err != nil || strings.Contains(string(text)+o.out+o.err, canary) {
		t.Errorf("the value is in it: %v", err)
	}
	b, o = k.exported(t, "--with-secrets")
	k.carries(t, b, first)
	if values, err := b.SecretsFor(nil); err != nil || values["PASSWORD"] != canary || strings.Contains(o.out+o.err, canary) {
		t.Errorf("with values: %v, %s", err, o.err)
	}
	o.expect(t, 0, "Warning", "plain text")

	if err := k.client.Delete(t.Context(), &first); err != nil {
		t.Fatal(err)
	}
	anew := k.order(t, 1, first.UID)
	b, _ = k.exported(t)
	k.carries(t, b, anew)

	unheard := &v1alpha1.Host{ObjectMeta: metav1.ObjectMeta{Name: k.project + "-unheard"}}
	if err := k.client.Delete(t.Context(), unheard); err != nil { // the environment would wait for it
		t.Fatal(err)
	}
	k.bringBack(t, b)
	k.wait(t, "it to have reached dev", name, func(r *v1alpha1.Release) bool { return r.Status.Reached == "dev" })
	k.push(t, k.repository, commitTwo)
	second := k.order(t, 2, "")
	b, _ = k.exported(t)
	k.carries(t, b, second)
}

// bringBack reports that a bundle is healthy on its server; nobody may without the right.
func (k *carried) bringBack(t *testing.T, b *offline.Bundle) {
	t.Helper()
	report := filepath.Join(k.dir, "report.json")
	text, err := json.Marshal(map[string]any{
		"done": true, "namespace": k.ns, "rollout": b.Rollout.Name, "uid": b.Rollout.UID,
		"status": map[string]any{"phase": v1alpha1.RolloutHealthy, "healthySince": time.Now().UTC().Format(time.RFC3339)},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(report, text, 0o600); err != nil {
		t.Fatal(err)
	}
	k.bind(t, "stranger@dynors.com", "sirrat-operator", "")
	k.as(t, "stranger@dynors.com", nil, "bundle", "report", report).expect(t, 1, "may not write")
	k.as(t, operator, nil, "bundle", "report", k.bundle).expect(t, 1, "not the outcome")
	k.as(t, operator, nil, "bundle", "report", report).expect(t, 0, "Healthy")
	if after := k.order(t, b.Rollout.Spec.Sequence, ""); after.Status.Phase != v1alpha1.RolloutHealthy {
		t.Errorf("phase %q", after.Status.Phase)
	}
}
