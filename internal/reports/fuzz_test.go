// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

// fuzz feeds variants of a format's samples, and of what is refused, to Read, which must not panic, must not find anything
// impossible, and must say the same again.
func fuzz(f *testing.F, folder string, more ...func(t *testing.T, data []byte, rep Report)) {
	files, err := filepath.Glob(filepath.Join("testdata", folder, "*"))
	if err != nil || len(files) < 2 {
		f.Fatalf("%d samples: %v", len(files), err)
	}
	for _, file := range files {
		f.Add(sample(f, strings.TrimPrefix(file, "testdata/")))
	}
	for _, tc := range refusals {
		if len(tc.body) < 1000 {
			f.Add([]byte(tc.body))
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		rep, err := Read(bytes.NewReader(data), Options{})
		if err != nil {
			var refused *Error
			if !errors.As(err, &refused) || refused.Why == "" {
				t.Fatalf("%v is no refusal", err)
			}
			return
		}
		possible(t, rep)
		again, err := Read(bytes.NewReader(data), Options{})
		if err != nil || describe(again) != describe(rep) {
			t.Fatalf("%s, then %s, %v", describe(rep), describe(again), err)
		}
		for _, check := range more {
			check(t, data, rep)
		}
	})
}

// possible checks what the CIResult's schema demands, and that nothing passes for nothing.
func possible(t *testing.T, rep Report) {
	t.Helper()
	bad := rep.Format == "" || rep.Type == "" || rep.Status == "" || len(rep.Producer) > maxProducer
	if c := rep.Tests; c != nil {
		bad = bad || c.Total <= 0 || c.Passed < 0 || c.Failed < 0 || c.Skipped < 0 || c.Passed+c.Failed+c.Skipped != c.Total ||
			rep.Status == v1alpha1.StatusPassed && (c.Failed > 0 || c.Passed == 0)
	}
	if rep.Coverage != nil {
		bad = bad || math.IsNaN(*rep.Coverage) || *rep.Coverage < 0 || *rep.Coverage > 100 || *rep.CoverageBase <= 0
	}
	if v := rep.Vulnerabilities; v != nil {
		bad = bad || min(v.Critical, v.High, v.Medium, v.Low) < 0
	}
	if bad || rep.Tests == nil && rep.Coverage == nil && rep.Vulnerabilities == nil && rep.Components == 0 {
		t.Fatalf("impossible: %s", describe(rep))
	}
}

// agrees holds that encoding/xml finds the same elements in the XML that this package accepts; it knows UTF-8 alone.
func agrees(t *testing.T, data []byte, rep Report) {
	t.Helper()
	if !slices.Contains([]Format{JUnit, JaCoCo, Cobertura, CycloneDXXML}, rep.Format) {
		return // a variant may be of another format
	}
	in, _, err := open(bytes.NewReader(data))
	if err != nil || in.foreign {
		return
	}
	ours := 0
	s := newXMLScanner(in)
	for {
		ev, err := s.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("accepted, then %v", err)
		}
		if ev == startElement {
			ours++
		}
	}
	theirs := 0
	dec := xml.NewDecoder(bytes.NewReader(bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))))
	dec.CharsetReader = func(_ string, r io.Reader) (io.Reader, error) { return r, nil }
	dec.Strict = true
	for {
		tok, err := dec.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return // stricter about names, versions and instructions, which nothing here depends on
		}
		if _, ok := tok.(xml.StartElement); ok {
			theirs++
		}
	}
	if ours != theirs {
		t.Fatalf("%d elements, encoding/xml finds %d", ours, theirs)
	}
}

func FuzzReadJUnit(f *testing.F)       { fuzz(f, "junit", agrees) }
func FuzzReadJaCoCo(f *testing.F)      { fuzz(f, "jacoco") }
func FuzzReadCobertura(f *testing.F)   { fuzz(f, "cobertura") }
func FuzzReadGoCover(f *testing.F)     { fuzz(f, "gocover") }
func FuzzReadLCOV(f *testing.F)        { fuzz(f, "lcov") }
func FuzzReadSARIF(f *testing.F)       { fuzz(f, "sarif") }
func FuzzReadTrivy(f *testing.F)       { fuzz(f, "trivy") }
func FuzzReadGitLab(f *testing.F)      { fuzz(f, "gitlab") }
func FuzzReadCodeQuality(f *testing.F) { fuzz(f, "codequality") }
func FuzzReadCycloneDX(f *testing.F)   { fuzz(f, "cyclonedx") }
func FuzzReadGradleLock(f *testing.F)  { fuzz(f, "gradlelock") }
