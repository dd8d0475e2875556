// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/envelope"
	"gitlab.com/dynors/sirrat/internal/pv"
	"gitlab.com/dynors/sirrat/internal/pv/pdf"
)

func testSession() *session {
	_, s := build(testWorld(), nil)
	return s
}

func openedPV(t *testing.T) *v1alpha1.PV {
	t.Helper()
	text, hash, err := pv.Document{Title: "PV", Language: "fr", Project: "p", Release: "a1b2c3d", Opened: time.Unix(0, 0)}.Canonical()
	if err != nil {
		t.Fatal(err)
	}
	p := &v1alpha1.PV{ObjectMeta: metav1.ObjectMeta{Name: "a1b2c3d", Namespace: "p"}, Spec: v1alpha1.PVSpec{Document: text, DocumentHash: hash}}
	page, err := pdf.Of(p)
	if err != nil {
		t.Fatal(err)
	}
	p.Spec.PDFHash = envelope.Hash(page)
	return p
}

func TestRenderPV(t *testing.T) {
	s := testSession()
	p := openedPV(t)
	page, hash, err := s.renderPV(p)
	if err != nil || hash != p.Spec.PDFHash || !bytes.HasPrefix(page, []byte("%PDF-")) {
		t.Fatalf("%v, %s, want %s", err, hash, p.Spec.PDFHash)
	}
	at := metav1.NewTime(time.Unix(0, 0))
	p.Status.Decision, p.Status.SignedBy, p.Status.SignedAt = v1alpha1.PVAccepted, "Claire Client", &at
	if _, hash, err = s.renderPV(p); err != nil || hash == p.Spec.PDFHash {
		t.Errorf("decided, and no hash stated: %v, %s", err, hash)
	}
	p.Status.PDFHash = p.Spec.PDFHash // as another version would have made it
	_, _, err = s.renderPV(p)
	var f *failure
	if !errors.As(err, &f) || f.code != exitCheck || !strings.Contains(f.hint, "archive") {
		t.Errorf("another hash: %v", err)
	}
	if _, err := json.Marshal(writtenPDF{}); err != nil {
		t.Error(err)
	}
}

func TestWriteFile(t *testing.T) {
	s := testSession()
	file := filepath.Join(t.TempDir(), "p-a1b2c3d.pdf")
	for _, c := range []struct {
		name, data string
		force, ok  bool
		want       string
	}{
		{"new", "one", false, true, "one"},
		{"exists", "two", false, false, "one"},
		{"force", "three", true, true, "three"},
	} {
		err := s.writeFile(file, []byte(c.data), c.force)
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
		if got, err := os.ReadFile(file); err != nil || string(got) != c.want {
			t.Errorf("%s: %q (%v), want %q", c.name, got, err, c.want)
		}
	}
	if left, err := os.ReadDir(filepath.Dir(file)); err != nil || len(left) != 1 {
		t.Errorf("left behind: %v (%v)", left, err)
	}
	link := filepath.Join(filepath.Dir(file), "dangling")
	if err := os.Symlink("nowhere", link); err != nil {
		t.Fatal(err)
	}
	if err := s.writeFile(link, []byte("x"), false); err == nil {
		t.Error("a link was overwritten")
	}
	if err := s.writeFile(filepath.Join(file, "x"), nil, false); err == nil {
		t.Error("wrote below a file")
	}
}
