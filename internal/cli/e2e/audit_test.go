// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/apitoken"
	"gitlab.com/dynors/sirrat/internal/cli"
	"gitlab.com/dynors/sirrat/internal/controlplane/cptest"
	"gitlab.com/dynors/sirrat/internal/envelope"
	"gitlab.com/dynors/sirrat/internal/ingest"
)

var httpOnce sync.Once

// serveHTTP runs the HTTP API beside the controllers, for the whole process, and publishes where it is as a server does.
func (k *kit) serveHTTP(t *testing.T) {
	t.Helper()
	httpOnce.Do(func() {
		m := running.Manager
		handler, err := ingest.New(ingest.Options{
			Client: m.GetClient(), APIReader: m.GetAPIReader(), Cache: m.GetCache(), Journal: running.Journal, Archive: running.Archive, Keys: running.Keys.Public,
		})
		if err != nil {
			t.Fatal(err)
		}
		server := httptest.NewServer(handler) // as long as the process
		k.create(t, &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Namespace: v1alpha1.SystemNamespace, Name: v1alpha1.InfoConfigMap},
			Data:       map[string]string{v1alpha1.InfoURL: server.URL},
		})
		cptest.Wait(t, "the HTTP API", func(context.Context) error {
			resp, err := http.Get(server.URL + "/readyz")
			if err == nil {
				resp.Body.Close()
				if resp.StatusCode != http.StatusOK {
					err = errors.New(resp.Status)
				}
			}
			return err
		})
	})
}

// withToken runs a command with $SIRRAT_AUDIT_TOKEN, without a kubeconfig.
func withToken(t *testing.T, token string, args ...string) outcome {
	t.Helper()
	var out, errOut bytes.Buffer
	env := map[string]string{"SIRRAT_AUDIT_TOKEN": token}
	code := cli.Main(t.Context(), cli.World{In: strings.NewReader(""), Out: &out, Err: &errOut, Zone: time.UTC, Getenv: func(n string) string { return env[n] }}, args)
	return outcome{out.String(), errOut.String(), code}
}

func (k *kit) apiURL(t *testing.T) string {
	t.Helper()
	var cm corev1.ConfigMap
	if err := k.client.Get(t.Context(), client.ObjectKey{Namespace: v1alpha1.SystemNamespace, Name: v1alpha1.InfoConfigMap}, &cm); err != nil {
		t.Fatal(err)
	}
	return cm.Data[v1alpha1.InfoURL]
}

// The journal of a project, from looking at it to verifying it, and after the project is gone.
func TestAudit(t *testing.T) {
	k := newKit(t)
	k.serveHTTP(t)
	repository := images(t)
	k.bridge(t, "", repository)
	name := k.release(t, repository, commit)
	with := func(args ...string) []string { return append(args, "-n", k.project) }
	k.as(t, qa, nil, with("approve", name, "qa", "--yes")...).expect(t, 0)

	t.Run("show", func(t *testing.T) {
		o := k.as(t, cto, nil, with("audit", "show")...)
		t.Log("\n" + o.out)
		o.expect(t, 0, "SEQ", "Verdict", "qa: Waiting", "qa: Approved", qa, `release/1.3\u202e`)
		if strings.Contains(o.out, "\u202e") {
			t.Error("a mark that turns the direction of text reached the terminal")
		}
		k.as(t, cto, nil, with("audit", "show", name, "--kind", "approval", "--since", "1h", "-o", "wide")...).expect(t, 0, "approval/", "sha256:")
		k.as(t, cto, nil, with("audit", "show", "--since", "2099-01-01")...).expect(t, 0, "Nothing that is recorded")
		k.as(t, cto, nil, with("audit", "show", "nothing")...).expect(t, 0, "Nothing that is recorded")
		k.as(t, cto, nil, with("audit", "show", "--kind", "x")...).expect(t, 2, "Result, Release")
		k.as(t, cto, nil, with("audit", "show", "--since", "x")...).expect(t, 2, "neither a date")
		var entries []struct {
			Seq              int64
			Kind, Hash, Prev string
		}
		o = k.as(t, cto, nil, with("audit", "show", "-o", "json")...)
		if err := json.Unmarshal([]byte(o.out), &entries); err != nil || len(entries) < 4 || entries[1].Prev != entries[0].Hash {
			t.Errorf("-o json: %v, %+v", err, entries)
		}
		var secrets corev1.SecretList
		if err := k.client.List(t.Context(), &secrets, client.InNamespace(k.project), client.HasLabels{v1alpha1.LabelToken}); err != nil || len(secrets.Items) > 0 {
			t.Errorf("tokens were left behind: %v, %d", err, len(secrets.Items))
		}
	})
	t.Run("access", func(t *testing.T) { auditAccess(t, k) })
	t.Run("export", func(t *testing.T) { auditExport(t, k) })
	t.Run("hostile", func(t *testing.T) { hostileExports(t, k) })
	t.Run("deleted project", func(t *testing.T) { auditOfDeleted(t, k) })
}

func auditAccess(t *testing.T, k *kit) {
	k.as(t, qa, nil, "audit", "show", "-n", k.project).expect(t, 1, "you may not make a token", "--scope audit")
	k.as(t, cto, nil, "audit", "show", "-n", "nowhere").expect(t, 1)
	k.as(t, admin, nil, "audit", "show", "-n", "nowhere").expect(t, 1, "there is no project", "--archive")
	// An operator may make tokens and not delete them.
	const someone = "op-audit@dynors.com"
	k.bind(t, someone, "sirrat-operator", "")
	cptest.Wait(t, "the operator's rights", func(context.Context) error {
		if o := k.as(t, someone, nil, "audit", "show", "-n", k.project); o.code != 0 || !strings.Contains(o.err, "ends by itself after 5m") {
			return errors.New(o.err)
		}
		return nil
	})
	made := k.as(t, cto, nil, "token", "create", k.project, "--scope", "audit", "--name", "auditor")
	made.expect(t, 0, "SIRRAT_AUDIT_TOKEN")
	k.as(t, cto, nil, "token", "create", k.project, "--scope", "all").expect(t, 2, "it can be audit")
	k.as(t, admin, nil, "token", "list", k.project).expect(t, 0, "SCOPE", "auditor")
	show := []string{"audit", "show", "-n", k.project, "--api-url", k.apiURL(t) + "/api/"}
	withToken(t, strings.TrimSpace(made.out), show...).expect(t, 0, "Verdict")
	withToken(t, strings.TrimSpace(made.out), "audit", "show", "-n", "another", "--api-url", k.apiURL(t)).expect(t, 1, "does not open this project")
	pipeline := k.as(t, cto, nil, "token", "create", k.project)
	withToken(t, strings.TrimSpace(pipeline.out), show...).expect(t, 1, "does not open this project")
	k.as(t, cto, nil, "audit", "show", "-n", k.project, "--api-url", "http://127.0.0.1:1").expect(t, 1, "cannot reach", "--api-url")
	k.as(t, cto, nil, "audit", "show", "-n", k.project, "--api-url", "ftp://x").expect(t, 1, "not the address")
}

func auditExport(t *testing.T, k *kit) {
	dir := filepath.Join(k.dir, "export")
	o := k.as(t, cto, nil, "audit", "export", dir, "-n", k.project)
	t.Log("\n" + o.out + o.err)
	o.expect(t, 0, "Everything holds", k.project, "WARNING", "sha256:")
	k.as(t, cto, nil, "audit", "export", dir, "-n", k.project).expect(t, 1, "is not empty")

	ours, theirs := filepath.Join(k.dir, "ours.pub"), filepath.Join(k.dir, "theirs")
	for _, text := range running.Keys.Public() {
		if err := os.WriteFile(ours, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	k.as(t, admin, nil, "pv", "keygen", "--out", theirs).expect(t, 0)
	good := withToken(t, "", "audit", "verify", dir, "--public-key", ours)
	if good.expect(t, 0, "Everything holds"); strings.Contains(good.err, "WARNING") {
		t.Errorf("a warning beside a key that was given: %s", good.err)
	}
	withToken(t, "", "audit", "verify", dir, "--public-key", theirs+".pub").expect(t, 3, "checkpoint.json", "bad signature")
	withToken(t, "", "audit", "verify", filepath.Join(k.dir, "nothing")).expect(t, 1, "no such file")
	withToken(t, "", "audit", "verify", dir, "--public-key", filepath.Join(k.dir, "nothing")).expect(t, 1, "no such file")
	var report struct {
		OK, OwnKeys bool
		Entries     int64
		Problems    []struct{ File string }
	}
	if o := withToken(t, "", "audit", "verify", dir, "-o", "json"); json.Unmarshal([]byte(o.out), &report) != nil || !report.OK || !report.OwnKeys || report.Entries < 4 {
		t.Errorf("-o json: %s", o.out)
	}
	// A byte that is flipped in any file is named by that file.
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		altered := bytes.Clone(text)
		altered[len(altered)/2] ^= 1
		if err := os.WriteFile(path, altered, 0o600); err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		withToken(t, "", "audit", "verify", dir).expect(t, 3, name, "problem(s)")
		o := withToken(t, "", "audit", "verify", dir, "-o", "json")
		if json.Unmarshal([]byte(o.out), &report) != nil || report.OK || len(report.Problems) == 0 || o.code != 3 {
			t.Errorf("-o json: %d %s", o.code, o.out)
		}
		return os.WriteFile(path, text, 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
	withToken(t, "", "audit", "verify", dir).expect(t, 0)
}

// member is one of a hostile archive.
type member struct {
	header tar.Header
	body   string
}

// A server that is not what it seems writes nothing on the auditor's machine.
func hostileExports(t *testing.T, k *kit) {
	object := "objects/sha256/aa/aa" + strings.Repeat("0", 62)
	file := func(name string) member {
		return member{tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o600, Size: 2}, "{}"}
	}
	special := func(typeflag byte, name, target string) member {
		return member{tar.Header{Typeflag: typeflag, Name: name, Linkname: target, Mode: 0o777}, ""}
	}
	huge := file(object)
	huge.header.Size = 1 << 40
	for name, members := range map[string][]member{
		"up":               {file("journal.jsonl"), file("../escaped")},
		"up within":        {file("keys/../../escaped")},
		"absolute":         {file(filepath.Join(k.dir, "escaped"))},
		"symlink":          {special(tar.TypeSymlink, "keys", k.dir), file("keys/escaped")},
		"link of our name": {special(tar.TypeSymlink, "journal.jsonl", filepath.Join(k.dir, "escaped"))},
		"hard link":        {special(tar.TypeLink, "journal.jsonl", "/etc/passwd")},
		"device":           {special(tar.TypeChar, "journal.jsonl", "")},
		"pipe":             {special(tar.TypeFifo, "journal.jsonl", "")},
		"folder":           {special(tar.TypeDir, "keys", "")},
		"twice":            {file("journal.jsonl"), file("journal.jsonl")},
		"by case":          {file("README.md"), file("readme.md")},
		"other name":       {file("journal.jsonl"), file("run.sh")},
		"other prefix":     {file("objects/sha256/ab/aa" + strings.Repeat("0", 62))},
		"huge":             {file("journal.jsonl"), huge},
		"incomplete":       {file("journal.jsonl")},
		"empty":            nil,
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				out := tar.NewWriter(w)
				for _, m := range members {
					if err := out.WriteHeader(&m.header); err != nil {
						t.Error(err)
					}
					fmt.Fprint(out, m.body)
				}
				_ = out.Flush()                    // the huge one is not whole
				_, _ = w.Write(make([]byte, 1024)) // to a client that may have gone away
			}))
			defer server.Close()
			parent := t.TempDir()
			before := listing(t, k.dir)
			withToken(t, "sirrat_x", "audit", "export", filepath.Join(parent, "out"), "-n", k.project, "--api-url", server.URL).
				expect(t, 1, "nothing was kept")
			if left := listing(t, parent); len(left) > 0 {
				t.Errorf("written: %v", left)
			}
			if after := listing(t, k.dir); after != before {
				t.Errorf("written beside: %s", after)
			}
		})
	}
	redirected := false
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { redirected = true }))
	defer elsewhere.Close()
	server := httptest.NewServer(http.RedirectHandler(elsewhere.URL, http.StatusFound))
	defer server.Close()
	withToken(t, "sirrat_x", "audit", "show", "-n", k.project, "--api-url", server.URL).expect(t, 1, "302")
	if redirected {
		t.Error("the token went to another server")
	}
}

func listing(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return strings.Join(names, " ")
}

func auditOfDeleted(t *testing.T, k *kit) {
	archiveDir := filepath.Join(k.DataDir, "archive")
	project := &v1alpha1.Project{}
	if err := k.client.Get(t.Context(), client.ObjectKey{Name: k.project}, project); err != nil {
		t.Fatal(err)
	}
	uid := string(project.UID)
	if err := k.client.Delete(t.Context(), project); err != nil {
		t.Fatal(err)
	}
	cptest.Wait(t, "the project to be gone", func(ctx context.Context) error {
		err := k.client.Get(ctx, client.ObjectKey{Name: k.project}, project)
		if apierrors.IsNotFound(err) {
			err = k.client.Get(ctx, client.ObjectKey{Name: k.project}, &corev1.Namespace{})
		}
		if apierrors.IsNotFound(err) {
			return nil
		}
		return fmt.Errorf("still there: %w", err)
	})
	k.as(t, admin, nil, "audit", "show", "-n", k.project).expect(t, 1, "there is no project", "--archive")
	withToken(t, "", "audit", "show", "--archive", archiveDir, "--project-uid", uid).expect(t, 0, "qa: Approved", "project "+k.project+" deleted")
	withToken(t, "", "audit", "show", "--archive", archiveDir, "-n", k.project).expect(t, 0, "deleted")
	withToken(t, "", "audit", "show", "--archive", archiveDir, "--project-uid", "none").expect(t, 1, "no such project", uid, k.project)
	withToken(t, "", "audit", "show", "--archive", t.TempDir()).expect(t, 1, "it is none")
	withToken(t, "", "audit", "show", "--project-uid", uid).expect(t, 2, "--archive")

	dir, key := filepath.Join(k.dir, "old"), filepath.Join(k.dir, "operator")
	withToken(t, "", "pv", "keygen", "--out", key).expect(t, 0)
	withToken(t, "", "audit", "export", dir, "--archive", archiveDir, "--project-uid", uid).expect(t, 2, "--signing-key")
	withToken(t, "", "audit", "export", dir, "--archive", archiveDir, "--project-uid", uid, "--signing-key", key+".key", "--public-key", key+".pub").
		expect(t, 0, "Everything holds")
}

// A PV that was signed on paper, from the scan to the decision.
func TestPaper(t *testing.T) {
	k := newKit(t)
	k.serveHTTP(t)
	repository := images(t)
	k.bridge(t, "", repository)
	name := k.release(t, repository, commit)
	with := func(args ...string) []string { return append(args, "-n", k.project) }
	k.as(t, qa, nil, with("approve", name, "qa", "--yes")...).expect(t, 0)
	k.deployed(t, commit, "recette")
	read := func() *v1alpha1.PV {
		t.Helper()
		p := &v1alpha1.PV{}
		cptest.Wait(t, "the PV", func(ctx context.Context) error {
			return k.client.Get(ctx, client.ObjectKey{Namespace: k.project, Name: name}, p)
		})
		return p
	}
	read()
	scan, other, program := filepath.Join(k.dir, "scan.pdf"), filepath.Join(k.dir, "other.png"), filepath.Join(k.dir, "program")
	for file, text := range map[string]string{scan: "%PDF-1.7 signed", other: "\x89PNG\r\n\x1a\n other", program: "#!/bin/sh"} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	upload := func(file string, more ...string) []string {
		return with(append([]string{"pv", "upload", name, "--scan", file, "--decision", "accept-with-reservations", "--signed-by", "Claire Client",
			"--signed-on", "2026-01-15", "--reservation", "logo is blurred;DYNORS;2099-12-31"}, more...)...)
	}
	k.as(t, qa, nil, upload(program, "--yes")...).expect(t, 1, "neither a PDF")
	k.as(t, qa, nil, upload(scan, "--signed-on", "2099-01-01")...).expect(t, 2, "--signed-on")
	k.as(t, qa, nil, with("pv", "upload", name)...).expect(t, 2, "--scan is needed")
	k.as(t, qa, nil, with("pv", "upload", name, "--withdraw", "--scan", scan)...).expect(t, 2, "do not go together")
	k.as(t, dev, nil, upload(scan, "--yes")...).expect(t, 1, "cannot patch")
	k.as(t, qa, nil, upload(scan)...).expect(t, 1, "no terminal", "Claire Client", "logo is blurred", "PDF", "sha256:")
	k.as(t, qa, []string{"n"}, upload(scan)...).expect(t, 1, "not confirmed")
	if read().Spec.Paper != nil {
		t.Error("a paper was announced without a yes")
	}
	k.as(t, qa, nil, with("pv", "upload", name, "--withdraw", "--yes")...).expect(t, 0, "nothing to take back")

	// Announced where the scan cannot arrive, taken back by who announced it, and announced anew.
	k.as(t, qa, nil, upload(other, "--yes", "--api-url", "http://127.0.0.1:1")...).expect(t, 1, "did not arrive", "cannot reach")
	if p := read(); p.Spec.Paper == nil || p.Spec.Paper.UploadedBy != qa || p.Status.Decision != "" {
		t.Fatalf("paper %+v, decision %q", p.Spec.Paper, p.Status.Decision)
	}
	url := k.apiURL(t) + "/api/projects/" + k.project + "/pvs/" + name + "/scan"
	if status := put(t, url, "%PDF-1.7 another"); status != http.StatusNotFound {
		t.Errorf("another scan: %d", status)
	}
	k.as(t, qa, []string{"y"}, with("pv", "upload", name, "--withdraw")...).expect(t, 0, "is taken back")
	if status := put(t, url, "\x89PNG\r\n\x1a\n other"); status != http.StatusNotFound {
		t.Errorf("a scan that was taken back: %d", status)
	}
	o := k.as(t, qa, nil, upload(scan, "--yes")...)
	t.Log("\n" + o.out)
	o.expect(t, 0, "accepted with reservations, signed on paper by Claire Client")
	p := read()
	if p.Status.Decision != v1alpha1.PVAcceptedWithReservations || p.Status.Method != v1alpha1.MethodPaper || p.Status.SignatureHash != p.Spec.Paper.ScanHash {
		t.Errorf("status %+v", p.Status)
	}
	if data, err := running.Archive.Get(t.Context(), envelope.Hash([]byte("%PDF-1.7 signed"))); err != nil || string(data) != "%PDF-1.7 signed" {
		t.Errorf("the scan in the archive: %q, %v", data, err)
	}
	if status := put(t, url, "%PDF-1.7 signed"); status != http.StatusConflict {
		t.Errorf("the same scan again: %d", status)
	}
	k.as(t, qa, nil, upload(scan, "--yes")...).expect(t, 1, "already decided")
	k.as(t, qa, nil, with("pv", "upload", name, "--withdraw", "--yes")...).expect(t, 1, "already decided")
	k.as(t, cto, nil, with("audit", "show", "--kind", "PV")...).expect(t, 0, "AcceptedWithReservations Claire Client paper", qa)
	k.as(t, cto, nil, with("audit", "export", filepath.Join(k.dir, "export"))...).expect(t, 0, "Everything holds")
}

func put(t *testing.T, url, body string) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

// The scope of a token is what its Secret says, and nothing that is printed.
func TestAuditTokenScope(t *testing.T) {
	k := newKit(t)
	k.project = k.Namespace(t)
	o := k.as(t, admin, nil, "token", "create", k.project, "--scope", "audit")
	o.expect(t, 0)
	plaintext := strings.TrimSpace(o.out)
	id, err := apitoken.ID(plaintext)
	if err != nil {
		t.Fatal(err)
	}
	var secret corev1.Secret
	if err := k.client.Get(t.Context(), client.ObjectKey{Namespace: k.project, Name: apitoken.SecretName(id)}, &secret); err != nil {
		t.Fatal(err)
	}
	if err := apitoken.Check(&secret, plaintext, apitoken.ScopeAudit, time.Now()); err != nil {
		t.Error(err)
	}
	if err := apitoken.Check(&secret, plaintext, apitoken.ScopePipeline, time.Now()); !errors.Is(err, apitoken.ErrUnknown) {
		t.Errorf("as a pipeline's: %v", err)
	}
}
