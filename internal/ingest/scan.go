// SPDX-License-Identifier: Apache-2.0

package ingest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"regexp"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

// Archive is where scans are kept; an archive.Store is one.
type Archive interface {
	// Put stores data durably and returns its hash, "sha256:<hex>".
	Put(ctx context.Context, data []byte) (hash string, err error)
}

const (
	// MaxScan bounds a scan, in bytes.
	MaxScan = 20 << 20
	// maxScans bounds the requests with a scan at a time. They need no token, so they must not take the room of others.
	maxScans = 32
	// maxScansKept bounds those of them whose body is in memory: only what a PV waits for is kept at all.
	maxScansKept = 4
	// scanHead is as much of a file as tells what it is.
	scanHead = 8
)

// pvPattern is what a PV's name can be: nothing else reaches a path of the API server.
var pvPattern = regexp.MustCompile(`^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$`)

// ScanAnswer is the body of a 200 answer to a scan.
type ScanAnswer struct {
	// Hash of the scan, as in the PV's spec.paper.scanHash.
	Hash string `json:"hash"`
	// What it is: application/pdf, image/jpeg or image/png.
	MediaType string `json:"mediaType"`
	// Size in bytes.
	Size int64 `json:"size"`
}

// putScan stores the scan of a PV that was signed on paper. It needs no token: somebody who may has written the hash of the
// one file that is wanted into the PV before. Whoever sends anything else gets one and the same answer, after the same
// reading, whether there is such a PV or not.
func (a *api) putScan(w http.ResponseWriter, r *http.Request) error {
	if a.o.Archive == nil {
		return unavailable("this server has no archive", time.Minute, nil)
	}
	select {
	case a.scans <- struct{}{}:
		defer func() { <-a.scans }()
	default:
		return busyWithScans()
	}
	rc, start := http.NewResponseController(w), time.Now()
	_ = rc.SetReadDeadline(start.Add(a.o.ScanTimeout))
	_ = rc.SetWriteDeadline(start.Add(a.o.ScanTimeout + 2*(slotTimeout+a.o.StoreTimeout) + stallTimeout))
	l := bodyLimit{size: MaxScan, time: a.o.ScanTimeout, what: "scan with 200 dpi in grey, or split it", send: "scan"}
	if err := l.check(r); err != nil {
		return err
	}
	project, name := r.PathValue("id"), r.PathValue("name")
	wanted, err := a.wantedScan(r.Context(), project, name)
	if err != nil {
		return err
	}
	if wanted.open {
		select {
		case a.scanned <- struct{}{}:
			defer func() { <-a.scanned }()
		default:
			return busyWithScans()
		}
	}
	scan, err := readScan(http.MaxBytesReader(w, r.Body, MaxScan), wanted.open)
	if err := l.problem(scan.Size, err); err != nil {
		return err
	}
	if scan.MediaType == "" {
		return fields(http.StatusUnprocessableEntity, "not-a-scan", "The body is not a scan", []FieldError{{Detail: "send a PDF, a JPEG or a PNG, as the file is"}})
	}
	if wanted, err = a.wantedScan(r.Context(), project, name); err != nil { // it may have been taken back meanwhile
		return err
	}
	return a.keepScan(w, r, wanted, scan)
}

func busyWithScans() *Problem {
	p := unavailable("too many scans at a time", 5*time.Second, nil)
	p.closing = true
	return p
}

func (a *api) keepScan(w http.ResponseWriter, r *http.Request, wanted wantedScan, scan readFile) error {
	switch {
	case wanted.hash != scan.Hash:
		return newProblem(http.StatusNotFound, "not-announced", "No PV waits for this scan",
			"no PV of that project and name waits for a file with the hash "+scan.Hash+": announce it first, with `kubectl sirrat pv upload`")
	case !wanted.open:
		return newProblem(http.StatusConflict, "decided", "The PV is decided", "its decision stands; nothing was stored")
	case scan.data == nil: // it was announced while the body was on its way
		return unavailable("the scan was announced a moment ago", time.Second, nil)
	}
	ctx, cancel := context.WithTimeout(r.Context(), a.o.StoreTimeout)
	defer cancel()
	if hash, err := a.o.Archive.Put(ctx, scan.data); err != nil || hash != scan.Hash {
		return unavailable("the archive did not take the scan; send it again", 2*time.Second, err)
	}
	writeJSON(w, http.StatusOK, "application/json", scan.ScanAnswer)
	return nil
}

// wantedScan is the scan that a PV names: open while the PV is not decided. The zero value is that of a PV without one.
type wantedScan struct {
	hash string
	open bool
}

// wantedScan asks the API server and not the cache: the paper was announced a moment ago.
func (a *api) wantedScan(ctx context.Context, project, name string) (wanted wantedScan, err error) {
	if !projectPattern.MatchString(project) || !pvPattern.MatchString(name) {
		return wantedScan{}, nil
	}
	err = a.withStore(ctx, func(ctx context.Context) error {
		var pv v1alpha1.PV
		err := a.o.APIReader.Get(ctx, client.ObjectKey{Namespace: project, Name: name}, &pv)
		if apierrors.IsNotFound(err) {
			return nil
		}
		if err != nil {
			return storeProblem("read the PV", err)
		}
		if paper := pv.Spec.Paper; paper != nil && pv.Spec.Signature == "" {
			wanted = wantedScan{hash: paper.ScanHash, open: pv.Status.Decision == ""}
		}
		return nil
	})
	return wanted, err
}

// readFile is a body that was read.
type readFile struct {
	ScanAnswer
	data []byte // nil unless it was to be kept
}

// readScan reads a body to its end, in little memory unless it is to be kept.
func readScan(body io.Reader, keep bool) (readFile, error) {
	var head, data bytes.Buffer
	hash := sha256.New()
	to := io.MultiWriter(hash, &limited{&head, scanHead})
	if keep {
		to = io.MultiWriter(to, &data)
	}
	n, err := io.Copy(to, body)
	f := readFile{ScanAnswer: ScanAnswer{Hash: "sha256:" + hex.EncodeToString(hash.Sum(nil)), MediaType: scanType(head.Bytes()), Size: n}}
	if keep {
		f.data = data.Bytes()
	}
	return f, err
}

// limited takes the first bytes only, and swallows the others.
type limited struct {
	to   io.Writer
	left int
}

// Write implements io.Writer.
func (l *limited) Write(p []byte) (int, error) {
	n := min(len(p), l.left)
	l.left -= n
	if _, err := l.to.Write(p[:n]); err != nil {
		return 0, err
	}
	return len(p), nil
}

// scanType tells what a file is by how it begins, "" if it is none of what is accepted. Nothing that a client says of it
// counts.
func scanType(head []byte) string {
	switch {
	case bytes.HasPrefix(head, []byte("%PDF-")):
		return "application/pdf"
	case bytes.HasPrefix(head, []byte("\xff\xd8\xff")):
		return "image/jpeg"
	case bytes.HasPrefix(head, []byte("\x89PNG\r\n\x1a\n")):
		return "image/png"
	}
	return ""
}
