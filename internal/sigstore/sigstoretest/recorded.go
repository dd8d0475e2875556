// SPDX-License-Identifier: Apache-2.0

package sigstoretest

import (
	_ "embed" // the recording
	"encoding/json"
	"slices"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

//go:embed recorded/tools.json
var tools []byte

// Provenance is a bundle of sigstore's public instance, and TrustedRoot that instance's; OwnRoot is one that cosign made for other
// servers.
var (
	//go:embed recorded/own_root.json
	OwnRoot []byte
	//go:embed recorded/provenance.json
	Provenance []byte
	//go:embed recorded/trusted_root.json
	TrustedRoot []byte
)

// Recorded is what cosign and oras themselves pushed; recorded/README.md says which versions, and by which commands.
type Recorded struct {
	// Index of two platforms, Platform one of them, and Other an image beside it: the same digests in every repository.
	Index, Platform, Other string
	// CI, Stranger and Late are the public keys (PEM) of who signed.
	CI, Stranger, Late string
	// Kinds are public keys (PEM) of other kinds by name; what they signed lies in the repositories v2/<name> and v3/<name>.
	Kinds        map[string]string
	Repositories map[string]struct {
		Tags      map[string]string
		Manifests []string
	}
	// Manifests and Blobs by digest.
	Manifests, Blobs map[string]string
}

// Record reads the recording.
func Record(t testing.TB) Recorded {
	t.Helper()
	var r Recorded
	if err := json.Unmarshal(tools, &r); err != nil {
		t.Fatal(err)
	}
	return r
}

// Policy trusts the key called ci, and others by their names.
func (r Recorded) Policy(others ...v1alpha1.SignatureKey) v1alpha1.SignaturePolicy {
	return v1alpha1.SignaturePolicy{Keys: append([]v1alpha1.SignatureKey{{Name: "ci", PublicKey: r.CI}}, others...)}
}

// Layers are the layers of all manifests of a repository, of a media type.
func (r Recorded) Layers(t testing.TB, from, mediaType string) []Layer {
	t.Helper()
	var out []Layer
	for _, digest := range r.Repositories[from].Manifests {
		for _, l := range r.manifest(t, digest).Layers {
			if string(l.MediaType) == mediaType {
				out = append(out, Layer{[]byte(r.Blobs[l.Digest.String()]), l.Annotations})
			}
		}
	}
	if len(out) == 0 {
		t.Fatalf("nothing of the type %s was recorded in %s", mediaType, from)
	}
	return out
}

func (r Recorded) manifest(t testing.TB, digest string) v1.Manifest {
	t.Helper()
	var m v1.Manifest
	if err := json.Unmarshal([]byte(r.Manifests[digest]), &m); err != nil {
		t.Fatal(err)
	}
	return m
}

// Push pushes a recorded repository as it was into a repository of a registry.
func (r Recorded) Push(t testing.TB, from, repository string) {
	t.Helper()
	repo, err := name.NewRepository(repository)
	if err != nil {
		t.Fatal(err)
	}
	for _, digest := range r.Repositories[from].Manifests {
		m := r.manifest(t, digest)
		for _, d := range append(slices.Clone(m.Layers), m.Config) {
			if content, ok := r.Blobs[d.Digest.String()]; ok {
				if err := remote.WriteLayer(repo, static.NewLayer([]byte(content), d.MediaType)); err != nil {
					t.Fatal(err)
				}
			}
		}
		r.put(t, repo.Digest(digest), digest)
	}
	for tag, digest := range r.Repositories[from].Tags {
		r.put(t, repo.Tag(tag), digest)
	}
}

func (r Recorded) put(t testing.TB, at name.Reference, digest string) {
	t.Helper()
	if err := remote.Put(at, recordedManifest(r.Manifests[digest])); err != nil {
		t.Fatal(err)
	}
}

// recordedManifest is put as it is.
type recordedManifest string

// RawManifest implements remote.Taggable.
func (m recordedManifest) RawManifest() ([]byte, error) { return []byte(m), nil }

// MediaType implements remote.Taggable.
func (m recordedManifest) MediaType() (types.MediaType, error) {
	var of struct {
		MediaType types.MediaType `json:"mediaType"`
	}
	err := json.Unmarshal([]byte(m), &of)
	return of.MediaType, err
}
