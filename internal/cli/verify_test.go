// SPDX-License-Identifier: Apache-2.0

package cli_test

import (
	"bytes"
	"context"
	"crypto"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/attestation"
	"gitlab.com/dynors/sirrat/internal/cli"
	"gitlab.com/dynors/sirrat/internal/envelope"
	"gitlab.com/dynors/sirrat/internal/pv"
	"gitlab.com/dynors/sirrat/internal/registry"
	"gitlab.com/dynors/sirrat/internal/registry/registrytest"
)

// signer is a key of the tests and the file of its public half.
type signer struct {
	key    crypto.Signer
	file   string
	public string
	id     string
}

func newSigner(t *testing.T) signer {
	t.Helper()
	key, _, public, err := envelope.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := envelope.ParsePublicKey(string(public))
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "key.pem")
	if err := os.WriteFile(file, public, 0o600); err != nil {
		t.Fatal(err)
	}
	return signer{key, file, string(public), parsed.ID}
}

// stand is an image in a registry and those who sign statements about it.
type stand struct {
	registry             *registrytest.Registry
	repository           string
	digest               string
	installation, client signer
	opened               time.Time
}

func newStand(t *testing.T, r *registrytest.Registry) *stand {
	t.Helper()
	return &stand{
		registry: r, repository: r.Host + "/shop/backend", digest: r.Push("shop/backend", "v1"),
		installation: newSigner(t), client: newSigner(t), opened: time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC),
	}
}

func (s *stand) images(digest string) []v1alpha1.FrozenImage {
	return []v1alpha1.FrozenImage{{Name: "backend", Repository: s.repository, Digest: digest}}
}

func (s *stand) attach(t *testing.T, a registry.Artifact) {
	t.Helper()
	c, err := registry.New(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, added, err := c.Attach(t.Context(), s.repository, s.digest, a); err != nil || !added {
		t.Fatal(added, err)
	}
}

func signed(t *testing.T, statement string, by signer) []byte {
	t.Helper()
	text, err := attestation.Sign(t.Context(), statement, by.key)
	if err != nil {
		t.Fatal(err)
	}
	return []byte(text)
}

// verdict is the artifact of a gate's verdict.
func (s *stand) verdict(t *testing.T, gate string, number int32, about string, by signer, ref *attestation.PVReference) registry.Artifact {
	t.Helper()
	text, err := attestation.VerdictStatement(s.images(about), attestation.Verdict{
		Verifier: attestation.Verifier{ID: attestation.VerifierID(s.installation.id)}, TimeVerified: s.opened.Add(time.Duration(number) * time.Hour),
		Gate: attestation.Gate{Project: "shop", Release: "a1b2c3d", Version: "v1.3.0", Name: gate, Number: number, Environment: "env-" + gate, PV: ref,
			Approvals: []attestation.Approval{{User: "qa@dynors.com", Time: s.opened}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return registry.Artifact{Type: attestation.VerdictArtifact, Layers: []registry.ArtifactLayer{{MediaType: attestation.VerdictLayer, Data: signed(t, text, by)}}}
}

// certificate is the artifact of a PV that says it is about an image.
func (s *stand) certificate(t *testing.T, about string, by signer) (attestation.PVReference, registry.Artifact) {
	t.Helper()
	return s.decided(t, v1alpha1.PVAccepted, about, by)
}

func (s *stand) decided(t *testing.T, decision v1alpha1.PVDecision, about string, by signer) (attestation.PVReference, registry.Artifact) {
	t.Helper()
	document, hash, err := pv.Document{Release: "a1b2c3d", Images: []string{"backend: " + s.repository + "@" + about}}.Canonical()
	if err != nil {
		t.Fatal(err)
	}
	p := &v1alpha1.PV{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "a1b2c3d", UID: "pv-uid"}, Spec: v1alpha1.PVSpec{Document: document, DocumentHash: hash}}
	said := pv.NewDecision(p, decision, "Camille Client", s.opened)
	if decision == v1alpha1.PVRefused {
		said.Reason = "the basket is empty"
	}
	signature, err := pv.Sign(t.Context(), said, by.key)
	if err != nil {
		t.Fatal(err)
	}
	ref := attestation.PVReference{Name: p.Name, UID: string(p.UID), DocumentHash: hash, SignatureHash: envelope.Hash([]byte(signature))}
	text, err := attestation.DecisionStatement(s.images(s.digest), attestation.Decision{
		PVReference: ref, Project: "shop", Decision: string(decision), Method: v1alpha1.MethodKey, SignedBy: "Camille Client", SignedAt: s.opened,
	})
	if err != nil {
		t.Fatal(err)
	}
	return ref, registry.Artifact{Type: attestation.DecisionArtifact, Layers: []registry.ArtifactLayer{
		{MediaType: attestation.DecisionLayer, Data: signed(t, text, s.installation)},
		{MediaType: attestation.DocumentLayer, Data: []byte(document)},
		{MediaType: attestation.SignatureLayer, Data: []byte(signature)},
	}}
}

// run verifies the image with the arguments and compares exit code and words.
func (s *stand) run(t *testing.T, code int, args []string, words ...string) string {
	t.Helper()
	var out, errOut bytes.Buffer
	w := cli.World{In: strings.NewReader(""), Out: &out, Err: &errOut, Getenv: func(string) string { return "" }, Zone: time.UTC}
	began := time.Now()
	got := cli.Main(t.Context(), w, append([]string{"verify", s.repository + ":v1"}, args...))
	t.Logf("verify took %s\n%s%s", time.Since(began).Round(time.Millisecond), out.String(), errOut.String())
	if got != code {
		t.Errorf("exit code %d, want %d", got, code)
	}
	for _, word := range words {
		if !strings.Contains(out.String()+errOut.String(), word) {
			t.Errorf("does not say %q", word)
		}
	}
	return out.String()
}

// A whole chain is proven, in a registry that lists referrers and in one that does not.
func TestVerifyChain(t *testing.T) {
	for what, start := range map[string]func(testing.TB) *registrytest.Registry{"referrers": registrytest.InProcess, "fallback tag": registrytest.Debian} {
		t.Run(what, func(t *testing.T) {
			s := newStand(t, start(t))
			ref, certificate := s.certificate(t, s.digest, s.client)
			s.attach(t, s.verdict(t, "qa", 1, s.digest, s.installation, nil))
			s.attach(t, certificate)
			s.attach(t, s.verdict(t, "production", 2, s.digest, s.installation, &ref))
			key := []string{"--key", s.installation.file}
			s.run(t, 0, key, "Proven: the image passed qa, production.", s.digest, "VERDICT", "#1 qa", "env-qa", "shop/a1b2c3d v1.3.0", "2026-11-22 11:00 UTC", "qa@dynors.com 2026-11-22 10:00 UTC",
				"#2 production", "accepted, Camille Client", "the client's own key")
			all := append(key, "--project", "shop", "--gate", "qa", "--gate", "production", "--client-key", s.client.file)
			s.run(t, 0, all, "the client's key verified")
			s.run(t, 0, append(all, "--lang", "fr"), "Prouvé : l’image a passé", "clé du client vérifiée", "APPROBATIONS")
			s.run(t, 3, append(key, "--gate", "moon"), "Not proven.", "gate moon:", "no verdict of it that holds")
			s.run(t, 0, append(key, "--gate", "production"), "Proven: the image passed production.")
			var report struct {
				OK       bool
				Image    string
				Demanded []string
				Project  string
				Gates    []struct {
					Name, Environment, KeyID string
					Passed                   bool
					PV                       struct{ Name string }
				}
				PVs []struct{ ClientKeyID string }
			}
			if err := json.Unmarshal([]byte(s.run(t, 0, append(all, "-o", "json"))), &report); err != nil {
				t.Fatal(err)
			}
			if strings.Join(report.Demanded, " ") != "qa production" || report.Project != "shop" {
				t.Errorf("asked for: %+v", report)
			}
			if !report.OK || report.Image != s.repository+"@"+s.digest || len(report.Gates) != 2 || !report.Gates[1].Passed || report.Gates[1].PV.Name != "a1b2c3d" ||
				report.Gates[0].KeyID != s.installation.id || len(report.PVs) != 1 || report.PVs[0].ClientKeyID != s.client.id {
				t.Errorf("%+v", report)
			}
			s.run(t, 0, append(all, "-o", "yaml"), "ok: true")
		})
	}
}

// A gate that was opened in an emergency is not taken for one that was passed, nor a finding beside the proof for one against it.
func TestVerifyEmergency(t *testing.T) {
	s := newStand(t, registrytest.InProcess(t))
	s.attach(t, s.verdict(t, "qa", 1, s.digest, s.installation, nil))
	text, err := attestation.VerdictStatement(s.images(s.digest), attestation.Verdict{
		Verifier: attestation.Verifier{ID: attestation.VerifierID(s.installation.id)}, TimeVerified: s.opened.Add(time.Hour),
		Gate: attestation.Gate{Project: "shop", Release: "a1b2c3d", Name: "production", Number: 2, Environment: "production",
			BrokenGlass: &attestation.Approval{User: "cto@dynors.com", Time: s.opened, Reason: "the site is down"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	s.attach(t, registry.Artifact{Type: attestation.VerdictArtifact, Layers: []registry.ArtifactLayer{{MediaType: attestation.VerdictLayer, Data: signed(t, text, s.installation)}}})
	key := []string{"--key", s.installation.file}
	s.run(t, 0, key, "Proven: the image passed qa.", "Opened in an emergency, which is not passed: production.", "opened in an emergency, not passed", "the site is down")
	s.run(t, 0, append(key, "--lang", "fr"), "a passé qa.", "Ouvert en urgence, ce qui n’est pas passé : production.")
	s.run(t, 3, append(key, "--gate", "production"), "Not proven.", "gate production: opened in an emergency, not passed")
	var report struct {
		OK       bool
		Demanded []string
		Gates    []struct {
			Name        string
			Passed      bool
			BrokenGlass *struct{ User string }
		}
	}
	if err := json.Unmarshal([]byte(s.run(t, 0, append(key, "-o", "json"))), &report); err != nil {
		t.Fatal(err)
	}
	if !report.OK || report.Demanded == nil || len(report.Gates) != 2 || !report.Gates[0].Passed || report.Gates[1].Passed || report.Gates[1].BrokenGlass == nil {
		t.Errorf("%+v", report)
	}
	s.attach(t, s.verdict(t, "ci", 0, s.digest, newSigner(t), nil))
	s.run(t, 0, append(key, "--gate", "qa"), "Proven: the image passed qa.", "OTHER FINDINGS, ON WHICH NOTHING OF THIS RESTS", "another key than those given")
	s.run(t, 3, key, "Not proven.", "another key than those given")
}

// What the client decided is shown where no gate relied on it, too: no gate opens on a refusal. A gate's word alone is not the
// client's.
func TestVerifyWithoutClient(t *testing.T) {
	s := newStand(t, registrytest.InProcess(t))
	s.attach(t, s.verdict(t, "qa", 1, s.digest, s.installation, nil))
	_, refused := s.decided(t, v1alpha1.PVRefused, s.digest, s.client)
	s.attach(t, refused)
	key := []string{"--key", s.installation.file}
	s.run(t, 0, key, "Proven: the image passed qa.", "PVS ON WHICH NO GATE RELIED", "a1b2c3d: refused, Camille Client")
	s.run(t, 0, append(key, "--lang", "fr"), "PV SUR LESQUELS AUCUN GATE NE SE FONDAIT", "a1b2c3d: refusé")
	for _, args := range [][]string{{"--gate", "qa"}, nil} {
		args = append(append(args, key...), "--client-key", s.client.file)
		s.run(t, 3, args, "Not proven.", "no gate that is proven relied on a PV signed with it")
		s.run(t, 3, append(args, "--lang", "fr"), "Non prouvé.", "aucun gate prouvé ne se fondait sur un PV signé d’elle")
	}
}

// Each thing that may be wrong has words of its own, in both languages.
func TestVerifyFindings(t *testing.T) {
	r := registrytest.InProcess(t)
	elsewhere := "sha256:" + strings.Repeat("b", 64)
	for name, c := range map[string]struct {
		make   func(t *testing.T, s *stand) (args []string)
		en, fr string
	}{
		"nothing is attached": {func(*testing.T, *stand) []string { return nil }, "no gate's verdict that holds is attached", "aucun verdict valable"},
		"a gate is missing": {func(t *testing.T, s *stand) []string {
			s.attach(t, s.verdict(t, "qa", 1, s.digest, s.installation, nil))
			return []string{"--gate", "qa", "--gate", "production"}
		}, "gate production: no verdict of it that holds is attached", "gate production : aucun verdict"},
		"altered": {func(t *testing.T, s *stand) []string {
			a := s.verdict(t, "qa", 1, s.digest, s.installation, nil)
			a.Layers[0].Data = alter(t, a.Layers[0].Data, "qa@dynors.com", "me@dynors.com")
			s.attach(t, a)
			return nil
		}, "a statement was altered after it was signed", "une déclaration a été altérée"},
		"another key": {func(t *testing.T, s *stand) []string {
			s.attach(t, s.verdict(t, "qa", 1, s.digest, s.client, nil))
			return nil
		}, "signed by another key than those given", "une autre clé que celles données"},
		"another image": {func(t *testing.T, s *stand) []string {
			s.attach(t, s.verdict(t, "qa", 1, elsewhere, s.installation, nil))
			return nil
		}, "a statement is about other images", "porte sur d’autres images"},
		"a PV of another image": {func(t *testing.T, s *stand) []string {
			s.attach(t, s.verdict(t, "qa", 1, s.digest, s.installation, nil))
			_, certificate := s.certificate(t, elsewhere, s.client)
			s.attach(t, certificate)
			return nil
		}, "a PV is about other images", "un PV porte sur d’autres images"},
		"a PV by another client": {func(t *testing.T, s *stand) []string {
			s.attach(t, s.verdict(t, "qa", 1, s.digest, s.installation, nil))
			_, certificate := s.certificate(t, s.digest, newSigner(t))
			s.attach(t, certificate)
			return []string{"--client-key", s.client.file}
		}, "not signed by the client's key", "pas signé de la clé du client"},
		"a PV that is missing": {func(t *testing.T, s *stand) []string {
			ref, _ := s.certificate(t, s.digest, s.client)
			s.attach(t, s.verdict(t, "qa", 1, s.digest, s.installation, &ref))
			return []string{"--client-key", s.client.file, "--gate", "qa"}
		}, "the PV on which it relied is not attached", "le PV sur lequel il se fondait"},
		"another project": {func(t *testing.T, s *stand) []string {
			s.attach(t, s.verdict(t, "qa", 1, s.digest, s.installation, nil))
			return []string{"--gate", "qa", "--project", "sandbox"}
		}, "gate qa: no verdict of it that holds is attached", "gate qa : aucun verdict"},
		"a mistyped project": {func(t *testing.T, s *stand) []string {
			s.attach(t, s.verdict(t, "qa", 1, s.digest, s.installation, nil))
			return []string{"--project", "shopp"}
		}, "Nothing that is attached is of project shopp: compare --project", "Rien de ce qui est attaché n’est du projet shopp"},
		"no statement": {func(t *testing.T, s *stand) []string {
			s.attach(t, registry.Artifact{Type: attestation.VerdictArtifact, Layers: []registry.ArtifactLayer{{MediaType: attestation.VerdictLayer, Data: []byte("x")}}})
			return nil
		}, "cannot be read as a statement", "ne se lit pas comme une déclaration"},
		"too large": {func(t *testing.T, s *stand) []string {
			s.attach(t, s.verdict(t, "qa", 1, s.digest, s.installation, nil))
			s.attach(t, registry.Artifact{Type: attestation.VerdictArtifact, Layers: []registry.ArtifactLayer{{MediaType: attestation.VerdictLayer, Data: bytes.Repeat([]byte("x"), 1<<20)}}})
			return nil
		}, "not all that is attached could be read", "n’a pas pu être lu"},
		"a revoked key": {func(t *testing.T, s *stand) []string {
			s.attach(t, s.verdict(t, "qa", 1, s.digest, s.installation, nil))
			return []string{"--keys", s.keyList(t, "revoked")}
		}, "signed by a key that was revoked", "une clé révoquée"},
	} {
		t.Run(strings.ReplaceAll(name, " ", "-"), func(t *testing.T) {
			s := newStand(t, r)
			args := append([]string{"--key", s.installation.file}, c.make(t, s)...)
			s.run(t, 3, args, "Not proven.", c.en, s.digest+" is not proven")
			s.run(t, 3, append(args, "--lang", "fr"), "Non prouvé.", c.fr)
			if out := s.run(t, 3, append(args, "-o", "json")); !strings.Contains(out, `"ok": false`) {
				t.Errorf("-o json: %s", out)
			}
		})
	}
}

// Whoever may push may attach any number of artifacts of any size, and the same proof as often as it likes: neither fills the
// memory nor the table.
func TestVerifyFlood(t *testing.T) {
	s := newStand(t, registrytest.InProcess(t))
	proof := s.verdict(t, "qa", 1, s.digest, s.installation, nil)
	s.attach(t, proof)
	junk := registry.ArtifactLayer{MediaType: "application/octet-stream", Data: make([]byte, 512<<10)}
	for i := range 40 {
		// Different layers make different manifests, of which each that is read has 3.5 MiB.
		a := registry.Artifact{Type: attestation.VerdictArtifact, Layers: []registry.ArtifactLayer{proof.Layers[0]}}
		for range 7 {
			a.Layers = append(a.Layers, junk)
		}
		a.Layers[7] = registry.ArtifactLayer{MediaType: junk.MediaType, Data: fmt.Appendf(nil, "%d", i)}
		s.attach(t, a)
	}
	runtime.GC()
	var before, now runtime.MemStats
	runtime.ReadMemStats(&before)
	peak := make(chan uint64)
	done := make(chan struct{})
	go func() {
		most := uint64(0)
		for {
			runtime.GC()
			runtime.ReadMemStats(&now)
			most = max(most, now.HeapAlloc)
			select {
			case <-done:
				peak <- most
				return
			default:
			}
		}
	}()
	out := s.run(t, 0, []string{"--key", s.installation.file}, "Proven: the image passed qa.")
	close(done)
	if rows := strings.Count(out, "#1 qa"); rows != 1 {
		t.Errorf("one verdict is shown %d times", rows)
	}
	if most := <-peak; most > before.HeapAlloc+48<<20 {
		t.Errorf("%d MiB were kept of 120 MiB that were read", (most-before.HeapAlloc)>>20)
	}
}

// keyList writes a list as `sirrat keys list -o json` does.
func (s *stand) keyList(t *testing.T, state string) string {
	t.Helper()
	text, err := json.Marshal(map[string]any{"serial": 2, "keys": []map[string]string{{"id": s.installation.id, "state": state, "public": s.installation.public}}})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "keys.json")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// alter changes what an envelope holds and leaves its signature.
func alter(t *testing.T, text []byte, from, to string) []byte {
	t.Helper()
	var env map[string]any
	if err := json.Unmarshal(text, &env); err != nil {
		t.Fatal(err)
	}
	payload, err := base64.StdEncoding.DecodeString(fmt.Sprint(env["payload"]))
	if err != nil || !bytes.Contains(payload, []byte(from)) {
		t.Fatalf("%v: %s", err, payload)
	}
	env["payload"] = base64.StdEncoding.EncodeToString(bytes.Replace(payload, []byte(from), []byte(to), 1))
	out, err := json.Marshal(env)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// A list of keys comes from a file or an address; keys that were rotated out still prove what they signed.
func TestVerifyKeyLists(t *testing.T) {
	s := newStand(t, registrytest.InProcess(t))
	s.attach(t, s.verdict(t, "qa", 1, s.digest, s.installation, nil))
	for _, state := range []string{"signing", "accepted", "retired"} {
		s.run(t, 0, []string{"--keys", s.keyList(t, state)}, "Proven: the image passed")
	}
	list := s.keyList(t, "retired")
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) { http.ServeFile(w, q, list) }))
	t.Cleanup(server.Close)
	s.run(t, 0, []string{"--keys", server.URL}, "Proven: the image passed")
	s.run(t, 1, []string{"--keys", "http://keys.example/x"}, "not fetched over plain HTTP")
	s.run(t, 1, []string{"--keys", s.keyList(t, "lost")}, "cannot be used", `"lost"`, "sirrat keys list -o json")
	moved := httptest.NewServer(http.RedirectHandler(server.URL, http.StatusFound))
	t.Cleanup(moved.Close)
	s.run(t, 1, []string{"--keys", moved.URL}, "302")
	s.run(t, 2, nil, "--key or --keys is needed")
	s.run(t, 1, []string{"--key", list}, "PUBLIC KEY")
	var out bytes.Buffer
	w := cli.World{In: strings.NewReader(""), Out: &out, Err: &out, Getenv: func(string) string { return "" }}
	if code := cli.Main(context.WithoutCancel(t.Context()), w, []string{"verify", s.repository + ":nothing", "--key", s.installation.file}); code != 1 || !strings.Contains(out.String(), "not in the registry") {
		t.Errorf("an image that is not there: %d, %s", code, out.String())
	}
}

// Where more is attached than is looked at, or some of it cannot be read, what was asked for is proven by what could be; that
// nothing is wrong is not.
func TestVerifyIncomplete(t *testing.T) {
	s := newStand(t, registrytest.InProcess(t))
	for i := range 4 { // in the order of their digests, some before the verdict
		s.attach(t, registry.Artifact{Type: attestation.VerdictArtifact, Layers: []registry.ArtifactLayer{{MediaType: attestation.VerdictLayer, Data: bytes.Repeat([]byte{'a' + byte(i)}, 1<<20)}}})
	}
	s.attach(t, s.verdict(t, "qa", 1, s.digest, s.installation, nil))
	key := []string{"--key", s.installation.file}
	var report struct{ Problems, Gates []struct{ Artifact string } }
	if err := json.Unmarshal([]byte(s.run(t, 0, append(key, "--gate", "qa", "-o", "json"))), &report); err != nil {
		t.Fatal(err)
	}
	if len(report.Problems) != 4 || len(report.Gates) != 1 || report.Gates[0].Artifact == "" {
		t.Errorf("%+v", report)
	}
	for _, p := range report.Problems {
		if !strings.HasPrefix(p.Artifact, "sha256:") {
			t.Errorf("which cannot be read is not said: %+v", p)
		}
	}
	s.run(t, 3, key, "Not proven.", "not all that is attached could be read")

	s = newStand(t, registrytest.InProcess(t))
	s.attach(t, s.verdict(t, "qa", 1, s.digest, s.installation, nil))
	key = []string{"--key", s.installation.file}
	s.registry.Misbehave(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, "/referrers/") {
			return false
		}
		own := httptest.NewRecorder()
		s.registry.Forward(own, r)
		var index map[string]any
		if err := json.Unmarshal(own.Body.Bytes(), &index); err != nil {
			t.Error(err)
			return false
		}
		list, _ := index["manifests"].([]any)
		for i := range 1000 {
			list = append(list, map[string]any{"mediaType": "application/vnd.oci.image.manifest.v1+json", "artifactType": "application/vnd.example", "size": 1, "digest": fmt.Sprintf("sha256:%064d", i)})
		}
		index["manifests"] = list
		w.Header().Set("Content-Type", "application/vnd.oci.image.index.v1+json")
		if err := json.NewEncoder(w).Encode(index); err != nil {
			t.Error(err)
		}
		return true
	})
	s.run(t, 0, append(key, "--gate", "qa"), "Proven: the image passed qa.", "not all that is attached could be read")
	s.run(t, 3, key, "Not proven.", "not all that is attached could be read")
	s.registry.Misbehave(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, "/referrers/") {
			return false
		}
		http.Error(w, "no", http.StatusForbidden)
		return true
	})
	s.run(t, 1, append(key, "--gate", "qa"), "403")
}

// A list that is not what it should be proves nothing, and a key that one of several lists calls revoked is not believed.
func TestVerifyKeyListsThatAreRefused(t *testing.T) {
	s := newStand(t, registrytest.InProcess(t))
	s.attach(t, s.verdict(t, "qa", 1, s.digest, s.installation, nil))
	other := newSigner(t)
	write := func(text string) string {
		file := filepath.Join(t.TempDir(), "keys.json")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	entry := func(id, state, public string) string {
		text, err := json.Marshal(map[string]string{"id": id, "state": state, "public": public})
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	list := func(entries ...string) string { return `{"keys":[` + strings.Join(entries, ",") + `]}` }
	ours := entry(s.installation.id, "signing", s.installation.public)
	full := func(size int) string { text := list(ours); return text + strings.Repeat(" ", size-len(text)) }
	served := func(status int, text string) string {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			_, _ = w.Write([]byte(text))
		}))
		t.Cleanup(server.Close)
		return server.URL
	}
	for name, c := range map[string]struct {
		code  int
		lists []string
		says  string
	}{
		"good":                                 {0, []string{write(list(ours))}, "Proven"},
		"another is revoked":                   {0, []string{write(list(ours, entry(other.id, "revoked", other.public)))}, "Proven"},
		"revoked in one of two":                {3, []string{write(list(ours)), write(list(entry(s.installation.id, "revoked", s.installation.public)))}, "a key that was revoked"},
		"revoked in the first of two":          {3, []string{write(list(entry(s.installation.id, "revoked", s.installation.public))), write(list(ours))}, "a key that was revoked"},
		"revoked and good in one":              {3, []string{write(list(ours, entry(s.installation.id, "revoked", s.installation.public)))}, "a key that was revoked"},
		"no key":                               {1, []string{write(`{"keys":[]}`)}, "it holds no key"},
		"another's id":                         {1, []string{write(list(entry(other.id, "signing", s.installation.public)))}, "the key called " + other.id},
		"a revoked key by another's id":        {1, []string{write(list(ours, entry(other.id, "revoked", s.installation.public)))}, "the key called " + other.id},
		"what is no key":                       {1, []string{write(list(ours, entry(other.id, "signing", "x")))}, "key " + other.id},
		"no state":                             {1, []string{write(list(entry(s.installation.id, "", s.installation.public)))}, `is ""`},
		"a member twice":                       {1, []string{write(`{"keys":[],"Keys":[` + ours + `]}`)}, "cannot be used"},
		"no JSON":                              {1, []string{write("keys")}, "cannot be used"},
		"one is good, one is none":             {1, []string{write(list(ours)), write("keys")}, "cannot be used"},
		"no file":                              {1, []string{filepath.Join(t.TempDir(), "none")}, "none"},
		"an address that is no web page":       {1, []string{"ftp://127.0.0.1/keys"}, "no such file"},
		"as large as may be":                   {0, []string{write(full(1 << 20))}, "Proven"},
		"larger":                               {1, []string{write(full(1<<20 + 1))}, "more than 1048576 bytes"},
		"served":                               {0, []string{served(http.StatusOK, list(ours))}, "Proven"},
		"served, larger":                       {1, []string{served(http.StatusOK, full(1<<20+1))}, "more than 1048576 bytes"},
		"served in an error":                   {1, []string{served(http.StatusNotFound, list(ours))}, "404"},
		"a name that begins as this machine's": {1, []string{"http://127.0.0.1.example/keys"}, "not fetched over plain HTTP"},
		"a name that begins as localhost":      {1, []string{"http://localhost.example/keys"}, "not fetched over plain HTTP"},
		"a user who is called as this machine": {1, []string{"http://127.0.0.1@keys.example/keys"}, "not fetched over plain HTTP"},
	} {
		t.Run(strings.ReplaceAll(name, " ", "-"), func(t *testing.T) {
			var args []string
			for _, l := range c.lists {
				args = append(args, "--keys", l)
			}
			s.run(t, c.code, args, c.says)
		})
	}
	s.run(t, 1, []string{"--key", s.installation.file, "--client-key", write("x")}, "PUBLIC KEY")
}
