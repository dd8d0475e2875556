// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Bounds of what is copied of what is attached to one image, in one call: whoever pushed it may have attached anything.
const (
	// maxSubjects are looked at: the image, and what its index names.
	maxSubjects = 16
	// maxCopied artifacts are copied, of maxCopiedBytes altogether.
	maxCopied, maxCopiedBytes = 256, 64 << 20
	// maxListedAnnotations is the largest manifest whose annotations are told in a list, in bytes.
	maxListedAnnotations = 8 << 10
	// maxReasons are told why something was left.
	maxReasons = 3
)

// cosignTags are the suffixes under which cosign keeps signatures, attestations and SBOMs where nobody lists referrers.
var cosignTags = []string{SignatureTag, AttestationTag, SBOMTag}

// Attachments is what became of what is attached to images.
type Attachments struct {
	// There is how many artifacts the destination has, and Copied how many of them it received now.
	There, Copied int
	// Left is how many were not copied, and Reasons why, the first few.
	Left    int
	Reasons []string
}

// CopyAttached has what is attached to images in the repositories to which Copy copied them: signatures, attestations and
// SBOMs, those that are listed as referrers and those under cosign's tags. What is there already is not moved, and stays:
// lists are added to, and a tag is taken over only when nothing of what it named is lost. What one artifact is refused for does
// not keep the others.
func CopyAttached(ctx context.Context, from, to *Client, images []Copying) (Attachments, error) {
	a := &attacher{copier: copier{from: from, to: to, refused: refusedArtifact}}
	for _, i := range images {
		if err := a.image(ctx, i); err != nil {
			return a.found, err
		}
	}
	return a.found, nil
}

// attacher is one copy of what is attached.
type attacher struct {
	copier
	found Attachments
	// count and bytes are what may be copied yet of the image.
	count int
	bytes int64
}

// refusedArtifact tells apart what a registry has against one artifact from trouble that keeps all.
func refusedArtifact(repo name.Repository, doing string) func(said string, status int) *Problem {
	otherwise := refusedWrite(repo, doing)
	return func(said string, status int) *Problem {
		switch status {
		case http.StatusBadRequest, http.StatusMethodNotAllowed, http.StatusNotAcceptable, http.StatusConflict, http.StatusPreconditionFailed,
			http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType, http.StatusUnprocessableEntity:
			return &Problem{Kind: KindMismatch, Doing: doing, Text: fmt.Sprintf("the registry does not take it (%d%s)", status, said)}
		}
		return otherwise(said, status)
	}
}

func (a *attacher) image(ctx context.Context, i Copying) error {
	p, err := i.parcel()
	if err != nil {
		return err
	}
	root, err := a.from.manifest(ctx, p.source, false, i.Digest)
	if err != nil {
		return err
	}
	var index v1.IndexManifest
	if err := json.Unmarshal(root.content, &index); err != nil {
		return unfit(i.Digest, "%v", err)
	}
	subjects := []string{i.Digest}
	for _, child := range index.Manifests[:min(len(index.Manifests), maxSubjects-1)] {
		subjects = append(subjects, child.Digest.String())
	}
	a.count, a.bytes = maxCopied, maxCopiedBytes
	for _, subject := range subjects {
		if err := a.referrers(ctx, p, subject); err != nil {
			return err
		}
		for _, suffix := range cosignTags {
			if err := a.leave(ctx, a.tagged(ctx, p, listTag(subject)+suffix)); err != nil {
				return err
			}
		}
	}
	return nil
}

// referrers copies what lists of one subject name.
func (a *attacher) referrers(ctx context.Context, p *parcel, subject string) error {
	list, complete, err := a.from.list(ctx, p.source.Digest(subject))
	if err != nil || len(list) == 0 {
		return err
	}
	there, _, err := a.to.list(ctx, p.destination.Digest(subject))
	if err != nil {
		return err
	}
	var added []v1.Descriptor
	for _, d := range ordered(list) {
		if lists(there, d) {
			a.found.There++
			continue
		}
		m, err := a.artifact(ctx, p, subject, d.Digest.String())
		if err := a.leave(ctx, err); err != nil {
			return err
		}
		if err == nil {
			added = append(added, m)
		}
	}
	if !complete {
		a.left(fmt.Errorf("more than %d are attached to %s", maxReferrers, p.source.Digest(subject)))
	}
	if err := a.to.enlist(ctx, p.destination.Digest(subject), added); err != nil {
		return err
	}
	a.found.There, a.found.Copied = a.found.There+len(added), a.found.Copied+len(added)
	return nil
}

func lists(list []v1.Descriptor, d v1.Descriptor) bool {
	return slices.ContainsFunc(list, func(o v1.Descriptor) bool { return o.Digest == d.Digest })
}

// leave notes an artifact that is not copied, and why. Its error is one that keeps the rest as well.
func (a *attacher) leave(ctx context.Context, err error) error {
	if grave := trouble(ctx, err); err == nil || grave != nil {
		return grave
	}
	a.left(err)
	return nil
}

func (a *attacher) left(why error) {
	a.found.Left++
	if text := why.Error(); len(a.found.Reasons) < maxReasons && !slices.Contains(a.found.Reasons, text) {
		a.found.Reasons = append(a.found.Reasons, text)
	}
}

// artifact copies one manifest with its layers and describes it. subject is what it has to be attached to; "" is not looked at.
func (a *attacher) artifact(ctx context.Context, p *parcel, subject, digest string) (v1.Descriptor, error) {
	if a.count--; a.count < 0 {
		return v1.Descriptor{}, fmt.Errorf("more than %d are attached to %s: the rest follows with the next look", maxCopied, p.source.Digest(p.digest))
	}
	m, parsed, err := a.read(ctx, a.from, p.source, digest)
	if err != nil {
		return v1.Descriptor{}, err
	}
	if subject != "" && (parsed.Subject == nil || parsed.Subject.Digest.String() != subject) {
		return v1.Descriptor{}, fmt.Errorf("manifest %s names another image", digest)
	}
	size := int64(0)
	for _, layer := range append(parsed.Layers, parsed.Config) {
		size += min(max(layer.Size, 0), maxCopiedBytes+1) // what is below nothing is refused with the manifest
	}
	if a.bytes < size {
		return v1.Descriptor{}, fmt.Errorf("what is attached to %s is larger than %d MiB", p.source.Digest(p.digest), maxCopiedBytes>>20)
	}
	a.bytes -= size
	hash, err := v1.NewHash(digest)
	if err != nil {
		return v1.Descriptor{}, fmt.Errorf("manifest %s: %w", digest, err)
	}
	d := v1.Descriptor{MediaType: types.MediaType(m.mediaType), Digest: hash, Size: int64(len(m.content)), ArtifactType: parsed.ArtifactType}
	if d.ArtifactType == "" {
		d.ArtifactType = string(parsed.Config.MediaType)
	}
	if len(m.content) <= maxListedAnnotations {
		d.Annotations = parsed.Annotations
	}
	return d, a.run(ctx, []Copying{{Source: p.source.Name(), Destination: p.destination.Name(), Digest: digest}})
}

// read reads the manifest of an artifact that is small enough to be one.
func (a *attacher) read(ctx context.Context, c *Client, repo name.Repository, digest string) (manifest, v1.Manifest, error) {
	m, err := c.manifest(ctx, repo, c == a.to, digest)
	if err != nil {
		return m, v1.Manifest{}, err
	}
	var parsed struct {
		v1.Manifest
		Manifests []json.RawMessage `json:"manifests"`
	}
	switch err := json.Unmarshal(m.content, &parsed); {
	case len(m.content) > maxTaggedManifest:
		return m, v1.Manifest{}, fmt.Errorf("manifest %s is larger than %d bytes", digest, maxTaggedManifest)
	case err != nil:
		return m, v1.Manifest{}, fmt.Errorf("manifest %s: %w", digest, err)
	case len(parsed.Manifests) > 0:
		return m, v1.Manifest{}, fmt.Errorf("manifest %s is an index: it is not copied", digest)
	case len(parsed.Layers) > maxTaggedLayers:
		return m, v1.Manifest{}, fmt.Errorf("manifest %s has more than %d layers", digest, maxTaggedLayers)
	}
	return m, parsed.Manifest, nil
}

// enlist sees to it that a repository lists artifacts that were put there: a registry that does not do so by itself is given
// the list in a tag (OCI distribution 1.1.0, "Referrers Tag Schema"), with all that it names already.
func (c *Client) enlist(ctx context.Context, subject name.Digest, added []v1.Descriptor) error {
	if len(added) == 0 {
		return nil
	}
	list, complete, err := c.list(ctx, subject)
	if err != nil {
		return err
	}
	unlisted := func(d v1.Descriptor) bool { return !lists(list, d) }
	if !slices.ContainsFunc(added, unlisted) {
		return nil
	}
	if !complete {
		return fmt.Errorf("list what is attached to %s: more than %d are: delete what nobody needs", subject, maxReferrers)
	}
	index := v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: list}
	for _, d := range added {
		if unlisted(d) {
			index.Manifests = append(index.Manifests, d)
		}
	}
	text, err := json.Marshal(index)
	if err != nil {
		return fmt.Errorf("encode list: %w", err)
	}
	hash, _, err := v1.SHA256(bytes.NewReader(text))
	if err != nil {
		return fmt.Errorf("hash list: %w", err)
	}
	m := pinnedManifest{hash.String(), manifest{string(types.OCIImageIndex), text}}
	if err := c.putManifest(ctx, subject.Context(), listTag(subject.DigestStr()), m, refusedArtifact); err != nil {
		return err
	}
	if list, _, err = c.list(ctx, subject); err == nil && slices.ContainsFunc(added, unlisted) {
		err = fmt.Errorf("%s: %w", subject, errNotListed)
	}
	return err
}

// tagged copies what lies under one of cosign's tags.
func (a *attacher) tagged(ctx context.Context, p *parcel, tag string) error {
	doing := "look up " + p.source.Tag(tag).String()
	ours, err := a.from.digestOf(ctx, p.source, false, doing, tag)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	theirs, err := a.to.digestOf(ctx, p.destination, true, doing, tag)
	if unlessMissing(err) != nil {
		return err
	}
	if theirs == ours {
		a.found.There++
		return nil
	}
	if _, err := a.artifact(ctx, p, "", ours); err != nil {
		return err
	}
	m, parsed, err := a.read(ctx, a.from, p.source, ours)
	if err != nil {
		return err
	}
	if theirs != "" {
		_, has, err := a.read(ctx, a.to, p.destination, theirs)
		if err != nil {
			return err
		}
		lost := func(d v1.Descriptor) bool { return !lists(parsed.Layers, d) }
		if slices.ContainsFunc(has.Layers, lost) {
			return fmt.Errorf("%s has others than ours: it is left as it is", p.destination.Tag(tag))
		}
	}
	if err := a.to.putManifest(ctx, p.destination, tag, pinnedManifest{ours, m}, refusedArtifact); err != nil {
		return err
	}
	a.found.There, a.found.Copied = a.found.There+1, a.found.Copied+1
	return nil
}
