// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Artifacts are attached to an image as OCI image-spec v1.1.0 (manifest.md, "Guidelines for Artifact Usage") and
// distribution-spec v1.1.0 ("Listing Referrers") have it: a manifest with artifactType, an empty config and the image as its
// subject. Where a registry does not list referrers, go-containerregistry keeps the list under the tag sha256-<digest>, as
// the latter says under "Referrers Tag Schema".
const (
	emptyConfigType = "application/vnd.oci.empty.v1+json"
	emptyConfig     = "{}"
)

// What is read of what somebody attached: there may be anything.
const (
	// maxReferrers are looked at.
	maxReferrers = 1000
	// maxArtifactManifest and maxArtifactLayer bound one of them, in bytes; a PV's document may have 256 KiB.
	maxArtifactManifest = 64 << 10
	maxArtifactLayer    = 512 << 10
	maxArtifactLayers   = 8
)

// Artifact is something to attach to an image, or that is attached to it.
type Artifact struct {
	// Digest of its manifest; not given when it is to be attached.
	Digest string
	Type   string
	Layers []ArtifactLayer
	// Problem says why an artifact that is attached could not be read; its layers are missing then.
	Problem error
}

// ArtifactLayer is one part of an artifact.
type ArtifactLayer struct {
	MediaType   string
	Annotations map[string]string
	Data        []byte
}

// errNotListed: the registry took an artifact and does not list it; somebody else may have written the list at the same time.
var errNotListed = errors.New("the registry does not list what was attached")

// Attach attaches an artifact to an image and says what its manifest's digest is, and whether it was not attached already:
// the same artifact is the same manifest, which is looked for first. Whoever attaches to the same image at the same time may
// overwrite a list that is kept in a tag: what is not listed afterwards is an error, to be tried again.
func (c *Client) Attach(ctx context.Context, repository, digest string, a Artifact) (manifest string, added bool, err error) {
	if c.unusable != nil {
		return "", false, c.useless()
	}
	subject, err := name.NewDigest(repository + "@" + digest)
	if err != nil {
		return "", false, fmt.Errorf("image %s@%s: %w", repository, digest, err)
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	puller, pusher, err := c.pair(ctx)
	if err != nil {
		return "", false, err
	}
	about, err := puller.Head(ctx, subject)
	if err != nil {
		return "", false, explain("look up", subject, err)
	}
	m, layers, err := artifactManifest(*about, a)
	if err != nil {
		return "", false, err
	}
	hash, _, err := v1.SHA256(bytes.NewReader(m))
	if err != nil {
		return "", false, fmt.Errorf("hash manifest: %w", err)
	}
	if listed, err := c.listed(ctx, puller, subject, hash); listed || err != nil {
		return hash.String(), false, err
	}
	for _, layer := range layers {
		if err := pusher.Upload(ctx, subject.Context(), layer); err != nil {
			return "", false, explain("push what is attached to", subject, err)
		}
	}
	if err := pusher.Put(ctx, subject.Context().Digest(hash.String()), rawManifest(m)); err != nil {
		return "", false, explain("attach to", subject, err)
	}
	listed, err := c.listed(ctx, puller, subject, hash)
	if err == nil && !listed {
		err = fmt.Errorf("attach to %s: %w", subject, errNotListed)
	}
	return hash.String(), true, err
}

// pair shares one connection and one token among the calls of an operation.
func (c *Client) pair(ctx context.Context) (*remote.Puller, *remote.Pusher, error) {
	puller, err := remote.NewPuller(c.options(ctx)...)
	if err != nil {
		return nil, nil, fmt.Errorf("prepare to read: %w", err)
	}
	pusher, err := remote.NewPusher(c.options(ctx)...)
	if err != nil {
		return nil, nil, fmt.Errorf("prepare to push: %w", err)
	}
	return puller, pusher, nil
}

func (c *Client) listed(ctx context.Context, puller *remote.Puller, subject name.Digest, manifest v1.Hash) (bool, error) {
	list, err := c.referrers(ctx, puller, subject)
	return slices.ContainsFunc(list, func(d v1.Descriptor) bool { return d.Digest == manifest }), err
}

func (c *Client) referrers(ctx context.Context, puller *remote.Puller, subject name.Digest) ([]v1.Descriptor, error) {
	index, err := remote.Referrers(subject, append(c.options(ctx), remote.Reuse(puller))...)
	if err != nil {
		return nil, explain("list what is attached to", subject, err)
	}
	m, err := index.IndexManifest()
	if err != nil {
		return nil, explain("list what is attached to", subject, err)
	}
	return m.Manifests, nil
}

// artifactManifest is the manifest and everything that it names. It depends on nothing else than its arguments.
func artifactManifest(subject v1.Descriptor, a Artifact) ([]byte, []v1.Layer, error) {
	config := static.NewLayer([]byte(emptyConfig), emptyConfigType)
	m := v1.Manifest{
		SchemaVersion: 2, MediaType: types.OCIManifestSchema1, ArtifactType: a.Type,
		Subject: &v1.Descriptor{MediaType: subject.MediaType, Digest: subject.Digest, Size: subject.Size},
	}
	layers := []v1.Layer{config}
	for _, l := range a.Layers {
		layers = append(layers, static.NewLayer(l.Data, types.MediaType(l.MediaType)))
	}
	for i, layer := range layers {
		d, err := describe(layer)
		if err != nil {
			return nil, nil, err
		}
		if i == 0 {
			m.Config = d
		} else {
			d.Annotations = a.Layers[i-1].Annotations
			m.Layers = append(m.Layers, d)
		}
	}
	text, err := json.Marshal(m)
	if err != nil {
		return nil, nil, fmt.Errorf("encode manifest: %w", err)
	}
	return text, layers, nil
}

func describe(layer v1.Layer) (v1.Descriptor, error) {
	digest, err := layer.Digest()
	if err != nil {
		return v1.Descriptor{}, fmt.Errorf("hash layer: %w", err)
	}
	size, err := layer.Size()
	if err != nil {
		return v1.Descriptor{}, fmt.Errorf("measure layer: %w", err)
	}
	mediaType, err := layer.MediaType()
	if err != nil {
		return v1.Descriptor{}, fmt.Errorf("layer: %w", err)
	}
	return v1.Descriptor{MediaType: mediaType, Size: size, Digest: digest}, nil
}

// rawManifest is a manifest to be put as it is.
type rawManifest []byte

// RawManifest implements remote.Taggable.
func (m rawManifest) RawManifest() ([]byte, error) { return m, nil }

// MediaType says what it is.
func (m rawManifest) MediaType() (types.MediaType, error) { return types.OCIManifestSchema1, nil }

// Attached reads the artifacts of some types that are attached to a digest of a repository, in the order of their digests.
// complete is false when there are more than are looked at. What an artifact says of itself is checked: its type, and that
// the digest is its subject.
func (c *Client) Attached(ctx context.Context, repository, digest string, artifactTypes ...string) (found []Artifact, complete bool, err error) {
	q := Query{Repository: repository, Digest: digest, Wanted: func(t string) bool { return slices.Contains(artifactTypes, t) }}
	complete, err = c.EachAttached(ctx, q, func(a Artifact) bool {
		found = append(found, a)
		return true
	})
	return found, complete, err
}
