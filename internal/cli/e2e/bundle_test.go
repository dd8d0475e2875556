// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/controlplane/cptest"
	"gitlab.com/dynors/sirrat/internal/offline"
)

// What a server with no way out needs, written by an operator; the outcome that is brought back, by nobody without the right.
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
	k.as(t, operator, nil, export...).expect(t, 1, "authorised for server")
	k.rollout(t, host, "dev", 1)
	k.rollout(t, host, "dev", 2)
	k.as(t, operator, nil, export...).expect(t, 1, "--platform")
	k.as(t, operator, nil, append(export, "--platform", "linux/amd64")...).expect(t, 0, "")
	file, err := os.Open(bundle)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if info, err := file.Stat(); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	b, err := offline.Read(t.Context(), file, t.TempDir(), 1<<30)
	if err != nil || b.Rollout.Spec.Sequence != 2 || b.Host != host {
		t.Fatalf("%+v, %v", b, err)
	}

	report := filepath.Join(dir, "report.json")
	outcome, err := json.Marshal(map[string]any{
		"done": true, "namespace": ns, "rollout": b.Rollout.Name, "uid": b.Rollout.UID, "status": map[string]any{"phase": v1alpha1.RolloutHealthy},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(report, outcome, 0o600); err != nil {
		t.Fatal(err)
	}
	k.as(t, operator, nil, "bundle", "report", report).expect(t, 1, "may not write")
	k.bind(t, "carrier", "sirrat-agent", ns)
	k.as(t, "carrier", nil, "bundle", "report", report).expect(t, 0, "")
	var rollout v1alpha1.Rollout
	if err := k.client.Get(t.Context(), client.ObjectKeyFromObject(b.Rollout), &rollout); err != nil || rollout.Status.Phase != v1alpha1.RolloutHealthy {
		t.Errorf("%s, %v", fmt.Sprint(rollout.Status.Phase), err)
	}
	k.as(t, operator, nil, "bundle", "report", bundle).expect(t, 1, "not the outcome")
}
