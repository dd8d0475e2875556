// SPDX-License-Identifier: Apache-2.0

package attestation

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/secure-systems-lab/go-securesystemslib/dsse"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/envelope"
	"gitlab.com/dynors/sirrat/internal/pv"
)

// What may be wrong with something attached; each is wrapped in the error of a Problem.
var (
	ErrNothing    = errors.New("no gate's verdict is attached")
	ErrMalformed  = errors.New("it cannot be read")
	ErrAltered    = errors.New("it was altered after it was signed")
	ErrUnknownKey = errors.New("it is signed by another key than those given")
	ErrRevokedKey = errors.New("it is signed by a key that was revoked")
	ErrSubject    = errors.New("it is about other images")
	ErrPVAltered  = errors.New("the PV's document is not the one that was attested")
	ErrPVOther    = errors.New("the PV is about other images")
	ErrPVUnsigned = errors.New("the PV is not signed by the client's key that was given")
	ErrPVMissing  = errors.New("the PV on which the gate relied is not attached")
	ErrPVRefused  = errors.New("the client did not accept the PV on which the gate relied")
	// ErrNoClient: the client's key was given, and nothing that is proven rests on it.
	ErrNoClient = errors.New("no gate that is proven relied on a PV signed with the client's key that was given")
	ErrGate     = errors.New("no verdict of the gate is attached that holds")
	ErrGlass    = errors.New("the gate was opened in an emergency, not passed")
	// ErrProjects: gates of one name are different gates in different projects.
	ErrProjects = errors.New("verdicts of several projects are attached")
	// ErrIncomplete: not all that is attached could be looked at.
	ErrIncomplete = errors.New("not all that is attached could be read")
)

// Artifact is something attached to an image, as the registry had it: its content has the digests of its manifest.
type Artifact struct {
	Digest string
	Type   string
	Layers []Layer
}

// Layer is one part of an artifact.
type Layer struct {
	MediaType string
	Data      []byte
}

// layer is the content of the one layer of a type.
func (a Artifact) layer(mediaType string) (string, bool) {
	found := -1
	for i, l := range a.Layers {
		if l.MediaType == mediaType {
			if found >= 0 {
				return "", false
			}
			found = i
		}
	}
	if found < 0 {
		return "", false
	}
	return string(a.Layers[found].Data), true
}

// Trust is whose signature counts.
type Trust struct {
	// Keys of the installation, those that were rotated out in good order included: they prove what they signed.
	Keys []envelope.PublicKey
	// Revoked keys prove nothing, whenever they signed: nobody can tell when that was.
	Revoked []envelope.PublicKey
	// Client are the client's keys. None: what the installation attests of a PV is believed. With one, a PV signed with it must be
	// among what is proven: an installation that leaves the PV out of a verdict would prove as much by its own word.
	Client []envelope.PublicKey
	// Project whose gates and PVs count. An installation signs for all of its projects with the same key, and whoever has one of
	// them may name a gate as it likes. "": that of whichever project is the only one.
	Project string
}

// GateProof is a gate's verdict that holds.
type GateProof struct {
	Artifact string
	KeyID    string
	Verdict  Verdict
}

// Passed tells a gate that was passed from one that was opened in an emergency.
func (g GateProof) Passed() bool {
	return g.Verdict.VerificationResult == ResultPassed && g.Verdict.Gate.BrokenGlass == nil
}

// PVProof is a client's decision that holds.
type PVProof struct {
	Artifact string
	KeyID    string
	Decision Decision
	// ClientKey is the id of the client's key whose signature was verified; "" if it was not: no key was given, or the client
	// signed some other way.
	ClientKey string
}

// Accepted says whether the client accepted what the PV is about, perhaps with reservations.
func (p PVProof) Accepted() bool {
	d := v1alpha1.PVDecision(p.Decision.Decision)
	return d == v1alpha1.PVAccepted || d == v1alpha1.PVAcceptedWithReservations
}

// Problem is something that does not hold.
type Problem struct {
	// Artifact is its digest in the registry; "" when the problem is that something is missing.
	Artifact string
	// Gate that was demanded, or on whose PV there is a finding.
	Gate string
	Err  error
}

// Report is what Examine found.
type Report struct {
	Digest string
	// Gates in the order of the bridge, then of time; PVs in the order of time.
	Gates []GateProof
	PVs   []PVProof
	// Problems of what is attached; they are not fatal where gates were demanded and proven.
	Problems []Problem
	// Missing is what was demanded and is not proven.
	Missing []Problem

	seen map[string]bool // statements that hold, by what is different in each
}

// OK says whether what was asked for is proven: each of the demanded gates, or, if none was, at least one gate with nothing
// wrong beside it.
func (r Report) OK(demanded []string) bool {
	if len(demanded) > 0 {
		return len(r.Missing) == 0
	}
	return len(r.Missing) == 0 && len(r.Problems) == 0
}

// Examine looks at everything that is attached to an image. It needs nothing but what it is given.
func Examine(ctx context.Context, digest string, artifacts []Artifact, demanded []string, trust Trust) Report {
	r := Report{Digest: digest}
	for _, a := range artifacts {
		r.Look(ctx, a, trust)
	}
	r.Conclude(demanded, trust)
	return r
}

// Look looks at one thing that is attached. What holds is kept once, however often it is attached; nothing of the rest is but what
// is wrong with it, since there may be much of it.
func (r *Report) Look(ctx context.Context, a Artifact, trust Trust) {
	var err error
	switch a.Type {
	case VerdictArtifact:
		err = r.verdict(ctx, a, trust)
	case DecisionArtifact:
		err = r.decision(ctx, a, trust)
	}
	if err != nil {
		r.Problems = append(r.Problems, Problem{Artifact: a.Digest, Err: err})
	}
}

// Conclude says what of the demanded gates is proven, once everything was looked at.
func (r *Report) Conclude(demanded []string, trust Trust) {
	slices.SortFunc(r.Gates, func(a, b GateProof) int {
		return cmp.Or(cmp.Compare(a.Verdict.Gate.Number, b.Verdict.Gate.Number), a.Verdict.TimeVerified.Compare(b.Verdict.TimeVerified),
			strings.Compare(a.Artifact, b.Artifact))
	})
	slices.SortFunc(r.PVs, func(a, b PVProof) int {
		return cmp.Or(a.Decision.SignedAt.Compare(b.Decision.SignedAt), strings.Compare(a.Artifact, b.Artifact))
	})
	r.demand(demanded, trust)
}

// isNew says whether a statement was not seen yet.
func (r *Report) isNew(statement string) bool {
	if r.seen[statement] {
		return false
	}
	if r.seen == nil {
		r.seen = map[string]bool{}
	}
	r.seen[statement] = true
	return true
}

// demand fills in Missing.
func (r *Report) demand(gates []string, trust Trust) {
	if projects := r.projects(); len(projects) > 1 {
		r.Missing = append(r.Missing, Problem{Err: fmt.Errorf("%w: %s", ErrProjects, strings.Join(projects, ", "))})
	}
	if len(gates) == 0 {
		if !slices.ContainsFunc(r.Gates, GateProof.Passed) {
			r.Missing = append(r.Missing, Problem{Err: ErrNothing})
		}
		for _, g := range r.Gates {
			if err := r.reliesOn(g, trust); err != nil {
				r.Problems = append(r.Problems, Problem{Artifact: g.Artifact, Gate: g.Verdict.Gate.Name, Err: err})
			}
		}
	}
	for _, name := range gates {
		if err := r.proves(name, trust); err != nil {
			r.Missing = append(r.Missing, Problem{Gate: name, Err: err})
		}
	}
	if len(trust.Client) > 0 && len(r.Missing) == 0 && !r.restsOnClient(gates) {
		r.Missing = append(r.Missing, Problem{Err: ErrNoClient})
	}
}

// restsOnClient says whether one of the gates, of any if none is named, relied on a PV that the client accepted with its own key.
func (r *Report) restsOnClient(gates []string) bool {
	return slices.ContainsFunc(r.Gates, func(g GateProof) bool {
		if !g.Passed() || g.Verdict.Gate.PV == nil || len(gates) > 0 && !slices.Contains(gates, g.Verdict.Gate.Name) {
			return false
		}
		p := r.PV(*g.Verdict.Gate.PV)
		return p != nil && p.Accepted() && p.ClientKey != ""
	})
}

// projects whose gates are proven.
func (r *Report) projects() []string {
	var names []string
	for _, g := range r.Gates {
		names = append(names, g.Verdict.Gate.Project)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// proves says why a demanded gate is not proven; nil when it is.
func (r *Report) proves(gate string, trust Trust) error {
	err := ErrGate
	for _, g := range r.Gates {
		if g.Verdict.Gate.Name != gate {
			continue
		}
		if !g.Passed() {
			err = ErrGlass
			continue
		}
		relies := r.reliesOn(g, trust)
		if relies == nil {
			return nil
		}
		err = relies
	}
	return err
}

// reliesOn looks at the PV on which a verdict relied. It must be there where the client's own signature is demanded; where it is
// there, the client must have accepted it.
func (r *Report) reliesOn(g GateProof, trust Trust) error {
	if g.Verdict.Gate.PV == nil || !g.Passed() {
		return nil
	}
	p := r.PV(*g.Verdict.Gate.PV)
	switch {
	case p != nil && !p.Accepted():
		return fmt.Errorf("%w: it says %s", ErrPVRefused, p.Decision.Decision)
	case len(trust.Client) == 0:
		return nil
	case p == nil:
		return ErrPVMissing
	case p.ClientKey == "":
		return fmt.Errorf("%w: it was signed by way of %s", ErrPVUnsigned, p.Decision.Method)
	}
	return nil
}

// PV is the proof of a PV that a verdict names; nil if it is not attached or does not hold.
func (r *Report) PV(ref PVReference) *PVProof {
	for i := range r.PVs {
		if r.PVs[i].Decision.PVReference == ref {
			return &r.PVs[i]
		}
	}
	return nil
}

func (r *Report) verdict(ctx context.Context, a Artifact, trust Trust) error {
	text, ok := a.layer(VerdictLayer)
	if !ok {
		return fmt.Errorf("%w: it does not have one layer of type %s", ErrMalformed, VerdictLayer)
	}
	var v Verdict
	key, statement, err := open(ctx, text, VerdictType, r.Digest, &v, trust)
	if err != nil {
		return err
	}
	if v.VerificationResult != ResultPassed && v.VerificationResult != ResultFailed {
		return fmt.Errorf("%w: the result is %q", ErrMalformed, v.VerificationResult)
	}
	if trust.Project != "" && v.Gate.Project != trust.Project {
		return nil // what another project says of its own gates
	}
	if !r.isNew(statement) {
		return nil
	}
	r.Gates = append(r.Gates, GateProof{Artifact: a.Digest, KeyID: key, Verdict: v})
	return nil
}

func (r *Report) decision(ctx context.Context, a Artifact, trust Trust) error {
	text, ok := a.layer(DecisionLayer)
	document, ok2 := a.layer(DocumentLayer)
	if !ok || !ok2 {
		return fmt.Errorf("%w: it does not have one layer each of the types %s and %s", ErrMalformed, DecisionLayer, DocumentLayer)
	}
	var d Decision
	key, statement, err := open(ctx, text, DecisionType, r.Digest, &d, trust)
	if err != nil {
		return err
	}
	if trust.Project != "" && d.Project != trust.Project {
		return nil
	}
	if envelope.Hash([]byte(document)) != d.DocumentHash {
		return ErrPVAltered
	}
	var doc pv.Document
	if err := envelope.DecodeOpen([]byte(document), &doc); err != nil {
		return fmt.Errorf("%w: the PV's document: %w", ErrMalformed, err)
	}
	if !slices.ContainsFunc(doc.Images, func(image string) bool { return strings.HasSuffix(image, "@"+r.Digest) }) {
		return fmt.Errorf("%w: PV %s names %s", ErrPVOther, d.Name, strings.Join(doc.Images, ", "))
	}
	signature, _ := a.layer(SignatureLayer)
	client, err := clientKey(ctx, d, document, signature, trust)
	if err != nil {
		return err
	}
	if !r.isNew(statement) {
		return nil
	}
	r.PVs = append(r.PVs, PVProof{Artifact: a.Digest, KeyID: key, Decision: d, ClientKey: client})
	return nil
}

// clientKey verifies what the client signed with its own key, where such keys are given.
func clientKey(ctx context.Context, d Decision, document, signature string, trust Trust) (string, error) {
	if len(trust.Client) == 0 || d.Method != v1alpha1.MethodKey {
		return "", nil
	}
	if envelope.Hash([]byte(signature)) != d.SignatureHash {
		return "", fmt.Errorf("%w: the signature is not the one that was attested", ErrPVAltered)
	}
	p := &v1alpha1.PV{
		ObjectMeta: metav1.ObjectMeta{Namespace: d.Project, Name: d.Name, UID: types.UID(d.UID)},
		Spec:       v1alpha1.PVSpec{Document: document, DocumentHash: d.DocumentHash, PDFHash: d.PDFHash, Signature: signature},
	}
	said, key, err := pv.Verify(ctx, p, pv.Keys{Client: trust.Client})
	switch {
	case errors.Is(err, pv.ErrSignature):
		return "", fmt.Errorf("%w: %w", ErrPVUnsigned, err)
	case err != nil:
		return "", fmt.Errorf("%w: %w", ErrPVAltered, err)
	case string(said.Decision) != d.Decision || said.SignedBy != d.SignedBy:
		return "", fmt.Errorf("%w: the client's signature says %s by %s", ErrPVAltered, said.Decision, said.SignedBy)
	}
	return key, nil
}

// open verifies an envelope and reads the statement in it, which must be about the image of that digest. statement is the
// hash of its bytes.
func open(ctx context.Context, text, predicateType, digest string, into any, trust Trust) (keyID, statement string, err error) {
	payload, key, err := envelope.Verify(ctx, text, PayloadType, trust.Keys)
	switch {
	case errors.Is(err, envelope.ErrUnknownKey):
		return "", "", whose(ctx, text, trust)
	case err != nil: // it may quote what anybody wrote
		return "", "", fmt.Errorf("%w: %s", ErrMalformed, clip(err.Error()))
	case len(payload) > MaxStatement:
		return "", "", fmt.Errorf("%w: the statement is larger than %d bytes", ErrMalformed, MaxStatement)
	}
	var st Statement
	if err := envelope.DecodeOpen(payload, &st); err != nil {
		return "", "", fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if st.Type != StatementType || st.PredicateType != predicateType {
		return "", "", fmt.Errorf("%w: a statement of type %q about %q", ErrMalformed, st.Type, st.PredicateType)
	}
	if !names(st.Subject, digest) {
		return "", "", fmt.Errorf("%w: %s", ErrSubject, subjects(st.Subject))
	}
	if err := envelope.DecodeOpen(st.Predicate, into); err != nil {
		return "", "", fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return key.ID, envelope.Hash(payload), nil
}

// whose tells why no key fits: one that was revoked signed it, one that is unknown, or it is not what a known one signed. The
// latter two differ in the envelope's own hint only, which nobody signed: it is for the message.
func whose(ctx context.Context, text string, trust Trust) error {
	if len(trust.Revoked) > 0 {
		if _, key, err := envelope.Verify(ctx, text, PayloadType, trust.Revoked); err == nil {
			return fmt.Errorf("%w: %s", ErrRevokedKey, key.ID)
		}
	}
	var env dsse.Envelope
	if err := json.Unmarshal([]byte(text), &env); err != nil {
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	var ids []string
	for i, s := range env.Signatures {
		if slices.ContainsFunc(trust.Keys, func(k envelope.PublicKey) bool { return k.ID == s.KeyID }) {
			return fmt.Errorf("%w: the signature by %s does not fit", ErrAltered, s.KeyID)
		}
		if i < maxNamed { // anybody may have written them
			ids = append(ids, clip(s.KeyID))
		}
	}
	return fmt.Errorf("%w: %s", ErrUnknownKey, strings.Join(ids, ", "))
}

// maxNamed keys are named of those that signed something. maxQuoted is how much is repeated of a text that anybody may have
// written, in bytes: an id of ours has fewer.
const maxNamed, maxQuoted = 3, 200

func clip(text string) string {
	if len(text) > maxQuoted {
		return strings.ToValidUTF8(text[:maxQuoted], "") + "…"
	}
	return text
}

func subjects(list []Descriptor) string {
	var out []string
	for _, d := range list {
		for algorithm, hex := range d.Digest {
			out = append(out, d.Name+"@"+algorithm+":"+hex)
		}
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}
