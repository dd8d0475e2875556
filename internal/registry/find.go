// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/opencontainers/go-digest"
)

// maxPages of a list of referrers are followed.
const maxPages = 20

// Bounds of what lies under a tag of cosign's: it adds a layer for each signature, and gives up at 1000 itself (cosign 2.6.5,
// pkg/oci/remote). The manifest holds the certificates of all of them, of which 2 MiB are some 400.
const (
	maxTaggedManifest = 2 << 20
	maxTaggedLayers   = 1000
)

// Query is what is looked for at an image.
type Query struct {
	Repository, Digest string
	// Wanted says which types of artifacts are read.
	Wanted func(artifactType string) bool
	// Known, if not nil, names artifacts by the digests of their manifests that need not be read again: of these the digest is
	// told and nothing else. What a digest names never changes.
	Known func(manifest string) bool
	// Most artifacts that are read, those that are known not counted; 0 is 1000, which is also how many are listed.
	Most int
	// MaxLayer is the largest layer, in bytes; 0 is 512 KiB. MaxLayers are the most of one artifact; 0 is 8.
	MaxLayer  int64
	MaxLayers int
}

// EachAttached reads artifacts that are attached to a digest of a repository, one after the other in the order of their
// digests, until visit returns false. complete is false when there are more than are looked at. What an artifact says of
// itself is checked: its type, and that the digest is its subject.
func (c *Client) EachAttached(ctx context.Context, q Query, visit func(Artifact) bool) (complete bool, err error) {
	subject, err := name.NewDigest(q.Repository + "@" + q.Digest)
	if err != nil {
		return false, fmt.Errorf("image %s@%s: %w", q.Repository, q.Digest, err)
	}
	list, complete, err := c.list(ctx, subject)
	if err != nil {
		return false, err
	}
	read := 0
	for _, d := range ordered(list) {
		// A registry's list need not tell the type: some give that of the config in its place.
		if told := d.ArtifactType != "" && d.ArtifactType != emptyConfigType; told && !q.Wanted(d.ArtifactType) {
			continue
		}
		if q.Known != nil && q.Known(d.Digest.String()) {
			if !visit(Artifact{Digest: d.Digest.String(), Type: d.ArtifactType}) {
				return complete, nil
			}
			continue
		}
		if read++; read > cmp.Or(q.Most, maxReferrers) {
			return false, nil
		}
		a, err := c.attached(ctx, subject, d, q)
		if err := trouble(ctx, err); err != nil {
			return false, err
		}
		if err != nil {
			a = &Artifact{Digest: d.Digest.String(), Problem: err}
		}
		if a != nil && !visit(*a) {
			return complete, nil
		}
	}
	return complete, nil
}

// ordered is a list in the order of the digests, each once.
func ordered(list []v1.Descriptor) []v1.Descriptor {
	slices.SortFunc(list, func(a, b v1.Descriptor) int { return strings.Compare(a.Digest.String(), b.Digest.String()) })
	return slices.CompactFunc(list, func(a, b v1.Descriptor) bool { return a.Digest == b.Digest })
}

// TagQuery is what is looked for under a tag of cosign's, where each layer is something of its own.
type TagQuery struct {
	Repository, Tag string
	// Wanted says which layers are read; nil: all.
	Wanted func(mediaType string, annotations map[string]string) bool
	// Known, if not nil, names layers by their IDs that need not be read again, and manifests that could not be read.
	Known func(id string) bool
	// Most layers that are read, those that are known not counted.
	Most int
	// MaxLayer is the largest layer, in bytes; 0 is 512 KiB.
	MaxLayer int64
}

// TaggedLayer is one layer under a tag.
type TaggedLayer struct {
	// ID is of the layer and its annotations: what it names never changes. Of a manifest that cannot be read it is its digest.
	ID string
	// Manifest is the digest that the tag names.
	Manifest string
	// Layer is empty of what is known, or could not be read; Problem says why.
	Layer   ArtifactLayer
	Problem error
}

// EachTagged reads the layers under a tag of a repository, one after the other, the last first, until visit returns false: who
// adds one puts it at the end. Nothing there is no error. complete is false when there are more than are looked at. The subject
// that a manifest names, if it does, is not looked at.
func (c *Client) EachTagged(ctx context.Context, q TagQuery, visit func(TaggedLayer) bool) (complete bool, err error) {
	ref, err := name.NewTag(q.Repository + ":" + q.Tag)
	if err != nil {
		return false, fmt.Errorf("image %s:%s: %w", q.Repository, q.Tag, err)
	}
	repo := ref.Context()
	found, err := c.digestOf(ctx, repo, false, "look up "+ref.String(), q.Tag)
	switch {
	case errors.Is(err, ErrNotFound):
		return true, nil
	case err != nil:
		return false, err
	case q.Known != nil && q.Known(found):
		visit(TaggedLayer{ID: found, Manifest: found})
		return true, nil
	}
	list, err := c.taggedLayers(ctx, repo, found)
	if trouble(ctx, err) != nil {
		return false, trouble(ctx, err)
	}
	if err != nil {
		visit(TaggedLayer{ID: found, Manifest: found, Problem: err})
		return true, nil
	}
	complete = len(list) <= maxTaggedLayers
	list = list[max(0, len(list)-maxTaggedLayers):]
	read := 0
	var last v1.Descriptor // signatures of one key often have the same text, and differ in their annotations
	var data []byte
	for _, d := range slices.Backward(list) {
		if q.Wanted != nil && !q.Wanted(string(d.MediaType), d.Annotations) {
			continue
		}
		l := TaggedLayer{ID: layerID(d), Manifest: found}
		if q.Known != nil && q.Known(l.ID) {
			if !visit(l) {
				return complete, nil
			}
			continue
		}
		if read++; read > q.Most {
			return false, nil
		}
		if last.Digest != d.Digest || last.Size != d.Size {
			data, l.Problem = c.layer(ctx, repo, d, cmp.Or(q.MaxLayer, maxArtifactLayer))
			if err := trouble(ctx, l.Problem); err != nil {
				return false, err
			}
		}
		if last = d; l.Problem != nil {
			last = v1.Descriptor{}
		} else {
			l.Layer = ArtifactLayer{MediaType: string(d.MediaType), Annotations: d.Annotations, Data: data}
		}
		if !visit(l) {
			return complete, nil
		}
	}
	return complete, nil
}

// taggedLayers are the layers of a manifest that a tag names.
func (c *Client) taggedLayers(ctx context.Context, repo name.Repository, manifest string) ([]v1.Descriptor, error) {
	m, err := c.manifest(ctx, repo, false, manifest)
	switch {
	case errors.Is(err, errTooLarge) || err == nil && len(m.content) > maxTaggedManifest:
		return nil, fmt.Errorf("the manifest under its tag is larger than %d bytes: `cosign clean` removes what nobody needs", maxTaggedManifest)
	case err != nil:
		return nil, err
	}
	var parsed v1.Manifest
	if err := json.Unmarshal(m.content, &parsed); err != nil {
		return nil, fmt.Errorf("its manifest cannot be read: %w", err)
	}
	return parsed.Layers, nil
}

// layerID is a hash over a layer with its annotations, in the order of their keys.
func layerID(d v1.Descriptor) string {
	return digest.FromString(fmt.Sprintf("%s %d %q %q", d.Digest, d.Size, d.MediaType, d.Annotations)).String()
}

// trouble is an error that is not about one artifact: the registry answers nothing more, or nobody waits for it.
func trouble(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var p *Problem
	if errors.As(err, &p) && p.Kind != KindNotFound && p.Kind != KindMismatch && p.Kind != KindUnfit {
		return err
	}
	return nil
}

// list is everything that a registry says is attached to a digest; complete is false when that is more than is looked at.
func (c *Client) list(ctx context.Context, subject name.Digest) (list []v1.Descriptor, complete bool, err error) {
	doing := "list what is attached to " + subject.String()
	next := "referrers/" + subject.DigestStr()
	for page := 0; next != ""; page++ {
		if page == maxPages || len(list) > maxReferrers {
			return list[:min(len(list), maxReferrers)], false, nil
		}
		answer, err := c.do(ctx, request{
			repo: subject.Context(), doing: doing, method: http.MethodGet, path: next, header: acceptIndex, refused: withoutReferrers,
		})
		index := strings.HasPrefix(answer.header.Get("Content-Type"), string(types.OCIImageIndex))
		if page == 0 && (errors.Is(err, ErrNotFound) || err == nil && !index) {
			return c.listInTag(ctx, subject, doing)
		}
		if err != nil {
			return nil, false, err
		}
		found, err := descriptors(answer.body, doing)
		if err != nil {
			return nil, false, err
		}
		list, next = append(list, found...), nextPage(answer.header, subject)
	}
	return list[:min(len(list), maxReferrers)], len(list) <= maxReferrers, nil
}

// Suffixes of cosign's tags: signatures, attestations (cosign 2), and SBOMs without a signature (`cosign attach sbom`).
const (
	SignatureTag   = ".sig"
	AttestationTag = ".att"
	SBOMTag        = ".sbom"
)

// CosignTag is the tag under which cosign keeps something about a digest.
func CosignTag(digest, suffix string) string { return listTag(digest) + suffix }

// listTag is the tag that stands for a digest: it has the list of what is attached, and with a suffix cosign's own.
func listTag(digest string) string { return strings.Replace(digest, ":", "-", 1) }

// listInTag reads the list where a registry keeps none (OCI distribution 1.1.0, "Referrers Tag Schema").
func (c *Client) listInTag(ctx context.Context, subject name.Digest, doing string) ([]v1.Descriptor, bool, error) {
	answer, err := c.do(ctx, request{
		repo: subject.Context(), doing: doing, method: http.MethodGet, header: acceptIndex,
		path: "manifests/" + listTag(subject.DigestStr()),
	})
	if errors.Is(err, ErrNotFound) {
		return nil, true, nil
	}
	if err != nil {
		return nil, false, err
	}
	list, err := descriptors(answer.body, doing)
	return list[:min(len(list), maxReferrers)], len(list) <= maxReferrers, err
}

var acceptIndex = map[string]string{"Accept": string(types.OCIImageIndex)}

// withoutReferrers makes a list that is not there of the answers of registries that know no referrers.
func withoutReferrers(_ string, status int) *Problem {
	switch status {
	case http.StatusBadRequest, http.StatusMethodNotAllowed, http.StatusNotAcceptable:
		return &Problem{Kind: KindNotFound, Text: ErrNotFound.Error(), cause: ErrNotFound}
	}
	return nil
}

func descriptors(text []byte, doing string) ([]v1.Descriptor, error) {
	var index v1.IndexManifest
	if err := json.Unmarshal(text, &index); err != nil {
		return nil, &Problem{Kind: KindMismatch, Doing: doing, Text: "the registry's list cannot be read"}
	}
	return index.Manifests, nil
}

// nextPage is the path of the next page of the same list; "" for none (OCI distribution 1.1.0, "Listing Referrers"; RFC 8288).
func nextPage(h http.Header, subject name.Digest) string {
	target, relation, ok := strings.Cut(h.Get("Link"), ">")
	if !ok || !strings.Contains(relation, `rel="next"`) && !strings.Contains(relation, "rel=next") {
		return ""
	}
	u, err := url.Parse(strings.TrimPrefix(strings.TrimSpace(target), "<"))
	if err != nil || u.RawQuery == "" {
		return ""
	}
	return "referrers/" + subject.DigestStr() + "?" + u.Query().Encode() // of another list it would say nothing
}

// attached reads one artifact; nil when it is of another type.
func (c *Client) attached(ctx context.Context, subject name.Digest, d v1.Descriptor, q Query) (*Artifact, error) {
	if d.Size > maxArtifactManifest {
		return nil, fmt.Errorf("its manifest is larger than %d bytes", maxArtifactManifest)
	}
	repo := subject.Context()
	got, err := c.manifest(ctx, repo, false, d.Digest.String())
	if err != nil {
		return nil, err
	}
	if len(got.content) > maxArtifactManifest {
		return nil, fmt.Errorf("its manifest is larger than %d bytes", maxArtifactManifest)
	}
	var m v1.Manifest
	if err := json.Unmarshal(got.content, &m); err != nil {
		return nil, fmt.Errorf("its manifest cannot be read: %w", err)
	}
	// One without a type is of its config's (OCI image 1.1.0, "Guidelines for Artifact Usage").
	typ := cmp.Or(m.ArtifactType, string(m.Config.MediaType))
	if !q.Wanted(typ) {
		return nil, nil
	}
	if m.Subject == nil || m.Subject.Digest.String() != subject.DigestStr() {
		return nil, errors.New("its manifest names another image")
	}
	layers, err := c.layers(ctx, repo, m.Layers, cmp.Or(q.MaxLayers, maxArtifactLayers), cmp.Or(q.MaxLayer, maxArtifactLayer))
	if err != nil {
		return nil, err
	}
	return &Artifact{Digest: d.Digest.String(), Type: typ, Layers: layers}, nil
}

// layers reads layers, each of which has the digest by which it is asked for, or is an error.
func (c *Client) layers(ctx context.Context, repo name.Repository, list []v1.Descriptor, most int, size int64) ([]ArtifactLayer, error) {
	if len(list) > most {
		return nil, fmt.Errorf("it has more than %d layers", most)
	}
	var out []ArtifactLayer
	for _, l := range list {
		data, err := c.layer(ctx, repo, l, size)
		if err != nil {
			return nil, err
		}
		out = append(out, ArtifactLayer{MediaType: string(l.MediaType), Annotations: l.Annotations, Data: data})
	}
	return out, nil
}

func (c *Client) layer(ctx context.Context, repo name.Repository, d v1.Descriptor, most int64) ([]byte, error) {
	if d.Size > most {
		return nil, fmt.Errorf("a layer is larger than %d bytes", most)
	}
	want, err := digest.Parse(d.Digest.String())
	if err != nil {
		return nil, fmt.Errorf("a layer's digest: %w", err)
	}
	doing := "read " + repo.Digest(want.String()).String()
	answer, err := c.do(ctx, request{repo: repo, doing: doing, method: http.MethodGet, path: "blobs/" + want.String(), most: most})
	if errors.Is(err, errTooLarge) {
		return nil, fmt.Errorf("a layer is larger than %d bytes", most)
	}
	if err != nil {
		return nil, err
	}
	if want.Algorithm().FromBytes(answer.body) != want {
		return nil, &Problem{Kind: KindMismatch, Doing: doing, Text: "the registry serves other bytes than this digest names"}
	}
	if int64(len(answer.body)) != d.Size {
		return nil, fmt.Errorf("layer %s has another size than %d bytes", want, d.Size)
	}
	return answer.body, nil
}
