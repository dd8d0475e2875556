// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
	"gitlab.com/dynors/sirrat/internal/gate"
	"gitlab.com/dynors/sirrat/internal/registry"
	"gitlab.com/dynors/sirrat/internal/sbom"
	"gitlab.com/dynors/sirrat/internal/sigstore"
)

// Bounds of one look. Whoever may push may attach anything; what was read once is not read again, so that a later look goes on
// where this one ended.
const (
	maxBundles = 64
	maxBills   = 16
	// maxReasons are told why signatures do not count.
	maxReasons = 3
)

// finding is what became of one artifact.
type finding struct {
	signers []v1alpha1.ImageSigner
	bill    sbom.Bill
	// refused is how many parts of it do not count, and reasons why.
	refused int
	reasons []string
}

// collect looks at what is signed about an image until visit has seen enough, and returns why the rest does not count.
func (r *signatureReconciler) collect(ctx context.Context, images *registry.Client, policy *sigstore.Policy, img v1alpha1.FrozenImage, visit func(v1alpha1.ImageSigner) bool) (string, error) {
	l := &looking{
		cache: r, prefix: policy.Hash() + "/" + img.Digest + "/", complete: true,
		judge: func(a registry.Artifact) finding { return judgeSignature(policy, img.Digest, a) },
	}
	signed := func(f finding, manifest string) bool {
		for _, by := range f.signers {
			by.Manifest = manifest
			if !visit(by) {
				return false
			}
		}
		return true
	}
	if more, err := l.tag(ctx, images, registry.TagQuery{
		Repository: img.Repository, Tag: registry.CosignTag(img.Digest, registry.SignatureTag), Most: maxBundles,
	}, signed); err != nil || !more {
		return "", err
	}
	if _, err := l.attached(ctx, images, registry.Query{
		Repository: img.Repository, Digest: img.Digest, Most: maxBundles, Wanted: sigstore.Wanted,
	}, signed); err != nil {
		return "", err
	}
	return l.problem("signature", "signatures"), nil
}

// judgeSignature verifies an artifact, or one layer of a tag: each layer is a signature of its own.
func judgeSignature(policy *sigstore.Policy, digest string, a registry.Artifact) finding {
	var f finding
	if a.Problem != nil {
		return finding{refused: 1, reasons: []string{told(a.Problem)}}
	}
	for _, layer := range a.Layers {
		var by v1alpha1.ImageSigner
		var err error
		switch {
		case layer.MediaType == sigstore.SimpleSigningLayer:
			by, err = policy.SimpleSigning(digest, layer.Data, layer.Annotations)
		case strings.HasPrefix(layer.MediaType, sigstore.BundleType):
			by, err = policy.BundleHeld(digest, layer.Data)
		default:
			continue
		}
		switch {
		case err == nil:
			f.signers = append(f.signers, by)
		case !errors.Is(err, sigstore.ErrNotASignature):
			if f.refused++; len(f.reasons) < maxReasons {
				f.reasons = append(f.reasons, err.Error())
			}
		}
	}
	return f
}

// bills looks for the bill of materials of every image that lacks one.
func (s *search) bills(ctx context.Context, c v1alpha1.SBOMCriterion) error {
	demanded, _ := gate.Demanded(c.Images, s.release.Status.Bundle.Images)
	for _, img := range demanded {
		i := slices.IndexFunc(s.release.Status.SBOMs, func(o v1alpha1.SBOMRecord) bool { return o.Image == img.Name && o.Digest == img.Digest })
		key := strings.Join([]string{string(s.release.UID), img.Digest, img.Name, "sbom"}, "/")
		if i >= 0 && s.release.Status.SBOMs[i].Manifest != "" || !s.due(key) {
			continue
		}
		record := v1alpha1.SBOMRecord{Image: img.Name, Digest: img.Digest}
		record.Problem = s.within(ctx, func(ctx context.Context) (string, error) { return s.r.bill(ctx, s.images, img, &record) }, key)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if i >= 0 {
			s.release.Status.SBOMs[i] = record
		} else {
			s.release.Status.SBOMs = append(s.release.Status.SBOMs, record)
		}
	}
	return nil
}

// bill looks for the bill of materials of an image and notes the first that counts.
func (r *signatureReconciler) bill(ctx context.Context, images *registry.Client, img v1alpha1.FrozenImage, record *v1alpha1.SBOMRecord) (string, error) {
	digests, err := ownDigests(ctx, images, img)
	if err != nil {
		return "", err
	}
	l := &looking{
		cache: r, prefix: "sbom/" + img.Digest + "/", complete: true,
		judge: func(a registry.Artifact) finding { return judgeBill(a, digests) },
	}
	counts := func(f finding, manifest string) bool {
		if f.bill.Components > 0 {
			record.Manifest, record.Format, record.Components = manifest, f.bill.Format, f.bill.Components
		}
		return record.Manifest == ""
	}
	if more, err := l.attached(ctx, images, registry.Query{
		Repository: img.Repository, Digest: img.Digest, Most: maxBills, MaxLayer: sbom.MaxSize, MaxLayers: 1, Wanted: sbom.Wanted,
	}, counts); err != nil || !more {
		return "", err
	}
	for _, q := range []registry.TagQuery{
		{Tag: registry.CosignTag(img.Digest, registry.AttestationTag), Wanted: sbom.WantedLayer},
		{Tag: registry.CosignTag(img.Digest, registry.SBOMTag)},
	} {
		q.Repository, q.Most, q.MaxLayer = img.Repository, maxBills, sbom.MaxSize
		if more, err := l.tag(ctx, images, q, counts); err != nil || !more {
			return "", err
		}
	}
	return l.problem("SBOM", "SBOMs"), nil
}

func judgeBill(a registry.Artifact, digests []string) finding {
	if a.Problem != nil {
		return finding{refused: 1, reasons: []string{told(a.Problem)}}
	}
	for _, layer := range a.Layers {
		bill, err := sbom.Read(a.Type, layer.Data, digests)
		switch {
		case err == nil:
			return finding{bill: bill}
		case !errors.Is(err, sbom.ErrOther):
			return finding{refused: 1, reasons: []string{err.Error()}}
		}
	}
	return finding{}
}

// ownDigests are those by which a bill may name an image: its own, and of an index what it lists.
func ownDigests(ctx context.Context, images *registry.Client, img v1alpha1.FrozenImage) ([]string, error) {
	text, err := images.Manifest(ctx, img.Repository, img.Digest)
	if err != nil {
		return nil, err
	}
	var index struct {
		Manifests []struct {
			Digest string `json:"digest"`
		} `json:"manifests"`
	}
	out := []string{img.Digest}
	if json.Unmarshal(text, &index) == nil { // otherwise it is named by its own digest only
		for _, m := range index.Manifests {
			out = append(out, m.Digest)
		}
	}
	return out, nil
}

// looking is one look at what is attached to one image.
type looking struct {
	cache  *signatureReconciler
	prefix string
	judge  func(registry.Artifact) finding
	// recalled is the finding of what is told as known next: others may push it out of the cache in between.
	recalled *finding

	complete bool
	refused  int
	reasons  []string
}

// attached looks at what is attached to an image until visit has seen enough; more says that it has not.
func (l *looking) attached(ctx context.Context, images *registry.Client, q registry.Query, visit func(f finding, manifest string) bool) (more bool, err error) {
	q.Known, more = l.known, true
	complete, err := images.EachAttached(ctx, q, func(a registry.Artifact) bool {
		more = visit(l.see(a), a.Digest)
		return more
	})
	l.complete = l.complete && complete
	return more, err
}

// tag looks at what lies under a tag of cosign's, each layer for itself and judged as an artifact of the layer's type.
func (l *looking) tag(ctx context.Context, images *registry.Client, q registry.TagQuery, visit func(f finding, manifest string) bool) (more bool, err error) {
	q.Known, more = l.known, true
	complete, err := images.EachTagged(ctx, q, func(t registry.TaggedLayer) bool {
		a := registry.Artifact{Digest: t.ID, Type: t.Layer.MediaType, Layers: []registry.ArtifactLayer{t.Layer}, Problem: t.Problem}
		more = visit(l.see(a), t.Manifest)
		return more
	})
	l.complete = l.complete && complete
	return more, err
}

func (l *looking) known(id string) bool {
	f, ok := l.cache.judged.Get(l.prefix + id)
	if l.recalled = nil; ok {
		was := f.(finding)
		l.recalled = &was
	}
	return ok
}

// see judges an artifact, or remembers. What the registry may serve otherwise next time is not remembered.
func (l *looking) see(a registry.Artifact) finding {
	var f finding
	if l.recalled != nil {
		f = *l.recalled
	} else {
		f = l.judge(a)
		var p *registry.Problem
		if !errors.As(a.Problem, &p) {
			l.cache.judged.Add(l.prefix+a.Digest, f)
		}
	}
	l.refused += f.refused
	l.reasons = append(l.reasons, f.reasons...)
	return f
}

// problem says why what is attached does not count; "" when nothing is.
func (l *looking) problem(one, many string) string {
	var text string
	if n := l.refused; n > 0 {
		what := fmt.Sprintf("%d %s do not count", n, many)
		if n == 1 {
			what = "1 " + one + " does not count"
		}
		reasons := slices.Compact(slices.Sorted(slices.Values(l.reasons)))
		if more := len(reasons) - maxReasons; more > 0 {
			reasons = append(reasons[:maxReasons], fmt.Sprintf("and %d more", more))
		}
		text = what + ": " + strings.Join(reasons, "; ")
	}
	if !l.complete {
		text = strings.TrimPrefix(text+"; more is attached to the image than one look reads: the next goes on, up to 1000; `cosign clean` removes what nobody needs", "; ")
	}
	return text
}
