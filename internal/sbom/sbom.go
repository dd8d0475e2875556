// SPDX-License-Identifier: Apache-2.0

// Package sbom reads software bills of materials that are attached to an image: CycloneDX 1.2 to 1.7 and SPDX 2.2 and 2.3 in
// JSON (https://spdx.github.io/spdx-spec/v2.3/), as they are or as the predicate of an in-toto statement, in a sigstore bundle or
// in the DSSE envelope that cosign 2 keeps under the tag sha256-<digest>.att (sigstore/cosign, specs/ATTESTATION_SPEC.md).
// Whose word a statement is, is not looked at.
//
// It is pure. It may import internal/reports.
package sbom

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"

	"gitlab.com/dynors/sirrat/internal/reports"
)

// MaxSize of an artifact that holds a bill, in bytes.
const MaxSize = 16 << 20

// Types of artifacts that hold a bill, as tools attach them; the last is that of cosign 2 where it lists what it attaches.
var types = []string{
	"application/vnd.cyclonedx+json", "application/vnd.cyclonedx+xml", "application/spdx+json", "application/vnd.dev.cosign.artifact.sbom.v1+json",
}

const (
	// bundleType begins the type of a sigstore bundle, which may hold one.
	bundleType = "application/vnd.dev.sigstore.bundle"
	// envelopeType is that of an attestation of cosign 2, and annotationPredicate names the type of the statement in it.
	envelopeType        = "application/vnd.dsse.envelope.v1+json"
	annotationPredicate = "predicateType"
	// statementType is that of the payload that is an in-toto statement.
	statementType = "application/vnd.in-toto+json"
)

// predicates are the types of statements that are a bill, without their versions.
var predicates = []string{"https://cyclonedx.org/bom", "https://spdx.dev/Document"}

// SPDX in JSON, as Bill.Format has it.
const SPDX = "spdx-json"

// ErrOther says that it is a bundle or an attestation about something else, such as a signature.
var ErrOther = errors.New("it holds no bill of materials")

// Bill is a summary.
type Bill struct {
	// Format: cyclonedx-json, cyclonedx-xml or spdx-json.
	Format string
	// Components or packages, at least one.
	Components int32
}

// Wanted says whether an artifact of a type may hold a bill.
func Wanted(artifactType string) bool {
	base, _, _ := strings.Cut(artifactType, ";")
	return slices.Contains(types, base) || strings.HasPrefix(base, bundleType)
}

// WantedLayer says whether a layer under cosign's tag for attestations may hold a bill. One that does not say what it states is
// read.
func WantedLayer(mediaType string, annotations map[string]string) bool {
	said := annotations[annotationPredicate]
	return mediaType == envelopeType && (said == "" || isBill(said))
}

// isBill says whether statements of a type are bills.
func isBill(predicateType string) bool {
	return slices.ContainsFunc(predicates, func(p string) bool {
		return predicateType == p || strings.HasPrefix(predicateType, p+"/")
	})
}

// envelope is one of DSSE (secure-systems-lab/dsse, envelope.md, v1.0.2) without its signatures.
type envelope struct {
	PayloadType string `json:"payloadType"`
	Payload     []byte `json:"payload"`
}

// Read reads what is attached to an image under a type. digests are those of the image; of an index also of what it lists.
func Read(artifactType string, content []byte, digests []string) (Bill, error) {
	switch {
	case artifactType == envelopeType:
		var e envelope
		if err := json.Unmarshal(content, &e); err != nil {
			return Bill{}, errors.New("the attestation cannot be read")
		}
		return stated(e, digests)
	case strings.HasPrefix(artifactType, bundleType):
		var bundle struct {
			DSSEEnvelope envelope `json:"dsseEnvelope"`
		}
		if err := json.Unmarshal(content, &bundle); err != nil {
			return Bill{}, errors.New("the bundle cannot be read")
		}
		return stated(bundle.DSSEEnvelope, digests)
	}
	return document(content, digests)
}

// stated reads the bill that an envelope states.
func stated(e envelope, digests []string) (Bill, error) {
	if len(e.Payload) == 0 || e.PayloadType != statementType {
		return Bill{}, ErrOther
	}
	var statement struct {
		Subject []struct {
			Digest map[string]string `json:"digest"`
		} `json:"subject"`
		PredicateType string          `json:"predicateType"`
		Predicate     json.RawMessage `json:"predicate"`
	}
	if err := json.Unmarshal(e.Payload, &statement); err != nil {
		return Bill{}, errors.New("the statement cannot be read")
	}
	if !isBill(statement.PredicateType) {
		return Bill{}, ErrOther
	}
	for _, s := range statement.Subject {
		if slices.Contains(digests, "sha256:"+s.Digest["sha256"]) {
			return document(unwrapped(statement.Predicate), digests)
		}
	}
	return Bill{}, errors.New("its statement is about another image")
}

// unwrapped is the bill in a predicate of cosign 1, which has it as the member Data (sigstore/cosign v1.13,
// pkg/cosign/attestation).
func unwrapped(predicate []byte) []byte {
	var wrapped struct {
		Format string          `json:"bomFormat"`
		SPDX   string          `json:"spdxVersion"`
		Data   json.RawMessage `json:"Data"`
	}
	if json.Unmarshal(predicate, &wrapped) != nil || len(wrapped.Data) == 0 || wrapped.Format != "" || wrapped.SPDX != "" {
		return predicate
	}
	return wrapped.Data
}

// document reads a bill itself.
func document(content []byte, digests []string) (Bill, error) {
	content = bytes.TrimSpace(content)
	if len(content) == 0 {
		return Bill{}, errors.New("it is empty")
	}
	if content[0] != '{' && content[0] != '<' { // compressed, for instance: what is unpacked would have to be bounded
		return Bill{}, errors.New("it is neither CycloneDX nor SPDX in JSON")
	}
	var head struct {
		SPDXVersion string `json:"spdxVersion"`
	}
	if content[0] == '{' && json.Unmarshal(content, &head) == nil && head.SPDXVersion != "" {
		return spdx(content, digests)
	}
	rep, err := reports.Read(bytes.NewReader(content), reports.Options{})
	switch {
	case err != nil:
		return Bill{}, err
	case rep.Components == 0:
		return Bill{}, fmt.Errorf("it is a report of the format %s and lists no component", rep.Format)
	case len(rep.Digests) > 0 && !slices.ContainsFunc(rep.Digests, func(d string) bool { return slices.Contains(digests, d) }):
		return Bill{}, fmt.Errorf("it is about another image: %s", rep.Digests[0])
	}
	return Bill{Format: string(rep.Format), Components: rep.Components}, nil
}

// spdxDocument is an SPDX document as far as it is read. Members are tools' words for the image that it is about: its package's
// version (Syft), its purl (both), its annotations (Trivy).
type spdxDocument struct {
	SPDXVersion string        `json:"spdxVersion"`
	Describes   []string      `json:"documentDescribes"`
	Packages    []spdxPackage `json:"packages"`
	Relations   []struct {
		From string `json:"spdxElementId"`
		Type string `json:"relationshipType"`
		To   string `json:"relatedSpdxElement"`
	} `json:"relationships"`
}

type spdxPackage struct {
	ID           string   `json:"SPDXID"`
	Version      string   `json:"versionInfo"`
	Attributions []string `json:"attributionTexts"`
	External     []struct {
		Locator string `json:"referenceLocator"`
	} `json:"externalRefs"`
}

// spdxSelf is what every document calls itself (SPDX 2.3, 6.3).
const spdxSelf = "SPDXRef-DOCUMENT"

var digestPattern = regexp.MustCompile(`sha256:[0-9a-f]{64}`)

func spdx(content []byte, digests []string) (Bill, error) {
	var doc spdxDocument
	switch err := json.Unmarshal(content, &doc); {
	case err != nil:
		return Bill{}, errors.New("SPDX: it cannot be read")
	case doc.SPDXVersion != "SPDX-2.2" && doc.SPDXVersion != "SPDX-2.3":
		return Bill{}, fmt.Errorf("SPDX: version %.20q: attach 2.2 or 2.3", doc.SPDXVersion)
	case len(doc.Packages) == 0:
		return Bill{}, errors.New("SPDX: no package: a bill of nothing proves nothing")
	}
	described := doc.described()
	components := len(doc.Packages)
	if len(described) == 1 { // what the document is about is none of its components
		components--
	}
	about := digestsIn(described)
	switch {
	case components == 0:
		return Bill{}, errors.New("SPDX: no package but what it describes: a bill of nothing proves nothing")
	case len(about) > 0 && !slices.ContainsFunc(about, func(d string) bool { return slices.Contains(digests, d) }):
		return Bill{}, fmt.Errorf("it is about another image: %s", about[0])
	}
	return Bill{Format: SPDX, Components: int32(min(components, math.MaxInt32))}, nil
}

// described are the packages that a document says it is about.
func (d spdxDocument) described() (out []spdxPackage) {
	described := map[string]bool{}
	for _, id := range d.Describes {
		described[id] = true
	}
	for _, r := range d.Relations {
		switch {
		case r.Type == "DESCRIBES" && r.From == spdxSelf:
			described[r.To] = true
		case r.Type == "DESCRIBED_BY" && r.To == spdxSelf:
			described[r.From] = true
		}
	}
	for _, p := range d.Packages {
		if described[p.ID] {
			out = append(out, p)
		}
	}
	return out
}

// digestsIn are those of the image that packages describe; none if they name none.
func digestsIn(packages []spdxPackage) (out []string) {
	for _, p := range packages {
		out = append(out, p.digests()...)
	}
	return out
}

// digests of manifests that name a package which is an image.
func (p spdxPackage) digests() []string {
	said := []string{p.Version}
	for _, text := range p.Attributions {
		if strings.HasPrefix(text, "RepoDigest:") { // the others are of its configuration and layers
			said = append(said, text)
		}
	}
	for _, e := range p.External {
		if strings.HasPrefix(e.Locator, "pkg:oci/") || strings.HasPrefix(e.Locator, "pkg:docker/") {
			said = append(said, strings.NewReplacer("%3A", ":", "%3a", ":").Replace(e.Locator))
		}
	}
	var out []string
	for _, text := range said {
		if digest := digestPattern.FindString(text); digest != "" {
			out = append(out, digest)
		}
	}
	return out
}
