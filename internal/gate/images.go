// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"fmt"
	"slices"
	"strings"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

// Reasons of what the registry may still bring, so that it is worth looking there.
const (
	ReasonNotSigned = "NotSigned"
	ReasonNoSBOM    = "NoSBOM"
)

// Signatures is the guarded environment's spec.signatures.
type Signatures struct {
	Spec v1alpha1.SignaturePolicy
	// Hash of whom it trusts: records with another one say nothing here.
	Hash string
	// Problem says why the policy cannot be used.
	Problem string
}

// Demanded are those of the frozen images that are named, all if none is, and the names that no frozen image has.
func Demanded(names []string, frozen []v1alpha1.FrozenImage) (images []v1alpha1.FrozenImage, unknown []string) {
	if len(names) == 0 {
		return frozen, nil
	}
	for _, name := range names {
		i := slices.IndexFunc(frozen, func(f v1alpha1.FrozenImage) bool { return f.Name == name })
		if i < 0 {
			unknown = append(unknown, name)
			continue
		}
		images = append(images, frozen[i])
	}
	return images, unknown
}

// Record is what the registry had of an image's signatures under the policy; nil when it was not looked at yet.
func (s Signatures) Record(image v1alpha1.FrozenImage, records []v1alpha1.SignatureRecord) *v1alpha1.SignatureRecord {
	for i, r := range records {
		if r.Policy == s.Hash && r.Image == image.Name && r.Digest == image.Digest && s.Hash != "" {
			return &records[i]
		}
	}
	return nil
}

// Signed are the names of the keys and identities of the policy that signed an image, each once.
func (s Signatures) Signed(r *v1alpha1.SignatureRecord) []string {
	if r == nil {
		return nil
	}
	var names []string
	for _, by := range r.Signers {
		if s.trusts(by.Name) && !slices.Contains(names, by.Name) {
			names = append(names, by.Name)
		}
	}
	return names
}

// Minimum is how many of the policy must have signed each image.
func (s Signatures) Minimum() int { return int(max(s.Spec.Minimum, 1)) }

func (s Signatures) trusts(name string) bool {
	return slices.ContainsFunc(s.Spec.Keys, func(k v1alpha1.SignatureKey) bool { return k.Name == name }) ||
		s.Spec.Keyless != nil && slices.ContainsFunc(s.Spec.Keyless.Identities, func(i v1alpha1.SignatureIdentity) bool { return i.Name == name })
}

// trusted says in words whom the policy trusts.
func (s Signatures) trusted() string {
	keys, identities := len(s.Spec.Keys), 0
	if s.Spec.Keyless != nil {
		identities = len(s.Spec.Keyless.Identities)
	}
	switch {
	case identities == 0:
		return counted(keys, "key", "keys")
	case keys == 0:
		return counted(identities, "identity", "identities")
	}
	return fmt.Sprintf("any of %d keys and identities", keys+identities)
}

func counted(n int, one, many string) string {
	if n == 1 {
		return "the one " + one
	}
	return fmt.Sprintf("any of %d %s", n, many)
}

// judgeSignatures holds at every gate of an environment that asks for signatures. What is missing may still come: whoever
// builds an image signs it after it was pushed.
func judgeSignatures(in Input) outcome {
	s := in.Signatures
	if s == nil {
		return passed("NoPolicy", "")
	}
	mend := "somebody mends spec.signatures of the Environment " + in.Spec.Environment
	switch {
	case s.Problem != "":
		return waiting("SignaturePolicyInvalid", mend, "signature: spec.signatures of %s: %s", in.Spec.Environment, s.Problem)
	case !in.Frozen:
		return waiting("NotFrozen", in.FrozenNeeds, "signature: the images are not all pinned yet")
	}
	images, unknown := Demanded(s.Spec.Images, in.Pinned)
	if len(unknown) > 0 {
		return waiting("SignaturePolicyInvalid", mend, "signature: spec.signatures of %s names %s, which is no image of the release", in.Spec.Environment, strings.Join(unknown, ", "))
	}
	if len(images) == 0 {
		return passed("NothingToSign", "signature: the release has no image to be signed")
	}
	var missing, signed, sign []string
	for _, img := range images {
		record := s.Record(img, in.SignatureRecords)
		names := s.Signed(record)
		if len(names) >= s.Minimum() {
			signed = append(signed, img.Name+" is signed by "+strings.Join(names, ", "))
			continue
		}
		missing = append(missing, unsigned(*s, img.Name, names, record))
		sign = append(sign, img.Repository+"@"+img.Digest)
	}
	if len(missing) > 0 {
		return waiting(ReasonNotSigned, "somebody signs it: cosign sign "+s.how()+strings.Join(sign, " "), "signature: %s", strings.Join(missing, "; "))
	}
	return passed("Signed", "signature: %s", strings.Join(signed, "; "))
}

// how a signature is made that counts, as far as cosign is to be told.
func (s Signatures) how() string {
	if s.Spec.Keyless == nil {
		return "--key <private key> "
	}
	return ""
}

func unsigned(s Signatures, image string, names []string, record *v1alpha1.SignatureRecord) string {
	text := image + " is not signed by " + s.trusted()
	switch {
	case record == nil:
		return image + " was not looked at yet"
	case len(names) > 0:
		text = fmt.Sprintf("%s is signed by %s, %d of %d that are needed", image, strings.Join(names, ", "), len(names), s.Minimum())
	}
	if record.Problem != "" {
		text += " (" + record.Problem + ")"
	}
	return text
}

// judgeSBOM looks for a bill of materials of every image, in what CI reported and what the registry has. One that was reported
// and names no image is about the commit, and stands for all of them.
func judgeSBOM(in Input, c v1alpha1.SBOMCriterion) outcome {
	if !in.Frozen {
		return waiting("NotFrozen", in.FrozenNeeds, "SBOM: %s", in.FrozenMessage)
	}
	images, unknown := Demanded(c.Images, in.Pinned)
	if len(unknown) > 0 {
		return waiting("ImageMissing", "somebody mends the gate "+in.Name, "SBOM: %s is no image of the release", strings.Join(unknown, ", "))
	}
	if len(images) == 0 && !billReported(in, c, "") { // modules: a bill of the commit is what there can be
		return waiting(ReasonNoSBOM, sbomNeeds(c, nil), "no SBOM of the commit was reported")
	}
	var missing, without []string
	for _, img := range images {
		if billReported(in, c, img.Digest) {
			continue
		}
		record := attachedBill(in, c, img)
		if record != nil && record.Manifest != "" && record.Components > 0 {
			continue
		}
		text := "no SBOM of " + img.Name
		switch {
		case c.Source == v1alpha1.SBOMReported:
		case record == nil:
			text += ": the registry was not looked at yet"
		case record.Problem != "":
			text += " (" + record.Problem + ")"
		}
		missing, without = append(missing, text), append(without, img.Repository+"@"+img.Digest)
	}
	if len(missing) > 0 {
		return waiting(ReasonNoSBOM, sbomNeeds(c, without), "%s", strings.Join(missing, "; "))
	}
	return passed("SBOMPresent", "every image has an SBOM")
}

// billReported says whether CI reported a bill that stands for an image: as a file, since a status alone lists nothing.
func billReported(in Input, c v1alpha1.SBOMCriterion, digest string) bool {
	r, ok := in.Evidence.Results[v1alpha1.TypeSBOM]
	return ok && c.Source != v1alpha1.SBOMAttached && r.Status == v1alpha1.StatusPassed &&
		(slices.Contains(r.Files, "") || digest != "" && slices.Contains(r.Files, digest))
}

func attachedBill(in Input, c v1alpha1.SBOMCriterion, img v1alpha1.FrozenImage) *v1alpha1.SBOMRecord {
	if c.Source == v1alpha1.SBOMReported {
		return nil
	}
	for i, r := range in.SBOMRecords {
		if r.Image == img.Name && r.Digest == img.Digest {
			return &in.SBOMRecords[i]
		}
	}
	return nil
}

func sbomNeeds(c v1alpha1.SBOMCriterion, images []string) string {
	report := "CI sends one: kubectl sirrat report --type sbom bom.json"
	var attach []string // oras attaches to one image at a time
	for _, image := range images {
		attach = append(attach, "oras attach --artifact-type application/vnd.cyclonedx+json "+image+" bom.json")
	}
	attaches := "attaches one: " + strings.Join(attach, ", ")
	switch {
	case c.Source == v1alpha1.SBOMReported || len(images) == 0:
		return report
	case c.Source == v1alpha1.SBOMAttached:
		return "CI " + attaches
	}
	return report + ", or " + attaches
}
