// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/authorization"
	"gitlab.com/dynors/sirrat/internal/envelope"
)

func TestVerify(t *testing.T) {
	dir := t.TempDir()
	key, _, public, err := envelope.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	_, _, client, err := envelope.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	file := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	keys, clientKeys := file("keys.pem", append(client, public...)), file("client.pem", client)
	spec := v1alpha1.RolloutSpec{
		Project: "shop", ProjectUID: "p", Environment: "production", Sequence: 7, BundleHash: "sha256:bb",
		Release: v1alpha1.RolloutRelease{Name: "a1b2c3d", UID: "r", Commit: strings.Repeat("a", 40)},
		Compose: "services: {}", ComposeHash: envelope.Hash([]byte("services: {}")),
		Images: []v1alpha1.ServiceImage{{Service: "web", Image: "reg.example/web@sha256:" + strings.Repeat("1", 64)}},
	}
	spec.Authorization, err = authorization.Sign(t.Context(), spec, authorization.Host{Name: "vps-1", UID: "u"}, time.Now(), []string{"production/cto: \x1b[2Japproved"}, "", key)
	if err != nil {
		t.Fatal(err)
	}
	rollout := func(change func(*v1alpha1.RolloutSpec)) []byte {
		s := *spec.DeepCopy()
		if change != nil {
			change(&s)
		}
		text, err := json.Marshal(v1alpha1.Rollout{Spec: s})
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	here := []string{"--keys", keys, "--host", "vps-1", "--uid", "u", "--policy", filepath.Join(dir, "none.yaml")}
	for _, c := range []struct {
		name  string
		input []byte
		args  []string
		want  string
		bad   bool
	}{
		{"as signed", rollout(nil), here, "ok  has not expired", false},
		{"what it states", rollout(nil), here, "production, sequence 7", false},
		{"another host", rollout(nil), append(here, "--uid", "v"), "NO  is for this host", true},
		{"another key", rollout(nil), append(here, "--keys", clientKeys), "NO  signed by a trusted key", true},
		{"an altered compose file", rollout(func(s *v1alpha1.RolloutSpec) { s.Compose += "#" }), here, "does not have its hash", true},
		{"an older sequence", rollout(nil), append(here, "--minimum", "8"), "NO  is not older than sequence 8", true},
		{"no second signature", rollout(nil), append(here, "--client-keys", clientKeys), "NO  the client signed for exactly this", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			cmd := command()
			var out bytes.Buffer
			cmd.SetOut(&out)
			cmd.SetIn(bytes.NewReader(c.input))
			cmd.SetArgs(append([]string{"verify", "-", "--data-dir", dir}, c.args...))
			err := cmd.Execute()
			if c.bad != errors.Is(err, errNotVerified) || !c.bad && err != nil {
				t.Errorf("%v", err)
			}
			if !strings.Contains(out.String(), c.want) || strings.Contains(out.String(), "\x1b") {
				t.Errorf("it does not say %q:\n%q", c.want, out.String())
			}
		})
	}
	cmd := command()
	cmd.SetIn(strings.NewReader("{}"))
	cmd.SetArgs([]string{"verify", "-", "--data-dir", dir})
	if err := cmd.Execute(); err == nil || errors.Is(err, errNotVerified) {
		t.Errorf("not a rollout: %v", err)
	}
}
