// SPDX-License-Identifier: Apache-2.0

// Package offline reads and writes what travels by hand to a server with no way out: a bundle, which is one Rollout with its
// images as a tar archive, and the trust of a host, which stands in for enrolment.
//
// Nothing in a bundle is believed for being there: the Rollout carries its signed authorization, which names the digest of
// every image, and each blob is checked against its digest when it is written and when it is read. It decides nothing else. It
// may import the standard library and api/v1alpha1.
package offline

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"gitlab.com/dynors/sirrat/api/v1alpha1"
)

// ErrInvalid is wrapped by errors about an archive that is not a bundle, or not an unharmed one.
var ErrInvalid = errors.New("not a usable bundle")

// Version of the format.
const Version = 1

// Members of the archive, in the order in which they are written. Blobs come last, by digest.
const (
	manifestFile = "bundle.json"
	rolloutFile  = "rollout.json"
	layoutFile   = "oci-layout"
	indexFile    = "index.json"
	blobFolder   = "blobs/sha256/"
)

// Bounds of an archive.
const (
	// maxText is the most that a member other than a blob may have.
	maxText = 8 << 20
	// maxManifest is the most that an image's manifest or index may have.
	maxManifest = 4 << 20
	// maxBlobs and maxBytes bound the blobs.
	maxBlobs = 10_000
	maxBytes = 256 << 30
)

// Manifest says what a bundle is for. It is not signed: what matters of it is checked against the Rollout.
type Manifest struct {
	// Version of the format.
	Version int `json:"version"`
	// Host that it is for.
	Host string `json:"host"`
	// Platform that the images are for. Example: linux/amd64.
	Platform string `json:"platform"`
	// KeySets are the signed statements about the keys that may sign authorizations, by serial number.
	KeySets map[int64]string `json:"keySets,omitempty"`
	// Secrets that the Rollout names, in the order of names.
	Secrets []Secret `json:"secrets,omitempty"`
}

// Secret of a Rollout.
type Secret struct {
	Name string `json:"name"`
	// Keys that it has.
	Keys []string `json:"keys"`
	// Values by key; nil in a bundle that holds no secrets.
	Values map[string]string `json:"values,omitempty"`
}

// Descriptor names a blob.
type Descriptor struct {
	MediaType   string            `json:"mediaType,omitempty"`
	Digest      string            `json:"digest"`
	Size        int64             `json:"size"`
	Platform    *Platform         `json:"platform,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

// Platform that an image is made for.
type Platform struct {
	OS           string `json:"os"`
	Architecture string `json:"architecture"`
	Variant      string `json:"variant,omitempty"`
}

// String is as in linux/amd64.
func (p Platform) String() string { return p.OS + "/" + p.Architecture }

// node is an image's manifest or index, as far as it is of concern.
type node struct {
	SchemaVersion int          `json:"schemaVersion"`
	MediaType     string       `json:"mediaType,omitempty"`
	Config        *Descriptor  `json:"config,omitempty"`
	Layers        []Descriptor `json:"layers,omitempty"`
	Manifests     []Descriptor `json:"manifests,omitempty"`
}

// Media types of indexes.
const (
	typeIndex = "application/vnd.oci.image.index.v1+json"
	typeList  = "application/vnd.docker.distribution.manifest.list.v2+json"
	typeImage = "application/vnd.oci.image.manifest.v1+json"
)

// MediaTypeOf is what a manifest or index says of itself; older ones of OCI may not.
func MediaTypeOf(text []byte) (string, error) {
	n, err := parseNode(text)
	if err != nil {
		return "", err
	}
	return n.MediaType, nil
}

func parseNode(text []byte) (node, error) {
	var n node
	if err := json.Unmarshal(text, &n); err != nil {
		return n, fmt.Errorf("%w: a manifest is not JSON", ErrInvalid)
	}
	if n.SchemaVersion != 2 || (n.Config == nil) == (len(n.Manifests) == 0) {
		return n, fmt.Errorf("%w: neither the manifest of an image nor an index", ErrInvalid)
	}
	if n.MediaType == "" {
		n.MediaType = typeImage
		if n.Config == nil {
			n.MediaType = typeIndex
		}
	}
	return n, nil
}

// Chosen are the manifests of an index for a platform, and nothing that describes others (attestations).
func (n node) chosen(platform string) []Descriptor {
	var list []Descriptor
	for _, d := range n.Manifests {
		if d.Platform != nil && d.Platform.String() == platform && d.MediaType != typeIndex && d.MediaType != typeList {
			list = append(list, d)
		}
	}
	return list
}

// digestPrefix of every digest here.
const digestPrefix = "sha256:"

// CheckDigest says whether text is "sha256:" and 64 hexadecimal digits.
func CheckDigest(text string) error {
	digits, found := strings.CutPrefix(text, digestPrefix)
	if raw, err := hex.DecodeString(digits); !found || err != nil || len(raw) != 32 || digits != strings.ToLower(digits) {
		return fmt.Errorf("%w: %q is not a digest", ErrInvalid, text)
	}
	return nil
}

// DigestOf is the digest of an image that is pinned: repository@sha256:….
func DigestOf(pinned string) (string, error) {
	_, digest, found := strings.Cut(pinned, "@")
	if !found {
		return "", fmt.Errorf("%w: image %q has no digest", ErrInvalid, pinned)
	}
	return digest, CheckDigest(digest)
}

// decode reads one JSON value and nothing behind it, and no member that is not known.
func decode(text []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows the value")
	}
	return nil
}

// images are the pinned images of a Rollout by digest, in the order of services; each digest once.
func images(rollout *v1alpha1.Rollout) (list []Descriptor, err error) {
	seen := map[string]bool{}
	for _, image := range rollout.Spec.Images {
		digest, err := DigestOf(image.Image)
		if err != nil {
			return nil, err
		}
		if !seen[digest] {
			seen[digest] = true
			list = append(list, Descriptor{Digest: digest, Annotations: map[string]string{"org.opencontainers.image.ref.name": image.Image}})
		}
	}
	return list, nil
}
