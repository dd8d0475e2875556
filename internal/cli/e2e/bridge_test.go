// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/cli"
	"gitlab.com/dynors/sirrat/internal/controlplane/cptest"
)

const commit = "a1b2c3d4e5f60718293a4b5c6d7e8f9001122334"

func TestAcrossTheBridge(t *testing.T) {
	k := newKit(t)
	k.kubeconfig(t, qa)
	key := filepath.Join(k.dir, "client")
	made := k.as(t, admin, nil, "pv", "keygen", "--out", key)
	made.expect(t, 0, "BEGIN PUBLIC KEY")
	repository := images(t)
	k.bridge(t, made.out, repository)
	name := k.release(t, repository, commit)
	k.bind(t, customer, "sirrat-client", k.project)

	t.Run("status", func(t *testing.T) {
		o := k.as(t, qa, nil, "status", "-n", k.project)
		t.Log("\n" + o.out)
		o.expect(t, 0, "#0 ci", "#1 qa", "v1.3.0", "ON THE BRIDGE", `release/1.3\u202e`)
		k.as(t, qa, nil, "status", name, "-n", k.project).expect(t, 0, commit, "GATES", "BUNDLE")
		k.as(t, admin, nil, "status", "-A").expect(t, 0, "SuperGest")
		var list struct {
			Kind  string
			Items []struct{ Kind, APIVersion string }
		}
		o = k.as(t, admin, nil, "status", "-n", k.project, "-o", "json")
		if err := json.Unmarshal([]byte(o.out), &list); err != nil || list.Kind != "List" || len(list.Items) != 8 {
			t.Errorf("-o json: %v, %s with %d items", err, list.Kind, len(list.Items))
		}
		k.as(t, qa, nil, "status", "nothing", "-n", k.project).expect(t, 1, `there is no release "nothing"`, "There is: "+name)
		k.as(t, qa, nil, "status").expect(t, 1, "which project?")
		k.as(t, admin, nil, "status", "-n", "nowhere").expect(t, 1, `there is no project "nowhere"`)
	})
	t.Run("why", func(t *testing.T) {
		k.as(t, qa, nil, "why", "-n", k.project).expect(t, 0, "#1 qa", "approval")
		k.as(t, qa, nil, "why", name, "--gate", "ci", "--exit-code", "-n", k.project).expect(t, 0, "passed")
		k.as(t, qa, nil, "why", name, "--gate", "qa", "--exit-code", "-n", k.project).expect(t, 3, "approval")
		k.as(t, qa, nil, "why", name, "--gate", "moon", "-n", k.project).expect(t, 1, "There is: ci, qa, production")
	})
	t.Run("approve", func(t *testing.T) { approve(t, k, name) })
	t.Run("pv", func(t *testing.T) { certificate(t, k, name, key) })
	t.Run("production", func(t *testing.T) {
		k.as(t, cto, nil, "approve", name, "production", "--yes", "-n", k.project).
			expect(t, 0, "accepted with reservations", "logo is blurred", "Gate production is open")
		k.as(t, cto, nil, "why", name, "--exit-code", "-n", k.project).expect(t, 0)
	})
	t.Run("completion", func(t *testing.T) {
		k.as(t, qa, nil, "-n", k.project, "__complete", "approve", "").expect(t, 0, name)
		k.as(t, qa, nil, "-n", k.project, "__complete", "approve", name, "").expect(t, 0, "ci\nproduction\nqa\n")
		k.as(t, admin, nil, "__complete", "status", "-n", "").expect(t, 0, k.project)
	})
}

func approve(t *testing.T, k *kit, name string) {
	here := []string{"-n", k.project}
	with := func(args ...string) []string { return append(args, here...) }

	k.as(t, dev, nil, with("approve", name, "qa", "--yes")...).expect(t, 1, "refused: ", dev+" may not", "Project.spec.members")
	k.as(t, qa, nil, with("approve", name, "qa")...).expect(t, 1, "no terminal", "--yes")
	k.as(t, qa, []string{"n"}, with("approve", name, "qa")...).expect(t, 1, "not confirmed", "[y/N]")
	k.as(t, qa, nil, with("approve", name, "ci", "--yes")...).expect(t, 1, "asks for no approval")
	k.as(t, qa, nil, with("approve", name, "qa", "--revoke")...).expect(t, 0, "nothing to withdraw")
	k.as(t, qa, nil, with("reject", name, "qa", "--reason", "invoices are rounded wrongly")...).
		expect(t, 0, "is rejected at gate qa", "invoices are rounded wrongly")
	k.as(t, qa, nil, with("status")...).expect(t, 0, "FALLEN", "invoices are rounded wrongly")
	k.as(t, qa, nil, with("reject", name, "qa", "--lift")...).expect(t, 0, "lifted")
	k.as(t, qa, nil, with("reject", name, "qa", "--lift")...).expect(t, 0, "nothing to lift")

	o := k.as(t, qa, []string{"y"}, with("approve", name, "qa")...)
	o.expect(t, 0, "runs nothing yet", "sha256:", "Approval of "+qa+" recorded", "Gate qa is open: recette")
	k.as(t, qa, nil, with("approve", name, "qa", "--yes")...).expect(t, 0, "already approved")
	k.as(t, qa, nil, with("approve", name, "qa", "--yes", "--lang", "fr")...).expect(t, 0, "déjà approuvé")
}

func certificate(t *testing.T, k *kit, name, key string) {
	here := []string{"-n", k.project}
	with := func(args ...string) []string { return append(args, here...) }

	k.as(t, qa, nil, with("pv", "list")...).expect(t, 0, "has no PV yet")
	k.deployed(t, commit, "recette")
	cptest.Wait(t, "the PV", func(ctx context.Context) error {
		return k.client.Get(ctx, client.ObjectKey{Namespace: k.project, Name: name}, &v1alpha1.PV{})
	})
	k.as(t, qa, nil, with("pv", "list")...).expect(t, 0, "Client SARL", "awaits the client's signature")
	k.as(t, customer, nil, with("pv", "show", name)...).expect(t, 0, "Procès-verbal de recette", "Fournisseur", `release/1.3\u202e`)
	k.as(t, customer, nil, with("pv", "show", name, "--lang", "en")...).expect(t, 0, "Supplier")

	stranger := filepath.Join(k.dir, "stranger")
	k.as(t, admin, nil, "pv", "keygen", "--out", stranger).expect(t, 0)
	sign := with("pv", "sign", name, "--decision", "accept-with-reservations", "--reservation", "logo is blurred;DYNORS;2099-12-31")
	k.as(t, admin, nil, append(sign, "--key", stranger+".key", "--yes")...).expect(t, 1, "is not one of the client's keys")
	k.as(t, customer, nil, append(sign, "--key", stranger+".key", "--yes")...).expect(t, 1, "does not count")
	k.as(t, customer, nil, append(sign, "--key", key+".key")...).expect(t, 1, "no terminal")
	k.as(t, customer, nil, with("pv", "sign", name, "--key", key+".key")...).expect(t, 2, "--decision is needed")
	k.as(t, dev, nil, append(sign, "--key", key+".key", "--yes")...).expect(t, 1, "cannot patch")

	answers := []string{"accept-with-reservations", "logo is blurred;DYNORS;2099-12-31", "o"}
	k.as(t, customer, answers, with("pv", "sign", name, "--key", key+".key", "--lang", "fr")...).
		expect(t, 0, "Claire Client", "logo is blurred", "accepté avec réserves, vérifié avec la clé sha256:")
	k.as(t, customer, nil, append(sign, "--key", key+".key", "--yes")...).expect(t, 1, "already decided")

	k.as(t, customer, nil, with("pv", "verify", name, "--public-key", key+".pub")...).expect(t, 0, "the signature holds")
	k.as(t, customer, nil, with("pv", "verify", name, "--public-key", stranger+".pub")...).expect(t, 3, "does not count")
	file := filepath.Join(k.dir, "pv.yaml")
	shown := k.as(t, customer, nil, with("pv", "show", name, "-o", "yaml")...)
	for text, code := range map[string]int{
		shown.out: 0,
		strings.Replace(shown.out, "SuperGest", "SuperPest", 1): 3,
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		k.as(t, admin, nil, "pv", "verify", "--file", file, "--public-key", key+".pub").expect(t, code)
	}
}

// A stale approval is withdrawn and given again in one go.
func TestStaleApproval(t *testing.T) {
	k := newKit(t)
	repository := images(t)
	k.bridge(t, "", repository)
	name := k.release(t, repository, commit)
	k.as(t, cto, nil, "approve", name, "production", "--yes", "-n", k.project).expect(t, 0, "recorded")
	var env v1alpha1.Environment
	if err := k.client.Get(t.Context(), client.ObjectKey{Namespace: k.project, Name: "production"}, &env); err != nil {
		t.Fatal(err)
	}
	env.Spec.Values = map[string]string{"LOG_LEVEL": "debug"}
	if err := k.client.Update(t.Context(), &env); err != nil {
		t.Fatal(err)
	}
	cptest.Wait(t, "the approval to be stale", func(context.Context) error {
		o := k.as(t, cto, nil, "status", name, "-n", k.project)
		if !strings.Contains(o.out, "no longer counts") {
			return os.ErrNotExist
		}
		return nil
	})
	k.as(t, cto, nil, "approve", name, "production", "--yes", "-n", k.project).expect(t, 0, "recorded")
	o := k.as(t, cto, nil, "status", name, "-n", k.project)
	if strings.Contains(o.out, "no longer counts") {
		t.Errorf("still stale:\n%s", o.out)
	}
	k.as(t, cto, nil, "approve", name, "production", "--revoke", "-n", k.project).expect(t, 0, "withdrawn")
}

// --watch draws again when something changed and ends with its context.
func TestWatch(t *testing.T) {
	k := newKit(t)
	repository := images(t)
	k.bridge(t, "", repository)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var out, errOut lockedBuffer
	done := make(chan int)
	config := k.kubeconfig(t, qa)
	go func() {
		done <- cli.Main(ctx, cli.World{In: strings.NewReader(""), Out: &out, Err: &errOut, Getenv: func(string) string { return "" }},
			[]string{"--kubeconfig", config, "status", "--watch", "-n", k.project})
	}()
	shows := func(text string) {
		t.Helper()
		cptest.Wait(t, "the picture to show "+text, func(context.Context) error {
			if !strings.Contains(out.String(), text) {
				return errors.New(out.String() + errOut.String())
			}
			return nil
		})
	}
	shows("Nobody is crossing")
	name := k.release(t, repository, commit)
	shows("v1.3.0 · " + name)
	k.as(t, qa, nil, "approve", name, "qa", "--yes", "-n", k.project).expect(t, 0)
	shows("authorised")
	cancel()
	if code := <-done; code != 0 {
		t.Errorf("exit code %d: %s", code, errOut.String())
	}
}

// lockedBuffer is written by a command and read by its test at the same time.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
